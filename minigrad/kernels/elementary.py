"""exp, tanh, sigmoid and their like for use inside kernels, in a form that LLVM vectorises.

PyPI's Numba has no vector maths library: ``np.exp`` in a loop is one scalar libm call an
element.  For float32 the functions below are polynomials and bit arithmetic without
branches, so that a loop over them becomes SIMD code; for float64 they are libm's.

Error bounds for float32, tested over the whole range (see tests/kernels):

=========  ==========================================================================
exp        relative error 1.5e-7, subnormal results within one step; 0 below -104, inf
           above 88.73; exp(nan) = nan
tanh       relative error 2e-7; exactly +-1 from |x| = 9.1 on
sigmoid    relative error 3e-7 down to x = -87, absolute error 1e-38 below
expm1      for x up to 88: relative error 2e-7
softplus   log(1 + e**x): relative error 3e-7 down to x = -87, absolute error 1e-38 below
normal     distribution function of the standard normal: relative error 4e-7 + 6e-8 x**2 as
           far as it is above 1e-38
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
_L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8, _L9 = (
    _F(c) for c in (0.99999996988, -0.499994931389, 0.33319096767, -0.248429818945,
                    0.191060055296, -0.13663243188, 0.0782259210838, -0.0295052197661,
                    0.00523268948815)
)  # fmt: skip
_N0, _N1, _N2, _N3, _N4, _N5, _N6, _N7, _N8 = (
    _F(c) for c in (0.139624964314, 0.139782617954, 0.120545888838, 0.102103241764,
                    -0.0136097746207, 0.143205649696, -0.239821024715, 0.135357393598,
                    -0.0271889172223)
)  # fmt: skip
_ROOT_HALF = math.sqrt(0.5)


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


@intrinsic
def _power_of_two(typingctx: Any, rounded: Any) -> Any:
    """2**n for n from -126 to 127, inf for 128; ``rounded`` is n + 1.5 * 2**23 as a float32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        n = builder.shl(builder.bitcast(args[0], i32), ir.Constant(i32, 23))  # the rest is lost
        bits = builder.add(n, ir.Constant(i32, 0x3F800000))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), codegen


# Contraction to fma is welcome, reassociation is not: (x + _ROUND) - _ROUND must round.
@numba.njit(fastmath={"contract"})
def _fraction(x: Any, rounded: Any) -> Any:
    """e**x / 2**n, where ``rounded`` is n + 1.5 * 2**23, n the nearest integer to x / log(2)."""
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW  # |r| <= log(2) / 2
    q = _E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))
    return _F(1.0) + (r + r * r * q)


@numba.njit(fastmath={"contract"})
def _exp32(x: Any) -> Any:
    x = _F(-104.0) if x < _F(-104.0) else x  # written so that a NaN passes
    x = _F(89.0) if x > _F(89.0) else x
    rounded = x * _LOG2E + _ROUND
    return _times_power_of_two(_fraction(x, rounded), rounded)


@numba.njit(fastmath={"contract"})
def _exp_of_normal_size(x: Any) -> Any:
    """e**x for x from -87 to 88, no result that takes two factors; inf at 89.  NaN passes."""
    rounded = x * _LOG2E + _ROUND
    return _fraction(x, rounded) * _power_of_two(rounded)


@numba.njit(fastmath={"contract"})
def _less_one(x: Any, rounded: Any, power: Any) -> Any:
    """e**x - 1, where ``rounded`` is as above, and ``power`` 2**n."""
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = r + r * r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6))))  # e**r - 1
    return power * p + (power - _F(1.0))


@numba.njit(fastmath={"contract"})
def _expm1_32(x: Any) -> Any:
    x = _F(-104.0) if x < _F(-104.0) else x
    rounded = x * _LOG2E + _ROUND
    return _less_one(x, rounded, _times_power_of_two(_F(1.0), rounded))


@numba.njit(fastmath={"contract"})
def _softplus32(x: Any) -> Any:
    e = _exp32(-abs(x))
    log = e * (_L1 + e * (_L2 + e * (_L3 + e * (_L4 + e * (
        _L5 + e * (_L6 + e * (_L7 + e * (_L8 + e * _L9))))))))  # log(1 + e), e <= 1  # fmt: skip
    return log + (_F(0.0) if x < _F(0.0) else x)


@numba.njit(fastmath={"contract"}, error_model="numpy", forceinline=True)
def _normal32(x: Any) -> Any:
    u = _F(1.0) / (_F(1.0) + _F(0.35) * abs(x))
    tail = _exp32(_F(-0.5) * x * x) * u * (_N0 + u * (_N1 + u * (_N2 + u * (_N3 + u * (_N4 + u * (
        _N5 + u * (_N6 + u * (_N7 + u * _N8))))))))  # beyond t  # fmt: skip
    return tail if x < _F(0.0) else _F(1.0) - tail


@numba.njit(fastmath={"contract"})
def _tanh32(x: Any) -> Any:
    size = abs(x)  # near -1 the quotient would be less exact than it is near 1
    twice = _F(44.0) if size > _F(22.0) else size + size  # from there on exactly 1
    rounded = twice * _LOG2E + _ROUND
    above = _less_one(twice, rounded, _power_of_two(rounded))  # e**2|x| - 1
    y = above / (above + _F(2.0))
    return -y if x < _F(0.0) else y


@numba.njit(fastmath={"contract"})
def _sigmoid32(x: Any) -> Any:
    x = _F(-89.0) if x < _F(-89.0) else x  # e**89 is infinite: exactly 0
    x = _F(87.0) if x > _F(87.0) else x
    return _F(1.0) / (_F(1.0) + _exp_of_normal_size(-x))


def exp(x: float) -> float:
    """e ** x, for kernels; x: float32 or float64."""
    return float(np.exp(x))


def tanh(x: float) -> float:
    """Hyperbolic tangent, for kernels; x: float32 or float64."""
    return float(np.tanh(x))


def sigmoid(x: float) -> float:
    """1 / (1 + e ** -x), for kernels; x: float32 or float64."""
    return float(1.0 / (1.0 + np.exp(-x)))


def expm1(x: float) -> float:
    """e ** x - 1, exact near 0, for kernels; x: float32 (up to 88) or float64."""
    return float(np.expm1(x))


def softplus(x: float) -> float:
    """log(1 + e ** x) without overflow, for kernels; x: float32 or float64."""
    return float(np.log1p(np.exp(-abs(x))) + max(x, 0))


def normal(x: float) -> float:
    """How much of the standard normal distribution lies below x; x: float32 or float64."""
    return 0.5 * math.erfc(-x * _ROOT_HALF)


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


@overload(expm1)
def _expm1(x):
    return (lambda x: _expm1_32(x)) if x == types.float32 else (lambda x: np.expm1(x))


@overload(softplus)
def _softplus(x):
    if x == types.float32:
        return lambda x: _softplus32(x)
    return lambda x: np.log1p(np.exp(-abs(x))) + (0.0 if x < 0.0 else x)


@overload(normal, jit_options={"forceinline": True})  # LLVM finds it too long
def _normal(x):
    if x == types.float32:
        return lambda x: _normal32(x)
    return lambda x: 0.5 * math.erfc(-x * _ROOT_HALF)
