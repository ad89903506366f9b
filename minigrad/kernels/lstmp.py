"""LSTM with peepholes, projection and a clipped cell, over all time steps.

    z_t = x_gates_t + bias + h_{t-1} W_h                (N, 4H), column blocks i, j, f, o
    c_t = sigmoid(f + w_cf * c_{t-1}) * c_{t-1} + sigmoid(i + w_ci * c_{t-1}) * tanh(j)
    c_t limited to [-clip, clip]
    h_t = (sigmoid(o + w_co * c_t) * tanh(c_t)) W_p     (N, P)

Peepholes: Gers and Schmidhuber 2000, "Recurrent nets that time and count".  Projection: Sak,
Senior and Beaufays 2014 (LSTMP).  Gates and clipping as in TensorFlow's LSTMCell.  Threads
share ranges of rows, and the loops are those of the plain LSTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops, panels, tile
from .inner import inner
from .registry import FASTMATH, kernel


def lstmp_forward_twin(
    x_gates: np.ndarray, which: np.ndarray, ends: np.ndarray, bias: np.ndarray,
    w_h: np.ndarray, w_c: np.ndarray, w_p: np.ndarray, clip: float, h: np.ndarray,
    c: np.ndarray, gates: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """States and gates for batch rows start to stop.

    x_gates: (M, 4H), and which: (T, N) the row of it that is the input at (t, n).
    ends: (N,) int64, the length of each sequence.  From there on the state is copied, and
    the gates are those that keep a cell as it is: 0, 0, 1, 0.
    bias: (4H,); w_h: (P, 4H).
    w_c: (3, H), peepholes of the gates i, f, o; no entries: there are none.
    w_p: (H, P), projection; no entries: there is none, and P = H.
    clip: bound of the cell, in the dtype of the others; infinity for none.
    h: (T + 1, N, P), c: (T + 1, N, H), entry 0 the initial state, the others written.
    gates: (T, 4, N, H), written: sigmoid(i), tanh(j), sigmoid(f), sigmoid(o).
    """
    rows = slice(start, stop)
    ci, cf, co = w_c if w_c.size else np.zeros((3, c.shape[2]), c.dtype)
    for t in range(which.shape[0]):
        over = (t >= ends[rows])[:, None]
        before = c[t, rows]
        z = x_gates[which[t, rows]] + bias + h[t, rows] @ w_h  # (n, 4H)
        zi, zj, zf, zo = np.split(z, 4, axis=1)
        i = np.where(over, 0, loops.sigmoid(zi + ci * before))
        j = np.where(over, 0, np.tanh(zj))
        f = np.where(over, 1, loops.sigmoid(zf + cf * before))
        c_t = np.where(over, before, np.clip(f * before + i * j, -clip, clip))
        o = np.where(over, 0, loops.sigmoid(zo + co * c_t))
        m = o * np.tanh(c_t)  # (n, H)
        gates[t, :, rows] = i, j, f, o
        c[t + 1, rows] = c_t
        h[t + 1, rows] = np.where(over, h[t, rows], m @ w_p if w_p.size else m)


def lstmp_backward_twin(
    gates: np.ndarray, c: np.ndarray, ends: np.ndarray, w_h: np.ndarray, w_c: np.ndarray,
    w_p: np.ndarray, clip: float, d_out: np.ndarray, dh: np.ndarray, dc: np.ndarray,
    d_gates: np.ndarray, m: np.ndarray, d_h: np.ndarray, flow: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Back-propagation through time for batch rows start to stop.

    gates: (T, 4, N, H), c: (T + 1, N, H), ends, weights and clip: as in the forward pass.
    d_out: (T, N, P), dL/dh_t from above at each step, zero from the end of a sequence on.
    dh: (N, P), dc: (N, H), in: gradient of the last state; out: gradient of the initial state.
    d_gates: (T, N, 4H), written: dL/dz_t.
    m: (T, N, H), d_h: (T, N, P), written if there is a projection, for the gradient of w_p:
    what is projected, sigmoid(o) * tanh(c_t), and the total dL/dh_t.
    flow: (2, T, N), written: squared norms of the total dL/dh_t and dL/dc_t of each row;
    an array of no entries means that nobody is watching.
    """
    rows = slice(start, stop)
    ci, cf, co = w_c if w_c.size else np.zeros((3, c.shape[2]), c.dtype)
    for t in reversed(range(gates.shape[0])):
        over = (t >= ends[rows])[:, None]
        i, j, f, o = gates[t, :, rows]
        before = c[t, rows]
        tanh_c = np.tanh(c[t + 1, rows])
        dh_t = dm = d_out[t, rows] + dh[rows]
        if w_p.size:
            m[t, rows] = o * tanh_c
            d_h[t, rows] = dh_t
            dm = dh_t @ w_p.T
        dzo = dm * tanh_c * o * (1 - o)
        dc_t = dc[rows] + dm * o * (1 - tanh_c * tanh_c) + dzo * co
        if flow.size:
            flow[0, t, rows] = np.sum(dh_t * dh_t, axis=1)
            flow[1, t, rows] = np.sum(dc_t * dc_t, axis=1)
        cut = ~over & (np.abs(f * before + i * j) > clip)
        dc_t = np.where(cut, 0, dc_t)
        dzi = dc_t * j * i * (1 - i)
        dzj = dc_t * i * (1 - j * j)
        dzf = dc_t * before * f * (1 - f)
        d_gates[t, rows] = np.concatenate([dzi, dzj, dzf, dzo], axis=1)
        dc[rows] = dc_t * f + dzi * ci + dzf * cf
        dh[rows] = np.where(over, dh_t, d_gates[t, rows] @ w_h.T)


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_product(w: Any, x: Any, y: Any) -> None:
    """y += w * x, a row at a time.  w: (H,); x, y: (n, H)."""
    for n in range(x.shape[0]):
        for k in range(x.shape[1]):
            y[n, k] += w[k] * x[n, k]


