"""Panels of a matrix: slices of its columns, copied so that the register tile streams through.

A panel is ``tile.width`` columns wide; its rows are contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import tile
from .block import VECTOR_BYTES, VECTORS, only
from .inner import inner


@inner()
def room(size: int, like: Any) -> Any:
    """Unwritten numbers (size,) of the dtype of ``like`` that begin where a vector does in memory.

    A vector that lies across two lines of the cache costs two loads.
    """
    lanes = VECTOR_BYTES // like.itemsize
    memory = np.empty(size + lanes, like.dtype)
    first = -(memory.ctypes.data // like.itemsize) % lanes
    return memory[first : first + size]


@inner()
def zeros(size: int, like: Any) -> Any:
    """The same, and zero."""
    result = room(size, like)
    result[:] = 0
    return result


@intrinsic
def _copy_row(
    typingctx: Any, b: Any, start: Any, c: Any, c_start: Any, columns: Any, padded: Any
) -> Any:
    """A row of a panel, ``columns`` numbers of b from ``start``, into c.

    padded: zeros follow up to the width; else what is there in c stays.
    One loop over a slice of each row would take longer to prepare than to do.
    """
    n = types.intp
    signature = types.void(b, n, c, n, n, types.boolean)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = sig.args[0].dtype.bitwidth // 8
        count = VECTOR_BYTES // size
        vector = ir.VectorType(context.get_data_type(sig.args[0].dtype), count)
        intp = context.get_value_type(types.intp)
        columns, padded = args[4:]

        def at(k: int, lane: int) -> Any:  # a vector of the array that is argument k
            array = context.make_array(sig.args[k])(context, builder, args[k])
            place = builder.gep(array.data, [builder.add(args[k + 1], intp(lane))])
            return builder.bitcast(place, vector.as_pointer())

        lanes = range(0, VECTORS * count, count)
        all_there = builder.icmp_signed(">=", columns, intp(VECTORS * count))
        with builder.if_else(all_there, likely=True) as (whole, part):
            with whole:
                for lane, value in [(x, builder.load(at(0, x), align=size)) for x in lanes]:
                    builder.store(value, at(2, lane), align=size)
            with part:
                read, write = only(builder, vector, size, columns)
                values = [read(at(0, lane), lane) for lane in lanes]
                with builder.if_else(builder.trunc(padded, ir.IntType(1))) as (pad, keep):
                    with pad:
                        for lane, value in zip(lanes, values):
                            builder.store(value, at(2, lane), align=size)
                    with keep:
                        for lane, value in zip(lanes, values):
                            write(value, at(2, lane), lane)
        return context.get_dummy_value()

    return signature, codegen


@inner()
def copy_rows(
    b: Any, b_start: int, b_row: int, c: Any, c_start: int, c_row: int, rows: int, columns: int
) -> None:
    """Rows of ``columns`` numbers, ``b_row`` apart in b, to where they are ``c_row`` apart in c.

    b, c: flat.
    """
    step = tile.width(b.dtype)
    for i in range(rows):
        source, target = b_start + i * b_row, c_start + i * c_row
        for j in range(0, columns, step):
            _copy_row(b, source + j, c, target + j, columns - j, False)


@intrinsic
def _transpose(typingctx: Any, b: Any, start: Any, b_row: Any, c: Any, c_start: Any, c_row: Any):
    """Write a square block of b, as wide as a vector, into c with rows as columns.

    b_row, c_row: numbers from one row to the next.
    """
    n = types.intp
    signature = types.void(b, n, n, c, n, n)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = sig.args[0].dtype.bitwidth // 8
        count = VECTOR_BYTES // size
        vector = ir.VectorType(context.get_data_type(sig.args[0].dtype), count)
        lane = ir.IntType(32)
        intp = context.get_value_type(types.intp)

        def row(k: int, i: int) -> Any:  # of the array that is argument k
            array = context.make_array(sig.args[k])(context, builder, args[k])
            offset = builder.add(args[k + 1], builder.mul(intp(i), args[k + 2]))
            return builder.bitcast(builder.gep(array.data, [offset]), vector.as_pointer())

        rows = [builder.load(row(0, i), align=size) for i in range(count)]
        half = count // 2
        while half:  # swap the off-diagonal quarters of all squares of twice this size
            for i in range(count):
                if not i & half:
                    upper, lower = rows[i], rows[i + half]
                    first = [x - half + count if x & half else x for x in range(count)]
                    second = [x + count if x & half else x + half for x in range(count)]
                    for to, mask in ((i, first), (i + half, second)):
                        lanes = ir.Constant(ir.VectorType(lane, count), mask)
                        rows[to] = builder.shuffle_vector(upper, lower, lanes)
            half //= 2
        for i, value in enumerate(rows):
            builder.store(value, row(3, i), align=size)
        return context.get_dummy_value()

    return signature, codegen


@inner(inline="always")
def pack_panels(
    b: Any, turned: bool, k: int, depth: int, first: int, columns: int, panels: Any, start: int,
    apart: int,
) -> None:  # fmt: skip
    """Panels (depth, width) of rows from k and ``columns`` columns from ``first`` of b.

    b: C-contiguous; turned: its rows and columns are meant the other way round.
    panels: flat; the first begins at ``start``, the next ``apart`` further; zeros fill the last.
    """
    _pack_panels(
        tile.flat(b), b.shape[1], bool(turned), np.intp(k), np.intp(depth), np.intp(first),
        np.intp(columns), panels, np.intp(start), np.intp(apart),
    )  # fmt: skip


@inner()
def _pack_panels(
    b: Any, b_row: int, turned: bool, k: int, depth: int, first: int, columns: int, panels: Any,
    start: int, apart: int,
) -> None:  # fmt: skip
    step = tile.width(b.dtype)
    lanes = step // VECTORS
    if not turned:  # row after row, as they lie in memory
        for i in range(depth):
            begin, place = (k + i) * b_row + first, start + i * step
            for j in range(0, columns, step):
                _copy_row(b, begin + j, panels, place, columns - j, True)
                place += apart
        return
    whole = columns - columns % step
    for i in range(depth if whole < columns else 0):
        for j in range(columns - whole, step):
            panels[start + whole // step * apart + i * step + j] = 0
    wide, deep = columns - columns % lanes, depth - depth % lanes
    for j in range(columns):
        place = start + j // step * apart + j % step
        begin = (first + j) * b_row + k
        if j % lanes == 0 and j < wide:
            for i in range(0, deep, lanes):
                _transpose(b, begin + i, b_row, panels, place + i * step, step)
        row = b[begin : begin + depth]
        for i in range(deep if j < wide else 0, depth):
            panels[place + i * step] = row[i]


@inner(inline="always")
def pack(b: Any, turned: bool, k: int, depth: int, first: int, columns: int) -> Any:
    """Panels (ceil(columns / width), depth, width) of a part of b, see :func:`pack_panels`."""
    return _pack(
        tile.flat(b), b.shape[1], bool(turned), np.intp(k), np.intp(depth), np.intp(first),
        np.intp(columns),
    )  # fmt: skip


@inner()
def _pack(
    b: Any, b_row: int, turned: bool, k: int, depth: int, first: int, columns: int
) -> Any:
    step = tile.width(b.dtype)
    count = (columns + step - 1) // step
    packed = room(count * depth * step, b)
    _pack_panels(b, b_row, turned, k, depth, first, columns, packed, np.intp(0), depth * step)
    return packed.reshape(count, depth, step)


@inner()
def turn(b: Any, first: int, c: Any) -> None:
    """c (M, P) = the transpose of columns first to first + M of b (P, K); both C-contiguous."""
    rows, columns = c.shape
    lanes = tile.width(b.dtype) // VECTORS
    flat = c.ravel()
    deep, wide = rows - rows % lanes, columns - columns % lanes
    for j in range(columns):
        if j % lanes == 0 and j < wide:
            for i in range(0, deep, lanes):
                place = j * b.shape[1] + first + i
                _transpose(b, place, b.shape[1], flat, i * columns + j, columns)
        for i in range(deep if j < wide else 0, rows):
            flat[i * columns + j] = b[j, first + i]
