"""How many gates are stuck where their slope is nearly zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, ShapeError
from ..nn.rnn.base import Cell, Layer
from .layers import LayerRecorder, rows

# Kind of activation -> where it is flat: at or below the one, at or above the other.  At
# both ends of each, tanh and sigmoid have 0.19 of their largest slope (tanh is a sigmoid
# stretched to (-1, 1), and 0.05 of the way up is -0.9 there).
LIMITS = {
    "sigmoid": (0.05, 0.95),
    "tanh": (-0.9, 0.9),
    "into tanh": (-math.atanh(0.9), math.atanh(0.9)),  # a number that is about to go into tanh
    "relu": (0.0, math.inf),
}


class Saturation(LayerRecorder):
    """Fraction of each gate's activations that are saturated, by time step and training step.

    One record a forward pass (none under no_grad()).  Saturated: a sigmoid at or below 0.05
    or at or above 0.95, a tanh at or beyond +-0.9, which is as far along; a relu at 0.
    Sequences that have ended do not count.

    kinds: name of each activation -> its kind, a key of ``LIMITS``; a recurrent layer has
    them as ``layer.gate_kinds``.  ``Saturation.attach(model)`` watches all layers of a
    model.  One by one:

        gates = watch.Saturation(lstm.gate_kinds)
        lstm.gates = gates.record        # a fused layer; None switches it off
        cell.gates = gates.watch_step    # a cell, called in a loop or by nn.unroll

    A cell of one's own says itself: ``gates.watch_step(t, None, i, j, f, o, c)``.
    Raises ArgumentError for an unknown kind.

    >>> import minigrad as mg
    >>> from minigrad import nn, watch
    >>> lstm = nn.LSTM(3, 5, generator=mg.manual_seed(0))
    >>> gates = watch.Saturation(lstm.gate_kinds)
    >>> lstm.gates = gates.record
    >>> outputs, state = lstm(100 * mg.ones(2, 7, 3))
    >>> gates.both["i"].shape
    (1, 7)
    """

    _slot = "gates"

    def __init__(self, kinds: Mapping[str, str]) -> None:
        super().__init__()
        wrong = [kind for kind in kinds.values() if kind not in LIMITS]
        if wrong or not kinds:
            raise ArgumentError(
                f"Saturation: kinds must name activations, each one of {', '.join(LIMITS)}, got "
                f"{dict(kinds)}"
            )
        self.kinds = dict(kinds)
        self._limits = np.array([LIMITS[kind] for kind in kinds.values()]).T  # (2, G)
        self._records: list[list[np.ndarray]] = []  # a record: (2, G) for each time step

    @classmethod
    def _of(cls, layer: Cell | Layer) -> Saturation:
        return cls(layer.gate_kinds)

    def record(self, lengths: np.ndarray | None, *blocks: np.ndarray) -> None:
        """Add one forward pass of a fused layer.

        lengths: (N,) int64, or None if all sequences are whole.
        blocks: the activations in the order of ``kinds``, some at a time: arrays
        (T, gates, N, H) or (T, N, H).  Raises ShapeError if they are not as many as kinds.
        """
        wide = [b if b.ndim == 4 else b[:, None] for b in blocks]
        if sum(b.shape[1] for b in wide) != len(self.kinds):
            shapes = ", ".join(str(b.shape) for b in blocks)
            raise ShapeError(
                f"Saturation.record: {len(self.kinds)} activations ({', '.join(self.kinds)}) are "
                f"expected in arrays (T, gates, N, H) or (T, N, H), got {shapes}"
            )
        steps, _, batch, _ = wide[0].shape
        ends = np.full(batch, steps) if lengths is None else lengths
        running = (np.arange(steps)[:, None] < ends).sum(axis=1)[:, None]  # (T, 1) rows
        shares, first = np.empty((2, steps, len(self.kinds))), 0
        for block in wide:
            gates, width = block.shape[1], block.shape[3]
            last = first + gates
            low, high = self._limits[:, first:last].astype(block.dtype)
            counts = np.empty((2, steps, gates), np.int64)
            kernels.count_saturated(np.ascontiguousarray(block), ends, low, high, counts)
            with np.errstate(invalid="ignore"):  # a step that no sequence reaches is NaN
                shares[:, :, first:last] = counts / (running * width)
            first = last
        self._number_record()
        self._records.append(list(shares.swapaxes(0, 1)))

    def watch_step(self, t: int, running: np.ndarray | None, *activations: Any) -> None:
        """Take in one step of a cell.

        t: 0, 1, 2 and so on within a window; 0 begins a record.  running: (N,) bool, the
        sequences that have not ended, or None for all.  activations: in the order of
        ``kinds``, tensors or arrays (N, H).
        Raises ArgumentError if a step was left out, ShapeError if activations are missing.
        """
        length = len(self._records[-1]) if self._records else 0
        if t != 0 and (t != length or not self._records):
            raise ArgumentError(
                f"Saturation.watch_step: t must be {length}, the step after the last one "
                f"watched, or 0 for a new window, got {t}"
            )
        if len(activations) != len(self.kinds):
            raise ShapeError(
                f"Saturation.watch_step: {len(self.kinds)} activations "
                f"({', '.join(self.kinds)}) are expected, got {len(activations)}"
            )
        shares = np.empty((2, len(self.kinds)))
        for gate, (value, low, high) in enumerate(zip(activations, *self._limits)):
            array = np.asarray(getattr(value, "array", value))
            array = array if running is None else array[running]
            low, high = array.dtype.type(low), array.dtype.type(high)
            with np.errstate(invalid="ignore"):
                total = np.float64(array.size)
                shares[:, gate] = np.sum(array <= low) / total, np.sum(array >= high) / total
        if t == 0:
            self._number_record()
            self._records.append([])
        self._records[-1].append(shares)

    def _last(self) -> str:
        both = [self._both(gate) for gate in range(len(self.kinds))]
        return "saturated " + ", ".join(
            f"{name} {np.nanmean(row):.0%}" if np.isfinite(row).any() else f"{name} -"
            for name, row in zip(self.kinds, both)
        )

    def _grid(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [name, *("" if np.isnan(share) else f"{share:.0%}" for share in self._both(gate))]
            for gate, name in enumerate(self.kinds)
        ]
        return ["saturated", *(f"t={t}" for t in range(len(self._records[-1])))], rows

    def _both(self, gate: int) -> np.ndarray:
        """Share of a gate that is saturated at each step of the last record, (T,)."""
        return np.array([step[:, gate].sum() for step in self._records[-1]])

    @property
    def low(self) -> dict[str, np.ndarray]:
        """Fraction saturated at the lower end: name -> (records, T) float64 in [0, 1].

        NaN after the end of a shorter window, and where every sequence has ended.
        """
        return self._table(lambda step: step[0])

    @property
    def high(self) -> dict[str, np.ndarray]:
        """Fraction saturated at the upper end, as ``low``."""
        return self._table(lambda step: step[1])

    @property
    def both(self) -> dict[str, np.ndarray]:
        """Fraction saturated at either end, as ``low``."""
        return self._table(lambda step: step[0] + step[1])

    def _table(self, value: Any) -> dict[str, np.ndarray]:
        records = [
            np.array([value(step) for step in record]).reshape(-1, len(self.kinds))
            for record in self._records
        ]
        return {
            name: rows([record[:, gate] for record in records])
            for gate, name in enumerate(self.kinds)
        }
