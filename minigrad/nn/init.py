"""Initialisers: arrays of starting weights, from an explicit generator.

Each returns a float array of ``shape``; ``dtype`` is float32 unless said.  The same
generator state gives the same bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError

Shape = tuple[int, ...]


def _generator(generator: Any, name: str) -> np.random.Generator:
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError(
            f"{name}: pass generator=np.random.default_rng(seed), so that the same seed gives the "
            f"same weights; got {generator!r}"
        )
    return generator


def _sizes(shape: Any, name: str) -> Shape:
    if not isinstance(shape, (tuple, list)) or any(
        not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 0 for n in shape
    ):
        raise ArgumentError(
            f"{name}: shape must be a tuple of integers that are not negative, got {shape!r}"
        )
    return tuple(shape)


def fans(shape: Shape) -> tuple[int, int]:
    """Inputs and outputs of a weight: (in, out), or (K, ..., in, out) for convolutions.

    As in TensorFlow a scalar has (1, 1) and a vector of n has (n, n).
    """
    if len(shape) < 2:
        n = shape[0] if shape else 1
        return n, n
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def constant(shape: Shape, value: float, dtype: Any = np.float32) -> np.ndarray:
    """``value`` everywhere.  Raises ArgumentError for a shape or value that is none."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentError(f"constant: value must be a number, got {value!r}")
    return np.full(_sizes(shape, "constant"), value, dtype)


def uniform(
    shape: Shape, low: float, high: float, *, generator: np.random.Generator,
    dtype: Any = np.float32,
) -> np.ndarray:  # fmt: skip
    """Uniform in [low, high).  Raises ArgumentError unless low <= high."""
    shape = _sizes(shape, "uniform")
    if not low <= high:
        raise ArgumentError(f"uniform: low={low} must not exceed high={high}")
    return _generator(generator, "uniform").uniform(low, high, shape).astype(dtype)


def normal(
    shape: Shape, mean: float = 0.0, std: float = 1.0, *, generator: np.random.Generator,
    dtype: Any = np.float32,
) -> np.ndarray:  # fmt: skip
    """Normal with the given mean and standard deviation.  Raises ArgumentError if std < 0."""
    shape = _sizes(shape, "normal")
    if not std >= 0:
        raise ArgumentError(f"normal: std={std} must not be negative")
    return _generator(generator, "normal").normal(mean, std, shape).astype(dtype)


def truncated_normal(
    shape: Shape, mean: float = 0.0, std: float = 1.0, *, generator: np.random.Generator,
    dtype: Any = np.float32,
) -> np.ndarray:  # fmt: skip
    """Normal, redrawn until within two standard deviations of the mean, as in TensorFlow.

    Mind the order of the arguments: TensorFlow's ``truncated_normal(shape, -0.1, 0.1)``
    means a mean of -0.1, not a range.  Raises ArgumentError if std < 0.
    """
    shape = _sizes(shape, "truncated_normal")
    if not std >= 0:
        raise ArgumentError(f"truncated_normal: std={std} must not be negative")
    draw = _generator(generator, "truncated_normal").standard_normal
    z = draw(math.prod(shape))
    outside = np.abs(z) > 2
    while outside.any():
        z[outside] = draw(int(outside.sum()))
        outside = np.abs(z) > 2
    return (mean + std * z).reshape(shape).astype(dtype)


def glorot_uniform(
    shape: Shape, *, generator: np.random.Generator, dtype: Any = np.float32
) -> np.ndarray:
    """Uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    shape = _sizes(shape, "glorot_uniform")
    limit = math.sqrt(6.0 / max(sum(fans(shape)), 1))
    return uniform(shape, -limit, limit, generator=generator, dtype=dtype)


def orthogonal(
    shape: Shape, gain: float = 1.0, *, generator: np.random.Generator, dtype: Any = np.float32
) -> np.ndarray:
    """Rows or columns orthonormal, times ``gain`` (Saxe et al. 2014).

    Leading axes are flattened together.  Raises ShapeError for fewer than two axes.
    """
    shape = _sizes(shape, "orthogonal")
    if len(shape) < 2:
        raise ShapeError(f"orthogonal: needs at least two axes, got shape {tuple(shape)}")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    square = _generator(generator, "orthogonal").standard_normal(
        (max(rows, columns), min(rows, columns))
    )
    q, r = np.linalg.qr(square)
    q *= np.sign(np.diag(r))  # makes the result uniformly distributed
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)
