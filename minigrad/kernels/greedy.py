"""Greedy decoding by LSTMs one above the other: all steps of all layers in one call.

What a step says is what the next one reads, so the steps cannot be laid side by side as in
training; but rows do not meet, and a range of rows goes through all its steps without coming
back to Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops, panels, tile
from .inner import inner
from .registry import FASTMATH, kernel


def lstm_greedy_twin(
    table: np.ndarray, w_first: np.ndarray, w_above: np.ndarray, bias: np.ndarray,
    head: np.ndarray, head_bias: np.ndarray, go: int, eos: int, h: np.ndarray, c: np.ndarray,
    ids: np.ndarray, logits: np.ndarray, lengths: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Decode batch rows start to stop; column blocks of the gates i, j, f, o as in lstm.py.

    table: (V', 4H), what the first layer's gates get from each id.  w_first: (H, 4H), its
    recurrence.  w_above: (L - 1, 2H, 4H), of the other layers the weights of inputs, above
    those of the recurrence.  bias: (L, 4H), forget biases in them.
    head: (H, V) and head_bias: (V,).  go, eos: what is read first, and what ends a row.
    h, c: (L, N, H), in: the states at the start; out: those at the end of each row.
    ids: (N, T) and logits: (N, T, V), zeros, written up to the end of each row, and lengths:
    (N,), its EOS counted.  Of equal logits the first is said.
    """
    said = np.full(stop - start, go)
    running = np.ones(stop - start, bool)
    for t in range(ids.shape[1]):
        rows = start + np.flatnonzero(running)
        for layer in range(len(h)):
            if layer == 0:
                z = table[said[running]] + h[0, rows] @ w_first  # (n, 4H)
            else:
                both = np.concatenate([h[layer - 1, rows], h[layer, rows]], axis=1)
                z = both @ w_above[layer - 1]
            i, j, f, o = np.split(z + bias[layer], 4, axis=1)
            i, j, f, o = loops.sigmoid(i), np.tanh(j), loops.sigmoid(f), loops.sigmoid(o)
            c[layer, rows] = f * c[layer, rows] + i * j
            h[layer, rows] = o * np.tanh(c[layer, rows])
        logits[rows, t] = h[-1, rows] @ head + head_bias
        ids[rows, t] = said[running] = logits[rows, t].argmax(axis=1)
        lengths[rows] = t + 1
        running &= said != eos
        if not running.any():
            break


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_bias(z: Any, place: int, bias: Any, first: int, out: Any) -> None:
    """out = z + bias for the columns of one gate.

    z: (n, at least H), where they begin at ``place``; bias: (4H,), where they do at ``first``;
    out: (n, H).
    """
    for n in range(out.shape[0]):
        for k in range(out.shape[1]):
            column = np.uintp(first) + np.uintp(k)  # unsigned: an index that never wraps
            out[n, k] = z[n, np.uintp(place) + np.uintp(k)] + bias[column]


@inner()
def _largest(x: Any) -> int:
    """Place of the first of the largest numbers of x, or of the first NaN."""
    place = 0
    for k in range(x.size):
        if x[k] != x[k]:
            return k
        if x[k] > x[place]:
            place = k
    return place


@kernel(
    twin=lstm_greedy_twin, outputs=("h", "c", "ids", "logits", "lengths"), fastmath=FASTMATH
)
def lstm_greedy(
    table: Any, w_first: Any, w_above: Any, bias: Any, head: Any, head_bias: Any, go: int,
    eos: int, h: Any, c: Any, ids: Any, logits: Any, lengths: Any, start: int, stop: int,
) -> None:  # fmt: skip
    layers, hidden, rows = h.shape[0], h.shape[2], stop - start
    together = loops.gates_together(w_first)
    first = loops.pack_gates(w_first, together)
    count, step = first.shape[1], first.shape[3]
    wide = count * step
    above = np.empty((layers - 1, 4 // together, count, 2 * hidden, step), h.dtype)
    for k in range(layers - 1):
        above[k] = loops.pack_gates(w_above[k], together)
    last = panels.pack(head, False, 0, hidden, 0, head.shape[1])
    z = np.empty((rows, wide), h.dtype)
    z_head = np.empty((rows, last.shape[0] * last.shape[2]), h.dtype)
    gates = np.empty((4, rows, hidden), h.dtype)
    both = np.empty((rows, 2 * hidden), h.dtype)  # inputs beside the last output
    new_h, new_c = np.empty((rows, hidden), h.dtype), np.empty((rows, hidden), h.dtype)
    said = np.full(rows, go)
    running = np.ones(rows, np.bool_)
    left = rows
    for t in range(ids.shape[1]):
        for layer in range(layers):
            if layer > 0:
                for n in range(rows):
                    loops.copy(h[layer - 1, start + n], both[n, :hidden])
                    loops.copy(h[layer, start + n], both[n, hidden:])
            for g in range(4):
                part, place = g // together, g % together * hidden
                if layer == 0:
                    if place == 0:
                        tile.product(h[0, start:stop], first[part], together * hidden, z)
                    loops.add_inputs(table, said, bias[0], g * hidden, z, place, gates[g])
                else:
                    if place == 0:
                        tile.product(both, above[layer - 1, part], together * hidden, z)
                    _add_bias(z, place, bias[layer], g * hidden, gates[g])
            i, j, f, o = gates[0].ravel(), gates[1].ravel(), gates[2].ravel(), gates[3].ravel()
            loops.lstm_cell(
                i, j, f, o, c[layer, start:stop].ravel(), new_c.ravel(), new_h.ravel()
            )
            for n in range(rows):
                if running[n]:
                    loops.copy(new_h[n], h[layer, start + n])
                    loops.copy(new_c[n], c[layer, start + n])
        tile.product(h[layers - 1, start:stop], last, head.shape[1], z_head)
        for n in range(rows):
            if running[n]:
                out = logits[start + n, t]
                for k in range(out.size):
                    out[k] = z_head[n, k] + head_bias[k]
                said[n] = _largest(out)
                ids[start + n, t] = said[n]
                lengths[start + n] = t + 1
                if said[n] == eos:
                    running[n] = False
                    left -= 1
        if left == 0:
            break
