"""The register tile: a small matrix product held in vector registers.

``C = A @ B`` is computed in blocks of ``ROWS`` x ``width``: the block of C stays in vector
registers while the loop over K reads one vector pair of B and one number of A a row, and
does nothing but fused multiply-adds.  B is copied once into *panels*, slices of ``width``
columns in which the K rows are contiguous, so that the loop streams through memory.

Every element of C is one chain of multiply-adds in the order of K (or a sum of such chains,
each of a fixed length), whatever the block it falls into, so a product cut into ranges for
several threads has the same bits.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, overload

from .inner import inner


def _vector_bytes() -> int:
    """Width of this machine's vector registers."""
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


VECTOR_BYTES = _vector_bytes()
VECTORS = 2  # vectors across a block
# ROWS * VECTORS accumulators must cover the latency of the multiply-adds (8 chains on
# current x86) and leave registers for the operands; AVX-512 has 32 registers, AVX2 16.
ROWS = 8 if VECTOR_BYTES == 64 else 4


def width(dtype: Any) -> int:
    """Columns of a block, and so of a panel."""
    return VECTORS * VECTOR_BYTES // np.dtype(dtype).itemsize


@overload(width)
def _width(dtype):
    columns = VECTORS * VECTOR_BYTES // (dtype.dtype.bitwidth // 8)
    return lambda dtype: columns


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


def _fixed(builder: Any, pointer: Any) -> Any:
    """The same pointer, of which LLVM knows nothing: it stays in a register of its own.

    Else one pointer would go from row to row by additions, each of which waits for the last.
    """
    same = ir.FunctionType(pointer.type, [pointer.type])
    return builder.asm(same, "", "=r,0", [pointer], False)


def _fetch(builder: Any, place: Any) -> None:
    """Have a line of memory brought to the cache; does nothing where there is no memory."""
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0i8")
    builder.call(function, [builder.bitcast(place, byte), i32(0), i32(3), i32(1)])


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


