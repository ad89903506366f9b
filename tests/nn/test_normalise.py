"""Layer norm and batch norm: the formulas, running statistics, states, stability, refusals."""

import copy
import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.testing import gradcheck, gradgradcheck

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "ops_misc.npz")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _the_same_numbers_whichever_tests_run():
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


SHAPES = [(6, 5), (2, 3), (4, 7, 6, 3), (50, 64), (513, 10), (3, 1), (2, 700)]


def draw(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def plain(x, gamma, beta, axes, eps):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_formulas(shape, dtype):
    x = 3 + 2 * draw(*shape, dtype=dtype)
    gamma, beta = draw(2, shape[-1], dtype=dtype)
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    for layer, axes in [
        (nn.LayerNorm(shape[-1], eps=0.01), -1),
        (nn.BatchNorm(shape[-1], eps=0.01), tuple(range(len(shape) - 1))),
    ]:
        layer = layer.double() if dtype == np.float64 else layer
        layer.weight.data, layer.bias.data = gamma, beta
        y = layer(mg.Tensor(x))
        assert y.dtype == dtype and y.shape == shape
        wide = [a.astype(np.float64) for a in (x, gamma, beta)]
        np.testing.assert_allclose(y.array, plain(*wide, axes, 0.01), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("shape", [(6, 5), (4, 7, 6, 3), (33, 40)])
@pytest.mark.parametrize("op", ["batch_norm", "layer_norm"])
def test_fused_is_composed(op, shape):
    op = getattr(ops, op)
    inputs = [mg.Tensor(draw(*s, dtype=np.float64), True) for s in (shape, shape[-1:], shape[-1:])]
    outputs = [mg.apply(f, *inputs) for f in (op, op.composed)]
    np.testing.assert_allclose(outputs[0].array, outputs[1].array, rtol=1e-12, atol=1e-13)
    seed = RNG.standard_normal(shape)
    for a, b in zip(*(mg.grad(y, inputs, seed) for y in outputs)):
        np.testing.assert_allclose(a.array, b.array, rtol=1e-11, atol=1e-12)


def test_tensorflows_moments():
    """tf.nn.moments: the variance divided by the count (goldens/ops_misc.npz)."""
    x = GOLDEN["moments/x"]
    running = np.zeros(2), np.zeros(2)
    y = mg.batch_norm(x, np.ones(2), np.zeros(2), *running, momentum=1.0, epsilon=0.0)
    np.testing.assert_allclose(running[0], GOLDEN["moments/mean"], rtol=1e-13)
    count = x.size // 2
    np.testing.assert_allclose(running[1] * (count - 1) / count, GOLDEN["moments/variance"], 1e-13)
    expected = (x - GOLDEN["moments/mean"]) / np.sqrt(GOLDEN["moments/variance"])
    np.testing.assert_allclose(y.array, expected, rtol=1e-12, atol=1e-14)


def test_pytorchs_numbers():
    """torch 2.13, nn.BatchNorm1d and nn.LayerNorm of default settings, float64."""
    x = mg.Tensor(np.array([[1.0, -2.0, 0.5], [2.0, 0.0, 0.25], [4.0, 1.0, -1.0]]), True)
    seed = np.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0], [-2.0, 1.0, 1.0]])
    norm = nn.BatchNorm(3).double()
    y = norm(x)
    found = {"batch/y": y, "batch/dx": mg.grad(y, x, seed)[0]}
    found.update(norm.named_buffers())
    found["eval/y"] = norm.eval()(x)
    y = nn.LayerNorm(3).double()(x)
    found.update({"layer/y": y, "layer/dx": mg.grad(y, x, seed)[0]})
    for name, expected in TORCH.items():
        np.testing.assert_allclose(found[name].array, expected, rtol=1e-8, err_msg=name)


