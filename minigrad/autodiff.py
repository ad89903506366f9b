"""The ordered backward walk, and the two ways into it: ``backward()`` and ``grad()``.

It names no op and never imports Tensor; see :mod:`minigrad.nodes` for what it walks on.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import anomaly
from .errors import DTypeError, GraphError, ShapeError
from .nodes import Node, call_site, enable_grad, refuse_on_tape
from .recording import cannot_repeat, reshaped, summed

# -- the walk -------------------------------------------------------------------------------


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``gradient`` over the axes along which ``shape`` was broadcast.

    Works on arrays and, in a replay, on tensors.  Raises ShapeError if no broadcasting
    leads from ``shape`` to ``gradient.shape``.
    """
    extra = len(gradient.shape) - len(shape)
    pairs = list(zip(gradient.shape[max(extra, 0) :], shape))
    if extra < 0 or any(n != s and s != 1 for n, s in pairs):
        raise ShapeError(f"a gradient of shape {gradient.shape} does not fit shape {shape}")
    axes = tuple(range(extra)) + tuple(
        i + extra for i, (n, s) in enumerate(pairs) if n != s
    )
    return reshaped(summed(gradient, axes), shape)


def fit(node: Any, gradient: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Bring a vjp's result to the shape and dtype of the input it belongs to.

    node: has the attributes name, args and outputs of a :class:`minigrad.nodes.Node`.
    """
    if gradient.shape != shape:
        try:
            gradient = unbroadcast(gradient, shape)
        except ShapeError:
            raise ShapeError(
                f"the vjp of {node.name} returned a gradient of shape {gradient.shape} "
                f"for an input of shape {shape}"
            ) from None
    if gradient.dtype != dtype:
        values = [getattr(arg, "array", arg) for arg in node.args]
        promoting = any(
            isinstance(value, list) or getattr(value, "dtype", dtype).kind in "iu"
            for value in values
        )
        if node.outputs[0][1] == dtype and not promoting:  # then the vjp itself is wrong
            raise DTypeError(
                f"the vjp of {node.name} returned a {gradient.dtype} gradient for a {dtype} input"
            )
        gradient = gradient.astype(dtype)
        cannot_repeat()
    return gradient


def _needed(roots: Sequence[Any], wanted: Sequence[Any]) -> tuple[set[Node], list[Node]]:
    """Nodes on a path from a root to a ``wanted`` variable; freed nodes met on the way."""
    targets = {id(v) for v in wanted}
    inner = {v.node for v in wanted if v.node is not None}
    seen: set[Node] = set()
    stack = [r.node for r in roots if r.node is not None]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += [p.node for p in node.parents if p is not None and p.node is not None]
    needed = inner & seen
    for node in sorted(seen, key=lambda n: n.tick):
        if any(p is not None and (id(p) in targets or p.node in needed) for p in node.parents):
            needed.add(node)
    return needed, [node for node in seen if node.vjp is None]


def walk(
    roots: Sequence[Any],
    seeds: Sequence[Any],
    *,
    wanted: Sequence[Any] | None = None,
    retain: bool = False,
    replay: bool = False,
) -> list[tuple[Any, Any]]:
    """Carry ``seeds`` (dL/droot) back through the graph.

    roots, seeds: variables and arrays (tensors if ``replay``) of the same shapes.
    wanted: variables to return gradients for; all leaves that require one if None.
    retain: keep what the nodes saved, so that the graph can be walked again.
    replay: re-run each op on tensors, so that the gradients are differentiable themselves.

    Returns (variable, gradient) pairs, each gradient in memory of its own.  Nothing but
    the nodes is changed, so a failing walk leaves every ``.grad`` as it was.
    """
    refuse_on_tape("walks back through the graph")
    site = call_site()
    watcher = anomaly.watcher() if anomaly.entered else None
    pending: dict[Node, list[Any]] = {}  # gradient of each output, as far as it is known
    heap: list[tuple[int, Node]] = []
    found: dict[Any, Any] = {}  # leaf, or wanted inner variable -> gradient
    needed: set[Node] | None = None
    captured: dict[Node, list[Any]] = {}
    goal = {id(v) for v in wanted or ()}
    if wanted is not None:
        needed, freed = _needed(roots, wanted)
        if freed and (needed.isdisjoint(r.node for r in roots) or not needed.isdisjoint(freed)):
            freed[0].refuse_second_walk()
        for variable in wanted:
            if variable.node is not None:
                captured.setdefault(variable.node, []).append(variable)

    def deliver(variable: Any, gradient: Any) -> None:
        node = variable.node
        if node is None:
            before = found.get(variable)
            found[variable] = gradient if before is None else before + gradient
            return
        if needed is not None and node not in needed:
            return
        slots = pending.get(node)
        if slots is None:
            if node.vjp is None:
                node.refuse_second_walk()
            slots = pending[node] = [None] * len(node.outputs)
            heapq.heappush(heap, (-node.tick, node))
        before = slots[variable.slot]
        slots[variable.slot] = gradient if before is None else before + gradient

    for root, seed in zip(roots, seeds):
        if watcher is not None:
            watcher.look_at_gradient(seed, "the gradient that the backward pass begins with")
        deliver(root, seed)
    while heap:
        node = heapq.heappop(heap)[1]
        slots = pending.pop(node)
        node.refuse_changed_data(replay)
        if node.hooks is not None:
            for slot, hooks in node.hooks.items():
                for hook in hooks:
                    if slots[slot] is not None:
                        slots[slot] = hook(slots[slot])
        for variable in captured.get(node, ()):
            if slots[variable.slot] is not None:
                found[variable] = slots[variable.slot]
        parents = node.parents
        if needed is not None:
            parents = [
                p if id(p) in goal or getattr(p, "node", None) in needed else None for p in parents
            ]
            if not any(p is not None for p in parents):
                continue  # a wanted variable beyond which nothing is: not walked, so not freed
        vjp = node.replayed() if replay else node.vjp
        incoming = incoming_of(node, slots) if node.many else slots[0]
        gradients = gradients_of(vjp, parents, incoming)
        if watcher is not None:
            watcher.look_at_gradients(node, incoming, gradients)
        for parent, gradient in zip(parents, gradients):
            if parent is not None and gradient is not None:
                array = parent.array
                if gradient.shape != array.shape or gradient.dtype != array.dtype:
                    gradient = fit(node, gradient, array.shape, array.dtype)
                deliver(parent, gradient)
        if not retain:
            node.release(site)
    for variable in found:
        if variable.node is None and variable.hooks:
            for hook in variable.hooks:
                found[variable] = hook(found[variable])
    if watcher is not None:
        for gradient in found.values():
            watcher.look_at_gradient(gradient, "a sum of gradients, or what a hook made of one")
        watcher.backward_passes += 1
    return _separate(found, seeds)


def gradients_of(vjp: Any, wanted: Sequence[Any], incoming: Any) -> Sequence[Any]:
    """What a vjp gives the inputs of its op; wanted: None for those that ask for nothing.

    vjp: one function for all inputs, or for the only one; or a tuple of functions, one for each:
    then only what is wanted is computed.  If its last two are the same function, that returns
    the gradients of both inputs, made in one pass over ``incoming``.
    """
    if type(vjp) is not tuple:
        gradients = vjp(incoming)
        return gradients if type(gradients) is tuple else (gradients,)
    if len(vjp) > 1 and vjp[-1] is vjp[-2]:
        *others, both, _ = vjp
        asked = wanted[len(others)] is not None or wanted[len(others) + 1] is not None
        return [
            *(None if want is None else f(incoming) for want, f in zip(wanted, others)),
            *(both(incoming) if asked else (None, None)),
        ]
    return [
        None if want is None else function(incoming) for want, function in zip(wanted, vjp)
    ]


def incoming_of(call: Any, slots: list[Any]) -> Any:
    """Gradients of an op's several results as its vjp takes them; None: nobody used that one.

    call: a Node, or what has its ``op`` and ``outputs``.
    """
    if getattr(call.op, "takes_gaps", False):
        return slots
    return tuple(
        np.zeros(shape, dtype) if gradient is None else gradient
        for gradient, (shape, dtype, _) in zip(slots, call.outputs)
    )


def _separate(found: dict[Any, Any], seeds: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Give every gradient memory of its own, so that clipping one cannot change another."""
    taken = {id(seed) for seed in seeds}
    result = []
    for variable, gradient in found.items():
        if isinstance(gradient, np.ndarray):
            if gradient.base is not None or id(gradient) in taken:
                gradient = gradient.copy()
            taken.add(id(gradient))
        elif isinstance(gradient, np.generic):
            gradient = np.asarray(gradient)
        result.append((variable, gradient))
    return result


# -- the two ways in ------------------------------------------------------------------------


def _seed(output: Any, gradient: Any, caller: str) -> np.ndarray:
    """dL/doutput as an array: one for a scalar, else what the caller gave."""
    if not getattr(output, "requires_grad", False):
        raise GraphError(
            f"{caller}: this tensor does not depend on anything that requires a gradient. "
            "Make the leaves with requires_grad=True, and do not compute it under no_grad() "
            "or from detached tensors."
        )
    data = output.array
    if gradient is None:
        if data.size != 1:
            raise GraphError(
                f"{caller}: a tensor of shape {data.shape} has no single gradient. Reduce it "
                f"to a scalar first (loss.mean(), loss.sum()), or pass gradient= with shape "
                f"{data.shape}."
            )
        return np.ones(data.shape, data.dtype)
    value = np.asarray(getattr(gradient, "array", gradient))
    if value.dtype.kind not in "fiub":
        raise DTypeError(f"{caller}: gradient must be real numbers, got {value.dtype}")
    value = value.astype(data.dtype, copy=False)
    if value.shape != data.shape:
        raise ShapeError(
            f"{caller}: gradient has shape {value.shape}, the tensor has shape {data.shape}"
        )
    return value


def backward(
    root: Any, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False
) -> None:
    """Add dL/dleaf to ``leaf.grad`` for every leaf that ``root`` depends on.

    gradient: dL/droot, needed unless ``root`` has one element.
    retain_graph: keep the graph for another walk (default: what ``create_graph`` is).
    create_graph: record the backward computation itself, for higher derivatives.
    Raises GraphError (not scalar, nothing to differentiate, walked already, no second
    derivative) and InplaceError; every ``.grad`` is then as it was.
    """
    seed = _seed(root, gradient, "backward()")
    retain = create_graph if retain_graph is None else retain_graph
    if create_graph:
        with enable_grad():
            given = getattr(gradient, "requires_grad", False)
            start = gradient if given else root.wrap(seed)
            found = walk([root], [start], retain=retain, replay=True)
            for leaf, value in found:
                leaf.grad = value if leaf.grad is None else leaf.grad + value
        return
    for leaf, value in walk([root], [seed], retain=retain):
        leaf.accumulate(value)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Gradients of ``outputs`` with respect to ``inputs``; no ``.grad`` is touched.

    outputs, inputs, grad_outputs: a tensor or a sequence of them; gradients of several
    outputs are summed.  Only the part of the graph between them is walked.
    Returns one tensor for each input (None for one that does not matter, if
    ``allow_unused``).  Raises GraphError as :func:`backward` does.

    >>> import minigrad as mg
    >>> x = mg.tensor(3.0, requires_grad=True)
    >>> mg.grad(x * x, x)
    (tensor(6.),)
    """
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    inputs = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    if not isinstance(grad_outputs, (tuple, list)):
        grad_outputs = [grad_outputs] * len(outputs)
    if len(grad_outputs) != len(outputs):
        raise ShapeError(f"grad(): {len(outputs)} outputs but {len(grad_outputs)} grad_outputs")
    for i, variable in enumerate(inputs):
        if not getattr(variable, "requires_grad", False):
            raise GraphError(f"grad(): input {i} does not require a gradient")
    seeds = [_seed(o, g, "grad()") for o, g in zip(outputs, grad_outputs)]
    retain = create_graph if retain_graph is None else retain_graph
    if create_graph:
        with enable_grad():
            start = [
                g if getattr(g, "requires_grad", False) else o.wrap(s)
                for o, g, s in zip(outputs, grad_outputs, seeds)
            ]
            pairs = walk(outputs, start, wanted=inputs, retain=retain, replay=True)
    else:
        pairs = walk(outputs, seeds, wanted=inputs, retain=retain)
    values = {id(variable): value for variable, value in pairs}
    result = []
    for i, variable in enumerate(inputs):
        value = values.get(id(variable))
        if value is None and not allow_unused:
            raise GraphError(
                f"grad(): the outputs do not depend on input {i} (shape {variable.array.shape}). "
                "Pass allow_unused=True to get None for it."
            )
        result.append(variable.wrap(value) if isinstance(value, np.ndarray) else value)
    return tuple(result)
