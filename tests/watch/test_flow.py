"""watch.GradientFlow: what it keeps, and that layers and cells in a loop tell the same story."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, ShapeError
from minigrad.watch import GradientFlow

T, N, D, H = 7, 3, 4, 5


def twins(forget_bias=1.0):
    """A fused layer and a cell with the same float64 weights, and an input (T, N, D)."""
    generator = np.random.default_rng(0)
    lstm = nn.LSTM(D, H, forget_bias, time_major=True, generator=generator).double()
    cell = nn.LSTMCell(D, H, forget_bias, generator=generator).double()
    for parameter in lstm.parameters():
        parameter.array[...] = generator.normal(size=parameter.shape)
    cell.load_state_dict(lstm.state_dict())
    return lstm, cell, generator.normal(size=(T, N, D))


def unroll(cell, x, flow):
    """The outputs h_0 .. h_{T-1} of a cell, watched."""
    h, c = cell.zero_state(x.shape[1])
    outputs = []
    for t in range(len(x)):
        _, (h, c) = cell(mg.Tensor(x[t]), (h, c))
        flow.watch_step(t, h, c)
        outputs.append(h)
    return outputs, h, c


LOSSES = {
    "every output": lambda outputs, h, c: (mg.stack(outputs) ** 3).sum(),
    "last output": lambda outputs, h, c: h.sum(),
    "last cell state": lambda outputs, h, c: (c * c).sum(),
    "an early output": lambda outputs, h, c: outputs[2].sum(),
}


@pytest.mark.parametrize("kernels", ["numba", "numpy"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_fused_layer_and_cell_loop_record_the_same(loss, kernels):
    lstm, cell, x = twins()
    fused, composed = GradientFlow(), GradientFlow()
    lstm.flow = fused.record
    with mg.kernels.use(kernels):
        outputs, (h, c) = lstm(mg.Tensor(x))
        loss(list(outputs), h, c).backward()
    loss(*unroll(cell, x, composed)).backward()
    for a, b in ((fused.h, composed.h), (fused.c, composed.c)):
        assert a.shape == b.shape == (1, T) and a.dtype == b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-300)
    assert fused.h.any() and fused.c.any()


def test_gradients_are_total_not_only_what_comes_from_above():
    """With a loss on the last output alone, h_0 has no direct gradient at all."""
    _, cell, x = twins()
    flow = GradientFlow()
    outputs, h, c = unroll(cell, x, flow)
    (expected,) = mg.grad(h.sum(), outputs[0], retain_graph=True)
    flow = GradientFlow()
    outputs, h, c = unroll(cell, x, flow)
    h.sum().backward()
    assert flow.h[0, 0] == pytest.approx(np.linalg.norm(expected.numpy()), rel=1e-12)
    assert flow.h[0, 0] > 0
    assert flow.h[0, -1] == pytest.approx(np.sqrt(N * H), rel=1e-12)


def test_states_that_the_loss_does_not_reach_count_as_zero():
    _, cell, x = twins()
    flow = GradientFlow()
    outputs, h, c = unroll(cell, x, flow)
    outputs[2].sum().backward()
    assert (flow.h[0, :3] > 0).all() and not flow.h[0, 3:].any()
    assert (flow.c[0, :3] > 0).all() and not flow.c[0, 3:].any()


def test_every_backward_pass_is_a_record_also_through_the_same_window():
    _, cell, x = twins()
    flow = GradientFlow()
    outputs, h, c = unroll(cell, x, flow)
    h.sum().backward(retain_graph=True)
    (2 * h.sum()).backward()
    assert len(flow) == 2
    np.testing.assert_allclose(flow.h[1], 2 * flow.h[0], rtol=1e-12)
    np.testing.assert_allclose(flow.c[1], 2 * flow.c[0], rtol=1e-12)


def test_windows_of_a_truncated_run_become_records_with_their_training_step():
    lstm, cell, x = twins()
    fused, composed = GradientFlow(), GradientFlow()
    lstm.flow = fused.record
    state, (h, c) = None, cell.zero_state(N)
    for step in (0, 10, 20):
        for flow in (fused, composed):
            flow.tag(step)
        outputs, state = lstm(mg.Tensor(x * (1 + step)), state)
        outputs.sum().backward()
        state = tuple(part.detach() for part in state)
        outputs = []
        for t in range(T):
            _, (h, c) = cell(mg.Tensor(x[t] * (1 + step)), (h, c))
            composed.watch_step(t, h, c)
            outputs.append(h)
        mg.stack(outputs).sum().backward()
        h, c = h.detach(), c.detach()
    for flow in (fused, composed):
        assert flow.steps.tolist() == [0, 10, 20] and flow.steps.dtype == np.int64
    np.testing.assert_allclose(fused.h, composed.h, rtol=1e-10)
    np.testing.assert_allclose(fused.c, composed.c, rtol=1e-10)


def test_nothing_is_recorded_under_no_grad_and_nothing_breaks():
    lstm, cell, x = twins()
    flow = GradientFlow()
    lstm.flow = flow.record
    with mg.no_grad():
        lstm(mg.Tensor(x))
        unroll(cell, x, flow)
    assert len(flow) == 0
    assert flow.h.shape == flow.c.shape == (0, 0) and flow.steps.shape == (0,)


def test_watching_changes_no_gradient():
    _, cell, x = twins()
    gradients = []
    for watched in (False, True):
        cell.zero_grad()
        h, c = cell.zero_state(N)
        for t in range(T):
            _, (h, c) = cell(mg.Tensor(x[t]), (h, c))
            if watched:
                GradientFlow().watch_step(0, h, c)
        h.sum().backward()
        gradients.append([p.grad.numpy().copy() for p in cell.parameters()])
    for plain, seen in zip(*gradients, strict=True):
        np.testing.assert_array_equal(plain, seen)


def test_records_number_themselves_without_tags():
    flow = GradientFlow()
    for _ in range(3):
        flow.record(np.ones((2, 4), np.float32))
    assert flow.steps.tolist() == [0, 1, 2]


def test_what_was_recorded_stays_when_the_caller_reuses_its_array():
    flow, norms = GradientFlow(), np.array([[1.0, 2.0], [3.0, 4.0]])
    flow.record(norms)
    norms[:] = 0
    assert flow.h.tolist() == [[1, 2]] and flow.c.tolist() == [[3, 4]]


def test_shorter_windows_are_filled_up_with_nan():
    flow = GradientFlow()
    flow.record(np.ones((2, 2)))
    flow.record(np.full((2, 3), 2.0))
    np.testing.assert_array_equal(flow.h, [[1, 1, np.nan], [2, 2, 2]])
    np.testing.assert_array_equal(flow.c, [[1, 1, np.nan], [2, 2, 2]])


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 3, 4), (), (0, 4)])
def test_norms_of_another_shape_are_refused(shape):
    flow = GradientFlow()
    with pytest.raises(ShapeError, match=r"\(1, T\) or \(2, T\)"):
        flow.record(np.zeros(shape))
    assert len(flow) == 0


def test_a_state_of_one_part_has_no_c():
    flow = GradientFlow()
    flow.record(np.ones((1, 3)))
    assert flow.parts == ("h",) and flow.h.tolist() == [[1, 1, 1]]
    with pytest.raises(ArgumentError, match="it has no c"):
        assert flow.c is None
    with pytest.raises(ShapeError, match=r"must be \(1, T\), got \(2, 3\)"):
        flow.record(np.ones((2, 3)))
    assert len(flow) == 1 and flow.steps.tolist() == [0]


def test_the_parts_of_a_state_may_not_change_within_a_window():
    flow, state = GradientFlow(), mg.tensor([[1.0]], requires_grad=True) * 1
    flow.watch_step(0, state)
    with pytest.raises(ShapeError, match="2 parts at step 1"):
        flow.watch_step(1, state, state)
    for parts in ((), (state,) * 3):
        with pytest.raises(ShapeError, match="h, or h and c"):
            flow.watch_step(0, *parts)


def test_a_step_left_out_is_refused_by_number():
    flow, state = GradientFlow(), mg.tensor([[1.0]], requires_grad=True) * 1
    with pytest.raises(ArgumentError, match="t must be 0.*got 1"):
        flow.watch_step(1, state, state)
    flow.watch_step(0, state, state)
    with pytest.raises(ArgumentError, match="t must be 1.*got 2"):
        flow.watch_step(2, state, state)
