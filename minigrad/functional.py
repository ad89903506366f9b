"""Functions on tensors: every op under its public name, and NumPy's names for them.

Arguments may be tensors, arrays or numbers.  Shapes, errors and gradients are described
with the ops themselves, in :mod:`minigrad.ops`; the docstrings here are theirs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import numpy_protocol, ops, patterns
from .errors import ArgumentError, DTypeError, ShapeError
from .methods import ALIASES
from .numpy_protocol import real_dtype
from .ops._windows import explain_padding as explain_padding
from .ops.dropout import Memory
from .ops.indexing import check_ids
from .tensor import Tensor, apply


def _lift(op: Callable[..., Any]) -> Callable[..., Any]:
    """An op as a function on tensors; ``dim`` and ``keepdim`` mean axis and keepdims."""

    @functools.wraps(op)
    def function(*args: Any, **params: Any) -> Any:
        if params:
            params = {ALIASES.get(name, name): value for name, value in params.items()}
        return apply(op, *args, **params)

    return function


def _lift_all(*several: Callable[..., Any]) -> list[Callable[..., Any]]:
    return [_lift(op) for op in several]


add, subtract, multiply, divide = _lift_all(ops.add, ops.subtract, ops.multiply, ops.divide)
power, negative, absolute = _lift_all(ops.power, ops.negative, ops.absolute)
square, sqrt, exp, expm1 = _lift_all(ops.square, ops.sqrt, ops.exp, ops.expm1)
log1p, sin, cos = _lift_all(ops.log1p, ops.sin, ops.cos)
tanh, sigmoid, relu = _lift_all(ops.tanh, ops.sigmoid, ops.relu)
leaky_relu, elu, gelu, softplus = _lift_all(ops.leaky_relu, ops.elu, ops.gelu, ops.softplus)
maximum, minimum, clip = _lift_all(ops.maximum, ops.minimum, ops.clip)
where = _lift(ops.where)
sum, mean, var, max, min = _lift_all(ops.sum, ops.mean, ops.var, ops.max, ops.min)
softmax, log_softmax, logsumexp = _lift_all(ops.softmax, ops.log_softmax, ops.logsumexp)
reshape, broadcast_to, flip = _lift_all(ops.reshape, ops.broadcast_to, ops.flip)
transpose, pad, split, unstack = _lift_all(ops.transpose, ops.pad, ops.split, ops.unstack)
matmul, linear, embedding = _lift_all(ops.matmul, ops.linear, ops.embedding)
layer_norm = _lift(ops.layer_norm)
conv2d, max_pool2d, avg_pool2d = _lift_all(ops.conv2d, ops.max_pool2d, ops.avg_pool2d)


@functools.wraps(ops.log)
def log(x: Any) -> Tensor:
    patterns.look_at_log(x)
    return apply(ops.log, x)


def _require_several(op: str, tensors: Any) -> None:
    if not hasattr(tensors, "__iter__") or (hasattr(tensors, "ndim") and tensors.ndim == 0):
        raise DTypeError(f"{op}: expects a list of tensors, got one {type(tensors).__name__}")


def concat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an axis they have.  Shapes are equal but for ``axis``.

    >>> import minigrad as mg
    >>> mg.concat([mg.ones(1, 2), mg.zeros(2, 2)]).shape
    (3, 2)
    """
    _require_several("concat", tensors)
    return apply(ops.concat, *tensors, axis=axis)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.

    >>> import minigrad as mg
    >>> mg.stack([mg.ones(3), mg.zeros(3)]).shape
    (2, 3)
    """
    _require_several("stack", tensors)
    return apply(ops.stack, *tensors, axis=axis)


def attend(query: Any, keys: Any, values: Any, lengths: Any = None) -> tuple[Tensor, Tensor]:
    """softmax(query keys^T) values: contexts and alignments; see :func:`minigrad.ops.attend`."""
    return apply(ops.attend, query, keys, values, lengths=lengths)


def einsum(subscripts: str, *tensors: Any) -> Tensor:
    """Sum of products over named axes: ``einsum("ij,jk->ik", a, b)``; see ops.einsum.

    >>> import minigrad as mg
    >>> mg.einsum("ij,kj->ik", mg.ones(2, 3), mg.ones(4, 3)).shape
    (2, 4)
    """
    if not isinstance(subscripts, str):
        raise DTypeError(
            f"einsum: the subscripts come first, as a str, but are a {type(subscripts).__name__}"
        )
    return apply(ops.einsum, *tensors, subscripts=subscripts)


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Softmax cross-entropy from logits, fused; see :func:`minigrad.ops.softmax_cross_entropy`.

    logits: (..., V); target: (...) class ids or (..., V) distributions; weight: (...) one
    number for each row; reduction: "mean", "sum" or "none".

    Warns (PatternWarning) of logits that come out of a softmax or a relu.

    >>> import minigrad as mg
    >>> logits = mg.tensor([[2.0, 0.0], [0.0, 0.0]])
    >>> mg.cross_entropy(logits, [0, 1], reduction="none").numpy().round(3)
    array([0.127, 0.693], dtype=float32)
    """
    if not hasattr(logits, "ndim"):
        raise DTypeError(f"cross_entropy: logits must be a tensor, got {type(logits).__name__}")
    patterns.look_at_logits(logits)
    plain = getattr(target, "array", target), getattr(weight, "array", weight)
    return apply(
        ops.softmax_cross_entropy, logits, target=plain[0], weight=plain[1],
        ignore_index=ignore_index, reduction=reduction,
    )  # fmt: skip


