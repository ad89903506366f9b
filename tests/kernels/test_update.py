"""The kernels of the optimisers against their twins, and what NaN does to them."""

import inspect
import math

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import update
from minigrad.kernels.registry import MODES, compare

# kernel -> how many arrays it takes, and the numbers after them
CASES = {
    "sgd": (2, (0.1, 0.01)),
    "momentum": (3, (0.1, 0.9, False, 0.01)),
    "momentum (nesterov)": (3, (0.1, 0.9, True, 0.01)),
    "adagrad": (3, (0.1, 0.01)),
    "rmsprop": (4, (0.1, 0.9, 0.5, 1e-10, 0.01)),
    "rmsprop_centered": (5, (0.1, 0.9, 0.5, 30.0, 0.01)),
    "adam": (4, (0.1, 0.9, 0.999, 1e-8, 0.01)),
    "adadelta": (4, (0.1, 0.95, 1e-6, 0.01)),
    "ftrl": (4, (0.1, 0.3, 0.1)),
    "scale": (1, (0.3,)),
    "clamp": (1, (-0.5, 0.7)),
}
UPDATES = [name for name, (arrays, _) in CASES.items() if arrays > 1]
SIZES = [0, 1, 3, 7, 8, 63, 64, 65, 127, 128, 129, 1000, 4097]
DTYPES = [np.float32, np.float64]


def kernel(case):
    return kernels.load()[case.split()[0]]


def arguments(case, size, dtype, seed=0):
    """Parameter and gradient of both signs; state arrays above zero, as rules keep them."""
    count, numbers = CASES[case]
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(size) for _ in range(min(count, 2))]
    arrays += [rng.uniform(0.1, 4, size) for _ in range(count - 2)]
    whole = () if case == "clamp" else (0, size)
    return [x.astype(dtype) for x in arrays], (*numbers, *whole)


def test_every_kernel_of_the_module_is_here():
    here = update.__name__
    pairs = kernels.load().items()
    names = {name for name, pair in pairs if pair.compiled.py_func.__module__ == here}
    assert names == {case.split()[0] for case in CASES} | {"squared_norm"}
    assert names <= set(kernels.__all__)
    for name in names:
        pair = kernels.load()[name]
        assert pair.names == tuple(inspect.signature(pair.compiled.py_func).parameters)
        assert "(n,)" in pair.twin.__doc__


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_kernel_and_twin_agree(case, dtype):
    for size in SIZES:
        fast, numbers = arguments(case, size, dtype)
        slow = [x.copy() for x in fast]
        got = kernel(case).compiled(*fast, *numbers)
        expected = kernel(case).twin(*slow, *numbers)
        for x, y in zip(fast, slow):  # the same operations in the same order: the same bits
            assert x.dtype == y.dtype == dtype
            np.testing.assert_array_equal(x, y)
        if expected is not None:
            assert compare(np.asarray(got), np.asarray(expected)) is None


@pytest.mark.parametrize("case", [*UPDATES, "scale"])
def test_a_range_is_all_that_changes(case):
    arrays, (*numbers, _, _) = arguments(case, 100, np.float32)
    whole, before = [x.copy() for x in arrays], [x.copy() for x in arrays]
    kernel(case)(*whole, *numbers, 0, 100)
    with kernels.use("check"):
        kernel(case)(*arrays, *numbers, 7, 80)
    for x, all_of_it, old in zip(arrays, whole, before):
        np.testing.assert_array_equal(x[7:80], all_of_it[7:80])
        np.testing.assert_array_equal(x[:7], old[:7])
        np.testing.assert_array_equal(x[80:], old[80:])


@pytest.mark.parametrize("case", CASES)
def test_check_mode_accepts_and_only_outputs_change(case):
    arrays, numbers = arguments(case, 70, np.float32)
    before = [x.copy() for x in arrays]
    with kernels.use("check"):
        kernel(case)(*arrays, *numbers)
    for i, (x, y) in enumerate(zip(arrays, before)):
        assert np.array_equal(x, y) == (i not in kernel(case).outputs), kernel(case).names[i]


