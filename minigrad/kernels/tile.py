"""The register tile: a small matrix product held in vector registers.

``C = A @ B`` is computed in blocks of ``ROWS`` x ``width``: the block of C stays in vector
registers while the loop over K reads one vector pair of B and one number of A a row, and
does nothing but fused multiply-adds.  B is copied once into *panels*, slices of ``width``
columns in which the K rows are contiguous, so that the loop streams through memory.

Every element of C is one chain of multiply-adds in the order of K, whatever the block it
falls into, so a product cut into row ranges for several threads has the same bits.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from .registry import kernel


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


def _block(rows: int) -> Any:
    """Intrinsic for one block: C[rows, width] = A[rows, depth] @ B[depth, width].

    Each operand is an array and the offset of the block's first number in its memory; then
    come the numbers from one row of A to the next, one column of A to the next, one row of
    B to the next and one row of C to the next.  Columns of B and C are contiguous.
    """

    @intrinsic
    def block(
        typingctx: Any, a: Any, a_start: Any, b: Any, b_start: Any, c: Any, c_start: Any,
        a_row: Any, a_column: Any, b_row: Any, c_row: Any, depth: Any,
    ) -> Any:  # fmt: skip
        n = types.intp
        signature = types.void(a, n, b, n, c, n, n, n, n, n, n)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            element = sig.args[0].dtype
            size = element.bitwidth // 8
            vector = ir.VectorType(context.get_data_type(element), VECTOR_BYTES // size)
            lanes = range(0, VECTORS * vector.count, vector.count)
            intp = context.get_value_type(types.intp)
            a_row, a_column, b_row, c_row, depth = args[6:]

            def start(n: int) -> Any:
                array = context.make_array(sig.args[n])(context, builder, args[n])
                return builder.gep(array.data, [args[n + 1]])

            def moved(pointer: Any, *offset: Any) -> Any:
                product = offset[0]
                for factor in offset[1:]:
                    product = builder.mul(product, factor)
                return builder.gep(pointer, [product])

            def vector_at(pointer: Any, lane: int) -> Any:
                return builder.bitcast(moved(pointer, intp(lane)), vector.as_pointer())

            a_rows = [moved(start(0), intp(r), a_row) for r in range(rows)]
            b_rows, c_rows = start(2), start(4)
            # stack slots here, registers after LLVM's mem2reg
            sums = [[cgutils.alloca_once(builder, vector) for _ in lanes] for _ in range(rows)]
            for slot in sum(sums, []):
                builder.store(ir.Constant(vector, [0.0] * vector.count), slot)
            with cgutils.for_range(builder, depth) as loop:
                b_k = moved(b_rows, loop.index, b_row)
                b = [builder.load(vector_at(b_k, lane), align=size) for lane in lanes]
                for row, slots in zip(a_rows, sums):
                    one = builder.load(moved(row, loop.index, a_column))
                    spread = _spread(builder, one, vector)
                    for slot, values in zip(slots, b):
                        total = builder.call(
                            _multiply_add(builder.module, vector),
                            [spread, values, builder.load(slot)],
                        )
                        builder.store(total, slot)
            for r, slots in enumerate(sums):
                row = moved(c_rows, intp(r), c_row)
                for lane, slot in zip(lanes, slots):
                    builder.store(builder.load(slot), vector_at(row, lane), align=size)
            return context.get_dummy_value()

        return signature, codegen

    return block


_full_block = _block(ROWS)
_single_row = _block(1)


@numba.njit(nogil=True)
def _column_of_blocks(
    a: Any, a_start: int, b: Any, b_start: int, c: Any, c_start: int,
    a_row: int, a_column: int, b_row: int, c_row: int, depth: int, rows: int,
) -> None:  # fmt: skip
    """All rows of one panel: the panel stays in cache while they pass over it."""
    whole = rows - rows % ROWS
    for i in range(0, whole, ROWS):
        _full_block(
            a, a_start + i * a_row, b, b_start, c, c_start + i * c_row,
            a_row, a_column, b_row, c_row, depth,
        )  # fmt: skip
    for i in range(whole, rows):
        _single_row(
            a, a_start + i * a_row, b, b_start, c, c_start + i * c_row,
            a_row, a_column, b_row, c_row, depth,
        )  # fmt: skip


@numba.njit(nogil=True)
def pack(b: Any, first: int, columns: int) -> Any:
    """Copy columns first to first + columns of b (K, P) into panels.

    Returns (ceil(columns / width), K, width), zeros past the last column.
    """
    step = width(b.dtype)
    depth = b.shape[0]
    count = (columns + step - 1) // step
    panels = np.zeros((count, depth, step), b.dtype)
    for p in range(count):
        start = np.uintp(first + p * step)  # unsigned: an index that never wraps
        for k in range(depth):
            for j in range(min(step, columns - p * step)):
                panels[p, k, j] = b[k, start + np.uintp(j)]
    return panels


@numba.njit(nogil=True)
def product(a: Any, panels: Any, c: Any) -> None:
    """c = a @ b, with b given as its panels.

    a: (M, K) C-contiguous; panels: (P, K, width); c: (M, P * width) C-contiguous.
    """
    count, depth, step = panels.shape
    for p in range(count):
        _column_of_blocks(
            a, 0, panels, p * depth * step, c, p * step,
            depth, 1, step, count * step, depth, a.shape[0],
        )  # fmt: skip


def matmul_twin(
    a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, c: np.ndarray, start: int,
    stop: int,
) -> None:  # fmt: skip
    """c = a @ b for rows start to stop of c.

    a: (M, K), or (K, M) if a_turned; b: (K, P), or (P, K) if b_turned; c: (M, P).  A turned
    matrix is read as its transpose, without being copied.
    """
    c[start:stop] = (a.T if a_turned else a)[start:stop] @ (b.T if b_turned else b)


@kernel(twin=matmul_twin, outputs=("c",))
def matmul(
    a: Any, a_turned: bool, b: Any, b_turned: bool, c: Any, start: int, stop: int
) -> None:
    step = width(c.dtype)
    columns = c.shape[1]
    rows = stop - start
    depth = a.shape[0] if a_turned else a.shape[1]
    a_row, a_column = (1, a.shape[1]) if a_turned else (a.shape[1], 1)
    # whole panels of b are read where they are; a turned or ragged one is copied to scratch
    direct = 0 if b_turned else columns - columns % step
    for j in range(0, direct, step):
        _column_of_blocks(
            a, start * a_row, b, j, c, start * columns + j,
            a_row, a_column, b.shape[1], columns, depth, rows,
        )  # fmt: skip
    panel = np.zeros((depth, step), c.dtype)
    result = np.empty((rows, step), c.dtype)
    for first in range(direct, columns, step):
        here = min(step, columns - first)
        for k in range(depth):
            for j in range(here):
                panel[k, j] = b[first + j, k] if b_turned else b[k, first + j]
        _column_of_blocks(
            a, start * a_row, panel, 0, result, 0, a_row, a_column, step, step, depth, rows
        )
        for i in range(rows):
            for j in range(here):
                c[start + i, first + j] = result[i, j]
