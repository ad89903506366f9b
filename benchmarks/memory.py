"""Peak memory of a training step of the document models: minigrad against its peers.

    python -m benchmarks.memory mnist_cnn mnist_cnn_100

Each contender runs in a process of its own, and takes a step with weights that are then thrown
away, so that all its code is loaded.  What counts is how far the resident memory rises from there
with new weights: activations, gradients, the optimiser's moments, and whatever a library keeps
besides.  python -m benchmarks.peers measures the same beside the times.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from benchmarks import timing
from benchmarks.peers import contenders, driver
from benchmarks.peers.__main__ import CASES
from benchmarks.peers.table import step_megabytes
from benchmarks.worker import Missing, WorkerError

LIMIT = 300.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of the cases; returns 0, or 2 if a contender failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE", default=[])
    options = parser.parse_args(arguments)
    threads, code = timing.usable_cores(), 0
    for name in options.cases or CASES:
        case = importlib.import_module(f"benchmarks.peers.{name}")
        print(f"{name:28} before    peak    step  (MB)")
        for title, contender in contenders.find(name, case, threads).items():
            try:
                with driver.open_worker(name, contender, threads, LIMIT) as fresh:
                    memory = fresh.ask("memory", LIMIT)
            except WorkerError as error:
                print(f"  {title:26} {error}")
                code = code if isinstance(error, Missing) else 2
                continue
            cells = f"{memory['before']:6.0f}  {memory['peak']:6.0f}  {step_megabytes(memory):6.0f}"
            print(f"  {title:26} {cells}", flush=True)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
