"""The nodes behind a tensor, and the memory that each of them keeps for the backward pass.

:mod:`minigrad.watch` records with it, ``Module.summary`` adds up with it, ``mg.graph`` draws with
it.  Like :mod:`minigrad.nodes` it never imports Tensor: a variable is whatever has a ``storage``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .errors import GraphError
from .nodes import Node, saved_arrays


def nodes_behind(outputs: Any, caller: str) -> list[Node]:
    """All nodes that ``outputs`` (a tensor, or several) were computed by, oldest first.

    caller: how messages begin.  Raises GraphError if there is no graph, or if it was walked.
    """
    roots = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    seen: set[Node] = set()
    stack = [root.node for root in roots if getattr(root, "node", None) is not None]
    if not stack:
        raise GraphError(
            f"{caller}: there is no graph behind this tensor: it was not computed from anything "
            "that requires a gradient"
        )
    while stack:
        node = stack.pop()
        if node not in seen:
            if node.vjp is None:
                raise GraphError(
                    f"{caller}: the graph behind this tensor was walked already ({node}); look at "
                    "it before loss.backward(), or give that retain_graph=True"
                )
            seen.add(node)
            stack += [arg.node for arg in variables(node) if arg.node is not None]
    return sorted(seen, key=lambda node: node.tick)


def variables(node: Node) -> list[Any]:
    """The tensors that an op was called with."""
    return [arg for arg in node.args if hasattr(arg, "storage")]


def bytes_kept(nodes: Sequence[Node]) -> dict[Node, int]:
    """Bytes that each node keeps alive until it is walked; what two keep counts once.

    The result of an op counts to that op, whoever saved it, and as a whole, even if only a
    part of it was saved.  Of what came from outside (a batch of a data set) the part in use
    counts, to its first user; parameters do not count, they live anyway.
    """
    counted: dict[Any, Any] = {}  # key of a block of memory -> an array that keeps it alive
    given: dict[int, np.ndarray] = {}  # blocks that came from outside
    for node in nodes:
        for arg in variables(node):
            if arg.node is None and arg.requires_grad:
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
            if hasattr(arg, "storage"):
                count(arg.node or node, arg.array)
            elif isinstance(arg, np.ndarray):
                count(node, arg)
        for array in saved_arrays(node.vjp):
            count(node, array)
    return result


def _from_outside(node: Node) -> Iterator[np.ndarray]:
    """Arrays of a call that no op in a graph has made."""
    for value in (*node.args, *node.params.values()):
        if hasattr(value, "storage") and value.node is None and not value.requires_grad:
            yield value.array
        elif isinstance(value, np.ndarray):
            yield value


def _block(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
