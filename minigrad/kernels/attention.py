"""Attention by products: how well queries fit keys, and the average of values it makes.

    s_j = query . key_j          for the places j of a row before its end
    a   = softmax(s)             0 past the end
    context = sum of a_j value_j

Rows of the batch do not meet, so ranges of them are what the threads share.  S places of a
memory, A numbers of a key, M of a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import elementary
from .inner import inner
from .registry import FASTMATH, kernel


def attend_forward_twin(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, ends: np.ndarray,
    context: np.ndarray, alignment: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Contexts and alignments for batch rows start to stop.

    query: (N, T, A); keys: (N, S, A); values: (N, S, M); ends: (N,) int64 in [1, S].
    context: (N, T, M) and alignment: (N, T, S), written.
    """
    for n in range(start, stop):
        end = ends[n]
        scores = query[n] @ keys[n, :end].T  # (T, end)
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        alignment[n] = 0
        alignment[n, :, :end] = e / e.sum(axis=1, keepdims=True)
        context[n] = alignment[n, :, :end] @ values[n, :end]


def attend_backward_twin(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, ends: np.ndarray,
    alignment: np.ndarray, d_context: np.ndarray, d_alignment: np.ndarray, d_query: np.ndarray,
    d_keys: np.ndarray, d_values: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Gradients of the three for batch rows start to stop.

    d_context: (N, T, M); d_alignment: (N, T, S); others as above.
    d_query: (N, T, A), d_keys: (N, S, A), d_values: (N, S, M), written; zeros past the ends.
    """
    for n in range(start, stop):
        end = ends[n]
        a = alignment[n, :, :end]
        d_a = d_context[n] @ values[n, :end].T + d_alignment[n, :, :end]
        d_scores = a * (d_a - (a * d_a).sum(axis=1, keepdims=True))
        d_query[n] = d_scores @ keys[n, :end]
        d_keys[n], d_values[n] = 0, 0
        d_keys[n, :end] = d_scores.T @ query[n]
        d_values[n, :end] = a.T @ d_context[n]


@inner(fastmath=FASTMATH, error_model="numpy")
def _dot(x: Any, y: Any) -> Any:
    """Sum of x y; neither is empty."""
    total = x[0] * y[0]
    for k in range(x.size - 1):
        total += x[k + 1] * y[k + 1]
    return total


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_scaled(factor: Any, x: Any, y: Any) -> None:
    """y += factor x."""
    for k in range(y.size):
        y[k] += factor * x[k]


@kernel(twin=attend_forward_twin, outputs=("context", "alignment"), fastmath=FASTMATH)
def attend_forward(
    query: Any, keys: Any, values: Any, ends: Any, context: Any, alignment: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    for n in range(start, stop):
        end = ends[n]
        for t in range(query.shape[1]):
            a = alignment[n, t]
            top = _dot(query[n, t], keys[n, 0])
            a[0] = top
            for s in range(1, end):
                a[s] = _dot(query[n, t], keys[n, s])
                top = max(top, a[s])
            total = a.dtype.type(0)
            for s in range(end):
                a[s] = elementary.exp(a[s] - top)
                total += a[s]
            context[n, t, :] = 0
            for s in range(end):
                a[s] /= total
                _add_scaled(a[s], values[n, s], context[n, t])
            a[end:] = 0


@kernel(twin=attend_backward_twin, outputs=("d_query", "d_keys", "d_values"), fastmath=FASTMATH)
def attend_backward(
    query: Any, keys: Any, values: Any, ends: Any, alignment: Any, d_context: Any,
    d_alignment: Any, d_query: Any, d_keys: Any, d_values: Any, start: int, stop: int,
) -> None:  # fmt: skip
    d_a = np.empty(keys.shape[1], keys.dtype)
    for n in range(start, stop):
        end = ends[n]
        d_keys[n, :, :] = 0
        d_values[n, :, :] = 0
        for t in range(query.shape[1]):
            a, g = alignment[n, t], d_context[n, t]
            mean = a.dtype.type(0)
            for s in range(end):
                d_a[s] = _dot(g, values[n, s]) + d_alignment[n, t, s]
                mean += a[s] * d_a[s]
            d_query[n, t, :] = 0
            for s in range(end):
                d_score = a[s] * (d_a[s] - mean)
                _add_scaled(d_score, keys[n, s], d_query[n, t])
                _add_scaled(d_score, query[n, t], d_keys[n, s])
                _add_scaled(a[s], g, d_values[n, s])