def dropout(x: Any, p: float = 0.5, *, generator: np.random.Generator) -> Tensor:
    """Each number is 0 with probability ``p``, else divided by 1 - p; see ops.dropout.

    x: (...) float.  Every call draws x.size numbers, also one with p = 0.

    >>> import minigrad as mg
    >>> mg.dropout(mg.ones(6), 0.5, generator=mg.manual_seed(0))
    tensor([2., 2., 2., 0., 0., 0.])
    """
    return apply(ops.dropout, x, p=p, generator=generator, memory=Memory())


def batch_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Any = None,
    running_var: Any = None,
    training: bool = True,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
) -> Tensor:
    """Each channel with mean 0 and variance 1, times gamma plus beta; see ops.batch_norm.

    x: (..., C); gamma, beta: (C,).
    running_mean, running_var: (C,) arrays or tensors, changed in place in training.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0], [3.0]])
    >>> mg.batch_norm(x, mg.ones(1), mg.zeros(1)).numpy().round(3)
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    running = [getattr(value, "array", value) for value in (running_mean, running_var)]
    return apply(
        ops.batch_norm, x, gamma, beta, running_mean=running[0], running_var=running[1],
        training=training, momentum=momentum, epsilon=epsilon,
    )  # fmt: skip


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Squared difference: its mean, its sum, or each ("none").

    prediction, target: equal shapes.  Losses never broadcast: (N, 1) against (N,) would
    compare everything with everything.  Raises ShapeError with the remedy.

    >>> import minigrad as mg
    >>> mg.mse_loss(mg.tensor([1.0, 2.0]), [1.0, 4.0])
    tensor(2.)
    """
    prediction, target = _as_arrays(prediction), _as_arrays(target)
    return apply(ops.squared_error, prediction, target, reduction=reduction)


def _as_arrays(value: Any) -> Any:
    """A list or a number as an array; anything else as it is.  Raises DTypeError."""
    if hasattr(value, "shape"):
        return value
    try:
        return np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DTypeError(f"mse_loss: cannot make an array of {value!r:.60}: {error}") from error


