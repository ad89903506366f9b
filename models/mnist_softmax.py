"""Handwritten digits named by one layer: softmax regression.

Document: "TensorFlow notes" (2018), section on classification.

784 pixels, ten logits, softmax, cross-entropy.  Gradient descent with learning rate 0.5, 1000
batches of 100 images.

Three ways, one after the other, on the same batches (--variant picks one):
* as-written: weights from a standard normal distribution, biases 0.1, and the loss spelt out
  as -sum(y log(softmax(z))).  TensorFlow names 87.8% of the test images so.
* corrected: the loss from the logits, in one piece.  Nothing else changes while all goes
  well.  But a float32 softmax becomes 0 where a logit lies some 100 below the largest, and
  0 log(0) is NaN: trap.png.  --std 3 walks into it.
* zeros: the corrected loss, and weights that start from zero.

Why zeros reach 92% and the normal weights 88%: both go down to the same minimum (the loss is
convex), but the second start is far away.  An image is a vector about 9 long, so the logits of
such weights are about 9 off; the loss begins at 11 to 13 and not at log(10) = 2.3.  And the way
back is long: gradient descent moves the weights only in directions in which the images differ,
slowly where they differ little, and not at all where no image has ink.  weights.png: after
1000 steps nine tenths of the noise are still there.

Ten seeds reach 87.1% to 88.3% from normal weights (mean 87.7%; TensorFlow's one run 87.8%; seed
0: 87.6%) and 91.5% to 92.1% from zeros, on all of MNIST.

Beside the document:
* It measures the test accuracy every 50 steps; so here.
* TensorFlow's loader sets the first 5,000 of the 60,000 training images aside.  So here: a
  twelfth is left out.
* TensorFlow fills the last batch of an epoch with the first images of the next; here a rest of
  fewer than 100 images is left out, and the next epoch shuffles all again.
* The package has 7,000 images of the 70,000: --data DIR takes the whole set, and --download
  fetches it first.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import MNIST, DataLoader, Endless, TensorDataset, load_mnist

from . import _plots
from ._arguments import real_number
from ._run import Run, start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 1000, 100
PIXELS, CLASSES = 784, 10
BATCH = 100
RATE = 0.5
REPORT = 50  # steps between two looks at the test set
HELD = 12  # one of so many training images is left out
LOOK = 1000  # images that trap.png is made of
TENSORFLOW = 0.878  # test accuracy of its version on all of MNIST
VARIANTS = {
    "as-written": "normal weights, log of softmax",
    "corrected": "normal weights, loss from logits",
    "zeros": "weights from zero, loss from logits",
}
COLORS = {"as-written": _plots.RED, "corrected": _plots.BLUE, "zeros": _plots.ORANGE}


class Softmax(nn.Module):
    """A linear layer 784 -> 10.  std: of its normal weights; 0 starts from zeros."""

    def __init__(self, std: float, generator: np.random.Generator) -> None:
        self.dense = nn.Linear(PIXELS, CLASSES, generator=generator)
        shape = self.dense.weight.shape
        self.dense.weight.data = nn.init.normal(shape, std=std, generator=generator)
        self.dense.bias.data = nn.init.constant((CLASSES,), 0.1)

    def forward(self, x: Any) -> mg.Tensor:
        """x (N, 784), ink from 0 to 1 -> logits (N, 10)."""
        return self.dense(x)


def loss_of(logits: Any, labels: np.ndarray, variant: str) -> mg.Tensor:
    """Logits (N, 10), labels (N,) -> cross-entropy, mean over the batch."""
    if variant == "as-written":  # the trap: 0 * log(0)
        y = mg.one_hot(labels, CLASSES, dtype=logits.dtype)
        return -(y * mg.log(mg.softmax(logits))).sum(axis=1).mean()
    return mg.cross_entropy(logits, labels)


def ink(images: np.ndarray) -> np.ndarray:
    """Pixels (N, 28, 28) uint8 -> (N, 784) float32 from 0, the paper, to 1, the ink."""
    return images.reshape(len(images), PIXELS) / np.float32(255)


def accuracy(model: Softmax, images: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the images (N, 28, 28) uint8 whose largest logit is that of their label."""
    with mg.no_grad():
        logits = model(ink(images)).numpy()
    return float((logits.argmax(axis=1) == labels).mean())


