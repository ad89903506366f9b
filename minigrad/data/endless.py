"""Pass after pass over something that ends, with a place that can be saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from ..errors import DataError, DTypeError


class Endless(Iterator[Any]):
    """What every ``iter()`` of ``passes`` gives, one pass after the other, without an end.

    Args:
        passes: a DataLoader, BucketBatches, SequenceBatches, Pipeline, a list: whatever can be
            gone through again.
        generators: those that it draws its orders from, if any; without them a saved place
            could not be found again.

    ``epoch`` is the number of the pass under way, from 0, and ``taken`` how much of it was
    given out.  ``state_dict`` is small: the place, and the generators as they were when the
    pass began; ``load_state_dict`` begins that pass once more and goes up to the place.

    Raises DTypeError for other kinds of arguments; DataError, from ``next()``, for a pass with
    nothing in it.

    >>> batches = Endless([[1, 2], [3, 4]])
    >>> [next(batches) for _ in range(3)], batches.epoch, batches.taken
    ([[1, 2], [3, 4], [1, 2]], 1, 1)
    """

    def __init__(self, passes: Iterable[Any], *generators: np.random.Generator) -> None:
        if not isinstance(passes, Iterable) or isinstance(passes, Iterator):
            raise DTypeError(
                f"Endless: expects something to go through again and again, such as a DataLoader, "
                f"got {type(passes).__name__}"
            )
        for generator in generators:
            if not isinstance(generator, np.random.Generator):
                raise DTypeError(f"Endless: expects generators, got {type(generator).__name__}")
        self.epoch = -1
        self.taken = 0
        self._passes = passes
        self._generators = generators
        self._began = self._copies()  # of the generators, when the pass under way began
        self._pass: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        """The next item, of the next pass if need be."""
        for item in self._pass:
            self.taken += 1
            return item
        self._began = self._copies()
        self._pass = iter(self._passes)
        self.epoch += 1
        self.taken = 0
        for item in self._pass:
            self.taken += 1
            return item
        raise DataError("Endless: there was nothing in a pass")

    def _copies(self) -> list[np.random.Generator]:
        return [deepcopy(generator) for generator in self._generators]

    def _set(self, generators: list[np.random.Generator]) -> None:
        for own, other in zip(self._generators, generators):
            own.bit_generator.state = other.bit_generator.state

    def state_dict(self) -> dict[str, Any]:
        """The place, for :meth:`load_state_dict`."""
        return {"epoch": self.epoch, "taken": self.taken, "began": list(self._began)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken; leaves the generators as they were there.

        Raises DataError, and changes nothing, for anything else, and for a pass that has
        become shorter.
        """
        where = "Endless.load_state_dict"
        if not isinstance(state, Mapping) or state.keys() != self.state_dict().keys():
            raise DataError(f"{where}: state must have exactly {', '.join(self.state_dict())}")
        epoch, taken, began = (state[name] for name in ("epoch", "taken", "began"))
        if type(epoch) is not int or type(taken) is not int or epoch < -1 or taken < 0:
            raise DataError(f"{where}: epoch and taken must be counts, got {epoch!r}, {taken!r}")
        kinds = [type(generator.bit_generator) for generator in self._generators]
        if not isinstance(began, list) or kinds != [
            type(getattr(generator, "bit_generator", None)) for generator in began
        ]:
            raise DataError(f"{where}: began must be generators of the kinds {kinds}")
        before = self._copies()
        self._set(began)
        under_way = iter(self._passes) if epoch >= 0 else iter(())
        if sum(1 for _ in zip(range(taken), under_way)) < taken:
            self._set(before)
            raise DataError(f"{where}: a pass has fewer than the {taken} items taken of it")
        self._pass, self._began = under_way, list(began)
        self.epoch, self.taken = epoch, taken
