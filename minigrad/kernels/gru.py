"""GRU over all time steps (Cho et al. 2014), in both of its forms.

    r = sigmoid(x_r + h_{t-1} W_r)          reset gate      (N, H), biases in x
    u = sigmoid(x_u + h_{t-1} W_u)          update gate
    c = tanh(x_c + (r * h_{t-1}) W_c)       candidate; reset before the product: TensorFlow
    c = tanh(x_c + r * (h_{t-1} W_c + b))   candidate; reset after the product: cuDNN, PyTorch
    h_t = u * h_{t-1} + (1 - u) * c

The caller multiplies the inputs by their weights, as for the LSTM.  The form with the reset
after the product has a second bias b, and that is how the kernels know which is meant.
Threads share ranges of rows, and most loops are those of the LSTM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops, panels, tile
from .inner import inner
from .registry import FASTMATH, kernel


def gru_forward_twin(
    x_gates: np.ndarray, which: np.ndarray, ends: np.ndarray, bias: np.ndarray,
    bias_h: np.ndarray, w_h: np.ndarray, h: np.ndarray, gates: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """States and gates for batch rows start to stop.

    x_gates: (M, 3H), column blocks r, u, c, and which: (T, N) the row of it that is the input
    at (t, n).
    ends: (N,) int64, the length of each sequence.  From there on the gates are those that keep
    a state as it is: 0, 1, 0, 0.
    bias: (3H,); w_h: (H, 3H), blocks W_r, W_u, W_c.
    bias_h: (H,), reset after the product; no entries: reset before it.
    h: (T + 1, N, H), entry 0 the initial state, the others written.
    gates: (T, 3, N, H), written: r, u, c; or (T, 4, N, H), with a fourth block h W_c + bias_h.
    """
    rows = slice(start, stop)
    hidden = w_h.shape[0]
    w_c = w_h[:, 2 * hidden :]
    for t in range(which.shape[0]):
        before = h[t, rows]
        over = (t >= ends[rows])[:, None]
        xr, xu, xc = np.split(x_gates[which[t, rows]] + bias, 3, axis=1)
        r = np.where(over, 0, loops.sigmoid(xr + before @ w_h[:, :hidden]))
        u = np.where(over, 1, loops.sigmoid(xu + before @ w_h[:, hidden : 2 * hidden]))
        if bias_h.size:
            gates[t, 3, rows] = np.where(over, 0, before @ w_c + bias_h)
            zc = xc + r * gates[t, 3, rows]
        else:
            zc = xc + (r * before) @ w_c
        c = np.where(over, 0, np.tanh(zc))
        gates[t, :3, rows] = r, u, c
        h[t + 1, rows] = u * before + (1 - u) * c


def gru_backward_twin(
    gates: np.ndarray, h: np.ndarray, w_h: np.ndarray, d_out: np.ndarray, dh: np.ndarray,
    d_gates: np.ndarray, flow: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Back-propagation through time for batch rows start to stop.

    gates: (T, 3 or 4, N, H) and h: (T + 1, N, H) from the forward pass; w_h: (H, 3H).
    d_out: (T, N, H), dL/dh_t from above at each step, zero from the end of a sequence on.
    dh: (N, H), in: gradient of the last state; out: gradient of the initial state.
    d_gates: (T, N, 3H), written: gradients of what goes into sigmoid, sigmoid and tanh.
    flow: (1, T, N), written: squared norms of the total dL/dh_t of each row; an array of no
    entries means that nobody is watching.
    """
    rows = slice(start, stop)
    w_r, w_u, w_c = np.split(w_h, 3, axis=1)
    for t in reversed(range(gates.shape[0])):
        r, u, c = gates[t, :3, rows]
        before = h[t, rows]
        dh_t = d_out[t, rows] + dh[rows]
        if flow.size:
            flow[0, t, rows] = np.sum(dh_t * dh_t, axis=1)
        dzu = dh_t * (before - c) * u * (1 - u)
        dzc = dh_t * (1 - u) * (1 - c * c)
        if gates.shape[1] == 4:
            dr = dzc * gates[t, 3, rows]
            through = (dzc * r) @ w_c.T
        else:
            d_product = dzc @ w_c.T  # of r * h
            dr = d_product * before
            through = d_product * r
        dzr = dr * r * (1 - r)
        d_gates[t, rows] = np.concatenate([dzr, dzu, dzc], axis=1)
        dh[rows] = dh_t * u + through + dzr @ w_r.T + dzu @ w_u.T


# A plain 1 would make float64 of what it meets, hence ``one``.


