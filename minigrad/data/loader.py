"""Datasets of many items, and the loader that hands them out in batches of NumPy arrays.

Names follow torch.utils.data. There are no worker processes: items are NumPy arrays in memory, and
a batch of a TensorDataset costs one indexing per array.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, DTypeError, IndexRangeError, ShapeError
from ._checks import positive_int, random_generator

Item = TypeVar("Item", covariant=True)
Collate = Callable[[Sequence[Any]], Any]


@runtime_checkable
class Dataset(Protocol[Item]):
    """Anything with a length and an item for every index 0..len-1: a list is one.

    Subclass it, or write the two methods in a class of your own. ``__getitem__`` raises IndexError
    past the end; an item is whatever ``default_collate``, or your own ``collate_fn``, can batch.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def __getitem__(self, index: int, /) -> Item:
        """Return item ``index``."""


class TensorDataset(Dataset[tuple[Any, ...]]):
    """Arrays that agree in their first axis; item i is the tuple of their i-th rows.

    Args:
        arrays: one or more arrays, (N, ...) each, of any dtype but object; kept, not copied.

    ``dataset[i]`` also takes a slice or an integer array, and then returns a tuple of arrays. Rows
    and slices are views of the arrays.

    Raises ArgumentError without arrays, ShapeError for a scalar or for unequal lengths, and
    DTypeError for an object array.

    >>> from minigrad import data
    >>> dataset = data.TensorDataset([[1.0], [2.0]], [0, 1])
    >>> dataset[1]
    (array([2.]), np.int64(1))
    >>> len(dataset)
    2
    """

    def __init__(self, *arrays: npt.ArrayLike) -> None:
        if not arrays:
            raise ArgumentError("TensorDataset: needs at least one array")
        self.arrays = tuple(
            _plain_array(array, f"TensorDataset: array {i}") for i, array in enumerate(arrays)
        )
        for i, array in enumerate(self.arrays):
            if array.ndim == 0:
                raise ShapeError(
                    f"TensorDataset: array {i} is a scalar, shape (), but axis 0 counts the items"
                )
            if len(array) != len(self):
                raise ShapeError(
                    f"TensorDataset: array {i} has {len(array)} items (axis 0 of {array.shape}), "
                    f"but array 0 has {len(self)} (axis 0 of {self.arrays[0].shape})"
                )

    def __len__(self) -> int:
        """Return the number of items, N."""
        return len(self.arrays[0])

    def __getitem__(self, index: Any, /) -> tuple[Any, ...]:
        """Return the rows at ``index``, one of each array. Raises IndexError outside the items."""
        return tuple(array[index] for array in self.arrays)


class Subset(Dataset[Any]):
    """Some items of a dataset, in the order of ``indices``.

    Args:
        dataset: where the items come from.
        indices: (n,) integers of 0..len(dataset)-1; repeats are allowed; copied.

    Raises ShapeError, DTypeError or IndexRangeError, naming the position, for other indices.

    >>> from minigrad import data
    >>> list(data.Subset(["a", "b", "c"], [2, 0]))
    ['c', 'a']
    """

    def __init__(self, dataset: Dataset[Any], indices: npt.ArrayLike) -> None:
        _require_dataset(dataset, "Subset")
        chosen = np.asarray(indices)
        if chosen.ndim != 1:
            raise ShapeError(
                f"Subset: indices must be one-dimensional, (n,), but their shape is {chosen.shape}"
            )
        if chosen.size == 0:
            chosen = chosen.astype(np.intp)
        if chosen.dtype.kind not in "iu":
            raise DTypeError(
                f"Subset: indices must be integers, but their dtype is {chosen.dtype}; "
                "of a mask take np.flatnonzero(mask)"
            )
        outside = (chosen < 0) | (chosen >= len(dataset))
        if outside.any():
            where = int(outside.argmax())
            raise IndexRangeError(
                f"Subset: indices[{where}] is {chosen[where]}, but the dataset's {len(dataset)} "
                f"items are 0..{len(dataset) - 1}"
            )
        self.dataset = dataset
        self.indices = chosen.astype(np.intp)  # (n,), a copy

    def __len__(self) -> int:
        """Return the number of items chosen."""
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Any:
        """Return the item at ``indices[index]``. Raises IndexError outside the subset."""
        return self.dataset[int(self.indices[index])]


