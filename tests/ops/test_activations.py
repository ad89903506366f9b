"""Activations: TensorFlow's and PyTorch's numbers, tails, NaN, dtypes, layouts, layers."""

import math
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError
from minigrad.nodes import saved_arrays

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "ops_misc.npz")
ALL = {
    "relu": mg.relu, "leaky_relu": mg.leaky_relu, "elu": mg.elu, "softplus": mg.softplus,
    "gelu": mg.gelu, "gelu tanh": lambda x: mg.gelu(x, approximate="tanh"),
}  # fmt: skip
X = np.array([-3.0, -1.0, -0.25, 0.0, 0.25, 1.0, 3.0])
# PyTorch 2.13, torch.nn.functional in float64: values and derivatives at X
TORCH = [
    (mg.leaky_relu, [-0.03, -0.01, -0.0025, 0.0, 0.25, 1.0, 3.0],
     [0.01, 0.01, 0.01, 0.01, 1.0, 1.0, 1.0]),
    (lambda x: mg.elu(x, alpha=0.5),
     [-0.475106465816068, -0.31606027941427883, -0.11059960846429756, 0.0, 0.25, 1.0, 3.0],
     [0.024893534183931972, 0.18393972058572117, 0.38940039153570244, 0.5, 1.0, 1.0, 1.0]),
    (mg.gelu,
     [-0.00404969409489031, -0.15865525393145702, -0.10032341857926907, 0.0, 0.14967658142073093,
      0.841344746068543, 2.99595030590511],
     [-0.01194564720418392, -0.08331547058768635, 0.304626645116364, 0.5, 0.695373354883636,
      1.0833154705876864, 1.011945647204184]),
    (ALL["gelu tanh"],
     [-0.0036373920817729943, -0.15880800939172324, -0.100324649298315, 0.0, 0.149675350701685,
      0.8411919906082768, 2.996362607918227],
     [-0.011584166630969648, -0.08296408384578252, 0.30464590484893955, 0.5, 0.6953540951510604,
      1.0829640838457826, 1.0115841666309695]),
]  # fmt: skip


