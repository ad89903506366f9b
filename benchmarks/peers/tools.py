"""What several cases need: drawing weights, PyTorch's LSTM from ours, JAX's cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]


def glorot(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Glorot uniform, float32."""
    limit = np.sqrt(6 / (shape[0] + shape[-1]))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def lstm_flops(steps: int, batch: int, inputs: int, hidden: int, first: bool = True) -> int:
    """Matrix products of one LSTM layer in a training step; a multiply-add counts two.

    Inputs: forward, weight gradient, and (not for the first layer) input gradient, over all
    steps.  Recurrence: forward, dh for all steps but one, weight gradient.
    """
    recurrence = (3 * steps - 1) * batch * hidden * 4 * hidden
    projection = (2 if first else 3) * steps * batch * inputs * 4 * hidden
    return 2 * (recurrence + projection)


def torch_linear(weight: np.ndarray, bias: np.ndarray) -> Any:
    """nn.Linear with these weights; weight (D, H)."""
    import torch

    layer = torch.nn.Linear(*weight.shape)
    layer.load_state_dict(
        {"weight": torch.from_numpy(weight.T.copy()), "bias": torch.from_numpy(bias.copy())}
    )
    return layer


def torch_rnn(weights: Weights, batch_first: bool = False) -> Any:
    """nn.RNN with the weights w_x, w_h, b_h; the second of its two biases is frozen at zero."""
    import torch

    rnn = torch.nn.RNN(*weights["w_x"].shape, batch_first=batch_first)
    rnn.load_state_dict(
        {
            "weight_ih_l0": torch.from_numpy(weights["w_x"].T.copy()),
            "weight_hh_l0": torch.from_numpy(weights["w_h"].T.copy()),
            "bias_ih_l0": torch.from_numpy(weights["b_h"]),
            "bias_hh_l0": torch.zeros(weights["b_h"].shape),
        }
    )
    rnn.bias_hh_l0.requires_grad_(False)
    return rnn


def torch_lstm(
    layers: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    forget_bias: float,
    batch_first: bool = False,
    dropout: float = 0.0,
) -> Any:
    """nn.LSTM (oneDNN's fused layer) with the weights (w_x, w_h, bias) of our layers.

    Its gates come in the order i, f, g, o.  The second of its two biases is frozen and holds
    the forget bias.
    """
    import torch

    def reordered(gates: np.ndarray) -> torch.Tensor:
        i, j, f, o = np.split(gates, 4, axis=-1)
        return torch.from_numpy(np.concatenate([i, f, j, o], axis=-1).T.copy())

    inputs, hidden = layers[0][0].shape[0], layers[0][1].shape[0]
    lstm = torch.nn.LSTM(
        inputs, hidden, num_layers=len(layers), batch_first=batch_first, dropout=dropout
    )
    second = torch.zeros(4 * hidden)
    second[hidden : 2 * hidden] = forget_bias
    state = {}
    for k, (w_x, w_h, bias) in enumerate(layers):
        state[f"weight_ih_l{k}"] = reordered(w_x)
        state[f"weight_hh_l{k}"] = reordered(w_h)
        state[f"bias_ih_l{k}"] = reordered(bias)
        state[f"bias_hh_l{k}"] = second
    lstm.load_state_dict(state)
    for name, parameter in lstm.named_parameters():
        if name.startswith("bias_hh"):
            parameter.requires_grad_(False)
    return lstm


def jax_lstm(
    x_gates: Any, w_h: Any, state: Any, forget_bias: float, unroll: int
) -> tuple[Any, Any]:
    """LSTM over x_gates (T, N, 4H), gates i, j, f, o; returns the last state and (T, N, H)."""
    import jax
    import jax.numpy as jnp
    from jax.nn import sigmoid

    def cell(state: Any, z_x: Any) -> Any:
        h, c = state
        i, j, f, o = jnp.split(z_x + h @ w_h, 4, axis=-1)
        c = c * sigmoid(f + forget_bias) + sigmoid(i) * jnp.tanh(j)
        h = jnp.tanh(c) * sigmoid(o)
        return (h, c), h

    return jax.lax.scan(cell, state, x_gates, unroll=unroll)


def jax_adagrad(params: Any, grads: Any, sums: Any, rate: float) -> tuple[Any, Any]:
    """Adagrad as TensorFlow has it; the sums start from 0.1.  Returns parameters and sums."""
    import jax
    import jax.numpy as jnp

    sums = jax.tree.map(lambda s, g: s + g * g, sums, grads)
    return jax.tree.map(lambda p, g, s: p - rate * g / jnp.sqrt(s), params, grads, sums), sums


def jax_adam(params: Any, grads: Any, moments: Any, rate: float) -> tuple[Any, Any]:
    """Adam as TensorFlow has it (epsilon 1e-8 beside the uncorrected root).

    moments: (step, first, second).  Returns parameters and moments.
    """
    import jax
    import jax.numpy as jnp

    step, first, second = moments
    step = step + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
    scaled = rate * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    params = jax.tree.map(
        lambda p, m, v: p - scaled * m / (jnp.sqrt(v) + 1e-8), params, first, second
    )
    return params, (step, first, second)


def jax_cross_entropy(logits: Any, labels: Any) -> Any:
    """Softmax cross-entropy, mean over the rows; logits (N, V), labels (N,) integers."""
    import jax.numpy as jnp
    from jax.nn import logsumexp

    picked = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(logsumexp(logits, axis=1) - picked)
