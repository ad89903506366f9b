"""LSTM over all time steps (Hochreiter and Schmidhuber 1997; gates as in TensorFlow).

    z_t = x_gates_t + bias + h_{t-1} W_h          (N, 4H), column blocks i, j, f, o
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(j)
    h_t = sigmoid(o) * tanh(c_t)

The caller multiplies the inputs by their weights (one large product for all T; nothing at
all for ids, whose rows are looked up here) and adds a forget bias to ``bias``.  A batch row
never meets another row, so ranges of rows are what the threads share, each for the whole of
time.

Where sequences end early, a range is done in blocks of a few rows, and of a block only the
rows up to the last that is still running: if the long ones come first in each block, nothing is
computed for padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops, panels, tile
from .inner import inner
from .registry import FASTMATH, kernel


def lstm_forward_twin(
    x_gates: np.ndarray, which: np.ndarray, ends: np.ndarray, bias: np.ndarray,
    w_h: np.ndarray, h: np.ndarray, c: np.ndarray, gates: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """States and gates for batch rows start to stop.

    x_gates: (M, 4H), and which: (T, N) the row of it that is the input at (t, n).
    ends: (N,) int64, the length of each sequence.  From there on the state is copied, and
    the gates are those that keep a cell as it is: 0, 0, 1, 0.
    bias: (4H,); w_h: (H, 4H).
    h, c: (T + 1, N, H), entry 0 the initial state, the others written.
    gates: (T, 4, N, H), written: sigmoid(i), tanh(j), sigmoid(f), sigmoid(o).
    """
    rows = slice(start, stop)
    for t in range(which.shape[0]):
        z = x_gates[which[t, rows]] + bias + h[t, rows] @ w_h  # (n, 4H)
        zi, zj, zf, zo = np.split(z, 4, axis=1)
        over = (t >= ends[rows])[:, None]
        i, j, f, o = gates[t, :, rows] = (
            np.where(over, 0, loops.sigmoid(zi)),
            np.where(over, 0, np.tanh(zj)),
            np.where(over, 1, loops.sigmoid(zf)),
            np.where(over, 0, loops.sigmoid(zo)),
        )
        c[t + 1, rows] = f * c[t, rows] + i * j
        h[t + 1, rows] = np.where(over, h[t, rows], o * np.tanh(c[t + 1, rows]))


def lstm_backward_twin(
    gates: np.ndarray, c: np.ndarray, ends: np.ndarray, w_h: np.ndarray, d_out: np.ndarray,
    dh: np.ndarray, dc: np.ndarray, d_gates: np.ndarray, flow: np.ndarray, wanted: bool,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Back-propagation through time for batch rows start to stop.

    gates: (T, 4, N, H) and c: (T + 1, N, H) from the forward pass; ends: (N,); w_h: (H, 4H).
    d_out: (T, N, H), dL/dh_t from above at each step, zero from the end of a sequence on; of no
    entries if nothing comes from there.
    dh, dc: (N, H), in: gradient of the last state; out: gradient of the initial state, if that is
    ``wanted``; else something on the way to it.
    d_gates: (T, N, 4H), written: dL/dz_t.
    flow: (2, T, N), written: squared norms of the total dL/dh_t and dL/dc_t of each row;
    an array of no entries means that nobody is watching.
    """
    rows = slice(start, stop)
    for t in reversed(range(gates.shape[0])):
        i, j, f, o = gates[t, :, rows]
        tanh_c = np.tanh(c[t + 1, rows])
        dh_t = d_out[t, rows] + dh[rows] if d_out.size else dh[rows].copy()
        dc_t = dc[rows] + dh_t * o * (1 - tanh_c * tanh_c)
        if flow.size:
            flow[0, t, rows] = np.sum(dh_t * dh_t, axis=1)
            flow[1, t, rows] = np.sum(dc_t * dc_t, axis=1)
        d_gates[t, rows] = np.concatenate(
            [
                dc_t * j * i * (1 - i),
                dc_t * i * (1 - j * j),
                dc_t * c[t, rows] * f * (1 - f),
                dh_t * tanh_c * o * (1 - o),
            ],
            axis=1,
        )
        dc[rows] = dc_t * f
        stays = (t >= ends[rows])[:, None] if t or wanted else True
        dh[rows] = np.where(stays, dh_t, d_gates[t, rows] @ w_h.T)


@inner()
def new_state(
    gates: Any, h: Any, c: Any, ends: Any, t: int, first: int, live: int, last: int
) -> None:
    """h and c of step t + 1 for rows first to last.

    gates: (T, 4, N, H), at step t in: z of rows first to live; out: sigmoid(i), tanh(j), ...
    """
    i, j, f, o = (
        gates[t, 0, first:live].ravel(), gates[t, 1, first:live].ravel(),
        gates[t, 2, first:live].ravel(), gates[t, 3, first:live].ravel(),
    )  # fmt: skip
    new_h = h[t + 1, first:live].ravel()
    new_c = c[t + 1, first:live].ravel()
    loops.lstm_cell(i, j, f, o, c[t, first:live].ravel(), new_c, new_h)
    for n in range(first, last):
        if t >= ends[n]:
            loops.keep_cell(gates, t, n)
            loops.copy(h[t, n], h[t + 1, n])
            loops.copy(c[t, n], c[t + 1, n])


