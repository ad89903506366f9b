"""NumPy's functions and operators on tensors: recorded, passed on, or refused by name."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, ShapeError

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
A = np.linspace(0.1, 2.4, 24).reshape(2, 3, 4)
M = A[0]


def leaf(array=A, dtype=F32):
    return mg.Tensor(np.array(array, dtype), requires_grad=True)


# -- what is recorded -----------------------------------------------------------------------

CALLS = [
    np.tanh, np.exp, np.log, np.sqrt, np.square, np.sin, np.cos, np.expm1, np.log1p, np.abs,
    np.negative, lambda x: np.add(x, 1), lambda x: np.subtract(1, x), lambda x: np.power(x, 2),
    lambda x: np.maximum(x, 1.05), lambda x: np.minimum(1.05, x), lambda x: np.true_divide(1, x),
    lambda x: np.matmul(x, M.T.astype(x.dtype)), lambda x: np.dot(x[0], M.T.astype(x.dtype)),
    lambda x: np.dot(2.0, x), lambda x: np.einsum("abc->ca", x), np.ravel, np.copy, np.transpose,
    lambda x: np.sum(x), lambda x: np.sum(x, 1), lambda x: np.sum(x, axis=(0, 2), keepdims=True),
    lambda x: np.mean(x, axis=-1), lambda x: np.var(x, axis=0, ddof=1), np.amax,
    lambda x: np.min(x, 2),
    lambda x: np.reshape(x, (4, -1)), lambda x: np.transpose(x, (1, 0, 2)),
    lambda x: np.swapaxes(x, 0, 2), lambda x: np.expand_dims(x, 1), lambda x: np.squeeze(x[:1]),
    lambda x: np.squeeze(x[:1], 0), lambda x: np.broadcast_to(x, (5, 2, 3, 4)),
    lambda x: np.concatenate([x, x * 2], axis=1), lambda x: np.concatenate((x, x)),
    lambda x: np.stack([x, x], axis=-1), lambda x: np.flip(x, 1), np.flip,
    lambda x: np.pad(x, 1), lambda x: np.pad(x, ((1, 0), (0, 0), (2, 1)), constant_values=3.0),
    lambda x: np.pad(x, 1, "constant"), lambda x: np.where(A > 1, x, 0),
    lambda x: np.clip(x, 0.55, 1.55),
    lambda x: np.clip(x, a_min=0.55, a_max=None), lambda x: np.clip(x, None, 1.05),
    lambda x: np.split(x, 2)[1], lambda x: np.split(x, [1, 3], axis=2)[1],
    lambda x: np.split(x, [2, 9], axis=1)[0], lambda x: x + x, lambda x: 2 - x, lambda x: x @ M.T,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_value_is_numpys_and_the_gradient_flows(call):
    x = leaf(A, F64)
    y, expected = call(x), call(A)
    assert isinstance(y, mg.Tensor) and y.node is not None
    assert y.shape == np.shape(expected) and y.dtype == F64
    np.testing.assert_allclose(y.array, expected, rtol=1e-12)
    direction = np.sin(np.arange(24.0)).reshape(A.shape)
    y.sum().backward()
    change = np.sum(call(A + 1e-6 * direction)) - np.sum(call(A - 1e-6 * direction))
    assert (x.grad.array * direction).sum() == pytest.approx(change / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("call", CALLS)
def test_float32_stays_float32(call):
    x = leaf(A, F32)
    y = call(x)
    if y.dtype == F64:  # only where the call itself brings a float64 array
        assert call is CALLS[-1]
    y.sum().backward()
    assert x.grad.dtype == F32


def test_scalars_and_arrays_on_the_left():
    x = leaf(M)
    for y in (np.float64(2) * x, np.float32(2) * x, np.int64(2) * x, 2 * x):
        assert isinstance(y, mg.Tensor) and y.dtype == F32 and y.requires_grad
        np.testing.assert_array_equal(y.array, 2 * x.array)
    left = M.astype(F32).T
    for y, expected in (
        (left @ x, left @ x.array), (left.T * x, left.T * x.array), (left.T - x, left.T - x.array),
        (left.T / x, left.T / x.array), (left.T**x, left.T**x.array),
    ):  # fmt: skip
        assert isinstance(y, mg.Tensor) and y.dtype == F32 and y.requires_grad
        np.testing.assert_allclose(y.array, expected, rtol=1e-6)
    assert isinstance(left.T > x, mg.Tensor) and isinstance(np.float64(1) > x, mg.Tensor)


def test_where_with_one_argument_finds_places():
    assert [i.tolist() for i in np.where(mg.tensor([0.0, 3.0, 4.0]) > 1)] == [[1, 2]]


def test_shape_questions_need_no_gradient():
    x = leaf()
    assert np.shape(x) == (2, 3, 4) and np.ndim(x) == 3 and np.size(x) == 24
    assert np.zeros_like(x).tolist() == np.zeros(A.shape).tolist()
    assert isinstance(np.ones_like(x), mg.Tensor) and np.ones_like(x).dtype == F32


def test_rounding_is_flat():
    x = leaf()
    for function in (np.floor, np.ceil, np.sign, np.rint, np.trunc, np.round):
        y = function(x)
        assert isinstance(y, mg.Tensor) and not y.requires_grad
        np.testing.assert_array_equal(y.array, function(x.array))


def test_answers_that_are_no_floats_pass():
    x = leaf()
    assert np.isfinite(x).all() and np.array_equal(x, x) and np.allclose(x, x)
    assert np.argsort(x, axis=None)[0] == 0 and np.argmax(x) == 23
    assert (np.greater(x, 1) == (x.array > 1)).all()


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (np.linalg.norm, "norm"), (np.sort, "sort"), (np.arctan, "arctan"), (np.prod, "prod"),
        (np.cumsum, "cumsum"), (np.add.reduce, "add"), (lambda x: np.outer(x, x), "outer"),
        (lambda x: np.logaddexp(x, x), "logaddexp"), (lambda x: np.add(x, 1, dtype=F64), "add"),
        (np.median, "median"),
    ],
)  # fmt: skip
def test_a_lost_gradient_is_refused_by_name(call, name):
    x = leaf()
    with pytest.raises(DTypeError, match=rf"^np\.{name} is not differentiable here.*detach"):
        call(x)
    with mg.no_grad():
        call(x)
    result = call(x.detach())
    expected = call(x.array)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6, atol=1e-6)


def test_writing_into_an_array_loses_the_gradient_and_happens_not_at_all():
    x, out = leaf(), np.zeros(A.shape, F32)
    with pytest.raises(DTypeError, match=r"np\.subtract is not differentiable here"):
        out -= x
    with pytest.raises(DTypeError, match=r"np\.add is not differentiable"):
        np.add(x, 1, out=out)
    assert not out.any()
    out -= x.detach()
    np.testing.assert_array_equal(out, -x.array)
    assert type(out) is np.ndarray
    with mg.no_grad():
        out += x
    assert not out.any()


def test_writing_into_a_tensor_is_refused():
    x = mg.Tensor(np.ones(3))
    for out in (x, (x,)):
        with pytest.raises(DTypeError, match=r"np\.add: out= cannot be a tensor"):
            np.add(np.ones(3), 1, out=out)
    with pytest.raises(DTypeError, match="out= cannot be a tensor"):
        np.exp(x, x)
    assert x.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: np.sum(x, dtype=F64), DTypeError, r"np\.sum on a tensor does not take dtype"),
        (lambda x: np.max(x, initial=0), DTypeError, r"np\.max .*initial"),
        (lambda x: np.mean(x, where=A > 1), DTypeError, "where"),
        (lambda x: np.pad(x, 1, "reflect"), ArgumentError, "must be 'constant', got 'reflect'"),
        (lambda x: np.dot(x, x), ShapeError, "np.dot .*use matmul or einsum"),
        (lambda x: np.split(x, 5), ShapeError, "split: "),
        (lambda x: np.concatenate([]), ValueError, "at least one"),
    ],
)
def test_arguments_without_a_meaning(call, error, message):
    with pytest.raises(error, match=message):
        call(leaf())
