"""The cases in MyGrad: NumPy with a graph of tensors, and Numba behind its own layers.

It has the dense models and vanilla recurrences of these cases; its convolution is a product over
windows.  Its optimisers are left aside for the documents' updates in NumPy, which are faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import curve_regression as curve
from . import digits_dropout, iris_softmax, linear_regression, mnist_softmax
from . import echo_rnn as echo
from . import sine_lstm as sine
from . import sine_to_cosine as cosine
from .contenders import Contender
from .numpy_updates import rule
from .tools import Weights

LIBRARY = "mygrad"


def contenders(maker: Callable[..., Any], threads: int) -> list[Contender]:
    """MyGrad, with as many threads in BLAS as suit the case."""
    return [Contender("MyGrad", LIBRARY, maker, {"OPENBLAS_NUM_THREADS": str(threads)})]


def _training(
    weights: Weights, loss_of: Callable[..., Any], kind: str, rate: float, states: Any = ()
) -> Any:
    """The step: loss_of(parameters, states, *batch) -> (loss, states after); no memory guards."""
    import mygrad as my

    my.turn_memory_guarding_off()  # as its own documentation advises for speed
    update = rule(weights, kind, rate)
    carried = list(states)

    def step(*batch: np.ndarray) -> float:
        params = {name: my.tensor(value, copy=False) for name, value in weights.items()}
        loss, after = loss_of(params, carried, *batch)
        loss.backward()
        update({name: np.asarray(tensor.grad) for name, tensor in params.items()})
        carried[:] = [np.asarray(state.data) for state in after]
        return float(loss.data)

    return step


def _cross_entropy(logits: Any, labels: np.ndarray) -> Any:
    from mygrad.nnet.losses import softmax_crossentropy

    return softmax_crossentropy(logits, labels)


def _dense(p: Any, x: Any, weight: str = "w", bias: str = "b") -> Any:
    import mygrad as my

    return my.matmul(x, p[weight]) + p[bias]


def _rnn(p: Any, x: np.ndarray, h: Any) -> list[Any]:
    """Outputs (N, H) of each step over x (T, N, 1)."""
    import mygrad as my

    outputs = []
    for x_t in x:
        h = my.tanh(my.matmul(x_t, p["w_x"]) + p["b_h"] + my.matmul(h, p["w_h"]))
        outputs.append(h)
    return outputs


def _echo_rnn(weights: Weights) -> Any:
    import mygrad as my

    def loss_of(p: Any, states: Any, bits: np.ndarray, targets: np.ndarray) -> Any:
        outputs = _rnn(p, bits, states[0])
        logits = _dense(p, my.concatenate(outputs))
        return _cross_entropy(logits, targets.reshape(-1)), [outputs[-1]]

    zeros = np.zeros((echo.N, echo.H), np.float32)
    return _training(weights, loss_of, "adagrad", echo.RATE, [zeros])


def _sine_to_cosine(weights: Weights) -> Any:
    import mygrad as my

    def loss_of(p: Any, states: Any, x: np.ndarray, y: np.ndarray) -> Any:
        outputs = _rnn(p, x.swapaxes(0, 1), states[0])
        difference = _dense(p, my.concatenate(outputs)) - y.swapaxes(0, 1).reshape(-1, 1)
        return my.mean(difference**2), [outputs[-1]]

    zeros = np.zeros((cosine.N, cosine.H), np.float32)
    return _training(weights, loss_of, "adam", cosine.RATE, [zeros])


def _sine_lstm(weights: Weights) -> Any:
    import mygrad as my
    from mygrad.nnet.activations import sigmoid

    zeros, size = np.zeros((sine.N, sine.H), np.float32), sine.H

    def loss_of(p: Any, _: Any, x: np.ndarray, y: np.ndarray) -> Any:
        values: Any = list(x.swapaxes(0, 1))
        for k in range(2):
            h, c, outputs = zeros, zeros, []
            for value in values:
                z = _dense(p, value, f"w_x{k}", f"b{k}") + my.matmul(h, p[f"w_h{k}"])
                i, j, f, o = (z[:, n * size : (n + 1) * size] for n in range(4))
                c = c * sigmoid(f + 1) + sigmoid(i) * my.tanh(j)
                h = my.tanh(c) * sigmoid(o)
                outputs.append(h)
            values = outputs
        return my.mean((_dense(p, values[-1]) - y) ** 2), ()

    return _training(weights, loss_of, "adagrad", sine.RATE)


def _linear_regression(weights: Weights) -> Any:
    def loss_of(p: Any, _: Any, x: np.ndarray, y: np.ndarray) -> Any:
        return (p["k"] * x + p["b"] - y) ** 2, ()

    return _training(weights, loss_of, "sgd", linear_regression.RATE)


def _curve_regression(weights: Weights) -> Any:
    import mygrad as my
    from mygrad.nnet.activations import relu

    def loss_of(p: Any, _: Any, x: np.ndarray, y: np.ndarray) -> Any:
        hidden = relu(_dense(p, x, "w1", "b1"))
        return my.mean((_dense(p, hidden, "w2", "b2") - y) ** 2), ()

    return _training(weights, loss_of, "sgd", curve.RATE)


def _softmax_regression(weights: Weights, kind: str, rate: float) -> Any:
    def loss_of(p: Any, _: Any, x: np.ndarray, labels: np.ndarray) -> Any:
        return _cross_entropy(_dense(p, x), labels), ()

    return _training(weights, loss_of, kind, rate)


def _iris_softmax(weights: Weights) -> Any:
    return _softmax_regression(weights, "adam", iris_softmax.RATE)


def _mnist_softmax(weights: Weights) -> Any:
    return _softmax_regression(weights, "sgd", mnist_softmax.RATE)


def _digits_dropout(weights: Weights, dropout: float = 0.0) -> Any:
    import mygrad as my

    rng = np.random.default_rng(0)

    def drop(values: Any) -> Any:
        if not dropout:
            return values
        kept = rng.random(values.shape, dtype=np.float32) >= dropout
        return values * (kept / np.float32(1 - dropout))

    def loss_of(p: Any, _: Any, x: np.ndarray, labels: np.ndarray) -> Any:
        hidden = my.tanh(drop(_dense(p, x, "w1", "b1")))
        return _cross_entropy(drop(_dense(p, hidden, "w2", "b2")), labels), ()

    return _training(weights, loss_of, "sgd", digits_dropout.RATE)


MAKERS = {
    "echo_rnn": _echo_rnn,
    "sine_to_cosine": _sine_to_cosine,
    "sine_lstm": _sine_lstm,
    "linear_regression": _linear_regression,
    "curve_regression": _curve_regression,
    "iris_softmax": _iris_softmax,
    "mnist_softmax": _mnist_softmax,
    "digits_dropout": _digits_dropout,
}
