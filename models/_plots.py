"""What the pictures of the models share: a figure, the look of its axes, a live window.

Matplotlib is imported when something is drawn, so that ``--help`` is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, RED, GREEN, GREY = "#1f5fa8", "#e07b00", "#c1272d", "#2e8b57", "#777777"
_WIDTH, _DPI = 8.0, 150  # inches, pixels an inch: 1200 pixels, as minigrad.plot has it


def new_figure(title: str, height: float) -> Figure:
    """An empty figure with a title, 8 inches wide; height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    entitle(figure, title)
    return figure


def entitle(figure: Figure, title: str) -> None:
    """Put the picture's message above it."""
    figure.suptitle(title, fontsize=12, fontweight="bold")


def dress(axes: Axes) -> None:
    """The same look for all axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.margins(x=0.01)


def log_smooth(values: Any, width: int) -> np.ndarray:
    """Geometric mean over ``width`` values around each, fewer at both ends; (records,) float64.

    values: (records,), not negative; on a log axis this is the running mean.
    """
    logs = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    total = np.concatenate([[0.0], np.cumsum(logs)])
    at = np.arange(len(logs))
    first, last = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(logs))
    return np.exp((total[last] - total[first]) / (last - first))


def whole_numbers(axis: Any, ticks: int = 8) -> None:
    """At most so many ticks, whole numbers with a comma at the thousands: 0, 20,000."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(ticks, integer=True))
    axis.set_major_formatter("{x:,.0f}")


class LiveWindow:
    """A window in which a figure is drawn anew while training goes on (``--live``).

    Raises ArgumentError where no window can be opened: without a display, or without a GUI
    toolkit that matplotlib knows.
    """

    def __init__(self, name: str, height: float) -> None:
        import matplotlib.pyplot as plt

        self._plt = plt
        try:
            self._figure = plt.figure(figsize=(_WIDTH, height), layout="constrained")
        except ImportError as error:
            raise ArgumentError(f"argument --live: no window can be opened: {error}") from error
        if self._figure.canvas.required_interactive_framework is None:
            plt.close(self._figure)
            raise ArgumentError(
                f"argument --live: matplotlib's backend {plt.get_backend()} opens no windows; "
                "--live needs a display and a GUI toolkit (tkinter, Qt ...)"
            )
        if self._figure.canvas.manager is not None:
            self._figure.canvas.manager.set_window_title(name)
        plt.show(block=False)

    def draw(self, paint: Callable[..., Any], *args: Any) -> None:
        """Clear the figure and call ``paint(figure, *args)``; nothing once the user closed it."""
        if self._plt.fignum_exists(self._figure.number):
            self._figure.clear()
            paint(self._figure, *args)
            self._figure.canvas.draw()
            self._figure.canvas.flush_events()

    def wait(self) -> None:
        """Leave the window open until the user closes it."""
        if self._plt.fignum_exists(self._figure.number):
            self._plt.show(block=True)
