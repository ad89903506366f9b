"""Pictures of what :mod:`minigrad.watch` recorded.

Each function returns a matplotlib Figure, 1200 pixels wide, which a notebook shows by
itself and :func:`save` writes as PNG.  Neither a display nor pyplot is needed, and
matplotlib is imported when the first picture is drawn.  Every picture has a title that says
what was found; ``title=`` puts another one in its place.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _canvas
from ._canvas import BLUE, GREY, ORANGE, RED
from .errors import ArgumentError, ShapeError
from .files import replacing
from .watch import ClipTimeline, GradientFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 600  # of a heat map; more would be narrower than a pixel
_WINDOW = 100  # steps over which the fraction clipped is taken


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG; whatever was at ``path`` is replaced whole, or not at all.

    Raises ArgumentError unless the name ends in .png, OSError if it cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise ArgumentError(f"plot.save: the name must end in .png, got {os.fspath(path)!r}")
    png = _canvas.png(figure)
    with replacing(path) as file:
        file.write(png)


def gradient_flow(flow: GradientFlow, *, title: str | None = None) -> Figure:
    """Heat maps of ||dL/dh_t|| and ||dL/dc_t||: training step across, time step upwards.

    Beside each map: the median norm of each time step, in the first and in the last tenth of
    training.  The hatched edge is where truncation cuts.  One colour scale, logarithmic,
    serves both maps; long recordings are drawn as medians of neighbouring steps; grey is a
    gradient of exactly zero, or not finite.  Raises ArgumentError if nothing was recorded.
    """
    if not len(flow):
        raise ArgumentError(
            "plot.gradient_flow: nothing was recorded; set lstm.flow = flow.record before "
            "training, or call flow.watch_step(t, h, c) after every step of a cell"
        )
    from matplotlib.colors import LogNorm

    norms = np.stack([flow.h, flow.c])  # (2, records, T)
    scale = LogNorm(*_log_limits(norms))
    figure = _canvas.new_figure(title or _flow_message(flow.h), height=6.0)
    panels = figure.subplots(
        2, 3, sharex="col", gridspec_kw={"width_ratios": [5, 1.7, 0.15], "wspace": 0.03}
    )
    names = [_norm_of("h") + ", the output", _norm_of("c") + ", the cell state"]
    for (axes, profile, _), name, part in zip(panels, names, norms):
        mesh = _heat_map(axes, flow.steps, part, scale)
        axes.set_title(name, loc="left")
        axes.set_ylabel("time step t in the window")
        _profile(profile, part)
        profile.set_ylim(axes.get_ylim())
        profile.set_yticks(axes.get_yticks(), [])
    group = -(-len(flow) // _COLUMNS)
    each = f" (a column: median of about {group} records)" if group > 1 else ""
    panels[1, 0].set_xlabel("training step" + each)
    panels[1, 1].set_xlabel("median norm")
    panels[0, 1].legend(loc="lower right", bbox_to_anchor=(1.05, 1), fontsize=8, frameon=False)
    for unused in panels[:, 2]:
        unused.remove()
    side = figure.add_subplot(panels[0, 2].get_gridspec()[:, 2])
    bar = figure.colorbar(mesh, cax=side, extend="both")
    grey = "" if (norms > 0).all() else "; grey: zero or not finite"
    bar.set_label(f"gradient norm over batch and units (log scale{grey})")
    _canvas.plain_labels(bar.ax.yaxis)
    return figure


def clip_timeline(
    timeline: ClipTimeline, *, threshold: float | None = None, title: str | None = None
) -> Figure:
    """Loss; global gradient norm before and after clipping; fraction of steps clipped.

    threshold: the largest norm allowed, drawn as a line; if None, what the clipped steps
    were cut to.  The fraction is taken over the last 100 steps at each step.
    Raises ArgumentError if nothing was recorded.
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