@inner(fastmath=FASTMATH, error_model="numpy")
def _limit(x: Any, bound: Any) -> None:
    for k in range(x.size):
        low = -bound if x[k] < -bound else x[k]  # written so that a NaN passes
        x[k] = bound if low > bound else low


@inner(fastmath=FASTMATH, error_model="numpy")
def _stop_at_limit(x: Any, bound: Any, dx: Any) -> None:
    """dx = 0 where x is beyond the bound."""
    for k in range(x.size):
        if abs(x[k]) > bound:
            dx[k] = 0


@kernel(twin=lstmp_forward_twin, outputs=("h", "c", "gates"), fastmath=FASTMATH)
def lstmp_forward(
    x_gates: Any, which: Any, ends: Any, bias: Any, w_h: Any, w_c: Any, w_p: Any, clip: Any,
    h: Any, c: Any, gates: Any, start: int, stop: int,
) -> None:  # fmt: skip
    rows, hidden = stop - start, c.shape[2]
    gate_panels = loops.pack_gates(w_h, 1)
    z = np.empty((rows, gate_panels.shape[1] * gate_panels.shape[3]), w_h.dtype)
    down = panels.pack(w_p, False, 0, w_p.shape[0], 0, w_p.shape[1])
    projected = np.empty((rows, down.shape[0] * down.shape[2]), w_h.dtype)
    m = np.empty((rows, hidden), w_h.dtype)
    for t in range(which.shape[0]):
        for g in range(4):
            tile.product(h[t, start:stop], gate_panels[g], hidden, z)
            loops.add_inputs(
                x_gates, which[t, start:stop], bias, g * hidden, z, 0, gates[t, g, start:stop]
            )
        i, j, f, o = (
            gates[t, 0, start:stop].ravel(), gates[t, 1, start:stop].ravel(),
            gates[t, 2, start:stop].ravel(), gates[t, 3, start:stop].ravel(),
        )  # fmt: skip
        new_c = c[t + 1, start:stop].ravel()
        if w_c.size:
            _add_product(w_c[0], c[t, start:stop], gates[t, 0, start:stop])
            _add_product(w_c[1], c[t, start:stop], gates[t, 2, start:stop])
        loops.sigmoid_all(i)
        loops.tanh_all(j)
        loops.sigmoid_all(f)
        loops.new_cell(i, j, f, c[t, start:stop].ravel(), new_c)
        if clip < np.inf:
            _limit(new_c, clip)
        if w_c.size:
            _add_product(w_c[2], c[t + 1, start:stop], gates[t, 3, start:stop])
        loops.sigmoid_all(o)
        loops.tanh_of(new_c, m.ravel())
        loops.times(o, m.ravel())
        if w_p.size:
            tile.product(m, down, w_p.shape[1], projected)
        for n in range(rows):
            if t >= ends[start + n]:
                loops.keep_cell(gates, t, start + n)
                loops.copy(c[t, start + n], c[t + 1, start + n])
                loops.copy(h[t, start + n], h[t + 1, start + n])
            elif w_p.size:
                loops.copy(projected[n], h[t + 1, start + n])
            else:
                loops.copy(m[n], h[t + 1, start + n])


