"""The LSTM op: against a loop of simple ops, ids, the watcher of gradients, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import DTypeError, IndexRangeError, ShapeError

NAMES = ["x_gates", "h", "c", "w_h", "bias"]


def arrays(steps=4, batch=3, hidden=5, dtype=np.float64):
    generator = np.random.default_rng(0)
    shapes = [(steps, batch, 4 * hidden), (batch, hidden), (batch, hidden), (hidden, 4 * hidden)]
    return [generator.standard_normal(s).astype(dtype) for s in [*shapes, (4 * hidden,)]]


def leaves(values):
    return [mg.Tensor(v, requires_grad=True) for v in values]


def looped(x_gates, h, c, w_h, bias, forget_bias=0.0):
    """The same layer, one simple op after the other; keeps all states."""
    hs, cs = [], []
    for x in x_gates:
        i, j, f, o = mg.split(x + h @ w_h + bias, 4, axis=1)
        c = mg.sigmoid(f + forget_bias) * c + mg.sigmoid(i) * mg.tanh(j)
        h = mg.sigmoid(o) * mg.tanh(c)
        hs.append(h)
        cs.append(c)
    return mg.stack(hs), hs, cs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (4, 3, 5), (10, 33, 17), (3, 64, 64)])
def test_is_the_loop_of_simple_ops(sizes, dtype):
    fused, simple = leaves(arrays(*sizes, dtype)), leaves(arrays(*sizes, dtype))
    out, h, c = mg.apply(ops.lstm, *fused, forget_bias=1.0)
    expected, hs, cs = looped(*simple, forget_bias=1.0)
    rtol = 1e-11 if dtype == np.float64 else 2e-4
    for ours, theirs in ((out, expected), (h, hs[-1]), (c, cs[-1])):
        np.testing.assert_allclose(ours.array, theirs.array, rtol=rtol, atol=rtol)
        assert ours.dtype == dtype
    ((out * out).sum() + h.sum() + (c * c).sum()).backward()
    ((expected * expected).sum() + hs[-1].sum() + (cs[-1] * cs[-1]).sum()).backward()
    for name, a, b in zip(NAMES, fused, simple):
        scale = np.abs(b.grad.array).max()
        np.testing.assert_allclose(a.grad.array, b.grad.array, atol=rtol * scale, err_msg=name)
        assert a.grad.dtype == dtype and a.grad.shape == a.shape


def test_ids_are_rows_of_the_weights():
    x_gates, *others = arrays()
    table = np.random.default_rng(1).standard_normal((7, 20))
    ids = np.random.default_rng(2).integers(0, 7, (4, 3))
    by_id, by_row = leaves([table, *others]), leaves([table, *others])
    outs = [
        mg.apply(ops.lstm, *by_id, ids=ids)[0],
        mg.apply(ops.lstm, by_row[0][ids], *by_row[1:])[0],
    ]
    np.testing.assert_array_equal(outs[0].array, outs[1].array)
    for out in outs:
        (out * out).sum().backward()
    for a, b in zip(by_id, by_row):
        np.testing.assert_allclose(a.grad.array, b.grad.array, rtol=1e-12, atol=1e-14)


def test_flow_is_the_total_gradient_of_each_state():
    values = arrays()
    seen = []
    tensors = leaves(values)
    out, h, c = mg.apply(ops.lstm, *tensors, forget_bias=1.0, flow=seen.append)
    (out[1:3].sum() + (c * c).sum()).backward()
    simple = leaves(values)
    expected, hs, cs = looped(*simple, forget_bias=1.0)
    for state in hs + cs:
        state.retain_grad()
    (expected[1:3].sum() + (cs[-1] * cs[-1]).sum()).backward()
    norms = [
        [0.0 if s.grad is None else np.linalg.norm(s.grad.array) for s in states]
        for states in (hs, cs)
    ]
    assert len(seen) == 1 and seen[0].shape == (2, 4)
    np.testing.assert_allclose(seen[0], norms, rtol=1e-10)


def test_inputs_that_do_not_stand_together():
    values = arrays()
    turned = [np.asfortranarray(v) for v in values]
    a, b = (mg.apply(ops.lstm, *leaves(v)) for v in (values, turned))
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x.array, y.array)


def test_the_initial_state_is_not_written_to():
    tensors = leaves(arrays())
    before = [t.array.copy() for t in tensors]
    out, h, c = mg.apply(ops.lstm, *tensors, forget_bias=1.0)
    seed = np.ones(out.shape), np.ones(h.shape), np.ones(c.shape)
    mg.grad((out, h, c), tensors, seed)
    for tensor, old in zip(tensors, before):
        np.testing.assert_array_equal(tensor.array, old)
    assert all((s == 1).all() for s in seed)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("w_h", lambda a: a[:, 1:], ShapeError, r"w_h must be \(H, 4H\), got \(5, 19\)"),
        ("w_h", lambda a: a[0], ShapeError, r"w_h must be \(H, 4H\)"),
        ("x_gates", lambda a: a[..., 1:], ShapeError, r"x_gates must be .*4H=20.*G=19"),
        ("x_gates", lambda a: a[0], ShapeError, "x_gates must be"),
        ("h", lambda a: a[1:], ShapeError, r"h must be \(N=3, H=5\).*got \(2, 5\)"),
        ("c", lambda a: a[:, 1:], ShapeError, r"c must be \(N=3, H=5\).*got \(3, 4\)"),
        ("bias", lambda a: a[1:], ShapeError, r"bias must be \(20,\).*got \(19,\)"),
        ("h", lambda a: a.astype(np.float32), DTypeError, "all .*one dtype.* h float32"),
        ("bias", lambda a: a.astype(np.float32), DTypeError, "all .*one dtype.* bias float32"),
    ],
)
def test_bad_calls(name, change, error, message):
    values = arrays()
    values[NAMES.index(name)] = change(values[NAMES.index(name)])
    with pytest.raises(error, match=f"^lstm: {message}"):
        mg.apply(ops.lstm, *leaves(values))


def test_bad_ids():
    values = leaves([np.zeros((7, 20)), *arrays()[1:]])
    with pytest.raises(IndexRangeError, match=r"^lstm: id 7 at \(0, 2\)"):
        mg.apply(ops.lstm, *values, ids=np.array([[0, 1, 7]]))
    with pytest.raises(DTypeError, match="^lstm: ids must be integers"):
        mg.apply(ops.lstm, *values, ids=np.zeros((4, 3)))
    with pytest.raises(ShapeError, match=r"^lstm: ids must be \(T, N\), got shape \(3,\)"):
        mg.apply(ops.lstm, *values, ids=np.zeros(3, int))


# -- the layer with its input weights -----------------------------------------------------------


def layer_arrays(steps, batch, depth, hidden, dtype=np.float64):
    _, h, c, w_h, bias = arrays(steps, batch, hidden, dtype)
    rng = np.random.default_rng(1)
    x, w_x = rng.standard_normal((steps, batch, depth)), rng.standard_normal((depth, 4 * hidden))
    return [x.astype(dtype), h, c, w_x.astype(dtype), w_h, bias]


def gradients_of(outputs, inputs):
    rng = np.random.default_rng(2)
    loss = sum((y * rng.standard_normal(y.shape).astype(y.dtype)).sum() for y in outputs)
    return [g.array for g in mg.grad(loss, inputs)]


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (4, 3, 2, 5), (10, 33, 20, 17), (3, 130, 64, 64), (7, 20, 30, 40)]
)
def test_the_layer_is_the_op_on_multiplied_inputs(sizes, dtype, lengths):
    values = layer_arrays(*sizes, dtype)
    ends = np.random.default_rng(3).integers(0, sizes[0] + 1, sizes[1]) if lengths else None
    fused, apart = leaves(values), leaves(values)
    ours = mg.apply(ops.lstm_layer, *fused, lengths=ends, forget_bias=1.0)
    x, h, c, w_x, w_h, bias = apart
    theirs = mg.apply(ops.lstm, x @ w_x, h, c, w_h, bias, lengths=ends, forget_bias=1.0)
    tiny = 1e-10 if dtype == np.float64 else 3e-4
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.array, b.array, rtol=tiny, atol=tiny)
    names = ("x", "h", "c", "w_x", "w_h", "bias")
    for name, a, b in zip(names, gradients_of(ours, fused), gradients_of(theirs, apart)):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, atol=tiny * np.abs(b).max(), err_msg=name)


def test_bits_of_the_layer_do_not_depend_on_threads():
    before, found = mg.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            mg.set_num_threads(threads)
            inputs = leaves(layer_arrays(9, 200, 30, 40, np.float32))
            outputs = mg.apply(ops.lstm_layer, *inputs)
            every = [*(y.array for y in outputs), *gradients_of(outputs, inputs)]
            found.append([y.tobytes() for y in every])
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("layer", [True, False])
def test_a_result_that_nobody_uses_is_as_one_with_a_gradient_of_zero(layer, used, captured):
    op = ops.lstm_layer if layer else ops.lstm
    values = layer_arrays(4, 3, 2, 5) if layer else arrays()
    expected = leaves(values)
    outputs = mg.apply(op, *expected)
    sum((y * (k in used)).sum() * (k + 1) for k, y in enumerate(outputs)).backward()
    inputs = leaves(values)

    def loss_of(*args):
        outputs = mg.apply(op, *args)
        return sum(outputs[k].sum() * (k + 1) for k in used)

    if captured:
        loss_of = mg.capture(loss_of)
    for _ in range(4 if captured else 1):
        for leaf in inputs:
            leaf.grad = None
        loss_of(*inputs).backward()
    for a, b in zip(inputs, expected):
        np.testing.assert_array_equal(a.grad.array, b.grad.array)


def test_an_input_that_needs_no_gradient_gets_none():
    x, *others = layer_arrays(4, 3, 2, 5)
    wanted = leaves(others)
    outputs = mg.apply(ops.lstm_layer, x, *wanted, wants_dx=False)
    whole = leaves([x, *others])
    expected = gradients_of(mg.apply(ops.lstm_layer, *whole), whole)[1:]
    for a, b in zip(gradients_of(outputs, wanted), expected):
        np.testing.assert_array_equal(a, b)


def test_the_layer_tells_its_watchers():
    values = layer_arrays(4, 3, 2, 5)
    seen, gates = [], []
    inputs = leaves(values)
    out, h, c = mg.apply(
        ops.lstm_layer, *inputs, flow=seen.append, show_gates=lambda *a: gates.append(a)
    )
    (out.sum() + h.sum()).backward()
    other, others = [], leaves(values)
    x, *rest = others
    theirs = mg.apply(ops.lstm, x @ rest[2], *rest[:2], *rest[3:], flow=other.append)
    (theirs[0].sum() + theirs[1].sum()).backward()
    np.testing.assert_allclose(seen[0], other[0], rtol=1e-10)
    assert [a.shape for a in gates[0]] == [(4, 4, 3, 5), (4, 3, 5)]


@pytest.mark.parametrize("place, shape, words", [
    (0, (4, 3), r"x must be \(T, N, D\)"), (0, (4, 3, 7), "w_x must be"),
    (1, (2, 5), "h must be"), (2, (3, 4), "c must be"), (3, (2, 19), "w_x must be"),
    (4, (5, 19), "w_h must be"), (5, (19,), "bias must be"),
])  # fmt: skip
def test_the_layer_refuses_shapes(place, shape, words):
    values = layer_arrays(4, 3, 2, 5)
    values[place] = np.zeros(shape)
    with pytest.raises(ShapeError, match=f"lstm_layer: {words}"):
        mg.apply(ops.lstm_layer, *leaves(values))


def test_the_layer_refuses_two_dtypes():
    values = layer_arrays(4, 3, 2, 5)
    values[3] = values[3].astype(np.float32)
    with pytest.raises(DTypeError, match="lstm_layer: all arguments need one dtype"):
        mg.apply(ops.lstm_layer, *leaves(values))
