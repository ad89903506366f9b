"""Padding never matters: what stands past the ends changes no output, loss or gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.nn import seq2seq


def _refilled(ids, lengths, rng):
    """The same sequences, with anything at all past their ends: not even ids."""
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    return np.where(inside, ids, rng.integers(-1000, 1000, ids.shape))


def _train(encoder, decoder, x, x_lengths, y, y_lengths, helper="teacher"):
    """Everything that a training step computes, as a list of arrays."""
    for parameter in (parameters := [*encoder.parameters(), *decoder.parameters()]):
        parameter.grad = None
    outputs, state = encoder(x, x_lengths)
    begun = (state,) if decoder.attention is None else (state, outputs, x_lengths)
    inputs = seq2seq.decoder_inputs(y, 0)
    if helper == "teacher":
        reads = seq2seq.TeacherForcing(inputs, y_lengths)
    else:
        reads = seq2seq.ScheduledSampling(
            inputs, y_lengths, probability=0.5, generator=np.random.default_rng(1)
        )
    said = decoder(reads, *begun)
    loss = seq2seq.sequence_loss(said.logits, y, y_lengths)
    loss.backward()
    states = [part for pair in said.state for part in (pair if type(pair) is tuple else [pair])]
    arrays = [outputs, *states, said.logits, said.ids, said.lengths, loss]
    arrays += [p.grad for p in parameters]
    if said.alignments is not None:
        arrays.append(said.alignments)
    return [np.asarray(a) for a in arrays]


def _equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["plain", "luong", "no feeding"]),
       helper=st.sampled_from(["teacher", "scheduled"]))  # fmt: skip
def test_random_content_past_the_ends(small, seed, kind, helper):
    rng = np.random.default_rng(seed)
    pair = small.build(**small.KINDS[kind])
    x, x_lengths, y, y_lengths = small.batch(seed)
    clean = _train(*pair, x, x_lengths, y, y_lengths, helper)
    dirty = _refilled(x, x_lengths, rng), x_lengths, _refilled(y, y_lengths, rng), y_lengths
    assert (dirty[2] != y).any() or (y_lengths == y.shape[1]).all()
    _equal(clean, _train(*pair, *dirty, helper))


def test_every_build(pair, small):
    rng = np.random.default_rng(0)
    x, x_lengths, y, y_lengths = small.batch(3)
    clean = _train(*pair, x, x_lengths, y, y_lengths)
    dirty = _refilled(x, x_lengths, rng), x_lengths, _refilled(y, y_lengths, rng), y_lengths
    _equal(clean, _train(*pair, *dirty))


def test_more_padding_changes_nothing_but_shapes(pair, small):
    """Columns of nothing but padding: the same loss, states and gradients."""
    x, x_lengths, y, y_lengths = small.batch(5)
    wider = np.pad(x, ((0, 0), (0, 3))), x_lengths, np.pad(y, ((0, 0), (0, 2))), y_lengths
    narrow = _train(*pair, x, x_lengths, y, y_lengths)
    for a, b in zip(narrow, _train(*pair, *wider), strict=True):
        part = tuple(slice(n) for n in a.shape)
        np.testing.assert_allclose(b[part], a, rtol=1e-12, atol=1e-14)
        rest = b.copy()
        rest[part] = 0
        assert not rest.any()


@pytest.mark.parametrize("kind", ["plain", "luong", "normed"])
def test_decoding_does_not_see_it_either(small, kind):
    encoder, decoder = small.build(kind)
    x, lengths, _, _ = small.batch(7)
    results = []
    for ids in (x, _refilled(x, lengths, np.random.default_rng(0))):
        with mg.no_grad():
            begun = small.begun(encoder, decoder, ids, lengths)
            said = decoder(seq2seq.Greedy(0, 1), *begun, max_steps=8)
            found = seq2seq.beam_search(decoder, *begun, go=0, eos=1, width=3, max_steps=8)
        results.append([said.ids, said.logits.numpy(), found.ids, found.scores])
    _equal(*results)


def test_content_of_a_memory_past_its_end():
    """Not only an encoder's zeros: any numbers, and no gradient comes back to them."""
    rng = np.random.default_rng(0)
    for attention in (
        seq2seq.Luong(5, 4, generator=rng), seq2seq.Bahdanau(3, 5, 4, normed=True, generator=rng)
    ):  # fmt: skip
        attention.double()
        query = mg.tensor(rng.standard_normal((3, 2, 5)), requires_grad=True)
        values, lengths = rng.standard_normal((3, 6, 4)), np.array([6, 1, 4])
        seen = []
        for fill in (0, 1e3):
            inside = (np.arange(6) < lengths[:, None])[:, :, None]
            leaf = mg.tensor(np.where(inside, values, fill), requires_grad=True)
            attention.zero_grad()
            query.grad = None
            context, alignment = attention(query, attention.memory(leaf, lengths))
            (context * context).sum().backward()
            assert not np.where(inside, 0, leaf.grad.numpy()).any()
            parts = [p.grad for p in attention.parameters() if p.grad is not None]
            seen.append([context, alignment, query.grad, leaf.grad, *parts])
        for a, b in zip(*seen, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
