"""A network that repeats what it heard three steps ago: truncated BPTT at its smallest.

Documents: "RNN in TensorFlow, part 1" (2018, after E. Hallström's "Hello World RNN"); a second
one has the same program, shortened, with the line that computes the next state missing.

A series of 50,000 random bits is cut into 5 rows of 10,000, which are read side by side in
windows of 15 steps.  A recurrent layer of 4 tanh units and a linear classifier are to say
at each step which bit came 3 steps before.  Adagrad 0.3; 100 epochs, each with a new series:
666 windows an epoch, 66,600 steps.

Truncated back-propagation through time: the state at the end of a window is where the next
one starts, so the network goes on hearing; but it is detached, so nothing is learned about
what lies before the window.  reach.png shows it: behind the edge the gradient is exactly
zero, and the first three echoes of each window have lost their cause.  They are right
nevertheless: what the other twelve teach serves them too.  That is why a window has to be
longer than what is to be remembered.

Why does the loss jump at each new epoch (the question that the document asks)?  spikes.png
answers.  The rows are cut from one series, so the first three echoes of rows 2 to 5 are the
last three bits of the row above, which no state has heard: the state starts from zero.  Row 1
begins with three zeros, but the network cannot know which row it is in.  So 15 of the 75
targets in the first window of an epoch can only be guessed.

Beside the document:
* It joins input and state and multiplies both by one 5 x 4 matrix.  Here these are two, its
  first row w_x and the others w_h, which is the same sum.
* All weights start uniform in [0, 1), none of them negative.  So all four units soon stand
  near 1, where tanh is flat, and the gradient loses most of its length at each step back; three
  steps are far then.  Of ten seeds seven learn the echo within 6 epochs; the other three stay
  at the loss of guessing, ln 2, for 8, 24 and 31 epochs before they learn it as well.  (Seed 0
  is one of the seven because its stream of random numbers was chosen so, among five.)
* 666 windows of 15 are 9,990 steps: the last 10 bits of each row are never used.
* No gradients are clipped, and none needs to be.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim

from . import _plots
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTH = 50_000
ECHO = 3
STATE = 4
CLASSES = 2
ROWS = 5
WINDOW = 15
RATE = 0.3
EPOCHS = 100
WINDOWS = LENGTH // ROWS // WINDOW  # in an epoch: 666
STEPS, SMOKE_STEPS = EPOCHS * WINDOWS, 3 * WINDOWS
REPORT = 10  # epochs between two reports
DRAW = 100  # windows between two drawings with --live
TENSORFLOW = 0.00038  # mean loss of its last epoch


class EchoRNN(nn.Module):
    """A recurrent layer with a state of 4 and a linear classifier over the two bits."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.rnn = nn.RNN(1, STATE, time_major=True, generator=generator)
        kernel = generator.random((1 + STATE, STATE))  # rows: input, then state
        self.rnn.w_x.data, self.rnn.w_h.data = kernel[:1], kernel[1:]  # the bias stays zero
        self.w = nn.Parameter(generator.random((STATE, CLASSES)), dtype=np.float32)
        self.b = nn.Parameter(np.zeros(CLASSES, np.float32))

    def forward(self, bits: Any, state: Any = None) -> tuple[mg.Tensor, Any]:
        """bits (T, N, 1) -> logits (T, N, 2) and the last state.  One kernel call for all T."""
        outputs, state = self.rnn(bits, state)
        return mg.linear(outputs, self.w, self.b), state

    def unrolled(self, bits: Any, state: Any = None) -> tuple[mg.Tensor, Any]:
        """The same step by step, as in the document."""
        h = self.rnn.zero_state(bits.shape[1]) if state is None else state
        outputs = []
        for t in range(len(bits)):
            x = mg.tensor(bits[t])  # (N, 1)
            h = mg.tanh(x @ self.rnn.w_x + h @ self.rnn.w_h + self.rnn.bias)  # (N, 4)
            outputs.append(h)
        return mg.stack(outputs) @ self.w + self.b, h


