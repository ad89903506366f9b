"""The cases in tinygrad: a whole training step under TinyJit, on its CPU device.

It compiles with clang, which must be on the path.  Cells are written out and unrolled; embeddings
are products with one-hot rows, as in its own nn.Embedding.  The large recurrent cases are left out:
as one graph of all time steps they take its scheduler longer than anybody waits.
"""

from __future__ import annotations

import os
import shutil
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
    mnist_softmax,
    sine_lstm,
    sine_to_cosine,
)
from . import mnist_cnn as cnn
from .contenders import Contender
from .tools import Weights

LIBRARY = "tinygrad"


def contenders(maker: Callable[..., Any], threads: int) -> list[Contender]:
    """tinygrad on the CPU, whatever else there is; with as many threads as suit the case."""
    settings = {"DEV": "CPU", "CPU_COUNT": str(threads)}
    return [Contender("tinygrad JIT", LIBRARY, maker, settings)]


def _training(
    weights: Weights,
    loss_of: Callable[..., Any],
    kind: str,
    rate: float,
    states: Any = (),
    norm: float | None = None,
) -> Any:
    """The step: loss_of(parameters, states, *batch) -> (loss, states after)."""
    from tinygrad import Context, Tensor, TinyJit

    if shutil.which(os.environ.get("CC", "clang")) is None:
        raise ImportError("tinygrad's CPU device needs clang on the path")

    def own(value: np.ndarray) -> Any:
        return Tensor(np.asarray(value, order="C")).clone().realize()

    params = {name: own(value) for name, value in weights.items()}
    carried = [own(state) for state in states]
    start = 0.1 if kind == "adagrad" else 0.0
    first = {name: own(np.full_like(value, start)) for name, value in weights.items()}
    second = {name: own(np.zeros_like(value)) for name, value in weights.items()}
    powers = own(np.ones(2, np.float32))
    decays = own(np.array([0.9, 0.999], np.float32))

    def moved(name: str, g: Any) -> list[Any]:
        """Update one parameter; everything that has to be computed."""
        p, m, v = params[name], first[name], second[name]
        if kind == "sgd":
            return [p.assign(p.detach() - rate * g)]
        if kind == "adagrad":
            total = m + g * g
            return [p.assign(p.detach() - rate * g / total.sqrt()), m.assign(total)]
        mean, square = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        now = powers * decays
        scaled = rate * (1 - now[1]).sqrt() / (1 - now[0])
        change = scaled * mean / (square.sqrt() + 1e-8)
        return [p.assign(p.detach() - change), m.assign(mean), v.assign(square)]

    @TinyJit
    def train(*batch: Any) -> Any:
        loss, after = loss_of(params, carried, *batch)
        grads = dict(zip(params, loss.gradient(*params.values())))
        if norm is not None:
            squares = [(g * g).sum() for g in grads.values()]
            total = sum(squares[1:], squares[0]).sqrt()
            factor = norm / total.maximum(norm)
            grads = {name: g * factor for name, g in grads.items()}
        todo = [done for name, g in grads.items() for done in moved(name, g)]
        todo += [state.assign(value.detach()) for state, value in zip(carried, after)]
        if kind == "adam":
            todo.append(powers.assign(powers * decays))
        Tensor.realize(loss, *todo)
        return loss

    inputs: list[Any] = []
    places: list[np.ndarray] = []

    def step(*batch: np.ndarray) -> float:
        """Copies the batch to where the jitted step reads it: a new Tensor costs far more."""
        if not inputs:
            for array in batch:
                kind = np.int32 if array.dtype == np.int64 else array.dtype
                inputs.append(own(array.astype(kind)))
                memory = inputs[-1]._buffer().as_memoryview(force_zero_copy=True)
                places.append(np.frombuffer(memory, kind).reshape(array.shape))
        for place, array in zip(places, batch):
            place[...] = array
        with Context(TRAINING=1):  # dropout asks for it
            loss = train(*inputs)
        return float(np.frombuffer(loss._buffer().as_memoryview(), np.float32)[0])

    return step


