"""One training step of the sine prediction, minigrad against its peers.

The step: ten points as ten time steps, (32, 10, 1); two LSTMs of 30 on top of one another, a
linear layer on the last output, the mean squared error, backward, Adagrad at rate 0.1.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, T time, H hidden
T, N, H = 10, 32, 30
RATE, FIRST_SUM = 0.1, 0.1
JAX_THREADS = 1
FLOPS = (
    tools.lstm_flops(T, N, 1, H) + tools.lstm_flops(T, N, H, H, first=False) + 2 * 3 * N * H
)


def draw_weights(rng: np.random.Generator) -> Weights:
    """Of two layers w_x0, w_h0, b0, w_x1, w_h1, b1; then w (H, 1), b (1,)."""
    weights: Weights = {}
    for k, inputs in enumerate((1, H)):
        kernel = tools.glorot(rng, inputs + H, 4 * H)
        weights[f"w_x{k}"], weights[f"w_h{k}"] = kernel[:inputs].copy(), kernel[inputs:].copy()
        weights[f"b{k}"] = np.zeros(4 * H, np.float32)
    return weights | {"w": tools.glorot(rng, H, 1), "b": np.zeros(1, np.float32)}


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ten points of a sine from random places, (N, T, 1), and the next one, (N, 1)."""
    points = rng.uniform(0, 100, (count, N, 1)) + 0.01 * np.arange(T + 1)
    values = np.sin(points).astype(np.float32)
    return [(np.ascontiguousarray(v[:, :T, None]), v[:, T:].copy()) for v in values]


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: two fused layers, as models/sine_lstm.py uses them."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    layers = [nn.LSTM(1, H, generator=rng), nn.LSTM(H, H, generator=rng)]
    for k, layer in enumerate(layers):
        names = {"w_x": f"w_x{k}", "w_h": f"w_h{k}", "bias": f"b{k}"}
        layer.load_state_dict({own: weights[name] for own, name in names.items()})
    head = nn.Linear(H, 1, generator=rng)
    head.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    model = nn.ModuleList([*layers, head])
    optimizer = optim.Adagrad(model.parameters(), lr=RATE)

    def loss_of(x: np.ndarray, y: np.ndarray) -> Any:
        outputs, _ = layers[0](x)
        outputs, _ = layers[1](outputs)
        return mg.mse_loss(head(outputs[:, -1]), y)

    forward = mg.capture(loss_of, backward=True) if captured else loss_of

    def step(x: np.ndarray, y: np.ndarray) -> float:
        optimizer.zero_grad()
        loss = forward(x, y)
        if not captured:
            loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch_step(weights: Weights, compiled: bool = False) -> Any:
    """PyTorch: nn.LSTM of two layers (oneDNN's fused layer), fused Adagrad."""
    import torch
    from torch.nn.functional import mse_loss

    layers = [(weights[f"w_x{k}"], weights[f"w_h{k}"], weights[f"b{k}"]) for k in range(2)]
    lstm = tools.torch_lstm(layers, 1.0, batch_first=True, written_out=compiled)
    head = tools.torch_linear(weights["w"], weights["b"])
    parameters = [p for p in (*lstm.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adagrad(
        parameters, lr=RATE, initial_accumulator_value=FIRST_SUM, fused=True
    )

    def loss_of(x: Any, y: Any) -> Any:
        outputs, _ = lstm(x)
        return mse_loss(head(outputs[:, -1]), y)

    forward = tools.torch_forward(loss_of, compiled)

    def step(x: np.ndarray, y: np.ndarray) -> Any:
        loss = forward(torch.from_numpy(x), torch.from_numpy(y))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def jax_step(weights: Weights) -> Any:
    """JAX: one jitted function, the scans unrolled."""
    import jax
    import jax.numpy as jnp

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        values = x.swapaxes(0, 1)
        for k in range(2):
            zeros = jnp.zeros((N, H))
            x_gates = values @ params[f"w_x{k}"] + params[f"b{k}"]
            _, values = tools.jax_lstm(x_gates, params[f"w_h{k}"], (zeros, zeros), 1.0, unroll=T)
        return jnp.mean((values[-1] @ params["w"] + params["b"] - y) ** 2)

    def train(params: Any, sums: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        params, sums = tools.jax_adagrad(params, grads, sums, RATE)
        return params, sums, loss

    jitted = jax.jit(train, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, dict(weights))
    sums = jax.tree.map(lambda p: jnp.full_like(p, FIRST_SUM), params)

    def step(x: np.ndarray, y: np.ndarray) -> Any:
        nonlocal params, sums
        params, sums, loss = jax.block_until_ready(jitted(params, sums, x, y))
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
