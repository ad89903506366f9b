"""How many floating point operations the products of a call make.

Counted are the products that a model's time goes into: 2 for each multiply-add of dense layers,
convolutions, recurrences and attention.  Left out are additions of biases, activations, norms,
pooling and everything else that does a few operations for each number.  That is how papers and
PyTorch's ``FlopCounterMode`` count.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from .. import ops
from ..nodes import Node
from ..ops._windows import axes_of, pair


def flops(node: Node) -> int:
    """Those of one forward call; 0 for an op that makes no products.

    >>> import minigrad as mg
    >>> w = mg.ones(3, 5); w.requires_grad = True
    >>> flops((mg.ones(2, 3) @ w).node)
    60
    """
    count = _COUNTS.get(node.op)
    if count is None:
        return 0
    bound = inspect.signature(node.op).bind(*node.args, **node.params)
    bound.apply_defaults()
    return 2 * count(node.outputs[0][0], **bound.arguments)


# Each takes the shape of the (first) result and the arguments; it returns multiply-adds.


def _product(out: tuple[int, ...], x: Any, **_: Any) -> int:
    return math.prod(out) * x.shape[-1]


def _einsum(out: tuple[int, ...], xs: tuple[Any, ...], subscripts: str) -> int:
    """The sizes of all axes multiplied, for each factor after the first."""
    sizes: dict[str, int] = {}
    dots: list[tuple[int, ...]] = []  # axes that have no letter
    for term, x in zip(subscripts.replace(" ", "").partition("->")[0].split(","), xs):
        before, _, after = term.partition("...")
        shape = x.shape
        for letter, size in (*zip(before, shape), *zip(reversed(after), reversed(shape))):
            sizes[letter] = max(size, sizes.get(letter, 1))
        if "..." in term:
            dots.append(shape[len(before) : len(shape) - len(after)])
    return (len(xs) - 1) * math.prod((*np.broadcast_shapes(*dots), *sizes.values()))


def _conv2d(
    out: tuple[int, ...], x: Any, w: Any, stride: Any, padding: Any, dilation: Any, **_: Any
) -> int:
    pairs = (
        pair("conv2d", name, value) for name, value in (("stride", stride), ("dilation", dilation))
    )
    strides, dilations = pairs
    rows, columns = axes_of("conv2d", x.shape[1:3], w.shape[:2], strides, dilations, padding)
    return x.shape[0] * rows.out * columns.out * math.prod(w.shape)


def _recurrence(out: tuple[int, ...], w_h: Any, w_p: Any = None, **_: Any) -> int:
    """All time steps; what the inputs are multiplied by is a product of its own."""
    steps, batch = out[:2]
    weights = math.prod(w_h.shape) + (0 if w_p is None else math.prod(w_p.shape))
    return steps * batch * weights


def _lstm_layer(out: tuple[int, ...], w_x: Any, w_h: Any, **_: Any) -> int:
    steps, batch = out[:2]
    return steps * batch * (math.prod(w_x.shape) + math.prod(w_h.shape))


def _attend(out: tuple[int, ...], query: Any, keys: Any, values: Any, **_: Any) -> int:
    """Scores, and the sum of what is read with them."""
    asked = math.prod(query.shape[:-1])  # N, and T
    return asked * keys.shape[1] * (keys.shape[2] + values.shape[2])


_COUNTS: dict[Any, Any] = {
    ops.matmul: _product, ops.linear: _product, ops.einsum: _einsum, ops.conv2d: _conv2d,
    ops.lstm: _recurrence, ops.lstmp: _recurrence, ops.layer_norm_lstm: _recurrence,
    ops.gru: _recurrence, ops.rnn: _recurrence, ops.lstm_layer: _lstm_layer, ops.attend: _attend,
}  # fmt: skip
