"""What recurrent layers have in common on both sides: blocks of gates, and two biases or one.

Here a layer has w_x (D, G H), w_h (P, G H) and its biases as a pair (b_x, b_h), each (G H,): what
is added to the products with the input and with the state.  Only in the candidate of a GRU whose
reset gate comes after the product are the two not simply added up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn

GATES = {"LSTM": "ijfo", "GRU": "ruc", "RNN": "h"}  # the order of the blocks here
KINDS = {
    "LSTM": (nn.LSTM, nn.LSTMCell), "GRU": (nn.GRU, nn.GRUCell), "RNN": (nn.RNN, nn.RNNCell),
}  # fmt: skip
CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def kind_of(module: Any) -> str | None:
    """ "LSTM", "GRU" or "RNN", or None for any other module."""
    for kind, classes in KINDS.items():
        if type(module) in classes:
            return kind
    return None


def without_dropout(module: Any) -> Any:
    """What is inside of dropout wrappers, which have no weights."""
    while isinstance(module, nn.DropoutWrapper):
        module = module.inner
    return module


def reordered(array: np.ndarray, now: str, then: str) -> np.ndarray:
    """Blocks of gates along the last axis in another order.  array: (..., G H)."""
    blocks = np.split(array, len(now), axis=-1)
    return np.concatenate([blocks[now.index(gate)] for gate in then], axis=-1)


def biases_of(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """(b_x, b_h) of a layer, float64, with the forget bias in b_x."""
    b_x, size = layer.bias.array.astype(np.float64), layer.hidden_size
    b_h = np.zeros_like(b_x)
    if kind_of(layer) == "LSTM":
        b_x[2 * size : 3 * size] += layer.forget_bias
    if getattr(layer, "bias_h", None) is not None:
        b_h[2 * size :] = layer.bias_h.array
    return b_x, b_h


def own_biases(layer: Any, b_x: np.ndarray, b_h: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters of a layer that mean the same as (b_x, b_h)."""
    size = layer.hidden_size
    if getattr(layer, "bias_h", None) is not None:
        outside = np.concatenate([b_h[: 2 * size], np.zeros(size)])
        return {"bias": b_x + outside, "bias_h": b_h[2 * size :]}
    bias = b_x + b_h
    if kind_of(layer) == "LSTM":
        bias[2 * size : 3 * size] -= layer.forget_bias
    return {"bias": bias}


def refusal(layer: Any, where: str) -> str:
    """Why the other side has no such recurrent layer, or an empty string."""
    kind = kind_of(layer)
    reasons = []
    if kind == "LSTM":
        if layer.w_c is not None:
            reasons.append("peepholes")
        if layer.cell_clip is not None:
            reasons.append("cell_clip")
        if layer.w_p is not None and where == "Keras":
            reasons.append("a projection")
    if kind == "GRU" and layer.bias_h is None and where == "PyTorch":
        reasons.append(
            "a reset gate before the product (its GRU multiplies first; make this one with "
            "reset_after=True)"
        )
    return f"{where} has no {kind} with {' and '.join(reasons)}" if reasons else ""
