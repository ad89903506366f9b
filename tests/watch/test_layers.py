"""Recorders on every kind of recurrence: fused layers and unrolled cells tell the same story."""

import inspect
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn
from minigrad.errors import ArgumentError
from minigrad.nn.rnn.base import Layer
from minigrad.watch import GradientFlow, Recorders, Saturation

T, N, D, H = 7, 5, 4, 6
KINDS = {
    "RNN": (nn.RNN, nn.RNNCell, {}),
    "RNN relu": (nn.RNN, nn.RNNCell, {"activation": "relu"}),
    "GRU": (nn.GRU, nn.GRUCell, {}),
    "GRU reset after": (nn.GRU, nn.GRUCell, {"reset_after": True}),
    "LSTM": (nn.LSTM, nn.LSTMCell, {}),
    "LSTM peepholes": (nn.LSTM, nn.LSTMCell, {"peepholes": True, "cell_clip": 0.5}),
    "LSTM projection": (nn.LSTM, nn.LSTMCell, {"projection": 3}),
    "LayerNormLSTM": (nn.LayerNormLSTM, nn.LayerNormLSTMCell, {}),
}
WHOLE = [
    pytest.param(None, id="whole"),
    pytest.param(np.array([7, 0, 3, 7, 1]), id="lengths"),
    pytest.param(np.array([2, 0, 3, 1, 1]), id="all end early"),
]


def test_no_layer_is_missing():
    layers = {
        item for item in vars(nn).values() if inspect.isclass(item) and issubclass(item, Layer)
    }
    assert layers == {layer for layer, _, _ in KINDS.values()}


def pair(kind, **more):
    """A fused layer and a cell with the same random float64 weights."""
    layer, cell, options = KINDS[kind]
    generator = np.random.default_rng(0)
    layer = layer(D, H, generator=generator, **options, **more).double()
    cell = cell(D, H, generator=generator, **options).double()
    for parameter in layer.parameters():
        parameter.array[...] = generator.normal(size=parameter.shape)
    cell.load_state_dict(layer.state_dict())
    return layer, cell


def data():
    return np.random.default_rng(1).normal(size=(N, T, D))


def backward(outputs, state):
    """A loss on all outputs and on the last state."""
    parts = state if isinstance(state, tuple) else (state,)
    loss = (outputs**3).sum()
    for part in parts:
        loss = loss + (part * part).sum()
    loss.backward()


@pytest.mark.parametrize("lengths", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_flow_and_saturation_are_the_same_fused_and_unrolled(kind, lengths):
    layer, cell = pair(kind)
    recorded = []
    for module, call in ((layer, layer), (cell, lambda *a, **k: nn.unroll(cell, *a, **k))):
        with GradientFlow.attach(module) as flows, Saturation.attach(module) as gates:
            backward(*call(data(), lengths=lengths))
        ((_, flow),), ((_, saturation),) = flows.items(), gates.items()
        recorded.append((flow, saturation))
    (fused, fused_gates), (composed, composed_gates) = recorded
    assert fused.parts == composed.parts == layer.state_names
    for part in fused.parts:
        a, b = getattr(fused, part), getattr(composed, part)
        assert a.shape == b.shape == (1, T) and a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-300)
        assert a[0, 0] > 0
    for end in ("low", "high", "both"):
        a, b = getattr(fused_gates, end), getattr(composed_gates, end)
        assert list(a) == list(b) == list(layer.gate_kinds)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
            assert a[name].shape == (1, T)


def test_the_flow_is_the_total_gradient_also_where_sequences_end():
    """Against gradients asked for one by one, with rows that have ended left out."""
    _, cell = pair("GRU")
    lengths, x = np.array([7, 0, 3, 7, 1]), data()
    h = mg.Tensor(np.zeros((N, H)))
    states = []
    for t in range(T):
        _, new = cell(mg.Tensor(x[:, t]), h)
        states.append(new)
        h = mg.where((t < lengths)[:, None], new, h)
    gradients = mg.grad((h * h).sum(), states)
    layer, _ = pair("GRU")
    with GradientFlow.attach(layer) as flows:
        _, last = layer(x, lengths=lengths)
        (last * last).sum().backward()
    expected = [np.linalg.norm(g.numpy()) for g in gradients]
    np.testing.assert_allclose(flows["GRU"].h[0], expected, rtol=1e-10)


@pytest.mark.parametrize("build", ["layers", "cells"])
def test_each_layer_of_a_stack_has_its_own_recorder(build):
    """One number is checked against its definition; and the layers differ."""
    generator = np.random.default_rng(2)
    fused = build == "layers"
    kinds = (nn.LSTM, nn.GRU) if fused else (nn.LSTMCell, nn.GRUCell)
    stack = nn.Stacked([
        kinds[0](D, H, generator=generator),
        nn.Residual(kinds[1](H, H, generator=generator)),
    ]).double()  # fmt: skip
    flows = GradientFlow.attach(stack)
    outputs, state = stack(data()) if fused else nn.unroll(stack, data())
    (outputs[:, -1] ** 2).sum().backward()
    assert isinstance(flows, Recorders) and list(flows) == ["layers.0", "layers.1.inner"]
    lower, upper = flows.values()
    assert lower.parts == ("h", "c") and upper.parts == ("h",)
    assert lower.h.shape == upper.h.shape == (1, T)
    top = 2 * np.linalg.norm(outputs.numpy()[:, -1])
    assert upper.h[0, -1] == pytest.approx(top, rel=1e-12)
    assert (lower.h > 0).all() and not np.allclose(lower.h, upper.h)


