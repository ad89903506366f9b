"""Checks of gradients and of kernels, for minigrad's own tests and for those of its users.

    def test_softplus():
        x = np.random.default_rng(0).standard_normal((3, 5))
        gradcheck(lambda x: mg.log1p(mg.exp(x)), x)

How a gradient is compared, and how the wrong op is found, is in minigrad/_gradcheck.py.
Nothing but NumPy is needed.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._gradcheck import Check, Problem, frozen
from .autodiff import grad
from .errors import ArgumentError, KernelMismatchError
from .kernels import Kernel, load
from .tensor import Tensor


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
    by name, ``named_parameters()``, or a sequence); they are float64 during the check and
    put back after it.
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

    >>> import minigrad as mg
    >>> from minigrad.testing import gradcheck
    >>> gradcheck(mg.tanh, mg.ones(2, 3))
    True
    """
    __tracebackhide__ = True
    check = Check(eps, rtol, atol, directions, generator)
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

    >>> import minigrad as mg
    >>> from minigrad.testing import gradgradcheck
    >>> gradgradcheck(mg.tanh, mg.ones(2, 3))
    True
    """
    __tracebackhide__ = True
    check = Check(eps, rtol, atol, directions, generator)
    with _prepared("gradgradcheck", function, inputs, parameters) as problem:
        cotangents = [Tensor(frozen(check.signs(y.shape)), True) for y in problem.live()]
        inner = list(problem.variables.values())

        def gradient() -> list[Tensor]:
            outputs = problem.live()
            if not outputs:
                raise problem.fail("no output depends on anything that requires a gradient")
            found = grad(outputs, inner, cotangents, create_graph=True, allow_unused=True)
            return [g for g in found if g is not None]

        named = {f"grad_outputs[{i}]": c for i, c in enumerate(cotangents)}
        name = f"the gradient of {problem.name}"
        second = Problem("gradgradcheck", name, gradient, {**problem.variables, **named})
        return check.verdict(second, raise_exception)


def check_twin(kernel: Kernel | str, *args: Any) -> Any:
    """Run a registered kernel and its NumPy twin on the same input and compare.

    kernel: a Kernel or its name in ``minigrad.kernels.load()``.  args: what it is called
    with; results are written into its output arguments, as in any call of the kernel.
    Returns what the kernel returns.

    Raises KernelMismatchError naming the argument, the first index that differs and both
    values, or an argument that was written to though it is no output; ArgumentError for an
    unknown name.

    >>> import numpy as np
    >>> from minigrad.testing import check_twin
    >>> x, y = np.array([-1.0, 2.0]), np.empty(2)
    >>> check_twin("relu", x, y, 0, 2)
    >>> y
    array([0., 2.])
    """
    __tracebackhide__ = True
    if not isinstance(kernel, Kernel):
        registry = load()
        if kernel not in registry:
            raise ArgumentError(
                f"check_twin: no kernel {kernel!r}; there are {', '.join(sorted(registry))}"
            )
        kernel = registry[kernel]
    before = [copy.deepcopy(arg) for arg in args]
    result = kernel._check(*args)
    for i, (name, old, new) in enumerate(zip(kernel.names, before, args)):
        if i in kernel.outputs or not isinstance(new, np.ndarray):
            continue
        if not np.array_equal(old, new, equal_nan=new.dtype.kind == "f"):
            raise KernelMismatchError(
                f"kernel {kernel.name}: it or its twin wrote into argument {name!r}, which is not "
                "among its outputs"
            )
    return result


# -- from what the user gave to leaf tensors -------------------------------------------------


@contextmanager
def _prepared(
    caller: str, function: Callable[..., Any], inputs: Any, parameters: Any
) -> Iterator[Problem]:
    """The problem that a caller of gradcheck describes; puts ``parameters`` back at the end."""
    name = getattr(function, "__name__", type(function).__name__)
    owner = getattr(function, "__self__", function)
    if parameters is None and hasattr(owner, "named_parameters"):
        owner = copy.deepcopy(owner)
        function = function.__func__.__get__(owner) if inspect.ismethod(function) else owner
        parameters = dict(owner.named_parameters())
    if not isinstance(parameters, Mapping):
        pairs = enumerate(parameters or ())
        parameters = dict(p if isinstance(p, tuple) else (i, p) for i, p in pairs)
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
            p.array = frozen(p.array.astype(np.float64))
        yield Problem(caller, name, lambda: function(*args, **kwargs), variables)
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
    leaf = variables[name] = Tensor(frozen(np.array(array, np.float64)), requires_grad=True)
    return leaf
