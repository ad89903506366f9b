"""matmul and einsum: values against NumPy on every path, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, ShapeError
from minigrad.kernels import narrow

RNG = np.random.default_rng(0)


def close(y, expected, dtype):
    assert y.dtype == dtype and y.shape == expected.shape
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(y.array, expected, rtol=rtol, atol=rtol * 10)


SHAPES = [(3,), (2, 3), (5, 2, 3), (1, 2, 3), (4, 5, 2, 3), (4, 1, 2, 3)]
OTHERS = [(3,), (3, 4), (5, 3, 4), (1, 3, 4), (4, 5, 3, 4), (4, 1, 3, 4)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("b", OTHERS)
@pytest.mark.parametrize("a", SHAPES)
def test_matmul_is_numpys(a, b, dtype):
    x, y = RNG.standard_normal(a).astype(dtype), RNG.standard_normal(b).astype(dtype)
    close(mg.Tensor(x) @ mg.Tensor(y), x @ y, dtype)
    close(x @ mg.Tensor(y), x @ y, dtype)
    close(mg.Tensor(x) @ y, x @ y, dtype)
    close(mg.Tensor(x).matmul(y), x @ y, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(7, 33, 65), (64, 27, 256), (300, 310, 290)])
def test_matmul_of_small_and_large_matrices(sizes, dtype):
    m, k, p = sizes
    x, y = RNG.standard_normal((m, k)).astype(dtype), RNG.standard_normal((k, p)).astype(dtype)
    g = RNG.standard_normal((m, p)).astype(dtype)
    for turn in (False, True):
        a = mg.Tensor(np.asfortranarray(x) if turn else x, requires_grad=True)
        b = mg.Tensor(np.asfortranarray(y) if turn else y, requires_grad=True)
        z = a @ b
        z.backward(g)
        rtol = 1e-11 if dtype == np.float64 else 1e-4
        for ours, exact in ((z, x @ y), (a.grad, g @ y.T), (b.grad, x.T @ g)):
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours.array, exact, rtol=rtol, atol=rtol * k)


@pytest.mark.parametrize(
    ("sizes", "kernel"),
    [
        ((100, 300, 10), "narrow_matmul"), ((300, 1, 10), "narrow_matmul"),
        ((2, 2, 16), "narrow_matmul"), ((2, 2, 17), "small_matmul"), ((40, 40, 17), "matmul"),
    ],
)  # fmt: skip
def test_every_product_goes_to_the_kernel_that_suits_it(sizes, kernel):
    m, k, p = sizes
    with mg.kernels.record_calls() as names:
        mg.Tensor(np.ones((m, k), np.float32)) @ mg.Tensor(np.ones((k, p), np.float32))
    assert names == [kernel]
    assert narrow.WIDTH == 16 * 4  # bytes: what the op takes for narrow


def test_bits_of_a_narrow_product_do_not_depend_on_the_threads():
    x, y = (RNG.standard_normal(shape).astype(np.float32) for shape in [(3001, 500), (500, 7)])
    before, found = mg.kernels.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            mg.kernels.set_num_threads(count)
            found.append((mg.Tensor(x) @ y).numpy())
    finally:
        mg.kernels.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_matmul_of_integers():
    x = mg.tensor([[1, 2], [3, 4]])
    assert (x @ x).tolist() == [[7, 10], [15, 22]] and (x @ x).dtype == np.int64


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 3), (2, 3), r"last axis of x has 3 .*x is \(2, 3\).* axis 0 of y has 2 .*\(2, 3\)"),
        ((3,), (4,), "axis 0 of y has 4"),
        ((5, 2, 3), (5, 2, 4), "axis 1 of y has 2"),
        ((2, 3), (), r"at least one axis.*use \*"),
        ((), (3,), "at least one axis"),
        ((2, 2, 3), (5, 3, 4), "broadcast"),
    ],
)
def test_bad_matmul(a, b, message):
    with pytest.raises(ShapeError, match=f"^matmul: .*{message}"):
        mg.Tensor(np.ones(a)) @ mg.Tensor(np.ones(b))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 2, 3), (0, 3)])
def test_linear_is_a_product_and_a_sum(shape, dtype):
    x, w, b = (RNG.standard_normal(s).astype(dtype) for s in (shape, (3, 4), (4,)))
    y = mg.functional.linear(mg.Tensor(x), mg.Tensor(w), mg.Tensor(b))
    close(y, x @ w + b, dtype)


BAD_LINEAR = [[(2, 4), (3, 4), (4,)], [(2, 3), (3, 4), (3,)], [(), (3, 4), (4,)]]


@pytest.mark.parametrize("shapes", BAD_LINEAR)
def test_bad_linear(shapes):
    with pytest.raises(ShapeError, match=r"^linear: .*do not fit.*\("):
        mg.functional.linear(*(mg.Tensor(np.ones(s)) for s in shapes))


SUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij , jk", (2, 3), (3, 4)), ("ji", (2, 3)), ("ij->", (2, 3)),
    ("...ij,...jk->...ik", (5, 2, 3), (3, 4)), ("...ij,jk", (5, 6, 2, 3), (3, 4)), ("...", (2, 3)),
    ("b...,b...->b...", (2, 3, 4), (2, 1, 4)), ("...i->...", (2, 3)), ("a...b->b...a", (2, 5, 3)),
    ("i,j,k->kji", (2,), (3,), (4,)), ("ij,jk->ik", (2, 3), (1, 4)), ("i,i->i", (1,), (3,)),
    (",->", (), ()), ("zA,Az->", (2, 3), (3, 2)), ("ij,k->k", (2, 3), (4,)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("subscripts", "shapes"), [(s, shapes) for s, *shapes in SUMS])
def test_einsum_is_numpys(subscripts, shapes, dtype):
    xs = [RNG.standard_normal(s).astype(dtype) for s in shapes]
    expected = np.asarray(np.einsum(subscripts, *xs))
    close(mg.einsum(subscripts, *(mg.Tensor(x) for x in xs)), expected, dtype)
    close(np.einsum(subscripts, mg.Tensor(xs[0]), *xs[1:]), expected, dtype)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "error", "message"),
    [
        ("ij,jk->ik", [(2, 3)], ArgumentError, "names 2 terms but 1 tensors"),
        ("ij->i", [(2, 3, 4)], ArgumentError, "'ij' names 2 axes of a 3-d"),
        ("ijk...->i", [(2, 3)], ArgumentError, "more axes than its 2-d"),
        ("ii->i", [(3, 3)], ArgumentError, "uses a letter twice; take the diagonal by indexing"),
        ("ij,jk->ik", [(2, 3), (4, 5)], ShapeError, "3"),
        ("ij->ik", [(2, 3)], ShapeError, "k"),
        ("ij->ii", [(2, 3)], ShapeError, "i"),
        ("i$->i", [(2, 3)], ShapeError, "invalid"),
    ],
)
def test_bad_einsum(subscripts, shapes, error, message):
    with pytest.raises(error, match=f"^einsum: .*{message}"):
        mg.einsum(subscripts, *(mg.Tensor(np.ones(s)) for s in shapes))


def test_einsum_uses_one_tensor_twice():
    x = mg.Tensor(RNG.standard_normal((3, 2)), requires_grad=True)
    mg.einsum("ij,ij->", x, x).backward()
    np.testing.assert_allclose(x.grad.array, 2 * x.array)


@pytest.mark.parametrize("wanted", ["x", "w", "b", "wb", "xb", "xwb"])
@pytest.mark.parametrize("shape", [(3, 2, 4), (40, 30, 50), (150, 300, 530), (7, 90, 3)])
def test_each_gradient_of_linear_is_the_same_whoever_else_is_wanted(shape, wanted):
    """Those of w and b come of one pass over the gradient of the result; twice the same."""
    rows, depth, columns = shape
    rng = np.random.default_rng(rows)
    arrays = {"x": (rows, depth), "w": (depth, columns), "b": (columns,)}
    arrays = {k: rng.standard_normal(s, dtype=np.float32) for k, s in arrays.items()}
    g = rng.standard_normal((rows, columns), dtype=np.float32)
    leaves = {k: mg.tensor(a, requires_grad=k in wanted) for k, a in arrays.items()}
    y = mg.functional.linear(*leaves.values())
    expected = {
        "x": g.astype(float) @ arrays["w"].T, "w": arrays["x"].T.astype(float) @ g,
        "b": g.sum(axis=0, dtype=float),
    }  # fmt: skip
    for _ in range(2):
        found = mg.grad(y, [leaves[k] for k in wanted], mg.Tensor(g), retain_graph=True)
        for name, gradient in zip(wanted, found, strict=True):
            assert gradient.dtype == np.float32
            np.testing.assert_allclose(gradient.numpy(), expected[name], rtol=2e-4, atol=2e-3)
        g *= 2  # nothing of the first pass may be left
        expected = {k: 2 * a for k, a in expected.items()}
