"""Windows of an image times weights, without an im2col buffer: what convolutions are made of.

An output pixel is the product of what its window sees with the weights: a row of a matrix A,
whose entry for output pixel i and window entry k is the number at ``pixels[i] + taps[k]`` of
the padded image.  The register tile reads A through these two tables; only one padded image at
a time is ever written, and stays in cache.

What follows a convolution is done while its sums are in cache too: bias, relu and max-pooling
by windows that lie side by side.  For this the pixels come in the order of ``order``.

Axis letters as in conv.py; here flat means that an array is seen as one row of numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import elementary, loops, panels, tile
from .inner import inner

_STRIP = 256  # output pixels that are multiplied before their results are taken up
_CHUNK = 160  # rows of a panel that they pass over at a time: half the L1 cache


@inner()
def pixel_order(height: int, columns: int, pool: Any, strip: int) -> Any:
    """The pixels of an image in the order in which they are multiplied.

    ``strip`` pooling windows after another give first each its first cell, then each its second
    and so on: what belongs to one cell lies together.  Entries (row, column, cell number).  A
    cell beyond the image repeats the first one of its window that is not, and has its number.
    """
    ph, pw = pool
    down, across = (height + ph - 1) // ph, (columns + pw - 1) // pw
    top, left = (down * ph - height) // 2, (across * pw - columns) // 2
    order = np.empty((down * across * ph * pw, 3), np.intp)
    e = 0
    for begin in range(0, down * across, strip):
        for cell in range(ph * pw):
            for p in range(begin, min(begin + strip, down * across)):
                first_row, first_column = p // across * ph - top, p % across * pw - left
                i, j = first_row + cell // pw, first_column + cell % pw
                if not (0 <= i < height and 0 <= j < columns):
                    i, j = max(first_row, 0), max(first_column, 0)
                order[e, 0], order[e, 1] = i, j
                order[e, 2] = (i - first_row) * pw + j - first_column
                e += 1
    return order


@inner()
def pixel_table(order: Any, down: int, across: int) -> Any:
    """Place of each pixel whose neighbours are so far away."""
    table = np.empty(len(order), np.intp)
    for e in range(len(order)):
        table[e] = order[e, 0] * down + order[e, 1] * across
    return table


@inner()
def tap_table(rows: Any, columns: Any, down: int, across: int, channels: int) -> Any:
    """Place of each channel of the cells (rows[t], columns[t]) of a window."""
    table = np.empty(len(rows) * channels, np.intp)
    for t in range(len(rows)):
        for c in range(channels):
            table[t * channels + c] = rows[t] * down + columns[t] * across + c
    return table


@inner()
def kernel_cells(kernel_h: int, kernel_w: int, window: Any) -> Any:
    """Rows and columns of the cells of a kernel, and their numbers; (3, KH * KW)."""
    cells = np.empty((3, kernel_h * kernel_w), np.intp)
    for cell in range(kernel_h * kernel_w):
        cells[0, cell] = cell // kernel_w * window[2]
        cells[1, cell] = cell % kernel_w * window[3]
        cells[2, cell] = cell
    return cells


@inner()
def empty_padded(x: Any, kernel_h: int, kernel_w: int, window: Any) -> Any:
    """Zeros for one image (H, W, C) of x and the padding, so far as any window reaches."""
    stride_h, stride_w, dilation_h, dilation_w, top, left, out_h, out_w = window
    high = max((out_h - 1) * stride_h + (kernel_h - 1) * dilation_h + 1, top + x.shape[1])
    wide = max((out_w - 1) * stride_w + (kernel_w - 1) * dilation_w + 1, left + x.shape[2])
    return np.zeros((high, wide, x.shape[3]), x.dtype)


@inner()
def pack_weights(w: Any, turned: bool, cells: Any, groups: int) -> Any:
    """Panels (groups, count, depth, width) of the weights of some cells, (cells, I, O).

    The rows are the cells' channels in, the columns those out; or if turned the other way.
    """
    step = tile.width(w.dtype)
    inputs, outputs = w.shape[1], w.shape[2] // groups
    inner, columns = (outputs, inputs) if turned else (inputs, outputs)
    count = (columns + step - 1) // step
    depth = len(cells) * inner
    packed = panels.room(groups * count * depth * step, w)
    for g in range(groups):
        k, first = (g * outputs, 0) if turned else (0, g * outputs)
        for t in range(len(cells)):
            panels.pack_panels(
                w[cells[t]], turned, k, inner, first, columns, packed,
                (g * count * depth + t * inner) * step, depth * step,
            )  # fmt: skip
    return packed.reshape(groups, count, depth, step)


@inner()
def lay_in(image: Any, top: int, left: int, padded: Any) -> None:
    """Write an image (H, W, C) into the middle of a padded one."""
    length, begin = image.shape[1] * image.shape[2], left * image.shape[2]
    for i in range(image.shape[0]):
        loops.copy(image[i].ravel(), padded[top + i].ravel()[begin : begin + length])


@inner(error_model="numpy")
def larger(values: Any, cell: int, best: Any, which: Any) -> None:
    """best = max(best, values), and which = cell where that changes it; a NaN stays."""
    elementary.wide_vectors()
    for k in range(best.size):
        value, before, number = values[k], best[k], which[k]
        larger = (not value <= before) & (before == before)
        best[k] = value if larger else before
        which[k] = cell if larger else number


@inner(error_model="numpy")
def rectify(x: Any) -> None:
    """x = relu(x)."""
    zero = x.dtype.type(0)
    for k in range(x.size):
        value = x[k]
        x[k] = zero if value < zero else value


@inner(error_model="numpy")
def where_positive(g: Any, y: Any, out: Any) -> None:
    """out = g where y > 0, else 0."""
    zero = g.dtype.type(0)
    for k in range(out.size):
        value = g[k]
        out[k] = value if y[k] > zero else zero


@inner(error_model="numpy")
def where_chosen(g: Any, which: Any, cell: int, out: Any) -> None:
    """out = g where which = cell, else 0."""
    zero = g.dtype.type(0)
    for k in range(out.size):
        value = g[k]
        out[k] = value if which[k] == cell else zero


@inner()
def back_through(g: Any, y: Any, relu: bool, which: Any, passed: Any, dz: Any) -> None:
    """From the gradient of an image's results to that of its sums, cell after cell.

    g, y, passed: flat, (P * O); which: the same, or empty without pooling; dz: (cells * P * O).
    """
    target = passed if which.size else dz
    if relu:
        where_positive(g, y, target[: g.size])
    else:
        loops.copy(g, target[: g.size])
    if which.size:
        for cell in range(dz.size // passed.size if passed.size else 0):
            part = dz[cell * passed.size : (cell + 1) * passed.size]
            where_chosen(passed, which, np.uint8(cell), part)


@inner()
def image_product(
    padded: Any, pixels: Any, taps: Any, across: int, packed: Any, shift: Any, relu: bool,
    cells: int, strip: int, order: Any, places: Any, columns: int, y: Any, which: Any,
) -> None:  # fmt: skip
    """All windows of one padded image (flat) times the weights, taken up into y (flat).

    across: from one group's channels to the next; packed: (groups, count, depth, width);
    shift: (groups, count * width), the bias; strip: pooling windows taken together;
    places: (P,), where in y each pooled pixel begins; columns: channels of y in a group.
    """
    groups, count, depth, step = packed.shape
    chunks = max((depth + _CHUNK - 1) // _CHUNK, 1)
    chunk = max((depth + chunks - 1) // chunks, 1)
    widest = min(count, 2) * step  # two panels are passed over at once
    sums = np.empty(strip * cells * widest, y.dtype)
    best_cell = np.empty(strip * widest if which.size else 0, np.uint8)
    weights = packed.ravel()
    pairs = (count + 1) // 2
    for p in range(groups * pairs):
        group, panel = p // pairs, p % pairs * 2
        begin, weights_at = group * columns + panel * step, (group * count + panel) * depth * step
        several = min(2, count - panel)
        wide, here = several * step, min(several * step, columns - panel * step)
        for first in range(0, len(places), strip):
            windows = min(strip, len(places) - first)
            rows = pixels[first * cells : (first + windows) * cells]
            for k in range(0, max(depth, 1), chunk):
                d, d_row = (sums, wide) if k else (shift[group, panel * step :], 0)
                tile.scattered_product(
                    padded, group * across, rows, taps[k : k + chunk], weights,
                    weights_at + k * step, step, depth * step, several, sums, wide, True, d, d_row,
                )  # fmt: skip
            best = sums[: windows * wide]
            if which.size:
                chosen = best_cell[: windows * wide]
                chosen[:] = 0
                for cell in range(1, cells):
                    values = sums[cell * windows * wide : (cell + 1) * windows * wide]
                    larger(values, np.uint8(cell), best, chosen)
            if relu:
                rectify(best)
            for e in range(windows):
                place = places[first + e] + begin
                loops.copy(best[e * wide : e * wide + here], y[place : place + here])
                if which.size:
                    own = which[place : place + here]
                    loops.copy(chosen[e * wide : e * wide + here], own)
                    number = order[first * cells + e, 2]
                    if number:  # the first cell is beyond the image
                        for j in range(here):
                            own[j] = own[j] if own[j] else number


@inner()
def strip_length(windows: int, cells: int) -> int:
    """Pooling windows of a strip: strips of one length, of about _STRIP pixels."""
    count = max((windows * cells + _STRIP - 1) // _STRIP, 1)
    return max((windows + count - 1) // count, 1)
