"""Elementwise ops: values against NumPy, special points, dtypes, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import DTypeError, ShapeError

X = np.array([[-2.5, -0.5, 0.0], [0.25, 1.0, 3.0]])
UNARY = "negative absolute square exp expm1 sin cos tanh".split()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY)
def test_unary_values_are_numpys(name, dtype):
    x = X.astype(dtype)
    y = getattr(mg, name)(mg.Tensor(x))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.array, getattr(np, name)(x))


@pytest.mark.parametrize("name", "add subtract multiply divide maximum minimum".split())
def test_binary_values_are_numpys(name):
    y = np.array([1.5, -2.0, 4.0])
    expected = getattr(np, name)(X, y)
    np.testing.assert_array_equal(getattr(mg, name)(mg.Tensor(X), y).array, expected)


def test_identity_is_a_new_node():
    x = mg.Tensor(X, requires_grad=True)
    y = mg.apply(ops.identity, x)
    assert y.node is not None and y is not x
    np.testing.assert_array_equal(y.array, X)


def test_positive_domain():
    x = np.array([0.25, 1.0, 9.0])
    for name in ("sqrt", "log", "log1p"):
        np.testing.assert_array_equal(getattr(mg, name)(mg.Tensor(x)).array, getattr(np, name)(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_in_its_tails(dtype):
    x = np.array([-1000, -100, -20, 0, 20, 100, 1000], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = mg.sigmoid(mg.Tensor(x)).array
    exact = np.exp(np.minimum(x, 0).astype(np.longdouble)) / (1 + np.exp(-np.abs(x)))
    np.testing.assert_allclose(y, exact.astype(dtype), rtol=4 * np.finfo(dtype).eps)
    assert y.dtype == dtype and y[0] == 0 and y[-1] == 1
    assert np.isnan(mg.sigmoid(mg.Tensor(np.array([np.nan], dtype))).array)


def test_sigmoid_of_unsigned_integers_does_not_wrap():
    y = mg.sigmoid(mg.Tensor(np.array([0, 1, 200], np.uint8)))
    np.testing.assert_allclose(y.array, [0.5, 0.7310586, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (mg.relu, [-1.0, 0.0, 2.0], [0, 0, 1]),
        (mg.absolute, [-1.0, 0.0, 2.0], [-1, 0, 1]),
        (lambda x: mg.maximum(x, 0.0), [-1.0, 0.0, 2.0], [0, 1, 1]),  # a tie goes to x
        (lambda x: mg.minimum(x, 0.0), [-1.0, 0.0, 2.0], [1, 1, 0]),
        (lambda x: mg.maximum(0.0, x), [-1.0, 0.0, 2.0], [0, 0, 1]),
        (lambda x: mg.clip(x, 0.0, 2.0), [-1.0, 0.0, 2.0], [0, 1, 1]),
        (lambda x: x**2, [-1.0, 0.0, 2.0], [-2, 0, 4]),
        (lambda x: x**0, [-1.0, 0.0, 2.0], [0, 0, 0]),
        (lambda x: x ** np.array([0.0, 1.0, 1.0]), [0.0, 0.0, 2.0], [0, 1, 1]),
        (lambda x: x**x, [0.0, 1.0, 2.0], [0, 1, 4 * (1 + np.log(2))]),
        (lambda x: 0.0**x, [1.0, 2.0], [0, 0]),
        (lambda x: (-2.0) ** x, [1.0, 2.0], [0, 0]),
    ],
)
def test_gradient_at_special_points(function, x, expected):
    x = mg.Tensor(np.array(x), requires_grad=True)
    with np.errstate(all="raise"):
        function(x).sum().backward()
    np.testing.assert_allclose(x.grad.array, expected)


def test_clip_sends_the_gradient_of_clipped_entries_to_the_bound():
    x, low = mg.tensor([-1.0, 0.5, 9.0], True), mg.tensor(0.0, True)
    mg.clip(x, low, 2.0).sum().backward()
    assert x.grad.tolist() == [0, 1, 0] and low.grad.item() == 1


def test_where_with_a_float_condition_gives_it_a_zero_gradient():
    c, x = mg.tensor([0.0, 2.0], True), mg.tensor([3.0, 4.0], True)
    mg.where(c, x, 5.0).sum().backward()
    assert c.grad.tolist() == [0, 0] and x.grad.tolist() == [0, 1]


@pytest.mark.parametrize("nan", [np.nan, np.float32(np.nan)])
def test_nan_stays_nan(nan):
    x = mg.Tensor(np.array([nan, 1.0], np.float32))
    for function in (mg.tanh, mg.relu, mg.exp, mg.sigmoid, mg.absolute):
        assert np.isnan(function(x).array[0]), function.__name__
    assert np.isnan(mg.maximum(x, 0.0).array[0])


@pytest.mark.parametrize("op", "add subtract multiply divide power maximum minimum".split())
def test_shapes_that_do_not_broadcast(op):
    with pytest.raises(ShapeError, match=rf"^{op}: .*\(2, 3\).*\(4,\)"):
        getattr(mg, op)(mg.Tensor(X), np.ones(4))


@pytest.mark.parametrize("other", ["a", None, {}, [1, "b"], 1j, np.array([1j, 0, 0])])
def test_things_that_are_no_numbers(other):
    with pytest.raises(DTypeError, match="^(add|multiply): "):
        mg.Tensor(X) + other
    with pytest.raises(DTypeError):
        other * mg.Tensor(X)
