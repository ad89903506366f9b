"""Windows over a long series: what they hold, where gradients stop, what errors say."""

import functools
import re
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import SequenceBatches
from minigrad.errors import ArgumentError, DTypeError, GraphError, ShapeError

X = np.random.default_rng(1).standard_normal((2, 14, 3))  # (N, T, D)


def _rng(seed=0):
    return np.random.default_rng(seed)


# -- windows --------------------------------------------------------------------------------


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(("drop_last", "stops"), [(False, [4, 8, 12, 14]), (True, [4, 8, 12])])
def test_windows_are_the_series_in_order(time_major, drop_last, stops):
    x = X.swapaxes(0, 1) if time_major else X
    y = np.arange(28).reshape(x.shape[:2])
    windows = nn.TBPTT(x, y, steps=4, time_major=time_major, drop_last=drop_last)
    assert len(windows) == len(stops)
    for _ in range(2):  # each pass begins anew
        seen = list(windows)
        assert [(w.index, w.stop) for w in seen] == list(enumerate(stops))
        assert [w.start for w in seen] == [0, *stops[:-1]]
        for i, series in enumerate((x, y)):
            joined = np.concatenate([tuple(w)[i] for w in seen], axis=0 if time_major else 1)
            np.testing.assert_array_equal(
                joined, series[: stops[-1]] if time_major else series[:, : stops[-1]]
            )
        np.testing.assert_array_equal(windows.edges, stops[:-1])
    assert repr(seen[1]) == "Window(1, time steps 4 to 7)"


def test_windows_of_somebody_else():
    ids = np.arange(23)
    batches = SequenceBatches(ids, 2, 3)
    windows = nn.TBPTT.over(batches)
    for _ in range(2):
        seen = list(windows)
        assert len(windows) == len(seen) == len(batches) == 3
        assert [(w.start, w.stop) for w in seen] == [(0, 3), (3, 6), (6, 9)]
        for window, (inputs, targets) in zip(seen, batches, strict=True):
            np.testing.assert_array_equal(window.data[0], inputs)
            np.testing.assert_array_equal(window.data[1], targets)
    once = nn.TBPTT.over((X[:, i : i + 5] for i in (0, 4, 8)), steps=4)  # overlapping by one
    assert [(w.start, w.stop, len(w.data)) for w in once] == [(0, 4, 1), (4, 8, 1), (8, 12, 1)]
    np.testing.assert_array_equal(once.edges, [4, 8])
    with pytest.raises(DTypeError, match="a generator of windows has no length"):
        len(once)


# -- the state ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["layer", "stack", "cell"])
def test_state_is_carried_on_and_gradients_are_not(kind, numbers):
    """Against the whole series at once, and against windows that know of no other."""
    layers = [nn.LSTM(3, 4, generator=_rng()), nn.GRU(4, 2, generator=_rng())]
    model = nn.Stacked(layers) if kind == "stack" else layers[0]
    call = model.double()
    if kind == "cell":
        model = nn.LSTMCell(3, 4, generator=_rng()).double()
        call = functools.partial(nn.unroll, model)
    whole, _ = call(mg.Tensor(X), None)
    x = mg.tensor(X, requires_grad=True)
    windows = nn.TBPTT(x, steps=4)
    outputs, states = [], []
    for window in windows:
        (inputs,) = window
        states.append(window.state)
        y, window.state = call(inputs, window.state)
        outputs.append(y.numpy())
        last_window = slice(window.start, window.stop)
        x.grad = None
        (y * y).sum().backward()
        outside = np.delete(x.grad.numpy(), np.r_[last_window], axis=1)
        assert not outside.any() and x.grad.numpy()[:, last_window].all()
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole.numpy(), rtol=1e-12)
    assert states[0] is None
    for state in [*states[1:], windows.state]:
        assert all(part.is_leaf and not part.requires_grad for part in numbers.leaves(state))
    first = next(iter(windows))
    assert first.state is None and len(windows.edges) == 0


