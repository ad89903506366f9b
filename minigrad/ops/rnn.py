"""The plain recurrent layer over all time steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError
from ..recording import contiguous, copied, do, repeatable
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
@repeatable
@first_order_only("Use nn.RNNCell in a loop over time, which is made of simple ops.")
def rnn(
    x_gates: Any, h: Any, w_h: Any, bias: Any, ids: Any = None, lengths: Any = None,
    activation: str = "tanh", flow: Any = None, show_gates: Any = None,
) -> Any:  # fmt: skip
    """h' = tanh(x + h w_h + bias) over T steps, from inputs already multiplied by their weights.

    x_gates: (T, N, H) (the name is that of the other recurrences); or, with ids (T, N), the
    weights themselves, (V, H): a one-hot vector times a matrix is a row of the matrix.
    h: (N, H), the initial state; w_h: (H, H); bias: (H,);
    lengths: (N,) int64 in [0, T], or None: past the end of a sequence its outputs are zero and
    its state is copied through.
    activation: "tanh" or "relu".
    flow: called in the backward pass with the norms of the total dL/dh_t, an array (1, T);
    show_gates: called here with h_t (T, N, H).  Both for :mod:`minigrad.watch`.

    Returns the outputs (T, N, H) and the last h (N, H).
    Raises ShapeError, DTypeError or ArgumentError before anything is computed.
    """
    steps, batch = _check(x_gates, h, w_h, bias, ids, activation)
    hidden = w_h.shape[0]
    dtype = x_gates.dtype
    relu = activation == "relu"
    rows = contiguous(x_gates).reshape(-1, hidden)
    which = np.arange(steps * batch) if ids is None else contiguous(ids, np.intp)
    w_h, bias = contiguous(w_h), contiguous(bias)
    worth = grain(steps * hidden * hidden)
    stops = ends(lengths, steps, batch)
    states = np.empty((steps + 1, batch, hidden), dtype)
    do(np.copyto, states[0], h)
    kernels.run_rows(
        kernels.rnn_forward, batch, worth,
        rows, which.reshape(steps, batch), stops, bias, w_h, relu, states,
    )  # fmt: skip
    if show_gates is not None:
        show_gates(states[1:])

    def vjp(gs: Any) -> Any:
        d_out, d_h = gs
        d_h = copied(d_h)  # ours to write into
        d_x = np.empty((steps, batch, hidden), dtype)
        norms = np.empty((1, steps, batch) if flow is not None else (1, 0, 0), dtype)
        kernels.run_rows(
            kernels.rnn_backward, batch, worth,
            states, stops, w_h, relu, zero_past_end(d_out, lengths), d_h, d_x, norms,
        )  # fmt: skip
        if flow is not None:
            report(flow, norms, lengths)
        flat = d_x.reshape(steps * batch, hidden)
        d_w = dot(states[:-1].reshape(steps * batch, hidden).T, flat)
        if ids is None:
            return d_x, d_h, d_w, total(flat)
        d_table = add_rows(flat, which.reshape(-1), len(rows))
        return d_table, d_h, d_w, total(d_table)  # each step is in one row

    return (zero_past_end(states[1:], lengths), states[-1]), vjp


def _check(x_gates: Any, h: Any, w_h: Any, bias: Any, ids: Any, activation: str) -> tuple[int, int]:
    """T and N.  Raises unless all arguments fit."""
    if activation not in ("tanh", "relu"):
        raise ArgumentError(f"rnn: activation must be 'tanh' or 'relu', got {activation!r}")
    steps, batch, because = check_gates("rnn", x_gates, ids, w_h, 1)
    hidden = w_h.shape[1]
    check_shape("rnn", "w_h", w_h, (hidden, hidden), "HH", because)
    check_shape("rnn", "h", h, (batch, hidden), "NH", because)
    check_shape("rnn", "bias", bias, (hidden,), "H", because)
    check_one_dtype("rnn", x_gates=x_gates, h=h, w_h=w_h, bias=bias)
    return steps, batch