class Trained(NamedTuple):
    """What came of one variant."""

    losses: np.ndarray  # (steps,)
    accuracies: list[tuple[int, float]]  # (step, test accuracy)
    before: np.ndarray  # (784, 10), weights
    after: np.ndarray  # (784, 10)

    @property
    def reached(self) -> float:
        """Test accuracy at the end."""
        return self.accuracies[-1][1]

    @property
    def noise_left(self) -> float:
        """How much of the weights at the beginning is still in those of the end, 1: all."""
        start = self.before.ravel()
        return float(self.after.ravel() @ start / (start @ start)) if start.any() else 0.0


def train(run: Run, variant: str, data: MNIST) -> Trained:
    """One training from the beginning."""
    held = len(data.train_images) // HELD
    images = TensorDataset(data.train_images[held:], data.train_labels[held:])
    epoch = DataLoader(
        images, BATCH, shuffle=True, drop_last=True, generator=run.generator("batches")
    )
    batches = Endless(epoch, epoch.generator)
    model = Softmax(0.0 if variant == "zeros" else run.args.std, run.generator("weights"))
    before = model.dense.weight.numpy().copy()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    test = data.test_images, data.test_labels
    losses, accuracies = [], []
    run.keep(
        name=variant, model=model, optimizer=optimizer, batches=batches, losses=losses,
        accuracies=accuracies,
    )  # fmt: skip
    with run.lesson():
        for step in run.steps():
            x, labels = next(batches)  # (100, 28, 28) uint8, (100,)

            loss = loss_of(model(ink(x)), labels, variant)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):  # only log(softmax) can get here
                run.say(f"step {step}: the loss is {losses[-1]}, as every weight would be next")
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            if step % REPORT == 0:
                with run.untimed():
                    accuracies.append((step, accuracy(model, *test)))
                    run.note(loss=losses[-1], accuracy=accuracy(model, x, labels))
                    run.test(accuracy=accuracies[-1][1])
    accuracies.append((len(losses), accuracy(model, *test)))
    return Trained(np.array(losses), accuracies, before, model.dense.weight.numpy().copy())


