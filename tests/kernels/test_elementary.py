"""exp, tanh and sigmoid of the kernels against NumPy, over the whole range of float32."""

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


REFERENCE = {"exp": np.exp, "tanh": np.tanh, "sigmoid": _sigmoid}
BOUND = {"exp": 1.0e-7, "tanh": 2.0e-7, "sigmoid": 2.0e-7}  # relative
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
    steps = 2e-38 if name == "sigmoid" else 1.5e-45  # one subnormal step for exp and tanh
    assert np.abs(y[tiny] - exact[tiny]).max() < steps


@pytest.mark.parametrize("name", REFERENCE)
def test_dense_where_it_matters(name):
    x = np.linspace(-20, 20, 2_000_001).astype(np.float32)
    y = np.empty_like(x)
    _loop(getattr(elementary, name), FASTMATH)(x, y)
    exact = REFERENCE[name](x.astype(np.float64))
    assert (np.abs(y - exact) <= BOUND[name] * np.abs(exact)).all()


@pytest.mark.parametrize("name", REFERENCE)
def test_float64_is_exact_to_rounding(name):
    x = np.concatenate([np.linspace(-40, 40, 10_001), [np.inf, -np.inf, np.nan, -800.0, 800.0]])
    y = np.empty_like(x)
    _loop(getattr(elementary, name), False)(x, y)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, REFERENCE[name](x), rtol=5e-15, atol=1e-300)


@pytest.mark.parametrize("name", REFERENCE)
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
