"""``Module.summary``: what a model is made of and what a step of it costs, found by running it."""

from __future__ import annotations

import bisect
import copy
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, MinigradError
from ..memory import bytes_kept, nodes_behind
from ..nodes import Node, enable_grad, refuse_on_tape, tick
from ..spelling import spell_bytes, spell_count, spell_shape
from ..tensor import Tensor
from .flops import flops
from .module import Module, Parameter

_HEADER = ("layer", "output shape", "parameters", "flops", "kept for backward")
_NOTES = (
    "flops: of the forward pass, 2 for each multiply-add of its products (dense layers, "
    "convolutions, recurrences, attention); a backward pass has about twice as many",
    "kept: bytes that wait for the backward pass, each block of memory once, at the layer that "
    "keeps it; parameters live anyway and do not count",
)


@dataclass
class Row:
    """One module.  What its parts do stands in rows of their own and is not counted here.

    name: dotted; kind: its class; depth: 0 for the whole.  output: shape of what it returned
    last, as text, "not called" if it was not.  parameters: of its own; frozen: those of them that
    are not learnt.  flops, kept: of all its calls.
    """

    name: str
    kind: str
    depth: int
    output: str = "not called"
    parameters: int = 0
    frozen: int = 0
    flops: int = 0
    kept: int = 0
    calls: int = 0

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the columns."""
        last = self.name.rpartition(".")[2]
        layer = "  " * self.depth + f"{last} {self.kind}".strip()
        often = f" \u00d7 {self.calls}" if self.calls > 1 else ""
        return layer, self.output + often, *_amounts(self.parameters, self.flops, self.kept)


def _amounts(parameters: int, count: int, kept: int) -> tuple[str, str, str]:
    """Three columns; nothing for zero."""
    return (
        f"{parameters:,}" if parameters else "",
        spell_count(count) if count else "",
        spell_bytes(kept) if kept else "",
    )


class Summary:
    """What :meth:`Module.summary` returns: a table as text, and as HTML in notebooks.

    rows: one for each module, the whole first.  inputs: shapes and dtypes, as text.
    buffers: numbers that are kept with the model but not learnt.
    """

    def __init__(self, rows: list[Row], inputs: str, buffers: int, training: bool) -> None:
        self.rows = rows
        self.inputs = inputs
        self.buffers = buffers
        self.training = training

    @property
    def parameters(self) -> int:
        """Numbers in parameters, each once."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Operations of the forward pass: 2 for each multiply-add of its products."""
        return sum(row.flops for row in self.rows)

    @property
    def kept(self) -> int:
        """Bytes kept for the backward pass."""
        return sum(row.kept for row in self.rows)

    @property
    def title(self) -> str:
        """What was run, and how."""
        mode = "training" if self.training else "evaluation"
        return f"{self.rows[0].kind} on zeros {self.inputs}, in {mode} mode"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not in the table, and how its columns were counted."""
        frozen = sum(row.frozen for row in self.rows)
        more = [f"{frozen:,} of the parameters are frozen"] * (frozen > 0)
        more += [f"{self.buffers:,} numbers in buffers"] * (self.buffers > 0)
        return *more, *_NOTES

    def _total(self) -> tuple[str, ...]:
        return "total", "", *_amounts(self.parameters, self.flops, self.kept)

    def __repr__(self) -> str:
        table = [_HEADER, *(row.cells for row in self.rows), self._total()]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADER))]

        def line(cells: tuple[str, ...]) -> str:
            left, *others = zip(cells, widths)
            texts = [left[0].ljust(left[1]), *(cell.rjust(width) for cell, width in others)]
            return "  ".join(texts).rstrip()

        rule = "-" * (sum(widths) + 2 * len(widths) - 2)
        head, *body, total = (line(cells) for cells in table)
        notes = (textwrap.fill(note, 88, subsequent_indent="  ") for note in self.notes)
        return "\n".join([self.title, rule, head, rule, *body, rule, total, "", *notes])

    def _repr_html_(self) -> str:
        from .. import notebook

        rows = [(row.cells[0].replace("  ", "\u2003"), *row.cells[1:]) for row in self.rows]
        table = notebook.table([*rows, self._total()], _HEADER, last_bold=True)
        return notebook.box(notebook.heading(self.title), table, *map(notebook.remark, self.notes))


def summarise(module: Module, input_shape: Any, dtype: Any) -> Summary:
    """See :meth:`Module.summary`."""
    refuse_on_tape("asks for a summary")
    shapes = _shapes(input_shape)
    twin = _copy(module)
    inputs = [
        np.zeros(shape, kind) for shape, kind in zip(shapes, _dtypes(twin, dtype, len(shapes)))
    ]
    told = " and ".join(f"{spell_shape(x.shape)} {x.dtype}" for x in inputs)
    calls, nodes = _run(twin, inputs, told, dtype)
    rows = _rows(module, calls)
    for node, kept in bytes_kept(nodes).items():
        rows[_owner(calls, node)].kept += kept
    # Products of numbers that nobody learns are not recorded, but are made: once more, and learn
    # all of them.
    twin = _copy(module)
    for parameter in twin.parameters():
        parameter.requires_grad = parameter.dtype.kind == "f"
    calls, nodes = _run(twin, inputs, told, dtype, learn=True)
    for node in nodes:
        rows[_owner(calls, node)].flops += flops(node)
    buffers = sum(buffer.size for _, buffer in module.named_buffers())
    return Summary(rows, told, buffers, module.training)


# -- what is asked for ------------------------------------------------------------------------


def _shapes(given: Any) -> list[tuple[int, ...]]:
    """Shapes of the inputs.  Raises ArgumentError."""
    several = isinstance(given, (list, tuple)) and any(
        isinstance(part, (list, tuple)) for part in given
    )
    shapes = list(given) if several else [given]
    for shape in shapes:
        if not isinstance(shape, (list, tuple)) or not all(
            isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in shape
        ):
            raise ArgumentError(
                "summary: input_shape must be positive integers for all axes, the batch too, such "
                f"as (32, 784), or a list of such shapes for several inputs, got {given!r:.80}"
            )
    return [tuple(int(n) for n in shape) for shape in shapes]


def _dtypes(module: Module, given: Any, count: int) -> list[np.dtype]:
    """A dtype for each input; that of the parameters if none is given.  Raises DTypeError."""
    kinds = given if isinstance(given, (list, tuple)) else [given] * count
    if len(kinds) != count:
        raise ArgumentError(f"summary: {count} inputs but {len(kinds)} dtypes")
    usual = next((p.dtype for p in module.parameters() if p.dtype.kind == "f"), np.float32)
    found = []
    for kind in kinds:
        try:
            dtype = np.dtype(usual if kind is None else kind)
        except TypeError as error:
            raise DTypeError(f"summary: {kind!r:.40} is no dtype") from error
        if dtype.kind not in "fiub":
            raise DTypeError(f"summary: dtype must be of real numbers or booleans, got {dtype}")
        found.append(dtype)
    return found


def _copy(module: Module) -> Module:
    """A module to run, so that the other one stays as it is."""
    try:
        twin = copy.deepcopy(module)
    except Exception as error:
        raise ArgumentError(
            f"summary: a copy of {type(module).__name__} is run, so that nothing changes, but it "
            f"cannot be copied: {error}; detach what it keeps from step to step"
        ) from error
    for part in twin.modules():  # recorders are for real runs
        vars(part).update({slot: None for slot in ("flow", "gates") if slot in vars(part)})
    return twin


# -- the run ----------------------------------------------------------------------------------


@dataclass
class _Call:
    """One call of a module.  number: its place in ``named_modules``; ticks: before and after."""

    number: int
    first: int
    last: int = 0
    output: str = ""


@dataclass
class _Calls:
    """Calls in the order in which they ended: those inside before those around them."""

    ended: list[_Call] = field(default_factory=list)
    owners: dict[Node, int] = field(default_factory=dict)


def _run(
    module: Module, inputs: list[np.ndarray], told: str, dtype: Any, learn: bool = False
) -> tuple[_Calls, list[Node]]:
    """Call the module, and write down who was called.  learn: whether inputs want gradients."""
    calls = _Calls()
    for number, (_, part) in enumerate(module.named_modules()):
        vars(part)["forward"] = _recording(part.forward, number, part, calls.ended)
    floats = [learn and x.dtype.kind == "f" for x in inputs]
    given = [Tensor(x, wanted) for x, wanted in zip(inputs, floats)]
    remedy = " (input_shape has all axes, the batch too; several inputs: a list of shapes)"
    where = f"summary: {type(module).__name__} cannot be run on zeros {told}: "
    try:
        with np.errstate(all="ignore"), enable_grad():
            output = module(*given)
    except MinigradError as error:
        if isinstance(error, DTypeError) and dtype is None:
            remedy = " (ids are integers: give dtype=int)"
        raise type(error)(f"{where}{error}{remedy}") from error
    except Exception as error:
        raise ArgumentError(f"{where}{type(error).__name__}: {error}{remedy}") from error
    roots = [tensor for tensor in _tensors(output) if tensor.node is not None]
    nodes = nodes_behind(roots, "summary") if roots else []
    ticks = [node.tick for node in nodes]
    for call in calls.ended:
        for place in range(bisect.bisect(ticks, call.first), bisect.bisect(ticks, call.last)):
            calls.owners.setdefault(nodes[place], call.number)
    return calls, nodes


def _recording(forward: Any, number: int, part: Module, ended: list[_Call]) -> Any:
    """``forward`` that writes down its calls."""

    def recorded(*args: Any, **kwargs: Any) -> Any:
        call = _Call(number, tick())
        output = forward(*args, **kwargs)
        call.last = tick()
        with_state = hasattr(part, "state_names") and isinstance(output, tuple)
        call.output = _spell(output[0] if with_state else output)
        ended.append(call)
        return output

    return recorded


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors(tuple(output.values()))
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)


def _spell(output: Any) -> str:
    """Shapes of what a module returned; of a recurrence the outputs, without the state."""
    shapes = [spell_shape(tensor.shape) for tensor in _tensors(output)]
    if not shapes:
        return type(output).__name__
    return " ".join(shapes[:3]) + " \u2026" * (len(shapes) > 3)


def _owner(calls: _Calls, node: Node) -> int:
    return calls.owners.get(node, 0)


def _rows(module: Module, calls: _Calls) -> list[Row]:
    """A row for each module, with its own parameters; a shared one counts at its first owner."""
    rows = []
    seen: set[int] = set()
    for number, (name, part) in enumerate(module.named_modules()):
        row = Row(name, type(part).__name__, name.count(".") + 1 if name else 0)
        if type(part).forward is Module.forward:  # a list: nobody calls it
            row.output = ""
        for _, each in part._parts():
            if isinstance(each, Parameter) and id(each) not in seen:
                seen.add(id(each))
                row.parameters += each.size
                row.frozen += 0 if each.requires_grad else each.size
        mine = [call for call in calls.ended if call.number == number]
        if mine:
            row.calls, row.output = len(mine), mine[-1].output
        rows.append(row)
    return rows
