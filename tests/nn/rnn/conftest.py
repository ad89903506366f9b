"""What the tests of stacks, wrappers and loops over time share."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


def _leaves(state):
    if isinstance(state, (tuple, list)):
        return [leaf for part in state for leaf in _leaves(part)]
    return [state]


def _map(function, state):
    if isinstance(state, tuple):
        return tuple(_map(function, part) for part in state)
    return function(state)


class Numbers:
    """Everything a model computes and every gradient, as a list of arrays."""

    leaves = staticmethod(_leaves)
    map = staticmethod(_map)

    @staticmethod
    def state(model, batch, seed=5):
        """A random state of the model's build, float64."""
        rng = np.random.default_rng(seed)
        return _map(lambda t: rng.standard_normal(t.shape), model.zero_state(batch))

    @staticmethod
    def of(call, modules, x, state=None, seed=9):
        """call(x, state) -> outputs, state; modules: whose parameters it uses."""
        rng = np.random.default_rng(seed)
        parameters = [p for module in modules for p in module.parameters()]
        for parameter in parameters:
            parameter.grad = None
        x = mg.tensor(x, requires_grad=True)
        if state is not None:
            state = _map(lambda a: mg.tensor(a, requires_grad=True), state)
        outputs, last = call(x, state)
        values = _leaves((outputs, last))
        sum((v * rng.standard_normal(v.shape)).sum() for v in values).backward()
        inputs = [x, *([] if state is None else _leaves(state)), *parameters]
        zeros = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in inputs]
        return [v.numpy() for v in values] + zeros

    @staticmethod
    def by_hand(cells, x, state, lengths, order=lambda steps: steps):
        """Each sequence by itself, no step of it past its end, through a list of cells.

        x (N, T, D); state: the state of each cell, a tuple.  order: of its steps in time.
        Returns outputs (N, T, H), zero past the end, and the states.
        """
        rows, lasts = [], []
        for n, length in enumerate(lengths):
            inner = [_map(lambda t, n=n: t[n : n + 1], part) for part in state]
            outputs = {}
            for t in order(range(length)):
                h = x[n : n + 1, t]
                for i, cell in enumerate(cells):
                    h, inner[i] = cell(h, inner[i])
                outputs[t] = h[0]
            width = cells[-1].output_size
            rest = [mg.zeros(width, dtype=np.float64)] * (x.shape[1] - length)
            rows.append(mg.stack([outputs[t] for t in range(length)] + rest))
            lasts.append(tuple(inner))
        joined = [mg.concat(parts) for parts in zip(*map(_leaves, lasts), strict=True)]
        leaves = iter(joined)
        return mg.stack(rows), _map(lambda _: next(leaves), tuple(state))

    @staticmethod
    def close(ours, theirs, rtol=1e-10, atol=1e-12):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.fixture
def numbers():
    """See :class:`Numbers`."""
    return Numbers


@pytest.fixture
def twin():
    """twin(layer, Cell): a cell of that kind with the layer's weights."""

    def twin(layer, kind, **arguments):
        cell = kind(
            layer.input_size, layer.hidden_size, generator=np.random.default_rng(0), **arguments
        )
        if layer.w_x.dtype == np.float64:
            cell.double()
        cell.load_state_dict(layer.state_dict())
        return cell

    return twin


@pytest.fixture
def make():
    """make("lstm", 3, 4): a float64 layer (or "lstm cell") with random biases."""

    def make(kind, size, hidden, seed=0, **arguments):
        rng = np.random.default_rng(seed)
        kinds = {
            "lstm": nn.LSTM, "lstm cell": nn.LSTMCell, "gru": nn.GRU, "gru cell": nn.GRUCell,
            "rnn": nn.RNN, "rnn cell": nn.RNNCell,
        }  # fmt: skip
        module = kinds[kind](size, hidden, generator=rng, **arguments).double()
        module.bias.data = rng.standard_normal(module.bias.shape)  # zeros would hide an order
        return module

    return make
