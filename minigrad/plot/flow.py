"""Gradients on their way back through time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from ..watch import GradientFlow
from . import _canvas
from ._canvas import BLUE, ORANGE, RED
from ._heat import log_limits, maps, median, tenths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WHAT = {"h": "the output", "c": "the cell state"}


def gradient_flow(
    flow: GradientFlow | Mapping[str, GradientFlow], *, title: str | None = None
) -> Figure:
    """Heat maps of ||dL/dh_t|| and ||dL/dc_t||: training step across, time step upwards.

    flow: of one layer, or of several by name, as ``GradientFlow.attach`` gives them.
    Beside each map: the median norm of each time step, in the first and in the last tenth of
    training.  The hatched edge is where truncation cuts.  One colour scale, logarithmic,
    serves all maps; long recordings are drawn as medians of neighbouring steps; grey is a
    gradient of exactly zero, or not finite.  Raises ArgumentError if nothing was recorded.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad import plot, watch
    >>> lstm = nn.LSTM(3, 5, generator=rng)
    >>> flow = watch.GradientFlow()
    >>> lstm.flow = flow.record
    >>> for _ in range(3):
    ...     lstm(mg.ones(2, 7, 3))[0].sum().backward()
    >>> figure = plot.gradient_flow(flow)
    """
    from matplotlib.colors import LogNorm

    flows = _recorded("gradient_flow", flow)
    steps = next(iter(flows.values())).steps
    panels = [
        (f"{layer}{': ' if layer else ''}{_norm_of(part)}, {_WHAT[part]}", getattr(each, part))
        for layer, each in flows.items()
        for part in each.parts
    ]
    if any(len(each) != len(steps) for each in flows.values()):
        counts = ", ".join(f"{name} {len(each)}" for name, each in flows.items())
        raise ArgumentError(
            f"plot.gradient_flow: the layers have different numbers of records ({counts}); draw "
            "them one by one"
        )
    norms = np.concatenate([values.ravel() for _, values in panels])
    height = 6.0 if len(panels) < 3 else 1.4 + 1.9 * len(panels)
    figure = _canvas.new_figure(title or _flow_message(flows), height)
    scale = LogNorm(*log_limits(norms))
    mesh, side = maps(figure, steps, panels, scale, cut=True, measure="median norm")
    bar = figure.colorbar(mesh, cax=side, extend="both")
    grey = "" if (norms > 0).all() else "; grey: zero or not finite"
    bar.set_label(f"gradient norm over batch and units (log scale{grey})")
    _canvas.plain_labels(bar.ax.yaxis)
    return figure


def flows_side_by_side(
    flows: Mapping[str, GradientFlow] | Mapping[str, Mapping[str, GradientFlow]],
    *,
    title: str | None = None,
) -> Figure:
    """Norms of the gradients by time step, model beside model: who vanishes, who explodes.

    flows: name of each model -> its recorder; or name of each row -> such a mapping.  Drawn
    is the median of ||dL/dh_t|| (and dashed of ||dL/dc_t||) in the first and in the last
    tenth of training, and as a band what nine of ten records lie in.  All panels share their
    log scale, on which a gradient of zero is not to be seen.
    Raises ArgumentError if there is nothing to draw, or one model has not recorded.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad import plot, watch
    >>> lstm = nn.LSTM(3, 5, generator=rng)
    >>> flow = watch.GradientFlow()
    >>> lstm.flow = flow.record
    >>> for _ in range(3):
    ...     lstm(mg.ones(2, 7, 3))[0].sum().backward()
    >>> figure = plot.flows_side_by_side({'LSTM': flow})
    """
    nested = {
        name: entry if isinstance(entry, Mapping) else None for name, entry in flows.items()
    }
    rows: dict[str, Any] = {"": flows} if None in nested.values() else nested
    panels = {
        (row, name): flow
        for row, models in rows.items()
        for name, flow in _recorded("flows_side_by_side", models).items()
    }
    columns = list(dict.fromkeys(name for _, name in panels))
    figure = _canvas.new_figure(title or _side_message(panels), 1.6 + 2.7 * len(rows))
    grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    for at, axes in np.ndenumerate(grid):
        flow = panels.get((list(rows)[at[0]], columns[at[1]]))
        if flow is None:
            axes.set_axis_off()
            continue
        _canvas.dress(axes)
        _norm_curves(axes, flow)
        if at[0] == 0:
            name = textwrap.fill(columns[at[1]], 56 // len(columns))
            axes.set_title(name, fontsize=11, fontweight="bold")
        if at[0] == len(rows) - 1:
            axes.set_xlabel("time step t")
    everything = np.concatenate(
        [getattr(flow, part).ravel() for flow in panels.values() for part in flow.parts]
    )
    _canvas.log_scale(grid[0, 0], everything)
    for row, axes in zip(rows, grid[:, 0]):
        axes.set_ylabel(f"{row}{chr(10) if row else ''}gradient norm (log scale)")
    handles = max((axes.get_legend_handles_labels() for axes in grid.flat), key=lambda h: len(h[0]))
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def truncated_series(
    flow: GradientFlow, *, edges: Any = None, windows: int = 8, title: str | None = None
) -> Figure:
    """||dL/dh_t|| along a series that was cut into windows, and where gradients stop.

    flow: its records are windows that follow each other.  edges: the time step of the series
    at which each window but the first begins, as ``nn.TBPTT`` has them; None: each window
    begins where the one before ended.  windows: how many to draw, the last ones.
    Raises ArgumentError if nothing was recorded, or if edges do not fit the records.
    """
    (flow,) = _recorded("truncated_series", flow).values()
    starts = np.concatenate([[0], np.cumsum(flow.lengths)[:-1]])
    if edges is not None:
        edges = np.asarray(edges)
        if edges.ndim != 1 or len(edges) + 1 > len(flow):
            raise ArgumentError(
                f"plot.truncated_series: edges must be (windows - 1,) with a record for each "
                f"window, got shape {edges.shape} and {len(flow)} records"
            )
        starts = np.concatenate([[0], edges])  # of the last pass over the series
    starts = starts[-windows:]
    records = slice(len(flow) - len(starts), None)
    lengths = flow.lengths[records]
    figure = _canvas.new_figure(title or _edge_message(flow.h[records], lengths), 4.4)
    axes = figure.add_subplot()
    _canvas.dress(axes)
    drawn = []
    for part, color, style in (("h", BLUE, "o-"), ("c", ORANGE, "s--"))[: len(flow.parts)]:
        name: str | None = _norm_of(part)
        for start, length, norms in zip(starts, lengths, getattr(flow, part)[records]):
            times = start + np.arange(length)
            axes.plot(times, norms[:length], style, color=color, ms=3, label=name)
            drawn.append(norms[:length])
            name = None  # one entry in the legend
    edge: str | None = "state detached: no gradient goes further back"
    for start in starts:
        axes.axvline(start - 0.5, color=RED, lw=2, label=edge)
        edge = None
    _canvas.log_scale(axes, np.concatenate(drawn))
    axes.set_xlabel("time step of the series")
    axes.set_ylabel("gradient norm (log scale)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


# -- parts ------------------------------------------------------------------------------------


def _recorded(where: str, flow: Any) -> dict[str, GradientFlow]:
    """Recorders by layer, one by no name.  Raises ArgumentError if one is empty."""
    flows = dict(flow) if isinstance(flow, Mapping) else {"": flow}
    for name, each in flows.items():
        if not len(each):
            raise ArgumentError(
                f"plot.{where}: nothing was recorded{' for ' if name else ''}{name}; before "
                "training say watch.GradientFlow.attach(model), or lstm.flow = flow.record, or "
                "call flow.watch_step(t, h, c) after every step of a cell"
            )
    if not flows:
        raise ArgumentError(f"plot.{where}: there are no recorders")
    return flows


def _norm_curves(axes: Axes, flow: GradientFlow) -> None:
    """Medians by time step early and late, with bands; how much arrives at the first step."""
    early, late = (_canvas.two_digits(_ratio(rows)) for _, rows, _ in tenths(flow.h))
    axes.text(
        0.97, 0.03, f"first / last step:\n{early}, later {late}", transform=axes.transAxes,
        ha="right", va="bottom", fontsize=8.5, linespacing=1.3,
    )  # fmt: skip
    for part, style in (("h", "-"), ("c", "--"))[: len(flow.parts)]:
        norms = getattr(flow, part)
        times = np.arange(norms.shape[1])
        for label, rows, color in tenths(norms):
            name = f"{_norm_of(part)}, {label} of training"
            axes.plot(times, median(rows), style, color=color, lw=2, label=name)
            if part == "h" and len(rows) > 1:
                low, high = np.nanquantile(rows, [0.05, 0.95], axis=0)
                axes.fill_between(times, low, high, color=color, alpha=0.15, lw=0)


def _norm_of(state: str) -> str:
    """The norm of the gradient of h_t, c_0 and so on, in mathematical type."""
    return rf"$\|\partial L/\partial {state}" + ("_t" if len(state) == 1 else "") + r"\|$"


def _ratio(h: np.ndarray, lengths: Any = None) -> float:
    """Median of ||dL/dh_0|| / ||dL/dh_{T-1}||, NaN if there is none.

    h: (records, T); lengths: (records,) the T of each, if they are not all the same.
    """
    last = h.shape[1] - 1 if lengths is None else lengths - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = h[:, 0] / h[np.arange(len(h)), last]
    ratios = ratios[np.isfinite(ratios)]
    return float(np.median(ratios)) if len(ratios) and h.shape[1] > 1 else float("nan")


def _edge_message(h: np.ndarray, lengths: np.ndarray) -> str:
    ratio = _ratio(h, lengths)
    if np.isnan(ratio):
        return "No gradient passes the edge of a window"
    return (
        f"No gradient passes the edge of a window: {_norm_of('h')} there is "
        f"{_canvas.two_digits(ratio)} × that\nof the window's last step (median)"
    )


def _flow_message(flows: Mapping[str, GradientFlow]) -> str:
    ratios = {name: _ratio(flow.h) for name, flow in flows.items()}
    final = next(iter(flows.values())).h.shape[1] - 1
    if any(np.isnan(list(ratios.values()))):
        return "Gradients on their way back through time"
    least, most = min(ratios.values()), max(ratios.values())
    if least < 0.1:
        verb = "fade on their way back"
    elif most > 10:
        verb = "explode on their way back"
    else:
        verb = "reach the truncation edge"
    first, last = _norm_of("h_0"), _norm_of(f"h_{{{final}}}")
    if len(ratios) == 1:
        return f"Gradients {verb}: {first} is {_canvas.two_digits(least)} × {last} (median)"
    each = ", ".join(f"{_canvas.two_digits(r)} in {name}" for name, r in ratios.items())
    return f"Gradients {verb}: {first} / {last} is\n{each}"


def _side_message(panels: Mapping[tuple[str, str], GradientFlow]) -> str:
    """The least and the most that arrives at the first step, at the end of training."""
    ratios = {
        f"{name}{', ' if row else ''}{row}": _ratio(tenths(flow.h)[-1][1])
        for (row, name), flow in panels.items()
    }
    known = {name: ratio for name, ratio in ratios.items() if np.isfinite(ratio)}
    if not known:
        return "Gradients on their way back through time"
    least, most = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
    low, high = (_canvas.two_digits(known[name]) for name in (least, most))
    return (
        "From the last step to the first the gradient is multiplied by "
        f"{low} ({least}) to {high} ({most})"
    )
