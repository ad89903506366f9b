"""LSTM over all time steps together with the weights of its inputs.

    z_t = [x_t, h_{t-1}] W + bias                 (N, 4H), W = [W_x; W_h] as TensorFlow keeps it

lstm.py takes inputs that have been multiplied already, all in one large product, and leaves the
gradients of the weights to large products too.  Each of these goes through memory once more: at
128 rows, 28 steps and 128 units they move twice as much as the caches hold, and take longer for
that than for their arithmetic.  Here what a step makes is used while it is in cache: its inputs
are multiplied in the step, and dL/dz_t, a few rows at a time, gives its share of all gradients
before it is overwritten.

Gradients of weights are sums over the batch.  So that they never depend on the number of
threads, the batch is cut into parts that depend on nothing but its size, and each part has sums
of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import loops, panels, tile
from .inner import inner
from .lstm import lstm_backward_twin, lstm_forward_twin, new_state, through_cell
from .registry import FASTMATH, kernel

_TOGETHER = 64  # rows of dL/dz_t that are worth passing over the sums


def lstm_layer_forward_twin(
    x: np.ndarray, swapped: bool, ends: np.ndarray, bias: np.ndarray, w_x: np.ndarray,
    w_h: np.ndarray, h: np.ndarray, c: np.ndarray, gates: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """States and gates for batch rows start to stop.

    x: (T, N, D), or (N, T, D) if ``swapped``; w_x: (D, 4H); the others as in lstm_forward.
    """
    x = x.swapaxes(0, 1) if swapped else x
    steps, batch, depth = x.shape
    which = np.arange(steps * batch).reshape(steps, batch)
    x_gates = x.reshape(-1, depth) @ w_x
    lstm_forward_twin(x_gates, which, ends, bias, w_h, h, c, gates, start, stop)


def lstm_layer_backward_twin(
    x: np.ndarray, swapped: bool, h: np.ndarray, c: np.ndarray, gates: np.ndarray,
    ends: np.ndarray, w_x: np.ndarray, w_h: np.ndarray, d_out: np.ndarray, dh: np.ndarray,
    dc: np.ndarray, dx: np.ndarray, dw: np.ndarray, db: np.ndarray, flow: np.ndarray,
    wanted: bool, start: int, stop: int,
) -> None:  # fmt: skip
    """Back-propagation through time for parts start to stop of the batch.

    x: (T, N, D), or (N, T, D) if ``swapped``; w_x: (D, 4H); h, c, gates, ends, w_h, d_out,
    dh, dc, flow and wanted as in lstm_backward.
    dx: (T, N, D), written; or of no entries if nobody wants it.
    dw: (P, D + H, 4H), db: (P, 4H), written: for each of P parts of the batch, its share.
    """
    x = x.swapaxes(0, 1) if swapped else x
    steps, batch, depth = x.shape
    wide = w_h.shape[1]
    for part in range(start, stop):
        first, last = part * batch // len(dw), (part + 1) * batch // len(dw)
        rows = slice(first, last)
        d_gates = np.zeros((steps, batch, wide), x.dtype)
        lstm_backward_twin(
            gates, c, ends, w_h, d_out, dh, dc, d_gates, flow, wanted, first, last
        )
        dz = d_gates[:, rows].reshape(-1, wide)
        if dx.size:
            dx[:, rows] = d_gates[:, rows] @ w_x.T
        dw[part, :depth] = x[:, rows].reshape(len(dz), depth).T @ dz
        dw[part, depth:] = h[:-1, rows].reshape(len(dz), h.shape[2]).T @ dz
        db[part] = dz.sum(axis=0)


def _largest(
    x: np.ndarray, swapped: bool, h: np.ndarray, c: np.ndarray, gates: np.ndarray,
    ends: np.ndarray, w_x: np.ndarray, w_h: np.ndarray, d_out: np.ndarray, dh: np.ndarray,
    dc: np.ndarray, dx: np.ndarray, dw: np.ndarray, *rest: Any,
) -> np.ndarray:  # fmt: skip
    """How large a sum of magnitudes can be: as many terms as a part has rows, in all steps."""
    steps, _, batch, _ = gates.shape
    gradient = max(np.abs(array).max(initial=0) for array in (d_out, dh, dc))
    factor = max(np.abs(array).max(initial=1) for array in (x, h))
    return np.array(steps * (batch // len(dw) + 1) * gradient * factor)


# -- compiled -------------------------------------------------------------------------------


@inner()
def _beside(x: Any, swapped: bool, h: Any, t: int, first: int, out: Any) -> None:
    """out (n, D + H) = [x, h] at step t of n rows of the batch from ``first`` on.

    x: (T, N, D), or (N, T, D) if ``swapped``; h: (T + 1, N, H).
    """
    depth, hidden, rows = x.shape[2], h.shape[2], out.shape[0]
    begin, apart = (t * x.shape[1] + first) * depth, depth
    if swapped:
        begin, apart = (first * x.shape[1] + t) * depth, x.shape[1] * depth
    zero, flat, across = np.intp(0), tile.flat(out), depth + hidden
    panels.copy_rows(tile.flat(x), begin, apart, flat, zero, across, rows, depth)
    begin = (t * h.shape[1] + first) * hidden
    panels.copy_rows(tile.flat(h), begin, hidden, flat, depth, across, rows, hidden)


@inner()
def _pack(w_x: Any, w_h: Any) -> Any:
    """Panels of [w_x; w_h], (panels, D + H, width)."""
    depth, wide = w_x.shape[0] + w_h.shape[0], w_h.shape[1]
    step = tile.width(w_h.dtype)
    count = (wide + step - 1) // step
    packed = panels.room(count * depth * step, w_h)
    panels.pack_panels(w_x, False, 0, w_x.shape[0], 0, wide, packed, 0, depth * step)
    begin = w_x.shape[0] * step
    panels.pack_panels(w_h, False, 0, w_h.shape[0], 0, wide, packed, begin, depth * step)
    return packed.reshape(count, depth, step)


@kernel(twin=lstm_layer_forward_twin, outputs=("h", "c", "gates"), fastmath=FASTMATH)
def lstm_layer_forward(
    x: Any, swapped: bool, ends: Any, bias: Any, w_x: Any, w_h: Any, h: Any, c: Any, gates: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    steps, hidden = gates.shape[0], w_h.shape[0]
    weights = _pack(w_x, w_h)
    count, depth, step = weights.shape
    shift = np.zeros(count * step, bias.dtype)
    loops.copy(bias, shift[: bias.size])
    block = loops.rows_together(ends, steps, start, stop)
    beside = np.empty((block, depth), x.dtype)
    # The panels of a gate hold nothing else: their products are what the gates' blocks want.
    whole, per = hidden % step == 0, count // 4
    z = np.empty((0 if whole else block, count * step), x.dtype)
    for first in range(start, stop, block):
        last = min(first + block, stop)
        for t in range(steps):
            live = loops.running(ends, t, first, last)  # the rows behind have all ended
            rows = live - first
            _beside(x, swapped, h, t, first, beside[:rows])
            still = t == 0 and loops.nothing(h[0, first:live])
            deep = x.shape[2] if still else depth
            for g in range(4 if whole else 0):
                tile.product_onto(
                    beside[:rows], weights[g * per : (g + 1) * per], hidden, deep,
                    gates[t, g, first:live], shift[g * hidden :], 0,
                )  # fmt: skip
            if not whole:
                tile.product_onto(beside[:rows], weights, 4 * hidden, deep, z[:rows], shift, 0)
                for g in range(4):
                    panels.copy_rows(
                        tile.flat(z), g * hidden, count * step, tile.flat(gates[t, g]),
                        first * hidden, hidden, rows, hidden,
                    )  # fmt: skip
            new_state(gates, h, c, ends, t, first, live, last)


@inner()
def _add_share(
    beside: Any, count: int, dz: Any, places: Any, w_x: Any, packed: Any, space: Any, dx: Any,
    sums: Any,
) -> None:  # fmt: skip
    """What some rows of dL/dz give to dx and to sums (D + H + 1, at least 4H).

    The last row of sums is the bias's: its share is the product of a row of ones.
    beside: (n, D + H), [x, h] of the rows; count: how many of its columns are not just zeros.
    dz: (n, 4H); places: (n,), the rows of dx (T * N, D).
    w_x: panels of its transpose; packed and space: to write into.
    """
    rows, wide = dz.shape
    depth = beside.shape[1]
    if dx.size:
        tile.product(dz, w_x, dx.shape[1], space[:rows])
        for n in range(rows):
            loops.copy(space[n], dx[places[n]])
    step = np.intp(tile.width(dz.dtype))
    across = sums.shape[1]
    apart = (rows + 1) * step  # a row more: powers of two would all meet in one place of the cache
    panels.pack_panels(dz, False, 0, rows, 0, wide, packed, 0, apart)
    zero, one, onto = np.intp(0), np.intp(1), np.bool_(True)
    tile.over_panels(
        tile.flat(beside), zero, packed, zero, apart, wide, tile.flat(sums), zero,
        one, depth, step, across, rows, count, onto, tile.flat(sums), zero, across,
    )  # fmt: skip
    last = depth * across
    tile.over_panels(
        np.ones(1, dz.dtype), zero, packed, zero, apart, wide, tile.flat(sums), last, zero, zero,
        step, across, rows, one, onto, tile.flat(sums), last, across,
    )  # fmt: skip


@kernel(
    twin=lstm_layer_backward_twin, outputs=("dh", "dc", "dx", "dw", "db", "flow"),
    fastmath=FASTMATH, magnitude=_largest, pieces=4,
)  # fmt: skip
def lstm_layer_backward(
    x: Any, swapped: bool, h: Any, c: Any, gates: Any, ends: Any, w_x: Any, w_h: Any, d_out: Any,
    dh: Any, dc: Any, dx: Any, dw: Any, db: Any, flow: Any, wanted: bool, start: int, stop: int,
) -> None:  # fmt: skip
    steps, batch, depth = gates.shape[0], gates.shape[2], x.shape[2]
    hidden, wide = w_h.shape
    dx_rows = dx.reshape(dx.shape[0] * dx.shape[1], depth)
    turned_h = panels.pack(w_h, True, 0, wide, 0, hidden)
    turned_x = panels.pack(w_x, True, 0, wide, 0, depth)
    step = tile.width(x.dtype)
    most = batch // len(dw) + 1  # rows of a part
    room = max(_TOGETHER, most)
    tanh_of_c = np.empty(most * hidden, x.dtype)
    back = np.empty((most, turned_h.shape[0] * step), x.dtype)
    dz = np.empty((room, wide), x.dtype)
    beside = np.empty((room, depth + hidden), x.dtype)
    places = np.empty(room, np.intp)
    across = (wide + step - 1) // step * step
    packed = panels.room((room + 1) * across, x)
    space = np.empty((room, turned_x.shape[0] * step), x.dtype)
    sums = np.empty((depth + hidden + 1, across), x.dtype)
    for part in range(start, stop):
        first, last = part * batch // len(dw), (part + 1) * batch // len(dw)
        sums[:] = 0
        filled, count = 0, depth + hidden
        for t in range(steps - 1, -1, -1):
            live = loops.running(ends, t, first, last)
            rows = live - first
            still = t == 0 and loops.nothing(h[0, first:live])
            if filled and (still or filled + rows > room):
                _add_share(
                    beside[:filled], depth + hidden, dz[:filled], places, turned_x, packed, space,
                    dx_rows, sums,
                )  # fmt: skip
                filled = 0
            now = slice(filled, filled + rows)
            through_cell(
                gates, c, d_out, dh, dc, flow, t, first, live, last, dz[now], tanh_of_c
            )
            for n in range(rows):
                places[filled + n] = t * batch + first + n
            _beside(x, swapped, h, t, first, beside[now])
            for n in range(live, last if dx.size else live):
                dx[t, n] = 0
            filled += rows
            count = depth if still else depth + hidden
            if t == 0 and not wanted:
                continue
            tile.product(dz[now], turned_h, hidden, back[:rows])
            for n in range(rows):
                if t < ends[first + n]:
                    loops.copy(back[n], dh[first + n])
        _add_share(
            beside[:filled], count, dz[:filled], places, turned_x, packed, space, dx_rows, sums
        )  # fmt: skip
        for k in range(depth + hidden):
            loops.copy(sums[k], dw[part, k])
        loops.copy(sums[depth + hidden], db[part])
