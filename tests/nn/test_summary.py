"""Module.summary: every kind of layer, exact counts, and a module that stays as it was."""

import doctest

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, watch
from minigrad.errors import ArgumentError, CaptureError, DTypeError, ShapeError
from minigrad.nn import flops as flops_module
from minigrad.nn import module as module_module


def rng(seed=0):
    return np.random.default_rng(seed)


def row(summary, name):
    (found,) = [each for each in summary.rows if each.name == name]
    return found


class Words(nn.Module):
    """Ids to logits, with a parameter of its own."""

    def __init__(self):
        self.embed = nn.Embedding(27, 16, generator=rng(1))
        below, above = nn.LSTM(16, 8, generator=rng(2)), nn.LSTM(8, 8, generator=rng(3))
        self.rnn = nn.Bidirectional(nn.Stacked([below, above]), nn.GRU(16, 8, generator=rng(4)))
        self.drop = nn.Dropout(0.5, generator=rng(5))
        self.head = nn.Linear(16, 27, generator=rng(6))
        self.scale = nn.Parameter(np.ones(27, np.float32))

    def forward(self, ids):
        return self.head(self.drop(self.rnn(self.embed(ids))[0])) * self.scale


class Unrolled(nn.Module):
    def __init__(self, cell):
        self.cell = cell

    def forward(self, x):
        return nn.unroll(self.cell, x)[0]


LAYERS = [
    (nn.Linear(3, 5, generator=rng()), (2, 4, 3), "(2, 4, 5)", 20, 2 * 8 * 15),
    (nn.Linear(3, 5, bias=False, generator=rng()), (2, 3), "(2, 5)", 15, 2 * 2 * 15),
    (nn.Conv2d(2, 4, 3, generator=rng()), (2, 6, 7, 2), "(2, 4, 5, 4)", 76, 2 * 2 * 20 * 72),
    (nn.Conv2d(2, 4, (3, 2), stride=2, padding="same", groups=2, pool=2, generator=rng()),
     (1, 8, 8, 2), "(1, 2, 2, 4)", 28, 2 * 16 * 24),
    (nn.Conv2d(2, 4, 3, padding=1, dilation=2, generator=rng()), (1, 6, 6, 2), "(1, 4, 4, 4)", 76,
     2 * 16 * 72),
    (nn.MaxPool2d(2), (1, 6, 6, 2), "(1, 3, 3, 2)", 0, 0),
    (nn.AvgPool2d(3), (1, 6, 6, 2), "(1, 2, 2, 2)", 0, 0),
    (nn.Flatten(), (2, 3, 4), "(2, 12)", 0, 0),
    (nn.BatchNorm(3), (4, 3), "(4, 3)", 6, 0),
    (nn.LayerNorm((2, 3)), (4, 2, 3), "(4, 2, 3)", 12, 0),
    (nn.Dropout(0.5, generator=rng()), (4, 3), "(4, 3)", 0, 0),
    (nn.ReLU(), (4, 3), "(4, 3)", 0, 0),
    (nn.RNN(3, 5, generator=rng()), (2, 4, 3), "(2, 4, 5)", 45, 2 * 8 * 40),
    (nn.GRU(3, 5, generator=rng()), (2, 4, 3), "(2, 4, 5)", 135, 2 * 8 * 120),
    (nn.GRU(3, 5, reset_after=True, generator=rng()), (2, 4, 3), "(2, 4, 5)", 140, 2 * 8 * 120),
    (nn.LSTM(3, 5, generator=rng()), (2, 4, 3), "(2, 4, 5)", 180, 2 * 8 * 160),
    (nn.LSTM(30, 5, generator=rng()), (2, 4, 30), "(2, 4, 5)", 720, 2 * 8 * 700),
    (nn.LSTM(3, 5, time_major=True, generator=rng()), (4, 2, 3), "(4, 2, 5)", 180, 2 * 8 * 160),
    (nn.LSTM(3, 5, peepholes=True, projection=2, generator=rng()), (2, 4, 3), "(2, 4, 2)",
     60 + 40 + 20 + 15 + 10, 2 * 8 * (60 + 40 + 10)),
    (nn.LayerNormLSTM(3, 5, generator=rng()), (2, 4, 3), "(2, 4, 5)", 60 + 100 + 50, 2 * 8 * 160),
    (nn.LSTMCell(3, 5, generator=rng()), (2, 3), "(2, 5)", 180, 2 * 2 * 160),
    (nn.Residual(nn.GRU(5, 5, generator=rng())), (2, 4, 5), "(2, 4, 5)", 165, 2 * 8 * 150),
    (nn.InputProjection(nn.Linear(3, 8, generator=rng()), nn.RNN(8, 5, generator=rng())),
     (2, 4, 3), "(2, 4, 5)", 32 + 70, 2 * 8 * (24 + 65)),
    (nn.DropoutWrapper(nn.RNN(3, 5, generator=rng()), input=0.5, generator=rng()), (2, 4, 3),
     "(2, 4, 5)", 45, 2 * 8 * 40),
    (Unrolled(nn.RNNCell(3, 5, generator=rng())), (2, 4, 3), "(2, 4, 5)", 45, 2 * 8 * 40),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "shape", "output", "parameters", "flops"), LAYERS,
    ids=[f"{type(each[0]).__name__}-{i}" for i, each in enumerate(LAYERS)],
)  # fmt: skip
def test_every_kind_of_layer(layer, shape, output, parameters, flops):
    found = layer.summary(shape)
    assert found.rows[0].output == output
    assert found.parameters == parameters == layer.num_parameters()
    assert found.flops == flops
    tensors = layer(mg.zeros(*shape))
    tensors = tensors if isinstance(tensors, tuple) else (tensors,)
    flat = [part for t in tensors for part in (t if isinstance(t, tuple) else (t,))]
    roots = [t for t in flat if t.node is not None]
    assert found.kept == (watch.memory(roots, layer).total if roots else 0)


