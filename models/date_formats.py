"""Dates as people write them, into one form: "Nov 21, 2026" becomes 2026-11-21.

A small task of the real kind that sequence-to-sequence models were made for; it belongs to
no document.  The methods are those of the seq2seq sections of "TensorFlow tutorial: from basics to
CNN and seq2seq" (R. Chong, 2018), and of Luong, Pham and Manning (2015).

The date is read character by character by an LSTM of 96 units, and another one writes ten
characters and EOS.  It attends to what was read, but is not told again where it looked (no
input feeding), so in training all steps of a batch are computed at once.  The data are made:
18 ways of writing a date, years 1970 to 2069.  Each of the 36,525 days belongs either to
training or to the test, so the days of the test have never been seen, in any form.
Sequences of like length are put into one batch, which saves padding.

Conventions that the model learns, since the data have them: slashes are American (11/21/2026 is in
November), dots and dashes put the day first, years of two digits are 1970 to 2069, upper and
lower case are the same.

    python -m models.date_formats --ask           then type dates; an empty line ends it
    python -m models.date_formats --date "the 3rd of May, 1999"
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

import minigrad as mg
from minigrad import nn, optim, plot
from minigrad.data import BucketBatches, Endless, Padded, pad
from minigrad.errors import DataError
from minigrad.nn import seq2seq

from ._arguments import whole_number
from ._plots import BLUE, ORANGE, RED, dress, new_figure, whole_numbers
from ._run import Run, start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 2000, 100
PAD, GO, EOS = 0, 1, 2
SIGNS = " ',-./0123456789abcdefghijklmnopqrstuvwxyz"
EMBEDDED, UNITS = 32, 96
TRAIN, TEST = 20_000, 2_000  # dates, each in a form drawn at random
BATCH, RATE, CLIP = 64, 0.003, 1.0
BOUNDARIES = (9, 11, 13, 17, 21)  # lengths of the buckets
REPORT = 100
MAX_STEPS = 14
TARGET = 0.98
FIRST, DAYS = datetime.date(1970, 1, 1), 36_525  # to the end of 2069
SHOWN = ("nov 21, 2026", "saturday, 21 november 2026", "11/21/26")

_MONTHS = (
    "january february march april may june july august september october november december"
).split()
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()


def _ordinal(day: int) -> str:
    """1st, 2nd, 3rd, 4th ..."""
    ending = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


FORMS: tuple[Callable[[datetime.date, str, str], str], ...] = (  # month and weekday in full
    lambda d, month, week: f"{month[:3]} {d.day}, {d.year}",
    lambda d, month, week: f"{month} {d.day}, {d.year}",
    lambda d, month, week: f"{d.day} {month[:3]} {d.year}",
    lambda d, month, week: f"{d.day} {month} {d.year}",
    lambda d, month, week: f"{d.day}. {month} {d.year}",
    lambda d, month, week: f"{month} {_ordinal(d.day)}, {d.year}",
    lambda d, month, week: f"{month[:3]} {_ordinal(d.day)} {d.year}",
    lambda d, month, week: f"the {_ordinal(d.day)} of {month}, {d.year}",
    lambda d, month, week: f"{week}, {d.day} {month} {d.year}",
    lambda d, month, week: f"{week[:3]}, {month[:3]} {d.day}, {d.year}",
    lambda d, month, week: f"{d.day}-{month[:3]}-{d.year % 100:02}",
    lambda d, month, week: f"{month[:3]} '{d.year % 100:02}, {_ordinal(d.day)}",
    lambda d, month, week: f"{d.month}/{d.day}/{d.year}",
    lambda d, month, week: f"{d.month:02}/{d.day:02}/{d.year % 100:02}",
    lambda d, month, week: f"{d.day}.{d.month}.{d.year}",
    lambda d, month, week: f"{d.day:02}.{d.month:02}.{d.year % 100:02}",
    lambda d, month, week: f"{d.year}/{d.month:02}/{d.day:02}",
    lambda d, month, week: f"{d.day:02}-{d.month:02}-{d.year}",
)


def written(date: datetime.date, form: int) -> str:
    """The date in one of the forms, in lower case."""
    return FORMS[form](date, _MONTHS[date.month - 1], _WEEKDAYS[date.weekday()])


def encode(text: str) -> np.ndarray:
    """Ids of the signs of a text, (length,); upper case is read as lower.

    Raises DataError for an empty text, and for a sign that no date here has.
    """
    text = " ".join(text.lower().split())
    unknown = [sign for sign in text if sign not in SIGNS]
    if unknown or not text:
        what = f"the sign {unknown[0]!r} is unknown" if unknown else "there is no date"
        raise DataError(f"{what}; dates are written with letters, digits and {SIGNS[:6]}")
    return np.array([SIGNS.index(sign) + EOS + 1 for sign in text])


def decode(ids: Sequence[int]) -> str:
    """The text that ids stand for; PAD, GO and EOS are left out."""
    return "".join(sign(i) for i in ids if i > EOS)


def sign(i: int) -> str:
    """One id as text."""
    return SIGNS[i - EOS - 1] if i > EOS else ("", "GO", "EOS")[i]


def pairs(
    count: int, days: np.ndarray, generator: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Dates of the given days, each in a form drawn at random, and their ISO forms with EOS."""
    sources, targets = [], []
    for day, form in zip(generator.choice(days, count), generator.integers(0, len(FORMS), count)):
        date = FIRST + datetime.timedelta(days=int(day))
        sources.append(encode(written(date, form)))
        targets.append(np.append(encode(date.isoformat()), EOS))
    return sources, targets


