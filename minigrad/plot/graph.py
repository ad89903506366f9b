"""The graph of a recurrence, unrolled: what was computed at each time step, and from what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..spelling import spell_bytes
from ..watch import Call, Trace
from . import _canvas
from ._canvas import BLUE, GREY
from ._heat import log_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BOX = np.array([0.82, 0.5])  # inches: width and height of a call
_STEP = _BOX + (0.1, 0.26)  # from one to the next
_MARGIN = 0.55  # boxes: on either side of a column, where lines go up and down
_LETTERS = 13  # that have room in a box
_MOST = 400  # calls; more cannot be read


def unrolled_graph(trace: Trace, *, title: str | None = None) -> Figure:
    """Every call of a graph: time steps from left to right, computed from below upwards.

    trace: from ``watch.trace(loss)``, best followed by ``loss.backward()``, which gives it the
    gradient norms.  In each box: the op with the parameters it takes, the shape of its
    result, and the 2-norm of dL/dresult, which is its colour too (logarithmic; white if it is
    zero or not known).  Thick lines carry the state from step to step.
    The picture is as wide as it has to be: three or four steps can be read.
    Raises ArgumentError for more than 400 calls, DTypeError for anything but a trace.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad import plot, watch
    >>> outputs, h = nn.unroll(nn.RNNCell(3, 5, generator=rng), mg.ones(2, 4, 3))
    >>> trace = watch.trace(outputs.sum())
    >>> figure = plot.unrolled_graph(trace)
    """
    if not hasattr(trace, "calls"):
        raise DTypeError(
            f"plot.unrolled_graph: expects what watch.trace(loss) gives, got {type(trace).__name__}"
        )
    calls = trace.calls
    if len(calls) > _MOST:
        raise ArgumentError(
            f"plot.unrolled_graph: {len(calls)} calls cannot be read in one picture (at most "
            f"{_MOST}); trace fewer time steps"
        )
    steps = max((call.t + 1 for call in calls if call.t is not None), default=0)
    columns = _columns(calls, steps)
    places, edges = _layout(calls, columns)
    top = float(places[:, 1].max())
    width = max(8.0, edges[-1] - edges[0] + 1.6)
    height = max(4.5, (top + 2) * _STEP[1] + 1.2)
    figure = _canvas.new_figure(title or _message(calls, columns), height, width)
    axes = figure.add_subplot()
    colors, scale = _colors(calls)
    _draw_edges(axes, calls, columns, places, edges)
    for call, place, color in zip(calls, places * _STEP, colors):
        _draw_call(axes, call, place[0], place[1], color)
    _frame(axes, edges, columns, steps, top)
    if scale is not None:
        bar = figure.colorbar(scale, ax=axes, shrink=0.7, pad=0.01)
        bar.set_label("2-norm of the gradient (log scale)")
        _canvas.plain_labels(bar.ax.yaxis)
    return figure


# -- where calls stand ------------------------------------------------------------------------


def _columns(calls: list[Call], steps: int) -> list[int]:
    """Column of each call: its time step + 1; 0 for what comes before, T + 1 for after."""
    started = [False] * len(calls)  # whether a time step has led here
    result = []
    for index, call in enumerate(calls):
        started[index] = call.t is not None or any(started[i] for i in call.inputs)
        if call.t is not None:
            result.append(call.t + 1)
        else:
            result.append(steps + 1 if started[index] else 0)
    return result


def _layout(calls: list[Call], columns: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Places (calls, 2) in units of boxes, and the edges of all columns, in inches.

    Height: the longest way from where the column begins.  Those of one height stand side by
    side, in the order of what they come from; what comes from another column stands first.
    """
    depth = np.zeros(len(calls))
    for index, call in enumerate(calls):
        inside = [depth[i] + 1 for i in call.inputs if columns[i] == columns[index]]
        depth[index] = max(inside, default=0)
    users = _users(calls)
    for index in reversed(range(len(calls))):  # what begins late stands beside its first user
        inside = [depth[i] for i in users[index] if columns[i] == columns[index]]
        if inside and not any(columns[i] == columns[index] for i in calls[index].inputs):
            depth[index] = min(inside) - 1
    places = np.zeros((len(calls), 2))
    edges = [0.0]
    for column in range(max(columns) + 1):
        members = [i for i in range(len(calls)) if columns[i] == column]
        rows = [[i for i in members if depth[i] == level] for level in {depth[i] for i in members}]
        wide = max((len(row) for row in rows), default=0)
        left = edges[-1] + _MARGIN
        for row in sorted(rows, key=lambda row: depth[row[0]]):
            row.sort(key=lambda i: (_middle(calls[i], columns, places, column), i))
            for slot, i in enumerate(row):
                places[i] = left + slot + (wide - len(row) + 1) / 2, depth[i]
        edges.append(left + wide + _MARGIN if members else edges[-1])
    return places, np.array(edges) * _STEP[0]


