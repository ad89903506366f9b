"""The checker itself: every kind of wrong gradient has to be caught and named."""

import traceback
from collections import namedtuple

import numba
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.errors import ArgumentError, DTypeError, GradcheckError, GraphError
from minigrad.ops._call import call
from minigrad.testing import gradcheck, gradgradcheck

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5))
BIG = RNG.standard_normal((40, 50))


def calling(op, **params):
    """An op between others, so that its input and its g are inner arrays of the graph."""
    return lambda x: mg.exp(mg.apply(op, mg.sin(x), **params)).sum()


def alone(op, **params):
    return lambda x: mg.apply(op, x, **params)


def failure(function, inputs, **options):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(function, inputs, **options)
    assert not gradcheck(function, inputs, raise_exception=False, **options)
    return str(caught.value)


# -- wrong ops ------------------------------------------------------------------------------


def wrong_factor(x):
    return np.tanh(x), lambda g: g * (1.0 - np.tanh(x))


def slightly_wrong(x):
    return np.tanh(x), lambda g: g * (1.0 - np.tanh(x) ** 2) * 1.0001


def wrong_at_one_index(x, index=(1, 2), by=1.01):
    def vjp(g):
        out = g * 2.0
        out[index] *= by
        return out

    return x * 2.0, vjp


def forgets_a_term(x, y):
    return x * y + y, (lambda g: g * y, lambda g: g * x)


def writes_into_g(x):
    def vjp(g):
        g *= 2.0
        return g

    return x * 2.0, vjp


def writes_into_saved(x):
    def vjp(g):
        x[...] = 0.0
        return g * 2.0

    return x * 2.0, vjp


def writes_into_input(x):
    x += 1.0
    return x * 2.0, lambda g: g * 2.0


def swaps_axes(x):
    return x @ x.T, lambda g: (g + np.swapaxes(g, 0, 1)) @ x


def nan_gradient(x):
    return x * 2.0, lambda g: g * np.nan


@pytest.mark.parametrize("op", [wrong_factor, slightly_wrong, wrong_at_one_index, nan_gradient])
@pytest.mark.parametrize("place", [alone, calling])
def test_wrong_gradient_is_caught_and_its_op_named(op, place):
    text = failure(place(op), X)
    assert "wrong gradient of input 0 ('x'), shape (3, 5), at index (" in text
    assert f"\n  the op of {op.__name__} (made at test_testing.py:" in text
    assert "wrong gradient of argument 0" in text


def test_message_gives_both_values():
    text = failure(lambda x: mg.apply(wrong_factor, x).sum(), np.array([0.5]), directions=1)
    words = text.split("analytic ")[1].replace(",", "").split()
    analytic, numeric = float(words[0]), float(words[2])
    y = np.tanh(0.5)
    assert analytic / numeric == pytest.approx((1 - y) / (1 - y**2), rel=1e-5)


@pytest.mark.parametrize("index", [(0, 0), (13, 29), (39, 49)])
@pytest.mark.parametrize("by", [1.001, -1.0, 0.0])
def test_one_wrong_element_of_many_is_found(index, by):
    text = failure(alone(wrong_at_one_index, index=index, by=by), BIG)
    assert f"input 0 ('x'), shape (40, 50), at index {index}: analytic" in text


def test_each_input_is_told_apart():
    def function(left, right):
        return mg.apply(forgets_a_term, left, right)

    assert "wrong gradient of input 1 ('right')" in failure(function, (X, X))
    named = failure(function, {"right": X, "left": X})
    assert "wrong gradient of input 'right'" in named and "argument 1" in named


def test_right_and_symmetric_ops_pass():
    assert gradcheck(alone(swaps_axes), X)
    assert gradgradcheck(alone(swaps_axes), X)


@pytest.mark.parametrize("place", [alone, calling])
@pytest.mark.parametrize("op", [writes_into_g, writes_into_saved])
def test_vjp_that_writes_is_caught_and_named(op, place):
    text = failure(place(op), X)
    assert "a vjp writes into an array that is not its own" in text
    assert f"the op of {op.__name__} " in text
    with pytest.raises(GradcheckError) as caught:
        gradcheck(place(op), X)
    lines = "".join(traceback.format_exception(caught.value.__cause__))
    assert "x[...] = 0.0" in lines or "g *= 2.0" in lines


@pytest.mark.parametrize("place", [alone, calling])
def test_op_that_writes_into_its_input_is_caught(place):
    text = failure(place(writes_into_input), X)
    assert "writes into an array that is not its own" in text and "writes_into_input" in text


@numba.njit
def kernel_that_writes(g):
    g[0, 0] = 0.0
    return g


def test_kernel_that_writes_is_caught():
    def careless(x):
        return x * 1.0, lambda g: kernel_that_writes(g)

    text = failure(alone(careless), X)
    assert "a vjp writes into an array that is not its own" in text and "the op of careless" in text


