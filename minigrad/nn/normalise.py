"""Layer norm and batch norm as layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from ..errors import ArgumentError, DTypeError
from ..tensor import Tensor
from . import init
from .layers import positive, same_dtype
from .module import Module, Parameter


def _check(layer: str, x: Any, weight: Tensor) -> None:
    if getattr(x, "dtype", np.dtype(bool)).kind != "f":
        raise DTypeError(f"{layer}: x must be a float tensor")
    same_dtype(layer, x, weight)


def _positive_eps(layer: str, eps: float) -> None:
    if not isinstance(eps, (int, float)) or not 0 < eps < math.inf:
        raise ArgumentError(f"{layer}: eps must be a positive number, got {eps!r}")


class LayerNorm(Module):
    """weight * (x - mean) / sqrt(var + eps) + bias over the last axis or axes (Ba et al. 2016).

    normalized_shape: size of the last axis, or sizes of the last axes together.
    eps: added to the variance; 1e-5 as in PyTorch, Keras has 1e-3, the paper none.

    weight (gamma in the paper), ones, and bias (beta), zeros: of that shape.  Each row is
    normalised by itself, so training and evaluation are the same.
    Raises ArgumentError.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.LayerNorm(2)(mg.tensor([[1.0, 3.0]])).numpy().round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5) -> None:
        shape = normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,)
        for size in shape or (0,):
            positive("LayerNorm", normalized_shape=size)
        _positive_eps("LayerNorm", eps)
        self.weight = Parameter(init.constant(shape, 1.0))
        self.bias = Parameter(init.constant(shape, 0.0))
        self.eps = eps

    def forward(self, x: Any) -> Tensor:
        """x: (..., *normalized_shape) -> the same.  Raises ShapeError, DTypeError."""
        _check("LayerNorm", x, self.weight)
        return F.layer_norm(x, self.weight, self.bias, epsilon=self.eps)

    def extra_repr(self) -> str:
        """Sizes and eps."""
        return f"{self.weight.shape}, eps={self.eps:g}"


class BatchNorm(Module):
    """weight * (x - mean) / sqrt(var + eps) + bias for each channel (Ioffe and Szegedy 2015).

    num_features: C, the last axis; any axes before it, so that (N, C) and images (N, H, W, C)
    go in alike.  (PyTorch has channels second, and BatchNorm1d, 2d and 3d.)

    In training, mean and variance are those of the batch over all axes but the last, the
    variance divided by the count as in TensorFlow and PyTorch; and the running ones follow:

        running = (1 - momentum) * running + momentum * batch

    with the batch variance divided by count - 1, as in PyTorch and TensorFlow's fused kernel.
    In evaluation (``eval()``) the running ones are used, and stay.

    momentum: the share of the *new* batch, 0.1, as in PyTorch.  Keras and TensorFlow's first
    version call the share of the *old* value momentum: their 0.99 is 0.01 here.
    eps: added to the variance; 1e-5 as in PyTorch; Keras and TensorFlow have 1e-3.

    weight (gamma), ones, and bias (beta), zeros: (C,).  Buffers, saved with them:
    running_mean, zeros, and running_var, ones: (C,).
    Raises ArgumentError.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> norm = nn.BatchNorm(1)
    >>> norm(mg.tensor([[1.0], [3.0]])).numpy().round(3).tolist()
    [[-1.0], [1.0]]
    >>> norm.running_mean.numpy().round(3)
    array([0.2], dtype=float32)
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        positive("BatchNorm", num_features=num_features)
        _positive_eps("BatchNorm", eps)
        if not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
            raise ArgumentError(
                "BatchNorm: momentum is the share of the new batch in the running mean and must "
                f"be in [0, 1], got {momentum!r} (Keras's momentum is 1 minus that)"
            )
        self.weight = Parameter(init.constant((num_features,), 1.0))
        self.bias = Parameter(init.constant((num_features,), 0.0))
        self.register_buffer("running_mean", init.constant((num_features,), 0.0))
        self.register_buffer("running_var", init.constant((num_features,), 1.0))
        self.eps = eps
        self.momentum = momentum

    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Any) -> Tensor:
        """x: (..., C) -> the same.

        Raises ShapeError (in training also if there is only one value for each channel),
        DTypeError.
        """
        _check("BatchNorm", x, self.weight)
        return F.batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var,
            training=self.training, momentum=self.momentum, epsilon=self.eps,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Channels, eps and momentum."""
        return f"{self.weight.shape[0]}, eps={self.eps:g}, momentum={self.momentum:g}"
