"""Time several ways of doing the same work, fairly, on a machine that is never quite quiet.

A clock that drifts, a neighbour on the other core or a hypervisor makes the same step 1.5 times
slower from one second to the next. So the contenders take turns, A B C A B C; each turn yields one
median, and a ratio compares two turns of the same round before anything is averaged. What is
paid only once (compiling, tracing, allocating) is the first call, and is reported apart.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "PJRT_NPROC",  # size of the thread pool of JAX on a CPU
)
PACKAGES = ("minigrad", "numpy", "numba", "llvmlite", "torch", "jax", "jaxlib")
SETTLE_CALLS = 3  # untimed calls that open a turn: caches refill, threads wake up
QUIET = 0.2  # cores that other work may keep busy
MIN_CALLS = 3  # timed calls of a turn, however slow the contender


@dataclass(frozen=True)
class Timing:
    """What one contender took.

    `first_call` is in seconds; `turns` holds the median of each turn (R rounds), in microseconds
    for one unit of work; `calls` counts all timed calls.
    """

    name: str
    first_call: float
    turns: list[float]
    calls: int

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the turns, in microseconds."""
        return quartiles(self.turns)


@dataclass(frozen=True)
class Report:
    """The timings of one run, in the order of the contenders, and the facts about the machine."""

    timings: list[Timing]
    machine: dict[str, Any]

    def __getitem__(self, name: str) -> Timing:
        """The timing of contender `name`; raises KeyError when it took no part."""
        return {timing.name: timing for timing in self.timings}[name]

    def fastest(self, names: Sequence[str]) -> str:
        """The one of `names` with the smallest median."""
        return min(names, key=lambda name: self[name].quartiles[1])

    def ratio(self, name: str, reference: str) -> tuple[float, float, float]:
        """Quartiles over the rounds of time of `name` / time of `reference`, round by round."""
        return quartiles(np.divide(self[name].turns, self[reference].turns))

    def table(self, reference: str) -> str:
        """The timings as text, one line a contender, with the ratio to `reference`."""
        width = max(len("microseconds"), *(len(timing.name) for timing in self.timings))
        lines = [
            f"{'microseconds':{width}}  {'median':>9}  {'quartiles':>20}  {'best':>9}"
            f"  {'first call':>10}  {'ratio':>5}  quartiles"
        ]
        for timing in self.timings:
            low, middle, high = timing.quartiles
            low_ratio, ratio, high_ratio = self.ratio(timing.name, reference)
            lines.append(
                f"{timing.name:{width}}  {middle:9.1f}  {low:8.1f} .. {high:8.1f}"
                f"  {min(timing.turns):9.1f}  {timing.first_call:8.3f} s"
                f"  {ratio:5.2f}  {low_ratio:.2f} .. {high_ratio:.2f}"
            )
        busy = max(self.machine["busy_cores"])
        lines.append(
            f"ratio: to {reference}, within each of {len(self.timings[0].turns)} rounds; other "
            f"work kept {busy:.1f} of {self.machine['cores']} cores busy before or after"
        )
        if busy > QUIET:
            lines.append(
                "NOT A QUIET MACHINE: contenders that hand work from thread to thread (JAX, PyTorch"
                " on several threads) lose most by it, so even the ratios do not count"
            )
        return "\n".join(lines)

    def as_dict(self, reference: str) -> dict[str, Any]:
        """Everything measured, for json: times in microseconds, first calls in seconds."""
        rows = []
        for timing in self.timings:
            spread = {"quartiles": timing.quartiles, "ratio": self.ratio(timing.name, reference)}
            rows.append(asdict(timing) | spread)
        return {"machine": self.machine, "reference": reference, "timings": rows}


