"""The pairs of a compiled kernel and its readable NumPy twin, and the switch between them."""

from __future__ import annotations

import functools
import pathlib
import sys
import threading
import types
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numba.core import event

from .. import recording
from ..errors import ArgumentError, KernelMismatchError
from .inner import KernelCompiler

MODES = ("numba", "numpy", "check")

# Reordering sums and contracting to fma is allowed; assuming the absence of NaN and
# infinity is not: a NaN must stay a NaN.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
FLAT_GRAIN = 1 << 17  # numbers of a flat array below which a range is mostly not worth a thread

registry: dict[str, Kernel] = {}
_mode = "numba"


class Kernel:
    """A function on ndarrays that exists twice: compiled, and as its NumPy twin.

    Both have the same signature and write their results into the arguments named in
    ``outputs`` (C-contiguous arrays, checked by the op that calls).  A kernel may also
    return a number or a tuple of numbers.

    ``run`` is the one of the two that the mode has chosen; calling the pair calls it, and
    writes the call down if somebody is recording.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        twin: Callable[..., Any],
        outputs: tuple[str, ...],
        build: Callable[[Any], Any] = lambda function: function,
        magnitude: Callable[..., Any] | None = None,
        pieces: int = 1,
        grain: int = FLAT_GRAIN,
    ) -> None:
        code = twin.__code__
        self.names = code.co_varnames[: code.co_argcount]
        self.name = twin.__name__.removesuffix("_twin")
        self.function = function
        self.build = build
        self.magnitude = magnitude
        self.pieces = pieces
        self.grain = grain
        self.twin = twin
        self.outputs = tuple(self.names.index(name) for name in outputs)
        self.__doc__ = twin.__doc__
        self.run = twin
        self._choose(_mode)

    @functools.cached_property
    def compiled(self) -> Any:
        """The compiled function, made ready at the first use: importing costs nothing."""
        return self.build(self.function)

    @functools.cached_property
    def shared(self) -> Any:
        """The compiled function as several threads run it together; see handover."""
        from . import handover

        return handover.shared(self.compiled, self.name, self.build)

    def _first_run(self, *args: Any) -> Any:
        self.run = self.compiled
        return self.run(*args)

    def __call__(self, *args: Any) -> Any:
        result = self.run(*args)
        if recording.now.calls is not None:
            recording.note(self.run, args, result)
        return result

    def __repr__(self) -> str:
        return f"<kernel {self.name}({', '.join(self.names)})>"

    def _choose(self, name: str) -> None:
        self.run = {"numba": self._first_run, "numpy": self.twin, "check": self._check}[name]

    def _check(self, *args: Any) -> Any:
        """Run both on the same input and raise KernelMismatchError where they differ."""
        shadow = [a.copy() if i in self.outputs else a for i, a in enumerate(args)]
        with np.errstate(all="ignore"):
            expected = self.twin(*shadow)
        result = self.compiled(*args)
        magnitude = None if self.magnitude is None else self.magnitude(*shadow)
        for k, i in enumerate(self.outputs):
            terms = magnitude[k] if isinstance(magnitude, tuple) else magnitude
            self._compare(f"argument {self.names[i]!r}", args[i], shadow[i], terms)
        if expected is not None:
            self._compare("the returned value", np.asarray(result), np.asarray(expected))
        return result

    def _compare(
        self, what: str, fast: np.ndarray, slow: np.ndarray, magnitude: np.ndarray | None = None
    ) -> None:
        if not fast.size:
            return
        difference = compare(fast, slow, magnitude=magnitude)
        if difference is not None:
            index, error = difference
            raise KernelMismatchError(
                f"kernel {self.name}: {what} (shape {fast.shape}, {fast.dtype}) differs from the "
                f"NumPy twin at index {index}: compiled {fast[index]!r}, twin {slow[index]!r}, "
                f"error {error:.3g}"
            )


def compare(
    fast: np.ndarray,
    slow: np.ndarray,
    rtol: float | None = None,
    magnitude: np.ndarray | None = None,
) -> tuple[tuple[int, ...], float] | None:
    """First index where two arrays differ beyond rounding, with the error; None if nowhere.

    The bound is ``rtol`` (1e-4 for float32, 1e-9 for float64, 0 for integers) relative to
    the larger of the value and the largest finite magnitude of its array, over 100.
    magnitude: for long sums whose terms cancel, the sums of the terms' magnitudes; rounding of
    a hundredth of ``rtol`` of that is allowed as well.
    """
    if not np.issubdtype(slow.dtype, np.floating):
        wrong = np.atleast_1d(fast != slow)
        error = np.abs(np.subtract(fast, slow, dtype=np.float64))
    else:
        if rtol is None:
            rtol = 1e-4 if slow.dtype == np.float32 else 1e-9
        finite = np.isfinite(slow)
        scale = np.abs(slow[finite]).max(initial=0.0)
        with np.errstate(invalid="ignore"):
            error = np.abs(np.subtract(fast, slow, dtype=np.float64))
            bound = rtol * np.maximum(np.abs(slow), scale / 100)
            near = error <= (bound if magnitude is None else bound + rtol / 100 * magnitude)
        same = (fast == slow) | (np.isnan(fast) & np.isnan(slow))
        wrong = np.atleast_1d(~(near & finite | same))
    if not wrong.any():
        return None
    index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)[wrong.ndim - slow.ndim :]
    return tuple(int(i) for i in index), float(np.asarray(error)[index])


_CODE_FREE = {f"{__package__}.{name}" for name in ("threads", "memory")}


def _sources(function: Callable[..., Any]) -> str:
    """Checksum of the files of this folder that a kernel is made of."""
    found: set[str] = set()
    names = [function.__globals__]
    while names:
        for value in list(names.pop().values()):
            if isinstance(value, types.ModuleType):
                module = value.__name__
            else:  # a function of a neighbour, as it is or compiled
                module = getattr(getattr(value, "py_func", value), "__module__", None) or ""
            if module.startswith(f"{__package__}.") and module not in found | _CODE_FREE:
                found.add(module)
                names.append(vars(sys.modules[module]))
    checksum = 0
    for module in sorted(found | {function.__module__}):
        checksum = zlib.crc32(_source(module), checksum)
    return f"minigrad {checksum:08x}"


@functools.cache
def _source(module: str) -> bytes:
    return pathlib.Path(sys.modules[module].__file__ or "").read_bytes()


def kernel(
    twin: Callable[..., Any],
    outputs: tuple[str, ...],
    fastmath: set[str] | bool = False,
    magnitude: Callable[..., Any] | None = None,
    pieces: int = 1,
    grain: int = FLAT_GRAIN,
) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorator: compile a function lazily (cached on disk) and pair it with its twin.

    magnitude: function of the same arguments, for comparing the two, see :func:`compare`: one
    array for all outputs, or a tuple with one for each.
    pieces: into how many each thread's share of the rows is cut, where a kernel loses little by
    it: a thread that other work holds up then leaves some to the others.
    grain: for a kernel of flat arrays, numbers (or blocks of them) below which a range is not
    worth a thread.
    The compiled function releases the GIL, so that several threads can run it at once.
    """

    def build(function: Callable[..., Any]) -> Any:
        lasts = hasattr(sys.modules[function.__module__], "__file__")  # not so in a notebook
        fast = numba.njit(
            cache=lasts, nogil=True, fastmath=fastmath, error_model="numpy", no_cfunc_wrapper=True,
            pipeline_class=KernelCompiler,
        )(function)  # fmt: skip
        # Numba's cache looks for changes in the kernel's own file only, but kernels inline
        # functions of their neighbours: here a change in any of those compiles anew.
        if lasts:
            fast._cache._cache_file._source_stamp = _sources(function)
        return fast

    def register(function: Callable[..., Any]) -> Kernel:
        pair = Kernel(function, twin, outputs, build, magnitude, pieces, grain)
        registry[pair.name] = pair
        return pair

    return register


