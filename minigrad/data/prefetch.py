"""An iterator that a thread goes through ahead of need."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any


class Ahead(Iterator[Any]):
    """The items of an iterator, made by a thread, at most ``size`` ahead.

    The thread begins with the first item.  ``close()`` ends it; so does the end of the items, an
    error in them, which is raised here, and the end of this object.

    The thread holds nothing of this object, so that it can go when nobody wants it any more.
    Who ends the thread may be a destructor, called anywhere, even in the thread: the queues
    used here are made for that.
    """

    def __init__(self, items: Any, size: int) -> None:
        self._ready: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._leave: queue.SimpleQueue[None] = queue.SimpleQueue()  # to make one item, each
        for _ in range(size):
            self._leave.put(None)
        stopped = threading.Event()
        self._thread = threading.Thread(
            target=_make_ahead, args=(items, self._ready, self._leave, stopped),
            daemon=True, name="minigrad prefetch",
        )  # fmt: skip
        # also called when Python exits, while threads still run
        self.close = weakref.finalize(self, _stop, self._thread, self._leave, stopped)
        self._begun = False

    def __next__(self) -> Any:
        if not self.close.alive:
            raise StopIteration
        if not self._begun:
            self._begun = True
            self._thread.start()
        what, value = self._ready.get()
        if what == "item":
            self._leave.put(None)
            return value
        self.close()
        if what == "end":
            raise StopIteration
        raise value


def _make_ahead(items: Any, ready: Any, leave: Any, stopped: threading.Event) -> None:
    """Go through ``items`` in a thread, one for each ``leave``, until stopped."""
    outcome: tuple[str, Any] = "end", None
    try:
        while True:
            leave.get()
            if stopped.is_set():
                break
            ready.put(("item", next(items)))
    except StopIteration:
        pass
    except BaseException as error:  # raised in the caller
        outcome = "error", error
    ready.put(outcome)


def _stop(thread: threading.Thread, leave: Any, stopped: threading.Event) -> None:
    stopped.set()
    leave.put(None)
    if thread.is_alive() and thread is not threading.current_thread():
        thread.join()
