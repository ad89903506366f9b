"""Delete the odd numbers and write the rest twice: too much for one state, easy with attention.

Document: "TensorFlow tutorial: from basics to CNN and seq2seq" (R. Chong, 2018), the last section
on seq2seq, which sets this task, says that the model before it will hardly learn it, and points
to TensorFlow's AttentionWrapper.

    8 10 5 10 4 4 1   ->   8 10 10 4 4 8 10 10 4 4 EOS

The plain model, that of seq2seq_odds, has to keep up to eleven numbers in its state and say them
twice.  With attention the decoder looks back at what the encoder put out at each place: the
decoder's output is compared with all of them (M. Luong, H. Pham and C. Manning, "Effective
approaches to attention-based neural machine translation", 2015), and what it sees, their
average weighted by how well they fit, gives the next number and is read again at the next
step (input feeding).  Both models see the same batches.

attention_learned.png shows where the decoder looks as training goes on: at first everywhere,
in the end at one even number after the other, twice.

Beside the document:
* It gives no code for the attention.  As in TensorFlow the context alone goes to the last layer,
  and the memory is multiplied by a matrix of 50 x 50 first (the depth).
* TensorFlow's two versions answer 70% and 100% of fresh sequences without a fault after
  5,001 steps (one seed each).
* --attention bahdanau adds instead of multiplying; scaled_luong and normed_bahdanau are
  TensorFlow's variants of the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from minigrad import optim, plot
from minigrad.nn import seq2seq

from ._odds import BATCH, EOS, GO, TESTED, UNITS, Batch, Seq2Seq, right, samples
from ._plots import BLUE, GREY, RED, dress, new_figure, whole_numbers
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 5001, 60
REPORT = 250  # steps between two reports
COPIES = 2
MAX_STEPS = 29  # of an answer
DEPTH = UNITS
TENSORFLOW = {"plain": 0.70, "attention": 1.00}  # exact match of its versions, one seed each
LOOKS = (100, 500, 1000, 1500, 2500)  # steps after which the heat map is drawn, and at the end
CHOSEN = 3  # samples whose maps are drawn

KINDS = {
    "luong": partial(seq2seq.Luong, DEPTH, UNITS),
    "scaled_luong": partial(seq2seq.Luong, DEPTH, UNITS, scaled=True),
    "bahdanau": partial(seq2seq.Bahdanau, DEPTH, UNITS, UNITS),
    "normed_bahdanau": partial(seq2seq.Bahdanau, DEPTH, UNITS, UNITS, normed=True),
}


def look(model: Seq2Seq, batch: Batch, n: int, name: str) -> plot.Alignment:
    """Where the decoder looks while it answers sequence n of a batch."""
    said = model.decode(batch, seq2seq.Greedy(GO, EOS), MAX_STEPS)
    assert said.alignments is not None
    wrote = ["EOS" if i == EOS else str(i) for i in said.ids[n, : said.lengths[n]]]
    read = [str(i) for i in batch.x[n, : batch.x_lengths[n]]]
    return plot.Alignment(said.alignments[n], read, wrote, name)


def exact_match_picture(
    steps: Sequence[int], rates: dict[str, list[float]], losses: dict[str, list[float]], kind: str
) -> Figure:
    """Both models side by side: exact match, and the loss."""
    last = {name: values[-1] for name, values in rates.items()}
    figure = new_figure(
        f"Written twice: {last['plain']:.1%} without a fault from one state, "
        f"{last['attention']:.1%} with attention",
        height=4.8,
    )
    match, loss = figure.subplots(1, 2)
    for axes in (match, loss):
        dress(axes)
        axes.set_xlabel("training step")
        whole_numbers(axes.xaxis, 5)
    for (name, values), color in zip(rates.items(), (GREY, BLUE)):
        label = f"attention ({kind})" if name == "attention" else "plain"
        match.plot(steps, values, "o-", color=color, ms=4, label=label)
        match.axhline(TENSORFLOW[name], color=RED, ls="--" if name == "plain" else ":", lw=1.5,
                      label=f"TensorFlow, {name}: {TENSORFLOW[name]:.0%}")  # fmt: skip
        loss.plot(losses[name], color=color, lw=0.5, label=label)
    match.set_ylim(0, 1.04)
    match.set_ylabel("exact match (fraction of fresh sequences)")
    match.legend(loc="lower right", fontsize=8)
    loss.set_yscale("log")
    loss.set_ylabel("loss (nats a number)")
    loss.legend(loc="lower left", fontsize=8)
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--attention", choices=sorted(KINDS), default="luong",
        help="how query and memory are compared (default: %(default)s)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Train both models on the same batches, and write figures and metrics."""
    with start(
        "attention_copy", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS
    ) as run:
        weights = run.generator("attention weights")
        attention = partial(KINDS[run.args.attention], generator=weights)
        models = {
            "plain": Seq2Seq(generator=run.generator("weights")),
            "attention": Seq2Seq(attention, generator=weights),
        }
        optimizers = {name: optim.Adam(model.parameters()) for name, model in models.items()}
        greedy = seq2seq.Greedy(GO, EOS)
        training, fresh = run.generator("training"), run.generator("fresh sequences")
        losses: dict[str, list[float]] = {name: [] for name in models}
        rates: dict[str, list[float]] = {name: [] for name in models}
        seen: list[int] = []

        drawn = samples(200, run.generator("chosen samples"), COPIES)
        middle = np.argsort(abs(drawn.x_lengths - 12) + abs(drawn.y_lengths - 13))[:CHOSEN]
        chosen = Batch(*(part[middle] for part in drawn))
        maps: list[plot.Alignment] = []  # of the first of them, as training goes on

        def measure(step: int) -> None:
            batch = samples(TESTED, fresh, COPIES)
            seen.append(step)
            for name, model in models.items():
                said = model.decode(batch, greedy, MAX_STEPS)
                rates[name].append(float(right(said.ids, batch).mean()))

        run.keep(
            plot.Alignment, models=models, optimizers=optimizers, losses=losses, rates=rates,
            seen=seen, maps=maps,
        )  # fmt: skip
        for step in run.steps():
            with run.untimed():
                if step in LOOKS:
                    maps.append(look(models["attention"], chosen, 0, f"after {step:,} steps"))
                if step % REPORT == 0:
                    measure(step)
            batch = samples(BATCH, training, COPIES)
            for name, model in models.items():
                loss = model(batch)
                optimizers[name].zero_grad()
                loss.backward()
                optimizers[name].step()
                losses[name].append(loss.item())
                run.note(**{f"loss/{name}": losses[name][-1]})
            if step % REPORT == 0:
                run.test(**{f"exact_match/{name}": rates[name][-1] for name in reversed(models)})
                run.say(
                    f"step {step}: "
                    + ", ".join(
                        f"{name} loss {losses[name][-1]:.4f}, exact match {rates[name][-1]:.1%}"
                        for name in models
                    )
                )

        measure(run.steps_done)
        maps.append(look(models["attention"], chosen, 0, f"after {run.steps_done:,} steps"))
        in_the_end = [look(models["attention"], chosen, n, "") for n in range(CHOSEN)]
        sharp = [float(each.weights[: len(each.output)].max(axis=1).mean()) for each in maps]
        figures = {
            "exact_match": exact_match_picture(seen, rates, losses, run.args.attention),
            "attention_learned": plot.alignments(
                maps,
                title=f"Attention finds its places: the largest weight of a step is {sharp[0]:.0%} "
                f"{maps[0].name}, {sharp[-1]:.0%} {maps[-1].name}",
            ),
            "attention": plot.alignments(
                in_the_end,
                title="Each number looks at the even number that it is, on either pass",
            ),
        }
        run.finish(
            "exact_match", rates["attention"][-1], figures,
            plain=rates["plain"][-1], attention=run.args.attention, steps_of_rates=seen,
            rates=rates, last_losses={name: float(np.mean(v[-100:])) for name, v in losses.items()},
        )  # fmt: skip


if __name__ == "__main__":
    main()
