"""Check that the contenders of a case do the same work, time them in turn, measure their memory."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing, worker
from benchmarks.worker import Missing, TooSlow, Worker, WorkerError

from .contenders import Contender, find

TARGET = f"{__package__}.work:Work"
GAUGE = f"{__package__}.gauge:Gauge"
TOLERANCE = 1e-4
REFERENCE = "minigrad"  # whose losses the others must have
TURN_SECONDS = 0.06
TURN_LIMIT = 60.0  # seconds that one turn may take
BREATH = 0.02  # seconds between turns: threads that look out for more work give up
SLOW = 20  # a contender so many times slower than the fastest takes part in few rounds
FEW_ROUNDS = 3
# Where Numba, Inductor and tinygrad (a file) keep what they have compiled.
CACHES = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CACHEDB")
BUSY = 0.05  # share of a core that a worker may use while it waits


@dataclass
class Entry:
    """What is known of one contender; times in seconds, turns in microseconds for a step."""

    contender: Contender
    worker: Worker | None = None
    losses: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    turns: list[float] = field(default_factory=list)
    calls: int = 0
    memory: dict[str, float] | None = None
    reason: str | None = None  # why it is left out

    def leave(self, reason: str) -> None:
        """Take no further part."""
        self.reason = reason
        if self.worker is not None:
            self.worker.close()
        self.worker = None


def disagreement(losses: Sequence[float], expected: Sequence[float]) -> str | None:
    """Where two lists of losses differ by more than TOLERANCE, relative; None if nowhere.

    One that read other data or updated differently is seen from the second loss on.
    """
    for k, (value, other) in enumerate(zip(losses, expected, strict=True)):
        if not abs(value - other) <= TOLERANCE * abs(other):
            return f"loss {value:.7g} against {other:.7g} at step {k + 1}"
    return None


def open_worker(case_name: str, contender: Contender, threads: int, limit: float) -> Worker:
    """A worker for one contender; raises Missing, TooSlow or WorkerError."""
    arguments = {"case": case_name, "contender": contender.name, "threads": threads}
    return Worker(TARGET, arguments, contender.environment, limit)


def open_gauge(threads: int) -> Worker:
    """A worker that says what the cores can do."""
    return Worker(GAUGE, {"threads": threads})


def without_caches(contender: Contender, folder: str) -> Contender:
    """The contender with empty caches of its own in `folder`: everything is compiled anew."""
    own = Path(folder) / contender.name.replace(" ", "_").replace(",", "")
    own.mkdir(parents=True, exist_ok=True)
    places = {variable: str(own / variable) for variable in CACHES}
    return replace(contender, environment={**contender.environment, **places})


def begin(case_name: str, entry: Entry, threads: int, limit: float) -> None:
    """Start the worker of a contender and let it take its first steps."""
    started = time.monotonic()
    try:
        entry.worker = open_worker(case_name, entry.contender, threads, limit)
        checked = entry.worker.ask("check", limit)
    except Missing as error:
        entry.leave(f"missing: {error}")
    except TooSlow as error:
        entry.leave(f"too slow: {error}")
    except WorkerError as error:
        entry.leave(f"failed: {error}")
    else:
        entry.losses, entry.seconds = checked["losses"], checked["seconds"]
        entry.seconds["all"] = time.monotonic() - started


def check(entries: Sequence[Entry]) -> bool:
    """Leave out who has other losses than the first; returns whether all had the same."""
    present = [entry for entry in entries if entry.worker is not None]
    same = True
    for entry in present[1:]:
        difference = disagreement(entry.losses, present[0].losses)
        if difference is not None:
            same = False
            entry.leave(f"other work than {present[0].contender.name}: {difference}")
    return same


def take_turns(
    entries: Sequence[Entry], rounds: int, seconds: float, gauge: Worker
) -> list[float]:
    """Time the workers, A B C A B C; who is far behind after some rounds rests for the others.

    Returns for each round the rate of the largest product, operations per second.
    """
    products = []
    for k in range(rounds):
        time.sleep(BREATH)
        products.append(gauge.ask("turn", TURN_LIMIT))
        if k >= FEW_ROUNDS:
            best = min(np.median(e.turns) for e in entries if e.worker is not None)
        for entry in entries:
            if entry.worker is None or (k >= FEW_ROUNDS and np.median(entry.turns) > SLOW * best):
                continue
            time.sleep(BREATH)
            try:
                middle, calls = entry.worker.ask("turn", TURN_LIMIT, seconds=seconds)
            except WorkerError as error:
                entry.leave(f"in round {k + 1}: {error}")
                continue
            entry.turns.append(middle * 1e6)
            entry.calls += calls
    return products


def measure_memory(case_name: str, entry: Entry, threads: int, limit: float) -> None:
    """Peak memory of some steps in a process that does nothing else."""
    try:
        with open_worker(case_name, entry.contender, threads, limit) as fresh:
            entry.memory = fresh.ask("memory", limit)
    except WorkerError as error:
        print(f"memory of {entry.contender.name}: {error}", file=sys.stderr)


def ratio(entry: Entry, reference: Entry) -> tuple[float, float, float]:
    """Quartiles over the rounds both took part in of the times' ratio, round by round."""
    rounds = min(len(entry.turns), len(reference.turns))
    return timing.quartiles(np.divide(entry.turns[:rounds], reference.turns[:rounds]))


