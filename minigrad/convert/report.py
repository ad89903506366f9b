"""Checks of what is given, and errors that list all differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError


def refused(name: str, module: Any, reason: str) -> str:
    """A line of an error: which layer, and why there is no counterpart."""
    return f"{name.removesuffix('.') or 'the module'} ({type(module).__name__}): {reason}"


def raise_if(kind: type[Exception] | None, caller: str, lines: list[str]) -> None:
    """Raise one error with all lines, if there are any.  kind: ShapeError if None."""
    if lines:
        raise (kind or ShapeError)(f"{caller}: " + "; ".join(lines))


def floats(caller: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays of floats by name.  Raises DTypeError naming all that are none."""
    found, wrong = {}, []
    for name, value in values.items():
        try:
            array = np.asarray(value.detach() if hasattr(value, "detach") else value)
        except (TypeError, ValueError, RuntimeError) as error:
            wrong.append(f"{name} cannot be made an array: {error}")
            continue
        if array.dtype.kind != "f":
            wrong.append(f"{name} is {array.dtype}")
        found[name] = array
    raise_if(DTypeError, caller, wrong and ["weights must be arrays of floats", *wrong])
    return found


def shape_differences(
    given: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> list[str]:
    """A line for each array whose shape is another one."""
    return [
        f"{name}: {given[name].shape} for one of shape {array.shape}"
        for name, array in wanted.items()
        if name in given and given[name].shape != array.shape
    ]
