"""Products of matrices on the register tile: what dense layers are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import panels, tile
from .registry import kernel


def matmul_twin(
    a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, bias: np.ndarray, c: np.ndarray,
    group: int, start: int, stop: int,
) -> None:  # fmt: skip
    """c = a @ b + bias for rows start to stop of c; or if ``group`` is not 0 for its columns,
    from group start to group stop of so many (a multiple of the width of a panel).

    a: (M, K), or (K, M) if a_turned; b: (K, P), or (P, K) if b_turned; c: (M, P).  A turned
    matrix is read as its transpose, without being copied.  bias: (P,), or (0,) for none.
    """
    part = (slice(None), slice(start * group, stop * group)) if group else slice(start, stop)
    product = (a.T if a_turned else a) @ (b.T if b_turned else b)
    c[part] = (product + bias if bias.size else product)[part]


def _terms(
    a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, *rest: Any
) -> np.ndarray:
    """|a| @ |b|: what rounding of the product is relative to."""
    return np.abs(a.T if a_turned else a) @ np.abs(b.T if b_turned else b)


_WORTH_PACKING = 128  # rows that pass over a panel; fewer read it where it is
_DEPTH = 256  # rows of a panel that is packed: with 128 bytes in each it fills most of the L1 cache
_ROWS_TOGETHER = 64  # rows of A that pass over one panel after another while they are in cache
_PACKED = 1 << 18  # bytes of panels that are packed at a time: a part of the L2 cache


@kernel(twin=matmul_twin, outputs=("c",), magnitude=_terms)
def matmul(
    a: Any, a_turned: bool, b: Any, b_turned: bool, bias: Any, c: Any, group: int, start: int,
    stop: int,
) -> None:  # fmt: skip
    step = tile.width(c.dtype)
    columns = c.shape[1]
    left, right = 0, columns
    if group:
        left, right = start * group, min(stop * group, columns)
        start, stop = 0, c.shape[0]
    rows = stop - start
    depth = a.shape[0] if a_turned else a.shape[1]
    a_row, a_column = (1, a.shape[1]) if a_turned else (a.shape[1], 1)
    if depth == 0:
        c[start:stop, left:right] = 0
        if bias.size:
            c[start:stop, left:right] += bias[left:right]
    # rows of b that are a page apart push one another out of the cache
    few = rows < _WORTH_PACKING and columns * c.itemsize < 4096 and not b_turned
    ragged = columns % step if left < right == columns else 0
    deep = min(depth, _DEPTH)
    count = min(_PACKED // (deep * step * c.itemsize + 1), (right - left + step - 1) // step)
    packed = np.empty(max(count, 1) * deep * step, c.dtype)
    together = max(count, 1) * step
    last = np.empty((rows, step if ragged else 0), c.dtype)  # results of a ragged last panel
    last_bias = np.zeros(step, c.dtype)
    flat, shift = c.ravel(), bias.copy()  # of one type, also where the bias is read-only
    if bias.size and ragged:
        last_bias[:ragged] = bias[columns - ragged :]
    for k in range(0, depth, _DEPTH):
        chunk = min(_DEPTH, depth - k)
        onto = k > 0 or bias.size > 0
        for begin in range(left, right, together):
            end = min(begin + together, right)
            alone = (end - begin) // step if few else 0  # panels that stay in b
            panels.pack_panels(
                b, b_turned, k, chunk, begin + alone * step, end - begin - alone * step, packed,
                alone * deep * step, deep * step,
            )  # fmt: skip
            for i in range(0, rows, _ROWS_TOGETHER):
                several = min(_ROWS_TOGETHER, rows - i)
                a_start = (start + i) * a_row + k * a_column
                for p in range((end - begin + step - 1) // step):
                    first = begin + p * step
                    c_start = (start + i) * columns + first
                    d, d_start, d_row = (flat, c_start, columns) if k > 0 else (shift, first, 0)
                    if first + step > right:
                        d, d_start, d_row = (last.ravel(), i * step, step)
                        if k == 0:
                            d, d_start, d_row = last_bias, 0, 0
                        tile.column_of_blocks(
                            a, a_start, packed, p * deep * step, last, i * step, a_row, a_column,
                            step, step, chunk, several, onto, d, d_start, d_row,
                        )  # fmt: skip
                    elif few:
                        tile.column_of_blocks(
                            a, a_start, b, k * columns + first, c, c_start, a_row, a_column,
                            columns, columns, chunk, several, onto, d, d_start, d_row,
                        )  # fmt: skip
                    else:
                        tile.column_of_blocks(
                            a, a_start, packed, p * deep * step, c, c_start, a_row, a_column,
                            step, columns, chunk, several, onto, d, d_start, d_row,
                        )  # fmt: skip
    for i in range(rows if depth else 0):
        for j in range(ragged):
            c[start + i, columns - ragged + j] = last[i, j]
