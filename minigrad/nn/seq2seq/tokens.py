"""Ids of sequences that go into a model and come out of it: GO, EOS, padding.

A target ends with EOS, and its length counts it.  What a decoder reads is the target one step
late, with GO in front.  Past their lengths rows are padded; nothing ever depends on with what.
GO, EOS and the padding may be one id, as in the tutorial, or three.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ...ops.indexing import check_ids
from ...prepared import prepared


def decoder_inputs(targets: Any, go: int) -> np.ndarray:
    """What a decoder reads to learn ``targets``: GO first, then all of them but the last.

    targets: (N, T) integers, each row a sequence with its EOS, padded; go: id of GO.
    Returns (N, T) int64.  Raises ShapeError, DTypeError, ArgumentError.

    >>> from minigrad.nn import seq2seq
    >>> seq2seq.decoder_inputs([[5, 6, 2], [7, 2, 0]], go=1).tolist()
    [[1, 5, 6], [1, 7, 2]]
    """
    return prepared(_one_step_late, targets, token("decoder_inputs", "go", go))


def _one_step_late(targets: Any, go: int) -> np.ndarray:
    targets = id_matrix("decoder_inputs", "targets", targets)
    inputs = np.empty_like(targets)
    inputs[:, 0] = go
    inputs[:, 1:] = targets[:, :-1]
    return inputs


def lengths_to_eos(ids: Any, eos: int) -> np.ndarray:
    """Length of each row up to its first EOS, which counts; T for a row without one.

    ids: (N, T) integers.  Returns (N,) int64.  Raises ShapeError, DTypeError, ArgumentError.

    >>> from minigrad.nn import seq2seq
    >>> seq2seq.lengths_to_eos([[5, 6, 2], [7, 2, 0]], eos=2).tolist()
    [3, 2]
    """
    return prepared(_to_eos, ids, token("lengths_to_eos", "eos", eos))


def _to_eos(ids: Any, eos: int) -> np.ndarray:
    ids = id_matrix("lengths_to_eos", "ids", ids)
    is_end = ids == eos
    return np.where(is_end.any(axis=1), is_end.argmax(axis=1) + 1, ids.shape[1])


def sentences(ids: Any, eos: int) -> list[list[int]]:
    """The rows as lists of Python ints, each cut before its first EOS.

    ids: (N, T) integers.  Raises ShapeError, DTypeError, ArgumentError.

    >>> from minigrad.nn import seq2seq
    >>> seq2seq.sentences([[5, 6, 2], [7, 2, 0]], eos=2)
    [[5, 6], [7]]
    """
    ids = id_matrix("sentences", "ids", ids)
    ends = lengths_to_eos(ids, eos)
    whole = (ids != eos).all(axis=1)
    return [row[: end if all_ else end - 1].tolist() for row, end, all_ in zip(ids, ends, whole)]


# -- checks ---------------------------------------------------------------------------------


def id_matrix(where: str, name: str, ids: Any) -> np.ndarray:
    """``ids`` as an int64 array (N, T), T at least 1.  Raises ShapeError or DTypeError."""
    ids = np.asarray(getattr(ids, "array", ids))
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ShapeError(f"{where}: {name} must be (N, T) with T at least 1, got shape {ids.shape}")
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"{where}: {name} must be integer ids, got {ids.dtype}")
    return ids.astype(np.int64, copy=False)


def real_ids(
    where: str, name: str, ids: Any, lengths: Any, known: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N, T) with 0 in the padding, and lengths (N,), both int64 and checked.

    What stands in the padding is not looked at, not even whether it is an id.  known: how many ids
    there are, if that is known.  Raises ShapeError, DTypeError, ArgumentError, IndexRangeError.
    """
    ids = id_matrix(where, name, ids)
    lengths = lengths_of(where, lengths, ids)
    if (lengths < ids.shape[1]).any():
        ids = np.where(np.arange(ids.shape[1]) < lengths[:, None], ids, 0)
    if known is not None:
        check_ids(where, ids, known)
    return ids, lengths


def token(where: str, name: str, value: Any) -> int:
    """``value`` as the id of a token, an int that is not negative.

    Raises DTypeError for something else than an integer, ArgumentError below 0.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise DTypeError(f"{where}: {name} must be one integer id, got {value!r}")
    if value < 0:
        raise ArgumentError(f"{where}: {name} is an id and cannot be negative, got {value}")
    return int(value)


def known_token(where: str, name: str, value: int, count: int, what: str) -> None:
    """Raise IndexRangeError unless the id ``value`` is one of ``count``; what: has so many."""
    if value >= count:
        raise IndexRangeError(f"{where}: {name} is the id {value}, but {what} has only {count}")


def lengths_of(where: str, lengths: Any, ids: np.ndarray, name: str = "lengths") -> np.ndarray:
    """``lengths`` (N,) int64, each in [1, T], for ids (N, T); T for all if None.

    Raises ShapeError, DTypeError, ArgumentError.
    """
    batch, steps = ids.shape[:2]
    if lengths is None:
        return np.full(batch, steps)
    lengths = np.asarray(getattr(lengths, "array", lengths))
    if lengths.shape != (batch,):
        raise ShapeError(f"{where}: {name} must be (N={batch},), got shape {lengths.shape}")
    if lengths.dtype.kind not in "iu":
        raise DTypeError(f"{where}: {name} must be integers, got {lengths.dtype}")
    whole = lengths.astype(np.int64)
    if whole.min(initial=steps) < 1 or whole.max(initial=1) > steps:
        wrong = np.flatnonzero((whole < 1) | (whole > steps))
        raise ArgumentError(
            f"{where}: {name} must be in [1, T={steps}], but {name}[{wrong[0]}] is "
            f"{lengths[wrong[0]]}; an empty sequence is its EOS alone, length 1"
        )
    return whole
