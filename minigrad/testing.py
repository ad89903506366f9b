"""Checks of gradients and of kernels, for minigrad's own tests and for those of its users.

    def test_softplus():
        x = np.random.default_rng(0).standard_normal((3, 5))
        gradcheck(lambda x: mg.log1p(mg.exp(x)), x)

A gradient is checked along random directions: for a direction d in the space of one input
and a cotangent c in the space of the outputs, <dL/dx, d> with L = <c, y> must equal the
central difference <c, y(x + h d) - y(x - h d)> / 2h.  All entries of d and c are at least
1/2 in size, so that no element is overlooked, at the cost of two calls an input.  When a
direction fails, halving the set of moved elements finds one that is wrong, and checking
each op of the graph by itself finds the op.  Nothing but NumPy is needed.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .autodiff import grad
from .errors import ArgumentError, DTypeError, GradcheckError, KernelMismatchError
from .graph import Node, spell_site, tick
from .kernels import Kernel, registry
from .tensor import Tensor, apply

_UNIT = float(np.finfo(np.float64).eps)
_SINGLY = 64  # elements among which the worst is looked for one at a time
_SUSPECTS = 1000  # ops that are checked by themselves when a gradient is wrong


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    *,
    parameters: Any = None,
    eps: float | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    directions: int = 2,
    generator: np.random.Generator | None = None,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of ``function`` with central differences, in float64.

    function: takes tensors, returns a tensor or a (nested) tuple of them, of any shapes.  If
    it is a module, or a method of one, a deep copy with float64 parameters is checked, the
    gradients of its parameters too; the original, float32 or not, is left alone.
    inputs: an array or tensor, a tuple of them (which may hold tuples), or a dict of keyword
    arguments.  Every float array or tensor among them is copied to float64 and checked;
    anything else is passed on.  What is to stay fixed goes in by a closure:
    ``lambda x: loss(x, target)``.
    parameters: further leaf tensors to check, which ``function`` reaches by itself (a dict
    by name, or a sequence); they are float64 during the check and put back after it.
    eps: step of the differences (default 6e-6, the cube root of the rounding unit).
    rtol, atol: bounds of the error along a direction, relative to the root of the summed
    squares of its terms, and absolute; what rounding the outputs may do is added.
    directions: how many random directions for each input; generator: where they come from
    (``default_rng(0)`` if None, so that a test does the same every time).
    raise_exception: raise rather than return False.

    Returns True if all gradients agree.  Raises GradcheckError, which names the input, the
    index, both values and the op, also if something writes into its inputs (arrays are
    read-only during the check, and so is what a vjp is given), is not deterministic, leaves
    float64, returns NaN, loses the gradient, or is not differentiable at this point.
    Raises ArgumentError if there is nothing to check, DTypeError if no tensor is returned.
    """
    __tracebackhide__ = True
    check = _Check(eps, rtol, atol, directions, generator)
    with _prepared("gradcheck", function, inputs, parameters) as problem:
        return check.verdict(problem, raise_exception)


def gradgradcheck(
    function: Callable[..., Any],
    inputs: Any,
    *,
    parameters: Any = None,
    eps: float | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    directions: int = 2,
    generator: np.random.Generator | None = None,
    raise_exception: bool = True,
) -> bool:
    """Check second derivatives: :func:`gradcheck` of the gradient (``create_graph=True``).

    The gradient is taken with random cotangents, which are checked as inputs as well.  All
    else as in gradcheck.  Call that first: a gradient may be wrong and have a right
    derivative.  Raises what gradcheck raises, and GraphError if an op has no second
    derivative.
    """
    __tracebackhide__ = True
    check = _Check(eps, rtol, atol, directions, generator)
    with _prepared("gradgradcheck", function, inputs, parameters) as problem:
        cotangents = [Tensor(_frozen(check.signs(y.shape)), True) for y in problem.live()]
        inner = list(problem.variables.values())

        def gradient() -> list[Tensor]:
            found = grad(problem.live(), inner, cotangents, create_graph=True, allow_unused=True)
            return [g for g in found if g is not None]

        named = {f"grad_outputs[{i}]": c for i, c in enumerate(cotangents)}
        name = f"the gradient of {problem.name}"
        second = _Problem("gradgradcheck", name, gradient, {**problem.variables, **named})
        return check.verdict(second, raise_exception)


def check_twin(kernel: Kernel | str, *args: Any) -> Any:
    """Run a registered kernel and its NumPy twin on the same input and compare.

    kernel: a Kernel or its name in ``minigrad.kernels.registry``.  args: what it is called
    with; results are written into its output arguments, as in any call of the kernel.
    Returns what the kernel returns.

    Raises KernelMismatchError naming the argument, the first index that differs and both
    values, or an argument that was written to though it is no output; ArgumentError for an
    unknown name.
    """
    __tracebackhide__ = True
    if not isinstance(kernel, Kernel):
        if kernel not in registry:
            raise ArgumentError(
                f"check_twin: no kernel {kernel!r}; there are {', '.join(sorted(registry))}"
            )
        kernel = registry[kernel]
    before = [copy.deepcopy(arg) for arg in args]
    result = kernel._check(*args)
    for i, (name, old, new) in enumerate(zip(kernel.names, before, args)):
        if i not in kernel.outputs and isinstance(new, np.ndarray):
            if not np.array_equal(old, new, equal_nan=new.dtype.kind == "f"):
                raise KernelMismatchError(
                    f"kernel {kernel.name}: it or its twin wrote into argument {name!r}, which is "
                    "not among its outputs"
                )
    return result


