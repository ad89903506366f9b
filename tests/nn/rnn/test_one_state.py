"""RNN and GRU, whose state is one tensor: fused layer against cell, lengths, shapes, errors."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, GraphError, IndexRangeError, ShapeError

KINDS = {
    "tanh": (nn.RNN, nn.RNNCell, {}),
    "relu": (nn.RNN, nn.RNNCell, {"activation": "relu"}),
    "reset before": (nn.GRU, nn.GRUCell, {}),
    "reset after": (nn.GRU, nn.GRUCell, {"reset_after": True}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def _pair(kind, d, h, time_major=True, double=True):
    """A layer and a cell with the same weights."""
    layer_class, cell_class, options = KINDS[kind]
    rng = np.random.default_rng(0)
    layer = layer_class(d, h, time_major=time_major, generator=rng, **options)
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):  # equal biases would hide a wrong order
            parameter.data = rng.standard_normal(parameter.shape)
    cell = cell_class(d, h, generator=rng, **options)
    cell.load_state_dict(layer.state_dict())
    return (layer.double(), cell.double()) if double else (layer, cell)


def _loop(cell, x, h, lengths=None):
    """The cell once for each step; past the end of a sequence zeros, and the state as it was."""
    h = cell.zero_state(x.shape[1]) if h is None else h
    outputs = []
    for t, x_t in enumerate(x):
        output, new = cell(x_t, h)
        if lengths is not None:
            running = (t < lengths)[:, None]
            output, new = mg.where(running, output, 0.0), mg.where(running, new, h)
        h = new
        outputs.append(output)
    return mg.stack(outputs), h


@every_kind
@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize(
    ("t", "n", "d", "h", "lengths"),
    [
        (1, 1, 1, 1, None), (4, 3, 5, 7, None), (15, 5, 1, 4, None), (10, 1, 1, 32, None),
        (3, 17, 2, 16, None), (4, 3, 5, 7, [2, 0, 4]), (6, 4, 3, 33, [6, 1, 5, 3]),
        (1, 2, 1, 1, [0, 1]), (3, 2, 2, 5, [0, 0]),
    ],
)  # fmt: skip
def test_fused_layer_equals_the_cell(t, n, d, h, lengths, kind, kernel):
    """Outputs, last state, and the gradient of everything, float64."""
    layer, cell = _pair(kind, d, h)
    rng = np.random.default_rng(1)
    x, h0, w_out, w_h = (rng.standard_normal(s) for s in [(t, n, d), (n, h), (t, n, h), (n, h)])
    lengths = None if lengths is None else np.array(lengths)
    results = []
    for model in (layer, lambda *args: _loop(cell, *args)):
        leaves = [mg.tensor(a, requires_grad=True) for a in (x, h0)]
        with mg.kernels.use(kernel):
            out, last = model(*leaves, lengths)
            ((out * w_out).sum() + (last * w_h).sum()).backward()
        results.append([out, last, *(leaf.grad for leaf in leaves)])
    grads = [[p.grad for p in model.parameters()] for model in (layer, cell)]
    for fused, composed in zip(results[0] + grads[0], results[1] + grads[1], strict=True):
        np.testing.assert_allclose(fused.numpy(), composed.numpy(), rtol=1e-10, atol=1e-12)


@every_kind
def test_past_the_end_everything_is_exact(kind):
    """Outputs zero, state copied to the last bit, no gradient, whatever the padding holds."""
    layer, _ = _pair(kind, 3, 5, double=False)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 3)).astype(np.float32)
    h0 = rng.standard_normal((3, 5)).astype(np.float32)
    lengths = np.array([2, 0, 4])
    leaf, first = mg.tensor(x, requires_grad=True), mg.tensor(h0, requires_grad=True)
    out, last = layer(leaf, first, lengths)
    assert (out.numpy()[2:, 0] == 0).all() and (out.numpy()[:, 1] == 0).all()
    np.testing.assert_array_equal(last.numpy()[0], out.numpy()[1, 0])
    np.testing.assert_array_equal(last.numpy()[1], h0[1])
    ((out * 3).sum() + last.sum()).backward()
    assert (leaf.grad.numpy()[2:, 0] == 0).all() and (leaf.grad.numpy()[:, 1] == 0).all()
    np.testing.assert_array_equal(first.grad.numpy()[1], 1)
    x[2:, 0] = x[:, 1] = np.nan
    padded, padded_last = layer(mg.tensor(x), first, lengths)
    np.testing.assert_array_equal(padded.numpy(), out.numpy())
    np.testing.assert_array_equal(padded_last.numpy(), last.numpy())


@every_kind
def test_whole_sequences_may_have_lengths(kind):
    layer, _ = _pair(kind, 3, 5)
    x = mg.tensor(np.random.default_rng(0).standard_normal((4, 2, 3)))
    np.testing.assert_array_equal(layer(x)[0].numpy(), layer(x, lengths=[4, 4])[0].numpy())


@every_kind
@pytest.mark.parametrize(("t", "n"), [(0, 3), (4, 0)])
def test_nothing_to_do(kind, t, n):
    layer, _ = _pair(kind, 3, 5)
    h0 = mg.tensor(np.random.default_rng(0).standard_normal((n, 5)), requires_grad=True)
    out, last = layer(mg.tensor(np.zeros((t, n, 3))), h0)
    assert out.shape == (t, n, 5)
    np.testing.assert_array_equal(last.numpy(), h0.numpy())
    ((out * out).sum() + (last * 2.0).sum()).backward()
    np.testing.assert_array_equal(h0.grad.numpy(), np.full((n, 5), 2.0))
    assert all((p.grad.numpy() == 0).all() for p in layer.parameters())


@every_kind
def test_ids_mean_one_hot_vectors(kind):
    layer, cell = _pair(kind, 6, 4)
    ids = np.random.default_rng(0).integers(0, 6, (5, 3))
    results = []
    for x in (ids, mg.Tensor(ids), mg.one_hot(ids, 6, np.float64)):
        layer.zero_grad()
        out, _ = layer(x, lengths=[5, 2, 4])
        (out * out).sum().backward()
        results.append([out, *(p.grad for p in layer.parameters())])
    out, _ = _loop(cell, ids, None, np.array([5, 2, 4]))
    (out * out).sum().backward()
    results.append([out, *(p.grad for p in cell.parameters())])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-13)


@every_kind
def test_batch_major_is_the_same_transposed(kind):
    time_major, _ = _pair(kind, 3, 5)
    batch_major, _ = _pair(kind, 3, 5, time_major=False)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    a, state_a = time_major(mg.Tensor(x))
    b, state_b = batch_major(mg.Tensor(x.swapaxes(0, 1)))
    np.testing.assert_array_equal(a.numpy(), b.numpy().swapaxes(0, 1))
    np.testing.assert_array_equal(state_a.numpy(), state_b.numpy())
    assert b.shape == (2, 4, 5)


@every_kind
def test_float32_in_float32_out(kind):
    for model in _pair(kind, 3, 5, double=False):
        x = np.ones((4, 2, 3) if isinstance(model, KINDS[kind][0]) else (2, 3), np.float32)
        leaf = mg.Tensor(x, requires_grad=True)
        out, h = model(leaf)
        (out.sum() + h.sum()).backward()
        tensors = [out, h, leaf.grad, *(p.grad for p in model.parameters())]
        assert {t.dtype for t in tensors} == {np.dtype(np.float32)}


@every_kind
def test_one_kernel_call_each_way(kind):
    layer, _ = _pair(kind, 3, 5, double=False)
    x = mg.tensor(np.ones((1000, 2, 3), np.float32))
    with mg.kernels.record_calls() as names:
        out, _ = layer(x)
        out.sum().backward()
    op = KINDS[kind][0].__name__.lower()
    assert names.count(f"{op}_forward") == names.count(f"{op}_backward") == 1
    assert len(names) < 10


@every_kind
def test_a_nan_stays_a_nan(kind):
    for model in _pair(kind, 1, 1):
        leaf = mg.Tensor(np.full((1, 1, 1), np.nan)[: 1 if hasattr(model, "time_major") else None])
        out, h = model(leaf if hasattr(model, "time_major") else leaf[0])
        assert np.isnan(out.numpy()).all() and np.isnan(h.numpy()).all()


@every_kind
def test_carried_state_without_detach_is_explained(kind):
    layer, _ = _pair(kind, 3, 5)
    x = mg.Tensor(np.ones((2, 1, 3)))
    out, state = layer(x)
    out.sum().backward()
    out, _ = layer(x, state)
    with pytest.raises(GraphError, match="detach"):
        out.sum().backward()
    out, _ = layer(x, state.detach())
    out.sum().backward()


@every_kind
def test_flow_is_told_the_total_gradient_norms(kind):
    layer, cell = _pair(kind, 3, 5)
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    told = []
    layer.flow = told.append
    out, _ = layer(mg.Tensor(x))
    (out * out).sum().backward()
    states, total, h = [], 0, cell.zero_state(2)
    for x_t in x:
        _, h = cell(mg.Tensor(x_t), h)
        h.retain_grad()
        states.append(h)
        total = total + (h * h).sum()
    total.backward()
    expected = [[np.linalg.norm(h.grad.numpy()) for h in states]]
    assert len(told) == 1 and told[0].shape == (1, 4)
    np.testing.assert_allclose(told[0], expected, rtol=1e-10)


@every_kind
@pytest.mark.parametrize(
    ("x", "options", "error", "words"),
    [
        (np.ones((4, 2, 7)), {}, ShapeError, "D=3"),
        (np.ones((2, 3)), {}, ShapeError, "(RNN|GRU): x must be"),
        (np.ones((4, 2), int) * 3, {}, IndexRangeError, "^(RNN|GRU): id 3 at"),
        (np.ones((4, 2), int) * -1, {}, IndexRangeError, "id -1"),
        (np.ones((4, 2, 3)), {"state": np.ones((9, 5))}, ShapeError, "h is .N=9, H=5.* batch 2"),
        (np.ones((4, 2, 3)), {"state": 2}, ShapeError, "must be h, got 2 parts"),
        (np.ones((4, 2, 3), np.float32), {}, DTypeError, "float32"),
        (np.ones((4, 2, 3)), {"lengths": [1, 5]}, ArgumentError, r"lengths\[1\] is 5"),
        (np.ones((4, 2, 3)), {"lengths": [1, 2, 3]}, ShapeError, "lengths must be"),
        (np.ones((4, 2, 3)), {"lengths": [1.0, 2.0]}, DTypeError, "integers"),
    ],
)  # fmt: skip
def test_bad_input(kind, x, options, error, words):
    layer, _ = _pair(kind, 3, 5)
    if "state" in options:
        state = options["state"]
        state = (layer.zero_state(2),) * 2 if isinstance(state, int) else mg.Tensor(state)
        options = {"state": state}
    before = layer.state_dict()
    with pytest.raises(error, match=words):
        layer(x if x.dtype.kind == "i" else mg.Tensor(x), **options)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@every_kind
@pytest.mark.parametrize("sizes", [(0, 4), (3, -1), (2.5, 4)])
def test_bad_sizes(kind, sizes):
    for model in KINDS[kind][:2]:
        with pytest.raises(ArgumentError, match=f"{model.__name__}: .*positive integer"):
            model(*sizes, generator=np.random.default_rng(0))


@every_kind
def test_second_derivative_names_the_way_out(kind):
    layer, cell = _pair(kind, 3, 5)
    x = mg.Tensor(np.random.default_rng(0).standard_normal((2, 3, 3)), requires_grad=True)
    out, _ = layer(x)
    with pytest.raises(GraphError, match=type(cell).__name__):
        mg.grad(out.sum(), x, create_graph=True)
    out, _ = _loop(cell, x, None)
    (g,) = mg.grad(out.sum(), x, create_graph=True)
    assert np.abs(mg.grad((g * g).sum(), cell.w_h)[0].numpy()).max() > 0
