"""LSTMs with peepholes, projection, clipped cell, and with layer normalisation."""

import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DTypeError, GraphError, IndexRangeError, ShapeError

OPTIONS = {
    "peepholes": {"peepholes": True},
    "projection": {"projection": 3},
    "clip": {"cell_clip": 0.3},
    "all": {"peepholes": True, "projection": 9, "cell_clip": 0.5},
    "layer norm": {},
}
OTHERS = {"peepholes": {"w_c"}, "projection": {"w_p"}, "clip": set(), "all": {"w_c", "w_p"}}


def pair(kind, d=3, h=5, double=True, **more):
    """A layer and a cell with the same weights, none of them zero."""
    layer, cell = (
        make(d, h, generator=np.random.default_rng(0), **OPTIONS[kind], **extra)
        for make, extra in zip(classes(kind), (more, {}))
    )
    rng = np.random.default_rng(1)
    for name, p in layer.named_parameters():
        if name in ("bias", "beta", "gamma", "w_c"):
            p.data = rng.standard_normal(p.shape)
    cell.load_state_dict(layer.state_dict())
    return (layer.double(), cell.double()) if double else (layer, cell)


def classes(kind):
    if kind == "layer norm":
        return nn.LayerNormLSTM, nn.LayerNormLSTMCell
    return nn.LSTM, nn.LSTMCell


def draw(*shape, seed=2):
    return np.random.default_rng(seed).standard_normal(shape)


everyone = pytest.mark.parametrize("kind", OPTIONS)


@everyone
@pytest.mark.parametrize("mode", ["numba", "numpy"])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(
    ("t", "n", "d", "h"), [(1, 1, 1, 1), (4, 3, 5, 7), (3, 17, 2, 16), (10, 2, 3, 33)]
)
def test_fused_layer_equals_the_cell(t, n, d, h, ragged, mode, kind, numbers):
    """Outputs, last state, and the gradient of everything, float64."""
    layer, cell = pair(kind, d, h, time_major=True)
    lengths = np.arange(n, 0, -1) % (t + 1) if ragged else None
    x, state = draw(t, n, d), numbers.state(layer, n)
    with mg.kernels.use(mode):
        fused = numbers.of(lambda x, s: layer(x, s, lengths), [layer], x, state)
    unrolled = numbers.of(lambda x, s: nn.unroll(cell, x, s, lengths, True), [cell], x, state)
    assert all(g.any() for g in unrolled[3:6]) or h == 1 or (ragged and t == 1)
    numbers.close(fused, unrolled)


@pytest.mark.parametrize("kind", OTHERS)
def test_options_change_the_numbers_and_nothing_runs_the_plain_kernel(kind):
    layer, _ = pair(kind)
    plain = nn.LSTM(3, 5, generator=np.random.default_rng(0)).double()
    assert set(layer.state_dict()) == set(plain.state_dict()) | OTHERS[kind]
    x = mg.Tensor(10 * draw(2, 4, 3))
    with mg.kernels.record_calls() as names:
        layer(x)
    assert "lstmp_forward" in names and "lstm_layer_forward" not in names
    with mg.kernels.record_calls() as names:
        plain(x)
    assert "lstm_layer_forward" in names and "lstmp_forward" not in names
    if kind == "clip":
        plain.load_state_dict(layer.state_dict())
        (_, (_, c)), (_, (_, wild)) = layer(x), plain(x)
        assert np.abs(c.numpy()).max() == 0.3 < np.abs(wild.numpy()).max()


def test_peepholes_of_zero_and_a_projection_of_one_are_the_plain_lstm():
    plain = nn.LSTM(3, 5, generator=np.random.default_rng(0)).double()
    layer = nn.LSTM(
        3, 5, peepholes=True, projection=5, cell_clip=1e9, generator=np.random.default_rng(0)
    ).double()
    zero, one = np.zeros((3, 5)), np.eye(5)
    layer.load_state_dict(plain.state_dict() | {"w_c": zero, "w_p": one})
    x = mg.Tensor(draw(2, 4, 3))
    np.testing.assert_allclose(layer(x)[0].numpy(), plain(x)[0].numpy(), rtol=1e-13)


