"""Greedy decoding in one kernel call, for the layers that have one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import kernels
from ...ops._sequence import grain
from ..layers import Embedding, Linear
from ..rnn.lstm import LSTM
from ..rnn.stack import Stacked


def greedy(
    embedding: Embedding, layers: Any, head: Any, state: Any, go: int, eos: int, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Decode by LSTMs of one size and a linear layer, without attention and without a graph.

    Arguments as the parts of a Decoder; all checks of values are the caller's.
    Returns ids (N, T), logits (N, T, V), lengths (N,), and the states h and c (L, N, H); or None
    where the parts are not of this kind, or are watched, or each op is to be checked.
    """
    parts = list(layers.layers) if isinstance(layers, Stacked) else [layers]
    size = getattr(parts[0], "hidden_size", 0)
    if kernels.mode() == "check" or type(head) is not Linear or head.bias is None:
        return None
    for lstm in parts:
        if type(lstm) is not LSTM or lstm.hidden_size != size or lstm.gates is not None:
            return None
        if lstm.w_c is not None or lstm.w_p is not None or lstm.cell_clip is not None:
            return None
    states = list(state) if isinstance(layers, Stacked) else [state]
    batch = len(states[0][0])
    if len(states) != len(parts) or any(
        not isinstance(pair, tuple) or [part.shape for part in pair] != [(batch, size)] * 2
        for pair in states
    ):
        return None  # the layers will say what is wrong
    arrays = [p.array for p in (embedding.weight, *head.parameters())]
    arrays += [p.array for lstm in parts for p in lstm.parameters()]
    arrays += [part.array for pair in states for part in pair]
    dtype = arrays[0].dtype
    if any(array.dtype != dtype for array in arrays):
        return None
    first, above = parts[0], parts[1:]
    bias = np.stack([lstm.bias.array for lstm in parts])  # (L, 4H)
    bias[:, 2 * size : 3 * size] += np.array([[lstm.forget_bias] for lstm in parts], dtype)
    w_above = np.empty((len(above), 2 * size, 4 * size), dtype)
    for k, lstm in enumerate(above):
        w_above[k, :size], w_above[k, size:] = lstm.w_x.array, lstm.w_h.array
    h, c = (np.stack([pair[k].array for pair in states]) for k in (0, 1))  # (L, N, H)
    vocabulary = head.weight.shape[1]
    ids, lengths = np.zeros((batch, steps), np.int64), np.zeros(batch, np.int64)
    logits = np.zeros((batch, steps, vocabulary), dtype)
    kernels.run_rows(
        kernels.lstm_greedy, batch, grain(steps * 4 * size * size * (2 * len(parts) - 1)),
        embedding.weight.array @ first.w_x.array, np.ascontiguousarray(first.w_h.array), w_above,
        bias, np.ascontiguousarray(head.weight.array), head.bias.array, go, eos, h, c, ids, logits,
        lengths,
    )  # fmt: skip
    taken = int(lengths.max(initial=0))
    return ids[:, :taken], logits[:, :taken], lengths, h, c
