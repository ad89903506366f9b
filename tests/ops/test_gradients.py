"""Every op against central differences, and its dtypes: one table, walked by every test.

An entry is (label, function of tensors, arrays).  Odd sizes, 0-d, empty, broadcasting both
ways and non-contiguous views are in the table; ties and kinks are kept out by ``apart``.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import GraphError
from minigrad.testing import gradcheck, gradgradcheck

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape)


def positive(*shape):
    return RNG.uniform(0.5, 2.0, shape)


def apart(*shape):
    """Numbers at least 0.1 from one another and from 0, in random order."""
    size = int(np.prod(shape))
    values = 0.1 * (1 + np.arange(size)) * np.where(np.arange(size) % 2, 1, -1)
    return RNG.permutation(values).reshape(shape)


def views(op):
    """``op`` on arrays that are not contiguous."""
    return lambda *xs: op(*(x.T[::-1] if x.ndim else x for x in xs))


def apply(op, **params):
    return lambda *xs: mg.apply(op, *xs, **params)


CASES = {}


def case(op, label, function, *arrays):
    CASES.setdefault(op, []).append((label, function, arrays))


# -- elementwise ----------------------------------------------------------------------------

SHAPES = [(), (1,), (3, 5), (2, 1, 7), (0, 3)]
UNARY = [
    (normal, "identity negative square exp expm1 sin cos tanh sigmoid softplus gelu"),
    (positive, "sqrt log log1p"),
    (apart, "absolute relu leaky_relu"),
]
for make, names in UNARY:
    for name in names.split():
        function = apply(getattr(ops, name))
        for shape in SHAPES:
            case(name, f"{shape}", function, make(*shape))
        case(name, "views", views(function), make(4, 3))

for alpha in (1.0, 0.3):
    for shape in SHAPES:
        case("elu", f"{alpha} {shape}", apply(ops.elu, alpha=alpha), apart(*shape))
case("leaky_relu", "slope", apply(ops.leaky_relu, negative_slope=-0.5), apart(3, 5))
case("gelu", "tanh", apply(ops.gelu, approximate="tanh"), 3 * normal(3, 5))
case("gelu", "tails", apply(ops.gelu), np.array([-8.0, -4.0, 4.0, 8.0]))
case("softplus", "tails", apply(ops.softplus), np.array([-40.0, -20.0, 20.0, 40.0]))

PAIRS = [((), ()), ((3,), ()), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((0, 3), (3,))]
for name in ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"]:
    function = apply(getattr(ops, name))
    for a, b in PAIRS:
        both = apart(int(np.prod(a)) + int(np.prod(b)))  # no ties between the two either
        x, y = both[: int(np.prod(a))].reshape(a), both[int(np.prod(a)) :].reshape(b)
        if name in ("divide", "power"):
            x, y = positive(*a), positive(*b)
        case(name, f"{a} {b}", function, x, y)
    case(name, "views", views(function), positive(2, 3), apart(2, 3))
case("divide", "number / x", lambda x: 2 / x, positive(3))
case("power", "x ** 3", lambda x: x**3, normal(3, 2))
case("power", "x ** 0", lambda x: x**0 * x, normal(3))
case("power", "x ** -1.5", lambda x: x**-1.5, positive(3))
case("power", "2 ** x", lambda x: 2.0**x, normal(3))
case("power", "0-d ** (3,)", apply(ops.power), positive(), normal(3))
case("power", "negative base", lambda x: x ** np.array([2, 3]), np.array([-1.5, -0.5]))
case("clip", "numbers", apply(ops.clip, low=-0.25, high=0.35), apart(3, 5))
case("clip", "below", apply(ops.clip, low=0.05), apart(4))
case("clip", "above", apply(ops.clip, high=0.05), apart(4))
case("clip", "arrays", lambda x: mg.clip(x, np.full((3, 1), -0.25), np.full(5, 0.35)), apart(3, 5))
case("clip", "tensors", mg.clip, apart(3, 5), np.full((3, 1), -0.25), np.full(5, 0.35))
case("clip", "empty", apply(ops.clip, low=0.0), normal(0, 2))
MASK = RNG.random((3, 4)) < 0.5
for label, a, b in [("same", (3, 4), (3, 4)), ("down", (4,), (3, 1)), ("up", (2, 3, 4), ())]:
    case("where", label, lambda x, y: mg.where(MASK, x, y), normal(*a), normal(*b))
case("where", "number", lambda x: mg.where(MASK, x, 0.0), normal(3, 4))
case("where", "0-d", lambda x, y: mg.where(np.array(True), x, y), normal(), normal())

# -- attention ------------------------------------------------------------------------------

for shape in [(3, 2, 4), (3, 4), (3, 0, 4)]:  # (N, T, A), (N, A)
    for lengths in (None, np.array([5, 1, 3])):
        label = f"query {shape}, lengths {lengths}"
        function = apply(ops.attend, lengths=lengths)
        case("attend", label, function, normal(*shape), normal(3, 5, 4), normal(3, 5, 6))
case("attend", "views", lambda q, k, v: mg.apply(ops.attend, q.T, k.swapaxes(0, 1), v.T),
     normal(4, 3), normal(5, 3, 4), normal(6, 5, 3))  # fmt: skip

# -- reductions -----------------------------------------------------------------------------

AXES = [((), None), ((5,), None), ((3, 4), None), ((3, 4), 0), ((3, 4), -1), ((2, 3, 4), (0, 2))]
for name in ["sum", "mean", "var", "max", "min", "logsumexp"]:
    for shape, axis in AXES:
        for keepdims in (False, True):
            function = apply(getattr(ops, name), axis=axis, keepdims=keepdims)
            label = f"{shape} over {axis}{' kept' * keepdims}"
            case(name, label, function, apart(*shape))
    function = apply(getattr(ops, name), axis=0)
    case(name, "views", views(function), apart(3, 4))
    case(name, "empty", apply(getattr(ops, name), axis=1), apart(0, 3))
case("sum", "empty axis", apply(ops.sum, axis=1), normal(3, 0))
case("sum", "of one over 0", apply(ops.sum, axis=-1), normal())
case("var", "ddof", apply(ops.var, axis=1, ddof=1), normal(3, 4))
case("max", "shared", lambda x: mg.concat([x, x + 0.0]).max() * 1.0, apart(3))
for name in ["softmax", "log_softmax"]:
    for shape, axis in [((5,), 0), ((3, 4), -1), ((3, 4), 0), ((2, 3, 4), 1), ((3, 1), 1)]:
        function = apply(getattr(ops, name), axis=axis)
        case(name, f"{shape} along {axis}", function, normal(*shape))
    case(name, "views", views(apply(getattr(ops, name))), normal(3, 4))
    case(name, "empty", apply(getattr(ops, name)), normal(0, 3))

# -- shapes ---------------------------------------------------------------------------------

for a, b in [((6,), (2, 3)), ((2, 3), (-1,)), ((), (1, 1)), ((0, 3), (3, 0)), ((2, 3, 4), (4, -1))]:
    case("reshape", f"{a} to {b}", apply(ops.reshape, shape=b), normal(*a))
case("reshape", "views", views(apply(ops.reshape, shape=(2, 6))), normal(3, 4))
for shape, axes in [((3, 4), None), ((2, 3, 4), (2, 0, 1)), ((2, 3, 4), (-1, 0, 1)), ((), None)]:
    case("transpose", f"{shape} {axes}", apply(ops.transpose, axes=axes), normal(*shape))
for a, b in [((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2, 2)), ((1, 3), (4, 2, 3)), ((1,), (0,))]:
    case("broadcast_to", f"{a} to {b}", apply(ops.broadcast_to, shape=b), normal(*a))
case("astype", "to float64", apply(ops.astype, dtype=np.float64), normal(2, 3))
for axis in (None, 0, -1, (0, 1)):
    case("flip", f"{axis}", apply(ops.flip, axis=axis), normal(3, 4))
for lengths in (None, np.array([4, 0, 2])):
    shape = (4, 3, 2) if lengths is not None else (4, 3)
    reverse = apply(ops.reverse_sequence, lengths=lengths)
    case("reverse_sequence", f"lengths {lengths}", reverse, normal(*shape))
for axis in (0, 1, -1):
    sizes = [(2, 3), (2, 3), (2, 3)]
    case("stack", f"{axis}", apply(ops.stack, axis=axis), *(normal(*s) for s in sizes))
    sizes = [(1, 3), (4, 3), (0, 3)] if axis == 0 else [(2, 1), (2, 4), (2, 0)]
    case("concat", f"{axis}", apply(ops.concat, axis=axis), *(normal(*s) for s in sizes))
    case("unstack", f"{axis}", apply(ops.unstack, axis=axis), normal(3, 2))
    case("split", f"{axis}", apply(ops.split, sections=2, axis=axis), normal(4, 6))
case("concat", "one", apply(ops.concat), normal(3))
case("stack", "0-d", apply(ops.stack), normal(), normal())
case("split", "sizes", apply(ops.split, sections=(1, 0, 3), axis=0), normal(4, 2))
case("split", "one part used", lambda x: mg.split(x, 3)[1] ** 2, normal(6))
case("unstack", "two parts used", lambda x: mg.unstack(x)[0] * mg.unstack(x)[2], normal(3, 2))
for width in (1, (1, 2), ((0, 2), (1, 0))):
    case("pad", f"{width}", apply(ops.pad, width=width, value=3.0), normal(2, 3))
case("pad", "empty", apply(ops.pad, width=1), normal(0, 2))

# -- indexing -------------------------------------------------------------------------------

INDICES = [
    1, -1, (2, 3), slice(None), slice(1, 3), slice(None, None, -1), slice(3, 0, -2), None, Ellipsis,
    (Ellipsis, 0), (None, 1, None), (slice(None), None, slice(0, 2)), (1, Ellipsis, None),
    slice(2, 2), [True, False, False, True], np.array([0, 2]), [1, 1, 1],
    np.array([[0, 1], [1, -1]]),
    (slice(None), np.array([0, 2, 2])), (np.array([0, 1, 0]), np.array([1, 2, 1])),
    (np.array([0, 1]), slice(1, 3)), (slice(None), [True, False, True, True, False]),
    (np.array([[0], [3]]), np.array([0, 4])), np.array([], int), (0, [1, 1]),
]  # fmt: skip
for index in INDICES:
    case("getitem", f"{index}", apply(ops.getitem, index=index), normal(4, 5))
case("getitem", "mask", lambda x: x[np.arange(20).reshape(4, 5) % 3 == 0], normal(4, 5))
case("getitem", "mixed", lambda x: x[:, [0, 0, 2], None, 1], normal(2, 3, 4))
case("getitem", "0-d", lambda x: x[()], normal())
case("getitem", "0-d None", lambda x: x[None, ...], normal())
case("getitem", "views", views(lambda x: x[[0, 0, 1], 1:]), normal(3, 4))
for index, shape in [(1, (3, 2)), (slice(0, 2), (3,)), (np.array([0, 0, 2]), (3,))]:
    x = normal(*np.zeros(shape)[index].shape)
    case("scatter", f"{index}", apply(ops.scatter, index=index, shape=shape), x)
for shape in [(4, 3), (2, 4, 3), (4, 0)]:
    order = np.array([2, 0, 3, 1])  # and back it is another one
    given = {"order": order, "back": np.argsort(order)}
    case("reordered", f"{shape}", lambda x, o=given: mg.apply(ops.reordered, x, **o)[0],
         normal(*shape))  # fmt: skip
given = {"order": np.array([2, 0, 1]), "back": np.array([1, 2, 0])}
case("reordered", "several", lambda *xs, o=given: mg.apply(ops.reordered, *xs, **o),
     normal(3, 2), normal(5, 3, 1))  # fmt: skip
for ids in [[1, 3, 1], [[0, 0], [2, 3]], 2, np.zeros((0,), int), np.array([3, 0], np.uint8)]:
    case("embedding", f"{ids}", apply(ops.embedding, ids=np.asarray(ids)), normal(4, 3))
case("embedding", "views", lambda t: mg.embedding(t.T[::-1], np.array([0, 2, 2])), normal(3, 4))

# -- products -------------------------------------------------------------------------------

PRODUCTS = [
    ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((1, 1), (1, 1)),
    ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)),
    ((3,), (2, 5, 3, 4)), ((2, 5, 2, 3), (3,)), ((2, 5, 2, 3), (3, 4)), ((2, 3), (2, 5, 3, 4)),
    ((2, 1, 2, 3), (5, 3, 4)), ((5, 2, 3), (2, 1, 3, 4)), ((2, 5, 2, 3), (2, 5, 3, 4)),
    ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((2, 3, 0), (0, 4)), ((0, 2, 3), (0, 3, 2)), ((0,), (0,)),
]  # fmt: skip
for a, b in PRODUCTS:
    case("matmul", f"{a} {b}", apply(ops.matmul), normal(*a), normal(*b))
case("matmul", "views", lambda x, y: x.T @ y[::2, ::-1], normal(3, 2), normal(6, 4))
case("matmul", "views of 3-D", lambda x, y: x.swapaxes(0, 2) @ y.T, normal(3, 2, 4), normal(5, 3))
for a, b in [((2, 3), (3, 4)), ((3,), (3, 4)), ((5, 2, 3), (3, 4)), ((0, 3), (3, 2))]:
    case("linear", f"{a} {b}", apply(ops.linear), normal(*a), normal(*b), normal(b[1]))
case("linear", "no inputs", apply(ops.linear), normal(2, 0), normal(0, 3), normal(3))
case("linear", "views", views(apply(ops.linear)), normal(4, 3), normal(2, 4), normal(2))
SUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij->ji", (2, 3)), ("ba", (2, 3)),
    ("ij->", (2, 3)), ("ij->j", (2, 3)), ("i,j->ij", (2,), (3,)), ("i,i->", (3,), (3,)),
    (",i->i", (), (3,)), ("...i,...i->...", (2, 1, 3), (4, 3)), ("...ij,...jk", (5, 2, 3), (3, 4)),
    ("i...,i...->...", (3, 2), (3, 1)), ("...,...->...", (2, 3), (3,)),
    ("ij,ij->ij", (1, 3), (2, 3)), ("ij,jk->ik", (2, 3), (1, 4)), ("ij,kj->k", (2, 1), (4, 3)),
    ("ij,k->k", (2, 3), (4,)), ("abc,cd,db->a", (2, 3, 4), (4, 2), (2, 3)),
    ("ij,jk->ik", (0, 3), (3, 2)), ("ij,ij->i", (1, 1), (2, 3)), ("i,i,i->i", (3,), (1,), (3,)),
]  # fmt: skip
for subscripts, *shapes in SUMS:
    function = apply(ops.einsum, subscripts=subscripts)
    case("einsum", f"{subscripts} {shapes}", function, *(normal(*s) for s in shapes))

# -- fused ----------------------------------------------------------------------------------

IDS, MISSING = np.array([[0, 4, 2], [3, 1, 1]]), np.array([[0, -1, 2], [-1, 1, 1]])
WEIGHT = np.array([[1.0, 0.5, 0.0], [2.0, 1.0, 0.25]])
SOFT = RNG.uniform(0.0, 1.0, (2, 3, 5))  # rows do not sum to 1
for reduction in ("mean", "sum", "none"):
    for label, target, more in [
        ("ids", IDS, {}), ("weights", IDS, {"weight": WEIGHT}), ("soft", SOFT, {}),
        ("ignored", MISSING, {"ignore_index": -1}), ("soft weights", SOFT, {"weight": WEIGHT}),
    ]:  # fmt: skip
        function = apply(ops.softmax_cross_entropy, target=target, reduction=reduction, **more)
        case("softmax_cross_entropy", f"{label} {reduction}", function, normal(2, 3, 5))
for reduction in ("mean", "sum", "none"):
    function = apply(ops.squared_error, reduction=reduction)
    for shape in [(), (1,), (3, 5), (2, 1, 7)]:
        case("squared_error", f"{shape} {reduction}", function, normal(*shape), normal(*shape))
    case("squared_error", f"views {reduction}", views(function), normal(4, 3), normal(4, 3))
function = apply(ops.softmax_cross_entropy, target=np.array(1))
case("softmax_cross_entropy", "one row", function, normal(3))
function = apply(ops.softmax_cross_entropy, target=np.zeros(0, int))
case("softmax_cross_entropy", "no rows", function, normal(0, 3))
function = apply(ops.softmax_cross_entropy, target=IDS.T)
case("softmax_cross_entropy", "views", lambda x, f=function: f(x.swapaxes(0, 1)), normal(2, 3, 5))


def dropped(x):
    return mg.dropout(x, 0.4, generator=np.random.default_rng(5))


for shape in [(), (3, 4), (0, 2)]:
    case("dropout", f"{shape}", dropped, normal(*shape))
case("dropout", "views", views(dropped), normal(4, 3))
case("dropout", "of a square", lambda x: dropped(x * x), normal(50))


def norm_arrays(*shape):
    return [normal(*shape), normal(shape[-1]), normal(shape[-1])]


RUNNING = {"running_mean": normal(3), "running_var": positive(3), "training": False}
for shape in [(5, 3), (2, 3), (4, 2, 3, 2), (17, 1), (2, 40), (300, 2)]:
    case("batch_norm", f"{shape}", apply(ops.batch_norm), *norm_arrays(*shape))
for shape in [(5, 3), (2, 3), (4, 2, 3, 5), (17, 1), (2, 40), (300, 4)]:
    case("layer_norm", f"{shape}", apply(ops.layer_norm), *norm_arrays(*shape))
for shape in [(5, 3), (1, 3), (2, 2, 3), (0, 3)]:
    case("batch_norm", f"evaluated {shape}", apply(ops.batch_norm, **RUNNING), *norm_arrays(*shape))
for op in ("batch_norm", "layer_norm"):
    function = apply(getattr(ops, op), epsilon=0.3)
    case(op, "epsilon", function, *norm_arrays(4, 3))
    case(
        op, "views", lambda x, a, b, f=function: f(x.T[::2], a, b),
        normal(3, 8), normal(3), normal(3),
    )  # fmt: skip
case("layer_norm", "two axes", apply(ops.layer_norm), normal(4, 2, 3), normal(2, 3), normal(2, 3))
case("layer_norm", "all axes", apply(ops.layer_norm), normal(2, 3), normal(2, 3), normal(2, 3))
case("layer_norm", "no rows", apply(ops.layer_norm), *norm_arrays(0, 3))


def lstm_arrays(steps, batch, hidden):
    shapes = [(steps, batch, 4 * hidden), (batch, hidden), (batch, hidden)]
    return [normal(*s) for s in [*shapes, (hidden, 4 * hidden), (4 * hidden,)]]


for sizes in [(1, 1, 1), (4, 3, 5), (3, 9, 8), (2, 1, 17), (0, 2, 3), (2, 0, 3)]:
    case("lstm", f"{sizes}", apply(ops.lstm, forget_bias=1.0), *lstm_arrays(*sizes))
case("lstm", "outputs only", lambda *xs: mg.apply(ops.lstm, *xs)[0], *lstm_arrays(3, 2, 4))
case("lstm", "last h only", lambda *xs: mg.apply(ops.lstm, *xs)[1], *lstm_arrays(3, 2, 4))
case("lstm", "last c only", lambda *xs: mg.apply(ops.lstm, *xs)[2], *lstm_arrays(3, 2, 4))
ENDS = np.array([2, 0, 4])
case("lstm", "lengths", apply(ops.lstm, lengths=ENDS), *lstm_arrays(4, 3, 5))
LETTERS = np.array([[0, 2], [2, 2], [1, 0]])
WEIGHTS = [normal(4, 12), *lstm_arrays(3, 2, 3)[1:]]
case("lstm", "ids", lambda *xs: mg.apply(ops.lstm, *xs, ids=LETTERS), *WEIGHTS)



def lstm_layer_arrays(steps, batch, depth, hidden):
    _, h, c, w_h, bias = lstm_arrays(steps, batch, hidden)
    return [normal(steps, batch, depth), h, c, normal(depth, 4 * hidden), w_h, bias]


layer = apply(ops.lstm_layer, forget_bias=1.0)
for sizes in [(1, 1, 1, 1), (4, 3, 2, 5), (3, 9, 4, 8), (2, 1, 40, 17), (0, 2, 2, 3), (2, 0, 1, 3),
              (2, 41, 3, 2), (3, 2, 0, 3)]:  # fmt: skip
    case("lstm_layer", f"{sizes}", layer, *lstm_layer_arrays(*sizes))
case("lstm_layer", "outputs only", lambda *xs: layer(*xs)[0], *lstm_layer_arrays(3, 2, 3, 4))
case("lstm_layer", "last h only", lambda *xs: layer(*xs)[1], *lstm_layer_arrays(3, 2, 3, 4))
case("lstm_layer", "last c only", lambda *xs: layer(*xs)[2], *lstm_layer_arrays(3, 2, 3, 4))
case("lstm_layer", "lengths", apply(ops.lstm_layer, lengths=ENDS), *lstm_layer_arrays(4, 3, 2, 5))
case(
    "lstm_layer", "views", lambda x, w, *xs: layer(x.swapaxes(0, 1), *xs[:2], w.T, *xs[2:]),
    normal(3, 4, 2), normal(20, 2), *lstm_arrays(4, 3, 5)[1:],
)  # fmt: skip


def lstmp_arrays(steps, batch, hidden, size):
    shapes = [(steps, batch, 4 * hidden), (batch, size), (batch, hidden), (size, 4 * hidden)]
    return [normal(*s) for s in [*shapes, (4 * hidden,), (3, hidden), (hidden, size)]]


for sizes in [(1, 1, 1, 1), (4, 3, 5, 2), (3, 9, 4, 8), (2, 1, 17, 3), (0, 2, 3, 2), (2, 0, 3, 4)]:
    case("lstmp", f"{sizes}", apply(ops.lstmp, forget_bias=1.0), *lstmp_arrays(*sizes))
function = apply(ops.lstmp, lengths=ENDS, cell_clip=0.7)
case("lstmp", "lengths, clipped", function, *lstmp_arrays(4, 3, 5, 2))
case("lstmp", "peepholes alone", apply(ops.lstmp), *lstmp_arrays(3, 2, 4, 4)[:-1])
LEAVES = lstmp_arrays(3, 2, 4, 3)
case("lstmp", "projection alone", lambda *xs: mg.apply(ops.lstmp, *xs[:5], None, xs[5]),
     *LEAVES[:5], LEAVES[6])  # fmt: skip
case("lstmp", "clipped alone", apply(ops.lstmp, cell_clip=0.4), *lstmp_arrays(3, 2, 4, 4)[:5])
WEIGHTS = [normal(4, 12), *lstmp_arrays(3, 2, 3, 2)[1:]]
case("lstmp", "ids", lambda *xs: mg.apply(ops.lstmp, *xs, ids=LETTERS), *WEIGHTS)


def layer_norm_arrays(steps, batch, hidden):
    return [*lstm_arrays(steps, batch, hidden)[:4], normal(5, hidden), normal(5, hidden)]


for sizes in [(1, 1, 1), (4, 3, 5), (3, 9, 8), (2, 1, 17), (0, 2, 3), (2, 0, 3)]:
    function = apply(ops.layer_norm_lstm, forget_bias=1.0)
    case("layer_norm_lstm", f"{sizes}", function, *layer_norm_arrays(*sizes))
function = apply(ops.layer_norm_lstm, lengths=ENDS)
case("layer_norm_lstm", "lengths", function, *layer_norm_arrays(4, 3, 5))
function = apply(ops.layer_norm_lstm, epsilon=0.1)
case("layer_norm_lstm", "epsilon", function, *layer_norm_arrays(3, 2, 4))
WEIGHTS = [normal(4, 12), *layer_norm_arrays(3, 2, 3)[1:]]
case("layer_norm_lstm", "ids", apply(ops.layer_norm_lstm, ids=LETTERS), *WEIGHTS)


def one_state_arrays(steps, batch, hidden, gates):
    wide = gates * hidden
    return [normal(*s) for s in [(steps, batch, wide), (batch, hidden), (hidden, wide), (wide,)]]


def gru_arrays(steps, batch, hidden):
    return [*one_state_arrays(steps, batch, hidden, 3), normal(hidden)]


for sizes in [(1, 1, 1), (4, 3, 5), (3, 9, 8), (2, 1, 17), (0, 2, 3), (2, 0, 3)]:
    case("rnn", f"{sizes}", apply(ops.rnn), *one_state_arrays(*sizes, 1))
    function = apply(ops.rnn, activation="relu")
    case("rnn", f"relu {sizes}", function, *one_state_arrays(*sizes, 1))
    case("gru", f"{sizes}", apply(ops.gru), *one_state_arrays(*sizes, 3))
    case("gru", f"reset after {sizes}", apply(ops.gru), *gru_arrays(*sizes))
for op, make in [("rnn", lambda *s: one_state_arrays(*s, 1)), ("gru", gru_arrays)]:
    function = apply(getattr(ops, op))
    case(op, "outputs only", lambda *xs, f=function: f(*xs)[0], *make(3, 2, 4))
    case(op, "last h only", lambda *xs, f=function: f(*xs)[1], *make(3, 2, 4))
    case(op, "lengths", apply(getattr(ops, op), lengths=ENDS), *make(4, 3, 5))
    gates = 1 if op == "rnn" else 3
    leaves = [normal(4, 3 * gates), *make(3, 2, 3)[1:]]
    case(op, "ids", apply(getattr(ops, op), ids=LETTERS), *leaves)
case("gru", "lengths, reset before", apply(ops.gru, lengths=ENDS), *one_state_arrays(4, 3, 5, 3))

# -- images ---------------------------------------------------------------------------------


def image_arrays(n, size, channels, outputs, window, groups=1):
    shapes = (n, *size, channels), (*window, channels // groups, outputs), (outputs,)
    return [normal(*shape) for shape in shapes]


SAME = {"padding": "same"}
for label, sizes, settings in [
    ("valid", (2, (5, 6), 2, 3, (3, 2)), {}),
    ("same", (2, (5, 4), 1, 3, (3, 4)), SAME),
    ("stride", (1, (6, 7), 2, 2, (3, 3)), {"stride": (2, 3), **SAME}),
    ("dilation", (1, (7, 6), 2, 2, (2, 3)), {"dilation": (3, 2), "padding": (1, 2)}),
    ("groups", (2, (4, 4), 4, 6, (2, 2), 2), {"groups": 2}),
    ("depthwise", (1, (4, 5), 3, 3, (3, 3), 3), {"groups": 3, **SAME}),
    ("strided, more stride than window", (1, (7, 7), 2, 3, (2, 2)), {"stride": 3}),
    ("relu", (2, (5, 5), 2, 3, (3, 3)), {"activation": "relu", **SAME}),
    ("pool", (1, (6, 5), 2, 3, (3, 3)), {"pool": 2, **SAME}),
    ("relu, pool", (2, (7, 5), 2, 3, (3, 3)), {"activation": "relu", "pool": 3, **SAME}),
    ("all", (1, (9, 8), 4, 4, (3, 2), 2),
     {"stride": (1, 2), "padding": ((0, 1), (2, 0)), "dilation": (2, 1), "groups": 2,
      "activation": "relu", "pool": (2, 1)}),
    ("wide", (1, (4, 5), 3, 40, (2, 2)), {}),
    ("empty batch", (0, (4, 4), 1, 2, (2, 2)), {}),
]:  # fmt: skip
    case("conv2d", label, apply(ops.conv2d, **settings), *image_arrays(*sizes))
case("conv2d", "views", views(apply(ops.conv2d)), normal(2, 5, 4, 3),
     normal(3, 2, 3, 2), normal(3))  # fmt: skip
case("conv2d", "no bias", lambda x, w: mg.conv2d(x, w, None, 2), normal(1, 5, 5, 2),
     normal(3, 3, 2, 2))  # fmt: skip
for op in (ops.max_pool2d, ops.avg_pool2d):
    for label, shape, settings in [
        ("side by side", (2, 4, 6, 3), {}),
        ("same", (1, 5, 7, 2), {"size": 2, **SAME}),
        ("overlapping", (1, 6, 5, 2), {"size": 3, "stride": (2, 1), **SAME}),
        ("padded", (2, 4, 5, 1), {"size": (2, 3), "padding": ((1, 0), (2, 1))}),
        ("with gaps", (1, 7, 6, 2), {"size": 2, "stride": 3}),
        ("empty batch", (0, 4, 4, 2), {}),
    ]:
        case(op.__name__, label, apply(op, **settings), apart(*shape))
    case(op.__name__, "views", views(apply(op)), apart(2, 3, 4, 4))

# -- the tests ------------------------------------------------------------------------------

TABLE = [
    pytest.param(function, arrays, id=f"{op}: {label}".replace("\n", " "))
    for op, entries in CASES.items()
    for label, function, arrays in entries
]
FIRST_ORDER = {op for op in ops.__all__ if hasattr(getattr(ops, op), "first_order_only")}
TWICE = [p for p in TABLE if p.id.split(":")[0] not in FIRST_ORDER]
FUSED = (
    "batch_norm", "layer_norm", "relu", "leaky_relu", "elu", "softplus", "gelu",
    "embedding", "matmul", "linear", "softmax_cross_entropy", "dropout", "lstm", "lstmp",
    "layer_norm_lstm", "rnn", "gru", "conv2d", "max_pool2d", "avg_pool2d",
)  # fmt: skip
KERNELS = [p for p in TABLE if p.id.split(":")[0] in FUSED]


def test_every_op_is_in_the_table():
    missing = sorted(set(ops.__all__) - set(CASES))
    assert not missing, f"ops without a gradient check: {missing}"
    assert set(CASES) <= set(ops.__all__)


@pytest.mark.parametrize(("function", "arrays"), TABLE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gradient(function, arrays):
    assert gradcheck(function, arrays)


@pytest.mark.parametrize(("function", "arrays"), TWICE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_second_derivative(function, arrays):
    assert gradgradcheck(function, arrays)


@pytest.mark.parametrize("mode", ["numpy", "check"])
@pytest.mark.parametrize(("function", "arrays"), KERNELS)
def test_gradient_of_twins(function, arrays, mode):
    with mg.kernels.use(mode):
        assert gradcheck(function, arrays, directions=1)


@pytest.mark.parametrize("op", sorted(FIRST_ORDER))
def test_missing_second_derivative_is_refused_by_name(op):
    _, function, arrays = CASES[op][1]
    with pytest.raises(GraphError, match=f"{op} .* has no second derivative.*Use "):
        gradgradcheck(function, arrays)


def run(function, arrays, dtype, create_graph=False):
    """Outputs and gradients (of a sum with fixed random weights) in one dtype."""
    inputs = [mg.Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = np.random.default_rng(3)
    weights = [generator.standard_normal(y.shape).astype(y.dtype) for y in outputs]
    return outputs, mg.grad(outputs, inputs, weights, create_graph=create_graph)


@pytest.mark.parametrize(("function", "arrays"), TWICE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_replayed_gradient_is_the_gradient(function, arrays):
    plain, replayed = (run(function, arrays, np.float32, graph)[1] for graph in (False, True))
    for a, b in zip(plain, replayed):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(b.array, a.array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("function", "arrays"), TABLE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_dtype_of_values_and_gradients(function, arrays, request):
    exact = run(function, arrays, np.float64)
    if request.node.callspec.id in ("astype: to float64", "clip: arrays"):
        return  # float64 on purpose
    rough = run(function, arrays, np.float32)
    for wide, narrow in zip(exact, rough):
        for a, b in zip(wide, narrow):
            assert (a.dtype, b.dtype) == (np.float64, np.float32)
            scale = np.abs(a.array).max(initial=1.0)
            np.testing.assert_allclose(b.array, a.array, rtol=2e-5, atol=2e-5 * scale)
    assert [g.shape for g in rough[1]] == [a.shape for a in arrays]
