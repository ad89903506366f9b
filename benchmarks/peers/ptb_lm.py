"""One training step of the PTB language model, minigrad against its peers.

The step: windows of 35 words for each of 20 rows, an embedding of 200, two LSTMs of 200, logits
for 10,000 words, the softmax cross-entropy summed over time and divided by the batch, backward,
clipping to a global norm of 5, SGD at rate 1.  Half of the numbers are dropped after the embedding
and after each layer when it is timed; dropout is off when the losses are compared.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, T time, V vocabulary, H hidden, L layers
T, N, V, H, L = 35, 20, 10_000, 200, 2
RATE, MAX_NORM = 1.0, 5.0
JAX_THREADS = None
FLOPS = L * tools.lstm_flops(T, N, H, H, first=False) + 2 * 3 * T * N * H * V
TURN_SECONDS = 1.0
TIMED_WITH = {"dropout": 0.5}


def draw_weights(rng: np.random.Generator) -> Weights:
    """table (V, H); of each layer w_x, w_h (H, 4H), b; w (H, V), b (V,): uniform in +-0.05."""
    shapes: dict[str, tuple[int, ...]] = {"table": (V, H)}
    for k in range(L):
        shapes |= {f"w_x{k}": (H, 4 * H), f"w_h{k}": (H, 4 * H), f"b{k}": (4 * H,)}
    shapes |= {"w": (H, V), "b": (V,)}
    return {name: rng.uniform(-0.05, 0.05, s).astype(np.float32) for name, s in shapes.items()}


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Consecutive windows of common and rare words, (T, N) int64, and their successors."""
    count = min(count, 40)
    words = (V * rng.random((count * T + 1, N)) ** 3).astype(np.int64)
    return [
        (words[k * T : (k + 1) * T], words[k * T + 1 : (k + 1) * T + 1]) for k in range(count)
    ]


def steepened(weights: Weights) -> Weights:
    """Weights whose gradients are clipped."""
    return weights | {"w": 10 * weights["w"]}


def minigrad_step(weights: Weights, dropout: float = 0.0, captured: bool = False) -> Any:
    """minigrad: fused layers, as models/ptb_lm.py uses them."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    embedding, drop = nn.Embedding(V, H, generator=rng), nn.Dropout(dropout, generator=rng)
    embedding.load_state_dict({"weight": weights["table"]})
    layers = [nn.LSTM(H, H, forget_bias=1.0, time_major=True, generator=rng) for _ in range(L)]
    for k, layer in enumerate(layers):
        names = {"w_x": f"w_x{k}", "w_h": f"w_h{k}", "bias": f"b{k}"}
        layer.load_state_dict({own: weights[name] for own, name in names.items()})
    dense = nn.Linear(H, V, generator=rng)
    dense.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    parameters = nn.ModuleList([embedding, *layers, dense]).parameters()
    optimizer = optim.SGD(parameters, lr=RATE)
    state: Any = [layer.zero_state(N) for layer in layers]

    def loss_of(inputs: np.ndarray, targets: np.ndarray, state: Any) -> Any:
        values, after = drop(embedding(inputs)), []
        for layer, before in zip(layers, state):
            values, carried = layer(values, before)
            values = drop(values)
            after.append(carried)
        return mg.cross_entropy(dense(values), targets, reduction="sum") / N, after

    train = mg.capture(loss_of, optimizer=optimizer, clip_norm=MAX_NORM)

    def step(inputs: np.ndarray, targets: np.ndarray) -> float:
        nonlocal state
        if captured:
            loss, after = train(inputs, targets, state)
        else:
            optimizer.zero_grad()
            loss, after = loss_of(inputs, targets, state)
            loss.backward()
            optim.clip_grad_norm_(parameters, MAX_NORM)
            optimizer.step()
        state = [tuple(part.detach() for part in parts) for parts in after]
        return loss.item()

    return step


def pytorch_step(weights: Weights, dropout: float = 0.0, compiled: bool = False) -> Any:
    """PyTorch: nn.LSTM of two layers (oneDNN's fused layer), fused SGD."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy
    from torch.nn.functional import dropout as drop

    embedding = nn.Embedding.from_pretrained(torch.from_numpy(weights["table"]), freeze=False)
    layers = [(weights[f"w_x{k}"], weights[f"w_h{k}"], weights[f"b{k}"]) for k in range(L)]
    lstm = tools.torch_lstm(layers, 1.0, dropout=dropout, written_out=compiled)
    dense = tools.torch_linear(weights["w"], weights["b"])
    every = (*embedding.parameters(), *lstm.parameters(), *dense.parameters())
    parameters = [p for p in every if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=RATE, fused=True)
    state = (torch.zeros(L, N, H), torch.zeros(L, N, H))

    def loss_of(inputs: Any, targets: Any, state: Any) -> Any:
        outputs, state = lstm(drop(embedding(inputs), dropout), state)
        logits = dense(drop(outputs, dropout)).view(T * N, V)
        return cross_entropy(logits, targets.reshape(-1), reduction="sum") / N, state

    forward = tools.torch_forward(loss_of, compiled)

    def step(inputs: np.ndarray, targets: np.ndarray) -> Any:
        nonlocal state
        loss, (h, c) = forward(torch.from_numpy(inputs), torch.from_numpy(targets), state)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        state = (h.detach(), c.detach())
        return loss.detach()

    return step


def jax_step(weights: Weights, dropout: float = 0.0) -> Any:
    """JAX: one jitted function."""
    import jax
    import jax.numpy as jnp
    from jax.nn import logsumexp

    def drop(values: Any, key: Any) -> Any:
        if dropout == 0:
            return values
        keep = jax.random.bernoulli(key, 1 - dropout, values.shape)
        return jnp.where(keep, values / (1 - dropout), 0)

    def loss_and_state(params: Any, state: Any, keys: Any, inputs: Any, targets: Any) -> Any:
        values, after = drop(params["table"][inputs], keys[0]), []
        for k in range(L):
            x_gates = values @ params[f"w_x{k}"] + params[f"b{k}"]
            carried, values = tools.jax_lstm(x_gates, params[f"w_h{k}"], state[k], 1.0, unroll=1)
            values = drop(values, keys[k + 1])
            after.append(carried)
        logits = values @ params["w"] + params["b"]
        picked = jnp.take_along_axis(logits, targets[:, :, None], axis=2)[:, :, 0]
        return jnp.sum(logsumexp(logits, axis=2) - picked) / N, after

    def train(params: Any, state: Any, key: Any, inputs: Any, targets: Any) -> Any:
        key, *keys = jax.random.split(key, L + 2)
        gradient = jax.value_and_grad(loss_and_state, has_aux=True)
        (loss, state), grads = gradient(params, state, keys, inputs, targets)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))
        rate = RATE * MAX_NORM / jnp.maximum(norm, MAX_NORM)
        return jax.tree.map(lambda p, g: p - rate * g, params, grads), state, key, loss

    jitted = jax.jit(train, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, dict(weights))
    state = [(jnp.zeros((N, H)), jnp.zeros((N, H))) for _ in range(L)]
    key = jax.random.key(0)

    def step(inputs: np.ndarray, targets: np.ndarray) -> Any:
        nonlocal params, state, key
        results = jitted(params, state, key, inputs.astype(np.int32), targets.astype(np.int32))
        params, state, key, loss = jax.block_until_ready(results)
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
