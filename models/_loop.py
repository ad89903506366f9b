"""What goes on around a training loop while it runs: the clock, Ctrl-C, the progress bar."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba.core import event


class Stopwatch:
    """Seconds of training: it runs inside ``running()`` and outside every ``paused()``.

    Pauses may lie within each other and come from several threads.
    """

    def __init__(self) -> None:
        self._before = 0.0  # seconds, up to the last pause
        self._since = 0.0  # when it was last set going
        self._holds = 1  # it runs while nobody holds it
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Stop the clock until as many releases have followed."""
        with self._lock:
            if self._holds == 0:
                self._before += time.perf_counter() - self._since
            self._holds += 1

    def release(self) -> None:
        """Take one hold back."""
        with self._lock:
            self._holds -= 1
            if self._holds == 0:
                self._since = time.perf_counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        """``with`` block during which the clock runs."""
        self.release()
        try:
            yield
        finally:
            self.hold()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """``with`` block during which the clock stands still."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    @property
    def seconds(self) -> float:
        """What it shows now."""
        with self._lock:
            return self._before + (time.perf_counter() - self._since if self._holds == 0 else 0.0)


class _Compiling(event.Listener):
    """Holds a stopwatch while Numba compiles a kernel or loads a compiled one from disk."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch

    def on_start(self, event: Any) -> None:
        self._stopwatch.hold()

    def on_end(self, event: Any) -> None:
        self._stopwatch.release()


@contextmanager
def pause_while_compiling(stopwatch: Stopwatch) -> Iterator[None]:
    """``with`` block in which the time Numba spends on kernels does not count."""
    with event.install_listener("numba:compiler_lock", _Compiling(stopwatch)):
        yield


@contextmanager
def on_ctrl_c(action: Callable[[], None]) -> Iterator[None]:
    """``with`` block in which the first Ctrl-C calls ``action``; a second one interrupts.

    Without effect outside the main thread and where SIGINT is ignored (nohup).
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before in (signal.SIG_IGN, None):
        yield
        return

    def handler(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        action()

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def progress_bar(name: str, total: int, first: int = 0) -> Any:
    """tqdm's bar, or a plain counter where tqdm is not installed; None if nobody looks.

    first: steps that were done before.
    """
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return _Counter(name, total, first)
    return tqdm(
        total=total, initial=first, desc=name, unit=" steps", file=sys.stderr, dynamic_ncols=True
    )


class _Counter:
    """One line on stderr, with the few methods of tqdm's bar that are used here."""

    def __init__(self, name: str, total: int, first: int = 0) -> None:
        self.n = self._first = first
        self._name, self._total = name, total
        self._notes = ""
        self._start = time.monotonic()

    def set_postfix(self, notes: Mapping[str, Any], refresh: bool = True) -> None:
        """Numbers to show behind the count."""
        self._notes = ""
        for name, value in notes.items():
            short = f"{value:.3g}" if isinstance(value, (float, np.floating)) else value
            self._notes += f", {name} {short}"

    def refresh(self) -> None:
        """Draw the line again."""
        done = max(self.n - self._first, 1)
        left = (time.monotonic() - self._start) * (self._total - self.n) / done
        line = f"{self._name}: {self.n:,} of {self._total:,} steps{self._notes}"
        if self.n:
            line += f", {left:.0f} s left"
        self._write(line)

    def clear(self) -> None:
        """Wipe the line, so that something else can be printed."""
        self._write("")

    def close(self) -> None:
        """Leave the line as it is and go on below."""
        print(file=sys.stderr, flush=True)

    def _write(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1  # a full line would wrap
        print("\r" + line[:width].ljust(width) + "\r", end="", file=sys.stderr, flush=True)
