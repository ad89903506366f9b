"""Wrappers of one cell or layer: dropout around it, a shortcut past it, a dense layer before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ... import functional as F
from ...errors import ArgumentError, DTypeError, MinigradError, ShapeError, axes
from ...prepared import prepared
from ...tensor import Tensor
from ..layers import Linear, require_array, same_dtype
from ..module import Module
from .base import checked_lengths
from .compose import Composite, is_cell, is_time_major, named_parts
from .folding import folded


class _Wrapper(Composite):
    """One cell or layer with something around it; its state is the state inside."""

    def __init__(self, inner: Any) -> None:
        self.is_cell = is_cell(type(self).__name__, inner)
        self.inner = inner
        self.input_size = inner.input_size
        self.output_size = inner.output_size
        self.state_names = inner.state_names
        self.time_major = is_time_major(inner)

    def zero_state(self, batch: int) -> Any:
        """The state of what is inside, filled with zeros."""
        return self.inner.zero_state(batch)

    def _refuse_pair(self, what: str) -> None:
        if self.output_size is None:
            raise ShapeError(
                f"{type(self).__name__}: {type(self.inner).__name__} puts out a pair, to which "
                f"{what} has no meaning; merge the two directions (merge='concat' or 'sum')"
            )

    def _vectors(self, x: Any, what: str) -> None:
        """Raise DTypeError for ids, which are names and not quantities."""
        if x.dtype.kind != "f":
            raise DTypeError(
                f"{type(self).__name__}: {what} needs vectors of floats, but x is {x.dtype}; "
                "look ids up in an nn.Embedding first"
            )


class DropoutWrapper(_Wrapper):
    """Dropout around a cell or layer, in training only.

    inner: a cell or layer.  input, output, state: probabilities to *drop* a number of its
    input, of its output, and of the state that goes from step to step (TensorFlow's wrapper
    asks for those to keep); what stays is divided by 1 - p.  ``eval()`` switches it off.

    State dropout hits h and never the memory c of an LSTM, as in TensorFlow's DropoutWrapper.
    It acts between steps, inside of a fused layer's one kernel call, so it is for cells only:
    wrap the cell and run it with :func:`minigrad.nn.unroll`.

    variational: one mask for all steps of a sequence (Gal and Ghahramani 2016), each sequence
    of a batch with its own; in TensorFlow a batch has one mask for all its sequences.
    Otherwise each step draws a new one.  For a layer a call is a sequence, and its masks are
    (1, N, D) instead of (T, N, D).  For a cell :func:`one_sequence` says where one begins and
    ends; ``unroll`` does that by itself.

    Raises ArgumentError (probabilities outside [0, 1), no generator, state dropout on a layer),
    DTypeError, ShapeError.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> lstm = nn.DropoutWrapper(nn.LSTM(3, 5, generator=rng), output=0.5, generator=rng)
    >>> outputs, state = lstm(mg.ones(2, 7, 3))
    >>> round(float((outputs.numpy() == 0).mean()), 1)
    0.4
    """

    def __init__(
        self,
        inner: Any,
        input: float = 0.0,
        output: float = 0.0,
        state: float = 0.0,
        variational: bool = False,
        *,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(inner)
        self.p = {"input": input, "output": output, "state": state}
        for name, p in self.p.items():
            if not isinstance(p, (int, float)) or not 0 <= p < 1:
                raise ArgumentError(
                    f"DropoutWrapper: {name} is the probability to drop and must be in [0, 1), "
                    f"got {p!r}"
                )
        if not isinstance(generator, np.random.Generator):
            raise ArgumentError("DropoutWrapper: pass generator=np.random.default_rng(seed)")
        if state and not self.is_cell:
            kind = type(inner).__name__
            raise ArgumentError(
                f"DropoutWrapper: state={state:g} acts between time steps, but {kind} is a layer "
                "that runs over all of them by itself; wrap a cell and run it with nn.unroll: "
                f"nn.unroll(nn.DropoutWrapper(cell, state={state:g}, generator=...), x)"
            )
        if output:
            self._refuse_pair("output dropout")
        self.variational = variational
        self.generator = generator
        self.masks: dict[Any, np.ndarray] | None = None  # kept for a sequence

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
        if not self.training:
            return self._call(self.inner, x, state, lengths)
        if self.p["input"]:
            self._vectors(x, "input dropout")
        drawn = self.generator.bit_generator.state if self.p["input"] else None
        try:
            output, state = self._call(self.inner, self._drop("input", x), state, lengths)
        except MinigradError:  # what is inside refuses its input: as if nothing had been drawn
            if drawn is not None:
                self.generator.bit_generator.state = drawn
            raise
        if self.p["state"]:
            dropped = [
                part if name == "c" else self._drop("state", part, which)
                for which, (name, part) in enumerate(named_parts(self.state_names, state))
            ]
            state = _packed(self.state_names, iter(dropped))
        return self._drop("output", output), state

    def _drop(self, what: str, x: Any, which: int = 0) -> Any:
        """x with some numbers zero and the others scaled up.  which: of several states."""
        p = self.p[what]
        if p == 0:
            return x
        batch_major = not self.is_cell and not self.time_major
        if batch_major:
            x = x.swapaxes(0, 1)  # numbers are drawn with time first
        if self.variational:
            x = x * self._mask(what, x, which)
        else:
            x = F.dropout(x, p, generator=self.generator)
        return x.swapaxes(0, 1) if batch_major else x

    def _mask(self, what: str, x: Any, which: int) -> np.ndarray:
        """0 or 1 / (1 - p) for each number of a step of x, the same for all of a sequence."""
        if self.masks is None and self.is_cell:
            raise ArgumentError(
                "DropoutWrapper: variational=True keeps one mask for all steps of a sequence, but "
                "a cell cannot see where a sequence begins; use nn.unroll(cell, x), or put the "
                "loop over time under 'with nn.one_sequence(cell):'"
            )
        shape, p = x.shape if self.is_cell else (1, *x.shape[1:]), self.p[what]
        masks, key = {} if self.masks is None else self.masks, (what, which, shape, x.dtype)
        if key not in masks:
            keep = self.generator.random(shape, dtype=np.float32) >= p
            masks[key] = keep.astype(x.dtype) / x.dtype.type(1 - p)
        return masks[key]

    def extra_repr(self) -> str:
        """The probabilities to drop that are not zero."""
        shown = ", ".join(f"{name}={p:g}" for name, p in self.p.items() if p)
        return shown + (", variational" if self.variational else "")


def _packed(names: Any, parts: Iterator[Any]) -> Any:
    """Tensors in the order of :func:`named_parts` as a state again."""
    if names == ("h",):
        return next(parts)
    return tuple(next(parts) if isinstance(name, str) else _packed(name, parts) for name in names)


@contextmanager
def one_sequence(module: Any) -> Iterator[None]:
    """``with one_sequence(cell):`` variational dropout masks inside ``cell`` stay the same.

    module: any module; one without DropoutWrapper(variational=True) is left alone.  New masks
    are drawn by the first step in the block.  A block within a block goes on with its masks, so
    several calls of ``nn.unroll`` can be parts of one sequence.
    Raises DTypeError for anything that cannot be called.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> cell = nn.RNNCell(3, 5, generator=rng)
    >>> cell = nn.DropoutWrapper(cell, output=0.5, variational=True, generator=rng)
    >>> with nn.one_sequence(cell):
    ...     one, other = cell(mg.ones(1, 3))[0], cell(mg.ones(1, 3))[0]
    >>> (one == other).all()
    tensor(True)
    """
    if not callable(module):
        raise DTypeError(f"one_sequence: expects a module, got {type(module).__name__}")
    begun = [
        wrapper
        for wrapper in (module.modules() if isinstance(module, Module) else ())
        if isinstance(wrapper, DropoutWrapper) and wrapper.variational and wrapper.masks is None
    ]
    for wrapper in begun:
        wrapper.masks = {}
    try:
        yield
    finally:
        for wrapper in begun:
            wrapper.masks = None


class Residual(_Wrapper):
    """output = inner(x) + x: a shortcut past a cell or layer (He et al. 2016; for stacks of
    LSTMs Wu et al. 2016).

    inner: a cell or layer with outputs as wide as its inputs.  Past the end of a sequence the
    outputs are zero, as they are without it.
    Raises ShapeError if the sizes differ, DTypeError for ids as inputs.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> layer = nn.Residual(nn.RNN(3, 3, generator=rng))
    >>> layer(mg.zeros(2, 7, 3))[0].shape
    (2, 7, 3)
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._refuse_pair("a sum with x")
        if inner.input_size != inner.output_size:
            raise ShapeError(
                f"Residual: {type(inner).__name__} takes inputs of size {inner.input_size} and "
                f"puts out {inner.output_size}; a sum needs both to be equal"
            )

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Tensor, Any]:
        self._vectors(x, "a sum with x")
        output, state = self._call(self.inner, x, state, lengths)
        if lengths is not None:
            x = self._real_steps(x, lengths)
        return output + x, state

    def _real_steps(self, x: Any, lengths: Any) -> Any:
        """x with zeros past the end of each sequence."""
        steps, batch = x.shape[:2] if self.time_major else x.shape[1::-1]
        lengths = checked_lengths("Residual", lengths, steps, batch)
        if lengths is None:
            return x
        return F.where(prepared(_real, lengths, steps, self.time_major), x, 0.0)


