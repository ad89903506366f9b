"""The LSTM with layer normalisation (Ba, Kiros and Hinton 2016).

    i, j, f, o = norm of each of the four parts of  x w_x + h w_h
    c' = norm(sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j))
    h' = sigmoid(o) * tanh(c')
    norm(z) = gamma * (z - mean(z)) / sqrt(var(z) + 1e-12) + beta     over the H units

This is TensorFlow's LayerNormBasicLSTMCell: beta takes the place of a bias, and the cell is
carried in its normalised form.  (The paper normalises x w_x and h w_h apart, each over all
four gates at once, and carries the cell as it was before its normalisation.)

Parameters:

    w_x    (D, 4H)   inputs to gates, column blocks i, j, f, o
    w_h    (H, 4H)   last output to gates
    gamma  (5, H)    gains and shifts of i, j, f, o and of the cell; TensorFlow's input_,
    beta   (5, H)    transform_, forget_, output_ and state_gamma and _beta
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
from .base import Cell, Layer, Recurrent, gate_index
from .lstm import GATES

EPSILON = 1e-12


class NormedGateWeights(NamedTuple):
    """Views of the weights that belong to one gate: (D, H), (H, H), (H,), (H,)."""

    w_x: np.ndarray
    w_h: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


class _LayerNormLSTM(Recurrent):
    state_names = ("h", "c")
    gate_kinds = {"i": "sigmoid", "j": "tanh", "f": "sigmoid", "o": "sigmoid", "c": "into tanh"}

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
        self.gamma = Parameter(init.constant((5, hidden_size), 1.0))
        self.beta = Parameter(init.constant((5, hidden_size), 0.0))
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.forget_bias = forget_bias

    def step(self, x: Any, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One time step: x (N, D) or (N,) ids; h, c (N, H) -> h', (h', c')."""
        h, c = state
        z = self._from_input(x) + h @ self.w_h  # (N, 4H)
        i, j, f, o = (self._norm(part, row) for row, part in enumerate(z.split(4, axis=1)))
        i, j, f, o = F.sigmoid(i), F.tanh(j), F.sigmoid(f + self.forget_bias), F.sigmoid(o)
        c = self._norm(f * c + i * j, 4)
        h = o * F.tanh(c)
        self._show_gates(i, j, f, o, c)
        return h, (h, c)

    def _norm(self, z: Tensor, row: int) -> Tensor:
        """z (N, H) normalised over H, with the gain and shift of that row."""
        centred = z - z.mean(axis=1, keepdims=True)
        deviation = F.sqrt(z.var(axis=1, keepdims=True) + EPSILON)
        return self.gamma[row] * (centred / deviation) + self.beta[row]

    def gate(self, name: str) -> NormedGateWeights:
        """Views of the weights of gate "i", "j", "f" or "o"; writing to them writes here.

        Raises ArgumentError for any other name.
        """
        row = gate_index(type(self).__name__, GATES, name)
        columns = slice(row * self.hidden_size, (row + 1) * self.hidden_size)
        return NormedGateWeights(
            self.w_x.array[:, columns], self.w_h.array[:, columns],
            self.gamma.array[row], self.beta.array[row],
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Sizes and forget bias."""
        return f"{self.input_size} -> {self.hidden_size}, forget_bias={self.forget_bias:g}"


class LayerNormLSTMCell(_LayerNormLSTM, Cell):
    """One time step of a layer-norm LSTM, made of simple ops.

    input_size D, hidden_size H; forget_bias is added to the forget gate after its
    normalisation.  Weights Glorot uniform over (D + H, 4H), gamma one, beta zero.
    Call: ``output, (h, c) = cell(x, (h, c))``.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> cell = nn.LayerNormLSTMCell(3, 5, generator=rng)
    >>> cell(mg.ones(2, 3))[0].shape
    (2, 5)
    """


class LayerNormLSTM(_LayerNormLSTM, Layer):
    """A layer-norm LSTM over whole sequences: one kernel call for all time steps, each way.

    input_size D, hidden_size H, forget_bias: as for LayerNormLSTMCell.
    time_major: whether sequences are (T, N, D) instead of (N, T, D).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> lstm = nn.LayerNormLSTM(3, 5, generator=rng)
    >>> lstm(mg.ones(2, 7, 3))[0].shape
    (2, 7, 5)
    """

    kept_blocks = 5  # the normalised gates and cell

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

    def bytes_kept(
        self, batch: int, steps: int, *, ids: bool = False, lengths: bool = False
    ) -> int:
        """Bytes that a call keeps for its backward pass, at most, as for any other layer."""
        factors = 5 * batch * steps * self.w_h.dtype.itemsize  # what rows were multiplied by
        return factors + super().bytes_kept(batch, steps, ids=ids, lengths=lengths)

    def _sequence(
        self, x: Any, state: tuple[Any, ...], lengths: np.ndarray | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        ids = x.dtype.kind in "iu"
        x_gates = self.w_x if ids else F.matmul(x, self.w_x)  # (T, N, 4H), or rows of w_x
        outputs, h, c = apply(
            ops.layer_norm_lstm, x_gates, *state, self.w_h, self.gamma, self.beta,
            ids=getattr(x, "array", x) if ids else None, lengths=lengths,
            forget_bias=self.forget_bias, epsilon=EPSILON, **self._watchers(lengths),
        )  # fmt: skip
        return outputs, (h, c)
