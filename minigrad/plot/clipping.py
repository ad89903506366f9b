"""What clipping did, over the loss curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError
from ..watch import ClipTimeline
from . import _canvas
from ._canvas import BLUE, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WINDOW = 100  # steps over which the fraction clipped is taken


def clip_timeline(
    timeline: ClipTimeline, *, threshold: float | None = None, title: str | None = None
) -> Figure:
    """Loss; global gradient norm before and after clipping; fraction of steps clipped.

    threshold: the largest norm allowed, drawn as a line; if None, what the clipped steps
    were cut to.  The fraction is taken over the last 100 steps at each step.
    Raises ArgumentError if nothing was recorded.

    >>> import minigrad as mg
    >>> from minigrad import optim, plot, watch
    >>> w, clips = mg.tensor([3.0, 4.0], requires_grad=True), watch.ClipTimeline()
    >>> w.grad = mg.tensor([3.0, 4.0])
    >>> for step in range(3):
    ...     clips.record(step, 1.0, optim.clip_grad_norm_([w], 2.0))
    >>> figure = plot.clip_timeline(clips)
    """
    if not len(timeline):
        raise ArgumentError(
            "plot.clip_timeline: nothing was recorded; call "
            "timeline.record(step, loss, report) after every clip_grad_norm_"
        )
    if threshold is None and timeline.clipped.any():
        threshold = float(np.median(timeline.after[timeline.clipped]))
    steps, before, after = timeline.steps, timeline.before, timeline.after
    figure = _canvas.new_figure(title or _clip_message(timeline, threshold), height=6.6)
    loss, norms, fraction = figure.subplots(3, 1, sharex=True, height_ratios=[3, 4, 1.6])
    for axes in (loss, norms, fraction):
        _canvas.dress(axes)

    _canvas.curve(loss, steps, timeline.loss, _canvas.smooth(timeline.loss), BLUE, "loss")
    loss.set_ylabel("training loss")

    norms.plot(steps, after, color=BLUE, lw=0.7, alpha=0.35)
    cut = timeline.clipped
    if cut.any():
        thin = {"color": RED, "lw": 0.7, "alpha": 0.5}
        norms.vlines(steps[cut], after[cut], before[cut], label="cut off", **thin)
    for values, color, width, name in ((before, ORANGE, 3, "before"), (after, BLUE, 1.6, "after")):
        smoothed, dot = _canvas.log_smooth(values), _canvas.dot(steps)
        norms.plot(steps, smoothed, dot, color=color, lw=width, label=f"{name} (smoothed)")
    if threshold is not None:
        norms.axhline(threshold, color=RED, ls="--", lw=2, label=f"threshold {threshold:g}")
    _canvas.log_scale(norms, before)
    norms.set_ylabel("global gradient\nnorm (log scale)")
    legend = norms.legend(
        loc="lower left", bbox_to_anchor=(0, 0.98), ncols=4, fontsize=9, frameon=False,
        handlelength=2.6,
    )  # fmt: skip
    for handle in legend.legend_handles:
        handle.set(linewidth=2.5, alpha=1)

    running = timeline.running_fraction_clipped(_WINDOW)
    fraction.fill_between(steps, running, color=RED, alpha=0.35, lw=0)
    fraction.plot(steps, running, color=RED, lw=1.5)
    fraction.set_ylim(-0.03, 1.03)
    fraction.set_ylabel(f"fraction clipped\n(last {_WINDOW} steps)")
    fraction.set_xlabel("training step")
    return figure


def _clip_message(timeline: ClipTimeline, threshold: float | None) -> str:
    limit = "" if threshold is None else f" at {threshold:g}"
    count, steps = int(timeline.clipped.sum()), len(timeline)
    largest = _canvas.short(timeline.before.max())
    if not count:
        return f"Clipping{limit} never acted: the largest norm was {largest}"
    fraction = f"{timeline.fraction_clipped:.{1 if count < 0.1 * steps else 0}%}"
    return f"Clipping{limit} acted on {fraction} of {steps:,} steps; the largest norm was {largest}"
