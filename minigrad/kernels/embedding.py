"""Rows of a table by their ids, and the gradient: adding rows back where they came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import kernel


def gather_rows_twin(table: np.ndarray, ids: np.ndarray, out: np.ndarray) -> int:
    """out_n = table[ids_n].  Returns the first n whose id is outside the table, or -1.

    table: (V, D); ids: (N,) integers; out: (N, D).  Rows with a bad id are left alone.
    """
    good = (ids >= 0) & (ids < table.shape[0])
    out[good] = table[ids[good]]
    return -1 if good.all() else int(np.argmin(good))


def scatter_add_rows_twin(grad: np.ndarray, ids: np.ndarray, d_table: np.ndarray) -> None:
    """d_table[ids_n] += grad_n, in the order of n, so that repeated ids add up.

    grad: (N, D); ids: (N,) integers in [0, V); d_table: (V, D).
    """
    np.add.at(d_table, ids, grad)


@kernel(twin=gather_rows_twin, outputs=("out",))
def gather_rows(table: Any, ids: Any, out: Any) -> int:
    bad = -1
    for n in range(ids.size):
        row = ids[n]
        if 0 <= row < table.shape[0]:
            for d in range(table.shape[1]):
                out[n, d] = table[row, d]
        elif bad < 0:
            bad = n
    return bad


@kernel(twin=scatter_add_rows_twin, outputs=("d_table",))
def scatter_add_rows(grad: Any, ids: Any, d_table: Any) -> None:
    for n in range(ids.size):
        source = grad[n]
        target = d_table[ids[n]]
        for d in range(source.size):
            target[d] += source[d]
