"""Sequences of different lengths in one array, padded at their ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops
from .registry import kernel


def zero_past_end_twin(
    x: np.ndarray, ends: np.ndarray, y: np.ndarray, start: int, stop: int
) -> None:
    """y = x with zeros from the end of each sequence on, for time steps start to stop.

    x, y: (T, N, H); ends: (N,) int64, the lengths.
    """
    for t in range(start, stop):
        y[t] = np.where((t < ends)[:, None], x[t], 0)


@kernel(twin=zero_past_end_twin, outputs=("y",))
def zero_past_end(x: Any, ends: Any, y: Any, start: int, stop: int) -> None:
    zero = y.dtype.type(0)
    for t in range(start, stop):
        loops.copy(x[t].ravel(), y[t].ravel())
        for n in range(x.shape[1]):
            for k in range(x.shape[2] if t >= ends[n] else 0):
                y[t, n, k] = zero
