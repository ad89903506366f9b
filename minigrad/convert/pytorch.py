"""PyTorch's names and layouts.

    Linear     weight (out, in)              LSTM, GRU, RNN    weight_ih_l0  (G H, D)
    Conv2d     weight (O, C / groups, KH, KW)                  weight_hh_l0  (G H, P)
    LSTM       gates i, f, g, o (g is j)                       bias_ih_l0, bias_hh_l0  (G H,)
    GRU        gates r, z, n (u is z, c is n)                  weight_hr_l0  (P, H), a projection

Layer l of a stack has the suffix _l1, _l2; the one that runs backwards _l0_reverse; a cell none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import nn
from ..errors import ArgumentError
from . import gates
from .report import floats, raise_if, refused, shape_differences

ORDER = {"LSTM": "ifjo", "GRU": "ruc", "RNN": "h"}
NORMS = (nn.BatchNorm, nn.LayerNorm)
COUNTER = "num_batches_tracked"  # of its batch norm; nothing here depends on it


class Part(NamedTuple):
    """A layer that has weights, and where both sides keep them."""

    layer: Any
    name: str  # here, with a dot at the end unless it is the whole module
    prefix: str  # there, likewise
    suffix: str  # of names there, for recurrent layers


def _stack(module: Any) -> list[tuple[Any, str, str]] | None:
    """The recurrent layers of which PyTorch makes one module: layer, name here, suffix there.

    None for other modules, and for layers that differ in kind or size: they go one by one.
    """
    module = gates.without_dropout(module)
    if gates.kind_of(module) is not None:
        return [(module, "", "" if isinstance(module, gates.CELLS) else "_l0")]
    found = []
    if isinstance(module, nn.Bidirectional) and module.merge == "concat":
        for name, end in (("forward_layer", ""), ("backward_layer", "_reverse")):
            entry = getattr(module, name)
            layer = gates.without_dropout(entry)
            if gates.kind_of(layer) is None:
                return None
            found.append((layer, f"{name}.{_inside(entry)}", f"_l0{end}"))
    elif isinstance(module, nn.Stacked) and not module.is_cell:
        for i, entry in enumerate(module.layers):
            inner = _stack(entry)
            if inner is None or isinstance(gates.without_dropout(entry), nn.Stacked):
                return None
            for layer, name, suffix in inner:
                path = f"layers.{i}.{_inside(entry)}{name}"
                found.append((layer, path, suffix.replace("_l0", f"_l{i}")))
    kinds = {(gates.kind_of(layer), layer.hidden_size) for layer, _, _ in found}
    return found if len(kinds) == 1 else None


def _inside(module: Any) -> str:
    """Names of the dropout wrappers' contents: ``inner.`` for each."""
    path = ""
    while isinstance(module, nn.DropoutWrapper):
        module, path = module.inner, path + "inner."
    return path


def _parts(module: Any, name: str = "") -> Iterator[Part | str]:
    """The layers with weights of a module; text for what has no counterpart."""
    stack = _stack(module)
    if stack is not None:
        here = name + _inside(module)
        for layer, path, suffix in stack:
            reason = gates.refusal(layer, "PyTorch")
            yield refused(f"{here}{path}", layer, reason) if reason else Part(
                layer, here + path, name, suffix
            )
    elif isinstance(module, (nn.Linear, nn.Embedding, nn.Conv2d, *NORMS)):
        yield Part(module, name, name, "")
    else:
        below = list(module._parts())
        if any(isinstance(part, nn.Parameter) for _, part in below):
            yield refused(name, module, "PyTorch has no layer with its parameters")
            return
        for key, part in below:
            if isinstance(part, nn.Module):
                yield from _parts(part, f"{name}{key}.")


def _leave(part: Part) -> dict[str, np.ndarray]:
    """The weights of one layer as PyTorch has them."""
    layer: Any = part.layer
    if isinstance(layer, (nn.Linear, nn.Embedding, nn.Conv2d, *NORMS)):
        weight = layer.weight.array
        if isinstance(layer, nn.Linear):
            weight = weight.T
        elif isinstance(layer, nn.Conv2d):
            weight = weight.transpose(3, 2, 0, 1)
        found = {"weight": weight}
        bias = getattr(layer, "bias", None)
        if bias is not None:
            found["bias"] = bias.array
        if isinstance(layer, nn.BatchNorm):
            found["running_mean"] = layer.running_mean.array
            found["running_var"] = layer.running_var.array
            found[COUNTER] = np.array(0)
        return found
    kind = gates.kind_of(layer) or ""
    b_x, b_h = gates.biases_of(layer)
    found = {
        name: gates.reordered(array, gates.GATES[kind], ORDER[kind]).T
        for name, array in (
            ("weight_ih", layer.w_x.array), ("weight_hh", layer.w_h.array),
            ("bias_ih", b_x.astype(layer.bias.dtype)), ("bias_hh", b_h.astype(layer.bias.dtype)),
        )
    }  # fmt: skip
    if getattr(layer, "w_p", None) is not None:
        found["weight_hr"] = layer.w_p.array.T
    return {f"{name}{part.suffix}": array for name, array in found.items()}