def loss_curve(
    steps: Any,
    losses: Any,
    *,
    validation: tuple[Any, Any] | None = None,
    reference: float | None = None,
    reference_label: str = "reference",
    unit: str = "nats",
    title: str | None = None,
) -> Figure:
    """Training loss, raw and smoothed, and validation loss.

    steps, losses: (records,) each, losses in ``unit``.  validation: steps and losses of the
    validation set.  reference: a loss to compare with, drawn as a line.
    Raises ShapeError if steps and values do not pair up, ArgumentError if there are none.
    """
    steps, losses = _pairs("loss_curve: losses", steps, losses)
    points = validation and _pairs("loss_curve: validation", *validation)
    message = _reached("loss", losses, points, reference, reference_label)
    figure = _canvas.new_figure(title or message, height=5.0)
    axes = figure.add_subplot()
    _learning(axes, steps, losses, _canvas.smooth(losses), points, reference, reference_label)
    axes.set_ylabel(f"loss ({unit})")
    return figure


def perplexity(
    steps: Any,
    losses: Any,
    *,
    validation: tuple[Any, Any] | None = None,
    reference: float | None = None,
    reference_label: str = "reference",
    symbol: str = "character",
    title: str | None = None,
) -> Figure:
    """Perplexity of a language model (e to the loss), raw and smoothed, and of validation.

    On its log scale perplexity is linear in the loss, which the right axis shows.
    steps, losses: (records,) each, losses in nats a symbol.  validation: steps and
    *perplexities* of the validation set.  reference: a perplexity to compare with, drawn as
    a line.  symbol: what the model predicts, for the axes.  Raises as :func:`loss_curve`.
    """
    from matplotlib.ticker import MaxNLocator, NullLocator

    steps, losses = _pairs("perplexity: losses", steps, losses)
    points = validation and _pairs("perplexity: validation", *validation)
    with np.errstate(over="ignore"):
        raw, smooth = np.exp(losses), np.exp(_canvas.smooth(losses))
    message = _reached("perplexity", raw, points, reference, reference_label)
    figure = _canvas.new_figure(title or message, height=5.4)
    axes = figure.add_subplot()
    _learning(axes, steps, raw, smooth, points, reference, reference_label)
    _canvas.log_scale(axes, raw)
    axes.set_ylabel(f"perplexity per {symbol} (log scale)")
    right = axes.secondary_yaxis("right", functions=(np.log, np.exp))
    right.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_locator(NullLocator())
    right.set_ylabel(f"loss (nats per {symbol})")
    return figure


# -- what the titles say ----------------------------------------------------------------------


def _norm_of(state: str) -> str:
    """The norm of the gradient of h_t, c_0 and so on, in mathematical type."""
    return rf"$\|\partial L/\partial {state}" + ("_t" if len(state) == 1 else "") + r"\|$"


def _flow_message(h: np.ndarray) -> str:
    """h: (records, T), norms of dL/dh_t."""
    final = h.shape[1] - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = h[:, 0] / h[:, final]
    ratios = ratios[np.isfinite(ratios)]
    if final < 1 or not len(ratios):
        return "Gradients on their way back through time"
    ratio = float(np.median(ratios))
    if ratio < 0.1:
        verb = "fade on their way back"
    elif ratio > 10:
        verb = "explode on their way back"
    else:
        verb = "reach the truncation edge"
    first, last = _norm_of("h_0"), _norm_of(f"h_{{{final}}}")
    return f"Gradients {verb}: {first} is {ratio:.2g} × {last} (median)"


def _clip_message(timeline: ClipTimeline, threshold: float | None) -> str:
    limit = "" if threshold is None else f" at {threshold:g}"
    count, steps = int(timeline.clipped.sum()), len(timeline)
    largest = f"{timeline.before.max():.2g}"
    if not count:
        return f"Clipping{limit} never acted: the largest norm was {largest}"
    fraction = f"{timeline.fraction_clipped:.{1 if count < 0.1 * steps else 0}%}"
    return f"Clipping{limit} acted on {fraction} of {steps:,} steps; the largest norm was {largest}"