class _Use:
    """What :func:`use` returns: the switch is made at once, and undone by ``with``."""

    def __init__(self, before: str) -> None:
        self._before = before

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        use(self._before)


def use(mode: str) -> _Use:
    """Choose how kernels run, from now on or for a ``with`` block (whole process).

    mode: ``"numba"`` compiled (the default); ``"numpy"`` the readable twins; ``"check"``
    both, raising KernelMismatchError with kernel, argument, index and error at the first
    difference.  Raises ArgumentError for any other word.
    """
    global _mode
    if mode not in MODES:
        raise ArgumentError(f"kernels.use: mode must be one of {', '.join(MODES)}, got {mode!r}")
    before, _mode = _mode, mode
    for pair in registry.values():
        pair._choose(mode)
    return _Use(before)


def mode() -> str:
    """The mode that :func:`use` chose last."""
    return _mode


# -- saying that a first call compiles ------------------------------------------------------


class _Notice(event.Listener):
    """Prints one line when the first of minigrad's kernels has to be compiled."""

    said = False
    lock = threading.Lock()

    def on_start(self, event: Any) -> None:
        if self.said or _mode == "numpy":
            return
        function = event.data["dispatcher"].py_func
        if not function.__module__.startswith(__package__):
            return
        with self.lock:
            if not self.said:
                _Notice.said = True
                print(
                    "minigrad: compiling kernels for this machine (once; kept on disk for "
                    "the next run) ...",
                    file=sys.stderr,
                    flush=True,
                )

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Notice())


@contextmanager
def record_calls() -> Iterator[list[str]]:
    """``with record_calls() as names:`` lists the kernels that run, in order (for tests)."""
    names: list[str] = []
    plain = Kernel.__call__

    def recorded(pair: Kernel, *args: Any) -> Any:
        names.append(pair.name)
        return plain(pair, *args)

    recording: Any = Kernel  # all of them, also those whose module is not imported yet
    recording.__call__ = recorded
    try:
        yield names
    finally:
        recording.__call__ = plain
