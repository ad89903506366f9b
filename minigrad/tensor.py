"""Tensor, and the one door ``apply(op, *inputs)`` through which every op is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from . import autodiff, ops
from .errors import ArgumentError, DTypeError, GraphError, InplaceError, MinigradError, ShapeError
from .graph import Node, Storage, mark_changed, mode

_F64 = np.dtype(np.float64)
_ALIASES = {"dim": "axis", "keepdim": "keepdims"}  # PyTorch's names for the same thing


def apply(op: Callable[..., Any], *args: Any, **params: Any) -> Any:
    """Call an op on tensors, arrays and numbers; record it if a gradient may be wanted.

    op: see :mod:`minigrad.ops`.  args may be tensors, arrays or Python numbers (which never
    change a dtype); params are passed on as they are.
    Returns a Tensor, or a tuple of them for an op with several results.

    Raises what the op raises; NumPy's complaints about shapes become a ShapeError.
    """
    record = False
    values = []
    parents = []
    for arg in args:
        if isinstance(arg, Tensor):
            values.append(arg.array)
            if arg.requires_grad:
                record = True
                parents.append(arg)
            else:
                parents.append(None)
        else:
            values.append(arg.item() if isinstance(arg, np.generic) else arg)
            parents.append(None)
    try:
        result, vjp = op(*values, **params)
    except MinigradError:
        raise
    except (ValueError, IndexError, TypeError) as error:
        raise _explained(op, values, error) from error
    many = type(result) is tuple
    outputs = tuple(
        _wrap(np.asarray(y) if y.__class__ is not np.ndarray else y, values, args)
        for y in (result if many else (result,))
    )
    if record and mode.grad:
        node = Node(
            op, args, parents, params, vjp,
            tuple([(y.array.shape, y.array.dtype, y.storage) for y in outputs]), many,
        )  # fmt: skip
        for slot, y in enumerate(outputs):
            if y.array.dtype.kind == "f":
                y.requires_grad = True
                y.node = node
                y.slot = slot
    return outputs if many else outputs[0]


def _wrap(array: np.ndarray, values: list[Any], args: tuple[Any, ...]) -> Tensor:
    """A result as a Tensor.  It shares the storage of the argument it is a view of."""
    if array.dtype is _F64 and not any(getattr(v, "dtype", None) == _F64 for v in values):
        array = array.astype(np.float32)  # NumPy's float64 for integers and their means
    out = Tensor.__new__(Tensor)
    out.array = array
    out.grad = None
    out.requires_grad = False
    out.node = None
    out.slot = 0
    out.hooks = None
    base = array.base
    if base is not None:
        for value, arg in zip(values, args):
            if value is base or value is array or getattr(value, "base", None) is base:
                if isinstance(arg, Tensor):
                    out.storage = arg.storage
                    return out
    out.storage = Storage()
    return out


def _explained(op: Any, values: list[Any], error: Exception) -> MinigradError:
    """NumPy's complaint as one of ours, with the op and the shapes of its arguments."""
    shapes = ", ".join(str(getattr(v, "shape", v)) for v in values)
    message = f"{op.__name__}: {error} (arguments: {shapes})"
    return DTypeError(message) if isinstance(error, TypeError) else ShapeError(message)


