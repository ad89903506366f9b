"""Two-dimensional convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, DTypeError, ShapeError
from ..recording import contiguous, repeatable, summed
from . import _windows
from ._call import call, composed_as
from ._windows import Axis
from .indexing import getitem, scatter
from .linear import einsum
from .pool import max_pool2d
from .shaping import pad

_GRAIN = 1 << 19  # multiply-adds below which a range of images is not worth a thread
_RUN = 32  # numbers of a window's row that are worth being taken alone; see kernels.through_pool
_PARTS, _PARTS_SIZE = 8, 1 << 24  # sums of a weight gradient: how many, how many bytes together


def _composed(
    x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = "valid", dilation: Any = 1,
    groups: int = 1, activation: str | None = None, pool: Any = None,
) -> Any:  # fmt: skip
    """The same from ops that work on tensors too: one product for each cell of the kernel."""
    rows, columns = _axes(x, w, stride, padding, dilation)
    (n, _, _, channels), (_, _, inputs, outputs) = x.shape, w.shape
    width = ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0))
    padded = call(pad, x, width=width)
    cells = [(i, j) for i in range(rows.window) for j in range(columns.window)]
    places = [
        tuple(
            slice(k * axis.dilation, k * axis.dilation + (axis.out - 1) * axis.stride + 1,
                  axis.stride)
            for k, axis in zip(cell, (rows, columns))
        )
        for cell in cells
    ]  # fmt: skip
    parts = n, rows.out, columns.out, groups
    sight = (*parts, inputs)

    def seen(place: Any) -> Any:
        return np.reshape(call(getitem, padded, index=(slice(None), *place)), sight)

    def weights(cell: Any) -> Any:
        return np.reshape(call(getitem, w, index=cell), (inputs, groups, outputs // groups))

    z: Any = 0.0
    for cell, place in zip(cells, places):
        z = z + call(einsum, seen(place), weights(cell), subscripts="nhwgi,igo->nhwgo")
    z = np.reshape(z, (*parts[:3], outputs))
    if b is not None:
        z = z + b
    y = np.maximum(z, 0.0) if activation == "relu" else z
    unpool = None
    if pool is not None:
        y, unpool = max_pool2d.composed(y, size=pool, padding="same")

    def d_parts(g: Any) -> Any:
        g = g if unpool is None else unpool(g)
        g = g * (z > 0) if activation == "relu" else g
        return np.reshape(g, (*parts, outputs // groups))

    def dx(g: Any) -> Any:
        g, total = d_parts(g), 0.0
        for cell, place in zip(cells, places):
            gift = call(einsum, g, weights(cell), subscripts="nhwgo,igo->nhwgi")
            gift = np.reshape(gift, (*parts[:3], channels))
            index = (slice(None), *place)
            total = total + call(scatter, gift, index=index, shape=padded.shape)
        inside = [slice(axis.before, axis.before + axis.size) for axis in (rows, columns)]
        return call(getitem, total, index=(slice(None), *inside))

    def dw(g: Any) -> Any:
        g = d_parts(g)
        each = [
            call(einsum, seen(place), g, subscripts="nhwgi,nhwgo->igo") for place in places
        ]
        return np.reshape(np.stack(each), w.shape)

    return y, (dx, dw, lambda g: np.sum(np.reshape(d_parts(g), (*parts[:3], outputs)), (0, 1, 2)))


@repeatable
@composed_as(_composed)
def conv2d(
    x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = "valid", dilation: Any = 1,
    groups: int = 1, activation: str | None = None, pool: Any = None,
) -> Any:  # fmt: skip
    """What windows of images see, times weights, plus b; as TensorFlow's tf.nn.conv2d.

    x: (N, H, W, C); w: (KH, KW, C / groups, O); b: (O,) or None; one dtype, float32 or float64.
    stride, dilation: pixels, one number or (height, width).
    padding: "same" (ceil(size / stride) outputs, the larger half of the padding at the bottom
    right), "valid" (none), pixels, (height, width) or ((top, bottom), (left, right)); zeros.
    groups: output channels in so many groups, each of which sees its share of the channels of x.
    activation: "relu" or None; pool: size of max-pooling windows, side by side with padding
    "same", one number or (height, width), or None.  Both are done while the sums are in cache.

    Returns (N, rows, columns, O).  Raises ShapeError, DTypeError or ArgumentError.

    >>> import minigrad as mg
    >>> mg.conv2d(mg.ones(2, 28, 28, 1), mg.ones(5, 5, 1, 8), padding="same").shape
    (2, 28, 28, 8)
    """
    _check(x, w, b, groups, activation)
    rows, columns = _axes(x, w, stride, padding, dilation)
    pooled = (1, 1) if pool is None else _windows.pair("conv2d", "pool", pool)
    if pooled[0] * pooled[1] > 256:
        raise ArgumentError(f"conv2d: pool may have at most 256 cells, got {pool!r}")
    x, w = contiguous(x), contiguous(w)
    bias = np.empty(0, x.dtype) if b is None else contiguous(b)
    relu = activation == "relu"
    window = (
        rows.stride, columns.stride, rows.dilation, columns.dilation, rows.before, columns.before,
        rows.out, columns.out,
    )  # fmt: skip
    batch, outputs = len(x), w.shape[3]
    shape = batch, -(-rows.out // pooled[0]), -(-columns.out // pooled[1]), outputs
    y = np.empty(shape, x.dtype)
    which = np.empty((0, 0, 0, 0) if pooled == (1, 1) else shape, np.uint8)
    grain = _GRAIN // (rows.out * columns.out * w.size + 1) + 1
    kernels.run_rows(
        kernels.conv2d_forward, batch, grain,
        x, w, bias, relu, window, groups, pooled, y, which,
    )  # fmt: skip

    # few pixels get a gradient through a pool: these kernels take no others
    alone = (
        pooled[0] * pooled[1] >= 4 and groups == 1 and columns.dilation == 1
        and w.shape[1] * w.shape[2] >= _RUN
    )  # fmt: skip

    def dx(g: Any) -> Any:
        out = np.empty(x.shape, x.dtype)
        args = contiguous(g), y, which, relu, w, window
        if alone:
            kernels.run_rows(kernels.pooled_input_gradient, batch, grain, *args, pooled, out)
        else:
            kernels.run_rows(
                kernels.conv2d_input_gradient, batch, grain, *args, groups, pooled, out
            )
        return out

    # images in parts of the batch, whose number never depends on that of threads
    parts = max(min(_PARTS, batch, _PARTS_SIZE // max(w.nbytes, 1)), 1)

    def dw(g: Any) -> Any:
        sums = np.empty((parts, *w.shape), x.dtype)
        worth = grain * parts // max(batch, 1) + 1
        args = x, contiguous(g), y, which, relu, window
        if alone:
            kernels.run_rows(kernels.pooled_weight_gradient, parts, worth, *args, pooled, sums)
        else:
            kernels.run_rows(
                kernels.conv2d_weight_gradient, parts, worth, *args, groups, pooled, sums
            )
        return summed(sums, 0)

    def db(g: Any) -> Any:
        sums = np.empty((parts, outputs), x.dtype)
        worth = _GRAIN // (g.size // parts + 1) + 1
        kernels.run_rows(
            kernels.conv2d_bias_gradient, parts, worth, contiguous(g), y, relu, sums
        )
        return summed(sums, 0)

    return y, (dx, dw, db)


def _axes(x: Any, w: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Axis, Axis]:
    several = (_windows.pair("conv2d", "stride", stride),
               _windows.pair("conv2d", "dilation", dilation))  # fmt: skip
    return _windows.axes_of("conv2d", x.shape[1:3], w.shape[:2], *several, padding)


def _check(x: Any, w: Any, b: Any, groups: Any, activation: Any) -> None:
    """Raise ShapeError, DTypeError or ArgumentError unless all arguments fit."""
    _windows.check_image("conv2d", x)
    if w.ndim != 4 or 0 in w.shape:
        raise ShapeError(
            f"conv2d: weight must be (KH, KW, C / groups, O), none of them 0; got shape {w.shape}"
        )
    if not isinstance(groups, (int, np.integer)) or isinstance(groups, bool) or groups < 1:
        raise ArgumentError(f"conv2d: groups must be a positive integer, got {groups!r}")
    (_, _, inputs, outputs), channels = w.shape, x.shape[3]
    if inputs * groups != channels:
        of = f" in each of {groups} groups" if groups > 1 else ""
        hint = ""
        if channels % inputs == 0 and outputs % (channels // inputs) == 0:
            hint = f"; groups={channels // inputs} would fit"
        raise ShapeError(
            f"conv2d: weight expects {inputs} input channel{'s' * (inputs > 1)}{of} (axis 2 of "
            f"{w.shape}) but x has {channels} (axis 3 of {x.shape}){hint}"
        )
    if outputs % groups:
        raise ShapeError(
            f"conv2d: the {outputs} output channels of weight (axis 3 of {w.shape}) do not fall "
            f"into {groups} groups"
        )
    if b is not None and b.shape != (outputs,):
        raise ShapeError(
            f"conv2d: bias must be ({outputs},), one number for each output channel of weight "
            f"(axis 3 of {w.shape}); got shape {b.shape}"
        )
    if x.dtype != w.dtype or (b is not None and b.dtype != x.dtype):
        last = "" if b is None else f", bias {b.dtype}"
        raise DTypeError(
            f"conv2d: all arguments need one dtype, got x {x.dtype}, weight {w.dtype}{last}; "
            "convert some of them"
        )
    if activation not in (None, "relu"):
        raise ArgumentError(f"conv2d: activation must be 'relu' or None, got {activation!r}")
