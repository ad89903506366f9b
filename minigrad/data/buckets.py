"""Sequences of different lengths: padded into one array, and batched with their like.

A batch is as long as its longest sequence, so one long sequence makes all others carry padding.
Bucketing puts sequences of like length into one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, DTypeError, ShapeError
from ._checks import positive_int, random_generator


class Padded(NamedTuple):
    """Sequences in one array."""

    ids: npt.NDArray[np.int64]  # (N, T), T the longest
    lengths: npt.NDArray[np.int64]  # (N,)


def pad(sequences: Sequence[npt.ArrayLike], value: int = 0) -> Padded:
    """Put sequences of ids into one array, each with ``value`` behind it up to the longest.

    sequences: N of them, each (length,) integers, at least one long.
    Raises DataError for none or an empty one, ShapeError or DTypeError for something else than
    integers along one axis, naming the sequence.

    >>> from minigrad import data
    >>> ids, lengths = data.pad([[1, 2, 3], [4]])
    >>> ids.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    _require_integer(value, "pad")
    arrays = _arrays(sequences, "pad", "sequences")
    return _padded(arrays, np.arange(len(arrays)), value)


@dataclass(frozen=True)
class Padding:
    """How much of the batches of one epoch is padding.

    real: ids that are none; places: all of them, padding as well; places_without: as many as
    there would be if the same sequences were batched in the same order without buckets.
    """

    real: int
    places: int
    places_without: int

    @property
    def share(self) -> float:
        """Fraction of the places that is padding."""
        return 1 - self.real / self.places

    @property
    def share_without(self) -> float:
        """The same without buckets."""
        return 1 - self.real / self.places_without

    @property
    def saved(self) -> float:
        """Fraction of the places, and so of the work, that bucketing saves."""
        return 1 - self.places / self.places_without

    def __str__(self) -> str:
        return (
            f"padding is {self.share:.1%} of the batches, without buckets {self.share_without:.1%};"
            f" {self.saved:.1%} of all places are saved"
        )


