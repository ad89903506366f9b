"""One training step of the sine-to-cosine RNN, minigrad against its peers.

The step: a window of 10 points of a sine, one row; a vanilla RNN of 32 cells, a linear layer to
one number, the mean squared error, backward, Adam at rate 0.02.  The state is carried from window
to window, detached.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, T time, H hidden
T, N, H = 10, 1, 32
RATE = 0.02
JAX_THREADS = 1
FLOPS = 2 * ((3 * T - 1) * N * H * H + 2 * T * N * H + 3 * T * N * H)


def draw_weights(rng: np.random.Generator) -> Weights:
    """w_x (1, H), w_h (H, H), b_h (H,), w (H, 1), b (1,): Glorot uniform, biases 0."""
    kernel = tools.glorot(rng, 1 + H, H)
    return {
        "w_x": kernel[:1].copy(),
        "w_h": kernel[1:].copy(),
        "b_h": np.zeros(H, np.float32),
        "w": tools.glorot(rng, H, 1),
        "b": np.zeros(1, np.float32),
    }


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` consecutive windows: sine and cosine, (N, T, 1) float32 each."""
    place = np.arange(count)[:, None] * np.pi + np.linspace(0, np.pi, T, endpoint=False)
    place = place.astype(np.float32)[:, None, :, None]
    return [(np.sin(x), np.cos(x)) for x in place]


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: the fused layer, as models/sine_to_cosine.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    rnn = nn.RNN(1, H, generator=rng)
    rnn.load_state_dict({"w_x": weights["w_x"], "w_h": weights["w_h"], "bias": weights["b_h"]})
    head = nn.Linear(H, 1, generator=rng)
    head.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    optimizer = optim.Adam([*rnn.parameters(), *head.parameters()], lr=RATE)
    state: Any = rnn.zero_state(N)

    def loss_of(x: np.ndarray, y: np.ndarray, state: Any) -> Any:
        outputs, state = rnn(x, state)
        return mg.mse_loss(head(outputs), y), state

    train = mg.capture(loss_of, optimizer=optimizer)

    def captured_step(x: np.ndarray, y: np.ndarray) -> float:
        nonlocal state
        loss, state = train(x, y, state)
        return loss.item()

    def step(x: np.ndarray, y: np.ndarray) -> float:
        nonlocal state
        optimizer.zero_grad()
        loss, state = loss_of(x, y, state)
        loss.backward()
        optimizer.step()
        state = state.detach()
        return loss.item()

    return captured_step if captured else step


def pytorch_step(weights: Weights, compiled: bool = False) -> Any:
    """PyTorch: nn.RNN, fused Adam."""
    import torch
    from torch.nn.functional import mse_loss

    rnn = tools.torch_rnn(weights, batch_first=True, written_out=compiled)
    head = tools.torch_linear(weights["w"], weights["b"])
    parameters = [p for p in (*rnn.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=RATE, fused=True)
    state = torch.zeros(1, N, H)

    def loss_of(x: Any, y: Any, state: Any) -> Any:
        outputs, state = rnn(x, state)
        return mse_loss(head(outputs), y), state

    forward = tools.torch_forward(loss_of, compiled)

    def step(x: np.ndarray, y: np.ndarray) -> Any:
        nonlocal state
        loss, state = forward(torch.from_numpy(x), torch.from_numpy(y), state)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        state = state.detach()
        return loss.detach()

    return step


def jax_step(weights: Weights) -> Any:
    """JAX: one jitted function, the scan unrolled."""
    import jax
    import jax.numpy as jnp

    def loss_and_state(params: Any, state: Any, x: Any, y: Any) -> Any:
        def cell(h: Any, x: Any) -> Any:
            h = jnp.tanh(x + h @ params["w_h"])
            return h, h

        x_gates = (x @ params["w_x"] + params["b_h"]).swapaxes(0, 1)
        state, outputs = jax.lax.scan(cell, state, x_gates, unroll=T)
        predicted = outputs.swapaxes(0, 1) @ params["w"] + params["b"]
        return jnp.mean((predicted - y) ** 2), state

    def train(params: Any, moments: Any, state: Any, x: Any, y: Any) -> Any:
        (loss, state), grads = jax.value_and_grad(loss_and_state, has_aux=True)(
            params, state, x, y
        )
        params, moments = tools.jax_adam(params, grads, moments, RATE)
        return params, moments, state, loss

    jitted = jax.jit(train, donate_argnums=(0, 1, 2))
    params = jax.tree.map(jnp.array, dict(weights))
    moments = (jnp.zeros(()), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))
    state = jnp.zeros((N, H))

    def step(x: np.ndarray, y: np.ndarray) -> Any:
        nonlocal params, moments, state
        params, moments, state, loss = jax.block_until_ready(jitted(params, moments, state, x, y))
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
