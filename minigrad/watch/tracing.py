"""The calls of a pending graph: their layers, time steps, shapes, gradients, kept bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..memory import bytes_kept, nodes_behind, variables
from ..nn.module import Module
from ..nodes import Node, spell_site
from ..spelling import short, spell_bytes, spell_shape
from ..tensor import Tensor

_SHOWN = 30  # calls in a notebook
_JOINS = ("concat", "stack")  # ops that put the time steps of a loop together


@dataclass(repr=False)
class Call:
    """One recorded call of an op.

    op: its name.  site: file and line of the user's program.  layer: dotted name of the
    module whose parameters it took, or those that led to it; "" if there are none.
    own: whether it took parameters itself.  t: its time step in a loop over time, or None.
    length: T if it is one call for all time steps, else None.  inputs: places in
    ``Trace.calls`` of the calls it took tensors from.  leaves: names of the parameters it
    took, and the shapes of other arrays, as text.  params: names of the other arguments it
    was given.  shapes: of its results.  kept: bytes it keeps for the backward pass.
    """

    op: str
    site: str
    layer: str
    own: bool
    t: int | None
    length: int | None
    inputs: tuple[int, ...]
    leaves: tuple[str, ...]
    params: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    kept: int = 0
    _squares: dict[int, float] = field(default_factory=dict)  # result -> of its gradient

    @property
    def gradient(self) -> float | None:
        """2-norm of the total gradient of the results; None before a backward pass."""
        return math.sqrt(sum(self._squares.values())) if self._squares else None

    def __repr__(self) -> str:
        where = f"layer {self.layer}, " * bool(self.layer) + f"t={self.t}, " * (self.t is not None)
        size = "" if self.gradient is None else f", |g|={short(self.gradient)}"
        shapes = " ".join(spell_shape(shape) for shape in self.shapes)
        return f"<Call {self.op} at {self.site}: {where}{shapes}, {spell_bytes(self.kept)}{size}>"

    def listen(self, node: Node) -> None:
        """Let a backward pass through ``node`` write the norms of its gradients here."""

        def hook_for(slot: int) -> Any:
            def hook(gradient: Any) -> Any:
                array = getattr(gradient, "array", gradient)
                self._squares[slot] = float(np.sum(np.square(array, dtype=np.float64)))
                return gradient

            return hook

        node.hooks = node.hooks or {}
        for slot in range(len(node.outputs)):
            node.hooks.setdefault(slot, []).append(hook_for(slot))


class Trace:
    """What :func:`trace` returns.  calls: in the order in which they were made."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls

    def __len__(self) -> int:
        return len(self.calls)

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} calls, {sum(call.kept for call in self.calls):,} bytes kept>"

    def _repr_html_(self) -> str:
        from .. import notebook

        rows = [
            (
                call.op, call.layer, "" if call.t is None else call.t,
                " ".join(spell_shape(shape) for shape in call.shapes), spell_bytes(call.kept),
                "" if call.gradient is None else short(call.gradient), call.site,
            )
            for call in self.calls[:_SHOWN]
        ]  # fmt: skip
        header = ("op", "layer", "t", "shapes", "kept", "2-norm of gradient", "called at")
        more = len(self) - _SHOWN
        return notebook.box(
            notebook.heading(f"Trace of {len(self):,} calls"), notebook.table(rows, header),
            notebook.remark(f"and {more:,} more, in .calls") if more > 0 else "",
        )  # fmt: skip


def trace(outputs: Any, model: Module | None = None) -> Trace:
    """Read the graph behind ``outputs``; a backward pass made later fills in the gradients.

    outputs: a tensor (the loss), or several.  model: names the parameters; without it they
    have the names that ``named_parameters`` gave them last.

    The time step of a call is found by counting: the third product with the same ``w_h``
    belongs to step 2, and so does what follows from it, until the next.

    Raises GraphError if there is no graph, or if it was walked already.

    >>> import minigrad as mg
    >>> from minigrad import watch
    >>> x = mg.ones(3, requires_grad=True)
    >>> [call.op for call in watch.trace((x * x).sum()).calls]
    ['multiply', 'sum']
    """
    calls = read(outputs, model)
    for node, call in calls.items():
        call.listen(node)
    return Trace(list(calls.values()))


