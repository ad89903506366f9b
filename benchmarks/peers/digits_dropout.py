"""One training step of the digits with dropout, minigrad against its peers.

The step: all 1,257 training images of 64 pixels, 64 -> 50 tanh -> 10 with dropout before the tanh
and on the logits, softmax cross-entropy, backward, SGD at rate 0.5.  The pixels go to 1 (the
model's best setting), because those to 16 amplify rounding until the losses no longer agree.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, D pixels, H hidden, V classes
N, D, H, V = 1257, 64, 50, 10
RATE = 0.5
JAX_THREADS = None
FLOPS = 2 * N * (2 * D * H + 3 * H * V)  # the images need no gradient
TIMED_WITH = {"dropout": 0.5}


def draw_weights(rng: np.random.Generator) -> Weights:
    """w1 (D, H), b1 (H,), w2 (H, V), b2 (V,): standard normal, biases 0.1."""
    return {
        "w1": rng.standard_normal((D, H)).astype(np.float32),
        "b1": np.full(H, 0.1, np.float32),
        "w2": rng.standard_normal((H, V)).astype(np.float32),
        "b2": np.full(V, 0.1, np.float32),
    }


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same images (N, D) float32 and labels (N,) every time."""
    labels = rng.integers(0, V, N)
    drawn = rng.integers(0, 17, (V, D))[labels] + rng.integers(-4, 5, (N, D))
    return [((drawn.clip(0, 16) / 16).astype(np.float32), labels)] * count


def minigrad_step(weights: Weights, dropout: float = 0.0, captured: bool = False) -> Any:
    """minigrad, as models/digits_dropout.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    l1, l2 = nn.Linear(D, H, generator=rng), nn.Linear(H, V, generator=rng)
    l1.load_state_dict({"weight": weights["w1"], "bias": weights["b1"]})
    l2.load_state_dict({"weight": weights["w2"], "bias": weights["b2"]})
    drop = nn.Dropout(dropout, generator=rng)
    optimizer = optim.SGD([*l1.parameters(), *l2.parameters()], lr=RATE)

    def loss_of(x: np.ndarray, labels: np.ndarray) -> Any:
        return mg.cross_entropy(drop(l2(mg.tanh(drop(l1(x))))), labels)

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


def pytorch_step(weights: Weights, dropout: float = 0.0, compiled: bool = False) -> Any:
    """PyTorch: two linear layers, fused SGD."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.functional import dropout as drop

    l1 = tools.torch_linear(weights["w1"], weights["b1"])
    l2 = tools.torch_linear(weights["w2"], weights["b2"])
    optimizer = torch.optim.SGD([*l1.parameters(), *l2.parameters()], lr=RATE, fused=True)

    def loss_of(x: Any, labels: Any) -> Any:
        hidden = torch.tanh(drop(l1(x), dropout))
        return cross_entropy(drop(l2(hidden), dropout), labels)

    forward = tools.torch_forward(loss_of, compiled)

    def step(x: np.ndarray, labels: np.ndarray) -> Any:
        loss = forward(torch.from_numpy(x), torch.from_numpy(labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def jax_step(weights: Weights, dropout: float = 0.0) -> Any:
    """JAX: one jitted function."""
    import jax
    import jax.numpy as jnp

    def drop(values: Any, key: Any) -> Any:
        if dropout == 0:
            return values
        keep = jax.random.bernoulli(key, 1 - dropout, values.shape)
        return jnp.where(keep, values / (1 - dropout), 0)

    def loss_of(params: Any, keys: Any, x: Any, labels: Any) -> Any:
        hidden = jnp.tanh(drop(x @ params["w1"] + params["b1"], keys[0]))
        logits = drop(hidden @ params["w2"] + params["b2"], keys[1])
        return tools.jax_cross_entropy(logits, labels)

    def train(params: Any, key: Any, x: Any, labels: Any) -> Any:
        key, *keys = jax.random.split(key, 3)
        loss, grads = jax.value_and_grad(loss_of)(params, keys, x, labels)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), key, loss

    jitted = jax.jit(train, donate_argnums=0)
    params = jax.tree.map(jnp.array, dict(weights))
    key = jax.random.key(0)

    def step(x: np.ndarray, labels: np.ndarray) -> Any:
        nonlocal params, key
        results = jitted(params, key, x, labels.astype(np.int32))
        params, key, loss = jax.block_until_ready(results)
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
