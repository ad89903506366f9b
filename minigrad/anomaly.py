"""Anomaly mode: where in a training the first NaN or infinity appeared.

While nobody is in that mode, :func:`minigrad.tensor.apply` and the backward walk ask whether a
list is empty, and nothing else.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, DTypeError, NonFiniteError
from .nodes import call_site, refuse_on_tape, spell_site

entered: list[Any] = []  # everybody who is in the mode, in any thread


class _Mine(threading.local):
    innermost: detect_anomaly | None = None


_mine = _Mine()


def watcher() -> detect_anomaly | None:
    """Who looks at the ops of this thread, if anybody does."""
    return _mine.innermost


class detect_anomaly:
    """``with detect_anomaly():`` the first op with a NaN or an infinity is named (this thread).

        with mg.detect_anomaly():
            for x, y in batches:
                loss = loss_of(model(x), y)
                optimizer.zero_grad()
                loss.backward()                 # raises NonFiniteError
                optimizer.step()

    The error names the op, the line of the program that called it, whether it was computing its
    result or a gradient of which argument, the index, what it was given, and the step.  A fused
    layer is one op, of which the index tells the time step; functions made by ``mg.capture`` run
    as they were written, so that their ops can be seen (those of a graph made before are not).

    step: number of the training step, if you count yourself; it may also be set later
    (``with detect_anomaly() as anomaly: anomaly.step = i``).  Otherwise backward passes are
    counted from 0, those that went well.
    infinity: whether infinities count.  False for programs that mask with -inf.

    Also a decorator.  Every result is looked at, which takes time; outside of such a block
    nothing is.  When it raises, no ``.grad`` was changed by that backward pass.

    Raises DTypeError for a step that is no integer, ArgumentError for a negative one.

    Source: the idea and the name are those of ``torch.autograd.detect_anomaly``.

    >>> import minigrad as mg
    >>> from minigrad.errors import NonFiniteError
    >>> try:
    ...     with mg.detect_anomaly():
    ...         mg.ones(3) * float("inf")
    ... except NonFiniteError as error:
    ...     print(str(error).split(" (")[0])
    detect_anomaly: multiply
    """

    def __init__(self, step: int | None = None, *, infinity: bool = True) -> None:
        if step is not None:
            if isinstance(step, bool) or not isinstance(step, (int, np.integer)):
                raise DTypeError(f"detect_anomaly: step must be an integer or None, got {step!r}")
            if step < 0:
                raise ArgumentError(f"detect_anomaly: step must not be negative, got {step}")
        if not isinstance(infinity, (bool, np.bool_)):
            raise DTypeError(f"detect_anomaly: infinity must be True or False, got {infinity!r}")
        self.step = step
        self.infinity = infinity
        self.backward_passes = 0  # that went well
        self._before: list[detect_anomaly | None] = []

    def __enter__(self) -> detect_anomaly:
        refuse_on_tape("enters detect_anomaly()")
        self._before.append(_mine.innermost)
        _mine.innermost = self
        entered.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _mine.innermost = self._before.pop()
        entered.remove(self)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with detect_anomaly(self.step, infinity=self.infinity):
                return function(*args, **kwargs)

        return wrapped

    # -- what apply and the walk show it --------------------------------------------------

    def look_at_result(self, op: Any, values: Sequence[Any], results: Sequence[np.ndarray]) -> None:
        """values: what the op was called with; results: what came out."""
        for number, y in enumerate(results):
            fault = self._fault(y)
            if fault is None:
                continue
            what = "its result" if len(results) == 1 else f"its result {number}"
            over_time = number == 0 and getattr(op, "over_time", False)
            axes = ", time steps first" if over_time else ""
            raise NonFiniteError(
                f"detect_anomaly: {_name(op)} (called at {spell_site(call_site())}) gave {fault} "
                f"of {what}, shape {y.shape}{axes}, {self._when('forward')}. {self._given(values)}"
            )

    def look_at_gradient(self, gradient: Any, what: str) -> None:
        """A gradient that does not come from an op; ``what`` says whose."""
        fault = self._fault(getattr(gradient, "array", gradient))
        if fault is not None:
            raise NonFiniteError(
                f"detect_anomaly: {what}, shape {gradient.shape}, has {fault}, "
                f"{self._when('backward')}"
            )

    def look_at_gradients(self, node: Any, incoming: Any, gradients: Sequence[Any]) -> None:
        """node: whose vjp was called with ``incoming``; gradients: of its arguments, or None."""
        for number, (parent, gradient) in enumerate(zip(node.parents, gradients)):
            if parent is None:  # nobody wants it
                continue
            array = getattr(gradient, "array", gradient)
            fault = None if array is None else self._fault(array)
            if fault is None:
                continue
            came = incoming if isinstance(incoming, (tuple, list)) else [incoming]
            flaws = [self._fault(getattr(g, "array", g)) for g in came if g is not None]
            flaw = next((flaw for flaw in flaws if flaw is not None), None)
            came_in = "finite" if flaw is None else f"not finite any more (a hook?): {flaw}"
            values = [getattr(arg, "array", arg) for arg in node.args]
            raise NonFiniteError(
                f"detect_anomaly: the gradient of argument {number} of {node.name} (called at "
                f"{spell_site(node.site)}), shape {array.shape}, has {fault}, "
                f"{self._when('backward')}. The gradient of its result is {came_in}. "
                f"{self._given(values)}"
            )

    # -- words ------------------------------------------------------------------------------

    def _fault(self, array: Any) -> str | None:
        """``NaN at index (0, 3)``; None if there is nothing wrong."""
        if not isinstance(array, (np.ndarray, np.generic)) or array.dtype.kind != "f":
            return None
        bad = ~np.isfinite(array) if self.infinity else np.isnan(array)
        if not bad.any():
            return None
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        value = np.asarray(array)[index]
        word = "NaN" if np.isnan(value) else "inf" if value > 0 else "-inf"
        return f"{word} at index {index}" if index else word

    def _given(self, values: Sequence[Any]) -> str:
        """What an op was given, in a sentence."""
        told = []
        for number, value in enumerate(values):
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not value.size:
                continue
            fault = self._fault(value)
            within = f"in [{value.min():.4g}, {value.max():.4g}]"
            state = within if fault is None else f"has {fault} already"
            told.append(f"argument {number} {value.shape} {state}")
        return f"It was given {', '.join(told)}." if told else "It was given no floats."

    def _when(self, way: str) -> str:
        if self.step is not None:
            return f"{way}, in step {self.step}"
        return f"{way}, in step {self.backward_passes} (backward passes so far)"


def _name(op: Any) -> str:
    return getattr(op, "__name__", type(op).__name__)
