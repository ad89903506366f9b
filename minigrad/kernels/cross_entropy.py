"""Softmax cross-entropy, fused: no array of probabilities is ever stored.

Forward and backward are two passes, so that a loss that is only evaluated costs one.
Rows are weighted by the caller (1/N for a mean, 0 for an ignored row); a row of weight 0
is not looked at, whatever it contains.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from . import elementary
from .registry import FASTMATH, kernel


def cross_entropy_ids_twin(
    logits: np.ndarray, ids: np.ndarray, weight: np.ndarray, loss: np.ndarray,
    log_sum: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """loss_n = weight_n * (logsumexp(logits_n) - logits_n[ids_n]) for rows start to stop.

    logits: (N, V); ids: (N,) integers in [0, V) wherever weight is not 0;
    weight, loss, log_sum (the logsumexp, kept for backward): (N,).
    """
    for n in range(start, stop):
        loss[n] = log_sum[n] = 0
        if weight[n] != 0:
            top = np.max(logits[n])
            log_sum[n] = top + np.log(np.sum(np.exp(logits[n] - top)))
            loss[n] = weight[n] * (log_sum[n] - logits[n, ids[n]])


def cross_entropy_ids_backward_twin(
    logits: np.ndarray, ids: np.ndarray, scale: np.ndarray, log_sum: np.ndarray,
    d_logits: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """d_logits_n = scale_n * (softmax(logits_n) - onehot(ids_n)) for rows start to stop.

    logits, d_logits: (N, V); ids: (N,); scale: (N,), row weight times dL/dloss.
    """
    for n in range(start, stop):
        d_logits[n] = 0
        if scale[n] != 0:
            d_logits[n] = scale[n] * np.exp(logits[n] - log_sum[n])
            d_logits[n, ids[n]] -= scale[n]


def cross_entropy_probs_twin(
    logits: np.ndarray, target: np.ndarray, weight: np.ndarray, loss: np.ndarray,
    log_sum: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """loss_n = -weight_n * sum(target_n * log_softmax(logits_n)) for rows start to stop.

    logits, target: (N, V); weight, loss, log_sum: (N,).
    """
    for n in range(start, stop):
        loss[n] = log_sum[n] = 0
        if weight[n] != 0:
            top = np.max(logits[n])
            log_sum[n] = top + np.log(np.sum(np.exp(logits[n] - top)))
            loss[n] = weight[n] * np.sum(target[n] * (log_sum[n] - logits[n]))


def cross_entropy_probs_backward_twin(
    logits: np.ndarray, target: np.ndarray, scale: np.ndarray, log_sum: np.ndarray,
    d_logits: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """d_logits_n = scale_n * (sum(target_n) * softmax(logits_n) - target_n).

    logits, target, d_logits: (N, V); scale, log_sum: (N,).
    """
    for n in range(start, stop):
        d_logits[n] = 0
        if scale[n] != 0:
            p = np.exp(logits[n] - log_sum[n])
            d_logits[n] = scale[n] * (np.sum(target[n]) * p - target[n])


# The row being worked on is copied to scratch memory whose length is a multiple of _LANES,
# filled up with -inf (exp gives 0): loops over it are whole vectors, also for V = 27.
_LANES = 32


@numba.njit(nogil=True, error_model="numpy")
def _scratch(x: Any) -> Any:
    """Scratch for rows of ``x`` (N, V): row 0 for the row, row 1 for its running maxima."""
    size = (x.shape[1] + _LANES - 1) // _LANES * _LANES
    scratch = np.empty((2, size), x.dtype)
    scratch[0] = -np.inf
    return scratch


@numba.njit(nogil=True, error_model="numpy")
def _top(x: Any, lanes: Any) -> Any:
    """Largest entry of x (a multiple of _LANES long).  A NaN may be passed over here: it
    passes into the sum of exponentials."""
    for v in range(_LANES):
        lanes[v] = x[v]
    for first in range(_LANES, x.size, _LANES):
        block = x[first : first + _LANES]
        for v in range(_LANES):
            lanes[v] = block[v] if block[v] > lanes[v] else lanes[v]
    top = lanes[0]
    for v in range(_LANES):
        top = lanes[v] if lanes[v] > top else top
    return top


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _exp_row(x: Any, shift: Any) -> None:
    elementary.wide_vectors()
    for v in range(x.size):
        x[v] = elementary.exp(x[v] - shift)


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _log_sum(x: Any, scratch: Any) -> Any:
    """logsumexp of one row."""
    row = scratch[0]
    for v in range(x.size):
        row[v] = x[v]
    top = _top(row, scratch[1])
    _exp_row(row, top)
    total = row[0]
    for v in range(row.size - 1):
        total += row[v + 1]
    for v in range(x.size, row.size):
        row[v] = -np.inf
    return top + np.log(total)


@numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
def _scaled_softmax(x: Any, log_sum: Any, scale: Any, out: Any, scratch: Any) -> None:
    row = scratch[0]
    for v in range(x.size):
        row[v] = x[v]
    _exp_row(row, log_sum)
    for v in range(x.size):
        out[v] = scale * row[v]
    for v in range(x.size, row.size):
        row[v] = -np.inf


@kernel(twin=cross_entropy_ids_twin, outputs=("loss", "log_sum"), fastmath=FASTMATH)
def cross_entropy_ids(
    logits: Any, ids: Any, weight: Any, loss: Any, log_sum: Any, start: int, stop: int
) -> None:
    scratch = _scratch(logits)
    for n in range(start, stop):
        loss[n] = 0
        log_sum[n] = 0
        if weight[n] != 0:
            log_sum[n] = _log_sum(logits[n], scratch)
            loss[n] = weight[n] * (log_sum[n] - logits[n, ids[n]])


@kernel(twin=cross_entropy_ids_backward_twin, outputs=("d_logits",), fastmath=FASTMATH)
def cross_entropy_ids_backward(
    logits: Any, ids: Any, scale: Any, log_sum: Any, d_logits: Any, start: int, stop: int
) -> None:
    scratch = _scratch(logits)
    for n in range(start, stop):
        if scale[n] != 0:
            _scaled_softmax(logits[n], log_sum[n], scale[n], d_logits[n], scratch)
            d_logits[n, ids[n]] -= scale[n]
        else:
            d_logits[n] = 0


@kernel(twin=cross_entropy_probs_twin, outputs=("loss", "log_sum"), fastmath=FASTMATH)
def cross_entropy_probs(
    logits: Any, target: Any, weight: Any, loss: Any, log_sum: Any, start: int, stop: int
) -> None:
    scratch = _scratch(logits)
    for n in range(start, stop):
        loss[n] = 0
        log_sum[n] = 0
        if weight[n] != 0:
            log_sum[n] = _log_sum(logits[n], scratch)
            for v in range(logits.shape[1]):
                loss[n] += weight[n] * target[n, v] * (log_sum[n] - logits[n, v])


@kernel(twin=cross_entropy_probs_backward_twin, outputs=("d_logits",), fastmath=FASTMATH)
def cross_entropy_probs_backward(
    logits: Any, target: Any, scale: Any, log_sum: Any, d_logits: Any, start: int, stop: int
) -> None:
    scratch = _scratch(logits)
    for n in range(start, stop):
        if scale[n] != 0:
            mass = np.sum(target[n])
            _scaled_softmax(logits[n], log_sum[n], mass, d_logits[n], scratch)
            for v in range(logits.shape[1]):
                d_logits[n, v] = scale[n] * (d_logits[n, v] - target[n, v])
        else:
            d_logits[n] = 0
