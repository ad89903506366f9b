"""Every registered kernel against its NumPy twin, and the switch between the two."""

import importlib.util
import subprocess
import sys
import zlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.errors import ArgumentError, KernelMismatchError
from minigrad.kernels import narrow
from minigrad.kernels.registry import Kernel, compare

DTYPES = [np.float32, np.float64]


def _lstm_arrays(rng, dtype, t, n, h):
    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    states = [draw(t + 1, n, h), draw(t + 1, n, h)]
    return draw(t, n, 4 * h), draw(4 * h), 0.3 * draw(h, 4 * h), *states, draw(t, 4, n, h)


def _ends(rng, t, n):
    """Some sequences whole, some not, one empty."""
    ends = rng.integers(0, t + 1, n)
    ends[: n // 2] = t
    ends[n // 2 : n // 2 + 1] = 0
    return ends


def _forward_arguments(rng, t, n, h):
    x, *others = _lstm_arrays(rng, np.float32, t, n, h)
    return [x.reshape(t * n, 4 * h), np.arange(t * n).reshape(t, n), _ends(rng, t, n), *others]


def _lstm_forward(rng, dtype):
    for t, n, h in [(3, 5, 7), (1, 1, 1), (10, 9, 32), (0, 4, 3), (4, 70, 6)]:
        x, *others = _lstm_arrays(rng, dtype, t, n, h)
        which = np.arange(t * n).reshape(t, n)
        for ends in (np.full(n, t), _ends(rng, t, n)):
            yield x.reshape(t * n, 4 * h), which, ends, *others, 0, n
        bias, w_h, before, *others = others
        before[0] = 0  # the first state
        yield x.reshape(t * n, 4 * h), which, ends, bias, w_h, before, *others, 0, n
    table, *others = _lstm_arrays(rng, dtype, 2, 12, 5)  # rows by id, and a range of the batch
    yield table[0, :3].copy(), rng.integers(0, 3, (2, 12)), _ends(rng, 2, 12), *others, 3, 10


def _lstm_backward(rng, dtype):
    for t, n, h in [(3, 5, 7), (1, 1, 1), (10, 9, 32), (0, 4, 3), (4, 70, 6)]:
        for watched in (True, False):
            d_gates, _, w_h, d_out, c, gates = _lstm_arrays(rng, dtype, t, n, h)
            gates = (1 / (1 + np.exp(-gates))).astype(dtype)
            flow = np.zeros((2, t, n) if watched else (2, 0, 0), dtype)
            dh, dc = rng.standard_normal((2, n, h)).astype(dtype)
            ends = _ends(rng, t, n) if watched else np.full(n, t)
            over = np.arange(t)[:, None] >= ends  # what the forward pass leaves there
            gates.swapaxes(1, 2)[over] = np.array([0, 0, 1, 0])[:, None]
            d_out = d_out[1:].copy()
            d_out[over] = 0
            yield gates, c, ends, w_h, d_out, dh, dc, d_gates, flow, watched, 0, n
        nothing = np.empty((0, 0, 0), dtype)  # from above
        yield gates, c, ends, w_h, nothing, dh, dc, d_gates, flow, True, 0, n


# T, N, D, H, parts of the batch
LAYER_SIZES = [
    (3, 5, 4, 7, 2), (1, 1, 1, 1, 1), (10, 9, 40, 32, 1), (0, 4, 2, 3, 2), (4, 150, 3, 6, 2),
    (5, 3, 1, 33, 4), (2, 0, 3, 4, 1),
]  # fmt: skip


def _lstm_layer_forward(rng, dtype):
    for t, n, d, h, _ in LAYER_SIZES:
        _, *others = _lstm_arrays(rng, dtype, t, n, h)
        bias, w_h, *others = others
        x, w_x = (0.5 * rng.standard_normal(s).astype(dtype) for s in ((t, n, d), (d, 4 * h)))
        for ends in (np.full(n, t), _ends(rng, t, n)):
            yield x, False, ends, bias, w_x, w_h, *others, 0, n
        yield x.swapaxes(0, 1).copy(), True, ends, bias, w_x, w_h, *others, n // 3, n - n // 3
        before, *others = others
        before = before.copy()
        before[0] = 0
        yield x, False, ends, bias, w_x, w_h, before, *others, 0, n


def _lstm_layer_backward(rng, dtype):
    for t, n, d, h, parts in LAYER_SIZES:
        for watched in (True, False):
            _, _, w_h, hs, c, gates = _lstm_arrays(rng, dtype, t, n, h)
            gates = (1 / (1 + np.exp(-gates))).astype(dtype)
            x, w_x, d_out = (
                0.5 * rng.standard_normal(s).astype(dtype)
                for s in ((t, n, d), (d, 4 * h), (t, n, h))
            )
            flow = np.zeros((2, t, n) if watched else (2, 0, 0), dtype)
            dh, dc = rng.standard_normal((2, n, h)).astype(dtype)
            ends = _ends(rng, t, n) if watched else np.full(n, t)
            over = np.arange(t)[:, None] >= ends
            gates.swapaxes(1, 2)[over] = np.array([0, 0, 1, 0])[:, None]
            d_out[over] = 0
            dx = np.full((t, n, d) if watched else (0, 0, d), 7, dtype)
            dw, db = np.full((parts, d + h, 4 * h), 7, dtype), np.full((parts, 4 * h), 7, dtype)
            given = hs, c, gates, ends, w_x, w_h, d_out, dh, dc, dx, dw, db, flow
            yield x, False, *given, True, 0, parts
            yield x.swapaxes(0, 1).copy(), True, *given, False, parts // 2, parts
        nothing = np.empty((0, 0, 0), dtype)  # from above
        yield x, False, *given[:6], nothing, *given[7:], True, 0, parts
        hs = hs.copy()
        hs[0, : n // 2 + 1] = 0  # of some parts: nothing comes from before
        yield x, False, hs, *given[1:], False, 0, parts


# T, N, H, P, peepholes, projection, bound of the cell
LSTMP_SIZES = [
    (3, 5, 7, 7, 1, 0, 0.4), (4, 3, 9, 20, 0, 1, np.inf), (1, 1, 1, 1, 1, 1, 0.1),
    (6, 9, 32, 5, 1, 1, np.inf), (0, 4, 3, 2, 1, 1, 0.5), (2, 3, 4, 4, 0, 0, 0.2),
]  # fmt: skip


def _lstmp_weights(rng, dtype, h, p, peepholes, projection):
    shapes = [(p, 4 * h), (3, h) if peepholes else (0, 0), (h, p) if projection else (0, 0)]
    return [(0.3 * rng.standard_normal(s)).astype(dtype) for s in shapes]


def _lstmp_forward(rng, dtype):
    for t, n, h, p, peepholes, projection, clip in LSTMP_SIZES:
        x, bias, _, _, c, gates = _lstm_arrays(rng, dtype, t, n, h)
        which = rng.permutation(t * n).reshape(t, n)
        weights = _lstmp_weights(rng, dtype, h, p, peepholes, projection)
        states = rng.standard_normal((t + 1, n, p)).astype(dtype), c
        for ends, start in ((np.full(n, t), 0), (_ends(rng, t, n), n // 3)):
            rest = gates, start, n
            yield x.reshape(t * n, 4 * h), which, ends, bias, *weights, dtype(clip), *states, *rest


def _lstmp_backward(rng, dtype):
    for t, n, h, p, peepholes, projection, clip in LSTMP_SIZES:
        for watched in (True, False):
            d_gates, _, _, _, c, gates = _lstm_arrays(rng, dtype, t, n, h)
            gates = (1 / (1 + np.exp(-gates))).astype(dtype)
            ends = _ends(rng, t, n) if watched else np.full(n, t)
            over = np.arange(t)[:, None] >= ends
            gates.swapaxes(1, 2)[over] = np.array([0, 0, 1, 0])[:, None]
            weights = _lstmp_weights(rng, dtype, h, p, peepholes, projection)
            d_out, d_h = rng.standard_normal((2, t, n, p)).astype(dtype)
            dh, dc = (rng.standard_normal((n, size)).astype(dtype) for size in (p, h))
            m = np.zeros((t, n, h), dtype)
            flow = np.zeros((2, t, n) if watched else (2, 0, 0), dtype)
            gradients = d_out, dh, dc, d_gates, m, d_h, flow
            start = 0 if watched else n // 3
            yield gates, c, ends, *weights, dtype(clip), *gradients, start, n


def _norm_arrays(rng, dtype, t, n, h):
    """normal, factor, gamma, beta."""
    normal, factor = rng.standard_normal((t, 5, n, h)), rng.uniform(0.5, 2, (t, 5, n))
    return [a.astype(dtype) for a in (normal, factor, *rng.standard_normal((2, 5, h)))]


def _layer_norm_lstm_forward(rng, dtype):
    for t, n, h in [(3, 5, 7), (1, 1, 1), (6, 9, 32), (0, 4, 3)]:
        for watched in (True, False):
            x, _, w_h, *states, gates = _lstm_arrays(rng, dtype, t, n, h)
            normal, factor, gamma, beta = _norm_arrays(rng, dtype, t, n, h)
            ends = _ends(rng, t, n) if watched else np.full(n, t)
            which = rng.permutation(t * n).reshape(t, n)
            weights = w_h, gamma, beta, dtype(1e-12)
            shown, start = (gates, n // 3) if watched else (gates[:0], 0)
            rest = *states, normal, factor, shown, start, n
            yield x.reshape(t * n, 4 * h), which, ends, *weights, *rest


def _layer_norm_lstm_backward(rng, dtype):
    for t, n, h in [(3, 5, 7), (1, 1, 1), (6, 9, 32), (0, 4, 3)]:
        for watched in (True, False):
            d_gates, _, w_h, d_out, c, _ = _lstm_arrays(rng, dtype, t, n, h)
            normal, factor, gamma, beta = _norm_arrays(rng, dtype, t, n, h)
            dh, dc = rng.standard_normal((2, n, h)).astype(dtype)
            ends = _ends(rng, t, n) if watched else np.full(n, t)
            flow = np.zeros((2, t, n) if watched else (2, 0, 0), dtype)
            gradients = d_out[1:].copy(), dh, dc, d_gates, *np.ones((2, 5, n, h), dtype), flow
            start = 0 if watched else n // 3
            yield normal, factor, c, ends, w_h, gamma, beta, *gradients, start, n


STEP_SIZES = [(3, 5, 7), (1, 1, 1), (15, 5, 4), (6, 23, 32), (0, 4, 3), (2, 5, 33)]  # T, N, H


def _states(rng, dtype, t, n, h, gates):
    """Input rows, which of them, ends, bias and w_h of a recurrence with one state; states."""
    shapes = [(t * n, gates * h), (gates * h,), (h, gates * h), (t + 1, n, h)]
    x, bias, w_h, states = (rng.standard_normal(s).astype(dtype) for s in shapes)
    return x, rng.permutation(t * n).reshape(t, n), _ends(rng, t, n), bias, 0.4 * w_h, states


def _rnn_forward(rng, dtype):
    for t, n, h in STEP_SIZES:
        for relu in (False, True):
            *inputs, states = _states(rng, dtype, t, n, h, 1)
            yield *inputs, relu, states, 0, n
    yield *inputs, relu, states, 1, n - 1
    inputs[2] = np.full(n, t)
    yield *inputs, relu, states, 0, n


def _rnn_backward(rng, dtype):
    for t, n, h in STEP_SIZES:
        for relu in (False, True):
            x, _, ends, _, w_h, states = _states(rng, dtype, t, n, h, 1)
            d_out, d_x = x.reshape(t, n, h), np.full((t, n, h), 7, dtype)
            dh = rng.standard_normal((n, h)).astype(dtype)
            flow = np.zeros((1, t, n) if relu else (1, 0, 0), dtype)
            yield states, ends, w_h, relu, d_out, dh, d_x, flow, 0, n
    yield states, ends, w_h, relu, d_out, dh, d_x, flow, 1, n - 1


def _gru_forward(rng, dtype):
    for t, n, h in STEP_SIZES:
        for blocks in (3, 4):
            x, which, ends, bias, w_h, states = _states(rng, dtype, t, n, h, 3)
            bias_h = rng.standard_normal(h if blocks == 4 else 0).astype(dtype)
            gates = np.full((t, blocks, n, h), 7, dtype)
            yield x, which, ends, bias, bias_h, w_h, states, gates, 0, n
    yield x, which, ends, bias, bias_h, w_h, states, gates, 1, n - 1
    yield x, which, np.full(n, t), bias, bias_h, w_h, states, gates, 0, n


def _gru_backward(rng, dtype):
    for t, n, h in STEP_SIZES:
        for blocks in (3, 4):
            x, _, _, _, w_h, states = _states(rng, dtype, t, n, h, 3)
            gates = (1 / (1 + np.exp(-rng.standard_normal((t, blocks, n, h))))).astype(dtype)
            d_out, dh = rng.standard_normal((t + 1, n, h)).astype(dtype)[1:], states[-1].copy()
            flow = np.zeros((1, t, n) if blocks == 3 else (1, 0, 0), dtype)
            yield gates, states, w_h, d_out, dh, x.reshape(t, n, 3 * h), flow, 0, n
    yield gates, states, w_h, d_out, dh, x.reshape(t, n, 3 * h), flow, 1, n - 1


def _logits(rng, dtype):
    sizes = [(1, 1), (5, 27), (3, 32), (7, 100), (2, 1), (0, 4), (64, 3), (150, 10), (66, 255)]
    for n, v in [*sizes, (3, 256), (4, 700)]:
        logits = (5 * rng.standard_normal((n, v))).astype(dtype)
        weight = rng.uniform(0, 1, n).astype(dtype)
        weight[n // 2 : n // 2 + 1] = 0
        if n > 2:
            logits[n // 2] = np.nan  # not looked at
        yield logits, weight


def _entropy(kind, backward):
    def cases(rng, dtype):
        for logits, weight in _logits(rng, dtype):
            n, v = logits.shape
            target = rng.integers(0, v, n) if kind == "ids" else rng.random((n, v)).astype(dtype)
            log_sum = np.log(np.exp(logits).sum(axis=1))
            outputs = [log_sum, np.zeros_like(logits)] if backward else np.zeros((2, n), dtype)
            yield logits, target, weight, *outputs, 0, n
            if n > 100:
                yield logits, target, weight, *(x.copy() for x in outputs), 3, n - 7

    return cases


def _gather_rows(rng, dtype):
    table = rng.standard_normal((6, 3)).astype(dtype)
    for ids in ([0, 5, 5, 2], []):
        yield table, np.array(ids, dtype=np.int64), np.zeros((len(ids), 3), dtype)
    yield table, np.array([3, 1], np.uint8), np.zeros((2, 3), dtype)


def _scatter_add_rows(rng, dtype):
    for ids in ([0, 5, 5, 5, 2], []):
        grad = rng.standard_normal((len(ids), 3)).astype(dtype)
        for columns in [(0, 3), (1, 2)]:
            table = rng.standard_normal((6, 3)).astype(dtype)
            yield grad, np.array(ids, dtype=np.int64), table, *columns


def _matmul(rng, dtype):
    sizes = [(5, 3, 7), (64, 40, 64), (33, 17, 65), (1, 64, 27), (3, 0, 4), (0, 2, 3)]
    # deeper than a panel, or of long rows, or both: several chunks for several groups of panels
    large = [(13, 600, 70), (140, 300, 64), (70, 80, 1030), (130, 300, 520)]
    for m, k, p in [*sizes, *large]:
        bias = rng.standard_normal(p if m % 2 else 0).astype(dtype)
        for a_turned in (False, True):
            for b_turned in (False, True):
                a = rng.standard_normal((k, m) if a_turned else (m, k)).astype(dtype)
                b = rng.standard_normal((p, k) if b_turned else (k, p)).astype(dtype)
                sums = np.full(p, 7, dtype)
                c = np.zeros((m, p), dtype)
                yield a, a_turned, b, b_turned, bias, c, sums.copy(), 0, 0, m
                for start, stop in [(0, -(-p // 32)), (1, 2)]:  # groups of columns
                    c = np.zeros((m, p), dtype)
                    yield a, a_turned, b, b_turned, bias, c, sums.copy(), 32, start, stop
                yield a, a_turned, b, b_turned, bias, c.copy(), sums.copy(), 0, m // 2, m
    a, b = rng.standard_normal((20, 6)).astype(dtype), rng.standard_normal((6, 40)).astype(dtype)
    bias = rng.standard_normal(40).astype(dtype)
    yield a, False, b, False, bias, np.zeros((20, 40), dtype), bias[:0], 0, 3, 16


def _zero_past_end(rng, dtype):
    for t, n, h in [(3, 5, 7), (1, 1, 1), (10, 9, 32), (0, 4, 3), (4, 0, 3), (4, 3, 0)]:
        x = rng.standard_normal((t, n, h)).astype(dtype)
        ends = rng.integers(0, t + 1, n)
        x[t // 2 :][np.arange(t)[t // 2 :, None] >= ends] = np.nan  # stays behind the end
        for start, stop in ((0, t), (t // 2, t)):
            yield x, ends, np.full_like(x, 7), start, stop


def _small_matmul(rng, dtype):
    for m, k, p in [(5, 3, 7), (1, 64, 27), (3, 0, 4), (0, 2, 3), (4, 75, 1), (1, 1, 33)]:
        bias = rng.standard_normal(p if m % 2 else 0).astype(dtype)
        for a_turned in (False, True):
            for b_turned in (False, True):
                a = rng.standard_normal((k, m) if a_turned else (m, k)).astype(dtype)
                b = rng.standard_normal((p, k) if b_turned else (k, p)).astype(dtype)
                yield a, a_turned, b, b_turned, bias, np.full((m, p), 7, dtype)


def _narrow_matmul(rng, dtype):
    most = narrow.WIDTH // np.dtype(dtype).itemsize
    for m, k, p in [(5, 3, 7), (35, 40, 1), (64, 300, most), (1, 600, 3), (3, 0, 4), (0, 2, 3)]:
        bias = rng.standard_normal(p if m % 2 else 0).astype(dtype)
        for a_turned in (False, True):
            for b_turned in (False, True):
                a = rng.standard_normal((k, m) if a_turned else (m, k)).astype(dtype)
                b = rng.standard_normal((p, k) if b_turned else (k, p)).astype(dtype)
                yield a, a_turned, b, b_turned, bias, np.full((m, p), 7, dtype), 0, m
                yield a, a_turned, b, b_turned, bias, np.full((m, p), 7, dtype), m // 3, m // 2


def _sum_all(rng, dtype):
    for n in (0, 1, 15, 16, 17, 1000):
        yield rng.standard_normal(n).astype(dtype), np.full(1, 7, dtype)


def _sum_rows(rng, dtype):
    for n, p, start, stop in [(5, 3, 0, 3), (1, 40, 7, 33), (0, 4, 0, 4), (300, 70, 69, 70)]:
        yield rng.standard_normal((n, p)).astype(dtype), np.full(p, 7, dtype), start, stop


def _ids_within(rng, dtype):
    for ids in ([0, 4, 2], [], [5], [3, -1, 2]):
        for kind in (np.int64, np.int8):
            yield np.array(ids, kind), 5


def _count_saturated(rng, dtype):
    for t, g, n, h in [(3, 4, 5, 7), (1, 1, 1, 1), (6, 2, 3, 40), (0, 3, 2, 2)]:
        x = rng.random((t, g, n, h)).astype(dtype)
        x[x < 0.02] = np.nan
        low, high = np.full(g, 0.1, dtype), np.linspace(0.5, 0.9, g).astype(dtype)
        for ends in (np.full(n, t), _ends(rng, t, n)):
            yield x, ends, low, high, np.full((2, t, g), -1)


def _dropout_forward(rng, dtype):
    for size, start, stop in [(1, 0, 1), (5, 0, 5), (5, 3, 5), (5000, 0, 5000), (5001, 4, 5001),
                              (9000, 2047, 6144), (9000, 1, 2), (3, 0, 0), (0, 0, 0)]:  # fmt: skip
        x, y = rng.standard_normal((2, size)).astype(dtype)
        for words_before in (0, 1, 2):  # after an odd number of them, half a word is left over
            rng.random(words_before, dtype=np.float32)
            stream = kernels.pcg64_stream(rng.bit_generator.state)
            mask, after = np.full(size, 7, np.uint8), np.zeros(6, np.uint64)
            for threshold in (1 << 22, 0, (1 << 24) - 1):
                yield x, stream, threshold, dtype(1.5), y, mask, after, start, stop


def _dropout_backward(rng, dtype):
    x, y = rng.standard_normal((2, 40)).astype(dtype)
    for start, stop in [(0, 40), (7, 23), (5, 5)]:
        yield x, rng.integers(0, 2, 40, np.uint8), dtype(1.5), y, start, stop


def _attention(rng, dtype, n, t, s, a, m):
    """query, keys, values, ends."""
    shapes = [(n, t, a), (n, s, a), (n, s, m)]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    ends = rng.integers(1, s + 1, n)
    ends[: n // 2] = s
    return *arrays, ends


ATTENTION_SIZES = [(5, 1, 7, 9, 4), (1, 1, 1, 1, 1), (6, 3, 22, 50, 50), (3, 4, 5, 17, 33),
                   (2, 0, 3, 4, 5)]  # N, T, S, A, M  # fmt: skip


def _attend_forward(rng, dtype):
    for n, t, s, a, m in ATTENTION_SIZES:
        for start in (0, n // 2):
            outputs = np.full((n, t, m), 7, dtype), np.full((n, t, s), 7, dtype)
            yield *_attention(rng, dtype, n, t, s, a, m), *outputs, start, n


def _attend_backward(rng, dtype):
    for n, t, s, a, m in ATTENTION_SIZES:
        for start in (0, n // 2):
            *given, ends = _attention(rng, dtype, n, t, s, a, m)
            alignment = rng.random((n, t, s)).astype(dtype)
            g, d_alignment = (rng.standard_normal((n, t, k)).astype(dtype) for k in (m, s))
            outputs = [np.full(x.shape, 7, dtype) for x in given]
            yield *given, ends, alignment, g, d_alignment, *outputs, start, n


def _activation(backward, *numbers):
    def cases(rng, dtype):
        special = [0.0, -0.0, np.nan, np.inf, 30.0, -30.0, 1e30, -1e30, 1e-30, -1e-5]
        x = np.concatenate([special, 4 * rng.standard_normal(90)]).astype(dtype)
        arrays = [rng.standard_normal(100).astype(dtype) for _ in range(1 + backward)]
        scalars = [dtype(number) for number in numbers]
        for start, stop in [(0, 100), (7, 61), (3, 3), (0, 1)]:
            yield x, *arrays[1:], *scalars, arrays[0], start, stop

    return cases


MATRICES = [(1, 1), (5, 3), (1, 7), (9, 40), (300, 5), (70, 33), (0, 4)]  # rows, columns


def _matrices(rng, dtype, rows, columns, count):
    return [(3 + rng.standard_normal((rows, columns))).astype(dtype) for _ in range(count)]


def _vectors(rng, dtype, size, count):
    return [rng.uniform(0.5, 2, size).astype(dtype) for _ in range(count)]


def _layer_norm_forward(rng, dtype):
    for rows, columns in MATRICES:
        x, y = _matrices(rng, dtype, rows, columns, 2)
        gamma, beta = _vectors(rng, dtype, columns, 2)
        for start in {0, rows // 3}:
            yield x, gamma, beta, dtype(1e-3), y, *_vectors(rng, dtype, rows, 2), start, rows


def _blocks(rows, size):
    return -(-rows // size)


def _layer_norm_backward(rng, dtype):
    for rows, columns in MATRICES:
        for size in (4, 256):
            x, g, dx = _matrices(rng, dtype, rows, columns, 3)
            mean, factor = _vectors(rng, dtype, rows, 2)
            parts = _matrices(rng, dtype, _blocks(rows, size), columns, 2)
            (gamma,) = _vectors(rng, dtype, columns, 1)
            yield x, mean, factor, gamma, g, size, dx, *parts, 0, len(parts[0])
    yield x, mean, factor, gamma, g, size, dx, *parts, 0, 0


def _batch_moments(rng, dtype):
    for rows, columns in MATRICES:
        for size in (4, 256):
            (x,) = _matrices(rng, dtype, rows, columns, 1)
            parts = _matrices(rng, dtype, _blocks(rows, size), columns, 2)
            yield x, size, *parts, len(parts[0]) // 2, len(parts[0])


def _batch_constants(rng, dtype):
    for blocks, size, rows, fold, channels in [(1, 4, 3, 1, 5), (4, 4, 13, 3, 2), (2, 8, 16, 1, 1)]:
        moments = rng.uniform(1, 2, (2, blocks, fold * channels)).astype(dtype)
        gamma, beta, *running = _vectors(rng, dtype, channels, 4)
        constants = np.empty((4, fold * channels), dtype)
        for kept in (running, [np.empty(0, dtype)] * 2, [r.astype(np.float32) for r in running]):
            yield moments, rows, size, 1e-3, 0.1, gamma, beta, constants, *kept


def _batch_norm_forward(rng, dtype):
    for rows, columns in MATRICES:
        x, y = _matrices(rng, dtype, rows, columns, 2)
        for start in {0, rows // 3}:
            yield x, *_vectors(rng, dtype, columns, 3), y, start, rows


def _batch_sums(rng, dtype):
    for rows, columns in MATRICES:
        for size in (4, 256):
            x, g = _matrices(rng, dtype, rows, columns, 2)
            (mean,) = _vectors(rng, dtype, columns, 1)
            parts = _matrices(rng, dtype, _blocks(rows, size), columns, 2)
            yield x, mean, g, size, *parts, len(parts[0]) // 2, len(parts[0])


def _batch_slopes(rng, dtype):
    for blocks, fold, channels in [(1, 1, 5), (4, 3, 2), (7, 1, 1), (0, 2, 3)]:
        sums = rng.standard_normal((2, blocks, fold * channels)).astype(dtype)
        constants = np.tile(rng.uniform(0.5, 2, (4, channels)), fold).astype(dtype)
        outputs = *_vectors(rng, dtype, channels, 2), np.empty((2, fold * channels), dtype)
        for count in (0, 12):
            yield sums, constants, count, *outputs


def _batch_norm_backward(rng, dtype):
    for rows, columns in MATRICES:
        x, g, dx = _matrices(rng, dtype, rows, columns, 3)
        mean, *others = _vectors(rng, dtype, columns, 4)
        for start in {0, rows // 3}:
            yield x, mean, g, *others, dx, start, rows


def _lstm_greedy(rng, dtype):
    # L, N, H, V, T, EOS; an EOS that is likely, one that is none
    for layers, n, h, v, t, eos in [(2, 7, 5, 6, 4, 2), (1, 3, 9, 4, 3, 0), (3, 40, 50, 11, 6, 1),
                                    (2, 5, 16, 70, 3, 99), (1, 1, 1, 1, 2, 5)]:  # fmt: skip
        shapes = [(v, 4 * h), (h, 4 * h), (layers - 1, 2 * h, 4 * h), (layers, 4 * h), (h, v), (v,)]
        weights = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        weights[1] *= dtype(h**-0.5)  # no chaos
        weights[2] *= dtype(h**-0.5)
        weights[-2] *= 10  # logits far apart: rounding changes no id
        for start in (0, n // 2):
            states = rng.standard_normal((2, layers, n, h)).astype(dtype)
            ids, lengths = np.zeros((n, t), np.int64), np.zeros(n, np.int64)
            logits = np.zeros((n, t, v), dtype)
            yield *weights, 0, eos, *states, ids, logits, lengths, start, n


CASES = {
    "zero_past_end": _zero_past_end,
    "lstm_greedy": _lstm_greedy,
    "lstm_layer_backward": _lstm_layer_backward,
    "lstm_layer_forward": _lstm_layer_forward,
    "layer_norm_forward": _layer_norm_forward,
    "layer_norm_backward": _layer_norm_backward,
    "batch_moments": _batch_moments,
    "batch_constants": _batch_constants,
    "batch_norm_forward": _batch_norm_forward,
    "batch_sums": _batch_sums,
    "batch_slopes": _batch_slopes,
    "batch_norm_backward": _batch_norm_backward,
    "relu": _activation(False),
    "relu_backward": _activation(True),
    "leaky_relu": _activation(False, 0.2),
    "leaky_relu_backward": _activation(True, 0.2),
    "elu": _activation(False, 1.5),
    "elu_backward": _activation(True, 1.5),
    "softplus": _activation(False),
    "softplus_backward": _activation(True),
    "gelu": _activation(False),
    "gelu_backward": _activation(True),
    "gelu_tanh": _activation(False),
    "gelu_tanh_backward": _activation(True),
    "attend_forward": _attend_forward,
    "attend_backward": _attend_backward,
    "dropout_forward": _dropout_forward,
    "dropout_backward": _dropout_backward,
    "count_saturated": _count_saturated,
    "ids_within": _ids_within,
    "matmul": _matmul,
    "narrow_matmul": _narrow_matmul,
    "small_matmul": _small_matmul,
    "sum_all": _sum_all,
    "sum_rows": _sum_rows,
    "lstm_forward": _lstm_forward,
    "lstm_backward": _lstm_backward,
    "lstmp_forward": _lstmp_forward,
    "lstmp_backward": _lstmp_backward,
    "layer_norm_lstm_forward": _layer_norm_lstm_forward,
    "layer_norm_lstm_backward": _layer_norm_lstm_backward,
    "rnn_forward": _rnn_forward,
    "rnn_backward": _rnn_backward,
    "gru_forward": _gru_forward,
    "gru_backward": _gru_backward,
    "cross_entropy_ids": _entropy("ids", False),
    "cross_entropy_ids_backward": _entropy("ids", True),
    "cross_entropy_probs": _entropy("probs", False),
    "cross_entropy_probs_backward": _entropy("probs", True),
    "gather_rows": _gather_rows,
    "scatter_add_rows": _scatter_add_rows,
}
OPTIMISERS = {"sgd", "momentum", "adagrad", "rmsprop", "rmsprop_centered", "adam", "adadelta",
              "ftrl", "squared_norm", "scale", "clamp"}  # in test_update.py
IMAGES = {"conv2d_forward", "conv2d_input_gradient", "conv2d_weight_gradient",
          "conv2d_bias_gradient", "max_pool2d_forward", "max_pool2d_backward",
          "avg_pool2d_forward", "avg_pool2d_backward", "pooled_input_gradient",
          "pooled_weight_gradient"}  # in test_images.py


def test_no_kernel_is_untested():
    assert set(kernels.load()) == set(CASES) | OPTIMISERS | IMAGES


def test_no_kernel_is_named_like_a_module():
    for name in kernels.load():  # the first import of the module would hide the kernel
        assert importlib.util.find_spec(f"minigrad.kernels.{name}") is None


def test_every_kernel_has_a_documented_twin_with_its_signature():
    for pair in kernels.load().values():
        code = pair.function.__code__
        assert pair.names == code.co_varnames[: code.co_argcount]
        assert pair.twin.__doc__
        assert pair.outputs or pair.name == "ids_within"  # return it


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_twin(name, dtype):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    with kernels.use("check"):
        for args in CASES[name](rng, dtype):
            kernels.load()[name](*args)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["cross_entropy_ids", "cross_entropy_ids_backward"])
def test_nan_in_a_row_stays_in_that_row(name, dtype):
    rng = np.random.default_rng(0)
    for column in (0, 13, 26):
        logits = rng.standard_normal((4, 27)).astype(dtype)
        logits[2, column] = np.nan
        outputs = (
            [np.log(np.exp(logits).sum(axis=1)), np.empty_like(logits)]
            if name.endswith("backward")
            else list(np.empty((2, 4), dtype))
        )
        kernels.load()[name](logits, np.arange(4), np.ones(4, dtype), *outputs, 0, 4)
        bad = np.isnan(outputs[-1]).reshape(4, -1).any(axis=1)
        assert bad.tolist() == [False, False, True, False]


def test_nan_passes_through_the_lstm():
    x_gates, bias, w_h, h, c, gates = _lstm_arrays(np.random.default_rng(0), np.float32, 3, 4, 8)
    x_gates[1, 2, 5] = np.nan
    which = np.arange(12).reshape(3, 4)
    ends = np.full(4, 3)
    kernels.lstm_forward(x_gates.reshape(12, 32), which, ends, bias, w_h, h, c, gates, 0, 4)
    assert np.isnan(h[2:, 2]).any(axis=1).all()
    assert np.isfinite(h[:, [0, 1, 3]]).all() and np.isfinite(h[:2]).all()


def _double_twin(x, y):
    """y = 2 x."""
    y[:] = 2 * x


def test_check_names_an_off_by_one():
    def double(x, y):
        y[:] = 2 * x
        y[3, 1] += 0.01

    pair = Kernel(double, _double_twin, ("y",))
    pair._choose("check")
    with pytest.raises(KernelMismatchError, match=r"kernel _double: argument 'y'.*index \(3, 1\)"):
        pair(np.ones((4, 2)), np.zeros((4, 2)))


def test_check_looks_at_returned_values():
    pair = Kernel(lambda x: 2, lambda x: 1, ())
    pair._choose("check")
    with pytest.raises(KernelMismatchError, match="returned value"):
        pair(np.ones(1))


@pytest.mark.parametrize(
    ("fast", "slow", "where"),
    [
        ([1.0, 2.0], [1.0, 2.0], None),
        ([1.0, np.nan], [1.0, np.nan], None),
        ([1.0, np.inf], [1.0, np.inf], None),
        ([1.0, np.inf], [1.0, -np.inf], (1,)),
        ([1.0, 5.0], [1.0, np.nan], (1,)),
        ([np.nan, 5.0], [1.0, 5.0], (0,)),
        ([1.0, 1e-9], [1.0, 0.0], (1,)),
    ],
)
def test_compare(fast, slow, where):
    result = compare(np.array(fast), np.array(slow))
    assert (result and result[0]) == where


def test_use_switches_and_restores():
    with kernels.use("numpy"):
        assert kernels.mode() == "numpy"
        with kernels.use("check"):
            assert kernels.mode() == "check"
        assert kernels.mode() == "numpy"
    assert kernels.mode() == "numba"
    with pytest.raises(ArgumentError, match="numba, numpy, check"):
        kernels.use("cuda")


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_set_num_threads_refuses(count):
    with pytest.raises(ArgumentError, match="positive integer"):
        mg.set_num_threads(count)


def test_importing_compiles_nothing_and_does_not_load_matplotlib():
    code = (
        "import sys, minigrad, minigrad.kernels as k;"
        "assert all(not p.compiled.signatures for p in k.load().values());"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_first_compile_says_so_once(tmp_path):
    code = (
        "import numpy as np, minigrad as mg;"
        "t = mg.Tensor(np.ones((3, 2), np.float32), requires_grad=True);"
        "mg.cross_entropy(t, np.zeros(3, int)).backward()"
    )
    import os

    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert all(run.returncode == 0 for run in said), said
    assert said[0].stderr.count("compiling kernels") == 1
    assert "compiling" not in said[1].stderr  # from the cache


@pytest.mark.parametrize("module", ["conv", "tile", "loops", "registry"])
def test_a_change_in_a_source_compiles_what_is_made_of_it_anew(module, monkeypatch):
    source = sys.modules["minigrad.kernels.registry"]
    before = {
        pair.name: pair.compiled._cache._cache_file._source_stamp
        for pair in kernels.load().values()
    }
    read, changed = source._source, f"minigrad.kernels.{module}"
    monkeypatch.setattr(source, "_source", lambda m: read(m) + b"#" * (m == changed))
    after = {pair.name: source._sources(pair.function) for pair in kernels.load().values()}
    anew = {name for name in before if before[name] != after[name]}
    of_conv = {name for name in before if name.startswith("conv2d")}
    assert of_conv <= anew
    assert "dropout_forward" not in anew or module == "registry"
    assert anew == set(before) or module != "registry"
