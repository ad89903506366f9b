"""Optimisers, learning rate schedules and gradient clipping, in place on ndarrays.

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    schedule = optim.ExponentialDecay(optimizer, 0.1, 5000, staircase=True)
    for x, y in batches:
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        report = optim.clip_grad_norm_(model.parameters(), 1.25)
        optimizer.step()
        schedule.step()

The formulas are TensorFlow's, the names PyTorch's.  A parameter without a gradient is refused
by name before anything is changed; so is, by clipping, a gradient with a NaN or an infinity.
"""

from .clip import ClipReport, clip_each_grad_norm_, clip_grad_norm_, clip_grad_value_
from .optimizer import Optimizer
from .rules import SGD, Adadelta, Adagrad, Adam, Ftrl, Momentum, RMSProp
from .schedules import Cosine, ExponentialDecay, Schedule, StepLR, WarmUp

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "ClipReport", "Cosine", "ExponentialDecay", "Ftrl",
    "Momentum", "Optimizer", "RMSProp", "Schedule", "StepLR", "WarmUp", "clip_each_grad_norm_",
    "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip
