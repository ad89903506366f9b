"""Delete the odd numbers: a sequence goes in, a shorter one comes out.

Document: "TensorFlow tutorial: from basics to CNN and seq2seq" (R. Chong, 2018), section on
seq2seq, after I. Sutskever, O. Vinyals and Q. Le, "Sequence to sequence learning with neural
networks" (2014).

    5 1 7 10 10 10 7 2 5 10 3 8 4 6 7 8   ->   10 10 10 2 10 8 4 6 8 EOS

Two LSTMs of 50 units read the numbers one by one; all they hand on is their last state, 200
numbers.  Two other LSTMs start from it and write the answer, reading what is right so far
(teacher forcing).  The loss is the mean cross-entropy over the real places of all answers:
padding has no part in it.  Every 100 steps the network answers three fresh sequences with its
own words (greedy decoding: the likeliest number is read next), and its exact-match rate is
measured on 1,000 fresh ones: one wrong number makes an answer wrong.

--decode beam keeps the best --width answers instead of one; --decode sample draws each number,
with --temperature and --top-k.

Beside the document:
* Its sequences have 1 to 11 odd and 1 to 11 even numbers; so here.  Training data are drawn
  anew for each batch, so nothing can be learned by heart.
* PAD, EOS and GO are one id, 0.  That works, because lengths say where an answer ends.
* It looks at three answers and measures nothing; TensorFlow's version of it, trained for the
  same 5,001 steps, answers 87% of fresh sequences without a fault (one seed).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minigrad import optim, plot
from minigrad.nn import seq2seq

from ._arguments import whole_number
from ._odds import BATCH, EOS, GO, IDS, MOST, SHOWN, TESTED, Batch, Seq2Seq, right, samples, spelled
from ._plots import BLUE, GREY, ORANGE, RED, dress, new_figure, whole_numbers
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 5001, 300
REPORT = 100  # steps between two reports
MAX_STEPS = 20  # of an answer
TENSORFLOW = 0.87  # exact match of its version, one seed


def by_length(correct: np.ndarray, batch: Batch) -> np.ndarray:
    """Fraction of right answers by the count of even numbers, 1 to 11: (11,)."""
    evens = batch.y_lengths - 1
    return np.array([correct[evens == count].mean() for count in range(1, MOST + 1)])


def exact_match_picture(
    steps: Sequence[int], rates: Sequence[float], losses: Sequence[float]
) -> Figure:
    """Exact match on fresh sequences as training goes on, over the loss it comes from."""
    figure = new_figure(
        f"{rates[-1]:.1%} of fresh sequences are answered without a fault", height=5.4
    )
    match, loss = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for axes in (match, loss):
        dress(axes)
    match.plot(steps, rates, "o-", color=BLUE, ms=3, label="greedy decoding, 1,000 fresh sequences")
    match.axhline(TENSORFLOW, color=RED, ls="--", lw=1.5,
                  label=f"TensorFlow after {STEPS:,} steps: {TENSORFLOW:.0%}")  # fmt: skip
    match.set_ylim(0, 1.02)
    match.set_ylabel("exact match\n(fraction of sequences)")
    match.legend(loc="lower right")
    loss.plot(losses, color=ORANGE, lw=0.6)
    loss.set_yscale("log")
    loss.set_ylabel("loss (nats\na number)")
    loss.set_xlabel("training step")
    whole_numbers(loss.xaxis)
    return figure


def length_picture(rates: dict[str, np.ndarray]) -> Figure:
    """Exact match by the length of the answer, for each way of decoding."""
    greedy = rates["greedy"]
    figure = new_figure(
        f"A long answer is harder: {greedy[0]:.0%} are right with one number, {greedy[-1]:.0%} "
        f"with {MOST}",
        height=4.2,
    )
    axes = figure.add_subplot()
    dress(axes)
    counts = np.arange(1, MOST + 1)
    for (name, values), color in zip(rates.items(), (BLUE, ORANGE, GREY)):
        axes.plot(counts, values, "o-", color=color, ms=4, label=name)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("even numbers in the sequence")
    whole_numbers(axes.xaxis, MOST)
    axes.set_ylabel("exact match (fraction of sequences)")
    axes.legend(loc="lower left")
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--decode", choices=["greedy", "beam", "sample"], default="greedy",
        help="how the three sequences of a report are answered (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--width", type=whole_number(1), default=4, metavar="W",
        help="beams that beam search keeps (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--length-penalty", type=float, default=0.0, metavar="A",
        help="how much a long answer is preferred to its probability (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T",
        help="of sampling: below 1 nearer to the likeliest (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", type=whole_number(1), metavar="K",
        help="draw from the K likeliest numbers only (default: all)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Train, report as the document does, and write figures and metrics."""
    with start("seq2seq_odds", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS) as run:
        args = run.args
        greedy = seq2seq.Greedy(GO, EOS)
        sampling = seq2seq.Sampling(
            GO, EOS, args.temperature, args.top_k, generator=run.generator("sampling")
        )
        model = Seq2Seq(generator=run.generator("weights"))

        def answers(batch: Batch, how: str) -> np.ndarray:
            """Ids (N, T) that the model says."""
            if how == "beam":
                best = model.search(batch, args.width, args.length_penalty, MAX_STEPS)
                return best.ids[:, 0]
            return model.decode(batch, sampling if how == "sample" else greedy, MAX_STEPS).ids

        optimizer = optim.Adam(model.parameters())
        training, fresh = run.generator("training"), run.generator("fresh sequences")
        answers(samples(1, np.random.default_rng(0)), args.decode)  # bad options are heard of now
        losses: list[float] = []
        seen: list[int] = []
        rates: list[float] = []
        run.keep(model=model, optimizer=optimizer, losses=losses, seen=seen, rates=rates)
        for step in run.steps():
            batch = samples(BATCH, training)

            loss = model(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            run.note(loss=losses[-1])

            if step % REPORT == 0:
                with run.untimed():
                    few, many = samples(SHOWN, fresh), samples(TESTED, fresh)
                    seen.append(step)
                    rates.append(float(right(answers(many, "greedy"), many).mean()))
                    run.test(exact_match=rates[-1])
                    run.say(f"step {step}: loss {losses[-1]:.4f}, exact match {rates[-1]:.1%}")
                    decoded = f"decoded ({args.decode})"
                    said = spelled(few, answers(few, args.decode), decoded)
                    run.say(said + "\n", sample="decoded")

        last = samples(TESTED, fresh)
        correct = {"greedy": right(answers(last, "greedy"), last)}
        correct[f"beam of {args.width}"] = right(answers(last, "beam"), last)
        correct["sampled"] = right(answers(last, "sample"), last)
        reached = {name: float(each.mean()) for name, each in correct.items()}
        run.say(
            "exact match on 1,000 fresh sequences: "
            + ", ".join(f"{name} {rate:.1%}" for name, rate in reached.items())
        )
        seen.append(run.steps_done)
        rates.append(reached["greedy"])
        figures = {
            "exact_match": exact_match_picture(seen, rates, losses),
            "by_length": length_picture(
                {name: by_length(each, last) for name, each in correct.items()}
            ),
            "loss": plot.loss_curve(np.arange(len(losses)), losses),
        }
        run.finish(
            "exact_match", rates[-1], figures,
            {"numbers read": (model.encoder.embedding.weight.array, range(IDS))},
            last_loss=float(np.mean(losses[-REPORT:])), ways_of_decoding=reached,
            steps_of_rates=seen, rates=rates,
        )  # fmt: skip


if __name__ == "__main__":
    main()