def _method(op: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls ``op`` on the tensor; ``dim`` and ``keepdim`` are understood."""

    def method(self: Tensor, *args: Any, **params: Any) -> Any:
        if params:
            params = {_ALIASES.get(name, name): value for name, value in params.items()}
        return apply(op, self, *args, **params)

    method.__name__ = op.__name__
    method.__doc__ = op.__doc__
    return method


def _binary(op: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A binary operator and its reflection."""

    def forward(self: Tensor, other: Any) -> Any:
        return apply(op, self, other)

    def reflected(self: Tensor, other: Any) -> Any:
        return apply(op, other, self)

    return forward, reflected


def _compare(function: Any) -> Callable[..., Any]:
    def compare(self: Tensor, other: Any) -> Tensor:
        value = getattr(other, "array", other)
        try:
            return Tensor(np.asarray(function(self.array, value)))
        except (ValueError, TypeError) as error:
            raise _explained(function, [self.array, value], error) from error

    return compare


def _inplace(function: Any, op: Callable[..., Any], sign: str) -> Callable[..., Any]:
    """``x += y`` and its like: in place where that is safe, see Tensor."""

    def inplace(self: Tensor, other: Any) -> Any:
        if mode.grad and (self.requires_grad or getattr(other, "requires_grad", False)):
            if self.requires_grad and self.node is None:
                raise InplaceError(
                    f"x {sign} y on a leaf tensor of shape {self.shape} that requires a gradient: "
                    "the graph could no longer tell its old value from its new one. Update "
                    f"parameters under no_grad(), or write x = x {sign[:-1]} y."
                )
            return apply(op, self, other)
        value = getattr(other, "array", other)
        if isinstance(value, np.generic):
            value = value.item()
        try:
            function(self.array, value, out=self.array)
        except (ValueError, TypeError) as error:
            raise _explained(op, [self.array, value], error) from error
        mark_changed(self.storage, self.array, f"{sign}")
        return self

    return inplace


class Tensor:
    """An array that remembers how it was computed.

    data: array, nested list, number or Tensor.  Lists and Python floats become float32;
    arrays keep their dtype and are shared, not copied (``minigrad.tensor`` copies).
    requires_grad: whether gradients with respect to it are wanted (floats only).

    Attributes: ``array`` the ndarray (write to it through ``data``, so that a pending
    backward pass can notice); ``grad`` the gradient, a Tensor or None; ``requires_grad``;
    ``node`` the op call it came from, None for a leaf.

    NumPy functions and operators work on tensors and are recorded (``np.tanh(t)``,
    ``np.add(t, 1)``).  ``x += y`` works in place on tensors that need no gradient and under
    ``no_grad``; where it would be recorded it means ``x = x + y``, and on a leaf that
    requires a gradient it is refused.

    Raises DTypeError for data that are not real numbers or booleans.
    """

    __slots__ = (
        "array", "grad", "requires_grad", "node", "slot", "hooks", "storage", "__weakref__"
    )  # fmt: skip
    __array_priority__ = 1000
    __hash__ = object.__hash__

    apply = staticmethod(apply)

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self.array = _as_array(data, dtype)
        self.grad: Tensor | None = None
        self.requires_grad = False
        self.node: Node | None = None
        self.slot = 0
        self.hooks: list[Callable[[Any], Any]] | None = None
        self.storage = data.storage if isinstance(data, Tensor) else Storage()
        if requires_grad:
            self.requires_grad_()

    # -- what it is ---------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray:
        """The ndarray.  ``t.data = value`` and ``t.data += value`` write in place and are
        noticed by a pending backward pass; writing to a slice of it is not."""
        return self.array

    @data.setter
    def data(self, value: Any) -> None:
        value = getattr(value, "array", value)
        if value is not self.array:
            value = np.asarray(value)
            if value.shape != self.array.shape:
                raise ShapeError(
                    f"t.data = value: value has shape {value.shape}, t has {self.array.shape}"
                )
            self.array[...] = value
        mark_changed(self.storage, self.array, "assignment to .data")

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """Element type, a NumPy dtype."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.array.size

    def numel(self) -> int:
        """Number of elements."""
        return self.array.size

    def dim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than by an op that was recorded."""
        return self.node is None

    @property
    def T(self) -> Tensor:
        """Axes reversed."""
        return apply(ops.transpose, self)

    def __len__(self) -> int:
        if not self.array.ndim:
            raise DTypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __repr__(self) -> str:
        body = np.array2string(self.array, separator=", ", prefix="tensor(", threshold=100)
        notes = ""
        if self.array.dtype not in (np.float32, np.int64, np.bool_):
            notes += f", dtype={self.array.dtype}"
        if self.node is not None:
            notes += f", by={self.node.name}"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({body}{notes})"

    # -- leaving the graph --------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The array, shared; read-only if the tensor is part of a graph."""
        if not self.requires_grad:
            return self.array
        view = self.array.view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def detach(self) -> Tensor:
        """The same data, shared, outside the graph: where a gradient stops."""
        return Tensor(self)

    def clone(self) -> Tensor:
        """A copy in memory of its own; gradients flow through it."""
        return apply(_copy, self)

    def wrap(self, array: np.ndarray) -> Tensor:
        """``array`` as a tensor (for :mod:`minigrad.autodiff`)."""
        return Tensor(array)

    def item(self) -> Any:
        """The one element, as a Python number.  Raises ShapeError if there are more."""
        if self.array.size != 1:
            raise ShapeError(f"item(): a tensor of shape {self.shape} is not one number")
        return self.array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.array.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self.array.__index__()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ArgumentError(
                f"a tensor of shape {self.shape} is neither true nor false; use .any() or .all()"
            )
        return bool(self.array)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.node is not None:
            raise GraphError("only leaf tensors can be copied deeply; use t.detach().clone()")
        copy = Tensor.__new__(type(self))
        Tensor.__init__(copy, self.array.copy(), self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> Any:
        if self.node is not None:
            raise GraphError("only leaf tensors can be pickled; use t.detach()")
        return type(self), (self.array, self.requires_grad)

    # -- gradients ----------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Say whether gradients with respect to this leaf are wanted.  Returns itself.

        Raises DTypeError unless it holds floats, GraphError unless it is a leaf.
        """
        if requires_grad and self.array.dtype.kind != "f":
            raise DTypeError(
                f"only float tensors can require a gradient, this one is {self.array.dtype}"
            )
        if self.node is not None:
            raise GraphError(
                "requires_grad can only be set on a leaf; to stop gradients use t.detach()"
            )
        self.requires_grad = requires_grad
        return self

    def backward(
        self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add dself/dleaf to the ``.grad`` of every leaf; see :func:`autodiff.backward`."""
        autodiff.backward(self, gradient, retain_graph, create_graph)

    def accumulate(self, gradient: np.ndarray) -> None:
        """Add an array to ``.grad``, taking the array over if there is none yet."""
        if self.grad is None:
            self.grad = Tensor(gradient)
        else:
            self.grad.array += gradient
            mark_changed(self.grad.storage, self.grad.array, "backward()")

    def register_hook(self, hook: Callable[[Tensor], Any]) -> Callable[[], None]:
        """Call ``hook(gradient)`` when this tensor's gradient is complete in a backward pass.

        The hook may return another gradient to go on with, or None.  Returns a function
        that removes the hook.  Raises GraphError if no gradient ever comes here.
        """
        if not self.requires_grad:
            raise GraphError("register_hook: this tensor does not require a gradient")

        def run(gradient: Any) -> Any:
            tensor = gradient if isinstance(gradient, Tensor) else Tensor(np.asarray(gradient))
            result = hook(tensor)
            if result is None:
                return gradient
            changed = result if isinstance(gradient, Tensor) else getattr(result, "array", result)
            if np.shape(changed) != self.shape:
                raise ShapeError(
                    f"a hook returned a gradient of shape {np.shape(changed)} for a tensor of "
                    f"shape {self.shape}"
                )
            return changed

        if self.node is None:
            self.hooks = hooks = self.hooks or []
        else:
            self.node.hooks = self.node.hooks or {}
            hooks = self.node.hooks.setdefault(self.slot, [])
        hooks.append(run)
        return lambda: hooks.remove(run) if run in hooks else None

    def retain_grad(self) -> None:
        """Keep ``.grad`` of this inner tensor in backward passes (leaves always do)."""
        if self.node is not None:

            def keep(gradient: Tensor) -> None:
                copy = gradient if gradient.requires_grad else Tensor(gradient.array.copy())
                self.grad = copy if self.grad is None else self.grad + copy

            self.register_hook(keep)

    # -- indexing -----------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        return apply(ops.getitem, self, index=_plain_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if mode.grad and (self.requires_grad or getattr(value, "requires_grad", False)):
            raise InplaceError(
                "t[index] = value cannot be recorded: the gradient of the old entries would be "
                "lost. Build the tensor from parts (where, concat, stack), or write under "
                "no_grad() if no gradient is meant to flow."
            )
        try:
            self.array[_plain_index(index)] = getattr(value, "array", value)
        except (ValueError, IndexError, TypeError) as error:
            raise _explained(ops.getitem, [self.array, index], error) from error
        mark_changed(self.storage, self.array, "t[...] = value")

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.unstack(0))

    # -- operators and methods: one line each, all through apply ---------------------------

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
    __xor__, __invert__ = _compare(np.bitwise_xor), lambda self: Tensor(np.invert(self.array))

    def __eq__(self, other: object) -> Any:
        return _equal(self, other)

    def __ne__(self, other: object) -> Any:
        return _unequal(self, other)

    __neg__ = _method(ops.negative)
    __abs__ = abs = _method(ops.absolute)
    exp, log, sqrt, square = map(_method, (ops.exp, ops.log, ops.sqrt, ops.square))
    sin, cos, tanh = map(_method, (ops.sin, ops.cos, ops.tanh))
    sigmoid, relu, clip = map(_method, (ops.sigmoid, ops.relu, ops.clip))
    sum, mean, var = map(_method, (ops.sum, ops.mean, ops.var))
    max, min = map(_method, (ops.max, ops.min))
    softmax, log_softmax = map(_method, (ops.softmax, ops.log_softmax))
    logsumexp = _method(ops.logsumexp)
    astype, flip, split, unstack = map(_method, (ops.astype, ops.flip, ops.split, ops.unstack))
    matmul, pad = map(_method, (ops.matmul, ops.pad))

    def pow(self, exponent: Any) -> Tensor:
        """self ** exponent."""
        return apply(ops.power, self, exponent)

    def float(self) -> Tensor:
        """Converted to float32."""
        return apply(ops.astype, self, dtype=np.float32)

    def double(self) -> Tensor:
        """Converted to float64."""
        return apply(ops.astype, self, dtype=np.float64)

    def reshape(self, *shape: Any) -> Tensor:
        """Another shape of the same size: ``reshape(2, -1)`` or ``reshape((2, -1))``."""
        return apply(ops.reshape, self, shape=_flat(shape))

    def flatten(self, start: int = 0) -> Tensor:
        """Axes from ``start`` on made into one."""
        return self.reshape(*self.shape[:start], -1)

    def permute(self, *axes: Any) -> Tensor:
        """Axes in the given order."""
        return apply(ops.transpose, self, axes=tuple(a % self.ndim for a in _flat(axes)))

    def swapaxes(self, first: int, second: int) -> Tensor:
        """Two axes exchanged."""
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.permute(*order)

    def transpose(self, *axes: Any) -> Tensor:
        """Axes reversed; in a given order, as in NumPy; or two of them exchanged, as in
        PyTorch (``t.transpose(0, 1)`` of a 3-D tensor)."""
        axes = _flat(axes)
        if len(axes) == 2 != self.ndim:
            return self.swapaxes(*axes)
        return self.permute(*axes) if axes else self.T

    def broadcast_to(self, *shape: Any) -> Tensor:
        """Repeated along new or unit axes up to ``shape``."""
        return apply(ops.broadcast_to, self, shape=_flat(shape))

    def unsqueeze(self, axis: int) -> Tensor:
        """With a new axis of size 1 at ``axis``."""
        return apply(ops.reshape, self, shape=np.expand_dims(self.array, axis).shape)

    def squeeze(self, axis: int | None = None) -> Tensor:
        """Without the axes (or the one axis) of size 1."""
        return apply(ops.reshape, self, shape=np.squeeze(self.array, axis).shape)

    def argmax(self, axis: int | None = None) -> Tensor:
        """Index of the largest entry (the first of equals); integers, no gradient."""
        return Tensor(np.asarray(self.array.argmax(axis)))

    def any(self, axis: int | None = None) -> Tensor:
        """Whether any entry is true."""
        return Tensor(np.asarray(self.array.any(axis)))

    def all(self, axis: int | None = None) -> Tensor:
        """Whether every entry is true."""
        return Tensor(np.asarray(self.array.all(axis)))

    # -- NumPy's functions on tensors -------------------------------------------------------

    # ufunc or function -> the function of minigrad that computes and records the same;
    # filled by minigrad.functional
    numpy_functions: ClassVar[dict[Any, Callable[..., Any]]] = {}
    # rounding and the like: differentiable almost everywhere, with gradient zero
    flat_functions: ClassVar[set[Any]] = {np.sign, np.floor, np.ceil, np.rint, np.trunc}

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        function = Tensor.numpy_functions.get(ufunc)
        if method == "__call__" and function is not None and out is None and not kwargs:
            return function(*inputs)
        plain = ufunc if method == "__call__" else getattr(ufunc, method)
        if out is not None:
            if any(isinstance(o, Tensor) for o in out):
                raise DTypeError(f"np.{ufunc.__name__}: out= cannot be a tensor")
            kwargs["out"] = out
        return self._unrecorded(plain, f"np.{ufunc.__name__}", ufunc, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        ours = Tensor.numpy_functions.get(function)
        if ours is not None:
            return ours(*args, **kwargs)
        return self._unrecorded(function, f"np.{function.__name__}", function, args, kwargs)

    @staticmethod
    def _unrecorded(
        function: Any, name: str, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a function that minigrad has no gradient for, unless one would be needed."""
        found: list[Tensor] = []
        plain_args, plain_kwargs = _stripped(args, found), _stripped(kwargs, found)
        result = function(*plain_args, **plain_kwargs)
        if "out" in kwargs:
            lost = mode.grad and any(t.requires_grad for t in found)
        else:
            lost = (
                mode.grad
                and key not in Tensor.flat_functions
                and any(t.requires_grad for t in found)
                and np.asarray(result).dtype.kind == "f"
            )
        if lost:
            raise DTypeError(
                f"{name} is not differentiable here, and its argument requires a gradient. "
                "Use an op of minigrad (see minigrad.functional), or pass t.detach()."
            )
        if isinstance(result, (np.ndarray, np.floating)) and "out" not in kwargs:
            return Tensor(np.asarray(result))
        return result


_equal, _unequal = _compare(np.equal), _compare(np.not_equal)


def _copy(x: np.ndarray) -> Any:
    """A copy.  x: (...)."""
    return np.copy(x), lambda g: g


def _flat(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """``(2, 3)`` from ``f(2, 3)`` and from ``f((2, 3))``."""
    if len(sizes) == 1 and not isinstance(sizes[0], (int, np.integer)):
        return tuple(sizes[0])
    return sizes


def _stripped(value: Any, found: list[Tensor]) -> Any:
    """``value`` with every tensor in it replaced by its array; the tensors go to ``found``."""
    if isinstance(value, Tensor):
        found.append(value)
        return value.array
    if isinstance(value, (tuple, list)):
        return type(value)(_stripped(item, found) for item in value)
    if isinstance(value, dict):
        return {key: _stripped(item, found) for key, item in value.items()}
    return value


def _plain_index(index: Any) -> Any:
    """An index without tensors in it."""
    if isinstance(index, Tensor):
        return index.array
    if isinstance(index, tuple):
        return tuple(_plain_index(part) for part in index)
    return index


def _as_array(data: Any, dtype: Any) -> np.ndarray:
    """Whatever the user gave as an array of real numbers or booleans."""
    if isinstance(data, Tensor):
        array = data.array
    elif isinstance(data, np.ndarray):
        array = data
    else:
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise DTypeError(f"tensor: cannot make an array of this data: {error}") from None
        if array.dtype == np.float64 and not isinstance(data, np.generic):
            array = array.astype(np.float32)  # Python floats
    if dtype is not None:
        array = np.asarray(array, dtype=dtype)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DTypeError(
            f"tensor: data must be real numbers or booleans, got dtype {array.dtype}"
            + (" (a ragged list?)" if array.dtype == object else "")
        )
    return array


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None) -> Tensor:
    """A tensor with a copy of ``data`` (array, nested list, number or Tensor).

    Lists and Python floats become float32; arrays keep their dtype.
    Raises DTypeError for anything but real numbers and booleans.
    """
    return Tensor(np.array(_as_array(data, dtype)), requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of ``array``."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: expected an ndarray, got {type(array).__name__}")
    return Tensor(array)
