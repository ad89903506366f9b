"""The LSTM: fused layer against cell, goldens, gates, shapes, errors."""

import pathlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import DTypeError, GraphError, IndexRangeError, ShapeError

GOLDENS = pathlib.Path(__file__).parents[2] / "goldens"


def _pair(d, h, forget_bias=1.0, time_major=True, double=True):
    rng = np.random.default_rng(0)
    layer = nn.LSTM(d, h, forget_bias, time_major, generator=rng)
    layer.bias.data = rng.standard_normal(4 * h)  # zero biases would hide a wrong order
    cell = nn.LSTMCell(d, h, forget_bias, generator=rng)
    cell.load_state_dict(layer.state_dict())
    return (layer.double(), cell.double()) if double else (layer, cell)


def _loop(cell, x, state):
    outputs = []
    for x_t in x:
        output, state = cell(x_t, state)
        outputs.append(output)
    return mg.stack(outputs), state


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
@pytest.mark.parametrize(
    ("t", "n", "d", "h"),
    [(1, 1, 1, 1), (4, 3, 5, 7), (3, 17, 2, 16), (10, 2, 3, 33), (3, 2, 9, 4), (2, 3, 260, 260)],
)
def test_fused_layer_equals_the_cell(t, n, d, h, forget_bias, kernel):
    """Outputs, last state, and the gradient of everything, float64."""
    layer, cell = _pair(d, h, forget_bias)
    rng = np.random.default_rng(1)
    x, h0, c0 = (rng.standard_normal(s) for s in [(t, n, d), (n, h), (n, h)])
    weights = [rng.standard_normal(s) for s in [(t, n, h), (n, h), (n, h)]]
    results = []
    for model in (layer, lambda x, s: _loop(cell, x, s)):
        leaves = [mg.tensor(a, requires_grad=True) for a in (x, h0, c0)]
        with mg.kernels.use(kernel):
            out, (h_t, c_t) = model(leaves[0], (leaves[1], leaves[2]))
            sum(
                (value * w).sum() for value, w in zip((out, h_t, c_t), weights, strict=True)
            ).backward()
        results.append([out, h_t, c_t, *(leaf.grad for leaf in leaves)])
    grads = [[p.grad for p in model.parameters()] for model in (layer, cell)]
    for fused, composed in zip(results[0] + grads[0], results[1] + grads[1], strict=True):
        np.testing.assert_allclose(fused.numpy(), composed.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("d", "h", "together"), [(8, 4, True), (9, 4, False), (250, 250, True), (260, 260, False)]
)
def test_weights_that_would_leave_the_cache_are_multiplied_first(d, h, together):
    layer = nn.LSTM(d, h, generator=np.random.default_rng(0))
    with mg.kernels.record_calls() as names:
        layer(np.zeros((1, 2, d), np.float32))
    assert ("lstm_layer_forward" in names, "lstm_forward" in names) == (together, not together)


def test_ids_mean_one_hot_vectors():
    layer, cell = _pair(6, 4)
    ids = np.random.default_rng(0).integers(0, 6, (5, 3))
    results = []
    for x in (ids, mg.Tensor(ids), mg.one_hot(ids, 6, np.float64)):
        layer.zero_grad()
        out, _ = layer(x)
        (out * out).sum().backward()
        results.append([out, *(p.grad for p in layer.parameters())])
    out, _ = _loop(cell, ids, None)
    (out * out).sum().backward()
    results.append([out, *(p.grad for p in cell.parameters())])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-13)


def test_batch_major_is_the_same_transposed():
    time_major, _ = _pair(3, 5)
    batch_major, _ = _pair(3, 5, time_major=False)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    a, state_a = time_major(mg.Tensor(x))
    b, state_b = batch_major(mg.Tensor(x.swapaxes(0, 1)))
    np.testing.assert_array_equal(a.numpy(), b.numpy().swapaxes(0, 1))
    np.testing.assert_array_equal(state_a[1].numpy(), state_b[1].numpy())
    assert b.shape == (2, 4, 5)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
def test_bits_do_not_depend_on_how_the_inputs_lie_in_memory(kernel, monkeypatch):
    """Time first, batch first (read where it is: one copy less), and what must be copied."""
    rng = np.random.default_rng(3)
    layer = nn.LSTM(3, 6, time_major=True, generator=rng)
    x = rng.standard_normal((5, 4, 3), dtype=np.float32)
    wide = np.zeros((5, 4, 7), np.float32)
    wide[:, :, ::3] = x
    layouts = {
        "time first": x, "batch first": x.swapaxes(0, 1).copy().swapaxes(0, 1),
        "spread out": wide[:, :, ::3], "backwards": x[::-1].copy()[::-1],
    }  # fmt: skip
    seen, found = [], []
    forward = mg.kernels.lstm_layer_forward
    monkeypatch.setattr(
        mg.kernels, "run_rows",
        lambda pair, rows, grain, *args: (
            seen.append(args[1]) if pair is forward else None, pair(*args, 0, rows)
        ),
    )  # fmt: skip
    for value in layouts.values():
        leaf = mg.Tensor(value, requires_grad=True)
        assert leaf.data.strides == value.strides
        layer.zero_grad()
        with mg.kernels.use(kernel):
            out, (h, c) = layer(leaf, None, lengths=np.array([5, 5, 3, 0]))
            (out.sum() + (h * c).sum()).backward()
        found.append([out, h, c, leaf.grad, *(p.grad for p in layer.parameters())])
    assert seen == [False, True, False, False]
    for others in found[1:]:
        for expected, result in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(expected.numpy(), result.numpy())


