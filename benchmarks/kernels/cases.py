"""Which call of each kernel is timed, and what there is to do in it.

A new kernel needs one line in CASES; tests/benchmarks/test_kernel_cases.py names those without.

Flops: products of matrices exactly, a multiply-add as two; all else as the twin writes it, where
+ - * /, a comparison of floats, exp, log, tanh, erf and a root count one each.  Integers count
nothing.  Where a gradient comes through a pool, only the windows' winners are multiplied with:
what is zero need not be done.

Bytes: every argument that is an array moves once, an array that is read and written twice.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from .calls import Call, largest
from .workloads import calls_of

Arguments = SimpleNamespace  # of a call, by the names of the kernel's twin
Formula = Callable[[Arguments], float]


class Case(NamedTuple):
    """program: a key of PROGRAMS; flops, moved: functions of the arguments (moved: bytes)."""

    program: str
    flops: Formula
    moved: Formula | None = None


def call_for(name: str) -> Call:
    """The largest call of kernel `name` in its program; raises ValueError if there is none."""
    program = CASES[name].program
    call = largest(list(calls_of(program)), name)
    if call is None:
        raise ValueError(f"kernels: the program {program!r} does not call {name}")
    return call


def work(call: Call) -> tuple[float, float, float]:
    """Flops, bytes that must move, and bytes of the working set of a call."""
    case, named = CASES[call.kernel.name], call.named
    size = sum(array.nbytes for array in call.arrays.values())
    if case.moved is not None:
        moved = case.moved(named)
        return case.flops(named), moved, min(size, moved)
    again = sum(array.nbytes for array in call.outputs) if case.program in UPDATES else 0
    return case.flops(named), size + again, size


# -- counting -----------------------------------------------------------------------------------


def each(count: float, array: str = "x") -> Formula:
    """`count` operations for each number of an argument."""
    return lambda a: count * getattr(a, array).size


def _product(a: Arguments) -> float:
    rows, columns = a.c.shape
    return 2 * rows * columns * (a.a.size // rows) + (a.c.size if a.bias.size else 0)


def _recurrence(blocks: int, count: float, products: int = 1) -> Formula:
    """`products` of the state (H) with H x blocks H weights a step, `count` for each cell."""

    def flops(a: Arguments) -> float:
        hidden = a.w_h.shape[0]
        cells = (a.h if hasattr(a, "h") else a.c)[1:].size
        return cells * (2 * products * blocks * hidden + count)

    return flops


def _lstm_layer(a: Arguments) -> float:
    (steps, batch, depth), hidden = a.x.shape, a.w_h.shape[0]
    return steps * batch * hidden * (2 * 4 * (depth + hidden) + 20)


def _lstm_layer_backward(a: Arguments) -> float:
    (steps, batch, depth), hidden = a.x.shape, a.w_h.shape[0]
    towards = hidden + (depth if a.dx.size else 0)
    return steps * batch * hidden * (2 * 4 * (towards + depth + hidden) + 29)


def _projected(a: Arguments) -> float:
    wide = a.w_h.shape[0]
    return a.c[1:].size * (2 * 4 * wide + (2 * wide if a.w_p.size else 0) + 30)


def _greedy(a: Arguments) -> float:
    (layers, batch, hidden), steps = a.h.shape, a.ids.shape[1]
    products = 2 * hidden * (4 * hidden * (2 * layers - 1) + a.head.shape[1])
    return steps * batch * (products + 20 * layers * hidden)


def _attend(products: int) -> Formula:
    def flops(a: Arguments) -> float:
        (batch, written, width), read = a.query.shape, a.keys.shape[1]
        return batch * written * read * (products * (width + a.values.shape[2]) + 4)

    return flops


def _convolution(a: Arguments) -> float:
    """Each number before the pooling sees a window."""
    rows, columns = a.window[-2:]
    kernel_rows, kernel_columns, inputs, outputs = a.w.shape
    numbers = len(a.x) * rows * columns * outputs
    return numbers * (2 * kernel_rows * kernel_columns * inputs + 2)


def _window_products(weights: str) -> Formula:
    """A gradient's numbers times the window that each of them saw."""

    def flops(a: Arguments) -> float:
        kernel_rows, kernel_columns, inputs = getattr(a, weights).shape[-4:-1]
        return 2 * a.g.size * kernel_rows * kernel_columns * inputs

    return flops


def _nothing(a: Arguments) -> float:
    return 0.0


def _gathered(a: Arguments) -> float:
    return 2 * a.out.nbytes + a.ids.nbytes


def _scattered(a: Arguments) -> float:
    rows = len(np.unique(a.ids))
    return a.grad.nbytes + a.ids.nbytes + 2 * rows * a.d_table[0].nbytes


# Programs whose kernels read what they write.
UPDATES = {
    "SGD", "Momentum", "Adagrad", "RMSProp", "RMSProp, centred", "Adam", "Adadelta", "Ftrl",
    "clipping",
}  # fmt: skip

