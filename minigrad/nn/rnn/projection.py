"""A linear map in front of a recurrence, as one matrix with the recurrence's own.

A recurrence multiplies its inputs by w_x first of all.  Where these come out of a dense layer
without an activation, or out of an embedding, two linear maps follow each other:

    x_t w_x + bias,  x_t = v_t W + b    =    v_t (W w_x) + (b w_x + bias)

W w_x is made once instead of once for every time step of every sequence, and where v_t is
narrower than x_t (28 pixels of a row, made into 128 numbers) the kernels have less to multiply:
forward, and twice on the way back.  W, b, w_x and bias get their gradients through these two
small products, by the chain rule like any others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import functional as F
from ...errors import DTypeError, ShapeError, axes
from ...ops.indexing import check_ids
from ...tensor import Tensor
from ..layers import Embedding, Linear, require_array, same_dtype
from ..module import ModuleList
from .base import Layer
from .stack import Stacked
from .wrappers import Wrapper

# Multiply-adds of a forward pass; to save fewer takes longer than the two products do.
_WORTH = 1 << 20


def folded(source: Embedding | Linear, layers: Any, places: int) -> tuple[Callable[..., Any], Any]:
    """What makes the layers' inputs, and the layers that take them.

    source: an embedding or a dense layer; layers: a recurrent layer, or ``Stacked`` of several,
    that takes what ``source`` makes; places: T * N, how often it would make something.
    Where the product of both matrices saves work, the first of the layers comes as a copy that
    has it for its w_x, and takes what ``source`` would take.
    """
    stacked = isinstance(layers, Stacked)
    first: Any = layers.layers[0] if stacked else layers
    plain = type(source) in (Embedding, Linear)  # a subclass may make its own of the inputs
    if not plain or not isinstance(first, Layer) or not _saves(source, first, places):
        return source, layers
    first, w_x = copy.copy(first), first.w_x
    first.w_x = F.matmul(source.weight, w_x)  # (V, ...), or (D of source, ...)
    first.input_size = source.weight.shape[0]
    take: Callable[[Any], Any] = _as_it_is
    if isinstance(source, Embedding):
        take = _checked(source.weight.shape[0])
    elif source.bias is not None:
        first.bias = F.linear(source.bias.unsqueeze(0), w_x, first.bias).squeeze(0)
    if stacked:
        layers = copy.copy(layers)
        layers.layers = ModuleList([first, *list(layers.layers)[1:]])
    return take, (layers if stacked else first)


def _saves(source: Embedding | Linear, first: Any, places: int) -> bool:
    """Whether the product of both matrices is less work than both products with the inputs."""
    (rows, inputs), gates = source.weight.shape, first.w_x.shape[1]
    if isinstance(source, Embedding):
        return rows <= places
    if source.bias is not None and not hasattr(first, "bias"):
        return False  # it has a norm in that place
    apart, together = places * inputs * (rows + gates), rows * gates * (inputs + places)
    return apart - together > _WORTH


def _as_it_is(x: Any) -> Any:
    return x


def _checked(count: int) -> Callable[[Any], Any]:
    def take(ids: np.ndarray) -> np.ndarray:
        check_ids("embedding", ids, count)
        return ids

    return take


class InputProjection(Wrapper):
    """inner(projection(x)): a dense layer in front of a cell or layer.

    projection: ``nn.Linear(D, E)``, not followed by an activation; inner: a cell or layer with
    inputs of size E.  TensorFlow's ``InputProjectionWrapper``.

    The numbers are those of ``inner(projection(x))``, to rounding.  A layer (or the first of
    ``nn.Stacked``) whose inputs are wider than D is given the product of both matrices instead
    of wide inputs, wherever that is less work; see the top of this module.

    Raises ShapeError if the sizes differ, DTypeError for anything but a dense layer and a
    recurrence, and for ids as inputs.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> dense, lstm = nn.Linear(3, 8, generator=rng), nn.LSTM(8, 5, generator=rng)
    >>> outputs, (h, c) = nn.InputProjection(dense, lstm)(mg.ones(2, 7, 3))
    >>> outputs.shape, h.shape
    ((2, 7, 5), (2, 5))
    """

    def __init__(self, projection: Linear, inner: Any) -> None:
        if not isinstance(projection, Linear):
            got = type(projection).__name__
            raise DTypeError(
                f"InputProjection: the projection comes first and must be an nn.Linear, got {got}"
            )
        self.projection = projection  # before what is inside: parameters are listed in this order
        super().__init__(inner)
        size, wide = projection.weight.shape
        if inner.input_size != wide:
            raise ShapeError(
                f"InputProjection: {type(inner).__name__} takes inputs of size "
                f"{inner.input_size}, but the projection makes {wide} (its weight is "
                f"{projection.weight.shape})"
            )
        self.input_size = size

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Tensor, Any]:
        require_array("InputProjection", x)
        self._vectors(x, "a projection")
        letters = "ND" if self.is_cell else "TND" if self.time_major else "NTD"
        if x.ndim != len(letters) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"InputProjection: x must be ({', '.join(letters)}) with D={self.input_size} "
                f"(the projection's weight is {self.projection.weight.shape}), got "
                f"{axes(x.shape, letters)}"
            )
        same_dtype("InputProjection", x, self.projection.weight)
        if self.is_cell:
            return self._call(self.inner, self.projection(x), state, lengths)
        take, inner = folded(self.projection, self.inner, x.shape[0] * x.shape[1])
        return self._call(inner, take(x), state, lengths)
