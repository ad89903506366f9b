"""Updates in NumPy, in place, for peers that bring none or not those of the documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def clip(grads: Arrays, bound: float) -> None:
    """Scale all gradients, in place, so that their global norm is at most `bound`."""
    norm = np.sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))
    if norm > bound:
        for g in grads.values():
            g *= np.float32(bound / norm)


def rule(params: Arrays, kind: str, rate: float) -> Callable[[Any], None]:
    """TensorFlow's "sgd", "adagrad" (sums from 0.1) or "adam" (epsilon 1e-8) of these arrays."""
    if kind == "sgd":

        def descend(grads: Arrays) -> None:
            for name, g in grads.items():
                params[name][...] -= rate * g

        return descend
    first = {name: np.zeros_like(p) for name, p in params.items()}
    if kind == "adagrad":
        for sums in first.values():
            sums += np.float32(0.1)

        def adagrad(grads: Arrays) -> None:
            for name, g in grads.items():
                first[name] += g * g
                params[name][...] -= rate * g / np.sqrt(first[name])

        return adagrad
    second = {name: np.zeros_like(p) for name, p in params.items()}
    powers = np.ones(2)

    def adam(grads: Arrays) -> None:
        powers[:] *= 0.9, 0.999
        scaled = float(rate * np.sqrt(1 - powers[1]) / (1 - powers[0]))
        for name, g in grads.items():
            m, v = first[name], second[name]
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * (g * g)
            params[name][...] -= scaled * m / (np.sqrt(v) + 1e-8)

    return adam
