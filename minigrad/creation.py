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

    >>> import minigrad as mg
    >>> mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    return Tensor(np.array(as_array(data, dtype)), requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of ``array``.

    >>> import minigrad as mg
    >>> import numpy as np
    >>> a = np.zeros(2)
    >>> t = mg.from_numpy(a)
    >>> a[0] = 5
    >>> t
    tensor([5., 0.], dtype=float64)
    """
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: expected an ndarray, got {type(array).__name__}")
    return Tensor(array)


def _sizes(where: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape, given as several numbers or as one tuple or list.  Raises ArgumentError."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    for size in shape:
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 0:
            raise ArgumentError(
                f"{where}: a shape is made of integers that are not negative, such as "
                f"{where}(2, 3) or {where}((2, 3)), got {size!r}"
            )
    return shape


def zeros(*shape: Any, requires_grad: bool = False, dtype: Any = np.float32) -> Tensor:
    """Zeros of the given shape: ``zeros(2, 3)`` or ``zeros((2, 3))``.

    Raises ArgumentError, DTypeError.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return Tensor(np.zeros(_sizes("zeros", shape), real_dtype("zeros", dtype)), requires_grad)


def ones(*shape: Any, requires_grad: bool = False, dtype: Any = np.float32) -> Tensor:
    """Ones of the given shape: ``ones(2, 3)`` or ``ones((2, 3))``.

    Raises ArgumentError, DTypeError.

    >>> import minigrad as mg
    >>> mg.ones(2, requires_grad=True)
    tensor([1., 1.], requires_grad=True)
    """
    return Tensor(np.ones(_sizes("ones", shape), real_dtype("ones", dtype)), requires_grad)


def randn(
    *shape: Any, generator: np.random.Generator, requires_grad: bool = False,
    dtype: Any = np.float32,
) -> Tensor:  # fmt: skip
    """Standard normal numbers of the given shape from an explicit generator.

    Raises ArgumentError, DTypeError; nothing is drawn then.

    >>> import minigrad as mg
    >>> mg.randn(2, 3, generator=mg.manual_seed(0)).shape
    (2, 3)
    """
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError("randn: pass generator=minigrad.manual_seed(seed)")
    shape, dtype = _sizes("randn", shape), real_dtype("randn", dtype)
    return Tensor(generator.standard_normal(shape).astype(dtype), requires_grad)


def manual_seed(seed: int) -> np.random.Generator:
    """A new generator.  NumPy's global random state is never used and never touched.

    Raises DTypeError unless ``seed`` is an integer, ArgumentError if it is negative.

    >>> import minigrad as mg
    >>> mg.manual_seed(3).integers(10, size=4)
    array([8, 0, 1, 2])
    >>> mg.manual_seed(3).integers(10, size=4)
    array([8, 0, 1, 2])
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise DTypeError(f"manual_seed: seed must be an integer, got {seed!r}")
    if seed < 0:
        raise ArgumentError(f"manual_seed: seed must not be negative, got {seed}")
    return np.random.default_rng(seed)
