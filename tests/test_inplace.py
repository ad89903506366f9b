"""Changes in place: those a pending backward pass needs to know of, and those it does not."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import ops
from minigrad.errors import GraphError, InplaceError


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
    assert text.startswith(f"{op} (made at test_inplace.py:")
    assert ("saved its result" if which == "the result" else "saved argument 1") in text
    assert re.search(f"but {how} changed it in place at test_inplace.py:", text)
    assert f"test_inplace.py:{changed + 1}" in text or f"test_inplace.py:{changed + 2}" in text
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


def test_change_of_what_only_an_unwanted_gradient_needs_is_allowed():
    w, x = leaf(2.0), mg.tensor([3.0])
    y = (w * x).sum()  # dL/dx would need w, but nobody wants it
    with mg.no_grad():
        w -= 1.0
    y.backward()
    assert w.grad.tolist() == [3]


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
    with pytest.raises(InplaceError, match="multiply .*-= changed it in place at test_inplace"):
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
