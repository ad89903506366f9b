"""Products and sums of matrices so small that preparing them would be the work.

The register tile (tile.py) packs panels and pads columns to the width of its registers; for a
few hundred multiply-adds that takes longer than they do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import FASTMATH, kernel

_LANES = 16  # partial sums, so that one addition need not wait for the one before


def small_matmul_twin(
    a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, bias: np.ndarray, c: np.ndarray
) -> None:
    """c = a @ b + bias.

    a: (M, K), or (K, M) if a_turned; b: (K, P), or (P, K) if b_turned; c: (M, P);
    bias: (P,), or (0,) for none.
    """
    product = (a.T if a_turned else a) @ (b.T if b_turned else b)
    c[:] = product + bias if bias.size else product


def _terms(a: np.ndarray, a_turned: bool, b: np.ndarray, b_turned: bool, *rest: Any) -> np.ndarray:
    """|a| @ |b|: what rounding of the product is relative to."""
    return np.abs(a.T if a_turned else a) @ np.abs(b.T if b_turned else b)


@kernel(twin=small_matmul_twin, outputs=("c",), fastmath=FASTMATH, magnitude=_terms)
def small_matmul(a: Any, a_turned: bool, b: Any, b_turned: bool, bias: Any, c: Any) -> None:
    rows, columns = c.shape
    depth = a.shape[0] if a_turned else a.shape[1]
    for i in range(rows):
        for j in range(columns):
            c[i, j] = bias[j] if bias.size else 0
        if b_turned:
            for j in range(columns):
                total = c[i, j]
                for k in range(depth):
                    total += (a[k, i] if a_turned else a[i, k]) * b[j, k]
                c[i, j] = total
        else:
            for k in range(depth):
                factor = a[k, i] if a_turned else a[i, k]
                for j in range(columns):
                    c[i, j] += factor * b[k, j]


def sum_all_twin(x: np.ndarray, out: np.ndarray) -> None:
    """out = the sum of all of x, added up in float64.  x: (n,); out: (1,)."""
    out[0] = x.sum(dtype=np.float64)


def _magnitudes(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    return np.abs(x).sum(keepdims=True)


@kernel(twin=sum_all_twin, outputs=("out",), magnitude=_magnitudes)
def sum_all(x: Any, out: Any) -> None:
    lanes = np.zeros(_LANES)
    whole = x.size - x.size % _LANES
    for i in range(0, whole, _LANES):
        for j in range(_LANES):
            lanes[j] += x[i + j]
    for j in range(x.size - whole):
        lanes[j] += x[whole + j]
    total = 0.0
    for j in range(_LANES):
        total += lanes[j]
    out[0] = total


def sum_rows_twin(x: np.ndarray, out: np.ndarray, start: int, stop: int) -> None:
    """out = sum over n of x[n], for columns start to stop.  x: (N, P); out: (P,)."""
    out[start:stop] = x[:, start:stop].sum(axis=0)


@kernel(twin=sum_rows_twin, outputs=("out",))
def sum_rows(x: Any, out: Any, start: int, stop: int) -> None:
    total = out[start:stop]
    total[:] = 0
    for n in range(x.shape[0]):
        row = x[n, start:stop]
        for k in range(row.size):
            total[k] += row[k]
