"""Threads for kernels: rows of a batch, cut into one range for each thread.

Kernels are plain ``nogil`` functions that take a row range, so ordinary Python threads run
them side by side.  Compared with Numba's ``parallel=True`` this compiles in a third of the
time, hands work over in half the time, leaves no thread spinning against BLAS, and cannot
abort when two Python threads launch at once.  A range does the same arithmetic whatever the
other ranges are, so the bits do not depend on the thread count.

Linux likes to wake a thread on the core of whoever woke it, where it then waits until the
caller has done its own part (measured: products of 0.5 ms took twice as long on two threads
as on one).  So each thread is told to keep off the caller's core.  And a sleeping thread
takes a while to wake, while the caller works already; so the ranges are not equal: how late
the threads ended in the last calls decides how much they are given in the next, down to
nothing where another program has the core.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from contextlib import suppress
from typing import Any

from ..errors import ArgumentError
from .registry import mode

# Cores this process may use, where the system can tell, and the one that the caller is on.
_cores: set[int] = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
_current_core: Any = getattr(ctypes.CDLL(None), "sched_getcpu", None) if _cores else None


def _initial() -> int:
    text = os.environ.get("MINIGRAD_NUM_THREADS", "")
    return int(text) if text.isdigit() and int(text) > 0 else len(_cores) or os.cpu_count() or 1


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
        self._off = -1  # the core it keeps off
        self._thread = threading.Thread(target=self._loop, daemon=True, name="minigrad")
        self._thread.start()

    def keep_off(self, core: int) -> None:
        """Let the thread run on any core of the process but this one."""
        if core != self._off and len(_cores) > 1:
            self._off = core
            with suppress(OSError):  # a container may forbid it
                os.sched_setaffinity(self._thread.native_id or 0, _cores - {core})

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


_ALIGN = 8  # rows; a range is a multiple of it (or of the grain), as the register tile likes it
_AGAIN = 50  # calls after which a thread that had come too late gets another chance


class _Share:
    """How many of a kernel's rows each thread beside the caller is given.

    A thread begins ``delay`` seconds after the caller and is as fast.  With r rows a second,
    caller and threads end together if a thread has (rows - delay * r) / pieces of them.
    """

    def __init__(self, rows: int, pieces: int, align: int) -> None:
        self.rows, self.pieces, self.align = rows, pieces, align
        self.lead = 0.0  # delay * r: rows the caller does before a thread begins
        self.idle = 0

    def each(self) -> int:
        """Rows for each thread; 0 if that is not worth waking one."""
        share = max(0.0, self.rows - self.lead) / self.pieces
        count = min(int(share / self.align + 0.5) * self.align, self.rows // self.pieces)
        if count == 0:
            self.idle += 1
            if self.idle > _AGAIN:
                self.idle, self.lead = 0, self.rows / 2
        return count

    def learn(self, each: int, began: float, ended: float, others: float) -> None:
        """Take in when the caller and the last thread ended (seconds)."""
        own = self.rows - each * (self.pieces - 1)
        rate = own / (ended - began + 1e-9)
        lead = (others - began) * rate - each
        # small steps up or down follow the median: a thread that overslept once does no harm
        step = self.rows / 64
        self.lead = max(0.0, self.lead + (step if lead > self.lead else -step))


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
            share = _shares[key] = _Share(rows, pieces, min(grain, _ALIGN))
        each = share.each()
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
    core = _current_core() if _current_core is not None else -1
    began = time.perf_counter()
    stop = rows
    for worker in helpers:
        if core >= 0:
            worker.keep_off(core)
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
    share.learn(each, began, ended, max(worker.ended for worker in helpers))
