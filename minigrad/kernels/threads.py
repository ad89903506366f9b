"""Threads for kernels: rows of a batch, cut into one range for each thread.

Kernels are plain ``nogil`` functions that take a row range, so ordinary Python threads run
them side by side.  Compared with Numba's ``parallel=True`` this compiles in a third of the
time, hands work over in half the time, leaves no thread spinning against
BLAS, and cannot abort when two Python threads launch at once.  A range does the same
arithmetic whatever the other ranges are, so the bits do not depend on the thread count.

A sleeping thread takes a while to wake (100 microseconds on a virtual machine, longer where
another program has the core), and the caller works meanwhile.  So the ranges are not equal:
how late the threads finished last time decides how much they are given next time.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from ..errors import ArgumentError
from .registry import mode


def _available() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _initial() -> int:
    text = os.environ.get("MINIGRAD_NUM_THREADS", "")
    return int(text) if text.isdigit() and int(text) > 0 else _available()


class _Worker:
    """A thread that runs one piece of work at a time, handed over by two bare locks (half
    the time that a queue takes)."""

    def __init__(self) -> None:
        self._start = threading.Lock()
        self._done = threading.Lock()
        self._start.acquire()
        self._done.acquire()
        self._work: Any = None  # a function and its arguments
        self._error: BaseException | None = None
        self._retired = False
        self.ended = 0.0  # when the last piece of work was done
        threading.Thread(target=self._loop, daemon=True, name="minigrad").start()

    def _loop(self) -> None:
        while True:
            self._start.acquire()
            if self._work is not None:
                function, args = self._work
                try:
                    function(*args)
                except BaseException as error:  # handed to the caller in finish()
                    self._error = error
                self.ended = time.perf_counter()
                self._work = function = args = None  # keep no array alive while waiting
                self._done.release()
            if self._retired:
                return

    def begin(self, function: Any, args: tuple[Any, ...]) -> None:
        self._work = function, args
        self._start.release()

    def finish(self) -> None:
        self._done.acquire()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def retire(self) -> None:
        """Let the thread end once it has finished what it may be doing."""
        self._retired = True
        if self._work is None and self._start.locked():  # it waits for work: wake it
            self._start.release()


_count = _initial()
_workers: list[_Worker] = []
_owner = os.getpid()
_in_use = threading.Lock()


def set_num_threads(count: int) -> None:
    """Let kernels use up to ``count`` threads (the default: the cores of this process).

    ``MINIGRAD_NUM_THREADS`` sets it from outside.  BLAS has its own setting
    (``OPENBLAS_NUM_THREADS``).  Raises ArgumentError unless ``count`` is a positive integer.
    """
    global _count
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ArgumentError(f"set_num_threads: count must be a positive integer, got {count!r}")
    _count = count


def get_num_threads() -> int:
    """How many threads kernels may use."""
    return _count


_ALIGN = 8  # rows; a range is a multiple of it, as the register tile likes it
_AGAIN = 100  # calls after which a thread that had come too late gets another chance


class _Share:
    """The part of a kernel's rows that each thread beside the caller is given."""

    def __init__(self, pieces: int) -> None:
        self.part = self.even = 1.0 / pieces
        self.idle = 0

    def rows(self, rows: int) -> int:
        """How many rows a thread gets; 0 if it is not worth waking."""
        count = int(self.part * rows / _ALIGN + 0.5) * _ALIGN
        if count == 0:
            self.idle += 1
            if self.idle > _AGAIN:
                self.idle, self.part = 0, self.even / 2
        return count

    def learn(self, began: float, ended: float, others: float) -> None:
        """Move the part towards where caller and threads end together (seconds)."""
        late = (others - ended) / (ended - began + 1e-9)  # in units of the caller's time
        self.part -= 0.25 * self.even * max(-1.0, min(1.0, late))
        self.part = max(0.0, min(self.even, self.part))


_shares: dict[tuple[str, int, int], _Share] = {}


def run_rows(kernel: Any, rows: int, grain: int, *args: Any) -> None:
    """Call ``kernel(*args, start, stop)`` so that [0, rows) is covered once.

    grain: rows below which a range is not worth a thread of its own.  Whoever finds the
    threads busy (another Python thread uses them) does all rows itself.
    """
    pieces = min(_count, rows // max(grain, 1))
    if pieces < 2 or mode() != "numba" or not _in_use.acquire(blocking=False):
        kernel(*args, 0, rows)
        return
    try:
        key = (getattr(kernel, "name", ""), rows, pieces)
        share = _shares.get(key)
        if share is None:
            share = _shares[key] = _Share(pieces)
        each = share.rows(rows)
        if each == 0:
            kernel(*args, 0, rows)
        else:
            _run_pieces(kernel, rows, each, pieces, share, args)
    finally:
        _in_use.release()


def _run_pieces(
    kernel: Any, rows: int, each: int, pieces: int, share: _Share, args: tuple[Any, ...]
) -> None:
    """The caller takes the first rows, the threads ``each`` of the others."""
    global _owner
    if _owner != os.getpid():  # threads do not survive a fork
        _owner = os.getpid()
        _workers.clear()
    while len(_workers) < pieces - 1:
        _workers.append(_Worker())
    helpers = _workers[: pieces - 1]
    began = time.perf_counter()
    stop = rows
    for worker in helpers:
        worker.begin(kernel, (*args, stop - each, stop))
        stop -= each
    try:
        try:
            kernel(*args, 0, stop)
        finally:
            ended = time.perf_counter()
            for worker in helpers:
                worker.finish()
    except BaseException:
        # perhaps a Ctrl-C while waiting: a worker may be busy still, so start afresh
        for worker in _workers:
            worker.retire()
        _workers.clear()
        raise
    share.learn(began, ended, max(worker.ended for worker in helpers))
