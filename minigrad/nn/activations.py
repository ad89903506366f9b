"""Activations as layers, so that an ``nn.Sequential`` reads as a list.

x: (...) -> (...), a number at a time.  They have no parameters; the functions of the same
names in :mod:`minigrad.functional` do the same.
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..errors import ArgumentError
from ..ops.activations import check_number
from ..tensor import Tensor
from .module import Module


class ReLU(Module):
    """max(x, 0).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.ReLU()(mg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def forward(self, x: Any) -> Tensor:
        """x: (...) -> (...)."""
        return F.relu(x)


class Tanh(Module):
    """Hyperbolic tangent.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Tanh()(mg.tensor([0.0, 100.0]))
    tensor([0., 1.])
    """

    def forward(self, x: Any) -> Tensor:
        """x: (...) -> (...)."""
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e ** -x).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Sigmoid()(mg.tensor([0.0, 100.0]))
    tensor([0.5, 1. ])
    """

    def forward(self, x: Any) -> Tensor:
        """x: (...) -> (...)."""
        return F.sigmoid(x)


class LeakyReLU(Module):
    """x where it is positive, negative_slope * x elsewhere; see :func:`minigrad.ops.leaky_relu`.

    negative_slope: 0.01 as in PyTorch; Keras has 0.3.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.LeakyReLU(0.5)(mg.tensor([-1.0, 2.0]))
    tensor([-0.5,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        check_number("LeakyReLU", "negative_slope", negative_slope)
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        """x: (...) -> (...)."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The slope."""
        return f"{self.negative_slope:g}"


class ELU(Module):
    """x where it is positive, alpha * (e ** x - 1) elsewhere; see :func:`minigrad.ops.elu`.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.ELU()(mg.tensor([-100.0, 2.0]))
    tensor([-1.,  2.])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        check_number("ELU", "alpha", alpha)
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        """x: (...) -> (...)."""
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """What it tends to, but for the sign."""
        return f"{self.alpha:g}"


class GELU(Module):
    """x times the normal distribution function of x; see :func:`minigrad.ops.gelu`.

    approximate: "none" or "tanh".  Raises ArgumentError for any other word.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.GELU()(mg.tensor([-1.0, 0.0, 1.0])).numpy().round(3)
    array([-0.159,  0.   ,  0.841], dtype=float32)
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ArgumentError(f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        """x: (...) -> (...)."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Which form, unless it is the exact one."""
        return "" if self.approximate == "none" else self.approximate


class Softplus(Module):
    """log(1 + e ** x), which is positive everywhere.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Softplus()(mg.tensor([0.0])).numpy().round(3)
    array([0.693], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        """x: (...) -> (...)."""
        return F.softplus(x)
