"""What the machine can do at most: its products of matrices, and its memory.

    peak       2 * 2048^3 operations of a product of two square matrices, by the faster of NumPy's
               BLAS and minigrad
    bandwidth  a = b + s c (the triad of the STREAM benchmark; three arrays count) over working sets
               from 16 KB, which stay in a core's own cache, to 256 MB, which stay in none

A kernel whose arguments fit into a cache cannot be judged by the memory beyond it, so the
bandwidth that bounds a kernel is that of a working set of its size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

import minigrad as mg
from minigrad import ops

SIDE = 2048  # of the matrices
SIZES = tuple(1 << k for k in range(14, 29))  # bytes of a working set, all threads together
SECONDS = 0.03  # a triad is repeated for about so long before the clock is read
MEMORY = 1 << 26  # bytes from which on a working set counts as memory


@dataclass(frozen=True)
class Roof:
    """The limits for one number of threads.

    peak: floating-point operations per second, by dtype; bandwidth: bytes per second, by bytes
    of the working set.
    """

    threads: int
    peak: Mapping[str, float]
    bandwidth: Mapping[int, float]

    def bandwidth_at(self, size: float) -> float:
        """Bytes per second for a working set of `size` bytes: between the measured sizes."""
        sizes = sorted(self.bandwidth)
        rates = [self.bandwidth[s] for s in sizes]
        return float(np.interp(np.log2(max(size, 1)), np.log2(sizes), rates))

    @property
    def memory(self) -> float:
        """Bytes per second of the largest working set."""
        return self.bandwidth[max(self.bandwidth)]

    @property
    def cache(self) -> float:
        """Bytes per second of the working set that is served best."""
        return max(self.bandwidth.values())

    def least_seconds(self, flops: float, moved: float, size: float, dtype: str) -> float:
        """The roofline, as a time: flops / min(peak, flops / moved * bandwidth).

        Where there are no flops it is the time that the bytes take.
        """
        return max(flops / self.peak[dtype], moved / self.bandwidth_at(size))


@numba.njit(nogil=True)
def _triad(a: Any, b: Any, c: Any, s: float) -> None:
    for i in range(a.size):
        a[i] = b[i] + s * c[i]


@numba.njit(nogil=True)
def _triads(a: Any, b: Any, c: Any, s: float, pairs: int) -> None:
    """a = b + s c and b = a + s c, so that none of them can be left out."""
    for _ in range(pairs):
        _triad(a, b, c, s)
        _triad(b, a, c, s)


def bandwidth(size: int, threads: int, pool: ThreadPoolExecutor) -> float:
    """Bytes per second of triads over `size` bytes in all, the threads side by side."""
    length = size // (3 * 4 * threads)
    parts = [np.ones((3, length), np.float32) for _ in range(threads)]

    def run(pairs: int) -> float:
        start = time.perf_counter()
        list(pool.map(lambda part: _triads(*part, np.float32(0), pairs), parts))
        return time.perf_counter() - start

    run(1)
    pairs = 1
    while (seconds := run(pairs)) < SECONDS / 4 and pairs < 1 << 24:
        pairs *= 4
    return 2 * 3 * 4 * length * threads * pairs / min(seconds, *(run(pairs) for _ in range(4)))


def _blas_threads(count: int) -> Any:
    """Limits NumPy's BLAS for a ``with`` block; None where nobody can."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    return threadpool_limits(count)


def peak(dtype: str, threads: int, blas: bool = True, repeats: int = 6) -> float:
    """Operations per second of the faster of NumPy's product (if blas) and minigrad's."""
    a = np.random.default_rng(4).random((SIDE, SIDE)).astype(dtype)
    out = np.empty_like(a)
    contenders: list[Callable[[], Any]] = [lambda: ops.matmul(a, a)]
    limit = nullcontext() if threads == mg.get_num_threads() else _blas_threads(threads)
    if blas and limit is not None:
        contenders.append(lambda: np.matmul(a, a, out=out))
    before = mg.get_num_threads()
    mg.set_num_threads(threads)
    try:
        with limit or nullcontext():
            best = min(_fastest(call, repeats) for call in contenders)
    finally:
        mg.set_num_threads(before)
    return 2 * SIDE**3 / best


def _fastest(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some calls: a limit is what can be reached, not what is usual."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(threads: int) -> dict[int, Roof]:
    """The roofs of one thread and of `threads`; takes some ten seconds."""
    roofs = {}
    for count in sorted({1, threads}):
        peaks = {dtype: peak(dtype, count) for dtype in ("float32", "float64")}
        time.sleep(0.2)  # threads of BLAS that still spin
        with ThreadPoolExecutor(count) as pool:
            rates = {size: bandwidth(size, count, pool) for size in SIZES}
        roofs[count] = Roof(count, peaks, rates)
    return roofs


def best_of(one: Mapping[int, Roof], other: Mapping[int, Roof]) -> dict[int, Roof]:
    """Of two measurements what was reached in either."""
    found = {}
    for count, roof in one.items():
        again = other[count]
        found[count] = Roof(
            count,
            {dtype: max(rate, again.peak[dtype]) for dtype, rate in roof.peak.items()},
            {size: max(rate, again.bandwidth[size]) for size, rate in roof.bandwidth.items()},
        )
    return found