class Dates(nn.Module):
    """An LSTM that reads, an LSTM that writes, and Luong's attention between them."""

    def __init__(self, generator: np.random.Generator) -> None:
        ids = len(SIGNS) + EOS + 1

        def part() -> tuple[nn.Embedding, nn.LSTM]:
            lstm = nn.LSTM(EMBEDDED, UNITS, time_major=True, generator=generator)
            return nn.Embedding(ids, EMBEDDED, generator=generator), lstm

        mix = nn.Linear(2 * UNITS, UNITS, bias=False, generator=generator)
        self.encoder = seq2seq.Encoder(*part())
        self.decoder = seq2seq.Decoder(
            *part(), nn.Linear(UNITS, ids, generator=generator),
            seq2seq.Luong(UNITS, UNITS, generator=generator),
            input_feeding=False, mix=nn.Sequential(mix, mg.tanh),
        )  # fmt: skip

    def forward(self, source: Padded, target: Padded) -> mg.Tensor:
        """The loss with teacher forcing, in nats a character."""
        outputs, state = self.encoder(source.ids, source.lengths)
        teacher = seq2seq.TeacherForcing(
            seq2seq.decoder_inputs(target.ids, GO), target.lengths
        )
        said = self.decoder(teacher, state, outputs, source.lengths)
        return seq2seq.sequence_loss(said.logits, target.ids, target.lengths)

    def search(self, source: Padded, width: int) -> seq2seq.Beams:
        """The likeliest dates, the best first."""
        with mg.no_grad():
            outputs, state = self.encoder(source.ids, source.lengths)
            return seq2seq.beam_search(
                self.decoder, state, outputs, source.lengths, go=GO, eos=EOS, width=width,
                max_steps=MAX_STEPS,
            )  # fmt: skip

    def exact(self, sources: list[np.ndarray], targets: list[np.ndarray], width: int = 1) -> float:
        """Fraction of the dates that are right in every character."""
        right = 0
        for source, target in BucketBatches(
            sources, targets, batch_size=500, boundaries=BOUNDARIES
        ):
            best = self.search(source, width).ids[:, 0]
            wanted = seq2seq.sentences(target.ids, EOS)
            right += sum(a == b for a, b in zip(seq2seq.sentences(best, EOS), wanted))
        return right / len(sources)


def answer(model: Dates, text: str, width: int) -> str:
    """What the model makes of a date: the best, and what else it thought of.  DataError."""
    found = model.search(pad([encode(text)]), width)
    said = [decode(ids) for ids in found.ids[0]]
    chances = np.exp(found.log_probs[0])
    others = ", ".join(f"{each} {p:.1%}" for each, p in zip(said[1:], chances[1:]) if p > 0.001)
    return f"{said[0]}   {chances[0]:.1%}" + (f"   (or {others})" if others else "")


def look(model: Dates, text: str) -> plot.Alignment:
    """Where the best answer looked."""
    found = model.search(pad([encode(text)]), 1)
    assert found.alignments is not None
    wrote = [sign(int(i)) for i in found.ids[0, 0, : found.lengths[0, 0]]]
    return plot.Alignment(found.alignments[0, 0], list(text), wrote, text)


