"""Putting saved values back into objects: all differences first, then all or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import ArgumentError, CheckpointError, MinigradError
from ..nn.module import Module
from ..nodes import mark_changed
from ..optim import Optimizer
from ..tensor import Tensor

_Pair = tuple[str, Any, Any]  # name, what to restore, what was saved of it


def restore(saved: Mapping[str, Any], objects: Mapping[str, Any], where: str) -> None:
    """Bring every object into the state that ``saved`` has under its name.

    Modules, optimisers, generators, arrays, lists and dicts, and all that has ``state_dict`` and
    ``load_state_dict``, are changed in place; dicts and lists of such things too.

    Raises CheckpointError with every difference in names, kinds, shapes and dtypes, and
    ArgumentError for an object that cannot be changed in place; nothing is changed then.
    where: heads the message.
    """
    missing = [f"{name}: not in the file" for name in objects if name not in saved]
    pairs = [
        leaf
        for name, thing in objects.items()
        if name in saved
        for leaf in _leaves(name, thing, saved[name])
    ]
    wrong = missing + [line for pair in pairs for line in _differences(*pair)]
    stateful = [pair for pair in pairs if _has_state(pair[1]) and not isinstance(pair[1], Module)]
    fitting = [pair for pair in stateful if not list(_differences(*pair))]
    wrong += _load_or_undo(fitting, keep=not wrong)
    if wrong:
        many = f"{len(wrong)} differences" if len(wrong) > 1 else "1 difference"
        raise CheckpointError(
            f"{where} does not fit, nothing was changed; {many}: {'; '.join(wrong)}"
        )
    for _, thing, value in pairs:
        _put(thing, value)


class _Missing:
    """Stands for what one side does not have."""


def _leaves(name: str, thing: Any, value: Any) -> Iterator[_Pair]:
    """The pairs in a container of things to restore; itself where there are none in it."""
    if type(thing) is dict and isinstance(value, dict) and any(map(_in_place, thing.values())):
        for key in {**thing, **value}:
            yield from _leaves(f"{name}/{key}", thing.get(key, _Missing), value.get(key, _Missing))
    elif type(thing) is list and isinstance(value, list) and any(map(_has_state, thing)):
        for i in range(max(len(thing), len(value))):
            both = [side[i] if i < len(side) else _Missing for side in (thing, value)]
            yield from _leaves(f"{name}/{i}", *both)
    else:
        yield name, thing, value


def _has_state(thing: Any) -> bool:
    return hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")


def _in_place(thing: Any) -> bool:
    """Whether a value can be put into ``thing``."""
    kinds = (np.ndarray, np.random.Generator, Tensor, list, dict)
    return _has_state(thing) or isinstance(thing, kinds)


# -- differences ------------------------------------------------------------------------------


def _differences(name: str, thing: Any, value: Any) -> Iterator[str]:
    """What keeps ``value`` from being put into ``thing``, a line each."""
    if value is _Missing:
        yield f"{name}: not in the file"
    elif thing is _Missing:
        yield f"{name}: only in the file"
    elif isinstance(thing, Module):
        yield from _arrays_differ(name, thing.state_dict(), value)
    elif isinstance(thing, Optimizer):
        yield from _optimizers_differ(name, thing, value)
    elif _has_state(thing):
        if not isinstance(value, dict):
            yield f"{name}: the file has a {_kind(value)}, not the state of a {_kind(thing)}"
    elif isinstance(thing, (np.ndarray, Tensor)):
        if not _numbers(thing).flags.writeable:
            raise ArgumentError(f"checkpoint: the array of {name} is read-only; give it a copy")
        if not isinstance(value, Tensor if isinstance(thing, Tensor) else np.ndarray):
            yield f"{name}: the file has a {_kind(value)}, here it is a {_kind(thing)}"
        else:
            yield from _array_differs(name, _numbers(thing), _numbers(value))
    elif isinstance(thing, np.random.Generator):
        own = type(thing.bit_generator).__name__
        other = isinstance(value, np.random.Generator) and type(value.bit_generator).__name__
        if own != other:
            yield f"{name}: the file has a {other or _kind(value)}, here it is a {own}"
    elif type(thing) in (list, dict):
        if type(value) is not type(thing):
            yield f"{name}: the file has a {_kind(value)}, here it is a {_kind(thing)}"
    else:
        raise ArgumentError(
            f"checkpoint: {name} is a {_kind(thing)}, into which nothing can be loaded; leave it "
            "out, and take it from what load() returns"
        )


def _arrays_differ(name: str, own: Mapping[str, Any], value: Any) -> Iterator[str]:
    """Names, shapes and dtypes of a dict of arrays."""
    if not isinstance(value, dict):
        yield f"{name}: the file has a {_kind(value)}, not named arrays"
        return
    for key in {**own, **value}:
        place = f"{name}/{key}"
        if key not in value:
            yield f"{place}: not in the file"
        elif key not in own:
            yield f"{place}: only in the file"
        elif not isinstance(value[key], np.ndarray):
            yield f"{place}: the file has a {_kind(value[key])}, here it is an array"
        else:
            yield from _array_differs(place, own[key], value[key])


def _array_differs(name: str, own: np.ndarray, value: np.ndarray) -> Iterator[str]:
    if own.shape != value.shape:
        yield f"{name}: shape {value.shape} in the file, {own.shape} here"
    if own.dtype != value.dtype:
        yield f"{name}: {value.dtype} in the file, {own.dtype} here"


def _optimizers_differ(name: str, optimizer: Optimizer, value: Any) -> Iterator[str]:
    """The kind, the parameters of each group, shapes and dtypes of what is kept for them."""
    if not isinstance(value, dict) or not isinstance(value.get("state"), dict):
        yield f"{name}: the file has a {_kind(value)}, not the state of an optimiser"
        return
    own = optimizer.state_dict()
    if value.get("optimizer") != own["optimizer"]:
        yield f"{name}: {value.get('optimizer')} in the file, {own['optimizer']} here"
        return
    groups = value.get("param_groups")
    theirs = [g.get("params") if isinstance(g, dict) else None for g in groups or ()]
    ours = [group["params"] for group in own["param_groups"]]
    if theirs != ours:
        yield f"{name}: the groups {theirs} in the file, {ours} here"
        return
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    for (key, kept), tensor in zip(value["state"].items(), tensors):
        for slot, array in kept.items() if isinstance(kept, dict) else ():
            if isinstance(array, np.ndarray):
                yield from _array_differs(f"{name}/{key}/{slot}", tensor.array, array)


def _numbers(value: Any) -> np.ndarray:
    return value.array if isinstance(value, Tensor) else value


def _kind(value: Any) -> str:
    return type(value).__name__


# -- changing ---------------------------------------------------------------------------------


def _load_or_undo(pairs: list[_Pair], keep: bool) -> list[str]:
    """Let each thing load its state; take all back unless every one fits and ``keep`` is set.

    Returns what they complained of.  (A thing that refuses a state is unchanged.)
    """
    wrong, before = [], []
    for name, thing, value in pairs:
        state = thing.state_dict()
        try:
            thing.load_state_dict(value)
        except (MinigradError, TypeError, ValueError, KeyError, AttributeError) as error:
            wrong.append(f"{name}: {error}")
        else:
            before.append((thing, state))
    if wrong or not keep:
        for thing, state in reversed(before):
            thing.load_state_dict(state)
    return wrong


def _put(thing: Any, value: Any) -> None:
    """Change ``thing`` to ``value``, which fits."""
    if isinstance(thing, Module):
        thing.load_state_dict(value)
    elif isinstance(thing, np.ndarray):
        thing[...] = value
    elif isinstance(thing, Tensor):
        thing.array[...] = value.array
        mark_changed(thing.storage, thing.array, "checkpoint.load()")
    elif isinstance(thing, np.random.Generator):
        thing.bit_generator.state = value.bit_generator.state
    elif type(thing) is list:
        thing[:] = value
    elif type(thing) is dict:
        thing.clear()
        thing.update(value)
