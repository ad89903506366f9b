"""Products with few columns, such as the ten classes at the end of a classifier.

The register tile (tile.py) works on wide blocks, from panels that it copies first.  Of a result
with ten columns most of that would be padding: here a block is narrower and higher instead, and
reads its operands where they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .block import VECTOR_BYTES, VECTORS, block
from .inner import inner
from .registry import kernel
from .tile import ROWS


def narrow_matmul_twin(
    a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, bias: np.ndarray, c: np.ndarray,
    start: int, stop: int,
) -> None:  # fmt: skip
    """c = a @ b + bias for rows start to stop of c.

    a: (M, K), or (K, M) if a_turned; b: (K, P), or (P, K) if b_turned; c: (M, P), a row of at
    most WIDTH bytes.  A turned matrix is read as its transpose.  bias: (P,), or (0,) for none.
    """
    product = (a.T if a_turned else a) @ (b.T if b_turned else b)
    c[start:stop] = (product + bias if bias.size else product)[start:stop]


def _terms(a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, *rest: Any) -> np.ndarray:
    """|a| @ |b|: what rounding of the product is relative to."""
    return np.abs(a.T if a_turned else a) @ np.abs(b.T if b_turned else b)


WIDTH = 64  # bytes in a row of a block
_DEPTH = 1024  # multiply-adds in one chain: sums of sums round less than one long chain
_VECTORS = WIDTH // VECTOR_BYTES
_ROWS = ROWS * VECTORS // _VECTORS  # as many accumulators as a block of the tile has
_HALF, _QUARTER = max(_ROWS // 2, 1), max(_ROWS // 4, 1)

_block = block((_ROWS, _HALF, _QUARTER, 1), vectors=_VECTORS, narrow=True)


@inner(forceinline=True)
def _rows(
    a: Any, a_start: int, a_row: int, a_column: int, b: Any, b_start: int, c: Any, c_start: int,
    depth: int, rows: int, onto: bool, d: Any, d_start: int, d_row: int,
) -> None:  # fmt: skip
    """c = A @ B (+ d if onto) for some rows; see the tile's block for the numbers."""
    columns = c.shape[1]
    done = 0
    while done < rows:
        some, left = 1, rows - done
        if left >= _QUARTER:
            some = _ROWS if left >= _ROWS else _HALF if left >= _HALF else _QUARTER
        _block(
            a, a_start + done * a_row, b, b_start, c, c_start + done * columns, a_row, a_column,
            columns, columns, columns, depth, onto, d, d_start + done * d_row, d_row, some,
        )  # fmt: skip
        done += some


@inner()
def _product(a: Any, a_turned: bool, b: Any, bias: Any, c: Any, start: int, stop: int) -> None:
    """c = a @ b + bias for rows start to stop, b as it lies in memory."""
    columns, shift = c.shape[1], bias.copy()  # of one type: bias may be read-only
    depth = a.shape[0] if a_turned else a.shape[1]
    for i in range(start, stop, _ROWS):  # each row of A is read from its begin to its end
        rows, c_start = min(_ROWS, stop - i), i * columns
        for k in range(0, max(depth, 1), _DEPTH):
            chunk, b_start = min(_DEPTH, depth - k), k * columns
            onto, d, d_start, d_row = True, c.ravel(), c_start, columns
            if k == 0:
                onto, d, d_start, d_row = shift.size > 0, shift, 0, 0
            if a_turned:  # two calls, so that the compiler knows the distance that is 1
                _rows(
                    a, k * c.shape[0] + i, 1, c.shape[0], b, b_start, c, c_start, chunk, rows,
                    onto, d, d_start, d_row,
                )  # fmt: skip
            else:
                _rows(
                    a, i * depth + k, depth, 1, b, b_start, c, c_start, chunk, rows,
                    onto, d, d_start, d_row,
                )  # fmt: skip


@kernel(twin=narrow_matmul_twin, outputs=("c",), magnitude=_terms)
def narrow_matmul(
    a: Any, a_turned: bool, b: Any, b_turned: bool, bias: Any, c: Any, start: int, stop: int
) -> None:
    if b_turned:
        turned = np.empty((b.shape[1], b.shape[0]), c.dtype)
        for k in range(turned.shape[0]):
            for j in range(turned.shape[1]):
                turned[k, j] = b[j, k]
        _product(a, a_turned, turned, bias, c, start, stop)
    else:
        _product(a, a_turned, b, bias, c, start, stop)
