"""A recorded sequence of op calls, and its replay without a graph.

``tensor.apply`` writes every call down on a tape while one is there.  A :class:`Program` is
made of such a tape: *cells* take the place of tensors, each call knows the cells it reads and
writes, and the gradients of the cells are carried back in the order in which
:func:`minigrad.autodiff.walk` would do it.  So a replay gives the same bits, and costs a list
index where the graph costs a tensor, a node and a search.

Ops run as they always do, with all their checks.  What happens between them does not run
again, so whatever an op is given must come from a cell or be the same each time;
:meth:`Program.difference` of two recordings finds what is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .autodiff import fit, gradients_of, incoming_of
from .nodes import Call, spell_site
from .recording import cannot_repeat, computed


class _Step:
    """One call: what it computes, and which cells it reads and writes.

    values, params: its arguments, with gaps where a cell is read: ``reads`` and
    ``param_reads`` say which place takes which cell.  writes: cells of its results, with
    their shape and dtype.  sends: for each argument the cell that its gradient belongs to,
    with shape and dtype, or None.  name, args, outputs: as a Node has them, for errors.
    """

    def __init__(self, call: Call) -> None:
        self.op = call.op
        self.name = call.op.__name__
        self.place = "" if call.node is None else f" (at {spell_site(call.node.site)})"
        self.values: list[Any] = []
        self.reads: list[tuple[int, int]] = []
        self.params: dict[str, Any] = {}
        self.param_reads: list[tuple[str, int]] = []
        self.writes: list[tuple[int, tuple[int, ...], np.dtype]] = []
        self.sends: list[tuple[int, tuple[int, ...], np.dtype] | None] = []
        self.many = call.many
        self.args = [
            np.empty(0, value.dtype) if isinstance(value, np.ndarray) else value
            for value in call.values
        ]
        self.outputs = [(y.array.shape, y.array.dtype, None) for y in call.outputs]


class Program:
    """What the calls on a tape compute, from ``inputs`` to ``outputs``.

    tape: all calls of a function, in order.  inputs: the arrays it was given, C-contiguous;
    input_tensors: those of them that are tensors, by place.  outputs: the tensors it returned.

    ``externals`` are the tensors it used without being given them: parameters, mostly.
    """

    def __init__(
        self,
        tape: Sequence[Call],
        inputs: Sequence[np.ndarray],
        input_tensors: dict[int, Any],
        outputs: Sequence[Any],
    ) -> None:
        self.inputs = len(inputs)
        self.cells = len(inputs)
        self.steps: list[_Step] = []
        self.externals: list[Any] = []
        self.external_cells: list[int] = []
        self.views: list[tuple[int, int, int, Any, Any, Any]] = []
        self.watched = False  # whether an op was given a function to call
        self._inputs = inputs
        self._cell_of = {id(array): cell for cell, array in enumerate(inputs)}
        self._leaf_of = {id(tensor): cell for cell, tensor in input_tensors.items()}
        self._first_of: dict[int, int] = {}  # id of a node -> cell of its first result
        for call in tape:
            self._add(call)
        self.repeatable = all(getattr(call.op, "repeatable", False) for call in tape)
        self.results = [self._cell_of.get(id(y.array), -1) for y in outputs]
        self.grads = [y.requires_grad for y in outputs]

    # -- recording ------------------------------------------------------------------------

    def _new_cell(self) -> int:
        self.cells += 1
        return self.cells - 1

    def _add(self, call: Call) -> None:
        step = _Step(call)
        for place, (arg, value) in enumerate(zip(call.args, call.values)):
            cell = self._source(arg, value)
            step.values.append(value if cell is None else None)
            if cell is not None:
                step.reads.append((place, cell))
        for name, value in call.params.items():
            cell = self._source(value, value)
            step.params[name] = value if cell is None else None
            if cell is not None:
                step.param_reads.append((name, cell))
            self.watched |= callable(value)
        for parent in call.parents:
            step.sends.append(None if parent is None else self._leaf(parent))
        for y in call.outputs:
            cell = self._cell_of[id(y.array)] = self._new_cell()
            step.writes.append((cell, y.array.shape, y.array.dtype))
        if call.node is not None:
            self._first_of[id(call.node)] = step.writes[0][0]
        self.steps.append(step)

    def _source(self, arg: Any, value: Any) -> int | None:
        """The cell that holds ``value`` at each replay; None for what is always the same."""
        if not isinstance(value, np.ndarray):
            return None
        cell = self._cell_of.get(id(value))
        if cell is not None:
            return cell
        if arg is not value:  # a tensor from outside: its data as they are then
            return self._external(arg)
        for place, array in enumerate(self._inputs):
            if np.may_share_memory(value, array):  # a view that the function made of an input
                offset = value.ctypes.data - array.ctypes.data
                cell = self._cell_of[id(value)] = self._new_cell()
                self.views.append((cell, place, offset, value.shape, value.strides, value.dtype))
                return cell
        return None

    def _external(self, tensor: Any) -> int:
        cell = self._leaf_of.get(id(tensor))
        if cell is None:
            cell = self._leaf_of[id(tensor)] = self._cell_of[id(tensor.array)] = self._new_cell()
            self.externals.append(tensor)
            self.external_cells.append(cell)
        return cell

    def _leaf(self, parent: Any) -> tuple[int, tuple[int, ...], np.dtype]:
        """The cell that the gradient of a variable is added to."""
        first = None if parent.node is None else self._first_of.get(id(parent.node))
        cell = self._external(parent) if first is None else first + parent.slot
        return cell, parent.array.shape, parent.array.dtype

    def forget_arrays(self) -> None:
        """Let go of what only recording needs; arrays would stay alive otherwise."""
        self._inputs = ()
        self._cell_of, self._leaf_of, self._first_of = {}, {}, {}

    # -- comparing --------------------------------------------------------------------------

    def difference(self, other: Program) -> str:
        """What is not the same in two recordings of one function, in words; "" if nothing."""
        for step, theirs in zip(self.steps, other.steps):
            if step.op is not theirs.op or step.writes != theirs.writes:
                return f"it called {step.name}{step.place} where it called {theirs.name} before"
            if (step.reads, step.param_reads, step.sends) != (
                theirs.reads, theirs.param_reads, theirs.sends
            ):  # fmt: skip
                return f"{step.name}{step.place} took other results than before"
            named = [(f"argument {i}", *pair) for i, pair in enumerate(
                zip(step.values, theirs.values)
            )]  # fmt: skip
            named += [(f"{name}=", step.params[name], theirs.params[name]) for name in step.params]
            for name, mine, before in named:
                if not _same(mine, before):
                    return (
                        f"{name} of {step.name}{step.place} is {_brief(mine)}, was "
                        f"{_brief(before)}, and is neither an argument of the function nor made "
                        "by an op"
                    )
        if len(self.steps) != len(other.steps):
            return f"it made {len(self.steps)} op calls, and {len(other.steps)} before"
        for mine, before in zip(self.externals, other.externals):
            if mine is not before and (mine.requires_grad or not _same(mine.array, before.array)):
                return "it used another tensor from outside than before"
        if self.results != other.results or self.views != other.views:
            return "it returned other results than before"
        return ""

    # -- replay -----------------------------------------------------------------------------

    def run(self, inputs: Iterable[np.ndarray]) -> tuple[tuple[np.ndarray, ...], Any]:
        """Results, and a function from their gradients (None: zero) to those of the leaves.

        The leaves are the inputs and then the externals; None for one without a gradient.
        """
        results, vjps = self.forward(inputs)
        return results, lambda gradients: self.backward(vjps, gradients)

    def forward(self, inputs: Iterable[np.ndarray]) -> tuple[tuple[np.ndarray, ...], list[Any]]:
        """Results, and the vjp of each step."""
        cells: list[Any] = [None] * self.cells
        cells[: self.inputs] = inputs
        for cell, tensor in zip(self.external_cells, self.externals):
            cells[cell] = tensor.array
        for cell, place, offset, shape, strides, dtype in self.views:
            cells[cell] = np.ndarray(shape, dtype, cells[place], offset, strides)
        vjps = []
        for step in self.steps:
            values, params = step.values.copy(), step.params
            for place, cell in step.reads:
                values[place] = cells[cell]
            if step.param_reads:
                params = dict(params)
                for name, cell in step.param_reads:
                    params[name] = cells[cell]
            y, vjp = step.op(*values, **params)
            vjps.append(vjp)
            for (cell, _, dtype), part in zip(step.writes, y if step.many else (y,)):
                if part.__class__ is not np.ndarray or part.dtype != dtype:
                    part = np.asarray(part, dtype)
                    cannot_repeat()
                cells[cell] = part
        return tuple([cells[cell] for cell in self.results]), vjps

    def backward(self, vjps: list[Any], gradients: Sequence[Any]) -> tuple[Any, ...]:
        """Gradients of the leaves, from those of the results and the vjps of a forward run."""
        grads: list[Any] = [None] * self.cells
        for cell, gradient in zip(self.results, gradients):
            _add_to(grads, cell, gradient)
        for step, vjp in zip(reversed(self.steps), reversed(vjps)):
            incoming: Any = grads[step.writes[0][0]]
            if step.many:
                slots = [grads[cell] for cell, _, _ in step.writes]
                if all(slot is None for slot in slots):
                    continue
                incoming = incoming_of(step, slots)
            elif incoming is None:
                continue
            parts = gradients_of(vjp, step.sends, incoming)
            for send, part in zip(step.sends, parts):
                if send is not None and part is not None:
                    cell, shape, dtype = send
                    if part.shape != shape or part.dtype != dtype:
                        part = fit(step, part, shape, dtype)
                    _add_to(grads, cell, part)
        leaves = [*range(self.inputs), *self.external_cells]
        return tuple([grads[cell] for cell in leaves])


def _add_to(grads: list[Any], cell: Any, gradient: Any) -> None:
    if gradient is not None:
        before = grads[cell]
        grads[cell] = gradient if before is None else computed(np.add, before, gradient)


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return type(a) is type(b) and bool(a == b)


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} {value.dtype}"
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."
