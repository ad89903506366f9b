"""Items on their way to a training: shuffled, mapped, batched, repeated, made ahead of need.

    batches = (
        Pipeline(sentences)                       # anything that can be gone through again
        .shuffle(generator=0)                     # another order for every pass, from one seed
        .map(encode)
        .bucket(32, boundaries=(10, 20))          # padded batches of like length
        .prefetch(2)                              # up to two batches ahead, in a thread
    )
    for epoch in range(5):
        for ids, lengths in batches:
            ...

A pipeline does nothing until somebody goes through it; each ``iter()`` is a pass of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, DTypeError, PipelineError
from ._checks import positive_int, random_generator
from .buckets import bucket_edges, grouped, pad_items
from .loader import Collate, Dataset, default_collate
from .prefetch import Ahead

Begin = Callable[[], "Pass"]
"""Begins a pass over what comes before a stage."""


class _Stage(NamedTuple):
    name: str  # as in errors: "map(encode)"
    run: Callable[[Begin, Any], Iterator[Any]]  # from what comes before it, and random numbers
    generator: np.random.Generator | None = None  # where each pass gets its random numbers from


class Pipeline(Iterable[Any]):
    """Items of a source, and what is done with them on the way.

    Every method returns a new pipeline with one stage more; the old one can still be used.

    Args:
        source: a list, a Dataset, a DataLoader or any other iterable; a function without
            arguments that returns one, called for every pass; or an iterator, which goes on
            where it stopped, as CursorBatches does, and is refused once it has come to its end.

    Random numbers: every pass draws one seed for each stage that wants randomness, when it
    begins and in the thread of the caller.  So the same seed gives the same passes in the same
    order, also when a pass was left early or is made ahead in a thread.

    Errors: what goes wrong in a stage reaches the loop as a PipelineError that names the stage
    and the element, the original exception being its ``__cause__``.

    Raises DTypeError for a source of another kind; DataError, when a pass begins, for an
    iterator that is used up.

    >>> pipeline = Pipeline([3, 1, 2]).map(lambda x: 10 * x).batch(2)
    >>> [batch.tolist() for batch in pipeline]
    [[30, 10], [20]]
    """

    def __init__(self, source: Iterable[Any] | Dataset[Any] | Callable[[], Iterable[Any]]) -> None:
        self._source = _Source(source)
        self._stages: tuple[_Stage, ...] = ()

    def shuffle(
        self, buffer_size: int | None = None, *, generator: np.random.Generator | int | None = None
    ) -> Pipeline:
        """Items in random order, a new one for every pass.

        buffer_size: how many items are held, among which the next is drawn; None: all of a
        pass, so that every order is as likely as any other.
        generator: a np.random.Generator or an integer seed.

        Raises ArgumentError for a size below 1 or without a generator, DTypeError for other kinds.

        >>> pipeline = Pipeline(range(6)).shuffle(generator=0)
        >>> sorted(pipeline), list(pipeline) == list(pipeline)
        ([0, 1, 2, 3, 4, 5], False)
        """
        where = "Pipeline.shuffle"
        if buffer_size is not None:
            buffer_size = positive_int(buffer_size, "buffer_size", where)
        source = random_generator(generator, where, "shuffling")
        name = f"shuffle({'' if buffer_size is None else buffer_size})"
        return self._with(name, partial(_shuffled, buffer_size), source)

    def map(
        self,
        function: Callable[..., Any],
        *,
        generator: np.random.Generator | int | None = None,
    ) -> Pipeline:
        """``function(item)`` for every item; ``function(item, rng)`` if a generator is given.

        rng: a np.random.Generator of the pass, for noise and cuts that the same seed repeats.
        Raises DTypeError unless the function can be called.

        >>> noisy = Pipeline([0.0, 0.0]).map(lambda x, rng: x + rng.normal(), generator=0)
        >>> a, b = noisy
        >>> a != b
        True
        """
        where = "Pipeline.map"
        _require_callable(function, "function", where)
        source = None if generator is None else random_generator(generator, where, "")
        name = f"map({getattr(function, '__name__', type(function).__name__)})"
        return self._with(name, partial(_mapped, function), source)

    def batch(
        self, batch_size: int, *, drop_last: bool = False, collate_fn: Collate | None = None
    ) -> Pipeline:
        """Batches of N items, made by ``collate_fn`` (default_collate: stacked field by field).

        drop_last: leave out a last batch with fewer than N items.
        Raises DTypeError or ArgumentError for a size that is no positive integer, and DTypeError
        for a collate_fn that cannot be called.

        >>> [x.shape for x in Pipeline(np.zeros((5, 3))).batch(2)]
        [(2, 3), (2, 3), (1, 3)]
        """
        size = positive_int(batch_size, "batch_size", "Pipeline.batch")
        collate = default_collate if collate_fn is None else collate_fn
        _require_callable(collate, "collate_fn", "Pipeline.batch")
        return self._with(f"batch({size})", partial(_batched, size, drop_last, collate, _one))

    def padded_batch(
        self, batch_size: int, *, value: int = 0, drop_last: bool = False
    ) -> Pipeline:
        """Batches of N sequences of ids, padded with ``value`` to the longest of the batch.

        An item is a sequence of ids, and a batch then a Padded (ids (N, T), lengths (N,)); or a
        tuple of sequences and numbers, and a batch a tuple of Padded and of arrays (N,).
        Raises as :meth:`batch`.

        >>> ids, lengths = next(iter(Pipeline([[1, 2, 3], [4]]).padded_batch(2)))
        >>> ids.tolist(), lengths.tolist()
        ([[1, 2, 3], [4, 0, 0]], [3, 1])
        """
        size = positive_int(batch_size, "batch_size", "Pipeline.padded_batch")
        collate = partial(pad_items, value=value)
        run = partial(_batched, size, drop_last, collate, _one)
        return self._with(f"padded_batch({size})", run)

    def bucket(
        self,
        batch_size: int,
        boundaries: Sequence[int],
        *,
        value: int = 0,
        drop_last: bool = False,
    ) -> Pipeline:
        """Padded batches of sequences of like length; see BucketBatches, which holds all items.

        An item goes into the first bucket whose boundary its length (that of its first field)
        does not exceed, or into the last one; a bucket that holds N items is given out.  What
        is left in the end comes as smaller batches, unless drop_last.
        Raises as :meth:`batch`, and ArgumentError for boundaries that do not increase.

        >>> pipeline = Pipeline([[1], [2, 2, 2], [3], [4, 4, 4, 4]]).bucket(2, boundaries=(2,))
        >>> [ids.tolist() for ids, lengths in pipeline]
        [[[1], [3]], [[2, 2, 2, 0], [4, 4, 4, 4]]]
        """
        where = "Pipeline.bucket"
        size = positive_int(batch_size, "batch_size", where)
        edges = bucket_edges(boundaries, where)
        collate = partial(pad_items, value=value)
        run = partial(_batched, size, drop_last, collate, partial(_bucket, edges))
        return self._with(f"bucket({size})", run)

    def repeat(self, count: int | None = None) -> Pipeline:
        """``count`` passes in one, without end if None.  Each is shuffled anew.

        Raises DTypeError or ArgumentError for a count that is no positive integer; an endless
        repetition of nothing is a PipelineError.

        >>> list(Pipeline("ab".split()).repeat(3))
        ['ab', 'ab', 'ab']
        """
        if count is not None:
            count = positive_int(count, "count", "Pipeline.repeat")
        name = f"repeat({'' if count is None else count})"
        return self._with(name, partial(_repeated, count))

    def prefetch(self, size: int = 2) -> Pipeline:
        """What comes before it is done ahead, in a thread, up to ``size`` items.

        It pays where that waits for a disk, or spends its time in NumPy, which lets other
        threads run.  The thread begins with the first item and ends with the pass: at its end,
        at an error, at ``close()``, and when the loop is left (by break, an exception,
        Ctrl-C) and its iterator goes; whoever ends it waits for the element it is at.
        Raises DTypeError or ArgumentError for a size that is no positive integer.

        >>> list(Pipeline(range(4)).prefetch(2))
        [0, 1, 2, 3]
        """
        size = positive_int(size, "size", "Pipeline.prefetch")
        return self._with(f"prefetch({size})", partial(_ahead, size))

    def __iter__(self) -> Pass:
        """Begin a pass; its random numbers are drawn now."""
        seeded = [
            None if stage.generator is None
            else np.random.default_rng(stage.generator.integers(2**63, size=2))
            for stage in self._stages
        ]  # fmt: skip
        begin = partial(Pass, self._source.stage(), 0, None, None)
        for number, (stage, random) in enumerate(zip(self._stages, seeded), start=1):
            begin = partial(Pass, stage, number, begin, random)
        return begin()

    def __repr__(self) -> str:
        names = [self._source.name, *(stage.name for stage in self._stages)]
        return f"Pipeline({' -> '.join(names)})"

    def _with(
        self, name: str, run: Callable[..., Any], generator: np.random.Generator | None = None
    ) -> Pipeline:
        longer = Pipeline.__new__(type(self))
        longer._source = self._source
        longer._stages = (*self._stages, _Stage(name, run, generator))
        return longer


class Pass(Iterator[Any]):
    """One pass through a pipeline, as ``iter(pipeline)`` gives it.

    ``close()``, or the end of a ``with`` block, ends it early and its threads with it.
    """

    def __init__(self, stage: _Stage, number: int, begin: Begin | None, random: Any) -> None:
        self._place = f"stage {number}, {stage.name}" if number else f"the source, {stage.name}"
        self._count = 0
        self._opened: list[Pass] = []  # what comes before, as begun last
        opened = self._opened  # the stage holds this and not the pass: no cycle, so no waiting

        def begin_before() -> Pass:
            opened[:] = [] if begin is None else [begin()]
            return opened[0]

        self._items = stage.run(begin_before, random)

    def __next__(self) -> Any:
        """Return the next item.  Raises PipelineError, and the pass is over then."""
        try:
            item = next(self._items)
        except (StopIteration, PipelineError):
            self.close()
            raise
        except Exception as error:
            self.close()
            raise PipelineError(
                f"{self._place}, element {self._count}: {type(error).__name__}: {error}"
            ) from error
        except BaseException:  # Ctrl-C while waiting
            self.close()
            raise
        self._count += 1
        return item

    def close(self) -> None:
        """End the pass here; nothing more comes.  Threads are waited for."""
        items, self._items = self._items, iter(())
        if hasattr(items, "close") and self._opened:  # the source's own iterator is left alone
            items.close()
        for before in self._opened:
            before.close()

    def __enter__(self) -> Pass:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Source:
    """Where the items come from."""

    def __init__(self, source: Any) -> None:
        if isinstance(source, (str, bytes, Mapping)) or not (
            hasattr(source, "__iter__") or isinstance(source, Dataset) or callable(source)
        ):
            raise DTypeError(
                f"Pipeline: source must be a sequence of items, a Dataset, an iterable, or a "
                f"function that returns one, not {type(source).__name__}"
            )
        self.source = source
        self.name = getattr(source, "__name__", type(source).__name__)
        self.used_up = False

    def stage(self) -> _Stage:
        if self.used_up:
            raise DataError(
                f"Pipeline: the source, an iterator ({self.name}), has come to its end and cannot "
                "begin again; pass a list, or a function that returns a new iterator"
            )
        return _Stage(self.name, self._run)

    def _run(self, begin: Begin, random: Any) -> Iterator[Any]:
        source = self.source
        if hasattr(source, "__iter__"):
            self.stage()  # repeat() begins again without asking
            items = iter(source)
            return chain(items, self._end()) if items is source else items
        if isinstance(source, Dataset):
            return (source[i] for i in range(len(source)))
        return iter(source())

    def _end(self) -> Iterator[Any]:
        """No item, but a note that the source, an iterator, has come to its end."""
        self.used_up = True
        yield from ()


# -- what the stages do -----------------------------------------------------------------------


def _shuffled(size: int | None, begin: Begin, random: np.random.Generator) -> Iterator[Any]:
    items = begin()

    def draw() -> Iterator[Any]:
        held: list[Any] = []
        for item in items:
            if size is None or len(held) < size:
                held.append(item)
                continue
            place = int(random.integers(size))
            chosen, held[place] = held[place], item
            yield chosen
        for place in random.permutation(len(held)):
            yield held[place]

    return draw()


def _mapped(function: Callable[..., Any], begin: Begin, random: Any) -> Iterator[Any]:
    items = begin()
    if random is None:
        return (function(item) for item in items)
    return (function(item, random) for item in items)


def _batched(
    size: int, drop_last: bool, collate: Collate, key: Callable[[Any], int], begin: Begin, _: Any
) -> Iterator[Any]:
    items = begin()
    keyed = ((key(item), item) for item in items)
    return (collate(group) for group in grouped(keyed, size, drop_last))


def _one(item: Any) -> int:
    return 0


def _bucket(edges: Sequence[int], item: Any) -> int:
    """Which bucket an item belongs to, by the length of its first field."""
    return bisect_left(edges, len(item[0] if isinstance(item, tuple) else item))


def _repeated(count: int | None, begin: Begin, _: Any) -> Iterator[Any]:
    first = begin()

    def passes() -> Iterator[Any]:
        items, done = first, 0
        while True:
            empty = True
            for item in items:
                empty = False
                yield item
            if empty and count is None:
                raise DataError("repeat(): a pass gave no item, so there is nothing to repeat")
            done += 1
            if done == count:
                return
            items = begin()

    return passes()


def _ahead(size: int, begin: Begin, _: Any) -> Iterator[Any]:
    return Ahead(begin(), size)


def _require_callable(function: Any, name: str, where: str) -> None:
    if not callable(function):
        raise DTypeError(f"{where}: {name} must be a function, not {type(function).__name__}")