def _cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean over the rows; logits (M, V), labels (M,)."""
    picked = (logits.log_softmax() * labels.one_hot(logits.shape[1])).sum(axis=1)
    return -picked.mean()


def _dense(p: Any, x: Any, weight: str = "w", bias: str = "b") -> Any:
    return x @ p[weight] + p[bias]


def _lstm(x_gates: list[Any], w_h: Any, h: Any, c: Any, forget_bias: float) -> tuple[Any, Any]:
    """Outputs of each step, and the last c."""
    outputs = []
    for z_x in x_gates:
        i, j, f, o = (z_x + h @ w_h).chunk(4, dim=1)
        c = c * (f + forget_bias).sigmoid() + i.sigmoid() * j.tanh()
        h = c.tanh() * o.sigmoid()
        outputs.append(h)
    return outputs, c


def _char_lm(weights: Weights) -> Any:
    from tinygrad import Tensor

    case = char_lm

    def loss_of(p: Any, states: Any, window: Any) -> Any:
        x = window[:-1].one_hot(case.V).float() @ p["w_x"] + p["b_gates"]
        outputs, c = _lstm([x[t] for t in range(case.T)], p["w_h"], *states, forget_bias=0.0)
        logits = _dense(p, Tensor.cat(*outputs))
        return _cross_entropy(logits, window[1:].reshape(-1)), (outputs[-1], c)

    zeros = np.zeros((case.N, case.H), np.float32)
    rate = case.LEARNING_RATE
    return _training(weights, loss_of, "sgd", rate, (zeros, zeros), case.MAX_NORM)


def _rnn(p: Any, x: Any, h: Any) -> list[Any]:
    """Outputs (N, H) of each step over x (T, N, 1)."""
    x_gates, outputs = x @ p["w_x"] + p["b_h"], []
    for t in range(x.shape[0]):
        h = (x_gates[t] + h @ p["w_h"]).tanh()
        outputs.append(h)
    return outputs


def _echo_rnn(weights: Weights) -> Any:
    from tinygrad import Tensor

    def loss_of(p: Any, states: Any, bits: Any, echo: Any) -> Any:
        outputs = _rnn(p, bits, states[0])
        logits = _dense(p, Tensor.cat(*outputs))
        return _cross_entropy(logits, echo.reshape(-1)), [outputs[-1]]

    zeros = np.zeros((echo_rnn.N, echo_rnn.H), np.float32)
    return _training(weights, loss_of, "adagrad", echo_rnn.RATE, [zeros])


def _sine_to_cosine(weights: Weights) -> Any:
    from tinygrad import Tensor

    def loss_of(p: Any, states: Any, x: Any, y: Any) -> Any:
        outputs = _rnn(p, x.transpose(0, 1), states[0])
        difference = _dense(p, Tensor.cat(*outputs)) - y.transpose(0, 1).reshape(-1, 1)
        return (difference * difference).mean(), [outputs[-1]]

    zeros = np.zeros((sine_to_cosine.N, sine_to_cosine.H), np.float32)
    return _training(weights, loss_of, "adam", sine_to_cosine.RATE, [zeros])


def _sine_lstm(weights: Weights) -> Any:
    from tinygrad import Tensor

    case = sine_lstm

    def loss_of(p: Any, _: Any, x: Any, y: Any) -> Any:
        values = [x[:, t] for t in range(case.T)]
        zeros = Tensor.zeros(case.N, case.H)
        for k in range(2):
            x_gates = [_dense(p, value, f"w_x{k}", f"b{k}") for value in values]
            values, _ = _lstm(x_gates, p[f"w_h{k}"], zeros, zeros, 1.0)
        difference = _dense(p, values[-1]) - y
        return (difference * difference).mean(), ()

    return _training(weights, loss_of, "adagrad", case.RATE)


def _mnist_cnn(weights: Weights) -> Any:
    """Images and kernels as (N, C, H, W): the only layout it has."""
    weights = dict(weights)
    for name in ("w1", "w2"):
        weights[name] = weights[name].transpose(3, 2, 0, 1)
    side, channels = cnn.SIZE // 4, cnn.CHANNELS[1]
    w3 = weights["w3"].reshape(side, side, channels, cnn.HIDDEN).transpose(2, 0, 1, 3)
    weights["w3"] = w3.reshape(cnn.FLAT, cnn.HIDDEN)

    def loss_of(p: Any, _: Any, images: Any, labels: Any) -> Any:
        x = images.permute(0, 3, 1, 2)
        for k in (1, 2):
            x = x.conv2d(p[f"w{k}"], p[f"b{k}"], padding=2).relu().max_pool2d(2)
        hidden = _dense(p, x.flatten(1), "w3", "b3").relu()
        return _cross_entropy(_dense(p, hidden, "w4", "b4"), labels), ()

    return _training(weights, loss_of, "adam", cnn.RATE)


def _linear_regression(weights: Weights) -> Any:
    def loss_of(p: Any, _: Any, x: Any, y: Any) -> Any:
        difference = p["k"] * x + p["b"] - y
        return difference * difference, ()

    return _training(weights, loss_of, "sgd", linear_regression.RATE)


def _curve_regression(weights: Weights) -> Any:
    def loss_of(p: Any, _: Any, x: Any, y: Any) -> Any:
        difference = _dense(p, _dense(p, x, "w1", "b1").relu(), "w2", "b2") - y
        return (difference * difference).mean(), ()

    return _training(weights, loss_of, "sgd", curve_regression.RATE)


def _softmax_regression(weights: Weights, kind: str, rate: float) -> Any:
    def loss_of(p: Any, _: Any, x: Any, labels: Any) -> Any:
        return _cross_entropy(_dense(p, x), labels), ()

    return _training(weights, loss_of, kind, rate)


def _iris_softmax(weights: Weights) -> Any:
    return _softmax_regression(weights, "adam", iris_softmax.RATE)


def _mnist_softmax(weights: Weights) -> Any:
    return _softmax_regression(weights, "sgd", mnist_softmax.RATE)


def _digits_dropout(weights: Weights, dropout: float = 0.0) -> Any:
    def loss_of(p: Any, _: Any, x: Any, labels: Any) -> Any:
        hidden = _dense(p, x, "w1", "b1").dropout(dropout).tanh()
        return _cross_entropy(_dense(p, hidden, "w2", "b2").dropout(dropout), labels), ()

    return _training(weights, loss_of, "sgd", digits_dropout.RATE)


MAKERS = {
    "char_lm": _char_lm,
    "echo_rnn": _echo_rnn,
    "sine_to_cosine": _sine_to_cosine,
    "sine_lstm": _sine_lstm,
    "mnist_cnn": _mnist_cnn,
    "mnist_cnn_100": _mnist_cnn,
    "linear_regression": _linear_regression,
    "curve_regression": _curve_regression,
    "iris_softmax": _iris_softmax,
    "mnist_softmax": _mnist_softmax,
    "digits_dropout": _digits_dropout,
}
