"""Which letters occur once?  Deep and bidirectional recurrences, and dropout, on one task.

Document: "TensorFlow RNN primer" (2017), sections on bidirectional and deep RNNs and on dropout
for RNNs, which show how each is built and train none of them.

The task: twelve letters out of sixteen, drawn at random, and for every letter the question
whether it stands in the sequence only once.

    n d a d k b n p k c h a
    . . . . . * . * . * * .

A letter that has been there before is easy.  For one that is new the answer lies in what is yet
to come: a network that reads from left to right can only guess, and how good the best of all
guesses is can be computed.  That bound is drawn in the pictures, from a coin toss at the first
letter to certainty at the last.

Five taggers see the same batches.  One direction stays below the bound, with one layer or with
two: depth does not look ahead.  Two directions go past it.  There are only 1,500 sequences to
learn from, and two layers of two directions learn them by heart; with dropout after each layer
they have to learn the rule, and are right about more letters of fresh sequences than all others.

Beside the document:
* Its stack is [cell] * number_of_layers, one cell under two names, which shares the weights or
  fails on their shapes.  nn.Stacked refuses it and says so.
* Half of each layer's outputs is dropped, as in the document, whose 0.5 is what to *keep*.
* Its cells are LSTMs.  So here with --cell lstm; the default is the GRU, which learns to look a
  letter up sooner.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import DataLoader, Endless, TensorDataset

from ._plots import BLUE, GREEN, GREY, ORANGE, RED, dress, new_figure
from ._run import start

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 1200, 250
LETTERS, LENGTH = 16, 12  # a letter occurs once with a chance of (15/16)^11 = 0.49
UNITS = 24  # of each layer in each direction
DROP = 0.5
TRAIN, FRESH = 1500, 1000  # sequences to learn from, and to be asked about
BATCH = 64
RATE, CLIP = 0.01, 1.0
REPORT = 100  # steps between two measurements


@dataclass(frozen=True)
class Variant:
    """One of the five: how many layers, in how many directions, with how much dropped."""

    name: str
    depth: int
    directions: int
    drop: float
    color: str
    line: str


VARIANTS = (
    Variant("one direction", 1, 1, 0.0, GREY, "-"),
    Variant("one direction, two layers", 2, 1, 0.0, ORANGE, "--"),
    Variant("both directions", 1, 2, 0.0, BLUE, "-"),
    Variant("both directions, two layers", 2, 2, 0.0, RED, "--"),
    Variant("both, two layers, dropout", 2, 2, DROP, GREEN, "-"),
)
FORWARD, DEEP_FORWARD, BOTH, DEEP_BOTH, DROPPED = (variant.name for variant in VARIANTS)


class Tagger(nn.Module):
    """Recurrent layers, and a linear layer that answers at every letter."""

    def __init__(
        self, variant: Variant, cell: str, weights: np.random.Generator, masks: np.random.Generator
    ) -> None:
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        layers: list[Any] = []
        size = LETTERS
        for _ in range(variant.depth):  # each layer is a new one
            layer: Any = kind(size, UNITS, generator=weights)
            if variant.directions == 2:
                layer = nn.Bidirectional(layer, kind(size, UNITS, generator=weights))
            if variant.drop:
                layer = nn.DropoutWrapper(layer, output=variant.drop, generator=masks)
            layers.append(layer)
            size = layer.output_size
        self.layers = nn.Stacked(layers)
        self.head = nn.Linear(size, 2, generator=weights)

    def forward(self, letters: Any) -> mg.Tensor:
        """letters (N, T) ids, or (N, T, 16) one-hot -> logits (N, T, 2) of "again" and "once"."""
        outputs, _ = self.layers(letters)
        return self.head(outputs)


def sequences(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Letters (count, 12) as ids, and for each whether it occurs once: 1, or 0 for again."""
    letters = generator.integers(LETTERS, size=(count, LENGTH))
    equal = letters[:, :, None] == letters[:, None, :]  # (N, T, T)
    return letters, (equal.sum(axis=2) == 1).astype(np.int64)


def best_guess() -> np.ndarray:
    """The largest accuracy at each letter, (T,), for who has not seen the letters behind it.

    A letter was there before, or it is new and comes again or not: the likelier is the guess.
    """
    stays_away = 1 - 1 / LETTERS
    before = np.arange(LENGTH)
    new, once = stays_away**before, stays_away ** (LENGTH - 1 - before)
    return (1 - new) + new * np.maximum(once, 1 - once)


def answers(tagger: Tagger, letters: np.ndarray) -> np.ndarray:
    """What it says of each letter, (N, T), with dropout off."""
    tagger.eval()
    with mg.no_grad():
        said = tagger(letters).numpy().argmax(axis=2)
    tagger.train()
    return said


