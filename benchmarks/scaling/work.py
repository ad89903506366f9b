"""A training step of any size, in minigrad and in PyTorch, as its worker holds it.

The step: an LSTM over x (T, N, D), a linear layer to one number on every output, the mean squared
error, backward, SGD.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import resident, timing

DEPTH = 32  # D, features in
RATE = 0.01
SEED = 4
MEMORY_STEPS = 3

Step = Callable[[], float]


class Work:
    """library: "minigrad" or "PyTorch"; N batch, T time, H hidden; threads of that library."""

    def __init__(self, library: str, batch: int, length: int, hidden: int, threads: int) -> None:
        rng = np.random.default_rng(SEED)
        self.x = rng.standard_normal((length, batch, DEPTH), dtype=np.float32)
        self.y = np.sin(self.x[:, :, :1])
        limit = 1 / np.sqrt(hidden)
        shapes = {"w_x": (DEPTH, 4 * hidden), "w_h": (hidden, 4 * hidden), "bias": (4 * hidden,),
                  "w": (hidden, 1), "b": (1,)}  # fmt: skip
        self.weights = {
            name: rng.uniform(-limit, limit, shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        self.make = {"minigrad": minigrad_step, "PyTorch": pytorch_step}[library]
        self.threads = threads
        self.step = self._fresh()

    def _fresh(self) -> Step:
        weights = {name: value.copy() for name, value in self.weights.items()}
        return self.make(weights, self.x, self.y, self.threads)

    def begin(self) -> dict[str, Any]:
        """Losses of three steps; memory of some more with new weights, in megabytes."""
        losses = [self.step() for _ in range(3)]

        def prepare() -> Callable[[], None]:
            self.step = self._fresh()
            return self._steps

        del self.step
        memory = resident.rise(prepare)
        return {"losses": losses, "memory": memory}

    def _steps(self) -> None:
        for _ in range(MEMORY_STEPS):
            self.step()

    def turn(self, seconds: float) -> float:
        """Median seconds of the steps of a turn."""
        return float(np.median(timing.one_turn(self.step, seconds, settle_calls=1, least_calls=2)))


def minigrad_step(
    weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, threads: int
) -> Step:
    """minigrad's fused layer."""
    import minigrad as mg
    from minigrad import nn, optim

    mg.set_num_threads(threads)
    rng = np.random.default_rng(0)
    hidden = len(weights["w"])
    lstm = nn.LSTM(DEPTH, hidden, forget_bias=0.0, time_major=True, generator=rng)
    head = nn.Linear(hidden, 1, generator=rng)
    lstm.load_state_dict({name: weights[name] for name in ("w_x", "w_h", "bias")})
    head.load_state_dict({"weight": weights["w"], "bias": weights["b"]})
    optimizer = optim.SGD([*lstm.parameters(), *head.parameters()], lr=RATE)

    def step() -> float:
        outputs, _ = lstm(x)
        loss = mg.mse_loss(head(outputs), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pytorch_step(
    weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, threads: int
) -> Step:
    """PyTorch eager: nn.LSTM (oneDNN's fused layer), fused SGD."""
    import torch
    from torch.nn.functional import mse_loss

    from benchmarks.peers import tools

    torch.set_num_threads(threads)
    lstm = tools.torch_lstm([(weights["w_x"], weights["w_h"], weights["bias"])], forget_bias=0.0)
    head = tools.torch_linear(weights["w"], weights["b"])
    parameters = [p for p in (*lstm.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=RATE, fused=True)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> float:
        outputs, _ = lstm(inputs)
        loss = mse_loss(head(outputs), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
