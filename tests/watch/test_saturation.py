"""watch.Saturation: what counts as saturated, step by step and in one call."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, ShapeError
from minigrad.watch import LIMITS, Saturation

T, N, H = 3, 4, 5
LSTM = {"i": "sigmoid", "j": "tanh", "f": "sigmoid", "o": "sigmoid", "c": "into tanh"}


def blocks(seed=0, dtype=np.float64):
    """Gates (T, 4, N, H) and cells (T, N, H) with many at the ends."""
    generator = np.random.default_rng(seed)
    return (
        generator.choice([0.0, 0.05, 0.5, 0.95, 1.0, -0.9, -1.0], (T, 4, N, H)).astype(dtype),
        generator.normal(0, 2, (T, N, H)).astype(dtype),
    )


def test_the_limits_are_where_a_slope_is_a_fifth_of_its_largest():
    """That is why 0.9 of a tanh goes with 0.95 of a sigmoid."""
    low, high = LIMITS["sigmoid"]
    assert (low, high) == (0.05, 0.95)
    for value in (low, high):
        assert value * (1 - value) / 0.25 == pytest.approx(0.19)
    for value in LIMITS["tanh"]:
        assert 1 - value**2 == pytest.approx(0.19)
    for z, value in zip(LIMITS["into tanh"], LIMITS["tanh"], strict=True):
        assert math.tanh(z) == pytest.approx(value)


@pytest.mark.parametrize("kernels", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [None, np.array([3, 0, 1, 2])])
def test_fractions_are_counted_over_the_sequences_that_run(lengths, dtype, kernels):
    gates, cells = blocks(dtype=dtype)
    saturation = Saturation(LSTM)
    with mg.kernels.use(kernels):
        saturation.record(lengths, gates, cells)
    ends = np.full(N, T) if lengths is None else lengths
    for k, (name, kind) in enumerate(LSTM.items()):
        low, high = (dtype(limit) for limit in LIMITS[kind])
        for t in range(T):
            values = (gates[t, k] if k < 4 else cells[t])[ends > t]
            assert saturation.low[name][0, t] == np.mean(values <= low)
            assert saturation.high[name][0, t] == np.mean(values >= high)
            both = np.mean((values <= low) | (values >= high))
            assert saturation.both[name][0, t] == pytest.approx(both)
    assert 0 < saturation.low["i"][0, 0] < 1 and 0 < saturation.high["c"][0, 0] < 1


def test_one_call_and_step_by_step_are_the_same():
    gates, cells = blocks()
    lengths = np.array([3, 0, 1, 3])
    fused, composed = Saturation(LSTM), Saturation(LSTM)
    fused.record(lengths, gates, cells)
    for t in range(T):
        composed.watch_step(t, lengths > t, *gates[t], mg.Tensor(cells[t]))
    for name in LSTM:
        np.testing.assert_array_equal(fused.low[name], composed.low[name])
        np.testing.assert_array_equal(fused.high[name], composed.high[name])


def test_a_relu_is_saturated_at_zero():
    saturation = Saturation({"h": "relu"})
    saturation.record(None, np.array([0.0, 0.5, 1e9, 0.0]).reshape(1, 1, 4))
    assert saturation.low["h"].tolist() == [[0.5]] and saturation.high["h"].tolist() == [[0.0]]


def test_nan_is_not_saturated():
    saturation = Saturation({"h": "tanh"})
    saturation.record(None, np.array([np.nan, 1.0]).reshape(1, 1, 2))
    saturation.watch_step(0, None, np.array([[np.nan, 1.0]]))
    assert saturation.both["h"].tolist() == [[0.5], [0.5]]


def test_where_every_sequence_has_ended_there_is_no_fraction():
    gates, cells = blocks()
    saturation = Saturation(LSTM)
    saturation.record(np.array([1, 0, 1, 1]), gates, cells)
    assert np.isnan(saturation.low["f"]).tolist() == [[False, True, True]]


def test_records_have_training_steps_and_windows_may_differ():
    saturation = Saturation({"r": "sigmoid"})
    saturation.tag(10)
    saturation.record(None, np.ones((2, 1, N, H)))
    saturation.tag(20)
    for t in range(3):
        saturation.watch_step(t, None, np.zeros((N, H)))
    assert saturation.steps.tolist() == [10, 20] and len(saturation) == 2
    np.testing.assert_array_equal(saturation.high["r"], [[1, 1, np.nan], [0, 0, 0]])


def test_an_empty_recorder_has_empty_arrays():
    saturation = Saturation(LSTM)
    assert saturation.low["i"].shape == (0, 0) and saturation.steps.shape == (0,)


def test_gates_that_are_pushed_to_their_ends_are_seen_to_be():
    """A forget bias of 100 opens every forget gate, one of -100 shuts it."""
    generator = np.random.default_rng(0)
    for bias, open_, shut in ((100.0, 1, 0), (-100.0, 0, 1), (0.0, 0, 0)):
        lstm = nn.LSTM(2, H, bias, generator=generator)
        with Saturation.attach(lstm) as gates:
            lstm(np.zeros((N, T, 2), np.float32))
        assert gates["LSTM"].high["f"].tolist() == [[open_] * T]
        assert gates["LSTM"].low["f"].tolist() == [[shut] * T]
        assert not gates["LSTM"].both["i"].any()


@pytest.mark.parametrize("kinds", [{}, {"i": "softmax"}])
def test_unknown_kinds_are_refused(kinds):
    with pytest.raises(ArgumentError, match="sigmoid, tanh, into tanh, relu"):
        Saturation(kinds)


def test_wrong_activations_are_refused_and_nothing_is_recorded():
    gates, cells = blocks()
    saturation = Saturation(LSTM)
    with pytest.raises(ShapeError, match=r"5 activations \(i, j, f, o, c\).*got \(3, 4, 4, 5\)"):
        saturation.record(None, gates)
    with pytest.raises(ShapeError, match="5 activations .* got 4"):
        saturation.watch_step(0, None, *gates[0])
    for t in (1, -1):
        with pytest.raises(ArgumentError, match=f"t must be 0.*got {t}"):
            saturation.watch_step(t, None, *gates[0], cells[0])
    assert len(saturation) == 0
    saturation.watch_step(0, None, *gates[0], cells[0])
    with pytest.raises(ArgumentError, match="t must be 1.*got 2"):
        saturation.watch_step(2, None, *gates[0], cells[0])
    assert len(saturation) == 1
