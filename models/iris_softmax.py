"""Three kinds of iris told apart by four measurements; softmax once, and by mistake twice.

Document: "TensorFlow RNN primer" (2017), the estimator for the iris data.

A linear layer turns the four measurements of a flower into three logits.  Softmax, cross-
entropy, Adam with learning rate 0.01, 800 steps, each with all 120 training flowers; 30
others are the test.

The document's layer ends in a softmax, and the loss takes the softmax of that once more.  The
loss then sees numbers between 0 and 1 where it expects logits, and that costs something:
* It cannot fall below log(e + 2) - 1 = 0.55, not even when every flower is named with
  certainty.  So its value says little.
* A softmax that is sure hardly changes with its logits.  If it is surely wrong, no gradient
  comes back, and the mistake stays: signal.png.  From 600 different weights two of five
  trainings end below 96% in the test, some at a third; with one softmax one in 600 does:
  cost.png.

--variant runs the document's way (as-written), the right one (corrected), or both.

Beside the document:
* It trains one network.  Here --starts (40) of them learn at the same time, each from weights
  of its own and as if it were alone: their gradients do not mix, and Adam treats every number
  for itself.  The metric is the test accuracy of the first, corrected if that was trained.
* Its split is scikit-learn's with random_state=0: the first 30 flowers of an order drawn by
  NumPy's RandomState(0) are the test.  That is the same here, whatever --seed says.
* Glorot uniform weights and biases of zero: kept.  Its estimator has batches of at most 128,
  so all 120 flowers are in each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import load_iris

from . import _plots
from ._arguments import whole_number
from ._run import Run, start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 800, 300
TEST = 30  # flowers
RATE = 0.01
STARTS = 40
REPORT = 100
GOOD = 0.96  # a test accuracy that one flower too many keeps from being reached: 29 of 30 do
FLOOR = math.log(math.e + 2) - 1  # of the loss when softmax is taken twice
VARIANTS = {"as-written": "softmax twice, as written", "corrected": "softmax once"}


class Softmax(nn.Module):
    """Linear layers 4 -> 3 without a softmax, S of them side by side."""

    def __init__(self, starts: int, generator: np.random.Generator) -> None:
        drawn = [nn.init.glorot_uniform((4, 3), generator=generator) for _ in range(starts)]
        self.weight = nn.Parameter(np.stack(drawn))  # (S, 4, 3)
        self.bias = nn.Parameter(nn.init.constant((starts, 1, 3), 0.0))

    def forward(self, x: Any) -> mg.Tensor:
        """x (N, 4) -> logits (S, N, 3)."""
        return x @ self.weight + self.bias


def loss_of(logits: Any, labels: np.ndarray, variant: str) -> mg.Tensor:
    """Logits (S, N, 3), labels (N,) -> mean cross-entropy of each of the S networks, (S,)."""
    if variant == "as-written":
        logits = mg.softmax(logits)  # the mistake: cross_entropy does that itself
    each = mg.cross_entropy(logits, np.broadcast_to(labels, logits.shape[:-1]), reduction="none")
    return each.mean(axis=1)


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The document's: x (120, 4) float32 and labels (120,) to train on, (30, 4), (30,) to test."""
    iris = load_iris()
    order = np.random.RandomState(0).permutation(len(iris.labels))
    test, train = order[:TEST], order[TEST:]
    return iris.features[train], iris.labels[train], iris.features[test], iris.labels[test]


def accuracy(logits: Any, labels: np.ndarray) -> np.ndarray:
    """Logits (S, N, 3) -> fraction of the flowers that each network names right, (S,)."""
    return (logits.numpy().argmax(axis=2) == labels).mean(axis=1)


class Trained(NamedTuple):
    """What came of one variant."""

    losses: np.ndarray  # (steps, S)
    accuracies: np.ndarray  # (steps, S), of the training flowers
    test: np.ndarray  # (S,), accuracy
    sure: np.ndarray  # (S,), mean probability of the class that was named, in the test


def train(run: Run, variant: str) -> Trained:
    """All networks from the beginning, and their test."""
    x, labels, test_x, test_labels = split()
    model = Softmax(run.args.starts, run.generator("weights"))
    optimizer = optim.Adam(model.parameters(), lr=RATE)
    losses, accuracies = [], []
    run.keep(
        name=variant, model=model, optimizer=optimizer, losses=losses, accuracies=accuracies
    )
    with run.lesson():
        for step in run.steps():
            logits = model(x)
            loss = loss_of(logits, labels, variant)  # (S,)
            optimizer.zero_grad()
            loss.sum().backward()  # each network's loss reaches its own weights only
            optimizer.step()

            losses.append(loss.numpy().copy())
            accuracies.append(accuracy(logits, labels))
            run.note(loss=losses[-1][0], accuracy=accuracies[-1][0])
            if step % REPORT == 0:
                with run.untimed(), mg.no_grad():
                    run.test(accuracy=accuracy(model(test_x), test_labels)[0])

    with mg.no_grad():
        logits = model(test_x)
    sure = mg.softmax(logits).numpy().max(axis=2).mean(axis=1)
    return Trained(np.array(losses), np.array(accuracies), accuracy(logits, test_labels), sure)


def gradient_by_margin(margins: np.ndarray, variant: str) -> np.ndarray:
    """How long the gradient of the logits is for one flower, (M,).

    margins (M,): the logit of a wrong class minus that of the right one.  The third class is
    out of the question, 20 below the right one.
    """
    logits = np.zeros((1, len(margins), 3))
    logits[0, :, 1], logits[0, :, 2] = margins, -20
    logits = mg.tensor(logits, requires_grad=True)
    (loss_of(logits, np.zeros(len(margins), int), variant).sum() * len(margins)).backward()
    return np.linalg.norm(logits.grad.numpy()[0], axis=1)


