"""Functions on tensors: every op under its public name, and NumPy's names for them.

Arguments may be tensors, arrays or numbers.  Shapes, errors and gradients are described
with the ops themselves, in :mod:`minigrad.ops`; the docstrings here are theirs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import ops
from .errors import ShapeError
from .tensor import _ALIASES, Tensor, apply


def _lift(op: Callable[..., Any]) -> Callable[..., Any]:
    """An op as a function on tensors; ``dim`` and ``keepdim`` mean axis and keepdims."""

    @functools.wraps(op)
    def function(*args: Any, **params: Any) -> Any:
        if params:
            params = {_ALIASES.get(name, name): value for name, value in params.items()}
        return apply(op, *args, **params)

    function.__signature__ = inspect.signature(op)  # type: ignore[attr-defined]
    return function


add, subtract, multiply, divide = map(_lift, (ops.add, ops.subtract, ops.multiply, ops.divide))
power, negative, absolute = map(_lift, (ops.power, ops.negative, ops.absolute))
square, sqrt, exp, expm1 = map(_lift, (ops.square, ops.sqrt, ops.exp, ops.expm1))
log, log1p, sin, cos = map(_lift, (ops.log, ops.log1p, ops.sin, ops.cos))
tanh, sigmoid, relu = map(_lift, (ops.tanh, ops.sigmoid, ops.relu))
maximum, minimum, clip = map(_lift, (ops.maximum, ops.minimum, ops.clip))
where = _lift(ops.where)
sum, mean, var, max, min = map(_lift, (ops.sum, ops.mean, ops.var, ops.max, ops.min))
softmax, log_softmax, logsumexp = map(_lift, (ops.softmax, ops.log_softmax, ops.logsumexp))
reshape, broadcast_to, flip = map(_lift, (ops.reshape, ops.broadcast_to, ops.flip))
transpose, pad, split, unstack = map(_lift, (ops.transpose, ops.pad, ops.split, ops.unstack))
matmul, embedding = map(_lift, (ops.matmul, ops.embedding))


def concat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an axis they have.  Shapes are equal but for ``axis``."""
    return apply(ops.concat, *tensors, axis=axis)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return apply(ops.stack, *tensors, axis=axis)


def einsum(subscripts: str, *tensors: Any) -> Tensor:
    """Sum of products over named axes: ``einsum("ij,jk->ik", a, b)``; see ops.einsum."""
    return apply(ops.einsum, *tensors, subscripts=subscripts)


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Softmax cross-entropy from logits, fused; see :func:`minigrad.ops.softmax_cross_entropy`.

    logits: (..., V); target: (...) class ids or (..., V) distributions; weight: (...) one
    number for each row; reduction: "mean", "sum" or "none".
    """
    plain = getattr(target, "array", target), getattr(weight, "array", weight)
    return apply(
        ops.softmax_cross_entropy, logits, target=plain[0], weight=plain[1],
        ignore_index=ignore_index, reduction=reduction,
    )  # fmt: skip


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Squared difference: its mean, its sum, or each ("none").

    prediction, target: equal shapes.  Losses never broadcast: (N, 1) against (N,) would
    compare everything with everything.  Raises ShapeError with the remedy.
    """
    shapes = np.shape(prediction), np.shape(target)
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"mse_loss: prediction is {shapes[0]} but target is {shapes[1]}; losses do not "
            f"broadcast, reshape one of them (for example target.reshape{shapes[0]})"
        )
    difference = apply(ops.square, apply(ops.subtract, prediction, target))
    if reduction == "none":
        return difference
    if reduction not in ("mean", "sum"):
        raise ValueError(f"mse_loss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return difference.mean() if reduction == "mean" else difference.sum()


def one_hot(ids: Any, classes: int, dtype: Any = np.float32) -> Tensor:
    """Rows with a one at each id: (...) integers in [0, classes) -> (..., classes)."""
    ids = np.asarray(getattr(ids, "array", ids))
    if ids.dtype.kind not in "iu" or (ids.size and (ids.min() < 0 or ids.max() >= classes)):
        raise ShapeError(f"one_hot: ids must be integers in [0, {classes})")
    return Tensor(np.eye(classes, dtype=dtype)[ids])


def _reduce(op: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's reductions have arguments that mean nothing here; refuse them by name."""

    def function(a: Any, axis: Any = None, keepdims: bool = False, **others: Any) -> Any:
        given = [name for name, value in others.items() if value is not np._NoValue]
        if given:
            raise TypeError(f"np.{op.__name__} on a tensor does not take {', '.join(given)}")
        return apply(op, a, axis=axis, keepdims=keepdims is True)

    return function


def _where(condition: Any, *choices: Any) -> Any:
    if not choices:
        return np.where(getattr(condition, "array", condition))
    return apply(ops.where, condition, *choices)


Tensor.numpy_functions.update(
    {
        np.add: add, np.subtract: subtract, np.multiply: multiply, np.true_divide: divide,
        np.power: power, np.negative: negative, np.absolute: absolute, np.square: square,
        np.sqrt: sqrt, np.exp: exp, np.expm1: expm1, np.log: log, np.log1p: log1p,
        np.sin: sin, np.cos: cos, np.tanh: tanh, np.maximum: maximum, np.minimum: minimum,
        np.matmul: matmul, np.dot: matmul, np.clip: clip, np.where: _where,
        np.sum: _reduce(ops.sum), np.mean: _reduce(ops.mean), np.max: _reduce(ops.max),
        np.min: _reduce(ops.min), np.amax: _reduce(ops.max), np.amin: _reduce(ops.min),
        np.var: _reduce(ops.var), np.reshape: lambda a, shape: apply(ops.reshape, a, shape),
        np.transpose: transpose, np.swapaxes: lambda a, i, j: a.swapaxes(i, j),
        np.expand_dims: lambda a, axis: a.unsqueeze(axis),
        np.squeeze: lambda a, axis=None: a.squeeze(axis), np.broadcast_to: broadcast_to,
        np.concatenate: concat, np.stack: stack, np.split: split, np.flip: flip, np.pad: pad,
        np.einsum: einsum, np.copy: lambda a: a.clone(), np.ravel: lambda a: a.flatten(),
        np.zeros_like: lambda a: Tensor(np.zeros_like(a.array)),
        np.ones_like: lambda a: Tensor(np.ones_like(a.array)),
    }
)  # fmt: skip