def _enter(part: Part, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What PyTorch has for one layer, as our parameters by name."""
    layer = part.layer
    if isinstance(layer, nn.Linear):
        return {**given, "weight": given["weight"].T}
    if isinstance(layer, nn.Conv2d):
        return {**given, "weight": given["weight"].transpose(2, 3, 1, 0)}
    kind = gates.kind_of(layer)
    if kind is None:
        return {name: array for name, array in given.items() if name != COUNTER}
    w_x, w_h, b_x, b_h = (
        gates.reordered(given[f"{name}{part.suffix}"].T, ORDER[kind], gates.GATES[kind])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    found = {"w_x": w_x, "w_h": w_h, **gates.own_biases(layer, b_x, b_h)}
    if f"weight_hr{part.suffix}" in given:
        found["w_p"] = given[f"weight_hr{part.suffix}"].T
    return found


def _all_parts(caller: str, module: Any) -> list[Part]:
    parts = list(_parts(module))
    raise_if(ArgumentError, caller, [part for part in parts if isinstance(part, str)])
    return [part for part in parts if isinstance(part, Part)]


def outgoing(module: Any) -> dict[str, np.ndarray]:
    """See :func:`minigrad.convert.to_torch`."""
    return {
        part.prefix + name: np.array(array, order="C")
        for part in _all_parts("to_torch", module)
        for name, array in _leave(part).items()
    }


def incoming(module: Any, state: Mapping[str, Any], settings: Any) -> dict[str, np.ndarray]:
    """What PyTorch's ``state`` is in our names and layouts; nothing is changed.

    settings: as :func:`settings` gives them, or an empty dict.  Raises as from_torch.
    """
    parts = _all_parts("from_torch", module)
    state = dict(state)
    wanted: dict[str, np.ndarray] = {}
    for part in parts:
        leaving = {part.prefix + name: array for name, array in _leave(part).items()}
        names = [name for name in leaving if "bias_ih" in name or "bias_hh" in name]
        if not any(name in state for name in names):  # bias=False
            state.update((name, np.zeros_like(leaving[name])) for name in names)
        wanted.update(leaving)
    wrong = [f"missing: {n}" for n in wanted if n not in state and not n.endswith(COUNTER)]
    wrong += [f"unknown: {name}" for name in state if name not in wanted]
    wrong += [text for part in parts for text in _other_settings(part, settings)]
    given = floats("from_torch", {n: v for n, v in state.items() if not n.endswith(COUNTER)})
    shapes = shape_differences(given, wanted)
    raise_if(ArgumentError, "from_torch", wrong and wrong + shapes)
    raise_if(None, "from_torch", shapes)
    found: dict[str, np.ndarray] = {}
    for part in parts:
        own = {n: given[part.prefix + n] for n in _leave(part) if part.prefix + n in given}
        found.update((part.name + name, array) for name, array in _enter(part, own).items())
    return found


def settings(source: Any) -> dict[str, Any]:
    """The modules of a module of PyTorch by their names, for their settings."""
    return dict(source.named_modules())


def _other_settings(part: Part, modules: Mapping[str, Any]) -> Iterator[str]:
    """What differs between a layer and its counterpart, beside the weights."""
    name = part.prefix.removesuffix(".")
    there = modules.get(name)
    spelled = f"{name}: " if name else ""
    if isinstance(part.layer, NORMS):
        eps = getattr(there, "eps", part.layer.eps)
        if eps != part.layer.eps:
            yield f"{spelled}eps is {eps:g} there and {part.layer.eps:g} here"
    if gates.kind_of(part.layer) == "RNN":
        activation = getattr(there, "nonlinearity", part.layer.activation)
        if activation != part.layer.activation:
            yield f"{spelled}activation is {activation} there and {part.layer.activation} here"
