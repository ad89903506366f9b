"""Rows of a table by their ids, and the gradient: adding rows back where they came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import kernel


def gather_rows_twin(table: np.ndarray, ids: np.ndarray, out: np.ndarray) -> None:
    """out_n = table[ids_n].  table: (V, D); ids: (N,) integers in [0, V); out: (N, D)."""
    out[:] = table[ids]


def ids_within_twin(ids: np.ndarray, count: int) -> bool:
    """Whether every id is in [0, count).  ids: (N,) integers."""
    return bool(((ids >= 0) & (ids < count)).all())


@kernel(twin=ids_within_twin, outputs=())
def ids_within(ids: Any, count: int) -> bool:
    outside = 0
    for n in range(ids.size):
        outside += ids[n] < 0 or ids[n] >= count
    return outside == 0


def scatter_add_rows_twin(
    grad: np.ndarray, ids: np.ndarray, d_table: np.ndarray, start: int, stop: int
) -> None:
    """d_table[ids_n] += grad_n, in the order of n, so that repeated ids add up.

    grad: (N, D); ids: (N,) integers in [0, V); d_table: (V, D).  Columns start to stop:
    ranges of them are what threads share, so that the order of a sum never changes.
    """
    np.add.at(d_table[:, start:stop], ids, grad[:, start:stop])


@kernel(twin=gather_rows_twin, outputs=("out",))
def gather_rows(table: Any, ids: Any, out: Any) -> None:
    for n in range(ids.size):
        source = table[ids[n]]
        target = out[n]
        for d in range(target.size):
            target[d] = source[d]


@kernel(twin=scatter_add_rows_twin, outputs=("d_table",))
def scatter_add_rows(grad: Any, ids: Any, d_table: Any, start: int, stop: int) -> None:
    for n in range(ids.size):
        source = grad[n, start:stop]
        target = d_table[ids[n], start:stop]
        for d in range(source.size):
            target[d] += source[d]