@inner()
def through_cell(
    gates: Any, c: Any, d_out: Any, dh: Any, dc: Any, flow: Any, t: int, first: int, live: int,
    last: int, dz: Any, space: Any,
) -> None:  # fmt: skip
    """Back through step t for rows first to live, as far as dL/dz.

    dh, dc: (N, H), in: from the steps behind; out: the total dL/dh_t, and dL/dc of the step
    before.  dz: (n, 4H), written; space: (at least n * H,).
    """
    hidden = c.shape[2]
    i, j, f, o = (
        gates[t, 0, first:live].ravel(), gates[t, 1, first:live].ravel(),
        gates[t, 2, first:live].ravel(), gates[t, 3, first:live].ravel(),
    )  # fmt: skip
    tanh_c = space[: (live - first) * hidden]
    dh_all, dc_all = dh[first:live].ravel(), dc[first:live].ravel()
    loops.tanh_of(c[t + 1, first:live].ravel(), tanh_c)
    if d_out.size:
        loops.add(d_out[t, first:live].ravel(), dh_all)  # now the total dL/dh_t
    loops.total_cell_gradient(dh_all, o, tanh_c, dc_all)  # now the total dL/dc_t
    if flow.size:
        for n in range(first, last):
            flow[0, t, n] = loops.square_sum(dh[n])
            flow[1, t, n] = loops.square_sum(dc[n])
    zero = np.intp(0)
    loops.through_sigmoid(dc_all, j, i, dz, zero)
    loops.through_tanh(dc_all, i, j, dz, zero + hidden)
    loops.through_sigmoid(dc_all, c[t, first:live].ravel(), f, dz, 2 * hidden)
    loops.through_sigmoid(dh_all, tanh_c, o, dz, 3 * hidden)
    loops.times(f, dc_all)


@kernel(twin=lstm_forward_twin, outputs=("h", "c", "gates"), fastmath=FASTMATH)
def lstm_forward(
    x_gates: Any, which: Any, ends: Any, bias: Any, w_h: Any, h: Any, c: Any, gates: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    hidden = w_h.shape[0]
    steps = which.shape[0]
    together = loops.gates_together(w_h)
    gate_panels = loops.pack_gates(w_h, together)
    block = loops.rows_together(ends, steps, start, stop)
    space = np.empty((block, gate_panels.shape[1] * gate_panels.shape[3]), w_h.dtype)
    for first in range(start, stop, block):
        last = min(first + block, stop)
        for t in range(steps):
            live = loops.running(ends, t, first, last)  # the rows behind have all ended
            z = space[: live - first]
            still = t == 0 and loops.nothing(h[0, first:live])
            if still:
                loops.fill(z.ravel(), z.dtype.type(0))
            for g in range(4):
                if g % together == 0 and not still:
                    tile.product(h[t, first:live], gate_panels[g // together], together * hidden, z)
                loops.add_inputs(
                    x_gates, which[t, first:live], bias, g * hidden, z, g % together * hidden,
                    gates[t, g, first:live],
                )  # fmt: skip
            new_state(gates, h, c, ends, t, first, live, last)


@kernel(twin=lstm_backward_twin, outputs=("dh", "dc", "d_gates", "flow"), fastmath=FASTMATH)
def lstm_backward(
    gates: Any, c: Any, ends: Any, w_h: Any, d_out: Any, dh: Any, dc: Any, d_gates: Any,
    flow: Any, wanted: bool, start: int, stop: int,
) -> None:  # fmt: skip
    hidden = w_h.shape[0]
    steps = gates.shape[0]
    turned = panels.pack(w_h, True, 0, w_h.shape[1], 0, hidden)
    block = loops.rows_together(ends, steps, start, stop)
    space = np.empty((block, turned.shape[0] * turned.shape[2]), w_h.dtype)
    tanh_of_c = np.empty(block * hidden, w_h.dtype)
    for first in range(start, stop, block):
        last = min(first + block, stop)
        for t in range(steps - 1, -1, -1):
            live = loops.running(ends, t, first, last)
            rows = live - first
            back = space[:rows]
            dz = d_gates[t, first:live]
            through_cell(gates, c, d_out, dh, dc, flow, t, first, live, last, dz, tanh_of_c)
            d_gates[t, live:last] = 0
            if t == 0 and not wanted:
                continue
            tile.product(dz, turned, hidden, back)
            for n in range(rows):
                if t < ends[first + n]:
                    loops.copy(back[n], dh[first + n])
