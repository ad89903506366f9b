"""Gradients of a convolution that is followed at once by max-pooling.

Of the cells of a pooling window one gets the gradient, and with relu often none: three quarters
and more of the numbers that a product over all pixels would multiply by are zero.  Here only the
others are taken.  Each stands for one output channel at one pixel, and meets there what its window
sees: for each row of the kernel the KW * C numbers that lie together in the padded image.

    dw of a channel  += value * what the window sees, for each of its values
    dx in the window += value * the weights of the channel

Axis letters and ``window`` as in conv.py; P pooled pixels of an image; L = KW * C, the length of
such a run, rounded up to whole panels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import conv, loops, panels, tile, windows
from .inner import inner
from .registry import kernel

# -- the twins ------------------------------------------------------------------------------


def pooled_input_gradient_twin(
    g: np.ndarray, y: np.ndarray, which: np.ndarray, relu: bool, w: np.ndarray,
    window: conv.Window, pool: tuple[int, int], dx: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """As conv2d_input_gradient, for one group, a horizontal dilation of 1 and a pool."""
    conv.conv2d_input_gradient_twin(g, y, which, relu, w, window, 1, pool, dx, start, stop)


def pooled_weight_gradient_twin(
    x: np.ndarray, g: np.ndarray, y: np.ndarray, which: np.ndarray, relu: bool,
    window: conv.Window, pool: tuple[int, int], dw: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """As conv2d_weight_gradient, for one group, a horizontal dilation of 1 and a pool."""
    conv.conv2d_weight_gradient_twin(x, g, y, which, relu, window, 1, pool, dw, start, stop)


# -- compiled -------------------------------------------------------------------------------


@inner()
def _run_length(w: Any) -> int:
    """L of weights (KH, KW, I, O)."""
    step = tile.width(w.dtype)
    return (w.shape[1] * w.shape[2] + step - 1) // step * step


@inner()
def _passed(g: Any, y: Any, relu: bool, out: Any) -> None:
    """out = what comes back through relu.  All flat."""
    if relu:
        windows.where_positive(g, y, out)
    else:
        loops.copy(g, out)


@inner(error_model="numpy")
def _values_of_channel(
    g: Any, which: Any, channel: int, channels: int, pixels: Any, values: Any, places: Any
) -> int:
    """The values of one channel that are not zero, and where their windows begin; how many.

    g, which: flat (P * O); pixels: (cells * P,), cell after cell.
    """
    pooled = g.size // channels
    count = 0
    for p in range(pooled):
        value = g[p * channels + channel]
        values[count] = value
        places[count] = pixels[which[p * channels + channel] * pooled + p]
        count += value != 0
    return count


@kernel(
    twin=pooled_weight_gradient_twin, outputs=("dw",), pieces=4,
    magnitude=conv.largest(pooled_weight_gradient_twin, 7),
)  # fmt: skip
def pooled_weight_gradient(
    x: Any, g: Any, y: Any, which: Any, relu: bool, window: Any, pool: Any, dw: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    kernel_h, kernel_w, inputs, outputs = dw.shape[1:]
    image = windows.empty_padded(x, kernel_h, kernel_w, window)
    length, used = _run_length(dw[0]), kernel_w * inputs
    # the last runs may reach beyond the image, into numbers that change nothing we keep
    buffer = panels.zeros(image.size + length, x)
    padded = buffer[: image.size].reshape(image.shape)
    down, pooled = image.shape[1] * inputs, y.shape[1] * y.shape[2]
    order = windows.pixel_order(window[6], window[7], pool, max(pooled, 1))
    pixels = windows.pixel_table(order, window[0] * down, window[1] * inputs)
    back = np.empty(pooled * outputs, x.dtype)
    values, places = np.empty(pooled + 1, x.dtype), np.empty(pooled + 1, np.intp)
    flat = panels.zeros(outputs * kernel_h * length, x)
    sums = flat.reshape(outputs, kernel_h * length)
    for part in range(start, stop):
        flat[:] = 0
        for n in range(part * len(x) // len(dw), (part + 1) * len(x) // len(dw)):
            windows.lay_in(x[n], window[4], window[5], padded)
            _passed(g[n].ravel(), y[n].ravel(), relu, back)
            won = which[n].ravel()
            for o in range(outputs):
                count = _values_of_channel(back, won, o, outputs, pixels, values, places)
                for i in range(kernel_h if count else 0):
                    tile.add_rows(
                        values[:count], places[:count], buffer, i * window[2] * down, flat,
                        (o * kernel_h + i) * length, length,
                    )  # fmt: skip
        result = dw[part].reshape(kernel_h * used, outputs)
        for i in range(kernel_h):
            panels.turn(sums, i * length, result[i * used : (i + 1) * used])


@inner()
def _by_channel(w: Any, length: int) -> Any:
    """w (KH, KW, I, O) as (O, KH, L), zeros at the end of each run."""
    kernel_h, kernel_w, inputs, outputs = w.shape
    used = kernel_w * inputs
    result = panels.zeros(outputs * kernel_h * length, w).reshape(outputs, kernel_h, length)
    flat = w.reshape(kernel_h, used, outputs)
    for o in range(outputs):
        for i in range(kernel_h):
            for k in range(used):
                result[o, i, k] = flat[i, k, o]
    return result


@inner(error_model="numpy")
def _values_of_cells(
    g: Any, which: Any, apart: int, room: int, counts: Any, values: Any, rows: Any
) -> None:
    """The values that are not zero of one pooled pixel, cell by cell, and whose weights they meet.

    g, which: (O,); counts: (cells,); values, rows: flat, with ``room`` for each cell; apart: from
    the weights of one channel to those of the next.
    """
    for cell in range(counts.size):
        counts[cell] = 0
    for o in range(g.size):
        won = np.intp(which[o])
        place = won * room + counts[won]
        values[place], rows[place] = g[o], o * apart
        counts[won] += g[o] != 0


@kernel(
    twin=pooled_input_gradient_twin, outputs=("dx",), pieces=4,
    magnitude=conv.largest(pooled_input_gradient_twin, 7),
)  # fmt: skip
def pooled_input_gradient(
    g: Any, y: Any, which: Any, relu: bool, w: Any, window: Any, pool: Any, dx: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    kernel_h, kernel_w, inputs, outputs = w.shape
    image = windows.empty_padded(dx, kernel_h, kernel_w, window)
    length, used = _run_length(w), kernel_w * inputs
    padded = panels.zeros(image.size, w)
    across, down = inputs, image.shape[1] * inputs
    pooled, cells = y.shape[1] * y.shape[2], pool[0] * pool[1]
    order = windows.pixel_order(window[6], window[7], pool, max(pooled, 1))
    pixels = windows.pixel_table(order, window[0] * down, window[1] * across)
    weights = _by_channel(w, length).ravel()
    back = np.empty(pooled * outputs, w.dtype)
    counts = np.empty((pooled, cells), np.intp)
    room = outputs + 1  # for the values of a cell, and one to be written over
    values = np.empty(pooled * cells * room, w.dtype)
    rows = np.empty(values.size, np.intp)
    run = np.empty(length, w.dtype)
    for n in range(start, stop):
        _passed(g[n].ravel(), y[n].ravel(), relu, back)
        won = which[n].ravel()
        for p in range(pooled):
            own, theirs = slice(p * outputs, (p + 1) * outputs), p * cells * room
            _values_of_cells(
                back[own], won[own], kernel_h * length, room, counts[p], values[theirs:],
                rows[theirs:],
            )  # fmt: skip
        padded[:] = 0
        for i in range(kernel_h):  # outermost: one row of all weights stays in cache
            for p in range(pooled):
                for cell in range(cells):
                    count = counts[p, cell]
                    if count == 0:
                        continue
                    place = pixels[cell * pooled + p] + i * window[2] * down
                    theirs = (p * cells + cell) * room
                    if used < length:
                        run[:] = 0
                    c, c_start = (padded, place) if used == length else (run, 0)
                    tile.add_rows(
                        values[theirs : theirs + count], rows[theirs : theirs + count], weights,
                        i * length, c, c_start, length,
                    )  # fmt: skip
                    if used < length:
                        loops.add(run[:used], padded[place : place + used])
        for i in range(dx.shape[1]):
            row = dx[n, i].ravel()
            begin = (window[4] + i) * down + window[5] * inputs
            loops.copy(padded[begin : begin + row.size], row)
