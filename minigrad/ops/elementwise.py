"""Elementwise ops.  Shapes broadcast as in NumPy; gradients have the shape of the result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..recording import computed, made, repeatable
from ._call import call

_BOTH = (lambda g: g, lambda g: g)


def identity(x: Any) -> Any:
    """x itself, as a new node of the graph.  x: (...)."""
    return x, lambda g: g


@repeatable
def add(x: Any, y: Any) -> Any:
    """x + y.  x, y: broadcastable.

    >>> import minigrad as mg
    >>> mg.add(mg.ones(2), 1)
    tensor([2., 2.])
    """
    return computed(np.add, x, y), _BOTH


@repeatable
def subtract(x: Any, y: Any) -> Any:
    """x - y.  x, y: broadcastable.

    >>> import minigrad as mg
    >>> mg.subtract(mg.ones(2), 3)
    tensor([-2., -2.])
    """
    return computed(np.subtract, x, y), (lambda g: g, lambda g: computed(np.negative, g))


@repeatable
def multiply(x: Any, y: Any) -> Any:
    """x * y.  x, y: broadcastable.

    >>> import minigrad as mg
    >>> mg.multiply(mg.ones(2), 3)
    tensor([3., 3.])
    """
    return computed(np.multiply, x, y), (
        lambda g: computed(np.multiply, g, y),
        lambda g: computed(np.multiply, g, x),
    )


@repeatable
def divide(x: Any, y: Any) -> Any:
    """x / y.  x, y: broadcastable.

    >>> import minigrad as mg
    >>> mg.divide(mg.ones(2), 4)
    tensor([0.25, 0.25])
    """
    z = computed(np.true_divide, x, y)

    def dy(g: Any) -> Any:
        along = computed(np.multiply, computed(np.negative, g), z)
        return computed(np.true_divide, along, y)

    return z, (lambda g: computed(np.true_divide, g, y), dy)


def power(x: Any, y: Any) -> Any:
    """x ** y.  x, y: broadcastable; the gradient into y is 0 where x is 0.

    >>> import minigrad as mg
    >>> mg.power(mg.tensor([2.0, 3.0]), 2)
    tensor([4., 9.])
    """
    z = np.power(x, y)

    def dx(g: Any) -> Any:
        if isinstance(y, (int, float)):
            return g * 0.0 if y == 0 else g * y * np.power(x, y - 1)
        flat = np.equal(y, 0)  # 0 * x**-1 would be nan at x = 0
        below = np.where(flat, 1.0, np.subtract(y, 1))
        return g * np.where(flat, 0.0, np.multiply(np.power(x, below), y))

    def dy(g: Any) -> Any:
        if isinstance(x, (int, float)):  # np.log of a number would be float64
            return g * z * (math.log(x) if x > 0 else 0.0)
        return g * z * np.log(np.where(np.greater(x, 0), x, 1.0))

    return z, (dx, dy)


@repeatable
def negative(x: Any) -> Any:
    """-x.  x: (...).

    >>> import minigrad as mg
    >>> mg.negative(mg.ones(2))
    tensor([-1., -1.])
    """
    return computed(np.negative, x), lambda g: computed(np.negative, g)


@repeatable
def absolute(x: Any) -> Any:
    """|x|; the gradient is 0 at 0.  x: (...).

    >>> import minigrad as mg
    >>> mg.absolute(mg.tensor([-2.0, 3.0]))
    tensor([2., 3.])
    """
    return computed(np.absolute, x), (
        lambda g: computed(np.multiply, g, computed(np.sign, x))
    )


@repeatable
def square(x: Any) -> Any:
    """x * x.  x: (...).

    >>> import minigrad as mg
    >>> mg.square(mg.tensor([-2.0, 3.0]))
    tensor([4., 9.])
    """
    return computed(np.square, x), (
        lambda g: computed(np.multiply, g, computed(np.multiply, 2.0, x))
    )


@repeatable
def sqrt(x: Any) -> Any:
    """Square root; the gradient is infinite at 0.  x: (...).

    >>> import minigrad as mg
    >>> mg.sqrt(mg.tensor([4.0, 9.0]))
    tensor([2., 3.])
    """
    y = computed(np.sqrt, x)
    return y, lambda g: computed(np.true_divide, g, computed(np.multiply, 2.0, y))


@repeatable
def exp(x: Any) -> Any:
    """e ** x.  x: (...).

    >>> import minigrad as mg
    >>> mg.exp(mg.zeros(2))
    tensor([1., 1.])
    """
    y = computed(np.exp, x)
    return y, lambda g: computed(np.multiply, g, y)


@repeatable
def expm1(x: Any) -> Any:
    """e ** x - 1, exact near 0.  x: (...).

    >>> import minigrad as mg
    >>> mg.expm1(mg.zeros(2))
    tensor([0., 0.])
    """
    y = computed(np.expm1, x)
    return y, lambda g: computed(np.multiply, g, computed(np.add, y, 1.0))


@repeatable
def log(x: Any) -> Any:
    """Natural logarithm.  x: (...).

    >>> import minigrad as mg
    >>> mg.log(mg.ones(2))
    tensor([0., 0.])
    """
    return computed(np.log, x), lambda g: computed(np.true_divide, g, x)


@repeatable
def log1p(x: Any) -> Any:
    """log(1 + x), exact near 0.  x: (...).

    >>> import minigrad as mg
    >>> mg.log1p(mg.zeros(2))
    tensor([0., 0.])
    """
    return computed(np.log1p, x), (
        lambda g: computed(np.true_divide, g, computed(np.add, 1.0, x))
    )


@repeatable
def sin(x: Any) -> Any:
    """Sine of x in radians.  x: (...).

    >>> import minigrad as mg
    >>> mg.sin(mg.zeros(2))
    tensor([0., 0.])
    """
    return computed(np.sin, x), lambda g: computed(np.multiply, g, computed(np.cos, x))


@repeatable
def cos(x: Any) -> Any:
    """Cosine of x in radians.  x: (...).

    >>> import minigrad as mg
    >>> mg.cos(mg.zeros(2))
    tensor([1., 1.])
    """
    return computed(np.cos, x), (
        lambda g: computed(np.multiply, computed(np.negative, g), computed(np.sin, x))
    )


@repeatable
def tanh(x: Any) -> Any:
    """Hyperbolic tangent.  x: (...).

    >>> import minigrad as mg
    >>> mg.tanh(mg.tensor([0.0, 100.0]))
    tensor([0., 1.])
    """
    y = computed(np.tanh, x)

    def dx(g: Any) -> Any:
        slope = computed(np.subtract, 1.0, computed(np.multiply, y, y))
        return computed(np.multiply, g, slope)

    return y, dx


def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x), exact in both tails and without overflow.  x: (...).

    >>> import minigrad as mg
    >>> mg.sigmoid(mg.tensor([-100.0, 0.0, 100.0])).numpy().round(3)
    array([0. , 0.5, 1. ], dtype=float32)
    """
    if not hasattr(x, "apply"):
        e = np.exp(np.absolute(x) * -1.0)  # at most 1
        y = np.where(x >= 0, 1.0, e) / (1.0 + e)
        y = y.astype(e.dtype, copy=False)
    else:
        y = call(sigmoid, x)
    return y, lambda g: g * (y * (1.0 - y))


