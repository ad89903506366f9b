"""Memory that waits for the backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError
from ..spelling import byte_unit, spell_bytes
from ..watch import Memory
from . import _canvas
from ._canvas import BLUE, GREY, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = (BLUE, ORANGE, "#2e8b57", "#7a4fa3", "#b08d00", "#00838f")
_OPS = 8  # drawn one by one; the others together


def memory(kept: Memory, *, title: str | None = None) -> Figure:
    """Bytes kept for the backward pass: by layer over time steps, and by op.

    The dashed line is what the fused layers predict, if they were asked (``watch.memory`` with
    the model).  Memory of no time step (the loss, layers that see all steps at once) is in the
    second panel only; where there is no time at all, so is everything.
    Raises ArgumentError if nothing is kept.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad import plot, watch
    >>> lstm = nn.LSTM(3, 5, generator=rng)
    >>> kept = watch.memory(lstm(mg.ones(2, 7, 3))[0].sum(), lstm)
    >>> figure = plot.memory(kept)
    """
    if not kept.total:
        raise ArgumentError("plot.memory: this graph keeps no memory")
    steps = {name: by_step for name, by_step in kept.by_step.items() if by_step.any()}
    figure = _canvas.new_figure(title or _message(kept, steps), 4.6)
    if not steps:
        _by_op(figure.add_subplot(), kept)
        return figure
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _over_time(left, kept, steps)
    _by_op(right, kept)
    return figure


def _over_time(axes: Axes, kept: Memory, steps: dict[str, np.ndarray]) -> None:
    """One layer on top of the other."""
    _canvas.dress(axes)
    length = max(len(each) for each in steps.values())
    height = np.zeros(length)
    edges = np.arange(length + 1) - 0.5
    predicted = sum(kept.predicted.values()) / length
    largest = max(predicted, float(sum(each.max() for each in steps.values())))
    name, unit = byte_unit(largest)
    for i, (layer, each) in enumerate(steps.items()):
        top = height + np.pad(each, (0, length - len(each)))
        axes.stairs(
            top / unit, edges, baseline=height / unit, fill=True, label=layer or "model",
            color=_COLORS[i % len(_COLORS)], alpha=0.85,
        )  # fmt: skip
        height = top
    for edge in edges[1:-1] if length <= 60 else ():  # each step its own bar
        axes.axvline(edge, color="white", lw=1.5)
    if predicted:
        label = "predicted, at most"
        axes.axhline(predicted / unit, color=RED, ls="--", lw=1.8, label=label)
    axes.set_ylim(0, 1.25 * max(largest, 1) / unit)
    axes.set_xlim(-0.5, length - 0.5)
    axes.set_xlabel("time step t")
    axes.set_ylabel(f"kept until the backward pass ({name} a step)")
    axes.legend(loc="upper left", ncols=2, fontsize=9, frameon=False)


def _by_op(axes: Axes, kept: Memory) -> None:
    _canvas.dress(axes)
    sizes = {op: size for op, size in kept.by_op.items() if size}
    shown = dict(list(sizes.items())[:_OPS])
    others = kept.total - sum(shown.values())
    if others:
        shown["others"] = others
    name, unit = byte_unit(max(shown.values()))
    widths = [size / unit for size in shown.values()]
    bars = axes.barh(list(shown), widths, color=GREY)
    axes.bar_label(bars, [f"{size / kept.total:.0%}" for size in shown.values()], padding=3)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.2 * max(widths))
    axes.xaxis.set_major_locator(_canvas.few_ticks())
    axes.set_xlabel(f"kept, all time steps ({name})")
    axes.set_ylabel("op")


def _message(kept: Memory, steps: dict[str, np.ndarray]) -> str:
    op, size = next(iter(kept.by_op.items()))
    share = f"{size / kept.total:.0%} of it in {op}"
    if not steps:
        return f"The backward pass needs {spell_bytes(kept.total)}, {share}"
    length = max(len(each) for each in steps.values())
    each = sum(float(by_step.sum()) for by_step in steps.values()) / length
    return (
        f"{length:,} time steps keep {spell_bytes(kept.total)} for the backward pass: "
        f"{spell_bytes(each)} a step;\n{share}"
    )
