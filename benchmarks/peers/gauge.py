"""What the machine's cores can do in the rounds in which a case is timed.

On a machine that is shared the two cores of a guest may for seconds be the two halves of one: the
largest product then runs at half its rate, and so does every contender that keeps both cores
busy.  A rate says little without that of the same minute.
"""

from __future__ import annotations

from benchmarks.kernels import limits


class Gauge:
    """threads: of all contenders."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def turn(self) -> float:
        """Operations per second of the largest product, minigrad's alone: BLAS goes on spinning."""
        return limits.peak("float32", self.threads, blas=False, repeats=2)
