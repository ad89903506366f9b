"""Layers and models: modules, their parameters and how they start."""

from . import init
from .layers import Dropout, Embedding, Linear
from .module import Module, ModuleList, Parameter, Sequential
from .rnn import LSTM, LSTMCell

__all__ = [
    "Dropout", "Embedding", "LSTM", "LSTMCell", "Linear", "Module", "ModuleList", "Parameter",
    "Sequential", "init",
]  # fmt: skip
