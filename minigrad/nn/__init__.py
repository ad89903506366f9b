"""Layers and models: modules, their parameters and how they start."""

from . import init
from .layers import Dropout, Embedding, Linear
from .module import Module, ModuleList, Parameter, Sequential
from .rnn import (
    GRU,
    LSTM,
    RNN,
    TBPTT,
    Bidirectional,
    DropoutWrapper,
    GRUCell,
    LayerNormLSTM,
    LayerNormLSTMCell,
    LSTMCell,
    Residual,
    RNNCell,
    Stacked,
    detach,
    last_output,
    one_sequence,
    unroll,
)

__all__ = [
    "Bidirectional", "Dropout", "DropoutWrapper", "Embedding", "GRU", "GRUCell", "LSTM",
    "LSTMCell", "LayerNormLSTM", "LayerNormLSTMCell", "Linear", "Module", "ModuleList",
    "Parameter", "RNN", "RNNCell", "Residual", "Sequential", "Stacked", "TBPTT", "detach", "init",
    "last_output", "one_sequence", "unroll",
]  # fmt: skip
