"""watch.ClipTimeline: what it keeps of the reports of clipping."""

from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import ArgumentError, DTypeError
from minigrad.watch import ClipTimeline


def report(before, limit=1.0, **shares):
    scale = min(1.0, limit / before)
    return SimpleNamespace(
        before=before, after=before * scale, scale=scale, clipped=scale < 1, shares=shares
    )


def test_clip_timeline_keeps_what_the_reports_say():
    timeline = ClipTimeline()
    timeline.record(0, 3.5, report(0.5, w=0.75, b=0.25))
    timeline.record(10, mg.tensor(2.5), report(4.0, w=1.0))
    assert len(timeline) == 2
    assert timeline.steps.tolist() == [0, 10] and timeline.steps.dtype == np.int64
    assert timeline.loss.tolist() == [3.5, 2.5]
    assert timeline.before.tolist() == [0.5, 4.0]
    assert timeline.after.tolist() == [0.5, 1.0]
    assert timeline.scale.tolist() == [1.0, 0.25]
    assert timeline.clipped.tolist() == [False, True] and timeline.clipped.dtype == np.bool_
    np.testing.assert_array_equal(timeline.shares["w"], [0.75, 1.0])
    np.testing.assert_array_equal(timeline.shares["b"], [0.25, np.nan])
    assert timeline.fraction_clipped == 0.5


def test_clip_timeline_takes_the_report_of_clip_grad_norm():
    weight = nn.Parameter(np.array([3.0, 4.0]))
    timeline = ClipTimeline()
    for step, limit in enumerate((10.0, 1.0)):
        weight.grad = None
        loss = (weight * np.array([3.0, 4.0])).sum()
        loss.backward()
        timeline.record(step, loss, optim.clip_grad_norm_([weight], limit))
    np.testing.assert_allclose(timeline.before, [5, 5])
    np.testing.assert_allclose(timeline.after, [5, 1])
    np.testing.assert_allclose(timeline.scale, [1, 0.2])
    assert timeline.clipped.tolist() == [False, True]
    (share,) = timeline.shares.values()
    np.testing.assert_allclose(share, [1, 1])


def test_running_fraction_is_a_trailing_mean():
    clipped = np.random.default_rng(0).random(50) < 0.4
    timeline = ClipTimeline()
    for step, flag in enumerate(clipped):
        timeline.record(step, 0.0, report(2.0 if flag else 0.5))
    expected = [clipped[max(0, i - 6) : i + 1].mean() for i in range(50)]
    np.testing.assert_allclose(timeline.running_fraction_clipped(7), expected, rtol=1e-14)
    everything = np.cumsum(clipped) / np.arange(1, 51)
    np.testing.assert_allclose(timeline.running_fraction_clipped(1000), everything, rtol=1e-14)
    assert timeline.fraction_clipped == pytest.approx(clipped.mean())


def test_an_empty_timeline_has_empty_arrays():
    timeline = ClipTimeline()
    assert timeline.fraction_clipped == 0.0
    assert timeline.running_fraction_clipped().shape == timeline.before.shape == (0,)
    assert timeline.shares == {}
    with pytest.raises(ArgumentError, match="at least 1 step"):
        timeline.running_fraction_clipped(0)


def test_what_is_no_report_leaves_the_timeline_as_it_was():
    timeline = ClipTimeline()
    with pytest.raises(DTypeError, match="what clip_grad_norm_ returned"):
        timeline.record(0, 1.0, 5.0)
    assert len(timeline) == 0 and timeline.shares == {}
