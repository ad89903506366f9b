"""Windows of one long text for truncated back-propagation, as the RNN tutorials cut them.

CursorBatches is the character model's: endless, its cursors wrap around.  SequenceBatches is the
word model's: one pass is one epoch, and what does not fill a window is left out.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, DTypeError, ShapeError
from ._checks import positive_int


class CursorBatches(Iterator[npt.NDArray[np.int64]]):
    """Endless windows of a text, read by N cursors that move along it side by side.

    Cursor n starts at n * (len(ids) // N). Every ``next()`` moves all cursors on by ``unroll``
    characters and returns the (unroll + 1, N) window they passed: time-major, C-contiguous int64,
    a fresh array. Its first row is the last row of the window before, so with

        window = next(batches)
        inputs, targets = window[:-1], window[1:]       # (T, N) each

    each target is the character after its input, no character is skipped, and a state carried
    from window to window meets an unbroken text. A cursor that reaches the end goes on at the
    beginning.

    Args:
        ids: (length,) integers, of any integer dtype; kept, and not copied if contiguous.
        batch_size: N, the number of cursors, at most the length.
        unroll: T, the number of steps in a window.

    Raises DTypeError, ShapeError or ArgumentError for arguments of a wrong kind, shape or value,
    and DataError for a text shorter than batch_size.

    Source: class BatchGenerator of the tutorial's character language model, whose ``next()``
    returns the same windows as a list of T + 1 one-hot arrays.

    >>> from minigrad import data
    >>> batches = data.CursorBatches(range(8), batch_size=2, unroll=3)
    >>> next(batches).tolist()
    [[0, 4], [1, 5], [2, 6], [3, 7]]
    """

    def __init__(self, ids: npt.ArrayLike, batch_size: int, unroll: int) -> None:
        where = "CursorBatches"
        self.batch_size = positive_int(batch_size, "batch_size", where)
        self.unroll = positive_int(unroll, "unroll", where)
        array = _id_array(ids, where)
        if array.size < self.batch_size:
            raise DataError(
                f"{where}: ids has {array.size} characters, fewer than batch_size="
                f"{self.batch_size}; every cursor needs one of its own to start at"
            )
        # take() would copy a strided text on every call.
        self._ids = np.ascontiguousarray(array)
        self._position = 0
        starts = np.arange(self.batch_size) * (array.size // self.batch_size)  # (N,)
        steps = np.arange(self.unroll + 1)  # (T + 1,)
        self._window = steps[:, None] + starts  # (T + 1, N), where the first window lies

    @property
    def position(self) -> int:
        """Steps taken by every cursor since the start: unroll times the number of windows."""
        return self._position

    def __next__(self) -> npt.NDArray[np.int64]:
        """Return the next (unroll + 1, batch_size) int64 window. Never raises StopIteration."""
        where = self._window + self._position % self._ids.size
        self._position += self.unroll
        return self._ids.take(where, mode="wrap").astype(np.int64, copy=False)

    def state_dict(self) -> dict[str, int]:
        """Return what ``load_state_dict`` needs to go on from here: three Python ints."""
        return {
            "position": self._position,
            "batch_size": self.batch_size,
            "length": self._ids.size,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the generator that gave ``state`` stopped; unroll may differ.

        Raises DataError, and changes nothing, if an entry is missing, unknown or no integer, if the
        position is negative, or if the state belongs to another batch_size or length of text.
        """
        where = "CursorBatches.load_state_dict"
        mine = self.state_dict()
        if not isinstance(state, Mapping) or set(state) != set(mine):
            raise DataError(f"{where}: state must have exactly the entries {', '.join(mine)}")
        try:
            theirs = {name: operator.index(value) for name, value in state.items()}
        except TypeError as error:
            raise DataError(f"{where}: every entry must be an integer: {error}") from error
        for name in ("batch_size", "length"):
            if theirs[name] != mine[name]:
                raise DataError(
                    f"{where}: the state was saved with {name} {theirs[name]}, but here it is "
                    f"{mine[name]}; the cursors would stand elsewhere in the text"
                )
        if theirs["position"] < 0:
            raise DataError(f"{where}: position must not be negative, but is {theirs['position']}")
        self._position = theirs["position"]


class SequenceBatches(Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]):
    """One epoch of a text: pairs of windows (inputs, targets), each target the id after its input.

    The text is cut into N rows, each of length // N consecutive ids, which are read side by side:
    window i is the columns i * T to (i + 1) * T of the rows, so a state carried from window to
    window meets N unbroken texts.  Each ``iter()`` begins an epoch at the first window, where the
    state has to begin anew; ``len()`` is the number of windows in one, (length // N - 1) // T.
    Ids that fill no row and no window are left out.

    A window is (batch_size, unroll), batch-major, C-contiguous int64, a fresh array.

    Args:
        ids: (length,) integers, of any integer dtype; kept, and not copied if contiguous.
        batch_size: N, the number of rows.
        unroll: T, the number of steps in a window.

    Raises DTypeError, ShapeError or ArgumentError for arguments of a wrong kind, shape or value,
    and DataError for a text too short for one window.

    Source: ``ptb_producer`` of TensorFlow's PTB tutorial.

    >>> from minigrad import data
    >>> batches = data.SequenceBatches(range(10), batch_size=2, unroll=2)
    >>> [(x.tolist(), y.tolist()) for x, y in batches]
    [([[0, 1], [5, 6]], [[1, 2], [6, 7]]), ([[2, 3], [7, 8]], [[3, 4], [8, 9]])]
    """

    def __init__(self, ids: npt.ArrayLike, batch_size: int, unroll: int) -> None:
        where = "SequenceBatches"
        self.batch_size = positive_int(batch_size, "batch_size", where)
        self.unroll = positive_int(unroll, "unroll", where)
        array = _id_array(ids, where)
        row = array.size // self.batch_size
        if row < self.unroll + 1:
            raise DataError(
                f"{where}: ids has {array.size} entries, which makes {self.batch_size} rows of "
                f"{row}, but a window with its targets needs {self.unroll + 1}; take a longer "
                "text, or a smaller batch_size or unroll"
            )
        self._rows = array[: row * self.batch_size].reshape(self.batch_size, row)

    def __len__(self) -> int:
        """Return the number of windows in an epoch."""
        return (self._rows.shape[1] - 1) // self.unroll

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Begin an epoch: pairs of (N, T) int64 arrays, inputs and targets."""
        for start in range(0, len(self) * self.unroll, self.unroll):
            window = self._rows[:, start : start + self.unroll + 1]  # (N, T + 1)
            yield (
                window[:, :-1].astype(np.int64, order="C"),
                window[:, 1:].astype(np.int64, order="C"),
            )


def _id_array(ids: npt.ArrayLike, where: str) -> npt.NDArray[np.integer[Any]]:
    """``ids`` as an array, refused unless it holds integers along one axis."""
    if isinstance(ids, (str, bytes)):
        raise DTypeError(f"{where}: ids is text; encode it first: {where}(encode(text), ...)")
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ShapeError(
            f"{where}: ids must be one-dimensional, (length,), but its shape is {array.shape}"
        )
    if array.size and array.dtype.kind not in "iu":
        raise DTypeError(f"{where}: ids must be integers, but its dtype is {array.dtype}")
    return array
