"""What bad calls are made with, and the look at it before and after: nothing may have changed.

N=2 sequences or rows, T=4 steps, D=3 inputs, H=5 units, V=7 classes throughout.
"""

import itertools
import re
import struct
import threading

import numpy as np
import pytest
from numpy.random import default_rng

import minigrad as mg
from minigrad import errors, kernels, nn, nodes, optim, plot, watch
from minigrad.captured import Captured
from minigrad.data import CursorBatches, DataLoader, Pipeline, TensorDataset
from minigrad.nn import seq2seq


@pytest.fixture
def refused(tmp_path):
    """``refused(call, error, message)``: the call raises that, and nothing is another than before.

    call: takes a world.  message: how the error's begins, " <...> " where anything may stand.
    """

    def check(call, error, message):
        world = World(tmp_path)
        before = surroundings()
        with np.errstate(all="ignore"), pytest.raises(errors.MinigradError) as caught:
            call(world)
        assert type(caught.value) is error
        pattern = ".*".join(re.escape(part.strip()) for part in message.split("<...>"))
        assert re.match(pattern, str(caught.value), re.DOTALL), str(caught.value)
        assert world.changes() == []
        assert surroundings() == before

    return check


def surroundings():
    """What no call may change behind the back of everybody."""
    _, keys, *rest = np.random.get_state()
    return (
        kernels.mode(), mg.get_num_threads(), mg.is_grad_enabled(), nodes.mode.tape,
        len(mg.anomaly.entered), keys.tobytes(), tuple(rest),
        sum(thread.name == "minigrad prefetch" for thread in threading.enumerate()),
    )  # fmt: skip


