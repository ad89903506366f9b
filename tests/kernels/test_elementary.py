"""exp, tanh and sigmoid of the kernels against NumPy, over the whole range of float32."""

import math

import numba
import numpy as np
import pytest

from minigrad.kernels import elementary
from minigrad.kernels.registry import FASTMATH


def _loop(function, fastmath):
    @numba.njit(fastmath=fastmath, error_model="numpy")
    def run(x, y):
        elementary.wide_vectors()
        for i in range(x.size):
            y[i] = function(x[i])

    return run


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


REFERENCE = {"exp": np.exp, "tanh": np.tanh, "sigmoid": _sigmoid, "softplus": _softplus}
BOUND = {"exp": 1.0e-7, "tanh": 2.0e-7, "sigmoid": 2.0e-7, "softplus": 3.0e-7}  # relative
NORMAL = np.finfo(np.float32).tiny


@pytest.fixture(scope="module")
def everything():
    """Every 257th bit pattern of float32: all exponents, both signs, infinities and NaN."""
    bits = np.arange(0, 2**32, 257, dtype=np.uint64).astype(np.uint32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 88.72283, 88.72284, -87.33655, -103.97],
                       np.float32)
    return np.concatenate([bits.view(np.float32), special])


@pytest.mark.parametrize("fastmath", [False, FASTMATH], ids=["plain", "in a fastmath kernel"])
@pytest.mark.parametrize("name", REFERENCE)
def test_error_bound_over_all_of_float32(name, fastmath, everything):
    y = np.empty_like(everything)
    _loop(getattr(elementary, name), fastmath)(everything, y)
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](everything.astype(np.float64))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(everything))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(rounded))
    normal = np.isfinite(rounded) & (np.abs(exact) >= NORMAL)
    relative = np.abs(y[normal] - exact[normal]) / np.abs(exact[normal])
    assert relative.max() < BOUND[name], everything[normal][relative.argmax()]
    tiny = np.abs(exact) < NORMAL
    flushed = name in ("sigmoid", "softplus")
    steps = 2e-38 if flushed else 1.5e-45  # one subnormal step for exp and tanh
    assert np.abs(y[tiny] - exact[tiny]).max() < steps


@pytest.mark.parametrize("name", REFERENCE)
def test_dense_where_it_matters(name):
    x = np.linspace(-20, 20, 2_000_001).astype(np.float32)
    y = np.empty_like(x)
    _loop(getattr(elementary, name), FASTMATH)(x, y)
    exact = REFERENCE[name](x.astype(np.float64))
    assert (np.abs(y - exact) <= BOUND[name] * np.abs(exact)).all()


def _normal(x):
    return np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in x.tolist()])


@pytest.mark.parametrize(
    ("name", "reference", "x"),
    [
        ("expm1", np.expm1, np.linspace(-110, 88, 300_001)),
        ("expm1", np.expm1, np.linspace(-1, 1, 300_001) ** 5),
        ("normal", _normal, np.linspace(-12.9, 20, 300_001)),
    ],
)
def test_error_bound_where_it_is_promised(name, reference, x):
    x = x.astype(np.float32)
    y = np.empty_like(x)
    _loop(getattr(elementary, name), FASTMATH)(x, y)
    exact = reference(x.astype(np.float64))
    bound = 2e-7 if name == "expm1" else 4e-7 + 6e-8 * x.astype(np.float64) ** 2
    assert (np.abs(y - exact) <= bound * np.abs(exact)).all()
    ends = np.array([np.nan, -np.inf, -1e30, 0, 1e-40], np.float32)
    y = np.empty_like(ends)
    _loop(getattr(elementary, name), FASTMATH)(ends, y)
    least, middle = (-1, 0) if name == "expm1" else (0, 0.5)
    np.testing.assert_allclose(y, [np.nan, least, least, middle, middle], atol=1e-39, rtol=1e-6)


@pytest.mark.parametrize("name", ["expm1", "normal"])
def test_these_in_float64(name):
    x = np.linspace(-30, 30, 10_001)
    y = np.empty_like(x)
    _loop(getattr(elementary, name), False)(x, y)
    reference = np.expm1 if name == "expm1" else _normal
    # far out the normal's tail is exp(-x**2 / 2), which turns rounding of x into x**2 times that
    bound = 5e-15 if name == "expm1" else 5e-15 + 4.4e-16 * x * x
    assert (np.abs(y - reference(x)) <= bound * np.abs(reference(x))).all()


@pytest.mark.parametrize("name", REFERENCE)
def test_float64_is_exact_to_rounding(name):
    x = np.concatenate([np.linspace(-40, 40, 10_001), [np.inf, -np.inf, np.nan, -800.0, 800.0]])
    y = np.empty_like(x)
    _loop(getattr(elementary, name), False)(x, y)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, REFERENCE[name](x), rtol=5e-15, atol=1e-300)


@pytest.mark.parametrize("name", [*REFERENCE, "expm1", "normal"])
def test_the_loop_becomes_vector_code(name):
    """A scalar loop would pass every other test and cost five times as much."""
    run = _loop(getattr(elementary, name), FASTMATH)
    run(np.zeros(1, np.float32), np.zeros(1, np.float32))
    (code,) = run.inspect_llvm().values()
    assert "fmul contract <" in code or "fmul nsz arcp contract" in code and "x float>" in code


def test_plain_python_versions_agree():
    assert elementary.exp(0.5) == pytest.approx(np.exp(0.5))
    assert elementary.tanh(0.5) == pytest.approx(np.tanh(0.5))
    assert elementary.sigmoid(0.5) == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert elementary.expm1(0.5) == pytest.approx(np.expm1(0.5))
    assert elementary.softplus(0.5) == pytest.approx(np.log1p(np.exp(0.5)))
    assert elementary.normal(0.5) == pytest.approx(0.6914624612740131)