def test_a_first_state_to_learn_keeps_its_gradient():
    rnn = nn.RNN(3, 4, generator=_rng()).double()
    h0, gradients = nn.Parameter(np.zeros((2, 4))), []
    for window in nn.TBPTT(X, steps=7, state=h0):
        out, window.state = rnn(mg.Tensor(window.data[0]), window.state)
        out.sum().backward()
        gradients.append(h0.grad.numpy().copy())
    assert gradients[0].all()
    np.testing.assert_array_equal(gradients[1], gradients[0])  # nothing from the second window


def test_a_window_that_sets_no_state_hands_on_the_one_it_got():
    for window in nn.TBPTT(X, steps=4):
        if window.index == 0:
            window.state = mg.zeros(2, 3)
        else:
            assert window.state.shape == (2, 3)


def test_detach():
    a, b = (mg.tensor([1.0], requires_grad=True) * 2 for _ in range(2))
    h, (c, none) = nn.detach((a, [b, None]))
    assert none is None and nn.detach(None) is None
    for part, before in ((h, a), (c, b)):
        assert part.array is before.array and part.node is None and not part.requires_grad
    with pytest.raises(DTypeError, match="a tensor or a tuple of tensors, got ndarray"):
        nn.detach((a, np.ones(2)))


# -- errors that name window, state part and remedy -------------------------------------------


def _second_walk(call, windows, keep):
    """Train over windows with a state of one's own; keep(window, state) is what goes on."""
    state = None
    with pytest.raises(GraphError) as caught:
        for window in windows:
            outputs, after = call(mg.Tensor(window.data[0]), state)
            outputs.sum().backward()
            state = keep(window, after)
    return str(caught.value), window


@pytest.mark.parametrize("cell", [False, True])
def test_forgetting_to_detach_names_window_part_and_remedy(cell):
    module = (nn.LSTMCell if cell else nn.LSTM)(3, 4, generator=_rng()).double()
    call = (lambda x, s: nn.unroll(module, x, s)) if cell else module
    text, window = _second_walk(call, nn.TBPTT(X, steps=4), lambda window, state: state)
    assert window.index == 1
    assert "a second time" in text and "test_tbptt.py:" in text
    parts = "[hc]" if cell else "h and c"
    assert re.search(
        f"It made {parts} of a recurrent state in window 0 .time steps 0 to 3., but is used in "
        r"window 1 .time steps 4 to 7.\.", text
    )  # fmt: skip
    assert "state = nn.detach(state)" in text and "state = state.detach()" in text


def test_one_part_forgotten_is_the_one_named():
    lstm = nn.LSTM(3, 4, generator=_rng()).double()
    text, _ = _second_walk(
        lstm, nn.TBPTT(X, steps=4), lambda window, state: (state[0].detach(), state[1])
    )
    assert "It made c of a recurrent state in window 0 (" in text


def test_an_old_state_names_the_window_it_comes_from():
    lstm, kept = nn.LSTM(3, 4, generator=_rng()).double(), []

    def keep(window, state):
        kept.append(state)
        return kept[1] if window.index == 2 else nn.detach(state)

    text, window = _second_walk(lstm, nn.TBPTT(X, steps=4), keep)
    assert window.index == 3
    assert "h and c of a recurrent state in window 1 (time steps 4 to 7), but is used in window " \
        "3 (time steps 12 to 13)" in text  # fmt: skip


def test_a_stack_names_the_layer():
    deep = nn.Stacked([nn.LSTM(3, 4, generator=_rng()), nn.GRU(4, 2, generator=_rng())]).double()
    text, _ = _second_walk(
        deep, nn.TBPTT(X, steps=4), lambda window, state: (nn.detach(state[0]), state[1])
    )
    assert "It made h of layer 1 of a recurrent state in window 0" in text


def test_a_loop_without_tbptt_names_the_part_and_no_window():
    gru, state = nn.GRU(3, 4, generator=_rng()).double(), None
    with pytest.raises(GraphError) as caught:
        for start in range(0, 12, 4):
            outputs, state = gru(mg.Tensor(X[:, start : start + 4]), state)
            outputs.sum().backward()
    text = str(caught.value)
    assert "It made h of a recurrent state. If a state" in text and "window 0" not in text


