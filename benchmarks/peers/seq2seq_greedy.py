"""Greedy decoding of 64 sequences by the seq2seq model that deletes odd numbers.

The model is that of the case seq2seq_odds, here with random weights ten times as large on the
last layer, so that no two logits are nearly equal.  It reads 64 padded sequences and writes 20
numbers for each, every one of them what was likeliest at the step before.  The loss that the
contenders must agree on is a number made of all ids.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import seq2seq_odds
from .seq2seq_odds import E, H, L, N, S, V, draw_batches, fixed
from .tools import Weights

STEPS = 20
JAX_THREADS = 1
FLOPS = 2 * N * (
    (12 + STEPS) * sum((inputs + H) * 4 * H for inputs in (E, H)) + STEPS * H * V
)  # fmt: skip
TURN_SECONDS = 0.2

__all__ = ["draw_batches"]


def draw_weights(rng: np.random.Generator) -> Weights:
    """As for training, but the logits are far apart."""
    weights = seq2seq_odds.draw_weights(rng)
    for name in weights:
        if name.startswith(("e_table", "d_table")) or name == "w":
            weights[name] = 10 * weights[name]
    weights["b"][0] = -100  # EOS is never said
    return weights


def number(ids: np.ndarray) -> float:
    """One number made of all ids (N, 20)."""
    return float((ids * np.arange(1, STEPS + 1)).sum())


def minigrad_step(weights: Weights, captured: bool = False) -> Any:
    """minigrad: Decoder with the Greedy helper, under no_grad; captured is how it reads."""
    import minigrad as mg
    from minigrad.nn import seq2seq

    encoder, decoder = seq2seq_odds.minigrad_parts(weights)
    greedy = seq2seq.Greedy(go=0, eos=0)

    def read(x: np.ndarray, lengths: np.ndarray) -> Any:
        return encoder(x, lengths)[1]

    if captured:
        read = mg.capture(read)

    @mg.no_grad()
    def step(x: np.ndarray, lengths: np.ndarray, *answers: np.ndarray) -> float:
        return number(decoder(greedy, read(x, lengths), max_steps=STEPS).ids)

    return step


def pytorch_step(weights: Weights) -> Any:
    """PyTorch eager: packed sequences are read, then nn.LSTM runs one step at a time."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    table, encoder, d_table, decoder, head = seq2seq_odds.pytorch_parts(weights)

    @torch.inference_mode()
    def step(x: np.ndarray, lengths: np.ndarray, *answers: np.ndarray) -> float:
        read = pack_padded_sequence(
            table(torch.from_numpy(x)), torch.from_numpy(lengths), batch_first=True,
            enforce_sorted=False,
        )  # fmt: skip
        _, state = encoder(read)
        ids, said = torch.zeros(N, 1, dtype=torch.int64), []
        for _ in range(STEPS):
            output, state = decoder(d_table(ids), state)
            ids = head(output[:, 0]).argmax(dim=1, keepdim=True)
            said.append(ids)
            if len(said) == STEPS or bool((ids == 0).all()):
                break
        return number(torch.cat(said, dim=1).numpy())

    return step


def jax_step(weights: Weights) -> Any:
    """JAX: reading and all 20 steps in one jitted function."""
    import jax
    import jax.numpy as jnp
    from jax.nn import sigmoid

    params = jax.tree.map(jnp.array, dict(weights))

    @jax.jit
    def decode(params: Any, x: Any, lengths: Any) -> Any:
        def write(carry: Any, _: Any) -> Any:
            ids, states = carry
            value, after = params["d_table"][ids], []
            for k in range(L):
                h, c = states[k]
                z = value @ params[f"d_w_x{k}"] + h @ params[f"d_w_h{k}"] + params[f"d_b{k}"]
                i, j, f, o = jnp.split(z, 4, axis=-1)
                c = c * sigmoid(f + 1) + sigmoid(i) * jnp.tanh(j)
                value = jnp.tanh(c) * sigmoid(o)
                after.append((value, c))
            ids = jnp.argmax(value @ params["w"] + params["b"], axis=1)
            return (ids, after), ids

        states = seq2seq_odds.jax_encoded(params, x, lengths)
        first = jnp.zeros(N, jnp.int32), states
        return jax.lax.scan(write, first, None, length=STEPS)[1].T

    def step(x: np.ndarray, lengths: np.ndarray, *answers: np.ndarray) -> float:
        return number(np.asarray(decode(params, fixed(x, S), lengths.astype(np.int32))))

    return step


MAKERS = {"minigrad": minigrad_step, "PyTorch eager": pytorch_step, "JAX jit": jax_step}
