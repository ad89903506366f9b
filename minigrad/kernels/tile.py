"""The register tile: matrix products in blocks that are held in vector registers.

``C = A @ B`` is computed in blocks of a few rows (block.py).  B is copied once into *panels*,
slices of ``width`` columns in which the K rows are contiguous, so that the loop over K streams
through memory.  Two panels are passed over at once where there are two: each number of A that
is read then meets four vectors of B instead of two, and a core whose other half is busy with
something else has fewer instructions to get through for as many multiply-adds.

Every element of C is one chain of multiply-adds in the order of K (or a sum of such chains,
each of a fixed length), whatever the block it falls into, so a product cut into ranges for
several threads has the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from .block import VECTOR_BYTES, VECTORS, block, width
from .inner import inner

# Most rows of a block.  ROWS * VECTORS sums must cover the latency of the multiply-adds (8 chains
# on current x86) and leave registers for the operands; AVX-512 has 32 registers, AVX2 16.
ROWS = 8 if VECTOR_BYTES == 64 else 4
_ROWS_OF_TWO = 6 if VECTOR_BYTES == 64 else 2  # where the block is two panels wide


@intrinsic
def flat(typingctx: Any, array: Any) -> Any:
    """The numbers of a C-contiguous array one after another, as an array of one dimension.

    Whatever its shape, and whether or not it may be written, the type is the same: the
    functions below are compiled once and not for every kind of array that is multiplied.
    For the same reason they are given ``np.intp(0)`` where 0 is meant: Numba would compile a
    function once more for each number written out.
    """
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypingError(f"tile.flat: the array must be C-contiguous, got {array}")
    result = types.Array(array.dtype, 1, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source = context.make_array(sig.args[0])(context, builder, args[0])
        row = context.make_array(result)(context, builder)
        context.populate_array(
            row, data=source.data, shape=[source.nitems], strides=[source.itemsize],
            itemsize=source.itemsize, meminfo=source.meminfo, parent=source.parent,
        )  # fmt: skip
        return impl_ret_borrowed(context, builder, result, row._getvalue())

    return result(array), codegen


_one_panel = block(range(1, ROWS + 1))
_half_panel = block(range(1, ROWS + 1), vectors=1)
_two_panels = block(range(1, _ROWS_OF_TWO + 1), vectors=2 * VECTORS)
_scattered_panel = block(range(1, ROWS + 1), scattered="A")
_scattered_two = block(range(1, _ROWS_OF_TWO + 1), vectors=2 * VECTORS, scattered="A")
_WIDE = 10  # vectors: enough chains of multiply-adds in one row
_wide_row = block([1], vectors=_WIDE, scattered="B")
_narrow_row = block([1], scattered="B")


@inner()
def _blocks(rows: int, two: bool) -> int:
    """How many blocks so many rows are cut into, where they pass over two panels or over one."""
    most = _ROWS_OF_TWO if two else ROWS
    return (rows + most - 1) // most


@inner()
def over_panels(
    a: Any, a_start: int, b: Any, b_start: int, b_next: int, columns: int, c: Any, c_start: int,
    a_row: int, a_column: int, b_row: int, c_row: int, depth: int, rows: int, onto: bool, d: Any,
    d_start: int, d_row: int,
) -> None:  # fmt: skip
    """All rows over the panels of ``columns``: one or two stay in cache while the rows pass.

    Arrays: flat; the numbers are those of the block.  A last panel that is not full is written as
    if it were, or as half of one where that is enough.
    """
    step = width(c.dtype)
    for begin in range(0, columns, 2 * step):
        two, half = begin + step < columns, columns - begin <= step // VECTORS
        b_at, c_at, d_at = b_start + begin // step * b_next, c_start + begin, d_start + begin
        left, done = _blocks(rows, two), 0
        while left:
            some = (rows - done + left - 1) // left  # so that all blocks have about as many
            a_at = a_start + done * a_row
            if two:
                _two_panels(
                    a, a_at, b, b_at, c, c_at, a_row, a_column, b_row, b_next, c_row, depth, onto,
                    d, d_at, d_row, some,
                )  # fmt: skip
            elif half:
                _half_panel(
                    a, a_at, b, b_at, c, c_at, a_row, a_column, b_row, b_next, c_row, depth, onto,
                    d, d_at, d_row, some,
                )  # fmt: skip
            else:
                _one_panel(
                    a, a_at, b, b_at, c, c_at, a_row, a_column, b_row, b_next, c_row, depth, onto,
                    d, d_at, d_row, some,
                )  # fmt: skip
            left, done = left - 1, done + some
            c_at, d_at = c_at + some * c_row, d_at + some * d_row


@inner()
def scattered_product(
    a: Any, a_start: int, rows: Any, columns: Any, b: Any, b_start: int, b_row: int, b_next: int,
    count: int, c: Any, c_row: int, onto: bool, d: Any, d_row: int,
) -> None:  # fmt: skip
    """c = A @ b (+ d if onto), where A[i, k] = a[a_start + rows[i] + columns[k]].

    rows: (M,) intp; columns: (K,) intp; a, b, c, d: flat; the numbers are those of the block.
    """
    step, depth = width(c.dtype), columns.size
    for p in range(0, count, 2):
        two = p + 1 < count
        b_at, c_at, d_at = b_start + p * b_next, p * step, p * step
        left, done = _blocks(rows.size, two), 0
        while left:
            some = (rows.size - done + left - 1) // left
            if two:
                _scattered_two(
                    a, a_start, b, b_at, c, c_at, rows[done:], columns, b_row, b_next, c_row, depth,
                    onto, d, d_at, d_row, some,
                )  # fmt: skip
            else:
                _scattered_panel(
                    a, a_start, b, b_at, c, c_at, rows[done:], columns, b_row, b_next, c_row, depth,
                    onto, d, d_at, d_row, some,
                )  # fmt: skip
            left, done = left - 1, done + some
            c_at, d_at = c_at + some * c_row, d_at + some * d_row


@inner(inline="always")  # its arguments are more work to pass than the loops
def add_rows(
    values: Any, rows: Any, b: Any, b_start: int, c: Any, c_start: int, columns: int
) -> None:
    """c[c_start + j] += sum over k of values[k] * b[b_start + rows[k] + j] for j < columns.

    values: (K,); rows: (K,) intp; b, c: flat; columns: a multiple of ``width``.
    """
    step = width(c.dtype)
    wide = step // VECTORS * _WIDE
    done = columns - columns % wide
    for j in range(0, done, wide):
        _wide_row(
            values, 0, b, b_start + j, c, c_start + j, 0, 1, rows, step, 0, values.size, True,
            c, c_start + j, 0, 1,
        )  # fmt: skip
    for j in range(done, columns, step):
        _narrow_row(
            values, 0, b, b_start + j, c, c_start + j, 0, 1, rows, step, 0, values.size, True,
            c, c_start + j, 0, 1,
        )  # fmt: skip


@inner(inline="always")
def product(a: Any, panels: Any, columns: int, c: Any) -> None:
    """c = a @ b, with b given as its panels.

    a: (M, K) C-contiguous; panels: (P, K, width); columns: those of b, the last panel may have
    more; c: (M, P * width) C-contiguous, of which only so many are sure to be written.
    """
    _product(
        flat(a), a.shape[0], a.shape[1], flat(panels), np.intp(columns), a.shape[1], flat(c),
        c.shape[1], np.bool_(False), flat(c), np.intp(0),
    )  # fmt: skip


@inner(inline="always")
def product_onto(a: Any, panels: Any, columns: int, depth: int, c: Any, d: Any, d_row: int) -> None:
    """c = a @ b + d, of the first ``depth`` columns of a and rows of b.

    Arrays as for :func:`product`; rows of d are ``d_row`` apart: 0 for one row that all share.
    """
    _product(
        flat(a), a.shape[0], a.shape[1], flat(panels), np.intp(columns), np.intp(depth), flat(c),
        c.shape[1], np.bool_(True), flat(d), np.intp(d_row),
    )  # fmt: skip


@inner()
def _product(
    a: Any, rows: int, a_row: int, panels: Any, columns: int, depth: int, c: Any, c_row: int,
    onto: bool, d: Any, d_row: int,
) -> None:  # fmt: skip
    step, zero, one = np.intp(width(c.dtype)), np.intp(0), np.intp(1)
    over_panels(
        a, zero, panels, zero, a_row * step, columns, c, zero, a_row, one, step, c_row, depth,
        rows, onto, d, zero, d_row,
    )  # fmt: skip
