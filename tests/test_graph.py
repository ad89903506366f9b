"""Recording on and off, nodes, long chains, and when memory is let go of."""

import gc
import threading
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nodes


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
    assert nodes.spell_site(None) == "an unknown place"


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
