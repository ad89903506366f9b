"""A program as calls of kernels on memory that stays where it is.

A :class:`minigrad.program.Program` calls ops, which look at shapes, allocate and hand work to
kernels.  With arguments of one kind all of that comes out the same each time, so here the
program runs once on buffers of its own, and what the ops did with them is written down
(:mod:`minigrad.recording`).  From then on arguments are copied into the buffers and
the list is done again, forward and, once there is a gradient, backward.

The buffers are one for all runs, so a run may begin only when nobody can still ask for the
gradients of the one before; and results and gradients are copied out.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from .program import Program
from .recording import Diverged, recorded, repeat


class Rerun:
    """What ``program`` does, as lists of calls.  ``works`` says whether it can be told so.

    inputs: the arrays of its first run, which is made here; ``first()`` gives what came out.
    """

    def __init__(self, program: Program, inputs: Sequence[np.ndarray]) -> None:
        self.program = program
        self.buffers = [x.copy() for x in inputs]
        with recorded() as self.calls:
            self.results, self.vjps = program.forward(self.buffers)
        self.works = program.repeatable and bool(self.calls)
        self._backs: dict[tuple[bool, ...], _Back] = {}
        self._of_loss: _Back | None = None  # from a gradient of 1 of the first result
        self._lock = threading.Lock()
        self._pending: Any = None  # the vjp of the last run, while somebody can call it

    def first(self) -> Any:
        """What :meth:`run` would have returned for the inputs that this was made with."""
        if self.works:
            return self._outcome()
        program, vjps = self.program, self.vjps
        return self.results, lambda gradients: program.backward(vjps, gradients)

    def run(self, inputs: Sequence[np.ndarray]) -> Any:
        """As ``Program.run``; None if the buffers are in use or a call came out differently."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._pending is not None and self._pending() is not None:
                return None
            for buffer, x in zip(self.buffers, inputs):
                buffer[...] = x
            repeat(self.calls)
            return self._outcome()
        except Diverged:
            return None
        finally:
            self._lock.release()

    def both(self, inputs: Sequence[np.ndarray]) -> Any:
        """Results, and gradients of the leaves from a gradient of 1 of the first result.

        None as for :meth:`run`.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._pending is not None and self._pending() is not None:
                return None
            for buffer, x in zip(self.buffers, inputs):
                buffer[...] = x
            repeat(self.calls)
            results = [y.copy() for y in self.results]
            if self._of_loss is None:
                one = np.ones(self.results[0].shape, self.results[0].dtype)
                rest = [None] * (len(results) - 1)
                self._of_loss = _Back(self.program, self.vjps, [one, *rest])
                return results, self._of_loss.copies()
            return results, self._of_loss.again()
        except Diverged:
            return None
        finally:
            self._lock.release()

    def _outcome(self) -> Any:
        """Copies of the results, and the function that gives the gradients."""
        vjps = self.vjps  # in the closure, where graph.saved_arrays finds the arrays

        def vjp(gradients: Sequence[Any]) -> tuple[Any, ...]:
            return self._gradients(vjps, gradients)

        self._pending = weakref.ref(vjp)
        return tuple([y.copy() for y in self.results]), vjp

    def _gradients(self, vjps: list[Any], gradients: Sequence[Any]) -> tuple[Any, ...]:
        wanted = tuple([g is not None for g in gradients])
        back = self._backs.get(wanted)
        if back is None:
            back = self._backs[wanted] = _Back(self.program, vjps, gradients)
            return back.copies()
        return back.run(gradients)


class _Back:
    """The way back, for gradients of certain results."""

    def __init__(self, program: Program, vjps: list[Any], gradients: Sequence[Any]) -> None:
        self.seeds = [None if g is None else np.array(g, order="C") for g in gradients]
        with recorded() as self.calls:
            self.leaves = program.backward(vjps, self.seeds)
        self.program, self.vjps = program, vjps

    def run(self, gradients: Sequence[Any]) -> tuple[Any, ...]:
        if not self.calls:  # cannot be repeated: the ops themselves, on the same buffers
            return self.program.backward(self.vjps, gradients)
        for seed, gradient in zip(self.seeds, gradients):
            if seed is not None:
                seed[...] = gradient
        return self.again()

    def again(self) -> tuple[Any, ...]:
        """The gradients from the seeds as they are."""
        if not self.calls:
            return self.program.backward(self.vjps, self.seeds)
        repeat(self.calls)
        return self.copies()

    def copies(self) -> tuple[Any, ...]:
        """The gradients, out of the buffers."""
        return tuple([None if leaf is None else leaf.copy() for leaf in self.leaves])