def losses_by_std(
    stds: np.ndarray, images: np.ndarray, labels: np.ndarray, variant: str,
    generator: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Loss before training of the same weights in several sizes; stds (S,) -> (S,).

    images (N, 28, 28) uint8; NaN and infinities are returned, not refused.
    """
    model = Softmax(1.0, generator)
    weight, x = model.dense.weight.numpy().copy(), ink(images)
    found = []
    with mg.no_grad(), np.errstate(all="ignore"):
        for std in stds.astype(np.float32):
            model.dense.weight.data = std * weight
            found.append(loss_of(model(x), labels, variant).item())
    return np.array(found)


# -- pictures ---------------------------------------------------------------------------------


def accuracy_figure(trained: dict[str, Trained], reference: float | None) -> Figure:
    """The document's measure, every 50 steps.  reference: TensorFlow's, if it compares."""
    reached = ", ".join(f"{result.reached:.1%} ({name})" for name, result in trained.items())
    figure = _plots.new_figure(f"Test accuracy {reached}", 4.6)
    axes = figure.add_subplot()
    _plots.dress(axes)
    for name, result in trained.items():
        style = {"lw": 5, "alpha": 0.4} if name == "as-written" else {"lw": 1.5}
        steps, values = zip(*result.accuracies)
        axes.plot(steps, values, ".-", color=COLORS[name], label=VARIANTS[name], **style)
    if reference is not None:
        axes.axhline(
            reference, color=_plots.GREY, ls="--", lw=1.5,
            label=f"TensorFlow, normal weights: {reference:.1%}",
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_xlabel("training step")
    axes.set_ylabel("test accuracy (fraction of images)")
    _plots.whole_numbers(axes.xaxis)
    axes.legend(loc="lower right", fontsize=9)
    return figure


def weights_figure(trained: dict[str, Trained]) -> Figure:
    """The weights of each digit as an image, after training; noise where they began as noise."""
    shown = {name: r for name, r in trained.items() if name != "as-written"} or trained
    noisy = next((r for r in shown.values() if r.before.any()), None)
    figure = _plots.new_figure(
        "What each digit looks for, pixel by pixel"
        if noisy is None
        else f"{noisy.noise_left:.0%} of the noise they began with is still in the weights "
        f"after {len(noisy.losses):,} steps",
        1.1 + 0.75 * len(shown),
    )
    panels = figure.subplots(len(shown), CLASSES, squeeze=False)
    for number, (name, result) in enumerate(shown.items()):
        row = panels[number]
        limit = np.abs(result.after).max() * 0.8
        for digit, axes in enumerate(row):
            image = result.after[:, digit].reshape(28, 28)
            drawn = axes.imshow(image, cmap="RdBu", vmin=-limit, vmax=limit)
            axes.set_xticks([])
            axes.set_yticks([])
            if number == 0:
                axes.set_title(str(digit), fontsize=10)
        row[0].set_ylabel(f"from {'zero' if name == 'zeros' else 'noise'}\n{result.reached:.1%}")
        bar = figure.colorbar(drawn, ax=row, fraction=0.02, aspect=10)
        bar.ax.tick_params(labelsize=8)
    figure.supxlabel("blue: ink here speaks for the digit; red: against it", fontsize=9)
    return figure


def trap_figure(stds: np.ndarray, written: np.ndarray, corrected: np.ndarray) -> Figure:
    """Loss by the size of the weights, spelt out and from the logits; (S,) each."""
    broken = ~np.isfinite(written)
    first = stds[broken][0] if broken.any() else np.inf
    figure = _plots.new_figure(
        f"-sum(y log(softmax)) is NaN from weights of standard deviation {first:.2g} on;\n"
        "computed from the logits, the loss is a number for all of them",
        4.4,
    )
    axes = figure.add_subplot()
    _plots.dress(axes)
    axes.plot(stds, corrected, color=_plots.BLUE, lw=1.5, label="from the logits")
    axes.plot(stds, written, color=_plots.RED, lw=5, alpha=0.4, label="log of softmax, as written")
    if broken.any():
        axes.axvspan(first, stds[-1], color=_plots.RED, alpha=0.1, lw=0)
        axes.text((first + stds[-1]) / 2, corrected.max() / 4, "NaN, as written", ha="center",
                  color=_plots.RED)  # fmt: skip
    axes.axvline(1, color=_plots.GREY, ls="--", lw=1.5, label="the document's weights")
    axes.set_xlabel("standard deviation of the weights before training")
    axes.set_ylabel(f"loss of {LOOK:,} test images (nats)")
    axes.legend(loc="upper left", fontsize=9)
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--variant", choices=[*VARIANTS, "all"], default="all",
        help="one of the three ways, or all, one after the other with --steps each "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--std", type=real_number(above=0), default=1.0, metavar="S",
        help="standard deviation of the normal weights (default: %(default)s, the document's)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="a folder with the four files of MNIST, .gz or not (default: what MINIGRAD_DATA "
        "names, else the 7,000 images in the package)",
    )  # fmt: skip
    parser.add_argument(
        "--download", action="store_true", help="fetch what is missing in that folder first"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, report as the document does, and write figures and metrics."""
    with start(
        "mnist_softmax", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS
    ) as run:
        data = load_mnist(run.args.data, download=run.args.download)
        trained: dict[str, Trained] = {}
        for variant in VARIANTS if run.args.variant == "all" else [run.args.variant]:
            if not run.interrupted:
                trained[variant] = result = train(run, variant, data)
                run.say(
                    f"{VARIANTS[variant]}: loss {result.losses[0]:.2f} at first, "
                    f"{np.mean(result.losses[-REPORT:]):.2f} at last; test accuracy "
                    f"{result.reached:.1%}; {result.noise_left:.0%} of the starting weights left"
                )

        stds = np.linspace(0.1, 4, 40)
        look = data.test_images[:LOOK], data.test_labels[:LOOK]
        with run.lesson():
            written, corrected = (
                losses_by_std(stds, *look, variant, run.generator("weights"))
                for variant in ("as-written", "corrected")
            )
        whole = len(data.train_images) == 60_000 and run.args.std == 1
        first = next(iter(trained.values()))
        run.finish(
            "test_accuracy", first.reached,
            {
                "accuracy": accuracy_figure(trained, TENSORFLOW if whole else None),
                "weights": weights_figure(trained),
                "trap": trap_figure(stds, written, corrected),
            },
            variant=run.args.variant, std=run.args.std,
            test_accuracies={name: result.reached for name, result in trained.items()},
            noise_left={name: result.noise_left for name, result in trained.items()},
            training_images=len(data.train_images) - len(data.train_images) // HELD,
            data=str(run.args.data or "as load_mnist() finds it"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
