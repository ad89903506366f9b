"""Handwritten digits, read row by row by an LSTM.

Document: "TensorFlow notes" (2018), section on classifying MNIST with an RNN.

An image of 28 x 28 pixels is read as a sequence: 28 time steps, the rows from top to bottom,
of 28 numbers each.  A dense layer turns a row into 128 numbers, an LSTM of 128 units reads
the rows, and a second dense layer names the digit from the last output alone.  So the loss
is felt at the last row only, and what the first rows should have told must come back through
27 steps: look at rows.png.

Beside the document:
* It draws both dense kernels from a normal distribution of standard deviation 1.  With up to
  28 pixels a row the LSTM's inputs are then far from 0, its gates are nearly shut or open, and
  little gradient comes back through them at first.  Kept as it is; the LSTM's own kernel is
  Glorot uniform and its forget bias 1, as TensorFlow has it.
* It multiplies every row by the dense kernel, 28 x 128, and the result by the LSTM's, 128 x 512.
  No activation is between them, so nn.InputProjection multiplies the kernels first, 28 x 512:
  the same numbers, to rounding, for 0.6 of the time.  All parameters learn as before.
* Its initial state has a fixed batch of 128, so it can only measure accuracy on training
  batches, right after it has learned from them, and does so every 20 steps.  Here too; but
  the test images are what counts, and they were never trained on.
* TensorFlow's loader sets the first 5,000 of the 60,000 training images aside for validation.
  So here: a twelfth of the training images, whose accuracy is drawn, is not trained on.
* TensorFlow fills the last batch of an epoch with the first images of the next; here a rest
  of fewer than 128 images is left out, and the next epoch shuffles all again.
* 100,000 images are 782 steps.  The package has 7,000 images of the 70,000: --data DIR takes
  the whole set, and --download fetches it first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim, plot
from minigrad.data import DataLoader, Endless, TensorDataset, load_mnist

from ._plots import BLUE, ORANGE, RED, dress, new_figure
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 782, 40  # 782 batches of 128 are the document's 100,000 images
ROWS, COLUMNS, CLASSES = 28, 28, 10
UNITS = 128
BATCH = 128
RATE = 0.001
BATCH_ACCURACY, VALIDATION = 20, 100  # steps between two measurements
HELD = 12  # one of so many training images is for validation
LOOK = 1000  # images at a time in evaluation; and those behind the picture of the rows
TENSORFLOW = 0.944  # test accuracy of its version on all of MNIST, one seed


class RowLSTM(nn.Module):
    """Dense layer, LSTM of 128 units over the rows, dense layer on its last output."""

    def __init__(self, generator: np.random.Generator) -> None:
        dense_in = nn.Linear(COLUMNS, UNITS, generator=generator)
        lstm = nn.LSTM(UNITS, UNITS, forget_bias=1.0, time_major=True, generator=generator)
        self.reader = nn.InputProjection(dense_in, lstm)  # lstm(dense_in(rows))
        self.dense_out = nn.Linear(UNITS, CLASSES, generator=generator)
        for dense in (dense_in, self.dense_out):
            dense.weight.data = nn.init.normal(dense.weight.shape, generator=generator)
            dense.bias.data = nn.init.constant(dense.bias.shape, 0.1)

    def read(self, images: Any) -> tuple[mg.Tensor, mg.Tensor]:
        """images (N, 28, 28), ink from 0 to 1 -> outputs after each row (28, N, 128), and the last.

        The last output is the state h: who asks for that alone sends no zeros back for the others.
        """
        rows = images.swapaxes(0, 1)  # (T, N, D): rows are time steps
        outputs, (h, _) = self.reader(rows)
        return outputs, h

    def forward(self, images: Any) -> mg.Tensor:
        """images (N, 28, 28) -> logits (N, 10)."""
        _, last = self.read(images)
        return self.dense_out(last)


def ink(images: np.ndarray) -> np.ndarray:
    """Pixels (N, 28, 28) uint8 as float32 from 0, the paper, to 1, the ink."""
    return images / np.float32(255)


def accuracy(model: RowLSTM, images: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the images (N, 28, 28) uint8 whose largest logit is that of their label."""
    right = 0
    with mg.no_grad():
        for first in range(0, len(images), LOOK):
            part = slice(first, first + LOOK)
            logits = model(ink(images[part])).numpy()
            right += int((logits.argmax(axis=1) == labels[part]).sum())
    return right / len(images)


