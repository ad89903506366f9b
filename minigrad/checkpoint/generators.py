"""State of NumPy's generators as plain values, checked before NumPy gets to see it.

NumPy takes positions in its buffers from a state as they are, and reads beyond the buffer if
one is wrong; a file could make it do that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import CheckpointError, DTypeError

_KINDS = {
    kind.__name__: kind
    for kind in (
        np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64,
    )
}  # fmt: skip
# no number of a state is larger, and where it points into a buffer it stays inside
_HIGHEST = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "uinteger": 2**32 - 1}


def save_generator(generator: np.random.Generator, where: str) -> Mapping[str, Any]:
    """The state of its bit generator: a dict of text, integers and arrays.

    Raises DTypeError if the bit generator is none of NumPy's own.
    """
    state = generator.bit_generator.state
    if state.get("bit_generator") not in _KINDS:
        raise DTypeError(
            f"checkpoint: {where} has the bit generator {type(generator.bit_generator).__name__}; "
            f"of these the state can be saved: {', '.join(_KINDS)}"
        )
    return state


def load_generator(state: Any) -> np.random.Generator:
    """A new generator in that state.  Raises CheckpointError for one that is malformed."""
    name = state.get("bit_generator") if isinstance(state, dict) else None
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise CheckpointError(f"a generator is to be one of {', '.join(_KINDS)}")
    bits = kind(0)
    _refuse_other_form(bits.state, state)
    try:
        bits.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise CheckpointError(f"the state of a {kind.__name__} is malformed: {error}") from error
    return np.random.Generator(bits)


def _refuse_other_form(own: Any, given: Any) -> None:
    """Raise unless ``given`` has the keys, shapes and dtypes of ``own`` and no place outside."""
    name = own["bit_generator"]
    pairs = [("state", own, given)]
    while pairs:
        key, mine, theirs = pairs.pop()
        if isinstance(mine, dict):
            good = isinstance(theirs, dict) and theirs.keys() == mine.keys()
            pairs += [(k, mine[k], theirs[k]) for k in mine] if good else []
        elif isinstance(mine, np.ndarray):
            good = isinstance(theirs, np.ndarray) and (
                (theirs.shape, theirs.dtype) == (mine.shape, mine.dtype)
            )
        elif isinstance(mine, str):
            good = theirs == mine
        else:
            highest = _HIGHEST.get(key, 2**128 - 1)
            good = type(theirs) is int and 0 <= theirs <= highest
        if not good:
            raise CheckpointError(f"the state of a {name} is malformed: {key!r}")
