"""A parabola out of ten bent lines.

Document: "TensorFlow notes" (2018), section on regression.

300 points from -1 to 1, y = x^2 - 0.5 with noise of standard deviation 0.05.  A hidden layer of
ten relus and a linear output; the mean squared error, gradient descent with learning rate 0.1,
1000 steps with all the points.

relu(w x + c) is a straight line with one bend, at x = -c / w.  So the network is a straight
line with up to ten bends, and learning is to move and to sharpen them.  fit.png shows the line
as it learns, with a mark at each bend, and bends.png where they travel.  (The bend of a unit
may lie outside the data; it then is a straight line, or nothing at all.)

Beside the document:
* Weights from a standard normal distribution, biases 0.1: kept.
* It has the lines for a live plot commented out; here --live draws it.
* It prints the loss every 50 steps, of the points it trains on.  The metric is the last of
  them, after the last step; the noise alone is 0.0025.  Twelve seeds end between 0.0023 and
  0.0078 (median 0.0031; seed 0: 0.0028).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn, optim

from . import _plots
from ._run import start

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 1000, 200
POINTS, NOISE = 300, 0.05
HIDDEN = 10
RATE = 0.1
REPORT = 50
SHOWN = (0, 3, 10, 50, 200)  # steps before which the fit is drawn, and the end


class Bent(nn.Module):
    """1 -> 10 relu -> 1, a line with ten bends."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.hidden = nn.Linear(1, HIDDEN, generator=generator)
        self.output = nn.Linear(HIDDEN, 1, generator=generator)
        for dense in (self.hidden, self.output):
            dense.weight.data = nn.init.normal(dense.weight.shape, generator=generator)
            dense.bias.data = nn.init.constant(dense.bias.shape, 0.1)

    def forward(self, x: Any) -> mg.Tensor:
        """x (N, 1) -> y (N, 1)."""
        return self.output(mg.relu(self.hidden(x)))

    def bends(self) -> np.ndarray:
        """Where each unit has its bend, (10,)."""
        with np.errstate(divide="ignore"):
            return -self.hidden.bias.numpy() / self.hidden.weight.numpy()[0]


