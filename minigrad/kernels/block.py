"""A block of a matrix product, held in vector registers: the LLVM code of it.

The block of C stays in registers while the loop over K reads a few vectors of B and one number
of A a row, and does nothing but fused multiply-adds.  tile.py has what is made of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload


def _vector_bytes() -> int:
    """Width of this machine's vector registers."""
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes()
VECTORS = 2  # vectors across a panel


def width(dtype: Any) -> int:
    """Columns of a panel."""
    return VECTORS * VECTOR_BYTES // np.dtype(dtype).itemsize


@overload(width)
def _width(dtype):
    columns = VECTORS * VECTOR_BYTES // (dtype.dtype.bitwidth // 8)
    return lambda dtype: columns


def _multiply_add(module: Any, vector: Any) -> Any:
    """x * y + z on vectors, fused where the machine can."""
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    signature = ir.FunctionType(vector, [vector] * 3)
    name = f"llvm.fmuladd.v{vector.count}f{bits}"
    return cgutils.get_or_insert_function(module, signature, name)


def _spread(builder: Any, number: Any, vector: Any) -> Any:
    """A vector with ``number`` in every lane."""
    i32 = ir.IntType(32)
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), number, ir.Constant(i32, 0)
    )
    lanes = ir.Constant(ir.VectorType(i32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, first, lanes)


def _opaque(builder: Any, value: Any) -> Any:
    """The same pointer or integer, of which LLVM knows nothing: it stays in a register."""
    same = ir.FunctionType(value.type, [value.type])
    return builder.asm(same, "", "=r,0", [value], False)


@contextmanager
def _loop(builder: Any, count: Any) -> Iterator[Any]:
    """For k from 0 to ``count``, one after another.

    LLVM is not told when the loop ends: it would do two of them at once, for which there are too
    few registers, and keep sums in memory.
    """
    before = builder.block
    body, end = builder.append_basic_block("body"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, count.type(0)), body, end)
    builder.position_at_end(body)
    k = builder.phi(count.type)
    k.add_incoming(count.type(0), before)
    yield k
    following = _opaque(builder, builder.add(k, count.type(1)))
    k.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), body, end)
    builder.position_at_end(end)


def _fetch(builder: Any, place: Any, to_write: bool = False) -> None:
    """Have a line of memory brought to the cache; does nothing where there is no memory."""
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0i8")
    builder.call(function, [builder.bitcast(place, byte), i32(int(to_write)), i32(3), i32(1)])


def only(builder: Any, vector: Any, size: int, columns: Any) -> tuple[Any, Any]:
    """How to read and to write a vector at some lane of rows that end after ``columns``.

    What is past the end reads as 0 and is not written.
    """
    i32 = ir.IntType(32)
    count = builder.trunc(columns, i32)
    kind = f"v{vector.count}f{8 * size}"
    zero = ir.Constant(vector, [0.0] * vector.count)

    def there(lane: int) -> Any:
        numbers = [lane + i for i in range(vector.count)]
        lanes = ir.Constant(ir.VectorType(i32, vector.count), numbers)
        return builder.icmp_signed("<", lanes, _spread(builder, count, lanes.type))

    def call(verb: str, result: Any, *operands: Any) -> Any:
        signature = ir.FunctionType(result, [x.type for x in operands])
        name = f"llvm.masked.{verb}.{kind}.p0{kind}"
        function = cgutils.get_or_insert_function(builder.module, signature, name)
        return builder.call(function, operands)

    def read(place: Any, lane: int) -> Any:
        return call("load", vector, place, i32(size), there(lane), zero)

    def write(value: Any, place: Any, lane: int) -> None:
        call("store", ir.VoidType(), value, place, i32(size), there(lane))

    return read, write