def _middle(call: Call, columns: list[int], places: np.ndarray, column: int) -> float:
    """Mean place of what a call takes from its own column, 0 if it takes from another one."""
    inside = [places[i, 0] for i in call.inputs if columns[i] == column]
    if len(inside) < len(call.inputs):
        return 0.0
    return float(np.mean(inside)) if inside else 1.0


def _users(calls: list[Call]) -> list[list[int]]:
    result: list[list[int]] = [[] for _ in calls]
    for index, call in enumerate(calls):
        for i in call.inputs:
            result[i].append(index)
    return result


# -- what is drawn ----------------------------------------------------------------------------


def _colors(calls: list[Call]) -> tuple[list[Any], Any]:
    """A colour for each call, and the scale they are on (None before a backward pass)."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    norms = np.array([call.gradient or np.nan for call in calls])
    if not np.any(norms > 0):
        return ["white"] * len(calls), None
    low, high = log_limits(norms)
    scale = ScalarMappable(LogNorm(low, high), matplotlib.colormaps["YlOrRd"])
    return [scale.to_rgba(n) if n > 0 else "white" for n in norms], scale


def _draw_call(axes: Axes, call: Call, x: float, y: float, color: Any) -> None:
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch(
        (x - _BOX[0] / 2, y - _BOX[1] / 2), _BOX[0], _BOX[1],
        boxstyle="round,pad=0,rounding_size=0.06", facecolor=color, edgecolor="0.3", lw=0.8,
        zorder=2,
    )  # fmt: skip
    axes.add_patch(box)
    dark = not isinstance(color, str) and np.dot(color[:3], (0.3, 0.59, 0.11)) < 0.45
    ink: dict[str, Any] = {"color": "white" if dark else "black", "ha": "center", "va": "center"}
    lines = [(_name(call), "bold"), (_shape(call), "normal")]
    if call.gradient is not None:
        lines.append((f"|g| {call.gradient:.2g}", "normal"))
    for line, (text, weight) in enumerate(lines):
        offset = (len(lines) - 1) / 2 - line
        axes.text(x, y + 0.145 * offset, text, fontsize=6.5, fontweight=weight, zorder=3, **ink)


def _name(call: Call) -> str:
    """The op, with the parameters it takes if there is room."""
    op = call.op.removeprefix("softmax_")
    parameters = [leaf for leaf in call.leaves if not leaf.startswith("(")]
    text = " ".join([op, *parameters])
    return text if len(text) <= _LETTERS else op[:_LETTERS]


def _shape(call: Call) -> str:
    """The shape of the results; four of one shape as 4 × (3, 5)."""
    first = ", ".join(map(str, call.shapes[0])) or "number"
    text = f"({first})" if call.shapes[0] else first
    return text if len(call.shapes) == 1 else f"{len(call.shapes)} × {text}"


def _draw_edges(
    axes: Axes, calls: list[Call], columns: list[int], places: np.ndarray, edges: np.ndarray
) -> None:
    """Lines within a column go straight; those between columns take the gaps between them.

    edges: x of the left edge of each column, by its number.
    """
    top = (places[:, 1].max() + 0.62) * _STEP[1]
    lanes: dict[int, list[int]] = {}  # column -> what is carried into it: h, c
    for index, call in enumerate(calls):
        for source in call.inputs:
            (x0, y0), (x1, y1) = places[source] * _STEP, places[index] * _STEP
            here, there = columns[source], columns[index]
            if here == there:
                points = [(x0, y0 + _BOX[1] / 2), (x1, y1 - _BOX[1] / 2)]
            elif _carries(calls[source], call):  # from side to side, h apart from c
                lane = lanes.setdefault(there, [])
                if source not in lane:
                    lane.append(source)
                gap = edges[there] + 0.09 * (lane.index(source) % 3 - 1)
                points = [(x0 + _BOX[0] / 2, y0), (gap, y0), (gap, y1), (x1 - _BOX[0] / 2, y1)]
            else:  # over or under everything
                level = top if here else -0.75 * _STEP[1]
                end = (edges[there] - 0.12, y1)
                points = [(x0, y0), (x0, level), (end[0], level), end, (x1 - _BOX[0] / 2, y1)]
            style = {"color": BLUE, "lw": 2.2} if _carries(calls[source], call) else {"color": GREY}
            _draw_line(axes, points, **style)


def _carries(source: Call, target: Call) -> bool:
    """Whether this leads from one time step into the next."""
    return source.t is not None and target.t == source.t + 1


def _draw_line(axes: Axes, points: list[tuple[float, float]], color: str, lw: float = 0.9) -> None:
    """A line through these points, with an arrow at its end."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    arrow = FancyArrowPatch(
        path=Path(points), arrowstyle="-|>,head_width=2,head_length=4", color=color, lw=lw,
        zorder=1, joinstyle="round", mutation_scale=1,
    )  # fmt: skip
    axes.add_patch(arrow)


