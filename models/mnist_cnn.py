"""Handwritten digits named by a convolutional network.

Documents: "TensorFlow tutorial: from basics to CNN and seq2seq" (R. Chong, 2018), section on the
CNN, and "TensorFlow notes" (2018), section on the CNN.

Both build the same network: 32 filters of 5 x 5, relu, max-pooling to 14 x 14; 64 filters of
5 x 5, relu, max-pooling to 7 x 7; a dense layer of 1024 with relu and dropout 0.5; ten logits.
Weights are drawn from a normal distribution of standard deviation 0.1, cut off at two of them,
biases are 0.1, and Adam has the rate 1e-4.  What they do differently, each as written and put
right (--variant):

* as-written (the tutorial; batches of 50, 20,000 steps): its helper for dense layers ends with
  relu, and the last layer is made with it.  Logits below zero are cut to zero: they get no
  gradient, and the softmax cannot tell them apart.  minigrad warns of it.
* corrected: the same without that relu.  The default, for 2,000 steps; --steps 20000 is the
  document's length.
* log-softmax (the notes; batches of 100, 1,000 steps): the loss spelt out as
  -sum(y log(softmax(z))), which is NaN where a float32 softmax becomes 0.  minigrad warns.
* from-logits: the same loss from the logits, in one piece.

Beside the documents:
* The tutorial reports the accuracy of a batch of the validation set every 100 steps; here it is
  that of 1,000 of its images.
* TensorFlow's loader sets the first 5,000 of the 60,000 training images aside for validation.
  So here: a twelfth of the training images is not trained on.
* TensorFlow fills the last batch of an epoch with the first images of the next; here a rest
  of fewer images than a batch is left out, and the next epoch shuffles all again.
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
from minigrad.data import DataLoader, Endless, TensorDataset, load_mnist

from . import _plots
from ._arguments import whole_number
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOKE_STEPS = 10
CHANNELS = 32, 64
WINDOW, HIDDEN, CLASSES = 5, 1024, 10
DROP = 0.5
RATE = 1e-4
REPORT = 100  # steps between two looks at the validation images
HELD = 12  # one of so many training images is for validation
LOOK = 1000  # of them
AT_ONCE = 500  # images at a time in evaluation
MISTAKES = 4, 6  # rows and columns of worst.png


class Variant(NamedTuple):
    """One way of training the network."""

    batch: int
    steps: int
    tensorflow: float | None  # test accuracy on all of MNIST after so many steps, one seed


VARIANTS = {
    "as-written": Variant(50, 2000, None),
    "corrected": Variant(50, 2000, 0.9735),
    "log-softmax": Variant(100, 1000, 0.968),
    "from-logits": Variant(100, 1000, None),
}


class CNN(nn.Module):
    """Two convolutions with relu and pooling, two dense layers.  Images are (N, 28, 28, 1)."""

    def __init__(
        self,
        generator: np.random.Generator,
        dropout: np.random.Generator,
        channels: tuple[int, int] = CHANNELS,
        hidden: int = HIDDEN,
    ) -> None:
        settings: dict[str, Any] = {"padding": "same", "activation": "relu", "pool": 2}
        self.conv1 = nn.Conv2d(1, channels[0], WINDOW, generator=generator, **settings)
        self.conv2 = nn.Conv2d(*channels, WINDOW, generator=generator, **settings)
        self.dense1 = nn.Linear(7 * 7 * channels[1], hidden, generator=generator)
        self.dense2 = nn.Linear(hidden, CLASSES, generator=generator)
        self.dropout = nn.Dropout(DROP, generator=dropout)
        for layer in (self.conv1, self.conv2, self.dense1, self.dense2):
            weight, bias = layer.weight, layer.bias
            weight.data = nn.init.truncated_normal(weight.shape, std=0.1, generator=generator)
            bias.data = nn.init.constant(bias.shape, 0.1)

    def maps(self, images: Any) -> tuple[mg.Tensor, mg.Tensor]:
        """What both convolutions see: (N, 14, 14, 32) and (N, 7, 7, 64)."""
        first = self.conv1(images)  # conv, relu and pooling in one kernel
        return first, self.conv2(first)

    def forward(self, images: Any) -> mg.Tensor:
        """images (N, 28, 28, 1), ink from 0 to 1 -> logits (N, 10)."""
        _, maps = self.maps(images)
        hidden = mg.relu(self.dense1(maps.reshape(len(images), -1)))
        return self.dense2(self.dropout(hidden))


def loss_of(logits: Any, labels: np.ndarray, variant: str) -> mg.Tensor:
    """Logits (N, 10), labels (N,) -> cross-entropy, mean over the batch."""
    if variant == "as-written":
        return mg.cross_entropy(mg.relu(logits), labels)  # the tutorial's mistake
    if variant == "log-softmax":  # that of the notes
        y = mg.one_hot(labels, CLASSES, dtype=logits.dtype)
        return -(y * mg.log(mg.softmax(logits))).sum(axis=1).mean()
    return mg.cross_entropy(logits, labels)


def ink(images: np.ndarray) -> np.ndarray:
    """Pixels (N, 28, 28) uint8 -> (N, 28, 28, 1) float32 from 0, the paper, to 1, the ink."""
    return images[..., None] / np.float32(255)


def logits_of(model: CNN, images: np.ndarray) -> np.ndarray:
    """Logits (N, 10) of images (N, 28, 28) uint8, without dropout."""
    model.eval()
    with mg.no_grad():
        parts = [
            model(ink(images[first : first + AT_ONCE])).numpy()
            for first in range(0, len(images), AT_ONCE)
        ]
    model.train()
    return np.concatenate(parts)


def named(logits: np.ndarray, variant: str) -> np.ndarray:
    """The digit with the largest logit, (N,); with the relu on them, where that is written."""
    return (np.maximum(logits, 0) if variant == "as-written" else logits).argmax(axis=1)


# -- pictures ---------------------------------------------------------------------------------


def accuracy_figure(
    valid: list[tuple[int, float]], losses: np.ndarray, reached: float, reference: float | None
) -> Figure:
    """Loss of each batch and validation accuracy; valid: (step, accuracy) pairs."""
    figure = _plots.new_figure(f"{reached:.2%} of the test images are named right", 5.2)
    above, below = figure.subplots(2, 1, sharex=True)
    steps, values = zip(*valid)
    above.plot(steps, [1 - v for v in values], "o-", ms=3, color=_plots.ORANGE, label="validation")
    above.plot(
        steps[-1], 1 - reached, "*", ms=14, color=_plots.RED, label=f"test: {1 - reached:.2%}"
    )
    if reference is not None:
        above.axhline(
            1 - reference, color=_plots.RED, ls="--", lw=1.5,
            label=f"TensorFlow, test: {1 - reference:.2%}",
        )  # fmt: skip
    above.set_yscale("log")
    above.set_ylabel("errors (fraction of\nimages, log scale)")
    above.legend(fontsize=9)
    below.plot(losses, color=_plots.BLUE, lw=0.5, alpha=0.4, label="each batch")
    below.plot(_plots.log_smooth(losses, 50), color=_plots.BLUE, lw=1.5, label="smoothed over 50")
    below.set_yscale("log")
    below.set_ylabel("loss (nats, log scale)")
    below.set_xlabel("training step")
    below.legend(fontsize=9)
    for axes in (above, below):
        _plots.dress(axes)
    _plots.whole_numbers(below.xaxis)
    return figure


def filters_figure(before: np.ndarray, after: np.ndarray) -> Figure:
    """The first layer's filters before and after training; (5, 5, 1, 32) each."""
    moved = np.linalg.norm(after - before) / np.linalg.norm(before)
    figure = _plots.new_figure(
        f"The first filters: training moved them by {moved:.0%} of their length", 4.0
    )
    halves = figure.subfigures(1, 2)
    limit = np.abs(after).max()
    for half, weights, name in zip(halves, (before, after), ("before training", "after")):
        half.suptitle(name, fontsize=10)
        panels = half.subplots(4, CHANNELS[0] // 4)
        for k, axes in enumerate(panels.ravel()):
            drawn = axes.imshow(weights[:, :, 0, k], cmap="RdBu", vmin=-limit, vmax=limit)
            axes.set_axis_off()
        half.colorbar(drawn, ax=panels, fraction=0.03, label="weight (blue: ink, red: paper)")
    return figure


def maps_figure(image: np.ndarray, maps: Sequence[np.ndarray], label: int) -> Figure:
    """What both layers make of one image (28, 28); maps: (14, 14, 32) and (7, 7, 64)."""
    figure = _plots.new_figure(
        f"A test image of a {label}: strokes are left of it after the first layer, "
        "parts after the second", 4.6,
    )  # fmt: skip
    left, *halves = figure.subfigures(1, 3, width_ratios=[1, 2, 2])
    axes = left.subplots()
    axes.imshow(image, cmap="Greys")
    axes.set_title("28 x 28", fontsize=10)
    axes.set_axis_off()
    for half, m, rows in zip(halves, maps, (4, 8)):
        size, _, count = m.shape
        half.suptitle(f"{count} maps of {size} x {size} after relu and pooling", fontsize=10)
        for k, panel in enumerate(half.subplots(rows, count // rows).ravel()):
            panel.imshow(m[:, :, k], cmap="Greys", vmin=0, vmax=m.max())
            panel.set_xticks([])
            panel.set_yticks([])
    figure.supxlabel("dark: large; all maps of a layer on one scale", fontsize=9)
    return figure


def confusion_figure(answers: np.ndarray, labels: np.ndarray) -> Figure:
    """How often each digit is named as each; answers, labels: (N,)."""
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, answers), 1)
    wrong = counts - np.diag(np.diag(counts))
    truth, said = np.unravel_index(wrong.argmax(), wrong.shape)
    figure = _plots.new_figure(
        f"{wrong.sum()} of {len(labels):,} named wrong; most often a {truth} is taken for a {said} "
        f"({wrong[truth, said]} times)",
        5.6,
    )
    axes = figure.add_subplot()
    drawn = axes.imshow(wrong, cmap="Reds")
    for row in range(CLASSES):
        for column in range(CLASSES):
            right = row == column
            if counts[row, column]:
                axes.text(
                    column, row, counts[row, column], ha="center", va="center", fontsize=8,
                    color=_plots.GREY if right else "white"
                    if wrong[row, column] > wrong.max() / 2 else "black",
                )  # fmt: skip
    axes.set_xticks(range(CLASSES))
    axes.set_yticks(range(CLASSES))
    axes.set_xlabel("named as")
    axes.set_ylabel("is")
    figure.colorbar(drawn, ax=axes, label="test images named wrong")
    return figure


def worst_figure(images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> Figure:
    """The test images whose own digit was thought least likely; (N, 28, 28), (N,), (N, 10)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    chance = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    own = chance[np.arange(len(labels)), labels]
    rows, columns = MISTAKES
    worst = own.argsort()[: rows * columns]
    figure = _plots.new_figure("The worst mistakes: what it is, and what it was taken for", 6.0)
    for place, axes in zip(worst, figure.subplots(rows, columns).ravel()):
        axes.imshow(images[place], cmap="Greys")
        said = chance[place].argmax()
        sure = chance[place, said]
        axes.set_title(f"{labels[place]}, named {said}\n({sure:.0%} sure)", fontsize=8)
        axes.set_axis_off()
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--variant", choices=VARIANTS, default="corrected",
        help="see above (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=whole_number(1), metavar="N",
        help="images of a batch (default: 50 for the tutorial's variants, 100 for the notes')",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="a folder with the four files of MNIST, .gz or not (default: what MINIGRAD_DATA "
        "names, else the 7,000 images in the package)",
    )  # fmt: skip
    parser.add_argument(
        "--download", action="store_true", help="fetch what is missing in that folder first"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, report as the documents do, and write figures and metrics."""
    with start(
        "mnist_cnn", __doc__, argv, options,
        steps=VARIANTS["corrected"].steps, smoke_steps=SMOKE_STEPS,
    ) as run:  # fmt: skip
        variant = run.args.variant
        data = load_mnist(run.args.data, download=run.args.download)
        held = len(data.train_images) // HELD
        valid = data.train_images[:held][:LOOK], data.train_labels[:held][:LOOK]
        train = TensorDataset(data.train_images[held:], data.train_labels[held:])
        test = data.test_images, data.test_labels
        if run.args.smoke:
            test = test[0][:AT_ONCE], test[1][:AT_ONCE]
        batch = run.args.batch or VARIANTS[variant].batch
        epoch = DataLoader(
            train, batch, shuffle=True, drop_last=True, generator=run.generator("batches")
        )
        batches = Endless(epoch, epoch.generator)

        model = CNN(run.generator("weights"), run.generator("dropout"))
        before = model.conv1.weight.numpy().copy()
        optimizer = optim.Adam(model.parameters(), lr=RATE)
        losses, accuracies = [], []
        run.keep(
            model=model, optimizer=optimizer, batches=batches, losses=losses, accuracies=accuracies
        )
        with run.lesson():
            for step in run.steps():
                images, labels = next(batches)  # (50, 28, 28) uint8, (50,)

                loss = loss_of(model(ink(images)), labels, variant)
                losses.append(loss.item())
                run.note(loss=losses[-1])
                if not math.isfinite(losses[-1]):  # only log(softmax) can get here
                    run.say(f"step {step}: the loss is {losses[-1]}, as every weight would be next")
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

                if step % REPORT == 0:
                    with run.untimed():
                        right = named(logits_of(model, valid[0]), variant) == valid[1]
                        accuracies.append((step, float(right.mean())))
                        run.test(accuracy=accuracies[-1][1])
                        run.say(f"step {step}: validation accuracy {right.mean():.3f}")

        right = named(logits_of(model, valid[0]), variant) == valid[1]
        accuracies.append((len(losses), float(right.mean())))
        logits = logits_of(model, test[0])
        answers = named(logits, variant)
        reached = float((answers == test[1]).mean())
        with mg.no_grad():
            maps = [m.numpy()[0] for m in model.maps(ink(test[0][:1]))]
        known = VARIANTS[variant]
        compares = len(data.train_images) == 60_000 and len(losses) == known.steps
        run.finish(
            "test_accuracy", reached,
            {
                "accuracy": accuracy_figure(
                    accuracies, np.array(losses), reached, known.tensorflow if compares else None
                ),
                "filters": filters_figure(before, model.conv1.weight.numpy()),
                "feature_maps": maps_figure(test[0][0], maps, int(test[1][0])),
                "confusion": confusion_figure(answers, test[1]),
                "worst": worst_figure(*test, logits),
            },
            variant=variant, batch=batch, losses=losses, validation_accuracies=accuracies,
            training_images=len(train), data=str(run.args.data or "as load_mnist() finds it"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