def value_and_gradient(function, x):
    x = mg.Tensor(x, requires_grad=True)
    y = function(x)
    return y.array, mg.grad(y, x, np.ones_like(y.array))[0].array


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softplus", "elu"])
def test_tensorflows_numbers(name):
    y, dy = value_and_gradient(getattr(mg, name), GOLDEN["act/x"])
    np.testing.assert_allclose(y, GOLDEN[f"act/{name}/y"], rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(dy, GOLDEN[f"act/{name}/dy"], rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize(("function", "values", "slopes"), TORCH)
def test_pytorchs_numbers(function, values, slopes):
    y, dy = value_and_gradient(function, X)
    np.testing.assert_allclose(y, values, rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(dy, slopes, rtol=1e-12)
    single = value_and_gradient(function, X.astype(np.float32))
    for narrow, wide in zip(single, (values, slopes)):
        assert narrow.dtype == np.float32
        np.testing.assert_allclose(narrow, wide, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out(name, dtype):
    """Neither overflow nor NaN at the largest numbers, in values, slopes and slopes of slopes."""
    x = np.array([-1e30, -300, -20, 20, 300, 1e30], dtype)
    y, dy = value_and_gradient(ALL[name], x)
    low = {"leaky_relu": 0.01, "elu": -1}.get(name, 0)
    expected = [low * v if name == "leaky_relu" else low for v in (-1e30, -300, -20)]
    np.testing.assert_allclose(y, [*expected, 20, 300, 1e30], atol=1e-7, rtol=1e-6)
    slope = low if name == "leaky_relu" else 0
    np.testing.assert_allclose(dy, [slope] * 3 + [1] * 3, atol=1e-7, rtol=1e-6)
    assert y.dtype == dy.dtype == dtype
    t = mg.Tensor(x, requires_grad=True)
    with np.errstate(over="ignore", under="ignore"):
        (first,) = mg.grad(ALL[name](t).sum(), t, create_graph=True)
        (second,) = mg.grad((first + 0.0 * t).sum(), t)
    np.testing.assert_allclose(second.array, 0, atol=1e-7)


def test_the_lower_tail_keeps_its_precision():
    """x (1 + erf) / 2 would be 0 from -6 on in float32; softplus tends to e**x."""
    x = np.array([-6.0, -9.0], np.float32)
    exact = [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in (-6.0, -9.0)]
    np.testing.assert_allclose(mg.gelu(x).array, exact, rtol=1e-5)
    np.testing.assert_allclose(mg.softplus(np.array([-80.0], np.float32)).array, np.exp(-80.0),
                               rtol=1e-6)  # fmt: skip
    tiny = np.array([-1e-6], np.float32)
    np.testing.assert_allclose(mg.elu(tiny).array, np.expm1(np.float64(tiny)), rtol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_nan_passes_and_stays_alone(name):
    for size in (3, 100):
        x = np.linspace(-1, 1, size).astype(np.float32)
        x[1] = np.nan
        y = ALL[name](x).array
        assert np.isnan(y[1]) and np.isfinite(np.delete(y, 1)).all()


@pytest.mark.parametrize("name", ALL)
def test_layouts_and_threads(name):
    """Transposed, broadcast and read-only inputs; the same bits on one thread and on three."""
    base = np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32)
    y, dy = value_and_gradient(ALL[name], base)
    for x, turn in [(base.T, np.transpose), (base[::-1], np.flipud)]:
        found = value_and_gradient(ALL[name], x)
        for a, b in zip(found, (y, dy)):
            np.testing.assert_array_equal(a, turn(b))
    before = mg.get_num_threads()
    try:
        for threads in (1, 3):
            mg.set_num_threads(threads)
            for a, b in zip(value_and_gradient(ALL[name], base), (y, dy)):
                assert a.tobytes() == b.tobytes()
    finally:
        mg.set_num_threads(before)
    row = np.broadcast_to(base[0, :4], (3, 4))
    np.testing.assert_array_equal(ALL[name](row).array, np.broadcast_to(y[0, :4], (3, 4)))


def test_integers_numbers_and_lists():
    assert mg.relu(np.array([-1, 2])).dtype == np.int64
    for name in ("leaky_relu", "elu", "softplus", "gelu"):
        from_ids = ALL[name](np.array([-1, 2]))
        assert from_ids.dtype == np.float32
        np.testing.assert_allclose(from_ids.array, ALL[name](np.array([-1.0, 2.0])).array, 1e-6)
        assert ALL[name](1.0).shape == () and ALL[name](1.0).dtype == np.float32


def test_only_the_input_is_kept():
    x = mg.Tensor(np.ones(1000, np.float32), requires_grad=True)
    for function in ALL.values():
        kept = list(saved_arrays(function(x).node.vjp))
        assert kept and all(np.shares_memory(array, x.array) for array in kept)


def test_relu_is_what_it_was():
    """max(x, 0) and g * (x > 0), to the bit but for the sign of zeros."""
    x = np.random.default_rng(0).standard_normal((50, 70)).astype(np.float32)
    g = np.random.default_rng(1).standard_normal((50, 70)).astype(np.float32)
    t = mg.Tensor(x, requires_grad=True)
    y = t.relu()
    np.testing.assert_array_equal(y.array, np.maximum(x, 0))
    np.testing.assert_array_equal(mg.grad(y, t, g)[0].array, g * (x > 0))


LAYERS = [
    (nn.ReLU(), mg.relu, "ReLU()"), (nn.Tanh(), mg.tanh, "Tanh()"),
    (nn.Sigmoid(), mg.sigmoid, "Sigmoid()"), (nn.Softplus(), mg.softplus, "Softplus()"),
    (nn.LeakyReLU(0.3), lambda x: mg.leaky_relu(x, 0.3), "LeakyReLU(0.3)"),
    (nn.ELU(2.0), lambda x: mg.elu(x, 2.0), "ELU(2)"), (nn.GELU(), mg.gelu, "GELU()"),
    (nn.GELU("tanh"), ALL["gelu tanh"], "GELU(tanh)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "function", "text"), LAYERS)
def test_layers(layer, function, text):
    np.testing.assert_array_equal(layer(mg.Tensor(X)).array, function(mg.Tensor(X)).array)
    np.testing.assert_array_equal(nn.Sequential(layer)(X).array, function(X).array)
    assert repr(layer) == text and not layer.parameters()


def test_methods():
    x = mg.Tensor(X)
    for name in ("leaky_relu", "elu", "softplus", "gelu", "relu"):
        np.testing.assert_array_equal(getattr(x, name)().array, ALL[name](x).array)


@pytest.mark.parametrize("call", [lambda: mg.gelu(X, approximate="erf"), lambda: nn.GELU("fast")])
def test_an_unknown_form_is_refused(call):
    with pytest.raises(ArgumentError, match="'none' or 'tanh', got '(erf|fast)'"):
        call()
