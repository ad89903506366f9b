"""getitem, scatter and embedding: values against NumPy, repeated entries, bad indices."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import DTypeError, IndexRangeError, ShapeError

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
INDICES = [
    0, -1, (1, 2, 3), slice(None, None, -2), (Ellipsis, slice(4, None, -1)), None,
    (0, None, Ellipsis), [0, 2, 0], np.array([[0], [2]]), X > 30, (X[:, 0, 0] > 10, 1),
    (np.array([0, 1]), slice(None), np.array([3, 3])), [True, False, True],
    (slice(None), np.array([1, 0]), np.array([2, 2])), (1, [0, 0], slice(1, 3)), (slice(0, 0),),
    np.array([], int), np.int64(2), (np.array(1), Ellipsis),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_values_and_gradient_are_numpys(index):
    x = mg.Tensor(X, requires_grad=True)
    y = x[index]
    np.testing.assert_array_equal(y.array, X[index])
    assert y.dtype == np.float32
    weights = np.arange(1, y.size + 1, dtype=np.float32).reshape(y.shape)
    y.backward(weights)
    expected = np.zeros_like(X)
    np.add.at(expected, index, weights)
    np.testing.assert_array_equal(x.grad.array, expected)
    assert x.grad.dtype == np.float32


def test_an_index_may_be_a_tensor():
    x = mg.Tensor(X)
    ids, mask = mg.tensor([0, 2]), mg.Tensor(X[:, 0, 0] > 10)
    np.testing.assert_array_equal(x[ids].array, X[[0, 2]])
    np.testing.assert_array_equal(x[mask].array, X[X[:, 0, 0] > 10])
    np.testing.assert_array_equal(x[:, ids, None].array, X[:, [0, 2], None])
    np.testing.assert_array_equal(x[x > 30].array, X[X > 30])
    assert x[mg.tensor(1), 0, 0].item() == X[1, 0, 0]


def test_repeated_entries_add_up():
    x = mg.tensor([1.0, 2.0, 3.0], True)
    (x[[0, 0, 2, 0]] * mg.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert x.grad.tolist() == [1011, 0, 100]


def test_reordered_takes_rows_of_all_arrays_alike():
    x, y = X[0], X  # (4, 5) and (3, 4, 5)
    order = np.array([3, 1, 0, 2])
    inverse = np.argsort(order)
    first, second = mg.apply(ops.reordered, x, y, order=order, back=inverse)
    np.testing.assert_array_equal(first.array, x[order])
    np.testing.assert_array_equal(second.array, y[:, order])
    back = mg.apply(ops.reordered, first, second, order=inverse, back=order)
    for again, before in zip(back, (x, y)):
        np.testing.assert_array_equal(again.array, before)


@pytest.mark.parametrize("captured", [False, True])
def test_reordered_gives_no_gradient_to_what_nobody_used(captured):
    factor, order = np.array([[1.0], [2.0], [3.0]], np.float32), np.array([1, 2, 0])
    back = np.argsort(order)

    def loss_of(x, y):
        return (mg.apply(ops.reordered, x, y, order=order, back=back)[1] * factor).sum()

    if captured:
        loss_of = mg.capture(loss_of)
    for _ in range(4 if captured else 1):
        x, y = mg.ones(3, 2, requires_grad=True), mg.ones(3, 2, requires_grad=True)
        loss_of(x, y).backward()
        assert x.grad is None and y.grad.tolist() == [[3, 3], [1, 1], [2, 2]]


def test_scatter_adds_rows():
    y = mg.apply(ops.scatter, np.ones((3, 2)), index=np.array([1, 1, 0]), shape=(3, 2))
    assert y.tolist() == [[1, 1], [2, 2], [0, 0]]


@pytest.mark.parametrize(
    "index",
    [
        3, -4, (0, 0, 0, 0), np.array([0, 9]), np.ones((2, 4), bool), 1.5, "a",
        (np.array([0, 1]), np.array([0, 1, 2])),
    ],
)  # fmt: skip
def test_bad_index(index):
    with pytest.raises(IndexRangeError, match=r"^getitem: .*\(3, 4, 5\)"):
        mg.Tensor(X)[index]


# -- embedding ------------------------------------------------------------------------------

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,), (2, 0, 3)])
def test_embedding_is_indexing(dtype, kind, shape):
    ids = np.random.default_rng(0).integers(0, 4, shape).astype(kind)
    table = mg.Tensor(TABLE.astype(dtype), requires_grad=True)
    for given in (ids, mg.Tensor(ids)):
        y = mg.embedding(table, given)
        np.testing.assert_array_equal(y.array, TABLE[ids])
        assert y.dtype == dtype
    weights = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    y.backward(weights)
    expected = np.zeros((4, 3), dtype)
    np.add.at(expected, ids, weights)
    np.testing.assert_allclose(table.grad.array, expected, rtol=1e-6)
    assert table.grad.dtype == dtype


def test_embedding_by_name():
    table = mg.Tensor(TABLE, requires_grad=True)
    mg.embedding(table=table, ids=mg.tensor([1, 1])).sum().backward()
    assert table.grad.tolist() == [[0] * 3, [2] * 3, [0] * 3, [0] * 3]


def test_embedding_ids_that_do_not_stand_together():
    ids = np.arange(12).reshape(3, 4)[::2, ::-2] % 4
    np.testing.assert_array_equal(mg.embedding(mg.Tensor(TABLE), ids).array, TABLE[ids])


@pytest.mark.parametrize(
    ("table", "ids", "error", "message"),
    [
        (TABLE, [[0, 1], [4, 0]], IndexRangeError, r"id 4 at \(1, 0\) is outside .* 4 rows"),
        (TABLE, [0, -1], IndexRangeError, r"id -1 at \(1,\)"),
        (TABLE, 7, IndexRangeError, r"id 7 at \(\)"),
        (TABLE, [0.0, 1.0], DTypeError, "ids must be integers, got float64"),
        (TABLE, [True], DTypeError, "ids must be integers, got bool"),
        (TABLE[0], [0], ShapeError, r"table must have axes \(V, D\), got shape \(3,\)"),
    ],
)
def test_bad_embedding(table, ids, error, message):
    with pytest.raises(error, match=f"^embedding: {message}"):
        mg.embedding(mg.Tensor(table), np.asarray(ids))


def test_one_hot():
    assert mg.one_hot([2, 0], 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert mg.one_hot(mg.tensor([[1]]), 2, dtype=np.float64).dtype == np.float64
    with pytest.raises(IndexRangeError, match=r"^one_hot: id 3 at \(1,\)"):
        mg.one_hot([0, 3], 3)
    with pytest.raises(DTypeError, match="^one_hot: ids must be integers, got float64"):
        mg.one_hot([0.5], 3)
