"""Reductions, and the softmax family, which is built on them.

``axis`` is None (all axes), an integer or a tuple; ``keepdims`` keeps reduced axes as 1.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..recording import computed, made, repeatable, reshaped

Axis = int | tuple[int, ...] | None


def _kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """``shape`` reduced over ``axis`` with keepdims."""
    if axis is None:
        return (1,) * len(shape)
    axes = {a % (len(shape) or 1) for a in (axis if isinstance(axis, tuple) else (axis,))}
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _count(op: str, shape: tuple[int, ...], kept: tuple[int, ...]) -> int:
    """How many entries go into one entry of a reduction from ``shape`` to ``kept``.

    Raises ShapeError for none, of which there is no mean.
    """
    count = math.prod(n for n, k in zip(shape, kept) if n != k)
    if count == 0:
        raise ShapeError(f"{op}: there are no entries to take the {op} of, x is {shape}")
    return count


@repeatable
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over ``axis``.  x: (...).

    >>> import minigrad as mg
    >>> t = mg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> mg.sum(t, axis=0)
    tensor([4., 7.])
    """
    shape = x.shape
    y = made(functools.partial(np.sum, axis=axis, keepdims=keepdims), x)
    return y, lambda g: np.broadcast_to(reshaped(g, _kept(shape, axis)), shape)


@repeatable
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean over ``axis``.  x: (...).

    >>> import minigrad as mg
    >>> t = mg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> mg.mean(t, axis=1, keepdims=True)
    tensor([[1.5],
            [4. ]])
    """
    shape = x.shape
    kept = _kept(shape, axis)
    count = _count("mean", shape, kept)
    y = made(functools.partial(np.mean, axis=axis, keepdims=keepdims), x)

    def dx(g: Any) -> Any:
        return np.broadcast_to(reshaped(computed(np.true_divide, g, count), kept), shape)

    return y, dx


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Any:
    """Variance over ``axis``, divided by count - ddof (NumPy's 0; PyTorch uses 1).

    >>> import minigrad as mg
    >>> t = mg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> mg.var(t, axis=0)
    tensor([1.  , 2.25])
    """
    kept = _kept(x.shape, axis)
    count = _count("var", x.shape, kept) - ddof
    centred = x - np.mean(x, axis=axis, keepdims=True)
    y = np.sum(centred * centred, axis=axis, keepdims=keepdims) / count
    return y, lambda g: np.reshape(g, kept) * centred * 2.0 / count


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest value over ``axis``; equal largest values share the gradient evenly.

    >>> import minigrad as mg
    >>> t = mg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> mg.max(t)
    tensor(5.)
    """
    return _extreme(x, np.max, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest value over ``axis``; equal smallest values share the gradient evenly.

    >>> import minigrad as mg
    >>> t = mg.tensor([[1.0, 2.0], [3.0, 5.0]])
    >>> mg.min(t, axis=1)
    tensor([1., 3.])
    """
    return _extreme(x, np.min, axis, keepdims)


def _extreme(x: Any, function: Any, axis: Axis, keepdims: bool) -> Any:
    kept = _kept(x.shape, axis)
    y = function(x, axis=axis, keepdims=keepdims)

    def dx(g: Any) -> Any:
        hit = x == np.reshape(y, kept)
        count = np.sum(hit, axis=axis, keepdims=True)
        return np.where(hit, np.reshape(g, kept), 0.0) / count.astype(x.dtype)

    return y, dx


def logsumexp(x: Any, axis: Axis = -1, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over ``axis``, without overflow.  x: (...).

    >>> import minigrad as mg
    >>> round(mg.logsumexp(mg.zeros(2)).item(), 3)
    0.693
    """
    kept = _kept(x.shape, axis)
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)  # inf - inf would be nan
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top

    def dx(g: Any) -> Any:
        return np.reshape(g, kept) * np.exp(x - y)

    return (y if keepdims else np.squeeze(y, axis=axis)), dx


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along ``axis``.  x: (...).

    >>> import minigrad as mg
    >>> mg.softmax(mg.tensor([[0.0, 0.0], [0.0, 200.0]]))
    tensor([[0.5, 0.5],
            [0. , 1. ]])
    """
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    y = e / np.sum(e, axis=axis, keepdims=True)
    return y, lambda g: y * (g - np.sum(g * y, axis=axis, keepdims=True))


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - logsumexp(x) along ``axis``: the stable form of log(softmax(x)).  x: (...).

    >>> import minigrad as mg
    >>> mg.log_softmax(mg.zeros(2)).numpy().round(3)
    array([-0.693, -0.693], dtype=float32)
    """
    shifted = x - np.max(x, axis=axis, keepdims=True)
    y = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return y, lambda g: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True)
