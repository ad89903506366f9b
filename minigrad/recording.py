"""Writing down what an op does with its arrays, so that it can be done again on the same ones.

A captured function (:mod:`minigrad.captured`) is replayed fastest as a list of calls

    (function, arguments)

on arrays that stay where they are (:mod:`minigrad.rerun`).  Kernels that are called while a
list is there are written down by themselves.  What an op does with NumPy goes through the
functions below; they do what NumPy would, and write it down if somebody wants to know.  An op
that keeps to this says so, with ``@repeatable``; all else, the shapes and sizes that it
computes, must be the same for arguments of the same shapes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

Calls = list[tuple[Callable[..., Any], tuple[Any, ...]]]


class _Recording(threading.local):
    calls: Calls | None = None  # None: nobody wants to know
    failed = False  # something was done that the list does not tell


now = _Recording()


class Diverged(Exception):
    """A call that was written down returned something else when it was done again."""


@contextmanager
def recorded() -> Iterator[Calls]:
    """``with recorded() as calls:`` everything that is done in this thread, in order.

    The list is empty at the end if something was done that cannot be repeated.
    """
    before, now.calls, now.failed = now.calls, [], False
    calls = now.calls
    try:
        yield calls
    finally:
        if now.failed:
            calls.clear()
        now.calls, now.failed = before, False


def repeat(calls: Calls) -> None:
    """Do it all again.  Raises Diverged."""
    for function, args in calls:
        function(*args)


def cannot_repeat() -> None:
    """Say that something was done that is not on the list."""
    now.failed = True


def note(function: Callable[..., Any], args: tuple[Any, ...], result: Any = None) -> None:
    """Write down a call that was made; if it returned something, it must do so again."""
    if now.calls is not None:
        if result is None:
            now.calls.append((function, args))
        else:
            now.calls.append((expect, (result, function, args)))


def expect(result: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Call a function that must return the same as before.  Raises Diverged."""
    if function(*args) != result:
        raise Diverged


# -- what ops do with NumPy ---------------------------------------------------------------------


def do(function: Callable[..., Any], *args: Any) -> None:
    """Call a function that writes into its arguments, as one call on the list."""
    if now.calls is None:
        function(*args)
        return
    calls, now.calls = now.calls, None  # what it calls in turn is part of it
    try:
        function(*args)
    finally:
        now.calls = calls
    calls.append((function, args))


def computed(ufunc: Any, *inputs: Any) -> Any:
    """``ufunc(*inputs)``.  Works on tensors too."""
    y = ufunc(*inputs)
    if now.calls is not None:
        y = np.asarray(y)
        now.calls.append((ufunc, (*inputs, y)))
    return y


def summed(x: Any, axis: Any = None) -> Any:
    """Sum over one axis, or all.  x: (...).  Works on tensors too."""
    if not isinstance(x, np.ndarray):
        return x.sum(axis=axis)
    if axis == 0 and x.ndim > 1 and len(x) == 2:  # parts that two threads made: less than half
        return computed(np.add, x[0], x[1])  # the time of a reduction, and the same bits
    y = np.add.reduce(x, axis)
    if now.calls is not None:
        y = np.asarray(y)
        now.calls.append((np.add.reduce, (x, axis, None, y)))
    return y


def copied(x: np.ndarray) -> np.ndarray:
    """A C-contiguous copy.  x: (...)."""
    y = np.empty(x.shape, x.dtype)
    do(np.copyto, y, x)
    return y


def contiguous(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    """x itself if it is C-contiguous and of the dtype, else a copy that is."""
    if x.flags.c_contiguous and (dtype is None or x.dtype == dtype):
        return x
    y = np.empty(x.shape, dtype or x.dtype)
    do(np.copyto, y, x)
    return y


def reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """x with another shape of the same size; a copy if there is no such view of it.

    Works on tensors too.
    """
    if now.calls is None or x.flags.c_contiguous:
        return x.reshape(shape)
    return contiguous(x).reshape(shape)


def zeros(shape: Any, dtype: Any) -> np.ndarray:
    """Zeros, to be written into: they are zeros again each time."""
    if now.calls is None:
        return np.zeros(shape, dtype)
    y = np.empty(shape, dtype)
    do(np.copyto, y, 0)
    return y


def made(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``: an array, a NumPy number, or a tuple of arrays, as large for
    arguments as large.

    What it makes the next time is written into the arrays of the first; it is left out where
    nobody wants them.  Works on tensors too.
    """
    return function(*args) if now.calls is None else _made(_make_again, function, args)


def checked(function: Callable[..., Any], *args: Any) -> Any:
    """The same for a function that may raise something: it is always done again."""
    return function(*args) if now.calls is None else _made(_check_again, function, args)


def _made(again: Callable[..., None], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    calls, now.calls = now.calls, None  # what it calls in turn is part of it
    assert calls is not None
    try:
        results = function(*args)
    finally:
        now.calls = calls
    if isinstance(results, np.generic):
        results = np.asarray(results)
    parts = results if type(results) is tuple else (results,)
    if all(type(part) is np.ndarray for part in parts):
        calls.append((again, (function, args, parts)))
    else:
        cannot_repeat()
    return results


def _make_again(function: Callable[..., Any], args: Any, parts: tuple[np.ndarray, ...]) -> None:
    results = function(*args)
    for part, new in zip(parts, results if type(results) is tuple else (results,)):
        if part is not new:
            if (part.shape, part.dtype) != (new.shape, new.dtype):
                raise Diverged
            part[...] = new


def _check_again(*call: Any) -> None:
    _make_again(*call)


def without_unused(calls: Calls, wanted: Sequence[np.ndarray]) -> Calls:
    """The calls but for those that make arrays which are neither used later nor wanted."""
    used = list(wanted)
    kept: Calls = []
    for function, args in reversed(calls):
        if function is _make_again:
            if not any([np.may_share_memory(part, x) for part in args[2] for x in used]):
                continue
        used += arrays_in(args)
        kept.append((function, args))
    return kept[::-1]


def arrays_in(args: Any) -> Iterator[np.ndarray]:
    """All arrays in some arguments."""
    for x in args:
        if isinstance(x, np.ndarray):
            yield x
        elif isinstance(x, tuple):
            yield from arrays_in(x)


def view_of(x: Any, y: Any) -> Any:
    """y, which is a view of x, or else cannot be repeated.  Works on tensors too."""
    if now.calls is not None and not np.may_share_memory(x, y):
        cannot_repeat()
    return y


def repeatable(op: Any) -> Any:
    """Decorator for an op: all that it does with arrays is in kernels or in these functions."""
    op.repeatable = True
    return op
