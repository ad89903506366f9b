"""Deep recurrences: the outputs of one are the inputs of the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import ArgumentError, DTypeError, ShapeError
from ...tensor import Tensor
from ..module import ModuleList
from .compose import Composite, check_not_shared, is_cell, is_time_major


class Stacked(Composite):
    """Cells on top of each other are a cell, layers a layer (Graves et al. 2013).

    layers: recurrent cells, or recurrent layers, wrapped or not, the one next to the input
    first.  The state is a tuple of their states, in the same order; TensorFlow calls the stack
    of cells ``MultiRNNCell``.
    share: whether two of them may have the same weights.  Otherwise the same object twice, or
    two that share a Parameter, is refused: ``[cell] * 2`` would make both layers one.

        nn.Stacked([nn.LSTMCell(size, 200, generator=rng) for size in (50, 200)])

    Raises ArgumentError (none, cells mixed with layers, shared weights, mixed time axes),
    DTypeError (something else than cells and layers), ShapeError (sizes that do not fit).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> deep = nn.Stacked([nn.LSTM(size, 5, generator=rng) for size in (3, 5)])
    >>> outputs, states = deep(mg.ones(2, 7, 3))
    >>> outputs.shape, len(states)
    ((2, 7, 5), 2)
    """

    def __init__(self, layers: Iterable[Any], share: bool = False) -> None:
        if hasattr(layers, "zero_state"):  # one cell or layer, not a list of them
            raise DTypeError(
                f"Stacked: expected a list of cells or layers, got one {type(layers).__name__}"
            )
        layers = list(layers)
        if not layers:
            raise ArgumentError("Stacked: needs at least one cell or layer")
        names = [f"layer {i}" for i in range(len(layers))]
        kinds = [is_cell(f"Stacked: {name}", layer) for name, layer in zip(names, layers)]
        if len(set(kinds)) > 1:
            cell, layer = layers[kinds.index(True)], layers[kinds.index(False)]
            raise ArgumentError(
                f"Stacked: cells and layers cannot be mixed: {type(cell).__name__} takes one time "
                f"step, {type(layer).__name__} whole sequences; use the cell's layer, or the "
                "layer's cell"
            )
        if not share:
            remedy = (
                "Make a new one for each layer: nn.Stacked([nn.LSTMCell(...) for size in sizes])"
            )
            check_not_shared("Stacked", layers, names, remedy)
        for i, (below, above) in enumerate(zip(layers, layers[1:])):
            _check_neighbours(i, below, above)
        self.layers: Any = ModuleList(layers)
        self.is_cell = kinds[0]
        self.input_size = layers[0].input_size
        self.output_size = layers[-1].output_size
        self.state_names = tuple(layer.state_names for layer in layers)
        self.time_major = is_time_major(layers[0])

    def zero_state(self, batch: int) -> tuple[Any, ...]:
        """The states of all layers filled with zeros."""
        return tuple(layer.zero_state(batch) for layer in self.layers)

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Tensor, tuple[Any, ...]]:
        states = self._states_of(state, [f"layer {i}" for i in range(len(self.layers))])
        after = []
        for layer, inner in zip(self.layers, states):
            x, inner = self._call(layer, x, inner, lengths)
            after.append(inner)
        return x, tuple(after)


def _check_neighbours(i: int, below: Any, above: Any) -> None:
    """Raise unless layer i + 1 can take what layer i puts out."""
    names = f"layer {i + 1} ({type(above).__name__})", f"layer {i} ({type(below).__name__})"
    if below.output_size is None:
        raise ShapeError(
            f"Stacked: {names[1]} puts out a pair, which {names[0]} cannot take; merge the two "
            "directions (merge='concat' or 'sum')"
        )
    if above.input_size != below.output_size:
        raise ShapeError(
            f"Stacked: {names[0]} takes inputs of size {above.input_size}, but {names[1]} puts "
            f"out {below.output_size}"
        )
    if is_time_major(above) != is_time_major(below):
        order = ["(N, T, D)", "(T, N, D)"]
        raise ArgumentError(
            f"Stacked: {names[0]} takes {order[is_time_major(above)]} but {names[1]} puts out "
            f"{order[is_time_major(below)]}; make both with the same time_major"
        )
