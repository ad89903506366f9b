"""Writing down with which arguments a program calls the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from minigrad import kernels
from minigrad.kernels import Kernel

TOLERANCE = 1e-3  # of the largest number of an array


class Call(NamedTuple):
    """One call of a kernel; ``rows`` and ``grain`` where threads share it, else None and 0."""

    kernel: Kernel
    args: tuple[Any, ...]
    rows: int | None = None
    grain: int = 0

    @property
    def named(self) -> SimpleNamespace:
        """The arguments by the names that the twin gives them."""
        return SimpleNamespace(**dict(zip(self.kernel.names, self.args)))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Those that are arrays; each memory once."""
        found: dict[str, np.ndarray] = {}
        seen: set[int] = set()
        for name, value in zip(self.kernel.names, self.args):
            if isinstance(value, np.ndarray) and value.ctypes.data not in seen:
                seen.add(value.ctypes.data)
                found[name] = value
        return found

    @property
    def outputs(self) -> list[np.ndarray]:
        """The arrays that the kernel writes."""
        return [self.args[i] for i in self.kernel.outputs]

    @property
    def threads(self) -> int:
        """Threads that take part, as run_rows decides it."""
        if self.rows is None or self.rows < 2 * max(self.grain, 1):
            return 1
        return min(kernels.get_num_threads(), self.rows // max(self.grain, 1))

    @property
    def whole(self) -> tuple[Any, ...]:
        """The arguments of the call that does all rows at once."""
        return self.args if self.rows is None else (*self.args, 0, self.rows)

    def fast(self) -> None:
        """The compiled kernel, as the program ran it."""
        if self.rows is None:
            self.kernel.compiled(*self.args)
        else:
            kernels.run_rows(self.kernel, self.rows, self.grain, *self.args)

    def slow(self) -> None:
        """The NumPy twin."""
        with np.errstate(all="ignore"):
            self.kernel.twin(*self.whole)

    def check(self) -> None:
        """Raise ValueError unless both give the same here, but for rounding (TOLERANCE).

        What kernels compute exactly is for tests; this is to see that both do the same work.
        """
        before = [array.copy() for array in self.outputs]
        self.fast()
        found = [array.copy() for array in self.outputs]
        for array, value in zip(self.outputs, before):
            np.copyto(array, value)
        self.slow()
        for name, fast, slow in zip(self.kernel.outputs, found, self.outputs):
            limit = TOLERANCE * np.abs(slow).max(initial=0)
            if slow.size and not np.abs(fast.astype(np.float64) - slow).max() <= limit:
                raise ValueError(
                    f"kernels: {self.kernel.names[name]} of {self.kernel.name} is not what the "
                    f"NumPy twin makes of the same arguments"
                )


@contextmanager
def written_down() -> Iterator[list[Call]]:
    """``with written_down() as calls:`` all calls of kernels, in order, whoever makes them."""
    calls: list[Call] = []
    plain, plain_rows = Kernel.__call__, kernels.run_rows
    watched: Any = Kernel  # all kernels, also those not imported yet
    place: Any = kernels

    def called(kernel: Kernel, *args: Any) -> Any:
        calls.append(Call(kernel, args))
        return plain(kernel, *args)

    def shared(kernel: Kernel, rows: int, grain: int, *args: Any) -> None:
        calls.append(Call(kernel, args, rows, grain))
        watched.__call__ = plain  # what it calls in turn is part of it
        try:
            plain_rows(kernel, rows, grain, *args)
        finally:
            watched.__call__ = called

    watched.__call__, place.run_rows = called, shared
    try:
        yield calls
    finally:
        watched.__call__, place.run_rows = plain, plain_rows


def largest(calls: list[Call], name: str) -> Call | None:
    """The call of kernel `name` with the most bytes in its arguments."""
    found = [call for call in calls if call.kernel.name == name]
    return max(found, key=lambda c: sum(a.nbytes for a in c.arrays.values()), default=None)