# -- what is checked ------------------------------------------------------------------------


class _Problem:
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
        """Turn NumPy's complaint about a read-only array into one of ours."""
        try:
            yield
        except ValueError as error:
            if "read-only" not in str(error):
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
        variable.array = _frozen(array)
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


def _frozen(array: Any) -> np.ndarray:
    """A read-only view."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@contextmanager
def _prepared(
    caller: str, function: Callable[..., Any], inputs: Any, parameters: Any
) -> Iterator[_Problem]:
    """The problem that a caller of gradcheck describes; puts ``parameters`` back at the end."""
    name = getattr(function, "__name__", type(function).__name__)
    owner = getattr(function, "__self__", function)
    if parameters is None and hasattr(owner, "named_parameters"):
        owner = copy.deepcopy(owner)
        function = function.__func__.__get__(owner) if inspect.ismethod(function) else owner
        parameters = dict(owner.named_parameters())
    if not isinstance(parameters, Mapping):
        parameters = dict(enumerate(parameters or ()))
    variables: dict[str, Tensor] = {}
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        kwargs = {k: _leaves(v, f"input {k!r}", variables) for k, v in inputs.items()}
    else:
        args = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        names = _argument_names(function, len(args))
        args = [_leaves(v, n, variables) for n, v in zip(names, args)]
    variables.update((f"parameter {k!r}", p) for k, p in parameters.items() if p.requires_grad)
    if not variables:
        raise ArgumentError(f"{caller}: nothing to check, no input is a float array or tensor")
    before = [(p, p.array, p.grad) for p in parameters.values()]
    try:
        for p in parameters.values():
            p.array = _frozen(p.array.astype(np.float64))
        yield _Problem(caller, name, lambda: function(*args, **kwargs), variables)
    finally:
        for p, array, gradient in before:
            p.array, p.grad = array, gradient


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """``input 0 ('x')`` where the signature tells the name, else ``input 0``."""
    names = [f"input {i}" for i in range(count)]
    try:
        declared = list(inspect.signature(function).parameters.values())[:count]
    except (TypeError, ValueError):  # some built-in callables have no signature
        return names
    for i, argument in enumerate(declared):
        if argument.kind is not argument.VAR_POSITIONAL:
            names[i] += f" ({argument.name!r})"
    return names


def _leaves(value: Any, name: str, variables: dict[str, Tensor]) -> Any:
    """``value`` with a float64 leaf for every float array in it; they go to ``variables``."""
    if isinstance(value, (tuple, list)):
        items = [_leaves(item, f"{name}[{i}]", variables) for i, item in enumerate(value)]
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    array = getattr(value, "array", value)
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return value
    leaf = variables[name] = Tensor(_frozen(np.array(array, np.float64)), requires_grad=True)
    return leaf


# -- the check ------------------------------------------------------------------------------


class _Check:
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

    def verdict(self, problem: _Problem, raise_exception: bool) -> bool:
        """Whether the gradients of a problem are right."""
        __tracebackhide__ = True
        try:
            self.examine(problem)
        except GradcheckError as error:
            if raise_exception:
                raise problem.fail(f"{error}{self.blame(problem)}") from error.__cause__
            return False
        return True

    def examine(self, problem: _Problem) -> None:
        """Raise the first GradcheckError there is."""
        start = tick()
        outputs = problem.outputs()
        nodes = _nodes(outputs, start)
        for node in nodes:
            for _, dtype, _ in node.outputs:
                if dtype.kind == "f" and dtype != np.float64:
                    raise problem.fail(f"{_spell(node)} returned {dtype}; all inputs are float64")
        for i, (y, again) in enumerate(zip(outputs, problem.outputs())):
            if y.dtype != np.float64:
                raise problem.fail(f"output {i} is {y.dtype}, though all inputs are float64")
            if not np.isfinite(y.array).all():
                raise problem.fail(f"output {i} is not finite")
            if not np.array_equal(y.array, again.array):
                raise problem.fail(
                    f"output {i} differs between two calls with the same input. Is there "
                    "dropout (module.eval()), or a generator that the function draws from?"
                )
        cotangents = [self.signs(y.shape) for y in outputs]
        gradients = _gradients(problem, outputs, nodes, cotangents)
        for (name, variable), gradient in zip(problem.variables.items(), gradients):
            line = _Line(self, problem, name, gradient, cotangents)
            for _ in range(self.directions if variable.size else 0):
                direction = self.signs(variable.shape)
                if not line.error(direction) <= 1.0:
                    raise problem.fail(line.explain(line.narrow(direction)))

    def blame(self, problem: _Problem) -> str:
        """The first op that does not pass this check by itself, in words."""
        start = tick()
        try:
            nodes = _nodes(problem.outputs(), start)
        except GradcheckError:
            return ""
        for node in nodes[:_SUSPECTS]:
            variables = {
                f"argument {i}": Tensor(_frozen(arg.array), True)
                for i, (arg, parent) in enumerate(zip(node.args, node.parents))
                if parent is not None and arg.dtype == np.float64
            }
            args = [variables.get(f"argument {i}", arg) for i, arg in enumerate(node.args)]

            def run(node: Node = node, args: list[Any] = args) -> Any:
                return apply(node.op, *args, **node.params)

            try:
                self.examine(_Problem("the op", _spell(node), run, variables))
            except GradcheckError as error:
                return str(error)
        return ""
