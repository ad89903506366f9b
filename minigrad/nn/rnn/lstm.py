"""The LSTM (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000).

    c' = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)
    h' = sigmoid(o) * tanh(c')

Parameters:

    w_x   (D, 4H)   inputs to gates        column blocks i, j, f, o (TensorFlow's order):
    w_h   (H, 4H)   last output to gates   input gate, new content, forget gate,
    bias  (4H,)                            output gate

PyTorch keeps the order i, f, g, o, and two biases.

With peepholes (Gers and Schmidhuber 2000) the gates see the cell: w_c[0] * c is added to i,
w_c[1] * c to f, and w_c[2] * c' to o.  With a projection (Sak, Senior and Beaufays 2014) the
output is h' w_p, of size P, and w_h is (P, 4H).  ``cell_clip`` limits c' to [-clip, clip]
before its use in the output.  All three as in TensorFlow's LSTMCell.

    w_c   (3, H)    peepholes of i, f and o, or None
    w_p   (H, P)    projection, or None
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ... import functional as F
from ... import ops
from ...errors import ArgumentError
from ...ops.activations import check_number
from ...tensor import Tensor, apply
from .. import init
from ..layers import positive
from ..module import Parameter
from .base import Cell, Layer, Recurrent, gate_index

GATES = "ijfo"
_KEPT = 1 << 19  # numbers, 2 MB: as much as the second cache of a core keeps between two steps


class GateWeights(NamedTuple):
    """Views of what belongs to one gate: (D, H), (P, H), (H,), (H,) or None (P is mostly H)."""

    w_x: np.ndarray
    w_h: np.ndarray
    bias: np.ndarray
    w_c: np.ndarray | None


class _LSTM(Recurrent):
    state_names = ("h", "c")
    gate_kinds = {"i": "sigmoid", "j": "tanh", "f": "sigmoid", "o": "sigmoid", "c": "into tanh"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        forget_bias: float = 1.0,
        *,
        peepholes: bool = False,
        projection: int | None = None,
        cell_clip: float | None = None,
        generator: np.random.Generator,
    ) -> None:
        positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        if projection is not None:
            positive(type(self).__name__, projection=projection)
        if cell_clip is not None and not (isinstance(cell_clip, (int, float)) and cell_clip > 0):
            raise ArgumentError(
                f"{type(self).__name__}: cell_clip must be positive or None, got {cell_clip!r}"
            )
        check_number(type(self).__name__, "forget_bias", forget_bias)
        output_size = hidden_size if projection is None else projection
        rows = input_size + output_size  # TensorFlow keeps w_x above w_h in one kernel
        kernel = init.glorot_uniform((rows, 4 * hidden_size), generator=generator)
        self.w_x = Parameter(kernel[:input_size].copy())
        self.w_h = Parameter(kernel[input_size:].copy())
        self.bias = Parameter(init.constant((4 * hidden_size,), 0.0))
        self.w_c = self.w_p = None
        if peepholes:
            diagonals = [init.glorot_uniform((hidden_size,), generator=generator) for _ in "ifo"]
            self.w_c = Parameter(np.stack(diagonals))
        if projection is not None:
            shape = (hidden_size, projection)
            self.w_p = Parameter(init.glorot_uniform(shape, generator=generator))
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.forget_bias = forget_bias
        self.cell_clip = cell_clip

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Width of h, which is P with a projection, and of c."""
        return (self.w_h.shape[0], self.hidden_size)

    def step(self, x: Any, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One time step: x (N, D) or (N,) ids; h (N, P), c (N, H) -> h', (h', c')."""
        h, c = state
        z = self._from_input(x) + h @ self.w_h + self.bias  # (N, 4H)
        i, j, f, o = z.split(4, axis=1)
        if self.w_c is not None:
            i, f = i + self.w_c[0] * c, f + self.w_c[1] * c
        i, j, f = F.sigmoid(i), F.tanh(j), F.sigmoid(f + self.forget_bias)
        c = f * c + i * j
        if self.cell_clip is not None:
            c = F.clip(c, -self.cell_clip, self.cell_clip)
        if self.w_c is not None:
            o = o + self.w_c[2] * c
        o = F.sigmoid(o)
        h = o * F.tanh(c)
        if self.w_p is not None:
            h = h @ self.w_p
        self._show_gates(i, j, f, o, c)
        return h, (h, c)

    def gate(self, name: str) -> GateWeights:
        """Views of the weights of gate "i", "j", "f" or "o"; writing to them writes here.

        Raises ArgumentError for any other name.
        """
        first = gate_index(type(self).__name__, GATES, name) * self.hidden_size
        columns = slice(first, first + self.hidden_size)
        peephole = None if self.w_c is None or name == "j" else self.w_c.array["ifo".index(name)]
        return GateWeights(
            self.w_x.array[:, columns], self.w_h.array[:, columns], self.bias.array[columns],
            peephole,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Sizes, forget bias, and the options that are on."""
        text = f"{self.input_size} -> {self.hidden_size}, forget_bias={self.forget_bias:g}"
        text += ", peepholes" * (self.w_c is not None)
        text += "" if self.w_p is None else f", projection={self.output_size}"
        return text + ("" if self.cell_clip is None else f", cell_clip={self.cell_clip:g}")


class LSTMCell(_LSTM, Cell):
    """One time step of an LSTM, made of simple ops.

    input_size D, hidden_size H; forget_bias is added to the forget gate (the parameter
    starts at zero, as in TensorFlow); weights Glorot uniform over (D + H, 4H).
    peepholes: whether the gates see the cell; projection: size P of the output, or None for
    H; cell_clip: bound of the cell, or None.  See above.
    Call: ``output, (h, c) = cell(x, (h, c))``; PyTorch's returns the state alone.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> cell = nn.LSTMCell(3, 5, generator=rng)
    >>> output, (h, c) = cell(mg.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """


class LSTM(_LSTM, Layer):
    """An LSTM over whole sequences: one kernel call for all time steps, each way.

    input_size D, hidden_size H, forget_bias, peepholes, projection, cell_clip: as for
    LSTMCell.
    time_major: whether sequences are (T, N, D) instead of (N, T, D).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> lstm = nn.LSTM(3, 5, generator=rng)
    >>> outputs, (h, c) = lstm(mg.ones(2, 7, 3), lengths=[7, 4])
    >>> outputs.shape, h.shape
    ((2, 7, 5), (2, 5))
    >>> lstm.gate("f").w_x.shape
    (3, 5)
    """

    kept_blocks = 4  # the gates

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        forget_bias: float = 1.0,
        time_major: bool = False,
        *,
        peepholes: bool = False,
        projection: int | None = None,
        cell_clip: float | None = None,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(
            input_size, hidden_size, forget_bias, peepholes=peepholes, projection=projection,
            cell_clip=cell_clip, generator=generator,
        )  # fmt: skip
        self.time_major = time_major
        self._plain = not peepholes and projection is None and cell_clip is None

    @property
    def multiplies_first(self) -> bool:
        """Whether x w_x is a product of its own, before the kernel."""
        # wide inputs' weights, or so many of both, would not stay in cache from step to step
        many = self.w_x.size + self.w_h.size >= _KEPT
        return not self._plain or self.w_x.shape[0] > 2 * self.hidden_size or many

    def _sequence(
        self, x: Any, state: tuple[Any, ...], lengths: np.ndarray | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        ids = x.dtype.kind in "iu"
        others = {
            "lengths": lengths, "forget_bias": self.forget_bias, **self._watchers(lengths)
        }  # fmt: skip
        if self._plain:
            others["wants_dh"] = any(getattr(part, "requires_grad", False) for part in state)
        if not ids and not self.multiplies_first:
            outputs, h, c = apply(
                ops.lstm_layer, x, *state, self.w_x, self.w_h, self.bias,
                wants_dx=getattr(x, "requires_grad", False), **others,
            )  # fmt: skip
            return outputs, (h, c)
        x_gates = self.w_x if ids else F.matmul(x, self.w_x)  # (T, N, 4H), or rows of w_x
        inputs = x_gates, *state, self.w_h, self.bias
        others["ids"] = getattr(x, "array", x) if ids else None
        if self._plain:
            outputs, h, c = apply(ops.lstm, *inputs, **others)
        else:
            outputs, h, c = apply(
                ops.lstmp, *inputs, self.w_c, self.w_p, cell_clip=self.cell_clip, **others
            )
        return outputs, (h, c)
