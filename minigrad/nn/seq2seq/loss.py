"""The cross-entropy of sequences, averaged over what is no padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import functional as F
from ...errors import ArgumentError, DTypeError, ShapeError, axes
from ...prepared import prepared
from ...tensor import Tensor
from .tokens import id_matrix, lengths_of


def sequence_loss(
    logits: Any, targets: Any, lengths: Any = None, *, over_time: bool = True,
    over_batch: bool = True,
) -> Tensor:  # fmt: skip
    """Softmax cross-entropy of each real place, in nats, averaged.

    logits: (N, T, V) floats; targets: (N, T) ids; lengths: (N,) integers in [1, T], all T if
    None.  Places past the end of a row count for nothing, whatever stands there.
    over_time, over_batch: over what to average.  Both: one number, the sum divided by the
    number of real places, so a long sequence weighs more than a short one.  Time alone: (N,),
    the mean of each sequence.  Batch alone: (T,), the mean at each time step of the sequences
    that have not ended (0 where all have).  Neither: (N, T), zeros in the padding.
    As TensorFlow's ``sequence_loss``.
    Raises ShapeError, DTypeError, ArgumentError, and IndexRangeError for a target that is no
    class.

    >>> import minigrad as mg
    >>> from minigrad.nn import seq2seq
    >>> logits = mg.zeros(2, 3, 4)
    >>> round(seq2seq.sequence_loss(logits, [[0, 1, 2], [3, 0, 0]], [3, 1]).item(), 3)
    1.386
    """
    targets = prepared(id_matrix, "sequence_loss", "targets", targets)
    if not isinstance(logits, Tensor):
        raise DTypeError(f"sequence_loss: logits must be a tensor, got {type(logits).__name__}")
    if logits.ndim != 3 or logits.shape[:2] != targets.shape:
        hint = ""
        if logits.ndim == 3 and logits.shape[0] == targets.shape[0]:
            hint = "; cut or pad one of them to the length of the other"
        raise ShapeError(
            f"sequence_loss: logits must be (N, T, V) for targets {axes(targets.shape, 'NT')}, got "
            f"{axes(logits.shape, 'NTV')}{hint}"
        )
    for name, value in {"over_time": over_time, "over_batch": over_batch}.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ArgumentError(f"sequence_loss: {name} must be True or False, got {value!r}")
    weight = prepared(_weight, targets, lengths, logits.array)
    if over_time and over_batch:
        return F.cross_entropy(logits, targets, weight=weight)
    each = F.cross_entropy(logits, targets, weight=weight, reduction="none")  # (N, T)
    if not (over_time or over_batch):
        return each
    axis = 1 if over_time else 0
    return each.sum(axis=axis) / prepared(_count, weight, axis)


def _weight(targets: np.ndarray, lengths: Any, logits: np.ndarray) -> np.ndarray:
    """1 for each real place, (N, T), 0 for padding; of the dtype of the logits."""
    lengths = lengths_of("sequence_loss", lengths, targets)
    return (np.arange(targets.shape[1]) < lengths[:, None]).astype(logits.dtype)


def _count(weight: np.ndarray, axis: int) -> np.ndarray:
    """Real places along an axis, at least 1 so that it can be divided by."""
    return np.maximum(weight.sum(axis=axis), 1)
