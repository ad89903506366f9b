"""Training steps of the document models: minigrad against its peers.

    python -m benchmarks.peers                    all cases
    python -m benchmarks.peers char_lm echo_rnn   these

Each contender runs in a process of its own, with the threads that suit it there.  First all take
some steps from the same weights, and must have the same losses.  Then they take turns, A B C A B C;
the ratio to the fastest peer is taken within each round.  Each round begins with the largest
product of matrices, beside which rates are told.  Then the memory of each is measured in one more
process.  Compile: the first step without what a step takes later, with the caches that are on disk
(--cold: with none).  To first step: import, build and first step.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import timing

from . import driver
from .table import draw, table

CASES = (
    "char_lm", "echo_rnn", "sine_to_cosine", "sine_lstm", "mnist_lstm", "ptb_lm", "mnist_cnn",
    "mnist_cnn_100", "seq2seq_odds", "seq2seq_greedy",
    "linear_regression", "curve_regression", "iris_softmax", "mnist_softmax", "digits_dropout",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Of every library that may take part and is installed."""
    from importlib import metadata

    found = {}
    for name in ("numpy", "numba", "torch", "jax", "tensorflow_cpu", "tensorflow", "tinygrad",
                 "mygrad", "autograd"):  # fmt: skip
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _result(options: Any, cases: list[dict[str, Any]]) -> dict[str, Any]:
    machine = timing.machine_facts() | {"versions": versions()}
    machine["busy_cores"] = [case["busy_cores"] for case in cases]
    return {
        "benchmark": "peers", "rounds": options.rounds, "cold": options.cold,
        "machine": machine, "cases": cases,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases.  Returns 0, or 2 if one of them could not be measured."""
    parser = timing.parser(__doc__, rounds=12)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--contenders", nargs="+", metavar="PART", help="names that contain this")
    parser.add_argument("--limit", type=float, default=300, help="seconds a first step may take")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave it out")
    parser.add_argument("--cold", action="store_true", help="compile everything anew")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw all ratios")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    if options.threads:
        timing.limit_threads(options.threads)
    codes, cases = [], []
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            options.caches = folder if options.cold else None
            code, measured = driver.run(name, options)
        codes.append(code)
        if measured:
            cases.append(measured)
            print(table(measured), flush=True)
            if options.json:  # after each case: whoever stops a long run keeps what it measured
                timing.write_json(options.json, _result(options, cases))
    if not cases:
        print("peers: nothing was measured", file=sys.stderr)
        return 2
    if options.picture:
        draw(cases, options.picture)
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
