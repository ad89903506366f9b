"""What all recurrences share: sizes, checks of input, state and lengths, cell and layer.

Every kind of recurrence comes three times, in a file of its own:

    _Kind(Recurrent)        its parameters, and ``step``: one time step of simple ops, to read
    KindCell(_Kind, Cell)   called with one time step
    Kind(_Kind, Layer)      called with whole sequences, one kernel call for all of them

Cell and layer keep the same parameters under the same names, so one can be loaded into the
other, and :func:`minigrad.nn.unroll` of the one gives the numbers of the other.

A *state* is one tensor (N, H), or a tuple of them where there are several parts: (h, c).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ... import functional as F
from ...errors import ArgumentError, DTypeError, IndexRangeError, ShapeError, axes
from ...nodes import is_grad_enabled, mode, name_state
from ...ops.indexing import check_ids
from ...prepared import prepared
from ...tensor import Tensor
from ..layers import require_array, same_dtype
from ..module import Module, Parameter


class Recurrent(Module):
    """Base of cells and layers.  A kind sets ``input_size``, ``hidden_size``, ``w_x``, ``w_h``.

    ``state_names`` says which parts its state has, ``state_sizes`` how wide each of them is;
    ``output_size`` is the width of the output (the first part of the state).
    ``gate_kinds`` names the activations inside, in the order in which they are shown to
    :class:`minigrad.watch.Saturation`, and what each has gone through.
    """

    switches = (*Module.switches, "flow", "gates")
    flow: Callable[..., None] | None = None
    gates: Callable[..., None] | None = None
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    gate_kinds: dict[str, str] = {}  # name -> a key of watch.LIMITS
    input_size: int
    hidden_size: int
    w_x: Parameter  # (D, ...)
    w_h: Parameter  # (H, ...)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Width of each part of the state."""
        return (self.hidden_size,) * len(self.state_names)

    @property
    def output_size(self) -> int:
        """Width of the output."""
        return self.state_sizes[0]

    def zero_state(self, batch: int) -> Any:
        """The state filled with zeros, each part (batch, H).  Raises ArgumentError."""
        if not isinstance(batch, (int, np.integer)) or batch < 0:
            raise ArgumentError(f"{type(self).__name__}.zero_state: batch cannot be {batch!r}")
        dtype = self.w_h.dtype
        return self._pack([Tensor(np.zeros((batch, size), dtype)) for size in self.state_sizes])

    def step(self, x: Any, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One time step of simple ops: x (N, D) or (N,) ids, the parts of the state (N, H).

        Returns the output (N, H) and the parts of the new state.
        """
        raise TypeError(f"{type(self).__name__} does not define step()")

    # -- parts that kinds use -----------------------------------------------------------

    def _show_gates(self, *activations: Any) -> None:
        """``step`` calls this with what ``gate_kinds`` names, (N, H) each."""

    def _pack(self, parts: Any) -> Any:
        """The parts of a state as the user sees it."""
        return tuple(parts) if len(self.state_names) > 1 else parts[0]

    def _parts_of(self, state: Any, batch: int) -> tuple[Any, ...]:
        """The parts of a state, checked; zeros for None.  Raises ShapeError, DTypeError."""
        if state is None:
            state = self.zero_state(batch)
        names = ", ".join(self.state_names)
        wanted = f"({names})" if len(self.state_names) > 1 else names
        several = isinstance(state, (tuple, list))
        parts = tuple(state) if several else (state,)
        if len(parts) != len(self.state_names) or several != (len(self.state_names) > 1):
            raise ShapeError(
                f"{type(self).__name__}: the state must be {wanted}, got "
                + (f"{len(parts)} parts" if several else "one tensor")
            )
        for name, part, size in zip(self.state_names, parts, self.state_sizes):
            if getattr(part, "shape", None) != (batch, size):
                raise ShapeError(
                    f"{type(self).__name__}: state {name} is "
                    f"{axes(getattr(part, 'shape', ()), 'NH')} but the input has batch {batch} and "
                    f"the layer {name} of size {size}"
                )
            name_state(part, name)
        return parts

    def _is_ids(self, x: Any, letters: str) -> bool:
        """Whether x holds ids instead of vectors; raise ShapeError if it is neither."""
        require_array(type(self).__name__, x)
        ids = x.dtype.kind in "iu"
        wanted = letters[:-1] if ids else letters
        if x.ndim != len(wanted) or (not ids and x.shape[-1] != self.input_size):
            raise ShapeError(
                f"{type(self).__name__}: x must be ({', '.join(letters)}) floats with "
                f"D={self.input_size} or ({', '.join(letters[:-1])}) integer ids, got "
                f"{axes(x.shape, wanted)} {x.dtype}"
            )
        if not ids:
            same_dtype(type(self).__name__, x, self.w_x)
        return ids

    def _from_input(self, x: Any) -> Tensor:
        """x @ w_x; for ids, which stand for one-hot vectors, rows of w_x."""
        if x.dtype.kind in "iu":
            return F.embedding(self.w_x, getattr(x, "array", x))
        return F.matmul(x, self.w_x)


class Cell(Recurrent):
    """A recurrence called with one time step.

    ``flow`` and ``gates`` may be set to functions (see :mod:`minigrad.watch`).  Each call
    then calls ``flow(t, *state)`` with the parts of the new state, and
    ``gates(t, running, *activations)`` with what ``gate_kinds`` names, (N, H) each;
    running: (N,) bool, the sequences that have not ended, or None for all.
    """

    _time = -1
    _running: np.ndarray | None = None
    _told: tuple[int, np.ndarray | None] | None = None

    def at(self, t: int, running: np.ndarray | None = None) -> None:
        """Say that the next call is time step t; ``nn.unroll`` does, for those who watch.

        Without it a call with a state that no op made (none, zeros, a detached one) is step
        0 of a new window, and any other call the step after the last.
        running: (N,) bool, the sequences that have not ended before t.
        """
        self._told = t, running

    def _next_step(self, parts: tuple[Any, ...]) -> None:
        fresh = all(getattr(part, "node", None) is None for part in parts)
        self._time, self._running = self._told or (0 if fresh else self._time + 1, None)
        self._told = None

    def _show_gates(self, *activations: Any) -> None:
        if self.gates is not None and is_grad_enabled():
            self.gates(self._time, self._running, *activations)

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """One step.

        x: (N, D) floats or (N,) integer ids, which stand for one-hot vectors.
        state: as ``zero_state`` gives it; zeros if None.
        Returns the output (N, H) and the new state.  Raises ShapeError, DTypeError.
        """
        self._is_ids(x, "ND")
        parts = self._parts_of(state, x.shape[0])
        if self.flow is not None or self.gates is not None:
            self._next_step(parts)
        output, parts = self.step(x, parts)
        if self.flow is not None:
            self.flow(self._time, *parts)
        return output, self._pack(parts)


class Layer(Recurrent):
    """A recurrence called with whole sequences: one kernel call for all time steps, each way.

    ``flow`` may be set to a function; each backward pass calls it with an array
    (parts of the state, T), the norms of the total dL/dh_t (and dL/dc_t) over the sequences
    that have not ended.  ``gates`` may be set to a function; each forward pass that is
    recorded calls it with the lengths (N,), or None, and the activations that ``gate_kinds``
    names, in blocks (T, gates, N, H) or (T, N, H).  See :mod:`minigrad.watch`.
    """

    time_major = False
    kept_blocks = 0  # arrays (T, N, H) that the op keeps for its backward pass, besides states

    @property
    def multiplies_first(self) -> bool:
        """Whether x w_x is a product of its own, before the kernel."""
        return True

    def bytes_kept(
        self, batch: int, steps: int, *, ids: bool = False, lengths: bool = False
    ) -> int:
        """Bytes that a call keeps for its backward pass, at most: linear in N and in T.

        batch, steps: N and T.  ids: whether the input will be ids.  lengths: whether
        lengths will be given.  Parameters, which live anyway, are not counted.
        :func:`minigrad.watch.memory` counts what a call has kept.
        """
        numbers = self.kept_blocks * self.hidden_size + sum(self.state_sizes)  # a row and step
        if not ids:
            numbers += self.input_size  # x
        if not ids and self.multiplies_first:
            numbers += self.w_x.shape[1]  # x w_x
        if not ids and not self.time_major:
            numbers += self.input_size  # x with time first
        if lengths:
            numbers += self.output_size  # outputs with zeros past the end
        rows = batch * steps
        before = 2 * batch * sum(self.state_sizes)  # the state at the start, given and copied
        floats = rows * numbers + before + self.w_h.size + 2 * self.w_h.shape[1]  # w_h, biases
        integers = rows * (2 if ids else 1) + batch  # ids, where each row is; where sequences end
        return floats * self.w_h.dtype.itemsize + 8 * integers

    def _watchers(self, lengths: np.ndarray | None) -> dict[str, Any]:
        """Arguments for the op: to whom it shows gradients and gates; none if nobody asked."""
        found: dict[str, Any] = {}
        if self.flow is not None:
            found["flow"] = self.flow
        if self.gates is not None and is_grad_enabled():
            found["show_gates"] = functools.partial(self.gates, lengths)
        return found

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        """All steps of a batch of sequences.

        x: (N, T, D) floats or (N, T) integer ids, which stand for one-hot vectors; with
        time_major (T, N, ...).  state: as ``zero_state`` gives it; zeros if None.
        lengths: (N,) integers in [0, T], all T if None.  Past the end of a sequence outputs
        are zero and the state is copied through (TensorFlow's ``sequence_length``).
        Returns the outputs (N, T, H), or (T, N, H), and the last state.
        Raises ShapeError, DTypeError, ArgumentError before anything is computed.
        """
        self._is_ids(x, "TND" if self.time_major else "NTD")
        if not self.time_major:
            x = x.swapaxes(0, 1)
        steps, batch = x.shape[:2]
        parts = self._parts_of(state, batch)
        lengths = checked_lengths(type(self).__name__, lengths, steps, batch)
        try:
            outputs, parts = self._sequence(x, parts, lengths)
        except IndexRangeError:  # it names the place with time first; here as the caller gave it
            ids = np.asarray(x if self.time_major else x.swapaxes(0, 1))
            check_ids(type(self).__name__, ids, self.w_x.shape[0])
            raise
        return (outputs if self.time_major else outputs.swapaxes(0, 1)), self._pack(parts)

    def _sequence(
        self, x: Any, state: tuple[Any, ...], lengths: np.ndarray | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x (T, N, D) or ids (T, N), time first, all checked -> outputs (T, N, H) and state."""
        raise TypeError(f"{type(self).__name__} does not define _sequence()")


def gate_index(where: str, gates: str, name: Any) -> int:
    """Which of the blocks of weights is that of a gate.  Raises ArgumentError."""
    if not isinstance(name, str) or len(name) != 1 or name not in gates:
        raise ArgumentError(f"{where}: the gates are {', '.join(gates)}; there is no {name!r}")
    return gates.index(name)


def checked_lengths(where: str, lengths: Any, steps: int, batch: int) -> np.ndarray | None:
    """``lengths`` as an int64 array (N,), or None if every sequence is whole.

    Raises ShapeError, DTypeError or ArgumentError for anything but (N,) integers in [0, T].
    """
    if lengths is None:
        return None
    lengths = prepared(_within, where, lengths, steps, batch)
    if mode.tape is None and lengths.min(initial=steps) == steps:
        return None
    return lengths  # a captured function may be given others the next time


def _within(where: str, lengths: Any, steps: int, batch: int) -> np.ndarray:
    lengths = np.asarray(getattr(lengths, "array", lengths))
    if lengths.shape != (batch,):
        raise ShapeError(f"{where}: lengths must be (N={batch},), got shape {lengths.shape}")
    if lengths.dtype.kind not in "iu":
        raise DTypeError(f"{where}: lengths must be integers, got {lengths.dtype}")
    whole = lengths.astype(np.int64)
    if whole.min(initial=0) < 0 or whole.max(initial=0) > steps:
        wrong = np.flatnonzero((whole < 0) | (whole > steps))
        raise ArgumentError(
            f"{where}: lengths must be in [0, T={steps}], but lengths[{wrong[0]}] is "
            f"{lengths[wrong[0]]}"
        )
    return whole
