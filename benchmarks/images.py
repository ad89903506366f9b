"""How near convolution and pooling come to what the machine can do.

The layers of the documents' network at their sizes: 5 x 5 convolutions 1 -> 32 on 28 x 28 and
32 -> 64 on 14 x 14, with bias and relu, and 2 x 2 max-pooling of both results; float32.  In the
same turns the limits are measured: the largest products of matrices that NumPy's BLAS and
minigrad do here, and a copy of memory by as many threads.

    peak   share of the faster of both products; a multiply-add counts two, a comparison one.
           Through a pool most of the numbers that dx and dw would multiply by are zero and left
           out, but count: there the share may be more than the whole.
    bytes  share of the copy, for what must at least be read and written
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from benchmarks import timing
from minigrad import ops

SIDE = 2048  # of the matrices
COPIED = 1 << 27  # bytes
LAYERS = {"1 -> 32 on 28 x 28": (28, 1, 32), "32 -> 64 on 14 x 14": (14, 32, 64)}
SEED = 4


class Work(NamedTuple):
    """Something to time."""

    call: Callable[[], Any]
    operations: int
    moved: int = 0  # bytes


def limits() -> dict[str, Work]:
    """The products and the copy."""
    a = np.random.default_rng(SEED).random((SIDE, SIDE), dtype=np.float32)
    out = np.empty_like(a)
    threads = mg.get_num_threads()
    source, target = np.ones((2, threads, COPIED // threads), np.uint8)
    pool = ThreadPoolExecutor(threads)
    return {
        "product, NumPy": Work(lambda: np.matmul(a, a, out=out), 2 * SIDE**3),
        "product, minigrad": Work(lambda: ops.matmul(a, a), 2 * SIDE**3),
        "copy": Work(lambda: list(pool.map(np.copyto, target, source)), 0, 2 * COPIED),
    }


def layer(batch: int, name: str, size: int, inputs: int, outputs: int) -> dict[str, Work]:
    """A convolution and the pooling of its result, forward and back."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((batch, size, size, inputs), dtype=np.float32)
    w = rng.standard_normal((5, 5, inputs, outputs), dtype=np.float32)
    bias = np.zeros(outputs, np.float32)
    convolve = functools.partial(ops.conv2d, padding="same", activation="relu")
    y, (dx, dw, _) = convolve(x, w, bias)
    g = rng.standard_normal(y.shape, dtype=np.float32)
    _, (dx_pooled, dw_pooled, _) = convolve(x, w, bias, pool=2)
    pooled, back = ops.max_pool2d(y)
    g_pooled = rng.standard_normal(pooled.shape, dtype=np.float32)
    products = 2 * y.size * w.size // outputs
    return {
        f"conv2d {name}": Work(lambda: convolve(x, w, bias), products),
        f"conv2d and pool {name}": Work(lambda: convolve(x, w, bias, pool=2), products),
        f"conv2d dx {name}": Work(lambda: dx(g), products),
        f"conv2d dw {name}": Work(lambda: dw(g), products),
        f"conv2d and pool dx {name}": Work(lambda: dx_pooled(g_pooled), products),
        f"conv2d and pool dw {name}": Work(lambda: dw_pooled(g_pooled), products),
        f"max_pool2d {name}": Work(
            lambda: ops.max_pool2d(y), 3 * pooled.size, y.nbytes + pooled.nbytes + pooled.size
        ),
        f"max_pool2d dx {name}": Work(
            lambda: back(g_pooled), 4 * pooled.size, y.nbytes + pooled.nbytes + pooled.size
        ),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Time everything in turn and print the shares; returns 0."""
    parser = timing.parser(__doc__, rounds=10)
    parser.add_argument("--batch", type=timing.positive, default=50, help="images (default: 50)")
    options = parser.parse_args(arguments)
    if options.threads:
        timing.limit_threads(options.threads)
        mg.set_num_threads(options.threads)
    works = limits()
    for name, sizes in LAYERS.items():
        works |= layer(options.batch, name, *sizes)
    calls = {name: work.call for name, work in works.items()}
    report = timing.measure(
        calls, rounds=options.rounds, turn_seconds=0.05, warmup_seconds=0.1
    )

    def per_second(name: str) -> tuple[float, float]:
        """Operations and bytes per second at the median."""
        seconds = report[name].quartiles[1] * 1e-6
        return works[name].operations / seconds, works[name].moved / seconds

    peak = max(per_second(name)[0] for name in works if name.startswith("product"))
    copied = per_second("copy")[1]
    width = max(map(len, works))
    print(f"{'batch ' + str(options.batch):{width}}  {'us':>9}  GFLOP/s   peak   GB/s  bytes")
    for name, work in works.items():
        flops, moved = per_second(name)
        line = f"{name:{width}}  {report[name].quartiles[1]:9.1f}"
        line += f"  {flops / 1e9:7.1f}  {flops / peak:5.1%}" if work.operations else " " * 16
        print(line + (f"  {moved / 1e9:5.1f}  {moved / copied:5.1%}" if work.moved else ""))
    busy = max(report.machine["busy_cores"])
    print(f"threads: {mg.get_num_threads()}; other work kept {busy:.1f} cores busy")
    if options.json:
        shares = {name: {"of_peak": per_second(name)[0] / peak,
                         "of_copy": per_second(name)[1] / copied} for name in works}  # fmt: skip
        timing.write_json(options.json, {"shares": shares} | report.as_dict("product, NumPy"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