@pytest.mark.parametrize(("name", "forget_bias"), [("basic_lstm", 1.0), ("basic_lstm_fb0", 0.0)])
def test_against_tensorflow(name, forget_bias):
    """BasicLSTMCell: one step, and dynamic_rnn over all six steps (goldens/cells.npz)."""
    golden = np.load(GOLDENS / "lstm_cells.npz")
    kernel, bias = golden[f"{name}/w/kernel"], golden[f"{name}/w/bias"]
    x = golden["in/x"]  # (3, 6, 4)
    layer, cell = _pair(4, 5, forget_bias, time_major=False)
    for model in (layer, cell):
        model.load_state_dict({"w_x": kernel[:4], "w_h": kernel[4:], "bias": bias})
    c0, h0 = (mg.Tensor(golden[f"{name}/state0/{i}"]) for i in (0, 1))
    _, (h, c) = cell(mg.Tensor(x[:, 0]), (h0, c0))
    np.testing.assert_allclose(h.numpy(), golden[f"{name}/step/output"], rtol=1e-9)
    np.testing.assert_allclose(c.numpy(), golden[f"{name}/step/state/0"], rtol=1e-9)
    out, (h, c) = layer(mg.Tensor(x), (h0, c0))
    np.testing.assert_allclose(out.numpy(), golden[f"{name}/dynamic_full/outputs"], rtol=1e-9)
    np.testing.assert_allclose(c.numpy(), golden[f"{name}/dynamic_full/final_state/0"], rtol=1e-9)
    np.testing.assert_allclose(h.numpy(), golden[f"{name}/dynamic_full/final_state/1"], rtol=1e-9)


def test_float32_in_float32_out():
    layer, _ = _pair(3, 5, double=False)
    x = mg.Tensor(np.ones((4, 2, 3), np.float32), requires_grad=True)
    out, (h, c) = layer(x)
    out.sum().backward()
    tensors = [out, h, c, x.grad, *(p.grad for p in layer.parameters())]
    assert {t.dtype for t in tensors} == {np.dtype(np.float32)}


def test_gate_views_write_through():
    layer, _ = _pair(3, 5)
    layer.gate("f").bias[:] = 7
    np.testing.assert_array_equal(layer.bias.numpy()[10:15], 7)
    assert layer.gate("o").w_x.shape == (3, 5) and layer.gate("i").w_h.shape == (5, 5)
    with pytest.raises(ValueError):
        layer.gate("g")


def test_carried_state_without_detach_is_explained():
    layer, _ = _pair(3, 5)
    x = mg.Tensor(np.ones((2, 1, 3)))
    out, state = layer(x)
    out.sum().backward()
    out, _ = layer(x, state)
    with pytest.raises(GraphError, match="detach"):
        out.sum().backward()


def test_flow_is_told_the_total_gradient_norms():
    layer, cell = _pair(3, 5)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    told = []
    layer.flow = told.append
    out, _ = layer(mg.Tensor(x))
    (out * out).sum().backward()
    assert told[0].shape == (2, 4)
    expected = np.zeros((2, 4))

    def keep(row, t):
        def hook(g):
            expected[row, t] = np.linalg.norm(g.numpy())

        return hook

    h, c = cell.zero_state(2)
    total = 0
    for t in range(4):
        _, (h, c) = cell(mg.Tensor(x[t]), (h, c))
        h.register_hook(keep(0, t))
        c.register_hook(keep(1, t))
        total = total + (h * h).sum()
    total.backward()
    np.testing.assert_allclose(told[0], expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("x", "state", "error", "words"),
    [
        (np.ones((4, 2, 7)), None, ShapeError, "D=3"),
        (np.ones((2, 3)), None, ShapeError, "LSTM: x must be"),
        (np.ones((4, 2), int) * 3, None, IndexRangeError, "id 3 at"),
        (np.ones((4, 2), int) * -1, None, IndexRangeError, "id -1"),
        (np.ones((4, 2, 3)), "wrong batch", ShapeError, "batch 2"),
        (np.ones((4, 2, 3), np.float32), None, DTypeError, "float32"),
    ],
)
def test_bad_input(x, state, error, words):
    layer, _ = _pair(3, 5)
    if state:
        state = layer.zero_state(9)
    before = layer.state_dict()
    with pytest.raises(error, match=words):
        layer(x if x.dtype.kind == "i" else mg.Tensor(x), state)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_second_derivative_names_the_way_out():
    layer, cell = _pair(3, 5)
    x = mg.Tensor(np.ones((2, 1, 3)), requires_grad=True)
    out, _ = layer(x)
    with pytest.raises(GraphError, match="LSTMCell"):
        mg.grad(out.sum(), x, create_graph=True)
    out, _ = _loop(cell, x, None)
    (g,) = mg.grad(out.sum(), x, create_graph=True)
    assert np.abs(mg.grad((g * g).sum(), cell.w_h)[0].numpy()).max() > 0