def maximum(x: Any, y: Any) -> Any:
    """Larger of the two; where they are equal the gradient goes to x.  Broadcastable.

    >>> import minigrad as mg
    >>> mg.maximum(mg.tensor([1.0, 5.0]), 3.0)
    tensor([3., 5.])
    """
    first = x >= y
    return np.maximum(x, y), (lambda g: g * first, lambda g: g * np.logical_not(first))


def minimum(x: Any, y: Any) -> Any:
    """Smaller of the two; where they are equal the gradient goes to x.  Broadcastable.

    >>> import minigrad as mg
    >>> mg.minimum(mg.tensor([1.0, 5.0]), 3.0)
    tensor([1., 3.])
    """
    first = x <= y
    return np.minimum(x, y), (lambda g: g * first, lambda g: g * np.logical_not(first))


def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    """x limited to [low, high] (None: no bound); where it is outside, the gradient goes to
    the bound.  x: (...); bounds broadcast.

    >>> import minigrad as mg
    >>> mg.clip(mg.tensor([-2.0, 0.5, 2.0]), -1, 1)
    tensor([-1. ,  0.5,  1. ])
    """

    def dx(g: Any) -> Any:
        inside = np.ones(x.shape, bool)
        if low is not None:
            inside = inside & (x >= low)
        if high is not None:
            inside = inside & (x <= high)
        return g * inside

    return np.clip(x, low, high), (dx, lambda g: g * (x < low), lambda g: g * (x > high))


@repeatable
def where(condition: Any, x: Any, y: Any) -> Any:
    """x where condition holds, y elsewhere.  All three broadcast.

    >>> import minigrad as mg
    >>> mg.where([True, False], mg.ones(2), mg.zeros(2))
    tensor([1., 0.])
    """
    return made(np.where, condition, x, y), (
        lambda g: np.zeros_like(g),
        lambda g: made(np.where, condition, g, 0.0),
        lambda g: made(np.where, condition, 0.0, g),
    )
