"""One training step of the straight line, minigrad against its peers.

The step: one point (x, y), the line k x + b, the squared error, backward, SGD at rate 0.5.  Two
numbers learn; what is timed is the way to them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

RATE = 0.5
JAX_THREADS = 1
FLOPS = 2 * 2  # k x, and the gradient of k


def draw_weights(rng: np.random.Generator) -> Weights:
    """k () and b (): uniform in +-sqrt(3)."""
    return {name: np.array(rng.uniform(-(3**0.5), 3**0.5), np.float32) for name in ("k", "b")}


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """x () and y (), float32: points near 3 x - 1."""
    x = rng.random(count).astype(np.float32)
    y = (3 * x - 1 + 1e-4 * rng.standard_normal(count)).astype(np.float32)
    return [(x[i, ...], y[i, ...]) for i in range(count)]


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad, as models/linear_regression.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    k, b = nn.Parameter(weights["k"]), nn.Parameter(weights["b"])
    optimizer = optim.SGD([k, b], lr=RATE)

    def loss_of(x: np.ndarray, y: np.ndarray) -> Any:
        return mg.square(k * x + b - y)

    train = mg.capture(loss_of, optimizer=optimizer)
    if captured:
        return lambda x, y: train(x, y).item()

    def step(x: np.ndarray, y: np.ndarray) -> float:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch_step(weights: Weights, compiled: bool = False) -> Any:
    """PyTorch: two scalar tensors, fused SGD."""
    import torch

    k, b = (torch.from_numpy(weights[name]).requires_grad_() for name in ("k", "b"))
    optimizer = torch.optim.SGD([k, b], lr=RATE, fused=True)

    def loss_of(x: Any, y: Any) -> Any:
        return torch.square(k * x + b - y)

    forward = tools.torch_forward(loss_of, compiled)

    def step(x: np.ndarray, y: np.ndarray) -> Any:
        loss = forward(torch.from_numpy(x), torch.from_numpy(y))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def jax_step(weights: Weights) -> Any:
    """JAX: one jitted function."""
    import jax
    import jax.numpy as jnp

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        return jnp.square(params["k"] * x + params["b"] - y)

    def train(params: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), loss

    jitted = jax.jit(train, donate_argnums=0)
    params = jax.tree.map(jnp.array, dict(weights))

    def step(x: np.ndarray, y: np.ndarray) -> Any:
        nonlocal params
        params, loss = jax.block_until_ready(jitted(params, x, y))
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