def read(outputs: Any, model: Module | None) -> dict[Node, Call]:
    """The nodes behind ``outputs``, oldest first, and what there is to say about each."""
    nodes = nodes_behind(outputs, "watch")
    named = model.named_parameters() if model is not None else ()
    names = {id(parameter): name for name, parameter in named}
    clock = _Clock(nodes, names)
    place: dict[Node, int] = {}
    calls: list[Call] = []
    for node in nodes:
        parents = [place[arg.node] for arg in variables(node) if arg.node is not None]
        call = Call(
            node.name, spell_site(node.site), "", False, None, None, tuple(dict.fromkeys(parents)),
            _leaves(node, names), tuple(k for k, v in node.params.items() if v is not None),
            tuple(shape for shape, _, _ in node.outputs),
        )  # fmt: skip
        if any(_uses(node, names)):
            call.own = True
            call.layer, call.t = clock.tell(node)
        elif parents:
            latest = calls[max(parents)]
            steps = {calls[parent].t for parent in parents}
            call.layer = latest.layer
            call.t = None if node.name in _JOINS and len(steps) > 1 else latest.t
        if getattr(node.op, "over_time", False):
            call.length = node.outputs[0][0][0]
        place[node] = len(calls)
        calls.append(call)
    fused = {call.layer for call in calls if call.length is not None}
    for call in calls:
        if call.layer in fused:  # counted were calls of the layer, not time steps
            call.t = None
    _pull_steps(calls)
    for node, count in bytes_kept(nodes).items():
        calls[place[node]].kept = count
    return dict(zip(nodes, calls))


_Use = tuple[str, int, str]  # layer and id of a parameter, name of the op that took it


def _uses(node: Node, names: dict[int, str]) -> Iterator[_Use]:
    """The parameters that a node took."""
    for arg in variables(node):
        if arg.node is None and arg.requires_grad:
            name = names.get(id(arg), getattr(arg, "name", ""))
            yield name.rpartition(".")[0], id(arg), node.name


class _Clock:
    """Tells time steps by counting how often each parameter was used before.

    One that an op takes several times a step (peepholes, say) is used a multiple of T times;
    T is how often the rarest of a layer's parameters was, of those used more than once.
    """

    def __init__(self, nodes: list[Node], names: dict[int, str]) -> None:
        self._names = names
        self._uses = Counter(use for node in nodes for use in _uses(node, names))
        self._before: Counter[_Use] = Counter()
        self._steps: dict[str, int] = {}  # layer -> T
        for (layer, *_), count in self._uses.items():
            if count > 1:
                self._steps[layer] = min(count, self._steps.get(layer, count))

    def tell(self, node: Node) -> tuple[str, int | None]:
        """Layer and time step of a node that takes parameters; to be asked once for each."""
        own = list(_uses(node, self._names))
        use = max(own, key=lambda use: self._uses[use])  # an initial state is used only once
        total, before = self._uses[use], self._before[use]
        self._before.update(own)
        return use[0], before * self._steps[use[0]] // total if total > 1 else None


def _leaves(node: Node, names: dict[int, str]) -> tuple[str, ...]:
    """Parameters by name, other tensors and arrays by shape."""
    found = []
    for arg in node.args:
        if isinstance(arg, Tensor) and arg.node is None:
            name = names.get(id(arg), getattr(arg, "name", ""))
            found.append(name.rpartition(".")[2] or str(arg.shape))
        elif isinstance(arg, np.ndarray):
            found.append(str(arg.shape))
    return tuple(found)


def _pull_steps(calls: list[Call]) -> None:
    """Give a call without a time step (``x[t]``) that of the one step it is made for."""
    wanted: dict[int, set[int | None]] = {}
    for index in range(len(calls) - 1, -1, -1):
        call, steps = calls[index], wanted.get(index, {None})
        if call.t is None and call.length is None and not call.own and len(steps) == 1:
            (call.t,) = steps
        for parent in call.inputs:
            wanted.setdefault(parent, set()).add(call.t)
