"""Clipping and an update as a list of calls, for a training step that is replayed.

``Optimizer.step()`` looks at every parameter anew.  When gradients come out in the same memory
each time (minigrad/rerun.py), the calls that it would make are the same too, but for a few
numbers: the learning rate, and what a rule makes of the number of the step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..kernels import native
from ..nodes import mark_all_changed
from ..recording import Calls, repeat
from ..tensor import Tensor, around
from .clip import ClipReport, total_of


def _call(kernel: Any, size: int, *args: Any) -> Any:
    """A call of a kernel on flat arrays of so many numbers (or blocks), for the list."""
    if size >= 2 * kernel.grain:
        return _in_ranges, (kernel, size, args)
    return kernel.compiled, (*args, 0, size)


def _in_ranges(kernel: Any, size: int, args: tuple[Any, ...]) -> None:
    """The call, shared among threads."""
    now = [float(x.value[0]) if isinstance(x, native.Number) else x for x in args]
    kernels.run_rows(kernel, size, kernel.grain, *now)


class _Share:
    """Parameters of one group that were updated equally often: the same numbers for all."""

    def __init__(self, optimizer: Any, entry: Any) -> None:
        self.group, self.entries = entry.group, [entry]
        rule = optimizer._rule(self.group, entry.steps + 1)
        self.kernel, self.slots, self.given = rule
        self.numbers = [native.Number(x) if type(x) is float else x for x in self.given]

    def ready(self, optimizer: Any) -> bool:
        """Set the numbers for the next step; False if it would be made of other calls."""
        steps = self.entries[0].steps
        for entry in self.entries:
            if entry.steps != steps:
                return False
        kernel, slots, given = optimizer._rule(self.group, steps + 1)
        if given != self.given:
            for number, x in zip(self.numbers, given):
                if isinstance(number, native.Number):
                    number.value[0] = x
                elif number != x:
                    return False
            self.given = given
        return kernel is self.kernel and slots is self.slots


class Replay:
    """What an optimiser does with gradients that come in ``gradients``, arrays that stay.

    gradients: one for each parameter, C-contiguous and used by nothing else, or None for one
    that this loss does not reach.  ``calls`` are to be done when they are there, :meth:`finish`
    after that.  From then on ``.grad`` of the parameters is memory that the next step writes to.
    """

    def __init__(
        self, optimizer: Any, gradients: list[np.ndarray | None], max_norm: float | None
    ) -> None:
        self.optimizer, self.max_norm = optimizer, max_norm
        self.where = f"{type(optimizer).__name__}.step()"
        self.entries = list(optimizer._entries)
        self.gradients: list[Tensor | None] = []
        self.squares: list[np.ndarray | None] = []
        self.shares: list[_Share] = []
        self.calls: Calls = []
        update: Calls = []
        scale: Calls = []
        self.factor = native.Number(1.0)
        for entry, source in zip(self.entries, gradients):
            if source is None:
                self.gradients.append(None)
                self.squares.append(None)
                continue
            share = self.shares[-1] if self.shares else None
            if share is not None and (share.group, share.entries[0].steps) == (
                entry.group, entry.steps
            ):  # fmt: skip
                share.entries.append(entry)
            else:
                share = _Share(optimizer, entry)
                self.shares.append(share)
            optimizer._allocate(entry, share.slots)
            flat, size = source.reshape(-1), source.size
            squares = kernels.room_for_squares(flat)
            self.gradients.append(around(source))
            self.squares.append(squares)
            if max_norm is not None:
                self.calls.append(_call(kernels.squared_norm, squares.size, flat, squares))
                scale.append(_call(kernels.scale, size, flat, self.factor))
            args = entry.flat, flat, *entry.state, *share.numbers
            update.append(_call(share.kernel, size, *args))
        self.pairs = [(entry.tensor, g) for entry, g in zip(self.entries, self.gradients)]
        self.missing = [tensor for tensor, gradient in self.pairs if gradient is None]
        reached = [(tensor, g) for tensor, g in self.pairs if g is not None]
        self.written = [(g.storage, g.array) for _, g in reached]
        self.written += [(tensor.storage, tensor.array) for tensor, _ in reached]
        if max_norm is None:
            self.calls += update
            update = []
        self._scale, self._update = native.joined(scale), native.joined(update)
        self._arrangement = optimizer._arrangement

    def ready(self) -> bool:
        """Look at the settings as they are now; False if this cannot do the next step.

        Raises ArgumentError as ``Optimizer.step()`` does.
        """
        optimizer = self.optimizer
        optimizer._check_groups(self.where)
        if optimizer._arrangement != self._arrangement:
            return False
        if self.missing and not optimizer.allow_missing:
            if any(tensor.requires_grad for tensor in self.missing):
                return False  # the step refuses that
        for share in self.shares:
            if not share.ready(optimizer):
                return False
        return True

    def finish(self, site: Any) -> ClipReport | None:
        """Clip and update, or only note that ``calls`` has updated.  site: of the step.

        Returns what ``clip_grad_norm_`` does, and raises what it raises.
        """
        for tensor, gradient in self.pairs:
            tensor.grad = gradient
        report = None
        if self.max_norm is not None:
            mark_all_changed(self.written, "a captured training step", site)
            report = self._clip(self.max_norm)
            repeat(self._update)
        mark_all_changed(self.written, "a captured training step", site)
        for share in self.shares:
            for entry in share.entries:
                entry.steps += 1
        return report

    def _clip(self, max_norm: float) -> ClipReport:
        names = self.optimizer._names
        squares = [0.0 if parts is None else total_of(parts.tolist()) for parts in self.squares]
        total = total_of(squares)
        if not total < math.inf:  # or NaN: what then is told there
            return self.optimizer.clip_grad_norm_(max_norm)
        norm = math.sqrt(total)
        if norm <= max_norm:
            return ClipReport(norm, norm, 1.0, False, names, squares)
        factor = max_norm / norm
        self.factor.value[0] = factor
        repeat(self._scale)
        return ClipReport(norm, norm * factor, factor, True, names, squares)