def series(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random bits (10000, 5, 1) float32, and their echo (10000, 5) int64, time first.

    Each row goes on where the one before it ends.
    """
    bits = generator.integers(2, size=LENGTH)
    echo = np.roll(bits, ECHO)
    echo[:ECHO] = 0
    bits, echo = bits.reshape(ROWS, -1).T, echo.reshape(ROWS, -1).T
    return np.ascontiguousarray(bits[:, :, None], np.float32), np.ascontiguousarray(echo)


def wrong_bits(model: EchoRNN, generator: np.random.Generator) -> tuple[int, int]:
    """Wrong predictions for a fresh series, past the first three of each row; and of how many."""
    bits, echo = series(generator)
    with mg.no_grad():
        logits, _ = model(bits)  # 10,000 steps in one go, from a state of zeros
    wrong = logits.numpy().argmax(axis=-1)[ECHO:] != echo[ECHO:]
    return int(wrong.sum()), wrong.size


def reach(model: EchoRNN, generator: np.random.Generator, detached: bool) -> np.ndarray:
    """How strongly each prediction of a window depends on each input of it and the one before.

    Two windows of fresh bits in a row.  Returns (15, 30): the norm, over the 5 rows, of the
    gradient of the difference of the two logits at step t of the second window with respect
    to the input at each step of both.
    """
    bits = mg.tensor(series(generator)[0][: 2 * WINDOW], requires_grad=True)  # (30, 5, 1)
    _, state = model(bits[:WINDOW])
    logits, _ = model(bits[WINDOW:], state.detach() if detached else state)
    margin = (logits[:, :, 1] - logits[:, :, 0]).sum(axis=1)  # (15,): rows do not mix
    slopes = [mg.grad(margin[t], bits, retain_graph=True)[0].numpy() for t in range(WINDOW)]
    return np.linalg.norm(np.array(slopes)[..., 0], axis=-1)


# -- pictures ---------------------------------------------------------------------------------


def paint_echo(
    figure: Figure, losses: np.ndarray, bits: np.ndarray, echo: np.ndarray, logits: mg.Tensor
) -> None:
    """The document's live figure: the loss, and input, echo and prediction of the five rows.

    losses: (steps,) so far.  bits (T, N, 1), echo (T, N), logits (T, N, 2): of one window.
    """
    predicted = logits.numpy().argmax(axis=-1)  # (T, N)
    right = (predicted == echo).sum()
    _plots.entitle(
        figure,
        f"{right} of {echo.size} echoes of this window are right: green stands where red does,\n"
        f"{ECHO} steps after blue (the cause of the first {ECHO} lies before the window)",
    )
    panels = figure.subplots(2, 3).ravel()
    loss, *rows = panels
    _plots.dress(loss)
    steps = np.arange(len(losses))
    loss.plot(steps, losses, color=_plots.GREY, lw=0.4, alpha=0.6)
    loss.plot(steps, _plots.log_smooth(losses, 101), color=_plots.BLUE, lw=1.5)
    loss.set_yscale("log")
    loss.set_title(f"loss after {len(losses):,} steps", fontsize=10)
    loss.set_xlabel("training step", fontsize=9)
    _plots.whole_numbers(loss.xaxis, ticks=4)
    loss.tick_params(labelsize=8)
    at = np.arange(len(bits))
    for n, axes in enumerate(rows):
        for values, height, color, name in (
            (bits[:, n, 0], 1.0, _plots.BLUE, "input"),
            (echo[:, n], 0.5, _plots.RED, f"its echo, {ECHO} steps later"),
            (predicted[:, n], 0.3, _plots.GREEN, "prediction"),
        ):
            axes.bar(at, values * height, width=0.9, color=color, label=name)
        axes.set_xlim(-0.6, len(bits) - 0.4)
        axes.set_ylim(0, 1.1)
        axes.set_yticks([])
        axes.set_xticks(np.arange(0, len(bits), ECHO))
        axes.tick_params(labelsize=8)
        axes.set_title(f"row {n + 1}", fontsize=10)
        axes.set_xlabel("time step in the window", fontsize=9)
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def spikes_figure(losses: np.ndarray, first_losses: np.ndarray) -> Figure:
    """Why the loss jumps at each new epoch.

    losses: (steps,).  first_losses: (epochs, 15, 5), the loss of every single target in the
    first window of each epoch.  Drawn is the later half of the epochs.
    """
    whole = losses[: len(losses) // WINDOWS * WINDOWS].reshape(-1, WINDOWS)
    epochs = whole[len(whole) // 2 :] if len(whole) else losses[None]
    cells = first_losses[len(first_losses) // 2 :].mean(axis=0)  # (15, 5)
    guessed = ECHO * ROWS
    figure = _plots.new_figure(
        f"Why the loss jumps at each new epoch: the first {ECHO} echoes of each row repeat\n"
        f"what no state has heard. They make {cells[:ECHO].sum() / cells.sum():.0%} of the loss in "
        "its first window",
        height=4.4,
    )
    curve, grid = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _plots.dress(curve)
    shown = epochs[:, :20]
    places = np.arange(shown.shape[1])
    curve.plot(places, shown.T, color=_plots.GREY, lw=0.5, alpha=0.4)
    curve.plot(places, shown.mean(axis=0), "o-", color=_plots.BLUE, ms=4, lw=2, label="mean")
    guess = guessed / cells.size * np.log(2)
    label = f"{guessed} guesses of {cells.size}: {guess:.2f}"
    curve.axhline(guess, color=_plots.RED, ls="--", lw=1.5, label=label)
    curve.set_yscale("log")
    _plots.whole_numbers(curve.xaxis)
    curve.set_xlabel("window of the epoch")
    curve.set_ylabel("loss (nats, mean of 75 targets; log scale)")
    curve.set_title(f"the first 20 windows of {len(epochs)} epochs", fontsize=10)
    curve.legend(fontsize=9, loc="center right")

    image = grid.imshow(cells.T, cmap="inferno", aspect="auto", vmin=0)
    grid.set_xticks(np.arange(WINDOW))
    grid.tick_params(labelsize=8)
    grid.set_yticks(np.arange(ROWS), [f"row {n + 1}" for n in range(ROWS)])
    grid.set_xlabel("time step in the first window")
    grid.set_title("loss of each target of the first window", fontsize=10)
    causes = ["nothing: zeros"] + [f"the end of row {n}" for n in range(1, ROWS)]
    for n, cause in enumerate(causes):
        grid.text(ECHO - 0.3, n, f"\u2190 repeats {cause}", color="white", fontsize=9, va="center")
    figure.colorbar(image, ax=grid, label="nats")
    return figure


def reach_figure(carried: np.ndarray, detached: np.ndarray) -> Figure:
    """Gradients of predictions with respect to inputs, without and with truncation; (15, 30)."""
    import matplotlib
    from matplotlib.colors import LogNorm

    before = detached[:, :WINDOW]
    zeros = int((before == 0).sum())
    figure = _plots.new_figure(
        f"Inputs before the window receive exactly zero gradient ({zeros} of {before.size} "
        "entries are 0.0):\nthe first three predictions of the window no longer see their cause",
        height=5.2,
    )
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    top = max(carried.max(), 1e-30)
    scale = LogNorm(top * 1e-4, top)
    colors = matplotlib.colormaps["inferno"].with_extremes(bad="0.75", under="black")
    steps = np.arange(-WINDOW, WINDOW)
    for axes, values, name in (
        (panels[0], carried, "state carried, not detached"),
        (panels[1], detached, "state detached at the edge of the window, as in training"),
    ):
        shown = np.ma.masked_equal(values, 0)
        extent = (-WINDOW - 0.5, WINDOW - 0.5, WINDOW - 0.5, -0.5)
        image = axes.imshow(shown, norm=scale, cmap=colors, aspect="auto", extent=extent)
        axes.plot(np.arange(WINDOW) - ECHO, np.arange(WINDOW), "o", ms=4, mfc="none", mec="cyan")
        axes.axvline(-0.5, color=_plots.RED, lw=2.5)
        axes.set_title(name, fontsize=10)
        axes.set_ylabel("prediction at step t")
        axes.set_xticks(steps[::ECHO])
        axes.set_yticks(np.arange(0, WINDOW, ECHO))
    panels[1].set_xlabel(
        f"input at step s (below 0: the window before; circles: s = t - {ECHO}, the bit to repeat)"
    )
    figure.colorbar(
        image, ax=panels, extend="min", label="gradient norm (log scale; grey: exactly 0)"
    )
    return figure


def options(parser: argparse.ArgumentParser) -> None:
    """Arguments of this model beside those that all models have."""
    parser.add_argument(
        "--cell", choices=["fused", "unrolled"], default="fused",
        help="the layer that is one kernel call, or the cell written out (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--live", action="store_true", help="draw the document's figure while training"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, test on a fresh series, and write figures and metrics."""
    with start("echo_rnn", __doc__, argv, options, steps=STEPS, smoke_steps=SMOKE_STEPS) as run:
        screen = _plots.LiveWindow("echo_rnn", height=5.6) if run.args.live else None
        model = EchoRNN(run.generator("network"))
        forward = model if run.args.cell == "fused" else model.unrolled
        optimizer = optim.Adagrad(model.parameters(), lr=RATE)
        random_bits = run.generator("bits")
        losses = np.zeros(run.args.steps)
        first_losses = []  # of every single target, in the first window of each epoch

        run.keep(model=model, optimizer=optimizer, losses=losses, first_losses=first_losses)
        state, all_bits, all_echo = run.carried(None, None, None)
        for step in run.steps():
            epoch, window = divmod(step, WINDOWS)
            if window == 0:
                all_bits, all_echo = series(random_bits)  # (10000, 5, ...)
                state = None  # zeros
            at = slice(window * WINDOW, (window + 1) * WINDOW)
            bits, echo = all_bits[at], all_echo[at]  # (15, 5, 1) and (15, 5)

            logits, state = forward(bits, state)
            loss = mg.cross_entropy(logits, echo)  # mean over 15 x 5
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state = state.detach()  # carried on; gradients stop here
            run.carry(state, all_bits, all_echo)
            losses[step] = loss.item()
            run.note(loss=losses[step])

            if window == 0:
                with run.untimed():
                    each = mg.cross_entropy(logits.detach(), echo, reduction="none")
                    first_losses.append(each.numpy())
                    if step and epoch % REPORT == 0:
                        recent = losses[step - WINDOWS : step].mean()
                        run.say(f"epoch {epoch}: mean loss {recent:.5f}; new data")
            if screen is not None and window % DRAW == 0:
                with run.untimed():
                    screen.draw(paint_echo, losses[: step + 1], bits, echo, logits)

        losses = losses[: run.steps_done]
        wrong, judged = wrong_bits(model, run.generator("fresh bits"))
        last_epoch = losses[-WINDOWS:].mean()
        run.say(
            f"mean loss of the last {len(losses[-WINDOWS:])} windows {last_epoch:.5f} "
            f"(TensorFlow after {EPOCHS} epochs: {TENSORFLOW})"
        )
        run.say(f"fresh series: {judged - wrong:,} of {judged:,} bits right")
        carried, detached = (
            reach(model, run.generator("fresh bits"), detached) for detached in (False, True)
        )
        figure = _plots.new_figure("", height=5.6)
        paint_echo(figure, losses, bits, echo, logits)
        run.finish(
            "accuracy", 1 - wrong / judged,
            {
                "echo": figure,
                "spikes": spikes_figure(losses, np.array(first_losses)),
                "reach": reach_figure(carried, detached),
            },
            wrong_bits=wrong, last_epoch_loss=last_epoch,
            gradient_before_window=detached[:, :WINDOW].max(), cell=run.args.cell,
        )  # fmt: skip
        if screen is not None and not run.interrupted:
            screen.wait()


if __name__ == "__main__":
    main()
