"""What seq2seq_odds and attention_copy share: the numbers, the networks, and how they are asked.

A sequence has 1 to 11 odd and 1 to 11 even numbers from 1 to 10, shuffled.  Its answer are
the even ones in their order, once or several times, and EOS.  Padding, EOS and GO are one id, 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import seq2seq

PAD = EOS = GO = 0
MOST = 11  # odd numbers, and even ones, in a sequence
IDS = 11  # 0 to 10
EMBEDDED, UNITS, LAYERS = 30, 50, 2
STD = 0.1  # of the embeddings
BATCH = 64
SHOWN = 3  # sequences decoded for the reader at each report
TESTED = 1000  # fresh sequences of the exact-match rate


class Batch(NamedTuple):
    """Padded sequences and answers.  S places of the longest sequence, T of the longest answer."""

    x: np.ndarray  # (N, S) int64
    x_lengths: np.ndarray  # (N,)
    y: np.ndarray  # (N, T), each with its EOS
    y_lengths: np.ndarray  # (N,), EOS counted


def samples(count: int, generator: np.random.Generator, copies: int = 1) -> Batch:
    """Random sequences, and their even numbers ``copies`` times over."""
    odds, evens = generator.integers(1, MOST + 1, (2, count))
    place = np.arange(2 * MOST)
    kind = place < odds[:, None]  # (N, 22): first the odd ones, then the even ones, then nothing
    there = place < (odds + evens)[:, None]
    numbers = 2 * generator.integers(1, 6, (count, 2 * MOST)) - kind
    order = np.argsort(np.where(there, generator.random(there.shape), 2), axis=1)  # 2: at the end
    x = np.take_along_axis(np.where(there, numbers, PAD), order, axis=1)
    even = (x % 2 == 0) & (x != PAD)
    kept = np.take_along_axis(x, np.argsort(~even, axis=1, kind="stable"), axis=1)
    lengths = copies * evens + 1
    y = np.full((count, lengths.max()), EOS)
    for row, numbers_, many in zip(y, kept, evens):
        row[: copies * many] = np.tile(numbers_[:many], copies)
    return Batch(x[:, : (odds + evens).max()], odds + evens, y, lengths)


class Seq2Seq(nn.Module):
    """Two LSTMs of 50 that read, two that write, each side with an embedding of its own.

    attention: makes one for queries and a memory of 50 numbers; None for no attention.
    """

    def __init__(
        self, attention: Callable[[], seq2seq.Attention] | None = None, *,
        generator: np.random.Generator,
    ) -> None:  # fmt: skip
        def embedding() -> nn.Embedding:
            table = nn.Embedding(IDS, EMBEDDED, generator=generator)
            table.weight.data = nn.init.truncated_normal(
                (IDS, EMBEDDED), 0.0, STD, generator=generator
            )
            return table

        def layers(inputs: int) -> nn.Stacked:
            sizes = [inputs] + [UNITS] * (LAYERS - 1)
            return nn.Stacked(
                nn.LSTM(size, UNITS, forget_bias=1.0, time_major=True, generator=generator)
                for size in sizes
            )

        fed = UNITS if attention is not None else 0
        self.encoder = seq2seq.Encoder(embedding(), layers(EMBEDDED))
        self.decoder = seq2seq.Decoder(
            embedding(), layers(EMBEDDED + fed), nn.Linear(UNITS, IDS, generator=generator),
            attention() if attention is not None else None,
        )  # fmt: skip

    def read(self, batch: Batch) -> tuple:
        """What the decoder starts from: a state, and outputs and lengths if it attends to them."""
        outputs, state = self.encoder(batch.x, batch.x_lengths)
        if self.decoder.attention is None:
            return (state,)
        return state, outputs, batch.x_lengths

    def forward(self, batch: Batch) -> mg.Tensor:
        """The loss with teacher forcing: mean cross-entropy of all real places, in nats."""
        teacher = seq2seq.TeacherForcing(seq2seq.decoder_inputs(batch.y, GO), batch.y_lengths)
        logits = self.decoder(teacher, *self.read(batch)).logits  # (N, T, V)
        return seq2seq.sequence_loss(logits, batch.y, batch.y_lengths)

    def decode(self, batch: Batch, helper: seq2seq.Helper, max_steps: int) -> seq2seq.Decoded:
        """What it answers to the sequences of a batch, with its own ids fed back."""
        with mg.no_grad():
            return self.decoder(helper, *self.read(batch), max_steps=max_steps)

    def search(
        self, batch: Batch, width: int, length_penalty: float, max_steps: int
    ) -> seq2seq.Beams:
        """The best answers that beam search finds."""
        with mg.no_grad():
            return seq2seq.beam_search(
                self.decoder, *self.read(batch), go=GO, eos=EOS, width=width, max_steps=max_steps,
                length_penalty=length_penalty,
            )  # fmt: skip


def right(ids: np.ndarray, batch: Batch) -> np.ndarray:
    """Which answers (N, T) are right in every number, and end where they should.  (N,) bool"""
    wide = max(ids.shape[1], batch.y.shape[1])
    said = np.pad(ids, ((0, 0), (0, wide - ids.shape[1])), constant_values=-1)
    wanted = np.pad(batch.y, ((0, 0), (0, wide - batch.y.shape[1])))
    counts = np.arange(wide) < batch.y_lengths[:, None]
    return ((said == wanted) | ~counts).all(axis=1)


def spelled(batch: Batch, ids: np.ndarray, decoded: str) -> str:
    """Input, expected and decoded sequences as the document prints them; ids: (N, T)."""
    parts = {"input": batch.x, "expected": batch.y, decoded: ids}
    return "\n".join(f"{name}:\n{array}" for name, array in parts.items())
