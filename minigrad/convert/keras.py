"""Keras's order and layouts: a layer is a list of arrays, a model the lists of its layers.

    Dense               kernel (in, out), bias
    Embedding           embeddings (V, D)
    Conv2D              kernel (KH, KW, C / groups, O), bias
    LayerNormalization  gamma, beta
    BatchNormalization  gamma, beta, moving_mean, moving_variance
    SimpleRNN           kernel (D, H), recurrent_kernel (H, H), bias (H,)
    LSTM                kernel (D, 4H), recurrent_kernel (H, 4H), bias (4H,)
                        gates i, f, c, o: its c is j here
    GRU                 kernel (D, 3H), recurrent_kernel (H, 3H)
                        bias (3H,), with reset_after (2, 3H): of the input and of the state
                        gates z, r, h: u, r, c here
    Bidirectional       the forward layer, then the backward one
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import nn
from ..errors import ArgumentError
from . import gates
from .report import floats, raise_if, refused, shape_differences

ORDER = {"LSTM": "ifjo", "GRU": "urc", "RNN": "h"}
NORMS = (nn.BatchNorm, nn.LayerNorm)
# our parameters and buffers in Keras's order, and its names for them
NAMES: dict[type, dict[str, str]] = {
    nn.Linear: {"weight": "kernel", "bias": "bias"},
    nn.Embedding: {"weight": "embeddings"},
    nn.Conv2d: {"weight": "kernel", "bias": "bias"},
    nn.LayerNorm: {"weight": "gamma", "bias": "beta"},
    nn.BatchNorm: {
        "weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
}  # fmt: skip
RECURRENT = ("kernel", "recurrent_kernel", "bias")


def _layers(module: Any, name: str = "") -> Iterator[tuple[str, Any] | str]:
    """Name and layer for all that have weights; text for what has no counterpart."""
    if gates.kind_of(module) is not None:
        reason = gates.refusal(module, "Keras")
        yield refused(name, module, reason) if reason else (name, module)
    elif type(module) in NAMES:
        yield name, module
    else:
        below = list(module._parts())
        if any(isinstance(part, nn.Parameter) for _, part in below):
            yield refused(name, module, "Keras has no layer with its parameters")
            return
        for key, part in below:
            if isinstance(part, nn.Module):
                yield from _layers(part, f"{name}{key}.")


def _leave(layer: Any) -> dict[str, np.ndarray]:
    """The weights of one layer as Keras has them, under its names, in its order."""
    if type(layer) in NAMES:
        both = ((theirs, getattr(layer, ours)) for ours, theirs in NAMES[type(layer)].items())
        return {theirs: tensor.array for theirs, tensor in both if tensor is not None}
    kind = gates.kind_of(layer) or ""
    b_x, b_h = gates.biases_of(layer)
    bias = b_x if getattr(layer, "bias_h", None) is None else np.stack([b_x, b_h])
    arrays = layer.w_x.array, layer.w_h.array, bias.astype(layer.bias.dtype)
    return {
        name: gates.reordered(array, gates.GATES[kind], ORDER[kind])
        for name, array in zip(RECURRENT, arrays)
    }


def _enter(layer: Any, given: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What Keras has for one layer, as our parameters by name."""
    if type(layer) in NAMES:
        return dict(zip(NAMES[type(layer)], given))
    kind = gates.kind_of(layer) or ""
    w_x, w_h, bias = (gates.reordered(array, ORDER[kind], gates.GATES[kind]) for array in given)
    b_x, b_h = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    return {"w_x": w_x, "w_h": w_h, **gates.own_biases(layer, b_x, b_h)}


def _all_layers(caller: str, module: Any) -> list[tuple[str, Any]]:
    found = list(_layers(module))
    raise_if(ArgumentError, caller, [entry for entry in found if isinstance(entry, str)])
    return [entry for entry in found if not isinstance(entry, str)]


def outgoing(module: Any) -> list[np.ndarray]:
    """See :func:`minigrad.convert.to_keras`."""
    layers = _all_layers("to_keras", module)
    return [np.array(array, order="C") for _, layer in layers for array in _leave(layer).values()]


def incoming(
    module: Any, weights: Sequence[Any], epsilons: Sequence[float] | None
) -> dict[str, np.ndarray]:
    """What Keras's ``weights`` are in our names and layouts; nothing is changed.

    epsilons: as :func:`epsilons` gives them.  Raises as from_keras.
    """
    layers = _all_layers("from_keras", module)
    wanted = {
        f"{name}{theirs}": array
        for name, layer in layers
        for theirs, array in _leave(layer).items()
    }
    wrong = []
    if len(weights) != len(wanted):
        wrong.append(
            f"{len(weights)} arrays for {len(wanted)} weights: {', '.join(wanted)}; given were "
            + ", ".join(str(np.shape(array)) for array in weights)
        )
    norms = [(name, layer) for name, layer in layers if isinstance(layer, NORMS)]
    if epsilons is not None and len(epsilons) == len(norms):
        wrong += [
            f"{name.removesuffix('.') or 'the layer'}: epsilon is {there:g} there and eps is "
            f"{layer.eps:g} here"
            for there, (name, layer) in zip(epsilons, norms)
            if there != layer.eps
        ]
    raise_if(ArgumentError, "from_keras", wrong)
    given = floats("from_keras", dict(zip(wanted, weights)))
    raise_if(None, "from_keras", shape_differences(given, wanted))
    rest = iter(given.values())
    found: dict[str, np.ndarray] = {}
    for name, layer in layers:
        own = [next(rest) for _ in _leave(layer)]
        found.update((name + ours, array) for ours, array in _enter(layer, own).items())
    return found


def epsilons(source: Any) -> list[float] | None:
    """The epsilon of each normalisation of a layer or model of Keras; None for arrays."""
    if not hasattr(source, "get_weights"):
        return None
    layers = getattr(source, "layers", [source])
    return [layer.epsilon for layer in layers if hasattr(layer, "epsilon")]