def reach(tagger: Tagger, letters: np.ndarray) -> np.ndarray:
    """How much each answer depends on each letter: (T, T), answer by letter.

    The norm of the gradient of the two logits' difference with respect to the one-hot vector
    of a letter; mean over the sequences, letters (N, T).
    """
    tagger.eval()
    x = mg.Tensor(mg.one_hot(letters, LETTERS), requires_grad=True)
    logits = tagger(x)  # (N, T, 2)
    rows = []
    for t in range(LENGTH):
        margin = (logits[:, t, 1] - logits[:, t, 0]).sum()
        (gradient,) = mg.grad(margin, x, retain_graph=True)  # (N, T, 16)
        rows.append(np.sqrt(np.square(gradient.numpy()).sum(axis=2)).mean(axis=0))
    tagger.train()
    return np.stack(rows)


# -- pictures -------------------------------------------------------------------------------


def accuracy_picture(
    seen: Sequence[int], fresh: Mapping[str, Sequence[float]], trained: Mapping[str, float]
) -> Figure:
    """Accuracy on fresh sequences while training goes on, and at the end on those learned from.

    seen: steps; fresh: variant -> accuracy at each of them; trained: variant -> accuracy on
    the training sequences.
    """
    two, one = (max(fresh[v.name][-1] for v in VARIANTS if v.directions == d) for d in (2, 1))
    figure = new_figure(
        f"Depth does not look ahead: one direction ends at {one:.0%}, both reach {two:.0%}", 5.2
    )
    curves, ends = figure.subplots(1, 2, sharey=True, width_ratios=[2.6, 1])
    for axes in (curves, ends):
        dress(axes)
        axes.axhline(best_guess().mean(), color="black", ls=":", lw=2)
    for i, variant in enumerate(VARIANTS):
        values, style = fresh[variant.name], {"color": variant.color, "lw": 2.2}
        curves.plot(seen, values, variant.line, label=variant.name, **style)
        ends.plot([i, i], [values[-1], trained[variant.name]], color=variant.color, lw=1.2)
        ends.plot(i, trained[variant.name], "o", color=variant.color, mfc="white", ms=8)
        ends.plot(i, values[-1], "o", color=variant.color, ms=8)
        ends.annotate(
            f"{values[-1]:.0%}", (i, values[-1]), (0, -16), textcoords="offset points",
            ha="center", fontsize=9, color=variant.color, fontweight="bold",
        )  # fmt: skip
    curves.annotate(
        "the best guess without the letters behind", (seen[-1], best_guess().mean()), (0, 4),
        textcoords="offset points", ha="right", fontsize=9,
    )  # fmt: skip
    curves.set_xlabel("training step")
    curves.set_ylabel("accuracy (fraction of letters)")
    curves.set_title("on fresh sequences", fontsize=10)
    curves.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    ends.plot([], [], "o", color=GREY, mfc="white", label="learned from")
    ends.plot([], [], "o", color=GREY, label="fresh")
    ends.set_title("at the end: learned by heart?", fontsize=10)
    ends.set_xticks([])
    ends.set_xlim(-0.6, len(VARIANTS) - 0.4)
    ends.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=1)
    return figure


def position_picture(
    by_position: Mapping[str, np.ndarray], letters: np.ndarray, once: np.ndarray,
    said: Mapping[str, np.ndarray],
) -> Figure:  # fmt: skip
    """Accuracy at each letter of the sequence, above one sequence with the answers given.

    by_position: variant -> (T,); letters, once: one sequence, (T,); said: variant -> (T,).
    """
    first = by_position[FORWARD][0], by_position[DROPPED][0]
    figure = new_figure(
        f"At the first letter one direction is right {first[0]:.0%} of the time, both directions "
        f"{first[1]:.0%}",
        5.6,
    )
    curves, example = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    dress(curves)
    at = np.arange(1, LENGTH + 1)
    for variant in VARIANTS:
        curves.plot(
            at, by_position[variant.name], "o" + variant.line, color=variant.color, lw=2, ms=5,
            label=variant.name,
        )  # fmt: skip
    curves.plot(at, best_guess(), ":", color="black", lw=2.5, label="best guess without the future")
    curves.set_ylabel("accuracy (fraction of letters)")
    curves.set_ylim(0.4, 1.03)
    curves.set_xlim(0.3, LENGTH + 0.7)
    curves.legend(fontsize=9, loc="lower right")
    centred = {"ha": "center", "va": "center"}
    for t in range(LENGTH):
        color = GREEN if once[t] else "black"
        letter = chr(ord("a") + letters[t])
        example.text(t + 1, 0, letter, color=color, fontsize=13, fontweight="bold", **centred)
        for row, answer in enumerate(said.values(), start=1):
            right = answer[t] == once[t]
            example.text(
                t + 1, -row, "once" if answer[t] else "again", fontsize=9, **centred,
                color=GREY if right else RED, fontweight="normal" if right else "bold",
            )  # fmt: skip
    _bare(example, ["letter", *said])
    example.set_title(
        "where one direction errs most: letters that occur once are green, wrong answers red",
        fontsize=10,
    )
    example.set_xlabel("place of the letter in the sequence")
    example.set_xticks(at)
    return figure


