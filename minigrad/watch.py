"""Recorders of what cannot be seen otherwise: gradients on their way through time, clipping.

A recorder keeps numbers and hands them out as arrays; :mod:`minigrad.plot` draws them.
Nothing is computed for a recorder that was never attached.

    flow, clips = watch.GradientFlow(), watch.ClipTimeline()
    lstm.flow = flow.record
    for step, window in enumerate(windows):
        flow.tag(step)
        loss = ...
        loss.backward()
        clips.record(step, loss.item(), clip_grad_norm_(parameters, 1.25))
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import ArgumentError, ShapeError


class GradientFlow:
    """Sizes of the gradients that travel back through the time steps of one recurrent layer.

    One record a backward pass: the 2-norms, over batch and hidden units, of the *total*
    dL/dh_t and dL/dc_t, that is with everything that comes back from later steps.  Time
    steps count from 0, the oldest of the window, behind which truncation cuts.

    A fused layer reports by itself: ``lstm.flow = flow.record`` (None switches it off).
    A cell in a loop over time is watched step by step, and gives the same numbers:

        for t in range(steps):
            h, c = cell(x[t], (h, c))
            flow.watch_step(t, h, c)
    """

    def __init__(self) -> None:
        self._norms: list[np.ndarray] = []  # (2, T) each: of h, of c
        self._steps: list[int] = []
        self._step: int | None = None
        self._window = _Window()

    def tag(self, step: int) -> None:
        """Say which training step the records from now on belong to.

        Without it records are numbered 0, 1, 2 and so on.
        """
        self._step = step

    def record(self, norms: np.ndarray) -> None:
        """Add one backward pass.  norms: (2, T), of dL/dh_t and of dL/dc_t.

        Raises ShapeError for any other shape.
        """
        norms = np.array(norms, np.float64)
        if norms.ndim != 2 or norms.shape[0] != 2:
            raise ShapeError(
                f"GradientFlow.record: norms must be (2, T), of dL/dh_t and of dL/dc_t, got "
                f"{norms.shape}"
            )
        self._steps.append(len(self._norms) if self._step is None else self._step)
        self._norms.append(norms)

    def watch_step(self, t: int, h: Any, c: Any) -> None:
        """Watch what one step of a cell returned, by hooks on the two tensors.

        t: 0, 1, 2 and so on within a window; 0 begins a new window.  h, c: the states after
        that step, (N, H) each.  Every backward pass through the window adds one record; a
        state that it never reaches counts as 0.  Under no_grad() nothing happens.
        Raises ArgumentError if a step was left out.
        """
        if t == 0:
            self._window = _Window()
        window = self._window
        if t != window.length:
            raise ArgumentError(
                f"GradientFlow.watch_step: t must be {window.length}, the step after the last "
                f"one watched, or 0 for a new window, got {t}"
            )
        window.length += 1
        for row, state in enumerate((h, c)):
            if state.requires_grad:
                state.register_hook(self._listener(window, row, t))

    def _listener(self, window: _Window, row: int, t: int) -> Any:
        """A hook that writes the norm of a gradient into the record of its backward pass."""

        def hook(gradient: Any) -> None:
            if window.norms is None or (row, t) in window.heard:  # a new pass has begun
                self.record(np.zeros((2, window.length)))
                window.norms = self._norms[-1]
                window.heard.clear()
            window.heard.add((row, t))
            window.norms[row, t] = math.sqrt(np.sum(np.square(gradient.array, dtype=np.float64)))

        return hook

    def __len__(self) -> int:
        return len(self._norms)

    @property
    def steps(self) -> np.ndarray:
        """Training step of each record, (records,) int64."""
        return np.array(self._steps, np.int64)

    @property
    def h(self) -> np.ndarray:
        """Norms of dL/dh_t, (records, T) float64; NaN after the end of a shorter window."""
        return self._rows(0)

    @property
    def c(self) -> np.ndarray:
        """Norms of dL/dc_t, (records, T) float64; NaN after the end of a shorter window."""
        return self._rows(1)

    def _rows(self, row: int) -> np.ndarray:
        longest = max((norms.shape[1] for norms in self._norms), default=0)
        result = np.full((len(self), longest), np.nan)
        for record, norms in zip(result, self._norms):
            record[: norms.shape[1]] = norms[row]
        return result


class _Window:
    """A window of cell steps under watch: its length, and the record being written."""

    def __init__(self) -> None:
        self.length = 0
        self.norms: np.ndarray | None = None  # (2, T)
        self.heard: set[tuple[int, int]] = set()  # (row, t) that the pass under way has met


class ClipTimeline:
    """What clipping by the global norm did, step by step, beside the loss.

    (Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural
    networks", is where the clipping comes from.)
    """

    def __init__(self) -> None:
        self._rows: list[tuple[int, float, float, float, float, bool]] = []
        self._shares: list[dict[str, float]] = []

    def record(self, step: int, loss: Any, report: Any) -> None:
        """Add one training step.

        loss: a number, or a tensor of one.  report: what ``clip_grad_norm_`` returned
        (before and after: global norms; scale; clipped; shares: a number by parameter name).
        """
        self._rows.append(
            (
                int(step), float(loss), float(report.before), float(report.after),
                float(report.scale), bool(report.clipped),
            )
        )  # fmt: skip
        self._shares.append(dict(report.shares))

    def __len__(self) -> int:
        return len(self._rows)

    def _column(self, index: int, dtype: Any) -> np.ndarray:
        return np.array([row[index] for row in self._rows], dtype)

    @property
    def steps(self) -> np.ndarray:
        """Training steps, (records,) int64."""
        return self._column(0, np.int64)

    @property
    def loss(self) -> np.ndarray:
        """Loss at each step, (records,) float64."""
        return self._column(1, np.float64)

    @property
    def before(self) -> np.ndarray:
        """Global norm of the gradients before clipping, (records,) float64."""
        return self._column(2, np.float64)

    @property
    def after(self) -> np.ndarray:
        """Global norm after clipping, (records,) float64."""
        return self._column(3, np.float64)

    @property
    def scale(self) -> np.ndarray:
        """What the gradients were multiplied by, (records,) float64; 1 where not clipped."""
        return self._column(4, np.float64)

    @property
    def clipped(self) -> np.ndarray:
        """Whether the step was clipped, (records,) bool."""
        return self._column(5, np.bool_)

    @property
    def shares(self) -> dict[str, np.ndarray]:
        """Share of each parameter in the global norm: name to (records,) float64.

        NaN at the steps whose report did not name the parameter.
        """
        names = dict.fromkeys(name for shares in self._shares for name in shares)
        return {
            name: np.array([shares.get(name, np.nan) for shares in self._shares], np.float64)
            for name in names
        }

    @property
    def fraction_clipped(self) -> float:
        """Clipped steps over all steps, 0 to 1; 0 if there are none."""
        return float(np.mean(self.clipped)) if self._rows else 0.0

    def running_fraction_clipped(self, window: int = 100) -> np.ndarray:
        """Fraction clipped among the last ``window`` steps at each step, (records,) float64.

        At the start, among as many as there are.  Raises ArgumentError unless window >= 1.
        """
        if window < 1:
            raise ArgumentError(
                f"running_fraction_clipped: window must be at least 1 step, got {window}"
            )
        total = np.concatenate([[0], np.cumsum(self.clipped)])
        last = np.arange(1, len(total))
        first = np.maximum(last - window, 0)
        return (total[last] - total[first]) / (last - first)
