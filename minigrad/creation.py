"""Making tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ArgumentError, DTypeError
from .numpy_protocol import as_array, real_dtype
from .tensor import Tensor


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None) -> Tensor:
    """A tensor with a copy of ``data`` (array, nested list, number or Tensor).

    Lists and Python floats become float32; arrays keep their dtype.
    Raises DTypeError for anything but real numbers and booleans.
    """
    return Tensor(np.array(as_array(data, dtype)), requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of ``array``."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: expected an ndarray, got {type(array).__name__}")
    return Tensor(array)


def _sizes(where: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape, unless it is none.  Raises ArgumentError."""
    for size in shape:
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 0:
            raise ArgumentError(
                f"{where}: a shape is made of integers that are not negative, one argument each, "
                f"got {size!r}"
            )
    return shape


def zeros(*shape: int, requires_grad: bool = False, dtype: Any = np.float32) -> Tensor:
    """Zeros of the given shape: ``zeros(2, 3)``.  Raises ArgumentError, DTypeError."""
    return Tensor(np.zeros(_sizes("zeros", shape), real_dtype("zeros", dtype)), requires_grad)


def ones(*shape: int, requires_grad: bool = False, dtype: Any = np.float32) -> Tensor:
    """Ones of the given shape: ``ones(2, 3)``.  Raises ArgumentError, DTypeError."""
    return Tensor(np.ones(_sizes("ones", shape), real_dtype("ones", dtype)), requires_grad)


def randn(
    *shape: int, generator: np.random.Generator, requires_grad: bool = False,
    dtype: Any = np.float32,
) -> Tensor:  # fmt: skip
    """Standard normal numbers of the given shape from an explicit generator.

    Raises ArgumentError, DTypeError; nothing is drawn then.
    """
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError("randn: pass generator=minigrad.manual_seed(seed)")
    shape, dtype = _sizes("randn", shape), real_dtype("randn", dtype)
    return Tensor(generator.standard_normal(shape).astype(dtype), requires_grad)


def manual_seed(seed: int) -> np.random.Generator:
    """A new generator.  NumPy's global random state is never used and never touched.

    Raises DTypeError unless ``seed`` is an integer, ArgumentError if it is negative.
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise DTypeError(f"manual_seed: seed must be an integer, got {seed!r}")
    if seed < 0:
        raise ArgumentError(f"manual_seed: seed must not be negative, got {seed}")
    return np.random.default_rng(seed)
