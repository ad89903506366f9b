"""What all pictures share: the figure, the look of its axes, ticks, smoothed curves.

Matplotlib is imported inside the functions, so that importing this costs nothing.
"""

from __future__ import annotations

import functools
import io
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _DPI = 8.0, 150  # inches, pixels an inch: the usual 10 points stay readable
BLUE, ORANGE, RED, GREY = "#1f5fa8", "#e07b00", "#c1272d", "#777777"


@functools.cache
def _picture() -> type[Figure]:
    from matplotlib.figure import Figure

    class Picture(Figure):
        """A figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            return content(self, "png")

    return Picture


def new_figure(title: str, height: float, width: float = _WIDTH) -> Figure:
    """An empty figure with a title; height and width in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _picture()(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_wrapped(title, int(8.5 * width)), fontsize=12, fontweight="bold")
    return figure


def _wrapped(title: str, letters: int) -> str:
    """A title in lines that fit; one with mathematical type is left as it is."""
    lines = title.split("\n")
    return "\n".join(each if "$" in each else textwrap.fill(each, letters) for each in lines)


def content(figure: Figure, kind: str) -> bytes:
    """The figure as the content of a file.  kind: "png" or "svg"."""
    import matplotlib

    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None  # the same picture, the same file
    with matplotlib.rc_context({"svg.hashsalt": "minigrad"}):
        figure.savefig(buffer, format=kind, dpi="figure", metadata=metadata)
    return buffer.getvalue()


def dress(axes: Axes) -> None:
    """The same look for all axes; training steps across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(whole_numbers())


def log_scale(axes: Axes, values: np.ndarray) -> None:
    """A log scale for the values drawn already, if there is a positive one."""
    if not np.any(values > 0):
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 1.2 * low:
        axes.set_ylim(low / 1.5, high * 1.5)
    plain_labels(axes.yaxis)


def whole_numbers() -> Any:
    """Ticks for what is counted."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(8, steps=[1, 2, 5, 10], integer=True)


def few_ticks() -> Any:
    """Ticks for an axis with little room."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def plain_labels(axis: Any, room: float = 1.0) -> None:
    """Ticks of a log axis as 0.02, 0.5, 30; fewer of them on an axis with little room.

    room: length of the axis, in heights of a figure.
    """

    def label(x: float, position: int | None = None) -> str:
        low, high = axis.get_view_interval()
        crowd = np.log10(high / low) / room  # powers of ten in the height of a figure
        digit = round(x / 10.0 ** np.floor(np.log10(x)), 6)
        if crowd > 3:
            shown = digit == 1
        elif crowd > 1.2:
            shown = digit in (1, 2, 5)
        else:
            shown = crowd < 0.5 or digit in (1, 2, 3, 4, 5, 6, 8)
        return f"{x:.4g}" if shown else ""

    axis.set_major_formatter(label)
    axis.set_minor_formatter(label)


def short(value: float) -> str:
    """Three digits, but whole numbers in full: 4.53, 126, 9,870."""
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


def two_digits(value: float) -> str:
    """4.5, 130, 2.4e-06."""
    return f"{float(f'{value:.2g}'):g}"


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over a fiftieth of the records, (records,).

    The window is smaller at the beginning, where training is fastest, and stays centred
    there.  What is not finite is left out.
    """
    count = len(values)
    at = np.arange(count)
    reach = np.minimum(at, count // 100)  # on either side
    finite = np.isfinite(values)
    total = np.concatenate([[0], np.cumsum(np.where(finite, values, 0))])
    known = np.concatenate([[0], np.cumsum(finite)])
    first, last = at - reach, np.minimum(at + reach + 1, count)
    with np.errstate(invalid="ignore"):
        return (total[last] - total[first]) / (known[last] - known[first])


def log_smooth(values: np.ndarray) -> np.ndarray:
    """Running geometric mean, the running mean of a log axis; zeros are left out."""
    with np.errstate(divide="ignore"):
        return np.exp(smooth(np.log(values)))


def dot(steps: np.ndarray) -> str:
    """Format of a curve: a line through one point would not be seen."""
    return "o" if len(steps) == 1 else "-"


def curve(
    axes: Axes, steps: np.ndarray, raw: np.ndarray, smoothed: np.ndarray, color: str, label: str
) -> None:
    """Raw values, faint, and above them the smoothed ones.  (records,) each"""
    axes.plot(steps, raw, color=color, lw=0.7, alpha=0.35)
    axes.plot(steps, smoothed, dot(steps), color=color, lw=2, label=label)