def test_unrolled_stacks_say_what_stacks_of_layers_say():
    generator = np.random.default_rng(3)
    layers = nn.Stacked([nn.RNN(D, H, generator=generator), nn.LSTM(H, H, generator=generator)])
    cells = nn.Stacked([nn.RNNCell(D, H, generator=generator),
                        nn.LSTMCell(H, H, generator=generator)])  # fmt: skip
    layers, cells = layers.double(), cells.double()
    cells.load_state_dict(layers.state_dict())
    lengths = np.array([7, 0, 3, 7, 1])
    with GradientFlow.attach(layers) as fused, GradientFlow.attach(cells) as composed:
        for outputs, _ in (layers(data(), None, lengths), nn.unroll(cells, data(), None, lengths)):
            (outputs**2).sum().backward()
    for name in fused:
        for part in fused[name].parts:
            a, b = getattr(fused[name], part), getattr(composed[name], part)
            np.testing.assert_allclose(a, b, rtol=1e-10)


def test_both_directions_are_recorded_each_in_its_own_order():
    generator = np.random.default_rng(4)
    both = nn.Bidirectional(nn.GRU(D, H, generator=generator), nn.GRU(D, H, generator=generator))
    flows = GradientFlow.attach(both.double())
    outputs, _ = both(data())
    outputs[:, 0].sum().backward()  # the forward layer's first step, the backward layer's last
    ahead, back = flows.values()
    assert ahead.h[0, 0] > 0 and not ahead.h[0, 1:].any()
    assert (back.h[0] > 0).all()


class Model(nn.Module):
    def __init__(self, layer):
        self.encoder = layer
        self.head = nn.Linear(H, 2, generator=np.random.default_rng(0))


def test_attach_names_layers_and_detach_lets_go():
    layer, _ = pair("GRU")
    model = Model(layer)
    model.double()
    mine = []
    layer.flow = mine.append
    flows = GradientFlow.attach(model)
    assert list(flows) == ["encoder"]
    flows.tag(30)
    backward(*layer(data()))
    assert flows["encoder"].steps.tolist() == [30] and not mine
    flows.detach()
    backward(*layer(data()))
    assert len(flows["encoder"]) == 1 and len(mine) == 1  # who watched before does so again
    with GradientFlow.attach(layer) as flows:
        assert list(flows) == ["GRU"]
    with pytest.raises(ArgumentError, match="GradientFlow.attach: Linear has no recurrent layer"):
        GradientFlow.attach(model.head)


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_a_cell_in_a_plain_loop_finds_its_windows_by_itself(kind):
    """A state that no op made begins a window: none, zeros, a detached one."""
    layer, cell = pair(kind)
    fused = GradientFlow.attach(layer)[kind]
    with GradientFlow.attach(cell) as flows, Saturation.attach(cell) as gates:
        state, first = None, None
        for _ in range(3):
            outputs = []
            for t in range(T):
                output, state = cell(mg.Tensor(data()[:, t]), state)
                outputs.append(output)
            (mg.stack(outputs, 1) ** 2).sum().backward()
            state = nn.detach(state)
            outputs, first = layer(data(), first)
            (outputs**2).sum().backward()
            first = nn.detach(first)
    (composed,), (saturation,) = flows.values(), gates.values()
    assert len(composed) == len(saturation) == 3
    np.testing.assert_allclose(composed.h, fused.h, rtol=1e-10)


def test_at_begins_a_window_where_the_state_was_computed():
    """A decoder starts from the encoder's state, which an op has made."""
    _, cell = pair("GRU")
    flow, gates = GradientFlow(), Saturation(cell.gate_kinds)
    cell.flow, cell.gates = flow.watch_step, gates.watch_step
    state = mg.tensor(np.ones((N, H)), requires_grad=True) * 0.5
    for _ in range(2):
        cell.at(0)
        for t in range(3):
            _, state = cell(mg.Tensor(data()[:, t]), state)
    state.sum().backward()
    assert [len(r) for r in (flow, gates)] == [2, 2]
    assert flow.h.shape == (2, 3) and gates.low["r"].shape == (2, 3)


def test_nothing_is_recorded_under_no_grad():
    layer, cell = pair("LSTM")
    recorders = [r.attach(m) for r in (GradientFlow, Saturation) for m in (layer, cell)]
    with mg.no_grad():
        layer(data())
        nn.unroll(cell, data())
    assert [len(each) for by_name in recorders for each in by_name.values()] == [0] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_recording_changes_no_number(kind):
    """Also where the op takes another path for it (a layer norm that keeps its gates)."""
    gradients = []
    for watched in (False, True):
        layer, _ = pair(kind)
        if watched:
            GradientFlow.attach(layer)
            Saturation.attach(layer)
        backward(*layer(data(), lengths=np.array([7, 0, 3, 7, 1])))
        gradients.append([p.grad.numpy() for p in layer.parameters()])
    for plain, seen in zip(*gradients, strict=True):
        np.testing.assert_array_equal(plain, seen)


def test_what_is_off_costs_nothing(monkeypatch):
    """No recorder, no call into the recording parts at all."""

    def forbidden(*args):
        raise AssertionError("recorded though nobody asked")

    monkeypatch.setattr(sys.modules["minigrad.ops.lstm"], "report", forbidden)
    layer, cell = pair("LSTM")
    monkeypatch.setattr(type(cell), "_next_step", forbidden)
    with kernels.record_calls() as called:
        backward(*layer(data()))
        nn.unroll(cell, data())
    assert "count_saturated" not in called and "lstm_layer_backward" in called
