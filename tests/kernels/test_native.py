"""Lists of calls as machine code: the bits of NumPy and of the kernels, in the same order."""

import gc

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import native
from minigrad.recording import Diverged, expect, repeat

UFUNCS = [np.add, np.subtract, np.multiply, np.true_divide, np.square, np.negative, np.copyto]
SPECIAL = [0.0, -0.0, 1e-42, -1e-40, np.inf, -np.inf, np.nan, 1 / 3, -7.5, 3e38, 1e-20]


def numbers(size, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size).astype(dtype)
    x[::2] = rng.choice(np.array(SPECIAL, dtype), x[::2].size)
    return x


def same_bits(a, b):
    assert a.dtype == b.dtype
    word = {4: np.uint32, 8: np.uint64}[a.itemsize]
    nan = np.isnan(a) & np.isnan(b)  # which of two NaNs goes on is nobody's business
    np.testing.assert_array_equal(np.where(nan, 0, a.view(word)), np.where(nan, 0, b.view(word)))


def pieces(calls):
    return [isinstance(function, native._Piece) for function, _ in calls]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_arithmetic_has_numpys_bits(ufunc, dtype):
    for size in (0, 1, 15, 16, 33):
        x, y = numbers(size, dtype, 1), numbers(size, dtype, 2)
        for other in (y, np.array(0.3, dtype), np.array([[-3]], dtype), 7, 0.1, 0):
            out, expected = np.full(size, 5, dtype), np.full(size, 5, dtype)
            if ufunc is np.copyto:
                call = (ufunc, (out, other))
            elif ufunc.nin == 1:
                call = (ufunc, (x, out))
            else:
                call = (ufunc, (x, other, out))
            calls = native.joined([call])
            assert pieces(calls) == [True]
            for _ in range(2):
                repeat(calls)
            with np.errstate(all="ignore"):
                if ufunc is np.copyto:
                    np.copyto(expected, np.asarray(other).ravel() if size != 1 else other)
                else:
                    plain = other.ravel() if isinstance(other, np.ndarray) else other
                    ufunc(*((x,) if ufunc.nin == 1 else (x, plain)), expected)
            same_bits(out, expected)


def test_a_number_before_an_array():
    x, out = numbers(20, np.float32, 3), np.empty(20, np.float32)
    repeat(native.joined([(np.true_divide, (2.0, x, out))]))
    with np.errstate(all="ignore"):
        same_bits(out, 2.0 / x)


def test_what_it_does_not_know_stays_as_it_is():
    floats, ints = np.ones((4, 3), np.float32), np.ones(4, np.int64)
    row, out = np.ones(3, np.float32), np.empty((4, 3), np.float32)
    calls = [
        (np.add, (ints, ints, ints.copy())), (np.add, (floats, row, out)),
        (np.copyto, (np.empty((3, 4), np.float32), floats.T)),
        (np.copyto, (out.T, floats.T.copy())), (np.add, (floats, np.float64(2), out)),
        (np.copyto, (out, floats.astype(np.float64))), (np.exp, (floats, out)),
        (np.add.reduce, (floats, None, None, np.empty((), np.float32))),
        (out.__setitem__, (..., 3)), (expect, ((1, 2), divmod, (5, 3))),
    ]  # fmt: skip
    assert native.joined(calls) == calls


def test_order_and_kinds_of_calls_mixed():
    x, y, z = (np.full(40, value, np.float32) for value in (2, 0, 0))
    total, square = np.empty(1, np.float32), np.zeros(1)
    kernels.sum_all(x, total)
    calls = [
        (np.square, (x, y)), (np.sqrt, (y, z)), (np.add, (y, z, y)),
        (kernels.sum_all.compiled, (y, total)),
        (kernels.squared_norm.compiled, (z, square, 0, 1)), (np.add, (y, 1, x)),
    ]  # fmt: skip
    joined = native.joined(calls)
    assert pieces(joined) == [True, False, True]
    repeat(joined)
    assert (y == 6).all() and total[0] == 240 and square[0] == 160 and (x == 7).all()


def test_another_result_stops_it():
    ids, x = np.array([1, 2, 3]), np.zeros(3, np.float32)
    within = kernels.ids_within.compiled
    calls = native.joined([(expect, (True, within, (ids, 4))), (np.add, (x, 1, x))])
    assert pieces(calls) == [True]
    repeat(calls)
    ids[1] = 4
    with pytest.raises(Diverged):
        repeat(calls)
    assert (x == 1).all()
    ids[1] = 0
    repeat(calls)
    assert (x == 2).all()


def test_numbers_and_places_that_change():
    x, rate = np.ones(5, np.float32), native.Number(2.0)
    buffer = np.arange(5, dtype=np.float32)
    places = native.Places([buffer])
    out = np.empty(3, np.float32)
    calls = native.joined(
        [(kernels.scale.compiled, (x, rate, 0, 5)), (np.negative, (buffer[2:], out))], places
    )
    repeat(calls)
    assert (x == 2).all() and out.tolist() == [-2, -3, -4]
    other = np.full(5, 9, np.float32)
    rate.value[0], places.addresses[0] = 0.5, other.ctypes.data
    repeat(calls)
    assert (x == 1).all() and out.tolist() == [-9, -9, -9]


def test_memory_is_kept():
    def make():
        x = np.full(1 << 16, 3, np.float32)
        y = np.empty_like(x)
        return native.joined([(np.square, (x, y)), (np.add, (y, 1, y))]), y.ctypes.data

    import ctypes

    calls, address = make()
    gc.collect()
    others = [np.zeros(1 << 16, np.float32) for _ in range(8)]
    repeat(calls)
    seen = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (1 << 16,))
    assert (seen == 10).all() and not np.any(others)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_have_the_bits_that_python_gets(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((33, 40)).astype(dtype), rng.standard_normal((40, 7)).astype(dtype)
    bias, c = rng.standard_normal(7).astype(dtype), np.empty((33, 7), dtype)
    a.flags.writeable = False
    args = a, False, b, False, bias, c, 0, 33
    kernels.narrow_matmul(*args)
    expected = c.copy()
    c[:] = 0
    calls = native.joined([(kernels.narrow_matmul.compiled, args)])
    assert pieces(calls) == [True]
    repeat(calls)
    same_bits(c, expected)
