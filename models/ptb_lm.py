"""A word language model with two LSTM layers, dropout, and clipping that is felt.

Document: "TensorFlow RNN primer" (2017), section on modelling natural language, after
TensorFlow's PTB tutorial and W. Zaremba, I. Sutskever and O. Vinyals, "Recurrent neural
network regularization" (2014).

Words become vectors of 200 numbers, two LSTMs of 200 units read them, and a dense layer gives
a score to each of 10,000 words for the next place.  20 places of the text are read side by
side in windows of 35 words; the state at the end of a window is where the next one starts,
but gradients stop at its edge.  Each epoch begins with a state of zeros.  In training half of
the numbers are dropped out of the vectors and out of both layers' outputs, but never out of
what a layer carries from word to word.

Beside the document:
* Its cost is *summed* over the 35 words and divided by the batch alone, so it begins near
  35 x ln 10000 = 322 and its gradient is 35 times that of a mean.  That is what makes the clip
  at a global norm of 5 act, and the learning rate of 1.0 possible: look at clip_timeline.png,
  and compare the character model, whose clip is never touched.
* It puts one cell object into the list twice, [lstm_cell] * 2.  When it was written that
  made two layers; since TensorFlow 1.2 the two share their weights.  Two layers are meant,
  and here there are two.
* All weights are uniform in +-0.05, the bias of the last layer too; the LSTMs' biases are
  zero and their forget bias is 1, as in TensorFlow.
* TensorFlow's clipping counts each occurrence of a word in a window by itself; here all
  occurrences are summed first, as mathematics has it.  The norms differ by less than 0.2%.
* Validation and test run one word at a time at batch 1 over one long sequence.  The same
  numbers come from long windows with the state carried on, without a step of Python per word.
* 2 epochs of the Penn Treebank are 2 x 1327 steps.  Its licence keeps it out of the package:
  --data DIR takes Mikolov's ptb.train.txt, ptb.valid.txt and ptb.test.txt.  Else the model
  reads the packaged plays of Shakespeare, made into 10,000 words with the same conventions;
  an epoch of them has 1312 steps.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim, plot, watch
from minigrad.data import Endless, SequenceBatches, load_ptb, load_words

from ._run import start

STEPS, SMOKE_STEPS = 2 * 1327, 30
SMOKE_WORDS = 2000  # of validation and test in a smoke run
NODES, LAYERS = 200, 2
DROP = 0.5
SCALE = 0.05
UNROLL = 35
BATCH = 20
CLIP = 5.0
RATE = 1.0
EVALUATION_UNROLL = 500  # words of one window of evaluation: for memory, not for the result
REPORT = 100  # steps between two reports
PUBLISHED = 176.8  # test perplexity on PTB after 2 epochs, from the code's author


class PTBModel(nn.Module):
    """Embedding, two LSTMs one above the other, and a dense layer over the vocabulary."""

    def __init__(
        self,
        words: int,
        nodes: int = NODES,
        *,
        generator: np.random.Generator,
        dropout: np.random.Generator,
    ) -> None:
        self.embedding = nn.Embedding(words, nodes, generator=generator)
        self.layers = nn.ModuleList(
            nn.LSTM(nodes, nodes, forget_bias=1.0, time_major=True, generator=generator)
            for _ in range(LAYERS)
        )
        self.dense = nn.Linear(nodes, words, generator=generator)
        self.dropout = nn.Dropout(DROP, generator=dropout)
        biases = [layer.bias for layer in self.layers]  # of the LSTMs: they stay zero
        for parameter in self.parameters():
            if not any(parameter is bias for bias in biases):
                shape = parameter.shape
                parameter.data = nn.init.uniform(shape, -SCALE, SCALE, generator=generator)

    def forward(self, ids: np.ndarray, state: Any = None) -> tuple[mg.Tensor, Any]:
        """ids (N, T) -> logits (T, N, V), and the last (h, c) of each layer."""
        x = self.dropout(self.embedding(ids.T))  # (T, N, H)
        last = []
        for layer, before in zip(self.layers, state or [None] * LAYERS):
            x, after = layer(x, before)
            x = self.dropout(x)
            last.append(after)
        return self.dense(x), tuple(last)


def perplexity(model: PTBModel, ids: np.ndarray) -> float:
    """exp of the mean negative log-likelihood of ids[1:], read at batch 1 from a state of zeros.

    ids: (length,) integers, at least 2.
    """
    model.eval()
    total, state = 0.0, None
    with mg.no_grad():
        for first in range(0, len(ids) - 1, EVALUATION_UNROLL):
            window = ids[first : first + EVALUATION_UNROLL + 1]
            logits, state = model(window[None, :-1], state)
            total += mg.cross_entropy(logits[:, 0], window[1:], reduction="sum").item()
    model.train()
    return math.exp(total / (len(ids) - 1))


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="a folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt (default: words of "
        "Shakespeare's plays)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Train, report as the document does, and write figures and metrics."""
    with start("ptb_lm", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS) as run:
        corpus = load_words() if run.args.data is None else load_ptb(run.args.data)
        epoch = SequenceBatches(corpus.train, BATCH, UNROLL)
        evaluated = slice(SMOKE_WORDS if run.args.smoke else None)
        valid, test = corpus.valid[evaluated], corpus.test[evaluated]
        run.say(
            f"{len(corpus.vocabulary):,} different words; {len(corpus.train):,} to train on, "
            f"{len(valid):,} for validation, {len(test):,} to test; {len(epoch):,} steps an epoch"
        )

        model = PTBModel(
            len(corpus.vocabulary),
            generator=run.generator("weights"), dropout=run.generator("dropout"),
        )  # fmt: skip
        parameters = model.parameters()
        optimizer = optim.SGD(parameters, lr=RATE)

        flows, clips = watch.GradientFlow.attach(model), watch.ClipTimeline()
        seen, perplexities = [], []
        windows = Endless(epoch)
        run.keep(
            model=model, optimizer=optimizer, windows=windows, flows=flows, clips=clips,
            seen=seen, perplexities=perplexities,
        )  # fmt: skip
        state, cost_so_far, words_so_far = run.carried(None, 0.0, 0)
        for step in run.steps():
            if step % len(epoch) == 0:
                state, cost_so_far, words_so_far = None, 0.0, 0
            inputs, targets = next(windows)  # (20, 35) ids each; targets are one word ahead

            logits, state = model(inputs, state)
            loss = mg.cross_entropy(logits, targets.T, reduction="sum") / BATCH
            optimizer.zero_grad()
            flows.tag(step)
            loss.backward()
            clipped = optim.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            state = nn.detach(state)  # carried on; gradients stop here
            clips.record(step, loss.item() / UNROLL, clipped)  # the loss in nats a word

            cost_so_far, words_so_far = cost_so_far + loss.item(), words_so_far + UNROLL
            run.carry(state, cost_so_far, words_so_far)
            run.note(loss=loss.item() / UNROLL, clipped=clipped)
            if step % REPORT == 0:
                running = math.exp(cost_so_far / words_so_far)
                run.note(perplexity=running)
                run.say(f"step {step}: perplexity of the epoch so far {running:.1f}")
            if (step + 1) % len(epoch) == 0:
                with run.untimed():
                    seen.append(step + 1)
                    perplexities.append(perplexity(model, valid))
                    run.test(perplexity=perplexities[-1])
                    done = seen[-1] // len(epoch)
                    run.say(f"epoch {done}: validation perplexity {perplexities[-1]:.2f}")

        if not seen or seen[-1] != run.steps_done:
            seen.append(run.steps_done)
            perplexities.append(perplexity(model, valid))
        reached = perplexity(model, test)
        published = None if run.args.data is None else PUBLISHED
        message = f"Test perplexity {reached:.1f} after {run.steps_done:,} steps"
        figures = {
            "perplexity": plot.perplexity(
                clips.steps, clips.loss, validation=(seen, perplexities), symbol="word",
                reference=published, reference_label="published, test",
                title=message + (f" (published: {published} after {STEPS:,})" if published else ""),
            ),
            "clip_timeline": plot.clip_timeline(clips, threshold=CLIP),
            "gradient_flow": plot.gradient_flow(flows),
        }  # fmt: skip
        run.finish(
            "test_perplexity", reached, figures,
            {"words": (model.embedding.weight.array, list(corpus.vocabulary))},
            validation_perplexity=perplexities[-1], fraction_clipped=clips.fraction_clipped,
            steps_of_validation=seen, validation_perplexities=perplexities,
            data=str(run.args.data or "words of Shakespeare (packaged)"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
