"""What a tensor can do: operators and methods, one line each, all through ``apply``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops, patterns
from .errors import (
    ArgumentError,
    DTypeError,
    IndexRangeError,
    InplaceError,
    MinigradError,
    ShapeError,
)
from .nodes import mark_changed, mode, refuse_on_tape

ALIASES = {"dim": "axis", "keepdim": "keepdims"}  # PyTorch's names for the same thing


def explained(op: Any, values: list[Any], error: Exception) -> MinigradError:
    """NumPy's complaint as one of ours, with the op and the shapes of its arguments."""
    numbers = () if isinstance(error, AttributeError) else (int, float, list, tuple)
    strange = ", ".join(
        f"argument {i} is {_kind(value)}"
        for i, value in enumerate(values)
        if not isinstance(value, numbers)
        and not (value is None and isinstance(error, ValueError))  # an argument left out
        and not (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")
    )
    if strange and not isinstance(error, IndexError):
        wanted = "tensors, arrays or numbers" if numbers else "tensors or arrays"
        return DTypeError(f"{op.__name__}: expects {wanted}, but {strange}")
    shapes = ", ".join(str(getattr(v, "shape", v)) for v in values)
    message = f"{op.__name__}: {error} (arguments: {shapes})"
    if isinstance(error, TypeError):
        return DTypeError(message)
    return ShapeError(message) if isinstance(error, ValueError) else IndexRangeError(message)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of dtype {value.dtype}"
    return "None" if value is None else f"a {type(value).__name__}"


def _method(op: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls ``op`` on the tensor; ``dim`` and ``keepdim`` are understood."""

    def method(self: Any, *args: Any, **params: Any) -> Any:
        if params:
            params = {ALIASES.get(name, name): value for name, value in params.items()}
        return self.apply(op, self, *args, **params)

    method.__name__ = op.__name__
    method.__doc__ = op.__doc__
    return method


def _methods(*several: Callable[..., Any]) -> list[Callable[..., Any]]:
    return [_method(op) for op in several]


def _binary(op: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A binary operator and its reflection."""

    def forward(self: Any, other: Any) -> Any:
        return self.apply(op, self, other)

    def reflected(self: Any, other: Any) -> Any:
        return self.apply(op, other, self)

    return forward, reflected


def _compare(function: Any) -> Callable[..., Any]:
    def compare(self: Any, other: Any) -> Any:
        return self.wrap(np.asarray(_plain(function, self.array, getattr(other, "array", other))))

    return compare


def _plain(function: Any, *values: Any) -> Any:
    """A NumPy function of arrays; its complaints become ours."""
    try:
        return function(*values)
    except (ValueError, IndexError, TypeError) as error:
        raise explained(function, list(values), error) from error


def _inplace(function: Any, op: Callable[..., Any], sign: str) -> Callable[..., Any]:
    """``x += y`` and its like: in place where that is safe, see Tensor."""

    def inplace(self: Any, other: Any) -> Any:
        if mode.grad and (self.requires_grad or getattr(other, "requires_grad", False)):
            if self.requires_grad and self.node is None:
                raise InplaceError(
                    f"x {sign} y on a leaf tensor of shape {self.shape} that requires a gradient: "
                    "the graph could no longer tell its old value from its new one. Update "
                    f"parameters under no_grad(), or write x = x {sign[:-1]} y."
                )
            return self.apply(op, self, other)
        refuse_on_tape(f"changes data in place ({sign})")
        if not self.array.flags.writeable:
            raise InplaceError(f"x {sign} y: the array of x is read-only; make a copy of it")
        value = getattr(other, "array", other)
        if isinstance(value, np.generic):
            value = value.item()
        try:
            function(self.array, value, out=self.array)
        except (ValueError, TypeError) as error:
            raise explained(op, [self.array, value], error) from error
        mark_changed(self.storage, self.array, f"{sign}")
        return self

    return inplace


_equal, _unequal = _compare(np.equal), _compare(np.not_equal)


def _flat(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """``(2, 3)`` from ``f(2, 3)`` and from ``f((2, 3))``."""
    if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)):
        return tuple(sizes[0])
    return sizes


class Methods:
    """Base of Tensor.  ``apply`` records an op; ``wrap`` makes a tensor of an array."""

    __slots__ = ()
    __hash__ = object.__hash__

    apply: Callable[..., Any]
    wrap: Callable[..., Any]
    array: np.ndarray
    shape: Any  # properties of Tensor
    ndim: Any
    T: Any

    __add__, __radd__ = _binary(ops.add)
    __sub__, __rsub__ = _binary(ops.subtract)
    __mul__, __rmul__ = _binary(ops.multiply)
    __truediv__, __rtruediv__ = _binary(ops.divide)
    __pow__, __rpow__ = _binary(ops.power)
    __matmul__, __rmatmul__ = _binary(ops.matmul)
    __iadd__ = _inplace(np.add, ops.add, "+=")
    __isub__ = _inplace(np.subtract, ops.subtract, "-=")
    __imul__ = _inplace(np.multiply, ops.multiply, "*=")
    __itruediv__ = _inplace(np.true_divide, ops.divide, "/=")
    __lt__, __le__ = _compare(np.less), _compare(np.less_equal)
    __gt__, __ge__ = _compare(np.greater), _compare(np.greater_equal)
    __and__, __or__ = _compare(np.bitwise_and), _compare(np.bitwise_or)
    __xor__, __invert__ = _compare(np.bitwise_xor), lambda self: self.wrap(np.invert(self.array))

    def __eq__(self, other: object) -> Any:
        return _equal(self, other)

    def __ne__(self, other: object) -> Any:
        return _unequal(self, other)

    __neg__ = _method(ops.negative)
    __abs__ = abs = _method(ops.absolute)
    exp, sqrt, square = _methods(ops.exp, ops.sqrt, ops.square)
    sin, cos, tanh = _methods(ops.sin, ops.cos, ops.tanh)
    sigmoid, relu, clip = _methods(ops.sigmoid, ops.relu, ops.clip)
    leaky_relu, elu = _methods(ops.leaky_relu, ops.elu)
    gelu, softplus = _methods(ops.gelu, ops.softplus)
    sum, mean, var = _methods(ops.sum, ops.mean, ops.var)
    max, min = _methods(ops.max, ops.min)
    softmax, log_softmax = _methods(ops.softmax, ops.log_softmax)
    logsumexp = _method(ops.logsumexp)
    astype, flip, split, unstack = _methods(ops.astype, ops.flip, ops.split, ops.unstack)
    matmul, pad = _methods(ops.matmul, ops.pad)

    def log(self) -> Any:
        """Natural logarithm.  Warns (PatternWarning) of one of a softmax."""
        patterns.look_at_log(self)
        return self.apply(ops.log, self)

    def pow(self, exponent: Any) -> Any:
        """self ** exponent."""
        return self.apply(ops.power, self, exponent)

    def float(self) -> Any:
        """Converted to float32."""
        return self.apply(ops.astype, self, dtype=np.float32)

    def double(self) -> Any:
        """Converted to float64."""
        return self.apply(ops.astype, self, dtype=np.float64)

    def reshape(self, *shape: Any) -> Any:
        """Another shape of the same size: ``reshape(2, -1)`` or ``reshape((2, -1))``."""
        return self.apply(ops.reshape, self, shape=_flat(shape))

    def flatten(self, start: int = 0) -> Any:
        """Axes from ``start`` on made into one.  Raises ArgumentError if there is no such axis."""
        if not isinstance(start, (int, np.integer)) or not 0 <= start <= self.ndim:
            raise ArgumentError(
                f"flatten: start must be an axis of {self.shape}, counted from 0, got {start!r}"
            )
        return self.reshape(*self.shape[:start], math.prod(self.shape[start:]))

    def permute(self, *axes: Any) -> Any:
        """Axes in the given order."""
        return self.apply(ops.transpose, self, axes=_flat(axes))

    def swapaxes(self, first: int, second: int) -> Any:
        """Two axes exchanged."""
        _plain(np.swapaxes, self.array, first, second)  # complains if there is no such axis
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.permute(*order)

    def transpose(self, *axes: Any) -> Any:
        """Axes reversed; in a given order, as in NumPy; or two of them exchanged, as in
        PyTorch (``t.transpose(0, 1)`` of a 3-D tensor)."""
        axes = _flat(axes)
        if len(axes) == 2 != self.ndim:
            return self.swapaxes(*axes)
        return self.permute(*axes) if axes else self.T

    def broadcast_to(self, *shape: Any) -> Any:
        """Repeated along new or unit axes up to ``shape``."""
        return self.apply(ops.broadcast_to, self, shape=_flat(shape))

    def unsqueeze(self, axis: int) -> Any:
        """With a new axis of size 1 at ``axis``."""
        return self.apply(ops.reshape, self, shape=_plain(np.expand_dims, self.array, axis).shape)

    def squeeze(self, axis: int | None = None) -> Any:
        """Without the axes (or the one axis) of size 1."""
        return self.apply(ops.reshape, self, shape=_plain(np.squeeze, self.array, axis).shape)

    def argmax(self, axis: int | None = None) -> Any:
        """Index of the largest entry (the first of equals); integers, no gradient."""
        return self.wrap(np.asarray(_plain(np.argmax, self.array, axis)))

    def any(self, axis: int | None = None) -> Any:
        """Whether any entry is true."""
        return self.wrap(np.asarray(_plain(np.any, self.array, axis)))

    def all(self, axis: int | None = None) -> Any:
        """Whether every entry is true."""
        return self.wrap(np.asarray(_plain(np.all, self.array, axis)))
