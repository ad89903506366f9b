"""Reductions and the softmax family: values against NumPy, overflow, ties, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DTypeError, ShapeError

X = np.random.default_rng(0).standard_normal((2, 3, 4))
NAMES = ["sum", "mean", "var", "max", "min"]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (), np.int64(1)])
@pytest.mark.parametrize("name", NAMES)
def test_values_are_numpys(name, axis, keepdims):
    expected = getattr(np, name)(X, axis=axis, keepdims=keepdims)
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 1e-5)):
        y = getattr(mg, name)(mg.Tensor(X.astype(dtype)), axis=axis, keepdims=keepdims)
        assert y.dtype == dtype and y.shape == expected.shape
        np.testing.assert_allclose(y.array, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_names_of_the_arguments(name):
    y = getattr(mg, name)(mg.Tensor(X), dim=1, keepdim=True)
    assert y.shape == (2, 1, 4)
    assert getattr(mg.Tensor(X), name)(dim=-1).shape == (2, 3)


def test_ddof():
    np.testing.assert_allclose(mg.var(mg.Tensor(X), axis=1, ddof=1).array, X.var(1, ddof=1))


def test_variance_of_one_entry_with_ddof_is_nan_in_value_and_gradient():
    x = mg.tensor([3.0], True)
    with np.errstate(invalid="ignore"):
        y = x.var(ddof=1)
        y.backward()
    assert np.isnan(y.item()) and np.isnan(x.grad.item())


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_gradient_evenly(name):
    x = mg.tensor([[1.0, 1.0, 1.0], [-5.0, 5.0, 5.0]], True)
    getattr(x, name)(axis=1).sum().backward()
    second = [0, 0.5, 0.5] if name == "max" else [1, 0, 0]
    np.testing.assert_allclose(x.grad.array, [[1 / 3] * 3, second])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_values(axis, dtype):
    e = np.exp(X)
    p = e / e.sum(axis, keepdims=True)
    x = mg.Tensor(X.astype(dtype))
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(x.softmax(axis).array, p, rtol=rtol)
    np.testing.assert_allclose(x.log_softmax(axis).array, np.log(p), rtol=rtol)
    np.testing.assert_allclose(x.logsumexp(axis).array, np.log(e.sum(axis)), rtol=rtol, atol=1e-6)
    assert x.softmax(axis).dtype == x.log_softmax(axis).dtype == x.logsumexp(axis).dtype == dtype


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_softmax_family_does_not_overflow(shift):
    x = mg.Tensor(X + shift, requires_grad=True)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for function in (mg.softmax, mg.log_softmax, mg.logsumexp):
            y = function(x)
            (y * y).sum().backward()
    np.testing.assert_allclose(mg.softmax(x).array, mg.softmax(mg.Tensor(X)).array, rtol=1e-8)
    assert np.isfinite(x.grad.array).all()


def test_log_softmax_where_a_probability_underflows():
    x = mg.tensor([0.0, -200.0], True)
    y = x.log_softmax()
    y[1].backward()
    assert y.tolist() == [0, -200] and x.grad.tolist() == [-1, 1]


def test_minus_infinity_is_probability_zero():
    x = mg.Tensor(np.array([1.0, -np.inf, 2.0]))
    assert x.softmax().array[1] == 0
    np.testing.assert_allclose(x.logsumexp().item(), np.log(np.exp(1) + np.exp(2)))
    with np.errstate(divide="ignore"):
        assert mg.Tensor(np.full(3, -np.inf)).logsumexp().item() == -np.inf


def test_mean_of_integers_is_float32():
    assert mg.tensor([1, 2, 4]).mean().dtype == np.float32
    assert mg.tensor([1, 2, 4]).sum().dtype == np.int64


@pytest.mark.parametrize("name", [*NAMES, "logsumexp", "softmax", "log_softmax"])
def test_axis_that_is_not_there(name):
    with pytest.raises(ShapeError, match=rf"^{name}: axis 3 is out of bounds.*\(2, 3, 4\)"):
        getattr(mg, name)(mg.Tensor(X), axis=3)


@pytest.mark.parametrize("name", NAMES)
def test_axis_that_is_none(name):
    with pytest.raises(DTypeError, match=f"^{name}: "):
        getattr(mg, name)(mg.Tensor(X), axis="rows")


@pytest.mark.parametrize("name", ["max", "min"])
def test_nothing_has_no_largest_entry(name):
    with pytest.raises(ShapeError, match=f"^{name}: zero-size"):
        getattr(mg, name)(mg.Tensor(np.zeros((0, 3))), axis=0)
