"""Sequences of different lengths, each one turned around."""

from __future__ import annotations

from typing import Any

import numpy as np


def reverse_sequence(x: Any, lengths: Any = None) -> Any:
    """Each sequence in reverse order, within its own length; what follows stays where it is.

    x: (T, N, ...), time first; lengths: (N,) integers in [0, T], or None: all T.
    TensorFlow's ``reverse_sequence``.  Doing it twice gives x again, so the gradient does it too.
    """
    if lengths is None:
        return np.flip(x, 0), lambda g: np.flip(g, 0)
    step = np.arange(x.shape[0])[:, None]
    source = np.where(step < lengths, lengths - 1 - step, step)  # (T, N)
    index = (source, np.arange(x.shape[1]))
    return x[index], lambda g: g[index]