def _frame(axes: Axes, edges: np.ndarray, columns: list[int], steps: int, top: float) -> None:
    """Bands and names of the columns."""
    ticks, labels = [], []
    for column in sorted(set(columns)):
        first, end = edges[column], edges[column + 1]
        if column % 2:
            axes.axvspan(first, end, color="0.95", zorder=0, lw=0)
        ticks.append((first + end) / 2)
        outside = "before" if column == 0 else "after all"
        labels.append(f"t = {column - 1}" if 0 < column <= steps else outside)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-0.85 * _STEP[1], (top + 0.75) * _STEP[1])
    axes.set_xticks(ticks, labels if steps else [""] * len(ticks), fontweight="bold")
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("time step")
    axes.set_ylabel("from inputs (below) to outputs (above)")


def _message(calls: list[Call], columns: list[int]) -> str:
    """How the gradient of what goes from step to step changes on its way back."""
    kept = spell_bytes(sum(call.kept for call in calls))
    steps = len({call.t for call in calls if call.t is not None})
    what = f"{len(calls)} calls keep {kept}"
    carried: dict[int, float] = {}
    for index, call in enumerate(calls):
        for i in call.inputs:
            source = calls[i]
            if columns[i] != columns[index] and source.t is not None and source.gradient:
                carried[source.t] = max(carried.get(source.t, 0.0), source.gradient)
    if len(carried) < 2:
        return f"The graph of {steps or 1} time steps: {what}"
    first, last = min(carried), max(carried)
    ratio = carried[first] / carried[last]
    verb = "falls" if ratio < 0.8 else "grows" if ratio > 1.25 else "hardly changes"
    return (
        f"On the way back the gradient {verb}: {carried[last]:.2g} at t = {last}, "
        f"{carried[first]:.2g} at t = {first}\n{steps} time steps unrolled: {what}"
    )
