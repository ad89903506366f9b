"""The LSTM over all time steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import DTypeError, ShapeError, axes
from ..recording import contiguous, copied, do, repeatable, summed
from ._call import first_order_only, takes_gaps
from ._sequence import (
    check_one_dtype,
    check_shape,
    ends,
    gradient_of_outputs,
    gradients_of_state,
    grain,
    over_time,
    report,
    zero_past_end,
)
from .indexing import add_rows, check_ids
from .linear import dot, total

# The batch is cut into parts whose gradients are summed: of so many rows, but into two from 20 on.
_PART_ROWS = 64


def _beginning(h: Any, c: Any, bias: Any, forget_bias: float, steps: int) -> tuple[Any, ...]:
    """What a kernel begins with: the bias with the forget bias in it, and arrays for all steps.

    Returns (4H,); (T + 1, N, H) for h and for c, entry 0 the state given; (T, 4, N, H) for gates.
    """
    batch, hidden = h.shape
    shift = copied(bias)
    forget = shift[2 * hidden : 3 * hidden]
    do(np.add, forget, forget_bias, forget)
    states_h, states_c = np.empty((2, steps + 1, batch, hidden), h.dtype)
    do(np.copyto, states_h[0], h)
    do(np.copyto, states_c[0], c)
    return shift, states_h, states_c, np.empty((steps, 4, batch, hidden), h.dtype)


@over_time
@takes_gaps
@repeatable
@first_order_only("Use nn.LSTMCell in a loop over time, which is made of simple ops.")
def lstm(
    x_gates: Any, h: Any, c: Any, w_h: Any, bias: Any, ids: Any = None, lengths: Any = None,
    forget_bias: float = 0.0, wants_dh: bool = True, flow: Any = None, show_gates: Any = None,
) -> Any:  # fmt: skip
    """LSTM over T steps from inputs that are already multiplied by their weights.

    x_gates: (T, N, 4H), column blocks i, j, f, o; or, with ids (T, N), the weights
    themselves, (V, 4H): a one-hot vector times a matrix is a row of the matrix.
    h, c: (N, H), the initial state; w_h: (H, 4H); bias: (4H,);
    lengths: (N,) int64 in [0, T], or None: past the end of a sequence its outputs are zero and
    its state is copied through.
    forget_bias: added to the f block.
    wants_dh: whether somebody will ask for the gradients of h and c; else None is returned for
    them.
    flow: called in the backward pass with the norms of the total dL/dh_t and dL/dc_t, an
    array (2, T); show_gates: called here with the gates i, j, f, o (T, 4, N, H) and c_t
    (T, N, H).  Both for :mod:`minigrad.watch`.

    Returns the outputs (T, N, H), and the last h and c, (N, H) each.
    Raises ShapeError or DTypeError before anything is computed.
    """
    _check(x_gates, h, c, w_h, bias, ids)
    steps, batch = x_gates.shape[:2] if ids is None else ids.shape
    hidden = w_h.shape[0]
    dtype = x_gates.dtype
    rows = contiguous(x_gates).reshape(-1, 4 * hidden)
    which = np.arange(steps * batch) if ids is None else contiguous(ids, np.intp)
    w_h = contiguous(w_h)
    worth = grain(steps * 4 * hidden * hidden)
    stops = ends(lengths, steps, batch)
    shift, states_h, states_c, gates = _beginning(h, c, bias, forget_bias, steps)
    kernels.run_rows(
        kernels.lstm_forward, batch, worth,
        rows, which.reshape(steps, batch), stops, shift, w_h, states_h, states_c, gates,
    )  # fmt: skip
    if show_gates is not None:
        show_gates(gates, states_c[1:])

    def vjp(gs: Any) -> Any:
        d_out, d_h, d_c = gs
        d_out = gradient_of_outputs(d_out, lengths, h)
        d_h, d_c = gradients_of_state(d_h, d_c, like=h)
        d_gates = np.empty((steps, batch, 4 * hidden), dtype)
        norms = np.empty((2, steps, batch) if flow is not None else (2, 0, 0), dtype)
        kernels.run_rows(
            kernels.lstm_backward, batch, worth,
            gates, states_c, stops, w_h, d_out, d_h, d_c, d_gates, norms, wants_dh,
        )  # fmt: skip
        if flow is not None:
            report(flow, norms, lengths)
        flat = d_gates.reshape(steps * batch, 4 * hidden)
        if not wants_dh:
            d_h = d_c = None
        d_w = dot(states_h[:-1].reshape(steps * batch, hidden).T, flat)
        if ids is None:
            return d_gates, d_h, d_c, d_w, total(flat)
        d_table = add_rows(flat, which.reshape(-1), len(rows))
        return d_table, d_h, d_c, d_w, total(d_table)  # each step is in one row

    return (zero_past_end(states_h[1:], lengths), states_h[-1], states_c[-1]), vjp


@over_time
@takes_gaps
@repeatable
@first_order_only("Use nn.LSTMCell in a loop over time, which is made of simple ops.")
def lstm_layer(
    x: Any, h: Any, c: Any, w_x: Any, w_h: Any, bias: Any, lengths: Any = None,
    forget_bias: float = 0.0, wants_dh: bool = True, wants_dx: bool = True, flow: Any = None,
    show_gates: Any = None,
) -> Any:  # fmt: skip
    """LSTM over T steps with the weights of its inputs: ``lstm(x @ w_x, h, c, w_h, bias)``.

    x: (T, N, D), read where it is if that is time first or batch first in memory; w_x: (D, 4H);
    the others as for :func:`lstm`, and so are the results.
    wants_dx: whether somebody will ask for the gradient of x; None is returned for it if not.
    One kernel each way, which uses what a step makes while it is in cache.
    Raises ShapeError or DTypeError before anything is computed.
    """
    _check_layer(x, h, c, w_x, w_h, bias)
    steps, batch, depth = x.shape
    hidden = w_h.shape[0]
    dtype = x.dtype
    flat, swapped = _in_memory(x)
    w_x, w_h = contiguous(w_x), contiguous(w_h)
    work = steps * 4 * hidden * (depth + hidden)
    stops = ends(lengths, steps, batch)
    shift, states_h, states_c, gates = _beginning(h, c, bias, forget_bias, steps)
    kernels.run_rows(
        kernels.lstm_layer_forward, batch, grain(work),
        flat, swapped, stops, shift, w_x, w_h, states_h, states_c, gates,
    )  # fmt: skip
    if show_gates is not None:
        show_gates(gates, states_c[1:])

    def vjp(gs: Any) -> Any:
        d_out, d_h, d_c = gs
        d_out = gradient_of_outputs(d_out, lengths, h)
        d_h, d_c = gradients_of_state(d_h, d_c, like=h)
        parts = max(batch // _PART_ROWS, 2 if batch >= 20 else 1)
        dx = np.empty((steps, batch, depth) if wants_dx else (0, 0, depth), dtype)
        dw = np.empty((parts, depth + hidden, 4 * hidden), dtype)
        db = np.empty((parts, 4 * hidden), dtype)
        norms = np.empty((2, steps, batch) if flow is not None else (2, 0, 0), dtype)
        kernels.run_rows(
            kernels.lstm_layer_backward, parts, grain(work) * parts // max(batch, 1) + 1,
            flat, swapped, states_h, states_c, gates, stops, w_x, w_h, d_out, d_h, d_c,
            dx, dw, db, norms, wants_dh,
        )  # fmt: skip
        if flow is not None:
            report(flow, norms, lengths)
        if not wants_dh:
            d_h = d_c = None
        return (
            dx if wants_dx else None, d_h, d_c, summed(dw[:, :depth], 0), summed(dw[:, depth:], 0),
            summed(db, 0),
        )  # fmt: skip

    return (zero_past_end(states_h[1:], lengths), states_h[-1], states_c[-1]), vjp


def _in_memory(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """x (T, N, D) as it lies in memory, C-contiguous: the same, or (N, T, D) and True."""
    if not x.flags.c_contiguous and x.swapaxes(0, 1).flags.c_contiguous:
        return x.swapaxes(0, 1), True  # a batch of sequences, with time as its second axis
    return contiguous(x), False


def _check_layer(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, bias: Any) -> None:
    """Raise ShapeError or DTypeError unless all arguments fit."""
    if w_h.ndim != 2 or w_h.shape[1] != 4 * w_h.shape[0]:
        raise ShapeError(f"lstm_layer: w_h must be (H, 4H), got {w_h.shape}")
    if x.ndim != 3:
        raise ShapeError(f"lstm_layer: x must be (T, N, D), got shape {x.shape}")
    hidden, wide = w_h.shape
    because = f"for x {axes(x.shape, 'TND')} and w_h {w_h.shape}"
    check_shape("lstm_layer", "w_x", w_x, (x.shape[2], wide), None, because)
    for name, state in (("h", h), ("c", c)):
        check_shape("lstm_layer", name, state, (x.shape[1], hidden), "NH", because)
    check_shape("lstm_layer", "bias", bias, (wide,), None, because)
    check_one_dtype("lstm_layer", x=x, h=h, c=c, w_x=w_x, w_h=w_h, bias=bias)


def _check(x_gates: Any, h: Any, c: Any, w_h: Any, bias: Any, ids: Any) -> None:
    """Raise ShapeError, DTypeError or IndexRangeError unless all arguments fit."""
    if w_h.ndim != 2 or w_h.shape[1] != 4 * w_h.shape[0]:
        raise ShapeError(f"lstm: w_h must be (H, 4H), got {w_h.shape}")
    hidden, wide = w_h.shape
    letters = "TNG" if ids is None else "VG"
    if x_gates.ndim != len(letters) or x_gates.shape[-1] != wide:
        raise ShapeError(
            f"lstm: x_gates must be ({', '.join(letters)}) with G=4H={wide} (w_h is "
            f"{w_h.shape}), got {axes(x_gates.shape, letters)}"
        )
    if ids is not None:
        if ids.ndim != 2:
            raise ShapeError(f"lstm: ids must be (T, N), got shape {ids.shape}")
        check_ids("lstm", ids, len(x_gates))
    state = ((x_gates if ids is None else ids).shape[1], hidden)
    if not h.shape == c.shape == state:
        name, shape = ("c", c.shape) if h.shape == state else ("h", h.shape)
        raise ShapeError(
            f"lstm: {name} must be {axes(state, 'NH')} for x_gates "
            f"{axes(x_gates.shape, letters)} and w_h {w_h.shape}, got {shape}"
        )
    if bias.shape != (wide,):
        raise ShapeError(f"lstm: bias must be ({wide},) for w_h {w_h.shape}, got {bias.shape}")
    if not x_gates.dtype == h.dtype == c.dtype == w_h.dtype == bias.dtype:
        names = ", ".join(
            f"{name} {array.dtype}"
            for name, array in zip(("x_gates", "h", "c", "w_h", "bias"), (x_gates, h, c, w_h, bias))
        )
        raise DTypeError(f"lstm: all arguments need one dtype, got {names}; convert some of them")
