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


def torch_forward(loss_of: Any, compiled: bool) -> Any:
    """The function itself, or through torch.compile: Inductor's code, forward and backward."""
    import torch

    return torch.compile(loss_of, dynamic=False) if compiled else loss_of


def torch_rnn(weights: Weights, batch_first: bool = False, written_out: bool = False) -> Any:
    """nn.RNN with the weights w_x, w_h, b_h; the second of its two biases is frozen at zero.

    written_out: a loop over time instead, which torch.compile can fuse.
    """
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
    if not written_out:
        return rnn
    w_x, w_h, bias = rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0

    def forward(x: Any, state: Any) -> Any:
        x, outputs = x.transpose(0, 1) if batch_first else x, []
        h, x_gates = state[0], torch.nn.functional.linear(x, w_x, bias)
        for t in range(len(x)):
            h = torch.tanh(x_gates[t] + h @ w_h.T)
            outputs.append(h)
        return torch.stack(outputs, dim=1 if batch_first else 0), h[None]

    return _written_out(rnn, forward)


def torch_lstm(
    layers: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    forget_bias: float,
    batch_first: bool = False,
    dropout: float = 0.0,
    written_out: bool = False,
) -> Any:
    """nn.LSTM (oneDNN's fused layer) with the weights (w_x, w_h, bias) of our layers.

    Its gates come in the order i, f, g, o.  The second of its two biases is frozen and holds
    the forget bias.  written_out: a loop over time instead, which torch.compile can fuse; it
    takes nn.LSTM for an operation that it does not look into.
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
    return _written_out(lstm, _written_lstm(lstm)) if written_out else lstm


def _written_out(layer: Any, forward: Any) -> Any:
    """A module with the parameters of a layer, but this forward pass.

    Dynamo knows PyTorch's own recurrent layers by their class, and does not look inside.
    """
    import torch

    module = torch.nn.Module()
    for name, parameter in layer.named_parameters():
        module.register_parameter(name, parameter)
    module.forward = forward
    return module


def _written_lstm(lstm: Any) -> Any:
    """The forward pass of an nn.LSTM as a loop over layers and time."""
    import torch
    from torch.nn.functional import dropout, linear

    weights = list(zip(*[iter(lstm.parameters())] * 4))  # of each layer: ih, hh, two biases
    batch_first, hidden, chance = lstm.batch_first, lstm.hidden_size, lstm.dropout

    def forward(x: Any, state: Any = None) -> Any:
        x, last = x.transpose(0, 1) if batch_first else x, []
        for k, (w_x, w_h, bias, second) in enumerate(weights):
            zeros = x.new_zeros(x.shape[1], hidden)
            h, c = (zeros, zeros) if state is None else (state[0][k], state[1][k])
            x_gates, outputs = linear(x, w_x, bias + second), []
            for t in range(len(x)):
                i, f, g, o = (x_gates[t] + h @ w_h.T).chunk(4, dim=1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                outputs.append(h)
            x = torch.stack(outputs)
            if chance and k + 1 < len(weights):
                x = dropout(x, chance)
            last.append((h, c))
        h, c = (torch.stack(parts) for parts in zip(*last))
        return x.transpose(0, 1) if batch_first else x, (h, c)

    return forward


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
