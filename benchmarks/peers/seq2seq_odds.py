"""One training step of the seq2seq model that deletes odd numbers, minigrad against its peers.

The step: 64 sequences of 2 to 22 numbers and their even ones, padded; an embedding of 30 and two
LSTMs of 50 on either side, the last state of the one the first of the other, a linear layer to 11
ids, the cross-entropy over the real places, backward, Adam at rate 0.001.

PyTorch packs the sequences on both sides, so it computes no padding in its LSTMs; JAX, whose
compiled functions have fixed shapes, pads all batches to the longest there can be, 22 and 12.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import tools
from .tools import Weights

# N batch, V ids, E embedding, H hidden, L layers, S places read, T places written (at most)
N, V, E, H, L = 64, 11, 30, 50, 2
MOST = 11
S, T = 2 * MOST, MOST + 1
RATE = 0.001
JAX_THREADS = 1
_REAL = 12, 7  # places of a sequence and of an answer, on average
FLOPS = 2 * 3 * _REAL[1] * N * H * V + sum(
    tools.lstm_flops(steps, N, inputs, H, first=False) for steps in _REAL for inputs in (E, H)
)
TURN_SECONDS = 0.3


def draw_weights(rng: np.random.Generator) -> Weights:
    """Of each side ("e", "d"): table (V, E), w_x and w_h of each layer, bias; w (H, V), b (V,)."""
    weights: Weights = {}
    for side in "ed":
        weights[f"{side}_table"] = (0.1 * rng.standard_normal((V, E))).astype(np.float32)
        for k, inputs in enumerate((E, H)):
            kernel = tools.glorot(rng, inputs + H, 4 * H)
            weights[f"{side}_w_x{k}"] = kernel[:inputs].copy()
            weights[f"{side}_w_h{k}"] = kernel[inputs:].copy()
            weights[f"{side}_b{k}"] = np.zeros(4 * H, np.float32)
    return weights | {"w": tools.glorot(rng, H, V), "b": np.zeros(V, np.float32)}


def draw_batches(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, ...]]:
    """Padded sequences (N, s), lengths, answers with their EOS (N, t), lengths; all int64."""
    batches = []
    for _ in range(count):
        odds, evens = rng.integers(1, MOST + 1, (2, N))
        x = np.zeros((N, (odds + evens).max()), np.int64)
        y = np.zeros((N, evens.max() + 1), np.int64)
        for n in range(N):
            odd, even = 2 * rng.integers(0, 5, odds[n]) + 1, 2 * rng.integers(1, 6, evens[n])
            numbers = rng.permutation(np.concatenate([odd, even]))
            x[n, : len(numbers)] = numbers
            y[n, : evens[n]] = numbers[numbers % 2 == 0]
        batches.append((x, odds + evens, y, evens + 1))
    return batches


def minigrad_parts(weights: Weights) -> tuple[Any, Any]:
    """Encoder and decoder, as models/seq2seq_odds.py has them."""
    from minigrad import nn
    from minigrad.nn import seq2seq

    rng = np.random.default_rng(0)

    def side(name: str) -> tuple[Any, Any]:
        table = nn.Embedding(V, E, generator=rng)
        table.load_state_dict({"weight": weights[f"{name}_table"]})
        layers = []
        for k, inputs in enumerate((E, H)):
            layers.append(nn.LSTM(inputs, H, forget_bias=1.0, time_major=True, generator=rng))
            own = {"w_x": f"{name}_w_x{k}", "w_h": f"{name}_w_h{k}", "bias": f"{name}_b{k}"}
            layers[k].load_state_dict({key: weights[value] for key, value in own.items()})
        return table, nn.Stacked(layers)

    head = nn.Linear(H, V, generator=rng)
    head.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    return seq2seq.Encoder(*side("e")), seq2seq.Decoder(*side("d"), head)


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: teacher forcing, all time steps at once."""
    import minigrad as mg
    from minigrad import nn, optim
    from minigrad.nn import seq2seq

    encoder, decoder = minigrad_parts(weights)
    optimizer = optim.Adam(nn.ModuleList([encoder, decoder]).parameters(), lr=RATE)

    def loss_of(x: np.ndarray, x_lengths: np.ndarray, y: np.ndarray, y_lengths: np.ndarray) -> Any:
        _, state = encoder(x, x_lengths)
        teacher = seq2seq.TeacherForcing(seq2seq.decoder_inputs(y, 0), y_lengths)
        return seq2seq.sequence_loss(decoder(teacher, state).logits, y, y_lengths)

    if captured:
        train = mg.capture(loss_of, optimizer=optimizer)
        return lambda *batch: train(*batch).item()

    def step(*batch: np.ndarray) -> float:
        loss = loss_of(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch_parts(weights: Weights) -> tuple[Any, ...]:
    """Both embeddings, both LSTMs (oneDNN's fused layer, batch first), and the last layer."""
    import torch

    def side(name: str) -> tuple[Any, Any]:
        names = [[f"{name}_{kind}{k}" for kind in ("w_x", "w_h", "b")] for k in range(L)]
        layers = [(weights[w_x], weights[w_h], weights[b]) for w_x, w_h, b in names]
        table = torch.from_numpy(weights[f"{name}_table"])
        return (
            torch.nn.Embedding.from_pretrained(table, freeze=False),
            tools.torch_lstm(layers, forget_bias=1.0, batch_first=True),
        )

    return *side("e"), *side("d"), tools.torch_linear(weights["w"], weights["b"])


def pytorch_step(weights: Weights) -> Any:
    """PyTorch eager: packed sequences on both sides, the loss over the packed places."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pack_padded_sequence

    parts = pytorch_parts(weights)
    table, encoder, d_table, decoder, head = parts
    every = [p for part in parts for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(every, lr=RATE, fused=True)
    go = torch.zeros(N, 1, dtype=torch.int64)

    def packed(values: Any, lengths: Any) -> Any:
        return pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)

    def step(*batch: np.ndarray) -> Any:
        x, x_lengths, y, y_lengths = map(torch.from_numpy, batch)
        _, state = encoder(packed(table(x), x_lengths))
        inputs = torch.cat([go, y[:, :-1]], dim=1)
        outputs, _ = decoder(packed(d_table(inputs), y_lengths), state)
        loss = cross_entropy(head(outputs.data), packed(y, y_lengths).data)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def jax_encoded(params: Any, x: Any, x_lengths: Any) -> Any:
    """States (h, c) of both layers at the ends of x (N, S)."""
    import jax
    import jax.numpy as jnp
    from jax.nn import sigmoid

    zeros = jnp.zeros((N, H))
    inside = jnp.arange(S)[:, None, None] < x_lengths[:, None]  # (S, N, 1)
    values, states = params["e_table"][x.T], []
    for k in range(L):
        w_h = params[f"e_w_h{k}"]

        def cell(state: Any, inputs: Any, w_h: Any = w_h) -> Any:
            (h, c), (z_x, on) = state, inputs
            i, j, f, o = jnp.split(z_x + h @ w_h, 4, axis=-1)
            c_new = c * sigmoid(f + 1) + sigmoid(i) * jnp.tanh(j)
            h_new = jnp.tanh(c_new) * sigmoid(o)
            return (jnp.where(on, h_new, h), jnp.where(on, c_new, c)), h_new

        x_gates = values @ params[f"e_w_x{k}"] + params[f"e_b{k}"]
        state, values = jax.lax.scan(cell, (zeros, zeros), (x_gates, inside))
        states.append(state)
    return states


def jax_step(weights: Weights) -> Any:
    """JAX: one jitted function on batches padded to 22 and 12 places."""
    import jax
    import jax.numpy as jnp
    from jax.nn import logsumexp

    def loss_of(params: Any, x: Any, x_lengths: Any, y: Any, y_lengths: Any) -> Any:
        states = jax_encoded(params, x, x_lengths)
        inputs = jnp.concatenate([jnp.zeros((N, 1), jnp.int32), y[:, :-1]], axis=1)
        values = params["d_table"][inputs.T]
        for k in range(L):
            x_gates = values @ params[f"d_w_x{k}"] + params[f"d_b{k}"]
            _, values = tools.jax_lstm(x_gates, params[f"d_w_h{k}"], states[k], 1.0, unroll=1)
        logits = values @ params["w"] + params["b"]  # (T, N, V)
        picked = jnp.take_along_axis(logits, y.T[:, :, None], axis=2)[:, :, 0]
        real = jnp.arange(T)[:, None] < y_lengths
        return jnp.sum((logsumexp(logits, axis=2) - picked) * real) / jnp.sum(y_lengths)

    def train(params: Any, moments: Any, *batch: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, *batch)
        params, moments = tools.jax_adam(params, grads, moments, RATE)
        return params, moments, loss

    jitted = jax.jit(train, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, dict(weights))
    moments = (jnp.zeros(()), *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)))

    def step(x: np.ndarray, x_lengths: np.ndarray, y: np.ndarray, y_lengths: np.ndarray) -> Any:
        nonlocal params, moments
        batch = fixed(x, S), x_lengths.astype(np.int32), fixed(y, T), y_lengths.astype(np.int32)
        results = jitted(params, moments, *batch)
        params, moments, loss = jax.block_until_ready(results)
        return loss

    return step


def fixed(ids: np.ndarray, places: int) -> np.ndarray:
    """ids (N, fewer) with zeros up to so many places, int32."""
    wide = np.zeros((len(ids), places), np.int32)
    wide[:, : ids.shape[1]] = ids
    return wide


MAKERS = {"minigrad": minigrad_step, "PyTorch eager": pytorch_step, "JAX jit": jax_step}