def random_split(
    dataset: Dataset[Any],
    lengths: Sequence[int] | Sequence[float],
    generator: np.random.Generator | int,
) -> list[Subset]:
    """Deal the items of a dataset out at random into subsets that do not overlap.

    Args:
        dataset: what to split.
        lengths: the number of items in each part, together len(dataset); or fractions of one,
            together 1, which are rounded so that no item is left over.
        generator: a np.random.Generator or an integer seed. The same seed gives the same split.

    Raises ArgumentError for lengths that do not add up, are negative or mix counts and fractions,
    or without a generator, and DTypeError for a generator of another kind; nothing is drawn then.

    >>> from minigrad import data
    >>> train, test = data.random_split(list(range(10)), [0.8, 0.2], generator=0)
    >>> len(train), sorted(test)
    (8, [1, 8])
    """
    _require_dataset(dataset, "random_split")
    bounds = _split_bounds(lengths, len(dataset))
    rng = random_generator(generator, "random_split", "a random split")
    order = rng.permutation(len(dataset))
    return [Subset(dataset, part) for part in np.split(order, bounds)]


def default_collate(items: Sequence[Any]) -> Any:
    """Make one batch of a list of items, field by field.

    Arrays (and anything NumPy reads as an array) are stacked along a new first axis, shape
    (N, ...), C-contiguous, of the items' own dtype; numbers become an (N,) array, float64 for
    Python floats and int64 for Python ints. A tuple, a named tuple, a list or a dict of fields is
    collated field by field into one of the same kind; strings stay a list.

    Raises DataError if items is empty or its items differ in kind, length or keys, ShapeError if
    arrays differ in shape and DTypeError if they differ in dtype or have none. Each message
    names the item and the field.

    >>> from minigrad import data
    >>> import numpy as np
    >>> x, y = data.default_collate([(np.zeros(3), 0), (np.ones(3), 1)])
    >>> x.shape, y.tolist()
    ((2, 3), [0, 1])
    """
    if len(items) == 0:
        raise DataError("default_collate: there are no items to make a batch of")
    return _collate(items, "")


class DataLoader:
    """Batches of a dataset; each ``iter()`` is one pass over it, an epoch.

    Args:
        dataset: anything with ``__len__`` and ``__getitem__``, not empty.
        batch_size: N, the number of items in a batch.
        shuffle: draw a new order from ``generator`` for every pass.
        drop_last: leave out a last batch with fewer than N items.
        collate_fn: makes a batch of a list of items; ``default_collate`` unless given.
        generator: a np.random.Generator or an integer seed, needed for ``shuffle``. One seed
            always gives the same sequence of orders, a different one for every pass.

    A batch of tuples is a tuple of stacked NumPy arrays, (N, ...) each, C-contiguous and always a
    copy: what is done to it never reaches the dataset. TensorDataset, and any Subset of one, is
    batched by one indexing per array, without visiting the items.

    Raises DTypeError or ArgumentError for bad arguments, for ``shuffle`` without a generator, and
    for ``drop_last`` when not one batch would be full; DataError for an empty dataset.

    >>> loader = DataLoader(TensorDataset([[1.0], [2.0], [3.0]], [0, 1, 2]), batch_size=2)
    >>> [(x.shape, y.tolist()) for x, y in loader]
    [((2, 1), [0, 1]), ((1, 1), [2])]
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        collate_fn: Collate | None = None,
        generator: np.random.Generator | int | None = None,
    ) -> None:
        _require_dataset(dataset, "DataLoader")
        self.dataset = dataset
        self.batch_size = positive_int(batch_size, "batch_size", "DataLoader")
        self.shuffle = shuffle
        self.drop_last = drop_last
        if collate_fn is not None and not callable(collate_fn):
            raise DTypeError(
                f"DataLoader: collate_fn must be a function of a list of items, "
                f"not {type(collate_fn).__name__}"
            )
        self.collate_fn: Collate = default_collate if collate_fn is None else collate_fn
        self.generator: np.random.Generator | None = None
        if shuffle or generator is not None:
            self.generator = random_generator(generator, "DataLoader", "shuffle=True")
        if len(dataset) == 0:
            raise DataError("DataLoader: the dataset is empty")
        if len(self) == 0:
            raise ArgumentError(
                f"DataLoader: batch_size={self.batch_size} with drop_last=True leaves no batch of "
                f"the {len(dataset)} items; take a smaller batch or drop_last=False"
            )

    def __len__(self) -> int:
        """Return the number of batches in one pass."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def __iter__(self) -> Iterator[Any]:
        """Start a pass: draw its order now, fetch each batch when it is asked for."""
        count = len(self.dataset)
        if self.shuffle and self.generator is not None:
            order = self.generator.permutation(count)
        else:
            order = np.arange(count)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return (
            _fetch(self.dataset, order[start : start + self.batch_size], self.collate_fn)
            for start in starts
        )


def _fetch(dataset: Dataset[Any], indices: npt.NDArray[np.intp], collate: Collate) -> Any:
    """Make the batch of the items at indices, (N,), without visiting each where possible."""
    # A subclass may change the items it returns, so only the classes themselves are short-cut.
    if type(dataset) is Subset:
        return _fetch(dataset.dataset, dataset.indices[indices], collate)
    if type(dataset) is TensorDataset and collate is default_collate:
        return tuple(np.ascontiguousarray(array) for array in dataset[indices])
    return collate([dataset[index] for index in indices.tolist()])


