"""One training step of the document's character language model, minigrad against its peers.

The step: a window of 11 x 64 symbols is 10 inputs and 10 targets for each of 64 cursors; an LSTM of
64 nodes, a linear layer to 27 symbols, the mean softmax cross-entropy, backward, clipping to
a global norm of 1.25, SGD at rate 10. (h, c) is carried from window to window, detached.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, T time, V vocabulary, H hidden
T, N, V, H = 10, 64, 27, 64
LEARNING_RATE, MAX_NORM = 10.0, 1.25
JAX_THREADS = 1
STEEP = 10  # w times this makes the second gradient far longer than MAX_NORM (4.5 against 1.25)

Step = Callable[[np.ndarray], Any]  # window (T + 1, N) -> loss


def draw_weights(rng: np.random.Generator) -> Weights:
    """Initial float32 weights as in the document: truncated normal of mean -0.1 and std 0.1.

    Values further than 2 std from the mean are drawn again; the biases are 0.
    w_x (V, 4H), w_h (H, 4H), b_gates (4H,), gates in the order i, j, f, o; w (H, V), b (V,).
    """

    def truncated_normal(*shape: int) -> np.ndarray:
        values = rng.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = rng.standard_normal(outside.sum())
        return (0.1 * values - 0.1).astype(np.float32)

    return {
        "w_x": truncated_normal(V, 4 * H),
        "w_h": truncated_normal(H, 4 * H),
        "b_gates": np.zeros(4 * H, np.float32),
        "w": truncated_normal(H, V),
        "b": np.zeros(V, np.float32),
    }


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray]]:
    """`count` consecutive int64 windows (T + 1, N).

    Each begins with the last row of the one before, as the document's batches do. The text is
    made of 60 invented words, so there is something to learn and the gates and gradients stay in
    the range of real training instead of saturating on noise.
    """
    words = [np.append(rng.integers(1, V, size), 0) for size in rng.integers(2, 8, 60)]
    length = count * T + 1
    text = np.concatenate([words[k] for k in rng.integers(60, size=N * length)])  # long enough
    cursors = text[: N * length].reshape(N, length).T  # (time, N)
    return [(np.ascontiguousarray(cursors[k * T : (k + 1) * T + 1]),) for k in range(count)]


def steepened(weights: Weights) -> Weights:
    """Weights whose gradients are clipped."""
    return weights | {"w": STEEP * weights["w"]}


# The recurrence, and the logits forward, dh and dw.  A one-hot product is a row look-up and is
# not counted, nor are the element-wise parts.
FLOPS = tools.lstm_flops(T, N, 0, H) + 2 * 3 * T * N * H * V


def minigrad_step(weights: Weights, captured: bool = False) -> Step:
    """minigrad: the fused LSTM layer, as models/char_lm.py uses it."""
    import minigrad as mg
    from minigrad import nn, optim

    rng = np.random.default_rng(0)
    lstm = nn.LSTM(V, H, forget_bias=0.0, time_major=True, generator=rng)
    head = nn.Linear(H, V, generator=rng)
    lstm.load_state_dict({"w_x": weights["w_x"], "w_h": weights["w_h"], "bias": weights["b_gates"]})
    head.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    parameters = [*lstm.parameters(), *head.parameters()]
    optimizer = optim.SGD(parameters, lr=LEARNING_RATE)
    state = lstm.zero_state(N)

    def loss_of(window: np.ndarray, state: Any) -> Any:
        outputs, state = lstm(window[:-1], state)
        return mg.cross_entropy(head(outputs), window[1:]), state

    train = mg.capture(loss_of, optimizer=optimizer, clip_norm=MAX_NORM)

    def captured_step(window: np.ndarray) -> Any:
        nonlocal state
        loss, state = train(window, state)
        return loss.item()

    def step(window: np.ndarray) -> Any:
        nonlocal state
        optimizer.zero_grad()
        loss, (h, c) = loss_of(window, state)
        loss.backward()
        optim.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        state = (h.detach(), c.detach())
        return loss.item()

    return captured_step if captured else step


def pytorch_step(weights: Weights, compiled: bool = False) -> Step:
    """PyTorch: nn.LSTM (oneDNN's fused layer), one-hot by table look-up, fused SGD."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    one_hot = nn.Embedding.from_pretrained(torch.eye(V), freeze=True)
    layers = [(weights["w_x"], weights["w_h"], weights["b_gates"])]
    lstm = tools.torch_lstm(layers, forget_bias=0.0, written_out=compiled)
    head = tools.torch_linear(weights["w"], weights["b"])
    parameters = [p for p in (*lstm.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, fused=True)
    state = (torch.zeros(1, N, H), torch.zeros(1, N, H))

    def loss_of(ids: torch.Tensor, state: Any) -> Any:
        outputs, state = lstm(one_hot(ids[:-1]), state)
        return cross_entropy(head(outputs.view(T * N, H)), ids[1:].view(T * N)), state

    forward = tools.torch_forward(loss_of, compiled)

    def step(window: np.ndarray) -> torch.Tensor:
        nonlocal state
        loss, (h, c) = forward(torch.from_numpy(window), state)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        state = (h.detach(), c.detach())
        return loss.detach()

    return step


def jax_step(weights: Weights) -> Step:
    """JAX: forward, backward, clip and update in one jitted function.

    Rows of w_x by look-up, the scan unrolled.
    """
    import jax
    import jax.numpy as jnp
    from jax.nn import logsumexp

    def loss_and_state(params: Any, state: Any, window: Any) -> Any:
        z_x = params["w_x"][window[:-1]] + params["b_gates"]  # (T, N, 4H)
        state, outputs = tools.jax_lstm(z_x, params["w_h"], state, forget_bias=0.0, unroll=T)
        logits = outputs.reshape(T * N, H) @ params["w"] + params["b"]
        targets = window[1:].reshape(T * N, 1)
        picked = jnp.take_along_axis(logits, targets, axis=1)[:, 0]
        return jnp.mean(logsumexp(logits, axis=1) - picked), state

    def train(params: Any, state: Any, window: Any) -> Any:
        (loss, state), grads = jax.value_and_grad(loss_and_state, has_aux=True)(
            params, state, window
        )
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))
        rate = LEARNING_RATE * MAX_NORM / jnp.maximum(norm, MAX_NORM)
        params = jax.tree.map(lambda p, g: p - rate * g, params, grads)
        return params, state, loss

    jitted = jax.jit(train, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, dict(weights))
    state = (jnp.zeros((N, H)), jnp.zeros((N, H)))

    def step(window: np.ndarray) -> jax.Array:
        nonlocal params, state
        results = jitted(params, state, window.astype(np.int32))  # JAX keeps 32-bit integers
        params, state, loss = jax.block_until_ready(results)
        return loss

    return step


MAKERS = {
    "minigrad": minigrad_step,
    "PyTorch eager": pytorch_step,
    "PyTorch compiled": functools.partial(pytorch_step, compiled=True),
    "JAX jit": jax_step,
}
