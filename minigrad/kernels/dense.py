"""Products of matrices on the register tile: what dense layers are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import panels, tile
from .inner import inner
from .registry import kernel


def matmul_twin(
    a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, bias: np.ndarray, c: np.ndarray,
    sums: np.ndarray, group: int, start: int, stop: int,
) -> None:  # fmt: skip
    """c = a @ b + bias for rows start to stop of c; or if ``group`` is not 0 for its columns,
    from group start to group stop of so many (a multiple of the width of a panel).

    a: (M, K), or (K, M) if a_turned; b: (K, P), or (P, K) if b_turned; c: (M, P).  A turned
    matrix is read as its transpose, without being copied.  bias: (P,), or (0,) for none.
    sums: (P,), written: the sums over the rows of b (if a.T is what a layer was given and b the
    gradient of its results: the gradient of its bias); or (0,) if nobody wants them.
    """
    columns = slice(start * group, stop * group) if group else slice(None)
    part = (slice(None) if group else slice(start, stop), columns)
    product = (a.T if a_turned else a) @ (b.T if b_turned else b)
    c[part] = (product + bias if bias.size else product)[part]
    if sums.size and (group or start == 0):
        sums[columns] = (b.T if b_turned else b).sum(axis=0)[columns]


def _terms(
    a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, *rest: Any
) -> tuple[np.ndarray, np.ndarray]:
    """|a| @ |b|, and the same for the sums: what rounding is relative to."""
    terms = np.abs(b.T if b_turned else b)
    return np.abs(a.T if a_turned else a) @ terms, terms.sum(axis=0)


_FEW = 128  # rows that pass over a panel; fewer read it where it is
_FEW_FAR = 64  # the same where each row of the panel is in a page of its own
_DEPTH = 256  # rows of a panel at a time: with 128 bytes in each it fills most of the L1 cache
_TOGETHER = 64  # rows of A that pass over one panel after another while they are in cache
_PACKED = 1 << 18  # bytes of panels that are packed at a time: a part of the L2 cache


@inner()
def _pass_over(
    a: Any, a_start: int, a_row: int, a_column: int, b: Any, b_start: int, packed: Any, few: bool,
    shift: Any, shifted: bool, last_shift: Any, c: Any, columns: int, row: int, rows: int,
    begin: int, end: int, last: Any, last_row: int, first: bool, depth: int, apart: int,
) -> None:  # fmt: skip
    """Some rows of A over the panels of columns begin to end, one after another.

    All arrays are flat.  b_start: where in b the rows of the panels begin, if they are read
    there; packed: else the panels, ``apart`` from one to the next; columns: those of c; last:
    results of a ragged last panel; first: whether nothing but the bias is there to be added to.
    """
    step: Any = np.intp(tile.width(c.dtype))
    onto, count = not first or shifted, (end - begin) // step
    source, source_row, source_next, source_start = packed, step, apart, 0
    if few:
        source, source_row, source_next, source_start = b, columns, step, b_start + begin
    out_start, d, d_start, d_row = row * columns + begin, shift, begin, 0
    if not first:
        d, d_start, d_row = c, out_start, columns
    tile.over_panels(
        a, a_start, source, source_start, source_next, count * step, c, out_start, a_row, a_column,
        source_row, columns, depth, rows, onto, d, d_start, d_row,
    )  # fmt: skip
    if begin + count * step < end:  # the ragged last panel is always packed
        out_start, d, d_start, d_row = last_row * step, last_shift, 0, 0
        if not first:
            d, d_start, d_row = last, out_start, step
        place = 0 if few else count * apart
        tile.over_panels(
            a, a_start, packed, place, apart, end - begin - count * step, last, out_start, a_row,
            a_column, step, step, depth, rows, onto, d, d_start, d_row,
        )  # fmt: skip


@kernel(twin=matmul_twin, outputs=("c", "sums"), magnitude=_terms, pieces=4)
def matmul(
    a: Any, a_turned: bool, b: Any, b_turned: bool, bias: Any, c: Any, sums: Any, group: int,
    start: int, stop: int,
) -> None:  # fmt: skip
    step = tile.width(c.dtype)
    columns = c.shape[1]
    left, right = 0, columns
    adding = sums.size > 0 and (group > 0 or start == 0)
    if group:
        left, right = start * group, min(stop * group, columns)
        start, stop = 0, c.shape[0]
    rows = stop - start
    depth = a.shape[0] if a_turned else a.shape[1]
    for i in range(start, stop if depth == 0 else start):  # loops: slices take seconds to compile
        for j in range(left, right):
            c[i, j] = bias[j] if bias.size else 0
    for j in range(left, right if depth == 0 and adding else left):
        sums[j] = 0
    # what sums are made of must not depend on start and stop
    deep = min(depth, _DEPTH)
    far = columns * c.itemsize >= 4096
    few = not b_turned and c.shape[0] < (_FEW_FAR if far else _FEW)
    apart = deep * step
    count = (right - left + step - 1) // step
    if not few:
        count = min(_PACKED // (apart * c.itemsize + 1), count)
    packed = panels.room(apart if few else max(count, 1) * apart, c)
    ragged = columns % step if left < right == columns else 0
    last = np.empty((rows, step if ragged else 0), c.dtype)
    shift, last_shift = tile.flat(bias), np.zeros(step, c.dtype)
    for j in range(ragged if bias.size else 0):
        last_shift[j] = bias[columns - ragged + j]
    zero, one = np.intp(0), np.ones(1, c.dtype)
    last_sums = np.empty(step if ragged else 0, c.dtype)
    side = np.empty((deep if a_turned else 0, _TOGETHER), c.dtype)
    for begin in range(left, right, max(count, 1) * step):
        end = min(begin + max(count, 1) * step, right)
        alone = (end - begin) // step if few else 0  # panels that stay in b
        for k in range(0, depth, max(deep, 1)):
            chunk = min(deep, depth - k)
            panels.pack_panels(
                b, b_turned, k, chunk, begin + alone * step, end - begin - alone * step, packed,
                np.intp(0), apart,
            )  # fmt: skip
            for i in range(0, rows, _TOGETHER):
                several = min(_TOGETHER, rows - i)
                source, a_start, a_row, a_column = tile.flat(a), (start + i) * depth + k, depth, 1
                if a_turned and c.shape[0] <= _TOGETHER:  # its columns lie close by each other
                    a_start, a_row, a_column = k * c.shape[0] + start + i, 1, c.shape[0]
                elif a_turned:
                    panels.copy_rows(
                        source, k * c.shape[0] + start + i, c.shape[0], tile.flat(side),
                        np.intp(0), np.intp(_TOGETHER), chunk, several,
                    )  # fmt: skip
                    source, a_start, a_row, a_column = tile.flat(side), 0, 1, _TOGETHER
                _pass_over(
                    source, a_start, a_row, a_column, tile.flat(b), k * columns, packed, few,
                    shift, bias.size > 0, last_shift, tile.flat(c), columns, start + i, several,
                    begin, end, tile.flat(last), i, k == 0, chunk, apart,
                )  # fmt: skip
            if adding:  # a row of ones times the panels while they are in cache
                _pass_over(
                    one, zero, zero, zero, tile.flat(b), k * columns, packed, few, one, False, one,
                    tile.flat(sums), columns, zero, np.intp(1), begin, end, last_sums, zero, k == 0,
                    chunk, apart,
                )  # fmt: skip
    if ragged and depth:
        panels.copy_rows(
            tile.flat(last), np.intp(0), step, tile.flat(c), (start + 1) * columns - ragged,
            columns, rows, ragged,
        )  # fmt: skip
        for j in range(ragged if adding else 0):
            sums[columns - ragged + j] = last_sums[j]
