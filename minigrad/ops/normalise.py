"""Layer norm and batch norm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, DTypeError, InplaceError, ShapeError
from ..recording import contiguous, do, repeatable
from ._call import composed_as

_GRAIN = 1 << 14  # numbers below which a range of rows is not worth a thread
_BLOCK = 1 << 13  # numbers that fit into the first cache: sums are taken by such blocks of rows
_WIDE = 256  # numbers that a row should have to be worth a loop of its own


def _check(op: str, x: Any, gamma: Any, beta: Any, epsilon: float) -> None:
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise DTypeError(f"{op}: x must be float32 or float64, got {x.dtype}")
    for name, other in (("gamma", gamma), ("beta", beta)):
        if other.dtype != x.dtype:
            raise DTypeError(f"{op}: x is {x.dtype} but {name} is {other.dtype}")
    if gamma.shape != beta.shape:
        raise ShapeError(f"{op}: gamma is {gamma.shape} but beta is {beta.shape}")
    if not epsilon >= 0:
        raise ArgumentError(f"{op}: epsilon must not be negative, got {epsilon}")


def _blocks(rows: int, width: int) -> tuple[int, int]:
    """How many blocks of how many rows: from the shape alone, and not from the threads."""
    size = min(max(_BLOCK // max(width, 1), 1), 256)
    return -(-rows // size), size


def _vjp(g: Any, normal: Any, factor: Any, gamma: Any, axes: tuple[int, ...]) -> Any:
    """dL/dx through a normalisation over ``axes``, from NumPy functions."""
    dn = g * gamma
    along = np.mean(dn * normal, axis=axes, keepdims=True)
    return factor * (dn - np.mean(dn, axis=axes, keepdims=True) - along * normal)


def _composed(x: Any, gamma: Any, beta: Any, epsilon: float, axes: tuple[int, ...]) -> Any:
    """Either of the two from NumPy functions, for second derivatives."""
    centred = x - np.mean(x, axis=axes, keepdims=True)
    factor = 1.0 / np.sqrt(np.mean(centred * centred, axis=axes, keepdims=True) + epsilon)
    normal = centred * factor
    vjp = lambda g: _vjp(g, normal, factor, gamma, axes), lambda g: g * normal, lambda g: g
    return normal * gamma + beta, vjp


def _composed_layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5) -> Any:
    return _composed(x, gamma, beta, epsilon, tuple(range(x.ndim - gamma.ndim, x.ndim)))


@repeatable
@composed_as(_composed_layer_norm)
def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5) -> Any:
    """gamma * (x - mean) / sqrt(var + epsilon) + beta, over the last axes (Ba et al. 2016).

    x: (..., D); gamma, beta: (D,), or of several axes: those are normalised over together.
    The variance is divided by the count.  Raises ShapeError, DTypeError, ArgumentError.

    >>> import minigrad as mg
    >>> mg.layer_norm(mg.tensor([[1.0, 3.0]]), mg.ones(2), mg.zeros(2)).numpy().round(3)
    array([[-1.,  1.]], dtype=float32)
    """
    _check("layer_norm", x, gamma, beta, epsilon)
    width, ndim = gamma.size, gamma.ndim
    if ndim == 0 or x.ndim < ndim or x.shape[-ndim:] != gamma.shape or not width:
        raise ShapeError(
            f"layer_norm: gamma is {gamma.shape}, so the last axes of x must be that (and not "
            f"empty), but x is {x.shape}"
        )
    flat, shape = contiguous(x).reshape(-1, width), x.shape
    rows, dtype = flat.shape[0], x.dtype
    gain, shift = contiguous(gamma).reshape(-1), contiguous(beta).reshape(-1)
    y, mean, factor = np.empty(shape, dtype), np.empty(rows, dtype), np.empty(rows, dtype)
    kernels.run_rows(
        kernels.layer_norm_forward, rows, _GRAIN // width, flat, gain, shift,
        dtype.type(epsilon), y.reshape(rows, width), mean, factor,
    )  # fmt: skip

    def vjp(g: Any) -> Any:
        blocks, size = _blocks(rows, width)
        dx, d_gamma, d_beta = np.empty(shape, dtype), np.empty_like(gain), np.empty_like(gain)
        parts = np.empty((2, blocks, width), dtype)
        kernels.run_rows(
            kernels.layer_norm_backward, blocks, _GRAIN // (size * width), flat, mean, factor,
            gain, contiguous(g).reshape(rows, width), size, dx.reshape(rows, width), *parts,
        )  # fmt: skip
        do(_sum_parts, parts[0], d_gamma)
        do(_sum_parts, parts[1], d_beta)
        return dx, d_gamma.reshape(gamma.shape), d_beta.reshape(gamma.shape)

    return y, vjp


def _sum_parts(parts: np.ndarray, total: np.ndarray) -> None:
    """Sum over blocks.  parts: (blocks, k * C); total: (C,)."""
    total[:] = parts.reshape(-1, total.size).sum(axis=0, dtype=np.float64)


def _composed_batch_norm(
    x: Any, gamma: Any, beta: Any, running_mean: Any = None, running_var: Any = None,
    training: bool = True, momentum: float = 0.1, epsilon: float = 1e-5,
) -> Any:  # fmt: skip
    if training:
        return _composed(x, gamma, beta, epsilon, tuple(range(x.ndim - 1)))
    factor = (1 / np.sqrt(running_var + epsilon)).astype(x.dtype)
    normal = (x - running_mean.astype(x.dtype)) * factor
    vjp = lambda g: g * (gamma * factor), lambda g: g * normal, lambda g: g
    return normal * gamma + beta, vjp


@repeatable
@composed_as(_composed_batch_norm)
def batch_norm(
    x: Any, gamma: Any, beta: Any, running_mean: Any = None, running_var: Any = None,
    training: bool = True, momentum: float = 0.1, epsilon: float = 1e-5,
) -> Any:  # fmt: skip
    """gamma * (x - mean) / sqrt(var + epsilon) + beta for each channel (Ioffe, Szegedy 2015).

    x: (..., C), channels last; gamma, beta: (C,).
    training: mean and variance are those of the batch, over all axes but the last, the
    variance divided by the count; otherwise they are ``running_mean`` and ``running_var``.
    running_mean, running_var: (C,) arrays or None.  In training they are changed in place:
    running = (1 - momentum) * running + momentum * batch, the variance here divided by
    count - 1, as in PyTorch and in TensorFlow's fused kernel.

    Raises ShapeError (in training also if there is only one value for each channel),
    DTypeError, ArgumentError.
    """
    _check("batch_norm", x, gamma, beta, epsilon)
    width = gamma.size
    if gamma.ndim != 1 or x.ndim < 2 or x.shape[-1] != width or not width:
        raise ShapeError(
            f"batch_norm: gamma is {gamma.shape}, so x must be (..., {width or 'C'}), channels "
            f"last, with at least one axis before them; x is {x.shape}"
        )
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None and np.shape(running) != gamma.shape:
            raise ShapeError(
                f"batch_norm: {name} is {np.shape(running)} but gamma is {gamma.shape}"
            )
        if running is None and not training:
            raise ArgumentError(f"batch_norm: training=False needs {name}")
        if training and running is not None and not running.flags.writeable:
            raise InplaceError(f"batch_norm: {name}, which training changes, is read-only")
    if not 0 <= momentum <= 1:
        raise ArgumentError(f"batch_norm: momentum must be in [0, 1], got {momentum}")
    count = math.prod(x.shape[:-1])
    if training and count < 2:
        raise ShapeError(
            f"batch_norm: x is {x.shape}, so that each channel has {count} value and no variance "
            "to divide by; train with larger batches, use layer_norm, or evaluate the model "
            "(model.eval()) if this is not training"
        )
    # short rows are handled several at a time, as one row of k * C
    fold = next((k for k in (16, 8, 4, 2) if k * width <= _WIDE and count % k == 0), 1)
    rows, wide, dtype, shape = count // fold, fold * width, x.dtype, x.shape
    flat = contiguous(x).reshape(rows, wide)
    # rows of k * C: the mean, the factor 1 / sqrt(var + epsilon), and gamma times it
    mean, factor, scale, shift = constants = np.empty((4, wide), dtype)
    blocks, size = _blocks(rows, wide)
    if training:
        moments, none = np.empty((2, blocks, wide), dtype), np.empty(0, dtype)
        kernels.run_rows(
            kernels.batch_moments, blocks, _GRAIN // (size * wide), flat, size, *moments
        )
        running = (none if r is None else r for r in (running_mean, running_var))
        kernels.batch_constants(
            moments, rows, size, float(epsilon), float(momentum), contiguous(gamma),
            contiguous(beta), constants, *running,
        )  # fmt: skip
    else:
        do(_take_running, running_mean, running_var, epsilon, gamma, beta, constants)
    y = np.empty(shape, dtype)
    grain = _GRAIN // wide
    kernels.run_rows(
        kernels.batch_norm_forward, rows, grain, flat, mean, scale, shift, y.reshape(rows, wide)
    )

    def vjp(g: Any) -> Any:
        g = contiguous(g).reshape(rows, wide)
        sums, slopes = np.empty((2, blocks, wide), dtype), np.empty((2, wide), dtype)
        kernels.run_rows(
            kernels.batch_sums, blocks, _GRAIN // (size * wide), flat, mean, g, size, *sums
        )
        d_gamma, d_beta, dx = np.empty(width, dtype), np.empty(width, dtype), np.empty(shape, dtype)
        held = count if training else 0
        kernels.batch_slopes(sums, constants, held, d_gamma, d_beta, slopes)
        kernels.run_rows(
            kernels.batch_norm_backward, rows, grain, flat, mean, g, scale, *slopes,
            dx.reshape(rows, wide),
        )  # fmt: skip
        return dx, d_gamma, d_beta

    return y, vjp


def _take_running(
    mean: Any, var: Any, epsilon: float, gamma: Any, beta: Any, constants: Any
) -> None:
    """What batch_constants makes of a batch, from a mean and a variance that are given."""
    factor = 1 / np.sqrt(np.asarray(var, np.float64) + epsilon)
    each = np.stack([mean, factor, gamma * factor, beta])
    constants.reshape(4, -1, gamma.size)[:] = each[:, None]
