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

or, with everything that a training step does in it:

    step = mg.capture(loss_of, optimizer=optimizer, clip_norm=5.0)
    for x, y in batches:
        loss, state = step(x, y, state)

The first two calls with arguments of one kind run as they would without ``capture``, and what
they did is compared: a dropout mask made outside of an op, say, would be another one each
time, and is reported.  From the third on the recorded ops are replayed, with the same bits.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from . import anomaly
from .errors import ArgumentError, CaptureError, DTypeError
from .kernels import mode as kernel_mode
from .nodes import call_site, mode, refuse_on_tape, switches
from .program import Program
from .rerun import Rerun
from .tensor import Tensor, apply, around

_NOTHING = dict, ()  # the form of no keyword arguments
_KEPT = 16  # programs of one function; who has arguments of more kinds records anew


class Captured:
    """What :func:`capture` returns; called like the function itself.

    ``programs`` counts the kinds of arguments that are replayed by now.  ``clip_report`` is the
    :class:`minigrad.optim.ClipReport` of the last call with ``clip_norm``, else None.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        backward: bool = False,
        optimizer: Any = None,
        clip_norm: float | None = None,
    ) -> None:
        if optimizer is None and clip_norm is not None:
            raise ArgumentError("capture: clip_norm is for optimizer=, which was not given")
        if optimizer is not None and not hasattr(optimizer, "on_gradients"):
            raise DTypeError(
                "capture: optimizer must be one of minigrad.optim, got "
                f"{type(optimizer).__name__}"
            )
        functools.update_wrapper(self, function)
        self.function = function
        self.backward = backward or optimizer is not None
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.clip_report: Any = None
        self._one_at_a_time = threading.RLock()  # for training steps: they change parameters
        self._kinds: OrderedDict[Any, _Kind] = OrderedDict()
        self._last: tuple[Any, _Kind | None] = None, None  # comparing is quicker than looking up

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if mode.tape is not None:  # inside of another captured function, which records
            if self.backward:
                refuse_on_tape("walks back through the graph")
            return self.function(*args, **kwargs)
        leaves: list[Any] = []
        parts = tuple([_take_apart(value, leaves) for value in args])
        form = parts, _take_apart(kwargs, leaves) if kwargs else _NOTHING
        key = form, mode.grad, switches(), kernel_mode()
        if anomaly.entered and anomaly.watcher() is not None:  # it wants to see every op
            kind: _Kind | None = _Kind(self.function)
        else:
            last, kind = self._last
            if last != key:
                kind = self._kinds.get(key)
        if kind is None or not kind.fits():
            kind = self._kinds[key] = _Kind(self.function)
            while len(self._kinds) > _KEPT:
                self._kinds.popitem(last=False)
        self._last = key, kind
        if self.optimizer is not None:
            return self._train(kind, form, leaves, call_site())
        if self.backward:
            return kind.with_gradients(form, leaves)
        form, outputs = kind.call(form, leaves)
        return _put_together(form, iter(outputs))

    def _train(self, kind: _Kind, form: Any, leaves: list[Any], site: Any) -> Any:
        """A whole training step: at once if that is possible, else of its parts."""
        optimizer, clip_norm = self.optimizer, self.clip_norm
        with self._one_at_a_time:
            self.clip_report = None
            arrays = kind.ready_for_both(leaves)
            if arrays is not None and kind.rerun is not None:
                done = kind.rerun.train(arrays, optimizer, clip_norm, site)
                if done is not None:
                    results, self.clip_report = done
                    if kind.single:
                        return around(results[0])
                    return _put_together(kind.form, iter([around(y) for y in results]))
            optimizer.zero_grad()
            result = kind.with_gradients(form, leaves)
            if clip_norm is not None:
                self.clip_report = optimizer.clip_grad_norm_(clip_norm)
            optimizer.step()
            return result

    def __repr__(self) -> str:
        return f"<captured {getattr(self, '__name__', 'function')}, {self.programs} programs>"

    @property
    def programs(self) -> int:
        """How many kinds of arguments are replayed."""
        return sum(kind.program is not None for kind in self._kinds.values())


def capture(
    function: Callable[..., Any] | None = None,
    *,
    backward: bool = False,
    optimizer: Any = None,
    clip_norm: float | None = None,
) -> Any:
    """``function`` with its ops recorded once for each kind of arguments, and then replayed.

    function: takes tensors, arrays, and tuples, lists and dicts of them; returns tensors in the
    same forms.  Arguments are of one kind if shapes, dtypes, requires_grad and all other
    values (numbers, strings, None) are the same; so are the modes of modules and no_grad.
    backward: whether a call walks back from the first tensor returned, the loss, at once: it
    adds to ``.grad`` as ``loss.backward()`` would, and all that it returns is detached.  That
    saves the last of the graph, which for the smallest models is worth it.
    optimizer: a call is a whole training step, ``optimizer.zero_grad()``, the function,
    ``loss.backward()`` and ``optimizer.step()``, for the optimiser's parameters.  Its settings
    may change between calls.  ``.grad`` is overwritten by the next call: copy what is to stay.
    clip_norm: with an optimizer, ``clip_grad_norm_(parameters, clip_norm)`` comes before its
    step, and its report is in ``clip_report`` of what is returned here.

    Everything that changes from call to call must be an argument, a parameter, or drawn
    inside an op (as nn.Dropout does): a replay does not run the function.  Lengths and ids are
    arguments like others; what layers and nn.seq2seq make of them is made anew.  Without
    ``backward`` losses are returned and walked back outside, as always.
    Recorders of :mod:`minigrad.watch` see everything: while one listens, nothing is replayed.
    Second derivatives need the function itself.

    As a decorator: ``@mg.capture`` or ``@mg.capture(backward=True)``.  Returns a
    :class:`Captured`.

    Raises CaptureError at the second call if the two recordings differ, or for what a
    replay would leave out: changes in place, a backward pass or a hook inside.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> layer = nn.Linear(3, 2, generator=rng)
    >>> loss_of = mg.capture(lambda x: mg.square(layer(x)).mean())
    >>> for _ in range(4):
    ...     loss_of(mg.ones(5, 3)).backward()
    >>> loss_of.programs
    1
    """
    if function is not None and not callable(function):
        raise DTypeError(f"capture: expects a function, got {type(function).__name__}")
    if function is None:
        return functools.partial(
            Captured, backward=backward, optimizer=optimizer, clip_norm=clip_norm
        )
    return Captured(function, backward, optimizer, clip_norm)


class _Kind:
    """Recording, comparing and replaying for arguments of one kind."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.first: Program | None = None
        self.program: Program | None = None
        self.rerun: Rerun | None = None
        self.replay: Callable[..., Any] = function  # an op, once there is a program
        self.form: Any = None  # of the result
        self.single = False  # whether that is one tensor
        # tensors used from outside, their arrays, and whether they require a gradient
        self.held: list[tuple[Tensor, np.ndarray, bool]] = []

    def fits(self) -> bool:
        """Whether the tensors used from outside are still of the kinds they were."""
        for tensor, array, wanted in self.held:
            if tensor.array is not array or tensor.requires_grad != wanted:
                break
        else:
            return True
        for tensor, before, wanted in self.held:
            array = tensor.array
            if (array.dtype, array.shape) != (before.dtype, before.shape):
                return False
            if tensor.requires_grad != wanted:
                return False
        self._hold()
        self.rerun = None  # other memory
        return True

    def _hold(self) -> None:
        externals = self.program.externals if self.program is not None else []
        self.held = [(t, t.array, t.requires_grad) for t in externals]

    def call(self, form: Any, leaves: list[Any]) -> tuple[Any, Any]:
        """Form and tensors of the result."""
        leaves = [_contiguous(leaf) for leaf in leaves]
        if self.program is None:
            return self.record(form, leaves)
        outputs = apply(self.replay, *leaves, *self.program.externals)
        wanted = self.program.grads
        return self.form, [y if w else y.detach() for y, w in zip(outputs, wanted)]

    def ready_for_both(self, leaves: list[Any]) -> list[np.ndarray] | None:
        """The arrays of the arguments, if forward and backward can be done without a graph."""
        if self.rerun is None or not self.rerun.works or self.program is None:
            return None
        for tensor in self.program.externals:
            if tensor.hooks or tensor.node is not None:
                return None
        arrays = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                if leaf.hooks or leaf.node is not None:
                    return None
                leaf = leaf.array
            arrays.append(leaf)
        return arrays

    def with_gradients(self, form: Any, leaves: list[Any]) -> Any:
        """The result, detached, after its first tensor was walked back."""
        arrays = self.ready_for_both(leaves)
        if arrays is not None and self.rerun is not None and self.program is not None:
            done = self.rerun.both(arrays)
            if done is not None:
                results, gradients = done
                for tensor, gradient in zip([*leaves, *self.program.externals], gradients):
                    if gradient is not None:
                        tensor.accumulate(gradient)
                return _put_together(self.form, iter([around(y) for y in results]))
        result_form, outputs = self.call(form, leaves)
        if not outputs or not outputs[0].requires_grad:
            raise CaptureError(
                f"capture: with backward=True {_name(self.function)} must return the loss first, "
                "and it must depend on something that requires a gradient"
            )
        outputs[0].backward()
        return _put_together(result_form, iter([y.detach() for y in outputs]))

    def record(self, form: Any, leaves: list[Any]) -> tuple[Any, Any]:
        """Run the function with its calls written down; compare if it is the second time."""
        mode.tape = []
        try:
            rest = iter(leaves)
            args = [_put_together(part, rest) for part in form[0]]
            kwargs = _put_together(form[1], rest)
            result = self.function(*args, **kwargs)
            tape = mode.tape
        finally:
            mode.tape = None
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
            return self.form, outputs
        if -1 in program.results:
            raise CaptureError(
                f"capture: {_name(self.function)} returned a tensor that is neither an argument "
                "nor made by an op"
            )
        program.forget_arrays()
        if self.first is None:
            self.first = program
            return self.form, outputs
        difference = program.difference(self.first)
        self.first = None
        if difference:
            raise CaptureError(
                f"capture: {_name(self.function)} did not do the same twice: {difference}. What "
                "changes from call to call must be an argument, a parameter or be made by an op."
            )
        self.replay = self._op(program)
        self.program = program
        self.single = self.form[0] == "tensor"
        self._hold()
        return self.form, outputs

    def _op(self, program: Program) -> Callable[..., Any]:
        """The program in the form of an op; see :mod:`minigrad.ops`."""
        count = program.inputs

        def replay(*arrays: Any) -> Any:
            inputs = arrays[:count]
            if program.repeatable:
                rerun = self.rerun
                if rerun is None:
                    rerun = Rerun(program, inputs)
                    done = rerun.first()  # before any other thread may use its buffers
                    self.rerun = rerun
                    return done
                done = rerun.run(inputs) if rerun.works else None
                if done is not None:
                    return done
            return program.run(inputs)

        replay.__name__ = _name(self.function)
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
    if isinstance(value, np.ndarray):
        leaves.append(value)
        return "array", value.shape, value.dtype
    if isinstance(value, Tensor):
        leaves.append(value)
        array = value.array
        return "tensor", array.shape, array.dtype, value.requires_grad
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


