"""Making tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ArgumentError, DTypeError
from .numpy_protocol import as_array
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


def zeros(*shape: int, requires_grad: bool = False, dtype: Any = np.float32) -> Tensor:
    """Zeros of the given shape: ``zeros(2, 3)``."""
    return Tensor(np.zeros(shape, dtype), requires_grad)


def ones(*shape: int, requires_grad: bool = False, dtype: Any = np.float32) -> Tensor:
    """Ones of the given shape: ``ones(2, 3)``."""
    return Tensor(np.ones(shape, dtype), requires_grad)


def randn(
    *shape: int, generator: np.random.Generator, requires_grad: bool = False,
    dtype: Any = np.float32,
) -> Tensor:  # fmt: skip
    """Standard normal numbers of the given shape from an explicit generator."""
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError("randn: pass generator=minigrad.manual_seed(seed)")
    return Tensor(generator.standard_normal(shape).astype(dtype), requires_grad)


def manual_seed(seed: int) -> np.random.Generator:
    """A new generator.  NumPy's global random state is never used and never touched."""
    return np.random.default_rng(seed)
