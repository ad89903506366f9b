"""Weights from and to PyTorch and Keras: their outputs, all weights and biases drawn at random.

The goldens hold, for each layer, its weights as the library gives them, an input and the output.
"""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import convert, nn
from minigrad.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = dict(np.load(pathlib.Path(__file__).parent / "goldens" / "convert.npz"))
D, H, V = 3, 4, 7
TOLERANCE = {"torch": {"rtol": 1e-12, "atol": 1e-13}, "keras": {"rtol": 2e-5, "atol": 2e-6}}


def rng():
    return np.random.default_rng(1)


def lstm(d=D, h=H, **options):
    return nn.LSTM(d, h, generator=rng(), **options)


def gru(d=D, h=H):
    return nn.GRU(d, h, reset_after=True, generator=rng())


def gru_before():
    return nn.GRU(D, H, generator=rng())


def dropped(layer):
    return nn.DropoutWrapper(layer, output=0.5, generator=rng())


class TorchTagger(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(V, D, generator=rng())
        self.lstm = lstm()
        self.head = nn.Sequential(nn.LayerNorm(H), mg.relu, nn.Linear(H, V, generator=rng()))

    def forward(self, ids):
        return self.head(self.lstm(self.embedding(ids))[0])


class KerasTagger(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(V, D, generator=rng())
        self.lstm = nn.Bidirectional(lstm(), lstm())
        self.norm = nn.LayerNorm(2 * H, eps=1e-3)
        self.batch = nn.BatchNorm(2 * H, eps=1e-3)
        self.head = nn.Linear(2 * H, V, generator=rng())

    def forward(self, ids):
        x = mg.relu(self.norm(self.lstm(self.embedding(ids))[0]))
        return self.head(self.batch(x))


CONV = {"stride": 2, "groups": 2}
BOTH = {
    "linear": lambda: nn.Linear(D, H, generator=rng()),
    "linear_nobias": lambda: nn.Linear(D, H, bias=False, generator=rng()),
    "embedding": lambda: nn.Embedding(V, D, generator=rng()),
    "conv2d": lambda: nn.Conv2d(4, 6, (3, 2), generator=rng()),
    "rnn": lambda: nn.RNN(D, H, generator=rng()),
    "lstm": lstm,
    "gru": gru,
    "lstm_both": lambda: nn.Bidirectional(lstm(), lstm()),
    "gru_both": lambda: nn.Bidirectional(gru(), gru()),
}
TORCH = BOTH | {
    "conv2d_groups": lambda: nn.Conv2d(4, 6, 3, padding=1, generator=rng(), **CONV),
    "batch_norm": lambda: nn.BatchNorm(3),
    "layer_norm": lambda: nn.LayerNorm(3, eps=1e-3),
    "rnn_relu": lambda: nn.RNN(D, H, "relu", generator=rng()),
    "lstm_nobias": lstm,
    "lstm_proj": lambda: lstm(projection=2),
    "lstm_stack": lambda: nn.Stacked([lstm(), dropped(lstm(H))]),
    "gru_stack": lambda: nn.Stacked([gru(), gru(H)]),
    "rnn_both": lambda: nn.Bidirectional(*(nn.RNN(D, H, generator=rng()) for _ in "ab")),
    "lstm_deep_both": lambda: dropped(
        nn.Stacked([nn.Bidirectional(dropped(lstm(d)), lstm(d)) for d in (D, 2 * H)])
    ),
    "tagger": TorchTagger,
    "rnn_cell": lambda: nn.RNNCell(D, H, generator=rng()),
    "lstm_cell": lambda: nn.LSTMCell(D, H, generator=rng()),
    "gru_cell": lambda: nn.GRUCell(D, H, reset_after=True, generator=rng()),
}
KERAS = BOTH | {
    "conv2d_groups": lambda: nn.Conv2d(4, 6, 3, padding="same", generator=rng(), **CONV),
    "batch_norm": lambda: nn.BatchNorm(3, eps=1e-3),
    "layer_norm": lambda: nn.LayerNorm(3, eps=1e-3),
    "gru_before": gru_before,
    "gru_both_before": lambda: nn.Bidirectional(gru_before(), gru_before()),
    "lstm_stack": lambda: nn.Stacked([lstm(), dropped(lstm(H, H + 1))]),
    "tagger": KerasTagger,
}
CASES = [("torch", name) for name in TORCH] + [("keras", name) for name in KERAS]


def golden(side, name):
    """Weights, input and output."""
    start = f"{side}/{name}/"
    found = {key[len(start) :]: value for key, value in GOLDEN.items() if key.startswith(start)}
    if side == "torch":
        weights = {k[6:]: v for k, v in found.items() if k.startswith("state/")}
    else:
        weights = [found[f"w{i}"] for i in range(sum(k[0] == "w" for k in found))]
    return weights, found["x"], found["y"], [v for k, v in found.items() if k.startswith("last/")]


def made(side, name):
    module = (TORCH if side == "torch" else KERAS)[name]().eval()
    return module.double() if side == "torch" else module


def filled(side, name):
    module, weights = made(side, name), golden(side, name)[0]
    back = (convert.from_torch if side == "torch" else convert.from_keras)(weights, into=module)
    assert back is module
    return module


def outputs(module, x, name):
    """What the module computes, and its last states, flat."""
    if name.endswith("_cell"):
        _, state = module(x)
        y, state = module(x, state)
        return y.array, list(state) if isinstance(state, tuple) else [state]
    y = module(x)
    y, state = y if isinstance(y, tuple) else (y, ())
    flat, stack = [], [state]
    while stack:
        part = stack.pop(0)
        if isinstance(part, tuple):
            stack = [*part, *stack]
        else:
            flat.append(part)
    return y.array, flat


@pytest.mark.parametrize(("side", "name"), CASES)
def test_the_numbers_are_theirs(side, name):
    _, x, y, last = golden(side, name)
    own, states = outputs(filled(side, name), x, name)
    np.testing.assert_allclose(own, y, **TOLERANCE[side])
    if side == "torch":  # (layers and directions, N, H) for h, then for c; here each layer has both
        last = [row for part in last for row in part.reshape(-1, *part.shape[-2:])]
        states = states[::2] + states[1::2] if "lstm" in name else states
    if last:
        assert [part.shape for part in states] == [part.shape for part in last]
        for one, other in zip(states, last):
            np.testing.assert_allclose(one.array, other, **TOLERANCE[side])


@pytest.mark.parametrize(("side", "name"), CASES)
def test_and_back(side, name):
    """The same names and shapes go out as came in, and mean the same."""
    weights, x, y, _ = golden(side, name)
    module = filled(side, name)
    if side == "torch":
        out = convert.to_torch(module)
        if name != "lstm_nobias":
            assert list(out) == list(weights) or set(out) == set(weights)
            assert {k: v.shape for k, v in out.items()} == {k: v.shape for k, v in weights.items()}
    else:
        out = convert.to_keras(module)
        assert [v.shape for v in out] == [v.shape for v in weights]
    arrays = list(out.values()) if side == "torch" else out
    assert all(a.flags.c_contiguous and a.flags.writeable for a in arrays)
    owned = [p.array for p in (*module.parameters(), *dict(module.named_buffers()).values())]
    assert not any(np.may_share_memory(a, b) for a in arrays for b in owned)
    again = (convert.from_torch if side == "torch" else convert.from_keras)(
        out, into=made(side, name)
    )
    np.testing.assert_allclose(outputs(again, x, name)[0], y, **TOLERANCE[side])


@pytest.mark.parametrize("forget_bias", [0.0, 1.0, -2.5])
def test_the_forget_bias_stays_the_layers_own(forget_bias):
    weights, x, y, _ = golden("torch", "lstm")
    layer = convert.from_torch(weights, into=lstm(forget_bias=forget_bias).double())
    assert layer.forget_bias == forget_bias
    np.testing.assert_allclose(layer(x)[0].array, y, rtol=1e-12, atol=1e-13)
    out = convert.to_torch(layer)
    both = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    np.testing.assert_allclose(out["bias_ih_l0"], both, rtol=1e-14)
    assert not out["bias_hh_l0"].any()


def test_float32_layers_stay_float32():
    layer = convert.from_torch(golden("torch", "lstm")[0], into=lstm())
    assert {p.dtype for p in layer.parameters()} == {np.dtype(np.float32)}
    assert {a.dtype for a in convert.to_torch(layer).values()} == {np.dtype(np.float32)}


def test_from_torch_to_keras():
    """Through minigrad the one library's weights reach the other."""
    weights, x, y, _ = golden("torch", "gru")
    through = convert.to_keras(convert.from_torch(weights, into=gru().double()))
    layer = convert.from_keras(through, into=gru().double())
    np.testing.assert_allclose(layer(x)[0].array, y, rtol=1e-12, atol=1e-13)


class Source:
    """Stands for a module of PyTorch or a layer of Keras."""

    def __init__(self, weights, **settings):
        self.weights = weights
        vars(self).update(settings)

    def state_dict(self):
        return self.weights

    def named_modules(self):
        return [("", self)]

    def get_weights(self):
        return self.weights


def refused(kind, convert_it, into, *words):
    before = into.state_dict()
    with pytest.raises(kind) as caught:
        convert_it()
    after = into.state_dict()
    assert all((after[name] == before[name]).all() for name in before)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_all_differences_in_one_error():
    state = {
        "embedding.weight": np.ones((V, D + 1)), "lstm.weight_ih_l0": np.ones((4 * H, D)),
        "lstm.weight_hh_l0": np.ones((4 * H, H)), "lstm.bias_ih_l0": np.ones(4 * H),
        "head.0.weight": np.ones(H), "head.2.weight": np.ones((V, H)), "head.2.bias": np.ones(V),
        "more": np.ones(1),
    }  # fmt: skip
    into = TorchTagger()
    refused(
        ArgumentError, lambda: convert.from_torch(state, into=into), into,
        "missing: lstm.bias_hh_l0", "missing: head.0.bias", "unknown: more",
        "embedding.weight: (7, 4) for one of shape (7, 3)",
    )  # fmt: skip


def test_differences_in_shape():
    weights = golden("torch", "lstm")[0]
    into = lstm(D, H + 1)
    refused(
        ShapeError, lambda: convert.from_torch(weights, into=into), into,
        "weight_ih_l0: (16, 3) for one of shape (20, 3)", "weight_hh_l0", "bias_hh_l0",
    )  # fmt: skip
    weights = golden("keras", "gru_before")[0]
    into = gru()
    refused(
        ShapeError, lambda: convert.from_keras(weights, into=into), into,
        "bias: (12,) for one of shape (2, 12)",
    )  # fmt: skip
    into = lstm()
    refused(
        ArgumentError, lambda: convert.from_keras(golden("keras", "linear")[0], into=into), into,
        "2 arrays for 3 weights: kernel, recurrent_kernel, bias", "(3, 4), (4,)",
    )  # fmt: skip


def test_settings_that_are_not_weights():
    weights = golden("torch", "batch_norm")[0]
    into = nn.BatchNorm(3)
    source = Source(weights, eps=1e-3)
    refused(ArgumentError, lambda: convert.from_torch(source, into=into), into, "0.001", "1e-05")
    convert.from_torch(Source(weights, eps=1e-5), into=into)
    into = nn.RNN(D, H, generator=rng())
    source = Source(golden("torch", "rnn")[0], nonlinearity="relu")
    refused(ArgumentError, lambda: convert.from_torch(source, into=into), into, "relu", "tanh")
    into = nn.LayerNorm(3)
    source = Source(golden("keras", "layer_norm")[0], epsilon=1e-3)
    refused(ArgumentError, lambda: convert.from_keras(source, into=into), into, "epsilon is 0.001")
    model = Source(golden("keras", "layer_norm")[0], layers=[Source([], epsilon=1e-3)])
    refused(ArgumentError, lambda: convert.from_keras(model, into=into), into, "epsilon is 0.001")


@pytest.mark.parametrize(
    ("make", "to", "word"),
    [
        (gru_before, convert.to_torch, "reset_after=True"),
        (lambda: lstm(peepholes=True, cell_clip=1.0), convert.to_torch, "peepholes and cell_clip"),
        (lambda: lstm(peepholes=True), convert.to_keras, "peepholes"),
        (lambda: lstm(projection=2), convert.to_keras, "projection"),
        (lambda: nn.LayerNormLSTM(D, H, generator=rng()), convert.to_torch, "LayerNormLSTM"),
        (lambda: nn.LayerNormLSTM(D, H, generator=rng()), convert.to_keras, "LayerNormLSTM"),
        (lambda: nn.Sequential(gru_before(), nn.LayerNormLSTM(D, H, generator=rng())),
         convert.to_torch, "1 (LayerNormLSTM)"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart(make, to, word):
    with pytest.raises(ArgumentError) as caught:
        to(make())
    assert word in str(caught.value), str(caught.value)
    into = make()
    back, nothing = (convert.from_torch, {}) if to is convert.to_torch else (convert.from_keras, [])
    refused(ArgumentError, lambda: back(nothing, into=into), into, word)


def test_wrong_kinds():
    layer = nn.Linear(D, H, generator=rng())
    ids = {"weight": np.ones((H, D), int), "bias": np.ones(H)}
    refused(DTypeError, lambda: convert.from_torch(ids, into=layer), layer, "weight is int64")
    for wrong in (3, "weights", [np.ones((H, D))]):
        refused(DTypeError, lambda w=wrong: convert.from_torch(w, into=layer), layer, "a dict")
    for wrong in (3, "weights", {"weight": np.ones((D, H))}):
        refused(DTypeError, lambda w=wrong: convert.from_keras(w, into=layer), layer, "a list")
    for function in (convert.to_torch, convert.to_keras):
        with pytest.raises(DTypeError):
            function(np.ones(3))
    with pytest.raises(DTypeError):
        convert.from_torch({}, into=None)


def test_a_stack_of_unlike_layers_is_no_single_module_of_torch():
    """Then its layers go by their own names."""
    out = convert.to_torch(nn.Stacked([lstm(), lstm(H, H + 1)]))
    assert [name for name in out if "weight_hh" in name] == [
        "layers.0.weight_hh_l0", "layers.1.weight_hh_l0",
    ]  # fmt: skip
    out = convert.to_torch(nn.Bidirectional(lstm(), lstm(h=H + 1)))
    assert [name for name in out if "weight_hh" in name] == [
        "forward_layer.weight_hh_l0", "backward_layer.weight_hh_l0",
    ]  # fmt: skip
