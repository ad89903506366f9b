"""Time in a loop that can be read: a cell over whole sequences, and the last real output."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import functional as F
from ...errors import DTypeError, ShapeError
from ...nodes import mode
from ...prepared import prepared
from ...tensor import Tensor
from ..module import Module
from .base import Cell, Layer, checked_lengths
from .compose import Composite, map_state
from .wrappers import one_sequence


def unroll(
    cell: Any, x: Any, state: Any = None, lengths: Any = None, time_major: bool = False
) -> tuple[Tensor, Any]:
    """Call a cell once for each time step: what TensorFlow calls ``static_rnn``.

    cell: any cell, stack or wrapper of cells, or a callable ``output, state = cell(x, state)``
    with a method ``zero_state(batch)``.  The numbers are those of the fused layer with the same
    weights; the graph has the nodes of every step.
    x: (N, T, D) floats or (N, T) integer ids; with time_major (T, N, ...).
    state: as ``cell.zero_state(N)`` gives it; zeros if None.
    lengths: (N,) integers in [0, T], all T if None.  Past the end of a sequence outputs are
    zero and every part of the state is copied through; length 0 leaves the initial state.
    Variational dropout masks inside the cell are drawn once for the call.
    Returns the outputs (N, T, H), or (T, N, H), and the last state.
    Raises ShapeError, DTypeError, ArgumentError.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> outputs, h = nn.unroll(nn.RNNCell(3, 5, generator=rng), mg.ones(2, 7, 3))
    >>> outputs.shape, h.shape
    ((2, 7, 5), (2, 5))
    """
    if isinstance(cell, Layer) or (isinstance(cell, Composite) and not cell.is_cell):
        kind = type(cell).__name__
        raise DTypeError(
            f"unroll: {kind} is a layer, which runs over time by itself: call it, or unroll a "
            "cell; nn.LSTMCell takes the weights of nn.LSTM "
            "(cell.load_state_dict(layer.state_dict()))"
        )
    if isinstance(cell, type) or not callable(cell) or not hasattr(cell, "zero_state"):
        got = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise DTypeError(
            "unroll: expected a cell, called as cell(x, state) and with a method zero_state, got "
            f"{got}"
        )
    layout = "(T, N, ...)" if time_major else "(N, T, ...)"
    if getattr(x, "ndim", 0) < 2:
        raise ShapeError(f"unroll: x must be {layout}, got shape {getattr(x, 'shape', ())}")
    if not time_major:
        x = x.swapaxes(0, 1)
    steps, batch = x.shape[:2]
    if steps == 0:
        raise ShapeError(f"unroll: x {layout} has no time step, T=0")
    lengths = checked_lengths("unroll", lengths, steps, batch)
    if state is None:
        state = cell.zero_state(batch)
    watched = _watched(cell)
    outputs = []
    with one_sequence(cell):
        for t, x_t in enumerate(x):  # (N, D)
            running = None  # (N,) bool, where not all are
            if lengths is not None and (mode.tape is not None or not (lengths > t).all()):
                running = prepared(np.greater, lengths, t)
            for part in watched:
                part.at(t, running)
            output, after = cell(x_t, state)
            if running is None:
                state = after
            else:
                output = _where(running, output, 0.0)
                state = map_state(lambda new, old, on=running: _where(on, new, old), after, state)
            outputs.append(output)
    return F.stack(outputs, 0 if time_major else 1), state


def _where(running: np.ndarray, new: Tensor, old: Any) -> Tensor:
    """Rows of ``new`` (N, ...) for the sequences that have not ended, of ``old`` for others."""
    shape = -1, *(1,) * (new.ndim - 1)
    return F.where(prepared(np.reshape, running, shape), new, old)


def _watched(cell: Any) -> list[Cell]:
    """The cells inside that somebody records (see :mod:`minigrad.watch`)."""
    modules = cell.modules() if isinstance(cell, Module) else ()
    return [m for m in modules if isinstance(m, Cell) and (m.flow or m.gates)]


def last_output(outputs: Tensor, lengths: Any = None, time_major: bool = False) -> Tensor:
    """The output of each sequence at its last real step; zeros for a sequence of length 0.

    outputs: (N, T, H), or (T, N, H) with time_major; lengths: (N,) integers in [0, T], as the
    layer got them, all T if None.  Returns (N, H).  ``outputs[:, -1]`` is zero wherever a
    sequence ends early.
    Raises ShapeError, DTypeError, ArgumentError.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> outputs = mg.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [0.0]]])
    >>> nn.last_output(outputs, [3, 2]).tolist()
    [[3.0], [5.0]]
    """
    layout = "(T, N, H)" if time_major else "(N, T, H)"
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise DTypeError(
            f"last_output: outputs must be a tensor {layout}, got {kind}; a layer returns a pair, "
            "outputs and state"
        )
    if outputs.ndim != 3:
        raise ShapeError(f"last_output: outputs must be {layout}, got shape {outputs.shape}")
    steps, batch = outputs.shape[:2] if time_major else outputs.shape[1::-1]
    if steps == 0:
        raise ShapeError(f"last_output: outputs {layout} has no time step, shape {outputs.shape}")
    lengths = checked_lengths("last_output", lengths, steps, batch)
    if lengths is None:
        return outputs[-1] if time_major else outputs[:, -1]
    picked = at_ends(outputs if time_major else outputs.swapaxes(0, 1), lengths)  # (N, H)
    return _where(prepared(np.greater, lengths, 0), picked, 0.0)


def at_ends(x: Tensor, lengths: np.ndarray) -> Tensor:
    """x (T, N, H) of each sequence at its last real step, (N, H); at the first for a length of 0.

    lengths: (N,), checked.
    """
    steps, batch, size = x.shape
    return x.reshape(steps * batch, size)[prepared(_last_places, lengths)]


def _last_places(lengths: np.ndarray) -> np.ndarray:
    """Places (N,) of the last real steps in an array (T * N, ...)."""
    batch = len(lengths)
    return np.maximum(lengths - 1, 0) * batch + np.arange(batch)