@pytest.mark.parametrize("case", UPDATES)
def test_float32_is_computed_in_float32(case):
    """Not in float64 and rounded at the end, which would cost twice the registers."""
    arrays, numbers = arguments(case, 4097, np.float32)
    wide = [x.astype(np.float64) for x in arrays]
    kernel(case)(*arrays, *numbers)
    kernel(case)(*wide, *numbers)
    rounded = wide[0].astype(np.float32)
    assert (arrays[0] != rounded).any()
    np.testing.assert_allclose(arrays[0], rounded, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", UPDATES)
def test_nan_in_a_gradient_reaches_its_parameter_and_no_other(case, dtype):
    for place in (0, 70, 128):
        arrays, numbers = arguments(case, 129, dtype)
        arrays[1][place] = np.nan
        kernel(case).compiled(*arrays, *numbers)
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(arrays[0])), [place])


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_in_norm_scale_and_clamp(dtype):
    for place in (0, 63, 64, 100):
        x = np.ones(101, dtype)
        x[place] = np.nan
        assert np.isnan(squares_of(x))
        x[place - 1] = np.inf
        assert np.isnan(squares_of(x))
        x[place] = -np.inf
        assert squares_of(x) == math.inf
        x[place] = np.nan
        assert kernels.clamp(x, -2.0, 2.0) == 1  # the infinity; NaN is not outside
        assert np.isnan(x[place]) and x[place - 1] == 2
        kernels.scale(x, 0.5, 0, x.size)
        assert np.isnan(x).sum() == 1 and x[place - 1] == 1
    kernels.scale(x, math.nan, 0, x.size)
    assert np.isnan(x).all()


def squares_of(x):
    """What squared_norm makes of x, one sum for each block."""
    squares = kernels.room_for_squares(x)
    kernels.squared_norm(x, squares, 0, squares.size)
    return squares


@pytest.mark.parametrize("dtype", DTYPES)
def test_squared_norm_is_summed_in_the_order_that_is_promised(dtype):
    """64 lanes, each summed from its first element to its last, then the lanes in order."""
    for size in [*SIZES, update.BLOCK, update.BLOCK + 1, 2 * update.BLOCK + 4097]:
        x = np.random.default_rng(size).standard_normal(size).astype(dtype)
        expected = []
        for first in range(0, size, update.BLOCK):
            part = x[first : first + update.BLOCK]
            padded = np.zeros(-(-part.size // 64) * 64)
            padded[: part.size] = part
            lanes = np.zeros(64)
            for row in (padded * padded).reshape(-1, 64):
                lanes += row
            expected.append(0.0)
            for lane in lanes:
                expected[-1] += lane
        assert squares_of(x).tolist() == expected
        with kernels.use("numpy"):
            assert compare(squares_of(x), np.array(expected)) is None


def test_squared_norm_of_some_blocks_leaves_the_others():
    x = np.random.default_rng(0).standard_normal(3 * update.BLOCK + 1).astype(np.float32)
    for mode in MODES:
        with kernels.use(mode):
            squares = np.full(4, -1.0)
            kernels.squared_norm(x, squares, 1, 3)
            assert (squares[[0, 3]] == -1).all() and (squares[1:3] > 0).all()
            kernels.squared_norm(x, squares, 3, 4)
            assert squares[3] == np.float64(x[-1]) ** 2


def test_squared_norm_has_the_same_bits_wherever_the_array_lies():
    buffer = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    x = buffer[:1500].copy()
    for start in range(16):
        buffer[start : start + 1500] = x
        assert squares_of(buffer[start : start + 1500]) == squares_of(x)


def test_squared_norm_of_float32_neither_overflows_nor_loses_digits():
    assert squares_of(np.full(1000, 1e30, np.float32))[0] == pytest.approx(1e63, rel=1e-6)
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    exact = math.fsum(float(v) ** 2 for v in x)
    assert squares_of(x).sum() == pytest.approx(exact, rel=1e-14)
    with kernels.use("numpy"):
        assert squares_of(np.full(4, 1e200)) == math.inf  # no warning either