# -- pictures ---------------------------------------------------------------------------------


def cost_figure(trained: dict[str, Trained]) -> Figure:
    """Training accuracy and loss of every network, one column for each variant."""
    low = {name: int((result.test < GOOD).sum()) for name, result in trained.items()}
    starts = len(next(iter(trained.values())).test)
    found = "; ".join(f"{VARIANTS[name]}: {low[name]} of {starts}" for name in trained)
    figure = _plots.new_figure(
        f"Networks that fail, with less than {GOOD:.0%} of the test flowers:\n{found}", 5.6
    )
    panels = figure.subplots(2, len(trained), squeeze=False, sharex=True, sharey="row")
    for (above, below), (name, result) in zip(panels.T, trained.items()):
        for axes, values in ((above, result.accuracies), (below, result.losses)):
            _plots.dress(axes)
            for number, color, style in zip(*_told_apart(result.test)):
                axes.plot(values[:, number], color=color, **style)
        above.set_title(VARIANTS[name], fontsize=10)
        below.set_xlabel("training step")
        below.set_ylim(0, 1.5)
        if name == "as-written":
            below.axhline(FLOOR, color="black", ls="--", lw=1.2)
            below.text(0.98, FLOOR - 0.04, f"no lower than {FLOOR:.2f}", ha="right", va="top",
                       transform=below.get_yaxis_transform(), fontsize=9)  # fmt: skip
    panels[0, 0].set_ylabel("accuracy on the\ntraining flowers")
    panels[1, 0].set_ylabel("loss (nats)")
    for color, label in ((_plots.BLUE, f"test accuracy at least {GOOD:.0%}"),
                         (_plots.RED, "less")):  # fmt: skip
        panels[0, 0].plot([], [], color=color, label=label)
    panels[0, 0].legend(loc="lower right", fontsize=8)
    return figure


def _told_apart(test: np.ndarray) -> tuple[list[int], list[str], list[dict[str, float]]]:
    """In which order to draw the networks, and how: what failed in red; the first one thick."""
    order = [*range(1, len(test)), 0]
    colors = [_plots.RED if test[i] < GOOD else _plots.BLUE for i in order]
    thin, thick = {"lw": 0.7, "alpha": 0.6}, {"lw": 2.2, "alpha": 1.0}
    return order, colors, [thin] * (len(test) - 1) + [thick]


def signal_figure() -> Figure:
    """The gradient that reaches the logits, by how wrong they are."""
    margins = np.linspace(-6, 14, 201)
    far = 10.0  # where the two are compared
    curves = {name: gradient_by_margin(margins, name) for name in VARIANTS}
    once, twice = (gradient_by_margin(np.array([far]), v)[0] for v in ("corrected", "as-written"))
    figure = _plots.new_figure(
        f"Softmax twice: a flower that is wrong by {far:.0f} pulls {once / twice:,.0f} times\n"
        "less than it should",
        4.4,
    )
    axes = figure.add_subplot()
    _plots.dress(axes)
    for name, color in (("corrected", _plots.BLUE), ("as-written", _plots.RED)):
        axes.semilogy(margins, curves[name], color=color, lw=2, label=VARIANTS[name])
    axes.annotate(
        "", (far, twice), (far, once), arrowprops={"arrowstyle": "<->", "color": _plots.GREY}
    )
    axes.axvline(0, color="black", lw=0.8)
    for x, text in ((-3, "right"), (5, "wrong")):
        axes.text(x, 0.03, text, transform=axes.get_xaxis_transform(), ha="center")
    axes.set_xlabel("logit of a wrong class minus that of the right one")
    axes.set_ylabel(r"$\|\partial L/\partial\,logits\|$ of one flower (log scale)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.1), fontsize=9)
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--variant", choices=[*VARIANTS, "both"], default="both",
        help="the document's way, the right one, or both, one after the other with --steps each "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--starts", type=whole_number(1), default=STARTS, metavar="N",
        help="networks that learn side by side, each from other weights (default: %(default)s)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Train, test as the document does, and write figures and metrics."""
    with start("iris_softmax", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS) as run:
        trained: dict[str, Trained] = {}
        for variant in VARIANTS if run.args.variant == "both" else [run.args.variant]:
            if not run.interrupted:
                trained[variant] = result = train(run, variant)
                run.say(
                    f"{VARIANTS[variant]}: test accuracy {result.test[0]:.1%}; of "
                    f"{run.args.starts} starts {(result.test < GOOD).sum()} below {GOOD:.0%}, "
                    f"mean {result.test.mean():.1%}; loss {result.losses[-1][0]:.3f}"
                )

        with run.lesson():
            figures = {"cost": cost_figure(trained), "signal": signal_figure()}
        last = list(trained.values())[-1]
        run.finish(
            "test_accuracy", last.test[0], figures,
            variant=run.args.variant, starts=run.args.starts,
            **{
                name.replace("-", "_"): {
                    "test_accuracies": result.test,
                    "mean_test_accuracy": result.test.mean(),
                    "below_96_percent": int((result.test < GOOD).sum()),
                    "mean_certainty": result.sure.mean(),
                    "last_losses": result.losses[-1],
                }
                for name, result in trained.items()
            },
        )  # fmt: skip


if __name__ == "__main__":
    main()
