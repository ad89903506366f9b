"""Layer norm and batch norm: passes over the rows of a matrix, forward and back.

    y = gamma * (x - mean) / sqrt(var + epsilon) + beta

over each row (layer norm: Ba, Kiros and Hinton 2016) or over each column (batch norm: Ioffe
and Szegedy 2015).  Only means and factors 1 / sqrt(var + epsilon) are kept for the way back.

Sums over rows are taken by *blocks* of a fixed number of rows, whichever thread does them,
and added by the op: so their bits do not depend on the number of threads.  Squared deviations
are from the mean of the block, which is still in the cache, so that nothing cancels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .inner import inner
from .registry import FASTMATH, kernel


def layer_norm_forward_twin(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: Any, y: np.ndarray,
    mean: np.ndarray, factor: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Rows start to stop of x (N, D) with mean 0 and variance 1, times gamma (D,) plus beta.

    epsilon: added to variances, in the dtype of the others.
    y: (N, D); mean, factor: (N,), written: mean and 1 / sqrt(var + epsilon) of each row.
    """
    rows = slice(start, stop)
    mean[rows] = np.mean(x[rows], axis=1)
    factor[rows] = 1 / np.sqrt(np.var(x[rows], axis=1) + epsilon)
    y[rows] = (x[rows] - mean[rows, None]) * factor[rows, None] * gamma + beta