def points(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x and noisy y, (300, 1) float32 each."""
    x = np.linspace(-1, 1, POINTS, dtype=np.float32)[:, None]
    noise = generator.normal(0, NOISE, x.shape).astype(np.float32)
    return x, np.square(x) - np.float32(0.5) + noise


class Moment(NamedTuple):
    """The network before one of its steps."""

    step: int
    loss: float
    predicted: np.ndarray  # (300, 1)
    bends: np.ndarray  # (10,)


# -- pictures ---------------------------------------------------------------------------------


def _paint_fit(axes: Axes, x: np.ndarray, y: np.ndarray, moment: Moment) -> None:
    """Points, parabola, the network's line, and a mark at each bend inside the data."""
    _plots.dress(axes)
    axes.plot(x, y, ".", color=_plots.GREY, ms=2, alpha=0.5, label="points")
    axes.plot(x, x**2 - 0.5, color=_plots.ORANGE, lw=2, label="parabola")
    axes.plot(x, moment.predicted, color=_plots.BLUE, lw=2, label="network")
    inside = moment.bends[np.abs(moment.bends) < 1]
    heights = np.interp(inside, x[:, 0], moment.predicted[:, 0])
    axes.plot(inside, heights, "o", mec=_plots.BLUE, mfc="white", ms=6, label="its bends")
    axes.set_ylim(-0.75, 0.75)
    axes.set_title(f"{moment.step:,} steps: error {moment.loss:.2g}", fontsize=10)


def paint_live(figure: Figure, x: np.ndarray, y: np.ndarray, moment: Moment) -> None:
    """The document's live plot.  x, y: (300, 1)."""
    axes = figure.add_subplot()
    _paint_fit(axes, x, y, moment)
    axes.legend(loc="upper center")


def fit_figure(x: np.ndarray, y: np.ndarray, moments: Sequence[Moment]) -> Figure:
    """The network's line at up to six moments, from the first to the last."""
    first, last = moments[0], moments[-1]
    figure = _plots.new_figure(
        f"A line learns to bend: error {first.loss:.2g} before training, {last.loss:.4f} after\n"
        f"{last.step:,} steps (of the noise alone: {NOISE**2:.4f})",
        5.4,
    )
    panels = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    for axes, moment in zip(panels, moments):
        _paint_fit(axes, x, y, moment)
    for axes in panels[len(moments) :]:
        axes.set_visible(False)
    for axes in panels[3:]:
        axes.set_xlabel("x")
    for axes in panels[::3]:
        axes.set_ylabel("y")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def bends_figure(losses: np.ndarray, bends: np.ndarray) -> Figure:
    """Loss at each step, and where the bends are.  losses: (steps,); bends: (steps, 10)."""
    before, after = np.median(np.abs(bends[[0, -1]]), axis=1)
    figure = _plots.new_figure(
        f"Half of the bends lie within {before:.2f} of the middle before training, "
        f"within {after:.2f} after it",
        5.2,
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    for axes in (above, below):
        _plots.dress(axes)
    above.plot(losses, color=_plots.BLUE, label="training")
    above.axhline(NOISE**2, color=_plots.RED, ls="--", lw=1.5, label="the noise alone")
    above.set_yscale("log")
    above.set_ylabel("mean squared error\n(log scale)")
    above.legend(fontsize=9)
    below.plot(np.where(np.abs(bends) < 3, bends, np.nan), color=_plots.BLUE, lw=1.5)
    below.axhspan(-1, 1, color=_plots.ORANGE, alpha=0.1, lw=0)
    below.set_xscale("symlog", linthresh=10)
    below.set_ylim(-1.2, 1.2)
    below.set_ylabel("x at which a unit bends\n(shaded: where the points are)")
    below.set_xlabel("training step (linear to 10, then logarithmic)")
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--live", action="store_true", help=f"draw the fit every {REPORT} steps while training"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train with all points at every step, and write figures and metrics."""
    with start(
        "curve_regression", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS
    ) as run:
        screen = _plots.LiveWindow("curve_regression", height=5.0) if run.args.live else None
        x, y = points(run.generator("points"))
        model = Bent(run.generator("network"))
        optimizer = optim.SGD(model.parameters(), lr=RATE)
        losses, bends, moments = [], [], []
        run.keep(
            Moment, model=model, optimizer=optimizer, losses=losses, bends=bends, moments=moments
        )
        moment = run.carried(None)
        for step in run.steps():
            predicted = model(x)
            loss = mg.mse_loss(predicted, y)

            losses.append(loss.item())
            run.note(loss=losses[-1])
            with run.untimed():
                bends.append(model.bends())
                if step in SHOWN or step % REPORT == 0:
                    moment = Moment(step, losses[-1], predicted.numpy().copy(), bends[-1])
                    run.carry(moment)
                if step in SHOWN:
                    moments.append(moment)
                if step % REPORT == 0:
                    run.say(f"step {step}: loss {losses[-1]:.5f}")
                    if screen is not None:
                        screen.draw(paint_live, x, y, moment)

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        with mg.no_grad():
            predicted = model(x)
        reached = mg.mse_loss(predicted, y).item()
        end = Moment(run.steps_done, reached, predicted.numpy(), model.bends())
        run.finish(
            "loss", reached,
            {
                "fit": fit_figure(x, y, [*moments, end]),
                "bends": bends_figure(
                    np.array([*losses, reached]), np.array([*bends, end.bends])
                ),
            },
            first_loss=losses[0], loss_of_parabola=float(np.mean((y - (x**2 - 0.5)) ** 2)),
        )  # fmt: skip
        if screen is not None and not run.interrupted:
            screen.wait()


if __name__ == "__main__":
    main()
