"""nn.unroll and nn.last_output against the fused layers and loops written by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, ShapeError

CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
X = np.random.default_rng(1).standard_normal((4, 6, 3))  # (N, T, D)
LENGTHS = np.array([6, 3, 0, 1])


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("kind", CELLS)
def test_unrolled_cell_equals_the_fused_layer(kind, lengths, time_major, make, twin, numbers):
    layer = make(kind, 3, 5, time_major=time_major)
    cell = twin(layer, CELLS[kind])
    x, state = X.swapaxes(0, 1) if time_major else X, numbers.state(layer, 4)
    fused = numbers.of(lambda x, s: layer(x, s, lengths), [layer], x, state)
    unrolled = numbers.of(lambda x, s: nn.unroll(cell, x, s, lengths, time_major), [cell], x, state)
    numbers.close(unrolled, fused)


@pytest.mark.parametrize("kind", CELLS)
def test_lengths_against_each_sequence_by_itself(kind, make, numbers):
    cell = make(f"{kind} cell", 3, 5)
    state = numbers.state(cell, 4)
    ours = numbers.of(lambda x, s: nn.unroll(cell, x, s, LENGTHS), [cell], X, state)

    def alone(x, s):
        outputs, (last,) = numbers.by_hand([cell], x, (s,), LENGTHS)
        return outputs, last

    numbers.close(ours, numbers.of(alone, [cell], X, state))
    outputs, first_part = ours[0], ours[1]
    assert not outputs[1, 3:].any() and not outputs[2].any() and outputs[1, :3].all()
    np.testing.assert_array_equal(first_part[2], numbers.leaves(state)[0][2])  # length 0


def test_no_state_means_zeros_and_ids_mean_one_hot_vectors(make):
    cell = make("lstm cell", 3, 5)
    ids = np.array([[0, 2, 1], [2, 2, 0]])  # (N, T)
    with_ids, state = nn.unroll(cell, ids)
    one_hot, _ = nn.unroll(cell, mg.one_hot(ids, 3, np.float64), cell.zero_state(2))
    np.testing.assert_allclose(with_ids.numpy(), one_hot.numpy(), rtol=1e-12)
    assert with_ids.shape == (2, 3, 5) and [part.shape for part in state] == [(2, 5)] * 2


def test_float32_stays_float32():
    cell = nn.LSTMCell(3, 5, generator=np.random.default_rng(0))
    x = mg.Tensor(X.astype(np.float32), requires_grad=True)
    outputs, state = nn.unroll(cell, x, lengths=LENGTHS)
    nn.last_output(outputs, LENGTHS).sum().backward()
    tensors = [outputs, *state, x.grad, *(p.grad for p in cell.parameters())]
    assert {t.dtype for t in tensors} == {np.dtype(np.float32)}


def test_a_cell_of_ones_own(make):
    class Counter(nn.Module):
        """Counts steps in a state of three axes."""

        def zero_state(self, batch):
            return mg.zeros(batch, 2, 2, dtype=np.float64)

        def forward(self, x, state):
            return x * 2, state + 1

    outputs, state = nn.unroll(Counter(), mg.Tensor(X), lengths=LENGTHS)
    assert outputs.shape == X.shape
    np.testing.assert_array_equal(state.numpy()[:, 1, 0], LENGTHS)


def test_cells_under_watch_are_told_the_time_and_who_still_runs(make):
    inner, told = make("gru cell", 3, 5), []
    inner.gates = lambda t, running, *activations: told.append((t, running))
    cell = nn.Stacked([nn.DropoutWrapper(inner, 0.1, generator=np.random.default_rng(0))])
    _, state = nn.unroll(cell, mg.Tensor(X), lengths=LENGTHS)
    nn.unroll(cell, mg.Tensor(X[:, :2]), state)  # not detached, and yet a window of its own
    assert [t for t, _ in told] == [0, 1, 2, 3, 4, 5, 0, 1]
    for t, running in told[:6]:
        np.testing.assert_array_equal(running, LENGTHS > t)
    assert told[6][1] is None


def _models():
    rng = np.random.default_rng(3)
    make = {"generator": rng}
    cells = nn.Stacked([nn.Residual(nn.LSTMCell(3, 3, **make)), nn.GRUCell(3, 4, **make)])
    both = nn.Bidirectional(nn.GRU(3, 4, **make), nn.LSTM(3, 2, **make))
    deep = nn.Stacked([both, nn.Residual(nn.GRU(6, 6, **make)), nn.RNN(6, 2, **make)])
    drop = nn.DropoutWrapper(nn.LSTM(3, 4, **make), 0.3, 0.3, generator=rng)
    calls = {
        "unrolled stack": (cells, lambda x, lengths: nn.unroll(cells, x, lengths=lengths)),
        "deep bidirectional": (deep, lambda x, lengths: deep(x, None, lengths)),
        "dropout": (drop, lambda x, lengths: drop(x, None, lengths)),
    }
    for model, _ in calls.values():
        model.double()
    return calls


MODELS = _models()


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15)
@given(data=st.data())
def test_what_stands_past_the_end_changes_no_bit(name, data):
    """Outputs, states, last outputs and every gradient, for lengths 0 to T."""
    model, call = MODELS[name]
    lengths = np.array(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x = rng.standard_normal((len(lengths), 5, 3))
    noise = 100 * rng.standard_normal(x.shape)
    past = np.arange(5) >= lengths[:, None]  # (N, T)
    results = []
    for content in (x, np.where(past[:, :, None], noise, x)):
        for module in model.modules():
            module.generator = np.random.default_rng(0)  # the same dropout masks
        model.zero_grad()
        leaf = mg.tensor(content, requires_grad=True)
        outputs, state = call(leaf, lengths)
        parts = [nn.last_output(outputs, lengths), outputs]
        pending = [state]
        while pending:
            part = pending.pop()
            (pending if isinstance(part, tuple) else parts).extend(
                part if isinstance(part, tuple) else [part]
            )
        sum((part * part + part).sum() for part in parts).backward()
        grads = [leaf.grad, *(p.grad for p in model.parameters())]
        results.append([t.numpy() for t in parts + grads])
        assert not outputs.numpy()[past].any() and not leaf.grad.numpy()[past].any()
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 3, 0, 1], [6, 6, 6, 6]])
def test_last_output(lengths, time_major):
    outputs = mg.tensor(X.swapaxes(0, 1) if time_major else X, requires_grad=True)
    last = nn.last_output(outputs, lengths, time_major)
    expected, d_x = np.zeros((4, 3)), np.zeros_like(X)
    g = np.random.default_rng(2).standard_normal((4, 3))
    for n, length in enumerate(lengths or [6] * 4):
        if length:
            expected[n], d_x[n, length - 1] = X[n, length - 1], g[n]
    np.testing.assert_array_equal(last.numpy(), expected)
    last.backward(g)
    d = outputs.grad.numpy()
    np.testing.assert_array_equal(d.swapaxes(0, 1) if time_major else d, d_x)


@pytest.mark.parametrize(
    ("outputs", "lengths", "error", "words"),
    [
        (mg.zeros(4, 6), None, ShapeError, r"must be \(N, T, H\), got shape \(4, 6\)"),
        (mg.zeros(4, 0, 3), None, ShapeError, "no time step"),
        ((mg.zeros(4, 6, 3), None), None, DTypeError, "returns a pair"),
        (mg.zeros(4, 6, 3), [1, 2], ShapeError, r"last_output: lengths must be \(N=4,\)"),
        (mg.zeros(4, 6, 3), [1.0] * 4, DTypeError, "integers"),
        (mg.zeros(4, 6, 3), [1, 2, 7, 1], ArgumentError, r"lengths\[2\] is 7"),
        (mg.zeros(4, 6, 3), [1, -1, 0, 1], ArgumentError, r"lengths\[1\] is -1"),
    ],
)
def test_last_output_refuses(outputs, lengths, error, words):
    with pytest.raises(error, match=words):
        nn.last_output(outputs, lengths)


def test_unroll_refuses(make):
    cell, layer = make("lstm cell", 3, 5), make("lstm", 3, 5)
    x = mg.Tensor(X)
    for wrong, words in [
        (layer, "LSTM is a layer.*nn.LSTMCell takes the weights"),
        (nn.Stacked([layer]), "Stacked is a layer"),
        (np.tanh, "ufunc"),
        (nn.LSTMCell, "the class LSTMCell"),
    ]:
        with pytest.raises((DTypeError, TypeError), match=words):
            nn.unroll(wrong, x)
    with pytest.raises(ShapeError, match=r"unroll: x must be \(N, T, ...\), got shape \(4,\)"):
        nn.unroll(cell, np.zeros(4))
    with pytest.raises(ShapeError, match="no time step"):
        nn.unroll(cell, mg.Tensor(X[:, :0]))
    with pytest.raises(ShapeError, match=r"D=3"):
        nn.unroll(cell, mg.Tensor(X[:, :, :2]))
    with pytest.raises(ArgumentError, match=r"unroll: lengths must be in \[0, T=6\]"):
        nn.unroll(cell, x, lengths=[7, 1, 1, 1])
    with pytest.raises(ShapeError, match=r"state must be \(h, c\)"):
        nn.unroll(cell, x, mg.zeros(4, 5))
