"""A recurrent network that reads a sine and writes the cosine.

Document: "TensorFlow notes" (2018), the last example, regression with a recurrent network.

A layer of 32 tanh units and a linear layer on every output read a sine in windows of 10
points, each half a period long, from 0 to pi, from pi to 2 pi, and so on; 60 windows, one
training step each.  Mean squared error, Adam with learning rate 0.02.

The value of a sine does not tell that of the cosine: at 0 it may be 1 or -1, depending on
whether the sine rises or falls.  Inside a window the network can see that; at the beginning
only the state can tell, which is carried from window to window (and detached, so gradients
stop at the edge).  state.png shows what it is worth: the error at each point of a window,
with the state carried and with a state of zeros in its place.

Beside the document:
* Its windows contain both their ends, so the last point of one is the first of the next:
  the network meets every multiple of pi twice in a row.  Kept as it is.
* Nothing is clipped.  learning_curve.png shows steps at which the gradient is ten times as
  long as usual.  (Clipping would help little: Adam divides by the size of the gradient.)
* There is no test.  The metric here is the root mean squared error over the last 10 windows,
  each predicted before its training step.
* 60 steps with one sequence each are few: twenty seeds end between 0.05 and 0.74 (median
  0.16; seed 0: 0.32; its stream of random numbers was chosen, among five).  With --steps 600
  six seeds end below 0.013.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim

from . import _plots
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 60, 60
HIDDEN = 32
POINTS = 10
RATE = 0.02
LAST = 10  # windows that the metric is taken over
ROW, ROWS = 20, 3  # windows in a row of the picture, and rows
PROBED = 40  # further windows that state.png is made of


class SineToCosine(nn.Module):
    """A recurrent layer of 32 and a linear layer on every output."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.rnn = nn.RNN(1, HIDDEN, generator=generator)
        self.head = nn.Linear(HIDDEN, 1, generator=generator)

    def forward(self, x: Any, state: Any = None) -> tuple[mg.Tensor, Any]:
        """x (N, T, 1) -> predictions (N, T, 1) and the last state (N, 32)."""
        outputs, state = self.rnn(x, state)
        return self.head(outputs), state


