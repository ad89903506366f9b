"""LSTM with layer normalisation over all time steps (Ba, Kiros and Hinton 2016).

    z_t = x_gates_t + h_{t-1} W_h                        (N, 4H), column blocks i, j, f, o
    i, j, f, o normalised over H, each with its own gamma and beta
    c_t = norm(sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(j))
    h_t = sigmoid(o) * tanh(c_t)
    norm(x) = gamma * (x - mean(x)) / sqrt(var(x) + epsilon) + beta

As in TensorFlow's LayerNormBasicLSTMCell there is no bias, and the cell is carried in its
normalised form.  Only normalised values are kept for the way back; the gates are made from
them anew.  Threads share ranges of rows, and the loops are those of the plain LSTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops, panels, tile
from .inner import inner
from .registry import FASTMATH, kernel


def _normalise_twin(x: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x (..., H) with mean 0 and variance 1, and what they were multiplied by."""
    factor = 1 / np.sqrt(np.var(x, axis=-1) + epsilon)
    return (x - np.mean(x, axis=-1, keepdims=True)) * factor[..., None], factor


def _through_norm_twin(
    dy: np.ndarray, normal: np.ndarray, factor: np.ndarray, gamma: np.ndarray
) -> np.ndarray:
    """dL/dx from dL/dnorm(x); all (..., H) but factor, (...)."""
    dn = dy * gamma
    mean, along = np.mean(dn, axis=-1), np.mean(dn * normal, axis=-1)
    return factor[..., None] * (dn - mean[..., None] - along[..., None] * normal)