@inner(fastmath=FASTMATH, error_model="numpy")
def _product_of(x: Any, y: Any, out: Any) -> None:
    for k in range(out.size):
        out[k] = x[k] * y[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def _sum_of(x: Any, y: Any, out: Any) -> None:
    for k in range(out.size):
        out[k] = x[k] + y[k]


# Not reassociated: LLVM would make c + u * (before - c) of it, which rounds where u is 1.
@inner(fastmath={"contract"}, error_model="numpy")
def _new_state(u: Any, c: Any, before: Any, h: Any) -> None:
    one = u.dtype.type(1)
    for k in range(h.size):
        h[k] = u[k] * before[k] + (one - u[k]) * c[k]


@inner()
def _keep_state(gates: Any) -> None:
    """Gates (3 or 4, H) of one row that leave its state as it is."""
    gates[:] = 0
    gates[1] = 1


@kernel(twin=gru_forward_twin, outputs=("h", "gates"), fastmath=FASTMATH)
def gru_forward(
    x_gates: Any, which: Any, ends: Any, bias: Any, bias_h: Any, w_h: Any, h: Any, gates: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    rows, hidden = stop - start, w_h.shape[0]
    packed = (
        panels.pack(w_h, False, 0, hidden, 0, hidden),
        panels.pack(w_h, False, 0, hidden, hidden, hidden),
        panels.pack(w_h, False, 0, hidden, 2 * hidden, hidden),
    )
    z = np.empty((rows, packed[0].shape[0] * packed[0].shape[2]), w_h.dtype)
    reset = np.empty((rows, hidden), w_h.dtype)
    for t in range(which.shape[0]):
        before, inputs = h[t, start:stop], which[t, start:stop]
        r, u, c = gates[t, 0, start:stop], gates[t, 1, start:stop], gates[t, 2, start:stop]
        tile.product(before, packed[0], hidden, z)
        loops.add_inputs(x_gates, inputs, bias, 0, z, 0, r)
        tile.product(before, packed[1], hidden, z)
        loops.add_inputs(x_gates, inputs, bias, hidden, z, 0, u)
        loops.sigmoid_all(r.ravel())
        loops.sigmoid_all(u.ravel())
        if bias_h.size:
            q = gates[t, 3, start:stop]
            tile.product(before, packed[2], hidden, z)
            for n in range(rows):
                _sum_of(z[n], bias_h, q[n])
            _product_of(r.ravel(), q.ravel(), reset.ravel())
            loops.add_inputs(x_gates, inputs, bias, 2 * hidden, reset, 0, c)
        else:
            _product_of(r.ravel(), before.ravel(), reset.ravel())
            tile.product(reset, packed[2], hidden, z)
            loops.add_inputs(x_gates, inputs, bias, 2 * hidden, z, 0, c)
        loops.tanh_all(c.ravel())
        for n in range(start, stop):
            if t >= ends[n]:
                _keep_state(gates[t, :, n])
        _new_state(u.ravel(), c.ravel(), before.ravel(), h[t + 1, start:stop].ravel())


@inner(fastmath=FASTMATH, error_model="numpy")
def _update_gradient(dh: Any, before: Any, c: Any, u: Any, dz: Any) -> None:
    one = u.dtype.type(1)
    for k in range(dz.size):
        dz[k] = dh[k] * (before[k] - c[k]) * u[k] * (one - u[k])


@inner(fastmath=FASTMATH, error_model="numpy")
def _candidate_gradient(dh: Any, u: Any, c: Any, dz: Any) -> None:
    one = c.dtype.type(1)
    for k in range(dz.size):
        dz[k] = dh[k] * (one - u[k]) * (one - c[k] * c[k])


@inner(fastmath=FASTMATH, error_model="numpy")
def _reset_gradient(upper: Any, factor: Any, r: Any, dz: Any) -> None:
    one = r.dtype.type(1)
    for k in range(dz.size):
        dz[k] = upper[k] * factor[k] * r[k] * (one - r[k])


@kernel(twin=gru_backward_twin, outputs=("dh", "d_gates", "flow"), fastmath=FASTMATH)
def gru_backward(
    gates: Any, h: Any, w_h: Any, d_out: Any, dh: Any, d_gates: Any, flow: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    rows, hidden = stop - start, w_h.shape[0]
    turned = (
        panels.pack(w_h, True, 0, hidden, 0, hidden),
        panels.pack(w_h, True, hidden, hidden, 0, hidden),
        panels.pack(w_h, True, 2 * hidden, hidden, 0, hidden),
    )
    back = np.empty((rows, turned[0].shape[0] * turned[0].shape[2]), w_h.dtype)
    dz = np.empty((3, rows, hidden), w_h.dtype)
    dz_r, dz_u, dz_c = dz[0].ravel(), dz[1].ravel(), dz[2].ravel()
    side = np.empty((rows, hidden), w_h.dtype)  # what meets the product with W_c
    side_all, dh_all = side.ravel(), dh[start:stop].ravel()
    for t in range(gates.shape[0] - 1, -1, -1):
        r, u, c = (
            gates[t, 0, start:stop].ravel(), gates[t, 1, start:stop].ravel(),
            gates[t, 2, start:stop].ravel(),
        )  # fmt: skip
        before = h[t, start:stop].ravel()
        loops.add(d_out[t, start:stop].ravel(), dh_all)  # now the total dL/dh_t
        if flow.size:
            for n in range(start, stop):
                flow[0, t, n] = loops.square_sum(dh[n])
        _update_gradient(dh_all, before, c, u, dz_u)
        _candidate_gradient(dh_all, u, c, dz_c)
        if gates.shape[1] == 4:
            _reset_gradient(dz_c, gates[t, 3, start:stop].ravel(), r, dz_r)
            _product_of(dz_c, r, side_all)
            tile.product(side, turned[2], hidden, back)
            for n in range(rows):
                loops.copy(back[n], side[n])
        else:
            tile.product(dz[2], turned[2], hidden, back)  # gradient of r * h
            for n in range(rows):
                loops.copy(back[n], side[n])
            _reset_gradient(side_all, before, r, dz_r)
            loops.times(r, side_all)
        loops.times(u, dh_all)
        loops.add(side_all, dh_all)
        for g in range(2):
            tile.product(dz[g], turned[g], hidden, back)
            for n in range(rows):
                loops.add(back[n, :hidden], dh[start + n])
        for n in range(rows):  # from blocks to rows, as the products want them
            for g in range(3):
                loops.copy(dz[g, n], d_gates[t, start + n, g * hidden : (g + 1) * hidden])
