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
from ...ops.indexing import check_ids
from ..layers import Embedding, Linear
from ..module import ModuleList
from .gru import GRU
from .layer_norm import LayerNormLSTM
from .lstm import LSTM
from .stack import Stacked
from .vanilla import RNN

# Multiply-adds of a forward pass; to save fewer takes longer than the two products do.
_WORTH = 1 << 20
# What is known to do nothing with its inputs but multiply them; a subclass may do something else.
_MAPS = (Embedding, Linear)
_KINDS = (RNN, GRU, LSTM, LayerNormLSTM)


def folded(source: Embedding | Linear, layers: Any, places: int) -> tuple[Callable[..., Any], Any]:
    """What makes the layers' inputs, and the layers that take them.

    source: an embedding or a dense layer; layers: a recurrent layer, or ``Stacked`` of several,
    that takes what ``source`` makes; places: T * N, how often it would make something.
    Where the product of both matrices saves work, the first of the layers comes as a copy that
    has it for its w_x, and takes what ``source`` would take.
    """
    stacked = type(layers) is Stacked
    first: Any = layers.layers[0] if stacked else layers
    if type(source) not in _MAPS or type(first) not in _KINDS:
        return source, layers
    # A summary puts a forward of its own on each module, and writes down who calls it.
    observed = any("forward" in vars(module) for module in (source, layers, first))
    if observed or not _saves(source, first, places):
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
