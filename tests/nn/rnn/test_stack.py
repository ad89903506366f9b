"""Stacks of cells and of layers: values, gradients, TensorFlow's numbers, what is refused."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "goldens" / "wrappers.npz")
X = np.random.default_rng(1).standard_normal((3, 5, 4))  # (N, T, D)
LENGTHS = np.array([5, 2, 0])


def _rng():
    return np.random.default_rng(0)


def test_stacked_cells_and_layers_equal_a_loop_by_hand(make, twin, numbers):
    layers = [make("lstm", 4, 3, 1), make("gru", 3, 5, 2), make("rnn", 5, 2, 3)]
    kinds = [nn.LSTMCell, nn.GRUCell, nn.RNNCell]
    cells = [twin(layer, kind) for layer, kind in zip(layers, kinds, strict=True)]
    deep, deep_cell = nn.Stacked(layers), nn.Stacked(cells)
    state = numbers.state(deep, 3)
    assert [np.shape(part) for part in numbers.leaves(state)] == [(3, 3), (3, 3), (3, 5), (3, 2)]
    by_hand = numbers.of(lambda x, s: numbers.by_hand(cells, x, s, LENGTHS), cells, X, state)
    unrolled = numbers.of(lambda x, s: nn.unroll(deep_cell, x, s, LENGTHS), [deep_cell], X, state)
    fused = numbers.of(lambda x, s: deep(x, s, LENGTHS), [deep], X, state)
    numbers.close(unrolled, by_hand)
    numbers.close(fused, by_hand)
    assert deep.input_size == 4 and deep.output_size == 2
    assert not deep.is_cell and deep_cell.is_cell


def _golden_stack():
    """TensorFlow's MultiRNNCell of an LSTM of 5 and a GRU of 4."""
    w = {k.split("/w/")[1]: GOLDEN[k] for k in GOLDEN if k.startswith("multi_lstm5_gru4/w/")}
    lstm = nn.LSTMCell(4, 5, generator=_rng()).double()
    kernel = w["cell_0/kernel"]
    lstm.load_state_dict({"w_x": kernel[:4], "w_h": kernel[4:], "bias": w["cell_0/bias"]})
    gru = nn.GRUCell(5, 4, generator=_rng()).double()
    kernel = np.concatenate([w["cell_1/gates/kernel"], w["cell_1/candidate/kernel"]], axis=1)
    bias = np.concatenate([w["cell_1/gates/bias"], w["cell_1/candidate/bias"]])
    gru.load_state_dict({"w_x": kernel[:5], "w_h": kernel[5:], "bias": bias})
    return lstm, gru


def _golden_state(prefix):
    """TensorFlow's c, h of the LSTM and h of the GRU, in our order."""
    c, h, h_gru = (GOLDEN[f"multi_lstm5_gru4/{prefix}/{i}"] for i in range(3))
    return (h, c), h_gru


@pytest.mark.parametrize("way", ["unrolled", "fused"])
def test_against_tensorflow(way, numbers):
    """One step, all steps, lengths 6, 3, 0 with gradients: goldens/wrappers.npz."""
    lstm, gru = _golden_stack()
    stack = nn.Stacked([lstm, gru])
    if way == "fused":
        layers = nn.LSTM(4, 5, generator=_rng()), nn.GRU(5, 4, generator=_rng())
        stack = nn.Stacked(layers).double()
        for layer, cell in zip(layers, (lstm, gru), strict=True):
            layer.load_state_dict(cell.state_dict())

    def run(x, s, lengths=None):
        return stack(x, s, lengths) if way == "fused" else nn.unroll(stack, x, s, lengths)

    def tensors(arrays):
        return numbers.map(lambda a: mg.tensor(a, requires_grad=True), arrays)

    def close(ours, theirs):
        for a, b in zip(numbers.leaves(ours), numbers.leaves(theirs), strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-9, atol=1e-12)

    def golden(key):
        return GOLDEN[f"multi_lstm5_gru4/{key}"]

    x0 = GOLDEN["in/x"]
    outputs, state = run(mg.Tensor(x0[:, :1]), tensors(_golden_state("state0")))
    close(((outputs[:, 0],), state), ((golden("step/output"),), _golden_state("step/state")))
    outputs, state = run(mg.Tensor(x0), tensors(_golden_state("state0")))
    close(outputs, golden("dynamic_full/outputs"))
    close(state, _golden_state("dynamic_full/final_state"))

    x, state0 = mg.tensor(x0, requires_grad=True), tensors(_golden_state("state0"))
    outputs, state = run(x, state0, GOLDEN["in/lengths"])
    close(outputs, golden("dynamic_len/outputs"))
    close(state, _golden_state("dynamic_len/final_state"))
    loss = (outputs * golden("R_out")).sum()
    for part, weight in zip(
        numbers.leaves(state), numbers.leaves(_golden_state("R_state")), strict=True
    ):
        loss = loss + (part * weight).sum()
    assert loss.item() == pytest.approx(float(golden("dynamic_len/loss")), rel=1e-9)
    loss.backward()
    close(x.grad, golden("dynamic_len/grad/x"))
    close(numbers.map(lambda t: t.grad, state0), _golden_state("dynamic_len/grad/state0"))
    first, second = stack.layers
    d_lstm = np.concatenate([first.w_x.grad.numpy(), first.w_h.grad.numpy()])
    np.testing.assert_allclose(d_lstm, golden("dynamic_len/grad/w/cell_0/kernel"), rtol=1e-9)
    close(first.bias.grad, golden("dynamic_len/grad/w/cell_0/bias"))
    d_gru = np.concatenate([second.w_x.grad.numpy(), second.w_h.grad.numpy()])
    parts = [golden(f"dynamic_len/grad/w/cell_1/{p}/kernel") for p in ("gates", "candidate")]
    np.testing.assert_allclose(d_gru, np.concatenate(parts, axis=1), rtol=1e-9, atol=1e-12)
    parts = [golden(f"dynamic_len/grad/w/cell_1/{p}/bias") for p in ("gates", "candidate")]
    close(second.bias.grad, np.concatenate(parts))


