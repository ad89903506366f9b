"""Picking entries by index, and putting gradients back where they came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import DTypeError, IndexRangeError, ShapeError
from ..recording import contiguous, do, made, repeatable, view_of, zeros
from ._call import call, composed_as, takes_gaps

_GRAIN = 1 << 18  # numbers below which a range of columns is not worth a thread


@repeatable
def getitem(x: Any, index: Any) -> Any:
    """x[index] for integers, slices, None, ``...``, integer and boolean arrays."""
    shape = x.shape
    return view_of(x, x[index]), lambda g: call(scatter, g, index=index, shape=shape)


def scatter(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of ``shape`` with x added at ``index``; entries named twice get both."""
    y = zeros(shape, x.dtype)
    if _repeats(index):
        do(np.add.at, y, index, x)
    else:
        do(y.__setitem__, index, x)
    return y, lambda g: call(getitem, g, index=index)


def _repeats(index: Any) -> bool:
    """Whether an index could name one entry twice: only integer arrays can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(part, (list, np.ndarray)) and np.asarray(part).dtype != bool for part in parts
    )


@takes_gaps
@repeatable
def reordered(*several: Any, order: np.ndarray, back: np.ndarray) -> Any:
    """Each array (..., N, D) with its rows in another order; a tuple of them.

    order: (N,), the number of each row of the results; every row is in them once.
    back: (N,), the order that undoes it.
    """

    def rows(x: Any, order: np.ndarray) -> Any:
        return x if x is None else made(_rows, x, order)

    return (
        tuple([rows(x, order) for x in several]),
        lambda gs: tuple([rows(g, back) for g in gs]),
    )


def _rows(x: Any, order: np.ndarray) -> Any:
    """x (..., N, D) with its rows in another order.  Works on tensors too."""
    if isinstance(x, np.ndarray):
        return x.take(order, -2)  # half the time of an index
    return x[..., order, :]


def check_ids(op: str, ids: np.ndarray, count: int) -> None:
    """Raise DTypeError unless ids are integers, IndexRangeError unless in [0, count)."""
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"{op}: ids must be integers, got {ids.dtype}")
    if not kernels.ids_within(contiguous(ids).reshape(-1), count):
        bad = np.argwhere((ids < 0) | (ids >= count))[0]
        place = tuple(int(i) for i in bad)
        raise IndexRangeError(
            f"{op}: id {int(ids[place])} at {place} is outside the table, which has {count} rows "
            "(its axis 0)"
        )


def add_rows(rows: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """A table (count, D) in which row ids_n has got rows_n added.  rows: (N, D); ids: (N,)."""
    table = zeros((count, rows.shape[1]), rows.dtype)
    grain = _GRAIN // max(len(ids), 1) + 1
    kernels.run_rows(kernels.scatter_add_rows, rows.shape[1], grain, rows, ids, table)
    return table


def _embedding_composed(table: Any, ids: np.ndarray) -> Any:
    return getitem(table, index=np.asarray(ids))


@repeatable
@composed_as(_embedding_composed)
def embedding(table: Any, ids: np.ndarray) -> Any:
    """Rows of a table: table[ids].

    table: (V, D) float; ids: (...) integers in [0, V).  Returns (..., D).
    Raises DTypeError for ids that are not integers, IndexRangeError for one out of range.

    >>> import minigrad as mg
    >>> mg.embedding(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 1, 0])
    tensor([[3., 4.],
            [3., 4.],
            [1., 2.]])
    """
    ids = np.asarray(ids)
    if table.ndim != 2:
        raise ShapeError(f"embedding: table must have axes (V, D), got shape {table.shape}")
    check_ids("embedding", ids, table.shape[0])
    flat = contiguous(ids).reshape(-1)
    rows = np.empty((flat.size, table.shape[1]), table.dtype)
    kernels.gather_rows(contiguous(table), flat, rows)
    shape = table.shape

    def d_table(g: Any) -> Any:
        return add_rows(contiguous(g).reshape(flat.size, shape[1]), flat, shape[0])

    return rows.reshape(*ids.shape, shape[1]), (d_table,)
