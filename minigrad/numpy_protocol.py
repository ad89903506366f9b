"""How NumPy meets tensors: data on the way in, and NumPy's functions called on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DTypeError
from .nodes import mode

# NumPy function -> the function of minigrad that computes and records the same; filled by
# minigrad.functional
recorded: dict[Any, Callable[..., Any]] = {}

# rounding and the like: differentiable almost everywhere, with gradient zero
FLAT = {np.sign, np.floor, np.ceil, np.rint, np.trunc, np.round}


def as_array(data: Any, dtype: Any = None) -> np.ndarray:
    """Whatever the user gave as an array of real numbers or booleans."""
    data = getattr(data, "array", data)
    if isinstance(data, np.ndarray):
        array = data
    else:
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise DTypeError(f"tensor: cannot make an array of this data: {error}") from None
        if array.dtype == np.float64 and not isinstance(data, np.generic):
            array = array.astype(np.float32)  # Python floats
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DTypeError(
            f"tensor: data must be real numbers or booleans, got dtype {array.dtype}"
            + (" (a ragged list?)" if array.dtype == object else "")
        )
    return array if dtype is None else np.asarray(array, dtype=real_dtype("tensor", dtype))


def real_dtype(where: str, dtype: Any) -> np.dtype:
    """``dtype`` as NumPy spells it.  Raises DTypeError unless tensors can hold it."""
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"{where}: dtype={dtype!r} is none: {error}") from None
    if found.kind not in "fiub" or found.itemsize > 8:
        raise DTypeError(f"{where}: tensors hold real numbers or booleans, got dtype {found}")
    return found


def unrecorded(
    function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a NumPy function that minigrad has no gradient for, on the arrays of tensors.

    Raises DTypeError if a gradient would be lost: an argument requires one and the result
    is made of floats, or goes to ``out=``.
    """
    tensors: list[Any] = []
    plain_args, plain_kwargs = _stripped(args, tensors), _stripped(kwargs, tensors)
    out = kwargs.get("out")
    outs = out if isinstance(out, tuple) else (out,)
    if any(hasattr(o, "requires_grad") for o in outs):
        raise DTypeError(f"{name}: out= cannot be a tensor")
    wanted = mode.grad and any(t.requires_grad for t in tensors)
    lost = DTypeError(
        f"{name} is not differentiable here, and its argument requires a gradient. "
        "Use an op of minigrad (see minigrad.functional), or pass t.detach()."
    )
    if wanted and out is not None:  # before anything is written to it
        raise lost
    result = function(*plain_args, **plain_kwargs)
    if wanted and function not in FLAT and np.asarray(result).dtype.kind == "f":
        raise lost
    return result


def _stripped(value: Any, tensors: list[Any]) -> Any:
    """``value`` with every tensor in it replaced by its array; the tensors are collected."""
    if hasattr(value, "requires_grad"):
        tensors.append(value)
        return value.array
    if isinstance(value, (tuple, list)):
        return type(value)(_stripped(item, tensors) for item in value)
    if isinstance(value, dict):
        return {key: _stripped(item, tensors) for key, item in value.items()}
    return value
