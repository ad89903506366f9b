"""Recurrences: one file for each kind, each as a cell to read and a fused layer to run."""

from .lstm import LSTM, LSTMCell

__all__ = ["LSTM", "LSTMCell"]
