"""Module and Parameter: where weights live, under dotted names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph import mark_changed
from ..tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that a module owns and an optimiser updates.

    data: as for Tensor.  ``name`` is its dotted name once a module has listed it.
    """

    __slots__ = ("name",)

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None) -> None:
        super().__init__(data, requires_grad, dtype)
        self.name = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copy = super().__deepcopy__(memo)
        assert isinstance(copy, Parameter)
        copy.name = self.name
        return copy

    def __repr__(self) -> str:
        return f"Parameter({self.name or 'unnamed'}, shape={self.shape}, dtype={self.dtype})"


class Module:
    """Base of layers and models: attributes that are parameters or modules are its parts.

    Subclasses define ``forward``; calling the module calls it.  Parameters are listed in
    the order in which they were assigned, which makes state and updates reproducible.
    """

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass says."""
        raise TypeError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def _parts(self) -> Iterable[tuple[str, Any]]:
        return vars(self).items()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names; one used twice comes once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            below = [
                (f"{name}.{key}" if name else key, part)
                for key, part in module._parts()
                if isinstance(part, Module)
            ]
            stack += reversed(below)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names (``lstm.w_h``); a shared one comes once."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for key, part in module._parts():
                if isinstance(part, Parameter) and id(part) not in seen:
                    seen.add(id(part))
                    part.name = f"{prefix}.{key}" if prefix else key
                    yield part.name, part

    def parameters(self) -> list[Parameter]:
        """The parameters, in the order of their names' first assignment."""
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients (or fill them with zeros)."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.data = np.zeros_like(parameter.array)

    def train(self, mode: bool = True) -> Module:
        """Training behaviour (dropout on) here and below.  Returns itself."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation behaviour here and below.  Returns itself."""
        return self.train(False)

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call ``function`` on this module and every one below.  Returns itself."""
        for module in self.modules():
            function(module)
        return self

    def double(self) -> Module:
        """All parameters in float64 (new arrays; gradients are dropped).  Returns itself."""
        return self._convert(np.float64)

    def float(self) -> Module:
        """All parameters in float32 (new arrays; gradients are dropped).  Returns itself."""
        return self._convert(np.float32)

    def _convert(self, dtype: Any) -> Module:
        for parameter in self.parameters():
            parameter.array = parameter.array.astype(dtype)
            parameter.grad = None
            mark_changed(parameter.storage, parameter.array, "conversion of the module")
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by dotted name."""
        return {name: p.array.copy() for name, p in self.named_parameters()}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Set parameters from ``state`` (name -> array).

        strict: refuse missing and unknown names.  Every difference in names, shapes and
        kinds is listed in one ArgumentError or ShapeError, and then nothing is changed.
        """
        own = dict(self.named_parameters())
        given = {name: np.asarray(value) for name, value in state.items()}
        wrong = [f"missing: {name}" for name in own if strict and name not in given]
        wrong += [f"unknown: {name}" for name in given if strict and name not in own]
        if wrong:
            raise ArgumentError("load_state_dict: " + "; ".join(wrong))
        both = [(name, own[name], given[name]) for name in own if name in given]
        wrong = [
            f"{name}: {value.shape} for a parameter of shape {parameter.shape}"
            for name, parameter, value in both
            if value.shape != parameter.shape
        ]
        if wrong:
            raise ShapeError("load_state_dict: " + "; ".join(wrong))
        wrong = [f"{name}: {value.dtype}" for name, _, value in both if value.dtype.kind != "f"]
        if wrong:
            raise DTypeError("load_state_dict: not floats: " + "; ".join(wrong))
        for _, parameter, value in both:
            parameter.array[...] = value
            mark_changed(parameter.storage, parameter.array, "load_state_dict()")

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}({self.extra_repr()}"]
        for key, part in self._parts():
            if isinstance(part, Module):
                lines.append(f"  {key}: " + repr(part).replace("\n", "\n  "))
        if len(lines) == 1:
            return lines[0] + ")"
        return "\n".join([*lines, ")"])

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr; subclasses may say."""
        return ""

    def num_parameters(self) -> int:
        """How many numbers there are to learn."""
        return sum(math.prod(p.shape) for p in self.parameters())


class Sequential(Module):
    """Modules (or functions of one tensor) called one after the other.

    Raises DTypeError for anything that cannot be called.
    """

    def __init__(self, *modules: Callable[..., Any]) -> None:
        for i, module in enumerate(modules):
            if not callable(module):
                raise DTypeError(f"Sequential: entry {i} is not callable: {module!r}")
        self._modules = list(modules)

    def _parts(self) -> Iterable[tuple[str, Any]]:
        return ((str(i), module) for i, module in enumerate(self._modules))

    def forward(self, x: Any) -> Any:
        """x through each module in turn."""
        for module in self._modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Any:
        return self._modules[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules)


class ModuleList(Module):
    """A list of modules whose parameters are found."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._modules: list[Module] = []
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end.  Returns itself.  Raises DTypeError for anything else."""
        if not isinstance(module, Module):
            raise DTypeError(f"ModuleList holds modules, got {type(module).__name__}")
        self._modules.append(module)
        return self

    def _parts(self) -> Iterable[tuple[str, Any]]:
        return ((str(i), module) for i, module in enumerate(self._modules))

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        return self._modules[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)
