"""Max- and average-pooling of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError
from ..recording import contiguous, repeatable
from . import _windows
from ._call import call, composed_as
from ._windows import Axis
from .indexing import getitem, scatter
from .shaping import pad

_GRAIN = 1 << 14  # numbers below which a range of images is not worth a thread


def _axes(op: str, x: Any, size: Any, stride: Any, padding: Any) -> tuple[Axis, Axis]:
    """Where the windows are.  Raises ShapeError or ArgumentError."""
    window = _windows.pair(op, "size", size)
    step = window if stride is None else _windows.pair(op, "stride", stride)
    both = _windows.axes_of(op, x.shape[1:3], window, step, (1, 1), padding)
    for axis in both:
        last = (axis.out - 1) * axis.stride - axis.before
        if axis.before >= axis.window or last >= axis.size:
            raise ArgumentError(
                f"{op}: with padding={padding!r} some windows of {axis.window} see nothing but "
                "padding; there must be less padding than window"
            )
    return both


def _cells(x: Any, axes: tuple[Axis, Axis], value: float) -> Any:
    """x with ``value`` around, and for each cell of the windows the index of what it sees."""
    rows, columns = axes
    width = ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0))
    places = [
        (slice(None),
         slice(i, i + (rows.out - 1) * rows.stride + 1, rows.stride),
         slice(j, j + (columns.out - 1) * columns.stride + 1, columns.stride))
        for i in range(rows.window) for j in range(columns.window)
    ]  # fmt: skip
    return call(pad, x, width=width, value=value), places


def _spread(g: Any, masks: Any, places: Any, axes: tuple[Axis, Axis], shape: Any) -> Any:
    """Sum over the cells of g times the cell's mask, put where the cell sees."""
    total: Any = 0.0
    for mask, place in zip(masks, places):
        total = total + call(scatter, g * mask, index=place, shape=shape)
    inside = [slice(axis.before, axis.before + axis.size) for axis in axes]
    return call(getitem, total, index=(slice(None), *inside))


def _composed_max(x: Any, size: Any = 2, stride: Any = None, padding: Any = "valid") -> Any:
    """The same from ops that work on tensors too."""
    axes = _axes("max_pool2d", x, size, stride, padding)
    padded, places = _cells(x, axes, -np.inf)
    cells = [call(getitem, padded, index=place) for place in places]
    values = np.stack([getattr(cell, "array", cell) for cell in cells])
    masks = [values.argmax(axis=0) == k for k in range(len(cells))]
    y = cells[0]
    for cell, mask in zip(cells[1:], masks[1:]):
        y = np.where(mask, cell, y)

    return y, lambda g: _spread(g, masks, places, axes, padded.shape)


@repeatable
@composed_as(_composed_max)
def max_pool2d(x: Any, size: Any = 2, stride: Any = None, padding: Any = "valid") -> Any:
    """Largest number of each window, channel by channel; tf.nn.max_pool2d.

    x: (N, H, W, C) float32 or float64.
    size, stride: of the windows in pixels, one number or (height, width); stride None: side by
    side.  padding: as for conv2d; what it adds is never the largest.
    Of equal numbers the first, row by row, gets the gradient.  A NaN wins.

    Returns (N, rows, columns, C).  Raises ShapeError, DTypeError or ArgumentError.

    >>> import minigrad as mg
    >>> mg.max_pool2d(mg.ones(2, 7, 7, 3), 2, padding="same").shape
    (2, 4, 4, 3)
    """
    _windows.check_image("max_pool2d", x)
    rows, columns = _axes("max_pool2d", x, size, stride, padding)
    x, window, y, grain = _prepared(x, rows, columns)
    which = np.empty(y.shape, np.min_scalar_type(rows.window * columns.window - 1))
    kernels.run_rows(kernels.max_pool2d_forward, len(x), grain, x, window, y, which)

    def dx(g: Any) -> Any:
        out = np.empty(x.shape, x.dtype)
        kernels.run_rows(
            kernels.max_pool2d_backward, len(x), grain, contiguous(g), which, window, out
        )
        return out

    return y, dx


def _composed_avg(x: Any, size: Any = 2, stride: Any = None, padding: Any = "valid") -> Any:
    """The same from ops that work on tensors too."""
    axes = _axes("avg_pool2d", x, size, stride, padding)
    padded, places = _cells(x, axes, 0.0)
    inside, _ = _cells(np.ones((1, *x.shape[1:3], 1), x.dtype), axes, 0.0)
    share = 1.0 / np.sum(np.stack([inside[place] for place in places]), axis=0)
    y: Any = 0.0
    for place in places:
        y = y + call(getitem, padded, index=place) * share

    return y, lambda g: _spread(g, [share] * len(places), places, axes, padded.shape)


@repeatable
@composed_as(_composed_avg)
def avg_pool2d(x: Any, size: Any = 2, stride: Any = None, padding: Any = "valid") -> Any:
    """Mean of each window's pixels, channel by channel; tf.nn.avg_pool2d.

    Arguments as for max_pool2d.  Padding counts for nothing: a window over the edge divides by
    the number of its cells within the image.

    >>> import minigrad as mg
    >>> mg.avg_pool2d(mg.ones(2, 7, 7, 3), 2).shape
    (2, 3, 3, 3)
    """
    _windows.check_image("avg_pool2d", x)
    rows, columns = _axes("avg_pool2d", x, size, stride, padding)
    x, window, y, grain = _prepared(x, rows, columns)
    kernels.run_rows(kernels.avg_pool2d_forward, len(x), grain, x, window, y)

    def dx(g: Any) -> Any:
        out = np.empty(x.shape, x.dtype)
        kernels.run_rows(kernels.avg_pool2d_backward, len(x), grain, contiguous(g), window, out)
        return out

    return y, dx


def _prepared(x: Any, rows: Axis, columns: Axis) -> Any:
    """x as the kernels want it, their ``window``, the result's array, images worth a thread."""
    window = (rows.window, columns.window, rows.stride, columns.stride, rows.before, columns.before)
    y = np.empty((len(x), rows.out, columns.out, x.shape[3]), x.dtype)
    work = y.size // max(len(x), 1) * rows.window * columns.window
    return contiguous(x), window, y, _GRAIN // (work + 1) + 1