TORCH = {
    "batch/y": [[-1.069041531, -1.336301914, 0.8889905653],
        [-0.2672603829, 0.2672603829, 0.5079946087],
        [1.336301914, 1.069041531, -1.396985174]],
    "batch/dx": [[-0.1718031283, 0.2290840098, -2.703850265],
        [0.2577171486, -0.6872417208, 3.24460616],
        [-0.08591402032, 0.458157711, -0.540755895]],
    "running_mean": [0.2333333333, -0.03333333333, -0.008333333333],
    "running_var": [1.133333333, 1.133333333, 0.9645833333],
    "eval/y": [[0.7201547576, -1.847353509, 0.5175787781],
        [1.65948705, 0.03131107642, 0.263031838],
        [3.538151635, 0.9706433689, -1.009702862]],
    "layer/y": [[0.888998308, -1.396997341, 0.5079990332],
        [1.404869845, -0.8429219067, -0.5619479378],
        [1.297769832, -0.162221229, -1.135548603]],
    "layer/dx": [[0.7988662836, 0.1597788611, -0.9586451446],
        [-0.231686828, -1.621758108, 1.853444936],
        [-0.1536852109, 0.3842084167, -0.2305232058]],
}  # fmt: skip


@pytest.mark.parametrize("layer", [nn.LayerNorm(4), nn.LayerNorm((3, 4)), nn.BatchNorm(4)])
def test_gradients_of_the_layers(layer):
    for training in (True, False):
        layer = copy.deepcopy(layer).train(training)
        assert gradcheck(layer, draw(5, 3, 4)) and gradgradcheck(layer, draw(5, 3, 4))


def test_running_statistics_and_evaluation():
    norm = nn.BatchNorm(3, momentum=0.25)
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(4):
        x = 1 + 2 * draw(5, 4, 2, 3)
        norm(mg.Tensor(x))
        mean += 0.25 * (x.mean((0, 1, 2)) - mean)
        var += 0.25 * (x.var((0, 1, 2), ddof=1) - var)
    np.testing.assert_allclose(norm.running_mean.array, mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.array, var, rtol=1e-5)
    norm.eval()
    before = norm.state_dict()
    one = draw(1, 3)  # one row is no trouble any more
    y = norm(mg.Tensor(one))
    np.testing.assert_allclose(y.array, (one - mean) / np.sqrt(var + 1e-5), rtol=1e-5, atol=1e-6)
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_they_follow_under_no_grad_too_and_are_not_learnt():
    norm = nn.BatchNorm(2)
    with mg.no_grad():
        norm(mg.Tensor(draw(8, 2)))
    assert norm.running_mean.array.any()
    assert [name for name, _ in norm.named_parameters()] == ["weight", "bias"]
    norm(mg.Tensor(draw(8, 2))).sum().backward()
    assert norm.running_mean.grad is None and not norm.running_mean.requires_grad


def test_a_backward_pass_in_evaluation_keeps_the_statistics_it_was_made_with():
    norm = nn.BatchNorm(2).eval()
    x = mg.Tensor(draw(6, 2), requires_grad=True)
    y = norm(x)
    norm.train()(mg.Tensor(9 + 5 * draw(6, 2)))
    (gradient,) = mg.grad(y, x, np.ones_like(y.array))
    np.testing.assert_allclose(gradient.array, 1 / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_state_and_conversion():
    model = nn.Sequential(nn.Linear(3, 4, generator=RNG), nn.BatchNorm(4), nn.ReLU())
    model(mg.Tensor(draw(9, 3)))
    state = model.state_dict()
    assert list(state) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean",
                           "1.running_var"]  # fmt: skip
    other = nn.Sequential(nn.Linear(3, 4, generator=RNG), nn.BatchNorm(4), nn.ReLU())
    other.load_state_dict(state)
    x = mg.Tensor(draw(5, 3))
    np.testing.assert_array_equal(other.eval()(x).array, model.eval()(x).array)
    twin = copy.deepcopy(model).double()
    assert twin[1].running_var.dtype == np.float64
    assert model[1].running_var.dtype == np.float32
    assert twin(x.double()).dtype == np.float64


def test_channels_do_not_touch():
    """A NaN in one channel, or in one row, stays in it."""
    x = draw(40, 6)
    x[7, 2] = np.nan
    y = nn.BatchNorm(6)(mg.Tensor(x)).array
    assert np.isnan(y).any(axis=0).tolist() == [False, False, True, False, False, False]
    y = nn.LayerNorm(6)(mg.Tensor(x)).array
    assert np.isnan(y).any(axis=1).nonzero()[0].tolist() == [7]


