"""Recurrences: one file for each kind, each as a cell to read and a fused layer to run.

Around them: stacks, wrappers, both directions, the loop over time, truncated BPTT.
"""

from .bidirectional import Bidirectional
from .gru import GRU, GRUCell
from .layer_norm import LayerNormLSTM, LayerNormLSTMCell
from .lstm import LSTM, LSTMCell
from .stack import Stacked
from .tbptt import TBPTT, detach
from .unroll import last_output, unroll
from .vanilla import RNN, RNNCell
from .wrappers import DropoutWrapper, InputProjection, Residual, one_sequence

__all__ = [
    "Bidirectional", "DropoutWrapper", "GRU", "GRUCell", "InputProjection", "LSTM", "LSTMCell",
    "LayerNormLSTM", "LayerNormLSTMCell", "RNN", "RNNCell", "Residual", "Stacked", "TBPTT",
    "detach", "last_output", "one_sequence", "unroll",
]  # fmt: skip
