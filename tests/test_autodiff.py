"""The backward walk: backward(), hooks, retain_grad, memory of gradients, vjps that are wrong."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.autodiff import unbroadcast
from minigrad.errors import DTypeError, GraphError, InplaceError, ShapeError


def leaf(*values, dtype=np.float32):
    return mg.Tensor(np.array(values, dtype), requires_grad=True)


# -- backward -------------------------------------------------------------------------------


def test_shared_results_are_summed():
    a = leaf(3.0)
    b = a + a
    c = b * b
    c.backward()
    assert c.item() == 36 and a.grad.tolist() == [24]


def test_gradients_accumulate_over_backwards():
    a = leaf(3.0)
    for n in range(1, 4):
        (a * 2).backward()
        assert a.grad.tolist() == [2 * n]


def test_leaf_backward():
    a = leaf(3.0)
    a.backward()
    assert a.grad.tolist() == [1]


def test_order_of_summation_is_the_order_of_the_graph():
    """Contributions to x come from the last use to the first, whatever the hashes are."""
    values = np.float32([1e8, 1.0, -1e8, 3.0])
    x = leaf(1.0)
    total = x * values[0]
    for value in values[1:]:
        total = total + x * value
    total.backward()
    expected = np.float32(0)
    for value in values[::-1]:
        expected = expected + value
    assert x.grad.item() == expected
    seen = []
    y = leaf(1.0)
    parts = [y * float(i) for i in range(5)]
    for i, part in enumerate(parts):
        part.register_hook(lambda g, i=i: seen.append(i))
    (parts[3] + parts[0] + parts[4] + parts[2] + parts[1]).backward()
    assert seen == [4, 3, 2, 1, 0]


def test_same_graph_gives_the_same_bits():
    def run():
        generator = np.random.default_rng(0)
        w = mg.Tensor(generator.standard_normal((20, 20)).astype(np.float32), requires_grad=True)
        x = w
        for _ in range(10):
            x = mg.tanh(x @ w) + w * 0.1
        x.sum().backward()
        return w.grad.array.tobytes()

    assert len({run() for _ in range(5)}) == 1


def test_second_backward_explains_itself():
    a = leaf(3.0)
    y = mg.exp(a * 2)
    y.backward()
    with pytest.raises(GraphError) as caught:
        y.backward()
    text = str(caught.value)
    line = test_second_backward_explains_itself.__code__.co_firstlineno
    assert f"'exp' (made at test_autodiff.py:{line + 2}) a second time" in text
    assert f"freed by the backward at test_autodiff.py:{line + 3}" in text
    assert "state = state.detach()" in text and "retain_graph=True" in text
    assert isinstance(caught.value, RuntimeError)


def test_second_window_over_a_carried_state_explains_itself():
    w, state = leaf(0.5), mg.tensor([1.0])
    state = mg.tanh(state * w)
    state.sum().backward()
    before = w.grad.array.copy()
    with pytest.raises(GraphError, match="'tanh' .*a second time.*detach"):
        mg.tanh(state * w).sum().backward()
    np.testing.assert_array_equal(w.grad.array, before)
    mg.tanh(state.detach() * w).sum().backward()


def test_retain_graph():
    a = leaf(3.0)
    y = a * a
    for n in (1, 2):
        y.backward(retain_graph=True)
        assert a.grad.tolist() == [6 * n]
    y.backward(retain_graph=False)
    with pytest.raises(GraphError, match="second time"):
        y.backward()


def test_backward_needs_a_scalar_or_a_gradient():
    a = leaf(1.0, 2.0)
    y = a * 3
    with pytest.raises(GraphError, match=r"shape \(2,\) has no single gradient.*loss\.mean\(\)"):
        y.backward()
    with pytest.raises(ShapeError, match=r"gradient has shape \(3,\), the tensor has shape \(2,\)"):
        y.backward(np.ones(3))
    assert a.grad is None
    for seed in (np.array([1.0, 10.0]), mg.tensor([1.0, 10.0]), [1, 10]):
        a.grad = None
        y.backward(seed, retain_graph=True)
        assert a.grad.tolist() == [3, 30] and a.grad.dtype == np.float32


def test_backward_of_what_does_not_depend_on_anything():
    for t in (mg.tensor([1.0]), leaf(1.0).detach() * 2, leaf(1.0) > 0):
        with pytest.raises(GraphError, match="does not depend on anything that requires"):
            t.backward()


def test_detach_stops_the_gradient():
    a = leaf(3.0)
    (a.detach() * a).backward()
    assert a.grad.tolist() == [3]


def test_failing_backward_leaves_every_grad_as_it_was():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).sum().backward()
    old = [(t.grad, t.grad.array, t.grad.tolist()) for t in (a, b)]

    def broken(x):
        def vjp(g):
            raise ZeroDivisionError("in the vjp")

        return x * 2, vjp

    loss = (b * 2).sum() + mg.apply(broken, a * 1).sum() + b.sum()
    with pytest.raises(ZeroDivisionError, match="in the vjp"):
        loss.backward()
    noise = mg.tensor([1.0, 1.0])
    loss = (b * 2).sum() + (a * noise).sum()
    noise += 1.0
    with pytest.raises(InplaceError):
        loss.backward()
    for tensor, (grad, array, values) in zip((a, b), old):
        assert tensor.grad is grad and tensor.grad.array is array and tensor.grad.tolist() == values


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a + b,
        lambda a, b: a - (-b),
        lambda a, b: mg.stack([a, b]),
        lambda a, b: mg.concat([a, b]),
        lambda a, b: a.reshape(2, 1) + b.reshape(2, 1),
        lambda a, b: mg.apply(ops.identity, a) + mg.apply(ops.identity, b),
        lambda a, b: mg.apply(lambda x, y: (x + y, lambda g: (g, g)), a, b),
    ],
)
def test_gradients_never_share_memory(function):
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = function(a, b)
    seed = np.ones(y.shape, np.float32)
    y.backward(seed)
    arrays = [seed, a.grad.array, b.grad.array, a.array, b.array]
    for i, first in enumerate(arrays):
        assert first.flags.writeable
        for second in arrays[:i]:
            assert not np.may_share_memory(first, second)
    for t in (a, b):
        t.grad.array *= 0.0
    assert (seed == 1).all()


def test_gradient_of_a_broadcast_input_is_summed():
    a = leaf(1.0)
    (a + mg.zeros(4, 3)).sum().backward()
    assert a.grad.tolist() == [12]


def test_unbroadcast():
    g = np.arange(24.0).reshape(2, 3, 4)
    assert unbroadcast(g, ()).shape == () and unbroadcast(g, ()) == g.sum()
    np.testing.assert_array_equal(unbroadcast(g, (3, 1)), g.sum((0, 2)).reshape(3, 1))
    np.testing.assert_array_equal(unbroadcast(g, (1, 3, 4)), g.sum(0, keepdims=True))
    for shape in [(2,), (1, 2, 3, 4), (3, 2, 4)]:
        with pytest.raises(ShapeError, match="does not fit"):
            unbroadcast(g, shape)


# -- vjps that are wrong --------------------------------------------------------------------


def test_vjp_of_a_wrong_shape_is_refused():
    def transposed(x):
        return x * 2, lambda g: g.T * 2

    x = mg.Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ShapeError, match=r"vjp of transposed .*shape \(3, 2\) .*shape \(2, 3\)"):
        mg.apply(transposed, x).sum().backward()
    assert x.grad is None


def test_vjp_of_a_wrong_dtype_is_refused():
    def promoting(x):
        return x * 2, lambda g: g * np.full(x.shape, 2.0)

    x = leaf(1.0, 2.0)
    with pytest.raises(DTypeError, match="vjp of promoting returned a float64 .* float32 input"):
        mg.apply(promoting, x).sum().backward()
    y = leaf(1.0, dtype=np.float64)
    mg.apply(promoting, y).sum().backward()


def test_gradient_nobody_wants_is_not_computed():
    def picky(x, y):
        return x * y, (lambda g: g * y, lambda g: 1 / 0)

    a = leaf(2.0)
    mg.apply(picky, a, mg.tensor([3.0])).backward()
    assert a.grad.tolist() == [3]


# -- hooks and retain_grad ------------------------------------------------------------------


def test_hooks_on_leaves_and_inner_tensors():
    a = leaf(2.0)
    h = a * 3
    seen = []
    h.register_hook(lambda g: seen.append(("h", g.tolist())))
    a.register_hook(lambda g: seen.append(("a", g.tolist())))
    (h * h + h).backward()
    assert seen == [("h", [13]), ("a", [39])]  # each once, with the whole sum


def test_hook_replaces_the_gradient():
    a = leaf(2.0, 3.0)
    h = a * 1
    h.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: np.clip(g.numpy(), 0, 15).astype(np.float64))
    a.register_hook(lambda g: -g)
    (h * mg.tensor([1.0, 2.0])).sum().backward()
    assert a.grad.tolist() == [-10, -15] and a.grad.dtype == np.float32
    assert mg.grad(a.sum(), a)[0].tolist() == [-1, -1]


def test_removed_hook_is_not_called():
    a = leaf(2.0)
    h = a * 1
    removers = [t.register_hook(lambda g: g * 100) for t in (a, h)]
    for remove in removers:
        remove()
        remove()  # twice is harmless
    (h * 3).backward()
    assert a.grad.tolist() == [3]


def test_bad_hooks():
    a = leaf(2.0, 3.0)
    a.register_hook(lambda g: np.ones(3))
    with pytest.raises(ShapeError, match=r"hook returned .*\(3,\) for a tensor of shape \(2,\)"):
        a.sum().backward()
    assert a.grad is None
    with pytest.raises(GraphError, match="does not require a gradient"):
        mg.tensor([1.0]).register_hook(print)


def test_what_a_hook_keeps_is_not_changed_later():
    a = leaf(2.0)
    seen, constant = [], mg.tensor([5.0])
    a.register_hook(lambda g: seen.append(g))
    for _ in range(2):
        (a * 2).backward()
    assert [g.tolist() for g in seen] == [[2], [2]] and a.grad.tolist() == [4]
    b, c = leaf(1.0), leaf(1.0)
    for t in (b, c):
        t.register_hook(lambda g: constant)
    for _ in range(2):
        (b + c).backward()
    assert constant.tolist() == [5] and b.grad.tolist() == c.grad.tolist() == [10]


def test_hook_in_a_replay_is_differentiable():
    a = leaf(3.0)
    a.register_hook(lambda g: g * g)
    (g,) = mg.grad(a * a, a, create_graph=True)
    assert g.tolist() == [36]


def test_retain_grad():
    a = leaf(2.0)
    h = a * 3
    h.retain_grad()
    h.retain_grad()  # twice is once
    other = h * 2
    (h * h).backward(retain_graph=False)
    assert h.grad.tolist() == [12] and a.grad.tolist() == [36]
    a.retain_grad()  # leaves always do
    assert not h.grad.requires_grad and other.grad is None


def test_retain_grad_of_each_of_several_results():
    a = leaf(1.0, 2.0, 3.0)
    parts = mg.unstack(a * 2)
    for part in parts[:2]:
        part.retain_grad()
    (parts[0] * 5 + parts[2]).backward()
    assert parts[0].grad.item() == 5 and parts[1].grad is None
    assert a.grad.tolist() == [10, 0, 2]