@pytest.mark.parametrize("rows", [7, 4096])
def test_a_large_mean_costs_no_precision(rows):
    """mean(x**2) - mean(x)**2 would give nothing but noise here.

    What remains is that the mean itself is rounded to float32, to a multiple of 1e-3.
    """
    offset = draw(rows, 5, dtype=np.float64)
    x = (1e4 + offset).astype(np.float32)
    expected = plain(x.astype(np.float64), 1, 0, 0, 1e-5)
    y = nn.BatchNorm(5)(mg.Tensor(x)).array
    np.testing.assert_allclose(y, expected, atol=1e-3)
    y = nn.LayerNorm(rows)(mg.Tensor(x.T)).array
    np.testing.assert_allclose(y, expected.T, atol=1e-3)


def test_constant_channels_give_beta():
    norm = nn.BatchNorm(3)
    norm.bias.data = np.float32([1, 2, 3])
    y = norm(mg.Tensor(np.full((10, 3), 7, np.float32)))
    np.testing.assert_array_equal(y.array, np.broadcast_to([1, 2, 3], (10, 3)))


@pytest.mark.parametrize("shape", [(3000, 30), (128, 700), (9, 5, 4, 3)])
@pytest.mark.parametrize("make", [nn.BatchNorm, nn.LayerNorm])
def test_bits_do_not_depend_on_threads(make, shape):
    x, seed = draw(*shape), draw(*shape)
    before, found = mg.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            mg.set_num_threads(threads)
            norm = make(shape[-1])
            t = mg.Tensor(x, requires_grad=True)
            y = norm(t)
            arrays = [y.array, *(g.array for g in mg.grad(y, [t, norm.weight, norm.bias], seed))]
            found.append([a.tobytes() for a in (*arrays, *norm.state_dict().values())])
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_the_input_and_little_else_is_kept():
    from minigrad.nodes import saved_arrays

    x = mg.Tensor(draw(400, 100), requires_grad=True)
    for layer, more in [(nn.BatchNorm(100), 40), (nn.LayerNorm(100), 20)]:
        blocks = {id(a.base if a.base is not None else a): a for a in
                  saved_arrays(layer(x).node.vjp) if not np.shares_memory(a, x.array)}  # fmt: skip
        assert sum(a.nbytes for a in blocks.values()) < 4 * 100 * more


X = mg.tensor(np.ones((4, 3), np.float32))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.BatchNorm(3)(X[:1]), ShapeError, r"\(1, 3\), so that each channel has 1 value"),
        (lambda: nn.BatchNorm(3)(X[:0]), ShapeError, r"has 0 value"),
        (lambda: nn.BatchNorm(4)(X), ShapeError, r"must be \(..., 4\).*x is \(4, 3\)"),
        (lambda: nn.BatchNorm(3)(X[0]), ShapeError, r"x is \(3,\)"),
        (lambda: nn.LayerNorm(4)(X), ShapeError, r"gamma is \(4,\).*x is \(4, 3\)"),
        (lambda: nn.LayerNorm((2, 3))(X), ShapeError, r"gamma is \(2, 3\).*x is \(4, 3\)"),
        (lambda: nn.LayerNorm(3)(X.double()), DTypeError, "x is float64 but the weights are float"),
        (lambda: nn.BatchNorm(3)(np.ones((4, 3), int)), DTypeError, "x must be a float tensor"),
        (lambda: nn.BatchNorm(0), ArgumentError, "num_features must be a positive integer"),
        (lambda: nn.LayerNorm(()), ArgumentError, "normalized_shape must be a positive integer"),
        (lambda: nn.LayerNorm(3, eps=0), ArgumentError, "eps must be a positive number, got 0"),
        (lambda: nn.BatchNorm(3, momentum=1.5), ArgumentError, "share of the new batch"),
        (lambda: mg.batch_norm(X, X[0], X[0], training=False), ArgumentError, "needs running_mean"),
        (lambda: mg.batch_norm(X, X[0], X[0, :2]), ShapeError, r"gamma is \(3,\) but beta is \(2,"),
        (lambda: mg.layer_norm(X, X[0].double(), X[0]), DTypeError, "gamma is float64"),
        (lambda: mg.layer_norm(X, X[0], X[0], epsilon=-1), ArgumentError, "not be negative"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_batch_changes_nothing():
    norm = nn.BatchNorm(3)
    with pytest.raises(ShapeError, match=r"model\.eval\(\)"):
        norm(X[:1])
    assert not norm.running_mean.array.any() and (norm.running_var.array == 1).all()
    assert repr(norm) == "BatchNorm(3, eps=1e-05, momentum=0.1)"
    assert repr(nn.LayerNorm(3)) == "LayerNorm((3,), eps=1e-05)"
