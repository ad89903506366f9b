"""Max- and average-pooling of images, and their gradients.

Axis letters: N batch, H height, W width, C channels.  ``window`` = (size_h, size_w, stride_h,
stride_w, top, left) says where windows are, with ``top`` and ``left`` the padding before the
image.  Cells of a window beyond the image count for nothing; each window has one within.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import loops, windows
from .inner import inner
from .registry import FASTMATH, kernel

Window = tuple[int, int, int, int, int, int]

# -- the twins ------------------------------------------------------------------------------


def _windows(shape: tuple[int, ...], window: Window) -> Iterator[tuple[int, int, slice, slice]]:
    """For each output pixel (i, j) of ``shape`` the rows and columns of its window, unclipped."""
    size_h, size_w, stride_h, stride_w, top, left = window
    for i in range(shape[1]):
        for j in range(shape[2]):
            row, column = i * stride_h - top, j * stride_w - left
            yield i, j, slice(row, row + size_h), slice(column, column + size_w)


def _inside(part: slice, size: int) -> slice:
    return slice(max(part.start, 0), min(part.stop, size))


def max_pool2d_forward_twin(
    x: np.ndarray, window: Window, y: np.ndarray, which: np.ndarray, start: int, stop: int
) -> None:
    """y = maximum of each window of images start to stop; a NaN wins.

    x: (N, H, W, C); y: (N, rows, columns, C); which: like y, integers: the winning cell, the
    first of several, counted row by row of the whole window.
    """
    for i, j, rows, columns in _windows(y.shape, window):
        near, across = _inside(rows, x.shape[1]), _inside(columns, x.shape[2])
        wide = across.stop - across.start
        count = (near.stop - near.start) * wide
        cells = x[start:stop, near, across].reshape(stop - start, count, x.shape[3])
        best = cells.argmax(axis=1)
        row = near.start - rows.start + best // wide
        column = across.start - columns.start + best % wide
        y[start:stop, i, j] = cells.max(axis=1)
        which[start:stop, i, j] = row * window[1] + column


def max_pool2d_backward_twin(
    g: np.ndarray, which: np.ndarray, window: Window, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx of images start to stop: the gradient of each maximum goes to the cell that won.

    g, which: (N, rows, columns, C); dx: (N, H, W, C).
    """
    dx[start:stop] = 0
    for i, j, rows, columns in _windows(g.shape, window):
        for cell in range(window[0] * window[1]):
            row, column = rows.start + cell // window[1], columns.start + cell % window[1]
            if 0 <= row < dx.shape[1] and 0 <= column < dx.shape[2]:
                won = which[start:stop, i, j] == cell
                dx[start:stop, row, column] += np.where(won, g[start:stop, i, j], 0)


def avg_pool2d_forward_twin(
    x: np.ndarray, window: Window, y: np.ndarray, start: int, stop: int
) -> None:
    """y = mean of each window's cells within the image, for images start to stop.

    x: (N, H, W, C); y: (N, rows, columns, C).
    """
    for i, j, rows, columns in _windows(y.shape, window):
        part = _inside(rows, x.shape[1]), _inside(columns, x.shape[2])
        y[start:stop, i, j] = x[start:stop, part[0], part[1]].mean(axis=(1, 2))


