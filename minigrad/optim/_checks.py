"""Checks that the optimisers, the schedules and the clipping functions share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, GraphError, ShapeError
from ..tensor import Tensor

Check = Callable[[Any, str, str], Any]  # (value, name, where) -> the value to use


# -- numbers --------------------------------------------------------------------------------


def number(value: Any, name: str, where: str) -> float:
    """``value`` as a Python float; ``where`` and ``name`` head the message.

    Raises DTypeError for anything but a real number, ArgumentError for NaN.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise DTypeError(f"{where}: {name} must be a number, got {value!r}")
    if math.isnan(value):
        raise ArgumentError(f"{where}: {name} must not be NaN")
    return float(value)


def not_negative(value: Any, name: str, where: str) -> float:
    """A finite number of at least 0."""
    value = number(value, name, where)
    if not 0 <= value < math.inf:
        raise ArgumentError(f"{where}: {name} must be finite and not negative, got {value}")
    return value


def positive(value: Any, name: str, where: str) -> float:
    """A finite number above 0."""
    value = number(value, name, where)
    if not 0 < value < math.inf:
        raise ArgumentError(f"{where}: {name} must be finite and above 0, got {value}")
    return value


def fraction(value: Any, name: str, where: str) -> float:
    """A number in [0, 1): how much of the past is kept."""
    value = number(value, name, where)
    if not 0 <= value < 1:
        raise ArgumentError(f"{where}: {name} must lie in [0, 1), got {value}")
    return value


def flag(value: Any, name: str, where: str) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{where}: {name} must be True or False, got {value!r}")
    return bool(value)


def two_fractions(value: Any, name: str, where: str) -> tuple[float, float]:
    """A pair of numbers in [0, 1)."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise DTypeError(f"{where}: {name} must be a pair of numbers, got {value!r}")
    return fraction(value[0], f"{name}[0]", where), fraction(value[1], f"{name}[1]", where)


# -- parameters and their gradients ---------------------------------------------------------


def named_tensors(params: Any, where: str) -> tuple[list[Tensor], list[str]]:
    """The tensors in ``params`` and what to call them in messages.

    params: a tensor, an iterable of tensors or of (name, tensor) pairs, or a dict of them.
    A tensor without a name is called by its position, ``parameter 3``.
    Raises DTypeError for anything else, ArgumentError for none at all or one given twice.
    """
    if isinstance(params, Tensor):
        params = [params]
    elif isinstance(params, Mapping):
        params = params.items()
    elif hasattr(params, "parameters"):
        raise DTypeError(f"{where}: got a {type(params).__name__}; pass its .parameters()")
    try:
        items = list(params)
    except TypeError:
        raise DTypeError(
            f"{where}: expects an iterable of tensors, got {type(params).__name__}"
        ) from None
    if not items:
        raise ArgumentError(
            f"{where}: no parameters were given (a generator such as named_parameters() can be "
            "read only once: keep list(...) of it)"
        )
    tensors = []
    names = []
    for i, item in enumerate(items):
        name = ""
        if isinstance(item, tuple) and len(item) == 2:
            name, item = item
        if not isinstance(item, Tensor):
            raise DTypeError(
                f"{where}: parameter {i} is not a tensor but {type(item).__name__}: {item!r:.60}"
            )
        tensors.append(item)
        names.append(name or getattr(item, "name", "") or f"parameter {i}")
    refuse_duplicates(tensors, names, where)
    if len(set(names)) < len(names):
        twice = {name for name in names if names.count(name) > 1}
        names = [f"{n} (parameter {i})" if n in twice else n for i, n in enumerate(names)]
    return tensors, names


def refuse_duplicates(tensors: Sequence[Tensor], names: Sequence[str], where: str) -> None:
    """Raise ArgumentError if one tensor comes twice."""
    if len(set(map(id, tensors))) == len(tensors):
        return
    first: dict[int, str] = {}
    for tensor, name in zip(tensors, names):
        if id(tensor) in first:
            raise ArgumentError(
                f"{where}: {name} is the same tensor as {first[id(tensor)]}; give each "
                "parameter once"
            )
        first[id(tensor)] = name


def spell(names: Sequence[str], at_most: int = 8) -> str:
    """``a, b, c`` or ``a, b, ... and 5 more``."""
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more} more" if more > 0 else "")


def gradients(
    tensors: Sequence[Tensor], names: Sequence[str], where: str, allow_missing: bool
) -> list[Tensor | None]:
    """The gradient of each tensor; None for one that is frozen or (if allowed) has none.

    Raises GraphError naming the tensors that require a gradient and have none; ShapeError
    or DTypeError for a gradient that does not fit its tensor.
    """
    found: list[Tensor | None] = [tensor.grad for tensor in tensors]
    if all(
        [
            type(g) is Tensor and w.requires_grad
            and g.array.dtype is w.array.dtype and g.array.shape == w.array.shape
            for g, w in zip(found, tensors)
        ]
    ):  # fmt: skip
        return found  # as nearly always; else see what is the matter
    found = []
    missing = []
    for i, tensor in enumerate(tensors):
        gradient = tensor.grad if tensor.requires_grad else None
        if gradient is not None:
            if not isinstance(gradient, Tensor):
                raise DTypeError(
                    f"{where}: the gradient of {names[i]} is not a Tensor but "
                    f"{type(gradient).__name__}; write p.grad = minigrad.Tensor(array)"
                )
            g, w = gradient.array, tensor.array
            if g.shape != w.shape:
                raise ShapeError(
                    f"{where}: the gradient of {names[i]} has shape {g.shape}, "
                    f"the parameter {w.shape}"
                )
            if g.dtype != w.dtype:
                raise DTypeError(
                    f"{where}: the gradient of {names[i]} is {g.dtype}, the parameter {w.dtype}"
                )
        elif tensor.requires_grad:
            missing.append(names[i])
        found.append(gradient)
    if missing and not allow_missing:
        raise GraphError(
            f"{where}: no gradient in {spell(missing)} ({len(missing)} of {len(tensors)} "
            "parameters). Call loss.backward() first, after zero_grad(). A parameter that is "
            "not meant to learn is skipped if it has requires_grad=False; one that this loss "
            "does not reach is skipped with allow_missing=True."
        )
    return found
