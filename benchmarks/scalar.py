"""The engine's own overhead: c = a * b; c.backward() on scalars, minigrad against PyTorch.

There is next to no arithmetic in it: what is timed is one node of graph, one backward walk and
the storing of two gradients. The gradients are set to None before each.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import timing

REPEATS = 100  # per timed call, so that reading the clock (about 0.1 us) does not count


def repeated(tensor: Callable[..., Any]) -> Callable[[], None]:
    """REPEATS times the forward and backward pass on float32 scalars made by `tensor`.

    Raises ValueError when the gradients are not b and a.
    """
    a, b = tensor(2.0, requires_grad=True), tensor(3.0, requires_grad=True)

    def call() -> None:
        for _ in range(REPEATS):
            a.grad = None
            b.grad = None
            c = a * b
            c.backward()

    call()
    if (float(a.grad), float(b.grad)) != (3.0, 2.0):
        raise ValueError(f"scalar: the gradients are {a.grad} and {b.grad}, not 3 and 2")
    return call


def minigrad_scalar() -> Callable[[], None]:
    """minigrad; raises ImportError where it is missing or has no tensors yet."""
    import minigrad as mg

    if not hasattr(mg, "tensor"):
        raise ImportError("minigrad has no function tensor")
    return repeated(mg.tensor)


def pytorch_scalar() -> Callable[[], None]:
    """PyTorch on one thread; raises ImportError where it is missing."""
    import torch

    torch.set_num_threads(1)
    return repeated(torch.tensor)


CONTENDERS = {"minigrad": minigrad_scalar, "PyTorch": pytorch_scalar}


def main(arguments: Sequence[str] | None = None) -> int:
    """Time, print the table; returns 0, or 2 when there is nothing to time."""
    options = timing.parser(__doc__, rounds=30).parse_args(arguments)
    if options.threads:
        timing.limit_threads(options.threads)

    calls = {}
    for name, make in CONTENDERS.items():
        try:
            calls[name] = make()
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    if not calls:
        print("scalar: none of the contenders can be imported", file=sys.stderr)
        return 2

    report = timing.measure(calls, rounds=options.rounds, units_per_call=REPEATS)
    reference = "PyTorch" if "PyTorch" in calls else "minigrad"
    print(report.table(reference))
    if options.json:
        extra = {"benchmark": "scalar", "repeats": REPEATS}
        timing.write_json(options.json, extra | report.as_dict(reference))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
