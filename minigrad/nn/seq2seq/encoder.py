"""The encoder: sequences of ids into outputs at every place, and a last state."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import DTypeError, ShapeError
from ...tensor import Tensor
from ..layers import Embedding
from ..module import Module
from ..rnn.compose import is_cell
from ..rnn.unroll import unroll
from .tokens import id_matrix, lengths_of, real


class Encoder(Module):
    """An embedding and recurrent layers over padded batches (Sutskever, Vinyals and Le 2014).

    embedding: ids to vectors of size E; layers: a recurrent layer with inputs of size E, or
    ``nn.Stacked`` of several (cells work too, one time step after the other).
    Raises DTypeError, and ShapeError for layers whose inputs do not fit.
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
        ids = id_matrix("Encoder", "ids", ids)
        lengths = lengths_of("Encoder", lengths, ids)
        inside = real(lengths, ids.shape[1])
        if inside is not None:
            ids = np.where(inside, ids, 0)
        outputs, state = over_time(self.layers, self.embedding(ids.T), None, lengths)
        return outputs.swapaxes(0, 1), state


def over_time(
    layers: Any, x: Tensor, state: Any, lengths: np.ndarray | None
) -> tuple[Tensor, Any]:
    """Layers, or cells, over x (T, N, D), whichever way round they take their sequences.

    Returns the outputs (T, N, H) and the last state.
    """
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
