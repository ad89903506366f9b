"""Softmax cross-entropy, fused: no array of probabilities is ever stored.

Forward and backward are two passes, so that a loss that is only evaluated costs one.
Rows are weighted by the caller (1/N for a mean, 0 for an ignored row); a row of weight 0
is not looked at, whatever it contains.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import elementary
from .inner import inner
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


# Long rows have a loop of their own.  Short ones (V = 27, say) would not fill its vectors: there
# exponentials are taken for a block of rows at once, in scratch memory that fits into the
# first cache.
_LONG = 256
_FAR = 1e6  # a sum of exponentials that tells of an entry 14 above the shift, or of 1e6 at it
_BLOCK = 8192  # numbers
_LANES = 64


@inner(error_model="numpy")
def _top(x: Any) -> Any:
    """Largest entry.  A NaN may be passed over here: it passes into the sum of exponentials."""
    elementary.wide_vectors()
    top = x[0]
    whole = x.size - x.size % _LANES
    if whole:  # several maxima side by side, which vectors can hold
        lanes = x[:_LANES].copy()
        for first in range(_LANES, whole, _LANES):
            for v in range(_LANES):
                value = x[np.uintp(first) + np.uintp(v)]  # unsigned: an index that never wraps
                lanes[v] = value if value > lanes[v] else lanes[v]
        for v in range(_LANES):
            top = lanes[v] if lanes[v] > top else top
    for v in range(x.size - whole):
        top = x[whole + v] if x[whole + v] > top else top
    return top


@inner(fastmath=FASTMATH, error_model="numpy")
def _exp_all(x: Any) -> None:
    elementary.wide_vectors()
    for v in range(x.size):
        x[v] = elementary.exp(x[v])


@inner(fastmath=FASTMATH, error_model="numpy")
def _sum(x: Any) -> Any:
    total = x[0]
    for v in range(x.size - 1):
        total += x[v + 1]
    return total


@inner(fastmath=FASTMATH, error_model="numpy")
def _sum_of_exp(x: Any, shift: Any) -> Any:
    elementary.wide_vectors()
    total = x.dtype.type(0)
    for v in range(x.size):
        total += elementary.exp(x[v] - shift)
    return total


@inner(error_model="numpy")
def _log_sum_exp(x: Any) -> Any:
    """log(sum(exp(x))) of a long row.

    Any shift that is not far from the largest entry keeps sum and rounding small, and the
    first entry mostly is: finding the largest would take a pass of its own.
    """
    shift = x[0]
    total = _sum_of_exp(x, shift)
    if not total < _FAR:  # nor NaN
        shift = _top(x)
        total = _sum_of_exp(x, shift)
    return shift + np.log(total)


@inner(fastmath=FASTMATH, error_model="numpy")
def _exp_of(x: Any, shift: Any, factor: Any, out: Any) -> None:
    """out = factor * e ** (x - shift)."""
    elementary.wide_vectors()
    for v in range(x.size):
        out[v] = factor * elementary.exp(x[v] - shift)


@inner(error_model="numpy")
def _rows_at_once(classes: int) -> int:
    return max(1, _BLOCK // classes)


@inner(fastmath=FASTMATH, error_model="numpy")
def _less_top(
    logits: Any, weight: Any, first: int, rows: int, log_sum: Any, out: Any
) -> None:
    """log_sum = the largest entry of so many rows (0 where the weight is 0); out = rows - that.

    A NaN may be passed over: it passes into the sum of exponentials.
    """
    for r in range(rows):  # no slices: each would take as long as ten entries
        n = np.uintp(first + r)  # unsigned: an index that never wraps
        top = logits[n, 0]
        for v in range(1, out.shape[1]):
            top = logits[n, v] if logits[n, v] > top else top
        log_sum[n] = top if weight[n] != 0 else 0
        for v in range(out.shape[1]):
            out[r, v] = logits[n, v] - log_sum[n]


@inner(error_model="numpy")
def _log_sums(logits: Any, weight: Any, log_sum: Any, start: int, stop: int) -> None:
    """logsumexp of rows start to stop; 0 where the weight is 0."""
    classes = logits.shape[1]
    if classes >= _LONG:
        for n in range(start, stop):
            log_sum[n] = 0
            if weight[n] != 0:
                log_sum[n] = _log_sum_exp(logits[n])
        return
    step = _rows_at_once(classes)
    scratch = np.empty((step, classes), logits.dtype)
    for first in range(start, stop, step):
        rows = min(step, stop - first)
        _less_top(logits, weight, first, rows, log_sum, scratch)
        _exp_all(scratch[:rows].ravel())
        for r in range(rows):
            if weight[first + r] != 0:
                log_sum[first + r] += np.log(_sum(scratch[r]))


@inner(fastmath=FASTMATH, error_model="numpy")
def _softmax(logits: Any, log_sum: Any, out: Any, start: int, stop: int) -> None:
    """Probabilities of rows start to stop."""
    step = _rows_at_once(logits.shape[1])
    for first in range(start, stop, step):
        last = min(first + step, stop)
        for n in range(first, last):
            for v in range(logits.shape[1]):
                out[n, v] = logits[n, v] - log_sum[n]
        _exp_all(out[first:last].ravel())


@kernel(twin=cross_entropy_ids_twin, outputs=("loss", "log_sum"))
def cross_entropy_ids(
    logits: Any, ids: Any, weight: Any, loss: Any, log_sum: Any, start: int, stop: int
) -> None:
    _log_sums(logits, weight, log_sum, start, stop)
    for n in range(start, stop):
        loss[n] = 0
        if weight[n] != 0:
            loss[n] = weight[n] * (log_sum[n] - logits[n, ids[n]])


@kernel(twin=cross_entropy_ids_backward_twin, outputs=("d_logits",))
def cross_entropy_ids_backward(
    logits: Any, ids: Any, scale: Any, log_sum: Any, d_logits: Any, start: int, stop: int
) -> None:
    long = logits.shape[1] >= _LONG
    if not long:
        _softmax(logits, log_sum, d_logits, start, stop)
    for n in range(start, stop):
        if scale[n] != 0:
            if long:
                _exp_of(logits[n], log_sum[n], scale[n], d_logits[n])
            else:
                for v in range(logits.shape[1]):
                    d_logits[n, v] *= scale[n]
            d_logits[n, ids[n]] -= scale[n]
        else:
            d_logits[n] = 0


@inner(fastmath=FASTMATH, error_model="numpy")
def _expected(target: Any, log_sum: Any, logits: Any) -> Any:
    total = target[0] * (log_sum - logits[0])
    for v in range(target.size - 1):
        total += target[v + 1] * (log_sum - logits[v + 1])
    return total


@kernel(twin=cross_entropy_probs_twin, outputs=("loss", "log_sum"))
def cross_entropy_probs(
    logits: Any, target: Any, weight: Any, loss: Any, log_sum: Any, start: int, stop: int
) -> None:
    _log_sums(logits, weight, log_sum, start, stop)
    for n in range(start, stop):
        loss[n] = 0
        if weight[n] != 0:
            loss[n] = weight[n] * _expected(target[n], log_sum[n], logits[n])


@kernel(twin=cross_entropy_probs_backward_twin, outputs=("d_logits",))
def cross_entropy_probs_backward(
    logits: Any, target: Any, scale: Any, log_sum: Any, d_logits: Any, start: int, stop: int
) -> None:
    _softmax(logits, log_sum, d_logits, start, stop)
    for n in range(start, stop):
        if scale[n] != 0:
            mass = _sum(target[n])
            for v in range(logits.shape[1]):
                d_logits[n, v] = scale[n] * (mass * d_logits[n, v] - target[n, v])
        else:
            d_logits[n] = 0
