"""The ops lstmp and layer_norm_lstm: memory order, untouched inputs, options, bad calls."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import DTypeError, IndexRangeError, ShapeError

NAMES = {
    "lstmp": ["x_gates", "h", "c", "w_h", "bias", "w_c", "w_p"],
    "layer_norm_lstm": ["x_gates", "h", "c", "w_h", "gamma", "beta"],
}
LSTMP_SHAPES = [(4, 3, 20), (3, 2), (3, 5), (2, 20), (20,), (3, 5), (5, 2)]  # T 4, N 3, H 5, P 2
NORM_SHAPES = [(4, 3, 20), (3, 5), (3, 5), (5, 20), (5, 5), (5, 5)]
SHAPES = {"lstmp": LSTMP_SHAPES, "layer_norm_lstm": NORM_SHAPES}
both = pytest.mark.parametrize("name", NAMES)


def arrays(name):
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape) for shape in SHAPES[name]]


def run(name, values, **params):
    """Outputs and gradients as arrays."""
    leaves = [mg.Tensor(v, requires_grad=True) for v in values]
    outputs = mg.apply(getattr(ops, name), *leaves, **params)
    seeds = [np.random.default_rng(i).standard_normal(y.shape) for i, y in enumerate(outputs)]
    return [t.array for t in (*outputs, *mg.grad(outputs, leaves, seeds))]


@both
def test_inputs_that_do_not_stand_together(name):
    values = arrays(name)
    for a, b in zip(run(name, values), run(name, [np.asfortranarray(v) for v in values])):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@both
def test_inputs_and_seeds_are_not_written_to(name):
    values = arrays(name)
    for value in values:
        value.flags.writeable = False
    before = [v.copy() for v in values]
    leaves = [mg.Tensor(v, requires_grad=True) for v in values]
    outputs = mg.apply(getattr(ops, name), *leaves, forget_bias=1.0, lengths=np.array([4, 0, 2]))
    seeds = [np.ones(y.shape) for y in outputs]
    mg.grad(outputs, leaves, seeds)
    for value, old in zip(values, before):
        np.testing.assert_array_equal(value, old)
    assert all((seed == 1).all() for seed in seeds)


@both
def test_ids_are_rows_of_the_weights(name):
    _, *others = arrays(name)
    table = np.random.default_rng(1).standard_normal((7, 20))
    ids = np.random.default_rng(2).integers(0, 7, (4, 3))
    by_id = run(name, [table, *others], ids=ids)
    by_row = run(name, [table[ids], *others])
    d_table = np.zeros_like(table)
    np.add.at(d_table, ids, by_row[3])
    by_row[3] = d_table
    for a, b in zip(by_id, by_row):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@both
def test_forget_bias_belongs_to_the_forget_gate(name):
    values = arrays(name)
    shifted = [v.copy() for v in values]
    if name == "lstmp":
        shifted[4][10:15] += 0.7
    else:
        shifted[5][2] += 0.7
    for a, b in zip(run(name, values, forget_bias=0.7), run(name, shifted)):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_the_clipped_cell_passes_no_gradient_where_it_is_beyond_its_bound():
    """One step, one unit: i, j, f, o nearly 1, so that the cell is 1 + c before it is clipped."""
    x = np.full((1, 2, 4), 30.0)
    zero = np.zeros((2, 1))
    c = np.array([[-0.8], [0.2]])  # the cell: 0.2 and 1.2
    w_h, bias = np.zeros((1, 4)), np.zeros(4)
    out, h, new_c, d_x, d_h, d_c, *_ = run("lstmp", [x, zero, c, w_h, bias], cell_clip=1.0)
    np.testing.assert_allclose(new_c, [[0.2], [1.0]], rtol=1e-9)
    np.testing.assert_allclose(h, np.tanh(new_c), rtol=1e-9)
    assert abs(d_c[0, 0]) > 0.1 and d_c[1, 0] == 0
    assert not d_x[0, 1, :3].any()


def test_epsilon_stands_under_the_root():
    x = np.zeros((1, 1, 8))
    x[..., :2] = 1.0, -1.0  # i: variance 1, so that with epsilon 3 it is halved
    zero, w_h = np.zeros((1, 2)), np.zeros((2, 8))
    gamma, beta = np.ones((5, 2)), np.zeros((5, 2))
    beta[1] = 1.0, -1.0  # the cell before its normalisation: sigmoid(+-0.5) * tanh(+-1)
    _, _, c, *_ = run("layer_norm_lstm", [x, zero, zero, w_h, gamma, beta], epsilon=3.0)
    raw = np.tanh([1.0, -1.0]) / (1 + np.exp([-0.5, 0.5]))
    expected = (raw - raw.mean()) / np.sqrt(raw.var() + 3)
    np.testing.assert_allclose(c[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "argument", "change", "error", "message"),
    [
        ("lstmp", "w_h", lambda a: a[:, 1:], ShapeError, r"w_h must have 4H columns.*\(2, 19\)"),
        ("lstmp", "w_h", lambda a: a[0], ShapeError, "w_h must have 4H columns"),
        ("lstmp", "w_h", lambda a: a[:1], ShapeError, r"w_p must be \(H=5, P=1\).*\(5, 2\)"),
        ("lstmp", "x_gates", lambda a: a[..., 1:], ShapeError, r"x_gates must .*G=4H=20.*G=19"),
        ("lstmp", "x_gates", lambda a: a[0], ShapeError, "x_gates must be"),
        ("lstmp", "h", lambda a: a[1:], ShapeError, r"h must be \(N=3, P=2\).*got \(2, 2\)"),
        ("lstmp", "c", lambda a: a[:, 1:], ShapeError, r"c must be \(N=3, H=5\).*got \(3, 4\)"),
        ("lstmp", "bias", lambda a: a[1:], ShapeError, r"bias must be \(20,\).*got \(19,\)"),
        ("lstmp", "w_c", lambda a: a[1:], ShapeError, r"w_c must be \(3, 5\).*got \(2, 5\)"),
        ("lstmp", "w_p", lambda a: a.T, ShapeError, r"w_p must be \(H=5, P=2\).*got \(2, 5\)"),
        ("lstmp", "w_p", lambda a: None, ShapeError, r"w_h must be \(H, 4H\).*no projection"),
        ("lstmp", "w_c", lambda a: a.astype("f"), DTypeError, "one dtype.* w_c float32"),
        ("lstmp", "w_p", lambda a: a.astype("f"), DTypeError, "one dtype.* w_p float32"),
        ("layer_norm_lstm", "w_h", lambda a: a[1:], ShapeError, r"w_h must be \(5, 20\)"),
        ("layer_norm_lstm", "h", lambda a: a[1:], ShapeError, r"h must be \(N=3, H=5\)"),
        ("layer_norm_lstm", "c", lambda a: a[:, 1:], ShapeError, r"c must be \(N=3, H=5\)"),
        ("layer_norm_lstm", "gamma", lambda a: a[1:], ShapeError, r"gamma must be \(5, 5\)"),
        ("layer_norm_lstm", "beta", lambda a: a[0], ShapeError, r"beta must be \(5, 5\).*\(5,\)"),
        ("layer_norm_lstm", "beta", lambda a: a.astype("f"), DTypeError, "dtype.* beta float32"),
    ],
)
def test_bad_calls(name, argument, change, error, message):
    values = arrays(name)
    place = NAMES[name].index(argument)
    values[place] = change(values[place])
    with pytest.raises(error, match=f"^{name}: .*{message}"):
        mg.apply(getattr(ops, name), *values)


@both
def test_bad_ids(name):
    values = [np.zeros((7, 20)), *arrays(name)[1:]]
    op = getattr(ops, name)
    with pytest.raises(IndexRangeError, match=rf"^{name}: id 7 at \(0, 2\)"):
        mg.apply(op, *values, ids=np.array([[0, 1, 7]]))
    with pytest.raises(DTypeError, match=f"^{name}: ids must be integers"):
        mg.apply(op, *values, ids=np.zeros((4, 3)))
    with pytest.raises(ShapeError, match=rf"^{name}: ids must be \(T, N\), got shape \(3,\)"):
        mg.apply(op, *values, ids=np.zeros(3, int))
