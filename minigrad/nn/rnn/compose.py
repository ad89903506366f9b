"""What stacks and wrappers share: from outside they look like what they hold.

A :class:`Composite` that holds cells is called as a cell is, one that holds layers as a layer
is, so composites hold one another, and :func:`minigrad.nn.unroll` runs any of them that is a
cell.  Their states are tuples of the states inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...errors import ArgumentError, DTypeError, ShapeError
from ...nodes import name_state
from ..module import Module
from .base import Cell, Layer


class Composite(Module):
    """Base of what holds recurrences.

    is_cell: whether it takes one time step, or whole sequences.  input_size, output_size: widths
    (output_size is None where the output is no single tensor).  state_names: as a recurrence
    has it, ("h", "c"), or a tuple of such tuples.  time_major: of the layers inside.
    """

    is_cell: bool
    input_size: int
    output_size: int | None
    state_names: tuple[Any, ...]
    time_major: bool

    def zero_state(self, batch: int) -> Any:
        """The state filled with zeros, each tensor (batch, H)."""
        raise TypeError(f"{type(self).__name__} does not define zero_state()")

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """One time step, or whole sequences, as what is inside takes it.

        x: (N, D) for a cell; (N, T, D), or (T, N, D) if time_major, for a layer.
        state: as ``zero_state`` gives it; zeros if None.
        lengths: (N,) integers in [0, T], for layers only; all T if None.
        Returns the output and the new state.  Raises ShapeError, DTypeError, ArgumentError.
        """
        if self.is_cell and lengths is not None:
            raise ArgumentError(
                f"{type(self).__name__}: a cell takes one time step, which has no lengths; give "
                "them to nn.unroll(cell, x, state, lengths)"
            )
        return self._run(x, state, lengths)

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
        raise TypeError(f"{type(self).__name__} does not define _run()")

    def _call(self, part: Any, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
        """Call one of the things inside."""
        return part(x, state) if self.is_cell else part(x, state, lengths)

    def _states_of(self, state: Any, names: Sequence[str]) -> tuple[Any, ...]:
        """The states inside of ``state``, one for each of ``names``; Nones for None.

        Errors and drawings will know their parts as "h of layer 0".  Raises ShapeError.
        """
        if state is None:
            return (None,) * len(names)
        if not isinstance(state, (tuple, list)) or len(state) != len(names):
            got = f"{len(state)} parts" if isinstance(state, (tuple, list)) else "one tensor"
            raise ShapeError(
                f"{type(self).__name__}: the state must be a tuple of {len(names)} states "
                f"({', '.join(names)}), got {got}"
            )
        for owner, inner, part_names in zip(names, state, self.state_names):
            if inner is not None:
                for name, part in named_parts(part_names, inner):
                    name_state(part, f"{name} of {owner}")
        return tuple(state)


def is_cell(owner: str, part: Any) -> bool:
    """Whether ``part`` takes one time step (a cell) rather than whole sequences (a layer).

    Raises DTypeError if it is neither; ``owner`` begins the message.
    """
    if isinstance(part, Composite):
        return part.is_cell
    if not isinstance(part, (Cell, Layer)):
        got = part.__name__ + " itself" if isinstance(part, type) else type(part).__name__
        raise DTypeError(
            f"{owner}: expected a recurrent cell or layer, such as nn.LSTMCell(...) or "
            f"nn.LSTM(...), got {got}"
        )
    return isinstance(part, Cell)


def is_time_major(part: Any) -> bool:
    """Whether a layer takes (T, N, ...); False for a cell, which has no time axis."""
    return bool(getattr(part, "time_major", False))


def check_not_shared(owner: str, parts: Sequence[Any], names: Sequence[str], remedy: str) -> None:
    """Raise ArgumentError if one module, or one Parameter, is in two of ``parts``.

    names: what the parts are called in the message; remedy: how to make new ones.
    """
    kept: dict[int, tuple[int, str]] = {}  # id of a module or parameter -> where it was met
    for i, part in enumerate(parts):
        kind = type(part).__name__
        for j in range(i):
            if parts[j] is part:
                raise ArgumentError(
                    f"{owner}: {names[j]} and {names[i]} are the same {kind} object, so both "
                    "would have one set of weights ([cell] * 2 repeats the reference, it does not "
                    f"make a second cell). {remedy}; if they are meant to share, say share=True"
                )
        for name, parameter in part.named_parameters():
            at, other = kept.setdefault(id(parameter), (i, name))
            if at != i:
                raise ArgumentError(
                    f"{owner}: {names[at]} and {names[i]} share a Parameter ({other} of the one is "
                    f"{name} of the other). {remedy}; if they are meant to share, say share=True"
                )


def named_parts(names: Any, state: Any) -> Iterator[tuple[str, Any]]:
    """The tensors of a state with their names, in order.

    names: ("h",) for one tensor, ("h", "c") for a pair, or a tuple of such for a tuple of
    states.  A state of another build has no names.
    """
    if names == ("h",):
        yield "h", state
    elif isinstance(state, (tuple, list)):
        for name, part in zip(names, state):
            if isinstance(name, str):
                yield name, part
            else:
                yield from named_parts(name, part)


def map_state(function: Callable[..., Any], *states: Any) -> Any:
    """``function`` of the tensors at the same place in one or more states, as a state.

    A state is a tensor, or a tuple of states; None stays None.
    """
    first = states[0]
    if first is None:
        return None
    if isinstance(first, (tuple, list)):
        return tuple(map_state(function, *parts) for parts in zip(*states))
    return function(*states)
