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
    """Intrinsic for one block of ``rows`` rows: C[i:i+rows, panel] = A[i:i+rows] @ panel."""

    @intrinsic
    def block(typingctx: Any, a: Any, i: Any, panels: Any, p: Any, c: Any) -> Any:
        # a: (M, K) C-contiguous; panels: (P, K, width); c: (M, P * width)
        signature = types.void(a, types.intp, panels, types.intp, c)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            element = sig.args[0].dtype
            size = element.bitwidth // 8
            number = context.get_data_type(element)
            vector = ir.VectorType(number, VECTOR_BYTES // size)
            lanes = range(0, VECTORS * vector.count, vector.count)
            intp = context.get_value_type(types.intp)
            a, panels, c = (
                context.make_array(sig.args[n])(context, builder, args[n]) for n in (0, 2, 4)
            )
            i, p = args[1], args[3]

            def times(x: Any, y: Any) -> Any:
                return builder.mul(x, y if isinstance(y, ir.Value) else ir.Constant(intp, y))

            def plus(x: Any, y: int) -> Any:
                return builder.add(x, ir.Constant(intp, y))

            def vector_at(pointer: Any, lane: int) -> Any:
                moved = builder.gep(pointer, [ir.Constant(intp, lane)])
                return builder.bitcast(moved, vector.as_pointer())

            count = cgutils.unpack_tuple(builder, panels.shape, 3)[0]
            depth = cgutils.unpack_tuple(builder, a.shape, 2)[1]
            columns = VECTORS * vector.count
            panel = builder.gep(panels.data, [times(times(p, depth), columns)])
            a_rows = [builder.gep(a.data, [times(plus(i, r), depth)]) for r in range(rows)]

            # stack slots here, registers after LLVM's mem2reg
            zero = ir.Constant(vector, [0.0] * vector.count)
            sums = [[cgutils.alloca_once(builder, vector) for _ in lanes] for _ in range(rows)]
            for slot in sum(sums, []):
                builder.store(zero, slot)
            with cgutils.for_range(builder, depth) as loop:
                b_row = builder.gep(panel, [times(loop.index, columns)])
                b = [builder.load(vector_at(b_row, lane), align=size) for lane in lanes]
                for a_row, slots in zip(a_rows, sums):
                    one = builder.load(builder.gep(a_row, [loop.index]))
                    spread = _spread(builder, one, vector)
                    for slot, values in zip(slots, b):
                        total = builder.call(
                            _multiply_add(builder.module, vector),
                            [spread, values, builder.load(slot)],
                        )
                        builder.store(total, slot)
            start = builder.gep(c.data, [times(p, columns)])
            for r, slots in enumerate(sums):
                c_row = builder.gep(start, [times(times(plus(i, r), count), columns)])
                for lane, slot in zip(lanes, slots):
                    builder.store(builder.load(slot), vector_at(c_row, lane), align=size)
            return context.get_dummy_value()

        return signature, codegen

    return block


_full_block = _block(ROWS)
_single_row = _block(1)


@numba.njit(nogil=True)
def pack(b: Any) -> Any:
    """Copy b (K, P) into panels (ceil(P / width), K, width), zeros past the last column."""
    step = width(b.dtype)
    depth, columns = b.shape
    count = (columns + step - 1) // step
    panels = np.zeros((count, depth, step), b.dtype)
    for p in range(count):
        stop = min(columns, (p + 1) * step)
        for k in range(depth):
            for j in range(p * step, stop):
                panels[p, k, j - p * step] = b[k, j]
    return panels


@numba.njit(nogil=True)
def product(a: Any, panels: Any, c: Any) -> None:
    """c = a @ b, with b given as its panels.

    a: (M, K) C-contiguous; panels: (P, K, width); c: (M, P * width) C-contiguous.
    """
    rows = a.shape[0]
    whole = rows - rows % ROWS
    for p in range(panels.shape[0]):  # a panel stays in L1 while all rows pass over it
        for i in range(0, whole, ROWS):
            _full_block(a, i, panels, p, c)
        for i in range(whole, rows):
            _single_row(a, i, panels, p, c)
