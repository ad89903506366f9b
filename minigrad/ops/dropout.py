"""Dropout.  The mask is drawn inside of the op, so whoever calls the op again gets another."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, DTypeError, GraphError
from ..recording import contiguous, do, repeatable
from ._call import call, composed_as

_GRAIN = 1 << 13  # numbers below which a range is not worth a thread
_FEW = 1 << 11  # numbers below which NumPy draws as quickly as it can be asked for its state


class Memory:
    """Where a call of dropout leaves its mask, so that its second derivative finds it.

    It keeps the mask no longer alive than the graph does.  All memories are equal: what is in
    one has no influence on what the op computes.
    """

    __slots__ = ("mask",)

    def __init__(self) -> None:
        self.mask: weakref.ref[np.ndarray] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Memory)


def masked(x: Any, mask: np.ndarray, scale: Any) -> Any:
    """x * scale where mask is 1, x * 0 where it is 0.  x: (...); mask: as large, flat, uint8."""
    y = np.empty(x.shape, x.dtype)
    kernels.run_rows(
        kernels.dropout_backward, mask.size, 8 * _GRAIN, contiguous(np.asarray(x)).reshape(-1),
        mask, scale, y.reshape(-1),
    )  # fmt: skip
    return y, lambda g: call(masked, g, mask=mask, scale=scale)


def _draw(
    x: np.ndarray, p: float, generator: np.random.Generator, scale: Any, y: np.ndarray,
    mask: np.ndarray,
) -> None:  # fmt: skip
    """Make the mask and y.  x, y, mask: flat."""
    bits: Any = generator.bit_generator
    if x.size < _FEW or type(bits) is not np.random.PCG64:
        mask[:] = generator.random(x.size, dtype=np.float32) >= p
        kernels.run_rows(kernels.dropout_backward, x.size, 8 * _GRAIN, x, mask, scale, y)
        return
    threshold, after = math.ceil(float(np.float32(p)) * 2**24), np.empty(6, np.uint64)
    with bits.lock:
        stream = kernels.pcg64_stream(bits.state)
        kernels.run_rows(
            kernels.dropout_forward, x.size, _GRAIN, x, stream, threshold, scale, y, mask, after
        )
        bits.state = kernels.pcg64_state(after)


def _composed(x: Any, p: float, generator: Any, memory: Memory | None = None) -> Any:
    """The same mask again, for second derivatives."""
    mask = None if memory is None or memory.mask is None else memory.mask()
    if mask is None:
        raise GraphError(
            "dropout: this call did not keep its mask for a second derivative; call "
            "minigrad.functional.dropout or nn.Dropout, which do"
        )
    scale = _scale(x.dtype, p)
    y = call(masked, x, mask=mask, scale=scale)
    return y, lambda g: call(masked, g, mask=mask, scale=scale)


def _scale(dtype: Any, p: float) -> Any:
    return dtype.type(1) / dtype.type(1 - p)


@repeatable
@composed_as(_composed)
def dropout(
    x: Any, p: float, generator: np.random.Generator, memory: Memory | None = None
) -> Any:
    """Each number is 0 with probability ``p``, and divided by 1 - p otherwise.

    x: (...) float32 or float64.
    p: probability to *drop*, in [0, 1).
    generator: gives one ``generator.random(dtype=float32)`` for each number, in C order; those
    of at least p stay.
    memory: where to leave the mask for second derivatives.

    An infinity or NaN that is dropped becomes NaN.  Raises DTypeError, ArgumentError.
    Srivastava et al. 2014, scaled in training as TensorFlow does it.
    """
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise DTypeError(f"dropout: x must be float32 or float64, got {x.dtype}")
    if not isinstance(p, (int, float)) or not 0 <= p < 1:
        raise ArgumentError(
            f"dropout: p is the probability to drop and must be in [0, 1), got {p!r}"
        )
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError("dropout: pass generator=np.random.default_rng(seed)")
    scale = _scale(x.dtype, p)
    y, mask = np.empty(x.shape, x.dtype), np.empty(x.size, np.uint8)
    do(_draw, contiguous(x).reshape(-1), p, generator, scale, y.reshape(-1), mask)
    if memory is not None and memory.mask is None:
        memory.mask = weakref.ref(mask)
    return y, lambda g: call(masked, g, mask=mask, scale=scale)
