"""Two-dimensional convolution and its gradients: products of windows with weights.

    y  = A @ w                   A: what the windows of an image see (see windows.py)
    dx = the same, of the padded dy with the weights turned; for stride s the input pixels fall
         into s x s classes, each of which meets only some cells of the kernel
    dw = A^T @ dy                rows and columns of A's tables change places

A max-pooling by windows that lie side by side may follow at once: then only the pooled results
are written, and the backward pass finds its way by the number of the cell that won.

Axis letters: N batch, H height, W width, C channels in, O channels out, I channels in of a
group.  ``window`` = (stride_h, stride_w, dilation_h, dilation_w, top, left, out_h, out_w) says
where windows are, with ``top`` and ``left`` the padding before the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import loops, panels, tile, windows
from .registry import FASTMATH, kernel

Window = tuple[int, int, int, int, int, int, int, int]

# -- the twins ------------------------------------------------------------------------------


def _cells(w: np.ndarray, window: Window) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """For each cell (i, j) of the kernel the pixels of the padded image that it meets."""
    stride_h, stride_w, dilation_h, dilation_w, _, _, out_h, out_w = window
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            rows = slice(i * dilation_h, i * dilation_h + (out_h - 1) * stride_h + 1, stride_h)
            columns = slice(j * dilation_w, j * dilation_w + (out_w - 1) * stride_w + 1, stride_w)
            yield i, j, (slice(None), rows, columns)


def _pad(x: np.ndarray, w: np.ndarray, window: Window) -> np.ndarray:
    """x with zeros around, so far as any window reaches."""
    stride_h, stride_w, dilation_h, dilation_w, top, left, out_h, out_w = window
    reach_h = (out_h - 1) * stride_h + (w.shape[0] - 1) * dilation_h + 1
    reach_w = (out_w - 1) * stride_w + (w.shape[1] - 1) * dilation_w + 1
    below = max(reach_h - top - x.shape[1], 0)
    right = max(reach_w - left - x.shape[2], 0)
    return np.pad(x, ((0, 0), (top, below), (left, right), (0, 0)))


def _grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """(..., C) as (..., groups, C / groups)."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def _pool_cells(y: np.ndarray, pool: tuple[int, int]) -> np.ndarray:
    """y (N, H, W, O) as (N, rows, columns, cells of a window, O), -inf beyond the image."""
    (n, h, w, o), (ph, pw) = y.shape, pool
    extra_h, extra_w = -h % ph, -w % pw
    before_h, before_w = extra_h // 2, extra_w // 2
    width = ((0, 0), (before_h, extra_h - before_h), (before_w, extra_w - before_w), (0, 0))
    full = np.pad(y, width, constant_values=-np.inf)
    split = full.reshape(n, (h + extra_h) // ph, ph, (w + extra_w) // pw, pw, o)
    return split.swapaxes(2, 3).reshape(n, split.shape[1], split.shape[3], ph * pw, o)


def _unpool(
    g: np.ndarray, y: np.ndarray, which: np.ndarray, relu: bool, window: Window, pool: Any
) -> np.ndarray:
    """Gradient of the convolution's own result (N, out_h, out_w, O), from that of y."""
    if relu:
        g = np.where(y > 0, g, 0)
    if pool == (1, 1):
        return g
    ph, pw = pool
    out_h, out_w = window[-2:]
    (n, rows, columns, o), cells = g.shape, np.arange(ph * pw)[:, None]
    chosen = np.where(which[:, :, :, None] == cells, g[:, :, :, None], 0)
    split = chosen.reshape(n, rows, columns, ph, pw, o).swapaxes(2, 3)
    full = split.reshape(n, rows * ph, columns * pw, o)
    top, left = (rows * ph - out_h) // 2, (columns * pw - out_w) // 2
    return full[:, top : top + out_h, left : left + out_w]


def conv2d_forward_twin(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray, relu: bool, window: Window, groups: int,
    pool: tuple[int, int], y: np.ndarray, which: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """y = relu(pool(windows of x times w + bias)) for images start to stop.

    x: (N, H, W, C); w: (KH, KW, C / groups, O); bias: (O,), or (0,) for none;
    y: (N, out_h, out_w, O), or smaller by ``pool``; which: like y, uint8: the cell of the pooling
    window whose value was the largest, the first of several; empty where ``pool`` is (1, 1).
    """
    padded = _pad(x[start:stop], w, window)
    total = np.zeros((stop - start, *window[-2:], groups, w.shape[3] // groups), x.dtype)
    for i, j, seen in _cells(w, window):
        total += np.einsum("nhwgi,igo->nhwgo", _grouped(padded[seen], groups),
                           _grouped(w[i, j], groups))  # fmt: skip
    z = total.reshape(*total.shape[:3], w.shape[3])
    if bias.size:
        z = z + bias
    if pool != (1, 1):
        cells = _pool_cells(z, pool)
        which[start:stop] = cells.argmax(axis=3)
        z = cells.max(axis=3)
    y[start:stop] = np.maximum(z, 0) if relu else z


def conv2d_input_gradient_twin(
    g: np.ndarray, y: np.ndarray, which: np.ndarray, relu: bool, w: np.ndarray, window: Window,
    groups: int, pool: tuple[int, int], dx: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """dx of images start to stop: each output pixel gives to all that its window saw.

    g: dL/dy, like y; dx: (N, H, W, C); the others as in the forward pass.
    """
    part = slice(start, stop)
    dz = _grouped(_unpool(g[part], y[part], which[part], relu, window, pool), groups)
    padded = _pad(np.zeros((stop - start, *dx.shape[1:]), dx.dtype), w, window)
    for i, j, seen in _cells(w, window):
        gift = np.einsum("nhwgo,igo->nhwgi", dz, _grouped(w[i, j], groups))
        padded[seen] += gift.reshape(padded[seen].shape)
    top, left = window[4:6]
    dx[part] = padded[:, top : top + dx.shape[1], left : left + dx.shape[2]]


def conv2d_weight_gradient_twin(
    x: np.ndarray, g: np.ndarray, y: np.ndarray, which: np.ndarray, relu: bool, window: Window,
    groups: int, pool: tuple[int, int], dw: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """dw of parts start to stop of the batch.

    dw: (parts, KH, KW, C / groups, O), each the sum over its share of the N images.
    """
    for k in range(start, stop):
        part = slice(k * len(x) // len(dw), (k + 1) * len(x) // len(dw))
        dz = _grouped(_unpool(g[part], y[part], which[part], relu, window, pool), groups)
        padded = _pad(x[part], dw[k], window)
        for i, j, seen in _cells(dw[k], window):
            sums = np.einsum("nhwgi,nhwgo->igo", _grouped(padded[seen], groups), dz)
            dw[k, i, j] = sums.reshape(dw.shape[3:])


def conv2d_bias_gradient_twin(
    g: np.ndarray, y: np.ndarray, relu: bool, db: np.ndarray, start: int, stop: int
) -> None:
    """db of parts start to stop of the batch.  g, y: (N, ..., O); db: (parts, O)."""
    for k in range(start, stop):
        part = slice(k * len(g) // len(db), (k + 1) * len(g) // len(db))
        dz = np.where(y[part] > 0, g[part], 0) if relu else g[part]
        db[k] = dz.reshape(-1, g.shape[-1]).sum(axis=0)


def largest(twin: Any, result: int) -> Any:
    """Sums of the terms' magnitudes, which rounding is relative to: the twin without signs."""

    def magnitude(*args: Any) -> np.ndarray:
        copies = [np.abs(a) if isinstance(a, np.ndarray) else a for a in args]
        twin(*copies)
        return copies[result]

    return magnitude


# -- compiled -------------------------------------------------------------------------------


# ``which`` is no output to be compared: where two cells are equal but for rounding, either wins
@kernel(
    twin=conv2d_forward_twin, outputs=("y",), magnitude=largest(conv2d_forward_twin, 7), pieces=4,
)  # fmt: skip
def conv2d_forward(
    x: Any, w: Any, bias: Any, relu: bool, window: Any, groups: int, pool: Any, y: Any, which: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    stride_h, stride_w, _, _, top, left, out_h, out_w = window
    kernel_h, kernel_w, inputs, outputs = w.shape
    padded = windows.empty_padded(x, kernel_h, kernel_w, window)
    channels = x.shape[3]
    down = padded.shape[1] * channels
    kinds = windows.kernel_cells(kernel_h, kernel_w, window)
    taps = windows.tap_table(kinds[0], kinds[1], down, channels, inputs)
    cells = pool[0] * pool[1]
    places = np.empty(y.shape[1] * y.shape[2], np.intp)
    for p in range(len(places)):
        places[p] = p * outputs
    strip = windows.strip_length(len(places), cells)
    order = windows.pixel_order(out_h, out_w, pool, strip)
    pixels = windows.pixel_table(order, stride_h * down, stride_w * channels)
    weights = w.reshape(len(kinds[2]), inputs, outputs)
    packed = windows.pack_weights(weights, False, kinds[2], groups)
    columns = outputs // groups
    count, step = packed.shape[1], packed.shape[3]
    shift = np.zeros((groups, count * step), x.dtype)
    for k in range(outputs if bias.size else 0):
        shift[k // columns, k % columns] = bias[k]
    nothing = np.empty(0, np.uint8)
    for n in range(start, stop):
        windows.lay_in(x[n], top, left, padded)
        windows.image_product(
            padded.ravel(), pixels, taps, inputs, packed, shift, relu, cells, strip, order, places,
            columns, y[n].ravel(), which[n].ravel() if which.size else nothing,
        )  # fmt: skip


@kernel(
    twin=conv2d_input_gradient_twin, outputs=("dx",),
    magnitude=largest(conv2d_input_gradient_twin, 8), pieces=4,
)  # fmt: skip
def conv2d_input_gradient(
    g: Any, y: Any, which: Any, relu: bool, w: Any, window: Any, groups: int, pool: Any, dx: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    stride_h, stride_w, dilation_h, dilation_w, top, left, out_h, out_w = window
    kernel_h, kernel_w, inputs, outputs = w.shape
    height, across, channels = dx.shape[1:]
    # Input row i meets cell k in output row (i + top - k * dilation) / stride, where that is
    # whole.  The padded gradient holds the rows from low to high.
    low_h = min((top - (kernel_h - 1) * dilation_h) // stride_h, 0)
    low_w = min((left - (kernel_w - 1) * dilation_w) // stride_w, 0)
    high = max((height - 1 + top) // stride_h, out_h - 1) - low_h + 1
    wide = max((across - 1 + left) // stride_w, out_w - 1) - low_w + 1
    padded = np.zeros(high * wide * outputs, g.dtype)
    down = wide * outputs
    cells, pooled = pool[0] * pool[1], y.shape[1] * y.shape[2]
    source = windows.pixel_order(out_h, out_w, pool, max(pooled, 1))
    within = windows.pixel_table(source, down, outputs)
    passed = np.empty(pooled * outputs if which.size else 0, g.dtype)
    dz = np.empty(cells * pooled * outputs, g.dtype)
    nothing = np.empty(0, np.uint8)
    weights = w.reshape(kernel_h * kernel_w, inputs, outputs)
    for first_row in range(min(stride_h, height)):
        for first_column in range(min(stride_w, across)):
            met = np.empty(len(weights), np.intp)  # cells, and where they meet the gradient
            met_row, met_column = np.empty_like(met), np.empty_like(met)
            count = 0
            for cell in range(len(weights)):
                i = first_row + top - cell // kernel_w * dilation_h
                j = first_column + left - cell % kernel_w * dilation_w
                if i % stride_h == 0 and j % stride_w == 0:
                    met_row[count], met_column[count] = i // stride_h - low_h, j // stride_w - low_w
                    met[count] = cell
                    count += 1
            taps = windows.tap_table(
                met_row[:count], met_column[:count], down, outputs, outputs // groups
            )
            rows = (height - first_row + stride_h - 1) // stride_h
            columns = (across - first_column + stride_w - 1) // stride_w
            order = windows.pixel_order(rows, columns, (1, 1), rows * columns)
            pixels = windows.pixel_table(order, down, outputs)
            begin = (first_row * across + first_column) * channels
            places = windows.pixel_table(order, stride_h * across * channels, stride_w * channels)
            for p in range(len(order)):
                places[p] += begin
            packed = windows.pack_weights(weights, True, met[:count], groups)
            strip = windows.strip_length(len(order), 1)
            shift = np.zeros((groups, packed.shape[1] * packed.shape[3]), g.dtype)
            for n in range(start, stop):
                windows.back_through(
                    g[n].ravel(), y[n].ravel(), relu, which[n].ravel() if which.size else nothing,
                    passed, dz,
                )  # fmt: skip
                for e in range(len(source)):
                    if source[e, 2] == e // max(pooled, 1):  # not a repeated one
                        place = within[e] - low_h * down - low_w * outputs
                        own = padded[place : place + outputs]
                        loops.copy(dz[e * outputs : (e + 1) * outputs], own)
                windows.image_product(
                    padded, pixels, taps, outputs // groups, packed, shift, False, 1, strip, order,
                    places, inputs, dx[n].ravel(), nothing,
                )  # fmt: skip


@kernel(
    twin=conv2d_weight_gradient_twin, outputs=("dw",),
    magnitude=largest(conv2d_weight_gradient_twin, 8), pieces=4,
)  # fmt: skip
def conv2d_weight_gradient(
    x: Any, g: Any, y: Any, which: Any, relu: bool, window: Any, groups: int, pool: Any, dw: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    stride_h, stride_w, _, _, top, left, out_h, out_w = window
    kernel_h, kernel_w, inputs, outputs = dw.shape[1:]
    padded = windows.empty_padded(x, kernel_h, kernel_w, window)
    channels = x.shape[3]
    down = padded.shape[1] * channels
    kinds = windows.kernel_cells(kernel_h, kernel_w, window)
    depth = len(kinds[0]) * inputs
    rows = windows.tap_table(kinds[0], kinds[1], down, channels, inputs)
    pooled = y.shape[1] * y.shape[2]
    order = windows.pixel_order(out_h, out_w, pool, max(pooled, 1))
    pixels = windows.pixel_table(order, stride_h * down, stride_w * channels)
    step = tile.width(x.dtype)
    columns = outputs // groups
    count = (columns + step - 1) // step
    passed = np.empty(pooled * outputs if which.size else 0, x.dtype)
    # the last panel may reach beyond the last channel, into numbers that change nothing we keep
    buffer = np.zeros(len(order) * outputs + step, x.dtype)
    wide = count * step
    sums = panels.room(groups * depth * wide, x).reshape(groups, depth * wide)
    strip = windows.strip_length(len(order), 1)
    nothing = np.empty(0, np.uint8)
    for part in range(start, stop):
        sums[:] = 0
        for n in range(part * len(x) // len(dw), (part + 1) * len(x) // len(dw)):
            windows.lay_in(x[n], top, left, padded)
            windows.back_through(
                g[n].ravel(), y[n].ravel(), relu, which[n].ravel() if which.size else nothing,
                passed, buffer[: len(order) * outputs],
            )  # fmt: skip
            for p in range(groups):
                for first in range(0, len(order), strip):
                    length = min(strip, len(order) - first)
                    tile.scattered_product(
                        padded.ravel(), p * inputs, rows, pixels[first : first + length], buffer,
                        first * outputs + p * columns, outputs, step, count, sums[p], wide, True,
                        sums[p], wide,
                    )  # fmt: skip
        result = dw[part].reshape(depth, outputs)
        for p in range(groups):
            panels.copy_rows(
                sums[p], 0, wide, result.ravel(), p * columns, outputs, depth, columns
            )


@kernel(
    twin=conv2d_bias_gradient_twin, outputs=("db",), fastmath=FASTMATH,
    magnitude=largest(conv2d_bias_gradient_twin, 3),
)  # fmt: skip
def conv2d_bias_gradient(g: Any, y: Any, relu: bool, db: Any, start: int, stop: int) -> None:
    channels = db.shape[1]
    pixels = g.size // max(len(g) * channels, 1)
    zero = g.dtype.type(0)
    for part in range(start, stop):
        total = db[part]
        total[:] = 0
        for n in range(part * len(g) // len(db), (part + 1) * len(g) // len(db)):
            rows, kept = g[n].reshape(pixels, channels), y[n].reshape(pixels, channels)
            for p in range(pixels):
                row, keep = rows[p], kept[p]
                for j in range(channels):
                    value = row[j]
                    total[j] += zero if relu and not keep[j] > zero else value
