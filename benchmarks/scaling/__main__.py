"""Time and memory of an LSTM's training step against batch, length, hidden size and threads.

    python -m benchmarks.scaling           some ten minutes
    python -m benchmarks.scaling --quick   fewer sizes and rounds: some two minutes

Each point is measured in two processes of its own, minigrad's and PyTorch's, which first must have
the same losses and then take turns.  Memory: how far the resident memory rises from before the
weights are there to the peak of some steps.

The exponent p of time ~ size^p is a least-squares line through the logarithms over the larger
sizes, those from the geometric middle of the range on (at least three).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.worker import Missing, Worker, WorkerError

from .curves import draw, exponent

TARGET = f"{__package__}.work:Work"
LIBRARIES = ("minigrad", "PyTorch")
TURN_SECONDS = 0.1
TOLERANCE = 1e-3  # of the losses, relative: sums over 10,000 steps round differently
BREATH = 0.02
LIMIT = 300.0
# What is held while one size grows.
SWEEPS: dict[str, tuple[dict[str, int], tuple[int, ...], tuple[int, ...]]] = {
    "batch": (
        {"length": 32, "hidden": 128}, (1, 4, 16, 64, 256, 1024), (4, 32, 256)
    ),
    "length": (
        {"batch": 8, "hidden": 64}, (10, 30, 100, 300, 1000, 3000, 10_000), (30, 300, 3000)
    ),
    "hidden": (
        {"batch": 32, "length": 32}, (16, 32, 64, 128, 256, 512, 1024), (32, 128, 512)
    ),
    "threads": ({"batch": 64, "length": 32, "hidden": 256}, (), ()),
}  # fmt: skip


def measure_point(
    sizes: Mapping[str, int], rounds: int, missing: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Milliseconds and megabytes of each library at one point.

    Who fails is named on stderr; who is missing is put into `missing` and not asked again.
    Raises ValueError where the losses differ.
    """
    workers: dict[str, Worker] = {}
    found: dict[str, dict[str, Any]] = {}
    environment = {"OMP_NUM_THREADS": str(sizes["threads"])}
    try:
        for library in LIBRARIES:
            if library in missing:
                continue
            try:
                arguments = {"library": library, **sizes}
                workers[library] = Worker(TARGET, arguments, environment, LIMIT)
                found[library] = workers[library].ask("begin", LIMIT)
            except Missing as error:
                missing[library] = str(error)
            except WorkerError as error:
                print(f"scaling: {library} at {dict(sizes)}: {error}", file=sys.stderr)
                if library in workers:
                    workers.pop(library).close()
        losses = [np.array(begun["losses"]) for begun in found.values()]
        if len(losses) == 2 and not np.allclose(*losses, rtol=TOLERANCE, atol=0):
            raise ValueError(f"scaling: losses differ at {dict(sizes)}: {losses[0]}, {losses[1]}")
        turns: dict[str, list[float]] = {library: [] for library in found}
        for _ in range(rounds):
            for library in turns:
                time.sleep(BREATH)
                turns[library].append(workers[library].ask("turn", LIMIT, seconds=TURN_SECONDS))
    finally:
        for worker in workers.values():
            worker.close()
    points = {}
    for library, times in turns.items():
        memory = found[library]["memory"]
        points[library] = {
            "milliseconds": float(np.median(times)) * 1e3,
            "megabytes": memory["peak"] - memory["before"],
        }
    return points


def sweep(
    name: str, sizes: Sequence[int], fixed: Mapping[str, int], rounds: int, missing: dict[str, str]
) -> dict[str, Any]:
    """Curves of all libraries while one size grows, with their exponents."""
    curves: dict[str, dict[str, Any]] = {}
    for size in sizes:
        points = measure_point({**fixed, name: size}, rounds, missing)
        for library, point in points.items():
            curve = curves.setdefault(library, {"sizes": [], "milliseconds": [], "megabytes": []})
            curve["sizes"].append(size)
            for kind, value in point.items():
                curve[kind].append(value)
    for curve in curves.values():
        curve["exponents"] = {
            kind: exponent(curve["sizes"], curve[kind]) for kind in ("milliseconds", "megabytes")
        }
    held = ", ".join(f"{key} {value}" for key, value in fixed.items())
    return {"sizes": list(sizes), "fixed": held, "curves": curves}


def table(name: str, found: Mapping[str, Any]) -> str:
    """One line a size, and the exponents below."""
    curves = found["curves"]
    lines = [f"{name} ({found['fixed']})" + "".join(f"  {who:>20}" for who in curves)]
    for size in found["sizes"]:
        cells = ""
        for curve in curves.values():
            if size in curve["sizes"]:
                k = curve["sizes"].index(size)
                cells += f"  {curve['milliseconds'][k]:9.2f} ms {curve['megabytes'][k]:5.0f} MB"
            else:
                cells += f"  {'-':>20}"
        lines.append(f"{size:>{len(lines[0]) - 22 * len(curves)}}{cells}")
    for who, curve in curves.items():
        powers = curve["exponents"]
        if not np.isnan(powers["milliseconds"]):
            lines.append(
                f"  {who}: time ~ {name}^{powers['milliseconds']:.2f}, memory ~ "
                f"{name}^{powers['megabytes']:.2f} over the larger sizes"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables; returns 0, or 2 if nothing could be measured."""
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument("--quick", action="store_true", help="three sizes each, three rounds")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw the curves")
    options = parser.parse_args(arguments)
    cores = options.threads or timing.usable_cores()
    rounds = min(options.rounds, 3) if options.quick else options.rounds
    busy = timing.busy_cores()
    missing: dict[str, str] = {}
    sweeps: dict[str, Any] = {}
    for name, (fixed, sizes, few) in SWEEPS.items():
        if name == "threads":
            counts = tuple(sorted({1, cores, *(1 << k for k in range(10) if 1 << k < cores)}))
            sweeps[name] = sweep(name, counts, fixed, rounds, missing)
        else:
            fixed = {**fixed, "threads": cores}
            sweeps[name] = sweep(name, few if options.quick else sizes, fixed, rounds, missing)
        print(table(name, sweeps[name]), flush=True)
    for library, reason in missing.items():
        print(f"skipped: {library} ({reason})")
    if not any(found["curves"] for found in sweeps.values()):
        return 2
    result = {
        "benchmark": "scaling", "quick": options.quick, "rounds": rounds, "missing": missing,
        "machine": timing.machine_facts() | {"busy_cores": [busy, timing.busy_cores()]},
        "sweeps": sweeps,
    }  # fmt: skip
    if max(result["machine"]["busy_cores"]) > timing.QUIET:
        print("NOT A QUIET MACHINE: other work kept cores busy before or after")
    if options.json:
        timing.write_json(options.json, result)
    if options.picture:
        draw(sweeps, options.picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