def test_function_that_writes_into_its_input_is_caught():
    def function(x):
        x.data += 1.0
        return x * 2

    assert "writes into an array" in failure(function, X)


def test_arrays_are_writeable_again_afterwards():
    fixed, view = mg.Tensor(X.copy()), mg.Tensor(X.copy()).array[:2]
    gradcheck(lambda x: (x * fixed).sum() + x[:2] * mg.Tensor(view), X)
    fixed.data += 1.0
    view += 1.0


def test_graph_outside_of_the_function_is_left_alone():
    w = mg.tensor([2.0], True)
    outer = mg.exp(w)
    seen = outer.node.hooks
    gradcheck(lambda x: x * outer.detach() + x * mg.Tensor(outer.array), X)
    gradcheck(lambda x: x * outer, X)
    assert outer.node.hooks is seen
    outer.sum().backward()
    np.testing.assert_allclose(w.grad.array, np.exp([2.0]), rtol=1e-6)


# -- what is no gradient at all -------------------------------------------------------------


def test_lost_gradients():
    text = failure(lambda x, w: x.detach() * w, (X, X))
    assert "no gradient (None) reaches input 0 ('x')" in text and "detach()" in text
    assert "no gradient (None)" in failure(lambda x: mg.Tensor(x.array * 2), X)
    text = failure(lambda x: x * x.detach(), X)
    assert "wrong gradient of input 0" in text and "Does a value leave the graph" in text


def test_an_input_that_does_not_matter_may_have_none():
    assert gradcheck(lambda x, y: x * 2.0, (X, X))
    assert gradcheck(lambda x: mg.Tensor(np.ones(3)), X)


def test_float32_in_the_middle_or_at_the_end():
    assert "astype (made at test_testing.py" in failure(lambda x: x.float().double() * 2, X)
    assert "returned float32 from float64" in failure(lambda x: x.float(), X)
    assert "output 1 is float32" in failure(lambda x: (x, mg.tensor([1.0])), X)


def test_function_that_is_not_deterministic():
    draws = np.random.default_rng(0)
    assert "differs between two calls" in failure(lambda x: x * draws.random(x.shape), X)
    assert "differs between two calls" in failure(nn.Dropout(0.5, generator=draws), X)
    assert gradcheck(nn.Dropout(0.5, generator=draws).eval(), X)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_that_are_not_finite():
    text = failure(lambda x: mg.log(x).sum(), X)
    assert "output 0 is not finite" in text and "the op of log " in text


@pytest.mark.parametrize("function", [mg.relu, mg.absolute, lambda x: mg.maximum(x, 0.0), mg.sqrt])
def test_kink_at_the_point(function):
    x = np.array([1.0, 0.0, 2.0])
    if function is mg.absolute:  # the subgradient 0 is the central difference
        assert gradcheck(function, x)
        return
    with np.errstate(all="ignore"):
        text = failure(function, x)
    kink = "not differentiable at input 0" in text or "not smooth near input 0" in text
    assert (kink or "not finite" in text) and "index (1,)" in text


def test_kink_beside_the_point():
    text = failure(lambda x: mg.relu(x * 1.0), np.array([1.0, 2e-6, 2.0]))
    assert "not smooth near input 0 ('x'), shape (3,), at index (1,)" in text
    assert "smaller eps" in text and "the op of relu " in text
    assert gradcheck(mg.relu, np.array([1.0, 2e-6, 2.0]), eps=1e-7)


def test_a_tie_of_max_is_a_kink():
    assert "a kink: " in failure(lambda x: x.max() * 1.0, np.array([3.0, 3.0, 1.0, 3.0]))


# -- what can be given ----------------------------------------------------------------------

State = namedtuple("State", "h c")


def test_nested_inputs_and_outputs():
    def cell(x, state, scale, name):
        assert name == "cell" and isinstance(state, State)
        h = mg.tanh(x + state.h) * scale
        return h, (state.c * h, mg.tensor([1, 2]))

    assert gradcheck(cell, (X, State(X, X), 2, "cell"))
    assert gradgradcheck(cell, (X, State(X, X), 2, "cell"))

    def wrong(x, state):
        return mg.apply(forgets_a_term, x, state[0][1])

    assert "input 1 ('state')[0][1]" in failure(wrong, (X, ((X, X),)))


def test_float32_inputs_are_checked_in_float64_and_left_alone():
    x = mg.Tensor(X.astype(np.float32), requires_grad=True)
    seen = []
    assert gradcheck(lambda x: seen.append(x.dtype) or mg.tanh(x), x)
    assert set(seen) == {np.dtype(np.float64)}
    assert x.dtype == np.float32 and x.grad is None and x.array.flags.writeable


