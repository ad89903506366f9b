"""LSTM over all time steps (Hochreiter and Schmidhuber 1997; gates as in TensorFlow).

    z_t = x_gates_t + bias + h_{t-1} W_h          (N, 4H), column blocks i, j, f, o
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(j)
    h_t = sigmoid(o) * tanh(c_t)

The caller multiplies the inputs by their weights (one large product for all T) and adds a
forget bias to ``bias``.  A batch row never meets another row, so ranges of rows are what
the threads share, each for the whole of time.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from . import elementary, tile
from .registry import FASTMATH, kernel


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def lstm_forward_twin(
    x_gates: np.ndarray, bias: np.ndarray, w_h: np.ndarray, h: np.ndarray, c: np.ndarray,
    gates: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """States and gates for batch rows start to stop.

    x_gates: (T, N, 4H); bias: (4H,); w_h: (H, 4H).
    h, c: (T + 1, N, H), entry 0 the initial state, the others written.
    gates: (T, N, 4H), written: sigmoid(i), tanh(j), sigmoid(f), sigmoid(o).
    """
    hidden = w_h.shape[0]
    rows = slice(start, stop)
    for t in range(x_gates.shape[0]):
        z = x_gates[t, rows] + bias + h[t, rows] @ w_h  # (n, 4H)
        zi, zj, zf, zo = (z[:, g * hidden : (g + 1) * hidden] for g in range(4))
        i, j, f, o = _sigmoid(zi), np.tanh(zj), _sigmoid(zf), _sigmoid(zo)
        c[t + 1, rows] = f * c[t, rows] + i * j
        h[t + 1, rows] = o * np.tanh(c[t + 1, rows])
        gates[t, rows] = np.concatenate([i, j, f, o], axis=1)


def lstm_backward_twin(
    gates: np.ndarray, c: np.ndarray, w_h: np.ndarray, d_out: np.ndarray, dh: np.ndarray,
    dc: np.ndarray, d_gates: np.ndarray, flow: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Back-propagation through time for batch rows start to stop.

    gates: (T, N, 4H) and c: (T + 1, N, H) from the forward pass; w_h: (H, 4H).
    d_out: (T, N, H), dL/dh_t from above at each step.
    dh, dc: (N, H), in: gradient of the last state; out: gradient of the initial state.
    d_gates: (T, N, 4H), written: dL/dz_t.
    flow: (2, T, N), written: squared norms of the total dL/dh_t and dL/dc_t of each row;
    an array of no entries means that nobody is watching.
    """
    hidden = w_h.shape[0]
    rows = slice(start, stop)
    for t in reversed(range(gates.shape[0])):
        i, j, f, o = (gates[t, rows, g * hidden : (g + 1) * hidden] for g in range(4))
        tanh_c = np.tanh(c[t + 1, rows])
        dh_t = d_out[t, rows] + dh[rows]
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
        dh[rows] = d_gates[t, rows] @ w_h.T


# Each loop below touches few arrays and counts from zero: then LLVM can check that they do
# not overlap, sees that no index is negative, and makes vector code of it.


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _sigmoid_row(x: Any) -> None:
    for k in range(x.size):
        x[k] = elementary.sigmoid(x[k])


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _tanh_row(x: Any) -> None:
    for k in range(x.size):
        x[k] = elementary.tanh(x[k])


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _activate(x: Any, bias: Any, z: Any, gates: Any) -> None:
    """gates = activations of x + bias + z for one row; all (4H,) (z may be longer)."""
    hidden = gates.size // 4
    for k in range(gates.size):
        gates[k] = x[k] + bias[k] + z[k]
    _sigmoid_row(gates[:hidden])
    _tanh_row(gates[hidden : 2 * hidden])
    _sigmoid_row(gates[2 * hidden :])


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _advance(i: Any, j: Any, f: Any, o: Any, c_before: Any, c: Any, h: Any) -> None:
    """New state of one row; all (H,)."""
    for k in range(c.size):
        c[k] = f[k] * c_before[k] + i[k] * j[k]
    for k in range(c.size):
        h[k] = o[k] * elementary.tanh(c[k])


