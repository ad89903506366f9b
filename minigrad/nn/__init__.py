"""Layers and models: modules, their parameters and how they start."""

from . import init, seq2seq
from .activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from .conv import AvgPool2d, Conv2d, Flatten, MaxPool2d
from .layers import Dropout, Embedding, Linear
from .module import Buffer, Module, ModuleList, Parameter, Sequential
from .normalise import BatchNorm, LayerNorm
from .rnn import (
    GRU,
    LSTM,
    RNN,
    TBPTT,
    Bidirectional,
    DropoutWrapper,
    GRUCell,
    InputProjection,
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
    "AvgPool2d", "BatchNorm", "Bidirectional", "Buffer", "Conv2d", "Dropout", "DropoutWrapper",
    "ELU", "Embedding", "Flatten", "GELU", "GRU", "GRUCell", "InputProjection", "LSTM", "LSTMCell",
    "LayerNorm", "LayerNormLSTM", "LayerNormLSTMCell", "LeakyReLU", "Linear", "MaxPool2d",
    "Module", "ModuleList", "Parameter", "RNN", "RNNCell", "ReLU", "Residual", "Sequential",
    "Sigmoid", "Softplus", "Stacked", "TBPTT", "Tanh", "detach", "init", "last_output",
    "one_sequence", "seq2seq", "unroll",
]  # fmt: skip
