"""Products: matmul and einsum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, ShapeError
from ..recording import cannot_repeat, contiguous, repeatable, reshaped, summed

_GRAIN = 1 << 19  # multiply-adds below which a range of rows is not worth a thread
_NARROW = 64  # bytes in a row of the result: what one block of the narrow product holds
_SMALL = 2048  # multiply-adds that the tile would take longer to prepare than to do
_COLUMNS = 1 << 17  # numbers below which adding up columns is not worth a thread
_GROUP = 32  # columns that one thread computes together
# What a thread copies into panels for itself must serve so many rows, or columns, of the result.
_ROWS_AT_ONCE, _COLUMNS_AT_ONCE = 256, 128
_NO_BIAS = {np.dtype(kind): np.empty(0, kind) for kind in (np.float32, np.float64)}


def dot(x: Any, y: Any, bias: Any = None, sums: Any = None) -> Any:
    """x @ y + bias for matrices (M, K) and (K, P), and (P,) or None.

    sums: (P,), if the sums over the rows of y are to be written there on the way; only where
    :func:`_on_the_tile` says so.

    Floats go to the register tile, or to the kernels for results with few columns and for those
    that are small altogether.  It is as fast as BLAS for the products of these models,
    adds the bias on its way, and shares the threads of the other kernels: after a call of
    BLAS those of OpenBLAS spin for a while on the cores that the next kernel needs.
    """
    dtype = x.dtype
    if (
        type(x) is not np.ndarray or type(y) is not np.ndarray
        or y.dtype != dtype or dtype not in _NO_BIAS
        or (bias is not None and bias.dtype != dtype)
    ):  # fmt: skip
        cannot_repeat()
        return x @ y if bias is None else x @ y + bias
    (rows, depth), columns = x.shape, y.shape[1]
    none = _NO_BIAS[dtype]
    b = none if bias is None else contiguous(bias)
    sums = none if sums is None else sums
    z = np.empty((rows, columns), dtype)
    work = rows * depth * columns
    if columns * z.itemsize <= _NARROW:
        grain = _GRAIN // (depth * columns + 1) + 1
        kernels.run_rows(kernels.narrow_matmul, rows, grain, *_turned(x), *_turned(y), b, z)
        return z
    if work <= _SMALL:
        kernels.small_matmul(*_turned(x), *_turned(y), b, z)
        return z
    if work < 2 * _GRAIN:  # not worth a second thread, nor thinking about it
        kernels.matmul(*_turned(x), *_turned(y), b, z, sums, 0, 0, rows)
        return z
    group = _GROUP if rows < columns else 0  # threads share the longer side: they read less
    count = -(-columns // group) if group else rows
    least = _COLUMNS_AT_ONCE // group if group else _ROWS_AT_ONCE
    grain = max(min(least, count // 2), _GRAIN // (work // (count or 1) + 1) + 1)
    kernels.run_rows(kernels.matmul, count, grain, *_turned(x), *_turned(y), b, z, sums, group)
    return z


def _on_the_tile(x: Any, y: Any) -> bool:
    """Whether x @ y is a product that the kernel ``matmul`` makes."""
    dtype = x.dtype
    if type(x) is not np.ndarray or type(y) is not np.ndarray or y.dtype != dtype:
        return False
    columns = y.shape[1]
    return (
        dtype in _NO_BIAS
        and columns * dtype.itemsize > _NARROW
        and x.shape[0] * x.shape[1] * columns > _SMALL
    )


def of_weights(x: Any, g: Any) -> tuple[Any, Any]:
    """Gradients of the weights and the bias of x @ w + b, from that of the result.

    x: (N, K); g: (N, P).  Returns (K, P) and (P,): in one pass over g where there is much of it.
    """
    if not _on_the_tile(x.T, g):
        return dot(x.T, g), total(g)
    sums = np.empty(g.shape[1], g.dtype)
    return dot(x.T, g, None, sums), sums


def _turned(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """A C-contiguous matrix, and whether it is the transpose of ``x``."""
    flags = x.flags
    if flags.c_contiguous:
        return x, False
    if flags.f_contiguous:
        return x.T, True
    return contiguous(x), False


def total(x: Any) -> Any:
    """Sum over the rows of a matrix (N, P): the gradient of a bias that was added to each."""
    if type(x) is not np.ndarray or x.dtype not in _NO_BIAS or x.ndim != 2:
        return summed(x, 0)
    out = np.empty(x.shape[1], x.dtype)
    kernels.run_rows(kernels.sum_rows, len(out), _COLUMNS // (len(x) + 1) + 1, contiguous(x), out)
    return out


@repeatable
def matmul(x: Any, y: Any) -> Any:
    """x @ y for 1-D to N-D, as in NumPy.

    x: (..., M, K) or (K,); y: (..., K, P) or (K,).  Leading axes broadcast.
    Raises ShapeError if the inner sizes differ.

    >>> import minigrad as mg
    >>> mg.matmul(mg.ones(2, 3), mg.ones(3, 5)).shape
    (2, 5)
    """
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(
            f"matmul: both arguments need at least one axis, got shapes {x.shape} and "
            f"{y.shape}; for a product with a number use *"
        )
    inner = 0 if y.ndim == 1 else y.ndim - 2
    if x.shape[-1] != y.shape[inner]:
        raise ShapeError(
            f"matmul: the last axis of x has {x.shape[-1]} entries (x is {x.shape}) but axis "
            f"{inner} of y has {y.shape[inner]} (y is {y.shape}); they must be equal"
        )
    if x.ndim >= 2 and y.ndim == 2:  # (..., K) @ (K, P): one large product, not many small
        depth, columns = y.shape
        shape = x.shape
        count = math.prod(shape[:-1])
        flat = reshaped(x, (count, depth))

        flat_shape = count, columns
        return dot(flat, y).reshape(*shape[:-1], columns), (
            lambda g: dot(reshaped(g, flat_shape), y.T).reshape(shape),
            lambda g: dot(flat.T, reshaped(g, flat_shape)),
        )

    cannot_repeat()

    def dx(g: Any) -> Any:  # (..., M, P) @ (..., P, K); a 1-D factor is a row or a column
        if y.ndim == 1:
            return np.expand_dims(g, -1) * y
        if x.ndim == 1:
            return np.matmul(y, np.expand_dims(g, -1))[..., 0]
        return np.matmul(g, np.swapaxes(y, -1, -2))

    def dy(g: Any) -> Any:  # (..., K, M) @ (..., M, P)
        if x.ndim == 1:
            return np.expand_dims(x, -1) * np.expand_dims(g, -2) if y.ndim > 1 else g * x
        if y.ndim == 1:
            return x * np.expand_dims(g, -1)
        return np.matmul(np.swapaxes(x, -1, -2), g)

    return np.matmul(x, y), (dx, dy)


@repeatable
def linear(x: Any, w: Any, b: Any) -> Any:
    """x @ w + b in one op.

    x: (..., K); w: (K, P); b: (P,).  Raises ShapeError if they do not fit.

    >>> import minigrad as mg
    >>> mg.linear(mg.ones(2, 3), mg.ones(3, 1), mg.ones(1))
    tensor([[4.],
            [4.]])
    """
    if w.ndim != 2 or b.shape != w.shape[1:] or x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ShapeError(
            f"linear: x (..., K), w (K, P) and b (P,) do not fit: they are {x.shape}, {w.shape} "
            f"and {b.shape}"
        )
    shape = x.shape
    count, columns = math.prod(shape[:-1]), w.shape[1]
    flat = reshaped(x, (count, shape[-1]))
    flat_shape = count, columns

    def both(g: Any) -> Any:  # of w and of b
        return of_weights(flat, reshaped(g, flat_shape))

    return dot(flat, w, b).reshape(*shape[:-1], columns), (
        lambda g: dot(reshaped(g, flat_shape), w.T).reshape(shape),
        both,
        both,
    )


def einsum(*xs: Any, subscripts: str) -> Any:
    """Sum of products over named axes, in NumPy's notation (``"ij,jk->ik"``).

    xs: one array for each comma-separated term.  ``...`` is allowed; a letter twice in one
    term (a diagonal) is not: take the diagonal by indexing first.
    Raises ArgumentError for a malformed or unsupported ``subscripts``.
    """
    terms, result = _parse_einsum(subscripts, [x.ndim for x in xs])
    y = np.einsum(",".join(terms) + "->" + result, *xs)

    def vjp_for(i: int) -> Any:
        def dx(g: Any) -> Any:
            others = [x for j, x in enumerate(xs) if j != i]
            names = [result] + [term for j, term in enumerate(terms) if j != i]
            present = "".join(c for c in terms[i] if c in "".join(names))
            part = np.einsum(",".join(names) + "->" + present, g, *others)
            # along an axis that only this term has, or that is 1 in all others, each entry
            # gets the same
            sizes = dict(zip(present, part.shape))
            part = np.reshape(part, tuple(sizes.get(c, 1) for c in terms[i]))
            full = tuple(
                n if sizes.get(c, 1) == 1 else sizes[c] for c, n in zip(terms[i], xs[i].shape)
            )
            return np.broadcast_to(part, full)

        return dx

    return y, tuple(vjp_for(i) for i in range(len(xs)))


def _parse_einsum(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """Terms and result with every axis named by one letter, ``...`` written out."""
    text = subscripts.replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ArgumentError(
            f"einsum: {subscripts!r} names {len(terms)} terms but {len(ndims)} tensors were given"
        )
    spare = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in text]
    widest = 0
    for i, (term, ndim) in enumerate(zip(terms, ndims)):
        if "..." in term:
            count = ndim - len(term.replace("...", ""))
            widest = widest if widest > count else count
            if count < 0:
                raise ArgumentError(f"einsum: term {term!r} has more axes than its {ndim}-d tensor")
            terms[i] = term.replace("...", "".join(reversed(spare[:count])))
        if len(terms[i]) != ndim:
            raise ArgumentError(
                f"einsum: term {term!r} names {len(terms[i])} axes of a {ndim}-d tensor"
            )
        if len(set(terms[i])) != len(terms[i]):
            raise ArgumentError(
                f"einsum: term {term!r} uses a letter twice; take the diagonal by indexing first"
            )
    dots = "".join(reversed(spare[:widest]))
    if not arrow:  # implicit: letters seen once, in alphabetical order, after the dots
        letters = "".join(terms)
        once = (c for c in set(letters) if letters.count(c) == 1 and c not in dots)
        result = "..." + "".join(sorted(once))
    return terms, result.replace("...", dots)
