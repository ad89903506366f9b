"""The plain recurrent layer over all time steps (Elman 1990, "Finding structure in time").

    h_t = tanh(x_t + bias + h_{t-1} W_h)        (N, H), or relu

The caller multiplies the inputs by their weights, as for the LSTM.  Nothing but the states is
kept for the way back: the derivative of tanh and of relu follows from its value.  Threads share
ranges of rows, and the loops are those of the LSTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops, panels, tile
from .inner import inner
from .registry import FASTMATH, kernel


def rnn_forward_twin(
    x: np.ndarray, which: np.ndarray, ends: np.ndarray, bias: np.ndarray, w_h: np.ndarray,
    relu: bool, h: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """States for batch rows start to stop.

    x: (M, H), and which: (T, N) the row of it that is the input at (t, n).
    ends: (N,) int64, the length of each sequence.  From there on the state is copied.
    bias: (H,); w_h: (H, H); relu: whether instead of tanh.
    h: (T + 1, N, H), entry 0 the initial state, the others written.
    """
    rows = slice(start, stop)
    for t in range(which.shape[0]):
        z = x[which[t, rows]] + bias + h[t, rows] @ w_h  # (n, H)
        over = (t >= ends[rows])[:, None]
        h[t + 1, rows] = np.where(over, h[t, rows], np.maximum(z, 0) if relu else np.tanh(z))


def rnn_backward_twin(
    h: np.ndarray, ends: np.ndarray, w_h: np.ndarray, relu: bool, d_out: np.ndarray,
    dh: np.ndarray, d_x: np.ndarray, flow: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Back-propagation through time for batch rows start to stop.

    h: (T + 1, N, H) from the forward pass; ends: (N,); w_h: (H, H); relu: as there.
    d_out: (T, N, H), dL/dh_t from above at each step, zero from the end of a sequence on.
    dh: (N, H), in: gradient of the last state; out: gradient of the initial state.
    d_x: (T, N, H), written: gradient of what goes into tanh or relu, 0 past the end.
    flow: (1, T, N), written: squared norms of the total dL/dh_t of each row; an array of no
    entries means that nobody is watching.
    """
    rows = slice(start, stop)
    for t in reversed(range(d_x.shape[0])):
        y = h[t + 1, rows]
        over = (t >= ends[rows])[:, None]
        dh_t = d_out[t, rows] + dh[rows]
        if flow.size:
            flow[0, t, rows] = np.sum(dh_t * dh_t, axis=1)
        d_x[t, rows] = np.where(over, 0, dh_t * ((y > 0) if relu else (1 - y * y)))
        dh[rows] = np.where(over, dh_t, d_x[t, rows] @ w_h.T)


@inner(fastmath=FASTMATH, error_model="numpy")
def _relu_all(x: Any) -> None:
    for k in range(x.size):
        x[k] = 0 if x[k] < 0 else x[k]  # written so that a NaN passes


@inner(fastmath=FASTMATH, error_model="numpy")
def _through_relu(upper: Any, y: Any, dz: Any) -> None:
    """dz = upper * relu', from the value y of relu."""
    zero, one = y.dtype.type(0), y.dtype.type(1)  # plain numbers would make float64 of it
    for k in range(dz.size):
        dz[k] = upper[k] * (one if y[k] > zero else zero)


@inner(fastmath=FASTMATH, error_model="numpy")
def _through_tanh(upper: Any, y: Any, dz: Any) -> None:
    """dz = upper * tanh', from the value y of tanh."""
    one = y.dtype.type(1)
    for k in range(dz.size):
        dz[k] = upper[k] * (one - y[k] * y[k])


@kernel(twin=rnn_forward_twin, outputs=("h",), fastmath=FASTMATH)
def rnn_forward(
    x: Any, which: Any, ends: Any, bias: Any, w_h: Any, relu: bool, h: Any, start: int, stop: int
) -> None:
    packed = panels.pack(w_h, False, 0, w_h.shape[0], 0, w_h.shape[1])
    z = np.empty((stop - start, packed.shape[0] * packed.shape[2]), w_h.dtype)
    for t in range(which.shape[0]):
        new_h = h[t + 1, start:stop]
        tile.product(h[t, start:stop], packed, w_h.shape[1], z)
        loops.add_inputs(x, which[t, start:stop], bias, 0, z, 0, new_h)
        if relu:
            _relu_all(new_h.ravel())
        else:
            loops.tanh_all(new_h.ravel())
        for n in range(start, stop):
            if t >= ends[n]:
                loops.copy(h[t, n], h[t + 1, n])


@kernel(twin=rnn_backward_twin, outputs=("dh", "d_x", "flow"), fastmath=FASTMATH)
def rnn_backward(
    h: Any, ends: Any, w_h: Any, relu: bool, d_out: Any, dh: Any, d_x: Any, flow: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    turned = panels.pack(w_h, True, 0, w_h.shape[1], 0, w_h.shape[0])
    back = np.empty((stop - start, turned.shape[0] * turned.shape[2]), w_h.dtype)
    dh_all = dh[start:stop].ravel()
    for t in range(d_x.shape[0] - 1, -1, -1):
        y, dz = h[t + 1, start:stop].ravel(), d_x[t, start:stop].ravel()
        loops.add(d_out[t, start:stop].ravel(), dh_all)  # now the total dL/dh_t
        if flow.size:
            for n in range(start, stop):
                flow[0, t, n] = loops.square_sum(dh[n])
        if relu:
            _through_relu(dh_all, y, dz)
        else:
            _through_tanh(dh_all, y, dz)
        for n in range(start, stop):
            if t >= ends[n]:
                d_x[t, n] = 0
        tile.product(d_x[t, start:stop], turned, w_h.shape[0], back)
        for n in range(start, stop):
            if t < ends[n]:
                loops.copy(back[n - start], dh[n])