def rows_that_matter(
    model: RowLSTM, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each of the 28 rows does: (T,) norms and (T,) accuracies.

    The norm is that of the gradient of an image's loss with respect to the row, mean over the
    images (N, 28, 28) uint8.  The accuracy is that of an answer given right after the row, by
    the same classifier, which has only ever learned to answer after the last one.
    """
    x = mg.tensor(ink(images), requires_grad=True)
    logits = model.dense_out(model.read(x)[0])  # (T, N, 10)
    mg.cross_entropy(logits[-1], labels, reduction="sum").backward()
    norms = np.sqrt(np.square(x.grad.numpy()).sum(axis=2)).mean(axis=0)
    model.zero_grad()
    return norms, (logits.numpy().argmax(axis=2) == labels).mean(axis=1)


def accuracy_picture(
    of_batches: Sequence[tuple[int, float]], of_valid: Sequence[tuple[int, float]],
    reached: float, reference: float | None,
) -> Figure:  # fmt: skip
    """The document's measure every 20 steps, the validation set's, and the test set's at the end.

    of_batches, of_valid: (step, accuracy) pairs; reference: TensorFlow's test accuracy, if any.
    """
    figure = new_figure(f"{reached:.1%} of the test images are named right", 4.6)
    axes = figure.add_subplot()
    dress(axes)
    axes.plot(*zip(*of_batches), ".", color=BLUE, ms=5, label="training batch, after its step")
    axes.plot(*zip(*of_valid), "o-", color=ORANGE, ms=5, label="validation")
    axes.plot(of_valid[-1][0], reached, "*", color=RED, ms=14, label=f"test: {reached:.1%}")
    if reference is not None:
        axes.axhline(reference, color=RED, ls="--", lw=1.5, label=f"TensorFlow: {reference:.1%}")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("training step")
    axes.set_ylabel("accuracy (fraction of images)")
    axes.legend(loc="lower right")
    return figure


def rows_picture(
    images: np.ndarray, before: tuple[np.ndarray, ...], after: tuple[np.ndarray, ...]
) -> Figure:
    """Beside the mean image, row by row: the gradient that reaches it, and what is known there.

    images: (N, 28, 28); before and after training: what ``rows_that_matter`` gives.
    """
    fade, fade_after = (norms[-1] / norms[0] for norms, _ in (before, after))
    figure = new_figure(
        f"The first row feels the loss {fade:.0f} × less than the last; "
        f"after training {fade_after:.0f} × less",
        4.8,
    )
    mean, gradient, known = figure.subplots(
        1, 3, sharey=True, gridspec_kw={"width_ratios": [1, 1.1, 1.1]}
    )
    rows = np.arange(ROWS)
    mean.imshow(images.mean(axis=0), cmap="Greys", aspect="auto")
    mean.set_title("mean image", fontsize=10)
    mean.set_xlabel("pixel of the row")
    mean.set_ylabel("row = time step, read downwards")
    gradient.plot(before[0], rows, "o-", color=BLUE, ms=3, label="before training")
    gradient.plot(after[0], rows, "o-", color=ORANGE, ms=3, label="after training")
    gradient.set_xscale("log")
    gradient.set_title("how far back the loss is felt", fontsize=10)
    gradient.set_xlabel(r"$\|\partial L/\partial\,row\|$ per image (log scale)")
    known.plot(before[1], rows, "o-", color=BLUE, ms=3, label="before training")
    known.plot(after[1], rows, "o-", color=ORANGE, ms=3, label="after training")
    known.axvline(1 / CLASSES, color=RED, ls="--", lw=1.5, label="guessing")
    known.set_xlim(0, 1)
    known.set_title("accuracy if asked after the row", fontsize=10)
    known.set_xlabel("accuracy (fraction of images)")
    for axes in (gradient, known):
        dress(axes)
        axes.legend(fontsize=8, loc="upper right")
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
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
    with start("mnist_lstm", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS) as run:
        data = load_mnist(run.args.data, download=run.args.download)
        held = len(data.train_images) // HELD
        valid = data.train_images[:held], data.train_labels[:held]
        train = TensorDataset(data.train_images[held:], data.train_labels[held:])
        test = data.test_images, data.test_labels
        run.say(
            f"{len(train):,} images to train on, {held:,} for validation, {len(test[0]):,} to test"
        )

        model = RowLSTM(run.generator("weights"))
        optimizer = optim.Adam(model.parameters(), lr=RATE)
        epoch = DataLoader(
            train, BATCH, shuffle=True, drop_last=True, generator=run.generator("batches")
        )
        batches = Endless(epoch, epoch.generator)
        look = test[0][:LOOK], test[1][:LOOK]
        rows_before = rows_that_matter(model, *look)

        losses, of_batches, of_valid = [], [], []  # of the last two: (step, accuracy)
        run.keep(
            model=model, optimizer=optimizer, batches=batches, losses=losses,
            of_batches=of_batches, of_valid=of_valid,
        )  # fmt: skip
        for step in run.steps():
            images, labels = next(batches)  # (128, 28, 28) uint8, (128,)

            logits = model(ink(images))
            loss = mg.cross_entropy(logits, labels)  # mean over the batch
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            run.note(loss=losses[-1])

            with run.untimed():
                if step % BATCH_ACCURACY == 0:
                    of_batches.append((step, accuracy(model, images, labels)))
                    run.note(accuracy=of_batches[-1][1])
                if step % VALIDATION == 0:
                    of_valid.append((step, accuracy(model, *valid)))
                    run.test(accuracy=of_valid[-1][1])
                    run.say(
                        f"step {step}: loss {losses[-1]:.3f}, accuracy on the batch "
                        f"{of_batches[-1][1]:.1%}, in validation {of_valid[-1][1]:.1%}"
                    )

        of_valid.append((run.steps_done, accuracy(model, *valid)))
        reached = accuracy(model, *test)
        whole = len(train) + held == 60_000
        figures = {
            "loss": plot.loss_curve(np.arange(len(losses)), losses),
            "accuracy": accuracy_picture(
                of_batches, of_valid, reached, TENSORFLOW if whole else None
            ),
            "rows": rows_picture(ink(look[0]), rows_before, rows_that_matter(model, *look)),
        }
        run.finish(
            "test_accuracy", reached, figures,
            last_loss=float(np.mean(losses[-VALIDATION:])), validation_accuracy=of_valid[-1][1],
            training_images=len(train), data=str(run.args.data or "as load_mnist() finds it"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
