"""The encoder: sequences of ids into outputs at every place, and a last state."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...errors import DTypeError, ShapeError
from ...prepared import prepared
from ...tensor import Tensor, apply
from ..layers import Embedding
from ..module import Module
from ..rnn.compose import is_cell, map_state
from ..rnn.folding import folded
from ..rnn.unroll import unroll
from .tokens import real_ids


class Encoder(Module):
    """An embedding and recurrent layers over padded batches (Sutskever, Vinyals and Le 2014).

    embedding: ids to vectors of size E; layers: a recurrent layer with inputs of size E, or
    ``nn.Stacked`` of several (cells work too, one time step after the other).
    Raises DTypeError, and ShapeError for layers whose inputs do not fit.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad.nn import seq2seq
    >>> encoder = seq2seq.Encoder(nn.Embedding(9, 3, generator=rng), nn.LSTM(3, 5, generator=rng))
    >>> outputs, (h, c) = encoder([[4, 5, 6], [7, 8, 0]], [3, 2])
    >>> outputs.shape, h.shape
    ((2, 3, 5), (2, 5))
    """

    def __init__(self, embedding: Embedding, layers: Any) -> None:
        check_parts("Encoder", embedding, layers)
        size = embedding.weight.shape[1]
        if layers.input_size != size:
            raise ShapeError(
                f"Encoder: the layers take inputs of size {layers.input_size}, but the embedding "
                f"makes vectors of {size}"
            )
        self.embedding = embedding
        self.layers = layers

    def forward(self, ids: Any, lengths: Any = None) -> tuple[Tensor, Any]:
        """Read a batch.

        ids: (N, S) integers; lengths: (N,) in [1, S], all S if None.  What stands past the
        ends is not looked at, not even whether it is an id.
        Returns the outputs of the last layer (N, S, H), zeros past the ends, which a decoder
        may attend to; and the state of all layers at the end of each sequence.
        Raises ShapeError, DTypeError, ArgumentError; IndexRangeError for an unknown id.
        """
        whole = lengths is None
        known = self.embedding.weight.shape[0]
        ids, lengths = prepared(real_ids, "Encoder", "ids", ids, lengths, known)
        embed, layers = folded(self.embedding, self.layers, ids.size)
        ids = prepared(np.transpose, ids)
        outputs, state = over_time(layers, embed(ids), None, None if whole else lengths)
        return outputs.swapaxes(0, 1), state


def over_time(
    layers: Any, x: Any, state: Any, lengths: np.ndarray | None
) -> tuple[Tensor, Any]:
    """Layers, or cells, over x (T, N, D) or ids (T, N), whichever way round they take them.

    Returns the outputs (T, N, H) and the last state.  Rows that are ids come in an order in which
    the kernels compute next to nothing for padding, and what comes out is put back.
    """
    if lengths is None or not isinstance(x, np.ndarray):
        return _over_time(layers, x, state, lengths)
    x, lengths, order, back = prepared(_in_order, x, lengths)
    if state is not None:
        state = _reordered(state, order, back)
    return _reordered(_over_time(layers, x, state, lengths), back, order)


def _in_order(x: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    """Ids (T, N) and lengths (N,) in an order that suits the kernels, that order, and its way back.
    """
    order = long_first(lengths)
    return np.ascontiguousarray(x[:, order]), lengths[order], order, np.argsort(order)


def _reordered(state: Any, order: np.ndarray, back: np.ndarray) -> Any:
    """A state, or outputs and a state, with all batch rows in another order, in one op."""
    parts: list[Tensor] = []
    map_state(parts.append, state)
    results = iter(apply(ops.reordered, *parts, order=order, back=back))
    return map_state(lambda part: next(results), state)


def long_first(lengths: np.ndarray) -> np.ndarray:
    """An order of the rows (N,) in which each block of 32 begins with long ones, all alike.

    The kernels do such a block up to its last running row (``kernels.loops.BLOCK``).
    """
    if (lengths == lengths[:1]).all():
        return np.arange(len(lengths))
    order = np.argsort(-lengths, kind="stable")
    blocks = -(-len(order) // 32)
    return np.concatenate([order[k::blocks] for k in range(blocks)])


def _over_time(
    layers: Any, x: Any, state: Any, lengths: np.ndarray | None
) -> tuple[Tensor, Any]:
    if is_cell("seq2seq", layers):
        return unroll(layers, x, state, lengths, time_major=True)
    if layers.time_major:
        return layers(x, state, lengths)
    outputs, state = layers(x.swapaxes(0, 1), state, lengths)
    return outputs.swapaxes(0, 1), state


def check_parts(owner: str, embedding: Any, layers: Any) -> None:
    """Raise DTypeError unless these are an nn.Embedding and recurrent cells or layers."""
    if not isinstance(embedding, Embedding):
        got = type(embedding).__name__
        raise DTypeError(f"{owner}: embedding must be an nn.Embedding(...), got {got}")
    is_cell(owner, layers)
    if layers.output_size is None:
        raise ShapeError(
            f"{owner}: the layers put out a pair; merge the two directions (merge='concat' or "
            "'sum')"
        )
