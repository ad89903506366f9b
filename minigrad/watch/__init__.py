"""Recorders of what cannot be seen otherwise.

    GradientFlow    gradients on their way back through time, by layer and time step
    Saturation      gates that are stuck at one of their ends, by layer and time step
    ClipTimeline    norms before and after clipping, step by step
    memory          bytes that a pending graph keeps for its backward pass
    trace           the calls of a pending graph, with shapes and gradient norms

A recorder keeps numbers and hands them out as arrays; :mod:`minigrad.plot` draws them.
Nothing is computed for a recorder that was never attached.

    flows, clips = watch.GradientFlow.attach(model), watch.ClipTimeline()
    for step, window in enumerate(windows):
        flows.tag(step)
        loss = ...
        loss.backward()
        clips.record(step, loss.item(), clip_grad_norm_(parameters, 1.25))
    flows["lstm"].h                     # (records, T)
"""

from .clipping import ClipTimeline
from .flow import GradientFlow
from .kept import Memory, memory
from .layers import Recorders
from .saturation import LIMITS, Saturation
from .tracing import Call, Trace, trace

__all__ = [
    "Call", "ClipTimeline", "GradientFlow", "LIMITS", "Memory", "Recorders", "Saturation", "Trace",
    "memory", "trace",
]  # fmt: skip
