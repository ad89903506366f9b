"""The LSTM (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000).

    c' = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)
    h' = sigmoid(o) * tanh(c')

Parameters:

    w_x   (D, 4H)   inputs to gates        column blocks i, j, f, o (TensorFlow's order):
    w_h   (H, 4H)   last output to gates   input gate, new content, forget gate,
    bias  (4H,)                            output gate

PyTorch keeps the order i, f, g, o, and two biases.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ... import functional as F
from ... import ops
from ...tensor import Tensor, apply
from .. import init
from ..layers import positive
from ..module import Parameter
from .base import Cell, Layer, Recurrent

GATES = "ijfo"


class GateWeights(NamedTuple):
    """Views of the columns that belong to one gate: (D, H), (H, H), (H,)."""

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray


class _LSTM(Recurrent):
    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        forget_bias: float = 1.0,
        *,
        generator: np.random.Generator,
    ) -> None:
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        rows = input_size + hidden_size  # TensorFlow keeps w_x above w_h in one kernel
        kernel = init.glorot_uniform((rows, 4 * hidden_size), generator=generator)
        self.w_x = Parameter(kernel[:input_size].copy())
        self.w_h = Parameter(kernel[input_size:].copy())
        self.bias = Parameter(init.constant((4 * hidden_size,), 0.0))
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.forget_bias = forget_bias

    def step(self, x: Any, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One time step: x (N, D) or (N,) ids; h, c (N, H) -> h', (h', c')."""
        h, c = state
        z = self._from_input(x) + h @ self.w_h + self.bias  # (N, 4H)
        i, j, f, o = z.split(4, axis=1)
        c = F.sigmoid(f + self.forget_bias) * c + F.sigmoid(i) * F.tanh(j)
        h = F.sigmoid(o) * F.tanh(c)
        return h, (h, c)

    def gate(self, name: str) -> GateWeights:
        """Views of the weights of gate "i", "j", "f" or "o"; writing to them writes here."""
        first = GATES.index(name) * self.hidden_size
        columns = slice(first, first + self.hidden_size)
        return GateWeights(
            self.w_x.array[:, columns], self.w_h.array[:, columns], self.bias.array[columns]
        )

    def extra_repr(self) -> str:
        """Sizes and forget bias."""
        return f"{self.input_size} -> {self.hidden_size}, forget_bias={self.forget_bias:g}"


class LSTMCell(_LSTM, Cell):
    """One time step of an LSTM, made of simple ops.

    input_size D, hidden_size H; forget_bias is added to the forget gate (the parameter
    starts at zero, as in TensorFlow); weights Glorot uniform over (D + H, 4H).
    Call: ``output, (h, c) = cell(x, (h, c))``; PyTorch's returns the state alone.
    """


class LSTM(_LSTM, Layer):
    """An LSTM over whole sequences: one kernel call for all time steps, each way.

    input_size D, hidden_size H, forget_bias: as for LSTMCell.
    time_major: whether sequences are (T, N, D) instead of (N, T, D).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        forget_bias: float = 1.0,
        time_major: bool = False,
        *,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(input_size, hidden_size, forget_bias, generator=generator)
        self.time_major = time_major

    def _sequence(
        self, x: Any, state: tuple[Any, ...], lengths: np.ndarray | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        ids = x.dtype.kind in "iu"
        x_gates = self.w_x if ids else F.matmul(x, self.w_x)  # (T, N, 4H), or rows of w_x
        outputs, h, c = apply(
            ops.lstm, x_gates, *state, self.w_h, self.bias,
            ids=getattr(x, "array", x) if ids else None,
            lengths=lengths, forget_bias=self.forget_bias, flow=self.flow,
        )  # fmt: skip
        return outputs, (h, c)
