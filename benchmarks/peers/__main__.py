"""Training steps of the document models, minigrad against PyTorch and JAX.

    python -m benchmarks.peers                    all cases
    python -m benchmarks.peers char_lm echo_rnn   these

Each case runs in a process of its own, so that JAX can have the threads that suit it there.
The contenders take turns, A B C A B C; the ratio is taken within each round.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import timing

from . import driver

CASES = (
    "char_lm", "echo_rnn", "sine_to_cosine", "sine_lstm", "mnist_lstm", "ptb_lm", "mnist_cnn",
    "mnist_cnn_100", "seq2seq_odds", "seq2seq_greedy",
    "linear_regression", "curve_regression", "iris_softmax", "mnist_softmax", "digits_dropout",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases.  Returns 0, or 2 if one of them could not be measured."""
    parser = timing.parser(__doc__, rounds=12)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    if options.threads:
        timing.limit_threads(options.threads)
    names = options.cases or list(CASES)
    if len(names) == 1:
        case = importlib.import_module(f"{__package__}.{names[0]}")
        code, measured = driver.run(case, names[0], options)
        if options.json and code == 0:
            timing.write_json(options.json, {"benchmark": names[0]} | measured)
        return code
    codes, together = [], {}
    for name in names:
        command = [sys.executable, "-m", __package__, name, "--rounds", str(options.rounds)]
        if options.json:
            command += ["--json", f"{options.json}.{name}"]
        codes.append(subprocess.run(command, check=False).returncode)
        if options.json and codes[-1] == 0:
            part = options.json.with_name(f"{options.json.name}.{name}")
            together[name] = json.loads(part.read_text())
            part.unlink()
    if options.json:
        timing.write_json(options.json, together)
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
