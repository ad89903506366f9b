"""Tensor, and the one door ``apply(op, *inputs)`` through which every op is called."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import anomaly, autodiff, numpy_protocol, ops
from .errors import ArgumentError, DTypeError, GraphError, InplaceError, MinigradError, ShapeError
from .methods import Methods, explained
from .nodes import Call, Node, Storage, mark_changed, mode, refuse_on_tape
from .numpy_protocol import as_array
from .spelling import digest, norm, short

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)


def apply(op: Callable[..., Any], *args: Any, **params: Any) -> Any:
    """Call an op on tensors, arrays and numbers; record it if a gradient may be wanted.

    op: see :mod:`minigrad.ops`.  args may be tensors, arrays or Python numbers (which never
    change a dtype); params are passed on as they are.
    Returns a Tensor, or a tuple of them for an op with several results.

    Raises what the op raises; NumPy's complaints about shapes become a ShapeError.

    >>> import minigrad as mg
    >>> def double(x):
    ...     return 2 * x, lambda g: 2 * g
    >>> x = mg.ones(2, requires_grad=True)
    >>> y = mg.apply(double, x)
    >>> y.sum().backward()
    >>> x.grad
    tensor([2., 2.])
    """
    if params and any(isinstance(value, Tensor) for value in params.values()):
        args, params = _placed(op, args, params)
    record = False
    values: list[Any] = []
    parents: list[Any] = []
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
        if not hasattr(op, "__name__"):
            raise DTypeError(f"apply: op must be a function, got {op!r}") from error
        raise explained(op, values, error) from error
    except AttributeError as error:
        if all(isinstance(value, np.ndarray) for value in values):
            raise  # the op's own mistake
        raise explained(op, values, error) from error
    if not callable(vjp) and type(vjp) is not tuple:
        raise DTypeError(
            f"apply: {op.__name__} must return its value and a vjp (a function, or a tuple of "
            f"them), but the second thing it returned is a {type(vjp).__name__}"
        )
    many = type(result) is tuple
    outputs = tuple(
        _wrap(np.asarray(y) if y.__class__ is not np.ndarray else y, values, args, op)
        for y in (result if many else (result,))
    )
    if anomaly.entered:
        watcher = anomaly.watcher()
        if watcher is not None:
            watcher.look_at_result(op, values, [y.array for y in outputs])
    node = None
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
    if mode.tape is not None:
        mode.tape.append(Call(op, args, values, params, parents, outputs, node, many))
    return outputs if many else outputs[0]


def _placed(op: Any, args: Any, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Arguments given by name put in their places: gradients only flow into those."""
    try:
        bound = inspect.signature(op).bind(*args, **params)
    except TypeError as error:
        raise DTypeError(f"{op.__name__}: {error}") from error
    bound.apply_defaults()
    return bound.args, bound.kwargs


def around(array: np.ndarray, storage: Storage | None = None) -> Tensor:
    """A tensor around an array that is known to be one, without any of the checks."""
    out = Tensor.__new__(Tensor)
    out.array = array
    out.grad = None
    out.requires_grad = False
    out.node = None
    out.slot = 0
    out.hooks = None
    out.storage = Storage() if storage is None else storage
    return out


def _wrap(array: np.ndarray, values: list[Any], args: tuple[Any, ...], op: Any) -> Tensor:
    """A result as a Tensor.  It shares the storage of the argument it is a view of."""
    if array.dtype is not _F32:
        if array.dtype.kind not in "fiub":
            raise DTypeError(
                f"{op.__name__}: the result would be {array.dtype}; tensors hold real numbers or "
                "booleans"
            )
        if array.dtype is _F64 and op is not ops.astype:
            # (a dtype compares equal to None if it is float64, hence the default)
            if not any(getattr(v, "dtype", _F32) == _F64 for v in values):
                array = array.astype(np.float32)  # NumPy's float64 for integers and their means
    base = array.base
    if base is not None or (values and values[0] is array):
        memory = array if base is None else base
        for value, arg in zip(values, args):
            if value is array or value is memory or getattr(value, "base", None) is memory:
                if isinstance(arg, Tensor):
                    return around(array, arg.storage)
    return around(array, Storage())