def layer_norm_lstm_forward_twin(
    x_gates: np.ndarray, which: np.ndarray, ends: np.ndarray, w_h: np.ndarray,
    gamma: np.ndarray, beta: np.ndarray, epsilon: float, h: np.ndarray, c: np.ndarray,
    normal: np.ndarray, factor: np.ndarray, shown: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """States and normalised values for batch rows start to stop.

    x_gates: (M, 4H), and which: (T, N) the row of it that is the input at (t, n).
    ends: (N,) int64, the length of each sequence.  From there on the state is copied, and
    what is in normal, factor and shown means nothing.
    w_h: (H, 4H); gamma, beta: (5, H), of i, j, f, o, c, a forget bias in beta[2].
    epsilon: added to variances, in the dtype of the others.
    h, c: (T + 1, N, H), entry 0 the initial state, the others written.
    normal: (T, 5, N, H), written: i, j, f, o, c with mean 0 and variance 1.
    factor: (T, 5, N), written: 1 / sqrt(var + epsilon) of each.
    shown: (T, 4, N, H), written: sigmoid(i), tanh(j), sigmoid(f), sigmoid(o); an array of no
    entries means that nobody is watching.
    """
    rows = slice(start, stop)
    for t in range(which.shape[0]):
        over = (t >= ends[rows])[:, None]
        z = x_gates[which[t, rows]] + h[t, rows] @ w_h  # (n, 4H)
        gates = np.stack(np.split(z, 4, axis=1))  # (4, n, H)
        normal[t, :4, rows], factor[t, :4, rows] = _normalise_twin(gates, epsilon)
        zi, zj, zf, zo = gamma[:4, None] * normal[t, :4, rows] + beta[:4, None]
        i, j, f, o = loops.sigmoid(zi), np.tanh(zj), loops.sigmoid(zf), loops.sigmoid(zo)
        if shown.size:
            shown[t, :, rows] = i, j, f, o
        raw = f * c[t, rows] + i * j
        normal[t, 4, rows], factor[t, 4, rows] = _normalise_twin(raw, epsilon)
        new_c = gamma[4] * normal[t, 4, rows] + beta[4]
        c[t + 1, rows] = np.where(over, c[t, rows], new_c)
        h[t + 1, rows] = np.where(over, h[t, rows], o * np.tanh(new_c))


def layer_norm_lstm_backward_twin(
    normal: np.ndarray, factor: np.ndarray, c: np.ndarray, ends: np.ndarray, w_h: np.ndarray,
    gamma: np.ndarray, beta: np.ndarray, d_out: np.ndarray, dh: np.ndarray, dc: np.ndarray,
    d_gates: np.ndarray, d_gamma: np.ndarray, d_beta: np.ndarray, flow: np.ndarray, start: int,
    stop: int,
) -> None:  # fmt: skip
    """Back-propagation through time for batch rows start to stop.

    normal: (T, 5, N, H), factor: (T, 5, N), c: (T + 1, N, H), ends and weights: as in the
    forward pass.
    d_out: (T, N, H), dL/dh_t from above at each step, zero from the end of a sequence on.
    dh, dc: (N, H), in: gradient of the last state; out: gradient of the initial state.
    d_gates: (T, N, 4H), written: dL/dz_t.
    d_gamma, d_beta: (5, N, H), written: what each row contributes, summed over time.
    flow: (2, T, N), written: squared norms of the total dL/dh_t and dL/dc_t of each row;
    an array of no entries means that nobody is watching.
    """
    rows = slice(start, stop)
    d_gamma[:, rows] = d_beta[:, rows] = 0
    for t in reversed(range(normal.shape[0])):
        over = (t >= ends[rows])[:, None]
        zi, zj, zf, zo = gamma[:4, None] * normal[t, :4, rows] + beta[:4, None]
        i, j, f = loops.sigmoid(zi), np.tanh(zj), loops.sigmoid(zf)
        o = np.where(over, 0, loops.sigmoid(zo))
        tanh_c = np.tanh(c[t + 1, rows])
        dh_t = d_out[t, rows] + dh[rows]
        dc_t = dc[rows] + dh_t * o * (1 - tanh_c * tanh_c)
        if flow.size:
            flow[0, t, rows] = np.sum(dh_t * dh_t, axis=1)
            flow[1, t, rows] = np.sum(dc_t * dc_t, axis=1)
        d_raw = _through_norm_twin(dc_t, normal[t, 4, rows], factor[t, 4, rows], gamma[4])
        dy = np.stack(  # of the five normalisations, (5, n, H)
            [
                d_raw * j * i * (1 - i),
                d_raw * i * (1 - j * j),
                d_raw * c[t, rows] * f * (1 - f),
                dh_t * tanh_c * o * (1 - o),
                dc_t,
            ]
        )
        d_gamma[:, rows] += np.where(over, 0, dy * normal[t, :, rows])
        d_beta[:, rows] += np.where(over, 0, dy)
        dz = _through_norm_twin(
            dy[:4], normal[t, :4, rows], factor[t, :4, rows], gamma[:4, None]
        )
        d_gates[t, rows] = np.where(over, 0, np.concatenate(list(dz), axis=1))
        dc[rows] = np.where(over, dc_t, d_raw * f)
        dh[rows] = np.where(over, dh_t, d_gates[t, rows] @ w_h.T)


@inner(fastmath=FASTMATH, error_model="numpy")
def _normalise(x: Any, epsilon: Any, factor: Any) -> None:
    """Rows of x (n, H) to mean 0 and variance 1, in place; factor: (n,), written."""
    zero, one, size = x.dtype.type(0), x.dtype.type(1), x.dtype.type(x.shape[1])
    for n in range(x.shape[0]):
        total = zero
        for k in range(x.shape[1]):
            total += x[n, k]
        mean = total / size
        squares = zero
        for k in range(x.shape[1]):
            centred = x[n, k] - mean
            x[n, k] = centred
            squares += centred * centred
        scale = one / np.sqrt(squares / size + epsilon)
        for k in range(x.shape[1]):
            x[n, k] *= scale
        factor[n] = scale


@inner(fastmath=FASTMATH, error_model="numpy")
def _scale_and_shift(x: Any, gamma: Any, beta: Any, y: Any) -> None:
    """y = gamma * x + beta, a row at a time.  gamma, beta: (H,); x, y: (n, H)."""
    for n in range(x.shape[0]):
        for k in range(x.shape[1]):
            y[n, k] = gamma[k] * x[n, k] + beta[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def _through_norm(dy: Any, normal: Any, factor: Any, gamma: Any, dx: Any) -> None:
    """dL/dx from dL/dnorm(x) for one row; all (H,) but factor, a number."""
    size = dy.dtype.type(dy.size)
    total, along = dy.dtype.type(0), dy.dtype.type(0)
    for k in range(dy.size):
        dx[k] = dy[k] * gamma[k]  # rounded here, so that a row of one unit gives exactly 0
        total += dx[k]
        along += dx[k] * normal[k]
    mean, slope = total / size, along / size
    for k in range(dy.size):
        dx[k] = factor * (dx[k] - mean - slope * normal[k])


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_product(x: Any, y: Any, z: Any) -> None:
    for k in range(x.size):
        z[k] += x[k] * y[k]


@kernel(
    twin=layer_norm_lstm_forward_twin,
    outputs=("h", "c", "normal", "factor", "shown"),
    fastmath=FASTMATH,
)
def layer_norm_lstm_forward(
    x_gates: Any, which: Any, ends: Any, w_h: Any, gamma: Any, beta: Any, epsilon: Any, h: Any,
    c: Any, normal: Any, factor: Any, shown: Any, start: int, stop: int,
) -> None:  # fmt: skip
    rows, hidden = stop - start, w_h.shape[0]
    gate_panels = loops.pack_gates(w_h, 1)
    z = np.empty((rows, gate_panels.shape[1] * gate_panels.shape[3]), w_h.dtype)
    no_bias = np.zeros(4 * hidden, w_h.dtype)
    gates = np.empty((4, rows, hidden), w_h.dtype)
    i, j, f, o = gates[0].ravel(), gates[1].ravel(), gates[2].ravel(), gates[3].ravel()
    for t in range(which.shape[0]):
        for g in range(4):
            here = normal[t, g, start:stop]
            tile.product(h[t, start:stop], gate_panels[g], hidden, z)
            loops.add_inputs(x_gates, which[t, start:stop], no_bias, g * hidden, z, 0, here)
            _normalise(here, epsilon, factor[t, g, start:stop])
            _scale_and_shift(here, gamma[g], beta[g], gates[g])
        loops.sigmoid_all(i)
        loops.tanh_all(j)
        loops.sigmoid_all(f)
        loops.sigmoid_all(o)
        if shown.size:
            for g in range(4):
                loops.copy(gates[g].ravel(), shown[t, g, start:stop].ravel())
        raw = normal[t, 4, start:stop]
        loops.new_cell(i, j, f, c[t, start:stop].ravel(), raw.ravel())
        _normalise(raw, epsilon, factor[t, 4, start:stop])
        _scale_and_shift(raw, gamma[4], beta[4], c[t + 1, start:stop])
        new_h = h[t + 1, start:stop].ravel()
        loops.tanh_of(c[t + 1, start:stop].ravel(), new_h)
        loops.times(o, new_h)
        for n in range(start, stop):
            if t >= ends[n]:
                loops.copy(c[t, n], c[t + 1, n])
                loops.copy(h[t, n], h[t + 1, n])


@kernel(
    twin=layer_norm_lstm_backward_twin,
    outputs=("dh", "dc", "d_gates", "d_gamma", "d_beta", "flow"),
    fastmath=FASTMATH,
)
def layer_norm_lstm_backward(
    normal: Any, factor: Any, c: Any, ends: Any, w_h: Any, gamma: Any, beta: Any, d_out: Any,
    dh: Any, dc: Any, d_gates: Any, d_gamma: Any, d_beta: Any, flow: Any, start: int, stop: int,
) -> None:  # fmt: skip
    rows, hidden = stop - start, w_h.shape[0]
    turned = panels.pack(w_h, True, 0, w_h.shape[1], 0, hidden)
    back = np.empty((rows, turned.shape[0] * turned.shape[2]), w_h.dtype)
    gates = np.empty((4, rows, hidden), w_h.dtype)
    i, j, f, o = gates[0].ravel(), gates[1].ravel(), gates[2].ravel(), gates[3].ravel()
    dy = np.empty((4, rows, hidden), w_h.dtype)  # of the normalised gates
    d_raw = np.empty((rows, hidden), w_h.dtype)  # of the cell before its normalisation
    tanh_c = np.empty(rows * hidden, w_h.dtype)
    dh_all, dc_all = dh[start:stop].ravel(), dc[start:stop].ravel()
    d_gamma[:, start:stop] = 0
    d_beta[:, start:stop] = 0
    for t in range(normal.shape[0] - 1, -1, -1):
        for g in range(4):
            _scale_and_shift(normal[t, g, start:stop], gamma[g], beta[g], gates[g])
        loops.sigmoid_all(i)
        loops.tanh_all(j)
        loops.sigmoid_all(f)
        loops.sigmoid_all(o)
        for n in range(rows):
            if t >= ends[start + n]:
                gates[3, n] = 0  # what comes from above goes to the copied h, not to the cell
        loops.tanh_of(c[t + 1, start:stop].ravel(), tanh_c)
        loops.add(d_out[t, start:stop].ravel(), dh_all)  # now the total dL/dh_t
        loops.total_cell_gradient(dh_all, o, tanh_c, dc_all)  # now the total dL/dc_t
        if flow.size:
            for n in range(start, stop):
                flow[0, t, n] = loops.square_sum(dh[n])
                flow[1, t, n] = loops.square_sum(dc[n])
        for n in range(rows):
            row = start + n
            _through_norm(dc[row], normal[t, 4, row], factor[t, 4, row], gamma[4], d_raw[n])
        loops.through_sigmoid(d_raw.ravel(), j, i, dy[0], np.intp(0))
        loops.through_tanh(d_raw.ravel(), i, j, dy[1], np.intp(0))
        loops.through_sigmoid(d_raw.ravel(), c[t, start:stop].ravel(), f, dy[2], np.intp(0))
        loops.through_sigmoid(dh_all, tanh_c, o, dy[3], np.intp(0))
        loops.times(f, d_raw.ravel())  # now dL/dc_{t-1}
        for n in range(rows):
            row = start + n
            if t >= ends[row]:
                d_gates[t, row] = 0
                continue
            for g in range(4):
                _through_norm(
                    dy[g, n], normal[t, g, row], factor[t, g, row], gamma[g],
                    d_gates[t, row, g * hidden : (g + 1) * hidden],
                )  # fmt: skip
                _add_product(dy[g, n], normal[t, g, row], d_gamma[g, row])
                loops.add(dy[g, n], d_beta[g, row])
            _add_product(dc[row], normal[t, 4, row], d_gamma[4, row])
            loops.add(dc[row], d_beta[4, row])
            loops.copy(d_raw[n], dc[row])
        tile.product(d_gates[t, start:stop], turned, hidden, back)
        for n in range(rows):
            if t < ends[start + n]:
                loops.copy(back[n], dh[start + n])