class World:
    """Things by name, made when they are asked for (see MAKE) and pictured right then."""

    def __init__(self, folder):
        self.folder = folder
        self.counter = itertools.count(1)
        self.seen = {}  # name -> (thing, what it looked like)

    def __getattr__(self, name):
        thing = self.new(name)
        setattr(self, name, thing)
        self.seen[name] = thing, picture(thing)
        return thing

    def new(self, name):
        """One that nobody looks at."""
        return MAKE[name](self)

    def keep(self, thing):
        """The thing, which must stay as it is now."""
        self.seen[f"thing {len(self.seen)}"] = thing, picture(thing)
        return thing

    def changes(self):
        """Names of the things that have changed."""
        return [name for name, (thing, before) in self.seen.items() if picture(thing) != before]

    # -- things made for one call ---------------------------------------------------------

    @staticmethod
    def numbers(*shape, dtype=np.float32, seed=0):
        return numbers(*shape, dtype=dtype, seed=seed)

    @staticmethod
    def as_frozen(array):
        return as_frozen(array)

    def hooked(self, hook):
        """A sum through a tensor with a hook."""
        y = self.x * 1.0
        y.register_hook(hook)
        return y.sum()

    @staticmethod
    def wrong_shape(x):
        """An op whose gradient has another shape."""
        return x * 1.0, lambda g: np.ones((5, 7), "f")

    @staticmethod
    def wrong_dtype(x):
        """An op whose gradient has another dtype."""
        return x * 1.0, lambda g: g.astype(np.float64)

    @staticmethod
    def wrong_value(x):
        """An op with a wrong gradient."""
        return x * 2.0, lambda g: g * 3.0

    @staticmethod
    def module_of(array):
        """A module that owns the array itself."""
        module = nn.Module()
        module.weight = nn.Parameter(array)
        module.bias = nn.Parameter(np.zeros(3, "f"))
        return module

    def graded_sgd(self, index, gradient):
        """An optimiser with a gradient that does not fit."""
        params = self.new("graded")
        params[index].grad = gradient
        return optim.SGD(params, lr=0.1)

    @staticmethod
    def with_setting(optimizer, name, value):
        optimizer.param_groups[0][name] = value
        return optimizer

    @staticmethod
    def with_frozen_gradient(params):
        params[1].grad = mg.Tensor(as_frozen(np.ones(3, "f")))
        return params

    @staticmethod
    def with_other_shapes(state):
        def shorter(value):
            return value[:-1] if isinstance(value, np.ndarray) and value.ndim else value

        return replaced(state, shorter)

    @staticmethod
    def with_bad_lr(state):
        def bad(value):
            rates = isinstance(value, dict) and "lr" in value
            return {**value, "lr": float("nan")} if rates else value

        return replaced(state, bad)

    def file(self, content, suffix=".txt"):
        path = self.folder / f"file{suffix}"
        path.write_bytes(content)
        return path

    def mnist_folder(self, cut=None, count=2, magic=2051, label=1):
        """A folder with the four files of MNIST, of two images each, and something wrong."""
        images = struct.pack(">4I", magic, count, 28, 28) + bytes(2 * 784)
        labels = struct.pack(">2I", 2049, 2) + bytes([label, 1])
        for part in ("train", "t10k"):
            (self.folder / f"{part}-images-idx3-ubyte").write_bytes(images[:cut])
            (self.folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
        return self.folder

    @staticmethod
    def twice(function, *args):
        function(*args)
        function(*args)


def numbers(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def as_frozen(array):
    array.flags.writeable = False
    return array


def replaced(value, function):
    """``function`` of a value and of all that is in it."""
    value = function(value)
    if isinstance(value, dict):
        return {key: replaced(part, function) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(replaced(part, function) for part in value)
    return value


# How each thing of a world is made; w: the world, for the things it is made of.
MAKE = {
    # tensors
    "x": lambda w: mg.tensor(numbers(2, 3), requires_grad=True),
    "same": lambda w: mg.tensor(numbers(2, 3, seed=1), requires_grad=True),
    "wide": lambda w: mg.tensor(numbers(2, 4), requires_grad=True),
    "cube": lambda w: mg.tensor(numbers(2, 4, 3), requires_grad=True),
    "vector": lambda w: mg.tensor(numbers(3), requires_grad=True),
    "number": lambda w: mg.tensor(1.5, requires_grad=True),
    "empty": lambda w: mg.tensor(np.zeros((0, 3), "f"), requires_grad=True),
    "nothing": lambda w: mg.tensor(np.zeros((2, 0), "f"), requires_grad=True),
    "plain": lambda w: mg.tensor(numbers(2, 3)),
    "double": lambda w: mg.tensor(numbers(2, 3, dtype=np.float64), requires_grad=True),
    "cube64": lambda w: mg.tensor(numbers(2, 4, 3, dtype=np.float64), requires_grad=True),
    "ints": lambda w: mg.tensor(np.array([[0, 1, 2], [3, 4, 5]])),
    "truths": lambda w: mg.tensor(np.array([True, False])),
    "ids": lambda w: np.array([[0, 1, 2, 3], [4, 5, 6, 0]]),
    "labels": lambda w: np.array([1, 6]),
    "logits": lambda w: mg.tensor(numbers(2, 7), requires_grad=True),
    "logits3": lambda w: mg.tensor(numbers(2, 4, 7), requires_grad=True),
    "lengths": lambda w: np.array([4, 2]),
    "inner": lambda w: w.x * 2.0,
    "loss": lambda w: (w.x * w.same).sum(),
    "detached": lambda w: mg.tensor(numbers(2, 3)).sum(),
    "image": lambda w: mg.tensor(numbers(2, 6, 6, 2), requires_grad=True),
    "kernel": lambda w: mg.tensor(numbers(3, 3, 2, 4), requires_grad=True),
    "kernel64": lambda w: mg.tensor(numbers(3, 3, 2, 4, dtype=np.float64)),
    "ones3": lambda w: mg.tensor(np.ones(3, "f"), requires_grad=True),
    "ones4": lambda w: mg.tensor(np.ones(4, "f"), requires_grad=True),
    "running": lambda w: np.zeros(3, "f"),
    "frozen": lambda w: as_frozen(numbers(2, 3)),
    "walked": lambda w: walked_loss(),
    "changed": lambda w: changed_loss(),
    "tower": lambda w: tower(w.x, 200),
    "rng": lambda w: np.random.default_rng(0),
    # layers
    "linear": lambda w: nn.Linear(3, 5, generator=default_rng(1)),
    "embedding": lambda w: nn.Embedding(7, 3, generator=default_rng(1)),
    "dropout": lambda w: nn.Dropout(0.5, generator=default_rng(1)),
    "conv": lambda w: nn.Conv2d(2, 4, 3, generator=default_rng(1)),
    "layer_norm": lambda w: nn.LayerNorm(3),
    "batch_norm": lambda w: nn.BatchNorm(3),
    "pool": lambda w: nn.MaxPool2d(2),
    "average": lambda w: nn.AvgPool2d(2),
    "model": lambda w: (
        nn.Sequential(nn.Linear(3, 4, generator=default_rng(1)), nn.ReLU(), nn.BatchNorm(4))
    ),
    "lstm": lambda w: nn.LSTM(3, 5, generator=default_rng(1)),
    "lstm_cell": lambda w: nn.LSTMCell(3, 5, generator=default_rng(1)),
    "gru": lambda w: nn.GRU(3, 5, generator=default_rng(1)),
    "gru_cell": lambda w: nn.GRUCell(3, 5, generator=default_rng(1)),
    "rnn": lambda w: nn.RNN(3, 5, generator=default_rng(1)),
    "rnn_cell": lambda w: nn.RNNCell(3, 5, generator=default_rng(1)),
    "normed": lambda w: nn.LayerNormLSTM(3, 5, generator=default_rng(1)),
    "normed_cell": lambda w: nn.LayerNormLSTMCell(3, 5, generator=default_rng(1)),
    "second": lambda w: nn.LSTM(5, 5, generator=default_rng(2)),
    "backwards": lambda w: nn.LSTM(3, 5, generator=default_rng(3)),
    "narrow": lambda w: nn.LSTM(3, 4, generator=default_rng(3)),
    "timely": lambda w: nn.LSTM(3, 5, time_major=True, generator=default_rng(3)),
    "both": lambda w: nn.Bidirectional(w.lstm, w.backwards),
    "pair": lambda w: nn.Bidirectional(w.lstm, w.backwards, merge=None),
    "stack": lambda w: nn.Stacked([w.lstm, w.second]),
    "cells": lambda w: nn.Stacked([w.lstm_cell, nn.LSTMCell(5, 5, generator=default_rng(4))]),
    "dropped": lambda w: nn.DropoutWrapper(w.lstm, input=0.5, generator=w.rng),
    "masked_cell": lambda w: (
        nn.DropoutWrapper(w.lstm_cell, state=0.5, variational=True, generator=w.rng)
    ),
    "state": lambda w: (mg.zeros(2, 5), mg.zeros(2, 5)),
    "state3": lambda w: (mg.zeros(3, 5), mg.zeros(3, 5)),
    "windows": lambda w: nn.TBPTT(numbers(2, 8, 3), steps=4),
    # sequence to sequence
    "encoder": lambda w: seq2seq.Encoder(w.embedding, w.lstm),
    "speaker": lambda w: nn.Embedding(7, 3, generator=default_rng(5)),
    "head": lambda w: nn.Linear(5, 7, generator=default_rng(5)),
    "luong": lambda w: seq2seq.Luong(5, 5, generator=default_rng(6)),
    "bahdanau": lambda w: seq2seq.Bahdanau(6, 5, 5, generator=default_rng(6)),
    "decoder": lambda w: seq2seq.Decoder(w.speaker, w.backwards, w.head),
    "looking": lambda w: (
        seq2seq.Decoder(w.speaker, nn.LSTM(8, 5, generator=default_rng(7)), w.head, w.luong)
    ),
    "memory": lambda w: mg.tensor(numbers(2, 4, 5)),
    "teacher": lambda w: seq2seq.TeacherForcing(w.ids),
    "greedy": lambda w: seq2seq.Greedy(1, 2),
    # optimisers
    "params": lambda w: (
        [mg.tensor(numbers(2, 3), requires_grad=True), mg.tensor(numbers(3), requires_grad=True)]
    ),
    "graded": lambda w: with_gradients(w.new("params")),
    "nan": lambda w: with_gradients([mg.tensor(numbers(3), requires_grad=True)], np.nan),
    "sgd": lambda w: optim.SGD(w.params, lr=0.1),
    "adam": lambda w: stepped(optim.Adam(w.new("graded"), lr=0.1)),
    "momentum": lambda w: stepped(optim.Momentum(w.new("graded"), lr=0.1)),
    "decay": lambda w: optim.ExponentialDecay(w.adam, 0.5, 10),
    "cosine": lambda w: optim.Cosine(w.adam, 10),
    # data
    "dataset": lambda w: TensorDataset(np.arange(12.0).reshape(6, 2), np.arange(6)),
    "loader": lambda w: DataLoader(w.dataset, 2, shuffle=True, generator=w.rng),
    "cursor": lambda w: CursorBatches(np.arange(50), 2, 5),
    "pipeline": lambda w: Pipeline([[1, 2], [3]]),
    # tools
    "captured": lambda w: mg.capture(lambda x: mg.exp(x).sum()),
    "timeline": lambda w: watch.ClipTimeline(),
    "figure": lambda w: plot.loss_curve([1, 2], [1.0, 0.5]),
}


def tower(x, height):
    """A sum of so many ops on top of each other."""
    for _ in range(height):
        x = x * 1.0
    return x.sum()


def walked_loss():
    x = mg.tensor(numbers(2, 3), requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    return loss


def changed_loss():
    x = mg.tensor(numbers(2, 3), requires_grad=True)
    y = x * 1.0
    loss = (y * y).sum()
    with mg.no_grad():
        y += 1.0
    return loss


def with_gradients(params, value=0.5):
    for p in params:
        p.grad = mg.Tensor(np.full(p.shape, value, p.dtype))
    return params


def stepped(optimizer):
    optimizer.step()
    return optimizer


# -- pictures: what can be compared with ==, bit for bit ------------------------------------------


def picture(thing, seen=None):
    seen = {} if seen is None else seen
    if thing is None or isinstance(thing, (bool, int, float, complex, str, bytes, np.generic)):
        return repr(thing)
    if id(thing) in seen:
        return "again", seen[id(thing)]
    seen[id(thing)] = len(seen)
    if isinstance(thing, np.ndarray):
        return thing.dtype.str, thing.shape, thing.strides, thing.flags.writeable, thing.tobytes()
    if isinstance(thing, np.random.Generator):
        return repr(thing.bit_generator.state)
    if isinstance(thing, (list, tuple)):
        return type(thing).__name__, [picture(part, seen) for part in thing]
    if isinstance(thing, dict):
        return [(picture(key, seen), picture(part, seen)) for key, part in thing.items()]
    if isinstance(thing, Captured):
        return thing.programs
    if isinstance(thing, (nodes.Node, type)):  # a walk that fails may have freed what it passed
        return id(thing)
    names = list(getattr(thing, "__dict__", ()))
    for kind in type(thing).__mro__:
        names += [name for name in getattr(kind, "__slots__", ()) if not name.startswith("__")]
    if not type(thing).__module__.startswith("minigrad"):
        return id(thing)
    return type(thing).__name__, [
        (name, picture(getattr(thing, name, "unset"), seen)) for name in names if name != "name"
    ]
