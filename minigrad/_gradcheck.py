"""How gradcheck compares: random directions, central differences, and who is to blame.

For a direction d in the space of one variable x and a cotangent c in the space of the
outputs y, <dL/dx, d> with L = <c, y> must equal the central difference
<c, y(x + h d) - y(x - h d)> / 2h.  All entries of d and c are between 1/2 and 1 in size, so
that no element is overlooked, at the cost of two calls for each variable and direction.
When a direction fails, halving the set of elements that move finds one that is wrong, two
step sizes and the two sides tell a kink from a mistake, and checking each op of the graph
by itself finds the op.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .autodiff import grad
from .errors import ArgumentError, DTypeError, GradcheckError
from .nodes import Node, spell_site, tick
from .tensor import Tensor, apply

_UNIT = float(np.finfo(np.float64).eps)
_SINGLY = 64  # elements among which the worst is looked for one at a time
_SUSPECTS = 1000  # ops that are checked by themselves when a gradient is wrong


class Problem:
    """A function of named leaf tensors, whose arrays are replaced but never written to."""

    def __init__(
        self, caller: str, name: str, run: Callable[[], Any], variables: dict[str, Tensor]
    ) -> None:
        self.caller = caller
        self.name = name
        self.run = run
        self.variables = variables

    def fail(self, text: str) -> GradcheckError:
        return GradcheckError(f"{self.caller} of {self.name}: {text}")

    @contextmanager
    def refusing_writes(self, who: str) -> Iterator[None]:
        """Turn a complaint of NumPy or Numba about a read-only array into one of ours."""
        try:
            yield
        except Exception as error:
            if not re.search("read-?only", str(error)):
                raise
            raise self.fail(f"{who} writes into an array that is not its own: {error}") from error

    def outputs(self) -> list[Tensor]:
        """The float tensors that the function returns."""
        with self.refusing_writes("the function, or an op in it,"):
            return [y for y in _tensors(self.run()) if y.dtype.kind == "f"]

    def live(self) -> list[Tensor]:
        """Those outputs that depend on something that requires a gradient."""
        return [y for y in self.outputs() if y.requires_grad]

    def at(self, variable: Tensor, array: np.ndarray) -> list[np.ndarray]:
        """Values of the outputs with another value of one variable."""
        here = variable.array
        variable.array = frozen(array)
        try:
            return [y.array for y in self.outputs()]
        finally:
            variable.array = here


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in a (nested) tuple or list."""
    if isinstance(value, Tensor):
        return [value]
    if not isinstance(value, (tuple, list)):
        raise DTypeError(f"gradcheck: the function must return tensors, got {type(value).__name__}")
    return [tensor for item in value for tensor in _tensors(item)]


