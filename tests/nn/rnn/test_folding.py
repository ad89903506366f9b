"""InputProjection: the numbers of a dense layer and a recurrence, as two products or as one."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.nn.rnn import folding
from minigrad.nn.rnn.folding import folded

X = np.random.default_rng(1).standard_normal((3, 5, 2))  # (N, T, D)
LENGTHS = np.array([5, 2, 0])
KINDS = {
    "lstm": lambda rng, **more: nn.LSTM(6, 4, generator=rng, **more),
    "peepholes": lambda rng, **more: nn.LSTM(6, 4, peepholes=True, generator=rng, **more),
    "gru": lambda rng, **more: nn.GRU(6, 4, generator=rng, **more),
    "gru, reset after": lambda rng, **more: nn.GRU(6, 4, reset_after=True, generator=rng, **more),
    "rnn": lambda rng, **more: nn.RNN(6, 4, generator=rng, **more),
    "layer norm": lambda rng, **more: nn.LayerNormLSTM(6, 4, generator=rng, **more),
    "stacked": lambda rng, **more: nn.Stacked(
        [nn.LSTM(6, 4, generator=rng, **more), nn.GRU(4, 3, generator=rng, **more)]
    ),
    "both ways": lambda rng, **more: nn.Bidirectional(
        nn.RNN(6, 4, generator=rng, **more), nn.GRU(6, 4, generator=rng, **more)
    ),
    "residual": lambda rng, **more: nn.Residual(nn.GRU(6, 6, generator=rng, **more)),
}
ONE_PRODUCT = {"lstm", "peepholes", "gru", "gru, reset after", "rnn", "stacked"}


def _parts(kind, bias=True, **more):
    """A dense layer 2 -> 6 and a recurrence of 6, float64, no parameter zero."""
    rng = np.random.default_rng(0)
    dense, inner = nn.Linear(2, 6, bias=bias, generator=rng), KINDS[kind](rng, **more)
    for module in (dense, inner):
        for parameter in module.double().parameters():
            parameter.data = parameter.array + 0.1 * rng.standard_normal(parameter.shape)
    return dense, inner


@pytest.fixture(params=[0, 1 << 20], ids=["always worth it", "as it is"])
def worth(request, monkeypatch):
    """The least work to be saved: the tests' inputs are small."""
    monkeypatch.setattr(folding, "_WORTH", request.param)
    return request.param


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_both_modules_in_turn(kind, bias, lengths, worth, numbers):
    dense, inner = _parts(kind, bias)
    both = nn.InputProjection(dense, inner)
    state = numbers.state(both, 3)
    ours = numbers.of(lambda x, s: both(x, s, lengths), [both], X, state)
    theirs = numbers.of(lambda x, s: inner(dense(x), s, lengths), [dense, inner], X, state)
    numbers.close(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_sees_narrow_inputs_where_that_saves_work(kind, monkeypatch):
    dense, inner = _parts(kind)
    assert folded(dense, inner, 15) == (dense, inner)  # too little to be saved
    monkeypatch.setattr(folding, "_WORTH", 0)
    take, layers = folded(dense, inner, 1000)
    if kind not in ONE_PRODUCT:
        assert take is dense and layers is inner
        return
    first = layers.layers[0] if kind == "stacked" else layers
    assert take(X) is X and first.w_x.shape[0] == first.input_size == 2
    assert not isinstance(first.w_x, nn.Parameter) and first.w_x.requires_grad
    own = inner.layers[0] if kind == "stacked" else inner
    assert own.w_x.shape[0] == own.input_size == 6  # the module itself is as it was
    assert folded(dense, inner, 1)[0] is dense  # one row: less work than a product of both


def test_without_a_bias_a_norm_does_not_matter(monkeypatch):
    monkeypatch.setattr(folding, "_WORTH", 0)
    assert folded(*_parts("layer norm", bias=False), 1000)[1].w_x.shape[0] == 2


def test_a_dense_layer_that_makes_fewer_numbers_stays(monkeypatch):
    monkeypatch.setattr(folding, "_WORTH", 0)
    rng = np.random.default_rng(0)
    dense, inner = nn.Linear(30, 6, generator=rng), nn.LSTM(6, 4, generator=rng)
    assert folded(dense, inner, 10_000) == (dense, inner)


def test_a_subclass_computes_what_it_says(monkeypatch):
    """Its forward may be another one, so nothing is multiplied ahead."""

    class Rectified(nn.Linear):
        def forward(self, x):
            return mg.relu(super().forward(x))

    class OfRectified(nn.GRU):
        def forward(self, x, state=None, lengths=None):
            return super().forward(mg.relu(x), state, lengths)

    class WithShortcut(nn.Stacked):
        def _run(self, x, state, lengths):
            outputs, state = super()._run(x, state, lengths)
            return outputs + x, state

    monkeypatch.setattr(folding, "_WORTH", 0)
    rng = np.random.default_rng(0)
    for dense, inner in (
        (Rectified(2, 6, generator=rng), nn.GRU(6, 4, generator=rng)),
        (nn.Linear(2, 6, generator=rng), OfRectified(6, 4, generator=rng)),
        (nn.Linear(2, 6, generator=rng), WithShortcut([nn.GRU(6, 6, generator=rng)])),
    ):
        outputs, _ = nn.InputProjection(dense.double(), inner.double())(X)
        np.testing.assert_array_equal(outputs.numpy(), inner(dense(X))[0].numpy())


def test_a_summary_sees_both_modules(monkeypatch):
    monkeypatch.setattr(folding, "_WORTH", 0)
    rng = np.random.default_rng(0)
    both = nn.InputProjection(nn.Linear(2, 6, generator=rng), nn.RNN(6, 4, generator=rng))
    rows = both.summary((3, 500, 2)).rows
    assert [row.output for row in rows] == ["(3, 500, 4)", "(3, 500, 6)", "(3, 500, 4)"]
    assert [row.flops for row in rows] == [0, 2 * 1500 * 12, 2 * 1500 * (24 + 16)]


def test_time_major(worth, numbers):
    both = nn.InputProjection(*_parts("lstm", time_major=True))
    other = nn.InputProjection(*_parts("lstm"))
    assert both.time_major and not other.time_major

    def turned(x, state):
        outputs, last = both(x.swapaxes(0, 1), state, LENGTHS)
        return outputs.swapaxes(0, 1), last

    theirs = numbers.of(lambda x, s: other(x, s, LENGTHS), [other], X)
    numbers.close(numbers.of(turned, [both], X), theirs)


def test_cell_and_layer_agree(worth, twin, numbers):
    dense, layer = _parts("lstm")
    wrapped = nn.InputProjection(dense, twin(layer, nn.LSTMCell))
    assert wrapped.is_cell and wrapped.input_size == 2 and wrapped.output_size == 4
    state = numbers.state(wrapped, 3)
    ours = numbers.of(lambda x, s: nn.unroll(wrapped, x, s, LENGTHS), [wrapped], X, state)
    both = nn.InputProjection(dense, layer)
    theirs = numbers.of(lambda x, s: both(x, s, LENGTHS), [both], X, state)
    numbers.close(ours, theirs)


def test_watchers_of_the_layer_inside_hear_of_it(monkeypatch):
    monkeypatch.setattr(folding, "_WORTH", 0)
    dense, inner = _parts("lstm")
    with mg.watch.GradientFlow.attach(nn.InputProjection(dense, inner)) as flows:
        outputs, _ = nn.InputProjection(dense, inner)(X)
        outputs.sum().backward()
    assert len(flows["inner"].h[-1]) == 5


@pytest.mark.parametrize("shape", [(0, 5, 2), (3, 0, 2), (0, 0, 2)])
def test_nothing_in_nothing_out(shape, monkeypatch):
    monkeypatch.setattr(folding, "_WORTH", -(1 << 20))
    dense, inner = _parts("lstm")
    assert folded(dense, inner, 0)[0] is not dense
    outputs, (h, _) = nn.InputProjection(dense, inner)(np.zeros(shape))
    assert outputs.shape == (*shape[:2], 4) and h.shape == (shape[0], 4)
    outputs.sum().backward()
    assert all(not p.grad.numpy().any() for p in dense.parameters() if p.grad is not None)


def test_what_is_frozen_stays_and_the_rest_learns(monkeypatch):
    monkeypatch.setattr(folding, "_WORTH", 0)
    dense, inner = _parts("gru")
    both = copy.deepcopy(nn.InputProjection(dense, inner))
    for parameter in both.inner.parameters():
        parameter.requires_grad = False
    for module in (both, nn.InputProjection(dense, inner)):
        (module(np.tile(X, (9, 1, 1)))[0] ** 2).sum().backward()
    assert all(parameter.grad is None for parameter in both.inner.parameters())
    for ours, theirs in zip(both.projection.parameters(), dense.parameters(), strict=True):
        np.testing.assert_array_equal(ours.grad.numpy(), theirs.grad.numpy())


def test_parameters_in_the_order_of_the_data():
    both = nn.InputProjection(*_parts("lstm"))
    names = [name for name, _ in both.named_parameters()]
    assert names == ["projection.weight", "projection.bias", "inner.w_x", "inner.w_h", "inner.bias"]


def test_large_inputs_in_float32_captured_and_not():
    """Large enough to be one product by itself; a captured step replays it, to the bit."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 9, 8)).astype(np.float32)

    def losses(capture):
        rng = np.random.default_rng(0)
        dense, inner = nn.Linear(8, 64, generator=rng), nn.LSTM(64, 16, generator=rng)
        both = nn.InputProjection(dense, inner)
        optimizer = mg.optim.SGD(both.parameters(), lr=0.1)

        def loss_of(x):
            outputs, _ = both(x)
            assert folded(dense, inner, 360)[1] is not inner and outputs.dtype == np.float32
            return (outputs * outputs).mean()

        train, found = mg.capture(loss_of, optimizer=optimizer), []
        for _ in range(4):
            if capture:
                found.append(train(x).item())
                continue
            optimizer.zero_grad()
            loss = loss_of(x)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        assert train.programs == capture
        return found

    assert losses(True) == losses(False)
    assert losses(True)[0] > losses(True)[-1]


def test_refuses(make):
    rng = np.random.default_rng(0)
    dense, lstm = nn.Linear(2, 6, generator=rng), nn.LSTM(6, 4, generator=rng)
    with pytest.raises(DTypeError, match="the projection comes first and must be an nn.Linear, go"):
        nn.InputProjection(lstm, dense)
    with pytest.raises(DTypeError, match="InputProjection: expected a recurrent cell or layer"):
        nn.InputProjection(dense, dense)
    with pytest.raises(ShapeError, match=r"inputs of size 5, but the projection makes 6 .*\(2, 6"):
        nn.InputProjection(dense, make("lstm", 5, 4))
    both = nn.InputProjection(dense, lstm)
    with pytest.raises(DTypeError, match="a projection needs vectors of floats, but x is int64"):
        both(np.zeros((2, 3), int))
    with pytest.raises(DTypeError, match="InputProjection: x must be a tensor or an array"):
        both([[[1.0, 2.0]]])
    with pytest.raises(ShapeError, match=r"must be \(N, T, D\) with D=2 .*got .*D=6"):
        both(mg.ones(3, 5, 6))
    with pytest.raises(ShapeError, match=r"must be \(N, T, D\)"):
        both(mg.ones(3, 2))
    with pytest.raises(DTypeError, match="InputProjection: x is float64 but the weights are float"):
        both(X)
    with pytest.raises(ShapeError, match="state h is"):
        both(mg.ones(3, 5, 2), (mg.ones(3, 6), mg.ones(3, 4)))
    with pytest.raises(ArgumentError, match="lengths must be in"):
        both(mg.ones(3, 5, 2), None, [6, 1, 1])
    cell = nn.InputProjection(dense, nn.LSTMCell(6, 4, generator=rng))
    with pytest.raises(ShapeError, match=r"must be \(N, D\)"):
        cell(mg.ones(3, 5, 2))
    with pytest.raises(ArgumentError, match="a cell takes one time step, which has no lengths"):
        cell(mg.ones(3, 2), None, LENGTHS)
