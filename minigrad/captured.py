"""``capture``: a function of tensors, recorded twice and from then on replayed.

Building a graph costs Python time, some 10 to 20 us for each op.  A small model spends more on
that than on its arithmetic, and builds the same graph at every step.  A captured function is
one node of the graph, and what is inside is a list of calls on arrays:

    @mg.capture
    def loss_of(x, y, state):
        logits, state = model(x, state)
        return mg.cross_entropy(logits, y), state

    for x, y in batches:
        loss, state = loss_of(x, y, state)
        optimizer.zero_grad()
        loss.backward()
        ...

The first two calls with arguments of one kind run as they would without ``capture``, and what
they did is compared: a dropout mask made outside of an op, say, would be another one each
time, and is reported.  From the third on the recorded ops are replayed, with the same bits.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import CaptureError, DTypeError
from .graph import mode, switches
from .kernels import mode as kernel_mode
from .program import Program
from .rerun import Rerun
from .tensor import Tensor, apply

_KEPT = 16  # programs of one function; who has arguments of more kinds records anew


class Captured:
    """What :func:`capture` returns; called like the function itself.

    ``programs`` counts the kinds of arguments that are replayed by now.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._kinds: OrderedDict[Any, _Kind] = OrderedDict()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves: list[Any] = []
        form = (
            tuple([_take_apart(value, leaves) for value in args]),
            _take_apart(kwargs, leaves) if kwargs else (dict, ()),
        )
        key = form, mode.grad, switches(), kernel_mode()
        kind = self._kinds.get(key)
        if kind is None or not kind.fits():
            kind = self._kinds[key] = _Kind(self.function)
            while len(self._kinds) > _KEPT:
                self._kinds.popitem(last=False)
        if kind.replay is None or mode.tape is not None:
            return kind.record(form, leaves)
        return kind.again(leaves)

    def __repr__(self) -> str:
        return f"<captured {getattr(self, '__name__', 'function')}, {self.programs} programs>"

    @property
    def programs(self) -> int:
        """How many kinds of arguments are replayed."""
        return sum(kind.replay is not None for kind in self._kinds.values())


def capture(function: Callable[..., Any]) -> Captured:
    """``function`` with its ops recorded once for each kind of arguments, and then replayed.

    function: takes tensors, arrays, and tuples, lists and dicts of them; returns tensors in the
    same forms.  Arguments are of one kind if shapes, dtypes, requires_grad and all other
    values (numbers, strings, None) are the same; so are the modes of modules and no_grad.

    Everything that changes from call to call must be an argument, a parameter, or drawn
    inside an op (as nn.Dropout does): a replay does not run the function.  Losses are
    returned and walked back outside, where hooks, clipping and updates are as always.
    Recorders of :mod:`minigrad.watch` see everything: while one listens, nothing is replayed.
    Second derivatives need the function itself.

    Raises CaptureError at the second call if the two recordings differ, or for what a
    replay would leave out: changes in place, a backward pass or a hook inside.
    """
    return Captured(function)


