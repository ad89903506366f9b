"""How many activations lie where a sigmoid or a tanh is nearly flat, for watch.Saturation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .inner import inner
from .registry import FASTMATH, kernel


def count_saturated_twin(
    x: np.ndarray, ends: np.ndarray, low: np.ndarray, high: np.ndarray, counts: np.ndarray
) -> None:
    """Entries of x at or below ``low`` and at or above ``high``, by time step and gate.

    x: (T, G, N, H) for G gates; low, high: (G,), of x's dtype.
    ends: (N,) int64, the length of each sequence: what comes after it is not counted.
    counts: (2, T, G) int64, written: below, above.
    """
    steps, _, batch, _ = x.shape
    running = np.arange(steps)[:, None] < ends  # (T, N)
    running = running.reshape(steps, 1, batch, 1)
    counts[0] = np.sum((x <= low[:, None, None]) & running, axis=(2, 3))
    counts[1] = np.sum((x >= high[:, None, None]) & running, axis=(2, 3))


@inner(fastmath=FASTMATH, error_model="numpy")
def _count_row(x: Any, low: Any, high: Any) -> Any:
    """Counted in x's own dtype, which makes vector code: exact below 2**24 entries."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    below = above = zero
    for k in range(x.size):
        below += one if x[k] <= low else zero
        above += one if x[k] >= high else zero
    return below, above


@kernel(twin=count_saturated_twin, outputs=("counts",), fastmath=FASTMATH)
def count_saturated(x: Any, ends: Any, low: Any, high: Any, counts: Any) -> None:
    counts[:] = 0
    for t in range(x.shape[0]):
        for g in range(x.shape[1]):
            for n in range(x.shape[2]):
                if t < ends[n]:
                    below, above = _count_row(x[t, g, n], low[g], high[g])
                    counts[0, t, g] += np.int64(below)
                    counts[1, t, g] += np.int64(above)