def test_nested_custom_recurrent_ids():
    model = Words()
    found = model.summary((4, 10), dtype=int)
    assert found.parameters == model.num_parameters() and found.rows[0].parameters == 27
    assert row(found, "rnn.forward_layer.layers.1").flops == 2 * 40 * (8 + 8) * 32
    assert row(found, "rnn").output == "(4, 10, 16)" and row(found, "embed").parameters == 432
    assert row(found, "rnn.forward_layer.layers").output == ""
    memory = watch.memory(model(np.zeros((4, 10), int)), model)
    assert found.kept == memory.total and sum(r.kept > 0 for r in found.rows) >= 6
    assert row(found, "head").flops == 2 * 40 * 16 * 27
    text = str(found)
    assert "Words on zeros (4, 10) int64, in training mode" in text
    assert "2 for each multiply-add" in " ".join(text.split()) and f"{found.parameters:,}" in text
    assert [line for line in text.splitlines() if line.startswith("    forward_layer Stacked")]
    assert max(map(len, text.splitlines())) <= 100


def test_ids_into_a_recurrence_and_attention():
    lstm = nn.LSTM(7, 5, generator=rng())
    assert lstm.summary((2, 4), dtype=np.int64).flops == 2 * 8 * 5 * 20  # rows of w_x, no product

    class Asks(nn.Module):
        def forward(self, query, keys):
            return mg.apply(mg.functional.ops.attend, query, keys, keys)[0]

    assert Asks().summary([(2, 3, 4), (2, 6, 4)]).flops == 2 * 2 * 3 * 6 * (4 + 4)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "products"),
    [
        ("ij,jk->ik", [(2, 3), (3, 5)], 30),
        ("...ij,jk", [(7, 2, 3), (3, 5)], 210),
        ("i,j,k->", [(2,), (3,), (5,)], 60),
        ("ij->j", [(2, 3)], 0),
        ("...i,...i->...", [(4, 1, 3), (1, 6, 3)], 72),
    ],
)
def test_flops_of_einsum(subscripts, shapes, products):
    tensors = [mg.tensor(np.ones(shape, "f"), True) for shape in shapes]
    assert flops_module.flops(mg.einsum(subscripts, *tensors).node) == 2 * products


def test_calls_are_counted_and_what_is_shared_counts_once():
    class Twice(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3, 3, generator=rng())
            self.again = self.layer
            self.idle = nn.Linear(3, 4, generator=rng())

        def forward(self, x):
            return self.again(self.layer(x)), {"more": self.layer(x)}

    found = Twice().summary((2, 3))
    layer = row(found, "layer")
    assert layer.calls == 3 and layer.parameters == 12 and layer.flops == 3 * 2 * 2 * 9
    assert "\u00d7 3" in repr(found) and row(found, "idle").output == "not called"
    assert found.rows[0].output == "(2, 3) (2, 3)" and found.parameters == 28


def test_a_tied_parameter_counts_once():
    net = nn.Sequential(nn.Linear(3, 3, generator=rng()), nn.Linear(3, 3, generator=rng()))
    net[1].weight = net[0].weight
    found = net.summary((2, 3))
    assert found.parameters == net.num_parameters() == 15
    assert [each.parameters for each in found.rows] == [0, 12, 3]


def test_recorders_do_not_hear_of_it():
    heard = []
    lstm = nn.LSTM(3, 5, generator=rng())
    lstm.gates = lambda *blocks: heard.append(blocks)
    lstm.summary((2, 4, 3))
    assert not heard and lstm.gates is not None


