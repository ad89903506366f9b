"""Recording on and off, long chains, and changes in place that a backward pass needs to know."""

import gc
import re
import threading
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import graph, ops
from minigrad.errors import GraphError, InplaceError


@pytest.fixture(autouse=True)
def recording_is_on_again():
    yield
    assert mg.is_grad_enabled()


# -- no_grad and enable_grad ----------------------------------------------------------------


def test_no_grad_as_context():
    x = mg.tensor([1.0], True)
    with mg.no_grad():
        assert not mg.is_grad_enabled()
        y = x * 2
        with mg.enable_grad():
            z = x * 3
        assert not mg.is_grad_enabled()
    assert not y.requires_grad and y.node is None and y.is_leaf
    assert z.requires_grad and (x * 2).requires_grad


def test_modes_as_decorators():
    x = mg.tensor([1.0], True)

    @mg.no_grad()
    def off(t, times=2):
        """Doc."""
        return t * times

    @mg.enable_grad()
    def on(t):
        return t * 2

    assert not off(x, times=3).requires_grad and off.__name__ == "off" and off.__doc__ == "Doc."
    with mg.no_grad():
        assert on(x).requires_grad
    assert off(x).tolist() == [2]


def test_mode_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert mg.is_grad_enabled()


def test_one_object_entered_twice_and_again():
    off = mg.no_grad()
    with off:
        with off:
            assert not mg.is_grad_enabled()
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    with off, mg.enable_grad(), off:
        assert not mg.is_grad_enabled()


def test_decorated_function_may_call_itself():
    @mg.no_grad()
    def down(n):
        assert not mg.is_grad_enabled()
        return 0 if n == 0 else down(n - 1)

    down(5)


def test_mode_belongs_to_the_thread():
    seen = {}
    inside, done = threading.Event(), threading.Event()

    def other():
        seen["start"] = mg.is_grad_enabled()
        with mg.no_grad():
            inside.set()
            done.wait(10)
            seen["inner"] = mg.is_grad_enabled()

    with mg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(10)
    assert mg.is_grad_enabled()
    done.set()
    thread.join()
    assert seen == {"start": True, "inner": False}


def test_graphs_of_several_threads_do_not_meet():
    weights = mg.tensor([1.0, 2.0, 3.0], True)
    results = {}

    def work(k):
        total = weights * 0.0
        for _ in range(200):
            total = total + mg.tanh(weights * k)
        results[k] = mg.grad(total.sum(), weights)[0].array

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(1, 5):
        exact = 200 * k * (1 - np.tanh(weights.array * k) ** 2)
        np.testing.assert_allclose(results[k], exact, rtol=1e-3, atol=1e-4)


# -- nodes ----------------------------------------------------------------------------------


def test_node_knows_its_op_and_its_place():
    x = mg.tensor([1.0], True)
    y = mg.tanh(x * 2)
    assert y.node.name == "tanh" and y.node.parents[0].node.name == "multiply"
    line = test_node_knows_its_op_and_its_place.__code__.co_firstlineno + 2
    assert repr(y.node) == f"<tanh at test_graph.py:{line}>"
    assert graph.spell_site(None) == "an unknown place"


def test_results_of_which_nothing_depends_are_not_recorded():
    x = mg.tensor([1.0, 2.0])
    assert (x * 2).node is None
    y = mg.tensor([1.0, 2.0], True)
    assert (y > 1).node is None and not (y > 1).requires_grad


