"""Ops that move numbers: values against NumPy, views, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import ArgumentError, DTypeError, ShapeError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
T = mg.Tensor(X)
WIDTHS = ((0, 1), (2, 0), (0, 0))


@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (T.reshape(4, -1), X.reshape(4, -1)),
        (T.reshape((6, 4)), X.reshape(6, 4)),
        (T.flatten(), X.reshape(-1)),
        (T.flatten(1), X.reshape(2, 12)),
        (T.T, X.T),
        (T.transpose(), X.T),
        (T.transpose(2, 0, 1), X.transpose(2, 0, 1)),
        (T.transpose((2, 0, 1)), X.transpose(2, 0, 1)),
        (T.transpose(0, 1), X.swapaxes(0, 1)),
        (T[0].transpose(1, 0), X[0].T),
        (T.permute(-1, 0, 1), X.transpose(2, 0, 1)),
        (T.swapaxes(0, -1), X.swapaxes(0, -1)),
        (T.unsqueeze(1), X[:, None]),
        (T.unsqueeze(-1), X[..., None]),
        (T[:1].squeeze(), X[0]),
        (T[:1].squeeze(0), X[0]),
        (T[0].broadcast_to(5, 3, 4), np.broadcast_to(X[0], (5, 3, 4))),
        (T.flip(), X[::-1, ::-1, ::-1]),
        (T.flip(1), X[:, ::-1]),
        (T.flip((0, 2)), X[::-1, :, ::-1]),
        (mg.concat([T, T], axis=-1), np.concatenate([X, X], axis=-1)),
        (mg.stack([T, T], axis=-1), np.stack([X, X], axis=-1)),
        (mg.stack([T, T]), np.stack([X, X])),
        (T.pad(1), np.pad(X, 1)),
        (T.pad(WIDTHS, value=-1.0), np.pad(X, WIDTHS, constant_values=-1)),
        (T.split(2, axis=2)[1], X[:, :, 2:]),
        (T.split((1, 2), axis=1)[1], X[:, 1:]),
        (T.unstack(1)[2], X[:, 2]),
        (list(T)[1], X[1]),
        (T.astype(np.float64), X.astype(np.float64)),
    ],
)  # fmt: skip
def test_values_are_numpys(ours, numpys):
    assert ours.dtype == numpys.dtype
    np.testing.assert_array_equal(ours.array, numpys)


def test_number_of_parts():
    assert [len(T.split(n, axis=2)) for n in (1, 2, 4)] == [1, 2, 4]
    assert len(T.unstack(1)) == 3 and T[:0].unstack() == ()
    first, second = T
    assert first.shape == second.shape == (3, 4)


def test_empty_tensors_keep_their_shapes():
    empty = mg.Tensor(np.zeros((0, 3, 2)))
    assert empty.flatten(1).shape == (0, 6) and empty.flatten().shape == (0,)
    assert empty.reshape(3, 0).shape == (3, 0)


def test_astype_to_integers_has_no_gradient():
    x = mg.tensor([1.5], True)
    assert not x.astype(np.int64).requires_grad
    assert x.double().float().requires_grad


def test_astype_gradient_has_the_inputs_dtype():
    x = mg.tensor([1.5, 2.5], True)
    (x.double() * 3).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: T.reshape(5, 5), r"^reshape: cannot reshape array of size 24 .*\(2, 3, 4\)"),
        (lambda: T.permute(0, 1), "^transpose: axes don't match"),
        (lambda: T.permute(0, 1, 5), "^transpose: "),
        (lambda: T.swapaxes(0, 3), "^swapaxes: .*axis 3 is out of bounds"),
        (lambda: T.unsqueeze(7), "^expand_dims: axis 7"),
        (lambda: T.squeeze(0), "^squeeze: cannot select an axis"),
        (lambda: T.broadcast_to(3, 4, 4), "^broadcast_to: "),
        (lambda: T.flip(3), "^flip: axis"),
        (lambda: mg.concat([T, T[0]]), r"^concat: .*\(2, 3, 4\), \(3, 4\)"),
        (lambda: mg.concat([T, T[:, :2]], axis=0), "^concat: .*must match exactly"),
        (lambda: mg.stack([T, T[:1]]), "^stack: all input arrays must have the same shape"),
        (lambda: T.split(3), r"^split: axis 0 of \(2, 3, 4\) has 2 entries.*3 equal parts"),
        (lambda: T.split((1, 2), axis=2), r"^split: .*\(1, 2\) do not add up to the 4"),
        (lambda: T.split((5, -1), axis=2), r"^split: .*\(5, -1\)"),
        (lambda: T.split(0), "^split: "),
        (lambda: T.unstack(3), "^unstack: axis 3 is out of bounds"),
        (lambda: T.split(1, axis=3), "^split: axis 3 is out of bounds"),
        (lambda: mg.tensor(1.0).unstack(), "^unstack: a 0-d tensor"),
        (lambda: T.pad(-1), "^pad: "),
        (lambda: T.pad((1, 2, 3)), "^pad: "),
    ],
)
def test_bad_shapes(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


@pytest.mark.parametrize("function", [mg.concat, mg.stack])
def test_joining_nothing(function):
    with pytest.raises(ArgumentError, match=f"^{function.__name__}: needs at least one"):
        function([])


def test_bad_dtype():
    with pytest.raises(DTypeError, match="^astype: the result would be complex64"):
        T.astype(np.complex64)
    with pytest.raises(DTypeError, match="^reshape: "):
        T.reshape("wide")


def test_joining_two_dtypes_gives_each_its_own_gradient():
    a, b = mg.tensor([1.0], True), mg.Tensor(np.array([2.0]), True)
    for op in (ops.concat, ops.stack):
        y = mg.apply(op, a, b)
        y.sum().backward()
        assert y.dtype == np.float64
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
