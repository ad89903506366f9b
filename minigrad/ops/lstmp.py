"""The LSTM with peepholes, projection and a clipped cell, over all time steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import ShapeError
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
@first_order_only("Use nn.LSTMCell in a loop over time, which is made of simple ops.")
def lstmp(
    x_gates: Any, h: Any, c: Any, w_h: Any, bias: Any, w_c: Any = None, w_p: Any = None,
    ids: Any = None, lengths: Any = None, forget_bias: float = 0.0,
    cell_clip: float | None = None, flow: Any = None, show_gates: Any = None,
) -> Any:  # fmt: skip
    """LSTM over T steps from inputs that are already multiplied by their weights.

    x_gates: (T, N, 4H), column blocks i, j, f, o; or, with ids (T, N), the weights
    themselves, (V, 4H): a one-hot vector times a matrix is a row of the matrix.
    h: (N, P), c: (N, H), the initial state; w_h: (P, 4H); bias: (4H,).
    w_c: (3, H), peepholes: the weights from the cell to the gates i, f (old cell) and o (new
    cell), or None.  w_p: (H, P), projection of the output, or None; then P = H.
    lengths: (N,) int64 in [0, T], or None: past the end of a sequence its outputs are zero and
    its state is copied through.
    forget_bias: added to the f block.  cell_clip: bound of the new cell before its use in the
    output, or None; where it is beyond, no gradient passes.
    flow, show_gates: for :mod:`minigrad.watch`, as in lstm.

    Returns the outputs (T, N, P), and the last h (N, P) and c (N, H).
    Raises ShapeError or DTypeError before anything is computed.
    (Gers and Schmidhuber 2000; Sak, Senior and Beaufays 2014; TensorFlow's LSTMCell.)
    """
    steps, batch, because = check_gates("lstmp", x_gates, ids, w_h)
    size, hidden = w_h.shape[0], w_h.shape[1] // 4  # P, H
    _check(h, c, bias, w_c, w_p, batch, size, hidden, because)
    check_one_dtype("lstmp", x_gates=x_gates, h=h, c=c, w_h=w_h, bias=bias, w_c=w_c, w_p=w_p)
    dtype = x_gates.dtype
    rows = np.ascontiguousarray(x_gates).reshape(-1, 4 * hidden)
    which = np.arange(steps * batch) if ids is None else np.ascontiguousarray(ids, dtype=np.intp)
    weights = [
        np.empty((0, 0), dtype) if w is None else np.ascontiguousarray(w) for w in (w_h, w_c, w_p)
    ]
    clip = dtype.type(np.inf if cell_clip is None else cell_clip)
    worth = grain(steps * hidden * size * (4 if w_p is None else 5))
    stops = ends(lengths, steps, batch)
    shift = np.array(bias)
    shift[2 * hidden : 3 * hidden] += forget_bias
    states_h = np.empty((steps + 1, batch, size), dtype)
    states_c = np.empty((steps + 1, batch, hidden), dtype)
    states_h[0], states_c[0] = h, c
    gates = np.empty((steps, 4, batch, hidden), dtype)
    kernels.run_rows(
        kernels.lstmp_forward, batch, worth,
        rows, which.reshape(steps, batch), stops, shift, *weights, clip, states_h, states_c, gates,
    )  # fmt: skip
    if show_gates is not None:
        show_gates(gates, states_c[1:])

    def vjp(gs: Any) -> Any:
        d_out, d_h, d_c = gs
        d_h, d_c = np.array(d_h, order="C"), np.array(d_c, order="C")  # ours to write into
        d_gates = np.empty((steps, batch, 4 * hidden), dtype)
        norms = np.empty((2, steps, batch) if flow is not None else (2, 0, 0), dtype)
        kept = steps if w_p is not None else 0
        before, d_after = (np.empty((kept, batch, n), dtype) for n in (hidden, size))
        kernels.run_rows(
            kernels.lstmp_backward, batch, worth,
            gates, states_c, stops, *weights, clip, zero_past_end(d_out, lengths), d_h, d_c,
            d_gates, before, d_after, norms,
        )  # fmt: skip
        if flow is not None:
            report(flow, norms, lengths)
        flat = d_gates.reshape(steps * batch, 4 * hidden)
        d_w = dot(states_h[:-1].reshape(steps * batch, size).T, flat)
        d_w_c = d_w_p = None
        if w_c is not None:
            d_i, _, d_f, d_o = np.split(d_gates, 4, axis=2)
            pairs = (d_i, states_c[:-1]), (d_f, states_c[:-1]), (d_o, states_c[1:])
            d_w_c = np.stack([np.einsum("tnh,tnh->h", d, cell) for d, cell in pairs])
        if w_p is not None:
            count = steps * batch
            d_w_p = dot(before.reshape(count, hidden).T, d_after.reshape(count, size))
        if ids is None:
            return d_gates, d_h, d_c, d_w, total(flat), d_w_c, d_w_p
        d_table = add_rows(flat, which.reshape(-1), len(rows))
        return d_table, d_h, d_c, d_w, total(d_table), d_w_c, d_w_p

    return (zero_past_end(states_h[1:], lengths), states_h[-1], states_c[-1]), vjp


def _check(
    h: Any, c: Any, bias: Any, w_c: Any, w_p: Any, batch: int, size: int, hidden: int, because: str
) -> None:
    """Raise ShapeError unless these fit N, P and H."""
    if w_p is not None:
        check_shape("lstmp", "w_p", w_p, (hidden, size), "HP", because)
    elif size != hidden:
        raise ShapeError(
            f"lstmp: w_h must be (H, 4H) where there is no projection w_p, got ({size}, "
            f"{4 * hidden})"
        )
    check_shape("lstmp", "h", h, (batch, size), "NP", because)
    check_shape("lstmp", "c", c, (batch, hidden), "NH", because)
    check_shape("lstmp", "bias", bias, (4 * hidden,), None, because)
    if w_c is not None:
        check_shape("lstmp", "w_c", w_c, (3, hidden), None, because)
