"""What the graph is made of: nodes, the clock, in-place changes, ``no_grad``.

A *node* is one call of an op.  It keeps the op, what it was called with, and the
vector-Jacobian product (vjp) the op returned.  A *variable* is anything with the
attributes of :class:`minigrad.Tensor` used below; this module never imports Tensor and
names no op.

One clock orders everything.  A node takes a tick when it is made; data that is changed in
place takes a tick when it is changed.  So "later" is always a comparison of two integers:
the walk visits nodes from the latest to the earliest, a topological order that depends
neither on hashing nor on recursion, and a node older than the last change of an array it
saved knows that its vjp would be wrong.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .errors import CaptureError, GraphError, InplaceError

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

tick = itertools.count(1).__next__  # the one clock; next() on a count is atomic


class _Mode(threading.local):
    grad = True
    tape: list[Any] | None = None  # where minigrad.capture has ops written down


mode = _Mode()


class _GradMode:
    """Context manager and decorator that sets whether ops are recorded in this thread."""

    _value: bool

    def __init__(self) -> None:
        self._before: list[bool] = []  # a stack: one object may be entered twice

    def __enter__(self) -> None:
        self._before.append(mode.grad)
        mode.grad = self._value

    def __exit__(self, *exc: object) -> None:
        mode.grad = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """``with no_grad():`` ops are computed but not recorded (this thread only).

    >>> import minigrad as mg
    >>> x = mg.ones(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    _value = False


class enable_grad(_GradMode):
    """``with enable_grad():`` records again inside a ``no_grad`` block.

    >>> import minigrad as mg
    >>> x = mg.ones(2, requires_grad=True)
    >>> with mg.no_grad():
    ...     with mg.enable_grad():
    ...         y = x * 2
    >>> y.requires_grad
    True
    """

    _value = True


def is_grad_enabled() -> bool:
    """Whether ops on tensors that require a gradient are being recorded.

    >>> import minigrad as mg
    >>> mg.is_grad_enabled()
    True
    """
    return mode.grad


# -- where in the user's program something happened -----------------------------------------


def call_site() -> tuple[Any, int]:
    """Innermost place outside minigrad: a code object and an offset, cheap to keep.

    The frame itself would keep every local variable of the caller alive.
    """
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def spell_site(site: tuple[Any, int] | None) -> str:
    """``call_site()`` as ``file.py:12``, or ``an unknown place``."""
    if site is None:
        return "an unknown place"
    code, offset = site
    line = code.co_firstlineno
    for start, stop, number in code.co_lines():
        if start <= offset < stop and number is not None:
            line = number
    return f"{os.path.basename(code.co_filename)}:{line}"


# -- in-place changes -----------------------------------------------------------------------


class Storage:
    """What the tensors that share one block of memory know together: its last change."""

    __slots__ = ("changed", "array", "how", "site")

    def __init__(self) -> None:
        self.changed = 0  # tick of the last in-place change
        self.array: np.ndarray | None = None  # what was written to
        self.how = ""
        self.site: tuple[Any, int] | None = None


class _Changes:
    last = 0  # tick of the last in-place change anywhere
    switches = 0  # how often a module was told to behave differently


def note_switch() -> None:
    """Say that modules behave differently from now on (training, who watches)."""
    _Changes.switches += 1


def switches() -> int:
    """A number that is another one after every :func:`note_switch`."""
    return _Changes.switches


def refuse_on_tape(what: str) -> None:
    """Raise if the ops of this thread are being recorded by :func:`minigrad.capture`.

    For everything that a replay of the ops would leave out.
    """
    if mode.tape is not None:
        raise CaptureError(
            f"capture: the function {what} (at {spell_site(call_site())}), which replaying its "
            "ops would not repeat; do that outside"
        )


def mark_changed(
    storage: Storage, array: np.ndarray, how: str, site: tuple[Any, int] | None = None
) -> None:
    """Note that ``array`` was written in place; ``how`` names the writer in messages.

    site: where, if the caller has looked it up already.
    """
    if mode.tape is not None:
        refuse_on_tape(f"changes data in place ({how})")
    storage.changed = _Changes.last = tick()
    if storage.array is not None and storage.array is not array:
        # two places were written to: take all of the memory for changed
        array = array.base if isinstance(array.base, np.ndarray) else array
    storage.array = array
    storage.how = how
    storage.site = site or call_site()


def mark_all_changed(
    written: Sequence[tuple[Storage, np.ndarray]], how: str, site: tuple[Any, int]
) -> None:
    """:func:`mark_changed` for several arrays, written at one time and place."""
    if mode.tape is not None:
        refuse_on_tape(f"changes data in place ({how})")
    now = _Changes.last = tick()
    for storage, array in written:
        if storage.array is array:  # as the last time
            storage.changed, storage.how, storage.site = now, how, site
        else:
            mark_changed(storage, array, how, site)


def saved_arrays(vjp: Any, depth: int = 3) -> Iterator[np.ndarray]:
    """The arrays that ``vjp`` (a closure, or a tuple of them) holds; some may come twice."""
    if isinstance(vjp, np.ndarray):
        yield vjp
    elif depth == 0:
        return
    elif isinstance(vjp, (tuple, list)):
        for item in vjp:
            yield from saved_arrays(item, depth)
    elif isinstance(vjp, dict):
        yield from saved_arrays(tuple(vjp.values()), depth)
    else:
        for cell in getattr(vjp, "__closure__", None) or ():
            try:
                content = cell.cell_contents
            except ValueError:  # a name that was never bound
                continue
            yield from saved_arrays(content, depth - 1)


def _saved_by(vjp: Any, array: np.ndarray) -> bool:
    """Whether ``vjp`` holds memory of ``array``."""
    return any(np.may_share_memory(held, array) for held in saved_arrays(vjp))


# -- what errors can tell about a node -------------------------------------------------------

# functions of a tick that name the time it belongs to ("window 3"), or return ""
eras: list[Callable[[int], str]] = []


def name_state(variable: Any, name: str) -> None:
    """Let errors and drawings know ``variable`` as part ``name`` of a recurrent state.

    The first name stays: a stack of layers, which sees a state before its layers do, knows
    more about it.
    """
    node = getattr(variable, "node", None)
    if node is not None:
        if not hasattr(node, "states"):
            node.states = {}
        node.states.setdefault(variable.slot, name)


# -- calls written down for a replay ---------------------------------------------------------


class Call(NamedTuple):
    """One call of an op as :func:`minigrad.tensor.apply` saw it, for :mod:`minigrad.program`."""

    op: Callable[..., Any]
    args: tuple[Any, ...]  # what was given: variables, arrays, numbers
    values: list[Any]  # what the op was called with: their arrays, and the rest
    params: dict[str, Any]
    parents: list[Any]  # variables that want a gradient; None in the other places
    outputs: tuple[Any, ...]  # variables
    node: Node | None
    many: bool


# -- nodes ----------------------------------------------------------------------------------


class Node:
    """One recorded call of an op.

    args: what the op was called with (variables, arrays, numbers); parents: the same
    places, None where no gradient is wanted.  outputs: (shape, dtype, storage) of each
    result.  args, parents and vjp are dropped when the walk has passed.
    """

    __slots__ = (
        "op", "args", "parents", "params", "vjp", "tick", "outputs", "many", "hooks", "site",
        "freed", "retained", "states",
    )  # fmt: skip
    retained: tuple[int, ...]  # slots of outputs that keep .grad; only set if there are any
    states: dict[int, str]  # slots of outputs that are recurrent state; see name_state()

    def __init__(
        self,
        op: Callable[..., Any],
        args: tuple[Any, ...],
        parents: list[Any],
        params: dict[str, Any],
        vjp: Any,
        outputs: tuple[tuple[tuple[int, ...], np.dtype, Storage], ...],
        many: bool,
    ) -> None:
        self.op = op
        self.args = args
        self.parents = parents
        self.params = params
        self.vjp = vjp
        self.outputs = outputs
        self.many = many
        self.hooks: dict[int, list[Callable[[Any], Any]]] | None = None
        self.site = call_site()
        self.freed: tuple[Any, int] | None = None
        self.tick = tick()

    @property
    def name(self) -> str:
        """Name of the op, as in error messages and drawings."""
        return self.op.__name__

    def __repr__(self) -> str:
        return f"<{self.name} at {spell_site(self.site)}>"

    def refuse_second_walk(self) -> None:
        """Raise: what this node saved is gone."""
        raise GraphError(
            f"backward through {self.name!r} (made at {spell_site(self.site)}) a second time: "
            f"its saved arrays were freed by the backward at {spell_site(self.freed)}."
            f"{self._history()} If a state is carried from one window to the next, detach it "
            "(state = state.detach(), or state = nn.detach(state) if it has several parts); to "
            "walk the same graph twice, give the first backward retain_graph=True."
        )

    def _history(self) -> str:
        """A sentence on the state that this node made and on when, as far as is known."""
        names = list(getattr(self, "states", {}).values())
        then, now = ("".join(spell(at) for spell in eras) for at in (self.tick, tick()))
        if not names and not then:
            return ""
        made = f"made {' and '.join(names)} of a recurrent state" if names else "was made"
        during = f" in {then}" if then else ""
        use = f", but is used in {now}" if now and now != then else ""
        return f" It {made}{during}{use}."

    def refuse_changed_data(self, replay: bool) -> None:
        """Raise if an array that the vjp needs was written to after this op ran."""
        if _Changes.last < self.tick:
            return
        vjp = self.vjp
        if type(vjp) is tuple:  # only what computes a gradient that somebody wants
            vjp = [function for function, parent in zip(vjp, self.parents) if parent is not None]
        held = [
            (f"argument {i}", arg.storage, arg.array)
            for i, arg in enumerate(self.args)
            if hasattr(arg, "storage")
        ]
        held += [("its result", storage, None) for _, _, storage in self.outputs]
        for what, storage, own in held:
            array = storage.array
            if storage.changed <= self.tick or array is None:
                continue
            if own is not None and not np.may_share_memory(own, array):
                continue
            if replay or _saved_by(vjp, array):
                raise InplaceError(
                    f"{self.name} (made at {spell_site(self.site)}) saved {what}, shape "
                    f"{array.shape}, for its gradient, but {storage.how} changed it in place at "
                    f"{spell_site(storage.site)} before backward. Call backward() first, or "
                    "change a copy (x = x + 1 instead of x += 1; x.detach().clone())."
                )

    def release(self, site: tuple[Any, int]) -> None:
        """Let go of everything saved; a later walk through here explains itself."""
        self.args = ()
        self.parents = []
        self.vjp = None
        self.freed = site

    def replayed(self) -> Any:
        """The vjp made of tensors, so that what it computes can be differentiated again."""
        reason = getattr(self.op, "first_order_only", None)
        if reason is not None:
            raise GraphError(
                f"{self.name} (made at {spell_site(self.site)}) has no second derivative: "
                f"it is a fused kernel. {reason}"
            )
        return getattr(self.op, "composed", self.op)(*self.args, **self.params)[1]