def test_frozen_parameters_still_make_products_but_keep_nothing():
    net = nn.Sequential(nn.Linear(3, 4, generator=rng()), nn.Linear(4, 2, generator=rng()))
    whole = net.summary((5, 3))
    for p in net[0].parameters():
        p.requires_grad_(False)
    found = net.summary((5, 3))
    assert found.flops == whole.flops == 2 * 5 * (12 + 8) and found.kept < whole.kept
    assert "16 of the parameters are frozen" in str(found)
    assert not net[0].weight.requires_grad


def test_functions_count_to_the_module_that_calls_them():
    net = nn.Sequential(nn.Linear(3, 4, generator=rng()), mg.tanh)
    found = net.summary((5, 3))
    assert len(found.rows) == 2 and found.rows[0].kept == 5 * 4 * 4  # the result of tanh


def test_the_module_stays_as_it_was():
    net = nn.Sequential(
        nn.Linear(3, 4, generator=rng()), nn.BatchNorm(4), nn.Dropout(0.5, generator=rng(7)),
        nn.LSTMCell(4, 4, generator=rng()),
    )  # fmt: skip
    outer = nn.ModuleList([net])
    list(outer.named_parameters())
    net[2].eval()
    flow = watch.GradientFlow()
    net[3].flow = flow.watch_step
    x = mg.tensor(rng().standard_normal((5, 3)).astype("f"))
    net(x)[0].sum().backward()
    loss = net[1](net[0](x)).sum()  # pending: nothing that it saved may change
    before = net.state_dict(), [p.grad.array.copy() for p in net.parameters()]
    list(outer.named_parameters())
    names = [p.name for p in outer[0][0].parameters()]
    list(outer.named_parameters())
    states = repr(net[2].generator.bit_generator.state)
    attributes = [sorted(vars(part)) for part in net.modules()]
    for _ in range(2):
        found = net.summary((5, 3))
    assert "0 Linear" in str(found)
    assert names == ["weight", "bias"]  # as parameters() of the layer gives them; and now:
    assert outer[0][1].weight.name == "0.1.weight"
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[0][name])
    for p, gradient in zip(net.parameters(), before[1], strict=True):
        np.testing.assert_array_equal(p.grad.array, gradient)
    assert repr(net[2].generator.bit_generator.state) == states
    assert [part.training for part in net.modules()] == [True, True, True, False, True]
    assert [sorted(vars(part)) for part in net.modules()] == attributes
    assert len(flow) == 1 and net[3].flow == flow.watch_step
    loss.backward()


def test_it_does_not_matter_where_it_is_asked():
    layer = nn.Linear(3, 4, generator=rng())
    with mg.no_grad():
        assert layer.summary((5, 3)).kept == layer.summary((5, 3)).kept > 0
    assert "evaluation mode" in repr(nn.BatchNorm(3).eval().summary((4, 3)))
    assert nn.BatchNorm(3).eval().summary((4, 3)).buffers == 6
    assert "float64" in repr(nn.Linear(3, 4, generator=rng()).double().summary((5, 3)))
    with pytest.raises(CaptureError, match="asks for a summary"):
        mg.capture(lambda x: (layer.summary((5, 3)), layer(x))[1])(mg.zeros(5, 3))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Words().summary((4, 10)), DTypeError, "dtype=int"),
        (lambda: LAYERS[0][0].summary((4, 2)), ShapeError, r"zeros \(4, 2\) float32.*batch too"),
        (lambda: LAYERS[0][0].summary(5), ArgumentError, "positive integers for all axes"),
        (lambda: LAYERS[0][0].summary((5, -1)), ArgumentError, "positive integers"),
        (lambda: LAYERS[0][0].summary((5, 3.0)), ArgumentError, "positive integers"),
        (lambda: LAYERS[0][0].summary([(5, 3), (5, 3)]), ArgumentError, "several inputs: a list"),
        (lambda: LAYERS[0][0].summary((5, 3), dtype="abc"), DTypeError, "'abc' is no dtype"),
        (lambda: LAYERS[0][0].summary((5, 3), dtype=complex), DTypeError, "real numbers"),
        (lambda: LAYERS[0][0].summary((5, 3), dtype=[int, int]), ArgumentError, "1 inputs but 2"),
        (lambda: nn.Module().summary((5, 3)), ArgumentError, "does not define forward"),
    ],
)
def test_errors_say_what_to_do(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_module_that_cannot_be_copied():
    layer = nn.Linear(3, 4, generator=rng())
    layer.kept = layer(mg.zeros(1, 3))
    with pytest.raises(ArgumentError, match="cannot be copied.*detach what it keeps"):
        layer.summary((5, 3))


def test_html_is_escaped_and_small():
    class Odd(nn.Sequential):
        pass

    Odd.__name__ = "<i>&"
    html = Odd(nn.Linear(3, 4, generator=rng())).summary((2, 3))._repr_html_()
    assert "&lt;i&gt;&amp; on zeros" in html and "<i>" not in html
    assert "<th" in html and "total" in html and len(html) < 3000


@pytest.mark.parametrize("module", [flops_module, module_module])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0
