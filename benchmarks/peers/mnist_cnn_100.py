"""The step of mnist_cnn on 100 images at a time, as the other document has it."""

from __future__ import annotations

import functools

from . import mnist_cnn
from .mnist_cnn import JAX_THREADS, MAKERS, draw_weights

BATCH = 100
FLOPS = mnist_cnn.flops(BATCH)
TURN_SECONDS = 1.0
draw_batches = functools.partial(mnist_cnn.draw_batches, batch=BATCH)

__all__ = [
    "BATCH", "FLOPS", "JAX_THREADS", "MAKERS", "TURN_SECONDS", "draw_batches", "draw_weights",
]  # fmt: skip
