"""Two steps of a recurrent network by hand: forward, and then back through time.

Document: "TensorFlow RNN primer" (2017), section on forward propagation.

A network with a state of two numbers reads x_1 = 1 and x_2 = 2.  At each step

    z_t = x_t w_x + h_{t-1} w_h + b        before the activation, (2,)
    h_t = tanh(z_t)                        the new state, (2,)
    o_t = h_t w_out + b_out                the output, one number

The document computes that in NumPy, with weights chosen by hand, and prints every number.
Here the same numbers come three times: from NumPy, from the engine step by step, and from
its fused layer, all time steps in one kernel call.

Then what the document leaves out: the way back.  It says that the loss of a recurrent network
is the sum over all time steps, but has no labels; so L is the sum of the outputs.
* The gradient of h_1 has two parts: one from its own output o_1, and one that comes back
  from step 2 through w_h.  That second part is back-propagation through time.
* The weights are the same at every step, so their gradients are sums over the steps.  The
  program prints the summands: that of w_h is h_{t-1}^T dL/dz_t, nothing at all at step 1,
  because h_0 is zero.
* minigrad.testing.gradcheck compares all of it with central differences.

Nothing is trained and nothing is random: --seed has no effect, and --steps is how many time
steps there are, with inputs 1, 2, 3 and so on.  Larger inputs saturate tanh: with --steps 10
you can watch the gradient vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn, testing

from . import _plots
from ._run import start

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SMOKE_STEPS = 2, 2
W_X = np.array([[0.5, 0.6]])  # (D=1, H=2)
W_H = np.array([[0.1, 0.2], [0.3, 0.4]])  # (H, H)
BIAS = np.array([0.1, -0.1])  # (H,)
W_OUT = np.array([[1.0], [2.0]])  # (H, 1)
B_OUT = np.array([0.1])  # (1,)
DRAWN = 3  # time steps that the picture has room for


class Steps(NamedTuple):
    """What is computed at each of T time steps, or the gradients of all that."""

    x: list[Any]  # (1, 1) each
    z: list[Any]  # (1, 2)
    h: list[Any]  # (1, 2)
    o: list[Any]  # (1, 1)


class Network(nn.Module):
    """A recurrent cell of two units and a linear output, float64, with the weights above."""

    def __init__(self) -> None:
        overwritten = np.random.default_rng(0)
        self.cell = nn.RNNCell(1, 2, generator=overwritten)
        self.head = nn.Linear(2, 1, generator=overwritten)
        self.double()
        self.cell.load_state_dict({"w_x": W_X, "w_h": W_H, "bias": BIAS})
        self.head.load_state_dict({"weight": W_OUT, "bias": B_OUT})

    def forward(self, inputs: Any, h: Any) -> mg.Tensor:
        """inputs (T, 1), h (1, 2) -> outputs (T, 1): the cell, step by step."""
        outputs = []
        for t in range(len(inputs)):
            output, h = self.cell(inputs[t : t + 1], h)  # output and state are the same tensor
            outputs.append(self.head(output))
        return mg.concat(outputs)

    def fused(self, inputs: Any) -> mg.Tensor:
        """inputs (T, 1) -> outputs (T, 1): all time steps in one kernel call, from zeros."""
        layer = nn.RNN(1, 2, generator=np.random.default_rng(0)).double()
        layer.load_state_dict(self.cell.state_dict())  # of one kind, so of the same names
        outputs, _ = layer(inputs[None])  # (N=1, T, 2)
        return self.head(outputs[0])

    def written_out(self, inputs: np.ndarray) -> Steps:
        """inputs (T, 1): the formulas above, every number kept so that its gradient can be had."""
        steps = Steps([], [], [], [])
        h = mg.tensor(np.zeros((1, 2)))
        for value in inputs:
            x = mg.tensor(value[None], requires_grad=True)
            z = x @ self.cell.w_x + h @ self.cell.w_h + self.cell.bias
            h = mg.tanh(z)
            for kept, new in zip(steps, (x, z, h, self.head(h))):
                kept.append(new)
        return steps


def gradients(steps: Steps) -> Steps:
    """dL/d of everything in ``steps``, where L is the sum of the outputs."""
    flat = [tensor for kept in steps for tensor in kept]
    loss = mg.concat(steps.o).sum()
    found = iter(mg.grad(loss, flat, retain_graph=True))
    return Steps(*([next(found) for _ in kept] for kept in steps))


def main(argv: Sequence[str] | None = None) -> None:
    """Compute and print everything, check the gradients, draw the picture."""
    with start("numpy_forward", __doc__, argv, steps=STEPS, smoke_steps=SMOKE_STEPS) as run:
        inputs = np.arange(1.0, run.args.steps + 1)[:, None]  # (T, 1)

        run.say("Forward, in NumPy")
        outputs = []
        run.keep(outputs=outputs)
        h = run.carried(np.zeros(2))
        for t in run.steps():
            z = inputs[t] @ W_X + h @ W_H + BIAS
            h = run.carry(np.tanh(z))
            outputs.append(h @ W_OUT + B_OUT)
            run.say(f"  step {t + 1}: before activation {z}, state {h}, output {outputs[-1]}")
        inputs = inputs[: run.steps_done]  # fewer after Ctrl-C

        model = Network()
        run.say("The same through the engine")
        for name, again in [
            ("nn.RNNCell, step by step", model(inputs, mg.tensor(np.zeros((1, 2))))),
            ("nn.RNN, one kernel call", model.fused(inputs)),
        ]:
            apart = np.abs(again.numpy() - outputs).max()
            run.say(f"  {name}: last output {again[-1].numpy()}, largest difference {apart:.1g}")

        steps = model.written_out(inputs)
        slopes = gradients(steps)
        run.say("Backward from L, the sum of the outputs")
        for t in reversed(range(len(inputs))):
            d_h, d_z = slopes.h[t].numpy()[0], slopes.z[t].numpy()[0]
            run.say(f"  step {t + 1}: dL/dh {d_h}, dL/dz {d_z}")
        mg.concat(steps.o).sum().backward()
        w_h = model.cell.w_h.grad.numpy()
        run.say("The gradient of w_h is a sum over the steps")
        before = np.zeros((1, 2))
        for t in range(len(inputs)):
            part = before.T @ slopes.z[t].numpy()
            run.say(f"  step {t + 1}: {part[0]}, {part[1]}")
            before = steps.h[t].numpy()
        run.say(f"  backward(): {w_h[0]}, {w_h[1]}")

        testing.gradcheck(model, (inputs, np.zeros((1, 2))))
        run.say("All gradients agree with central differences.")
        run.finish(
            "last_output", float(outputs[-1][0]), {"unrolled": unrolled_figure(steps, slopes)},
            outputs=[float(output[0]) for output in outputs],
            gradients={name: p.grad for name, p in model.named_parameters()},
        )  # fmt: skip


# -- the picture ------------------------------------------------------------------------------


def unrolled_figure(steps: Steps, slopes: Steps) -> Figure:
    """The network unrolled over time: values (blue) go up and right, gradients (red) come back.

    Of more than three steps the first three are drawn.
    """
    from matplotlib.patches import FancyBboxPatch

    total = len(steps.x)
    shown = min(total, DRAWN)
    message = "Values go up and to the right (blue), gradients come back (red)"
    if total > 1:
        message += "\n$dL/dh_1$ = what its own output sends + what comes back through time"
    figure = _plots.new_figure(message, height=6.8)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-0.32, shown + 0.5)
    axes.set_ylim(-0.55, 4.3)
    wide, high = 0.27, 0.27  # half a box
    text: dict[str, Any] = {"va": "center", "fontsize": 9 if shown < 3 else 7.5}

    def box(x: float, y: float, name: str, *lines: tuple[Any, str]) -> None:
        frame(x - wide, x + wide, y, high)
        axes.text(x, y + 0.16, name, ha="center", fontweight="bold", **text)
        for height, (values, color) in zip((0, -0.16), lines):
            axes.text(x, y + height, _numbers(values), ha="center", color=color, **text)

    def frame(left: float, right: float, y: float, half: float) -> None:
        style = {"boxstyle": "round,pad=0,rounding_size=0.05", "fc": "#f4f4f4", "ec": _plots.GREY}
        axes.add_patch(FancyBboxPatch((left, y - half), right - left, 2 * half, **style))

    def edge(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
        """There in blue, back in red; returns the place in the middle."""
        side, up = (0.02, 0.0) if a[0] == b[0] else (0.0, 0.04)  # so that they lie side by side
        for (x0, y0), (x1, y1), color, way in ((a, b, _plots.BLUE, -1), (b, a, _plots.RED, 1)):
            arrow = {"arrowstyle": "-|>", "color": color, "lw": 1.5, "shrinkA": 0, "shrinkB": 0}
            start, end = (x0 + way * side, y0 + way * up), (x1 + way * side, y1 + way * up)
            axes.annotate("", end, start, arrowprops=arrow)
        return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2

    def beside(place: tuple[float, float], name: str, sent: Any) -> None:
        """Left of an edge what is applied on the way up, right of it the gradient sent back."""
        axes.text(place[0] - 0.05, place[1], name, ha="right", color=_plots.BLUE, **text)
        axes.text(place[0] + 0.06, place[1], _numbers(sent), ha="left", color=_plots.RED, **text)

    back_in_time = [slope.numpy() @ W_H.T for slope in slopes.z]  # (1, 2), to the state before
    box(0, 2, "$h_0$", (np.zeros(2), _plots.BLUE), (back_in_time[0], _plots.RED))
    for t in range(shown):
        x = t + 1.0
        for y, name, kept, back in zip(range(4), "xzho", steps, slopes):
            box(x, y, f"${name}_{t + 1}$", (kept[t], _plots.BLUE), (back[t], _plots.RED))
        beside(edge((x - 1 + wide, 1.9), (x - wide, 1.1)), "$w_h$", back_in_time[t])
        beside(edge((x, 2 + high), (x, 3 - high)), "$w_{out}$", slopes.o[t].numpy() @ W_OUT.T)
        beside(edge((x, 3 + high), (x, 4 - 0.14)), "", np.ones(1))
        for y, name in ((0, "$w_x$"), (1, "tanh")):
            place = edge((x, y + high), (x, y + 1 - high))
            axes.text(x + 0.06, place[1], name, ha="left", color=_plots.BLUE, **text)
    if total > shown:
        axes.text(shown + 0.35, 2, ". . .", ha="left", **text)
    frame(1 - wide, shown + wide, 4, 0.14)
    loss = f"L = sum of the outputs = {mg.concat(steps.o).sum().item():.4f}"
    axes.text((1 + shown) / 2, 4, loss, ha="center", fontweight="bold", **text)
    legend = (
        "in a box: the value (blue), the gradient of L with respect to it (red); "
        "beside an arrow: the gradient that it carries"
    )
    axes.text(-0.3, -0.48, legend, ha="left", color=_plots.GREY, **text)
    return figure


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in np.ravel(getattr(values, "array", values)))


if __name__ == "__main__":
    main()
