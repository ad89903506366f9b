"""Exponents of growth, and the picture of the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"minigrad": "#c1121f", "PyTorch": "#e07a00"}
FEWEST = 3  # sizes that a fit needs


def larger(sizes: Sequence[float]) -> list[int]:
    """Places of the sizes that a fit is made over: those from the geometric middle of the range on.

    At least FEWEST of them, the largest.  At small sizes a step takes as long as its calls, which
    says nothing about growth.
    """
    order = np.argsort(sizes, kind="stable")
    middle = np.sqrt(float(min(sizes)) * float(max(sizes)))
    count = max(FEWEST, sum(size >= middle for size in sizes))
    return sorted(int(k) for k in order[-count:])


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """p of values ~ sizes^p: least squares of the logarithms over the larger sizes.

    nan where there are fewer than FEWEST sizes, or values that are not above zero.
    """
    if len(sizes) < FEWEST:
        return float("nan")
    chosen = larger(sizes)
    x, y = (np.asarray(a, float)[chosen] for a in (sizes, values))
    if (y <= 0).any():
        return float("nan")
    x, y = np.log(x), np.log(y)
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def draw(sweeps: Mapping[str, Any], path: Path) -> None:
    """Time above, memory below, a column for each sweep (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(sweeps)
    figure = Figure(figsize=(3.4 * columns, 6.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, columns, squeeze=False)
    for column, (name, sweep) in enumerate(sweeps.items()):
        for row, (kind, unit) in enumerate((("milliseconds", "ms"), ("megabytes", "MB"))):
            axes = grid[row, column]
            for library, curve in sweep["curves"].items():
                sizes = np.array(curve["sizes"], float)
                values = np.array(curve[kind], float)
                power = curve["exponents"][kind]
                label = library if np.isnan(power) else f"{library}: size^{power:.2f}"
                axes.plot(sizes, values, "o-", ms=4, color=COLOURS.get(library), label=label)
                if not np.isnan(power):
                    chosen = larger(sizes)
                    at = sizes[chosen]
                    middle = np.exp(np.log(values[chosen]).mean() - power * np.log(at).mean())
                    axes.plot(at, middle * at**power, color="black", lw=0.8, ls="--", zorder=3)
            sizes = sweep["sizes"]
            axes.set(xlabel=name if row else "")
            if len(sizes) < FEWEST:  # a logarithmic axis of less than a power of ten has no numbers
                axes.set_ylim(bottom=0)
            else:
                axes.set(xscale="log", yscale="log")
            shown = sizes if len(sizes) <= 5 else sizes[::2]
            axes.set_xticks(shown, [f"{size:g}" for size in shown])
            axes.minorticks_off()
            axes.grid(True, color="0.92")
            axes.legend(fontsize=8)
            if column == 0:
                what = "time of a training step" if row == 0 else "peak memory of a step"
                axes.set_ylabel(f"{what} ({unit})")
        grid[0, column].set_title(sweep["fixed"], fontsize=9)
    figure.suptitle("An LSTM's training step as it grows; dashed: the fitted power of the size")
    figure.savefig(path)
