"""check_twin: a kernel that differs from its twin has to be caught and named."""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.errors import ArgumentError, KernelMismatchError
from minigrad.testing import check_twin


def test_check_twin_accepts_a_right_kernel():
    ids, out = np.array([2, 0]), np.empty((2, 3))
    check_twin("gather_rows", np.arange(9.0).reshape(3, 3), ids, out)
    assert out.tolist() == [[6, 7, 8], [0, 1, 2]]


def test_check_twin_names_the_first_difference(monkeypatch):
    pair = kernels.load()["gather_rows"]

    def off_by_one(table, ids, out):
        out[:] = table[ids]
        out[1, 2] += 1

    monkeypatch.setattr(pair, "compiled", off_by_one)
    with pytest.raises(KernelMismatchError, match=r"gather_rows: argument 'out' .*index \(1, 2\)"):
        check_twin(pair, np.arange(9.0).reshape(3, 3), np.array([2, 0]), np.empty((2, 3)))


def test_check_twin_notices_a_kernel_that_writes_elsewhere(monkeypatch):
    pair = kernels.load()["gather_rows"]

    def careless(table, ids, out):
        out[:] = table[ids]
        ids[0] = 1

    monkeypatch.setattr(pair, "compiled", careless)
    with pytest.raises(KernelMismatchError, match="gather_rows: .*wrote into argument 'ids'"):
        check_twin(pair, np.arange(9.0).reshape(3, 3), np.array([2, 0]), np.empty((2, 3)))


def test_check_twin_of_an_unknown_name():
    with pytest.raises(ArgumentError, match="no kernel 'gather'; there are .*gather_rows"):
        check_twin("gather")


def test_long_sums_may_round_by_their_terms_and_no_more():
    x, y = np.full(3000, 1e4, np.float32), np.zeros(1, np.float32)
    x[::2] *= -1  # terms of 1e4 whose sum is nearly nothing

    def total_twin(x, y):
        y[0] = x.sum()

    def rounds(x, y):
        y[0] = x.sum() + 1

    def wrong(x, y):
        y[0] = x.sum() + 1000

    for function, magnitude, fits in [
        (rounds, None, False),
        (rounds, lambda x, y: np.abs(x).sum(), True),
        (wrong, lambda x, y: np.abs(x).sum(), False),
    ]:
        pair = kernels.Kernel(function, total_twin, ("y",), magnitude=magnitude)
        pair._choose("check")
        if fits:
            pair(x, y)
        else:
            with pytest.raises(KernelMismatchError):
                pair(x, y)
