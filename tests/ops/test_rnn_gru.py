"""The ops of RNN and GRU: layouts, what they write to, the watchers, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError

NAMES = {
    "rnn": ["x_gates", "h", "w_h", "bias"],
    "gru": ["x_gates", "h", "w_h", "bias"],
    "gru after": ["x_gates", "h", "w_h", "bias", "bias_h"],
}
every_form = pytest.mark.parametrize("form", NAMES)


def op_of(form):
    return getattr(ops, form.split()[0])


def arrays(form, steps=4, batch=3, hidden=5, dtype=np.float64):
    generator = np.random.default_rng(0)
    wide = hidden if form == "rnn" else 3 * hidden
    shapes = [(steps, batch, wide), (batch, hidden), (hidden, wide), (wide,), (hidden,)]
    values = [generator.standard_normal(s).astype(dtype) for s in shapes[: len(NAMES[form])]]
    values[2] /= dtype(np.sqrt(hidden))  # larger ones make the states chaotic
    return values


def leaves(values):
    return [mg.Tensor(v, requires_grad=True) for v in values]


def everything(form, tensors, **params):
    out, h = mg.apply(op_of(form), *tensors, **params)
    ((out * out).sum() + h.sum()).backward()
    return [out.array, h.array, *(t.grad.array for t in tensors)]


@every_form
@pytest.mark.parametrize("sizes", [(3, 4, 40), (15, 5, 4), (10, 1, 32)])
def test_float32_is_near_float64(form, sizes):
    exact = everything(form, leaves(arrays(form, *sizes)))
    rough = everything(form, leaves(arrays(form, *sizes, dtype=np.float32)))
    for a, b in zip(exact, rough, strict=True):
        assert (a.dtype, b.dtype) == (np.float64, np.float32)
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=2e-4 * np.abs(a).max())


@every_form
def test_inputs_that_do_not_stand_together(form):
    values = arrays(form)
    turned = [np.asfortranarray(v) for v in values]
    spread = [np.repeat(v, 2, axis=-1)[..., ::2] for v in values]
    expected = everything(form, leaves(values))
    for other in (turned, spread):
        for a, b in zip(expected, everything(form, leaves(other)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


@every_form
def test_nothing_given_is_written_to(form):
    tensors = leaves(arrays(form))
    before = [t.array.copy() for t in tensors]
    out, h = mg.apply(op_of(form), *tensors)
    seed = np.ones(out.shape), np.ones(h.shape)
    first = mg.grad((out, h), tensors, seed, retain_graph=True)
    again = mg.grad((out, h), tensors, seed)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.array, b.array)
    for tensor, old in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(tensor.array, old)
    assert all((s == 1).all() for s in seed)


@every_form
def test_watching_changes_nothing(form):
    norms, shown = [], []
    ends = np.array([2, 0, 4])
    plain = everything(form, leaves(arrays(form)), lengths=ends)
    watched = everything(
        form, leaves(arrays(form)), lengths=ends, flow=norms.append,
        show_gates=lambda *blocks: shown.append(blocks),
    )  # fmt: skip
    for a, b in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [n.shape for n in norms] == [(1, 4)]
    ((block,),) = shown
    if form == "rnn":
        assert block.shape == (4, 3, 5)
        np.testing.assert_array_equal(block[:2, 0], plain[0][:2, 0])
    else:
        assert block.shape == (4, 3, 3, 5)
        r, u, c = block.swapaxes(0, 1)
        x_gates, h, w_h, bias, *_ = arrays(form)
        z = x_gates[0] + bias + h @ w_h
        gate = 1 / (1 + np.exp(-z[:, :10]))
        running = [0, 2]  # the second has no steps
        np.testing.assert_allclose(r[0, running], gate[running, :5], rtol=1e-12)
        np.testing.assert_allclose(u[0, running], gate[running, 5:], rtol=1e-12)
        np.testing.assert_allclose(
            plain[0][0, running], (u[0] * h + (1 - u[0]) * c[0])[running], rtol=1e-12
        )


@pytest.mark.parametrize(
    ("form", "name", "change", "error", "message"),
    [
        ("rnn", "w_h", lambda a: a[1:], ShapeError, r"w_h must be \(H=5, H=5\).*got \(4, 5\)"),
        ("rnn", "w_h", lambda a: a[0], ShapeError, "w_h must have H columns"),
        ("rnn", "x_gates", lambda a: a[..., 1:], ShapeError, "x_gates must be .*G=H=5.*G=4"),
        ("rnn", "bias", lambda a: a[1:], ShapeError, r"bias must be \(H=5,\).*got \(4,\)"),
        ("gru", "w_h", lambda a: a[:, 1:], ShapeError, "w_h must have 3H columns"),
        ("gru", "w_h", lambda a: a[1:], ShapeError, r"w_h must be \(H=5, G=15\).*got \(4, 15\)"),
        ("gru", "x_gates", lambda a: a[0], ShapeError, "x_gates must be .*G=3H=15"),
        ("gru", "bias", lambda a: a[1:], ShapeError, r"bias must be \(G=15,\).*got \(14,\)"),
        ("gru after", "bias_h", lambda a: a[1:], ShapeError, r"bias_h must be \(H=5,\)"),
        ("gru after", "bias_h", lambda a: a.astype("f"), DTypeError, "all .*dtype.*bias_h float32"),
        *(
            (form, name, change, error, message)
            for form in ("rnn", "gru")
            for name, change, error, message in [
                ("h", lambda a: a[1:], ShapeError, r"h must be \(N=3, H=5\).*got \(2, 5\)"),
                ("h", lambda a: a.astype("f"), DTypeError, "all .*one dtype.* h float32"),
                ("bias", lambda a: a.astype("f"), DTypeError, "all .*one dtype.* bias float32"),
            ]
        ),
    ],
)
def test_bad_calls(form, name, change, error, message):
    values = arrays(form)
    values[NAMES[form].index(name)] = change(values[NAMES[form].index(name)])
    with pytest.raises(error, match=f"^{form.split()[0]}: {message}"):
        mg.apply(op_of(form), *leaves(values))


@every_form
def test_bad_ids(form):
    first, *others = leaves(arrays(form))
    table = [mg.Tensor(np.zeros((7, first.shape[-1]))), *others]
    name = op_of(form).__name__
    with pytest.raises(IndexRangeError, match=rf"^{name}: id 7 at \(0, 2\)"):
        mg.apply(op_of(form), *table, ids=np.array([[0, 1, 7]]))
    with pytest.raises(DTypeError, match=f"^{name}: ids must be integers"):
        mg.apply(op_of(form), *table, ids=np.zeros((4, 3)))
    with pytest.raises(ShapeError, match=rf"^{name}: ids must be \(T, N\), got shape \(3,\)"):
        mg.apply(op_of(form), *table, ids=np.zeros(3, int))


def test_bad_activation():
    with pytest.raises(ArgumentError, match="^rnn: activation must be 'tanh' or 'relu', got 'elu'"):
        mg.apply(ops.rnn, *leaves(arrays("rnn")), activation="elu")
