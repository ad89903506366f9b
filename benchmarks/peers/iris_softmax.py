"""One training step of the iris classifier, minigrad against its peers.

The step: all 120 training flowers, 4 -> 3, softmax cross-entropy (once), backward, Adam at rate
0.01.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, D features in, V classes
N, D, V = 120, 4, 3
RATE = 0.01
JAX_THREADS = 1
FLOPS = 2 * 2 * N * D * V  # the input needs no gradient


def draw_weights(rng: np.random.Generator) -> Weights:
    """w (D, V) Glorot uniform, b (V,) zeros."""
    return {"w": tools.glorot(rng, D, V), "b": np.zeros(V, np.float32)}


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same features (N, D) float32 and classes (N,) every time, as many and as large."""
    labels = rng.integers(0, V, N)
    x = rng.uniform(0, 5, (V, D))[labels] + rng.uniform(0, 2, (N, D))
    return [(x.astype(np.float32), labels)] * count


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: one linear layer and the fused loss."""
    import minigrad as mg
    from minigrad import nn, optim

    dense = nn.Linear(D, V, generator=np.random.default_rng(0))
    dense.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    optimizer = optim.Adam(dense.parameters(), lr=RATE)

    def loss_of(x: np.ndarray, labels: np.ndarray) -> Any:
        return mg.cross_entropy(dense(x), labels)

    train = mg.capture(loss_of, optimizer=optimizer)
    if captured:
        return lambda x, labels: train(x, labels).item()

    def step(x: np.ndarray, labels: np.ndarray) -> float:
        optimizer.zero_grad()
        loss = loss_of(x, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch_step(weights: Weights, compiled: bool = False) -> Any:
    """PyTorch: one linear layer, fused Adam."""
    import torch
    from torch.nn.functional import cross_entropy

    dense = tools.torch_linear(weights["w"], weights["b"])
    optimizer = torch.optim.Adam(dense.parameters(), lr=RATE, fused=True)

    def loss_of(x: Any, labels: Any) -> Any:
        return cross_entropy(dense(x), labels)

    forward = tools.torch_forward(loss_of, compiled)

    def step(x: np.ndarray, labels: np.ndarray) -> Any:
        loss = forward(torch.from_numpy(x), torch.from_numpy(labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def jax_step(weights: Weights) -> Any:
    """JAX: one jitted function."""
    import jax
    import jax.numpy as jnp

    def loss_of(params: Any, x: Any, labels: Any) -> Any:
        return tools.jax_cross_entropy(x @ params["w"] + params["b"], labels)

    def train(params: Any, moments: Any, x: Any, labels: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, labels)
        params, moments = tools.jax_adam(params, grads, moments, RATE)
        return params, moments, loss

    jitted = jax.jit(train, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, dict(weights))
    moments = (jnp.zeros(()), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))

    def step(x: np.ndarray, labels: np.ndarray) -> Any:
        nonlocal params, moments
        results = jitted(params, moments, x, labels.astype(np.int32))
        params, moments, loss = jax.block_until_ready(results)
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
