"""Attention: which places of a memory to look at, and what is seen there.

    scores s_j     how well the query fits the key of place j
    alignment a    softmax of the scores, over the places before each memory's end
    context        sum of a_j times the value of place j

The values are the encoder's outputs, the query is the decoder's.  Luong's scores multiply,
Bahdanau's add.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ... import functional as F
from ...errors import DTypeError, ShapeError, axes
from ...nodes import mode
from ...prepared import prepared
from ...tensor import Tensor
from .. import init
from ..layers import positive, same_dtype
from ..module import Module, Parameter
from .tokens import lengths_of


class Memory(NamedTuple):
    """What there is to attend to: made by :meth:`Attention.memory`, the same for all queries."""

    values: Tensor  # (N, S, M)
    keys: Tensor  # (N, S, A)
    lengths: np.ndarray  # (N,) int64 in [1, S]


class Attention(Module):
    """Base of both kinds.  depth A: size of the keys; memory_size M: size of the values."""

    depth: int
    query_size: int
    memory_size: int
    w_memory: Parameter  # (M, A)

    def memory(self, values: Any, lengths: Any = None) -> Memory:
        """Prepare a memory: its keys are computed once for all queries.

        values: (N, S, M), such as the outputs of an encoder; lengths: (N,) integers in [1, S],
        all S if None.  Nobody looks past the ends.
        Raises ShapeError, DTypeError, ArgumentError.
        """
        kind = type(self).__name__
        if not isinstance(values, Tensor):
            raise DTypeError(f"{kind}: the memory must be a tensor, got {type(values).__name__}")
        if values.ndim != 3 or values.shape[2] != self.memory_size or values.shape[1] == 0:
            raise ShapeError(
                f"{kind}: the memory must be (N, S, M={self.memory_size}) with S at least 1, got "
                f"{axes(values.shape, 'NSM')}"
            )
        same_dtype(kind, values, self.w_memory)
        lengths = prepared(lengths_of, kind, lengths, values.array, "memory lengths")
        return Memory(values, F.matmul(values, self.w_memory), lengths)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Look at the memory.

        query: (N, Q), or (N, T, Q) for all time steps at once.
        Returns the context (N, M) or (N, T, M), and the alignment (N, S) or (N, T, S), whose
        rows add up to 1 and are exactly 0 past the ends.  Raises ShapeError, DTypeError.
        """
        kind = type(self).__name__
        if query.ndim not in (2, 3) or query.shape[-1] != self.query_size:
            raise ShapeError(
                f"{kind}: a query must be (N, Q={self.query_size}) or (N, T, Q), got "
                f"{axes(query.shape, 'NTQ' if query.ndim == 3 else 'NQ')}"
            )
        if query.shape[0] != memory.values.shape[0]:
            raise ShapeError(
                f"{kind}: the query has batch {query.shape[0]}, but the memory "
                f"{memory.values.shape[0]}"
            )
        return self._look(query, memory)

    def _look(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Context and alignment; all checked."""
        raise TypeError(f"{type(self).__name__} does not define _look()")

    def extra_repr(self) -> str:
        """Sizes of query, memory and keys."""
        return f"query {self.query_size}, memory {self.memory_size}, depth {self.depth}"


class Luong(Attention):
    """Multiplicative attention: score = query . (value w_memory) (Luong, Pham and Manning 2015).

    depth: A, which is the size of the query as well, as it is multiplied with the keys.
    memory_size: M.  scaled: whether the scores are multiplied by a number that is learned and
    starts from 1.

    w_memory  (M, A)  Glorot uniform
    scale     ()      or None

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad.nn import seq2seq
    >>> attention = seq2seq.Luong(4, 5, generator=rng)
    >>> memory = attention.memory(mg.ones(2, 6, 5), [6, 3])
    >>> context, alignment = attention(mg.ones(2, 4), memory)
    >>> context.shape, alignment.shape
    ((2, 5), (2, 6))
    >>> alignment.numpy()[1].round(2)
    array([0.33, 0.33, 0.33, 0.  , 0.  , 0.  ], dtype=float32)
    """

    def __init__(
        self, depth: int, memory_size: int, scaled: bool = False, *,
        generator: np.random.Generator,
    ) -> None:  # fmt: skip
        positive("Luong", depth=depth, memory_size=memory_size)
        self.depth = self.query_size = depth
        self.memory_size = memory_size
        self.w_memory = Parameter(init.glorot_uniform((memory_size, depth), generator=generator))
        self.scale = Parameter(init.constant((), 1.0)) if scaled else None

    def _look(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        if self.scale is not None:
            query = query * self.scale
        return F.attend(query, memory.keys, memory.values, memory.lengths)


class Bahdanau(Attention):
    """Additive attention: score = v . tanh(query w_query + value w_memory)
    (Bahdanau, Cho and Bengio 2015).

    depth: A; query_size: Q; memory_size: M.
    normed: whether v has a length g of its own, g v / |v|, and the tanh a bias
    (Salimans and Kingma 2016), as in TensorFlow.

    w_memory  (M, A)  Glorot uniform       g     ()    sqrt(1 / A), or None
    w_query   (Q, A)  Glorot uniform       bias  (A,)  zeros, or None
    v         (A,)    Glorot uniform

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad.nn import seq2seq
    >>> attention = seq2seq.Bahdanau(4, 3, 5, generator=rng)
    >>> context, alignment = attention(mg.ones(2, 3), attention.memory(mg.ones(2, 6, 5)))
    >>> context.shape, alignment.shape
    ((2, 5), (2, 6))
    """

    def __init__(
        self, depth: int, query_size: int, memory_size: int, normed: bool = False, *,
        generator: np.random.Generator,
    ) -> None:  # fmt: skip
        positive("Bahdanau", depth=depth, query_size=query_size, memory_size=memory_size)
        self.depth, self.query_size, self.memory_size = depth, query_size, memory_size
        self.w_memory = Parameter(init.glorot_uniform((memory_size, depth), generator=generator))
        self.w_query = Parameter(init.glorot_uniform((query_size, depth), generator=generator))
        self.v = Parameter(init.glorot_uniform((depth,), generator=generator))
        self.g = Parameter(init.constant((), math.sqrt(1 / depth))) if normed else None
        self.bias = Parameter(init.constant((depth,), 0.0)) if normed else None

    def _look(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        one = query.ndim == 2
        query = F.matmul(query, self.w_query)  # (N, T, A), or (N, A)
        v = self.v
        if self.g is not None and self.bias is not None:
            query = query + self.bias
            v = self.g * v / F.sqrt(F.square(v).sum())
        query = query.unsqueeze(1) if one else query.unsqueeze(2)
        keys = memory.keys if one else memory.keys.unsqueeze(1)
        scores = F.matmul(F.tanh(query + keys), v)  # (N, T, S), or (N, S)
        inside = prepared(_inside, memory.lengths, scores.shape)
        if mode.tape is not None or not inside.all():
            scores = F.where(inside, scores, -math.inf)
        alignment = F.softmax(scores)
        if one:
            context = F.matmul(alignment.unsqueeze(1), memory.values).squeeze(1)
        else:
            context = F.matmul(alignment, memory.values)
        return context, alignment


def _inside(lengths: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which places are before the ends, (N, S), or (N, 1, S) for scores (N, T, S)."""
    inside = np.arange(shape[-1]) < lengths[:, None]
    return inside if len(shape) == 2 else inside[:, None]


def check_attention(attention: Any) -> None:
    """Raise DTypeError unless ``attention`` is one."""
    if not isinstance(attention, Attention):
        got = attention.__name__ + " itself" if isinstance(attention, type) else repr(attention)
        raise DTypeError(
            f"Decoder: attention must be a Luong(...) or Bahdanau(...) of nn.seq2seq, got {got}"
        )


def repeated(memory: Memory, times: int) -> Memory:
    """Each sequence of the batch ``times`` times, one copy behind the other: for beams.

    No gradient flows through it.
    """

    def repeat(x: Any) -> Any:
        return np.repeat(x, times, axis=0)

    values, keys = Tensor(repeat(memory.values.array)), Tensor(repeat(memory.keys.array))
    return Memory(values, keys, repeat(memory.lengths))
