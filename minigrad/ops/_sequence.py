"""What the recurrent ops share: where sequences end, who watches, when threads are worth it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..errors import DTypeError, ShapeError, axes
from ..recording import cannot_repeat, contiguous, copied, zeros
from .indexing import check_ids

# Multiply-adds below which a range of rows is not worth a thread: about 50 us.
_GRAIN = 1 << 21
_STEPS = 64  # time steps below which copying them is not


def grain(multiply_adds: int) -> int:
    """Rows below which a range is not worth a thread, from the work that a row makes."""
    return _GRAIN // (multiply_adds + 1) + 8


def ends(lengths: np.ndarray | None, steps: int, batch: int) -> np.ndarray:
    """Length of each sequence, (N,) int64: T for all if ``lengths`` is None."""
    if lengths is not None:
        return lengths
    whole = np.empty(batch, np.int64)
    whole.fill(steps)  # np.full takes four times as long
    return whole


def zero_past_end(x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """x (T, N, H) in C order, with zeros (in a copy) from the end of each sequence on."""
    if lengths is None:
        return contiguous(x)
    y = np.empty(x.shape, x.dtype)
    kernels.run_rows(kernels.zero_past_end, len(x), _STEPS, contiguous(x), lengths, y)
    return y


def gradients_of_state(*parts: Any, like: np.ndarray) -> list[np.ndarray]:
    """Copies of the gradients of a last state, to be written into; None is zeros like ``like``."""
    return [zeros(like.shape, like.dtype) if part is None else copied(part) for part in parts]


def gradient_of_outputs(
    d_out: np.ndarray | None, lengths: np.ndarray | None, like: np.ndarray
) -> np.ndarray:
    """d_out (T, N, H) as the kernels take it, or an array of no entries if nobody used them."""
    return np.empty((0, 0, 0), like.dtype) if d_out is None else zero_past_end(d_out, lengths)


def over_time(op: Any) -> Any:
    """Decorator: this op runs over all time steps; its first result is (T, N, ...)."""
    op.over_time = True
    return op


def report(
    flow: Callable[[np.ndarray], None], squares: np.ndarray, lengths: np.ndarray | None
) -> None:
    """Hand norms (parts, T) of the gradients of a state to ``flow``.

    squares: (parts, T, N), the squared norm of each row.  A sequence that has ended has no
    state of its own any more, so it does not count.
    """
    cannot_repeat()
    if lengths is not None:
        squares = squares * (np.arange(squares.shape[1])[:, None] < lengths)
    flow(np.sqrt(squares.sum(axis=2)))


def check_gates(
    op: str, x_gates: Any, ids: Any, w_h: Any, gates: int = 4
) -> tuple[int, int, Any]:
    """T, N, and what other shapes follow from, in words for an error.

    x_gates: (T, N, 4H), or with ids (T, N) the weights (V, 4H); w_h: (..., 4H); gates: what is
    4 here.  Raises ShapeError, DTypeError or IndexRangeError if they do not fit.
    """
    if w_h.ndim != 2 or w_h.shape[1] % gates:
        raise ShapeError(f"{op}: w_h must have {_times_h(gates)} columns, got shape {w_h.shape}")
    letters = "TNG" if ids is None else "VG"
    if x_gates.ndim != len(letters) or x_gates.shape[-1] != w_h.shape[1]:
        raise ShapeError(
            f"{op}: x_gates must be ({', '.join(letters)}) with G={_times_h(gates)}="
            f"{w_h.shape[1]} (w_h is {w_h.shape}), got {axes(x_gates.shape, letters)}"
        )
    if ids is not None:
        if ids.ndim != 2:
            raise ShapeError(f"{op}: ids must be (T, N), got shape {ids.shape}")
        check_ids(op, ids, len(x_gates))
    steps, batch = x_gates.shape[:2] if ids is None else ids.shape
    return steps, batch, _Because(x_gates, letters, w_h)


def _times_h(gates: int) -> str:
    return f"{gates}H" if gates > 1 else "H"


class _Because:
    """Words for an error, put together only if there is one: a small step has no time for it."""

    def __init__(self, x_gates: Any, letters: str, w_h: Any) -> None:
        self.given = x_gates, letters, w_h

    def __str__(self) -> str:
        x_gates, letters, w_h = self.given
        return f"for x_gates {axes(x_gates.shape, letters)} and w_h {w_h.shape}"


def check_shape(
    op: str, name: str, array: Any, shape: tuple[int, ...], letters: str | None, because: Any
) -> None:
    """Raise ShapeError unless ``array`` has this shape."""
    if array.shape != shape:
        raise ShapeError(
            f"{op}: {name} must be {axes(shape, letters)} {because}, got {array.shape}"
        )


def check_one_dtype(op: str, **arrays: Any) -> None:
    """Raise DTypeError unless all arrays (but those that are None) have one dtype."""
    given = [array.dtype for array in arrays.values() if array is not None]
    if given.count(given[0]) < len(given):
        names = ", ".join(f"{name} {x.dtype}" for name, x in arrays.items() if x is not None)
        raise DTypeError(f"{op}: all arguments need one dtype, got {names}; convert some of them")