def quartiles(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of `values` (R,)."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def measure(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 20,
    turn_seconds: float = 0.06,
    warmup_seconds: float = 0.5,
    units_per_call: int = 1,
    first_calls: Mapping[str, float] | None = None,
    before_turn: Mapping[str, Callable[[], object]] | None = None,
) -> Report:
    """Time every contender in turn and return the report; arguments as for take_turns.

    Raises ValueError when there is nobody to time, or less than one round.
    """
    if not contenders or rounds < 1:
        raise ValueError(
            f"measure: needs contenders and rounds >= 1, got {len(contenders)} and {rounds}"
        )
    busy_before = busy_cores()
    timings = take_turns(
        contenders, rounds, turn_seconds, warmup_seconds, units_per_call, first_calls, before_turn
    )
    machine = machine_facts() | {"busy_cores": [busy_before, busy_cores()]}
    return Report(timings, machine)


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    turn_seconds: float,
    warmup_seconds: float,
    units_per_call: int = 1,
    first_calls: Mapping[str, float] | None = None,
    before_turn: Mapping[str, Callable[[], object]] | None = None,
    settle_calls: int = SETTLE_CALLS,
    least_calls: int = MIN_CALLS,
) -> list[Timing]:
    """Time every contender, A B C A B C; the bare loop, without a look at the machine.

    contenders      name -> callable doing the work once; it returns when the work is finished.
    rounds          turns each contender gets.
    turn_seconds    a turn goes on until this much time has passed (at least least_calls calls).
    warmup_seconds  each contender runs untimed for this long after its first call.
    units_per_call  units of work in one call; the reported times are for one unit.
    first_calls     name -> seconds of the first call, where the caller has already made it.
    before_turn     name -> callable run, untimed, before that contender's turn (thread settings).
    settle_calls    untimed calls that open a turn.
    """
    prepare = before_turn or {}
    clock = time.perf_counter
    firsts = dict(first_calls or {})
    for name, call in contenders.items():
        prepare.get(name, _nothing)()
        start = clock()
        call()
        warm = clock()
        firsts.setdefault(name, warm - start)
        while clock() - warm < warmup_seconds:
            call()

    turns: dict[str, list[float]] = {name: [] for name in contenders}
    calls = dict.fromkeys(contenders, 0)
    gc.collect()
    gc.freeze()  # the collections between turns then walk only what the turns themselves made
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                gc.collect()  # nobody pays for another's garbage; within a turn it stays on
                prepare.get(name, _nothing)()
                times = one_turn(call, turn_seconds, settle_calls, least_calls)
                turns[name].append(float(np.median(times)) / units_per_call * 1e6)
                calls[name] += len(times)
    finally:
        gc.unfreeze()
    return [Timing(name, firsts[name], turns[name], calls[name]) for name in contenders]


def one_turn(
    call: Callable[[], object],
    seconds: float,
    settle_calls: int = SETTLE_CALLS,
    least_calls: int = MIN_CALLS,
) -> list[float]:
    """Seconds of each timed call of one turn; see take_turns."""
    clock = time.perf_counter
    for _ in range(settle_calls):
        call()
    times: list[float] = []
    end = clock() + seconds
    stop = 0.0
    while stop < end or len(times) < least_calls:
        start = clock()
        call()
        stop = clock()
        times.append(stop - start)
    return times


def _nothing() -> None:
    """The preparation of a contender that needs none."""


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_cores(seconds: float = 0.5) -> float:
    """Cores kept busy, by others, while this process sleeps; nan where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float("nan")
    time.sleep(0.1)  # threads of our own that still spin for work give up

    def ticks() -> np.ndarray:  # user, nice, system, idle, iowait, irq, softirq, steal
        return np.array(stat.read_text().split(maxsplit=9)[1:9], np.int64)

    before = ticks()
    time.sleep(seconds)
    spent = ticks() - before
    return float(1 - (spent[3] + spent[4]) / max(1, spent.sum())) * (os.cpu_count() or 1)


def limit_threads(threads: int) -> None:
    """Start the interpreter anew, once, with every library's thread pool limited to `threads`.

    The pools of BLAS, OpenMP, Numba and XLA take their size from the environment while they load,
    which is before any argument of ours could be read. Raises ValueError below one thread.
    """
    if threads < 1:
        raise ValueError(f"limit_threads: threads must be at least 1, got {threads}")
    wanted = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        sys.stdout.flush()
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, os.environ | wanted)


def machine_facts() -> dict[str, Any]:
    """What a reader needs to judge the numbers: date, commit, CPU, cores, versions, threads."""
    settings = (*THREAD_VARIABLES, "XLA_FLAGS")
    facts: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES if name in sys.modules},
        "environment": {name: os.environ[name] for name in settings if name in os.environ},
    }
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    facts["numpy_blas"] = f"{blas.get('name')} {blas.get('version')}"
    return facts


def _cpu_model() -> str:
    """The processor's own name for itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the source tree that this file is in, with a + if something is not committed."""
    here = Path(__file__).parent
    try:
        found = [
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0].stdout.strip() + "+" * bool(found[1].stdout.strip())


def _version(package: str) -> str:
    """Version of an imported package, installed or straight from its source tree."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return str(getattr(sys.modules[package], "__version__", "source tree"))


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The arguments every benchmark takes: --rounds (default `rounds`), --threads, --json."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--rounds", type=positive, default=rounds, help=f"default {rounds}")
    result.add_argument(
        "--threads",
        type=positive,
        help="thread limit of every library (default: each library's own choice)",
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    return result


def positive(text: str) -> int:
    """An argument that counts something; raises ValueError, which argparse reports, below 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, readable; raises OSError as Path.write_text does."""
    path.write_text(json.dumps(content, indent=2) + "\n")
