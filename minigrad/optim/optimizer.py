"""What all optimisers share: parameter groups, checks, the step, saving and loading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import kernels
from ..errors import ArgumentError, DTypeError, GraphError, InplaceError, ShapeError
from ..nodes import call_site, mark_changed, refuse_on_tape
from ..tensor import Tensor
from ._checks import Check, gradients, named_tensors, refuse_duplicates
from .clip import ClipReport, clip_grad_norm_
from .replay import Replay

# kernel, names of the state arrays it takes, and the numbers it takes after them
Rule = tuple[kernels.Kernel, tuple[str, ...], tuple[Any, ...]]


class _Entry:
    """One parameter: its flat view, and the arrays that the update rule keeps for it."""

    __slots__ = ("tensor", "name", "group", "array", "flat", "strided", "slots", "state", "steps")

    def __init__(
        self,
        tensor: Tensor,
        name: str,
        group: dict[str, Any],
        where: str,
        slots: tuple[str, ...] = (),
        state: Sequence[np.ndarray] = (),
        steps: int = 0,
    ) -> None:
        self.tensor = tensor
        self.name = name
        self.group = group
        self.slots = slots
        self.state = list(state)  # (n,) each, in the order of slots
        self.steps = steps
        self.array = tensor.array
        if tensor.node is not None:
            raise GraphError(
                f"{where}: {name} is not a leaf but the result of {tensor.node.name!r}; an "
                "optimiser updates leaves (tensors made by you, with requires_grad=True)"
            )
        self.bind(where)

    def bind(self, where: str) -> None:
        """Look at the parameter's array anew: it is another one since a conversion."""
        array = self.tensor.array
        if array.dtype not in (np.float32, np.float64):
            raise DTypeError(
                f"{where}: {self.name} is {array.dtype}; an optimiser updates float32 and float64"
            )
        if not array.flags.writeable:
            raise InplaceError(f"{where}: the array of {self.name} is read-only; give it a copy")
        if array.shape != self.array.shape:
            raise ShapeError(
                f"{where}: {self.name} had shape {self.array.shape} and now has {array.shape}; "
                "make a new optimiser"
            )
        self.array = array
        self.strided = not array.flags.c_contiguous
        self.flat = array.ravel()  # a view, or a buffer if strided
        self.state = [x.astype(array.dtype, copy=False) for x in self.state]

    def __reduce__(self) -> tuple[Any, ...]:
        # without the view, which a copy or a pickle would make an array of its own
        return _Entry, (
            self.tensor, self.name, self.group, "copy", self.slots, self.state, self.steps
        )  # fmt: skip


def _groups(params: Any) -> list[Any]:
    """``params`` as a list of groups, whatever form it has; their contents are not checked."""
    if isinstance(params, Mapping):
        return [params] if "params" in params else [{"params": params}]
    if isinstance(params, Iterable) and not hasattr(params, "parameters"):
        params = list(params)
        if any(isinstance(item, Mapping) for item in params):
            return params
    return [{"params": params}]