def _block(rows: int, scattered: str = "", vectors: int = VECTORS, narrow: bool = False) -> Any:
    """Intrinsic for one block, ``vectors`` wide: C[rows, width] = A[rows, depth] @ B[depth, width].

    Each operand is an array and the offset of the block's first number in its memory; then
    come the numbers from one row of A to the next, one column of A to the next, one row of
    B to the next and one row of C to the next.  Columns of B and C are contiguous.
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
    def block(
        typingctx: Any, a: Any, a_start: Any, b: Any, b_start: Any, c: Any, c_start: Any,
        a_row: Any, a_column: Any, b_row: Any, c_row: Any, depth: Any, onto: Any, d: Any,
        d_start: Any, d_row: Any,
    ) -> Any:  # fmt: skip
        n = types.intp
        of_a = (a_row, a_column) if scattered == "A" else (n, n)
        of_b = b_row if scattered == "B" else n
        signature = types.void(a, n, b, n, c, n, *of_a, of_b, n, n, types.boolean, d, n, n)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            element = sig.args[0].dtype
            size = element.bitwidth // 8
            vector = ir.VectorType(context.get_data_type(element), VECTOR_BYTES // size)
            lanes = range(0, vectors * vector.count, vector.count)
            intp = context.get_value_type(types.intp)
            a_row, a_column, b_row, c_row, depth, onto = args[6:12]

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

            def read(place: Any, lane: int) -> Any:
                return builder.load(place, align=size)

            def write(value: Any, place: Any, lane: int) -> None:
                builder.store(value, place, align=size)

            if narrow:
                read, write = only(builder, vector, size, c_row)
            if scattered == "A":
                a_rows = [moved(start(0), entry(6, intp(r))) for r in range(rows)]
            else:
                a_rows = [_fixed(builder, moved(start(0), intp(r), a_row)) for r in range(rows)]
            b_rows, c_rows = start(2), start(4)
            # stack slots here, registers after LLVM's mem2reg
            sums = [[cgutils.alloca_once(builder, vector) for _ in lanes] for _ in range(rows)]
            for slot in sum(sums, []):
                builder.store(ir.Constant(vector, [0.0] * vector.count), slot)
            with cgutils.for_range(builder, depth) as loop:
                k = loop.index
                to_k = entry(7, k) if scattered == "A" else builder.mul(k, a_column)
                b_k = moved(b_rows, entry(8, k)) if scattered == "B" else moved(b_rows, k, b_row)
                if narrow:
                    ahead = builder.select(
                        builder.icmp_signed("==", a_column, intp(1)), intp(rows), a_column
                    )
                    _fetch(builder, builder.gep(moved(a_rows[0], intp(rows), a_row), [
                        builder.mul(k, ahead)
                    ]))  # fmt: skip
                b = [read(vector_at(b_k, lane), lane) for lane in lanes]
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
                    row = moved(start(12), intp(r), args[14])
                    for lane, slot in zip(lanes, slots):
                        more = read(vector_at(row, lane), lane)
                        builder.store(builder.fadd(builder.load(slot), more), slot)
            for r, slots in enumerate(sums):
                row = moved(c_rows, intp(r), c_row)
                for lane, slot in zip(lanes, slots):
                    write(builder.load(slot), vector_at(row, lane), lane)
            return context.get_dummy_value()

        return signature, codegen

    return block


_full_block = _block(ROWS)
_tall_block = _block(ROWS + 2)
_half_block = _block(ROWS // 2)
_two_rows = _block(2)
_single_row = _block(1)
_scattered_block = _block(ROWS, scattered="A")
_scattered_half = _block(ROWS // 2, scattered="A")
_WIDE = 10  # vectors: enough chains of multiply-adds in one row
_wide_row = _block(1, scattered="B", vectors=_WIDE)
_narrow_row = _block(1, scattered="B")


@inner()
def column_of_blocks(
    a: Any, a_start: int, b: Any, b_start: int, c: Any, c_start: int, a_row: int, a_column: int,
    b_row: int, c_row: int, depth: int, rows: int, onto: bool, d: Any, d_start: int, d_row: int,
) -> None:  # fmt: skip
    """All rows of one panel: the panel stays in cache while they pass over it.

    Arrays: flat; the numbers are those of the block above.
    """
    done = rows - rows % ROWS
    tall = done > 0 and 2 <= rows - done < min(ROWS // 2, 4)
    if tall:  # two rows alone would read the panel for little work
        done -= ROWS
    for i in range(0, done, ROWS):
        _full_block(
            a, a_start + i * a_row, b, b_start, c, c_start + i * c_row,
            a_row, a_column, b_row, c_row, depth, onto, d, d_start + i * d_row, d_row,
        )  # fmt: skip
    if tall:
        _tall_block(
            a, a_start + done * a_row, b, b_start, c, c_start + done * c_row,
            a_row, a_column, b_row, c_row, depth, onto, d, d_start + done * d_row, d_row,
        )  # fmt: skip
        done += ROWS + 2
    if rows - done >= ROWS // 2:
        _half_block(
            a, a_start + done * a_row, b, b_start, c, c_start + done * c_row,
            a_row, a_column, b_row, c_row, depth, onto, d, d_start + done * d_row, d_row,
        )  # fmt: skip
        done += ROWS // 2
    if rows - done >= 2:
        _two_rows(
            a, a_start + done * a_row, b, b_start, c, c_start + done * c_row,
            a_row, a_column, b_row, c_row, depth, onto, d, d_start + done * d_row, d_row,
        )  # fmt: skip
        done += 2
    for i in range(done, rows):
        _single_row(
            a, a_start + i * a_row, b, b_start, c, c_start + i * c_row,
            a_row, a_column, b_row, c_row, depth, onto, d, d_start + i * d_row, d_row,
        )  # fmt: skip


@inner()
def scattered_product(
    a: Any, a_start: int, rows: Any, columns: Any, b: Any, b_start: int, b_row: int, c: Any,
    onto: bool, d: Any, d_row: int,
) -> None:  # fmt: skip
    """c = A @ b (+ d if onto), where A[i, k] = a[a_start + rows[i] + columns[k]].

    rows: (M,) intp, M a multiple of ROWS / 2; columns: (K,) intp; a, b, c, d: flat, with rows
    of c ``width`` apart, those of b and d as said.
    """
    step, depth = width(c.dtype), columns.size
    done = rows.size - rows.size % ROWS
    for i in range(0, done, ROWS):
        _scattered_block(
            a, a_start, b, b_start, c, i * step, rows[i:], columns, b_row, step, depth, onto,
            d, i * d_row, d_row,
        )  # fmt: skip
    if done < rows.size:
        _scattered_half(
            a, a_start, b, b_start, c, done * step, rows[done:], columns, b_row, step, depth, onto,
            d, done * d_row, d_row,
        )  # fmt: skip


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
            values, 0, b, b_start + j, c, c_start + j, 0, 1, rows, 0, values.size, True,
            c, c_start + j, 0,
        )  # fmt: skip
    for j in range(done, columns, step):
        _narrow_row(
            values, 0, b, b_start + j, c, c_start + j, 0, 1, rows, 0, values.size, True,
            c, c_start + j, 0,
        )  # fmt: skip


@inner(inline="always")
def product(a: Any, panels: Any, c: Any) -> None:
    """c = a @ b, with b given as its panels.

    a: (M, K) C-contiguous; panels: (P, K, width); c: (M, P * width) C-contiguous.
    """
    _product(
        flat(a), a.shape[0], flat(panels), panels.shape[0], panels.shape[1], flat(c),
        np.bool_(False), flat(c), np.intp(0),
    )  # fmt: skip


@inner(inline="always")
def product_onto(a: Any, panels: Any, c: Any, d: Any, d_row: int) -> None:
    """c = a @ b + d, whose rows are ``d_row`` numbers apart: 0 for one row that all share."""
    _product(
        flat(a), a.shape[0], flat(panels), panels.shape[0], panels.shape[1], flat(c),
        np.bool_(True), flat(d), np.intp(d_row),
    )  # fmt: skip


@inner()
def _product(
    a: Any, rows: int, panels: Any, count: int, depth: int, c: Any, onto: bool, d: Any, d_row: int
) -> None:
    step, zero, one = np.intp(width(c.dtype)), np.intp(0), np.intp(1)
    for p in range(count):
        column_of_blocks(
            a, zero, panels, p * depth * step, c, p * step,
            depth, one, step, count * step, depth, rows, onto, d, p * step, d_row,
        )  # fmt: skip
