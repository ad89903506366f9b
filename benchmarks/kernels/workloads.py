"""Programs whose calls of kernels are timed: steps of the document models, and single layers.

A step of a model is that of benchmarks.peers, where it has all its sizes from its document.  What
no step of those calls has a layer of its own here, at the size that a document has or would have.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, ops, optim, watch

from .calls import Call, written_down

SEED = 4
# N batch, T time, D features in, H hidden, C channels
ROWS_LSTM = 28, 128, 128  # T, N, H of mnist_lstm
FEATURES = 50, 14, 14, 32  # what the second convolution of mnist_cnn sees
HIDDEN = 50, 1024  # the dense layer of mnist_cnn
PARAMETERS = 3136 * 1024  # its weights
ATTENTION = 128, 23, 12, 64  # N, places read, places written, width: as attention_copy


_drawn = np.random.default_rng(SEED)


def _draw(*shape: int) -> np.ndarray:
    """Standard normal numbers, others every time."""
    return _drawn.standard_normal(shape, dtype=np.float32)


def _back(y: mg.Tensor) -> None:
    """Backward from a gradient as large as y."""
    y.backward(gradient=_draw(*y.shape))


def _model(name: str) -> None:
    """One training step of a case of benchmarks.peers."""
    case = importlib.import_module(f"benchmarks.peers.{name}")
    rng = np.random.default_rng(SEED)
    weights, batches = case.draw_weights(rng), case.draw_batches(rng, 1)
    case.MAKERS["minigrad"](weights, **getattr(case, "TIMED_WITH", {}))(*batches[0])


def _activation(function: Callable[..., Any]) -> None:
    _back(function(mg.tensor(_draw(*HIDDEN), requires_grad=True)))


def _recurrence(layer: Any, **options: Any) -> None:
    """A layer over the rows of a batch of images, watched as models/char_lm.py watches its own."""
    steps, batch, hidden = ROWS_LSTM
    generator = np.random.default_rng(SEED)
    model = layer(hidden, hidden, time_major=True, generator=generator, **options)
    outputs, _ = model(mg.tensor(_draw(steps, batch, hidden), requires_grad=True))
    _back(outputs)


def _saturation() -> None:
    steps, batch, hidden = ROWS_LSTM
    model = nn.LSTM(hidden, hidden, time_major=True, generator=np.random.default_rng(SEED))
    gates = watch.Saturation(model.gate_kinds)
    model.gates = gates.record
    model(_draw(steps, batch, hidden))


def _attention() -> None:
    batch, read, written, width = ATTENTION
    query, keys = 0.3 * _draw(batch, written, width), _draw(batch, read, width)
    lengths = np.random.default_rng(SEED).integers(1, read + 1, batch)
    (context, alignment), vjp = ops.attend(query, keys, _draw(batch, read, width), lengths)
    vjp((_draw(*context.shape), _draw(*alignment.shape)))


def _convolution() -> None:
    """The second layer of mnist_cnn, its pooling apart."""
    layer = nn.Conv2d(32, 64, 5, padding="same", activation="relu",
                      generator=np.random.default_rng(SEED))  # fmt: skip
    _back(layer(mg.tensor(_draw(*FEATURES), requires_grad=True)))


def _pooling(function: Callable[..., Any]) -> None:
    """What follows that layer, on its 64 channels."""
    batch, rows, columns, channels = FEATURES
    _back(function(mg.tensor(_draw(batch, rows, columns, 2 * channels), requires_grad=True), 2))


def _batch_norm() -> None:
    batch, rows, columns, channels = FEATURES
    layer = nn.BatchNorm(2 * channels)
    _back(layer(mg.tensor(_draw(batch, rows, columns, 2 * channels), requires_grad=True)))


def _layer_norm() -> None:
    _back(nn.LayerNorm(HIDDEN[1])(mg.tensor(_draw(*HIDDEN), requires_grad=True)))


def _probabilities() -> None:
    """Targets that are distributions, for the words of ptb_lm."""
    logits, target = mg.tensor(_draw(700, 10_000), requires_grad=True), _draw(700, 10_000) ** 2
    target /= target.sum(axis=1, keepdims=True)
    mg.cross_entropy(logits, target).backward()


def _update(rule: Callable[..., Any], **options: Any) -> None:
    parameter = nn.Parameter(_draw(PARAMETERS))
    optimizer = rule([parameter], lr=1e-4, **options)
    parameter.grad = mg.tensor(_draw(PARAMETERS))
    optimizer.step()


def _clipping() -> None:
    """Both ways; the norm is just above its bound, so that it stays near when done over."""
    parameter = nn.Parameter(_draw(PARAMETERS))
    parameter.grad = mg.tensor(_draw(PARAMETERS))
    norm = float(np.linalg.norm(parameter.grad.numpy()))
    optim.clip_grad_norm_([parameter], 0.9999 * norm)
    optim.clip_grad_value_([parameter], 2.0)


PROGRAMS: dict[str, Callable[[], None]] = {
    name: functools.partial(_model, name)
    for name in (
        "char_lm", "echo_rnn", "sine_to_cosine", "mnist_lstm", "ptb_lm", "mnist_cnn",
        "seq2seq_odds", "seq2seq_greedy",
    )
} | {
    "elu": functools.partial(_activation, mg.elu),
    "gelu": functools.partial(_activation, functools.partial(mg.gelu, approximate="none")),
    "gelu, tanh": functools.partial(_activation, functools.partial(mg.gelu, approximate="tanh")),
    "leaky relu": functools.partial(_activation, mg.leaky_relu),
    "softplus": functools.partial(_activation, mg.softplus),
    "attention": _attention,
    "convolution": _convolution,
    "max-pooling": functools.partial(_pooling, mg.max_pool2d),
    "average-pooling": functools.partial(_pooling, mg.avg_pool2d),
    "batch norm": _batch_norm,
    "layer norm": _layer_norm,
    "GRU": functools.partial(_recurrence, nn.GRU),
    "layer-norm LSTM": functools.partial(_recurrence, nn.LayerNormLSTM),
    "LSTM, projection": functools.partial(_recurrence, nn.LSTM, peepholes=True, projection=64),
    "saturation": _saturation,
    "distributions": _probabilities,
    "clipping": _clipping,
    "SGD": functools.partial(_update, optim.SGD),
    "Momentum": functools.partial(_update, optim.Momentum),
    "Adagrad": functools.partial(_update, optim.Adagrad),
    "RMSProp": functools.partial(_update, optim.RMSProp),
    "RMSProp, centred": functools.partial(_update, optim.RMSProp, centered=True),
    "Adam": functools.partial(_update, optim.Adam),
    "Adadelta": functools.partial(_update, optim.Adadelta),
    "Ftrl": functools.partial(_update, optim.Ftrl),
}  # fmt: skip


@functools.cache
def calls_of(program: str) -> tuple[Call, ...]:
    """Run a program once and return its calls of kernels."""
    with written_down() as calls:
        PROGRAMS[program]()
    return tuple(calls)
