"""The cases in autograd: NumPy with gradients, a tape made anew for each step.

What its users have: functions of a dict of arrays, and value_and_grad.  It has no convolution that
could be used (its own is written with a loop over windows), and no recurrence of its own: cells are
loops in Python.  Cases whose sequences have several lengths are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import (
    char_lm,
    curve_regression,
    digits_dropout,
    echo_rnn,
    iris_softmax,
    linear_regression,
    mnist_lstm,
    mnist_softmax,
    ptb_lm,
    sine_lstm,
    sine_to_cosine,
)
from .contenders import Contender
from .numpy_updates import clip, rule
from .tools import Weights

LIBRARY = "autograd"


def contenders(maker: Callable[..., Any], threads: int) -> list[Contender]:
    """autograd, with as many threads in BLAS as suit the case."""
    settings = {"OPENBLAS_NUM_THREADS": str(threads)}
    return [Contender("autograd", LIBRARY, maker, settings)]


def _training(
    weights: Weights,
    loss_of: Callable[..., Any],
    kind: str,
    rate: float,
    states: Any = (),
    norm: float | None = None,
) -> Any:
    """The step: loss_of(parameters, states, *batch) -> (loss, states after)."""
    from autograd import make_vjp
    from autograd.extend import vspace
    from autograd.tracer import getval

    params, update = dict(weights), rule(weights, kind, rate)
    carried, after = list(states), []

    def loss_alone(p: Any, *batch: Any) -> Any:
        loss, last = loss_of(p, carried, *batch)
        after[:] = [getval(state) for state in last]
        return loss

    def step(*batch: np.ndarray) -> float:
        vjp, loss = make_vjp(lambda p: loss_alone(p, *batch))(params)
        grads = vjp(vspace(loss).ones())
        if norm is not None:
            clip(grads, norm)
        update(grads)
        carried[:] = after
        return float(loss)

    return step


def _cross_entropy(logits: Any, labels: np.ndarray) -> Any:
    """A number for each row; logits (M, V), labels (M,)."""
    from autograd import numpy as anp

    shifted = logits - anp.max(logits, axis=1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels]
    return anp.log(anp.sum(anp.exp(shifted), axis=1)) - picked


def _lstm(x_gates: Any, w_h: Any, h: Any, c: Any, forget_bias: float) -> tuple[list[Any], Any]:
    """Outputs of each step, and the last c; x_gates: (T, N, 4H), or a list of (N, 4H)."""
    from autograd import numpy as anp

    outputs, size = [], w_h.shape[0]
    for z_x in x_gates:
        z = z_x + anp.dot(h, w_h)
        i, j, f, o = (z[:, k * size : (k + 1) * size] for k in range(4))
        c = c * _sigmoid(f + forget_bias) + _sigmoid(i) * anp.tanh(j)
        h = anp.tanh(c) * _sigmoid(o)
        outputs.append(h)
    return outputs, c


def _sigmoid(x: Any) -> Any:
    from autograd import numpy as anp

    return 0.5 * anp.tanh(0.5 * x) + 0.5


def _drop(values: Any, chance: float, rng: np.random.Generator) -> Any:
    """Dropout, with a mask drawn outside of the tape."""
    if not chance:
        return values
    kept = rng.random(values.shape, dtype=np.float32) >= chance
    return values * (kept / np.float32(1 - chance))


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


# -- the models -------------------------------------------------------------------------------


def _char_lm(weights: Weights) -> Any:
    from autograd import numpy as anp

    case = char_lm

    def loss_of(p: Any, states: Any, window: np.ndarray) -> Any:
        x_gates = p["w_x"][window[:-1]] + p["b_gates"]
        outputs, c = _lstm(x_gates, p["w_h"], *states, forget_bias=0.0)
        logits = anp.dot(anp.concatenate(outputs), p["w"]) + p["b"]
        losses = _cross_entropy(logits, window[1:].reshape(-1))
        return anp.mean(losses), (outputs[-1], c)

    states = _zeros(case.N, case.H), _zeros(case.N, case.H)
    return _training(weights, loss_of, "sgd", case.LEARNING_RATE, states, case.MAX_NORM)


def _rnn(p: Any, x: np.ndarray, h: Any) -> list[Any]:
    """Outputs (N, H) of each step over x (T, N, 1)."""
    from autograd import numpy as anp

    outputs = []
    for x_t in x:
        h = anp.tanh(anp.dot(x_t, p["w_x"]) + p["b_h"] + anp.dot(h, p["w_h"]))
        outputs.append(h)
    return outputs


def _echo_rnn(weights: Weights) -> Any:
    from autograd import numpy as anp

    def loss_of(p: Any, states: Any, bits: np.ndarray, echo: np.ndarray) -> Any:
        outputs = _rnn(p, bits, states[0])
        logits = anp.dot(anp.concatenate(outputs), p["w"]) + p["b"]
        return anp.mean(_cross_entropy(logits, echo.reshape(-1))), [outputs[-1]]

    states = [_zeros(echo_rnn.N, echo_rnn.H)]
    return _training(weights, loss_of, "adagrad", echo_rnn.RATE, states)


def _sine_to_cosine(weights: Weights) -> Any:
    from autograd import numpy as anp

    def loss_of(p: Any, states: Any, x: np.ndarray, y: np.ndarray) -> Any:
        outputs = _rnn(p, x.swapaxes(0, 1), states[0])
        predicted = anp.dot(anp.concatenate(outputs), p["w"]) + p["b"]
        return anp.mean((predicted - y.swapaxes(0, 1).reshape(-1, 1)) ** 2), [outputs[-1]]

    states = [_zeros(sine_to_cosine.N, sine_to_cosine.H)]
    return _training(weights, loss_of, "adam", sine_to_cosine.RATE, states)


def _sine_lstm(weights: Weights) -> Any:
    from autograd import numpy as anp

    zeros = _zeros(sine_lstm.N, sine_lstm.H)

    def loss_of(p: Any, _: Any, x: np.ndarray, y: np.ndarray) -> Any:
        values: Any = list(x.swapaxes(0, 1))
        for k in range(2):
            x_gates = [anp.dot(value, p[f"w_x{k}"]) + p[f"b{k}"] for value in values]
            values, _ = _lstm(x_gates, p[f"w_h{k}"], zeros, zeros, 1.0)
        return anp.mean((anp.dot(values[-1], p["w"]) + p["b"] - y) ** 2), ()

    return _training(weights, loss_of, "adagrad", sine_lstm.RATE)


def _mnist_lstm(weights: Weights) -> Any:
    from autograd import numpy as anp

    zeros = _zeros(mnist_lstm.N, mnist_lstm.H)

    def loss_of(p: Any, _: Any, images: np.ndarray, labels: np.ndarray) -> Any:
        rows = images.swapaxes(0, 1).reshape(-1, mnist_lstm.D)
        x_gates = anp.dot(anp.dot(rows, p["w_in"]) + p["b_in"], p["w_x"]) + p["b_gates"]
        x_gates = anp.reshape(x_gates, (mnist_lstm.T, mnist_lstm.N, -1))
        outputs, _ = _lstm(x_gates, p["w_h"], zeros, zeros, 1.0)
        logits = anp.dot(outputs[-1], p["w_out"]) + p["b_out"]
        return anp.mean(_cross_entropy(logits, labels)), ()

    return _training(weights, loss_of, "adam", mnist_lstm.RATE)


def _ptb_lm(weights: Weights, dropout: float = 0.0) -> Any:
    from autograd import numpy as anp

    case, rng = ptb_lm, np.random.default_rng(0)

    def loss_of(p: Any, states: Any, inputs: np.ndarray, targets: np.ndarray) -> Any:
        flat, after = _drop(p["table"][inputs.reshape(-1)], dropout, rng), []
        for k in range(case.L):
            x_gates = anp.dot(flat, p[f"w_x{k}"]) + p[f"b{k}"]
            x_gates = anp.reshape(x_gates, (case.T, case.N, -1))
            outputs, c = _lstm(x_gates, p[f"w_h{k}"], *states[2 * k : 2 * k + 2], 1.0)
            flat = _drop(anp.concatenate(outputs), dropout, rng)
            after += [outputs[-1], c]
        logits = anp.dot(flat, p["w"]) + p["b"]
        return anp.sum(_cross_entropy(logits, targets.reshape(-1))) / case.N, after

    states = [_zeros(case.N, case.H)] * (2 * case.L)
    return _training(weights, loss_of, "sgd", case.RATE, states, case.MAX_NORM)


def _linear_regression(weights: Weights) -> Any:
    def loss_of(p: Any, _: Any, x: np.ndarray, y: np.ndarray) -> Any:
        return (p["k"] * x + p["b"] - y) ** 2, ()

    return _training(weights, loss_of, "sgd", linear_regression.RATE)


def _curve_regression(weights: Weights) -> Any:
    from autograd import numpy as anp

    def loss_of(p: Any, _: Any, x: np.ndarray, y: np.ndarray) -> Any:
        hidden = anp.maximum(anp.dot(x, p["w1"]) + p["b1"], 0)
        return anp.mean((anp.dot(hidden, p["w2"]) + p["b2"] - y) ** 2), ()

    return _training(weights, loss_of, "sgd", curve_regression.RATE)


def _softmax_regression(weights: Weights, kind: str, rate: float) -> Any:
    from autograd import numpy as anp

    def loss_of(p: Any, _: Any, x: np.ndarray, labels: np.ndarray) -> Any:
        return anp.mean(_cross_entropy(anp.dot(x, p["w"]) + p["b"], labels)), ()

    return _training(weights, loss_of, kind, rate)


def _iris_softmax(weights: Weights) -> Any:
    return _softmax_regression(weights, "adam", iris_softmax.RATE)


def _mnist_softmax(weights: Weights) -> Any:
    return _softmax_regression(weights, "sgd", mnist_softmax.RATE)


def _digits_dropout(weights: Weights, dropout: float = 0.0) -> Any:
    from autograd import numpy as anp

    rng = np.random.default_rng(0)

    def loss_of(p: Any, _: Any, x: np.ndarray, labels: np.ndarray) -> Any:
        hidden = anp.tanh(_drop(anp.dot(x, p["w1"]) + p["b1"], dropout, rng))
        logits = _drop(anp.dot(hidden, p["w2"]) + p["b2"], dropout, rng)
        return anp.mean(_cross_entropy(logits, labels)), ()

    return _training(weights, loss_of, "sgd", digits_dropout.RATE)


MAKERS = {
    "char_lm": _char_lm,
    "echo_rnn": _echo_rnn,
    "sine_to_cosine": _sine_to_cosine,
    "sine_lstm": _sine_lstm,
    "mnist_lstm": _mnist_lstm,
    "ptb_lm": _ptb_lm,
    "linear_regression": _linear_regression,
    "curve_regression": _curve_regression,
    "iris_softmax": _iris_softmax,
    "mnist_softmax": _mnist_softmax,
    "digits_dropout": _digits_dropout,
}
