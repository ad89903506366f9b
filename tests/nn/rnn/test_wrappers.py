"""DropoutWrapper, one_sequence and Residual: masks, numbers by hand, what is refused."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, ShapeError

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "goldens" / "wrappers.npz")
X = np.random.default_rng(1).standard_normal((3, 5, 4))  # (N, T, D)
LENGTHS = np.array([5, 2, 0])


def _rng(seed=0):
    return np.random.default_rng(seed)


class Echo(nn.rnn.base.Cell):
    """output = x, state (h, c) = (x, x): shows what dropout does to each of them."""

    state_names = ("h", "c")

    def __init__(self, size):
        self.input_size = self.hidden_size = size
        self.w_x = self.w_h = nn.Parameter(np.zeros((size, size)))

    def step(self, x, state):
        return x * 1.0, (x * 1.0, x * 1.0)


class EchoLayer(nn.rnn.base.Layer):
    """outputs = x."""

    def __init__(self, size, time_major=False):
        self.input_size = self.hidden_size = size
        self.w_x = self.w_h = nn.Parameter(np.zeros((size, size)))
        self.time_major = time_major

    def _sequence(self, x, state, lengths):
        return x * 1.0, state


def _masks(drop, steps=4, batch=200, size=50):
    """Outputs, h and c of Echo for inputs of ones: (T, N, H) each."""
    seen = []
    h = drop.zero_state(batch)
    with nn.one_sequence(drop):
        for _ in range(steps):
            output, h = drop(mg.Tensor(np.ones((batch, size))), h)
            seen.append((output.numpy(), h[0].numpy(), h[1].numpy()))
    return [np.stack(part) for part in zip(*seen, strict=True)]


# -- the masks ------------------------------------------------------------------------------


@pytest.mark.parametrize("variational", [False, True])
def test_what_is_dropped_how_often_and_how_the_rest_is_scaled(variational):
    """4 * 200 * 50 numbers: the share that is dropped has a deviation of 0.0025 (variational:
    0.005)."""
    for what, part, p in [("input", 0, 0.3), ("output", 0, 0.6), ("state", 1, 0.5)]:
        drop = nn.DropoutWrapper(Echo(50), variational=variational, generator=_rng(), **{what: p})
        parts = _masks(drop)
        dropped = parts[part]
        assert abs((dropped == 0).mean() - p) < 0.02
        np.testing.assert_allclose(dropped[dropped != 0], 1 / (1 - p), rtol=1e-12)
        untouched = {"input": [], "output": [1, 2], "state": [0, 2]}[what]  # c never by itself
        for other in untouched:
            np.testing.assert_array_equal(parts[other], 1)
        constant = (dropped == dropped[0]).all()
        assert constant == variational
        if not variational:  # fresh: neighbouring steps agree by chance only
            agree = ((dropped[0] == 0) == (dropped[1] == 0)).mean()
            assert abs(agree - (p * p + (1 - p) ** 2)) < 0.02
        assert not (dropped[0][0] == dropped[0]).all()  # sequences of a batch differ


def test_input_output_and_state_have_masks_of_their_own():
    drop = nn.DropoutWrapper(Echo(50), 0.5, 0.5, 0.5, True, generator=_rng())
    output, h, c = (part[0] == 0 for part in _masks(drop))  # c has lost what the input lost
    assert abs(c.mean() - 0.5) < 0.02
    assert abs(output.mean() - 0.75) < 0.02 and abs(h.mean() - 0.75) < 0.02
    assert (output >= c).all() and (h >= c).all() and (h != output).mean() > 0.2


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
def test_masks_of_a_layer(variational, time_major):
    drop = nn.DropoutWrapper(
        EchoLayer(50, time_major), 0.4, variational=variational, generator=_rng()
    )
    ones = np.ones((4, 200, 50) if time_major else (200, 4, 50))
    outputs = drop(mg.Tensor(ones))[0].numpy()
    again = drop(mg.Tensor(ones))[0].numpy()
    outputs, again = (y if time_major else y.swapaxes(0, 1) for y in (outputs, again))
    assert abs((outputs == 0).mean() - 0.4) < 0.02
    np.testing.assert_allclose(outputs[outputs != 0], 1 / 0.6, rtol=1e-12)
    assert (outputs == outputs[0]).all() == variational
    assert (outputs != again).any() and not (outputs[:, :1] == outputs).all()


@pytest.mark.parametrize("time_major", [False, True])
def test_the_time_axis_does_not_change_the_masks(time_major):
    drop = nn.DropoutWrapper(EchoLayer(4, time_major), 0.4, generator=_rng())
    x = mg.Tensor(X.swapaxes(0, 1) if time_major else X)
    ours = drop(x)[0].numpy()
    keep = _rng().random((5, 3, 4), dtype=np.float32) >= 0.4  # (T, N, D)
    np.testing.assert_array_equal(
        ours if time_major else ours.swapaxes(0, 1), X.swapaxes(0, 1) * (keep / 0.6)
    )


def test_same_seed_same_bits_and_a_layer_has_the_masks_of_its_cell(make, twin, numbers):
    """Variational input and output masks are drawn in the same order by both."""
    layer = make("lstm", 4, 3)
    cell = twin(layer, nn.LSTMCell)

    def run(seed, unrolled):
        drop = nn.DropoutWrapper(
            cell if unrolled else layer, 0.3, 0.5, variational=True, generator=_rng(seed)
        )
        call = (lambda x, s: nn.unroll(drop, x, s, LENGTHS)) if unrolled else (
            lambda x, s: drop(x, s, LENGTHS)
        )  # fmt: skip
        return numbers.of(call, [drop], X)

    for a, b in zip(run(1, False), run(1, False), strict=True):
        np.testing.assert_array_equal(a, b)
    numbers.close(run(1, True), run(1, False))
    assert (run(1, False)[0] != run(2, False)[0]).any()


@pytest.mark.parametrize("variational", [False, True])
def test_values_and_gradients_by_hand(variational, make, numbers):
    """The masks, drawn again from the same seed in the order input, h of the state, output."""
    cell = make("lstm cell", 4, 3)
    drop = nn.DropoutWrapper(cell, 0.2, 0.4, 0.3, variational, generator=_rng(7))

    def ours(x, s):
        drop.generator = _rng(7)
        return nn.unroll(drop, x, s)

    def by_hand(x, s):
        rng, kept, outputs = _rng(7), {}, []
        h, c = s

        def mask(name, p, size):
            if name not in kept or not variational:
                kept[name] = (rng.random((3, size), dtype=np.float32) >= p) / (1 - p)
            return kept[name]

        for t in range(5):
            output, (h, c) = cell(x[:, t] * mask("input", 0.2, 4), (h, c))
            h = h * mask("h", 0.3, 3)
            outputs.append(output * mask("output", 0.4, 3))
        return mg.stack(outputs, 1), (h, c)

    state = numbers.state(drop, 3)
    numbers.close(numbers.of(ours, [drop], X, state), numbers.of(by_hand, [cell], X, state))


def test_state_dropout_reaches_every_h_of_a_stack_and_no_c(make):
    stack = nn.Stacked([Echo(50), nn.Residual(Echo(50))])
    drop = nn.DropoutWrapper(stack, state=0.5, generator=_rng())
    _, ((h0, c0), (h1, c1)) = drop(mg.Tensor(np.ones((200, 50))))
    for h in (h0, h1):
        assert abs((h.numpy() == 0).mean() - 0.5) < 0.02
    assert (h0.numpy() != h1.numpy()).any() and c0.numpy().all() and c1.numpy().all()
    gru = nn.DropoutWrapper(make("gru cell", 4, 50), state=0.5, generator=_rng())
    _, h = gru(mg.Tensor(np.ones((200, 4))))
    assert abs((h.numpy() == 0).mean() - 0.5) < 0.02


# -- when a sequence begins and ends --------------------------------------------------------


def test_unroll_draws_variational_masks_anew_for_each_call():
    drop = nn.DropoutWrapper(Echo(50), 0.5, variational=True, generator=_rng())
    x = mg.Tensor(np.ones((8, 3, 50)))
    (a, _), (b, _) = nn.unroll(drop, x), nn.unroll(drop, x)
    assert (a.numpy() == a.numpy()[:, :1]).all() and (a.numpy() != b.numpy()).any()
    with nn.one_sequence(drop):
        (a, _), (b, _) = nn.unroll(drop, x), nn.unroll(drop, x)
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert (nn.unroll(drop, x)[0].numpy() != b.numpy()).any()


def test_a_loop_of_ones_own_must_say_where_a_sequence_begins():
    drop = nn.DropoutWrapper(Echo(4), 0.5, variational=True, generator=_rng())
    stack = nn.Stacked([Echo(4), drop])
    x = mg.Tensor(np.ones((2, 4)))
    with pytest.raises(ArgumentError, match="'with nn.one_sequence.cell.:'"):
        stack(x)
    with nn.one_sequence(stack), pytest.raises(ZeroDivisionError):
        stack(x)
        raise ZeroDivisionError
    with pytest.raises(ArgumentError, match="nn.unroll"):
        stack(x)
    stack.eval()(x)


def test_eval_switches_it_off(make):
    cell = make("lstm cell", 4, 3)
    drop = nn.DropoutWrapper(cell, 0.5, 0.5, 0.5, generator=_rng())
    plain, _ = nn.unroll(cell, mg.Tensor(X))
    assert (nn.unroll(drop, mg.Tensor(X))[0].numpy() != plain.numpy()).any()
    before = drop.generator.bit_generator.state
    np.testing.assert_array_equal(nn.unroll(drop.eval(), mg.Tensor(X))[0].numpy(), plain.numpy())
    assert drop.generator.bit_generator.state == before


def test_nothing_dropped_against_tensorflow():
    """DropoutWrapper with keep 1 around an LSTM: goldens/wrappers.npz."""
    g = {k.removeprefix("dropout_keep1_lstm/"): GOLDEN[k] for k in GOLDEN}
    layer = nn.LSTM(4, 5, generator=_rng()).double()
    kernel = g["w/kernel"]
    layer.load_state_dict({"w_x": kernel[:4], "w_h": kernel[4:], "bias": g["w/bias"]})
    drop = nn.DropoutWrapper(layer, generator=_rng())
    state = mg.Tensor(g["state0/1"]), mg.Tensor(g["state0/0"])
    outputs, (h, c) = drop(mg.Tensor(g["in/x"]), state, g["in/lengths"])
    np.testing.assert_allclose(outputs.numpy(), g["dynamic_len/outputs"], rtol=1e-9)
    np.testing.assert_allclose(h.numpy(), g["dynamic_len/final_state/1"], rtol=1e-9)
    np.testing.assert_allclose(c.numpy(), g["dynamic_len/final_state/0"], rtol=1e-9)


def test_float32_stays_float32():
    layer = nn.LSTM(4, 4, generator=_rng())
    model = nn.Residual(nn.DropoutWrapper(layer, 0.5, 0.5, generator=_rng()))
    x = mg.Tensor(X.astype(np.float32), requires_grad=True)
    outputs, state = model(x, None, LENGTHS)
    outputs.sum().backward()
    tensors = [outputs, *state, x.grad, *(p.grad for p in model.parameters())]
    assert {t.dtype for t in tensors} == {np.dtype(np.float32)}


def test_dropout_refuses(make):
    cell, layer, rng = make("lstm cell", 4, 3), make("lstm", 4, 3), _rng()
    for arguments, error, words in [
        ({"input": 1.0}, ArgumentError, r"input is the probability to drop .* got 1.0"),
        ({"state": -0.1}, ArgumentError, "state is the probability"),
        ({"output": "0.5"}, ArgumentError, "output is the probability"),
        ({"generator": 0}, ArgumentError, "default_rng"),
    ]:
        with pytest.raises(error, match=words):
            nn.DropoutWrapper(cell, **{"generator": rng, **arguments})
    with pytest.raises(ArgumentError, match="LSTM is a layer.*wrap a cell and run it with nn.unr"):
        nn.DropoutWrapper(layer, state=0.5, generator=rng)
    with pytest.raises(DTypeError, match="DropoutWrapper: expected a recurrent cell or layer"):
        nn.DropoutWrapper(nn.Linear(2, 2, generator=rng), 0.5, generator=rng)
    with pytest.raises(ShapeError, match="output dropout has no meaning"):
        pair = nn.Bidirectional(make("gru", 3, 4), make("gru", 3, 4), None)
        nn.DropoutWrapper(pair, output=0.5, generator=rng)
    drop = nn.DropoutWrapper(layer, 0.5, generator=rng)
    with pytest.raises(DTypeError, match="input dropout needs vectors of floats, but x is int64"):
        drop(np.zeros((2, 3), int))
    with pytest.raises(ShapeError, match="LSTM: x must be"):
        drop(mg.Tensor(X[0]))
    nn.DropoutWrapper(layer, output=0.5, generator=rng)(np.zeros((2, 3), int))


# -- the shortcut ---------------------------------------------------------------------------


@pytest.mark.parametrize("time_major", [False, True])
def test_residual_by_hand(time_major, make, twin, numbers):
    layer = make("gru", 4, 4, time_major=time_major)
    cell = twin(layer, nn.GRUCell)
    res, res_cell = nn.Residual(layer), nn.Residual(cell)
    state = numbers.state(res, 3)

    def fused(x, s):
        out, last = res(x.swapaxes(0, 1) if time_major else x, s, LENGTHS)
        return out.swapaxes(0, 1) if time_major else out, last

    def by_hand(x, s):
        out, (last,) = numbers.by_hand([cell], x, (s,), LENGTHS)
        rows = [x[n, :length] for n, length in enumerate(LENGTHS)]
        rows = [mg.pad(row, ((0, 5 - len(row)), (0, 0))) if len(row) else X[0] * 0 for row in rows]
        return out + mg.stack(rows), last

    expected = numbers.of(by_hand, [cell], X, state)
    numbers.close(numbers.of(fused, [res], X, state), expected)
    numbers.close(
        numbers.of(lambda x, s: nn.unroll(res_cell, x, s, LENGTHS), [res_cell], X, state), expected
    )
    whole, _ = nn.unroll(res_cell, mg.Tensor(X))
    np.testing.assert_allclose(
        whole.numpy(), nn.unroll(cell, mg.Tensor(X))[0].numpy() + X, rtol=1e-12
    )


def test_residual_refuses(make):
    with pytest.raises(ShapeError, match="GRUCell takes inputs of size 4 and puts out 3"):
        nn.Residual(make("gru cell", 4, 3))
    with pytest.raises(DTypeError, match="look ids up in an nn.Embedding"):
        nn.Residual(make("gru", 4, 4))(np.zeros((2, 3), int))
    with pytest.raises(ShapeError, match="a sum with x has no meaning"):
        nn.Residual(nn.Bidirectional(make("gru", 4, 4), make("gru", 4, 4), None))
    with pytest.raises(ArgumentError, match="Residual: a cell takes one time step"):
        nn.Residual(make("gru cell", 4, 4))(mg.Tensor(X[:, 0]), None, LENGTHS)