def avg_pool2d_backward_twin(
    g: np.ndarray, window: Window, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx of images start to stop: each cell within the image gets its share.

    g: (N, rows, columns, C); dx: (N, H, W, C).
    """
    dx[start:stop] = 0
    for i, j, rows, columns in _windows(g.shape, window):
        near, across = _inside(rows, dx.shape[1]), _inside(columns, dx.shape[2])
        count = (near.stop - near.start) * (across.stop - across.start)
        dx[start:stop, near, across] += g[start:stop, i : i + 1, j : j + 1] / count


# -- compiled -------------------------------------------------------------------------------


@inner()
def _cut(position: int, stride: int, before: int, size: int, length: int) -> Any:
    """Where a window begins, and its first cell and the one after its last within the image."""
    begin = position * stride - before
    return begin, max(-begin, 0), min(length - begin, size)


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_times(x: Any, factor: Any, out: Any) -> None:
    """out += factor * x."""
    for k in range(out.size):
        out[k] += factor * x[k]


@kernel(twin=max_pool2d_forward_twin, outputs=("y", "which"))
def max_pool2d_forward(x: Any, window: Any, y: Any, which: Any, start: int, stop: int) -> None:
    size_h, size_w, stride_h, stride_w, top, left = window
    kind = which.dtype.type
    for n in range(start, stop):
        for i in range(y.shape[1]):
            row, low_i, high_i = _cut(i, stride_h, top, size_h, x.shape[1])
            for j in range(y.shape[2]):
                column, low_j, high_j = _cut(j, stride_w, left, size_w, x.shape[2])
                best, chosen = y[n, i, j], which[n, i, j]
                loops.copy(x[n, row + low_i, column + low_j], best)
                for c in range(chosen.size):
                    chosen[c] = low_i * size_w + low_j
                for a in range(low_i, high_i):
                    for b in range(low_j, high_j):
                        if a > low_i or b > low_j:
                            cell = kind(a * size_w + b)
                            windows.larger(x[n, row + a, column + b], cell, best, chosen)


@kernel(twin=max_pool2d_backward_twin, outputs=("dx",))
def max_pool2d_backward(g: Any, which: Any, window: Any, dx: Any, start: int, stop: int) -> None:
    size_h, size_w, stride_h, stride_w, top, left = window
    kind = which.dtype.type
    channels = dx.shape[3]
    row_of_g = np.empty(g.shape[2] * channels, g.dtype)  # what comes from one cell
    for n in range(start, stop):
        dx[n] = 0
        for i in range(g.shape[1]):
            row, low_i, high_i = _cut(i, stride_h, top, size_h, dx.shape[1])
            for a in range(low_i, high_i):
                for b in range(size_w):
                    cell = kind(a * size_w + b)
                    windows.where_chosen(g[n, i].ravel(), which[n, i].ravel(), cell, row_of_g)
                    for j in range(g.shape[2]):
                        column = j * stride_w - left + b
                        if 0 <= column < dx.shape[2]:
                            part = row_of_g[j * channels : (j + 1) * channels]
                            loops.add(part, dx[n, row + a, column])


@kernel(twin=avg_pool2d_forward_twin, outputs=("y",))
def avg_pool2d_forward(x: Any, window: Any, y: Any, start: int, stop: int) -> None:
    size_h, size_w, stride_h, stride_w, top, left = window
    one = y.dtype.type(1)
    for n in range(start, stop):
        for i in range(y.shape[1]):
            row, low_i, high_i = _cut(i, stride_h, top, size_h, x.shape[1])
            for j in range(y.shape[2]):
                column, low_j, high_j = _cut(j, stride_w, left, size_w, x.shape[2])
                share = one / y.dtype.type((high_i - low_i) * (high_j - low_j))
                total = y[n, i, j]
                total[:] = 0
                for a in range(low_i, high_i):
                    for b in range(low_j, high_j):
                        _add_times(x[n, row + a, column + b], share, total)


@kernel(twin=avg_pool2d_backward_twin, outputs=("dx",))
def avg_pool2d_backward(g: Any, window: Any, dx: Any, start: int, stop: int) -> None:
    size_h, size_w, stride_h, stride_w, top, left = window
    one = dx.dtype.type(1)
    for n in range(start, stop):
        dx[n] = 0
        for i in range(g.shape[1]):
            row, low_i, high_i = _cut(i, stride_h, top, size_h, dx.shape[1])
            for j in range(g.shape[2]):
                column, low_j, high_j = _cut(j, stride_w, left, size_w, dx.shape[2])
                share = one / dx.dtype.type((high_i - low_i) * (high_j - low_j))
                for a in range(low_i, high_i):
                    for b in range(low_j, high_j):
                        _add_times(g[n, i, j], share, dx[n, row + a, column + b])
