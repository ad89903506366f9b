"""Dropout, which draws its own random numbers: those that NumPy's generator would draw next.

``Generator.random(dtype=float32)`` makes numbers u / 2**24 from the upper 24 bits of 32-bit
words, and these are the lower and then the upper half of each 64-bit word of PCG64 (O'Neill
2014): a 128-bit number s, s' = s * M + c, of which the word is hi ^ lo turned right by the
six highest bits of s'.  n steps are s * M**n + c * (M**n - 1) / (M - 1), so a range of rows
finds its own place in the stream, and no array of random numbers is ever stored.

A *stream* is six uint64: hi and lo of s, hi and lo of c, whether an upper half is left over
from the word before, and that half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .inner import inner
from .registry import kernel

_U = np.uint64
_M_HI, _M_LO = _U(2549297995355413924), _U(4865540595714422341)  # PCG64's multiplier
_0, _1, _32, _58, _63 = (_U(n) for n in (0, 1, 32, 58, 63))
_LOWER = _U(0xFFFFFFFF)
_BLOCK = 2048  # halves of words at a time; even


def pcg64_stream(state: Any) -> np.ndarray:
    """The ``state`` of a NumPy PCG64 as a stream, (6,) uint64."""
    s, c = state["state"]["state"], state["state"]["inc"]
    lower = (1 << 64) - 1
    words = s >> 64, s & lower, c >> 64, c & lower, state["has_uint32"], state["uinteger"]
    return np.array(words, np.uint64)


def pcg64_state(stream: np.ndarray) -> Any:
    """The reverse of :func:`pcg64_stream`."""
    hi, lo, c_hi, c_lo, has_half, half = stream.tolist()
    return {
        "bit_generator": "PCG64",
        "state": {"state": (hi << 64) + lo, "inc": (c_hi << 64) + c_lo},
        "has_uint32": has_half,
        "uinteger": half,
    }


def dropout_forward_twin(
    x: np.ndarray, stream: np.ndarray, threshold: int, scale: Any, y: np.ndarray,
    mask: np.ndarray, after: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """y = x * scale where a random number is at least threshold / 2**24, and x * 0 elsewhere.

    x, y: flat; numbers start to stop of them are made.  scale: in their dtype.
    stream: (6,) uint64, where the numbers of all of x begin.
    mask: like x, uint8, written: 1 where x is kept.
    after: (6,) uint64, where the stream goes on; written by the range that ends with x.
    """
    bits = np.random.PCG64()
    bits.state = pcg64_state(stream)
    draws = np.random.Generator(bits).random(stop, dtype=np.float32)[start:]
    mask[start:stop] = draws >= threshold / 2**24
    y[start:stop] = x[start:stop] * (mask[start:stop] * scale)
    if stop == x.size:
        after[:] = pcg64_stream(bits.state)


def dropout_backward_twin(
    x: np.ndarray, mask: np.ndarray, scale: Any, y: np.ndarray, start: int, stop: int
) -> None:
    """y = x * scale where mask is 1, and x * 0 where it is 0.

    x: flat, dL/dy of the forward pass (or any array); mask: as large, uint8; y: like x,
    numbers start to stop are written; scale: in their dtype.
    """
    y[start:stop] = x[start:stop] * (mask[start:stop] * scale)


@intrinsic
def _high_product(typingctx: Any, x: Any, y: Any) -> Any:
    """Upper 64 bits of the product of two uint64."""
    signature = types.uint64(types.uint64, types.uint64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(arg, wide) for arg in args))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return signature, codegen


@inner()
def _multiply(a_hi: Any, a_lo: Any, b_hi: Any, b_lo: Any) -> Any:
    """a * b modulo 2**128."""
    return _high_product(a_lo, b_lo) + a_hi * b_lo + a_lo * b_hi, a_lo * b_lo


@inner()
def _add(a_hi: Any, a_lo: Any, b_hi: Any, b_lo: Any) -> Any:
    """a + b modulo 2**128."""
    lo = a_lo + b_lo
    return a_hi + b_hi + (_1 if lo < a_lo else _0), lo


@inner()
def _step(hi: Any, lo: Any, c_hi: Any, c_lo: Any) -> Any:
    """s * M + c."""
    hi, lo = _multiply(hi, lo, _M_HI, _M_LO)
    return _add(hi, lo, c_hi, c_lo)


@inner()
def _steps(hi: Any, lo: Any, c_hi: Any, c_lo: Any, count: int) -> Any:
    """s after ``count`` steps, by repeated squaring of s -> s * m + c."""
    m_hi, m_lo = _M_HI, _M_LO
    while count > 0:
        if count & 1:
            hi, lo = _multiply(hi, lo, m_hi, m_lo)
            hi, lo = _add(hi, lo, c_hi, c_lo)
        # twice the same: (s * m + c) * m + c = s * m**2 + c * (m + 1)
        n_hi, n_lo = _add(m_hi, m_lo, _0, _1)
        c_hi, c_lo = _multiply(c_hi, c_lo, n_hi, n_lo)
        m_hi, m_lo = _multiply(m_hi, m_lo, m_hi, m_lo)
        count >>= 1
    return hi, lo


@inner()
def _word(hi: Any, lo: Any) -> Any:
    """The 64 bits that a state gives."""
    mixed, turn = hi ^ lo, hi >> _58
    return (mixed >> turn) | (mixed << ((_0 - turn) & _63))


@inner()
def _words(hi: Any, lo: Any, c_hi: Any, c_lo: Any, out: Any) -> Any:
    """Fill ``out`` (2 n uint32) with n steps; returns s."""
    for k in range(out.size // 2):
        hi, lo = _step(hi, lo, c_hi, c_lo)
        word = _word(hi, lo)
        out[2 * k] = word & _LOWER
        out[2 * k + 1] = word >> _32
    return hi, lo


@inner()
def _keep(words: Any, threshold: Any, mask: Any) -> None:
    for k in range(mask.size):
        mask[k] = (words[k] >> np.uint32(8)) >= threshold


@inner()
def _scale(x: Any, mask: Any, scale: Any, y: Any) -> None:
    for k in range(y.size):
        y[k] = x[k] * (x.dtype.type(mask[k]) * scale)


@kernel(twin=dropout_forward_twin, outputs=("y", "mask", "after"))
def dropout_forward(
    x: Any, stream: Any, threshold: int, scale: Any, y: Any, mask: Any, after: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    c_hi, c_lo, half = stream[2], stream[3], stream[5]
    place: Any = start - np.int64(stream[4])  # in the halves of words; -1 is the one left over
    hi, lo = _steps(stream[0], stream[1], c_hi, c_lo, max(place, 0) // 2)
    words = np.empty(_BLOCK, np.uint32)
    at: Any = start
    while at < stop:
        skip = place & 1
        count = min(stop - at, _BLOCK - skip)
        used = words[: (skip + count + 1) // 2 * 2]
        if place < 0:
            words[1] = half
            hi, lo = _words(hi, lo, c_hi, c_lo, used[2:])
        else:
            hi, lo = _words(hi, lo, c_hi, c_lo, used)
        half = _U(used[-1])
        kept = mask[at : at + count]
        _keep(words[skip : skip + count], np.uint32(threshold), kept)
        _scale(x[at : at + count], kept, scale, y[at : at + count])
        at += count
        place += count
    if stop == x.size:
        after[0], after[1], after[2], after[3] = hi, lo, c_hi, c_lo
        after[4], after[5] = _U(place & 1), half


@kernel(twin=dropout_backward_twin, outputs=("y",))
def dropout_backward(x: Any, mask: Any, scale: Any, y: Any, start: int, stop: int) -> None:
    _scale(x[start:stop], mask[start:stop], scale, y[start:stop])
