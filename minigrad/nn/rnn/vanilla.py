"""The plain recurrent layer (Elman 1990), in TensorFlow ``BasicRNNCell``.

    h' = tanh(x w_x + h w_h + bias)         or relu instead of tanh

Parameters:

    w_x   (D, H)   inputs to state
    w_h   (H, H)   last state to state
    bias  (H,)

PyTorch keeps the two weights the other way round, and two biases.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import functional as F
from ... import ops
from ...errors import ArgumentError
from ...tensor import Tensor, apply
from .. import init
from ..layers import positive
from ..module import Parameter
from .base import Cell, Layer, Recurrent

ACTIVATIONS = {"tanh": F.tanh, "relu": F.relu}


class _RNN(Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activation: str = "tanh",
        *,
        generator: np.random.Generator,
    ) -> None:
        name = type(self).__name__
        positive(name, input_size=input_size, hidden_size=hidden_size)
        if activation not in ACTIVATIONS:
            raise ArgumentError(f"{name}: activation must be 'tanh' or 'relu', got {activation!r}")
        rows = input_size + hidden_size  # TensorFlow keeps w_x above w_h in one kernel
        kernel = init.glorot_uniform((rows, hidden_size), generator=generator)
        self.w_x = Parameter(kernel[:input_size].copy())
        self.w_h = Parameter(kernel[input_size:].copy())
        self.bias = Parameter(init.constant((hidden_size,), 0.0))
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.activation = activation
        self.gate_kinds = {"h": activation}

    def step(self, x: Any, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One time step: x (N, D) or (N,) ids; h (N, H) -> h', (h',)."""
        (h,) = state
        h = ACTIVATIONS[self.activation](self._from_input(x) + h @ self.w_h + self.bias)
        self._show_gates(h)
        return h, (h,)

    def extra_repr(self) -> str:
        """Sizes and activation."""
        return f"{self.input_size} -> {self.hidden_size}, {self.activation}"


class RNNCell(_RNN, Cell):
    """One time step of a plain recurrent layer, made of simple ops.

    input_size D, hidden_size H; activation "tanh" or "relu"; weights Glorot uniform over
    (D + H, H), bias zero.  The state is one tensor h (N, H).
    Call: ``output, h = cell(x, h)``; PyTorch's returns the state alone.
    Raises ArgumentError for any other activation, or sizes that are not positive.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> cell = nn.RNNCell(3, 5, generator=rng)
    >>> output, h = cell(mg.ones(2, 3))
    >>> output.shape, h.shape
    ((2, 5), (2, 5))
    """


class RNN(_RNN, Layer):
    """A plain recurrent layer over whole sequences: one kernel call for all time steps, each way.

    input_size D, hidden_size H, activation: as for RNNCell.
    time_major: whether sequences are (T, N, D) instead of (N, T, D).
    Call: ``outputs, h = layer(x, h)``.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> outputs, h = nn.RNN(3, 5, generator=rng)(mg.ones(2, 7, 3))
    >>> outputs.shape, h.shape
    ((2, 7, 5), (2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activation: str = "tanh",
        time_major: bool = False,
        *,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(input_size, hidden_size, activation, generator=generator)
        self.time_major = time_major

    def _sequence(
        self, x: Any, state: tuple[Any, ...], lengths: np.ndarray | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        ids = x.dtype.kind in "iu"
        x_gates = self.w_x if ids else F.matmul(x, self.w_x)  # (T, N, H), or rows of w_x
        outputs, h = apply(
            ops.rnn, x_gates, *state, self.w_h, self.bias,
            ids=getattr(x, "array", x) if ids else None,
            lengths=lengths, activation=self.activation, **self._watchers(lengths),
        )  # fmt: skip
        return outputs, (h,)