@kernel(twin=lstm_forward_twin, outputs=("h", "c", "gates"), fastmath=FASTMATH)
def lstm_forward(
    x_gates: Any, bias: Any, w_h: Any, h: Any, c: Any, gates: Any, start: int, stop: int
) -> None:
    hidden = w_h.shape[0]
    panels = tile.pack(w_h)
    z = np.empty((stop - start, panels.shape[0] * panels.shape[2]), w_h.dtype)
    for t in range(x_gates.shape[0]):
        tile.product(h[t, start:stop], panels, z)
        for n in range(start, stop):
            g = gates[t, n]
            _activate(x_gates[t, n], bias, z[n - start], g)
            _advance(
                g[:hidden], g[hidden : 2 * hidden], g[2 * hidden : 3 * hidden],
                g[3 * hidden :], c[t, n], c[t + 1, n], h[t + 1, n],
            )  # fmt: skip


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _retreat_state(o: Any, c: Any, d_out: Any, dh: Any, dc: Any, tanh_c: Any) -> None:
    """Total gradients of h_t (into dh) and c_t (into dc) of one row; all (H,)."""
    for k in range(c.size):
        tanh_c[k] = elementary.tanh(c[k])
    for k in range(c.size):
        dh[k] += d_out[k]
    for k in range(c.size):
        dc[k] += dh[k] * o[k] * (1 - tanh_c[k] * tanh_c[k])


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _retreat_gates(g: Any, c_before: Any, dh: Any, dc: Any, tanh_c: Any, dz: Any) -> None:
    """dL/dz of one row (4H,), and dc (H,) taken one step back in time."""
    hidden = dc.size
    i, j, f, o = g[:hidden], g[hidden : 2 * hidden], g[2 * hidden : 3 * hidden], g[3 * hidden :]
    di, dj, df, do = (
        dz[:hidden], dz[hidden : 2 * hidden], dz[2 * hidden : 3 * hidden], dz[3 * hidden :],
    )  # fmt: skip
    for k in range(hidden):
        di[k] = dc[k] * j[k] * i[k] * (1 - i[k])
    for k in range(hidden):
        dj[k] = dc[k] * i[k] * (1 - j[k] * j[k])
    for k in range(hidden):
        df[k] = dc[k] * c_before[k] * f[k] * (1 - f[k])
    for k in range(hidden):
        do[k] = dh[k] * tanh_c[k] * o[k] * (1 - o[k])
    for k in range(hidden):
        dc[k] *= f[k]


@kernel(twin=lstm_backward_twin, outputs=("dh", "dc", "d_gates", "flow"), fastmath=FASTMATH)
def lstm_backward(
    gates: Any, c: Any, w_h: Any, d_out: Any, dh: Any, dc: Any, d_gates: Any, flow: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    hidden = w_h.shape[0]
    panels = tile.pack(w_h.T)
    back = np.empty((stop - start, panels.shape[0] * panels.shape[2]), w_h.dtype)
    tanh_c = np.empty(hidden, w_h.dtype)
    for t in range(gates.shape[0] - 1, -1, -1):
        for n in range(start, stop):
            g = gates[t, n]
            _retreat_state(g[3 * hidden :], c[t + 1, n], d_out[t, n], dh[n], dc[n], tanh_c)
            if flow.size:
                flow[0, t, n] = np.sum(dh[n] * dh[n])
                flow[1, t, n] = np.sum(dc[n] * dc[n])
            _retreat_gates(g, c[t, n], dh[n], dc[n], tanh_c, d_gates[t, n])
        tile.product(d_gates[t, start:stop], panels, back)
        for n in range(start, stop):
            for k in range(hidden):
                dh[n, k] = back[n - start, k]