class _Kind:
    """Recording, comparing and replaying for arguments of one kind."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.first: Program | None = None
        self.program: Program | None = None
        self.replay: Callable[..., Any] | None = None  # an op
        self.form: Any = None  # of the result
        self.meant: list[tuple[Any, Any, bool]] = []

    def fits(self) -> bool:
        """Whether the tensors used from outside are still of the kinds they were."""
        return self.program is None or all(
            [
                t.array.dtype is dtype and t.array.shape == shape and t.requires_grad is wanted
                for t, (dtype, shape, wanted) in zip(self.program.externals, self.meant)
            ]
        )

    def record(self, form: Any, leaves: list[Any]) -> Any:
        """Run the function with its calls written down; compare if it is the second time."""
        outer, mode.tape = mode.tape, []
        try:
            leaves = [_contiguous(leaf) for leaf in leaves]
            rest = iter(leaves)
            args = [_put_together(part, rest) for part in form[0]]
            kwargs = _put_together(form[1], rest)
            result = self.function(*args, **kwargs)
            tape = mode.tape
        finally:
            mode.tape = outer
        if outer is not None:  # captured functions inside one another: the outer one records
            outer.extend(tape)
            return result
        outputs: list[Any] = []
        self.form = _take_apart(result, outputs)
        if any(not isinstance(y, Tensor) for y in outputs):
            raise CaptureError(
                f"capture: {_name(self.function)} returned an array; only tensors are replayed "
                "(return the tensor, and take .numpy() outside)"
            )
        tensors = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        arrays = [getattr(leaf, "array", leaf) for leaf in leaves]
        program = Program(tape, arrays, tensors, outputs)
        if program.watched:
            self.first = None
            return result
        if -1 in program.results:
            raise CaptureError(
                f"capture: {_name(self.function)} returned a tensor that is neither an argument "
                "nor made by an op"
            )
        program.forget_arrays()
        if self.first is None:
            self.first = program
            return result
        difference = program.difference(self.first)
        if difference:
            self.first = None
            raise CaptureError(
                f"capture: {_name(self.function)} did not do the same twice: {difference}. What "
                "changes from call to call must be an argument, a parameter or be made by an op."
            )
        self.first, self.program = None, program
        self.meant = [(t.array.dtype, t.array.shape, t.requires_grad) for t in program.externals]
        self.replay = _op(program, _name(self.function))
        return result

    def again(self, leaves: list[Any]) -> Any:
        """Replay, as one op call."""
        program, replay = self.program, self.replay
        assert program is not None and replay is not None
        leaves = [_contiguous(leaf) for leaf in leaves]
        outputs = apply(replay, *leaves, *program.externals)
        results = [y if wanted else y.detach() for y, wanted in zip(outputs, program.grads)]
        return _put_together(self.form, iter(results))


def _op(program: Program, name: str) -> Callable[..., Any]:
    """The program in the form of an op; see :mod:`minigrad.ops`."""
    count = program.inputs
    rerun: Rerun | None = None

    def replay(*arrays: Any) -> Any:
        nonlocal rerun
        inputs = arrays[:count]
        if program.repeatable:
            if rerun is None or not rerun.fits():
                rerun = Rerun(program, inputs)
                return rerun.first()
            done = rerun.run(inputs) if rerun.works else None
            if done is not None:
                return done
        return program.run(inputs)

    replay.__name__ = name
    op: Any = replay
    op.takes_gaps = True
    op.first_order_only = "It is captured; call the function without mg.capture for that."
    return replay


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _contiguous(leaf: Any) -> Any:
    """A leaf whose array is C-contiguous, so that views of it can be found again."""
    array = getattr(leaf, "array", leaf)
    if array.flags.c_contiguous:
        return leaf
    if leaf is array:
        return np.ascontiguousarray(array)
    return leaf.contiguous() if leaf.requires_grad else Tensor(np.ascontiguousarray(array))


# -- arguments and results in any form --------------------------------------------------------


def _take_apart(value: Any, leaves: list[Any]) -> Any:
    """What ``value`` is made of, as something to look up; its tensors and arrays to ``leaves``."""
    if isinstance(value, Tensor):
        leaves.append(value)
        array = value.array
        return "tensor", array.shape, array.dtype, value.requires_grad
    if isinstance(value, np.ndarray):
        leaves.append(value)
        return "array", value.shape, value.dtype
    if isinstance(value, (tuple, list)):
        return type(value), tuple([_take_apart(part, leaves) for part in value])
    if isinstance(value, dict):
        parts = [(name, _take_apart(part, leaves)) for name, part in value.items()]
        return dict, tuple(parts)
    try:
        hash(value)
    except TypeError:
        raise DTypeError(
            f"capture: cannot tell whether two arguments of type {type(value).__name__} are the "
            "same; pass tensors, arrays, numbers, strings, or tuples, lists and dicts of them"
        ) from None
    return "same", value


def _put_together(form: Any, leaves: Any) -> Any:
    """The reverse of :func:`_take_apart`."""
    kind = form[0]
    if kind == "tensor" or kind == "array":
        return next(leaves)
    if kind == "same":
        return form[1]
    if kind is dict:
        return {name: _put_together(part, leaves) for name, part in form[1]}
    parts = [_put_together(part, leaves) for part in form[1]]
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


