"""A character language model, trained by truncated back-propagation through time.

Document: "TensorFlow tutorial: from basics to CNN and seq2seq" (R. Chong, 2018), section on
the character language model, after the LSTM exercise of Udacity's deep-learning course.

The model reads one character at a time (27 symbols: space and a to z) and predicts the
next.  An LSTM of 64 nodes is unrolled over windows of 10 characters, 64 places of the text
side by side.  The state at the end of a window is where the next window starts, but it is
detached: gradients stop at the edge of the window.  That is truncated BPTT.

Beside the document:
* Its arguments truncated_normal(shape, -0.1, 0.1) mean a *mean* of -0.1 and a standard
  deviation of 0.1; a range from -0.1 to 0.1 was probably intended.  Kept as it is.
* The forget gate gets no bias of 1, unlike in the LSTM cells of TensorFlow.
* The document feeds one-hot vectors; a one-hot vector times a matrix is a row of the
  matrix, so here the layer takes the ids and looks the rows up.
* The global norm of the gradient is clipped at 1.25, as the document has it.  Look at
  clip_timeline.png: with a loss that is a mean over 640 characters the norm stays near
  0.15, so here the clip is a fence that is never touched.  It does act in other models.
* The document's text8 is not in the package; Shakespeare's plays are.  --text text8.zip
  takes text8.
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
from minigrad.data import CursorBatches, decode, encode, load_text

from ._run import start

STEPS, SMOKE_STEPS = 7001, 300
VOCABULARY = 27
NODES = 64
UNROLL = 10
BATCH = 64
VALID_SIZE = 1000
CLIP = 1.25
RATE, DECAY, DECAY_STEPS = 10.0, 0.1, 5000
SAMPLES, SAMPLE_LENGTH = 5, 80
REPORT, SAMPLE = 100, 1000  # steps between two reports, and between two sets of samples
TENSORFLOW = 4.47  # validation perplexity of its version on this text, mean of three seeds


class CharLM(nn.Module):
    """LSTM of 64 nodes and a linear classifier over the 27 symbols."""

    def __init__(self, generator: np.random.Generator) -> None:
        def weights(*shape: int) -> np.ndarray:
            return nn.init.truncated_normal(shape, -0.1, 0.1, generator=generator)

        self.lstm = nn.LSTM(
            VOCABULARY, NODES, forget_bias=0.0, time_major=True, generator=generator
        )
        for gate in "ifjo":  # the document's order: ix im, fx fm, cx cm (our j), ox om
            part = self.lstm.gate(gate)
            part.w_x[:] = weights(VOCABULARY, NODES)
            part.w_h[:] = weights(NODES, NODES)  # the biases stay zero
        self.w = nn.Parameter(weights(NODES, VOCABULARY))
        self.b = nn.Parameter(np.zeros(VOCABULARY, np.float32))
        self.flow: watch.GradientFlow | None = None  # watches the unrolled cell

    def forward(self, ids: Any, state: Any = None) -> tuple[mg.Tensor, Any]:
        """ids (T, N) -> logits (T, N, 27) and the last state.  One kernel call for all T."""
        outputs, state = self.lstm(ids, state)
        return mg.linear(outputs, self.w, self.b), state

    def unrolled(self, ids: Any, state: Any = None) -> tuple[mg.Tensor, Any]:
        """The same from the readable cell, step by step, as in the document."""
        h, c = state or self.lstm.zero_state(ids.shape[1])
        outputs = []
        for t, x in enumerate(ids):  # (N,)
            h, c = lstm_cell(mg.one_hot(x, VOCABULARY, h.dtype), h, c, self.lstm)
            outputs.append(h)
            if self.flow is not None:
                self.flow.watch_step(t, h, c)
        return mg.stack(outputs) @ self.w + self.b, (h, c)


def lstm_cell(x: mg.Tensor, h: mg.Tensor, c: mg.Tensor, lstm: nn.LSTM) -> Any:
    """One step of the LSTM with its four gates written out.

    x (N, 27) one-hot, h and c (N, 64): the output and the state of the last step.
    """
    ix, cx, fx, ox = lstm.w_x.split(4, axis=1)  # (27, 64) each
    im, cm, fm, om = lstm.w_h.split(4, axis=1)  # (64, 64)
    ib, cb, fb, ob = lstm.bias.split(4)  # (64,)
    input_gate = mg.sigmoid(x @ ix + h @ im + ib)
    forget_gate = mg.sigmoid(x @ fx + h @ fm + fb)
    update = mg.tanh(x @ cx + h @ cm + cb)
    output_gate = mg.sigmoid(x @ ox + h @ om + ob)
    c = forget_gate * c + input_gate * update
    return output_gate * mg.tanh(c), c


def perplexity(model: CharLM, ids: np.ndarray) -> float:
    """exp of the mean negative log-likelihood at batch 1; the last symbol's successor is the
    first, because the document's generator wraps.  Probabilities below 1e-10 count as that.
    """
    with mg.no_grad():
        logits, _ = model(ids[:, None])
        loss = mg.cross_entropy(logits[:, 0], np.roll(ids, -1), reduction="none")
    return math.exp(np.minimum(loss.numpy(), -math.log(1e-10)).mean())


def samples(model: CharLM, generator: np.random.Generator) -> list[str]:
    """Five texts of 80 characters, each drawn symbol by symbol from a random first one."""
    ids = generator.integers(VOCABULARY, size=SAMPLES)
    written, state = [ids], None
    with mg.no_grad():
        for _ in range(SAMPLE_LENGTH - 1):
            logits, state = model(ids[None], state)
            p = mg.softmax(logits[0]).numpy().astype(np.float64)  # (5, 27)
            draw = generator.random((SAMPLES, 1)) * p.sum(axis=1, keepdims=True)
            ids = (p.cumsum(axis=1) < draw).sum(axis=1)
            written.append(ids)
    return [decode(row) for row in np.stack(written, axis=1)]


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help="a text file (.gz too), text8 or text8.zip (default: Shakespeare's plays)",
    )  # fmt: skip
    parser.add_argument(
        "--cell", choices=["fused", "unrolled"], default="fused",
        help="the layer that is one kernel call, or the cell written out (default: %(default)s)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Train, report as the document does, and write figures and metrics."""
    with start(
        "char_lm", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS
    ) as run:
        text = load_text(run.args.text, min_length=VALID_SIZE + BATCH * (UNROLL + 1))
        ids = encode(text)
        valid, train = ids[:VALID_SIZE].astype(np.int64), ids[VALID_SIZE:]
        run.say(f"{len(ids):,} characters; the first {VALID_SIZE:,} are for validation")

        model = CharLM(run.generator("weights"))
        forward = model if run.args.cell == "fused" else model.unrolled
        parameters = model.parameters()
        optimizer = optim.SGD(parameters, lr=RATE)
        schedule = optim.ExponentialDecay(optimizer, DECAY, DECAY_STEPS, staircase=True)
        batches = CursorBatches(train, BATCH, UNROLL)
        draw = run.generator("samples")

        flow, clips = watch.GradientFlow(), watch.ClipTimeline()
        model.flow, model.lstm.flow = flow, flow.record
        seen, perplexities = [], []
        run.keep(
            model=model, optimizer=optimizer, schedule=schedule, batches=batches, flow=flow,
            clips=clips, seen=seen, perplexities=perplexities,
        )  # fmt: skip
        state = run.carried(None)
        for step in run.steps():
            window = next(batches)  # (11, 64) ids; the first row ended the window before
            inputs, targets = window[:-1], window[1:]  # predict each next character

            logits, state = forward(inputs, state)
            loss = mg.cross_entropy(logits, targets)  # mean over 10 x 64
            optimizer.zero_grad()
            flow.tag(step)
            loss.backward()
            clipped = optim.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            schedule.step()
            state = run.carry(nn.detach(state))  # carried on; gradients stop here
            clips.record(step, loss.item(), clipped)
            run.note(loss=loss.item(), clipped=clipped)

            if step % REPORT == 0:
                with run.untimed():
                    perplexities.append(perplexity(model, valid))
                    seen.append(step)
                    recent = float(clips.loss[-REPORT:].mean())
                    run.note(perplexity=math.exp(recent))
                    run.test(perplexity=perplexities[-1])
                    if step % SAMPLE == 0:
                        run.say(
                            f"step {step}: mean loss {recent:.3f}, rate {schedule.lr:g}, "
                            f"validation perplexity {perplexities[-1]:.2f}"
                        )
                        lines = samples(model, draw)
                        run.say("\n".join(f"    {line}" for line in lines), sample="samples")

        seen.append(run.steps_done)
        perplexities.append(perplexity(model, valid))
        figures = {
            "loss_and_perplexity": plot.perplexity(
                clips.steps, clips.loss, validation=(seen, perplexities),
                reference=TENSORFLOW if run.args.text is None else None,
                reference_label="TensorFlow",
            ),
            "clip_timeline": plot.clip_timeline(clips, threshold=CLIP),
            "gradient_flow": plot.gradient_flow(flow),
        }  # fmt: skip
        run.finish(
            "validation_perplexity", perplexities[-1], figures,
            fraction_clipped=clips.fraction_clipped, last_loss=float(clips.loss[-REPORT:].mean()),
            text=str(run.args.text or "Shakespeare (packaged)"), cell=run.args.cell,
        )  # fmt: skip


if __name__ == "__main__":
    main()
