"""Captured functions of sequences that end early: lengths, ids and masks are made anew."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import ArgumentError, CaptureError, DTypeError, IndexRangeError, ShapeError
from minigrad.nn import seq2seq
from minigrad.optim.replay import Replay
from minigrad.prepared import prepared
from minigrad.program import Program
from minigrad.recording import made, recorded, repeat, without_unused

N, S, T, V, E, H = 9, 7, 5, 11, 3, 6


def generator(seed=0):
    return np.random.default_rng(seed)


class Translator(nn.Module):
    """Two layers that read, two that write; with an attention if there is one to make."""

    def __init__(self, attention=None):
        rng = generator()
        fed = H if attention is not None else 0

        def parts(inputs):
            sizes = inputs, H
            return nn.Embedding(V, E, generator=rng), nn.Stacked(
                [nn.LSTM(size, H, time_major=True, generator=rng) for size in sizes]
            )

        self.encoder = seq2seq.Encoder(*parts(E))
        head = nn.Linear(H, V, generator=rng)
        look = attention(rng) if attention is not None else None
        self.decoder = seq2seq.Decoder(*parts(E + fed), head, look)

    def forward(self, x, x_lengths, y, y_lengths):
        outputs, state = self.encoder(x, x_lengths)
        memory = (outputs, x_lengths) if self.decoder.attention is not None else ()
        teacher = seq2seq.TeacherForcing(seq2seq.decoder_inputs(y, 0), y_lengths)
        logits = self.decoder(teacher, state, *memory).logits
        return seq2seq.sequence_loss(logits, y, y_lengths)


def batches(count, seed=3, rows=N):
    """Sequences and answers; some batches are whole, and the first two have the same lengths."""
    rng = generator(seed)
    for i in range(count):
        x, y = rng.integers(0, V, (rows, S)), rng.integers(0, V, (rows, T))
        x_lengths, y_lengths = rng.integers(1, S + 1, rows), rng.integers(1, T + 1, rows)
        if i in (0, 1, 4):
            x_lengths, y_lengths = np.full(rows, S), np.full(rows, T)
        if i == 5:
            x_lengths, y_lengths = np.full(rows, 2), np.full(rows, 1)
        x[np.arange(S) >= x_lengths[:, None]] = 99  # no id: nobody may look at it
        yield x, x_lengths, y, y_lengths


def trained(make, captured, steps=9, dtype=np.float32):
    model = make()
    if dtype == np.float64:
        model.double()
    parameters = list(model.parameters())
    optimizer = optim.Adam(parameters, lr=0.01)
    step = mg.capture(model, optimizer=optimizer)
    seen = []
    for batch in batches(steps):
        if captured:
            loss = step(*batch)
        else:
            optimizer.zero_grad()
            loss = model(*batch)
            loss.backward()
            optimizer.step()
        seen += [loss.numpy(), *(p.numpy().copy() for p in parameters)]
    return seen, step


@pytest.mark.parametrize("mode", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_captured_training_gives_the_same_bits(mode, dtype, monkeypatch):
    runs, updates = [], []
    forward, finish = Program.forward, Replay.finish
    monkeypatch.setattr(Program, "forward", lambda *args: runs.append(1) or forward(*args))
    monkeypatch.setattr(Replay, "finish", lambda *args: updates.append(1) or finish(*args))
    with mg.kernels.use(mode):
        plain, _ = trained(Translator, False, dtype=dtype)
        replayed, step = trained(Translator, True, dtype=dtype)
    assert step.programs == 1 and len(runs) == 1  # no op is called from the fourth call on
    assert len(updates) == (5 if mode == "numba" else 0)
    for a, b in zip(plain, replayed, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "attention",
    [
        lambda rng: seq2seq.Luong(H, H, generator=rng),
        lambda rng: seq2seq.Bahdanau(4, H, H, generator=rng),
    ],
)
def test_with_an_attention_too(attention):
    def make():
        return Translator(attention)

    plain, _ = trained(make, False)
    replayed, step = trained(make, True)
    assert step.programs == 1
    for a, b in zip(plain, replayed, strict=True):
        np.testing.assert_array_equal(a, b)


def residual(**options):
    return nn.Residual(nn.LSTM(E, E, **options))


def projected(**options):
    return nn.LSTM(E, H, projection=4, peepholes=True, **options)


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    "kind", [nn.RNN, nn.GRU, nn.LSTM, nn.LayerNormLSTM, projected, residual, "both ways", "cell"]
)
def test_every_recurrence(kind, time_major):
    options = {"generator": generator()}
    if kind == "cell":
        cell = nn.LSTMCell(E, H, **options)
    elif kind == "both ways":
        sides = [nn.GRU(E, H, time_major=time_major, generator=generator(i)) for i in range(2)]
        layer = nn.Bidirectional(*sides)
    else:
        sizes = () if kind in (projected, residual) else (E, H)
        layer = kind(*sizes, time_major=time_major, **options)

    def loss_of(x, lengths):
        if kind == "cell":
            outputs, state = nn.unroll(cell, x, None, lengths, time_major=time_major)
        else:
            outputs, state = layer(x, None, lengths)
        last = nn.last_output(outputs, lengths, time_major=time_major)
        return mg.square(outputs).sum() + (last * 2.0).sum()

    captured = mg.capture(loss_of)
    rng = generator(1)
    for i in range(7):
        lengths = (np.full(N, S) if i < 2 else rng.integers(0, S + 1, N)).astype(np.int32)
        x = rng.standard_normal((S, N, E) if time_major else (N, S, E)).astype(np.float32)
        found = []
        for run in (loss_of, captured):
            leaf = mg.Tensor(x, requires_grad=True)
            loss = run(leaf, lengths)
            loss.backward()
            found.append((loss.numpy(), leaf.grad.numpy()))
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)
    assert captured.programs == 1


@pytest.mark.parametrize("over_time", [False, True])
@pytest.mark.parametrize("over_batch", [False, True])
def test_every_average_of_the_loss(over_time, over_batch):
    def loss_of(logits, y, lengths):
        loss = seq2seq.sequence_loss(logits, y, lengths, over_time=over_time, over_batch=over_batch)
        return (loss * loss).sum()

    captured = mg.capture(loss_of)
    rng = generator()
    for _, _, y, lengths in batches(7):
        logits = rng.standard_normal((N, T, V)).astype(np.float32)
        found = []
        for run in (loss_of, captured):
            leaf = mg.Tensor(logits, requires_grad=True)
            loss = run(leaf, y, lengths)
            loss.backward()
            found.append((loss.numpy(), leaf.grad.numpy()))
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_reading_without_gradients_makes_nothing_that_nobody_wants():
    model = Translator()
    read = mg.capture(lambda x, lengths: model.encoder(x, lengths)[1])
    with mg.no_grad():
        for x, lengths, *_ in batches(7):
            for pair, wanted in zip(read(x, lengths), model.encoder(x, lengths)[1], strict=True):
                for a, b in zip(pair, wanted, strict=True):
                    np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("replays", [0, 1, 2, 4])
@pytest.mark.parametrize(
    ("place", "at", "value", "error", "says"),
    [
        (0, (2, 0), V, IndexRangeError, r"id 11 at \(2, 0\) is outside the table"),
        (1, 2, S + 1, ArgumentError, r"Encoder: lengths must be in \[1, T=7\], but lengths\[2\]"),
        (1, 0, 0, ArgumentError, "an empty sequence is its EOS alone"),
        (2, (3, T - 1), -1, IndexRangeError, r"target id -1 at \(3, 4\)"),
        (3, 1, T + 1, ArgumentError, r"TeacherForcing: lengths must be in \[1, T=5\]"),
    ],
)
def test_bad_input_changes_nothing(place, at, value, error, says, replays):
    model = Translator()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    step = mg.capture(model, optimizer=optimizer)
    some = list(batches(replays + 3))
    for batch in some[:-2]:
        step(*batch)
    before = [p.numpy().copy() for p in model.parameters()]
    bad = [x.copy() for x in some[-2]]
    bad[1][at[0] if place == 0 else 0] = S  # the place counts
    bad[3][at[0] if place == 2 else 0] = T
    bad[place][at] = value
    bad[0][bad[0] == 99] = 0
    with pytest.raises(error, match=says):
        step(*bad)
    for p, was in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.numpy(), was)
    assert np.isfinite(step(*some[-1]).item())


def test_a_target_in_the_padding_is_not_looked_at_and_one_that_counts_is():
    """Targets past the end are no ids in the recordings; later one is wrong that counts."""
    head = nn.Linear(E, V, generator=generator())
    x, y = np.ones((N, T, E), np.float32), np.full((N, T), -5)
    y[:, 0] = 3
    lengths = np.ones(N, np.int64)
    step = mg.capture(lambda x, y, lengths: seq2seq.sequence_loss(head(x), y, lengths))
    for _ in range(4):
        assert np.isfinite(step(x, y, lengths).item())
    with pytest.raises(IndexRangeError, match=r"target id -5 at \(4, 1\)"):
        step(x, y, np.array([1, 1, 1, 1, 2, 1, 1, 1, 1]))
    with pytest.raises(ShapeError, match=r"lengths must be \(N=9,\)"):
        step(x, y, lengths[:4])
    with pytest.raises(DTypeError, match="lengths must be integers"):
        step(x, y, lengths.astype(float))


# -- what this is made of -------------------------------------------------------------------------


def halves(x, count):
    if count < 0:
        raise ArgumentError("count cannot be negative")
    return x[:count] // 2, x > 1


def test_prepared_is_a_call_elsewhere():
    first, mask = prepared(halves, np.array([2, 4, 0]), 2)
    assert first.tolist() == [1, 2] and mask.tolist() == [True, True, False]


def test_prepared_with_other_results_than_before_is_refused():
    step = mg.capture(lambda x, w: (w * prepared(halves, x, 2)[0]).sum())
    w = mg.ones(2, requires_grad=True)
    for i in range(5):
        assert step(np.array([2 * i, 8, 0]), w).item() == i + 4

    def other(x, w):
        return (w * prepared(np.flatnonzero, x)[:2]).sum()

    with pytest.raises(CaptureError):
        step = mg.capture(other)
        for i in range(3):
            step(np.array([i, 1, 1, 1]), w)


def test_unused_calls_are_left_out_and_no_others():
    x = np.ones(3)
    with recorded() as calls:
        a = made(np.add, x, 1)
        b = made(np.multiply, a, 2)
        made(np.negative, b)  # wanted by nobody
        c = made(np.sqrt, a)
        made(np.exp, made(np.square, c))  # a chain that nobody wants
    kept = without_unused(calls, [c, b[:1]])
    assert len(calls) == 6 and len(kept) == 3
    x[:] = 8
    repeat(kept)
    assert a.tolist() == [9, 9, 9] and b.tolist() == [18, 18, 18] and c.tolist() == [3, 3, 3]
