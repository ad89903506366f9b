"""Sizes of the gradients on their way back through time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..spelling import short
from .layers import LayerRecorder, rows

_PARTS = ("h", "c")  # of a state, in this order


class GradientFlow(LayerRecorder):
    """Sizes of the gradients that travel back through the time steps of one recurrent layer.

    One record a backward pass: the 2-norms, over batch and hidden units, of the *total*
    dL/dh_t, and of dL/dc_t if the state has a cell, that is with everything that comes back
    from later steps.  Time steps count from 0, the oldest of the window, behind which
    truncation cuts.  A sequence that has ended has no state of its own and does not count.

    ``GradientFlow.attach(model)`` watches all layers of a model.  One by one:

        lstm.flow = flow.record        # a fused layer; None switches it off
        cell.flow = flow.watch_step    # a cell, called in a loop or by nn.unroll

    A cell of one's own is watched step by step, and gives the same numbers:

        for t in range(steps):
            h, c = my_cell(x[t], h, c)
            flow.watch_step(t, h, c)

    >>> import minigrad as mg
    >>> from minigrad import nn, watch
    >>> lstm = nn.LSTM(3, 5, generator=mg.manual_seed(0))
    >>> flow = watch.GradientFlow()
    >>> lstm.flow = flow.record
    >>> lstm(mg.ones(2, 7, 3))[0].sum().backward()
    >>> flow.h.shape, flow.c.shape
    ((1, 7), (1, 7))
    """

    _slot = "flow"

    def __init__(self) -> None:
        super().__init__()
        self._records: list[np.ndarray] = []  # norms, (parts, T) each
        self._window = _Window(0)

    def record(self, norms: np.ndarray) -> None:
        """Add one backward pass.  norms: (1, T), of dL/dh_t, or (2, T), of dL/dh_t and dL/dc_t.

        Raises ShapeError for any other shape, and for another number of parts than before.
        """
        norms = np.array(norms, np.float64)
        parts = {len(self._records[0])} if self._records else {1, 2}
        if norms.ndim != 2 or len(norms) not in parts:
            wanted = " or ".join(f"({count}, T)" for count in sorted(parts))
            raise ShapeError(
                f"GradientFlow.record: norms of dL/dh_t, and of dL/dc_t if there is a cell, "
                f"must be {wanted}, got {norms.shape}"
            )
        self._number_record()
        self._records.append(norms)

    def watch_step(self, t: int, *state: Any) -> None:
        """Watch what one step of a cell returned, by hooks on its tensors.

        t: 0, 1, 2 and so on within a window; 0 begins a new window.  state: h, or h and c,
        after that step, (N, H) each.  Every backward pass through the window adds one
        record; a state that it never reaches counts as 0.  Under no_grad() nothing happens.
        Raises ArgumentError if a step was left out, ShapeError for another number of parts.
        """
        if t == 0:
            self._window = _Window(len(state))
        window = self._window
        if t != window.length:
            raise ArgumentError(
                f"GradientFlow.watch_step: t must be {window.length}, the step after the last "
                f"one watched, or 0 for a new window, got {t}"
            )
        if len(state) != window.parts or not 1 <= len(state) <= 2:
            raise ShapeError(
                f"GradientFlow.watch_step: the state must be h, or h and c, at every step alike, "
                f"got {len(state)} parts at step {t}"
            )
        window.length += 1
        for row, part in enumerate(state):
            if part.requires_grad:
                part.register_hook(self._listener(window, row, t))

    def _listener(self, window: _Window, row: int, t: int) -> Any:
        """A hook that writes the norm of a gradient into the record of its backward pass."""

        def hook(gradient: Any) -> None:
            if window.norms is None or (row, t) in window.heard:  # a new pass has begun
                self.record(np.zeros((window.parts, window.length)))
                window.norms = self._records[-1]
                window.heard.clear()
            window.heard.add((row, t))
            window.norms[row, t] = math.sqrt(np.sum(np.square(gradient.array, dtype=np.float64)))

        return hook

    def _last(self) -> str:
        norms = self._records[-1]
        steps = norms.shape[1]
        sizes = [
            f"|dL/d{part}_t| {short(row[-1])} at t={steps - 1}, {short(row[0])} at t=0"
            for part, row in zip(_PARTS, norms) if steps
        ]  # fmt: skip
        return "; ".join(sizes) or "no time steps"

    def _grid(self) -> tuple[list[str], list[list[str]]]:
        norms = self._records[-1]
        header = ["2-norm", *(f"t={t}" for t in range(norms.shape[1]))]
        return header, [
            [f"dL/d{part}_t", *map(short, row)] for part, row in zip(_PARTS, norms)
        ]

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the state that were recorded: ("h",) or ("h", "c")."""
        return _PARTS[: len(self._records[0]) if self._records else 2]

    @property
    def lengths(self) -> np.ndarray:
        """Time steps of each record, (records,) int64."""
        return np.array([norms.shape[1] for norms in self._records], np.int64)

    @property
    def h(self) -> np.ndarray:
        """Norms of dL/dh_t, (records, T) float64; NaN after the end of a shorter window."""
        return self._rows(0)

    @property
    def c(self) -> np.ndarray:
        """Norms of dL/dc_t, (records, T) float64; NaN after the end of a shorter window.

        Raises ArgumentError if the state has no cell (a vanilla RNN, a GRU).
        """
        return self._rows(1)

    def _rows(self, part: int) -> np.ndarray:
        if part >= len(self.parts):
            raise ArgumentError("GradientFlow.c: this layer's state is h alone, it has no c")
        return rows([norms[part] for norms in self._records])


class _Window:
    """A window of cell steps under watch: its length, and the record being written."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.length = 0
        self.norms: np.ndarray | None = None  # (parts, T)
        self.heard: set[tuple[int, int]] = set()  # (row, t) that the pass under way has met
