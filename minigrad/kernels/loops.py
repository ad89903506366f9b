"""Loops over numbers that the recurrent kernels share.

Each touches few arrays and counts from zero: then LLVM can check that they do not overlap,
sees that no index is negative, and makes vector code of it.  A plain number beside a float32
would make float64 arithmetic of it, hence ``one = x.dtype.type(1)``.

The gates of a time step lie in blocks of (N, H), so that a loop runs over all rows of a range
at once: most arrays here are such blocks, flat.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import elementary, panels, tile
from .inner import inner
from .registry import FASTMATH


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e ** -x) without overflow, for the twins."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


BLOCK = 32  # rows done together where sequences end early


@inner()
def rows_together(ends: Any, steps: int, start: int, stop: int) -> int:
    """How many rows of a range to do at a time: all if every one runs to the end."""
    for n in range(start, stop):
        if ends[n] < steps:
            return BLOCK
    return max(stop - start, 1)


@inner()
def running(ends: Any, t: int, first: int, last: int) -> int:
    """One behind the last of the rows first to last that has not ended at step t."""
    live = last
    while live > first and t >= ends[live - 1]:
        live -= 1
    return live


@inner(fastmath=FASTMATH, error_model="numpy")
def sigmoid_all(x: Any) -> None:
    """x = sigmoid(x)."""
    elementary.wide_vectors()
    for k in range(x.size):
        x[k] = elementary.sigmoid(x[k])


@inner(fastmath=FASTMATH, error_model="numpy")
def tanh_all(x: Any) -> None:
    """x = tanh(x)."""
    elementary.wide_vectors()
    for k in range(x.size):
        x[k] = elementary.tanh(x[k])


@inner(fastmath=FASTMATH, error_model="numpy")
def tanh_of(x: Any, y: Any) -> None:
    """y = tanh(x)."""
    elementary.wide_vectors()
    for k in range(x.size):
        y[k] = elementary.tanh(x[k])


@inner(error_model="numpy")
def copy(x: Any, y: Any) -> None:
    """y = x."""
    for k in range(y.size):
        y[k] = x[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def add(x: Any, y: Any) -> None:
    """y += x."""
    for k in range(x.size):
        y[k] += x[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def times(x: Any, y: Any) -> None:
    """y *= x."""
    for k in range(x.size):
        y[k] *= x[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def square_sum(x: Any) -> Any:
    """Sum of the squares of x, which is not empty."""
    total = x[0] * x[0]
    for k in range(x.size - 1):
        total += x[k + 1] * x[k + 1]
    return total


@inner(fastmath=FASTMATH, error_model="numpy")
def add_inputs(
    x: Any, which: Any, bias: Any, first: int, z: Any, place: int, out: Any
) -> None:
    """out = x[which] + bias + z for the columns of one gate, which begin at ``first``.

    x: (M, 4H); which: (n,); bias: (4H,); z: (n, at least H), where they begin at ``place``;
    out: (n, H).
    """
    for n in range(out.shape[0]):
        row = which[n]
        for k in range(out.shape[1]):
            column = np.uintp(first) + np.uintp(k)  # unsigned: an index that never wraps
            out[n, k] = z[n, np.uintp(place) + np.uintp(k)] + x[row, column] + bias[column]


@inner()
def gates_together(w: Any) -> int:
    """How many gates of w (K, 4H) to multiply at once.

    Gates whose columns fill panels are done one by one: their results stay in the first cache.
    """
    return 1 if w.shape[1] // 4 % tile.width(w.dtype) == 0 else 4


@inner()
def pack_gates(w: Any, together: int) -> Any:
    """Panels of w (K, 4H) for so many gates together: (4 / together, P, K, width)."""
    depth, columns = w.shape[0], w.shape[1] // 4 * together
    step = tile.width(w.dtype)
    count = (columns + step - 1) // step
    packed = panels.room(4 // together * count * depth * step, w)
    for g in range(4 // together):
        panels.pack_panels(
            w, False, 0, depth, g * columns, columns, packed, g * count * depth * step,
            depth * step,
        )  # fmt: skip
    return packed.reshape(4 // together, count, depth, step)


@inner(fastmath=FASTMATH, error_model="numpy")
def new_cell(i: Any, j: Any, f: Any, c_before: Any, c: Any) -> None:
    """c' = f c + i j."""
    for k in range(c.size):
        c[k] = f[k] * c_before[k] + i[k] * j[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def lstm_cell(i: Any, j: Any, f: Any, o: Any, c_before: Any, c: Any, h: Any) -> None:
    """c' and h' of an LSTM, and its gates: z in, sigmoid(i), tanh(j), ... out.  (n * H,) each."""
    elementary.wide_vectors()
    for k in range(c.size):
        now_i, now_j = elementary.sigmoid(i[k]), elementary.tanh(j[k])
        now_f, now_o = elementary.sigmoid(f[k]), elementary.sigmoid(o[k])
        now_c = now_f * c_before[k] + now_i * now_j
        i[k], j[k], f[k], o[k], c[k] = now_i, now_j, now_f, now_o, now_c
        h[k] = now_o * elementary.tanh(now_c)


@inner()
def nothing(x: Any) -> bool:
    """Whether all of x (n, H) is zero: then its product with a matrix is as well."""
    for n in range(x.shape[0]):
        for k in range(x.shape[1]):
            if x[n, k] != 0:
                return False
    return True


@inner()
def fill(x: Any, value: Any) -> None:
    """x = value."""
    for k in range(x.size):
        x[k] = value


@inner()
def keep_cell(gates: Any, t: int, n: int) -> None:
    """Gates (T, 4, N, H) at step t of row n that leave its cell as it is."""
    for g in range(4):
        fill(gates[t, g, n], gates.dtype.type(g == 2))


@inner(fastmath=FASTMATH, error_model="numpy")
def total_cell_gradient(dh: Any, o: Any, tanh_c: Any, dc: Any) -> None:
    """dc += what comes through the output gate from dh."""
    one = dc.dtype.type(1)
    for k in range(dc.size):
        dc[k] += dh[k] * o[k] * (one - tanh_c[k] * tanh_c[k])


@inner(fastmath=FASTMATH, error_model="numpy")
def through_sigmoid(upper: Any, factor: Any, y: Any, dz: Any, place: int) -> None:
    """dz = upper * factor * sigmoid', from the sigmoid's value y.

    upper, factor, y: (n * H,); dz: (n, at least H), where columns from ``place`` are written.
    """
    one = dz.dtype.type(1)
    rows = dz.shape[0]
    hidden = upper.size // max(1, rows)
    for n in range(rows):
        for k in range(hidden):
            at, to = np.uintp(n * hidden) + np.uintp(k), np.uintp(place) + np.uintp(k)
            dz[n, to] = upper[at] * factor[at] * y[at] * (one - y[at])


@inner(fastmath=FASTMATH, error_model="numpy")
def through_tanh(upper: Any, factor: Any, y: Any, dz: Any, place: int) -> None:
    """dz = upper * factor * tanh', from the tanh's value y; arrays as in through_sigmoid."""
    one = dz.dtype.type(1)
    rows = dz.shape[0]
    hidden = upper.size // max(1, rows)
    for n in range(rows):
        for k in range(hidden):
            at, to = np.uintp(n * hidden) + np.uintp(k), np.uintp(place) + np.uintp(k)
            dz[n, to] = upper[at] * factor[at] * (one - y[at] * y[at])
