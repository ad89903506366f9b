"""How long it takes until the first training step: import, first compile, warm start.

    python -m benchmarks.startup                  some five minutes, nearly all of it compiling

Every figure comes from a process of its own, the processes in turn, several rounds:

    import       python -c "import NAME", the whole process, against one that imports Numba (on
                 which minigrad stands) and one that imports nothing
    first        one training step of a model with an empty cache: its kernels are compiled
    warm         the same with the kernels of an earlier run on disk

`to the first step` is from the start of the process until the loss is there; the parts are what
the process itself measures: importing, building the model, its first and its second step.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import timing

MODELS = ("char_lm", "mnist_cnn")
IMPORTS = ("nothing", "numpy", "numba", "minigrad", "torch", "jax")
PARTS = ("to the first step", "import", "build", "first step", "second step")
SEED = 4


def child(model: str, started: float) -> dict[str, float]:
    """Take two training steps of a case of benchmarks.peers; seconds of each part.

    started: time.monotonic() of the parent before it started this process.
    """
    clock = time.monotonic
    begin = clock()
    case = importlib.import_module(f"benchmarks.peers.{model}")
    rng = np.random.default_rng(SEED)
    weights, batches = case.draw_weights(rng), case.draw_batches(rng, 2)
    marks = [clock()]
    importlib.import_module("minigrad")
    marks.append(clock())
    step = case.MAKERS["minigrad"](weights)
    marks.append(clock())
    for batch in batches[:2]:
        step(*batch)
        marks.append(clock())
    found = dict(zip(PARTS[1:], np.diff(marks).tolist()))
    return {PARTS[0]: marks[3] - started - (marks[0] - begin)} | found  # drawing is not ours


def time_import(name: str) -> float:
    """Seconds of a whole process that imports one package and ends."""
    code = "pass" if name == "nothing" else f"import {name}"
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.monotonic() - start


def time_model(model: str, cache: str) -> dict[str, float]:
    """What `child` measures in a process whose kernels' cache is the folder `cache`."""
    command = [sys.executable, "-m", "benchmarks.startup", "--child", model,
               "--started", repr(time.monotonic())]  # fmt: skip
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(result.stdout)


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Lower quartile, median and upper quartile of each part over the rounds, in seconds."""
    return {part: list(timing.quartiles([found[part] for found in rounds])) for part in rounds[0]}


def table(result: Mapping[str, Any]) -> str:
    """The measured times as text; in seconds."""
    lines = ["import (whole process)    median  quartiles"]
    for name, (low, middle, high) in result["imports"].items():
        lines.append(f"  {name:22} {middle:7.3f}  {low:.3f} .. {high:.3f}")
    imports = result["imports"]
    if {"numba", "minigrad"} <= imports.keys():
        more = imports["minigrad"][1] - imports["numba"][1]
        lines.append(f"  minigrad takes {more * 1e3:+.0f} ms beside Numba")
    lines.append(f"{'one training step':24}" + "".join(f"  {part:>17}" for part in PARTS))
    for model, kinds in result["models"].items():
        for kind, parts in kinds.items():
            cells = "".join(f"  {parts[part][1]:17.3f}" for part in PARTS)
            lines.append(f"  {model + ', ' + kind:22}" + cells)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; returns 0."""
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument(
        "--cold-rounds", type=timing.positive, default=3, help="first compiles (default 3)"
    )
    parser.add_argument("--child", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(child(options.child, options.started)))
        return 0
    if options.threads:
        timing.limit_threads(options.threads)
    busy = timing.busy_cores()
    names = [name for name in IMPORTS if name == "nothing" or importlib.util.find_spec(name)]
    for name in set(IMPORTS) - set(names):
        print(f"skipped: {name} (not installed)")
    imports: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        time_import(name)  # files come from the disk once
    for _ in range(options.rounds):
        for name in names:
            imports[name].append(time_import(name))
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        model: {"first": [], "warm": []} for model in MODELS
    }
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.cold_rounds):
            for model in MODELS:
                found[model]["first"].append(time_model(model, f"{folder}/{model}{k}"))
        for _ in range(options.rounds):
            for model in MODELS:
                found[model]["warm"].append(time_model(model, f"{folder}/{model}0"))
    result = {
        "benchmark": "startup",
        "machine": timing.machine_facts() | {"busy_cores": [busy, timing.busy_cores()]},
        "rounds": {"warm": options.rounds, "first": options.cold_rounds},
        "imports": {name: list(timing.quartiles(times)) for name, times in imports.items()},
        "models": {
            model: {kind: medians(rounds) for kind, rounds in kinds.items()}
            for model, kinds in found.items()
        },
    }
    print(table(result))
    if max(result["machine"]["busy_cores"]) > timing.QUIET:
        print("NOT A QUIET MACHINE: other work kept cores busy before or after")
    if options.json:
        timing.write_json(options.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
