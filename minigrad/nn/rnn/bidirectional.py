"""Both directions of time: what comes later counts too."""

from __future__ import annotations

from typing import Any

from ... import functional as F
from ... import ops
from ...errors import ArgumentError, ShapeError
from ...tensor import apply
from .base import checked_lengths
from .compose import Composite, check_not_shared, is_cell, is_time_major

_NAMES = ("the forward layer", "the backward layer")


class Bidirectional(Composite):
    """Two layers over the same sequences, one of them from the end (Schuster and Paliwal 1997).

    forward_layer, backward_layer: two recurrent layers, wrapped or not, of one input size.  The
    backward one runs on each sequence reversed within its own length, and its outputs are
    turned around again, so that both outputs of step t have seen x_t.
    merge: "concat" puts the two outputs of a step side by side, (N, T, 2H); "sum" adds them;
    None returns the pair.  The state is the pair of both states; that of the backward layer is
    the one it has reached at step 0.
    share: whether both may have the same weights; otherwise that is refused.

    Raises ArgumentError (cells, shared weights, mixed time axes, an unknown merge), DTypeError,
    ShapeError (sizes that do not fit).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> both = nn.Bidirectional(*(nn.LSTM(3, 5, generator=rng) for _ in range(2)))
    >>> outputs, states = both(mg.ones(2, 7, 3))
    >>> outputs.shape
    (2, 7, 10)
    """

    def __init__(
        self,
        forward_layer: Any,
        backward_layer: Any,
        merge: str | None = "concat",
        share: bool = False,
    ) -> None:
        layers = (forward_layer, backward_layer)
        for name, layer in zip(_NAMES, layers):
            if is_cell(f"Bidirectional: {name}", layer):
                raise ArgumentError(
                    f"Bidirectional: {name} is {type(layer).__name__}, a cell, which is called "
                    "step by step and cannot begin at the end; use layers, such as nn.LSTM"
                )
            if layer.output_size is None:
                raise ShapeError(f"Bidirectional: {name} puts out a pair; merge it first")
        if merge not in ("concat", "sum", None):
            raise ArgumentError(
                f"Bidirectional: merge must be 'concat', 'sum' or None, got {merge!r}"
            )
        if not share:
            check_not_shared("Bidirectional", layers, _NAMES, "Make a new layer for each direction")
        if forward_layer.input_size != backward_layer.input_size:
            raise ShapeError(
                f"Bidirectional: both layers get the same inputs, but {_NAMES[0]} takes inputs of "
                f"size {forward_layer.input_size} and {_NAMES[1]} of {backward_layer.input_size}"
            )
        sizes = [layer.output_size for layer in layers]
        if merge == "sum" and sizes[0] != sizes[1]:
            raise ShapeError(
                f"Bidirectional: merge='sum' needs outputs of one size, got {sizes[0]} and "
                f"{sizes[1]}; use merge='concat'"
            )
        if is_time_major(forward_layer) != is_time_major(backward_layer):
            raise ArgumentError("Bidirectional: make both layers with the same time_major")
        self.forward_layer = forward_layer
        self.backward_layer = backward_layer
        self.merge = merge
        self.is_cell = False
        self.input_size = forward_layer.input_size
        self.output_size = {"concat": sum(sizes), "sum": sizes[0], None: None}[merge]
        self.state_names = (forward_layer.state_names, backward_layer.state_names)
        self.time_major = is_time_major(forward_layer)

    def zero_state(self, batch: int) -> tuple[Any, Any]:
        """Both states filled with zeros."""
        return self.forward_layer.zero_state(batch), self.backward_layer.zero_state(batch)

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Any, tuple[Any, Any]]:
        states = self._states_of(state, _NAMES)
        ahead, state_ahead = self.forward_layer(x, states[0], lengths)
        back, state_back = self.backward_layer(self._reversed(x, lengths), states[1], lengths)
        back = self._reversed(back, lengths)
        outputs: Any = (ahead, back)
        if self.merge == "concat":
            outputs = F.concat(outputs, axis=2)
        elif self.merge == "sum":
            outputs = ahead + back
        return outputs, (state_ahead, state_back)

    def _reversed(self, x: Any, lengths: Any) -> Any:
        """Each sequence of x turned around within its length."""
        if not self.time_major:
            x = x.swapaxes(0, 1)
        lengths = checked_lengths("Bidirectional", lengths, *x.shape[:2])
        x = apply(ops.reverse_sequence, x, lengths=lengths)
        return x if self.time_major else x.swapaxes(0, 1)

    def extra_repr(self) -> str:
        """How the two outputs are merged."""
        return f"merge={self.merge!r}"
