"""Fused losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..recording import cannot_repeat, computed, contiguous, made, repeatable, summed
from ._call import composed_as
from .reduction import log_softmax

_GRAIN = 1 << 13  # logits below which a range of rows is not worth a thread


def _total(x: Any) -> Any:
    """Sum of all entries, rounded once.  x: (...).  Works on tensors too."""
    if type(x) is not np.ndarray or x.dtype not in (np.float32, np.float64):
        return summed(x)
    out = np.empty(1, x.dtype)
    kernels.sum_all(contiguous(x).reshape(-1), out)
    return out.reshape(())


@repeatable
def squared_error(x: Any, y: Any, reduction: str = "mean") -> Any:
    """(x - y)^2: the mean, the sum, or each ("none").

    x, y: equal shapes.  Raises ShapeError if they differ: a loss that broadcast, (N, 1)
    against (N,), would compare everything with everything; ArgumentError for a reduction
    of another name.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(
            f"mse_loss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        )
    if reduction == "mean" and not x.size:
        raise ShapeError(f"mse_loss: there is nothing to take the mean of, prediction is {x.shape}")
    if x.shape != y.shape:
        raise ShapeError(
            f"mse_loss: prediction is {x.shape} but target is {y.shape}; losses do not "
            f"broadcast, reshape one of them (for example target.reshape{x.shape})"
        )
    difference = computed(np.subtract, x, y)
    count = difference.size if reduction == "mean" else 1
    value = computed(np.square, difference)
    if reduction != "none":
        value = computed(np.true_divide, _total(value), count)

    def dx(g: Any) -> Any:
        steep = computed(np.multiply, 2.0, difference)
        return computed(np.multiply, computed(np.true_divide, g, count), steep)

    return value, (dx, lambda g: computed(np.negative, dx(g)))


def _row_weights(
    logits: Any, target: Any, weight: Any, ignore_index: int | None, reduction: str
) -> np.ndarray:
    """Weight of each row's loss in the result, after checking every argument.  (N,)."""
    if ignore_index is not None and not isinstance(ignore_index, (int, np.integer)):
        raise DTypeError(
            f"softmax_cross_entropy: ignore_index must be an integer or None, got {ignore_index!r}"
        )
    if logits.dtype.kind != "f":
        raise DTypeError(f"softmax_cross_entropy: logits must be floats, got {logits.dtype}")
    if logits.ndim < 1 or logits.shape[-1] == 0:
        raise ShapeError(
            f"softmax_cross_entropy: logits need classes on their last axis, got {logits.shape}"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(
            f"softmax_cross_entropy: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        )
    rows = logits.shape[:-1]
    ids = target.dtype.kind in "iu"
    if target.shape != (rows if ids else logits.shape):
        hint = (
            "class ids have the shape of the logits without their last axis"
            if ids
            else "a distribution has the shape of the logits; class ids must be integers"
        )
        raise ShapeError(
            f"softmax_cross_entropy: logits are {logits.shape} (..., V) but target is "
            f"{target.shape} {target.dtype}; {hint}"
        )
    if target.dtype.kind not in "iuf":
        raise DTypeError(f"softmax_cross_entropy: target cannot be {target.dtype}")
    if weight is None and (ignore_index is None or not ids):
        each = 1 / max(math.prod(rows), 1) if reduction == "mean" else 1
        return np.full(math.prod(rows), each, logits.dtype)
    if weight is not None:
        weight = np.asarray(weight)
        if weight.shape != rows:
            raise ShapeError(
                f"softmax_cross_entropy: weight is {weight.shape}, but there is one row for each "
                f"of {rows} (logits are {logits.shape})"
            )
    return made(
        _scale, weight, target if ids else None, ignore_index, reduction == "mean", rows,
        logits.dtype,
    )  # fmt: skip


def _scale(
    weight: np.ndarray | None, target: np.ndarray | None, ignore_index: int | None, mean: bool,
    rows: tuple[int, ...], dtype: np.dtype,
) -> np.ndarray:  # fmt: skip
    """Weight of each row's loss: that given, 0 for ids to leave out, all over their sum; (N,)."""
    scale = np.ones(rows, dtype) if weight is None else weight.astype(dtype)
    if target is not None and ignore_index is not None:
        scale = np.where(target == ignore_index, 0, scale).astype(dtype)
    if mean:
        total = scale.sum(dtype=np.float64)
        scale = (scale / total).astype(dtype) if total else scale
    return scale.reshape(-1)


def _check_classes(logits: Any, target: np.ndarray, scale: np.ndarray) -> None:
    """Raise IndexRangeError for an id that is no class, in a row that counts."""
    classes = logits.shape[-1]
    if kernels.ids_within(contiguous(target).reshape(-1), classes):
        return
    cannot_repeat()  # those that count would not be looked at again
    wrong = ((target < 0) | (target >= classes)) & (scale.reshape(target.shape) != 0)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise IndexRangeError(
            f"softmax_cross_entropy: target id {int(target[place])} at {place} is not one of "
            f"the {classes} classes (last axis of logits {logits.shape}); rows to "
            "skip need ignore_index= or weight 0"
        )


def _composed(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """The same from NumPy functions, for second derivatives."""
    target = np.asarray(target)
    scale = _row_weights(logits, target, weight, ignore_index, reduction)
    scale = scale.reshape(logits.shape[:-1])
    if target.dtype.kind in "iu":
        _check_classes(logits, target, scale)
        target = np.where(scale != 0, target, 0)
        target = np.eye(logits.shape[-1], dtype=logits.dtype)[target]
    target = (target * scale[..., None]).astype(logits.dtype)
    log_p, back = log_softmax(logits)
    rows = -(target * log_p).sum(axis=-1)
    each = reduction == "none"

    def d_logits(g: Any) -> Any:
        return back(-target * (np.expand_dims(g, -1) if each else g))

    return (rows if each else rows.sum()), d_logits


@repeatable
@composed_as(_composed)
def softmax_cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """-sum(target * log_softmax(logits)), fused and stable; differentiable in the logits.

    logits: (..., V) float.
    target: (...) integer class ids, or (..., V) distributions (rows need not sum to 1; the
    gradient is then sum(target) * softmax - target, the true one; TensorFlow leaves the
    factor out).  No gradient flows into the target, as in TensorFlow's first version.
    weight: (...) weight or mask of each row; rows of weight 0 are never looked at.
    ignore_index: id of rows to leave out.
    reduction: "mean" (weighted; over the rows that count), "sum" or "none".

    Returns a 0-d array, or (...) for "none".  Raises ShapeError, DTypeError, ArgumentError,
    and IndexRangeError for an id that is no class.
    """
    target = np.asarray(target)
    scale = _row_weights(logits, target, weight, ignore_index, reduction)
    classes = logits.shape[-1]
    flat = contiguous(logits).reshape(-1, classes)
    ids = target.dtype.kind in "iu"
    if ids:
        _check_classes(logits, target, scale)
        labels: Any = contiguous(target).reshape(-1)
        forward, back = kernels.cross_entropy_ids, kernels.cross_entropy_ids_backward
    else:
        labels = contiguous(target, flat.dtype).reshape(-1, classes)
        forward, back = kernels.cross_entropy_probs, kernels.cross_entropy_probs_backward
    count = flat.shape[0]
    grain = _GRAIN // classes
    loss, log_sum = np.empty((2, count), flat.dtype)
    kernels.run_rows(forward, count, grain, flat, labels, scale, loss, log_sum)
    value = loss.reshape(logits.shape[:-1]) if reduction == "none" else _total(loss)

    def d_logits(g: Any) -> Any:
        each = contiguous(np.asarray(g)).reshape(-1)  # (N,), or one number for all rows
        factor = computed(np.multiply, scale, each)
        out = np.empty_like(flat)
        kernels.run_rows(back, count, grain, flat, labels, factor, log_sum, out)
        return out.reshape(logits.shape)

    return value, (d_logits,)
