"""Arrays that NumPy makes of arguments: masks, orders, ids one step late.

A captured function (:mod:`minigrad.captured`) is replayed as the ops that it called, and an
array that none of them made is the same each time.  So what a module makes of lengths and ids
before it calls an op is made here: inside of a captured function that is one more op, which
checks and makes everything anew; elsewhere it is a call and no more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .nodes import mode
from .recording import checked, repeatable
from .tensor import apply


def prepared(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``: an array or a tuple of arrays, without gradients.

    function: one of a module, the same object at each call; what it makes has the same shapes and
    dtypes for arguments that have.  args: arrays, and what never changes.
    Raises what the function raises.
    """
    if mode.tape is None:
        return function(*args)
    results = apply(_op(function), *args)
    return tuple([y.array for y in results]) if type(results) is tuple else results.array


@functools.cache
def _op(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in the form of an op; see :mod:`minigrad.ops`."""

    @repeatable
    @functools.wraps(function)
    def op(*args: Any) -> Any:
        return checked(function, *args), lambda g: (None,) * len(args)

    return op