def _collate(items: Sequence[Any], field: str) -> Any:
    """Collate one field of all items; field is its path, as in "[1]['x']", for the messages."""
    first = items[0]
    if isinstance(first, (str, bytes)):
        _require_same_kind(items, (str, bytes), field)
        return list(items)
    if isinstance(first, Mapping):
        _require_same_kind(items, Mapping, field)
        for i, item in enumerate(items):
            if item.keys() != first.keys():
                raise DataError(
                    f"default_collate: item {i}{field} has the keys {list(item)}, "
                    f"but item 0{field} has {list(first)}"
                )
        return {key: _collate([item[key] for item in items], f"{field}[{key!r}]") for key in first}
    if isinstance(first, (tuple, list)):
        _require_same_kind(items, (tuple, list), field)
        for i, item in enumerate(items):
            if len(item) != len(first):
                raise DataError(
                    f"default_collate: item {i}{field} has {len(item)} fields, "
                    f"but item 0{field} has {len(first)}"
                )
        columns = [
            _collate(column, f"{field}[{i}]") for i, column in enumerate(zip(*items, strict=True))
        ]
        if hasattr(first, "_fields"):  # a named tuple
            return type(first)(*columns)
        return columns if isinstance(first, list) else tuple(columns)
    return _stack(items, field)


def _stack(items: Sequence[Any], field: str) -> npt.NDArray[Any]:
    remedy = "convert it in the dataset, or pass collate_fn= to DataLoader"
    if all(isinstance(item, (bool, int, float, complex)) for item in items):
        return _plain_array(items, f"default_collate: the list of items{field}", remedy)
    arrays = [
        _plain_array(item, f"default_collate: item {i}{field}", remedy)
        for i, item in enumerate(items)
    ]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ShapeError(
                f"default_collate: item {i}{field} has shape {array.shape}, but item 0{field} has "
                f"{arrays[0].shape}; pad the items to one shape or pass collate_fn="
            )
        if array.dtype != arrays[0].dtype:
            raise DTypeError(
                f"default_collate: item {i}{field} is {array.dtype}, but item 0{field} is "
                f"{arrays[0].dtype}; a batch has one dtype, so convert the items with astype"
            )
    return np.ascontiguousarray(np.stack(arrays))  # stack alone keeps a Fortran layout


def _require_same_kind(items: Sequence[Any], kind: Any, field: str) -> None:
    for i, item in enumerate(items):
        if not isinstance(item, kind):
            raise DataError(
                f"default_collate: item {i}{field} is a {type(item).__name__}, "
                f"but item 0{field} is a {type(items[0]).__name__}"
            )


def _plain_array(value: Any, what: str, remedy: str = "convert it first") -> npt.NDArray[Any]:
    """np.asarray that refuses what NumPy can only hold as objects (None, ragged lists, sets)."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ShapeError(f"{what} is not an array: {error}; {remedy}") from error
    if array.dtype.hasobject:
        raise DTypeError(f"{what}, a {type(value).__name__}, is not an array of numbers; {remedy}")
    return array


def _require_dataset(dataset: Any, where: str) -> None:
    if not isinstance(dataset, Dataset):
        raise DTypeError(
            f"{where}: dataset must have __len__ and __getitem__, "
            f"but a {type(dataset).__name__} has not"
        )
    if isinstance(dataset, (Mapping, str, bytes)):
        raise DTypeError(
            f"{where}: a {type(dataset).__name__} is no dataset of numbered items; "
            "make one of arrays with TensorDataset(*arrays)"
        )


def _split_bounds(lengths: Sequence[int] | Sequence[float], total: int) -> npt.NDArray[np.intp]:
    """Where each part but the last ends; lengths are counts or fractions, checked to add up."""
    where = "random_split"
    array = _plain_array(lengths, f"{where}: lengths")
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
        raise ArgumentError(f"{where}: lengths must be counts or fractions, not {lengths!r}")
    if not (array >= 0).all():  # written so that a NaN is refused
        raise ArgumentError(f"{where}: lengths must not be negative or NaN, but are {lengths!r}")
    if array.dtype.kind == "f":
        if not math.isclose(float(array.sum()), 1.0, rel_tol=1e-6):
            raise ArgumentError(
                f"{where}: fractions must add up to 1, but {lengths!r} add up to "
                f"{array.sum():g}; counts must be integers"
            )
        # Rounding the boundaries and not the parts leaves no item over.
        return np.asarray(np.rint(np.cumsum(array[:-1]) * total), dtype=np.intp)
    if int(array.sum()) != total:
        raise ArgumentError(
            f"{where}: lengths {lengths!r} add up to {array.sum()}, "
            f"but the dataset has {total} items"
        )
    return np.asarray(np.cumsum(array[:-1]), dtype=np.intp)
