"""Attention, the loss of sequences, and the conventions about GO, EOS and padding."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from minigrad.nn import seq2seq

KINDS = {
    "luong": lambda rng: seq2seq.Luong(5, 4, generator=rng),
    "scaled": lambda rng: seq2seq.Luong(5, 4, scaled=True, generator=rng),
    "bahdanau": lambda rng: seq2seq.Bahdanau(3, 5, 4, generator=rng),
    "normed": lambda rng: seq2seq.Bahdanau(3, 5, 4, normed=True, generator=rng),
}


def _attention(kind):
    rng = np.random.default_rng(0)
    attention = KINDS[kind](rng).double()
    for parameter in attention.parameters():
        parameter.data = parameter.array + rng.standard_normal(parameter.shape)
    return attention


def _scores(attention, query, values):
    """By the formulas of the papers, for one query (Q,) and one memory (S, M)."""
    keys = values @ attention.w_memory.array
    if isinstance(attention, seq2seq.Luong):
        scale = 1 if attention.scale is None else attention.scale.array
        return scale * keys @ query
    v, shift = attention.v.array, 0
    if attention.g is not None:
        v, shift = attention.g.array * v / np.linalg.norm(v), attention.bias.array
    return np.tanh(query @ attention.w_query.array + keys + shift) @ v


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_by_its_formula(kind, kernel):
    attention, rng = _attention(kind), np.random.default_rng(1)
    query, values = rng.standard_normal((3, 2, 5)), rng.standard_normal((3, 6, 4))
    lengths = np.array([6, 1, 4])
    with mg.kernels.use(kernel):
        memory = attention.memory(mg.Tensor(values), lengths)
        context, alignment = attention(mg.Tensor(query), memory)
        one = attention(mg.Tensor(query[:, 0]), memory)
    for n, end in enumerate(lengths):
        for t in range(2):
            scores = _scores(attention, query[n, t], values[n, :end])
            weights = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(alignment.numpy()[n, t, :end], weights, rtol=1e-10)
            assert not alignment.numpy()[n, t, end:].any()
            np.testing.assert_allclose(context.numpy()[n, t], weights @ values[n, :end], rtol=1e-9)
    np.testing.assert_allclose(one[0].numpy(), context.numpy()[:, 0], rtol=1e-12)
    np.testing.assert_allclose(one[1].numpy(), alignment.numpy()[:, 0], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_attention(kind):
    attention, rng = _attention(kind), np.random.default_rng(2)
    lengths = np.array([4, 2])
    w = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))

    def value(query, values):
        context, alignment = attention(query, attention.memory(values, lengths))
        return (context * w[0]).sum() + (alignment * w[1]).sum()

    leaves = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 4, 4))
    mg.testing.gradcheck(value, leaves)
    attention.zero_grad()
    value(*map(mg.Tensor, leaves)).backward()
    for parameter in attention.parameters():
        direction = rng.standard_normal(parameter.shape)
        before = parameter.array.copy()
        ends = []
        for step in (1e-6, -1e-6):
            parameter.data = before + step * direction
            ends.append(value(*map(mg.Tensor, leaves)).item())
        parameter.data = before
        slope = (parameter.grad.numpy() * direction).sum()
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-8)


def test_initial_values_are_tensorflows():
    rng = np.random.default_rng(0)
    normed = seq2seq.Bahdanau(16, 5, 4, normed=True, generator=rng)
    assert normed.g.item() == pytest.approx(0.25) and not normed.bias.numpy().any()
    scaled = seq2seq.Luong(5, 4, scaled=True, generator=rng)
    assert scaled.scale.item() == 1 and scaled.w_memory.shape == (4, 5)
    assert seq2seq.Luong(5, 4, generator=rng).scale is None


def test_attention_refuses():
    attention, values = _attention("luong"), mg.zeros(3, 6, 4, dtype=np.float64)
    memory = attention.memory(values)
    for error, words, call in [
        (ShapeError, ["Q=5", "Q=4"], lambda: attention(mg.zeros(3, 4), memory)),
        (ShapeError, ["batch 2", "3"], lambda: attention(mg.zeros(2, 5), memory)),
        (ShapeError, ["M=4"], lambda: attention.memory(values[:, :, :2])),
        (ShapeError, ["S at least 1"], lambda: attention.memory(values[:, :0])),
        (ArgumentError, ["memory lengths[1] is 0"], lambda: attention.memory(values, [6, 0, 1])),
        (ArgumentError, ["depth"], lambda: seq2seq.Luong(0, 4, generator=np.random.default_rng())),
    ]:
        with pytest.raises(error) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value


# -- the loss -----------------------------------------------------------------------------------


def test_loss_in_every_average():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4))
    lengths = np.array([4, 1, 2])
    each = -np.log(np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True))
    each = np.take_along_axis(each, targets[:, :, None], axis=2)[:, :, 0]
    mask = np.arange(4) < lengths[:, None]
    each = each * mask
    expected = {
        (True, True): each.sum() / 7, (True, False): each.sum(axis=1) / lengths,
        (False, True): each.sum(axis=0) / mask.sum(axis=0), (False, False): each,
    }  # fmt: skip
    for (time, batch), value in expected.items():
        def loss(x, time=time, batch=batch):
            return seq2seq.sequence_loss(x, targets, lengths, over_time=time, over_batch=batch)

        np.testing.assert_allclose(loss(mg.Tensor(logits)).numpy(), value, rtol=1e-12)
        mg.testing.gradcheck(lambda x, loss=loss: (loss(x) * loss(x)).sum(), [logits])
    whole = seq2seq.sequence_loss(mg.Tensor(logits), targets)
    assert whole.item() != pytest.approx(each.sum() / 7)


def test_time_steps_at_which_all_have_ended_count_nothing():
    logits = mg.Tensor(np.ones((2, 3, 4)), requires_grad=True)
    by_step = seq2seq.sequence_loss(logits, np.zeros((2, 3), int), [1, 2], over_time=False)
    np.testing.assert_allclose(by_step.numpy(), [np.log(4), np.log(4), 0])
    by_step.sum().backward()
    assert np.isfinite(logits.grad.numpy()).all() and not logits.grad.numpy()[:, 2].any()


def test_loss_refuses():
    logits, y = mg.zeros(2, 3, 4), np.zeros((2, 3), int)
    for error, words, call in [
        (ShapeError, ["(N=2, T=2)", "cut or pad"],
         lambda: seq2seq.sequence_loss(logits, y[:, :2])),
        (ShapeError, ["(N, T, V)"], lambda: seq2seq.sequence_loss(logits[0], y)),
        (DTypeError, ["tensor"], lambda: seq2seq.sequence_loss(logits.numpy(), y)),
        (DTypeError, ["integer"], lambda: seq2seq.sequence_loss(logits, y + 0.5)),
        (ArgumentError, ["lengths[1] is 4"], lambda: seq2seq.sequence_loss(logits, y, [1, 4])),
        (ArgumentError, ["over_time"],
         lambda: seq2seq.sequence_loss(logits, y, over_time="yes")),
        (IndexRangeError, ["4 classes"], lambda: seq2seq.sequence_loss(logits, y + 4)),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value


# -- ids ----------------------------------------------------------------------------------------


def test_decoder_inputs_are_one_step_late():
    targets = np.array([[3, 4, 0], [5, 0, 9]], np.int32)
    inputs = seq2seq.decoder_inputs(targets, go=7)
    np.testing.assert_array_equal(inputs, [[7, 3, 4], [7, 5, 0]])
    assert inputs.dtype == np.int64
    np.testing.assert_array_equal(targets, [[3, 4, 0], [5, 0, 9]])
    assert seq2seq.decoder_inputs([[2]], 0).tolist() == [[0]]


def test_sentences_and_their_lengths():
    ids = [[3, 4, 0, 5], [0, 1, 1, 0], [1, 2, 3, 4], [1, 2, 3, 0]]
    assert seq2seq.sentences(ids, eos=0) == [[3, 4], [], [1, 2, 3, 4], [1, 2, 3]]
    assert seq2seq.lengths_to_eos(ids, eos=0).tolist() == [3, 1, 4, 4]


@pytest.mark.parametrize("function", [
    lambda ids, token: seq2seq.decoder_inputs(ids, token),
    lambda ids, token: seq2seq.lengths_to_eos(ids, token),
    lambda ids, token: seq2seq.sentences(ids, token),
])  # fmt: skip
def test_ids_and_tokens_are_checked(function):
    with pytest.raises(ShapeError, match="N, T"):
        function([1, 2], 0)
    with pytest.raises(DTypeError, match="integer"):
        function([[1.5]], 0)
    with pytest.raises(DTypeError, match="one integer id"):
        function([[1]], True)
    with pytest.raises(ArgumentError, match="negative"):
        function([[1]], -1)
