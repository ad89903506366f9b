"""Random graphs: forward against NumPy, backward against differences, dtypes, sharing, networks.

A graph is drawn as a list of ops, each applied to tensors made before it.  The same list runs on
tensors, and on plain NumPy arrays, which knows nothing of minigrad.
"""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minigrad as mg
from minigrad import nn
from minigrad.testing import gradcheck


def examples(count):
    return hypothesis.settings(max_examples=count)


def normal(seed, *shape):
    """Numbers away from 0 and from one another: no kink, no tie, no pole is near."""
    rng = np.random.default_rng(seed)
    size = math.prod(shape)
    steps = rng.permutation(size) + rng.uniform(0.2, 0.8, size)
    signs = np.where(rng.random(size) < 0.5, -1.0, 1.0)
    return (signs * (0.3 + 1.2 * steps / max(size, 1))).reshape(shape)


# -- ops that a graph is made of: name -> (of tensors, of arrays) ---------------------------------

SMOOTH = {
    "tanh": (mg.tanh, np.tanh),
    "sigmoid": (mg.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "sin": (mg.sin, np.sin),
    "square": (mg.square, np.square),
    "exp": (lambda x: mg.exp(x * 0.3), lambda x: np.exp(x * 0.3)),
    "log": (lambda x: mg.log(mg.square(x) + 1.0), lambda x: np.log(x * x + 1)),
    "sqrt": (lambda x: mg.sqrt(mg.square(x) + 0.5), lambda x: np.sqrt(x * x + 0.5)),
    "softplus": (mg.softplus, lambda x: np.logaddexp(x, 0)),
    "gelu": (
        mg.gelu, lambda x: x * 0.5 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2))
    ),
    "elu": (mg.elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "negative": (mg.negative, np.negative),
    "power": (lambda x: x**3, lambda x: x**3),
}  # fmt: skip
KINKED = {
    "relu": (mg.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (mg.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "absolute": (mg.absolute, np.absolute),
    "clip": (lambda x: mg.clip(x, -0.9, 0.9), lambda x: np.clip(x, -0.9, 0.9)),
}
BINARY = {
    "add": (lambda x, y: x + y, np.add),
    "subtract": (lambda x, y: x - y, np.subtract),
    "multiply": (lambda x, y: x * y, np.multiply),
    "divide": (lambda x, y: x / (mg.square(y) + 1.0), lambda x, y: x / (y * y + 1)),
    "maximum": (mg.maximum, np.maximum),
    "minimum": (mg.minimum, np.minimum),
    "where": (
        lambda x, y: mg.where(mg.tensor(x.array > 0.1), x, y),
        lambda x, y: np.where(x > 0.1, x, y),
    ),
}
REDUCE = {
    "sum": (mg.sum, np.sum),
    "mean": (mg.mean, np.mean),
    "var": (mg.var, np.var),
    "max": (mg.max, np.max),
    "min": (mg.min, np.min),
    "logsumexp": (
        mg.logsumexp,
        lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
    ),
}
SOFT = {
    "softmax": (mg.softmax, lambda x, axis: np.exp(x) / np.exp(x).sum(axis, keepdims=True)),
    "log_softmax": (
        mg.log_softmax, lambda x, axis: x - np.log(np.exp(x).sum(axis, keepdims=True))
    ),
}  # fmt: skip


class Graph:
    """A random graph: shapes of its leaves, and its ops in order; ``run`` on tensors or arrays."""

    def __init__(self, shapes, steps):
        self.shapes = shapes
        self.steps = steps  # (description, of tensors, of arrays, places of its arguments)

    def run(self, leaves, which):
        made = list(leaves)
        for _, *functions, places in self.steps:
            made.append(functions[which](*[made[place] for place in places]))
        return made[len(leaves) :]

    def __repr__(self):
        lines = [f"{name} of {places}" for name, _, _, places in self.steps]
        return f"leaves {self.shapes}; " + "; ".join(lines)


@st.composite
def broadcastable(draw, shape):
    """A shape that broadcasts with ``shape``, either way."""
    kept = [n if draw(st.booleans()) else 1 for n in shape]
    kept = kept[draw(st.integers(0, len(kept))) :]
    if len(kept) == len(shape) and len(shape) < 3 and draw(st.booleans()):
        kept = [draw(st.integers(1, 3)), *kept]
    return tuple(kept)


@st.composite
def indices(draw, shape):
    """An index with slices, steps, integers, new axes, an ellipsis, a mask or an array of ids."""
    kind = draw(st.sampled_from(["basic", "basic", "ids", "mask"]))
    if kind == "ids":
        ids = st.integers(-shape[0], shape[0] - 1)
        return np.array(draw(st.lists(ids, min_size=1, max_size=4)))
    if kind == "mask":
        mask = np.array(draw(st.lists(st.booleans(), min_size=shape[0], max_size=shape[0])))
        mask[0] = True
        return mask
    parts = []
    for n in shape[: draw(st.integers(1, len(shape)))]:
        start = draw(st.integers(0, n - 1))
        step = draw(st.sampled_from([1, 1, 2, -1]))
        entry = slice(start, None, step)
        parts.append(draw(st.sampled_from([entry, entry, start, slice(None)])))
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if draw(st.booleans()):
        parts.append(...)
    return tuple(parts)


@st.composite
def graphs(draw, most=5, kinks=True):
    """A graph of up to ``most`` random ops on one to three leaves."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    shapes = [shape]
    for _ in range(draw(st.integers(0, 2))):
        shapes.append(draw(broadcastable(shape)))
    unary = {**SMOOTH, **KINKED} if kinks else SMOOTH
    steps, known = [], list(shapes)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, len(known) - 1))
        now = known[place]
        kinds = ["unary", "binary", "matmul"]
        if now:
            kinds += ["reduce", "soft", "getitem", "shape", "join"]
        kind = draw(st.sampled_from(kinds))
        places = [place]
        if kind == "unary":
            name = draw(st.sampled_from(sorted(unary)))
            step = name, *unary[name]
        elif kind == "binary":
            fits = [i for i, other in enumerate(known) if _fit(now, other)]
            places.append(draw(st.sampled_from(fits)))
            name = draw(st.sampled_from(sorted(BINARY)))
            step = name, *BINARY[name]
        elif kind == "matmul":
            depth = now[-1] if now else 0
            if not depth:
                continue
            w = normal(draw(st.integers(0, 99)), depth, draw(st.integers(1, 3)))
            step = f"matmul {w.shape}", lambda x, w=w: x @ w.astype(x.dtype), lambda x, w=w: x @ w
        elif kind == "reduce":
            name = draw(st.sampled_from(sorted(REDUCE)))
            axis = draw(st.one_of(st.none(), st.integers(-len(now), len(now) - 1)))
            if len(now) > 1 and draw(st.booleans()):
                axis = (0, len(now) - 1)
            keep = draw(st.booleans())
            ours, theirs = REDUCE[name]
            step = (
                f"{name} axis={axis} keepdims={keep}",
                lambda x, f=ours, a=axis, k=keep: f(x, axis=a, keepdims=k),
                lambda x, f=theirs, a=axis, k=keep: f(x, axis=a, keepdims=k),
            )
        elif kind == "soft":
            name = draw(st.sampled_from(sorted(SOFT)))
            axis = draw(st.integers(-len(now), len(now) - 1))
            ours, theirs = SOFT[name]
            step = (
                f"{name} axis={axis}",
                lambda x, f=ours, a=axis: f(x, axis=a), lambda x, f=theirs, a=axis: f(x, a),
            )  # fmt: skip
        elif kind == "getitem":
            index = draw(indices(now))
            step = f"[{index}]", lambda x, i=index: x[i], lambda x, i=index: x[i]
        elif kind == "shape":
            order = tuple(draw(st.permutations(range(len(now)))))
            flat = draw(st.booleans())
            step = (
                f"permute {order} flat={flat}",
                lambda x, o=order, f=flat: x.permute(*o).flatten() if f else mg.flip(x.permute(*o)),
                lambda x, o=order, f=flat: x.transpose(o).ravel() if f else np.flip(x.transpose(o)),
            )
        else:
            axis = draw(st.integers(0, len(now) - 1))
            step = (
                f"concat with itself axis={axis}",
                lambda x, a=axis: mg.concat([x, x * 2.0], axis=a),
                lambda x, a=axis: np.concatenate([x, x * 2.0], axis=a),
            )
        with np.errstate(all="ignore"):
            result = step[2](*[np.ones(known[i]) for i in places])
        if 0 < np.size(result) <= 200:
            known.append(np.shape(result))
            steps.append((*step, places))
    hypothesis.assume(steps)
    return Graph(shapes, steps)


def _fit(one, other):
    try:
        return math.prod(np.broadcast_shapes(one, other)) <= 200
    except ValueError:
        return False


def leaves_of(graph, seed, dtype):
    return [normal(seed + i, *shape).astype(dtype) for i, shape in enumerate(graph.shapes)]


def tame(values):
    """Whether numbers are of a size at which a difference says something."""
    return all(np.isfinite(v).all() and np.abs(v).max(initial=0) < 1e3 for v in values)


@examples(60)
@given(graphs(most=8), st.integers(0, 1000))
def test_forward_is_that_of_numpy_in_both_dtypes(graph, seed):
    with np.errstate(all="ignore"):
        expected = graph.run(leaves_of(graph, seed, np.float64), 1)
    hypothesis.assume(tame(expected))
    for dtype, rtol in ((np.float64, 1e-9), (np.float32, 2e-3)):
        tensors = [mg.tensor(x) for x in leaves_of(graph, seed, dtype)]
        if dtype == np.float32 and not _smooth(graph):
            continue  # a number that is rounded may fall on the other side of a kink
        for step, y, wanted in zip(graph.steps, graph.run(tensors, 0), expected, strict=True):
            assert y.dtype == dtype, step[0]
            assert y.shape == np.shape(wanted), step[0]
            scale = np.abs(wanted).max(initial=1.0)
            np.testing.assert_allclose(y.array, wanted, rtol, rtol * scale, err_msg=step[0])


def _smooth(graph):
    sharp = {*KINKED, "where", "maximum", "minimum"}
    return not any(name in sharp for name, *_ in graph.steps)


@examples(40)
@given(graphs(most=5, kinks=False), st.integers(0, 1000))
def test_backward_agrees_with_differences(graph, seed):
    leaves = leaves_of(graph, seed, np.float64)
    with np.errstate(all="ignore"):
        values = graph.run(leaves, 1)
    hypothesis.assume(tame(values) and not _near_a_tie(graph, leaves))
    gradcheck(lambda *x: tuple(graph.run(x, 0)), tuple(leaves), rtol=1e-5, atol=1e-6)


def _near_a_tie(graph, leaves):
    """Whether a largest number, or a choice, could be another one a small step away."""
    nudged = [x + 1e-4 * normal(5, *x.shape) for x in leaves]
    made, moved = list(leaves), list(nudged)
    for name, _, function, places in graph.steps:
        before, after = ([m[i] for i in places] for m in (made, moved))
        word = name.split()[0]
        if word in ("maximum", "minimum", "where", "max", "min"):
            x, x2 = before[0], after[0]
            y, y2 = (before[1], after[1]) if len(before) > 1 else (0.0, 0.0)
            if word == "where":
                x, y, x2, y2 = x - 0.1, 0.0, x2 - 0.1, 0.0
            gaps, gaps2 = np.subtract(x, y), np.subtract(x2, y2)
            if word in ("max", "min"):  # of the entries among one another
                flat = np.sort(np.ravel(x))
                if flat.size > 1 and np.diff(flat).min() < 1e-2:
                    return True
            elif (np.abs(gaps) < 1e-2).any() or (np.sign(gaps) != np.sign(gaps2)).any():
                return True
        made.append(function(*before))
        moved.append(function(*after))
    return False


@examples(40)
@given(graphs(most=6), st.integers(0, 1000), st.sampled_from([np.float32, np.float64]))
def test_gradients_have_the_dtype_and_shape_of_their_leaf(graph, seed, dtype):
    leaves = [mg.tensor(x, requires_grad=True) for x in leaves_of(graph, seed, dtype)]
    with np.errstate(all="ignore"):
        graph.run(leaves, 0)[-1].sum().backward()
    for leaf in leaves:
        if leaf.grad is not None:
            assert (leaf.grad.dtype, leaf.grad.shape) == (leaf.dtype, leaf.shape)
            assert leaf.grad.array.flags.writeable


@examples(25)
@given(graphs(most=4), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_use_does_not_matter_beyond_rounding(graph, seed, random):
    """A sum of all that was made, in any order: the same gradients; again: the same bits."""
    leaves = leaves_of(graph, seed, np.float64)
    with np.errstate(all="ignore"):
        hypothesis.assume(tame(graph.run(leaves, 1)))

    def gradients(order):
        tensors = [mg.tensor(x, requires_grad=True) for x in leaves]
        made = graph.run(tensors, 0)
        terms = [mg.sin(y).sum() * (k + 1.0) for k, y in enumerate(made)]
        terms += [(x * x).sum() for x in tensors]
        total = mg.tensor(0.0, dtype=np.float64)
        for i in order(len(terms)):
            total = total + terms[i]
        total.backward()
        return [x.grad.array for x in tensors]

    def shuffled(count):
        return random.sample(range(count), count)

    straight = gradients(range)
    for one, two, again in zip(straight, gradients(shuffled), gradients(range), strict=True):
        bound = 1e-10 * np.abs(one).max(initial=1.0)
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=bound)
        np.testing.assert_array_equal(one, again)


@examples(15)
@given(graphs(most=5), st.integers(0, 1000))
def test_backward_twice_adds_and_grad_says_the_same(graph, seed):
    leaves = [mg.tensor(x, requires_grad=True) for x in leaves_of(graph, seed, np.float64)]
    with np.errstate(all="ignore"):
        loss = graph.run(leaves, 0)[-1].sum()
        hypothesis.assume(loss.requires_grad and np.isfinite(loss.item()))
        found = mg.grad(loss, leaves, retain_graph=True, allow_unused=True)
        loss.backward(retain_graph=True)
        loss.backward()
    for leaf, g in zip(leaves, found, strict=True):
        assert (leaf.grad is None) == (g is None)
        if g is not None:
            np.testing.assert_array_equal(leaf.grad.array, 2 * g.array)


@examples(15)
@given(graphs(most=6), st.integers(0, 1000))
def test_captured_graphs_give_the_same_bits(graph, seed):
    arrays = leaves_of(graph, seed, np.float32)
    captured = mg.capture(lambda *x: graph.run(x, 0)[-1].sum())

    def both(function):
        leaves = [mg.tensor(x, requires_grad=True) for x in arrays]
        loss = function(*leaves)
        loss.backward()
        return [loss.array, *(np.zeros(()) if x.grad is None else x.grad.array for x in leaves)]

    with np.errstate(all="ignore"):
        plain = both(captured.function)
        for _ in range(4):
            for one, two in zip(plain, both(captured), strict=True):
                np.testing.assert_array_equal(one, two)


# -- networks -------------------------------------------------------------------------------------

LETTERS = st.sampled_from(["linear", "tanh", "elu", "gelu", "softplus", "layer_norm", "batch_norm"])


@examples(12)
@given(st.lists(LETTERS, min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 1000))
def test_dense_networks_against_differences(names, size, seed):
    rng, layers = mg.manual_seed(seed), []
    for name in names:
        after = int(rng.integers(2, 5))
        if name == "linear":
            layers.append(nn.Linear(size, after, bool(rng.integers(2)), generator=rng))
            size = after
        elif name in ("layer_norm", "batch_norm"):
            # one number has no variance, and two are always +-1: nothing to differentiate
            if name == "layer_norm" and size < 3:
                continue
            layers.append(nn.LayerNorm(size) if name == "layer_norm" else nn.BatchNorm(size))
        else:
            kinds = {"tanh": nn.Tanh, "elu": nn.ELU, "gelu": nn.GELU, "softplus": nn.Softplus}
            layers.append(kinds[name]())
    hypothesis.assume(layers)
    first = next((layer.weight.shape[0] for layer in layers if hasattr(layer, "weight")), size)
    model = nn.Sequential(*layers)
    targets = normal(seed, 4, size)
    x = normal(seed + 1, 4, first)
    gradcheck_model(model, lambda model, x: mg.mse_loss(model(x), targets), x)


@examples(10)
@given(
    st.sampled_from(["LSTM", "GRU", "RNN", "LayerNormLSTM"]),
    st.sampled_from(["plain", "stacked", "bidirectional", "cell"]),
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 1000),
)  # fmt: skip
def test_recurrent_networks_against_differences(kind, form, batch, steps, size, cut, seed):
    rng = mg.manual_seed(seed)
    hidden = 2 if kind != "LayerNormLSTM" else 3

    def layer(inputs):
        return getattr(nn, kind)(inputs, hidden, generator=rng)

    if form == "cell":
        model = getattr(nn, f"{kind}Cell")(size, hidden, generator=rng)
    elif form == "stacked":
        model = nn.Stacked([layer(size), layer(hidden)])
    elif form == "bidirectional":
        model = nn.Bidirectional(layer(size), layer(size), merge="sum")
    else:
        model = layer(size)
    lengths = rng.integers(1, steps + 1, batch) if cut else None

    def loss(model, x):
        if form == "cell":
            outputs, _ = nn.unroll(model, x, None, lengths)
        else:
            outputs, _ = model(x, None, lengths)
        return mg.square(outputs).sum() + mg.sin(outputs).sum()

    gradcheck_model(model, loss, normal(seed, batch, steps, size))


@examples(8)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.sampled_from(["same", "valid", 1]),
    st.integers(1, 2), st.booleans(), st.integers(0, 1000),
)  # fmt: skip
def test_convolutional_networks_against_differences(
    n, window, stride, padding, channels, norm, seed
):
    rng = mg.manual_seed(seed)
    conv = nn.Conv2d(channels, 2, window, stride, padding, generator=rng)
    parts = [conv, *([nn.BatchNorm(2)] if norm else []), nn.Tanh(), nn.AvgPool2d(2, padding="same")]
    model = nn.Sequential(*parts, nn.Flatten())
    x = normal(seed, n + 1, 5, 4, channels)
    gradcheck_model(model, lambda model, x: mg.square(model(x)).sum(), x)


def gradcheck_model(model, loss, x):
    """Gradients of x and of all parameters, in float64."""
    model.double()
    gradcheck(
        lambda x: loss(model, x), x, parameters=dict(model.named_parameters()), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("graph", [Graph([(2, 3)], [("tanh", mg.tanh, np.sinh, [0])])])
def test_the_comparison_can_fail(graph):
    with pytest.raises(AssertionError):
        test_forward_is_that_of_numpy_in_both_dtypes.hypothesis.inner_test(graph, 0)