class BucketBatches(Iterable[tuple[Padded, ...]]):
    """Padded batches of sequences of like length; each ``iter()`` is one epoch.

    A sequence goes into the first bucket whose boundary its length does not exceed, or into
    the last one; a bucket that holds a batch gives it out.  With boundaries (10, 20) batches
    are made of lengths 1 to 10, 11 to 20, and 21 on.  What is left in the end comes as smaller
    batches.

    Args:
        columns: one or more lists of sequences of ids that belong together, such as sources and
            targets: item i is the i-th of each.  The lengths of the first decide.
        batch_size: N.
        boundaries: increasing lengths; () for one bucket, which is no bucketing.
        value: what to pad with.
        shuffle: draw a new order from ``generator`` for every epoch.
        drop_last: leave out the smaller batches at the end.
        generator: a np.random.Generator or an integer seed, needed for ``shuffle``.

    A batch is a tuple with a Padded for each column.  ``padding`` says what the buckets save.

    Raises ArgumentError, DTypeError, ShapeError or DataError for arguments of a wrong kind or
    value, or columns of different lengths.

    Source: the tutorial's remark on sequences of very different lengths, and TensorFlow's
    ``bucket_by_sequence_length``.

    >>> from minigrad import data
    >>> batches = data.BucketBatches([[1], [2, 2, 2], [3], [4, 4]], batch_size=2, boundaries=(1,))
    >>> [(b.ids.tolist(), b.lengths.tolist()) for (b,) in batches]
    [([[1], [3]], [1, 1]), ([[2, 2, 2], [4, 4, 0]], [3, 2])]
    """

    def __init__(
        self, *columns: Sequence[npt.ArrayLike], batch_size: int, boundaries: Sequence[int] = (),
        value: int = 0, shuffle: bool = False, drop_last: bool = False,
        generator: np.random.Generator | int | None = None,
    ) -> None:  # fmt: skip
        where = "BucketBatches"
        self.batch_size = positive_int(batch_size, "batch_size", where)
        if not columns:
            raise ArgumentError(f"{where}: needs at least one list of sequences")
        self._columns = [_arrays(column, where, f"column {i}") for i, column in enumerate(columns)]
        for i, column in enumerate(self._columns):
            if len(column) != len(self._columns[0]):
                raise ShapeError(
                    f"{where}: column {i} has {len(column)} sequences, but column 0 has "
                    f"{len(self._columns[0])}"
                )
        self.boundaries = edges = bucket_edges(boundaries, where)
        self.value = _require_integer(value, where)
        self.drop_last = drop_last
        self._random = (
            random_generator(generator, where, "shuffling") if shuffle else None
        )
        self._lengths = [np.array([len(x) for x in column]) for column in self._columns]
        self._bucket = np.searchsorted(np.array(edges, dtype=np.int64), self._lengths[0])
        self._padding = self._measured(np.arange(len(self._columns[0])))

    @property
    def padding(self) -> Padding:
        """What the buckets save in the epoch that began last (before the first: unshuffled)."""
        return self._padding

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        counts = np.bincount(self._bucket)
        whole = int((counts // self.batch_size).sum())
        return whole if self.drop_last else whole + int((counts % self.batch_size > 0).sum())

    def __iter__(self) -> Iterator[tuple[Padded, ...]]:
        """Begin an epoch."""
        order = np.arange(len(self._columns[0]))
        if self._random is not None:
            order = self._random.permutation(order)
        self._padding = self._measured(order)
        for chosen in self._batches(order, self._bucket):
            yield tuple(_padded(column, chosen, self.value) for column in self._columns)

    def _batches(self, order: np.ndarray, bucket: np.ndarray) -> Iterator[np.ndarray]:
        """Indices of the sequences of each batch; bucket: (count,) of each sequence."""
        keyed = zip(bucket[order].tolist(), order.tolist())
        return map(np.array, grouped(keyed, self.batch_size, self.drop_last))

    def _measured(self, order: np.ndarray) -> Padding:
        """Count the places of an epoch in this order, with the buckets and with one."""
        def count(bucket: np.ndarray) -> tuple[int, int]:
            real = places = 0
            for chosen in self._batches(order, bucket):
                for lengths in self._lengths:
                    real += int(lengths[chosen].sum())
                    places += len(chosen) * int(lengths[chosen].max())
            return real, places

        real, places = count(self._bucket)
        real_without, without = count(np.zeros_like(self._bucket))
        if real != real_without:  # drop_last leaves other sequences out
            without = round(without * real / max(real_without, 1))
        return Padding(real, max(places, 1), max(without, 1))


def _require_integer(value: Any, where: str) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise DTypeError(f"{where}: value, what to pad with, must be an integer, got {value!r}")
    return int(value)


def bucket_edges(boundaries: Sequence[int], where: str) -> tuple[int, ...]:
    """Increasing lengths, one bucket up to each and one beyond; () for one bucket.

    Raises DTypeError for anything but integers, ArgumentError if they do not increase or are
    not positive; ``where`` heads the message.
    """
    if isinstance(boundaries, (str, bytes)) or not isinstance(boundaries, Iterable):
        raise DTypeError(f"{where}: boundaries must be lengths, (10, 20) say, got {boundaries!r}")
    edges = tuple([positive_int(edge, "a boundary", where) for edge in boundaries])
    if any(low >= high for low, high in zip(edges, edges[1:])):
        raise ArgumentError(f"{where}: boundaries must increase, got {edges}")
    return edges


def grouped(
    keyed: Iterable[tuple[int, Any]], batch_size: int, drop_last: bool
) -> Iterator[list[Any]]:
    """Items of like key, batch_size at a time; in the end, unless drop_last, what is left."""
    waiting: dict[int, list[Any]] = {}
    for key, item in keyed:
        held = waiting.setdefault(key, [])
        held.append(item)
        if len(held) == batch_size:
            yield waiting.pop(key)
    if not drop_last:
        for _, held in sorted(waiting.items()):
            yield held


def pad_items(items: Sequence[Any], value: int = 0) -> Any:
    """Pad N sequences of ids; of tuples each field, where numbers become an array (N,).

    Raises what :func:`pad` raises, DataError if the tuples are of different lengths.
    """
    if not isinstance(items[0], tuple):
        return pad(items, value)
    if any(not isinstance(item, tuple) or len(item) != len(items[0]) for item in items):
        raise DataError(f"padded batch: items must all be tuples of {len(items[0])}, as the first")
    return tuple(
        np.array(column) if np.ndim(column[0]) == 0 else pad(column, value)
        for column in zip(*items)
    )


def _arrays(sequences: Any, where: str, name: str) -> list[npt.NDArray[np.int64]]:
    """Each sequence as an int64 array (length,), refused unless it holds integers."""
    if isinstance(sequences, (str, bytes)):
        raise DTypeError(f"{where}: {name} is text; encode each sequence as integer ids first")
    if not isinstance(sequences, Iterable):
        raise DTypeError(f"{where}: {name} must be a list of sequences, not {sequences!r:.60}")
    arrays = []
    for i, sequence in enumerate(sequences):
        array = np.asarray(sequence)
        if array.ndim != 1:
            raise ShapeError(
                f"{where}: {name} holds sequences (length,), but number {i} has shape "
                f"{array.shape}"
            )
        if array.size == 0:
            raise DataError(f"{where}: sequence {i} of {name} is empty; give it at least an EOS")
        if array.dtype.kind not in "iu":
            raise DTypeError(
                f"{where}: sequence {i} of {name} must hold integer ids, not {array.dtype}"
            )
        arrays.append(array.astype(np.int64, copy=False))
    if not arrays:
        raise DataError(f"{where}: {name} has no sequences")
    return arrays


def _padded(arrays: list[np.ndarray], chosen: np.ndarray, value: int) -> Padded:
    """The chosen ones in one array."""
    lengths = np.array([len(arrays[i]) for i in chosen], dtype=np.int64)
    ids = np.full((len(chosen), int(lengths.max())), value, dtype=np.int64)
    for row, i in zip(ids, chosen):
        row[: len(arrays[i])] = arrays[i]
    return Padded(ids, lengths)
