"""exp, tanh and sigmoid for use inside kernels, in a form that LLVM vectorises.

PyPI's Numba has no vector maths library: ``np.exp`` in a loop is one scalar libm call an
element.  For float32 the functions below are polynomials and bit arithmetic without
branches, so that a loop over them becomes SIMD code; for float64 they are libm's.

Error bounds for float32, tested over the whole range (see tests/kernels):

=========  ==========================================================================
exp        relative error 1.5e-7, subnormal results within one step; 0 below -104, inf
           above 88.73; exp(nan) = nan
tanh       relative error 2.5e-7; exactly +-1 from |x| = 9.1 on
sigmoid    relative error 3e-7 down to x = -87, absolute error 1e-38 below
=========  ==========================================================================

Polynomials: minimax fits (Remez exchange) made for this file.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_F = np.float32
_LOG2E = _F(1.4426950408889634)
_LN2_HIGH = _F(0.693359375)  # few bits, so that n * _LN2_HIGH is exact
_LN2_LOW = _F(-2.12194440054690583e-4)
_ROUND = _F(12582912.0)  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
_E2, _E3, _E4, _E5, _E6 = (
    _F(c) for c in (0.499999934517, 0.166665206898, 0.0416683873613, 0.00836870982417,
                    0.00138146132608)
)  # fmt: skip
_T1, _T2, _T3, _T4, _T5 = (
    _F(c) for c in (-0.33333292551, 0.133315419578, -0.0537386242481, 0.0206159961843,
                    -0.00566477537529)
)  # fmt: skip


@intrinsic
def wide_vectors(typingctx: Any) -> Any:
    """Ask for the widest vector registers in the function that calls this.

    LLVM keeps to half of AVX-512 where clock rates may drop; loops of polynomials and
    divisions gain a third from the whole.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # llvmlite's own add() knows no attributes with a value
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _times_power_of_two(typingctx: Any, value: Any, rounded: Any) -> Any:
    """value * 2**n, where ``rounded`` is n + 1.5 * 2**23 as a float32.

    Two factors of about 2**(n/2) reach subnormal results and infinity without a branch.
    """
    signature = types.float32(types.float32, types.float32)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i32, f32 = ir.IntType(32), ir.FloatType()
        value, rounded = args
        n = builder.sub(builder.bitcast(rounded, i32), ir.Constant(i32, 0x4B400000))
        half = builder.ashr(n, ir.Constant(i32, 1))
        for part in (half, builder.sub(n, half)):
            exponent = builder.add(part, ir.Constant(i32, 127))
            factor = builder.bitcast(builder.shl(exponent, ir.Constant(i32, 23)), f32)
            value = builder.fmul(value, factor)
        return value

    return signature, codegen


# Contraction to fma is welcome, reassociation is not: (x + _ROUND) - _ROUND must round.
@numba.njit(fastmath={"contract"})
def _exp32(x: Any) -> Any:
    x = _F(-104.0) if x < _F(-104.0) else x  # written so that a NaN passes
    x = _F(89.0) if x > _F(89.0) else x
    rounded = x * _LOG2E + _ROUND
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW  # |r| <= log(2) / 2
    q = _E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))
    return _times_power_of_two(_F(1.0) + (r + r * r * q), rounded)


@numba.njit(fastmath={"contract"})
def _tanh32(x: Any) -> Any:
    z = x * x
    near = x + x * (z * (_T1 + z * (_T2 + z * (_T3 + z * (_T4 + z * _T5)))))
    size = abs(x)
    far = _F(1.0) - _F(2.0) / (_exp32(size + size) + _F(1.0))
    far = -far if x < _F(0.0) else far
    return near if size < _F(0.625) else far


@numba.njit(fastmath={"contract"})
def _sigmoid32(x: Any) -> Any:
    return _F(1.0) / (_F(1.0) + _exp32(-x))


def exp(x: float) -> float:
    """e ** x, for kernels; x: float32 or float64."""
    return float(np.exp(x))


def tanh(x: float) -> float:
    """Hyperbolic tangent, for kernels; x: float32 or float64."""
    return float(np.tanh(x))


def sigmoid(x: float) -> float:
    """1 / (1 + e ** -x), for kernels; x: float32 or float64."""
    return float(1.0 / (1.0 + np.exp(-x)))


# Numba compares the signatures of an overload and its result, hence no annotations here.
@overload(exp)
def _exp(x):
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: np.exp(x)


@overload(tanh)
def _tanh(x):
    return (lambda x: _tanh32(x)) if x == types.float32 else (lambda x: math.tanh(x))


@overload(sigmoid)
def _sigmoid(x):
    if x == types.float32:
        return lambda x: _sigmoid32(x)
    return lambda x: 1.0 / (1.0 + np.exp(-x))
