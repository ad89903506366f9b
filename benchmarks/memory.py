"""Peak memory of a training step of the document models: minigrad against its peers.

    python -m benchmarks.memory mnist_cnn mnist_cnn_100

Each contender runs in a process of its own, and takes a step with weights that are then thrown
away, so that all its code is loaded.  What counts is how far the resident memory rises from there
with new weights: activations, gradients, the optimiser's moments, and whatever a library keeps
besides.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .peers import driver
from .peers.__main__ import CASES

STEPS = 20


def _megabytes(field: str) -> float:
    """VmRSS, what is resident now, or VmHWM, the most there was."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"memory: /proc/self/status does not tell {field}")


def measure(case_name: str, contender: str) -> tuple[float, float]:
    """Resident megabytes before the first step, and at the peak of STEPS steps."""
    case = importlib.import_module(f"{__package__}.peers.{case_name}")
    driver.prepare_jax(case.JAX_THREADS)
    rng = np.random.default_rng(driver.SEED)
    weights, batches = case.draw_weights(rng), case.draw_batches(rng, STEPS)
    case.MAKERS[contender]({k: v.copy() for k, v in weights.items()})(*batches[0])
    step = case.MAKERS[contender](weights)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the C library keeps back
    before = _megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    for k in range(STEPS):
        step(*batches[k % len(batches)])
    return before, _megabytes("VmHWM")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of the cases; returns 0, or 2 if a contender failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE", default=[])
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.contender:
        print(*measure(options.cases[0], options.contender))
        return 0
    failed = 0
    for name in options.cases or CASES:
        case = importlib.import_module(f"{__package__}.peers.{name}")
        print(f"{name:24} before    peak    step  (MB)")
        for contender in case.MAKERS:
            command = [sys.executable, "-m", "benchmarks.memory", name, "--contender", contender]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                error = (result.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"  {contender:22} {error}")
                failed |= "ModuleNotFoundError" not in result.stderr
                continue
            before, peak = map(float, result.stdout.split()[-2:])
            print(f"  {contender:22} {before:6.0f}  {peak:6.0f}  {peak - before:6.0f}", flush=True)
    return 2 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
