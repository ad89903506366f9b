"""One training step of softmax regression on MNIST, minigrad against its peers.

The step: 100 images of 784 pixels, 784 -> 10, softmax cross-entropy, backward, SGD at rate 0.5.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, D pixels, V classes
N, D, V = 100, 784, 10
RATE = 0.5
JAX_THREADS = 1
FLOPS = 2 * 2 * N * D * V  # the images need no gradient


def draw_weights(rng: np.random.Generator) -> Weights:
    """w (D, V) standard normal, b (V,) 0.1."""
    w = rng.standard_normal((D, V)).astype(np.float32)
    return {"w": w, "b": np.full(V, 0.1, np.float32)}


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images (N, D) float32, a fifth of it ink, and random labels (N,)."""
    images = rng.random((count, N, D)) * (rng.random((count, N, D)) < 0.2)
    return list(zip(images.astype(np.float32), rng.integers(0, V, (count, N))))


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad, as models/mnist_softmax.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    dense = nn.Linear(D, V, generator=np.random.default_rng(0))
    dense.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    optimizer = optim.SGD(dense.parameters(), lr=RATE)

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
    """PyTorch: one linear layer, fused SGD."""
    import torch
    from torch.nn.functional import cross_entropy

    dense = tools.torch_linear(weights["w"], weights["b"])
    optimizer = torch.optim.SGD(dense.parameters(), lr=RATE, fused=True)

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

    def train(params: Any, x: Any, labels: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, labels)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), loss

    jitted = jax.jit(train, donate_argnums=0)
    params = jax.tree.map(jnp.array, dict(weights))

    def step(x: np.ndarray, labels: np.ndarray) -> Any:
        nonlocal params
        params, loss = jax.block_until_ready(jitted(params, x, labels.astype(np.int32)))
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
