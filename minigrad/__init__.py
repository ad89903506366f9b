"""minigrad: a small deep-learning engine to read, and to train on a CPU with.

NumPy holds the arrays, Numba compiles the hand-written kernels, matplotlib draws.

    import minigrad as mg

    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad  # tensor([2., 4.])
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import errors, functional, kernels
from .anomaly import detect_anomaly
from .autodiff import grad
from .captured import capture
from .creation import from_numpy, manual_seed, ones, randn, tensor, zeros
from .functional import (
    absolute,
    add,
    avg_pool2d,
    batch_norm,
    broadcast_to,
    clip,
    concat,
    conv2d,
    cos,
    cross_entropy,
    divide,
    dropout,
    einsum,
    elu,
    embedding,
    exp,
    explain_padding,
    expm1,
    flip,
    gelu,
    layer_norm,
    leaky_relu,
    linear,
    log,
    log1p,
    log_softmax,
    logsumexp,
    matmul,
    max,
    max_pool2d,
    maximum,
    mean,
    min,
    minimum,
    mse_loss,
    multiply,
    negative,
    one_hot,
    pad,
    power,
    relu,
    reshape,
    sigmoid,
    sin,
    softmax,
    softplus,
    split,
    sqrt,
    square,
    stack,
    subtract,
    sum,
    tanh,
    transpose,
    unstack,
    var,
    where,
)
from .kernels import get_num_threads, set_num_threads
from .nodes import enable_grad, is_grad_enabled, no_grad
from .tensor import Tensor, apply

if TYPE_CHECKING:
    from .drawing import graph

__version__ = "0.1.0"

# imported when they are first asked for, so that importing minigrad itself is quick
_ON_DEMAND = {"checkpoint", "convert", "data", "nn", "optim", "plot", "testing", "watch"}
_FROM_ON_DEMAND = {"graph": "drawing"}  # function -> the module that has it


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FROM_ON_DEMAND:
        return getattr(importlib.import_module(f"{__name__}.{_FROM_ON_DEMAND[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Tensor", "absolute", "add", "apply", "avg_pool2d", "batch_norm", "broadcast_to", "capture",
    "clip", "concat", "conv2d", "cos", "cross_entropy", "detect_anomaly", "divide", "dropout",
    "einsum", "elu", "embedding", "enable_grad", "errors", "exp", "explain_padding", "expm1",
    "flip", "from_numpy", "functional", "gelu", "get_num_threads", "grad", "graph",
    "is_grad_enabled", "kernels", "layer_norm", "leaky_relu", "linear", "log", "log1p",
    "log_softmax", "logsumexp", "manual_seed", "matmul", "max", "max_pool2d", "maximum", "mean",
    "min", "minimum", "mse_loss", "multiply", "negative", "no_grad", "one_hot", "ones", "pad",
    "power", "randn", "relu", "reshape", "set_num_threads", "sigmoid", "sin", "softmax",
    "softplus", "split", "sqrt", "square", "stack", "subtract", "sum", "tanh", "tensor",
    "transpose", "unstack", "var", "where", "zeros",
]  # fmt: skip