class Optimizer:
    """Base of the update rules; use one of the subclasses.

    params: leaf tensors of float32 or float64; or (name, tensor) pairs; or groups, dicts
    with the key ``params`` and any of the settings, which then hold for that group only.
    allow_missing: skip parameters without a gradient instead of refusing the step.

    ``param_groups`` is a list of dicts: ``params`` and the settings, which may be changed
    between steps (``optimizer.param_groups[0]["lr"] = 0.1``).

    Raises ArgumentError for settings out of range, no parameters or one given twice;
    DTypeError for other kinds of things; GraphError for tensors that are not leaves.

    >>> import minigrad as mg
    >>> from minigrad import nn, optim
    >>> layer = nn.Linear(2, 1, generator=mg.manual_seed(0))
    >>> groups = [{"params": layer.weight}, {"params": layer.bias, "lr": 0.5}]
    >>> optimizer = optim.SGD(groups, lr=0.1)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.5]
    """

    # name of a setting -> how it is checked; a subclass lists all that it has
    _settings: ClassVar[dict[str, Check]]

    def __init__(self, params: Any, defaults: dict[str, Any], allow_missing: bool) -> None:
        where = type(self).__name__
        self.param_groups: list[dict[str, Any]] = []
        self.allow_missing = allow_missing
        self._entries: list[_Entry] = []
        self._tensors: list[Tensor] = []
        self._names: list[str] = []
        self._arrangement = 0  # another number whenever a parameter or a state is in new memory
        self._checked: list[dict[str, Any]] = []  # each group as it was when last checked
        self._defaults = self._check(defaults, where)
        if isinstance(params, Tensor):
            raise DTypeError(f"{where}: expects a list of tensors, got one; write [tensor]")
        for group in _groups(params):
            self.add_param_group(group)

    # -- what a subclass says -----------------------------------------------------------

    def _rule(self, group: dict[str, Any], step: int) -> Rule:
        """How to update a parameter of ``group`` for the ``step``-th time (from 1).

        The same tuple object of slot names must come back each time.
        """
        raise TypeError(f"{type(self).__name__} has no update rule; use SGD, Adam, ...")

    def _initial(self, group: dict[str, Any], slot: str) -> float:
        """What a state array is filled with before the first step."""
        return 0.0

    def _check(self, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The settings, each in its range and of its type."""
        return {name: check(settings[name], name, where) for name, check in self._settings.items()}

    # -- groups -------------------------------------------------------------------------

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters, with settings of their own where ``group`` has them.

        group: ``{"params": ..., "lr": 0.1}``; settings left out are the optimiser's.
        Raises as the constructor does, and then nothing is added.
        """
        where = f"{type(self).__name__}, group {len(self.param_groups)}"
        if not isinstance(group, Mapping):
            raise DTypeError(
                f"{where}: expects a dict with the key 'params', got {type(group).__name__}; "
                "tensors and groups cannot be mixed in one list"
            )
        unknown = [repr(name) for name in group if name not in (*self._settings, "params")]
        if "params" not in group or unknown:
            raise ArgumentError(
                f"{where}: a group is a dict with the key 'params' and any of "
                f"{', '.join(self._settings)}; "
                + (f"unknown: {', '.join(unknown)}" if unknown else "'params' is missing")
            )
        settings = self._check({**self._defaults, **group}, where)
        tensors, names = named_tensors(group["params"], where)
        start = len(self._tensors)
        names = [
            f"parameter {start + i}" if name == f"parameter {i}" else name
            for i, name in enumerate(names)
        ]
        refuse_duplicates(self._tensors + tensors, self._names + names, where)
        added: dict[str, Any] = {"params": tuple(tensors), **settings}
        entries = [_Entry(t, name, added, where) for t, name in zip(tensors, names)]
        self.param_groups.append(added)
        self._checked.append(dict(added))
        self._entries += entries
        self._arrangement += 1
        self._tensors += tensors
        self._names += names

    def _check_groups(self, where: str) -> None:
        """Check the groups whose settings were changed since the last step."""
        if len(self.param_groups) == 1 == len(self._checked):  # no loop, for the smallest models
            group, checked = self.param_groups[0], self._checked[0]
            if group.get("params") is checked["params"] and group == checked:
                return
        if len(self.param_groups) != len(self._checked):
            raise ArgumentError(f"{where}: param_groups was changed; use add_param_group()")
        for i, (group, checked) in enumerate(zip(self.param_groups, self._checked)):
            if group.get("params") is not checked["params"]:
                raise ArgumentError(
                    f"{where}: 'params' of group {i} was replaced; use add_param_group()"
                )
            if group != checked:
                unknown = [repr(name) for name in group if name not in checked]
                missing = [repr(name) for name in checked if name not in group]
                if unknown or missing:
                    raise ArgumentError(
                        f"{where}: group {i} has settings {', '.join(self._settings)}; "
                        f"unknown: {', '.join(unknown) or 'none'}, "
                        f"missing: {', '.join(missing) or 'none'}"
                    )
                group.update(self._check(group, f"{where}, group {i}"))
                self._checked[i] = dict(group)

    # -- the step -----------------------------------------------------------------------

    def step(self) -> None:
        """Update every parameter in place from its ``.grad``.

        Parameters with ``requires_grad=False`` are skipped.  Raises GraphError naming the
        others that have no gradient (unless ``allow_missing``), ShapeError or DTypeError for
        gradients that do not fit, ArgumentError for settings changed to something out of
        range; nothing is updated then.
        """
        where = f"{type(self).__name__}.step()"
        refuse_on_tape("changes data in place (optimizer.step())")
        self._check_groups(where)
        found = gradients(self._tensors, self._names, where, self.allow_missing)
        for entry in self._entries:
            if entry.tensor.array is not entry.array:
                entry.bind(where)
                self._arrangement += 1
        group: dict[str, Any] | None = None
        steps = -1
        site = call_site()
        for entry, gradient in zip(self._entries, found):
            if gradient is None:
                continue
            if entry.group is not group or entry.steps != steps:
                group, steps = entry.group, entry.steps
                kernel, slots, numbers = self._rule(group, steps + 1)
            self._allocate(entry, slots)
            flat = gradient.array if gradient.array.ndim == 1 else gradient.array.ravel()
            if entry.strided:
                entry.flat[:] = entry.array.ravel()
            kernels.run_rows(
                kernel, flat.size, kernel.grain, entry.flat, flat, *entry.state, *numbers
            )
            if entry.strided:
                entry.array[...] = entry.flat.reshape(entry.array.shape)
            entry.steps += 1
            mark_changed(entry.tensor.storage, entry.array, "optimizer.step()", site)

    def clip_grad_norm_(self, max_norm: float) -> ClipReport:
        """:func:`minigrad.optim.clip_grad_norm_` of all its parameters, by their names here."""
        named = zip(self._names, self._tensors)
        return clip_grad_norm_(list(named), max_norm, allow_missing=self.allow_missing)

    def on_gradients(
        self, gradients: Mapping[int, np.ndarray | None], max_norm: float | None
    ) -> Replay | None:
        """Clipping and :meth:`step` for gradients that come in the same memory each time.

        gradients: id of a tensor -> where its gradient will be, which becomes its ``.grad``.
        max_norm: for clipping, or None.  Returns None where only :meth:`step` will do: for any
        but these tensors, and for those that are not as they were at the last step.
        """
        own = {id(tensor) for tensor in self._tensors}
        if any(g is not None and key not in own for key, g in gradients.items()):
            return None
        found = [gradients.get(id(tensor)) for tensor in self._tensors]
        for entry, gradient in zip(self._entries, found):
            array = entry.tensor.array
            if array is not entry.array or entry.strided:
                return None
            if gradient is not None and (gradient.shape, gradient.dtype) != (
                array.shape, array.dtype
            ):  # fmt: skip
                return None
        return Replay(self, found, max_norm)

    def _allocate(self, entry: _Entry, slots: tuple[str, ...]) -> None:
        """Give a parameter the state arrays of its rule, keeping those that it has."""
        if entry.slots is slots:
            return
        self._arrangement += 1
        have = dict(zip(entry.slots, entry.state))
        for slot in slots:
            if slot not in have:
                have[slot] = np.full_like(entry.flat, self._initial(entry.group, slot))
        entry.slots, entry.state = slots, [have[slot] for slot in slots]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or fill them with zeros)."""
        for tensor in self._tensors:
            gradient = tensor.grad
            if set_to_none or gradient is None:
                tensor.grad = None
            else:
                gradient.array.fill(0)
                mark_changed(gradient.storage, gradient.array, "zero_grad()")

    # -- saving and loading -------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, apart from the parameters; copies.

        ``optimizer`` the class's name; ``param_groups`` the settings of each group, and the
        names of its parameters as ``params``; ``state`` position of a parameter -> dict of
        its arrays by slot name, each of the parameter's shape, and ``steps``.
        """
        state: dict[int, dict[str, Any]] = {}
        for i, entry in enumerate(self._entries):
            state[i] = {"steps": entry.steps}
            if entry.steps:
                self._allocate(entry, self._rule(entry.group, 1)[1])
                for slot, x in zip(entry.slots, entry.state):
                    state[i][slot] = x.reshape(entry.array.shape).copy()
        groups = self._named_groups()
        return {"optimizer": type(self).__name__, "param_groups": groups, "state": state}

    def _named_groups(self) -> list[dict[str, Any]]:
        """The groups with names of parameters in place of the parameters."""
        return [
            {**group, "params": [e.name for e in self._entries if e.group is group]}
            for group in self.param_groups
        ]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken; the next steps give the same bits.

        Arrays are cast to the dtype of their parameter.  Raises ArgumentError if class,
        groups, names of parameters or slots differ, ShapeError for arrays that do not fit,
        DTypeError for arrays that are not floats; nothing is changed then.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise DTypeError(f"{where}: expects a dict, got {type(state).__name__}")
        for key in ("optimizer", "param_groups", "state"):
            if key not in state:
                raise ArgumentError(
                    f"{where}: {key!r} is missing; this is no state of an optimiser"
                )
        if state["optimizer"] != type(self).__name__:
            raise ArgumentError(f"{where}: this is the state of {state['optimizer']}")
        own = self._named_groups()
        theirs = [group.get("params") for group in state["param_groups"]]
        if [group["params"] for group in own] != theirs:
            raise ArgumentError(
                f"{where}: parameters differ; by group, here "
                f"{[group['params'] for group in own]}, in the state {theirs}"
            )
        settings = []
        for i, group in enumerate(state["param_groups"]):
            if group.keys() != own[i].keys():
                raise ArgumentError(
                    f"{where}: group {i} has settings {', '.join(group)}, not {', '.join(own[i])}"
                )
            settings.append(self._check(group, f"{where}, group {i}"))
        given = {str(key): value for key, value in state["state"].items()}
        if given.keys() != set(map(str, range(len(self._entries)))):
            raise ArgumentError(
                f"{where}: 'state' must have the keys 0 to {len(self._entries) - 1}"
            )
        loaded = []
        for i, entry in enumerate(self._entries):
            group = next(s for s, g in zip(settings, self.param_groups) if g is entry.group)
            loaded.append((entry, *self._loaded(entry, group, given[str(i)], where)))
        for own_group, new in zip(self.param_groups, settings):
            own_group.update(new)
        self._arrangement += 1
        for entry, slots, arrays, steps in loaded:
            entry.slots, entry.state, entry.steps = slots, arrays, steps

    def _loaded(
        self, entry: _Entry, settings: dict[str, Any], given: Mapping[str, Any], where: str
    ) -> tuple[tuple[str, ...], list[np.ndarray], int]:
        """Slot names, flat copies of the arrays and the step count of one parameter."""
        steps = given.get("steps")
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 0:
            raise ArgumentError(f"{where}: 'steps' of {entry.name} is {steps!r}, not a count")
        slots = self._rule(settings, 1)[1] if steps else ()
        if set(given) != {"steps", *slots}:
            raise ArgumentError(
                f"{where}: {entry.name} should have {', '.join(('steps', *slots))} after "
                f"{steps} steps, has {', '.join(given)}"
            )
        arrays = []
        for slot in slots:
            array = np.asarray(given[slot])
            if array.dtype.kind != "f":
                raise DTypeError(f"{where}: {slot} of {entry.name} is {array.dtype}, not floats")
            if array.shape != entry.array.shape:
                raise ShapeError(
                    f"{where}: {slot} of {entry.name} has shape {array.shape}, the parameter "
                    f"{entry.array.shape}"
                )
            arrays.append(array.astype(entry.array.dtype).ravel())
        return slots, arrays, int(steps)

    def __repr__(self) -> str:
        groups = [
            f"{len(g['params'])} parameters, " + ", ".join(f"{k}={g[k]!r}" for k in self._settings)
            for g in self.param_groups
        ]
        return f"{type(self).__name__}({'; '.join(groups)})"
