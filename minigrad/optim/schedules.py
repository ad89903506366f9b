"""Learning rates that change with the number of updates.

A schedule sets the ``lr`` of every group when it is made and at each ``schedule.step()``,
which is called after ``optimizer.step()``.  The rate is a closed form in the number of steps,
so nothing accumulates, and a run that is resumed goes on with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ._checks import flag, not_negative, positive
from .optimizer import Optimizer


class Schedule:
    """Base of the schedules: lr of a group = ``at(its lr when the schedule was made, steps)``.

    ``steps`` is the number of calls of :meth:`step`; ``lr`` the rate now in force.
    Raises DTypeError if ``optimizer`` is none.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> optimizer = optim.SGD([mg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.StepLR(optimizer, step_size=2)
    >>> for _ in range(2):
    ...     schedule.step()
    >>> schedule.lr
    0.1
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(
                f"{type(self).__name__}: expects an optimiser, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.steps = 0
        self.base_lrs: list[float] = [group["lr"] for group in optimizer.param_groups]
        self._set()

    def at(self, base: float, steps: float) -> float:
        """The rate after ``steps`` updates of a group that started with ``base``."""
        raise TypeError(f"{type(self).__name__} does not define at()")

    def step(self) -> None:
        """Count one update, and set the rate of the next."""
        self.steps += 1
        self._set()

    def _set(self) -> None:
        groups = self.optimizer.param_groups
        for group in groups[len(self.base_lrs) :]:  # added since
            self.base_lrs.append(group["lr"])
        for group, base in zip(groups, self.base_lrs):
            group["lr"] = self.at(base, self.steps)

    @property
    def lr(self) -> float:
        """Learning rate of the first group, as the next ``optimizer.step()`` will use it."""
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict[str, Any]:
        """Step number and starting rates (the settings come with the constructor)."""
        return {
            "schedule": type(self).__name__, "steps": self.steps, "base_lrs": list(self.base_lrs),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`, and set the rates.

        Raises ArgumentError for the state of another kind of schedule, for another number of
        groups, or a malformed one; nothing is changed then.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise DTypeError(f"{where}: expects a dict, got {type(state).__name__}")
        if state.get("schedule") != type(self).__name__:
            raise ArgumentError(f"{where}: this is the state of {state.get('schedule')!r}")
        steps, base_lrs = state.get("steps"), state.get("base_lrs")
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
            raise ArgumentError(f"{where}: 'steps' must be a count, got {steps!r}")
        groups = self.optimizer.param_groups
        if not isinstance(base_lrs, (list, tuple)) or len(base_lrs) != len(groups):
            raise ArgumentError(
                f"{where}: 'base_lrs' must hold one rate for each of the {len(groups)} groups of "
                f"the optimiser, got {base_lrs!r}"
            )
        self.base_lrs = [not_negative(base, "base_lrs", where) for base in base_lrs]
        self.steps = int(steps)
        self._set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(steps={self.steps}, lr={self.lr:g})"


class ExponentialDecay(Schedule):
    """lr = base * decay_rate ** (steps / decay_steps)  (TensorFlow's exponential_decay).

    staircase: with the exponent rounded down, so that the rate stays for decay_steps steps.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> optimizer = optim.SGD([mg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.ExponentialDecay(optimizer, 0.5, 2)
    >>> [round(schedule.at(1.0, n), 3) for n in range(5)]
    [1.0, 0.707, 0.5, 0.354, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay_rate: float,
        decay_steps: float,
        staircase: bool = False,
    ) -> None:
        where = type(self).__name__
        self.decay_rate = positive(decay_rate, "decay_rate", where)
        self.decay_steps = positive(decay_steps, "decay_steps", where)
        self.staircase = flag(staircase, "staircase", where)
        super().__init__(optimizer)

    def at(self, base: float, steps: float) -> float:
        """base * decay_rate ** (steps / decay_steps), the exponent floored if staircase."""
        exponent = steps / self.decay_steps
        return base * self.decay_rate ** (math.floor(exponent) if self.staircase else exponent)


class StepLR(ExponentialDecay):
    """lr = base * gamma ** floor(steps / step_size)  (PyTorch's name for the staircase).

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> optimizer = optim.SGD([mg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.StepLR(optimizer, step_size=2)
    >>> [round(schedule.at(1.0, n), 3) for n in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """

    def __init__(self, optimizer: Optimizer, step_size: float, gamma: float = 0.1) -> None:
        positive(step_size, "step_size", "StepLR")
        super().__init__(optimizer, positive(gamma, "gamma", "StepLR"), step_size, staircase=True)


class Cosine(Schedule):
    """lr falls from base to ``final`` in ``total_steps`` along half a cosine, and stays there.

    (Loshchilov and Hutter, SGDR, ICLR 2017, without restarts.)  final: a learning rate, not
    a fraction of base.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> optimizer = optim.SGD([mg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.Cosine(optimizer, total_steps=4)
    >>> [round(schedule.at(1.0, n), 3) for n in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total_steps: float, final: float = 0.0) -> None:
        self.total_steps = positive(total_steps, "total_steps", "Cosine")
        self.final = not_negative(final, "final", "Cosine")
        super().__init__(optimizer)

    def at(self, base: float, steps: float) -> float:
        """final + (base - final) * (1 + cos(pi * steps / total_steps)) / 2."""
        if steps >= self.total_steps:
            return self.final
        way = (1 + math.cos(math.pi * steps / self.total_steps)) / 2
        return self.final + (base - self.final) * way


class WarmUp(Schedule):
    """Update number n of the first ``steps`` has the rate base * n / steps; then ``then``.

    (Goyal et al., arXiv:1706.02677, section 2.2.)  then: a schedule on the same optimiser,
    which starts from its own step 0 when the warm-up is over; the rate stays at base without
    one.  Call ``step()`` of the warm-up only.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> optimizer = optim.SGD([mg.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = optim.WarmUp(optimizer, 4)
    >>> [round(schedule.at(1.0, n), 3) for n in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """

    def __init__(self, optimizer: Optimizer, steps: float, then: Schedule | None = None) -> None:
        self.warm_steps = positive(steps, "steps", "WarmUp")
        if then is not None and not isinstance(then, Schedule):
            raise DTypeError(f"WarmUp: then must be a schedule, got {type(then).__name__}")
        if then is not None and then.optimizer is not optimizer:
            raise ArgumentError("WarmUp: then must be a schedule on the same optimiser")
        self.then = then
        if then is not None:  # it may have moved the rates already
            for group, base in zip(optimizer.param_groups, then.base_lrs):
                group["lr"] = base
        super().__init__(optimizer)

    def at(self, base: float, steps: float) -> float:
        """base * (steps + 1) / warm_steps, then what ``then`` has at steps - warm_steps."""
        if steps < self.warm_steps:
            return base * min((steps + 1) / self.warm_steps, 1.0)
        return base if self.then is None else self.then.at(base, steps - self.warm_steps)