class Tensor(Methods):
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

    >>> import minigrad as mg
    >>> x = mg.Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __slots__ = (
        "array", "grad", "requires_grad", "node", "slot", "hooks", "storage", "__weakref__"
    )  # fmt: skip
    __array_priority__ = 1000
    __hash__ = object.__hash__

    apply = staticmethod(apply)

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self.array = as_array(data, dtype)
        self.grad: Tensor | None = None
        self.requires_grad = False
        self.node: Node | None = None
        self.slot = 0
        self.hooks: list[Callable[[Any], Any]] | None = None
        self.storage: Storage = data.storage if isinstance(data, Tensor) else Storage()
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
        refuse_on_tape("changes data in place (assignment to .data)")
        value = getattr(value, "array", value)
        if value is not self.array:
            value = np.asarray(value)
            if value.dtype.kind not in "fiub":
                raise DTypeError(f"t.data = value: value must be real numbers, got {value.dtype}")
            if not self.array.flags.writeable:
                raise InplaceError("t.data = value: the array of t is read-only; make a copy of it")
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
        large = self.array.size > 100
        if large and self.array.ndim > 3:
            body = str(digest(self.array))
        else:
            digits = np.get_printoptions()["precision"]
            body = np.array2string(
                self.array, separator=", ", prefix="tensor(", threshold=100,
                precision=4 if digits == 8 else digits,  # unless somebody chose
                edgeitems=3 if self.array.ndim < 3 else 1,
            )  # fmt: skip
        notes = f", shape={self.shape}" if large or not self.array.size else ""
        if self.array.dtype not in (np.float32, np.int64, np.bool_):
            notes += f", dtype={self.array.dtype}"
        if self.node is not None:
            notes += f", by={self.node.name}"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        if self.grad is not None:
            notes += f", grad_norm={short(norm(self.grad.array))}"
        return f"tensor({body}{notes})"

    def _repr_html_(self) -> str:
        """What a notebook shows: values, shape, dtype, who made it, its gradient."""
        from . import notebook

        return notebook.of_tensor(self)

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
        return around(self.array, self.storage)

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

    def __format__(self, spec: str) -> str:
        """``f"{loss:.3f}"``, for a tensor of one number; any tensor without a format.

        Raises ShapeError for several numbers.
        """
        return format(self.item(), spec) if spec else str(self)

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.size != 1 or self.array.dtype.kind not in "iu":
            raise DTypeError(
                f"only a tensor of one integer can be an index; this one is {self.dtype}, of "
                f"shape {self.shape}"
            )
        return int(self.array.item())

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
            self.grad = around(gradient, Storage())
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
        if not callable(hook):
            raise DTypeError(f"register_hook: hook must be a function, got {hook!r}")
        refuse_on_tape("registers a hook")

        def run(gradient: Any) -> Any:
            # copies: what the hook keeps or returns again is not the memory that .grad adds to
            replay = isinstance(gradient, Tensor)
            result = hook(gradient if replay else Tensor(np.array(gradient)))
            if result is None:
                return gradient
            if np.shape(result) != gradient.shape:
                raise ShapeError(
                    f"a hook returned a gradient of shape {np.shape(result)} for a tensor of "
                    f"shape {gradient.shape}"
                )
            if replay:
                return result if isinstance(result, Tensor) else Tensor(result)
            return np.array(getattr(result, "array", result), dtype=gradient.dtype)

        if self.node is None:
            self.hooks = hooks = self.hooks or []
        else:
            self.node.hooks = self.node.hooks or {}
            hooks = self.node.hooks.setdefault(self.slot, [])
        hooks.append(run)
        return lambda: hooks.remove(run) if run in hooks else None

    def retain_grad(self) -> None:
        """Keep ``.grad`` of this inner tensor in backward passes (leaves always do)."""
        before = getattr(self.node, "retained", ())
        if self.node is None or self.slot in before:
            return
        self.node.retained = (*before, self.slot)
        me = weakref.ref(self)  # a node must not keep its own result alive

        def keep(gradient: Tensor) -> None:
            tensor = me()
            if tensor is not None:
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient

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
        refuse_on_tape("changes data in place (t[...] = value)")
        if not self.array.flags.writeable:
            raise InplaceError("t[index] = value: the array of t is read-only; make a copy of it")
        value = getattr(value, "array", value)
        try:
            self.array[_plain_index(index)] = value
        except (ValueError, IndexError, TypeError) as error:
            raise explained(_setitem, [self.array, value], error) from error
        mark_changed(self.storage, self.array, "t[...] = value")

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.unstack(0))

    # -- NumPy's functions on tensors -------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = numpy_protocol.recorded.get(ufunc) if method == "__call__" else None
        if function is not None and not kwargs:
            return function(*inputs)
        plain = ufunc if method == "__call__" else getattr(ufunc, method)
        return _unrecorded(plain, f"np.{ufunc.__name__}", inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        ours = numpy_protocol.recorded.get(function)
        if ours is not None:
            return ours(*args, **kwargs)
        return _unrecorded(function, f"np.{function.__name__}", args, kwargs)


def _unrecorded(function: Any, name: str, args: Any, kwargs: Any) -> Any:
    """A NumPy function without a gradient; its array as a tensor unless it had an ``out``."""
    result = numpy_protocol.unrecorded(function, name, args, kwargs)
    if isinstance(result, (np.ndarray, np.floating)) and kwargs.get("out") is None:
        return Tensor(np.asarray(result))
    return result


def _setitem() -> None:
    """t[index] = value, for what errors say."""


_setitem.__name__ = "setitem"


def _copy(x: np.ndarray) -> Any:
    """A copy.  x: (...)."""
    return np.copy(x), lambda g: g


def _plain_index(index: Any) -> Any:
    """An index without tensors in it."""
    if isinstance(index, Tensor):
        return index.array
    if isinstance(index, tuple):
        return tuple(_plain_index(part) for part in index)
    return index