def layer_norm_backward_twin(
    x: np.ndarray, mean: np.ndarray, factor: np.ndarray, gamma: np.ndarray, g: np.ndarray,
    size: int, dx: np.ndarray, d_gamma: np.ndarray, d_beta: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Gradients from g = dL/dy (N, D), for blocks start to stop of ``size`` rows each.

    x, dx: (N, D); mean, factor: (N,).
    d_gamma, d_beta: (blocks, D), written: what each block contributes.
    """
    for block in range(start, stop):
        rows = slice(block * size, (block + 1) * size)
        normal = (x[rows] - mean[rows, None]) * factor[rows, None]
        dn = g[rows] * gamma
        along = np.mean(dn * normal, axis=1, keepdims=True)
        dx[rows] = factor[rows, None] * (dn - np.mean(dn, axis=1, keepdims=True) - along * normal)
        d_gamma[block] = np.sum(g[rows] * normal, axis=0)
        d_beta[block] = np.sum(g[rows], axis=0)


def batch_moments_twin(
    x: np.ndarray, size: int, mean: np.ndarray, spread: np.ndarray, start: int, stop: int
) -> None:
    """Mean and summed squared deviations of the columns, for blocks of ``size`` rows.

    x: (N, C); mean, spread: (blocks, C), rows start to stop are written.
    """
    for block in range(start, stop):
        rows = x[block * size : (block + 1) * size]
        mean[block] = np.mean(rows, axis=0)
        spread[block] = np.sum((rows - mean[block]) ** 2, axis=0)


def batch_constants_twin(
    moments: np.ndarray, rows: int, size: int, epsilon: float, momentum: float,
    gamma: np.ndarray, beta: np.ndarray, constants: np.ndarray, running_mean: np.ndarray,
    running_var: np.ndarray,
) -> None:  # fmt: skip
    """From the moments of blocks those of all ``rows`` rows, and what follows from them.

    moments: (2, blocks, k * C), from batch_moments; a row may hold k rows of C channels.
    gamma, beta: (C,).
    constants: (4, k * C), written: mean, 1 / sqrt(var + epsilon), gamma times that, and beta.
    running_mean, running_var: (C,), moved to the new ones by ``momentum``; no entries: left.
    Sums in float64, by the formula of Chan, Golub and LeVeque 1979.
    """
    blocks, channels = moments.shape[1], gamma.size
    counts = np.full((blocks, 1, 1), size, np.float64)
    counts[-1] = rows - (blocks - 1) * size
    means, spreads = moments.astype(np.float64).reshape(2, blocks, -1, channels)
    count = rows * means.shape[1]
    mean = np.sum(counts * means, axis=(0, 1)) / count
    spread = np.sum(spreads + counts * (means - mean) ** 2, axis=(0, 1))
    factor = 1 / np.sqrt(spread / count + epsilon)
    each = np.stack([mean, factor, gamma * factor, beta])
    constants.reshape(4, -1, channels)[:] = each[:, None]
    if running_mean.size:
        running_mean += momentum * (mean - running_mean)
    if running_var.size:
        running_var += momentum * (spread / (count - 1) - running_var)


def batch_norm_forward_twin(
    x: np.ndarray, mean: np.ndarray, scale: np.ndarray, beta: np.ndarray, y: np.ndarray,
    start: int, stop: int,
) -> None:  # fmt: skip
    """y = (x - mean) * scale + beta for rows start to stop.  x, y: (N, C); others: (C,)."""
    y[start:stop] = (x[start:stop] - mean) * scale + beta


def batch_sums_twin(
    x: np.ndarray, mean: np.ndarray, g: np.ndarray, size: int, total: np.ndarray,
    along: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """Sums of g and of g * (x - mean) down the columns, for blocks of ``size`` rows.

    x, g: (N, C); mean: (C,); total, along: (blocks, C), rows start to stop are written.
    """
    for block in range(start, stop):
        rows = slice(block * size, (block + 1) * size)
        total[block] = np.sum(g[rows], axis=0)
        along[block] = np.sum(g[rows] * (x[rows] - mean), axis=0)


def batch_slopes_twin(
    sums: np.ndarray, constants: np.ndarray, count: int, d_gamma: np.ndarray,
    d_beta: np.ndarray, slopes: np.ndarray,
) -> None:  # fmt: skip
    """Gradients of gamma and beta, and how mean and variance of the batch enter dL/dx.

    sums: (2, blocks, k * C), from batch_sums; constants: (4, k * C), from batch_constants.
    count: rows of C channels that mean and variance are of; 0 if they are from elsewhere.
    d_gamma, d_beta: (C,), written.
    slopes: (2, k * C), written: what to subtract for each x - mean, and for each number.
    """
    channels = d_gamma.size
    factor, scale = constants[1, :channels].astype(np.float64), constants[2, :channels]
    total, along = sums.reshape(2, -1, channels).sum(axis=1, dtype=np.float64)
    d_gamma[:] = along * factor
    d_beta[:] = total
    each = np.stack([scale * factor * factor * along, scale * total])
    slopes.reshape(2, -1, channels)[:] = each[:, None] / count if count else 0


def batch_norm_backward_twin(
    x: np.ndarray, mean: np.ndarray, g: np.ndarray, scale: np.ndarray, slope: np.ndarray,
    shift: np.ndarray, dx: np.ndarray, start: int, stop: int,
) -> None:  # fmt: skip
    """dx = g * scale - (x - mean) * slope - shift for rows start to stop.

    x, g, dx: (N, C); others: (C,), slope and shift from the sums over all rows.
    """
    rows = slice(start, stop)
    dx[rows] = g[rows] * scale - (x[rows] - mean) * slope - shift


# Loops over one row, or down one block, that touch few arrays: see loops.py.


@inner(fastmath=FASTMATH, error_model="numpy")
def _moments_of(x: Any, epsilon: Any) -> Any:
    """Mean and 1 / sqrt(var + epsilon) of a row."""
    one, size, first = x.dtype.type(1), x.dtype.type(x.size), x[0]
    total = x.dtype.type(0)
    for k in range(x.size):
        total += x[k] - first  # small, even if the mean is not
    mean = first + total / size
    squares = x.dtype.type(0)
    for k in range(x.size):
        squares += (x[k] - mean) * (x[k] - mean)
    return mean, one / np.sqrt(squares / size + epsilon)


@inner(fastmath=FASTMATH, error_model="numpy")
def _scaled(x: Any, mean: Any, factor: Any, gamma: Any, beta: Any, y: Any) -> None:
    for k in range(y.size):
        y[k] = (x[k] - mean) * factor * gamma[k] + beta[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def _times(x: Any, y: Any, z: Any) -> None:
    for k in range(z.size):
        z[k] = x[k] * y[k]  # rounded here, so that a row of one number gives exactly 0


@inner(fastmath=FASTMATH, error_model="numpy")
def _means_of(dn: Any, x: Any, mean: Any, factor: Any) -> Any:
    """Means over a row of dn, and of dn times the normalised x."""
    total, along, size = x.dtype.type(0), x.dtype.type(0), x.dtype.type(x.size)
    for k in range(x.size):
        total += dn[k]
        along += dn[k] * (x[k] - mean)
    return total / size, along * factor / size


@inner(fastmath=FASTMATH, error_model="numpy")
def _through(x: Any, mean: Any, factor: Any, total: Any, along: Any, dx: Any) -> None:
    """dx, which holds dn, becomes dL/dx."""
    for k in range(dx.size):
        dx[k] = factor * (dx[k] - total - along * (x[k] - mean) * factor)


@inner(fastmath=FASTMATH, error_model="numpy")
def _add(x: Any, total: Any) -> None:
    for k in range(total.size):
        total[k] += x[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_shifted(x: Any, shift: Any, total: Any) -> None:
    for k in range(total.size):
        total[k] += x[k] - shift[k]


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_products(x: Any, mean: Any, factor: Any, g: Any, total: Any) -> None:
    for k in range(total.size):
        total[k] += g[k] * ((x[k] - mean) * factor)


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_squares(x: Any, mean: Any, total: Any) -> None:
    for k in range(total.size):
        total[k] += (x[k] - mean[k]) * (x[k] - mean[k])


@inner(fastmath=FASTMATH, error_model="numpy")
def _add_centred(x: Any, mean: Any, g: Any, total: Any) -> None:
    for k in range(total.size):
        total[k] += g[k] * (x[k] - mean[k])


@kernel(
    twin=layer_norm_forward_twin, outputs=("y", "mean", "factor"), fastmath=FASTMATH
)
def layer_norm_forward(
    x: Any, gamma: Any, beta: Any, epsilon: Any, y: Any, mean: Any, factor: Any, start: int,
    stop: int,
) -> None:  # fmt: skip
    for n in range(start, stop):
        mean[n], factor[n] = _moments_of(x[n], epsilon)
        _scaled(x[n], mean[n], factor[n], gamma, beta, y[n])


@kernel(
    twin=layer_norm_backward_twin, outputs=("dx", "d_gamma", "d_beta"), fastmath=FASTMATH
)
def layer_norm_backward(
    x: Any, mean: Any, factor: Any, gamma: Any, g: Any, size: int, dx: Any, d_gamma: Any,
    d_beta: Any, start: int, stop: int,
) -> None:  # fmt: skip
    for block in range(start, stop):
        d_gamma[block] = 0
        d_beta[block] = 0
        for n in range(block * size, min((block + 1) * size, x.shape[0])):
            _times(g[n], gamma, dx[n])
            total, along = _means_of(dx[n], x[n], mean[n], factor[n])
            _through(x[n], mean[n], factor[n], total, along, dx[n])
            _add_products(x[n], mean[n], factor[n], g[n], d_gamma[block])
            _add(g[n], d_beta[block])


@kernel(twin=batch_moments_twin, outputs=("mean", "spread"), fastmath=FASTMATH)
def batch_moments(x: Any, size: int, mean: Any, spread: Any, start: int, stop: int) -> None:
    for block in range(start, stop):
        first, last = block * size, min((block + 1) * size, x.shape[0])
        mean[block] = 0
        spread[block] = 0
        for n in range(first, last):
            _add_shifted(x[n], x[first], mean[block])  # small, even if the means are not
        rows = x.dtype.type(last - first)
        for k in range(x.shape[1]):
            mean[block, k] = x[first, k] + mean[block, k] / rows
        for n in range(first, last):
            _add_squares(x[n], mean[block], spread[block])


@kernel(
    twin=batch_constants_twin, outputs=("constants", "running_mean", "running_var"),
    fastmath=FASTMATH,
)  # fmt: skip
def batch_constants(
    moments: Any, rows: int, size: int, epsilon: float, momentum: float, gamma: Any, beta: Any,
    constants: Any, running_mean: Any, running_var: Any,
) -> None:  # fmt: skip
    blocks, wide, channels = moments.shape[1], moments.shape[2], gamma.size
    count = rows * (wide // channels)
    mean, spread = np.zeros(channels), np.zeros(channels)
    for block in range(blocks):
        share = min(size, rows - block * size) / count
        for first in range(0, wide, channels):
            part = moments[0, block, first : first + channels]
            for c in range(channels):
                mean[c] += share * part[c]
    for block in range(blocks):
        held = float(min(size, rows - block * size))
        for first in range(0, wide, channels):
            part, squares = moments[0, block, first:], moments[1, block, first:]
            for c in range(channels):
                spread[c] += squares[c] + held * (part[c] - mean[c]) * (part[c] - mean[c])
    for k in range(wide):
        c = k % channels
        factor = 1 / np.sqrt(spread[c] / count + epsilon)
        constants[0, k], constants[1, k] = mean[c], factor
        constants[2, k], constants[3, k] = gamma[c] * factor, beta[c]
    for c in range(running_mean.size):
        running_mean[c] += momentum * (mean[c] - running_mean[c])
    for c in range(running_var.size):
        running_var[c] += momentum * (spread[c] / (count - 1) - running_var[c])


@kernel(twin=batch_norm_forward_twin, outputs=("y",), fastmath=FASTMATH)
def batch_norm_forward(
    x: Any, mean: Any, scale: Any, beta: Any, y: Any, start: int, stop: int
) -> None:
    for n in range(start, stop):
        row, out = x[n], y[n]
        for k in range(out.size):
            out[k] = (row[k] - mean[k]) * scale[k] + beta[k]


@kernel(twin=batch_sums_twin, outputs=("total", "along"), fastmath=FASTMATH)
def batch_sums(
    x: Any, mean: Any, g: Any, size: int, total: Any, along: Any, start: int, stop: int
) -> None:
    for block in range(start, stop):
        total[block] = 0
        along[block] = 0
        for n in range(block * size, min((block + 1) * size, x.shape[0])):
            _add(g[n], total[block])
            _add_centred(x[n], mean, g[n], along[block])


@kernel(
    twin=batch_slopes_twin, outputs=("d_gamma", "d_beta", "slopes"), fastmath=FASTMATH
)
def batch_slopes(
    sums: Any, constants: Any, count: int, d_gamma: Any, d_beta: Any, slopes: Any
) -> None:
    wide, channels = constants.shape[1], d_gamma.size
    total, along = np.zeros(channels), np.zeros(channels)
    for block in range(sums.shape[1]):
        for first in range(0, wide, channels):
            for c in range(channels):
                total[c] += sums[0, block, first + c]
                along[c] += sums[1, block, first + c]
    for c in range(channels):
        d_gamma[c] = along[c] * constants[1, c]
        d_beta[c] = total[c]
    for k in range(wide):
        c = k % channels
        share = constants[2, k] / count if count else 0.0
        slopes[0, k] = share * constants[1, k] * constants[1, k] * along[c]
        slopes[1, k] = share * total[c]


@kernel(twin=batch_norm_backward_twin, outputs=("dx",), fastmath=FASTMATH)
def batch_norm_backward(
    x: Any, mean: Any, g: Any, scale: Any, slope: Any, shift: Any, dx: Any, start: int, stop: int
) -> None:
    for n in range(start, stop):
        row, up, out = x[n], g[n], dx[n]
        for k in range(out.size):
            out[k] = up[k] * scale[k] - (row[k] - mean[k]) * slope[k] - shift[k]
