"""The LSTM, twice: a cell of simple ops that one reads, and a fused layer that one runs.

Both keep the same parameters under the same names, so one can be loaded into the other:

    w_x   (D, 4H)   inputs to gates        column blocks i, j, f, o (TensorFlow's order):
    w_h   (H, 4H)   last output to gates   input gate, new content, forget gate,
    bias  (4H,)                            output gate

    c' = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)
    h' = sigmoid(o) * tanh(c')

(Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000.)  PyTorch keeps the order
i, f, g, o, and two biases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import functional as F
from .. import ops
from ..errors import ShapeError, axes
from ..tensor import Tensor, apply
from . import init
from .layers import positive, same_dtype
from .module import Module, Parameter

GATES = "ijfo"


class GateWeights(NamedTuple):
    """Views of the columns that belong to one gate: (D, H), (H, H), (H,)."""

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray


class _LSTMBase(Module):
    """Parameters of one LSTM layer, and what cell and layer do alike."""

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

    def gate(self, name: str) -> GateWeights:
        """Views of the weights of gate "i", "j", "f" or "o"; writing to them writes here."""
        first = GATES.index(name) * self.hidden_size
        columns = slice(first, first + self.hidden_size)
        return GateWeights(
            self.w_x.array[:, columns], self.w_h.array[:, columns], self.bias.array[columns]
        )

    def zero_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """h and c filled with zeros, (batch, H) each."""
        shape = (batch, self.hidden_size)
        dtype = self.w_h.dtype
        return Tensor(np.zeros(shape, dtype)), Tensor(np.zeros(shape, dtype))

    def _state(self, state: Any, batch: int) -> tuple[Any, Any]:
        """The given state, checked, or zeros."""
        if state is None:
            return self.zero_state(batch)
        h, c = state
        for name, part in (("h", h), ("c", c)):
            if part.shape != (batch, self.hidden_size):
                raise ShapeError(
                    f"{type(self).__name__}: state {name} is {axes(part.shape, 'NH')} but the "
                    f"input has batch {batch} and the layer hidden size {self.hidden_size}"
                )
        return h, c

    def _check_input(self, x: Any, letters: str) -> bool:
        """Whether x holds ids instead of vectors; raise ShapeError if it is neither."""
        ids = x.dtype.kind in "iu"
        wanted = letters[:-1] if ids else letters
        if x.ndim != len(wanted) or (not ids and x.shape[-1] != self.input_size):
            raise ShapeError(
                f"{type(self).__name__}: x must be ({', '.join(letters)}) floats with "
                f"D={self.input_size} or ({', '.join(letters[:-1])}) integer ids, got "
                f"{axes(x.shape, wanted)} {x.dtype}"
            )
        if not ids:
            same_dtype(type(self).__name__, x, self.w_x)
        return ids

    def extra_repr(self) -> str:
        """Sizes and forget bias."""
        return f"{self.input_size} -> {self.hidden_size}, forget_bias={self.forget_bias:g}"


class LSTMCell(_LSTMBase):
    """One time step of an LSTM, made of simple ops.

    input_size D, hidden_size H; forget_bias is added to the forget gate (the parameter
    starts at zero, as in TensorFlow); weights Glorot uniform over (D + H, 4H).
    """

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Tensor]:
        """One step.

        x: (N, D) floats or (N,) integer ids, which stand for one-hot vectors.
        state: (h, c), (N, H) each; zeros if None.  Returns the new (h, c).
        Raises ShapeError.
        """
        ids = self._check_input(x, "ND")
        h, c = self._state(state, x.shape[0])
        x_gates = F.embedding(self.w_x, x) if ids else F.matmul(x, self.w_x)
        z = x_gates + h @ self.w_h + self.bias  # (N, 4H)
        i, j, f, o = z.split(4, axis=1)
        c = F.sigmoid(f + self.forget_bias) * c + F.sigmoid(i) * F.tanh(j)
        return F.sigmoid(o) * F.tanh(c), c


class LSTM(_LSTMBase):
    """An LSTM over whole sequences: one kernel call for all time steps, each way.

    input_size D, hidden_size H, forget_bias: as for LSTMCell.
    time_major: whether sequences are (T, N, D) instead of (N, T, D).

    ``flow`` may be set to a function; each backward pass calls it with an array (2, T), the
    norms of the total dL/dh_t and dL/dc_t (see :mod:`minigrad.watch`).
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
        self.flow: Callable[[np.ndarray], None] | None = None

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All steps of a batch of sequences.

        x: (N, T, D) floats or (N, T) integer ids, which stand for one-hot vectors; with
        time_major (T, N, ...).  state: (h, c), (N, H) each; zeros if None.
        Returns the outputs (N, T, H) or (T, N, H), and the last (h, c).  Raises ShapeError.
        """
        ids = self._check_input(x, "TND" if self.time_major else "NTD")
        if not self.time_major:
            x = x.swapaxes(0, 1)
        h, c = self._state(state, x.shape[1])
        x_gates = self.w_x if ids else F.matmul(x, self.w_x)  # (T, N, 4H), or rows of w_x
        outputs, h, c = apply(
            ops.lstm, x_gates, h, c, self.w_h, self.bias,
            ids=getattr(x, "array", x) if ids else None,
            forget_bias=self.forget_bias, flow=self.flow,
        )  # fmt: skip
        return (outputs if self.time_major else outputs.swapaxes(0, 1)), (h, c)
