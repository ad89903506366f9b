"""The GRU over all time steps."""

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
from .linear import dot, total


@over_time
@first_order_only("Use nn.GRUCell in a loop over time, which is made of simple ops.")
def gru(
    x_gates: Any, h: Any, w_h: Any, bias: Any, bias_h: Any = None, ids: Any = None,
    lengths: Any = None, flow: Any = None, show_gates: Any = None,
) -> Any:  # fmt: skip
    """GRU over T steps from inputs that are already multiplied by their weights.

    x_gates: (T, N, 3H), column blocks r (reset), u (update), c (candidate); or, with ids
    (T, N), the weights themselves, (V, 3H): a one-hot vector times a matrix is a row of it.
    h: (N, H), the initial state; w_h: (H, 3H); bias: (3H,);
    bias_h: None: r multiplies h before its product with the c block of w_h (TensorFlow's
    GRUCell).  (H,): r multiplies the product plus this bias (cuDNN, PyTorch).
    lengths: (N,) int64 in [0, T], or None: past the end of a sequence its outputs are zero and
    its state is copied through.
    flow: called in the backward pass with the norms of the total dL/dh_t, an array (1, T);
    show_gates: called here with r, u, c (T, 3, N, H).  Both for :mod:`minigrad.watch`.

    Returns the outputs (T, N, H) and the last h (N, H).
    Raises ShapeError or DTypeError before anything is computed.
    """
    steps, batch = _check(x_gates, h, w_h, bias, bias_h, ids)
    hidden = w_h.shape[0]
    dtype = x_gates.dtype
    rows = np.ascontiguousarray(x_gates).reshape(-1, 3 * hidden)
    which = np.arange(steps * batch) if ids is None else np.ascontiguousarray(ids, dtype=np.intp)
    w_h, bias = np.ascontiguousarray(w_h), np.ascontiguousarray(bias)
    inner = np.empty(0, dtype) if bias_h is None else np.ascontiguousarray(bias_h)
    worth = grain(steps * 3 * hidden * hidden)
    stops = ends(lengths, steps, batch)
    states = np.empty((steps + 1, batch, hidden), dtype)
    states[0] = h
    gates = np.empty((steps, 3 if bias_h is None else 4, batch, hidden), dtype)
    kernels.run_rows(
        kernels.gru_forward, batch, worth,
        rows, which.reshape(steps, batch), stops, bias, inner, w_h, states, gates,
    )  # fmt: skip
    if show_gates is not None:
        show_gates(gates[:, :3])

    def vjp(gs: Any) -> Any:
        d_out, d_h = gs
        d_h = np.array(d_h, order="C")  # ours to write into
        d_gates = np.empty((steps, batch, 3 * hidden), dtype)
        norms = np.empty((1, steps, batch) if flow is not None else (1, 0, 0), dtype)
        kernels.run_rows(
            kernels.gru_backward, batch, worth,
            gates, states, w_h, zero_past_end(d_out, lengths), d_h, d_gates, norms,
        )  # fmt: skip
        if flow is not None:
            report(flow, norms, lengths)
        # what the c block of w_h was multiplied by, and the gradient of the product
        before, d_product = states[:-1], d_gates[:, :, 2 * hidden :]
        if bias_h is None:
            before = gates[:, 0] * before
        else:
            d_product = gates[:, 0] * d_product
        flat = d_gates.reshape(steps * batch, 3 * hidden)
        d_product = d_product.reshape(steps * batch, hidden)
        d_w = np.empty_like(w_h)
        d_w[:, : 2 * hidden] = dot(
            states[:-1].reshape(steps * batch, hidden).T, flat[:, : 2 * hidden]
        )
        d_w[:, 2 * hidden :] = dot(before.reshape(steps * batch, hidden).T, d_product)
        d_bias_h = None if bias_h is None else d_product.sum(axis=0)
        if ids is None:
            return d_gates, d_h, d_w, total(flat), d_bias_h
        d_table = add_rows(flat, which.reshape(-1), len(rows))
        return d_table, d_h, d_w, total(d_table), d_bias_h  # each step is in one row

    return (zero_past_end(states[1:], lengths), states[-1]), vjp


def _check(x_gates: Any, h: Any, w_h: Any, bias: Any, bias_h: Any, ids: Any) -> tuple[int, int]:
    """T and N.  Raises unless all arguments fit."""
    steps, batch, because = check_gates("gru", x_gates, ids, w_h, 3)
    wide = w_h.shape[1]
    hidden = wide // 3
    check_shape("gru", "w_h", w_h, (hidden, wide), "HG", because)
    check_shape("gru", "h", h, (batch, hidden), "NH", because)
    check_shape("gru", "bias", bias, (wide,), "G", because)
    if bias_h is not None:
        check_shape("gru", "bias_h", bias_h, (hidden,), "H", because)
    check_one_dtype("gru", x_gates=x_gates, h=h, w_h=w_h, bias=bias, bias_h=bias_h)
    return steps, batch