def exact_match_picture(
    steps: Sequence[int], rates: Sequence[float], losses: Sequence[float]
) -> Figure:
    """Exact match on days that were never seen, and the loss."""
    figure = new_figure(
        f"{rates[-1]:.2%} of dates on days never seen are right in every character", height=4.8
    )
    match, loss = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for axes in (match, loss):
        dress(axes)
    match.plot(steps, rates, "o-", color=BLUE, ms=4, label=f"{TEST:,} dates of the test")
    match.axhline(TARGET, color=RED, ls="--", lw=1.5, label=f"to be reached: {TARGET:.0%}")
    match.set_ylim(0, 1.02)
    match.set_ylabel("exact match\n(fraction of dates)")
    match.legend(loc="lower right")
    loss.plot(losses, color=ORANGE, lw=0.6)
    loss.set_yscale("log")
    loss.set_ylabel("loss (nats\na character)")
    loss.set_xlabel("training step")
    whole_numbers(loss.xaxis)
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument("--ask", action="store_true", help="read dates typed in after training")
    parser.add_argument(
        "--date", action="append", default=[], metavar="TEXT",
        help="a date to be rewritten after training; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--width", type=whole_number(1), default=4, metavar="W",
        help="beams that are kept in answers (default: %(default)s)",
    )  # fmt: skip


def _asked() -> Iterator[str]:
    """Lines typed in, up to an empty one."""
    while True:
        try:
            line = input("date> ").strip()
        except EOFError:
            return
        if not line:
            return
        yield line


def _prompt(run: Run, model: Dates) -> None:
    """Answer what is typed in until an empty line; the prompt is for people only."""
    if sys.stdin.isatty():
        run.say("type a date in any form; an empty line ends it")
    for line in _asked():
        try:
            run.say(answer(model, line, run.args.width))
        except DataError as error:
            run.say(str(error))


def main(argv: Sequence[str] | None = None) -> None:
    """Train, write figures and metrics, and answer."""
    with start("date_formats", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS) as run:
        asked = [(text, encode(text)) for text in run.args.date]  # refused before training
        days = run.generator("days").permutation(DAYS)
        held = days[: DAYS // 10]
        train = pairs(TRAIN, days[DAYS // 10 :], run.generator("training"))
        test = pairs(TEST, held, run.generator("test"))
        order = run.generator("order")
        batches = BucketBatches(
            *train, batch_size=BATCH, boundaries=BOUNDARIES, shuffle=True, drop_last=True,
            generator=order,
        )  # fmt: skip
        endless = Endless(batches, order)
        run.say(f"{TRAIN:,} dates to train on, {TEST:,} of other days to test")
        run.say(f"{len(BOUNDARIES) + 1} buckets: {batches.padding}")
        model = Dates(run.generator("weights"))
        parameters = model.parameters()
        optimizer = optim.Adam(parameters, lr=RATE)

        losses: list[float] = []
        seen: list[int] = []
        rates: list[float] = []
        run.keep(
            model=model, optimizer=optimizer, endless=endless, losses=losses, seen=seen,
            rates=rates,
        )  # fmt: skip
        for step in run.steps():
            loss = model(*next(endless))
            optimizer.zero_grad()
            loss.backward()
            clipped = optim.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            losses.append(loss.item())
            run.note(loss=losses[-1], clipped=clipped)

            if step % REPORT == 0:
                with run.untimed():
                    seen.append(step)
                    rates.append(model.exact(*test))
                    run.test(exact_match=rates[-1])
                    run.say(f"step {step}: loss {losses[-1]:.4f}, exact match {rates[-1]:.1%}")

        seen.append(run.steps_done)
        rates.append(model.exact(*test))
        beam = model.exact(*test, width=run.args.width)
        run.say(f"greedy {rates[-1]:.2%}, with {run.args.width} beams {beam:.2%}")
        source = asked[0][0].lower() if asked else SHOWN[-1]
        figures = {
            "exact_match": exact_match_picture(seen, rates, losses),
            "attention": plot.alignments(
                [look(model, text) for text in SHOWN],
                title="To write the year it looks at the year, wherever it stands",
            ),
            "beam_tree": plot.beam_tree(
                model.search(pad([encode(source)]), run.args.width), source=list(source),
                sign=sign, eos=EOS,
            ),
        }
        for text, _ in asked:
            run.say(f"{text}: {answer(model, text, run.args.width)}")
        run.finish(
            "exact_match", rates[-1], figures,
            exact_match_of_beams=beam, last_loss=float(np.mean(losses[-20:])),
            padding=batches.padding.share,
            padding_without_buckets=batches.padding.share_without,
            places_saved=batches.padding.saved, steps_of_rates=seen, rates=rates,
        )  # fmt: skip
        if run.args.ask:
            _prompt(run, model)


if __name__ == "__main__":
    main()
