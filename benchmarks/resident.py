"""Resident memory of this process, as Linux tells it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def megabytes(field: str) -> float:
    """VmRSS, what is resident now, or VmHWM, the most there was; raises OSError elsewhere."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"resident: /proc/self/status does not tell {field}")


def rise(prepare: Callable[[], Callable[[], object]]) -> dict[str, float]:
    """Megabytes before some work is prepared, and at its peak.

    prepare: makes what the work needs, and returns the work; what the preparation itself takes for
    a while (a compiler) does not count.
    """
    _return_freed()
    before = megabytes("VmRSS")
    work = prepare()
    _return_freed()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    work()
    # meanwhile the system may have taken back pages, of files say: there was no less than before
    return {"before": before, "peak": max(before, megabytes("VmHWM"))}


def _return_freed() -> None:
    """Give back to the system what Python and the C library keep of freed memory."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
