"""Layers for images: convolution, pooling, flattening.  Images are (N, H, W, C)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..errors import ArgumentError, ShapeError
from ..ops._windows import paddings, pair
from ..tensor import Tensor
from . import init
from .layers import positive, require_array, same_dtype
from .module import Module, Parameter


class Conv2d(Module):
    """What windows of an image see, times weights, plus bias; relu and max-pooling on request.

    weight: (KH, KW, in_channels / groups, out_channels), Glorot uniform; PyTorch has its axes in
    the opposite order.  bias: (out_channels,), zeros, or None.
    kernel_size, stride, padding, dilation, groups, activation, pool: as for
    :func:`minigrad.ops.conv2d`; with activation="relu" and pool the layer is relu and max-pooling
    too, which costs next to nothing there.
    Raises ArgumentError for a size that is not positive, or groups that do not divide both.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> layer = nn.Conv2d(1, 8, 5, padding="same", activation="relu", pool=2, generator=rng)
    >>> layer(mg.ones(2, 28, 28, 1)).shape
    (2, 14, 14, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = "valid",
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | None = None,
        pool: Any = None,
        *,
        generator: np.random.Generator,
    ) -> None:
        positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"Conv2d: groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        size = pair("Conv2d", "kernel_size", kernel_size)
        self.stride = pair("Conv2d", "stride", stride)
        self.dilation = pair("Conv2d", "dilation", dilation)
        paddings("Conv2d", padding)
        if pool is not None:
            pair("Conv2d", "pool", pool)
        if activation not in (None, "relu"):
            raise ArgumentError(f"Conv2d: activation must be 'relu' or None, got {activation!r}")
        shape = (*size, in_channels // groups, out_channels)
        self.weight = Parameter(init.glorot_uniform(shape, generator=generator))
        self.bias = Parameter(init.constant((out_channels,), 0.0)) if bias else None
        self.padding = padding
        self.groups = groups
        self.activation = activation
        self.pool = pool

    def forward(self, x: Any) -> Tensor:
        """x: (N, H, W, in_channels) -> (N, rows, columns, out_channels).

        Raises ShapeError, DTypeError, or ArgumentError for a padding or activation unknown.
        """
        same_dtype("Conv2d", x, self.weight)
        return F.conv2d(
            x, self.weight, self.bias, stride=self.stride, padding=self.padding,
            dilation=self.dilation, groups=self.groups, activation=self.activation, pool=self.pool,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Channels and window."""
        rows, columns, inputs, outputs = self.weight.shape
        settings = {
            "stride": (self.stride, (1, 1)), "padding": (self.padding, "valid"),
            "dilation": (self.dilation, (1, 1)), "groups": (self.groups, 1),
            "activation": (self.activation, None), "pool": (self.pool, None),
        }  # fmt: skip
        others = (f", {name}={now!r}" for name, (now, usual) in settings.items() if now != usual)
        return f"{inputs * self.groups} -> {outputs}, {rows}x{columns}{''.join(others)}"


class _Pool2d(Module):
    """Windows of ``size``, ``stride`` apart (None: side by side), with ``padding``."""

    def __init__(self, size: Any = 2, stride: Any = None, padding: Any = "valid") -> None:
        name = type(self).__name__
        self.size = pair(name, "size", size)
        self.stride = self.size if stride is None else pair(name, "stride", stride)
        paddings(name, padding)
        self.padding = padding

    def extra_repr(self) -> str:
        """The window."""
        return f"{self.size}, stride={self.stride}, padding={self.padding!r}"


class MaxPool2d(_Pool2d):
    """Largest number of each window; see :func:`minigrad.ops.max_pool2d`.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.MaxPool2d(2)(mg.ones(1, 28, 28, 3)).shape
    (1, 14, 14, 3)
    """

    def forward(self, x: Any) -> Tensor:
        """x: (N, H, W, C) -> (N, rows, columns, C).  Raises ShapeError, ArgumentError."""
        return F.max_pool2d(x, size=self.size, stride=self.stride, padding=self.padding)


class AvgPool2d(_Pool2d):
    """Mean of each window's pixels within the image; see :func:`minigrad.ops.avg_pool2d`.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.AvgPool2d(2, padding="same")(mg.ones(1, 7, 7, 3)).shape
    (1, 4, 4, 3)
    """

    def forward(self, x: Any) -> Tensor:
        """x: (N, H, W, C) -> (N, rows, columns, C).  Raises ShapeError, ArgumentError."""
        return F.avg_pool2d(x, size=self.size, stride=self.stride, padding=self.padding)


class Flatten(Module):
    """All axes but the first in one: (N, ...) -> (N, K); Keras's order, the last axis fastest.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Flatten()(mg.ones(2, 4, 4, 3)).shape
    (2, 48)
    """

    def forward(self, x: Any) -> Tensor:
        """x: (N, ...) -> (N, K).  Raises ShapeError for a single number."""
        require_array("Flatten", x)
        if x.ndim == 0:
            raise ShapeError("Flatten: x needs a batch axis, got a single number")
        return F.reshape(x, (x.shape[0], int(np.prod(x.shape[1:]))))
