"""Activations with kernels.  tanh and sigmoid, which NumPy is good at, are elementwise ops.

x may have any shape.  Integers become floats, but for relu.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, DTypeError
from ..recording import cannot_repeat, contiguous, repeatable
from ._call import call, composed_as
from .elementwise import sigmoid

_GRAIN = 1 << 14  # numbers below which a range is not worth a thread
_ROOT_2_PI = math.sqrt(2 / math.pi)


def check_number(op: str, name: str, value: Any) -> None:
    """Raise ArgumentError unless ``value`` is a number, and not NaN."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or value != value:
        raise ArgumentError(f"{op}: {name} must be a number, got {value!r}")


def _fused(forward: Any, backward: Any, x: Any, *numbers: float) -> Any:
    """Value and vjp from two kernels of (x, numbers, y) and of (x, g, numbers, dx), all flat."""
    if x.dtype.kind not in "fiub":
        name = forward.name.removesuffix("_tanh")
        raise DTypeError(f"{name}: x must be real numbers, got {x.dtype}")
    if x.dtype != np.float32 and x.dtype != np.float64:
        x = contiguous(x, np.float64)
    flat, shape = contiguous(x).reshape(-1), x.shape
    scalars = [x.dtype.type(number) for number in numbers]
    y = np.empty(shape, x.dtype)
    kernels.run_rows(forward, flat.size, _GRAIN, flat, *scalars, y.reshape(-1))

    def dx(g: Any) -> Any:
        out, g = np.empty(shape, flat.dtype), contiguous(np.asarray(g)).reshape(-1)
        kernels.run_rows(backward, flat.size, _GRAIN, flat, g, *scalars, out.reshape(-1))
        return out

    return y, dx


def _relu(x: Any) -> Any:
    """The same from NumPy functions, as the others with an underscore below."""
    return np.maximum(x, 0), lambda g: g * (x > 0)


@repeatable
@composed_as(_relu)
def relu(x: Any) -> Any:
    """max(x, 0); the gradient is 0 at 0, as in TensorFlow.  x: (...).

    >>> import minigrad as mg
    >>> mg.relu(mg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    x = np.asarray(x)
    if x.dtype != np.float32 and x.dtype != np.float64:
        cannot_repeat()
        return _relu(x)
    return _fused(kernels.relu, kernels.relu_backward, x)


def _leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    y = np.where(x > 0, x, x * negative_slope)
    return y, lambda g: np.where(x > 0, g, g * negative_slope)


@repeatable
@composed_as(_leaky_relu)
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where it is positive, negative_slope * x elsewhere (Maas et al. 2013).  x: (...).

    negative_slope: 0.01 as in PyTorch; TensorFlow's ``tf.nn.leaky_relu`` has 0.2, Keras 0.3.

    >>> import minigrad as mg
    >>> mg.leaky_relu(mg.tensor([-1.0, 2.0]), 0.5)
    tensor([-0.5,  2. ])
    """
    check_number("leaky_relu", "negative_slope", negative_slope)
    kernel = kernels.leaky_relu, kernels.leaky_relu_backward
    return _fused(*kernel, np.asarray(x), negative_slope)


def _elu(x: Any, alpha: float = 1.0) -> Any:
    low = np.minimum(x, 0.0)  # where x is large, the exponential would overflow
    y = np.where(x > 0, x, alpha * np.expm1(low))
    return y, lambda g: np.where(x > 0, g, g * (alpha * np.exp(low)))


@repeatable
@composed_as(_elu)
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where it is positive, alpha * (e ** x - 1) elsewhere (Clevert et al. 2016).  x: (...).

    >>> import minigrad as mg
    >>> mg.elu(mg.tensor([-100.0, 2.0]))
    tensor([-1.,  2.])
    """
    check_number("elu", "alpha", alpha)
    return _fused(kernels.elu, kernels.elu_backward, np.asarray(x), alpha)


def _softplus(x: Any) -> Any:
    y = np.maximum(x, 0.0) + np.log1p(np.exp(-np.absolute(x)))
    return y, lambda g: g * call(sigmoid, x)


@repeatable
@composed_as(_softplus)
def softplus(x: Any) -> Any:
    """log(1 + e ** x), without overflow; the gradient is sigmoid(x).  x: (...).

    >>> import minigrad as mg
    >>> mg.softplus(mg.zeros(1)).numpy().round(3)
    array([0.693], dtype=float32)
    """
    return _fused(kernels.softplus, kernels.softplus_backward, np.asarray(x))


def _normal(x: Any) -> Any:
    """Distribution function of the standard normal.  x: (...) floats."""
    if hasattr(x, "apply"):
        y = call(_normal, x)
    else:
        each = [0.5 * math.erfc(-value / math.sqrt(2)) for value in np.ravel(x).tolist()]
        y = np.array(each, x.dtype).reshape(x.shape)
    return y, lambda g: g * _density(x)


def _density(x: Any) -> Any:
    return np.exp(x * x * -0.5) / math.sqrt(2 * math.pi)


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        below = call(_normal, x)
        return x * below, lambda g: g * (below + x * _density(x))
    z = np.clip(x, -10.0, 10.0)  # where tanh has long been +-1; the cube could overflow
    t = np.tanh((z + z * z * z * 0.044715) * _ROOT_2_PI)
    slope = (z * z * (3 * 0.044715) + 1.0) * _ROOT_2_PI
    return x * (t + 1.0) * 0.5, lambda g: g * (t + 1.0 + z * (1.0 - t * t) * slope) * 0.5


@repeatable
@composed_as(_gelu)
def gelu(x: Any, approximate: str = "none") -> Any:
    """x times the probability that a standard normal number is below x (Hendrycks, Gimpel 2016).

    x: (...).
    approximate: "none" for that itself, x (1 + erf(x / sqrt(2))) / 2; "tanh" for
    x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2, which is what GPT-2 has.

    Raises ArgumentError for any other word.

    >>> import minigrad as mg
    >>> mg.gelu(mg.tensor([-1.0, 0.0, 1.0])).numpy().round(3)
    array([-0.159,  0.   ,  0.841], dtype=float32)
    """
    if approximate == "none":
        return _fused(kernels.gelu, kernels.gelu_backward, np.asarray(x))
    if approximate == "tanh":
        return _fused(kernels.gelu_tanh, kernels.gelu_tanh_backward, np.asarray(x))
    raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
