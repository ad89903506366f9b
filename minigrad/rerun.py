"""A program as calls of kernels on memory that stays where it is.

A :class:`minigrad.program.Program` calls ops, which look at shapes, allocate and hand work to
kernels.  With arguments of one kind all of that comes out the same each time, so here the
program runs once on buffers of its own, and what the ops did with them is written down
(:mod:`minigrad.recording`).  From then on arguments are copied into the buffers and
the list is done again, forward and, once there is a gradient, backward.  As far as it can be,
the list is machine code by then (:mod:`minigrad.kernels.native`).

The buffers are one for all runs, so a run may begin only when nobody can still ask for the
gradients of the one before; and results and gradients are copied out.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .kernels import mode, native
from .program import Program
from .recording import Calls, Diverged, arrays_in, recorded, repeat, without_unused

_LARGE = 1 << 15  # bytes from which copying an argument takes longer than looking up its address


class Rerun:
    """What ``program`` does, as lists of calls.  ``works`` says whether it can be told so.

    inputs: the arrays of its first run, which is made here; ``first()`` gives what came out.
    """

    def __init__(self, program: Program, inputs: Sequence[np.ndarray]) -> None:
        self.program = program
        self.buffers = [x.copy() for x in inputs]
        with recorded() as calls:
            self.results, self.vjps = program.forward(self.buffers)
        self.works = program.repeatable and bool(calls)
        self.calls = calls
        self._quick: Calls | None = None  # the same as machine code, once it is wanted
        self._backs: dict[tuple[bool, ...], _Back] = {}
        self._of_loss: _Back | None = None  # from a gradient of 1 of the first result
        self._both: _Whole | None = None  # forward and from there back
        self._training: _Whole | None = None  # the same and an update
        self._update: Any = None
        self._changes = 16  # how often a changed optimiser is worth new code
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
        return self._alone(self._run, inputs)

    def both(self, inputs: Sequence[np.ndarray]) -> Any:
        """Results, and gradients of the leaves from a gradient of 1 of the first result.

        None as for :meth:`run`.
        """
        return self._alone(self._run_both, inputs)

    def train(
        self, inputs: Sequence[np.ndarray], optimizer: Any, clip_norm: float | None, site: Any
    ) -> Any:
        """A training step: results, and the report of the clipping (or None).

        optimizer: a :class:`minigrad.optim.Optimizer`.  site: where the step is made.  None if
        it must be made of its parts, or a call came out differently; nothing is changed then.
        Not for several threads at a time.
        """
        if self._training is None or not self._update.ready():
            self._training = self._new_training(optimizer, clip_norm)
            if self._training is None:
                return None
        try:
            self._training.run(inputs)
        except Diverged:
            return None
        report = self._update.finish(site)
        return [y.copy() for y in self.results], report

    def _new_training(self, optimizer: Any, clip_norm: float | None) -> _Whole | None:
        back, own = self._of_loss, self.program.inputs
        if back is None or not back.calls or not self._changes or mode() != "numba":
            return None
        self._changes -= 1
        if any([leaf is not None for leaf in back.leaves[:own]]):
            return None  # an argument wants its gradient
        leaves, copies = self._to_keep(back, back.leaves[own:])
        gradients = {id(t): leaf for t, leaf in zip(self.program.externals, leaves)}
        self._update = optimizer.on_gradients(gradients, clip_norm)
        if self._update is None or not self._update.ready():
            return None
        return _Whole(self, back, [*copies, *self._update.calls])

    def _to_keep(self, back: _Back, leaves: Sequence[Any]) -> tuple[list[Any], Calls]:
        """Gradients as arrays that may be written to, and the calls that copy some for it.

        Not copied is what one call makes, or begins anew, and nothing else knows.  Two
        parameters may have one gradient between them.
        """
        calls = [*self.calls, *back.calls]
        known = [*self.results, *self.buffers, *back.seeds]
        known += [tensor.array for tensor in self.program.externals]
        kept: list[Any] = []
        copies: Calls = []
        for i, leaf in enumerate(leaves):
            if leaf is not None:
                others = [x for x in (*known, *leaves[:i], *leaves[i + 1 :]) if x is not None]
                uses = [call for call in calls if _uses(call[1], leaf)]
                made = len(uses) == 1 or uses and _overwrites(*uses[0], leaf)
                if not made or not leaf.flags.c_contiguous or _uses(others, leaf):
                    copy = np.empty(leaf.shape, leaf.dtype)
                    copies.append((np.copyto, (copy, leaf)))
                    leaf = copy
            kept.append(leaf)
        return kept, copies

    def _alone(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call it if nobody else uses the buffers; None if so, or if it came out differently."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._pending is not None and self._pending() is not None:
                return None
            return function(*args)
        except Diverged:
            return None
        finally:
            self._lock.release()

    def _run(self, inputs: Sequence[np.ndarray]) -> Any:
        for buffer, x in zip(self.buffers, inputs):
            buffer[...] = x
        if self._quick is None:
            calls = self.calls
            if not any(self.program.grads):
                calls = without_unused(calls, self.results)
            self._quick = quickly(calls)
        repeat(self._quick)
        return self._outcome()

    def _run_both(self, inputs: Sequence[np.ndarray]) -> Any:
        back = self._of_loss
        if back is not None and back.calls:
            if self._both is None:
                self._both = _Whole(self, back)
            self._both.run(inputs)
            return [y.copy() for y in self.results], back.copies()
        for buffer, x in zip(self.buffers, inputs):
            buffer[...] = x
        repeat(self.calls)
        results = [y.copy() for y in self.results]
        if back is None:
            one = np.ones(results[0].shape, results[0].dtype)
            rest = [None] * (len(results) - 1)
            self._of_loss = back = _Back(self.program, self.vjps, [one, *rest])
            return results, back.copies()
        return results, back.again()

    def _outcome(self) -> Any:
        """Copies of the results, and the function that gives the gradients."""
        vjps = self.vjps  # in the closure, where nodes.saved_arrays finds the arrays

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


def quickly(calls: Calls, places: native.Places | None = None) -> Calls:
    """The calls as machine code, unless the readable kernels are wanted."""
    return native.joined(calls, places) if mode() == "numba" else calls


def _uses(args: Any, memory: np.ndarray) -> bool:
    """Whether some arguments have an array in this memory."""
    return any([np.may_share_memory(memory, x) for x in arrays_in(args)])


def _overwrites(function: Any, args: Any, memory: np.ndarray) -> bool:
    """Whether a call fills all of this memory, whatever has been there."""
    if function is not np.copyto:
        return False
    target = args[0]
    return (target.ctypes.data, target.nbytes) == (memory.ctypes.data, memory.nbytes)


class _Whole:
    """Forward, backward and what is done with the gradients, without a way in between.

    Nobody can ask for anything later, so large arguments are read where they are.
    """

    def __init__(self, rerun: Rerun, back: _Back, more: Calls | None = None) -> None:
        buffers = rerun.buffers
        self.places = native.Places(buffers)
        leaves = [leaf for leaf in back.leaves if leaf is not None]
        calls = [*rerun.calls, *back.calls, *(more or ())]
        self.calls = quickly(without_unused(calls, [*rerun.results, *leaves]), self.places)
        known = [*arrays_in(args for _, args in self.calls), *rerun.results]
        known += leaves
        moving = [
            x.nbytes >= _LARGE and mode() == "numba"
            and not any([np.may_share_memory(x, other) for other in known])
            for x in buffers
        ]  # fmt: skip
        self.copied = [(i, x) for i, x in enumerate(buffers) if not moving[i]]
        self.moving = [(i, x) for i, x in enumerate(buffers) if moving[i]]

    def run(self, inputs: Sequence[np.ndarray]) -> None:
        """Do it for these arguments.  Raises Diverged."""
        for i, buffer in self.copied:
            buffer[...] = inputs[i]
        for i, buffer in self.moving:
            x = inputs[i]
            if x.flags.c_contiguous and x.flags.aligned and x.dtype == buffer.dtype:
                self.places.addresses[i] = x.ctypes.data
            else:
                self.places.addresses[i] = self.places.homes[i]
                buffer[...] = x
        repeat(self.calls)


class _Back:
    """The way back, for gradients of certain results."""

    def __init__(self, program: Program, vjps: list[Any], gradients: Sequence[Any]) -> None:
        self.seeds = [None if g is None else np.array(g, order="C") for g in gradients]
        with recorded() as self.calls:
            self.leaves = program.backward(vjps, self.seeds)
        self._quick: Calls | None = None
        self.program, self.vjps = program, vjps

    def run(self, gradients: Sequence[Any]) -> tuple[Any, ...]:
        """The gradients of the leaves from those of the results."""
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
        if self._quick is None:
            self._quick = quickly(self.calls)
        repeat(self._quick)
        return self.copies()

    def copies(self) -> tuple[Any, ...]:
        """The gradients, out of the buffers."""
        return tuple([None if leaf is None else leaf.copy() for leaf in self.leaves])