def one_hot(ids: Any, classes: int, dtype: Any = np.float32) -> Tensor:
    """Rows with a one at each id: (...) integers in [0, classes) -> (..., classes).

    Raises DTypeError for ids or classes that are not integers, IndexRangeError for an id out of
    range.

    >>> import minigrad as mg
    >>> mg.one_hot([2, 0], 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    ids = np.asarray(getattr(ids, "array", ids))
    if not isinstance(classes, (int, np.integer)) or isinstance(classes, bool):
        raise DTypeError(f"one_hot: classes must be an integer, got {classes!r}")
    check_ids("one_hot", ids, int(classes))
    return Tensor(np.eye(classes, dtype=real_dtype("one_hot", dtype))[ids])


# -- NumPy's own functions, with the arguments that mean something here ----------------------


def _reduce(op: Callable[..., Any], *more: str) -> Callable[..., Any]:
    """A reduction; of NumPy's other arguments those in ``more``, the rest refused by name."""

    def function(a: Any, axis: Any = None, *, keepdims: Any = False, **others: Any) -> Any:
        given = {name: value for name, value in others.items() if value is not np._NoValue}
        unknown = ", ".join(name for name in given if name not in more)
        if unknown:
            raise DTypeError(f"np.{op.__name__} on a tensor does not take {unknown}")
        return apply(op, a, axis=axis, keepdims=bool(keepdims), **given)

    return function


def _dot(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return apply(ops.multiply, a, b)
    if np.ndim(a) > 2 or np.ndim(b) > 2:
        raise ShapeError(
            f"np.dot of shapes {np.shape(a)} and {np.shape(b)} is not what matmul computes; use "
            "matmul or einsum"
        )
    return apply(ops.matmul, a, b)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = min if a_min is None else a_min, max if a_max is None else a_max
    return apply(ops.clip, a, low, high)


def _pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0.0) -> Any:
    if mode != "constant":
        raise ArgumentError(f"np.pad on a tensor: mode must be 'constant', got {mode!r}")
    return apply(ops.pad, array, width=pad_width, value=constant_values)


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """NumPy takes the places to cut at, ops.split the sizes of the parts."""
    sections = indices_or_sections
    if not isinstance(sections, (int, np.integer)):
        cuts = np.clip(np.asarray(sections, dtype=int), 0, ary.shape[axis])
        sections = np.diff(cuts, prepend=0, append=ary.shape[axis]).tolist()
    return list(apply(ops.split, ary, sections=sections, axis=axis))


def _where(condition: Any, *choices: Any) -> Any:
    if not choices:
        return np.where(getattr(condition, "array", condition))
    return apply(ops.where, condition, *choices)


numpy_protocol.recorded.update(
    {
        np.add: add, np.subtract: subtract, np.multiply: multiply, np.true_divide: divide,
        np.power: power, np.negative: negative, np.absolute: absolute, np.square: square,
        np.sqrt: sqrt, np.exp: exp, np.expm1: expm1, np.log: log, np.log1p: log1p,
        np.sin: sin, np.cos: cos, np.tanh: tanh, np.maximum: maximum, np.minimum: minimum,
        np.matmul: matmul, np.dot: _dot, np.clip: _clip, np.where: _where,
        np.sum: _reduce(ops.sum), np.mean: _reduce(ops.mean), np.max: _reduce(ops.max),
        np.min: _reduce(ops.min), np.amax: _reduce(ops.max), np.amin: _reduce(ops.min),
        np.var: _reduce(ops.var, "ddof"), np.reshape: lambda a, shape: apply(ops.reshape, a, shape),
        np.transpose: transpose, np.swapaxes: lambda a, i, j: a.swapaxes(i, j),
        np.expand_dims: lambda a, axis: a.unsqueeze(axis),
        np.squeeze: lambda a, axis=None: a.squeeze(axis), np.broadcast_to: broadcast_to,
        np.concatenate: concat, np.stack: stack, np.split: _split, np.flip: flip, np.pad: _pad,
        np.einsum: einsum, np.copy: lambda a: a.clone(), np.ravel: lambda a: a.flatten(),
        np.zeros_like: lambda a: Tensor(np.zeros_like(a.array)),
        np.ones_like: lambda a: Tensor(np.ones_like(a.array)),
    }
)  # fmt: skip
