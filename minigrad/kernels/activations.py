"""Activations, and their gradients from the input alone: nothing else is kept for them.

Every array here is flat, and a range of it is made.  A NaN passes: no comparison of a NaN
holds, so each is written such that "does not hold" leads on to arithmetic with x.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import elementary
from .registry import FASTMATH, kernel

# Where gelu's tanh has long been +-1, in float64 too; beyond it the cube would overflow.
_FLAT = 10.0
_ROOT_2_PI = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def relu_twin(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> None:
    """y = max(x, 0).  x, y: (n,)."""
    y[start:stop] = np.maximum(x[start:stop], 0)


def relu_backward_twin(
    x: np.ndarray, g: np.ndarray, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx = g where x > 0, and g * 0 elsewhere.  x, g, dx: (n,)."""
    dx[start:stop] = g[start:stop] * (x[start:stop] > 0)


def leaky_relu_twin(x: np.ndarray, slope: Any, y: np.ndarray, start: int, stop: int) -> None:
    """y = x where x > 0, slope * x elsewhere.  x, y: (n,); slope: in their dtype."""
    x = x[start:stop]
    y[start:stop] = np.where(x > 0, x, slope * x)


def leaky_relu_backward_twin(
    x: np.ndarray, g: np.ndarray, slope: Any, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx = g where x > 0, slope * g elsewhere.  x, g, dx: (n,)."""
    g = g[start:stop]
    dx[start:stop] = np.where(x[start:stop] > 0, g, slope * g)


def elu_twin(x: np.ndarray, alpha: Any, y: np.ndarray, start: int, stop: int) -> None:
    """y = x where x > 0, alpha * (e**x - 1) elsewhere.  x, y: (n,); alpha: in their dtype."""
    x = x[start:stop]
    y[start:stop] = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_backward_twin(
    x: np.ndarray, g: np.ndarray, alpha: Any, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx = g where x > 0, g * alpha * e**x elsewhere.  x, g, dx: (n,)."""
    x, g = x[start:stop], g[start:stop]
    dx[start:stop] = np.where(x > 0, g, g * alpha * np.exp(np.minimum(x, 0)))


def softplus_twin(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> None:
    """y = log(1 + e**x).  x, y: (n,)."""
    x = x[start:stop]
    y[start:stop] = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def softplus_backward_twin(
    x: np.ndarray, g: np.ndarray, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx = g * sigmoid(x).  x, g, dx: (n,)."""
    e = np.exp(-np.abs(x[start:stop]))
    dx[start:stop] = g[start:stop] * np.where(x[start:stop] >= 0, 1, e) / (1 + e)


def _normal_twin(x: np.ndarray) -> np.ndarray:
    """Distribution function of the standard normal, (1 + erf(x / sqrt(2))) / 2."""
    return np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in x.tolist()], x.dtype)


def gelu_twin(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> None:
    """y = x * P(standard normal < x).  x, y: (n,)."""
    y[start:stop] = x[start:stop] * _normal_twin(x[start:stop])


def gelu_backward_twin(
    x: np.ndarray, g: np.ndarray, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx = g * (P + x p), P and p distribution and density of the normal.  x, g, dx: (n,)."""
    x = x[start:stop]
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    dx[start:stop] = g[start:stop] * (_normal_twin(x) + x * density)


def gelu_tanh_twin(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> None:
    """y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))) / 2.  x, y: (n,)."""
    x = x[start:stop]
    z = np.clip(x, -_FLAT, _FLAT)
    y[start:stop] = 0.5 * x * (1 + np.tanh(_ROOT_2_PI * (z + _CUBIC * z**3)))


def gelu_tanh_backward_twin(
    x: np.ndarray, g: np.ndarray, dx: np.ndarray, start: int, stop: int
) -> None:
    """dx = g * the derivative of the tanh form.  x, g, dx: (n,)."""
    z = np.clip(x[start:stop], -_FLAT, _FLAT)
    t = np.tanh(_ROOT_2_PI * (z + _CUBIC * z**3))
    inner = _ROOT_2_PI * (1 + 3 * _CUBIC * z**2)
    dx[start:stop] = g[start:stop] * (0.5 * (1 + t) + 0.5 * z * (1 - t * t) * inner)


# Slices counted from zero, and numbers in the dtype of x: see loops.py.  Sums of two terms
# and products: nothing to reassociate, and without fastmath the zeros keep their signs.


@kernel(twin=relu_twin, outputs=("y",))
def relu(x: Any, y: Any, start: int, stop: int) -> None:
    x, y, zero = x[start:stop], y[start:stop], x.dtype.type(0)
    for k in range(y.size):
        y[k] = zero if x[k] <= zero else x[k]


@kernel(twin=relu_backward_twin, outputs=("dx",))
def relu_backward(x: Any, g: Any, dx: Any, start: int, stop: int) -> None:
    x, g, dx, zero = x[start:stop], g[start:stop], dx[start:stop], x.dtype.type(0)
    one = x.dtype.type(1)
    for k in range(dx.size):
        dx[k] = g[k] * (one if x[k] > zero else zero)


@kernel(twin=leaky_relu_twin, outputs=("y",))
def leaky_relu(x: Any, slope: Any, y: Any, start: int, stop: int) -> None:
    x, y, zero = x[start:stop], y[start:stop], x.dtype.type(0)
    for k in range(y.size):
        y[k] = x[k] if x[k] > zero else slope * x[k]


@kernel(twin=leaky_relu_backward_twin, outputs=("dx",))
def leaky_relu_backward(x: Any, g: Any, slope: Any, dx: Any, start: int, stop: int) -> None:
    x, g, dx, zero = x[start:stop], g[start:stop], dx[start:stop], x.dtype.type(0)
    for k in range(dx.size):
        dx[k] = g[k] if x[k] > zero else slope * g[k]


@kernel(twin=elu_twin, outputs=("y",), fastmath=FASTMATH)
def elu(x: Any, alpha: Any, y: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, y, zero = x[start:stop], y[start:stop], x.dtype.type(0)
    for k in range(y.size):
        low = zero if x[k] > zero else x[k]
        y[k] = x[k] if x[k] > zero else alpha * elementary.expm1(low)


@kernel(twin=elu_backward_twin, outputs=("dx",), fastmath=FASTMATH)
def elu_backward(x: Any, g: Any, alpha: Any, dx: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, g, dx, zero = x[start:stop], g[start:stop], dx[start:stop], x.dtype.type(0)
    for k in range(dx.size):
        low = zero if x[k] > zero else x[k]
        dx[k] = g[k] if x[k] > zero else g[k] * alpha * elementary.exp(low)


@kernel(twin=softplus_twin, outputs=("y",), fastmath=FASTMATH)
def softplus(x: Any, y: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, y = x[start:stop], y[start:stop]
    for k in range(y.size):
        y[k] = elementary.softplus(x[k])


@kernel(twin=softplus_backward_twin, outputs=("dx",), fastmath=FASTMATH)
def softplus_backward(x: Any, g: Any, dx: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, g, dx = x[start:stop], g[start:stop], dx[start:stop]
    for k in range(dx.size):
        dx[k] = g[k] * elementary.sigmoid(x[k])


@kernel(twin=gelu_twin, outputs=("y",), fastmath=FASTMATH)
def gelu(x: Any, y: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, y = x[start:stop], y[start:stop]
    for k in range(y.size):
        y[k] = x[k] * elementary.normal(x[k])


@kernel(twin=gelu_backward_twin, outputs=("dx",), fastmath=FASTMATH)
def gelu_backward(x: Any, g: Any, dx: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, g, dx = x[start:stop], g[start:stop], dx[start:stop]
    half, factor = x.dtype.type(-0.5), x.dtype.type(1 / math.sqrt(2 * math.pi))
    for k in range(dx.size):
        density = factor * elementary.exp(half * x[k] * x[k])
        dx[k] = g[k] * (elementary.normal(x[k]) + x[k] * density)


@kernel(twin=gelu_tanh_twin, outputs=("y",), fastmath=FASTMATH)
def gelu_tanh(x: Any, y: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, y = x[start:stop], y[start:stop]
    number = x.dtype.type
    flat, root, cubic = number(_FLAT), number(_ROOT_2_PI), number(_CUBIC)
    half, one = number(0.5), number(1)
    for k in range(y.size):
        z = flat if x[k] > flat else (-flat if x[k] < -flat else x[k])
        y[k] = half * x[k] * (one + elementary.tanh(root * (z + cubic * z * z * z)))


@kernel(twin=gelu_tanh_backward_twin, outputs=("dx",), fastmath=FASTMATH)
def gelu_tanh_backward(x: Any, g: Any, dx: Any, start: int, stop: int) -> None:
    elementary.wide_vectors()
    x, g, dx = x[start:stop], g[start:stop], dx[start:stop]
    number = x.dtype.type
    flat, root, cubic = number(_FLAT), number(_ROOT_2_PI), number(_CUBIC)
    half, one, three = number(0.5), number(1), number(3)
    for k in range(dx.size):
        z = flat if x[k] > flat else (-flat if x[k] < -flat else x[k])
        t = elementary.tanh(root * (z + cubic * z * z * z))
        inner = root * (one + three * cubic * z * z)
        dx[k] = g[k] * half * (one + t + z * (one - t * t) * inner)
