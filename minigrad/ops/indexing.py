"""Picking entries by index, and putting gradients back where they came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import DTypeError, IndexRangeError, ShapeError
from ._call import call, composed_as


def getitem(x: Any, index: Any) -> Any:
    """x[index] for integers, slices, None, ``...``, integer and boolean arrays."""
    return x[index], lambda g: call(scatter, g, index=index, shape=x.shape)


def scatter(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of ``shape`` with x added at ``index``; entries named twice get both."""
    y = np.zeros(shape, x.dtype)
    if _repeats(index):
        np.add.at(y, index, x)
    else:
        y[index] = x
    return y, lambda g: call(getitem, g, index=index)


def _repeats(index: Any) -> bool:
    """Whether an index could name one entry twice: only integer arrays can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, (list, np.ndarray)) and np.asarray(part).dtype != bool for part in parts
    )


def _embedding_composed(table: Any, ids: np.ndarray) -> Any:
    return getitem(table, index=np.asarray(ids))


@composed_as(_embedding_composed)
def embedding(table: Any, ids: np.ndarray) -> Any:
    """Rows of a table: table[ids].

    table: (V, D) float; ids: (...) integers in [0, V).  Returns (..., D).
    Raises DTypeError for ids that are not integers, IndexRangeError for one out of range.
    """
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"embedding: ids must be integers, got {ids.dtype}")
    if table.ndim != 2:
        raise ShapeError(f"embedding: table must have axes (V, D), got shape {table.shape}")
    flat = np.ascontiguousarray(ids).reshape(-1)
    rows = np.empty((flat.size, table.shape[1]), table.dtype)
    bad = kernels.gather_rows(np.ascontiguousarray(table), flat, rows)
    if bad >= 0:
        place = np.unravel_index(bad, ids.shape)
        raise IndexRangeError(
            f"embedding: id {flat[bad]} at {tuple(int(i) for i in place)} is outside the table, "
            f"which has {table.shape[0]} rows (axis 0 of {table.shape})"
        )
    shape = table.shape

    def d_table(g: Any) -> Any:
        total = np.zeros(shape, g.dtype)
        kernels.scatter_add_rows(np.ascontiguousarray(g).reshape(flat.size, -1), flat, total)
        return total

    return rows.reshape(*ids.shape, shape[1]), (d_table,)
