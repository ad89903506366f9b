"""Small models of every build, for all the tests here."""

from types import SimpleNamespace

import numpy as np
import pytest

from minigrad import nn
from minigrad.nn import seq2seq

V, E, H, A = 7, 4, 5, 6  # ids, embedding, hidden, depth of Bahdanau's keys


def build(kind="plain", feeding=True, cells=False, mix=False, time_major=True, recurrence="LSTM"):
    """An encoder and a decoder in float64.  kind: "plain" or an attention."""
    rng = np.random.default_rng(0)

    def layers(inputs):
        name = getattr(nn, recurrence + "Cell" * cells)
        given = {} if cells else {"time_major": time_major}
        return nn.Stacked([name(n, H, generator=rng, **given) for n in (inputs, H)])

    attention = {
        "plain": lambda: None,
        "luong": lambda: seq2seq.Luong(H, H, generator=rng),
        "scaled": lambda: seq2seq.Luong(H, H, scaled=True, generator=rng),
        "bahdanau": lambda: seq2seq.Bahdanau(A, H, H, generator=rng),
        "normed": lambda: seq2seq.Bahdanau(A, H, H, normed=True, generator=rng),
    }[kind]()
    size = 3 if mix else H
    fed = size if attention is not None and feeding else 0
    encoder = seq2seq.Encoder(nn.Embedding(V, E, generator=rng), layers(E))
    decoder = seq2seq.Decoder(
        nn.Embedding(V, E, generator=rng), layers(E + fed), nn.Linear(size, V, generator=rng),
        attention, input_feeding=feeding,
        mix=nn.Linear(2 * H, size, bias=False, generator=rng) if mix else None,
    )  # fmt: skip
    both = nn.ModuleList([encoder, decoder]).double()
    for parameter in both.parameters():  # larger weights, no zero biases: answers differ
        parameter.data = parameter.array + 0.7 * rng.standard_normal(parameter.shape)
    return encoder, decoder


KINDS = {
    "plain": {}, "gru": {"recurrence": "GRU"}, "cells": {"cells": True},
    "batch first": {"time_major": False},
    "luong": {"kind": "luong"}, "scaled": {"kind": "scaled"}, "bahdanau": {"kind": "bahdanau"},
    "normed": {"kind": "normed"}, "no feeding": {"kind": "luong", "feeding": False},
    "bahdanau, no feeding": {"kind": "normed", "feeding": False},
    "mix": {"kind": "luong", "mix": True}, "attention, cells": {"kind": "luong", "cells": True},
}  # fmt: skip


def begun(encoder, decoder, ids, lengths):
    """What a decoder is called with, behind its helper."""
    outputs, state = encoder(ids, lengths)
    return (state,) if decoder.attention is None else (state, outputs, lengths)


def batch(seed=0, n=4, s=6, t=5):
    """ids (n, s), lengths, targets (n, t), target lengths; ids 0 to 6."""
    rng = np.random.default_rng(seed)
    x_lengths, y_lengths = rng.integers(1, s + 1, n), rng.integers(1, t + 1, n)
    x_lengths[0], y_lengths[-1] = s, t
    return rng.integers(0, V, (n, s)), x_lengths, rng.integers(0, V, (n, t)), y_lengths


@pytest.fixture(params=KINDS)
def pair(request):
    """Encoder and decoder of every build in turn."""
    return build(**KINDS[request.param])


@pytest.fixture(scope="session")
def small():
    """What is above, by name."""
    return SimpleNamespace(V=V, H=H, KINDS=KINDS, build=build, begun=begun, batch=batch)
