"""Beam search: against all there is, width 1, length penalty, memories, errors."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, DTypeError, IndexRangeError
from minigrad.nn import seq2seq

EOS = 1


def _log_prob(decoder, begun, ids, n):
    """Log-probability of a sequence of ids for row n, by teacher forcing, in a batch of one."""
    state, *memory = begun
    state = tuple(tuple(part[n : n + 1].detach() for part in parts) for parts in state)
    memory = [part[n : n + 1] for part in memory]
    with mg.no_grad():
        inputs = seq2seq.decoder_inputs([ids], 0)
        logits = decoder(seq2seq.TeacherForcing(inputs), state, *memory).logits
        return -seq2seq.sequence_loss(logits, [ids]).item() * len(ids)


@pytest.mark.parametrize("kind", ["plain", "luong", "normed", "no feeding", "mix", "cells"])
@pytest.mark.parametrize("penalty", [0.0, 1.3])
def test_a_wide_beam_finds_the_best_of_all(small, kind, penalty):
    """Every ending of at most three ids, scored one by one."""
    encoder, decoder = small.build(**small.KINDS[kind])
    x, lengths, _, _ = small.batch(0, n=2)
    begun = small.begun(encoder, decoder, x, lengths)
    others = [i for i in range(small.V) if i != EOS]
    every = [[EOS], *([a, EOS] for a in others), *([a, b, EOS] for a in others for b in others)]
    every += [list(ids) for ids in itertools.product(others, repeat=3)]
    found = seq2seq.beam_search(
        decoder, *begun, go=0, eos=EOS, width=len(every), max_steps=3, length_penalty=penalty
    )
    for n in range(2):
        worth = [
            _log_prob(decoder, begun, ids, n) / ((5 + len(ids)) / 6) ** penalty for ids in every
        ]
        order = np.argsort(worth)[::-1][:5]
        for w, place in enumerate(order):
            ids = every[place]
            assert found.lengths[n, w] == len(ids)
            assert found.ids[n, w].tolist() == ids + [EOS] * (found.ids.shape[2] - len(ids))
            assert found.scores[n, w] == pytest.approx(worth[place], rel=1e-9)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_log_probs_are_those_of_the_ids(pair, small):
    """States, memories and alignments follow the beams they belong to."""
    encoder, decoder = pair
    if not isinstance(decoder.layers.zero_state(1)[0], tuple):
        return  # the GRU's states are no pairs
    x, lengths, _, _ = small.batch(8)
    begun = small.begun(encoder, decoder, x, lengths)
    found = seq2seq.beam_search(decoder, *begun, go=0, eos=EOS, width=3, max_steps=6)
    for n, w in itertools.product(range(4), range(3)):
        ids = found.ids[n, w, : found.lengths[n, w]]
        assert _log_prob(decoder, begun, ids, n) == pytest.approx(found.log_probs[n, w])
        if found.alignments is not None:
            state = tuple(tuple(p[n : n + 1].detach() for p in parts) for parts in begun[0])
            teacher = seq2seq.TeacherForcing(seq2seq.decoder_inputs([ids], 0))
            said = decoder(teacher, state, *(part[n : n + 1] for part in begun[1:]))
            looks = found.alignments[n, w]
            np.testing.assert_allclose(looks[: len(ids)], said.alignments[0], rtol=1e-9)
            assert not looks[len(ids) :].any()


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_width_1_is_greedy(pair, small, penalty):
    encoder, decoder = pair
    x, lengths, _, _ = small.batch(9, n=10)
    begun = small.begun(encoder, decoder, x, lengths)
    found = seq2seq.beam_search(
        decoder, *begun, go=0, eos=EOS, width=1, max_steps=7, length_penalty=penalty
    )
    with mg.no_grad():
        said = decoder(seq2seq.Greedy(0, EOS), *begun, max_steps=7)
    np.testing.assert_array_equal(found.lengths[:, 0], said.lengths)
    for n, end in enumerate(said.lengths):
        assert found.ids[n, 0, :end].tolist() == said.ids[n, :end].tolist()


def test_a_wider_beam_is_never_worse_here_and_the_tree_adds_up(small):
    encoder, decoder = small.build("luong")
    x, lengths, _, _ = small.batch(10, n=6)
    begun = small.begun(encoder, decoder, x, lengths)
    best = []
    for width in (1, 4, 12):
        found = seq2seq.beam_search(decoder, *begun, go=0, eos=EOS, width=width, max_steps=6)
        best.append(found.log_probs[:, 0])
        tree = found.tree
        assert tree.ids.shape == tree.parents.shape == tree.ended.shape
        for n in range(6):
            for w in range(width):
                rank, back = w, []
                for t in reversed(range(tree.ids.shape[1])):
                    back.append(tree.ids[n, t, rank])
                    rank = tree.parents[n, t, rank]
                assert back[::-1] == found.ids[n, w].tolist()
    assert (best[1] >= best[0] - 1e-12).all() and (best[2] >= best[1] - 1e-12).all()


def test_a_penalty_prefers_long_answers(small):
    encoder, decoder = small.build()
    x, lengths, _, _ = small.batch(11, n=30)
    begun = small.begun(encoder, decoder, x, lengths)
    mean = [
        seq2seq.beam_search(
            decoder, *begun, go=0, eos=EOS, width=5, max_steps=8, length_penalty=penalty
        ).lengths[:, 0].mean()
        for penalty in (0.0, 3.0)
    ]  # fmt: skip
    assert mean[1] > mean[0] + 0.5


def test_it_records_nothing_and_leaves_the_mode_as_it_was(small):
    encoder, decoder = small.build("luong")
    x, lengths, _, _ = small.batch(0)
    begun = small.begun(encoder, decoder, x, lengths)
    seq2seq.beam_search(decoder, *begun, go=0, eos=EOS, width=2, max_steps=3)
    assert mg.is_grad_enabled()
    assert all(p.grad is None for p in decoder.parameters())


def test_more_beams_than_beginnings(small):
    """One step has 7 continuations; the other beams stay without any."""
    encoder, decoder = small.build()
    x, lengths, _, _ = small.batch(0)
    found = seq2seq.beam_search(
        decoder, encoder(x, lengths)[1], go=0, eos=EOS, width=9, max_steps=1
    )
    assert np.isneginf(found.log_probs[:, 7:]).all() and np.isfinite(found.log_probs[:, :7]).all()
    np.testing.assert_allclose(np.exp(found.log_probs).sum(axis=1), 1)


def test_bad_arguments(small):
    encoder, decoder = small.build()
    x, lengths, _, _ = small.batch(0)
    state = encoder(x, lengths)[1]
    good = {"go": 0, "eos": EOS, "width": 2, "max_steps": 3}
    for error, word, options in [
        (ArgumentError, "width", {"width": 0}),
        (ArgumentError, "max_steps", {"max_steps": 1.5}),
        (ArgumentError, "length_penalty", {"length_penalty": -1}),
        (ArgumentError, "length_penalty", {"length_penalty": np.inf}),
        (DTypeError, "eos", {"eos": None}),
        (IndexRangeError, "eos", {"eos": 7}),
        (IndexRangeError, "7", {"go": 7}),
    ]:
        with pytest.raises(error, match=word):
            seq2seq.beam_search(decoder, state, **{**good, **options})
    with pytest.raises(ArgumentError, match="no attention"):
        seq2seq.beam_search(decoder, state, mg.zeros(4, 6, 5), **good)
