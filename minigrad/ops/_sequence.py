"""What the recurrent ops share: where sequences end, and when threads are worth it."""

from __future__ import annotations

import numpy as np

# Multiply-adds below which a range of rows is not worth a thread: about 0.4 ms, for waking a
# thread and fetching what the other core wrote cost nearly as much (measured on char_lm).
_GRAIN = 1 << 24


def grain(multiply_adds: int) -> int:
    """Rows below which a range is not worth a thread, from the work that a row makes."""
    return _GRAIN // (multiply_adds + 1) + 8


def ends(lengths: np.ndarray | None, steps: int, batch: int) -> np.ndarray:
    """Length of each sequence, (N,) int64: T for all if ``lengths`` is None."""
    return np.full(batch, steps, np.int64) if lengths is None else lengths


def zero_past_end(x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """x (T, N, H) in C order, with zeros (in a copy) from the end of each sequence on."""
    if lengths is None:
        return np.ascontiguousarray(x)
    return np.where((np.arange(len(x))[:, None] < lengths)[:, :, None], x, x.dtype.type(0))
