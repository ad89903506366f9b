"""Truncated back-propagation through time: windows, the state between them, where gradients stop.

A long series is cut into windows.  The state at the end of one is where the next begins, but
detached: its numbers are carried on and gradients are not (Williams and Peng 1990).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np

from ...errors import ArgumentError, DTypeError, ShapeError
from ...nodes import eras, tick
from ...tensor import Tensor
from ..layers import positive
from .compose import map_state


def detach(state: Any) -> Any:
    """A state outside the graph: the same numbers, from which no gradient goes further back.

    state: a tensor, a (nested) tuple of tensors, or None.  ``state = nn.detach(state)`` between
    two windows is what makes back-propagation through time truncated.
    Raises DTypeError for anything else.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> outputs, state = nn.LSTM(3, 5, generator=rng)(mg.ones(2, 7, 3))
    >>> [part.requires_grad for part in nn.detach(state)]
    [False, False]
    """
    return map_state(_detached, state)


def _detached(part: Any) -> Tensor:
    if not isinstance(part, Tensor):
        raise DTypeError(
            f"detach: a state is a tensor or a tuple of tensors, got {type(part).__name__}"
        )
    return part.detach()


class Window:
    """One window of a series: ``x, y = window`` gives its arrays.

    data: its arrays, a tuple.  index: 0, 1, 2 and so on in a pass.  start, stop: the time steps
    of the series that it covers, stop not included.
    state: comes in as the window before left it, detached; what is assigned to it goes on.
    """

    def __init__(
        self, data: tuple[Any, ...], index: int, start: int, stop: int, state: Any
    ) -> None:
        self.data = data
        self.index = index
        self.start = start
        self.stop = stop
        self.state = state

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def __repr__(self) -> str:
        return f"Window({self.index}, time steps {self.start} to {self.stop - 1})"


class TBPTT:
    """Windows over long series, with the state that is carried from each to the next.

        windows = nn.TBPTT(x, y, steps=15)
        for window in windows:
            inputs, targets = window                            # (N, 15, ...) each
            outputs, window.state = rnn(inputs, window.state)   # detached at the window's edge
            loss = ...
            loss.backward()

    series: arrays or tensors (N, T_total, ...), with time_major (T_total, N, ...), with one
    T_total.  steps: time steps in a window.  A last window that would be shorter comes too,
    unless drop_last.  state: what the first window begins with (None: zeros); every ``iter()``
    begins there again.

    In a loop over windows the error about a graph that was walked already says in which window
    the state was made; a state in a variable of one's own is detached by :func:`detach`.
    ``edges`` and ``state`` tell where gradients were stopped and what was carried last.

    Raises ArgumentError, ShapeError, DTypeError.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> import numpy as np
    >>> x = np.arange(12.0).reshape(1, 12)
    >>> [window for window in nn.TBPTT(x, x, steps=5)]
    [Window(0, time steps 0 to 4), Window(1, time steps 5 to 9), Window(2, time steps 10 to 11)]
    """

    def __init__(
        self,
        *series: Any,
        steps: int,
        state: Any = None,
        time_major: bool = False,
        drop_last: bool = False,
    ) -> None:
        positive("TBPTT", steps=steps)
        if not series:
            raise ArgumentError("TBPTT: needs at least one series")
        layout = "(T_total, N, ...)" if time_major else "(N, T_total, ...)"
        axis = 0 if time_major else 1
        totals = [_steps_of(f"TBPTT: series {i} must be {layout}", s, axis)
                  for i, s in enumerate(series)]  # fmt: skip
        for i, total in enumerate(totals):
            if total != totals[0]:
                raise ShapeError(
                    f"TBPTT: series {i} has {total} time steps (axis {axis} of {series[i].shape}), "
                    f"but series 0 has {totals[0]} (axis {axis} of {series[0].shape})"
                )
        last = totals[0] - steps + 1 if drop_last else totals[0]
        cuts = [slice(start, start + steps) for start in range(0, last, steps)]
        if not cuts:
            raise ShapeError(
                f"TBPTT: {totals[0]} time steps make no window of steps={steps}"
                + (" (drop_last leaves shorter ones out)" if drop_last else "")
            )
        self._windows: Iterable[Any] = _Cuts(series, cuts, axis)
        self._begin(state, None, axis)

    @classmethod
    def over(
        cls, windows: Iterable[Any], steps: int | None = None, state: Any = None,
        time_major: bool = False,
    ) -> TBPTT:  # fmt: skip
        """Windows that somebody else cuts: ``nn.TBPTT.over(SequenceBatches(ids, 20, 35))``.

        windows: arrays, or tuples of arrays, (N, T, ...), with time_major (T, N, ...), in the
        order of time; asked again for each pass.  steps: how many time steps a window goes on
        by, if that is not the T of its first array (as with windows that overlap).
        Raises DTypeError for windows that cannot be gone through, ArgumentError.
        """
        if not isinstance(windows, Iterable):
            raise DTypeError(f"TBPTT.over: windows must be iterable, not {type(windows).__name__}")
        if steps is not None:
            positive("TBPTT.over", steps=steps)
        self = cls.__new__(cls)
        self._windows = windows
        self._begin(state, steps, 0 if time_major else 1)
        return self

    def _begin(self, state: Any, steps: int | None, axis: int) -> None:
        self._first = state
        self._steps = steps
        self._axis = axis
        self._starts: list[int] = []
        self.state = state

    def __len__(self) -> int:
        """Number of windows in a pass.  Raises DTypeError if nobody knows it before the end."""
        if not isinstance(self._windows, Sized):
            raise DTypeError(f"TBPTT: a {type(self._windows).__name__} of windows has no length")
        return len(self._windows)

    def __iter__(self) -> Iterator[Window]:
        self.state, self._starts = self._first, []
        start = 0
        for index, data in enumerate(self._windows):
            data = data if isinstance(data, (tuple, list)) else (data,)
            steps = self._steps or _steps_of("TBPTT.over: a window must be", data[0], self._axis)
            window = Window(tuple(data), index, start, start + steps, self.state)
            self._starts.append(start)
            with _Era(f"window {index} (time steps {start} to {start + steps - 1})"):
                yield window
            self.state = detach(window.state)  # its numbers go on; gradients stop here
            start += steps

    @property
    def edges(self) -> np.ndarray:
        """Where gradients were stopped in this pass: the first time step of every window but the
        first, (windows - 1,) int64."""
        return np.array(self._starts[1:], np.int64)


class _Cuts:
    """Series cut along ``axis``; may be read again and again."""

    def __init__(self, series: tuple[Any, ...], cuts: list[slice], axis: int) -> None:
        self.series, self.cuts, self.axis = series, cuts, axis

    def __len__(self) -> int:
        return len(self.cuts)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for cut in self.cuts:
            yield tuple(each[cut] if self.axis == 0 else each[:, cut] for each in self.series)


def _steps_of(where: str, array: Any, axis: int) -> int:
    """Length of the time axis.  Raises DTypeError or ShapeError."""
    shape = getattr(array, "shape", None)
    if shape is None:
        raise DTypeError(f"{where} an array or a tensor, got {type(array).__name__}")
    if len(shape) <= axis or shape[axis] == 0:
        raise ShapeError(f"{where} with time steps along axis {axis}, got shape {shape}")
    return shape[axis]


# -- which window something was made in -----------------------------------------------------


class _Era:
    """``with`` block that has a name, for what was made in it by this thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread = threading.get_ident()
        self.began = tick()
        self.ended: int | None = None  # not yet

    def __enter__(self) -> None:
        _recent.append(self)

    def __exit__(self, *exc: object) -> None:
        self.ended = tick()

    def holds(self, at: int) -> bool:
        """Whether something at this tick belongs here."""
        mine = self.thread == threading.get_ident()
        return mine and self.began <= at and (self.ended is None or at < self.ended)


_recent: deque[_Era] = deque(maxlen=1000)


def _era(at: int) -> str:
    """The innermost window that a tick belongs to, or ""."""
    return next((era.name for era in reversed(list(_recent)) if era.holds(at)), "")


eras.append(_era)
