"""Freed memory is kept for the next large array, unless the environment decides."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, numpy as np, minigrad
def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
before = megabytes()
x = np.ones(100_000_000, np.uint8)
del x
print(megabytes() - before)
"""


@pytest.mark.parametrize(("settings", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "8"}, False)])
def test_memory_of_a_large_array_is_kept(settings, kept):
    if not (sys.platform.startswith("linux") and os.confstr("CS_GNU_LIBC_VERSION")):
        return  # another C library, of which nothing is promised
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=plain | settings, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (float(done.stdout) > 80) == kept
