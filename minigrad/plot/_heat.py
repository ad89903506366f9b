"""Heat maps of what belongs to a time step and a training step."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _canvas
from ._canvas import BLUE, GREY, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 600  # of a heat map; more would be narrower than a pixel


def maps(
    figure: Figure, steps: np.ndarray, panels: list[tuple[str, np.ndarray]], scale: Any, *,
    cut: bool, measure: str,
) -> tuple[Any, Any]:  # fmt: skip
    """A heat map for each panel (name, values (records, T)), its profile beside it.

    steps: (records,) training steps.  scale: of the colours.  cut: whether gradients end below
    time step 0.  measure: what the profiles show, for their axis.
    Returns the last map and the axes for a colour bar.
    """
    rows = len(panels)
    grid = figure.subplots(
        rows, 3, sharex="col", squeeze=False,
        gridspec_kw={"width_ratios": [5, 1.7, 0.15], "wspace": 0.03},
    )  # fmt: skip
    for (axes, profile, _), (name, values) in zip(grid, panels):
        mesh = _heat_map(axes, steps, values, scale, cut)
        axes.set_title(name, loc="left")
        axes.set_ylabel("time step t in the window" if rows < 3 else "time step t")
        _profile(profile, values, cut, log=type(scale).__name__ == "LogNorm")
        profile.set_ylim(axes.get_ylim())
        profile.set_yticks(axes.get_yticks(), [])
    group = -(-len(steps) // _COLUMNS)
    each = f" (a column: median of about {group} records)" if group > 1 else ""
    grid[-1, 0].set_xlabel("training step" + each)
    grid[-1, 1].set_xlabel(measure)
    grid[0, 1].legend(loc="lower right", bbox_to_anchor=(1.05, 1), fontsize=8, frameon=False)
    for unused in grid[:, 2]:
        unused.remove()
    return mesh, figure.add_subplot(grid[0, 2].get_gridspec()[:, 2])


def log_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of a log scale: all but the extreme hundredths, at most eight powers of ten."""
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 0.1, 1.0
    low, high = np.quantile(values, [0.01, 0.995])
    low = max(low, high * 1e-8)
    return (low, high) if high > 1.05 * low else (low / 2, high * 2)


def median(values: np.ndarray) -> np.ndarray:
    """Median of each time step over the records that reach it.  values: (records, T)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no record does, it is NaN
        return np.nanmedian(values, axis=0)


def tenths(values: np.ndarray) -> list[tuple[str, np.ndarray, str]]:
    """Name, rows and colour of the first and the last tenth of training."""
    tenth = max(1, len(values) // 10)
    return [
        ("first tenth", values[:tenth], BLUE),
        ("last tenth", values[-tenth:], ORANGE),
    ]


def _heat_map(axes: Axes, steps: np.ndarray, values: np.ndarray, scale: Any, cut: bool) -> Any:
    """values (records, T) as colours; a hatched band below t = 0 for what is cut off."""
    import matplotlib

    order = np.argsort(steps, kind="stable")
    groups = np.array_split(order, min(_COLUMNS, len(order)))
    columns = np.array([median(values[group]) for group in groups])
    starts = np.array([steps[group[0]] for group in groups])
    end = steps[order[-1]] + (np.median(np.diff(starts)) if len(starts) > 1 else 1)
    edges = np.append(starts, max(end, starts[-1] + 1))
    colors = matplotlib.colormaps["inferno"].with_extremes(bad="0.75")
    times = np.arange(values.shape[1] + 1) - 0.5
    hidden = ~np.isfinite(columns)
    if cut:  # a gradient of zero has no place on a log scale
        hidden |= ~(columns > 0)
    shown = np.ma.masked_where(hidden, columns)
    mesh = axes.pcolormesh(edges, times, shown.T, norm=scale, cmap=colors, rasterized=True)
    ticks = _canvas.whole_numbers().tick_values(0, values.shape[1])
    axes.set_yticks([tick for tick in ticks if 0 <= tick < values.shape[1]])
    axes.xaxis.set_major_locator(_canvas.whole_numbers())
    band = 0.0
    if cut:
        band = 0.13 * values.shape[1]
        axes.axhspan(-0.5 - band, -0.5, facecolor="white", edgecolor=GREY, hatch="///", lw=0)
        axes.axhline(-0.5, color=RED, lw=2.5)
        axes.text(
            0.5, -0.5 - band / 2, "truncation edge: state detached, no gradient beyond",
            transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=8.5,
            color=RED, fontweight="bold", bbox={"fc": "white", "ec": "none", "pad": 1.5},
        )  # fmt: skip
    axes.set_ylim(-0.5 - band, values.shape[1] - 0.5)
    return mesh


def _profile(axes: Axes, values: np.ndarray, cut: bool, log: bool) -> None:
    """Median of each time step, early and late in training.  values: (records, T)"""
    _canvas.dress(axes)
    times = np.arange(values.shape[1])
    for label, part, color in tenths(values):
        axes.plot(median(part), times, "o-", color=color, ms=3, label=label)
    if cut:
        axes.axhline(-0.5, color=RED, lw=2.5)
    if log and np.any(values > 0):
        axes.set_xscale("log", nonpositive="mask")
        _canvas.plain_labels(axes.xaxis, room=0.5)
    elif not log:
        axes.xaxis.set_major_locator(_canvas.few_ticks())
