"""How a model learns: its loss or perplexity by training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from . import _canvas
from ._canvas import BLUE, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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

    >>> from minigrad import plot
    >>> figure = plot.loss_curve([0, 1, 2], [2.0, 1.5, 1.2])
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

    >>> from minigrad import plot
    >>> figure = plot.perplexity([0, 1, 2], [2.0, 1.5, 1.2])
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
    message = f"{kind} {what} {verb} from {_canvas.short(first)} to {_canvas.short(last)}"
    if reference is not None:
        message += f" ({reference_label}: {_canvas.short(reference)})"
    return message


def _pairs(what: str, steps: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        steps, values = np.asarray(steps), np.asarray(values, np.float64)
    except (ValueError, TypeError) as error:
        raise DTypeError(f"plot.{what}: steps and values must be numbers: {error}") from error
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
        label = f"{reference_label}: {_canvas.short(reference)}"
        axes.axhline(reference, color=RED, ls="--", lw=1.5, label=label)
    axes.set_xlabel("training step")
    axes.legend()