@kernel(
    twin=lstmp_backward_twin,
    outputs=("dh", "dc", "d_gates", "m", "d_h", "flow"),
    fastmath=FASTMATH,
)
def lstmp_backward(
    gates: Any, c: Any, ends: Any, w_h: Any, w_c: Any, w_p: Any, clip: Any, d_out: Any, dh: Any,
    dc: Any, d_gates: Any, m: Any, d_h: Any, flow: Any, start: int, stop: int,
) -> None:  # fmt: skip
    rows, hidden = stop - start, c.shape[2]
    turned = panels.pack(w_h, True, 0, w_h.shape[1], 0, w_h.shape[0])
    back = np.empty((rows, turned.shape[0] * turned.shape[2]), w_h.dtype)
    up = panels.pack(w_p, True, 0, w_p.shape[1], 0, w_p.shape[0])
    unprojected = np.empty((rows, up.shape[0] * up.shape[2]), w_h.dtype)
    dm = np.empty((rows, hidden), w_h.dtype)
    dz = np.empty((4, rows, hidden), w_h.dtype)
    tanh_c = np.empty(rows * hidden, w_h.dtype)
    raw_c = np.empty((rows, hidden), w_h.dtype)
    dh_all, dc_all = dh[start:stop].ravel(), dc[start:stop].ravel()
    for t in range(gates.shape[0] - 1, -1, -1):
        i, j, f, o = (
            gates[t, 0, start:stop].ravel(), gates[t, 1, start:stop].ravel(),
            gates[t, 2, start:stop].ravel(), gates[t, 3, start:stop].ravel(),
        )  # fmt: skip
        before = c[t, start:stop].ravel()
        loops.tanh_of(c[t + 1, start:stop].ravel(), tanh_c)
        loops.add(d_out[t, start:stop].ravel(), dh_all)  # now the total dL/dh_t
        if w_p.size:
            loops.copy(tanh_c, m[t, start:stop].ravel())
            loops.times(o, m[t, start:stop].ravel())
            loops.copy(dh_all, d_h[t, start:stop].ravel())
            tile.product(dh[start:stop], up, w_p.shape[0], unprojected)
            for n in range(rows):
                loops.copy(unprojected[n], dm[n])
        else:
            loops.copy(dh_all, dm.ravel())
        loops.through_sigmoid(dm.ravel(), tanh_c, o, dz[3], np.intp(0))
        loops.total_cell_gradient(dm.ravel(), o, tanh_c, dc_all)
        if w_c.size:
            _add_product(w_c[2], dz[3], dc[start:stop])  # now the total dL/dc_t
        if flow.size:
            for n in range(start, stop):
                flow[0, t, n] = loops.square_sum(dh[n])
                flow[1, t, n] = loops.square_sum(dc[n])
        if clip < np.inf:
            loops.new_cell(i, j, f, before, raw_c.ravel())
            for n in range(rows):
                if t < ends[start + n]:
                    _stop_at_limit(raw_c[n], clip, dc[start + n])
        loops.through_sigmoid(dc_all, j, i, dz[0], np.intp(0))
        loops.through_tanh(dc_all, i, j, dz[1], np.intp(0))
        loops.through_sigmoid(dc_all, before, f, dz[2], np.intp(0))
        loops.times(f, dc_all)
        if w_c.size:
            _add_product(w_c[0], dz[0], dc[start:stop])
            _add_product(w_c[1], dz[2], dc[start:stop])
        for n in range(rows):  # from blocks to rows, as the products want them
            for g in range(4):
                loops.copy(dz[g, n], d_gates[t, start + n, g * hidden : (g + 1) * hidden])
        tile.product(d_gates[t, start:stop], turned, w_h.shape[0], back)
        for n in range(rows):
            if t < ends[start + n]:
                loops.copy(back[n], dh[start + n])