def test_what_happened_before_after_or_beside_a_window_is_not_in_it():
    def message(x):
        with pytest.raises(GraphError) as caught:
            (x * 2).sum().backward()
        return str(caught.value)

    def used():
        x = mg.tensor([1.0], requires_grad=True) * 3
        x.sum().backward()
        return x

    before, other = used(), []
    for window in nn.TBPTT(X, steps=7):
        assert "It was made" not in message(before)
        inside = used()
        thread = threading.Thread(target=lambda: other.append(message(used())))
        thread.start()
        thread.join()
        if window.index == 0:
            for _ in nn.TBPTT(X, steps=2):
                inner = used()
            assert "It was made in window 6 (time steps 12 to 13), but is used in window 0 (time " \
                "steps 0 to 6)." in message(inner)  # fmt: skip
    assert "window" not in other[0].split("freed")[1].split("If a state")[0]
    assert "It was made in window 1 (time steps 7 to 13). If a state" in message(inside)
    assert "It was made" not in message(used())
    for _ in nn.TBPTT(X, steps=7):
        break
    assert "It was made" not in message(used())


def test_training_by_hand_and_by_windows_is_the_same(numbers):
    """Weights after a pass, bit by bit: the helper does nothing but cut, carry and detach."""
    targets = np.roll(X, 1, axis=1)
    results = []
    for way in ("by hand", "windows", "own variable"):
        rnn = nn.Stacked([nn.LSTM(3, 4, generator=_rng()), nn.LSTM(4, 3, generator=_rng(1))])
        optimizer = optim.SGD(rnn.double().parameters(), lr=0.1)

        def train(x, y, state, rnn=rnn, optimizer=optimizer):
            out, state = rnn(mg.Tensor(x), state)
            optimizer.zero_grad()
            mg.mse_loss(out, mg.Tensor(y)).backward()
            optimizer.step()
            return state

        state = None
        if way == "windows":
            for window in nn.TBPTT(X, targets, steps=4):
                window.state = train(*window, window.state)
        elif way == "own variable":
            for x, y in nn.TBPTT(X, targets, steps=4):
                state = nn.detach(train(x, y, state))
        else:
            for start in range(0, 14, 4):
                part = slice(start, start + 4)
                state = train(X[:, part], targets[:, part], state)
                state = tuple(tuple(t.detach() for t in layer) for layer in state)
        results.append([p.numpy() for p in rnn.parameters()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.TBPTT(steps=3), ArgumentError, "at least one series"),
        (lambda: nn.TBPTT(X, steps=0), ArgumentError, "steps must be a positive integer"),
        (lambda: nn.TBPTT(X, X[:, :5], steps=3), ShapeError,
         r"series 1 has 5 time steps \(axis 1 of \(2, 5, 3\)\), but series 0 has 14"),
        (lambda: nn.TBPTT(np.zeros(4), steps=3), ShapeError, r"series 0 must be \(N, T_total"),
        (lambda: nn.TBPTT(np.zeros(4), steps=3, time_major=True), None, ""),
        (lambda: nn.TBPTT([1, 2], steps=3), DTypeError, "an array or a tensor, got list"),
        (lambda: nn.TBPTT(X[:, :0], steps=3), ShapeError, "series 0 must be"),
        (lambda: nn.TBPTT(X, steps=15, drop_last=True), ShapeError, "14 time steps make no window"),
        (lambda: nn.TBPTT.over([X], steps=-1), ArgumentError, "TBPTT.over: steps"),
        (lambda: list(nn.TBPTT.over(["abc"])), DTypeError, "a window must be an array"),
    ],
)  # fmt: skip
def test_refused(make, error, words):
    if error is None:
        assert [window.stop for window in make()] == [3, 4]
        return
    with pytest.raises(error, match=words):
        make()


def test_a_state_that_is_no_state_is_refused_at_the_edge():
    with pytest.raises(DTypeError, match="detach: a state is a tensor or a tuple"):
        for window in nn.TBPTT(X, steps=4):
            window.state = "h"
