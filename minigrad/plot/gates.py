"""Gates that are stuck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError
from ..watch import Saturation
from . import _canvas
from ._heat import maps, median, tenths

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def saturation(gates: Saturation | Mapping[str, Saturation], *, title: str | None = None) -> Figure:
    """Heat maps of the fraction of each gate that is saturated at either end.

    gates: of one layer, or of several by name, as ``Saturation.attach`` gives them.
    Training step across, time step upwards; beside each map its median by time step in the
    first and in the last tenth of training.  Raises ArgumentError if nothing was recorded.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> rng = mg.manual_seed(0)
    >>> from minigrad import plot, watch
    >>> lstm = nn.LSTM(3, 5, generator=rng)
    >>> gates = watch.Saturation(lstm.gate_kinds)
    >>> lstm.gates = gates.record
    >>> for _ in range(3):
    ...     outputs = lstm(mg.ones(2, 7, 3))
    >>> figure = plot.saturation(gates)
    """
    from matplotlib.colors import Normalize

    layers = dict(gates) if isinstance(gates, Mapping) else {"": gates}
    if not layers or not all(len(each) for each in layers.values()):
        raise ArgumentError(
            "plot.saturation: nothing was recorded; before training say "
            "watch.Saturation.attach(model), or lstm.gates = gates.record"
        )
    panels = [
        (f"{layer}{': ' if layer else ''}{name} ({each.kinds[name]})", values)
        for layer, each in layers.items()
        for name, values in each.both.items()
    ]
    steps = next(iter(layers.values())).steps
    if any(len(values) != len(steps) for _, values in panels):
        raise ArgumentError(
            "plot.saturation: the layers have different numbers of records; draw them one by one"
        )
    late = {name: float(np.nanmean(median(tenths(values)[-1][1]))) for name, values in panels}
    most = max(late, key=lambda name: late[name])
    message = f"Most saturated at the end of training: {most}, {late[most]:.0%} of it"
    figure = _canvas.new_figure(title or message, 1.8 + 1.3 * len(panels))
    scale = Normalize(0, 1)
    mesh, side = maps(figure, steps, panels, scale, cut=False, measure="median fraction")
    bar = figure.colorbar(mesh, cax=side)
    bar.set_label("fraction saturated (sigmoid outside 0.05 to 0.95, tanh beyond ±0.9, relu at 0)")
    return figure
