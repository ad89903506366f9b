"""The cases in TensorFlow: a whole training step in one tf.function, as a graph and through XLA.

As a graph an LSTM is one BlockLSTM, the fused kernel behind TensorFlow 1's LSTMBlockFusedCell; for
XLA, which has no such kernel, it is written out and unrolled.  Updates are TensorFlow's own fused
ones.  The embedding's gradient is summed by row before norms are taken, which clip_by_global_norm
on its own does not do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import (
    char_lm,
    curve_regression,
    digits_dropout,
    echo_rnn,
    iris_softmax,
    linear_regression,
    mnist_cnn,
    mnist_lstm,
    mnist_softmax,
    ptb_lm,
    seq2seq_greedy,
    sine_lstm,
    sine_to_cosine,
)
from . import seq2seq_odds as odds
from . import tensorflow_tools as shared
from .tensorflow_tools import contenders
from .tools import Weights

__all__ = ["MAKERS", "contenders"]


# -- recurrent models -----------------------------------------------------------------------------


def _char_lm(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    case = char_lm

    def loss_of(p: Any, states: Any, window: Any) -> Any:
        x = tf.one_hot(window[:-1], case.V)
        c, h = shared.lstm(p["kernel"], p["b_gates"], x, *states, forget_bias=0.0, xla=xla)
        logits = shared.dense(p, tf.reshape(h, (-1, case.H)))
        losses = shared.cross_entropy(logits, tf.reshape(window[1:], [-1]))
        return tf.reduce_mean(losses), (h[-1], c[-1])

    joined = shared.kernels(weights, {"kernel": ("w_x", "w_h")})
    zeros = np.zeros((case.N, case.H), np.float32)
    rule = ("sgd", case.LEARNING_RATE)
    return shared.training(joined, loss_of, rule, xla, (zeros, zeros), case.MAX_NORM)


def _unrolled(p: Any, x: Any, h: Any) -> Any:
    """Vanilla RNN over x (T, N, 1), unrolled; outputs (T, N, H)."""
    import tensorflow as tf

    x_gates, outputs = x * p["w_x"] + p["b_h"], []
    for t in range(x.shape[0]):
        h = tf.tanh(x_gates[t] + h @ p["w_h"])
        outputs.append(h)
    return tf.stack(outputs)


def _echo_rnn(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    case = echo_rnn

    def loss_of(p: Any, states: Any, bits: Any, echo: Any) -> Any:
        outputs = _unrolled(p, bits, states[0])
        logits = shared.dense(p, tf.reshape(outputs, (-1, case.H)))
        losses = shared.cross_entropy(logits, tf.reshape(echo, [-1]))
        return tf.reduce_mean(losses), [outputs[-1]]

    zeros = np.zeros((case.N, case.H), np.float32)
    return shared.training(weights, loss_of, ("adagrad", case.RATE), xla, [zeros])


def _sine_to_cosine(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    case = sine_to_cosine

    def loss_of(p: Any, states: Any, x: Any, y: Any) -> Any:
        outputs = _unrolled(p, tf.transpose(x, (1, 0, 2)), states[0])
        predicted = shared.dense(p, tf.reshape(outputs, (-1, case.H)))
        difference = predicted - tf.reshape(tf.transpose(y, (1, 0, 2)), (-1, 1))
        return tf.reduce_mean(difference**2), [outputs[-1]]

    zeros = np.zeros((case.N, case.H), np.float32)
    return shared.training(weights, loss_of, ("adam", case.RATE), xla, [zeros])


def _sine_lstm(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    case = sine_lstm

    def loss_of(p: Any, states: Any, x: Any, y: Any) -> Any:
        values, zeros = tf.transpose(x, (1, 0, 2)), tf.zeros((case.N, case.H))
        for k in range(2):
            _, values = shared.lstm(p[f"kernel{k}"], p[f"b{k}"], values, zeros, zeros, 1.0, xla)
        return tf.reduce_mean((shared.dense(p, values[-1]) - y) ** 2), ()

    joined = shared.kernels(weights, {f"kernel{k}": (f"w_x{k}", f"w_h{k}") for k in range(2)})
    return shared.training(joined, loss_of, ("adagrad", case.RATE), xla)


def _mnist_lstm(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    case = mnist_lstm

    def loss_of(p: Any, states: Any, images: Any, labels: Any) -> Any:
        rows = tf.reshape(tf.transpose(images, (1, 0, 2)), (-1, case.D))
        x = tf.reshape(shared.dense(p, rows, "w_in", "b_in"), (case.T, case.N, case.H))
        zeros = tf.zeros((case.N, case.H))
        _, h = shared.lstm(p["kernel"], p["b_gates"], x, zeros, zeros, 1.0, xla)
        logits = shared.dense(p, h[-1], "w_out", "b_out")
        return tf.reduce_mean(shared.cross_entropy(logits, labels)), ()

    joined = shared.kernels(weights, {"kernel": ("w_x", "w_h")})
    return shared.training(joined, loss_of, ("adam", case.RATE), xla)


def _ptb_lm(weights: Weights, xla: bool = False, dropout: float = 0.0) -> Any:
    import tensorflow as tf

    case = ptb_lm

    def drop(values: Any) -> Any:
        return tf.nn.dropout(values, dropout) if dropout else values

    def loss_of(p: Any, states: Any, inputs: Any, targets: Any) -> Any:
        values, after = drop(tf.gather(p["table"], inputs)), []
        for k in range(case.L):
            before = states[2 * k : 2 * k + 2]
            c, h = shared.lstm(p[f"kernel{k}"], p[f"b{k}"], values, *before, 1.0, xla)
            values = drop(h)
            after += [h[-1], c[-1]]
        logits = shared.dense(p, tf.reshape(values, (-1, case.H)))
        losses = shared.cross_entropy(logits, tf.reshape(targets, [-1]))
        return tf.reduce_sum(losses) / case.N, after

    joined = shared.kernels(weights, {f"kernel{k}": (f"w_x{k}", f"w_h{k}") for k in range(case.L)})
    zeros = [np.zeros((case.N, case.H), np.float32)] * (2 * case.L)
    return shared.training(joined, loss_of, ("sgd", case.RATE), xla, zeros, case.MAX_NORM)


def _encoded(p: Any, x: Any, lengths: Any, xla: bool) -> list[tuple[Any, Any]]:
    """States (h, c) of both layers of the seq2seq model at the ends of x (N, S)."""
    import tensorflow as tf

    values, states = tf.gather(p["e_table"], tf.transpose(x)), []
    zeros = tf.zeros((odds.N, odds.H))
    ends = tf.stack([tf.cast(lengths, tf.int32) - 1, tf.range(odds.N)], axis=1)
    for k in range(odds.L):
        c, values = shared.lstm(p[f"e_kernel{k}"], p[f"e_b{k}"], values, zeros, zeros, 1.0, xla)
        states.append((tf.gather_nd(values, ends), tf.gather_nd(c, ends)))
    return states


def _odds_weights(weights: Weights) -> Weights:
    sides = [(side, k) for side in "ed" for k in range(odds.L)]
    pairs = {f"{s}_kernel{k}": (f"{s}_w_x{k}", f"{s}_w_h{k}") for s, k in sides}
    return shared.kernels(weights, pairs)


def _seq2seq_odds(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    def loss_of(p: Any, _: Any, x: Any, x_lengths: Any, y: Any, y_lengths: Any) -> Any:
        states = _encoded(p, x, x_lengths, xla)
        inputs = tf.pad(y[:, :-1], ((0, 0), (1, 0)))
        values = tf.gather(p["d_table"], tf.transpose(inputs))
        for k in range(odds.L):
            _, values = shared.lstm(p[f"d_kernel{k}"], p[f"d_b{k}"], values, *states[k], 1.0, xla)
        logits = shared.dense(p, tf.reshape(values, (-1, odds.H)))
        losses = shared.cross_entropy(logits, tf.reshape(tf.transpose(y), [-1]))
        real = tf.sequence_mask(y_lengths, tf.shape(y)[1], tf.float32)
        total = tf.reduce_sum(losses * tf.reshape(tf.transpose(real), [-1]))
        return total / tf.cast(tf.reduce_sum(y_lengths), tf.float32), ()

    step = shared.training(_odds_weights(weights), loss_of, ("adam", odds.RATE), xla)
    if not xla:
        return step  # the graph takes any length
    return lambda x, n, y, m: step(odds.fixed(x, odds.S), n, odds.fixed(y, odds.T), m)


def _seq2seq_greedy(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    p = {name: tf.constant(value) for name, value in _odds_weights(weights).items()}

    @tf.function(jit_compile=xla, reduce_retracing=True)
    def decode(x: Any, lengths: Any) -> Any:
        states = _encoded(p, x, lengths, xla)
        ids, said = tf.zeros(odds.N, tf.int64), []
        for _ in range(seq2seq_greedy.STEPS):
            value = tf.gather(p["d_table"], ids)
            for k in range(odds.L):
                h, c = states[k]
                z = tf.concat([value, h], 1) @ p[f"d_kernel{k}"] + p[f"d_b{k}"]
                value, c = shared.cell(z, c, 1.0)
                states[k] = value, c
            ids = tf.argmax(shared.dense(p, value), axis=1)
            said.append(ids)
        return tf.stack(said, axis=1)

    def step(x: np.ndarray, lengths: np.ndarray, *answers: np.ndarray) -> float:
        x = odds.fixed(x, odds.S) if xla else x
        ids = decode(tf.convert_to_tensor(x), tf.convert_to_tensor(lengths))
        return seq2seq_greedy.number(ids.numpy())

    return step


# -- images and dense models ----------------------------------------------------------------------


def _mnist_cnn(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    case = mnist_cnn

    def loss_of(p: Any, _: Any, x: Any, labels: Any) -> Any:
        for k in (1, 2):
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, p[f"w{k}"], 1, "SAME"), p[f"b{k}"]))
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        hidden = tf.nn.relu(shared.dense(p, tf.reshape(x, (-1, case.FLAT)), "w3", "b3"))
        losses = shared.cross_entropy(shared.dense(p, hidden, "w4", "b4"), labels)
        return tf.reduce_mean(losses), ()

    return shared.training(weights, loss_of, ("adam", case.RATE), xla)


def _linear_regression(weights: Weights, xla: bool = False) -> Any:
    def loss_of(p: Any, _: Any, x: Any, y: Any) -> Any:
        return (p["k"] * x + p["b"] - y) ** 2, ()

    return shared.training(weights, loss_of, ("sgd", linear_regression.RATE), xla)


def _curve_regression(weights: Weights, xla: bool = False) -> Any:
    import tensorflow as tf

    def loss_of(p: Any, _: Any, x: Any, y: Any) -> Any:
        hidden = tf.nn.relu(shared.dense(p, x, "w1", "b1"))
        return tf.reduce_mean((shared.dense(p, hidden, "w2", "b2") - y) ** 2), ()

    return shared.training(weights, loss_of, ("sgd", curve_regression.RATE), xla)


def _softmax_regression(weights: Weights, rule: tuple[Any, ...], xla: bool) -> Any:
    import tensorflow as tf

    def loss_of(p: Any, _: Any, x: Any, labels: Any) -> Any:
        return tf.reduce_mean(shared.cross_entropy(shared.dense(p, x), labels)), ()

    return shared.training(weights, loss_of, rule, xla)


def _iris_softmax(weights: Weights, xla: bool = False) -> Any:
    return _softmax_regression(weights, ("adam", iris_softmax.RATE), xla)


def _mnist_softmax(weights: Weights, xla: bool = False) -> Any:
    return _softmax_regression(weights, ("sgd", mnist_softmax.RATE), xla)


def _digits_dropout(weights: Weights, xla: bool = False, dropout: float = 0.0) -> Any:
    import tensorflow as tf

    def drop(values: Any) -> Any:
        return tf.nn.dropout(values, dropout) if dropout else values

    def loss_of(p: Any, _: Any, x: Any, labels: Any) -> Any:
        hidden = tf.tanh(drop(shared.dense(p, x, "w1", "b1")))
        losses = shared.cross_entropy(drop(shared.dense(p, hidden, "w2", "b2")), labels)
        return tf.reduce_mean(losses), ()

    return shared.training(weights, loss_of, ("sgd", digits_dropout.RATE), xla)


MAKERS = {
    "char_lm": _char_lm,
    "echo_rnn": _echo_rnn,
    "sine_to_cosine": _sine_to_cosine,
    "sine_lstm": _sine_lstm,
    "mnist_lstm": _mnist_lstm,
    "ptb_lm": _ptb_lm,
    "mnist_cnn": _mnist_cnn,
    "mnist_cnn_100": _mnist_cnn,
    "seq2seq_odds": _seq2seq_odds,
    "seq2seq_greedy": _seq2seq_greedy,
    "linear_regression": _linear_regression,
    "curve_regression": _curve_regression,
    "iris_softmax": _iris_softmax,
    "mnist_softmax": _mnist_softmax,
    "digits_dropout": _digits_dropout,
}
