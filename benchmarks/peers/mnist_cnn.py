"""One training step of the MNIST convolutional network, minigrad against its peers.

The step: 50 images, 5 x 5 convolutions to 32 and 64 channels, each with relu and 2 x 2
max-pooling, dense layers to 1024 (relu) and 10, the mean softmax cross-entropy, backward, Adam at
rate 0.0001.  Without dropout, whose masks would have to be the same for all.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

BATCH = 50
SIZE, CHANNELS, HIDDEN, CLASSES = 28, (32, 64), 1024, 10
FLAT = (SIZE // 4) ** 2 * CHANNELS[1]
RATE = 1e-4
JAX_THREADS = None
TURN_SECONDS = 0.6


def flops(batch: int) -> int:
    """Products of a step, a multiply-add as two: forward, weight and input gradients.

    The first layer has no input gradient.
    """
    first = SIZE**2 * 25 * CHANNELS[0]
    second = (SIZE // 2) ** 2 * 25 * CHANNELS[0] * CHANNELS[1]
    return 2 * batch * (2 * first + 3 * (second + FLAT * HIDDEN + HIDDEN * CLASSES))


FLOPS = flops(BATCH)


def draw_weights(rng: np.random.Generator) -> Weights:
    """Kernels w1 (5, 5, 1, 32), w2 (5, 5, 32, 64), w3 (3136, 1024), w4 (1024, 10); biases b1 ..."""
    shapes = [(5, 5, 1, CHANNELS[0]), (5, 5, *CHANNELS), (FLAT, HIDDEN), (HIDDEN, CLASSES)]
    weights = {}
    for k, shape in enumerate(shapes, start=1):
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        weights[f"w{k}"] = (scale * rng.standard_normal(shape)).astype(np.float32)
        weights[f"b{k}"] = np.full(shape[-1], 0.1, np.float32)
    return weights


def draw_batches(
    rng: np.random.Generator, count: int, batch: int = BATCH
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images (N, 28, 28, 1) float32, a fifth of whose pixels are ink, and classes (N,) int64."""
    count = min(count, 20)
    shape = (count, batch, SIZE, SIZE, 1)
    images = rng.random(shape, dtype=np.float32) * (rng.random(shape) < 0.2)
    return list(zip(images.astype(np.float32), rng.integers(0, CLASSES, (count, batch))))


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: the layers of models/mnist_cnn.py, relu and pooling within the convolutions."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"padding": "same", "activation": "relu", "pool": 2}
    model = nn.Sequential(
        nn.Conv2d(1, CHANNELS[0], 5, generator=rng, **settings),
        nn.Conv2d(*CHANNELS, 5, generator=rng, **settings),
        nn.Flatten(),
        nn.Linear(FLAT, HIDDEN, generator=rng),
        mg.relu,
        nn.Linear(HIDDEN, CLASSES, generator=rng),
    )
    for parameter, (name, value) in zip(model.parameters(), weights.items(), strict=True):
        parameter.data = value
        assert parameter.ndim == (1 if name.startswith("b") else value.ndim)
    optimizer = optim.Adam(model.parameters(), lr=RATE)

    def loss_of(images: np.ndarray, labels: np.ndarray) -> Any:
        return mg.cross_entropy(model(images), labels)

    train = mg.capture(loss_of, optimizer=optimizer)
    if captured:
        return lambda images, labels: train(images, labels).item()

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        loss = loss_of(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch_step(
    weights: Weights, channels_last: bool = False, compiled: bool = False
) -> Any:
    """PyTorch, images as (N, C, H, W); fused Adam."""
    import torch
    from torch.nn import functional

    layout = torch.channels_last if channels_last else torch.contiguous_format
    convolutions = []
    for k in (1, 2):
        w = torch.from_numpy(weights[f"w{k}"]).permute(3, 2, 0, 1)
        w = w.clone(memory_format=layout)
        convolutions += [w, torch.from_numpy(weights[f"b{k}"])]
    w3 = weights["w3"]
    if not channels_last:  # its rows as (C, H, W), not (H, W, C): flattening then copies nothing
        side = SIZE // 4
        w3 = w3.reshape(side, side, CHANNELS[1], HIDDEN).transpose(2, 0, 1, 3).reshape(w3.shape)
    dense = [
        tools.torch_linear(w, weights[f"b{k}"]) for k, w in ((3, w3), (4, weights["w4"]))
    ]
    for tensor in convolutions:
        tensor.requires_grad_()
    every = [*convolutions, *(p for layer in dense for p in layer.parameters())]
    # the others add 1e-8 to the root before its correction, which is this much at first: there
    # are gradients so small that it shows
    optimizer = torch.optim.Adam(every, lr=RATE, eps=2e-7, fused=True)

    def loss_of(images: Any, labels: Any) -> Any:
        x = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)
        for w, b in (convolutions[:2], convolutions[2:]):
            x = functional.max_pool2d(functional.relu(functional.conv2d(x, w, b, padding=2)), 2)
        x = (x.permute(0, 2, 3, 1) if channels_last else x).flatten(1)
        logits = dense[1](functional.relu(dense[0](x)))
        return functional.cross_entropy(logits, labels)

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
    from jax import lax
    from jax.nn import logsumexp, relu

    def loss_of(params: Any, images: Any, labels: Any) -> Any:
        x = images
        for k in (1, 2):
            x = lax.conv_general_dilated(
                x, params[f"w{k}"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = relu(x + params[f"b{k}"])
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
        hidden = relu(x.reshape(len(x), FLAT) @ params["w3"] + params["b3"])
        logits = hidden @ params["w4"] + params["b4"]
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
    "PyTorch channels last": functools.partial(pytorch_step, channels_last=True),
    "PyTorch compiled": functools.partial(pytorch_step, channels_last=True, compiled=True),
    "JAX jit": jax_step,
}
