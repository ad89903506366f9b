"""watch.memory and watch.trace: what a pending graph keeps, by op, layer and time step."""

import gc
import tracemalloc

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, watch
from minigrad.errors import GraphError

N, D, H = 6, 4, 8
LAYERS = {
    "RNN": lambda g, **k: nn.RNN(D, H, generator=g, **k),
    "GRU": lambda g, **k: nn.GRU(D, H, generator=g, **k),
    "GRU reset after": lambda g, **k: nn.GRU(D, H, reset_after=True, generator=g, **k),
    "LSTM": lambda g, **k: nn.LSTM(D, H, generator=g, **k),
    "LSTM peepholes": lambda g, **k: nn.LSTM(D, H, peepholes=True, generator=g, **k),
    "LSTM projection": lambda g, **k: nn.LSTM(D, H, projection=3, generator=g, **k),
    "LayerNormLSTM": lambda g, **k: nn.LayerNormLSTM(D, H, generator=g, **k),
}
FORMS = {
    "floats": {}, "time major": {"time_major": True}, "ids": {"ids": True},
    "lengths": {"lengths": True}, "ids and lengths": {"ids": True, "lengths": True},
}  # fmt: skip


class Model(nn.Module):
    def __init__(self, rnn):
        self.rnn = rnn


def run(rnn, steps, batch=N, ids=False, lengths=False):
    """A loss, and the model."""
    generator = np.random.default_rng(1)
    shape = (steps, batch) if rnn.time_major else (batch, steps)
    x = generator.integers(D, size=shape) if ids else generator.normal(size=(*shape, D))
    x = x if ids else x.astype(rnn.w_h.dtype)
    ends = np.maximum(generator.integers(0, steps + 1, batch), 1) if lengths else None
    outputs, _ = rnn(x, lengths=ends)
    return (outputs * outputs).sum(), Model(rnn)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_fused_layer_keeps_what_it_predicts_and_that_is_linear(kind, form, dtype):
    options = dict(FORMS[form])
    major = {"time_major": options.pop("time_major", False)}
    rnn = LAYERS[kind](np.random.default_rng(0), **major)
    if dtype == np.float64:
        rnn.double()
    kept, predicted = [], []
    for steps in (10, 20, 40):
        memory = watch.memory(*run(rnn, steps, **options))
        kept.append(memory.kept_by("rnn"))
        predicted.append(memory.predicted["rnn"])
        assert predicted[-1] == rnn.bytes_kept(N, steps, **options)
        assert kept[-1] <= predicted[-1]
        (by_step,) = memory.by_step.values()
        assert by_step.shape == (steps,)
    assert kept[-1] > 0.8 * predicted[-1]
    assert (kept[2] - kept[1]) == 2 * (kept[1] - kept[0]) > 0
    assert (predicted[2] - predicted[1]) == 2 * (predicted[1] - predicted[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_what_is_counted_is_what_is_allocated(kind):
    """Against the allocator: what a graph keeps is what its end gives back."""
    rnn = LAYERS[kind](np.random.default_rng(0), time_major=True)
    x = np.random.default_rng(1).normal(size=(200, N, D)).astype(np.float32)
    rnn(x)[0].sum().backward()  # compile first
    gc.collect()
    tracemalloc.start()
    outputs, _ = rnn(x)
    loss = (outputs * outputs).sum()
    del outputs
    counted = watch.memory(loss).total - x.nbytes  # x was there before
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    del loss
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert before - after == pytest.approx(counted, rel=0.05)


def test_a_long_sequence_keeps_its_predicted_bytes_and_trains():
    rnn = nn.LSTM(2, 4, time_major=True, generator=np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(10_000, 1, 2)).astype(np.float32)
    outputs, _ = rnn(x)
    loss = (outputs * outputs).mean()
    memory = watch.memory(loss, Model(rnn))
    assert memory.kept_by("rnn") <= rnn.bytes_kept(1, 10_000) < 2_000_000
    loss.backward()
    assert np.isfinite(rnn.w_h.grad.numpy()).all() and rnn.w_h.grad.numpy().any()


def test_blocks_count_once_views_as_a_whole_and_parameters_not_at_all():
    w = nn.Parameter(np.ones((50, 3)))
    y = w * 2.0
    part = y[:5]  # a view
    memory = watch.memory((part * part).sum() + (y * y).sum())
    products = (50 + 5 + 50) * 3 * 8  # y, and what the sums were made of
    assert memory.by_op == {"multiply": products, "sum": 16, "getitem": 0, "add": 0}
    assert watch.memory((w * w.numpy()).sum()).total == 50 * 3 * 8  # the product
    alone = watch.memory((w * 2.0)[:1].sum())
    assert alone.total == 50 * 3 * 8  # a view keeps all of what it looks at


def test_of_what_came_from_outside_the_part_in_use_counts():
    dataset = np.ones((1000, 3))
    w = nn.Parameter(np.ones((3, 2)))
    memory = watch.memory((mg.Tensor(dataset[10:20]) @ w).sum())
    assert memory.by_op["matmul"] == 10 * 3 * 8 + 10 * 2 * 8  # its input and its result


def cell_model():
    class Cells(nn.Module):
        def __init__(self):
            generator = np.random.default_rng(0)
            self.cell = nn.LSTMCell(D, H, peepholes=True, generator=generator)
            self.head = nn.Linear(H, 2, generator=generator)

    return Cells()


def cell_loss(model, steps, per_step=False):
    x = np.random.default_rng(1).normal(size=(N, steps, D)).astype(np.float32)
    outputs, _ = nn.unroll(model.cell, x)
    if not per_step:
        return model.head(outputs).sum()
    loss = model.head(outputs[:, 0]).sum()
    for t in range(1, steps):
        loss = loss + model.head(outputs[:, t]).sum()
    return loss


def test_time_steps_of_a_cell_are_found_by_counting_its_parameters():
    """Peepholes are used three times a step, and all other parameters once."""
    model = cell_model()
    calls = watch.trace(cell_loss(model, 4), model).calls
    for op, leaf in (("matmul", "w_x"), ("matmul", "w_h"), ("add", "bias")):
        times = [call.t for call in calls if call.op == op and leaf in call.leaves]
        assert times == [0, 1, 2, 3]
    peepholes = [call.t for call in calls if call.op == "getitem" and "w_c" in call.leaves]
    assert peepholes == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [c.t for c in calls if c.op == "tanh"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(c.layer == "cell" for c in calls if c.t is not None)
    after = [(c.op, c.t) for c in calls if c.op in ("stack", "linear", "sum")]
    assert after == [("stack", None), ("linear", None), ("sum", None)]


def test_a_head_called_at_each_step_has_time_steps_too():
    model = cell_model()
    calls = watch.trace(cell_loss(model, 3, per_step=True), model).calls
    assert [c.t for c in calls if c.op == "linear"] == [0, 1, 2]
    assert [c.t for c in calls if c.op == "getitem" and "w_c" not in c.leaves] == [0, 1, 2]


def test_memory_of_a_cell_by_time_step():
    model = cell_model()
    memory = watch.memory(cell_loss(model, 5), model)
    by_step = memory.by_step["cell"]
    assert by_step.shape == (5,) and np.ptp(by_step[1:]) == 0 and (by_step > 0).all()
    assert memory.total == sum(memory.by_op.values()) == sum(memory.by_layer.values())
    assert memory.total == pytest.approx(by_step.sum() + memory.outside_time)
    assert memory.predicted == {}
    double = watch.memory(cell_loss(model, 10), model)
    np.testing.assert_allclose(double.by_step["cell"][1:], by_step[1])


def test_fused_layers_keep_less_than_cells():
    generator = np.random.default_rng(0)
    layer, cell = nn.LSTM(D, H, generator=generator), nn.LSTMCell(D, H, generator=generator)
    x = generator.normal(size=(N, 20, D)).astype(np.float32)
    fused = watch.memory(layer(x)[0].sum()).total
    assert fused < 0.6 * watch.memory(nn.unroll(cell, x)[0].sum()).total


def test_a_layer_used_twice_in_one_graph_is_predicted_twice():
    rnn = nn.GRU(D, H, generator=np.random.default_rng(0))
    x = np.ones((N, 10, D), np.float32)
    once = watch.memory(rnn(x)[0].sum(), Model(rnn))
    outputs, state = rnn(x)
    again, _ = rnn(x, state)
    twice = watch.memory((outputs + again).sum(), Model(rnn))
    assert twice.predicted["rnn"] == 2 * once.predicted["rnn"]
    assert once.kept_by("rnn") < twice.kept_by("rnn") <= twice.predicted["rnn"]
    assert twice.by_step["rnn"].shape == (10,)


def test_trace_gets_its_gradients_from_the_backward_pass_and_changes_nothing():
    gradients = []
    for traced in (False, True):
        model = cell_model()
        loss = cell_loss(model, 3)
        found = watch.trace(loss, model) if traced else None
        loss.backward()
        gradients.append([p.grad.numpy() for p in model.parameters()])
    for plain, seen in zip(*gradients, strict=True):
        np.testing.assert_array_equal(plain, seen)
    assert found.calls[-1].gradient == 1.0
    linear = next(c for c in found.calls if c.op == "linear")
    assert linear.gradient == pytest.approx(np.sqrt(N * 3 * 2))
    assert linear.shapes == ((N, 3, 2),) and linear.leaves == ("weight", "bias")


def test_the_gradient_of_a_call_is_that_of_all_its_results():
    x = mg.tensor(np.arange(6.0), requires_grad=True)
    a, b = x.split(2)
    found = watch.trace((3 * a).sum() + (4 * b).sum())
    assert found.calls[0].gradient is None
    (found_loss,) = [c for c in found.calls if c.op == "split"]
    a, b = x.split(2)
    loss = (3 * a).sum() + (4 * b).sum()
    found = watch.trace(loss)
    loss.backward()
    (split,) = [c for c in found.calls if c.op == "split"]
    assert split.gradient == pytest.approx(np.sqrt(3 * 9 + 3 * 16))
    assert found_loss.gradient is None  # its own graph was not walked


def test_no_graph_and_a_walked_graph_are_refused():
    with pytest.raises(GraphError, match="no graph behind this tensor"):
        watch.memory(mg.tensor([1.0]))
    loss = (mg.tensor([1.0], requires_grad=True) * 2).sum()
    loss.backward()
    with pytest.raises(GraphError, match="walked already"):
        watch.trace(loss)
