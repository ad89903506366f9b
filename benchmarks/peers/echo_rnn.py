"""One training step of the echo RNN, minigrad against its peers.

The step: a window of 15 bits for each of 5 rows, a vanilla RNN with a state of 4, a linear layer
to 2 classes, the mean softmax cross-entropy, backward, Adagrad at rate 0.3.  The state is carried
from window to window, detached.  Next to nothing is computed: what is timed is the engine itself.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, T time, H hidden
T, N, H, CLASSES = 15, 5, 4, 2
RATE, FIRST_SUM, ECHO = 0.3, 0.1, 3
JAX_THREADS = 1
FLOPS = 2 * ((3 * T - 1) * N * H * H + 2 * T * N * H + 3 * T * N * H * CLASSES)


def draw_weights(rng: np.random.Generator) -> Weights:
    """w_x (1, H), w_h (H, H), b_h (H,), w (H, 2), b (2,): uniform in [0, 1), biases 0."""
    return {
        "w_x": rng.random((1, H), dtype=np.float32),
        "w_h": rng.random((H, H), dtype=np.float32),
        "b_h": np.zeros(H, np.float32),
        "w": rng.random((H, CLASSES), dtype=np.float32),
        "b": np.zeros(CLASSES, np.float32),
    }


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` consecutive windows: bits (T, N, 1) float32, their echo (T, N) int64."""
    bits = rng.integers(0, 2, (count * T, N))
    echo = np.roll(bits, ECHO, axis=0)
    x, y = bits.astype(np.float32)[:, :, None].reshape(count, T, N, 1), echo.reshape(count, T, N)
    return [(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in zip(x, y)]


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: the fused layer, as models/echo_rnn.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    rnn = nn.RNN(1, H, time_major=True, generator=np.random.default_rng(0))
    rnn.load_state_dict({"w_x": weights["w_x"], "w_h": weights["w_h"], "bias": weights["b_h"]})
    w, b = nn.Parameter(weights["w"]), nn.Parameter(weights["b"])
    optimizer = optim.Adagrad([*rnn.parameters(), w, b], lr=RATE)
    state: Any = rnn.zero_state(N)

    def loss_of(bits: np.ndarray, echo: np.ndarray, state: Any) -> Any:
        outputs, state = rnn(bits, state)
        return mg.cross_entropy(mg.linear(outputs, w, b), echo), state

    train = mg.capture(loss_of, optimizer=optimizer)

    def captured_step(bits: np.ndarray, echo: np.ndarray) -> float:
        nonlocal state
        loss, state = train(bits, echo, state)
        return loss.item()

    def step(bits: np.ndarray, echo: np.ndarray) -> float:
        nonlocal state
        optimizer.zero_grad()
        loss, state = loss_of(bits, echo, state)
        loss.backward()
        optimizer.step()
        state = state.detach()
        return loss.item()

    return captured_step if captured else step


def pytorch_step(weights: Weights, compiled: bool = False) -> Any:
    """PyTorch: nn.RNN, fused Adagrad."""
    import torch
    from torch.nn.functional import cross_entropy

    rnn = tools.torch_rnn(weights, written_out=compiled)
    head = tools.torch_linear(weights["w"], weights["b"])
    parameters = [p for p in (*rnn.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adagrad(
        parameters, lr=RATE, initial_accumulator_value=FIRST_SUM, fused=True
    )
    state = torch.zeros(1, N, H)

    def loss_of(bits: Any, echo: Any, state: Any) -> Any:
        outputs, state = rnn(bits, state)
        return cross_entropy(head(outputs.view(T * N, H)), echo.view(T * N)), state

    forward = tools.torch_forward(loss_of, compiled)

    def step(bits: np.ndarray, echo: np.ndarray) -> Any:
        nonlocal state
        loss, state = forward(torch.from_numpy(bits), torch.from_numpy(echo), state)
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
    from jax.nn import logsumexp

    def loss_and_state(params: Any, state: Any, bits: Any, echo: Any) -> Any:
        def cell(h: Any, x: Any) -> Any:
            h = jnp.tanh(x + h @ params["w_h"])
            return h, h

        state, outputs = jax.lax.scan(
            cell, state, bits @ params["w_x"] + params["b_h"], unroll=T
        )
        logits = outputs @ params["w"] + params["b"]
        picked = jnp.take_along_axis(logits, echo[:, :, None], axis=2)[:, :, 0]
        return jnp.mean(logsumexp(logits, axis=2) - picked), state

    def train(params: Any, sums: Any, state: Any, bits: Any, echo: Any) -> Any:
        gradient = jax.value_and_grad(loss_and_state, has_aux=True)
        (loss, state), grads = gradient(params, state, bits, echo)
        params, sums = tools.jax_adagrad(params, grads, sums, RATE)
        return params, sums, state, loss

    jitted = jax.jit(train, donate_argnums=(0, 1, 2))
    params = jax.tree.map(jnp.array, dict(weights))
    sums = jax.tree.map(lambda p: jnp.full_like(p, FIRST_SUM), params)
    state = jnp.zeros((N, H))

    def step(bits: np.ndarray, echo: np.ndarray) -> Any:
        nonlocal params, sums, state
        results = jitted(params, sums, state, bits, echo.astype(np.int32))
        params, sums, state, loss = jax.block_until_ready(results)
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
