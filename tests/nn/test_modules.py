"""Module, Linear, Embedding, Dropout, containers."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import (
    ArgumentError,
    DTypeError,
    GraphError,
    IndexRangeError,
    InplaceError,
    ShapeError,
)


def _rng(seed=0):
    return np.random.default_rng(seed)


class Net(nn.Module):
    def __init__(self):
        self.embed = nn.Embedding(7, 4, generator=_rng(1))
        self.body = nn.Sequential(nn.Linear(4, 5, generator=_rng(2)), mg.tanh,
                                  nn.Dropout(0.5, generator=_rng(3)))
        self.heads = nn.ModuleList([nn.Linear(5, 2, generator=_rng(4)),
                                    nn.Linear(5, 3, bias=False, generator=_rng(5))])
        self.scale = nn.Parameter(np.ones(2, np.float32))

    def forward(self, ids):
        y = self.body(self.embed(ids))
        return self.heads[0](y) * self.scale, self.heads[1](y)


NAMES = ["scale", "embed.weight", "body.0.weight", "body.0.bias", "heads.0.weight",
         "heads.0.bias", "heads.1.weight"]


def test_names_order_and_count():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert net.body[0].weight.name == "body.0.weight"
    assert net.num_parameters() == 28 + 25 + 12 + 15 + 2
    assert "body: Sequential" in repr(net) and "5 -> 2" in repr(net)


def test_a_shared_module_counts_once():
    net = Net()
    net.again = net.body
    assert [name for name, _ in net.named_parameters()] == NAMES


def test_state_dict_round_trip_and_copies():
    one, two = Net(), Net()
    for p in two.parameters():
        p.data = p.data + 1
    state = one.state_dict()
    two.load_state_dict(state)
    for (_, p), (_, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    state["scale"][:] = 99
    assert one.scale.numpy()[0] == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s.pop("scale"), ArgumentError, "missing: scale"),
        (lambda s: s.update(extra=np.ones(2)), ArgumentError, "unknown: extra"),
        (lambda s: s.update(scale=np.ones(3)), ShapeError, r"scale: \(3,\)"),
        (lambda s: s.update(scale=np.array(["a", "b"])), DTypeError, "scale"),
    ],
)
def test_a_bad_state_changes_nothing(change, error, words):
    net = Net()
    before = net.state_dict()
    state = {name: value + 1 for name, value in net.state_dict().items()}
    change(state)
    with pytest.raises(error, match=words):
        net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_load_state_dict_is_noticed_by_a_pending_backward():
    layer = nn.Linear(3, 2, generator=_rng())
    x = mg.Tensor(np.ones((1, 3), np.float32), requires_grad=True)
    loss = layer(x).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(InplaceError, match="load_state_dict"):
        loss.backward()


class Counting(nn.Module):
    def __init__(self):
        self.head = nn.Linear(2, 2, generator=_rng())
        self.register_buffer("mean", np.zeros(2, np.float32))
        self.calls = nn.Buffer(np.zeros((), np.int64))


def test_buffers_are_saved_copied_and_converted_but_not_learnt():
    model = nn.Sequential(Counting())
    assert [name for name, _ in model.named_buffers()] == ["0.mean", "0.calls"]
    assert [name for name, _ in model.named_parameters()] == ["0.head.weight", "0.head.bias"]
    assert model.num_parameters() == 6 and not model[0].mean.requires_grad
    model[0].mean.data = [1, 2]
    model[0].calls.data = 7
    state = model.state_dict()
    assert list(state) == ["0.head.weight", "0.head.bias", "0.mean", "0.calls"]
    other = nn.Sequential(Counting())
    other.load_state_dict(state)
    assert other[0].mean.tolist() == [1, 2] and other[0].calls.item() == 7
    twin = copy.deepcopy(other).double()
    assert isinstance(twin[0].mean, nn.Buffer) and twin[0].mean.array is not other[0].mean.array
    assert (twin[0].mean.dtype, twin[0].calls.dtype) == (np.float64, np.int64)
    assert other[0].mean.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("0.mean", np.zeros(3), ShapeError),
        ("0.calls", np.array(1.5), DTypeError),
        ("0.mean", np.zeros(2, int), DTypeError),
        ("0.mean", None, ArgumentError),
    ],
)
def test_a_bad_buffer_changes_nothing(name, value, error):
    model = nn.Sequential(Counting())
    state = {key: array + 1 for key, array in model.state_dict().items()}
    before = model.state_dict()
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(error, match=name):
        model.load_state_dict(state)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_train_eval_reaches_everything_and_dropout_obeys():
    net = Net()
    assert net.eval() is net and not net.body[2].training
    x = mg.Tensor(np.ones((100, 50), np.float32), requires_grad=True)
    drop = nn.Dropout(0.3, generator=_rng())
    assert drop.eval()(x) is x
    y = drop.train()(x)
    kept = y.numpy() != 0
    assert abs(kept.mean() - 0.7) < 0.02
    np.testing.assert_allclose(y.numpy()[kept], 1 / 0.7, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())  # same mask, same factor
    assert y.dtype == np.float32


@pytest.mark.parametrize("p", [1.0, -0.1, 2, "half"])
def test_dropout_refuses(p):
    with pytest.raises(ArgumentError, match="probability to drop"):
        nn.Dropout(p, generator=_rng())


def test_linear_values_and_errors():
    layer = nn.Linear(3, 2, generator=_rng())
    x = _rng().standard_normal((5, 4, 3)).astype(np.float32)
    expected = x @ layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(mg.Tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ShapeError, match="3 entries"):
        layer(mg.Tensor(np.ones((5, 4))))
    with pytest.raises(DTypeError, match="x is float64 but the weights are float32"):
        layer(mg.Tensor(np.ones((5, 3))))
    with pytest.raises(ArgumentError, match="in_features"):
        nn.Linear(0, 2, generator=_rng())
    with pytest.raises(ArgumentError, match="generator"):
        nn.Linear(3, 2, generator=None)


def test_embedding():
    layer = nn.Embedding(4, 3, generator=_rng())
    ids = np.array([[0, 3], [3, 3]])
    out = layer(ids)
    np.testing.assert_array_equal(out.numpy(), layer.weight.numpy()[ids])
    out.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [1, 0, 0, 3])
    with pytest.raises(IndexRangeError, match=r"id 4 at \(1,\)"):
        layer(np.array([0, 4]))
    with pytest.raises(DTypeError, match="integers"):
        layer(np.array([0.0]))


def test_module_errors():
    with pytest.raises(TypeError, match="forward"):
        nn.Module()(1)
    with pytest.raises(DTypeError, match="entry 1"):
        nn.Sequential(mg.tanh, 3)
    with pytest.raises(DTypeError, match="ModuleList"):
        nn.ModuleList([mg.tanh])


def test_double_float_and_deepcopy():
    net = Net()
    twin = copy.deepcopy(net)
    assert twin.scale is not net.scale and isinstance(twin.scale, nn.Parameter)
    net.double()
    assert net.scale.dtype == np.float64 and twin.scale.dtype == np.float32
    net.float()
    assert net.heads[0].weight.dtype == np.float32


def test_zero_grad():
    layer = nn.Linear(3, 2, generator=_rng())
    layer(mg.Tensor(np.ones((1, 3), np.float32))).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert not layer.weight.grad.numpy().any()
    layer.zero_grad()
    assert layer.weight.grad is None


def test_only_leaves_are_copied_or_frozen():
    layer = nn.Linear(3, 2, generator=_rng())
    y = layer(mg.Tensor(np.ones((1, 3), np.float32)))
    with pytest.raises(GraphError, match="leaf"):
        copy.deepcopy(y)
    with pytest.raises(GraphError, match="leaf"):
        y.requires_grad_(False)
