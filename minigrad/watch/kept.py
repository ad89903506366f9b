"""Bytes that a pending graph keeps for its backward pass, by op, layer and time step."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..nn.module import Module
from ..nn.rnn.base import Layer
from ..spelling import spell_bytes
from .tracing import Call, read


class Memory:
    """What :func:`memory` returns; all numbers are bytes.

    calls: the calls of the graph, each with what it ``kept``.
    predicted: name of each fused recurrent layer -> what ``layer.bytes_kept`` says, if the
    model was given.
    """

    def __init__(self, calls: list[Call], predicted: dict[str, int]) -> None:
        self.calls = calls
        self.predicted = predicted

    @property
    def total(self) -> int:
        """All that is kept."""
        return sum(call.kept for call in self.calls)

    @property
    def by_op(self) -> dict[str, int]:
        """Name of the op -> bytes, the largest first."""
        return self._sums(lambda call: call.op)

    @property
    def by_layer(self) -> dict[str, int]:
        """Name of the layer -> bytes, the largest first.

        An op without parameters counts to the layer that its latest input comes from.
        """
        return self._sums(lambda call: call.layer)

    def _sums(self, key: Any) -> dict[str, int]:
        sums: dict[str, int] = {}
        for call in self.calls:
            sums[key(call)] = sums.get(key(call), 0) + call.kept
        return {name: sums[name] for name in sorted(sums, key=lambda name: -sums[name])}

    @property
    def by_step(self) -> dict[str, np.ndarray]:
        """Name of each layer that runs over time -> bytes at each time step, (T,) float64.

        What a fused layer keeps, and the products for all steps before it, is spread evenly.
        """
        lengths: dict[str, int] = {}
        for call in self.calls:
            steps = call.length or (0 if call.t is None else call.t + 1)
            lengths[call.layer] = max(lengths.get(call.layer, 0), steps)
        result = {layer: np.zeros(steps) for layer, steps in lengths.items() if steps}
        for call in self.calls:
            if call.layer in result:
                if call.t is not None:
                    result[call.layer][call.t] += call.kept
                elif _fused(self.calls, call.layer):
                    result[call.layer] += call.kept / lengths[call.layer]
        return result

    @property
    def outside_time(self) -> float:
        """Bytes that belong to no time step."""
        return self.total - sum(float(steps.sum()) for steps in self.by_step.values())

    def kept_by(self, layer: str) -> int:
        """Bytes kept by the calls that took the layer's parameters: what was predicted."""
        return sum(call.kept for call in self.calls if call.own and call.layer == layer)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name or 'model'} {size:,}" for name, size in self.by_layer.items())
        return f"<Memory {self.total:,} bytes: {parts}>"

    def _repr_html_(self) -> str:
        from .. import notebook

        tables = []
        for name, sizes in (("layer", self.by_layer), ("op", self.by_op)):
            rows = [
                (each or "model", spell_bytes(size), f"{size / max(self.total, 1):.0%}")
                for each, size in sizes.items() if size
            ]  # fmt: skip
            tables.append(notebook.table(rows, (name, "kept", "share")))
        kept = f"{spell_bytes(self.total)} kept for the backward pass"
        return notebook.box(notebook.heading("Memory", kept), *tables)


def _fused(calls: list[Call], layer: str) -> bool:
    return any(call.layer == layer and call.length is not None for call in calls)


def memory(loss: Any, model: Module | None = None) -> Memory:
    """Bytes that the graph behind ``loss`` keeps alive until its backward pass.

    loss: a tensor, or several.  model: names the layers, and lets fused ones predict what
    they keep.  Every block of memory counts once: results of ops as a whole, of arrays that
    came from outside the part in use, parameters not at all.

    Raises GraphError if there is no graph, or if it was walked already.

    >>> import minigrad as mg
    >>> from minigrad import nn, watch
    >>> lstm = nn.LSTM(3, 5, generator=mg.manual_seed(0))
    >>> kept = watch.memory(lstm(mg.ones(2, 7, 3))[0].sum(), lstm)
    >>> kept.total > 0
    True
    """
    calls = list(read(loss, model).values())
    return Memory(calls, {} if model is None else _predictions(calls, model))


def _predictions(calls: list[Call], model: Module) -> dict[str, int]:
    """What the fused layers of ``model`` say they keep in these calls."""
    result: dict[str, int] = {}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Layer)}
    for call in calls:
        if call.length is not None and call.layer in layers:
            steps, batch = call.shapes[0][:2]
            ids, lengths = "ids" in call.params, "lengths" in call.params
            size = layers[call.layer].bytes_kept(batch, steps, ids=ids, lengths=lengths)
            result[call.layer] = result.get(call.layer, 0) + size
    return result
