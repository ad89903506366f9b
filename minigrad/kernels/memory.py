"""Large arrays that are made anew in every training step.

The C library gives an array of more than some megabytes back to the system when it is freed;
the next one of that size is zeroed page by page as it is first written (18 ms of a step of
the PTB model).  Where the library is glibc it is told to keep such memory for the next array.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's settings, from its malloc.h
_KEEP = 1 << 30  # bytes


def keep_freed_memory() -> None:
    """Tell glibc, unless the environment has settings of its own for it."""
    if not sys.platform.startswith("linux") or any(
        name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ
    ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_MMAP_THRESHOLD, _KEEP)
        mallopt(_TRIM_THRESHOLD, _KEEP)
