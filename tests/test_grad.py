"""grad(outputs, inputs): parts of graphs, unused inputs, higher derivatives."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import GraphError, ShapeError


def leaf(*values, dtype=np.float32):
    return mg.Tensor(np.array(values, dtype), requires_grad=True)


# -- grad() ---------------------------------------------------------------------------------


def test_grad_touches_no_grad():
    a, b = leaf(2.0), leaf(3.0)
    (first,) = mg.grad(a * b, a)
    assert isinstance(first, mg.Tensor) and first.tolist() == [3] and not first.requires_grad
    assert a.grad is None and b.grad is None


def test_grad_of_several_outputs_is_summed():
    a, b = leaf(2.0), leaf(1.0, 1.0)
    found = mg.grad([a * 3, b * a], [a, b], [None, np.array([1.0, 10.0])])
    assert [g.tolist() for g in found] == [[14], [2, 20]]


def test_grad_of_inner_tensors():
    a = leaf(2.0)
    h = a * 3
    y = h * h * a
    gh, ga = mg.grad(y, [h, a])
    assert gh.tolist() == [24] and ga.tolist() == [36 + 72]
    h = a * 3
    assert mg.grad(h * 1, h)[0].tolist() == [1] and mg.grad(h, h)[0].tolist() == [1]


def test_grad_walks_only_the_part_between():
    a = leaf(2.0)
    h = mg.exp(a)
    calls = []

    def counted(x):
        return x * 2, lambda g: calls.append(1) or g * 2

    y = mg.apply(counted, h)
    side = mg.apply(counted, a)
    assert mg.grad((y + side).sum(), h)[0].tolist() == [2]
    assert calls == [1]  # not through side
    (h * 3).sum().backward()  # h's own node was not walked, so it is not freed
    np.testing.assert_allclose(a.grad.array, 3 * np.exp([2.0]), rtol=1e-6)


def test_grad_in_parts():
    """A graph cut in the middle by hand gives the gradient of the whole."""
    a = leaf(0.3)
    h = mg.tanh(a)
    loss = mg.exp(h * h)
    (gh,) = mg.grad(loss, h)
    (ga,) = mg.grad(h, a, gh)
    whole = mg.exp(mg.tanh(a) ** 2)
    assert mg.grad(whole, a)[0].item() == pytest.approx(ga.item(), rel=1e-6)


def test_grad_through_a_freed_graph():
    a = leaf(2.0)
    h = mg.exp(a)
    y = h * 3
    mg.grad(y, a)
    for call in (lambda: mg.grad(y, a), lambda: mg.grad(h * 2, a), lambda: mg.grad(y, h)):
        with pytest.raises(GraphError, match="a second time"):
            call()


def test_unused_inputs():
    a, b = leaf(2.0), leaf(1.0, 1.0)
    y = a * 2
    with pytest.raises(GraphError, match=r"on input 1 \(shape \(2,\)\).*allow_unused"):
        mg.grad(y, [a, b], retain_graph=True)
    found = mg.grad(a * 2, [b, a], allow_unused=True)
    assert found[0] is None and found[1].tolist() == [2]
    with pytest.raises(GraphError, match="grad.*input 1 does not require"):
        mg.grad(a * 2, [a, mg.tensor([1.0])])
    with pytest.raises(ShapeError, match="2 outputs but 1 grad_outputs"):
        mg.grad([a * 2, a * 3], a, [np.ones(1)])
    with pytest.raises(GraphError, match="grad.*does not depend"):
        mg.grad(mg.tensor(1.0), a)


def test_one_input_twice():
    a = leaf(2.0)
    first, second = mg.grad(a * a, [a, a])
    assert first.tolist() == second.tolist() == [4]


# -- higher derivatives ---------------------------------------------------------------------


def test_derivatives_of_a_polynomial():
    x = leaf(2.0, dtype=np.float64)
    y = x**4
    for expected in (32.0, 48.0, 48.0, 24.0):
        (y,) = mg.grad(y, x, create_graph=True)
        assert y.item() == expected


def test_derivatives_of_sine_through_mixed_ops():
    x = leaf(0.7, dtype=np.float64)
    y = mg.sin(x)
    for k in range(1, 6):
        (y,) = mg.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(np.sin(0.7 + k * np.pi / 2), abs=1e-12)


def test_backward_with_create_graph():
    x = leaf(3.0)
    (x**3).backward(create_graph=True)
    assert x.grad.tolist() == [27] and x.grad.requires_grad
    slope = x.grad
    x.grad = None
    slope.backward()
    assert x.grad.tolist() == [18]


def test_create_graph_under_no_grad_and_with_a_given_seed():
    x, v = leaf(3.0), leaf(2.0)
    with mg.enable_grad():
        y = x**3
    with mg.no_grad():
        (g,) = mg.grad(y, x, v, create_graph=True)
    assert [t.tolist() for t in mg.grad(g, [x, v])] == [[36], [27]]


def test_gradient_penalty():
    w = leaf(1.0, 2.0, dtype=np.float64)
    x = leaf(0.5, -1.0, dtype=np.float64)
    (slope,) = mg.grad(mg.tanh(w * x).sum(), x, create_graph=True)
    (slope * slope).sum().backward()
    eps = 1e-6
    for i in range(2):
        losses = []
        for sign in (1, -1):
            v = w.array.copy()
            v[i] += sign * eps
            losses.append(((v * (1 - np.tanh(v * x.array) ** 2)) ** 2).sum())
        assert w.grad.array[i] == pytest.approx((losses[0] - losses[1]) / (2 * eps), rel=1e-7)


def test_op_without_second_derivative():
    def opaque(x):
        return np.tanh(np.asarray(x)), lambda g: g * (1 - np.tanh(x) ** 2)

    opaque.first_order_only = "Use mg.tanh."
    x = leaf(1.0)
    with pytest.raises(GraphError, match="opaque .* has no second derivative.*Use mg.tanh"):
        mg.grad(mg.apply(opaque, x), x, create_graph=True)
