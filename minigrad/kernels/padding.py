"""Sequences of different lengths in one array, padded at their ends."""

from __future__ import annotations

from typing import Any

import numpy as np

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
    for t in range(start, stop):
        for n in range(ends.size):
            row, given = y[t, n], x[t, n]
            if t < ends[n]:
                for k in range(row.size):
                    row[k] = given[k]
            else:
                row[:] = 0
