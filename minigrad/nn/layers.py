"""Dense, embedding and dropout layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


def positive(layer: str, **sizes: Any) -> None:
    """Raise ArgumentError unless every size is a positive integer."""
    for name, value in sizes.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ArgumentError(f"{layer}: {name} must be a positive integer, got {value!r}")


def require_array(layer: str, x: Any) -> None:
    """Raise DTypeError unless x is a tensor or an array."""
    if not isinstance(x, (Tensor, np.ndarray)):
        raise DTypeError(f"{layer}: x must be a tensor or an array, got {type(x).__name__}")


def same_dtype(layer: str, x: Any, weight: Tensor) -> None:
    """Raise DTypeError if float64 data meet float32 weights, or the other way round."""
    require_array(layer, x)
    if x.dtype != weight.dtype:
        raise DTypeError(
            f"{layer}: x is {x.dtype} but the weights are {weight.dtype}; convert the data "
            f"(x.astype(np.{weight.dtype})), or the module with .float() or .double()"
        )


class Linear(Module):
    """x @ weight + bias.

    weight: (in_features, out_features), Glorot uniform; PyTorch keeps it the other way
    round.  bias: (out_features,), zeros, or None.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> layer = nn.Linear(3, 5, generator=rng)
    >>> layer(mg.ones(2, 3)).shape
    (2, 5)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: np.random.Generator,
    ) -> None:
        positive("Linear", in_features=in_features, out_features=out_features)
        shape = (in_features, out_features)
        self.weight = Parameter(init.glorot_uniform(shape, generator=generator))
        self.bias = Parameter(init.constant((out_features,), 0.0)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """x: (..., in_features) -> (..., out_features).  Raises ShapeError, DTypeError."""
        require_array("Linear", x)
        if x.ndim == 0 or x.shape[-1] != self.weight.shape[0]:
            raise ShapeError(
                f"Linear: the last axis of x must have {self.weight.shape[0]} entries (weight is "
                f"{self.weight.shape}), but x is {x.shape}"
            )
        same_dtype("Linear", x, self.weight)
        if self.bias is None:
            return F.matmul(x, self.weight)
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes in and out."""
        return f"{self.weight.shape[0]} -> {self.weight.shape[1]}"


class Embedding(Module):
    """A table of vectors, looked up by integer id.

    weight: (num_embeddings, embedding_dim), uniform in +-0.05 as in Keras.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> table = nn.Embedding(10, 4, generator=rng)
    >>> table([[1, 2, 3]]).shape
    (1, 3, 4)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, generator: np.random.Generator
    ) -> None:
        positive("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        shape = (num_embeddings, embedding_dim)
        self.weight = Parameter(init.uniform(shape, -0.05, 0.05, generator=generator))

    def forward(self, ids: Any) -> Tensor:
        """ids: (...) integers in [0, num_embeddings) -> (..., embedding_dim).

        Raises DTypeError for ids that are not integers, IndexRangeError for one too large.
        """
        return F.embedding(self.weight, getattr(ids, "array", ids))

    def extra_repr(self) -> str:
        """Size of the table."""
        return f"{self.weight.shape[0]} x {self.weight.shape[1]}"


class Dropout(Module):
    """In training, entries are zero with probability ``p`` and the others divided by 1 - p.

    p: probability to *drop* (TensorFlow's first version asks for the one to keep).  In
    evaluation the input passes unchanged (Srivastava et al. 2014, in its inverted form).
    Raises ArgumentError unless 0 <= p < 1.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> drop = nn.Dropout(0.5, generator=rng)
    >>> drop(mg.ones(4)).numpy()
    array([2., 2., 2., 0.], dtype=float32)
    >>> drop.eval()(mg.ones(4)).numpy()
    array([1., 1., 1., 1.], dtype=float32)
    """

    def __init__(self, p: float = 0.5, *, generator: np.random.Generator) -> None:
        if not isinstance(p, (int, float)) or not 0 <= p < 1:
            raise ArgumentError(
                f"Dropout: p is the probability to drop and must be in [0, 1), got {p!r}"
            )
        if not isinstance(generator, np.random.Generator):
            raise ArgumentError("Dropout: pass generator=np.random.default_rng(seed)")
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """x: (...) float -> (...)."""
        if not isinstance(x, Tensor) or x.dtype.kind != "f":
            raise DTypeError("Dropout: x must be a float tensor")
        if not self.training or self.p == 0:
            return x
        return F.dropout(x, self.p, generator=self.generator)

    def extra_repr(self) -> str:
        """The probability to drop."""
        return f"p={self.p}"
