"""Ops that move numbers without changing them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..errors import ArgumentError, ShapeError
from ..recording import repeatable, view_of


@repeatable
def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """x with another shape of the same size; one entry may be -1.

    >>> import minigrad as mg
    >>> mg.reshape(mg.ones(2, 6), (3, -1)).shape
    (3, 4)
    """
    before = x.shape
    return view_of(x, np.reshape(x, shape)), lambda g: view_of(g, np.reshape(g, before))


@repeatable
def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Any:
    """Axes in the given order (reversed if None).  x: (...).

    >>> import minigrad as mg
    >>> mg.transpose(mg.ones(2, 3, 4), (1, 0, 2)).shape
    (3, 2, 4)
    """
    if axes is None:
        axes = tuple(reversed(range(x.ndim)))
    y = np.transpose(x, axes)
    back = [0] * len(axes)
    for to, axis in enumerate(axes):
        back[axis] = to
    return y, lambda g: np.transpose(g, tuple(back))


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x repeated along new or unit axes up to ``shape``.

    >>> import minigrad as mg
    >>> mg.broadcast_to(mg.ones(3), (2, 3)).shape
    (2, 3)
    """
    return np.broadcast_to(x, shape), lambda g: g


def astype(x: Any, dtype: Any) -> Any:
    """x converted to another float dtype; the gradient comes back in x's own."""
    before = x.dtype
    return x.astype(dtype), lambda g: g.astype(before)


def flip(x: Any, axis: Any = None) -> Any:
    """x in reverse order along ``axis`` (all axes if None).

    >>> import minigrad as mg
    >>> mg.flip(mg.tensor([1.0, 2.0, 3.0]), 0)
    tensor([3., 2., 1.])
    """
    return np.flip(x, axis), lambda g: np.flip(g, axis)


def _along(axis: int, ndim: int, what: Any) -> tuple[Any, ...]:
    return (slice(None),) * (axis % ndim) + (what,)


def concat(*xs: Any, axis: int = 0) -> Any:
    """Arrays joined along an axis they have.  xs: equal shapes but for ``axis``."""
    if not xs:
        raise ArgumentError("concat: needs at least one tensor")
    y = np.concatenate(xs, axis=axis)
    stops = np.cumsum([x.shape[axis] for x in xs]).tolist()
    parts = [
        _along(axis, y.ndim, slice(start, stop)) for start, stop in zip([0, *stops], stops)
    ]
    return y, lambda g: tuple(g[part] for part in parts)


def stack(*xs: Any, axis: int = 0) -> Any:
    """Arrays of one shape joined along a new axis."""
    if not xs:
        raise ArgumentError("stack: needs at least one tensor")
    y = np.stack(xs, axis=axis)
    parts = [_along(axis, y.ndim, i) for i in range(len(xs))]
    return y, lambda g: tuple(g[part] for part in parts)


def split(x: Any, sections: int | tuple[int, ...], axis: int = 0) -> Any:
    """Parts of x along ``axis``: ``sections`` equal ones, or parts of the given sizes.

    Returns a tuple.  Raises ShapeError if the parts do not add up to the axis.

    >>> import minigrad as mg
    >>> [part.shape for part in mg.split(mg.ones(2, 6), 3, axis=1)]
    [(2, 2), (2, 2), (2, 2)]
    """
    size = x.shape[normalize_axis_index(axis, x.ndim)]
    if isinstance(sections, int):
        if sections < 1 or size % sections:
            raise ShapeError(
                f"split: axis {axis} of {x.shape} has {size} entries, which do not divide "
                f"into {sections} equal parts"
            )
        sizes = [size // sections] * sections
    else:
        sizes = list(sections)
        if any(n < 0 for n in sizes) or np.sum(sizes, dtype=int) != size:
            raise ShapeError(
                f"split: parts of sizes {tuple(sizes)} do not add up to the {size} entries of "
                f"axis {axis} of {x.shape}"
            )
    stops = np.cumsum(sizes).tolist()
    parts = tuple(
        x[_along(axis, x.ndim, slice(start, stop))] for start, stop in zip([0, *stops], stops)
    )
    return parts, lambda gs: np.concatenate(gs, axis=axis)


def unstack(x: Any, axis: int = 0) -> Any:
    """Slices of x along ``axis``, which disappears.  Returns a tuple.

    >>> import minigrad as mg
    >>> mg.unstack(mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    (tensor([1., 2.]), tensor([3., 4.]))
    """
    if x.ndim == 0:
        raise ShapeError("unstack: a 0-d tensor has no axis to take apart")
    size = x.shape[normalize_axis_index(axis, x.ndim)]
    parts = tuple(x[_along(axis, x.ndim, i)] for i in range(size))
    return parts, lambda gs: np.stack(gs, axis=axis)


def pad(x: Any, width: Any, value: float = 0.0) -> Any:
    """x with ``value`` around it.  width: (before, after), or one such pair for each axis.

    >>> import minigrad as mg
    >>> mg.pad(mg.ones(2), 1)
    tensor([0., 1., 1., 0.])
    """
    try:
        pairs = np.broadcast_to(np.asarray(width, dtype=int), (x.ndim, 2)).tolist()
    except (ValueError, TypeError):
        raise ShapeError(
            f"pad: width must be (before, after), or one such pair for each of the {x.ndim} axes "
            f"of x, got {width!r}"
        ) from None
    if any(n < 0 for pair in pairs for n in pair):
        raise ShapeError(f"pad: width must not be negative, got {width!r}")
    y = np.pad(x, pairs, constant_values=value)
    inner = tuple(slice(before, before + n) for (before, _), n in zip(pairs, x.shape))
    return y, lambda g: g[inner]