def window(step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half a period: the places (10,), their sine and cosine (1, 10, 1) float32."""
    places = np.linspace(step * np.pi, (step + 1) * np.pi, POINTS)
    x, y = np.sin(places), np.cos(places)
    return places, x[None, :, None].astype(np.float32), y[None, :, None].astype(np.float32)


def error_by_point(model: SineToCosine, state: Any, first: int) -> tuple[np.ndarray, np.ndarray]:
    """RMSE at each of the 10 points of a window: state carried, and zeros in its place.

    Over 40 windows from number ``first`` on, without training.  Two arrays (10,).
    """
    errors = np.zeros((2, PROBED, POINTS))
    with mg.no_grad():
        for i in range(PROBED):
            _, x, y = window(first + i)
            carried, state = model(x, state)
            fresh, _ = model(x)
            for row, predicted in zip(errors, (carried, fresh)):
                row[i] = (predicted.numpy() - y)[0, :, 0]
    with_state, without = np.sqrt(np.mean(errors**2, axis=1))
    return with_state, without


# -- pictures ---------------------------------------------------------------------------------


def paint_curves(figure: Figure, predicted: list[np.ndarray], title: str) -> None:
    """The document's live plot: the cosine, and what was predicted before each training step.

    predicted: (10,) for each window so far.  60 windows are drawn; of more, the first 20 and
    the last 40.
    """
    _plots.entitle(figure, title)
    numbers = list(range(len(predicted)))
    if len(numbers) > ROW * ROWS:
        numbers = numbers[:ROW] + numbers[-ROW * (ROWS - 1) :]
    panels = figure.subplots(ROWS, 1, sharey=True)
    for row, axes in enumerate(panels):
        _plots.dress(axes)
        shown = numbers[row * ROW : (row + 1) * ROW]
        first = shown[0] if shown else row * ROW
        for number in shown:
            places = window(number)[0] / np.pi
            axes.plot(places, np.cos(places * np.pi), color=_plots.RED, lw=2, label="cosine")
            axes.plot(places, predicted[number], color=_plots.BLUE, lw=1.5, label="predicted")
        axes.set_xlim(first, first + ROW)
        axes.set_xticks(np.arange(first, first + ROW + 1, 2))
        axes.set_ylim(-1.6, 1.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[:2], labels[:2], loc="outside lower center", ncols=2, fontsize=9)
    panels[-1].set_xlabel("place on the sine, in units of pi = training step")
    figure.supylabel("predicted before the training step", fontsize=10)


def learning_figure(losses: np.ndarray, norms: np.ndarray) -> Figure:
    """Loss and global norm of the gradient at each step; (steps,) each."""
    usual = np.median(norms)
    figure = _plots.new_figure(
        f"Nothing is clipped: the gradient norm is {usual:.1f} in the median, and "
        f"{norms.max():.1f} at its largest",
        height=4.8,
    )
    panels = figure.subplots(2, 1, sharex=True)
    style = "o-" if len(losses) <= 200 else "-"
    for axes, values, color, name in (
        (panels[0], losses, _plots.BLUE, "mean squared error\n(log scale)"),
        (panels[1], norms, _plots.ORANGE, "global gradient norm\n(log scale)"),
    ):
        _plots.dress(axes)
        axes.plot(values, style, ms=3, color=color)
        axes.set_yscale("log")
        axes.set_ylabel(name)
    panels[1].axhline(usual, color=_plots.GREY, ls="--", lw=1, label="median")
    panels[1].legend(fontsize=9)
    _plots.whole_numbers(panels[1].xaxis)
    panels[1].set_xlabel("training step")
    return figure


def state_figure(carried: np.ndarray, zeros: np.ndarray) -> Figure:
    """Errors at each point of a window with the carried state, and without it; (10,) each."""
    figure = _plots.new_figure(
        f"What the carried state is worth: RMSE at the first point {carried[0]:.2f} with it,\n"
        f"{zeros[0]:.2f} with zeros in its place",
        height=4.2,
    )
    axes = figure.add_subplot()
    _plots.dress(axes)
    at = np.arange(POINTS)
    axes.bar(at - 0.2, zeros, width=0.4, color=_plots.ORANGE, label="state of zeros")
    axes.bar(at + 0.2, carried, width=0.4, color=_plots.BLUE, label="state carried")
    axes.set_xticks(at)
    axes.set_xlabel("point of the window")
    axes.set_ylabel(f"RMSE over {PROBED} further windows")
    axes.legend()
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--live", action="store_true", help="draw the document's figure while training"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train window by window, and write figures and metrics."""
    with start(
        "sine_to_cosine", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS
    ) as run:
        screen = _plots.LiveWindow("sine_to_cosine", height=5.6) if run.args.live else None
        model = SineToCosine(run.generator("network"))
        parameters = model.parameters()
        optimizer = optim.Adam(parameters, lr=RATE)
        predicted: list[np.ndarray] = []
        losses, norms = [], []
        run.keep(
            model=model, optimizer=optimizer, losses=losses, norms=norms, predicted=predicted
        )
        state = run.carried(None)
        for step in run.steps():
            _, x, y = window(step)

            outputs, state = model(x, state)
            loss = mg.mse_loss(outputs, y)
            optimizer.zero_grad()
            loss.backward()
            norm = optim.clip_grad_norm_(parameters, math.inf)  # only measures
            optimizer.step()
            state = run.carry(state.detach())  # carried on; gradients stop here

            losses.append(loss.item())
            norms.append(norm.before)
            predicted.append(outputs.numpy().ravel())
            run.note(loss=losses[-1], clipped=norm)
            if screen is not None:
                with run.untimed():
                    screen.draw(paint_curves, predicted, f"Loss {losses[-1]:.3f}")

        rmse = math.sqrt(np.mean(losses[-LAST:]))
        carried, zeros = error_by_point(model, state, run.steps_done)
        curves = _plots.new_figure("", height=5.6)
        title = f"The cosine is followed with an RMSE of {rmse:.2f} in the last {LAST} windows"
        paint_curves(curves, predicted, title)
        run.finish(
            "rmse", rmse,
            {
                "curves": curves,
                "learning_curve": learning_figure(np.array(losses), np.array(norms)),
                "state": state_figure(carried, zeros),
            },
            losses=losses, rmse_by_point_state_carried=carried, rmse_by_point_state_zero=zeros,
        )  # fmt: skip
        if screen is not None and not run.interrupted:
            screen.wait()


if __name__ == "__main__":
    main()
