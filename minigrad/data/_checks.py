"""Checks of arguments that the modules of this package share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError


def positive_int(value: Any, name: str, where: str) -> int:
    """Return ``value`` as a Python int of at least 1; ``where`` and ``name`` head the message.

    Raises DTypeError for anything but an integer (True and 1.0 included), ArgumentError below 1.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise DTypeError(
            f"{where}: {name} must be an integer, not {value!r} ({type(value).__name__})"
        ) from None
    if number < 1:
        raise ArgumentError(f"{where}: {name} must be at least 1, not {number}")
    return number


def random_generator(generator: Any, where: str, why: str) -> np.random.Generator:
    """Return a Generator as it is, or the one that an integer seed stands for.

    Raises ArgumentError for None (with ``why`` one is needed) and for a negative seed,
    DTypeError for anything else.
    """
    if isinstance(generator, np.random.Generator):
        return generator
    if generator is None:
        raise ArgumentError(
            f"{where}: {why} needs generator=, a seed or a np.random.Generator; nothing is drawn "
            "from a hidden global state, so that the same seed gives the same order"
        )
    if isinstance(generator, (int, np.integer)) and not isinstance(generator, bool):
        if generator < 0:
            raise ArgumentError(f"{where}: a seed must not be negative, but is {generator}")
        return np.random.default_rng(int(generator))
    raise DTypeError(
        f"{where}: generator must be a np.random.Generator or an integer seed, "
        f"not {type(generator).__name__}"
    )