class Layer(nn.Module):
    def __init__(self, op=ops.tanh):
        self.first = nn.Linear(5, 4, generator=np.random.default_rng(0))
        self.second = nn.Linear(4, 2, generator=np.random.default_rng(1))
        self.op = op
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.second(mg.apply(self.op, self.first(x)))

    def loss(self, x):
        return (self(x) ** 2).mean()


def test_module_in_float32_is_checked_through_a_float64_copy():
    layer = Layer()
    state = layer.state_dict()
    assert gradcheck(layer, X) and gradgradcheck(layer, X)
    assert gradcheck(layer.loss, X) and layer.calls == 0
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    assert all(p.dtype == np.float32 and p.grad is None for p in layer.parameters())


def test_wrong_parameter_is_named():
    layer = Layer()
    text = failure(Layer(wrong_factor), X)
    assert "gradcheck of Layer: " in text and "the op of wrong_factor" in text

    def function(x):
        return layer(x) + mg.apply(forgets_a_term, 2.0, layer.second.bias)

    for given in (list(layer.named_parameters()), dict(layer.named_parameters())):
        text = failure(function, X, parameters=given)
        assert "wrong gradient of parameter 'second.bias', shape (2,), at index (" in text


def test_parameters_that_the_function_reaches_by_itself():
    scale, shift = mg.tensor([2.0] * 5, True), mg.tensor([1.0] * 5, True)
    for given in ({"scale": scale, "shift": shift}, [scale, shift]):
        assert gradcheck(lambda x: x * scale + shift, X, parameters=given)
    text = failure(lambda x: x * scale + shift.detach(), X, parameters={"shift": shift})
    assert "no gradient (None) reaches parameter 'shift'" in text
    assert scale.dtype == shift.dtype == np.float32 and scale.array.flags.writeable
    frozen = mg.tensor([1.0] * 5)
    assert gradcheck(lambda x: x * frozen, X, parameters=[frozen])


def test_empty_and_0d_inputs():
    assert gradcheck(mg.exp, np.zeros((0, 3))) and gradcheck(mg.exp, np.array(0.5))


def test_same_result_every_time_and_explicit_generator():
    texts = {failure(alone(wrong_factor), X) for _ in range(3)}
    assert len(texts) == 1
    other = failure(alone(wrong_factor), X, generator=np.random.default_rng(5), directions=3)
    assert other not in texts


def test_bad_calls():
    with pytest.raises(ArgumentError, match="gradcheck: nothing to check"):
        gradcheck(lambda x: x, np.arange(3))
    with pytest.raises(DTypeError, match="must return tensors, got ndarray"):
        gradcheck(lambda x: x.array, X)
    for wrong in ({"eps": 0.0}, {"eps": np.nan}, {"directions": 0}):
        with pytest.raises(ArgumentError, match="eps must be positive"):
            gradcheck(mg.exp, X, **wrong)
    with pytest.raises(ZeroDivisionError):  # what goes wrong in the function is not hidden
        gradcheck(lambda x: x / (1 // 0), X, raise_exception=False)


# -- second derivatives ---------------------------------------------------------------------


def leaves_the_graph(x):
    y = np.tanh(x)
    return y, lambda g: g * (1.0 - np.square(getattr(y, "array", y)))


def wrong_cosine(x):
    return np.cos(x), lambda g: g * np.sin(x)


def wrong_later(x):
    return np.sin(x), lambda g: g * call(wrong_cosine, x)


def test_wrong_second_derivative_is_caught():
    for op, text in ((leaves_the_graph, "no gradient"), (wrong_later, "wrong gradient of input 0")):
        assert gradcheck(alone(op), X)
        with pytest.raises(GradcheckError, match=f"gradgradcheck of the gradient .*: {text}"):
            gradgradcheck(alone(op), X)
        assert not gradgradcheck(alone(op), X, raise_exception=False)
    with pytest.raises(GradcheckError, match="the op of wrong_cosine .*: wrong gradient"):
        gradgradcheck(alone(wrong_later), X)


def test_cotangents_are_checked_too():
    def vjp_forgets_g(x):
        return x * 2.0, lambda g: getattr(g, "array", g) * 2.0

    with pytest.raises((GradcheckError, DTypeError, AttributeError)):
        gradgradcheck(alone(vjp_forgets_g), X)


def test_function_without_gradient_has_no_second_one():
    with pytest.raises(GradcheckError, match="no output depends"):
        gradgradcheck(lambda x: x.detach(), X)


def test_fused_kernel_refuses_by_name():
    sizes = [(2, 1, 4), (1, 1), (1, 1), (1, 4), (4,)]
    with pytest.raises(GraphError, match="lstm .*no second derivative.*nn.LSTMCell"):
        gradgradcheck(lambda *a: mg.apply(ops.lstm, *a), [RNG.standard_normal(s) for s in sizes])
