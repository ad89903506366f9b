"""Threads for kernels: rows of a batch, cut into pieces that the threads take in turn.

Kernels are plain ``nogil`` functions that take a row range, so ordinary Python threads run
them side by side.  Compared with Numba's ``parallel=True`` this compiles in a third of the
time, hands work over in a few microseconds, leaves no thread spinning for long against BLAS,
and cannot abort when two Python threads launch at once.  A range does the same arithmetic
whatever the other ranges are, so the bits do not depend on the thread count.

How work is handed over is told in handover.py.  Linux likes to wake a thread on the core of
whoever woke it, where it then waits until the caller has done its own part; so each thread
is woken off the caller's core.  Kept there for longer, the two would meet on one core
whenever other work drives the caller away from its own.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np

from .. import recording
from ..errors import ArgumentError
from .registry import Kernel, mode

# Cores this process may use, where the system can tell, and the one that the caller is on.
_cores: set[int] = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
_current_core: Any = getattr(ctypes.CDLL(None), "sched_getcpu", None) if _cores else None


def _initial() -> int:
    text = os.environ.get("MINIGRAD_NUM_THREADS", "")
    return int(text) if text.isdigit() and int(text) > 0 else len(_cores) or os.cpu_count() or 1


class _Worker:
    """A thread that runs what it is handed, and sleeps when there has been nothing."""

    def __init__(self) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        self._asleep = False
        self._work: Any = None  # a function and its arguments
        self._kept_off = False  # whether it may not run on all cores
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, daemon=True, name="minigrad")
        self._thread.start()

    def _wake_off(self, core: int) -> None:
        """Wake the thread on any core of the process but this one."""
        if core >= 0 and len(_cores) > 1:
            self._kept_off = True
            with suppress(OSError):  # a container may forbid it
                os.sched_setaffinity(self._thread.native_id or 0, _cores - {core})
        self._wake.release()

    def _loop(self) -> None:
        while True:
            if self._work is None:
                self._asleep = True  # said first: who brings work looks here afterwards
                if self._work is None:
                    self._wake.acquire()
                self._asleep = False
                if self._kept_off:  # from now on it may go where other work leaves it room
                    self._kept_off = False
                    with suppress(OSError):
                        os.sched_setaffinity(0, _cores)
                continue
            (function, args), self._work = self._work, None
            try:
                function(*args)
            except BaseException as error:  # raised in the caller
                self.error = error
            function = args = None  # keep no array alive while waiting

    def begin(self, function: Any, args: tuple[Any, ...], core: int) -> None:
        """Hand work over; the thread may be looking on, or asleep.  core: the caller's, or -1."""
        self._work = function, args
        if self._asleep and self._wake.locked():
            self._wake_off(core)


class _Team:
    """The threads of this process and the board that they look at."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.workers: list[_Worker] = []
        self.board: np.ndarray | None = None
        self.ticket = 0

    def run(self, kernel: Kernel, rows: int, pieces: int, each: int, args: tuple[Any, ...]) -> None:
        """The caller and the threads take pieces until none is left."""
        helpers_wanted = min(pieces, _count) - 1
        from . import handover

        if self.board is None:
            self.board = handover.new_board()
        while len(self.workers) < helpers_wanted:
            self.workers.append(_Worker())
        helpers = self.workers[:helpers_wanted]
        core = _current_core() if _current_core is not None else -1
        self.ticket = ticket = self.ticket % 0x7FFFFFFF + 1
        shared, board = kernel.shared, self.board
        for worker in helpers:
            worker.begin(shared, (board, ticket, False, pieces, each, rows, *args), core)
        finished = shared(board, ticket, True, pieces, each, rows, *args)
        while not finished:
            for worker in helpers:
                if worker.error is not None:
                    error, worker.error = worker.error, None
                    raise error
            time.sleep(1e-4)
            finished = board[handover.FINISHED] == (ticket << 32) + pieces


_count = _initial()
_team = _Team()
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


_LINE = 16  # many rows, numbers of a flat array mostly, are cut where a vector begins


def run_rows(kernel: Kernel, rows: int, grain: int, *args: Any) -> None:
    """Call ``kernel(*args, start, stop)`` so that [0, rows) is covered once.

    grain: rows below which a piece is not worth a thread of its own.  Whoever finds the
    threads busy (another Python thread uses them) does all rows itself.
    """
    if rows < 2 * max(grain, 1) or _count == 1 or mode() != "numba":
        kernel(*args, 0, rows)
    elif recording.now.calls is None:
        _run_rows(kernel, rows, grain, args)
    else:
        recording.do(_run_rows, kernel, rows, grain, args)


def _run_rows(kernel: Kernel, rows: int, grain: int, args: tuple[Any, ...]) -> None:
    global _team
    grain = max(grain, 1)
    pieces = min(_count * kernel.pieces, rows // grain)
    each = -(-rows // pieces)
    if each > 16 * _LINE:  # few rows are better dealt evenly
        each = -(-each // _LINE) * _LINE
    pieces = -(-rows // each)
    if pieces < 2 or not _in_use.acquire(blocking=False):
        kernel(*args, 0, rows)
        return
    try:
        if _team.process != os.getpid():  # threads do not survive a fork
            _team = _Team()
        _team.run(kernel, rows, pieces, each, args)
    finally:
        _in_use.release()