def block(
    sizes: Sequence[int], vectors: int = VECTORS, scattered: str = "", narrow: bool = False
) -> Any:
    """Intrinsic for one block of C = A @ B, ``vectors`` wide, of as many rows as it is told to.

    sizes: how many rows there can be; the last argument says which it is.  Every element is one
    chain of multiply-adds in the order of K, whatever the size.
    Each operand is an array and the offset of the block's first number in its memory; then
    come the numbers from one row of A to the next, one column of A to the next, one row of
    B to the next, one panel of B to the next and one row of C to the next.  Columns of C, and
    those of a panel of B, are contiguous.
    scattered: "A" if A is no matrix in memory, but A[i, k] is at the place a_row[i] + a_column[k]
    from a_start on: two tables (intp) instead of the two distances; "B" if row k of B is b_row[k]
    from b_start on.
    narrow: whether B and C have only ``c_row`` columns, fewer than the block.  There is little to
    do for a number of A then, so those of the block below are fetched while this one is done.
    onto: whether the product is added to something: to D, given like C but with a row distance
    of its own (0 for one row that all share, a bias), when the block's own sums are done: sums
    of sums round less than one long chain.
    """

    @intrinsic
    def multiply(
        typingctx: Any, a: Any, a_start: Any, b: Any, b_start: Any, c: Any, c_start: Any,
        a_row: Any, a_column: Any, b_row: Any, b_next: Any, c_row: Any, depth: Any, onto: Any,
        d: Any, d_start: Any, d_row: Any, rows: Any,
    ) -> Any:  # fmt: skip
        n = types.intp
        of_a = (a_row, a_column) if scattered == "A" else (n, n)
        of_b = b_row if scattered == "B" else n
        signature = types.void(a, n, b, n, c, n, *of_a, of_b, n, n, n, types.boolean, d, n, n, n)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            intp = context.get_value_type(types.intp)
            end = builder.append_basic_block("end")
            choice = builder.switch(args[-1], end)
            for size in sizes:
                case = builder.append_basic_block(f"rows_{size}")
                choice.add_case(intp(size), case)
                builder.position_at_end(case)
                emit(context, builder, sig, args, size)
                builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return signature, codegen

    def emit(context: Any, builder: Any, sig: Any, args: Any, rows: int) -> None:
        element = sig.args[0].dtype
        size = element.bitwidth // 8
        vector = ir.VectorType(context.get_data_type(element), VECTOR_BYTES // size)
        lanes = range(0, vectors * vector.count, vector.count)
        intp = context.get_value_type(types.intp)
        a_row, a_column, b_row, b_next, c_row, depth, onto = args[6:13]

        def memory(n: int) -> Any:
            return context.make_array(sig.args[n])(context, builder, args[n]).data

        def start(n: int) -> Any:
            return builder.gep(memory(n), [args[n + 1]])

        def moved(pointer: Any, *offset: Any) -> Any:
            product = offset[0]
            for factor in offset[1:]:
                product = builder.mul(product, factor)
            return builder.gep(pointer, [product])

        def entry(n: int, index: Any) -> Any:
            return builder.load(builder.gep(memory(n), [index]))

        def vector_at(pointer: Any, lane: int) -> Any:
            return builder.bitcast(moved(pointer, intp(lane)), vector.as_pointer())

        def b_at(row: Any, lane: int) -> Any:
            panel, lane = divmod(lane, VECTORS * vector.count)
            return vector_at(moved(row, intp(panel), b_next) if panel else row, lane)

        def read(place: Any, lane: int) -> Any:
            return builder.load(place, align=size)

        def write(value: Any, place: Any, lane: int) -> None:
            builder.store(value, place, align=size)

        if narrow:
            read, write = only(builder, vector, size, c_row)
        if scattered == "A":
            a_rows = [moved(start(0), entry(6, intp(r))) for r in range(rows)]
        else:
            # else one pointer would go from row to row by additions that wait for each other
            a_rows = [_opaque(builder, moved(start(0), intp(r), a_row)) for r in range(rows)]
        b_rows, c_rows = start(2), start(4)
        # stack slots here, registers after LLVM's mem2reg
        sums = [[cgutils.alloca_once(builder, vector) for _ in lanes] for _ in range(rows)]
        for slot in sum(sums, []):
            builder.store(ir.Constant(vector, [0.0] * vector.count), slot)
        if vectors > VECTORS and not scattered:
            # C may be far larger than the caches: while the loop runs, its lines come here
            for r in range(rows):
                row = moved(c_rows, intp(r), c_row)
                for lane in lanes:
                    _fetch(builder, vector_at(row, lane), to_write=True)
        with _loop(builder, depth) as k:
            to_k = entry(7, k) if scattered == "A" else builder.mul(k, a_column)
            b_k = moved(b_rows, entry(8, k)) if scattered == "B" else moved(b_rows, k, b_row)
            if narrow:
                ahead = builder.select(
                    builder.icmp_signed("==", a_column, intp(1)), intp(rows), a_column
                )
                _fetch(builder, builder.gep(moved(a_rows[0], intp(rows), a_row), [
                    builder.mul(k, ahead)
                ]))  # fmt: skip
            b = [read(b_at(b_k, lane), lane) for lane in lanes]
            for row, slots in zip(a_rows, sums):
                one = builder.load(moved(row, to_k))
                spread = _spread(builder, one, vector)
                for slot, values in zip(slots, b):
                    total = builder.call(
                        _multiply_add(builder.module, vector),
                        [spread, values, builder.load(slot)],
                    )
                    builder.store(total, slot)
        with builder.if_then(builder.trunc(onto, ir.IntType(1))):
            for r, slots in enumerate(sums):
                row = moved(start(13), intp(r), args[15])
                for lane, slot in zip(lanes, slots):
                    more = read(vector_at(row, lane), lane)
                    builder.store(builder.fadd(builder.load(slot), more), slot)
        for r, slots in enumerate(sums):
            row = moved(c_rows, intp(r), c_row)
            for lane, slot in zip(lanes, slots):
                write(builder.load(slot), vector_at(row, lane), lane)

    return multiply
