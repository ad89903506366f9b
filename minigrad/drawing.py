"""``mg.graph(loss)``: the graph behind a tensor as a picture, written by hand as SVG.

Here is what is drawn and what it says; where the boxes stand is in :mod:`minigrad.layout`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import anomaly, autodiff, svg
from .errors import ArgumentError, DTypeError, MinigradError
from .files import replacing
from .memory import nodes_behind
from .nodes import Node, enable_grad, refuse_on_tape, spell_site
from .spelling import norm, short, spell_shape
from .svg import LETTER
from .tensor import Tensor

_MOST = 200  # boxes; more cannot be read
_KINDS = {"op": "ops", "parameter": "parameters", "input": "inputs"}


@dataclass
class Box:
    """What one box shows.

    kind: "op", "parameter" (a leaf that a gradient is wanted for), "input" (any other tensor or
    array) or "cut" (ops that were left out).  name, shape: its first two lines.  site: where an
    op was called.  gradient: 2-norm of the gradient of the result, None if it is not known.
    """

    kind: str
    name: str
    shape: str
    site: str = ""
    gradient: float | None = None
    inputs: list[int] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """What is written into the box."""
        size = [] if self.gradient is None else [f"|g| {short(self.gradient)}"]
        return [self.name, self.shape, *size]

    @property
    def width(self) -> float:
        """Pixels that the text needs."""
        return max(58.0, 14 + LETTER * max(len(line) for line in self.lines))


class Graph:
    """What :func:`graph` returns: a picture that a notebook shows by itself.

    boxes: what is drawn, each before those that take it; title and note: the lines on top.
    """

    def __init__(self, boxes: list[Box], title: str, note: str) -> None:
        self.boxes = boxes
        self.title = title
        self.note = note

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        return f"<Graph of {self.title}; show it in a notebook, or .save('graph.svg')>"

    def _repr_svg_(self) -> str:
        """The picture, as the text of an SVG file."""
        return svg.picture(self.boxes, self.title, self.note)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; whatever was at ``path`` is replaced whole, or not at all.

        Raises ArgumentError unless the name ends in .svg, OSError if it cannot be written.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise DTypeError(f"Graph.save: path must be a str or a path, not {type(path).__name__}")
        if Path(path).suffix.lower() != ".svg":
            raise ArgumentError(f"Graph.save: the name must end in .svg, got {os.fspath(path)!r}")
        with replacing(path) as file:
            file.write(self._repr_svg_().encode())


def graph(
    outputs: Any, module: Any = None, *, depth: int | None = None, gradients: bool = True
) -> Graph:
    """The graph behind a loss as a picture: ops, shapes, and the 2-norms of the gradients.

    Data flows downwards.  Each box is one call of an op with the shape of its result; blue boxes
    are parameters, grey ones data.  ``|g|`` and the colour say how large dloss/dresult is.

    outputs: a tensor, mostly the loss, or several.  module: names the parameters, as its
    ``named_parameters()`` does; without it they have the names that they were listed by last.
    depth: draw only the ops that are at most so many steps from the outputs.
    gradients: whether to walk back once for the norms.  That is done for a single number only;
    no ``.grad`` is changed, hooks are not called, and the graph stays for ``backward()``.  Where
    it cannot be done the picture shows the ``.grad`` that leaves and ``retain_grad()`` kept.

    Returns an object that notebooks show; ``.save("graph.svg")`` writes it.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> picture = mg.graph((w * 3.0).sum())
    >>> [box.lines for box in picture.boxes]
    [['tensor', '(2,)', '|g| 4.24'], ['multiply 3', '(2,)', '|g| 1.41'], ['sum', 'number', '|g| 1']]

    Raises GraphError if there is no graph or a backward pass has freed it, ArgumentError if it is
    too large to be read (more than 200 boxes), DTypeError for anything but tensors.
    """
    refuse_on_tape("draws its graph")
    roots = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    for root in roots:
        if not isinstance(root, Tensor):
            raise DTypeError(
                f"graph: expects a tensor, or several, that were computed, got "
                f"{type(root).__name__}"
            )
    if module is not None and not hasattr(module, "named_parameters"):
        raise DTypeError(f"graph: module must be an nn.Module, got {type(module).__name__}")
    whole = isinstance(depth, (int, np.integer)) and not isinstance(depth, bool)
    if depth is not None and (not whole or depth < 1):
        raise ArgumentError(f"graph: depth must be a positive number of steps, got {depth!r}")
    nodes = nodes_behind(roots, "graph")
    shown = nodes if depth is None else _nearest(nodes, roots, depth)
    norms, note = _norms(roots, nodes) if gradients else ({}, "gradients were not asked for")
    names = {id(p): name for name, p in module.named_parameters()} if module is not None else {}
    boxes = _boxes(shown, names, norms)
    if len(boxes) > _MOST:
        raise ArgumentError(
            f"graph: {len(boxes):,} boxes cannot be read in one picture (at most {_MOST}); unroll "
            "fewer time steps, draw the graph of an inner tensor, or only what is near the "
            "outputs: mg.graph(loss, depth=10)"
        )
    return Graph(boxes, _title(boxes), note or _message(boxes))


# -- what is drawn ----------------------------------------------------------------------------


def _nearest(nodes: list[Node], roots: list[Tensor], depth: int) -> list[Node]:
    """The nodes that are at most ``depth`` steps from the outputs."""
    near = {root.node: 1 for root in roots if root.node is not None}
    for node in reversed(nodes):  # users come before what they use
        if node in near:
            for parent in _parents(node):
                near[parent] = min(near.get(parent, len(nodes)), near[node] + 1)
    return [node for node in nodes if near[node] <= depth]


def _parents(node: Node) -> Iterator[Node]:
    return (arg.node for arg in node.args if isinstance(arg, Tensor) and arg.node is not None)


def _boxes(nodes: list[Node], names: dict[int, str], norms: dict[Any, float]) -> list[Box]:
    """A box for each node and for each leaf, in the order in which they are first met."""
    boxes: list[Box] = []
    number: dict[Any, int] = {}
    shown = set(nodes)

    def box_of(arg: Any) -> int:
        if isinstance(arg, Tensor) and arg.node in shown:
            return number[arg.node]
        cut = isinstance(arg, Tensor) and arg.node is not None
        key = arg.node if cut else id(arg)
        if key not in number:
            number[key] = len(boxes)
            boxes.append(Box("cut", "...", "more ops") if cut else _leaf(arg, names, norms))
        return number[key]

    for node in nodes:
        inputs = [box_of(arg) for arg in node.args if isinstance(arg, (Tensor, np.ndarray))]
        number[node] = len(boxes)
        boxes.append(
            Box("op", _call(node), _results(node), spell_site(node.site), norms.get(node),
                list(dict.fromkeys(inputs)))
        )  # fmt: skip
    return boxes


def _leaf(leaf: Any, names: dict[int, str], norms: dict[Any, float]) -> Box:
    """A parameter, a tensor or an array."""
    wanted = isinstance(leaf, Tensor) and leaf.requires_grad
    name = names.get(id(leaf)) or getattr(leaf, "name", "") or ("tensor" if wanted else "data")
    if not wanted and leaf.dtype.kind not in "f":
        name = f"{name} {leaf.dtype}"
    gradient = norms.get(id(leaf)) if wanted else None
    return Box("parameter" if wanted else "input", name, spell_shape(leaf.shape), "", gradient)


def _call(node: Node) -> str:
    """The op with the numbers it was given: multiply 3."""
    numbers = [short(arg) for arg in node.args if isinstance(arg, (int, float))]
    states = getattr(node, "states", {})
    text = " ".join([node.name, *numbers])
    return text + (f" \u2192 {', '.join(states.values())}" if states else "")


def _results(node: Node) -> str:
    """Shapes of the results: (2, 3); 4 x (2, 3); (2, 4, 5) (2, 5) (2, 5)."""
    shapes = [spell_shape(shape) for shape, _, _ in node.outputs]
    if len(shapes) > 1 and len(set(shapes)) == 1:
        return f"{len(shapes)} \u00d7 {shapes[0]}"
    return " ".join(shapes)


def _norms(roots: list[Tensor], nodes: list[Node]) -> tuple[dict[Any, float], str]:
    """2-norm of the gradient of each node's results and (by id) of each leaf; why if there is none.

    Hooks belong to the user's backward passes, so they are put aside while this one goes.
    """
    if len(roots) > 1 or roots[0].size != 1:
        what = "several outputs have" if len(roots) > 1 else "the output is not one number and has"
        return _kept_gradients(nodes), f"no gradients: {what} no single gradient"
    if any(node.params.get("flow") is not None for node in nodes):
        return _kept_gradients(nodes), "no gradients: a recorder is attached and would count them"
    squares: dict[Node, dict[int, float]] = {}
    leaves: dict[int, Any] = {
        id(arg): arg for node in nodes for arg in node.args
        if isinstance(arg, Tensor) and arg.node is None and arg.requires_grad
    }  # fmt: skip
    watcher = anomaly.watcher()
    passes = 0 if watcher is None else watcher.backward_passes
    before: list[tuple[Any, Any]] = [(owner, owner.hooks) for owner in (*nodes, *leaves.values())]
    try:
        for node in nodes:
            squares[node] = {}
            node.hooks = {k: [_listener(squares[node], k)] for k in range(len(node.outputs))}
        for leaf in leaves.values():
            leaf.hooks = None
        seed = np.ones(roots[0].shape, roots[0].dtype)
        with np.errstate(all="ignore"), enable_grad():
            found = autodiff.walk(roots, [seed], retain=True)
    except (MinigradError, ArithmeticError) as error:
        return _kept_gradients(nodes), f"no gradients: {error}"
    finally:
        for owner, hooks in before:
            owner.hooks = hooks
        if watcher is not None:
            watcher.backward_passes = passes  # those of the training
    norms: dict[Any, float] = {n: math.sqrt(sum(s.values())) for n, s in squares.items() if s}
    return norms | {id(leaf): norm(gradient) for leaf, gradient in found}, ""


def _listener(squares: dict[int, float], slot: int) -> Any:
    def hook(gradient: np.ndarray) -> np.ndarray:
        squares[slot] = norm(gradient) ** 2
        return gradient

    return hook


def _kept_gradients(nodes: list[Node]) -> dict[Any, float]:
    """Norms of the .grad that leaves have, and results with ``retain_grad()``."""
    tensors = [arg for node in nodes for arg in node.args if isinstance(arg, Tensor)]
    return {
        (id(t) if t.node is None else t.node): norm(t.grad.array)
        for t in tensors if t.grad is not None
    }  # fmt: skip


def _title(boxes: list[Box]) -> str:
    """What there is: 9 ops, 4 parameters, 1 input."""
    kinds = [box.kind for box in boxes]
    parts = [
        f"{kinds.count(one)} {one if kinds.count(one) == 1 else many}"
        for one, many in _KINDS.items() if one in kinds
    ]  # fmt: skip
    left_out = " (what is further up is left out)" if "cut" in kinds else ""
    return ", ".join(parts) + left_out


def _message(boxes: list[Box]) -> str:
    """Which parameters get the smallest and the largest gradient."""
    leaves = [
        (box.gradient, box.name) for box in boxes
        if box.kind == "parameter" and box.gradient is not None
    ]  # fmt: skip
    bad = [name for size, name in leaves if not math.isfinite(size)]
    if bad:
        return f"the gradient of {bad[0]} is not finite"
    if len(leaves) < 2:
        return "".join(f"2-norm of the gradient: {short(size)} at {name}" for size, name in leaves)
    (low, least), (high, most) = min(leaves), max(leaves)
    return f"2-norms of the gradients: {short(high)} at {most}, {short(low)} at {least}"