def test_a_stack_of_stacks_and_names(make):
    inner = nn.Stacked([make("lstm cell", 4, 3), make("gru cell", 3, 3)])
    outer = nn.Stacked([inner, make("rnn cell", 3, 2)])
    assert outer.state_names == ((("h", "c"), ("h",)), ("h",))
    _, state = outer(mg.Tensor(X[:, 0]))
    ((h, c), g), last = state
    assert h.shape == c.shape == g.shape == (3, 3) and last.shape == (3, 2)
    names = [name for name, _ in outer.named_parameters()]
    assert names[0] == "layers.0.layers.0.w_x" and names[-1].startswith("layers.1.")
    assert len(names) == 9


def test_time_major_layers(make, numbers):
    layers = [make("lstm", 4, 3, time_major=t) for t in (True, False)]
    above = [make("gru", 3, 2, time_major=t) for t in (True, False)]
    time, batch = (nn.Stacked(pair) for pair in zip(layers, above, strict=True))
    assert time.time_major and not batch.time_major
    a, _ = time(mg.Tensor(X.swapaxes(0, 1)), None, LENGTHS)
    b, _ = batch(mg.Tensor(X), None, LENGTHS)
    np.testing.assert_array_equal(a.numpy().swapaxes(0, 1), b.numpy())
    with pytest.raises(ArgumentError, match=r"layer 1 \(GRU\) takes \(N, T, D\) but layer 0"):
        nn.Stacked([layers[0], above[1]])


# -- sharing --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda m: m, nn.Residual, lambda m: nn.Stacked([m])])
def test_the_same_object_twice_is_refused_with_the_reason_and_the_remedy(make, wrap):
    cell = make("lstm cell", 4, 4)
    with pytest.raises(ArgumentError) as caught:
        nn.Stacked([wrap(cell)] * 2)
    text = str(caught.value)
    assert "layer 0 and layer 1 are the same" in text and "one set of weights" in text
    assert "[nn.LSTMCell(...) for size in sizes]" in text and "share=True" in text
    two = [wrap(cell), wrap(cell)]
    if two[0] is not two[1]:
        with pytest.raises(ArgumentError, match="layer 0 and layer 1 share a Parameter .*w_x"):
            nn.Stacked(two)


def test_two_that_share_one_parameter_are_refused(make):
    a, b, c = (make("lstm", 4, 4, seed) for seed in range(3))
    c.w_h = a.w_h
    with pytest.raises(ArgumentError, match="layer 0 and layer 2 share a Parameter .w_h"):
        nn.Stacked([a, b, c])


def test_share_true_means_one_set_of_weights(make, numbers):
    cell = make("lstm cell", 4, 4)
    deep = nn.Stacked([cell] * 2, share=True)
    assert len(deep.parameters()) == 3
    ours = numbers.of(lambda x, s: nn.unroll(deep, x, s), [deep], X, numbers.state(deep, 3))
    by_hand = numbers.of(
        lambda x, s: numbers.by_hand([cell, cell], x, s, [5, 5, 5]), [cell], X,
        numbers.state(deep, 3),
    )  # fmt: skip
    numbers.close(ours, by_hand)


# -- what is refused ------------------------------------------------------------------------


def test_refused_when_made(make):
    cell, layer = make("lstm cell", 4, 3), make("gru", 3, 3)
    for layers, error, words in [
        ([], ArgumentError, "at least one"),
        ([cell, layer], ArgumentError, "LSTMCell takes one time step, GRU whole sequences"),
        ([cell, make("gru cell", 4, 2)], ShapeError,
         r"layer 1 \(GRUCell\) takes inputs of size 4, but layer 0 \(LSTMCell\) puts out 3"),
        ([nn.Linear(3, 3, generator=_rng())], DTypeError, "layer 0: expected a recurrent .*Linear"),
        ([cell, nn.LSTMCell], DTypeError, "layer 1: .*got LSTMCell itself"),
        (cell, DTypeError, "expected a list of cells or layers, got one LSTMCell"),
        ([nn.Bidirectional(make("gru", 3, 3), make("gru", 3, 3), None), layer], ShapeError,
         "layer 0 .Bidirectional. puts out a pair"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            nn.Stacked(layers)


def test_refused_when_called(make):
    deep_cell = nn.Stacked([make("lstm cell", 4, 3), make("gru cell", 3, 3)])
    deep = nn.Stacked([make("lstm", 4, 3), make("gru", 3, 3)])
    x = mg.Tensor(X)
    with pytest.raises(ArgumentError, match="no lengths; give them to nn.unroll"):
        deep_cell(x[:, 0], None, LENGTHS)
    for state in [mg.zeros(3, 3), [mg.zeros(3, 3)], (None,) * 3]:
        with pytest.raises(ShapeError, match=r"tuple of 2 states \(layer 0, layer 1\), got"):
            deep(x, state)
    with pytest.raises(ShapeError, match=r"LSTM: the state must be \(h, c\)"):
        deep(x, (mg.zeros(3, 3), mg.zeros(3, 3)))
    with pytest.raises(ShapeError, match="D=4"):
        deep(mg.Tensor(X[:, :, :2]))
    with pytest.raises(ArgumentError, match="lengths"):
        deep(x, None, [9, 1, 1])
    out, _ = deep(x, (None, None))
    np.testing.assert_array_equal(out.numpy(), deep(x)[0].numpy())
