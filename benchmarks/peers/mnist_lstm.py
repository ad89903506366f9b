"""One training step of the MNIST row LSTM, minigrad against its peers.

The step: 128 images as 28 time steps of 28 pixels, a linear layer to 128, an LSTM of 128, a linear
layer on the last output, the mean softmax cross-entropy, backward, Adam at rate 0.001.

Between the first linear layer and the LSTM's own product nothing bends, so both matrices can be
multiplied first, once a step: 28 x 512 instead of 28 x 128 and 128 x 512 for every row of pixels.
minigrad's nn.InputProjection does.  No peer has a layer that does.  All are timed as their users
write the model, and PyTorch eager, the fastest of them, once more with that product written by
hand.  Counted are the flops that are left, for all.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, T time (rows), D pixels of a row, H hidden
T, N, D, H, CLASSES = 28, 128, 28, 128, 10
RATE = 0.001
JAX_THREADS = None
FLOPS = tools.lstm_flops(T, N, D, H) + 2 * 3 * (D * H * 4 * H + N * H * CLASSES)
TURN_SECONDS = 0.4


def draw_weights(rng: np.random.Generator) -> Weights:
    """w_in (D, H), b_in, w_x (H, 4H), w_h (H, 4H), b_gates, w_out (H, 10), b_out."""
    kernel = tools.glorot(rng, 2 * H, 4 * H)
    return {
        "w_in": tools.glorot(rng, D, H),
        "b_in": np.full(H, 0.1, np.float32),
        "w_x": kernel[:H].copy(),
        "w_h": kernel[H:].copy(),
        "b_gates": np.zeros(4 * H, np.float32),
        "w_out": tools.glorot(rng, H, CLASSES),
        "b_out": np.full(CLASSES, 0.1, np.float32),
    }


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images (N, T, D) float32, a fifth of whose pixels are ink, and classes (N,) int64."""
    count = min(count, 20)
    images = rng.random((count, N, T, D), dtype=np.float32) * (rng.random((count, N, T, D)) < 0.2)
    return list(zip(images.astype(np.float32), rng.integers(0, CLASSES, (count, N))))


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: the fused layer behind a projection, as models/mnist_lstm.py uses them."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    dense_in, dense_out = nn.Linear(D, H, generator=rng), nn.Linear(H, CLASSES, generator=rng)
    lstm = nn.LSTM(H, H, time_major=True, generator=rng)
    dense_in.load_state_dict({"weight": weights["w_in"], "bias": weights["b_in"]})
    lstm.load_state_dict({"w_x": weights["w_x"], "w_h": weights["w_h"], "bias": weights["b_gates"]})
    dense_out.load_state_dict({"weight": weights["w_out"], "bias": weights["b_out"]})
    reader = nn.InputProjection(dense_in, lstm)
    model = nn.ModuleList([reader, dense_out])
    optimizer = optim.Adam(model.parameters(), lr=RATE)

    def loss_of(images: np.ndarray, labels: np.ndarray) -> Any:
        _, (h, _) = reader(images.swapaxes(0, 1))  # rows of pixels are time steps
        return mg.cross_entropy(dense_out(h), labels)

    train = mg.capture(loss_of, optimizer=optimizer)

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        if captured:
            return train(images, labels).item()
        optimizer.zero_grad()
        loss = loss_of(images, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch_step(weights: Weights, compiled: bool = False, by_hand: bool = False) -> Any:
    """PyTorch: nn.LSTM (oneDNN's fused layer), fused Adam.

    by_hand: nn.LSTM is called with the product of both matrices for the weights of its inputs.
    """
    import torch
    from torch.nn.functional import cross_entropy

    dense_in = tools.torch_linear(weights["w_in"], weights["b_in"])
    layers = [(weights["w_x"], weights["w_h"], weights["b_gates"])]
    lstm = tools.torch_lstm(layers, 1.0, batch_first=True, written_out=compiled)
    dense_out = tools.torch_linear(weights["w_out"], weights["b_out"])
    every = (*dense_in.parameters(), *lstm.parameters(), *dense_out.parameters())
    optimizer = torch.optim.Adam([p for p in every if p.requires_grad], lr=RATE, fused=True)

    narrow = torch.nn.LSTM(D, H, batch_first=True) if by_hand else None  # its weights are not used

    def last_state(images: Any) -> Any:
        if narrow is None:
            return lstm(dense_in(images))[1][0][-1]
        own = dict(lstm.named_parameters())
        own["bias_ih_l0"] = own["bias_ih_l0"] + own["weight_ih_l0"] @ dense_in.bias
        own["weight_ih_l0"] = own["weight_ih_l0"] @ dense_in.weight
        return torch.func.functional_call(narrow, own, (images,))[1][0][-1]

    def loss_of(images: Any, labels: Any) -> Any:
        return cross_entropy(dense_out(last_state(images)), labels)

    forward = tools.torch_forward(loss_of, compiled)

    def step(images: np.ndarray, labels: np.ndarray) -> Any:
        loss = forward(torch.from_numpy(images), torch.from_numpy(labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def jax_step(weights: Weights) -> Any:
    """JAX: one jitted function."""
    import jax
    import jax.numpy as jnp
    from jax.nn import logsumexp

    def loss_of(params: Any, images: Any, labels: Any) -> Any:
        rows = images.swapaxes(0, 1) @ params["w_in"] + params["b_in"]
        zeros = jnp.zeros((N, H))
        x_gates = rows @ params["w_x"] + params["b_gates"]
        (h, _), _ = tools.jax_lstm(x_gates, params["w_h"], (zeros, zeros), 1.0, unroll=1)
        logits = h @ params["w_out"] + params["b_out"]
        picked = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return jnp.mean(logsumexp(logits, axis=1) - picked)

    def train(params: Any, moments: Any, images: Any, labels: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
        params, moments = tools.jax_adam(params, grads, moments, RATE)
        return params, moments, loss

    jitted = jax.jit(train, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, dict(weights))
    moments = (jnp.zeros(()), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))

    def step(images: np.ndarray, labels: np.ndarray) -> Any:
        nonlocal params, moments
        results = jitted(params, moments, images, labels.astype(np.int32))
        params, moments, loss = jax.block_until_ready(results)
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch product by hand": functools.partial(pytorch_step, by_hand=True),
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
