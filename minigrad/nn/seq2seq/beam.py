"""Beam search: the best of many continuations, kept side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, DTypeError
from ...nodes import no_grad
from ...tensor import Tensor
from ..layers import positive
from ..rnn.compose import map_state
from .attention import repeated
from .decoder import Carry, Decoder, batch_of
from .tokens import known_token, token


class Beams(NamedTuple):
    """The W best decodings of each of N sequences, the best first.  T is the number of steps."""

    ids: np.ndarray  # (N, W, T) int64, EOS from its first one on
    lengths: np.ndarray  # (N, W) int64, EOS counted
    log_probs: np.ndarray  # (N, W) log of the probability of the whole
    scores: np.ndarray  # (N, W) the same after the length penalty
    alignments: np.ndarray | None  # (N, W, T, S) zeros past the ends; None without attention
    tree: Tree


class Tree(NamedTuple):
    """What was kept at each step: rank w at step t has grown out of rank parents[n, t, w]."""

    ids: np.ndarray  # (N, T, W) int64, the id it was continued by
    parents: np.ndarray  # (N, T, W) int64, ranks at step t - 1
    scores: np.ndarray  # (N, T, W) after the length penalty; -inf where there were fewer
    ended: np.ndarray  # (N, T, W) bool, whether it has said EOS


@no_grad()
def beam_search(
    decoder: Decoder, state: Any, memory: Any = None, memory_lengths: Any = None, *, go: int,
    eos: int, width: int, max_steps: int, length_penalty: float = 0.0,
) -> Beams:  # fmt: skip
    """Keep the ``width`` W best beginnings at each step; nothing is recorded for gradients.

    decoder, state, memory, memory_lengths: as for a call of the decoder, of N sequences; they
    are repeated for the beams here.  go: the id read first; eos: the id that ends a decoding.
    max_steps: at most so many steps.

    A beginning is worth log P / ((5 + length) / 6) ** length_penalty (Wu et al. 2016, eq. 14;
    the length counts EOS, and 0 means no penalty for being long).  Ended ones stay among the
    W, and it stops when all of all sequences have ended.  Width 1 is greedy decoding.  Of equal
    scores the lower rank, then the smaller id, comes first.  With no penalty as TensorFlow's
    ``BeamSearchDecoder``.
    Raises ShapeError, DTypeError, ArgumentError, IndexRangeError.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad.nn import seq2seq
    >>> parts = nn.Embedding(9, 3, generator=rng), nn.GRU(3, 5, generator=rng)
    >>> decoder = seq2seq.Decoder(*parts, nn.Linear(5, 9, generator=rng))
    >>> state = decoder.layers.zero_state(2)
    >>> found = seq2seq.beam_search(decoder, state, go=1, eos=2, width=3, max_steps=4)
    >>> found.ids.shape
    (2, 3, 4)
    """
    go, eos = token("beam_search", "go", go), token("beam_search", "eos", eos)
    positive("beam_search", width=width, max_steps=max_steps)
    if not isinstance(length_penalty, (int, float)) or not 0 <= length_penalty < np.inf:
        raise ArgumentError(
            f"beam_search: length_penalty must be 0 or a positive number, got {length_penalty!r}"
        )
    if not isinstance(decoder, Decoder):
        raise DTypeError(f"beam_search: decoder must be a Decoder, got {type(decoder).__name__}")
    known = decoder.embedding.weight.shape[0]
    known_token("beam_search", "go", go, known, "the decoder's embedding")
    carry, prepared = decoder.begin(state, memory, memory_lengths)
    batch = batch_of(state)
    carry = Carry(*map_state(lambda x: Tensor(np.repeat(x.array, width, axis=0)), tuple(carry)))
    prepared = None if prepared is None else repeated(prepared, width)

    ids = np.full(batch * width, go)
    embed, layers = decoder.reading(len(ids) * max_steps)
    rows = np.arange(batch)[:, None]
    log_probs = np.full((batch, width), -np.inf)  # (N, W): all start equal, so one will do
    log_probs[:, 0] = 0
    lengths, ended = np.zeros((batch, width), np.int64), np.zeros((batch, width), bool)
    steps: list[tuple[np.ndarray, ...]] = []  # of each: ids, parents, scores, ended (N, W)
    shown: list[np.ndarray] = []  # alignments (N, W, S), by rank before the step
    for t in range(max_steps):
        seen, after, alignment = decoder.read(layers, embed(ids), carry, prepared)
        logits = decoder.head(seen).array.astype(np.float64)
        vocabulary = logits.shape[1]
        if t == 0:
            known_token("beam_search", "eos", eos, vocabulary, "the logits' last axis")
        if alignment is not None:
            shown.append(alignment.array.reshape(batch, width, -1))
        each = _log_softmax(logits).reshape(batch, width, vocabulary)
        each[ended] = -np.inf  # an ended one can only go on with EOS, at no cost
        each[ended, eos] = 0
        totals = log_probs[:, :, None] + each  # (N, W, V)
        penalty = ((5 + lengths + ~ended) / 6) ** length_penalty
        scores = (totals / penalty[:, :, None]).reshape(batch, width * vocabulary)
        best = _top(scores, width)  # (N, W) places in scores
        parents, said = best // vocabulary, best % vocabulary
        log_probs = totals.reshape(batch, -1)[rows, best]
        lengths = lengths[rows, parents] + ~ended[rows, parents]
        ended = ended[rows, parents] | (said == eos)
        steps.append((said, parents, scores[rows, best], ended))
        if ended.all():
            break
        ids = said.reshape(-1)
        origin = (rows * width + parents).reshape(-1)
        carry = Carry(*map_state(lambda x, at=origin: Tensor(x.array[at]), tuple(after)))
    tree = Tree(*(np.stack(part, axis=1) for part in zip(*steps)))
    path = _path(tree.parents)
    ids = np.take_along_axis(tree.ids, path, axis=2).swapaxes(1, 2)  # (N, W, T)
    alignments = None
    if shown:
        behind = np.take_along_axis(tree.parents, path, axis=2)  # ranks before each step
        looks = np.stack(shown, axis=1)  # (N, T, W, S)
        looks = np.take_along_axis(looks, behind[:, :, :, None], axis=2).swapaxes(1, 2)
        alive = np.arange(len(steps)) < lengths[:, :, None]
        alignments = np.where(alive[:, :, :, None], looks, 0)
    return Beams(ids, lengths, log_probs, tree.scores[:, -1], alignments, tree)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """(M, V), float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    """Places (N, count) of the largest scores (N, M), in order; of equal ones the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _path(parents: np.ndarray) -> np.ndarray:
    """Which rank each of the last W had at each step, (N, T, W); parents: (N, T, W)."""
    path = np.empty_like(parents)
    rank = np.broadcast_to(np.arange(parents.shape[2]), parents[:, 0].shape)
    for t in reversed(range(parents.shape[1])):
        path[:, t] = rank
        rank = np.take_along_axis(parents[:, t], rank, axis=1)
    return path
