"""What recording costs: one training step of char_lm, watched and not watched.

The step is that of models/char_lm.py (an LSTM of 64 nodes, 10 steps, batch 64). Watched means all
that minigrad.watch records while training: gradients through time, saturation of the gates, the
clip timeline. A second pair does the same with a longer window and a smaller batch. The contenders
take turns, so their ratio counts even where the machine is not quiet; it may be at most 1.1.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from benchmarks import timing
from minigrad import nn, optim, watch

V, H = 27, 64  # vocabulary, hidden
LEARNING_RATE, MAX_NORM = 1.0, 1.25
SIZES = {"T=10, N=64": (10, 64), "T=100, N=16": (100, 16)}
ALLOWED = 1.1
SEED = 4
WINDOWS = 50


def step_of(steps: int, batch: int, watched: bool) -> Callable[[], Any]:
    """One training step on windows (T + 1, N) of random symbols, as a call without arguments."""
    rng = np.random.default_rng(SEED)
    lstm = nn.LSTM(V, H, time_major=True, generator=rng)
    head = nn.Linear(H, V, generator=rng)
    parameters = [*lstm.parameters(), *head.parameters()]
    optimizer = optim.SGD(parameters, lr=LEARNING_RATE)
    windows = itertools.cycle(rng.integers(V, size=(WINDOWS, steps + 1, batch)))
    flow, gates, clips = watch.GradientFlow(), watch.Saturation(lstm.gate_kinds), None
    if watched:
        lstm.flow, lstm.gates, clips = flow.record, gates.record, watch.ClipTimeline()
    count = itertools.count()

    def step() -> float:
        window = next(windows)
        outputs, _ = lstm(window[:-1])
        loss = mg.cross_entropy(head(outputs), window[1:])
        optimizer.zero_grad()
        loss.backward()
        report = optim.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        if clips is not None:
            clips.record(next(count), loss, report)
        return loss.item()

    return step


def main(arguments: Sequence[str] | None = None) -> int:
    """Time, print the tables. Returns 1 if recording costs more than it may, else 0."""
    options = timing.parser(__doc__, rounds=30).parse_args(arguments)
    if options.threads:
        timing.limit_threads(options.threads)
    result, found = 0, {}
    for name, (steps, batch) in SIZES.items():
        calls = {kind: step_of(steps, batch, kind == "watched") for kind in ("plain", "watched")}
        report = timing.measure(calls, rounds=options.rounds)
        _, ratio, _ = report.ratio("watched", "plain")
        print(f"{name}: recording makes a step {ratio:.3f} times as long (allowed {ALLOWED:g})")
        print(report.table("plain"))
        found[name] = report.as_dict("plain")
        result |= ratio > ALLOWED
    if options.json:
        timing.write_json(options.json, {"benchmark": "watching", "sizes": found})
    return int(result)


if __name__ == "__main__":
    raise SystemExit(main())
