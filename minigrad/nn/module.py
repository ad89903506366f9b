"""Module, Parameter and Buffer: where weights live, under dotted names."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import ArgumentError, DTypeError, IndexRangeError, InplaceError, ShapeError
from ..nodes import mark_changed, note_switch
from ..spelling import norm, short
from ..tensor import Tensor

if TYPE_CHECKING:
    from .summary import Summary


class Parameter(Tensor):
    """A leaf tensor that a module owns and an optimiser updates.

    data: as for Tensor.  ``name`` is its dotted name once a module has listed it.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> w = nn.Parameter([1.0, 2.0])
    >>> w.requires_grad, w.is_leaf
    (True, True)
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
        notes = "" if self.requires_grad else ", requires_grad=False"
        if self.grad is not None:
            notes += f", grad_norm={short(norm(self.grad.array))}"
        return f"Parameter({self.name or 'unnamed'}, shape={self.shape}, dtype={self.dtype}{notes})"


class Buffer(Tensor):
    """A tensor that a module owns and saves, but that nobody learns: a running mean, say.

    data: as for Tensor.  No gradient goes into it.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> mean = nn.Buffer([0.0, 0.0])
    >>> mean.requires_grad
    False
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None) -> None:
        super().__init__(data, dtype=dtype)

    def __repr__(self) -> str:
        return "Buffer" + super().__repr__().removeprefix("tensor")


class Module:
    """Base of layers and models: parameters, buffers and modules among its attributes are its
    parts.

    Subclasses define ``forward``; calling the module calls it.  Parameters are listed in
    the order in which they were assigned, which makes state and updates reproducible.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self, rng):
    ...         self.inner = nn.Linear(2, 2, generator=rng)
    ...     def forward(self, x):
    ...         return self.inner(self.inner(x))
    >>> model = Twice(mg.manual_seed(0))
    >>> [name for name, _ in model.named_parameters()]
    ['inner.weight', 'inner.bias']
    >>> model(mg.ones(5, 2)).shape
    (5, 2)
    """

    training = True
    # attributes that change what the module does without being handed to an op
    switches: ClassVar[tuple[str, ...]] = ("training",)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.switches and getattr(self, name) is not value:
            note_switch()
        super().__setattr__(name, value)

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

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        """Parts of one kind here and below, with dotted names; a shared one comes once."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for key, part in module._parts():
                if isinstance(part, kind) and id(part) not in seen:
                    seen.add(id(part))
                    yield (f"{prefix}.{key}" if prefix else key), part

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names (``lstm.w_h``); a shared one comes once."""
        for name, part in self._named(Parameter):
            part.name = name
            yield name, part

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Buffers with dotted names (``norm.running_mean``); a shared one comes once."""
        return self._named(Buffer)

    def register_buffer(self, name: str, data: Any) -> None:
        """Own ``data`` (as for Tensor) as a buffer: ``self.name = Buffer(data)``."""
        setattr(self, name, Buffer(data))

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
        """All parameters, and buffers of floats, in float64 (new arrays; gradients are dropped).

        Returns itself.
        """
        return self._convert(np.float64)

    def float(self) -> Module:
        """All parameters, and buffers of floats, in float32 (new arrays; gradients are dropped).

        Returns itself.
        """
        return self._convert(np.float32)

    def _convert(self, dtype: Any) -> Module:
        for part in self._owned().values():
            if part.dtype.kind == "f":
                part.array = part.array.astype(dtype)
                part.grad = None
                mark_changed(part.storage, part.array, "conversion of the module")
        return self

    def _owned(self) -> dict[str, Tensor]:
        """Parameters, then buffers, by dotted name."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters, and then of all buffers, by dotted name."""
        return {name: part.array.copy() for name, part in self._owned().items()}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Set parameters and buffers from ``state`` (name -> array).

        strict: refuse missing and unknown names.  Every difference in names, shapes and
        kinds is listed in one ArgumentError or ShapeError, and then nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise DTypeError(
                f"load_state_dict: expects a dict of arrays by name, got {type(state).__name__}"
            )
        own = self._owned()
        given = {name: _array(name, value) for name, value in state.items()}
        wrong = [f"missing: {name}" for name in own if strict and name not in given]
        wrong += [f"unknown: {name}" for name in given if strict and name not in own]
        if wrong:
            raise ArgumentError("load_state_dict: " + "; ".join(wrong))
        both = [(name, own[name], given[name]) for name in own if name in given]
        wrong = [
            f"{name}: {value.shape} for one of shape {part.shape}"
            for name, part, value in both
            if value.shape != part.shape
        ]
        if wrong:
            raise ShapeError("load_state_dict: " + "; ".join(wrong))
        wrong = [
            f"{name}: {value.dtype} for {part.dtype}"
            for name, part, value in both
            if value.dtype.kind != part.dtype.kind
        ]
        if wrong:
            raise DTypeError("load_state_dict: " + "; ".join(wrong))
        wrong = [name for name, part, _ in both if not part.array.flags.writeable]
        if wrong:
            raise InplaceError(f"load_state_dict: read-only: {', '.join(wrong)}")
        for _, part, value in both:
            part.array[...] = value
            mark_changed(part.storage, part.array, "load_state_dict()")

    @reprlib.recursive_repr()  # a module may be a part of one of its parts
    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"{type(self).__name__}({extra}"]
        for key, part in self._parts():
            if isinstance(part, Module):
                lines.append(f"  {key}: " + repr(part).replace("\n", "\n  "))
            elif isinstance(part, (Parameter, Buffer)) and not extra:  # a layer of somebody's own
                lines.append(f"  {key}: {type(part).__name__} {part.shape}")
            elif key.isdigit():  # a function in a Sequential
                lines.append(f"  {key}: {getattr(part, '__name__', part)}")
        if len(lines) == 1:
            return lines[0] + ")"
        return "\n".join([*lines, ")"])

    def _repr_html_(self) -> str:
        """What a notebook shows: the parts, to be unfolded, with their parameters."""
        from .. import notebook

        return notebook.of_module(self)

    def extra_repr(self) -> str:
        """What stands between the brackets of the repr; subclasses may say."""
        return ""

    def num_parameters(self) -> int:
        """How many numbers there are to learn."""
        return sum(math.prod(p.shape) for p in self.parameters())

    def summary(self, input_shape: Any, *, dtype: Any = None) -> Summary:
        """Layers, output shapes, parameters, flops, and bytes kept for the backward pass.

        input_shape: of what ``forward`` takes, all axes, the batch too: (N, D).  Several inputs:
        a list of shapes.  dtype: of the inputs (a list for several); that of the parameters if
        None, ``dtype=int`` for ids.

        A copy of the module is run on zeros, in the mode the module is in, and what it did is
        told: nothing of the module changes, no generator, buffer or gradient.

        Returns a :class:`minigrad.nn.summary.Summary`, which prompts and notebooks show; in a
        script, print it.

        >>> import numpy as np
        >>> from minigrad import nn
        >>> rng = np.random.default_rng(0)
        >>> net = nn.Sequential(nn.Linear(4, 8, generator=rng), nn.ReLU())
        >>> net.summary((2, 4)).parameters
        40

        Raises ArgumentError for a shape that is none, a module that cannot be copied, or one
        that cannot be run; what minigrad refuses keeps its type (ShapeError, DTypeError).
        """
        from .summary import summarise

        return summarise(self, input_shape, dtype)


def _entry(owner: str, modules: list[Any], index: Any) -> Any:
    try:
        return modules[index]
    except IndexError:
        raise IndexRangeError(f"{owner}: there is no entry {index} of {len(modules)}") from None


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:  # a ragged list
        raise ShapeError(f"load_state_dict: {name} is not an array: {error}") from error


class Sequential(Module):
    """Modules (or functions of one tensor) called one after the other.

    Raises DTypeError for anything that cannot be called.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(3, 5, generator=rng), nn.Tanh(), nn.Flatten())
    >>> model(mg.ones(4, 3)).shape
    (4, 5)
    >>> model.num_parameters()
    20
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
        return _entry("Sequential", self._modules, index)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules)


class ModuleList(Module):
    """A list of modules whose parameters are found.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> layers = nn.ModuleList(nn.Linear(2, 2, generator=rng) for _ in range(3))
    >>> len(layers), len(layers.parameters())
    (3, 6)
    """

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
        return _entry("ModuleList", self._modules, index)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)
