"""Pooling: TensorFlow's numbers, ties, NaN, threads, bad calls."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "ops_pool.npz")
DTYPES = [np.float32, np.float64]
POOLS = [mg.max_pool2d, mg.avg_pool2d]


def _run(pool, x, g, *args, **settings):
    leaf = mg.Tensor(x, requires_grad=True)
    y = pool(leaf, *args, **settings)
    y.backward(g)
    return y.array, leaf.grad.array


@pytest.mark.parametrize("kernels", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_case_of_tensorflow(dtype, kernels):
    """90 sizes, strides and paddings, a third with ties; goldens/ops_pool.npz."""
    rtol = 1e-14 if dtype == np.float64 else 1e-6
    assert len(GOLDEN["cases"]) == 90
    with mg.kernels.use(kernels):
        for case in GOLDEN["cases"]:
            number, kind, _, _, size, stride, padding = str(case).split()
            x, g = (GOLDEN[f"pool{number}/{name}"].astype(dtype) for name in ("x", "dy"))
            pool = mg.avg_pool2d if kind == "avg" else mg.max_pool2d
            found = _run(pool, x, g, int(size[1:]), int(stride[1:]), padding=padding)
            for ours, name in zip(found, ("y", "dx"), strict=True):
                theirs = GOLDEN[f"pool{number}/{name}"]
                assert ours.dtype == dtype
                np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol, err_msg=str(case))


CASES = [
    ((2, 7, 8, 3), {"size": 3, "stride": 2, "padding": "same"}),
    ((1, 5, 9, 33), {"size": (3, 2), "stride": (1, 3), "padding": 1}),
    ((2, 6, 6, 1), {}),
    ((3, 4, 7, 2), {"size": (4, 7), "padding": ((1, 0), (2, 3))}),
    ((1, 40, 40, 2), {"size": 20, "stride": 7}),  # more cells than an uint8 can count
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "settings"), CASES)
@pytest.mark.parametrize("op", [ops.max_pool2d, ops.avg_pool2d])
def test_fused_is_composed(op, shape, settings, dtype):
    rng = np.random.default_rng(0)
    for draw in (rng.standard_normal(shape), rng.integers(-1, 2, shape)):  # without ties and with
        x = draw.astype(dtype)
        (y, dx), (expected, back) = op(x, **settings), op.composed(x, **settings)
        g = rng.standard_normal(y.shape).astype(dtype)
        rtol = 1e-13 if dtype == np.float64 else 1e-5
        for ours, theirs in ((y, expected), (dx(g), back(g))):
            assert ours.dtype == theirs.dtype == dtype
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def test_the_first_of_equals_gets_the_gradient():
    x = np.array([[3.0, 1, 3], [3, 3, 0], [0, 0, 0]]).reshape(1, 3, 3, 1)
    _, dx = _run(mg.max_pool2d, x, np.ones((1, 2, 2, 1)), 2, 1)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 0, 1], [1, 1, 0], [0, 0, 0]])
    _, dx = _run(mg.max_pool2d, np.full((1, 4, 4, 1), -np.inf), np.ones((1, 2, 2, 1)), 2)
    assert dx[0, ::2, ::2, 0].sum() == 4 == dx.sum()


def test_padding_is_never_the_largest_and_never_counted():
    x = np.full((1, 3, 3, 1), -5.0)
    for pool in POOLS:
        y, dx = _run(pool, x, np.ones((1, 2, 2, 1)), 2, padding="same")
        np.testing.assert_array_equal(y, -5)
        assert dx.sum() == pytest.approx(4)
    assert dx[0, 2, 2, 0] == 1 and dx[0, 0, 0, 0] == 0.25


def test_a_nan_wins_and_gets_the_gradient():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    x[0, 0, 1], x[0, 1, 0] = np.nan, np.nan
    y, dx = _run(mg.max_pool2d, x, np.ones((1, 2, 2, 1)), 2)
    np.testing.assert_array_equal(np.isnan(y[0, :, :, 0]), [[True, False], [False, False]])
    assert dx[0, 0, 1, 0] == 1 and dx.sum() == 4


@pytest.mark.parametrize("pool", POOLS)
def test_bits_do_not_depend_on_threads(pool, monkeypatch):
    monkeypatch.setattr("minigrad.ops.pool._GRAIN", 1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 9, 8, 5)).astype(np.float32)
    g = rng.standard_normal((7, 5, 4, 5)).astype(np.float32)
    before = mg.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            mg.set_num_threads(count)
            found.append(_run(pool, x, g, 3, 2, padding="same"))
    finally:
        mg.set_num_threads(before)
    for other in found[1:]:
        for ours, theirs in zip(other, found[0]):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("pool", POOLS)
def test_other_layouts_and_an_empty_batch(pool):
    x = np.random.default_rng(0).standard_normal((2, 6, 7, 3))
    g = np.ones((2, 3, 3, 3))
    x.flags.writeable = False
    expected = _run(pool, x, g)
    for ours, theirs in zip(_run(pool, np.asfortranarray(x), np.asfortranarray(g)), expected):
        np.testing.assert_array_equal(ours, theirs)
    y, dx = _run(pool, x[:0], g[:0])
    assert y.shape == (0, 3, 3, 3) and dx.shape == (0, 6, 7, 3)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("x", "settings", "error", "message"),
    [
        (np.ones((4, 4, 1)), {}, ShapeError, r"x must be \(N, H, W, C\), got shape \(4, 4, 1\)"),
        (np.ones((1, 4, 4, 1), int), {}, DTypeError, "float32 or float64, got int64"),
        (np.ones((1, 4, 4, 1)), {"size": 0}, ArgumentError, "size must be a positive integer"),
        (np.ones((1, 4, 4, 1)), {"stride": -1}, ArgumentError, "stride must be"),
        (np.ones((1, 4, 4, 1)), {"padding": "half"}, ArgumentError, "padding must be"),
        (np.ones((1, 4, 4, 1)), {"padding": 2}, ArgumentError, "see nothing but padding"),
        (np.ones((1, 4, 4, 1)), {"padding": ((0, 5), (0, 0))}, ArgumentError, "nothing but"),
        (np.ones((1, 4, 4, 1)), {"size": (3, 5)}, ShapeError,
         r"reaches over 5 pixels does not fit into the 4 pixels .* width \(axis 2\)"),
    ],
)  # fmt: skip
def test_bad_calls(pool, x, settings, error, message):
    with pytest.raises(error, match=f"^{pool.__name__}: .*{message}"):
        pool(x, **settings)


def test_the_layers():
    x = np.random.default_rng(0).standard_normal((2, 6, 8, 3)).astype(np.float32)
    for layer, op in ((nn.MaxPool2d, ops.max_pool2d), (nn.AvgPool2d, ops.avg_pool2d)):
        np.testing.assert_array_equal(layer()(x).array, op(x)[0])
        np.testing.assert_array_equal(
            layer(3, (2, 1), padding="same")(x).array, op(x, 3, (2, 1), "same")[0]
        )
        with pytest.raises(ArgumentError, match=f"{layer.__name__}: size"):
            layer(0)
    assert repr(nn.MaxPool2d(3)) == "MaxPool2d((3, 3), stride=(3, 3), padding='valid')"