def _bare(axes: Axes, names: Sequence[str]) -> None:
    """Axes for rows of text."""
    axes.spines[:].set_visible(False)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_yticks(-np.arange(len(names)), names, fontsize=9)
    axes.tick_params(left=False)


def reach_picture(one: np.ndarray, both: np.ndarray) -> Figure:
    """What :func:`reach` gives for one direction and for both, side by side."""
    figure = new_figure("No gradient comes from the future unless somebody reads it backwards", 4.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, values in zip(panels, (FORWARD, DROPPED), (one, both)):
        share = np.where(values > 0, values / values.max(), np.nan)
        mesh = axes.imshow(
            share, cmap="viridis", vmin=0, vmax=1, extent=(0.5, LENGTH + 0.5, LENGTH + 0.5, 0.5)
        )
        axes.set_facecolor("#d9d9d9")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("letter that is read")
        axes.set_xticks(range(1, LENGTH + 1))
        axes.set_yticks(range(1, LENGTH + 1))
    panels[0].set_ylabel("letter that is asked about")
    panels[0].text(
        0.97, 0.95, "exactly zero:\nthe future", transform=panels[0].transAxes, ha="right",
        va="top", fontsize=11, fontweight="bold",
    )  # fmt: skip
    bar = figure.colorbar(mesh, ax=panels, shrink=0.85)
    bar.set_label("size of the gradient (largest = 1)")
    return figure


# -- training -------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--cell", choices=["gru", "lstm"], default="gru",
        help="the recurrent layers (default: %(default)s)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Train the five taggers side by side, and write figures and metrics."""
    with start(
        "deep_bidirectional", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS
    ) as run:
        learned = sequences(TRAIN, run.generator("training sequences"))
        fresh = sequences(FRESH, run.generator("fresh sequences"))
        taggers = {
            variant.name: Tagger(
                variant, run.args.cell, run.generator(variant.name), run.generator("dropout")
            )
            for variant in VARIANTS
        }
        parameters = {name: tagger.parameters() for name, tagger in taggers.items()}
        optimizers = {name: optim.Adam(parameters[name], lr=RATE) for name in taggers}
        epoch = DataLoader(
            TensorDataset(*learned), BATCH, shuffle=True, drop_last=True,
            generator=run.generator("batches"),
        )  # fmt: skip
        batches = Endless(epoch, epoch.generator)

        seen: list[int] = []  # steps
        curves: dict[str, list[float]] = {name: [] for name in taggers}  # accuracy at each

        def accuracy(name: str, letters: np.ndarray, once: np.ndarray) -> np.ndarray:
            return (answers(taggers[name], letters) == once).mean(axis=0)  # (T,)

        def measure(step: int) -> None:
            seen.append(step)
            for name, values in curves.items():
                values.append(float(accuracy(name, *fresh).mean()))

        run.keep(
            taggers=taggers, optimizers=optimizers, batches=batches, seen=seen, curves=curves
        )
        for step in run.steps():
            if step % REPORT == 0:
                with run.untimed():
                    measure(step)
                    last = {name: values[-1] for name, values in reversed(curves.items())}
                    run.test(**{f"accuracy/{name}": value for name, value in last.items()})
            letters, once = next(batches)  # (64, 12) each
            for name, tagger in taggers.items():
                loss = mg.cross_entropy(tagger(letters), once)  # mean over 64 x 12
                optimizers[name].zero_grad()
                loss.backward()
                clipped = optim.clip_grad_norm_(parameters[name], CLIP)
                optimizers[name].step()
                run.note(**{f"loss/{name}": loss.item()}, clipped=clipped)

        measure(run.steps_done)
        by_position = {name: accuracy(name, *fresh) for name in taggers}
        trained = {name: float(accuracy(name, *learned).mean()) for name in taggers}
        for variant in VARIANTS:
            name = variant.name
            run.say(
                f"{name:28s} fresh sequences {curves[name][-1]:.1%}, learned from "
                f"{trained[name]:.1%} ({taggers[name].num_parameters():,} numbers to learn)"
            )
        run.say(f"best guess without the future {best_guess().mean():.1%}")
        said = {name: answers(taggers[name], fresh[0]) for name in (FORWARD, DROPPED)}
        telling = int((said[FORWARD] != fresh[1]).sum(axis=1).argmax())
        look = fresh[0][:100]
        figures = {
            "accuracy": accuracy_picture(seen, curves, trained),
            "by_position": position_picture(
                by_position, fresh[0][telling], fresh[1][telling],
                {name: each[telling] for name, each in said.items()},
            ),
            "reach": reach_picture(*(reach(taggers[name], look) for name in (FORWARD, DROPPED))),
        }  # fmt: skip
        run.finish(
            "accuracy", curves[DROPPED][-1], figures,
            fresh={name: values[-1] for name, values in curves.items()}, learned_from=trained,
            by_position=by_position, best_guess=float(best_guess().mean()), cell=run.args.cell,
        )  # fmt: skip


if __name__ == "__main__":
    main()