def _reached(
    what: str,
    values: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None,
    reference: float | None,
    reference_label: str,
) -> str:
    if validation is None:
        first, last = values[0], np.mean(values[-max(1, len(values) // 50) :])
        kind = "Training"
    else:
        first, last = validation[1][0], validation[1][-1]
        kind = "Validation"
    verb = "falls" if last < first else "goes"
    message = f"{kind} {what} {verb} from {_short(first)} to {_short(last)}"
    return message if reference is None else f"{message} ({reference_label}: {_short(reference)})"


def _short(value: float) -> str:
    """Three digits, but whole numbers in full: 4.53, 126, 9,870."""
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


# -- parts of pictures ------------------------------------------------------------------------


def _pairs(what: str, steps: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    steps, values = np.asarray(steps), np.asarray(values, np.float64)
    if steps.ndim != 1 or steps.shape != values.shape:
        raise ShapeError(
            f"plot.{what}: steps and values must pair up, (records,) each, got "
            f"{steps.shape} and {values.shape}"
        )
    if not len(steps):
        raise ArgumentError(f"plot.{what}: there are no records to draw")
    return steps, values


def _learning(
    axes: Axes, steps: np.ndarray, raw: np.ndarray, smooth: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None, reference: float | None,
    reference_label: str,
) -> None:  # fmt: skip
    """Training curve, validation points and a reference line."""
    _canvas.dress(axes)
    _canvas.curve(axes, steps, raw, smooth, BLUE, "training (smoothed)")
    if validation is not None:
        axes.plot(*validation, "o-", color=ORANGE, ms=5, lw=1, label="validation")
    if reference is not None:
        label = f"{reference_label}: {_short(reference)}"
        axes.axhline(reference, color=RED, ls="--", lw=1.5, label=label)
    axes.set_xlabel("training step")
    axes.legend()


def _log_limits(values: np.ndarray) -> tuple[float, float]:
    """Colour limits: all but the extreme hundredths, at most eight powers of ten."""
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 0.1, 1.0
    low, high = np.quantile(values, [0.01, 0.995])
    low = max(low, high * 1e-8)
    return (low, high) if high > 1.05 * low else (low / 2, high * 2)


def _median(norms: np.ndarray) -> np.ndarray:
    """Median of each time step over the records that reach it.  norms: (records, T)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no record does, it is NaN
        return np.nanmedian(norms, axis=0)


def _heat_map(axes: Axes, steps: np.ndarray, norms: np.ndarray, scale: Any) -> Any:
    """norms (records, T) as colours; a hatched band below t = 0 for what is cut off."""
    import matplotlib

    order = np.argsort(steps, kind="stable")
    groups = np.array_split(order, min(_COLUMNS, len(order)))
    columns = np.array([_median(norms[group]) for group in groups])
    starts = np.array([steps[group[0]] for group in groups])
    end = steps[order[-1]] + (np.median(np.diff(starts)) if len(starts) > 1 else 1)
    edges = np.append(starts, max(end, starts[-1] + 1))
    colors = matplotlib.colormaps["inferno"].with_extremes(bad="0.75")
    times = np.arange(norms.shape[1] + 1) - 0.5
    shown = np.ma.masked_where(~(np.isfinite(columns) & (columns > 0)), columns)
    mesh = axes.pcolormesh(edges, times, shown.T, norm=scale, cmap=colors, rasterized=True)
    ticks = _canvas.whole_numbers().tick_values(0, norms.shape[1])
    axes.set_yticks([tick for tick in ticks if 0 <= tick < norms.shape[1]])
    axes.xaxis.set_major_locator(_canvas.whole_numbers())
    band = 0.13 * norms.shape[1]
    axes.axhspan(-0.5 - band, -0.5, facecolor="white", edgecolor=GREY, hatch="///", lw=0)
    axes.axhline(-0.5, color=RED, lw=2.5)
    axes.text(
        0.5, -0.5 - band / 2, "truncation edge: state detached, no gradient beyond",
        transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=8.5,
        color=RED, fontweight="bold", bbox={"fc": "white", "ec": "none", "pad": 1.5},
    )  # fmt: skip
    axes.set_ylim(-0.5 - band, norms.shape[1] - 0.5)
    return mesh


def _profile(axes: Axes, norms: np.ndarray) -> None:
    """Median of each time step, early and late in training.  norms: (records, T)"""
    _canvas.dress(axes)
    tenth = max(1, len(norms) // 10)
    times = np.arange(norms.shape[1])
    parts = [("first tenth", norms[:tenth], BLUE), ("last tenth", norms[-tenth:], ORANGE)]
    for label, part, color in parts:
        axes.plot(_median(part), times, "o-", color=color, ms=3, label=label)
    axes.axhline(-0.5, color=RED, lw=2.5)
    if np.any(norms > 0):
        axes.set_xscale("log", nonpositive="mask")
        _canvas.plain_labels(axes.xaxis, room=0.5)