def best_peer(entries: Sequence[Entry]) -> Entry:
    """The fastest that is not minigrad; of minigrad if there is no other."""
    timed = [entry for entry in entries if entry.turns]
    peers = [entry for entry in timed if entry.contender.library != "minigrad"]
    return min(peers or timed, key=lambda entry: timing.quartiles(entry.turns)[1])


def run(name: str, options: Any) -> tuple[int, dict[str, Any]]:
    """Check, time and measure one case.

    Returns 0 and what was measured; 2 if a contender fails or does other work than the first, or
    there is nobody to time.  Those that are missing or too slow are named.
    """
    case = importlib.import_module(f"{__package__}.{name}")
    threads = options.threads or timing.usable_cores()
    chosen, caches = options.contenders, options.caches
    entries = [
        Entry(contender if caches is None else without_caches(contender, caches))
        for title, contender in find(name, case, threads).items()
        if not chosen or any(part in title for part in chosen)
    ]
    busy = timing.busy_cores()
    code = 0
    try:
        for entry in entries:
            begin(name, entry, threads, options.limit)
        if not check(entries):
            code = 2
        for entry in entries:
            if entry.worker is not None:
                try:
                    entry.worker.ask("warm_up", options.limit, seconds=0.5)
                except WorkerError as error:
                    entry.leave(f"failed: {error}")
        there = {e.contender.name: e.worker for e in entries if e.worker is not None}
        if not there:
            print(f"{name}: none of the contenders can be timed", file=sys.stderr)
            return 2, {}
        waiting = worker.idle_share(there)
        for who, share in waiting.items():
            if share > BUSY:
                print(f"{name}: {who} uses {share:.0%} of a core while it waits", file=sys.stderr)
        with open_gauge(threads) as gauge:
            seconds = getattr(case, "TURN_SECONDS", TURN_SECONDS)
            products = take_turns(entries, options.rounds, seconds, gauge)
        for entry in entries:
            if entry.worker is not None:
                loss = entry.worker.ask("last_loss", options.limit)
                if not np.isfinite(loss):
                    code = 2
                    entry.leave(f"diverged: loss {loss}")
    finally:
        for entry in entries:
            if entry.worker is not None:
                entry.worker.close()
    timed = [entry for entry in entries if entry.turns and entry.reason is None]
    if not timed:
        return 2, {}
    if options.memory:
        for entry in timed:
            measure_memory(name, entry, threads, options.limit)
    busy = max(busy, timing.busy_cores())
    if any((entry.reason or "").startswith(("failed", "in round")) for entry in entries):
        code = 2
    seen = [entry for entry in entries if entry.turns or entry.reason]
    return code, as_dict(name, case.FLOPS, seen, products, waiting, busy)


def as_dict(
    name: str, flops: int, entries: Sequence[Entry], products: Sequence[float],
    waiting: Mapping[str, float], busy: float,
) -> dict[str, Any]:  # fmt: skip
    """Everything that was measured of a case, for json; microseconds, seconds and megabytes."""
    timed = [entry for entry in entries if entry.turns and entry.reason is None]
    best = best_peer(timed)
    rows = []
    for entry in timed:
        steady = timing.quartiles(entry.turns)
        first = entry.seconds["first_step"]
        rows.append({
            "name": entry.contender.name,
            "library": entry.contender.library,
            "quartiles": steady,
            "ratio": ratio(entry, best),
            "share": timing.quartiles([
                flops / turn * 1e6 / product for turn, product in zip(entry.turns, products)
            ]),
            "turns": entry.turns,
            "calls": entry.calls,
            "import_seconds": entry.seconds["import"],
            "build_seconds": entry.seconds["build"],
            "first_step_seconds": first,
            "compile_seconds": max(0.0, first - steady[1] * 1e-6),
            "to_first_step_seconds": sum(
                entry.seconds[part] for part in ("import", "build", "first_step")
            ),
            "memory": entry.memory,
            "idle_share": waiting.get(entry.contender.name),
        })  # fmt: skip
    left = {entry.contender.name: entry.reason for entry in entries if entry.reason is not None}
    return {"case": name, "flops": flops, "best_peer": best.contender.name, "contenders": rows,
            "product": timing.quartiles(products), "left_out": left,
            "busy_cores": busy}  # fmt: skip
