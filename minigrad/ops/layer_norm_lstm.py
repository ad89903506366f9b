"""The LSTM with layer normalisation over all time steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ._call import first_order_only
from ._sequence import (
    check_gates,
    check_one_dtype,
    check_shape,
    ends,
    grain,
    over_time,
    report,
    zero_past_end,
)
from .indexing import add_rows
from .linear import dot


@over_time
@first_order_only("Use nn.LayerNormLSTMCell in a loop over time, which is made of simple ops.")
def layer_norm_lstm(
    x_gates: Any, h: Any, c: Any, w_h: Any, gamma: Any, beta: Any, ids: Any = None,
    lengths: Any = None, forget_bias: float = 0.0, epsilon: float = 1e-12, flow: Any = None,
    show_gates: Any = None,
) -> Any:  # fmt: skip
    """LSTM with normalised gates and cell over T steps, from inputs times their weights.

    x_gates: (T, N, 4H), column blocks i, j, f, o; or, with ids (T, N), the weights
    themselves, (V, 4H): a one-hot vector times a matrix is a row of the matrix.
    h, c: (N, H), the initial state; w_h: (H, 4H).
    gamma, beta: (5, H), gain and shift of the normalised i, j, f, o and of the new cell.
    lengths: (N,) int64 in [0, T], or None: past the end of a sequence its outputs are zero and
    its state is copied through.
    forget_bias: added to f after its normalisation.  epsilon: added to variances.
    flow, show_gates: for :mod:`minigrad.watch`, as in lstm; c is the normalised cell.

    Returns the outputs (T, N, H), and the last h and c, (N, H) each.
    Raises ShapeError or DTypeError before anything is computed.
    (Ba, Kiros and Hinton 2016; TensorFlow's LayerNormBasicLSTMCell.)
    """
    steps, batch, because = check_gates("layer_norm_lstm", x_gates, ids, w_h)
    hidden = w_h.shape[1] // 4
    _check(h, c, w_h, gamma, beta, batch, hidden, because)
    check_one_dtype("layer_norm_lstm", x_gates=x_gates, h=h, c=c, w_h=w_h, gamma=gamma, beta=beta)
    dtype = x_gates.dtype
    rows = np.ascontiguousarray(x_gates).reshape(-1, 4 * hidden)
    which = np.arange(steps * batch) if ids is None else np.ascontiguousarray(ids, dtype=np.intp)
    w_h, gamma = np.ascontiguousarray(w_h), np.ascontiguousarray(gamma)
    worth = grain(steps * 4 * hidden * hidden)
    stops = ends(lengths, steps, batch)
    shift = np.array(beta, order="C")
    shift[2] += forget_bias
    states_h, states_c = np.empty((2, steps + 1, batch, hidden), dtype)
    states_h[0], states_c[0] = h, c
    normal = np.empty((steps, 5, batch, hidden), dtype)
    factor = np.empty((steps, 5, batch), dtype)
    gates = np.empty((steps if show_gates is not None else 0, 4, batch, hidden), dtype)
    kernels.run_rows(
        kernels.layer_norm_lstm_forward, batch, worth,
        rows, which.reshape(steps, batch), stops, w_h, gamma, shift, dtype.type(epsilon),
        states_h, states_c, normal, factor, gates,
    )  # fmt: skip
    if show_gates is not None:
        show_gates(gates, states_c[1:])

    def vjp(gs: Any) -> Any:
        d_out, d_h, d_c = gs
        d_h, d_c = np.array(d_h, order="C"), np.array(d_c, order="C")  # ours to write into
        d_gates = np.empty((steps, batch, 4 * hidden), dtype)
        d_gamma, d_beta = np.empty((2, 5, batch, hidden), dtype)
        norms = np.empty((2, steps, batch) if flow is not None else (2, 0, 0), dtype)
        kernels.run_rows(
            kernels.layer_norm_lstm_backward, batch, worth,
            normal, factor, states_c, stops, w_h, gamma, shift, zero_past_end(d_out, lengths),
            d_h, d_c, d_gates, d_gamma, d_beta, norms,
        )  # fmt: skip
        if flow is not None:
            report(flow, norms, lengths)
        flat = d_gates.reshape(steps * batch, 4 * hidden)
        d_w = dot(states_h[:-1].reshape(steps * batch, hidden).T, flat)
        d_x = d_gates if ids is None else add_rows(flat, which.reshape(-1), len(rows))
        return d_x, d_h, d_c, d_w, d_gamma.sum(axis=1), d_beta.sum(axis=1)

    return (zero_past_end(states_h[1:], lengths), states_h[-1], states_c[-1]), vjp


def _check(
    h: Any, c: Any, w_h: Any, gamma: Any, beta: Any, batch: int, hidden: int, because: str
) -> None:
    """Raise ShapeError unless these fit N and H."""
    op = "layer_norm_lstm"
    check_shape(op, "w_h", w_h, (hidden, 4 * hidden), None, because)
    check_shape(op, "h", h, (batch, hidden), "NH", because)
    check_shape(op, "c", c, (batch, hidden), "NH", because)
    check_shape(op, "gamma", gamma, (5, hidden), None, because)
    check_shape(op, "beta", beta, (5, hidden), None, because)
