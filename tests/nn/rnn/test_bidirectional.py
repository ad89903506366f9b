"""nn.Bidirectional: values and gradients by hand, TensorFlow's numbers, what is refused."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "goldens" / "wrappers.npz")
X = np.random.default_rng(1).standard_normal((4, 5, 3))  # (N, T, D)
LENGTHS = np.array([5, 2, 0, 1])


def test_reverse_sequence():
    x = np.arange(15.0).reshape(5, 3)  # (T, N)
    y = mg.apply(ops.reverse_sequence, mg.Tensor(x), lengths=np.array([5, 2, 0])).numpy()
    np.testing.assert_array_equal(y[:, 0], x[::-1, 0])
    np.testing.assert_array_equal(y[:, 1], x[[1, 0, 2, 3, 4], 1])
    np.testing.assert_array_equal(y[:, 2], x[:, 2])


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("merge", ["concat", "sum", None])
def test_against_two_loops_by_hand(merge, time_major, make, twin, numbers):
    ahead = make("lstm", 3, 4, 1, time_major=time_major)
    back = make("gru", 3, 4, 2, time_major=time_major)
    cells = twin(ahead, nn.LSTMCell), twin(back, nn.GRUCell)
    both = nn.Bidirectional(ahead, back, merge)
    state = numbers.state(both, 4)

    def ours(x, s):
        out, last = both(x.swapaxes(0, 1) if time_major else x, s, LENGTHS)
        if time_major:
            out = numbers.map(lambda t: t.swapaxes(0, 1), out)
        return out, last

    def by_hand(x, s):
        a, (last_a,) = numbers.by_hand(cells[:1], x, s[:1], LENGTHS)
        b, (last_b,) = numbers.by_hand(cells[1:], x, s[1:], LENGTHS, order=reversed)
        out = {"concat": mg.concat([a, b], axis=2), "sum": a + b, None: (a, b)}[merge]
        return out, (last_a, last_b)

    mine = numbers.of(ours, [both], X, state)
    numbers.close(mine, numbers.of(by_hand, cells, X, state))
    assert both.output_size == {"concat": 8, "sum": 4, None: None}[merge]


def test_without_lengths_the_whole_sequence_is_turned(make, numbers):
    both = nn.Bidirectional(make("rnn", 3, 2, 1), make("rnn", 3, 2, 2))
    whole = numbers.of(lambda x, s: both(x, s), [both], X)
    told = numbers.of(lambda x, s: both(x, s, [5] * 4), [both], X)
    for a, b in zip(whole, told, strict=True):
        np.testing.assert_array_equal(a, b)
    outputs, (_, last_back) = both(mg.Tensor(X))
    np.testing.assert_array_equal(outputs.numpy()[:, 0, 2:], last_back.numpy())


def test_against_tensorflow():
    """bidirectional_dynamic_rnn, LSTMs of 5 and 4, lengths 6, 3, 0: goldens/wrappers.npz."""
    g = {k.removeprefix("bidirectional/"): GOLDEN[k] for k in GOLDEN}
    layers = []
    for name, hidden in (("fw", 5), ("bw", 4)):
        layer = nn.LSTM(4, hidden, generator=np.random.default_rng(0)).double()
        kernel, bias = g[f"w/{name}_kernel"], g[f"w/{name}_bias"]
        layer.load_state_dict({"w_x": kernel[:4], "w_h": kernel[4:], "bias": bias})
        layers.append(layer)
    both = nn.Bidirectional(*layers, merge=None)
    x = mg.tensor(g["in/x"], requires_grad=True)
    (out_fw, out_bw), ((h_fw, c_fw), (h_bw, c_bw)) = both(x, None, g["in/lengths"])
    loss = (out_fw * g["R_fw"]).sum() + (out_bw * g["R_bw"]).sum()
    loss.backward()
    ours = {
        "output_fw": out_fw, "output_bw": out_bw, "state_fw_h": h_fw, "state_fw_c": c_fw,
        "state_bw_h": h_bw, "state_bw_c": c_bw, "loss": loss, "grad/x": x.grad,
    }  # fmt: skip
    for name, layer in zip(("fw", "bw"), layers, strict=True):
        ours[f"grad/{name}_kernel"] = mg.concat([layer.w_x.grad, layer.w_h.grad])
        ours[f"grad/{name}_bias"] = layer.bias.grad
    for key, value in ours.items():
        np.testing.assert_allclose(value.numpy(), g[key], rtol=1e-9, atol=1e-12, err_msg=key)


def test_deep_bidirectional_with_dropout(make):
    rng = np.random.default_rng(0)
    deep = nn.Stacked(
        [
            nn.DropoutWrapper(
                nn.Bidirectional(make("gru", size, 4, i), make("gru", size, 4, 9 + i)),
                output=0.5, generator=rng,
            )
            for i, size in enumerate((3, 8))
        ]
    )  # fmt: skip
    outputs, state = deep(mg.Tensor(X), None, LENGTHS)
    assert outputs.shape == (4, 5, 8) and 0.3 < (outputs.numpy()[0] == 0).mean() < 0.7
    deep(mg.Tensor(X), state)
    assert not (deep.eval()(mg.Tensor(X))[0].numpy() == 0).any()


def test_refused(make):
    layer, other = make("lstm", 3, 4, 1), make("gru", 3, 5, 2)
    with pytest.raises(ArgumentError) as caught:
        nn.Bidirectional(layer, layer)
    text = str(caught.value)
    assert "the forward layer and the backward layer are the same LSTM object" in text
    assert "Make a new layer for each direction" in text and "share=True" in text
    both = nn.Bidirectional(layer, layer, share=True)
    assert len(both.parameters()) == 3 and both(mg.Tensor(X))[0].shape == (4, 5, 8)
    cell = make("lstm cell", 3, 4)
    for arguments, error, words in [
        ((layer, make("gru", 2, 4)), ShapeError, "forward layer takes inputs of size 3 .* of 2"),
        ((layer, other, "sum"), ShapeError, "outputs of one size, got 4 and 5"),
        ((layer, other, "mean"), ArgumentError, "'concat', 'sum' or None, got 'mean'"),
        ((layer, cell), ArgumentError, "the backward layer is LSTMCell, a cell"),
        ((nn.Stacked([cell]), layer), ArgumentError, "the forward layer is Stacked, a cell"),
        ((layer, np.tanh), DTypeError, "the backward layer: expected a recurrent"),
        ((layer, make("gru", 3, 5, time_major=True)), ArgumentError, "same time_major"),
        ((layer, nn.Bidirectional(layer, other, None)), ShapeError, "puts out a pair"),
    ]:
        with pytest.raises(error, match=words):
            nn.Bidirectional(*arguments)
    both = nn.Bidirectional(layer, other)
    with pytest.raises(ShapeError, match="2 states .the forward layer, the backward layer."):
        both(mg.Tensor(X), mg.zeros(4, 4))
    with pytest.raises(ShapeError, match=r"LSTM: x must be \(N, T, D\)"):
        both(mg.Tensor(X[0]))
    with pytest.raises(ArgumentError, match=r"lengths\[0\] is 6"):
        both(mg.Tensor(X), None, [6, 1, 1, 1])


def test_ids(make):
    both = nn.Bidirectional(make("lstm", 3, 4, 1), make("lstm", 3, 4, 2))
    ids = np.array([[0, 1, 2], [2, 0, 0]])
    for x in (ids, mg.Tensor(ids)):
        a, _ = both(x, None, [3, 1])
        b, _ = both(mg.one_hot(ids, 3, np.float64), None, [3, 1])
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)
