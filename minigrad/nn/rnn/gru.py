"""The GRU (Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder").

    r = sigmoid(x_r + h W_r)                reset gate
    u = sigmoid(x_u + h W_u)                update gate
    c = tanh(x_c + (r * h) W_c)             candidate
    h' = u * h + (1 - u) * c

or, with ``reset_after``, which lets all that h is multiplied by be one product (cuDNN, PyTorch):

    c = tanh(x_c + r * (h W_c + bias_h))

x_r, x_u and x_c are the blocks of x w_x + bias.  Parameters:

    w_x     (D, 3H)   inputs to gates       column blocks r, u, c (TensorFlow's order):
    w_h     (H, 3H)   last state to gates   reset gate, update gate, candidate
    bias    (3H,)
    bias_h  (H,)      only with reset_after

TensorFlow keeps the candidate's block apart from that of the gates.  PyTorch has the same order
(its z and n are u and c), the weights the other way round, and a second bias for r and u too.
Cho's paper lets u and 1 - u change places.
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

GATES = "ruc"


class GateWeights(NamedTuple):
    """Views of the columns that belong to one gate: (D, H), (H, H), (H,)."""

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray


class _GRU(Recurrent):
    gate_kinds = {"r": "sigmoid", "u": "sigmoid", "c": "tanh"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        reset_after: bool = False,
        *,
        generator: np.random.Generator,
    ) -> None:
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        rows = input_size + hidden_size  # TensorFlow's kernels: one for r and u, one for c
        blocks = [
            init.glorot_uniform((rows, 2 * hidden_size), generator=generator),
            init.glorot_uniform((rows, hidden_size), generator=generator),
        ]
        kernel = np.concatenate(blocks, axis=1)
        self.w_x = Parameter(kernel[:input_size].copy())
        self.w_h = Parameter(kernel[input_size:].copy())
        self.bias = Parameter(init.constant((3 * hidden_size,), 1.0))
        self.bias.array[2 * hidden_size :] = 0  # one is for the gates
        self.bias_h = Parameter(init.constant((hidden_size,), 0.0)) if reset_after else None
        self.input_size = input_size
        self.hidden_size = hidden_size

    def step(self, x: Any, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One time step: x (N, D) or (N,) ids; h (N, H) -> h', (h',)."""
        (h,) = state
        x_r, x_u, x_c = (self._from_input(x) + self.bias).split(3, axis=1)  # (N, H) each
        w_r, w_u, w_c = self.w_h.split(3, axis=1)  # (H, H) each
        r = F.sigmoid(x_r + h @ w_r)
        u = F.sigmoid(x_u + h @ w_u)
        if self.bias_h is None:
            c = F.tanh(x_c + (r * h) @ w_c)
        else:
            c = F.tanh(x_c + r * (h @ w_c + self.bias_h))
        self._show_gates(r, u, c)
        h = u * h + (1 - u) * c
        return h, (h,)

    def gate(self, name: str) -> GateWeights:
        """Views of the weights of gate "r", "u" or "c"; writing to them writes here.

        Raises ArgumentError for any other name.
        """
        first = gate_index(type(self).__name__, GATES, name) * self.hidden_size
        columns = slice(first, first + self.hidden_size)
        return GateWeights(
            self.w_x.array[:, columns], self.w_h.array[:, columns], self.bias.array[columns]
        )

    def extra_repr(self) -> str:
        """Sizes, and the form if it is not TensorFlow's."""
        form = ", reset_after" if self.bias_h is not None else ""
        return f"{self.input_size} -> {self.hidden_size}{form}"


class GRUCell(_GRU, Cell):
    """One time step of a GRU, made of simple ops.

    input_size D, hidden_size H; reset_after: whether r multiplies the product of h instead of
    h (cuDNN's and PyTorch's form; TensorFlow's GRUCell is the other one).
    Weights Glorot uniform over (D + H, 2H) for the gates and (D + H, H) for the candidate;
    the bias of the gates starts at one, the others at zero (as in TensorFlow).
    The state is one tensor h (N, H).
    Call: ``output, h = cell(x, h)``; PyTorch's returns the state alone.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> output, h = nn.GRUCell(3, 5, generator=rng)(mg.ones(2, 3))
    >>> h.shape
    (2, 5)
    """


class GRU(_GRU, Layer):
    """A GRU over whole sequences: one kernel call for all time steps, each way.

    input_size D, hidden_size H, reset_after: as for GRUCell.
    time_major: whether sequences are (T, N, D) instead of (N, T, D).
    Call: ``outputs, h = layer(x, h)``.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> outputs, h = nn.GRU(3, 5, reset_after=True, generator=rng)(mg.ones(2, 7, 3))
    >>> outputs.shape, h.shape
    ((2, 7, 5), (2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        reset_after: bool = False,
        time_major: bool = False,
        *,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(input_size, hidden_size, reset_after, generator=generator)
        self.time_major = time_major
        self.kept_blocks = 4 if reset_after else 3  # the gates, and the product that r scales

    def _sequence(
        self, x: Any, state: tuple[Any, ...], lengths: np.ndarray | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        ids = x.dtype.kind in "iu"
        x_gates = self.w_x if ids else F.matmul(x, self.w_x)  # (T, N, 3H), or rows of w_x
        outputs, h = apply(
            ops.gru, x_gates, *state, self.w_h, self.bias, self.bias_h,
            ids=getattr(x, "array", x) if ids else None,
            lengths=lengths, **self._watchers(lengths),
        )  # fmt: skip
        return outputs, (h,)
