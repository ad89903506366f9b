"""The calls of a pending graph: their layers, time steps, shapes, gradients, kept bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Node, saved_arrays, spell_site
from ..nn.module import Module
from ..tensor import Tensor

_JOINS = ("concat", "stack")  # ops that put the time steps of a loop together


@dataclass
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


def trace(outputs: Any, model: Module | None = None) -> Trace:
    """Read the graph behind ``outputs``; a backward pass made later fills in the gradients.

    outputs: a tensor (the loss), or several.  model: names the parameters; without it they
    have the names that ``named_parameters`` gave them last.

    The time step of a call is found by counting: the third product with the same ``w_h``
    belongs to step 2, and so does what follows from it, until the next.

    Raises GraphError if there is no graph, or if it was walked already.
    """
    calls = read(outputs, model)
    for node, call in calls.items():
        call.listen(node)
    return Trace(list(calls.values()))


def read(outputs: Any, model: Module | None) -> dict[Node, Call]:
    """The nodes behind ``outputs``, oldest first, and what there is to say about each."""
    nodes = _nodes(list(outputs) if isinstance(outputs, (tuple, list)) else [outputs])
    named = model.named_parameters() if model is not None else ()
    names = {id(parameter): name for name, parameter in named}
    clock = _Clock(nodes, names)
    place: dict[Node, int] = {}
    calls: list[Call] = []
    for node in nodes:
        parents = [place[arg.node] for arg in _tensors(node) if arg.node is not None]
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
    for node, count in _kept(nodes).items():
        calls[place[node]].kept = count
    return dict(zip(nodes, calls))


def _nodes(roots: Sequence[Any]) -> list[Node]:
    """All nodes behind the roots, oldest first."""
    seen: set[Node] = set()
    stack = [root.node for root in roots if getattr(root, "node", None) is not None]
    if not stack:
        raise GraphError(
            "watch: there is no graph behind this tensor: it was not computed from anything that "
            "requires a gradient"
        )
    while stack:
        node = stack.pop()
        if node not in seen:
            if node.vjp is None:
                raise GraphError(
                    f"watch: the graph behind this tensor was walked already ({node}); look at it "
                    "before loss.backward(), or give that retain_graph=True"
                )
            seen.add(node)
            stack += [arg.node for arg in _tensors(node) if arg.node is not None]
    return sorted(seen, key=lambda node: node.tick)


def _tensors(node: Node) -> list[Tensor]:
    return [arg for arg in node.args if isinstance(arg, Tensor)]


_Use = tuple[str, int, str]  # layer and id of a parameter, name of the op that took it


def _uses(node: Node, names: dict[int, str]) -> Iterator[_Use]:
    """The parameters that a node took."""
    for arg in _tensors(node):
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


# -- memory -----------------------------------------------------------------------------------


def _kept(nodes: list[Node]) -> dict[Node, int]:
    """Bytes that each node keeps alive until it is walked; what two keep counts once.

    The result of an op counts to that op, whoever saved it, and as a whole, even if only a
    part of it was saved.  Of what came from outside (a batch of a data set) the part in use
    counts, to its first user; parameters do not count, they live anyway.
    """
    counted: dict[Any, Any] = {}  # key of a block of memory -> an array that keeps it alive
    given: dict[int, np.ndarray] = {}  # blocks that came from outside
    for node in nodes:
        for arg in node.args:
            if isinstance(arg, Tensor) and arg.node is None and arg.requires_grad:
                block = _block(arg.array)
                counted[id(block)] = block
        for value in _from_outside(node):
            block = _block(value)
            given[id(block)] = block
    result: dict[Node, int] = dict.fromkeys(nodes, 0)

    def count(node: Node, array: np.ndarray) -> None:
        block = _block(array)
        if id(block) in counted:
            return
        key: Any = id(block)
        if key in given:
            key, block = (array.__array_interface__["data"][0], array.nbytes), array
        if key not in counted:
            counted[key] = block
            result[node] += block.nbytes

    for node in nodes:
        for arg in node.args:
            if isinstance(arg, Tensor):
                count(arg.node or node, arg.array)
            elif isinstance(arg, np.ndarray):
                count(node, arg)
        for array in saved_arrays(node.vjp):
            count(node, array)
    return result


def _from_outside(node: Node) -> Iterator[np.ndarray]:
    """Arrays of a call that no op in a graph has made."""
    for value in (*node.args, *node.params.values()):
        if isinstance(value, Tensor) and value.node is None and not value.requires_grad:
            yield value.array
        elif isinstance(value, np.ndarray):
            yield value


def _block(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
