"""One training step of the parabola, minigrad against its peers.

The step: all 300 points, 1 -> 10 relu -> 1, the mean squared error, backward, SGD at rate 0.1.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, H hidden
N, H = 300, 10
RATE = 0.1
JAX_THREADS = 1
FLOPS = 2 * N * H * (2 + 3)  # the input needs no gradient


def draw_weights(rng: np.random.Generator) -> Weights:
    """w1 (1, H), b1 (H,), w2 (H, 1), b2 (1,): standard normal, biases 0.1."""
    return {
        "w1": rng.standard_normal((1, H)).astype(np.float32),
        "b1": np.full(H, 0.1, np.float32),
        "w2": rng.standard_normal((H, 1)).astype(np.float32),
        "b2": np.full(1, 0.1, np.float32),
    }


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same x and y, (N, 1) float32 each, every time."""
    x = np.linspace(-1, 1, N, dtype=np.float32)[:, None]
    y = x**2 - np.float32(0.5) + rng.normal(0, 0.05, (N, 1)).astype(np.float32)
    return [(x, y)] * count


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad, as models/curve_regression.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    hidden, output = nn.Linear(1, H, generator=rng), nn.Linear(H, 1, generator=rng)
    hidden.load_state_dict({"weight": weights["w1"], "bias": weights["b1"]})
    output.load_state_dict({"weight": weights["w2"], "bias": weights["b2"]})
    optimizer = optim.SGD([*hidden.parameters(), *output.parameters()], lr=RATE)

    def loss_of(x: np.ndarray, y: np.ndarray) -> Any:
        return mg.mse_loss(output(mg.relu(hidden(x))), y)

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
    """PyTorch: two linear layers, fused SGD."""
    import torch
    from torch.nn.functional import mse_loss

    hidden = tools.torch_linear(weights["w1"], weights["b1"])
    output = tools.torch_linear(weights["w2"], weights["b2"])
    parameters = [*hidden.parameters(), *output.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=RATE, fused=True)

    def loss_of(x: Any, y: Any) -> Any:
        return mse_loss(output(torch.relu(hidden(x))), y)

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
        hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
        return jnp.mean((hidden @ params["w2"] + params["b2"] - y) ** 2)

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