def _real(lengths: np.ndarray, steps: int, time_major: bool) -> np.ndarray:
    """Which time steps are before the ends of their sequences, (N, T, 1) or (T, N, 1)."""
    real = np.arange(steps) < lengths[:, None]
    return (real.T if time_major else real)[:, :, None]


class InputProjection(_Wrapper):
    """inner(projection(x)): a dense layer in front of a cell or layer.

    projection: ``nn.Linear(D, E)``, not followed by an activation; inner: a cell or layer with
    inputs of size E.  TensorFlow's ``InputProjectionWrapper``.

    The numbers are those of ``inner(projection(x))``, to rounding.  A layer (or the first of
    ``nn.Stacked``) is given the product of both matrices wherever that is fewer multiply-adds,
    mostly where D < E; see folding.py.  As it depends on T * N whether it is, so do the last bits.

    Raises ShapeError if the sizes differ, DTypeError for anything but a dense layer and a
    recurrence, and for ids as inputs.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> dense, lstm = nn.Linear(3, 8, generator=rng), nn.LSTM(8, 5, generator=rng)
    >>> outputs, (h, c) = nn.InputProjection(dense, lstm)(mg.ones(2, 7, 3))
    >>> outputs.shape, h.shape
    ((2, 7, 5), (2, 5))
    """

    def __init__(self, projection: Linear, inner: Any) -> None:
        if not isinstance(projection, Linear):
            got = type(projection).__name__
            raise DTypeError(
                f"InputProjection: the projection comes first and must be an nn.Linear, got {got}"
            )
        self.projection = projection  # before what is inside: parameters are listed in this order
        super().__init__(inner)
        size, wide = projection.weight.shape
        if inner.input_size != wide:
            raise ShapeError(
                f"InputProjection: {type(inner).__name__} takes inputs of size "
                f"{inner.input_size}, but the projection makes {wide} (its weight is "
                f"{projection.weight.shape})"
            )
        self.input_size = size

    def _run(self, x: Any, state: Any, lengths: Any) -> tuple[Tensor, Any]:
        require_array("InputProjection", x)
        self._vectors(x, "a projection")
        letters = "ND" if self.is_cell else "TND" if self.time_major else "NTD"
        if x.ndim != len(letters) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"InputProjection: x must be ({', '.join(letters)}) with D={self.input_size} "
                f"(the projection's weight is {self.projection.weight.shape}), got "
                f"{axes(x.shape, letters)}"
            )
        same_dtype("InputProjection", x, self.projection.weight)
        if self.is_cell:
            return self._call(self.inner, self.projection(x), state, lengths)
        take, inner = folded(self.projection, self.inner, x.shape[0] * x.shape[1])
        return self._call(inner, take(x), state, lengths)
