"""One contender of one case, as its worker holds it."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import resident, timing

from .contenders import find

SEED = 4
BATCHES = 200
CHECKED_STEPS = 5
MEMORY_STEPS = 20
LONGEST_WARMUP = 20  # times what was asked
SLOW_STEP = 0.5  # seconds of a step from which on a turn is one step


class Work:
    """case: name of a case; contender: name of one that takes part in it; threads: of all."""

    def __init__(self, case: str, contender: str, threads: int) -> None:
        begin = time.perf_counter()
        self.case = importlib.import_module(f"{__package__}.{case}")
        self.contender = find(case, self.case, threads)[contender]
        rng = np.random.default_rng(SEED)
        self.weights = self.case.draw_weights(rng)
        self.batches = self.case.draw_batches(rng, BATCHES)
        ours = time.perf_counter()
        self.contender.start()  # imports, and sets threads
        self.seconds = {"import": time.perf_counter() - ours, "drawing": ours - begin}
        self.call: Callable[[], Any] | None = None
        self.slow = False

    def _make(self, steep: bool = False, timed: bool = False) -> Callable[..., Any]:
        """A step from fresh weights; steep: whose gradients are clipped; timed: with dropout."""
        weights = self.case.steepened(self.weights) if steep else self.weights
        settings = getattr(self.case, "TIMED_WITH", {}) if timed else {}
        return self.contender.maker({k: v.copy() for k, v in weights.items()}, **settings)

    def check(self) -> dict[str, Any]:
        """Losses of the first steps, from both kinds of weights, and seconds of the beginning."""
        clock = time.perf_counter
        marks = [clock()]
        step = self._make()
        marks.append(clock())
        losses = [float(step(*self.batches[0]))]
        marks.append(clock())
        losses += [float(step(*batch)) for batch in self.batches[1:CHECKED_STEPS]]
        self.seconds |= {"build": marks[1] - marks[0], "first_step": marks[2] - marks[1]}
        if hasattr(self.case, "steepened"):
            steep = self._make(steep=True)
            losses += [float(steep(*batch)) for batch in self.batches[:CHECKED_STEPS]]
        if not getattr(self.case, "TIMED_WITH", {}):
            self._keep(step)
        return {"losses": losses, "seconds": self.seconds}

    def _keep(self, step: Callable[..., Any]) -> None:
        following = itertools.cycle(self.batches[CHECKED_STEPS:] or self.batches)
        self.call = lambda: step(*next(following))

    def warm_up(self, seconds: float) -> float:
        """Run untimed for so long, at least three steps; returns the seconds of the slowest."""
        if self.call is None:
            self._keep(self._make(timed=True))
        assert self.call is not None
        clock, times = time.perf_counter, []
        begin = clock()
        while clock() - begin < seconds or len(times) < 3:
            start = clock()
            self.call()
            times.append(clock() - start)
            if clock() - begin > LONGEST_WARMUP * max(seconds, 1):
                break
        self.slow = min(times) > SLOW_STEP
        return max(times)

    def turn(self, seconds: float) -> list[float]:
        """Seconds of each step of a turn: the median, and how many."""
        assert self.call is not None
        few = {"settle_calls": 1, "least_calls": 1} if self.slow else {}
        times = timing.one_turn(self.call, seconds, **few)
        return [float(np.median(times)), len(times)]

    def last_loss(self) -> float:
        """The loss of one more step: finite, if what was timed made sense."""
        assert self.call is not None
        return float(self.call())

    def memory(self) -> dict[str, float]:
        """Megabytes before new weights are made and at the peak of MEMORY_STEPS steps.

        A step with weights that are thrown away loads all code first.  A compiler's own memory does
        not count: the peak is that of the steps after the first.
        """
        self._make(timed=True)(*self.batches[0])

        def prepare() -> Callable[[], None]:
            step = self._make(timed=True)
            step(*self.batches[0])

            def steps() -> None:
                for batch in itertools.islice(itertools.cycle(self.batches), MEMORY_STEPS):
                    step(*batch)

            return steps

        return resident.rise(prepare)