def test_shapes_and_the_plain_weights():
    layer = nn.LSTM(3, 5, peepholes=True, projection=2, generator=np.random.default_rng(0))
    shapes = {name: p.shape for name, p in layer.named_parameters()}
    assert shapes == {"w_x": (3, 20), "w_h": (2, 20), "bias": (20,), "w_c": (3, 5), "w_p": (5, 2)}
    assert layer.output_size == 2 and [s.shape for s in layer.zero_state(4)] == [(4, 2), (4, 5)]
    out, (h, c) = layer(mg.Tensor(np.ones((4, 6, 3), np.float32)))
    assert (out.shape, h.shape, c.shape) == ((4, 6, 2), (4, 2), (4, 5))
    for name, limit in (("w_c", np.sqrt(6 / 10)), ("w_p", np.sqrt(6 / 7))):  # Glorot uniform
        weights = np.abs(getattr(layer, name).numpy())
        assert 0.5 * limit < weights.max() <= limit and len(np.unique(weights)) == weights.size
    again = nn.LSTM(3, 5, generator=np.random.default_rng(0))
    other = nn.LSTM(3, 5, peepholes=True, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(again.w_h.numpy(), other.w_h.numpy())


def test_repr_and_gates():
    layer, _ = pair("all")
    assert "3 -> 5, forget_bias=1, peepholes, projection=9, cell_clip=0.5" in repr(layer)
    layer.gate("f").w_c[:] = 7
    np.testing.assert_array_equal(layer.w_c.numpy()[1], 7)
    assert not (layer.w_c.numpy()[[0, 2]] == 7).any()
    assert layer.gate("j").w_c is None and layer.gate("i").w_h.shape == (9, 5)
    assert pair("clip")[0].gate("o").w_c is None
    normed, _ = pair("layer norm")
    normed.gate("o").gamma[:] = 7
    normed.gate("f").beta[:] = 8
    np.testing.assert_array_equal(normed.gamma.numpy()[3], 7)
    np.testing.assert_array_equal(normed.beta.numpy()[2], 8)
    assert "3 -> 5, forget_bias=1" in repr(normed)


def test_layer_norm_starts_as_tensorflow_does():
    layer = nn.LayerNormLSTM(3, 5, generator=np.random.default_rng(0))
    assert (layer.gamma.numpy() == 1).all() and (layer.beta.numpy() == 0).all()
    plain = nn.LSTM(3, 5, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(layer.w_x.numpy(), plain.w_x.numpy())
    _, (_, c) = layer.double()(mg.Tensor(draw(4, 6, 3)))  # the cell is carried normalised
    np.testing.assert_allclose(c.numpy().mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(c.numpy().var(axis=1), 1, rtol=1e-6)


def test_layer_norm_does_not_care_for_the_scale_of_a_product():
    layer, _ = pair("layer norm")
    x = mg.Tensor(draw(2, 4, 3))
    before = layer(x)[0].numpy()
    for weight in (layer.w_x, layer.w_h):
        weight.data = 7 * weight.data
    np.testing.assert_allclose(layer(x)[0].numpy(), before, rtol=1e-8)


# -- the same demands as of the plain LSTM ---------------------------------------------------


@everyone
def test_ids_mean_one_hot_vectors(kind):
    layer, cell = pair(kind, 6, 4)
    ids = np.random.default_rng(0).integers(0, 6, (3, 5))
    results = []
    for model, call, x in [
        (layer, layer, ids), (layer, layer, mg.Tensor(ids)),
        (layer, layer, mg.one_hot(ids, 6, np.float64)),
        (cell, lambda x: nn.unroll(cell, x), ids),
    ]:  # fmt: skip
        model.zero_grad()
        out, _ = call(x)
        (out * out).sum().backward()
        results.append([out, *(p.grad for p in model.parameters())])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


@everyone
def test_batch_major_is_the_same_transposed(kind):
    layer, _ = pair(kind)
    turned, _ = pair(kind, time_major=True)
    x, lengths = draw(4, 6, 3), [6, 2, 0, 5]
    a, state_a = layer(mg.Tensor(x), None, lengths)
    b, state_b = turned(mg.Tensor(x.swapaxes(0, 1)), None, lengths)
    np.testing.assert_array_equal(a.numpy(), b.numpy().swapaxes(0, 1))
    for p, q in zip(state_a, state_b):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


@everyone
def test_past_the_end_nothing_counts_and_the_state_is_copied(kind, numbers):
    layer, _ = pair(kind)
    lengths = np.array([6, 3, 0])
    state = numbers.state(layer, 3)
    assert np.abs(state[1][2]).max() > 0.5  # beyond the bound of the cell: copied nevertheless
    x, noisy = draw(3, 6, 3), draw(3, 6, 3)
    over = np.arange(6) >= lengths[:, None]
    noisy[over] *= 1e3
    noisy[~over] = x[~over]
    ours, theirs = (
        numbers.of(lambda x, s: layer(x, s, lengths), [layer], each, state) for each in (x, noisy)
    )
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)
    out, h, c, d_x, d_h, d_c = ours[:6]
    assert not out[over].any() and out[~over].all() and not d_x[over].any()
    for value, first in ((h, state[0]), (c, state[1])):
        np.testing.assert_array_equal(value[2], first[2])
    rng = np.random.default_rng(9)  # the weights that numbers.of takes
    upstream = [rng.standard_normal(v.shape) for v in (out, h, c)]
    np.testing.assert_array_equal(d_h[2], upstream[1][2])
    np.testing.assert_array_equal(d_c[2], upstream[2][2])
    bad = noisy.copy()
    bad[over] = np.nan
    with_nan = layer(mg.Tensor(bad), tuple(map(mg.Tensor, state)), lengths)
    np.testing.assert_array_equal(with_nan[0].numpy(), out)


@everyone
def test_no_steps_or_no_rows(kind, numbers):
    layer, _ = pair(kind)
    for n, t in ((2, 0), (0, 3)):
        state = numbers.state(layer, n)
        out, h, c, d_x, d_h, d_c, *grads = numbers.of(layer, [layer], draw(n, t, 3), state)
        assert out.shape == (n, t, layer.output_size) and d_x.shape == (n, t, 3)
        np.testing.assert_array_equal(h, state[0])
        np.testing.assert_array_equal(c, state[1])
        assert not any(g.any() for g in grads)
        assert (d_h.all(), d_c.all()) == (True, True)


@everyone
def test_float32_in_float32_out_and_near_float64(kind, numbers):
    layer, _ = pair(kind, double=False)
    x = mg.Tensor(draw(4, 6, 3).astype(np.float32), requires_grad=True)
    out, (h, c) = layer(x, None, [6, 2, 0, 5])
    (out.sum() + c.sum()).backward()
    narrow = [out, h, c, x.grad, *(p.grad for p in layer.parameters())]
    assert {t.dtype for t in narrow} == {np.dtype(np.float32)}
    wide_x = mg.Tensor(x.numpy().astype(np.float64), requires_grad=True)
    layer.double()
    out, (h, c) = layer(wide_x, None, [6, 2, 0, 5])
    (out.sum() + c.sum()).backward()
    wide = [out, h, c, wide_x.grad, *(p.grad for p in layer.parameters())]
    for a, b in zip(narrow, wide):
        scale = np.abs(b.numpy()).max()
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5 * scale)


@everyone
def test_a_nan_stays_and_stays_in_its_row(kind):
    layer, _ = pair(kind, double=False)
    x = draw(4, 6, 3).astype(np.float32)
    x[2, 3, 1] = np.nan
    leaf = mg.Tensor(x, requires_grad=True)
    out, (h, c) = layer(leaf)
    assert np.isnan(out.numpy()[2, 3:]).any(axis=1).all() and np.isnan(c.numpy()[2]).any()
    assert np.isfinite(out.numpy()[[0, 1, 3]]).all() and np.isfinite(out.numpy()[2, :3]).all()
    out.sum().backward()
    assert np.isnan(leaf.grad.numpy()[2]).any()
    assert np.isfinite(leaf.grad.numpy()[[0, 1, 3]]).all()


@everyone
def test_bits_do_not_depend_on_threads(kind, numbers, monkeypatch):
    layer, _ = pair(kind, 5, 17)
    monkeypatch.setattr(sys.modules["minigrad.ops._sequence"], "_GRAIN", 0)  # 8 rows a thread
    lengths = np.arange(40) % 8
    x, state = draw(40, 7, 5), numbers.state(layer, 40)
    before = mg.kernels.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            mg.set_num_threads(count)
            results.append(numbers.of(lambda x, s: layer(x, s, lengths), [layer], x, state))
    finally:
        mg.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@everyone
@pytest.mark.parametrize("lengths", [None, [4, 1, 0]], ids=["whole", "lengths"])
def test_flow_is_told_the_total_gradient_norms(kind, lengths):
    layer, cell = pair(kind)
    x = mg.Tensor(draw(3, 4, 3))
    told = []
    layer.flow = told.append
    out, (_, c) = layer(x, None, lengths)
    ((out * out).sum() + c.sum()).backward()
    expected = np.zeros((2, 4))

    def watch(t, *parts):
        for row, part in enumerate(parts):
            part.register_hook(
                lambda g, row=row: expected.__setitem__((row, t), np.linalg.norm(g.numpy()))
            )

    cell.flow = watch
    out, (_, c) = nn.unroll(cell, x, None, lengths)
    ((out * out).sum() + c.sum()).backward()
    assert len(told) == 1 and expected.all()
    np.testing.assert_allclose(told[0], expected, rtol=1e-10)


@everyone
def test_gates_are_shown_by_layer_and_cell(kind):
    layer, cell = pair(kind)
    x, shown, steps = mg.Tensor(draw(3, 4, 3)), [], []
    layer.gates = lambda lengths, gates, c: shown.append((gates.copy(), c.copy()))
    cell.gates = lambda t, running, *each: steps.append([a.numpy() for a in each])
    layer(x)
    nn.unroll(cell, x)
    (gates, c), *none = shown
    assert not none and gates.shape == (4, 4, 3, 5) and c.shape == (4, 3, 5)
    both = np.concatenate([gates, c[:, None]], axis=1)  # (T, 5, N, H)
    np.testing.assert_allclose(both, np.array(steps), rtol=1e-10)


@everyone
@pytest.mark.parametrize("ids", [False, True])
def test_bytes_kept_covers_what_the_op_keeps(kind, ids):
    layer, _ = pair(kind, 6, 16)
    x = np.zeros((4, 40), int) if ids else mg.Tensor(draw(4, 40, 6))
    out, _ = layer(x, None, [40, 2, 0, 5])
    memory = mg.watch.memory(out, layer)
    kept, promised = memory.kept_by(""), memory.predicted[""]
    assert promised == layer.bytes_kept(4, 40, ids=ids, lengths=True)
    assert kept <= promised <= 1.3 * kept


@everyone
@pytest.mark.parametrize(
    ("x", "state", "lengths", "error", "words"),
    [
        (np.ones((2, 4, 7)), None, None, ShapeError, "D=3"),
        (np.ones((2, 3)), None, None, ShapeError, "LSTM: x must be"),
        (np.ones((2, 4), int) * 3, None, None, IndexRangeError, "id 3 at"),
        (np.ones((2, 4, 3)), "wrong batch", None, ShapeError, "batch 2"),
        (np.ones((2, 4, 3)), "turned", None, ShapeError, "state"),
        (np.ones((2, 4, 3)), None, [5, 1], ArgumentError, r"lengths\[0\] is 5"),
        (np.ones((2, 4, 3), np.float32), None, None, DTypeError, "float32"),
    ],
)
def test_bad_input(x, state, lengths, error, words, kind):
    layer, _ = pair(kind)
    if state:
        state = layer.zero_state(9) if state == "wrong batch" else layer.zero_state(2)[0]
    before = layer.state_dict()
    with pytest.raises(error, match=words):
        layer(x if x.dtype.kind == "i" else mg.Tensor(x), state, lengths)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"projection": 0}, "projection must be a positive integer"),
        ({"projection": 2.5}, "projection must be a positive integer"),
        ({"cell_clip": 0}, "cell_clip must be positive"),
        ({"cell_clip": -1.0}, "cell_clip must be positive"),
        ({"cell_clip": "1"}, "cell_clip must be positive"),
        ({"cell_clip": float("nan")}, "cell_clip must be positive"),
    ],
)
@pytest.mark.parametrize("make", [nn.LSTM, nn.LSTMCell])
def test_bad_options(make, options, words):
    with pytest.raises(ArgumentError, match=f"^{make.__name__}: {words}"):
        make(3, 5, generator=np.random.default_rng(0), **options)
    with pytest.raises(ArgumentError, match="input_size"):
        nn.LayerNormLSTM(0, 5, generator=np.random.default_rng(0))


@everyone
def test_second_derivative_names_the_way_out(kind):
    layer, cell = pair(kind)
    x = mg.Tensor(draw(1, 2, 3), requires_grad=True)
    out, _ = layer(x)
    with pytest.raises(GraphError, match=type(cell).__name__):
        mg.grad(out.sum(), x, create_graph=True)
    out, _ = nn.unroll(cell, x)
    (g,) = mg.grad(out.sum(), x, create_graph=True)
    assert np.abs(mg.grad((g * g).sum(), cell.w_h)[0].numpy()).max() > 0


@everyone
def test_carried_state_without_detach_is_explained(kind):
    layer, _ = pair(kind)
    x = mg.Tensor(draw(1, 2, 3))
    out, state = layer(x)
    out.sum().backward()
    out, _ = layer(x, state)
    with pytest.raises(GraphError, match="detach"):
        out.sum().backward()