def test_chain_of_100000_nodes():
    x = mg.tensor([1.0], True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    first = weakref.ref(y)
    y.backward()
    assert x.grad.tolist() == [1] and y.item() == 100_001
    del y
    assert first() is None


def test_unwalked_chain_of_100000_nodes_is_let_go_of():
    x = mg.tensor([1.0], True)
    y = x
    middle = None
    for i in range(100_000):
        y = mg.tanh(y)
        if i == 50_000:
            middle = weakref.ref(y)
    assert middle() is not None
    del y
    assert middle() is None


def test_ladder_of_shared_nodes_is_walked_once_each():
    x = mg.Tensor(np.array([1.0]), requires_grad=True)
    y = x
    for _ in range(60):  # 2**60 paths
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


def test_nothing_keeps_a_result_alive():
    gc.disable()
    try:
        x = mg.tensor([1.0], True)
        y = mg.exp(x * 2)
        y.retain_grad()
        y.register_hook(lambda g: g * 2)
        seen = weakref.ref(y)
        y.sum().backward()
        del y
        assert seen() is None
    finally:
        gc.enable()


def test_saved_arrays_are_freed_by_the_walk():
    x = mg.tensor([1.0, 2.0], True)
    y = mg.exp(x)
    loss = (y * y).sum()
    seen = weakref.ref(y)
    node = y.node
    del y
    assert seen() is not None
    loss.backward()
    assert seen() is None and node.vjp is None and node.args == ()


# -- changes in place -----------------------------------------------------------------------


def leaf(*values):
    return mg.tensor(list(values), requires_grad=True)


def add_in_place(t):
    t += 1.0


def subtract_in_place(t):
    t -= np.float64(1.0)


def assign_data(t):
    t.data = np.zeros(t.shape)


def add_to_data(t):
    t.data += 1.0


def set_item(t):
    t[0] = 5.0


def change_detached(t):
    d = t.detach()
    d *= 2.0


def change_view(t):
    v = t.detach()[:1]
    v /= 2.0


CHANGES = [
    (add_in_place, r"\+="), (subtract_in_place, "-="), (assign_data, r"assignment to \.data"),
    (add_to_data, r"assignment to \.data"), (set_item, r"t\[\.\.\.\] = value"),
    (change_detached, r"\*="), (change_view, "/="),
]  # fmt: skip


@pytest.mark.parametrize(("change", "how"), CHANGES)
@pytest.mark.parametrize("which", ["an input", "the result", "a view of an input"])
def test_change_is_named_with_both_places(which, change, how):
    w = leaf(2.0, 3.0)
    x = mg.tensor([1.0, 4.0])
    if which == "an input":
        loss, target, op = (w * x).sum(), x, "multiply"
    elif which == "the result":
        target = mg.exp(w)
        loss, op = target.sum(), "exp"  # sum saves nothing but a shape
    else:
        loss, target, op = (w * x.reshape(2, 1)[:, 0]).sum(), x, "multiply"
    with mg.no_grad():
        change(target)
    changed = change.__code__.co_firstlineno
    with pytest.raises(InplaceError) as caught:
        loss.backward()
    text = str(caught.value)
    assert text.startswith(f"{op} (made at test_graph.py:")
    assert ("saved its result" if which == "the result" else "saved argument 1") in text
    assert re.search(f"but {how} changed it in place at test_graph.py:", text)
    assert f"test_graph.py:{changed + 1}" in text or f"test_graph.py:{changed + 2}" in text
    assert w.grad is None
    assert isinstance(caught.value, (GraphError, RuntimeError))


@pytest.mark.parametrize(("change", "how"), CHANGES)
def test_change_of_what_no_vjp_saved_is_allowed(change, how):
    w = leaf(2.0, 3.0)
    x = mg.tensor([1.0, 4.0])
    y = w + x  # saves nothing
    z = (y - x).sum()
    with mg.no_grad():
        change(x)
        change(y)
    z.backward()
    assert w.grad.tolist() == [1, 1]


def test_change_before_the_op_is_allowed():
    w, x = leaf(2.0), mg.tensor([1.0])
    x += 4.0
    y = w * x
    y.sum().backward()
    assert w.grad.tolist() == [5]


def test_change_of_a_parameter_after_its_backward_is_allowed():
    w = leaf(2.0)
    for _ in range(3):
        w.grad = None
        (w * w).sum().backward()
        with mg.no_grad():
            w -= 0.1 * w.grad
    np.testing.assert_allclose(w.array, [2 * 0.8**3], rtol=1e-6)


def test_optimiser_step_between_forward_and_backward_is_noticed():
    w = leaf(2.0)
    first, second = (w * w).sum(), (w * w * w).sum()
    first.backward()
    with mg.no_grad():
        w -= w.grad
    with pytest.raises(InplaceError, match=r"multiply .*-= changed it in place at test_graph\.py"):
        second.backward()


def test_writes_to_two_parts_of_one_memory():
    base = mg.tensor([1.0, 2.0, 3.0, 4.0])
    left, right = base[:2], base[2:]
    w = leaf(1.0, 1.0)
    loss = (w * left).sum()
    left += 1.0
    right += 1.0  # the later write must not hide the earlier one
    with pytest.raises(InplaceError, match="multiply .*argument 1"):
        loss.backward()


def test_write_to_another_part_of_the_memory_is_allowed():
    base = mg.tensor([1.0, 2.0, 3.0, 4.0])
    left, right = base[:2], base[2:]
    w = leaf(1.0, 1.0)
    loss = (w * left).sum()
    right += 1.0
    loss.backward()
    assert w.grad.tolist() == [1, 2]


def test_index_arrays_and_outputs_of_several():
    x = leaf(1.0, 2.0, 3.0, 4.0)
    parts = mg.split(mg.exp(x), 2)
    loss = (parts[0] * parts[1]).sum()
    with mg.no_grad():
        part = parts[1]
        part *= 0.0
    with pytest.raises(InplaceError, match="multiply .*argument 1"):
        loss.backward()


def test_create_graph_needs_the_inputs_even_where_the_vjp_saved_nothing():
    w, x = leaf(2.0), mg.tensor([1.0])
    y = (w + x).sum()
    x += 1.0
    with pytest.raises(InplaceError, match="add .*saved argument 1"):
        mg.grad(y, w, create_graph=True)


def test_recorded_writes_are_refused_or_out_of_place():
    w, x = leaf(2.0, 3.0), mg.tensor([1.0, 4.0])
    with pytest.raises(InplaceError, match=r"x \+= y on a leaf .*\(2,\).*x = x \+ y"):
        w += 1.0
    with pytest.raises(InplaceError, match=r"t\[index\] = value cannot be recorded.*no_grad"):
        w[0] = 1.0
    with pytest.raises(InplaceError, match="where, concat, stack"):
        x[0] = w[0]
    before = x.array
    y = x
    y += w  # means y = y + w
    assert y is not x and y.requires_grad and x.array is before and x.tolist() == [1, 4]
    y.sum().backward()
    assert w.grad.tolist() == [1, 1] and w.tolist() == [2, 3]


def test_failed_write_changes_nothing():
    x = mg.tensor([1.0, 2.0])
    w = leaf(1.0, 1.0)
    loss = (w * x).sum()
    for bad in (lambda: x.__iadd__(np.ones(3)), lambda: x.__setitem__(9, 1.0)):
        with pytest.raises((ValueError, IndexError)):
            bad()
    with pytest.raises(mg.errors.ShapeError, match=r"value has shape \(3,\), t has \(2,\)"):
        x.data = np.ones(3)
    loss.backward()
    assert x.tolist() == [1, 2] and w.grad.tolist() == [1, 2]


def test_in_place_keeps_memory_and_dtype():
    x = mg.tensor([1.0, 2.0])
    array, view = x.array, x[1:]
    x += np.float64(1.5)
    x *= np.ones(2, np.float64)
    assert x.array is array and x.dtype == np.float32
    assert view.tolist() == [3.5]


def test_op_that_saves_in_a_nested_closure():
    def nested(x):
        kept = {"arrays": [x]}

        def inner(g):
            return g * kept["arrays"][0]

        return x * x / 2, lambda g: inner(g)

    w = leaf(3.0)
    y = w * 1.0
    loss = mg.apply(nested, y).sum()
    with mg.no_grad():
        y += 1.0
    with pytest.raises(InplaceError, match="nested"):
        loss.backward()


def test_identity_shares_memory_and_storage():
    w = leaf(2.0)
    y = mg.apply(ops.identity, w)
    loss = mg.exp(y).sum() + (y * y).sum()
    with mg.no_grad():
        w += 1.0
    with pytest.raises(InplaceError, match="multiply"):
        loss.backward()