CASES = {
    "elu": Case("elu", each(4)),
    "elu_backward": Case("elu", each(4)),
    "gelu": Case("gelu", each(5)),
    "gelu_backward": Case("gelu", each(9)),
    "gelu_tanh": Case("gelu, tanh", each(8)),
    "gelu_tanh_backward": Case("gelu, tanh", each(14)),
    "leaky_relu": Case("leaky relu", each(2)),
    "leaky_relu_backward": Case("leaky relu", each(2)),
    "relu": Case("mnist_cnn", each(1)),
    "relu_backward": Case("mnist_cnn", each(1)),
    "softplus": Case("softplus", each(5)),
    "softplus_backward": Case("softplus", each(4)),
    "attend_forward": Case("attention", _attend(2)),
    "attend_backward": Case("attention", _attend(4)),
    "conv2d_forward": Case("mnist_cnn", _convolution),
    "conv2d_bias_gradient": Case("mnist_cnn", each(2, "g")),
    "conv2d_input_gradient": Case("convolution", _window_products("w")),
    "conv2d_weight_gradient": Case("convolution", _window_products("dw")),
    "pooled_input_gradient": Case("mnist_cnn", _window_products("w")),
    "pooled_weight_gradient": Case("mnist_cnn", _window_products("dw")),
    "cross_entropy_ids": Case("ptb_lm", each(4, "logits")),
    "cross_entropy_ids_backward": Case("ptb_lm", each(3, "logits")),
    "cross_entropy_probs": Case("distributions", each(6, "logits")),
    "cross_entropy_probs_backward": Case("distributions", each(5, "logits")),
    "matmul": Case("ptb_lm", _product),
    "narrow_matmul": Case("mnist_cnn", _product),
    "small_matmul": Case("sine_to_cosine", _product),
    "sum_all": Case("ptb_lm", each(1)),
    "sum_rows": Case("GRU", each(1)),
    "dropout_forward": Case("ptb_lm", each(1)),
    "dropout_backward": Case("ptb_lm", each(1)),
    "gather_rows": Case("ptb_lm", _nothing, _gathered),
    "ids_within": Case("ptb_lm", _nothing),
    "scatter_add_rows": Case("ptb_lm", each(1, "grad"), _scattered),
    "lstm_greedy": Case("seq2seq_greedy", _greedy),
    "gru_forward": Case("GRU", _recurrence(3, 15)),
    "gru_backward": Case("GRU", _recurrence(3, 22)),
    "layer_norm_lstm_forward": Case("layer-norm LSTM", _recurrence(4, 60)),
    "layer_norm_lstm_backward": Case("layer-norm LSTM", _recurrence(4, 90)),
    "lstm_forward": Case("char_lm", _recurrence(4, 20)),
    "lstm_backward": Case("char_lm", _recurrence(4, 25)),
    "lstm_layer_forward": Case("mnist_lstm", _lstm_layer),
    "lstm_layer_backward": Case("mnist_lstm", _lstm_layer_backward),
    "lstmp_forward": Case("LSTM, projection", _projected),
    "lstmp_backward": Case("LSTM, projection", _projected),
    "rnn_forward": Case("echo_rnn", _recurrence(1, 3)),
    "rnn_backward": Case("echo_rnn", _recurrence(1, 4)),
    "layer_norm_forward": Case("layer norm", each(8)),
    "layer_norm_backward": Case("layer norm", each(11)),
    "batch_moments": Case("batch norm", each(4)),
    "batch_constants": Case("batch norm", each(4, "moments")),
    "batch_norm_forward": Case("batch norm", each(3)),
    "batch_sums": Case("batch norm", each(4)),
    "batch_slopes": Case("batch norm", each(2, "sums")),
    "batch_norm_backward": Case("batch norm", each(5)),
    "zero_past_end": Case("seq2seq_odds", _nothing),
    "max_pool2d_forward": Case("max-pooling", each(0.75)),
    "max_pool2d_backward": Case("max-pooling", _nothing),
    "avg_pool2d_forward": Case("average-pooling", each(1)),
    "avg_pool2d_backward": Case("average-pooling", each(1, "g")),
    "count_saturated": Case("saturation", each(2)),
    "sgd": Case("SGD", each(2, "param")),
    "momentum": Case("Momentum", each(4, "param")),
    "adagrad": Case("Adagrad", each(6, "param")),
    "rmsprop": Case("RMSProp", each(9, "param")),
    "rmsprop_centered": Case("RMSProp, centred", each(13, "param")),
    "adam": Case("Adam", each(12, "param")),
    "adadelta": Case("Adadelta", each(13, "param")),
    "ftrl": Case("Ftrl", each(16, "param")),
    "squared_norm": Case("clipping", each(2)),
    "scale": Case("clipping", each(1)),
    "clamp": Case("clipping", each(2)),
}