def frozen(array: Any) -> np.ndarray:
    """A read-only view."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


class Check:
    """How exactly to look, and where random numbers come from."""

    def __init__(
        self, eps: float | None, rtol: float, atol: float, directions: int, generator: Any
    ) -> None:
        if (eps is not None and not eps > 0) or directions < 1:
            raise ArgumentError(
                f"gradcheck: eps must be positive and directions at least 1, got {eps} and "
                f"{directions}"
            )
        self.step = _UNIT ** (1 / 3) if eps is None else float(eps)  # truncation = rounding
        self.rtol = rtol
        self.atol = atol
        self.directions = directions
        self.generator = np.random.default_rng(0) if generator is None else generator

    def signs(self, shape: tuple[int, ...]) -> np.ndarray:
        """Random numbers of either sign, between 1/2 and 1 in size."""
        size = self.generator.uniform(0.5, 1.0, shape)
        return np.asarray(np.where(self.generator.random(shape) < 0.5, -size, size))

    def verdict(self, problem: Problem, raise_exception: bool) -> bool:
        """Whether the gradients of a problem are right."""
        __tracebackhide__ = True
        try:
            self.inspect(problem)
            try:
                self.examine(problem)
            except GradcheckError as error:
                raise GradcheckError(f"{error}{self.blame(problem)}") from error.__cause__
        except GradcheckError:
            if raise_exception:
                raise
            return False
        return True

    def inspect(self, problem: Problem) -> None:
        """Raise unless two calls give the same bits, all in float64, and no op writes."""
        __tracebackhide__ = True
        start = tick()
        outputs = problem.outputs()
        for i, (y, again) in enumerate(zip(outputs, problem.outputs())):
            if not np.array_equal(y.array, again.array, equal_nan=True):
                raise problem.fail(
                    f"output {i} differs between two calls with the same input. Is there "
                    "dropout (module.eval()), or a generator that the function draws from?"
                )
        nodes = _nodes(outputs, start)
        for node in nodes:
            for _, dtype, _ in node.outputs:
                if dtype.kind == "f" and dtype != np.float64:
                    raise problem.fail(f"{_spell(node)} returned {dtype} from float64")
        with _protected(nodes):
            for node in nodes:
                values = [getattr(arg, "array", arg) for arg in node.args]
                with problem.refusing_writes(_spell(node)):
                    node.op(*values, **node.params)

    def examine(self, problem: Problem) -> None:
        """Raise unless every gradient agrees with the differences."""
        __tracebackhide__ = True
        start = tick()
        outputs = problem.outputs()
        for i, y in enumerate(outputs):
            if y.dtype != np.float64:
                raise problem.fail(f"output {i} is {y.dtype}, though all inputs are float64")
            if not np.isfinite(y.array).all():
                raise problem.fail(f"output {i} is not finite")
        cotangents = [self.signs(y.shape) for y in outputs]
        gradients = _gradients(problem, outputs, _nodes(outputs, start), cotangents)
        for (name, variable), gradient in zip(problem.variables.items(), gradients):
            line = _Line(self, problem, name, gradient, cotangents)
            for _ in range(self.directions if variable.size else 0):
                direction = self.signs(variable.shape)
                if not line.agrees(direction):
                    raise problem.fail(line.explain(line.narrow(direction)))

    def blame(self, problem: Problem) -> str:
        """The first op that does not pass the check by itself, in words."""
        start = tick()
        for node in _nodes(problem.outputs(), start)[:_SUSPECTS]:
            variables = {
                f"argument {i}": Tensor(frozen(arg.array), True)
                for i, (arg, parent) in enumerate(zip(node.args, node.parents))
                if parent is not None and arg.dtype == np.float64
            }
            args = [variables.get(f"argument {i}", arg) for i, arg in enumerate(node.args)]

            def run(node: Node = node, args: list[Any] = args) -> Any:
                return apply(node.op, *args, **node.params)

            try:
                self.examine(Problem("the op", _spell(node), run, variables))
            except GradcheckError as error:
                return f"\n  {error}"
        return (
            "\n  Each op passes the check by itself. Does a value leave the graph (detach(), data, "
            "item(), numpy()) and come back?"
        )


def _spell(node: Node) -> str:
    return f"{node.name} (made at {spell_site(node.site)})"


def _nodes(outputs: Sequence[Tensor], start: int) -> list[Node]:
    """The nodes made since the tick ``start``, in the order in which they were made."""
    seen: set[Node] = set()
    stack = [y.node for y in outputs]
    while stack:
        node = stack.pop()
        if node is not None and node.tick > start and node not in seen:
            seen.add(node)
            stack += [p.node for p in node.parents if p is not None]
    return sorted(seen, key=lambda node: node.tick)


def _gradients(
    problem: Problem, outputs: list[Tensor], nodes: list[Node], cotangents: list[np.ndarray]
) -> list[np.ndarray | None]:
    """Gradient of every variable (None where there is none), with all arrays read-only."""
    for node in nodes:
        node.hooks = node.hooks or {}
        for slot in range(len(node.outputs)):
            node.hooks.setdefault(slot, []).append(_read_only)
    roots = [y for y in outputs if y.requires_grad]
    seeds = [c for y, c in zip(outputs, cotangents) if y.requires_grad]
    if not roots:
        return [None] * len(problem.variables)
    with _protected(nodes), problem.refusing_writes("a vjp"):
        found = grad(roots, list(problem.variables.values()), seeds, allow_unused=True)
    return [None if g is None else g.array for g in found]


def _read_only(gradient: Any) -> Any:
    """Hook: the gradient that a vjp is given may not be written to."""
    return frozen(gradient) if isinstance(gradient, np.ndarray) else gradient


@contextmanager
def _protected(nodes: list[Node]) -> Iterator[None]:
    """Arrays that ops were called with are read-only inside."""
    arrays = [getattr(arg, "array", arg) for node in nodes for arg in node.args]
    arrays = [a for a in arrays if isinstance(a, np.ndarray) and a.flags.writeable]
    for a in arrays:
        a.flags.writeable = False
    try:
        yield
    finally:
        for a in sorted(arrays, key=lambda a: a.base is not None):  # owners before views
            a.flags.writeable = True


class _Line:
    """One variable and its gradient, against differences of the outputs."""

    def __init__(
        self, check: Check, problem: Problem, name: str, gradient: np.ndarray | None,
        cotangents: list[np.ndarray],
    ) -> None:  # fmt: skip
        self.check = check
        self.problem = problem
        self.name = name
        self.variable = problem.variables[name]
        self.lost = gradient is None
        self.gradient = np.zeros(self.variable.shape) if gradient is None else gradient
        self.cotangents = cotangents

    def compare(self, direction: np.ndarray, step: float) -> tuple[float, float, float]:
        """Analytic and numeric derivative along a direction, and the error allowed."""
        here = self.variable.array
        above, below = here + step * direction, here - step * direction
        after = self.problem.at(self.variable, above)
        before = self.problem.at(self.variable, below)
        numeric = self._weigh(after, before) / (2 * step)
        moved = (above - below) / (2 * step)  # the direction as rounding left it
        # an infinite gradient matters only where something moves
        terms = np.multiply(self.gradient, moved, out=np.zeros(moved.shape), where=moved != 0)
        # what some units in the last place of the outputs do to a difference
        noise = 64 * _UNIT * max((_norm(c * y) for c, y in zip(self.cotangents, after)), default=0)
        allowed = self.check.atol + self.check.rtol * _norm(terms) + noise / step
        return float(np.sum(terms)), numeric, allowed

    def _weigh(self, after: list[np.ndarray], before: list[np.ndarray]) -> float:
        """<cotangents, after - before>."""
        parts = zip(self.cotangents, after, before)
        return math.fsum(float(np.sum(c * (a - b))) for c, a, b in parts)

    def agrees(self, direction: np.ndarray) -> bool:
        """Whether both derivatives along a direction are the same (NaN never is)."""
        analytic, numeric, allowed = self.compare(direction, self.check.step)
        return abs(analytic - numeric) <= allowed

    def narrow(self, direction: np.ndarray) -> tuple[int, ...]:
        """An index at which the gradient is wrong, the worst of those looked at singly.

        One of two halves of a direction has at least half of its error, so halving the set
        of elements that move always leads to one that is wrong.
        """
        flat = direction.reshape(-1)
        kept = np.arange(flat.size)

        def size(part: np.ndarray) -> float:
            moved = np.zeros_like(flat)
            moved[part] = flat[part]
            analytic, numeric, _ = self.compare(moved.reshape(direction.shape), self.check.step)
            error = abs(analytic - numeric)
            return math.inf if math.isnan(error) else error

        while kept.size > _SINGLY:
            kept = max(np.array_split(kept, 2), key=size)
        worst = max(kept, key=lambda i: size(np.array([i])))
        return tuple(int(i) for i in np.unravel_index(worst, direction.shape))

    def explain(self, index: tuple[int, ...]) -> str:
        """What is wrong at an index, in words."""
        unit = np.zeros(self.variable.shape)
        unit[index] = 1.0
        step, small = self.check.step, self.check.step / 16
        analytic, numeric, _ = self.compare(unit, step)
        _, closer, allowed = self.compare(unit, small)
        here = self.variable.array
        below, middle, above = (
            self.problem.at(self.variable, here + n * small * unit) for n in (-1, 0, 1)
        )
        left = self._weigh(middle, below) / small
        right = self._weigh(above, middle) / small
        where = f"{self.name}, shape {here.shape}, at index {index}"
        allowed = 10 * (allowed + self.check.rtol * abs(closer))
        if math.isnan(numeric) or abs(numeric - closer) > allowed:
            return (
                f"not smooth near {where}: the difference is {numeric:.8g} with a step of "
                f"{step:.2g} but {closer:.8g} with {small:.2g} (analytic {analytic:.8g}). Either "
                "there is a kink (relu, abs, max, a tie) so close, or too much curvature for "
                "this step: move the input away, or pass a smaller eps."
            )
        if abs(right - left) > allowed + 0.01 * (abs(left) + abs(right)):
            return (
                f"not differentiable at {where}, a kink: the derivative is {left:.8g} on the left "
                f"and {right:.8g} on the right (analytic {analytic:.8g}). Check at a point that "
                "is not a tie."
            )
        if self.lost:
            return (
                f"no gradient (None) reaches {self.name}, shape {here.shape}, but the output "
                f"changes with it: numeric {numeric:.8g} at index {index}. If it is meant to be "
                "a constant, pass it by a closure."
            )
        return (
            f"wrong gradient of {where}: analytic {analytic:.8g}, numeric {numeric:.8g}, "
            f"difference {abs(analytic - numeric):.3g}"
        )


def _norm(terms: np.ndarray) -> float:
    return float(np.linalg.norm(np.ravel(terms)))
