"""Attention by products, over all places of a memory at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, ShapeError
from ._call import first_order_only
from ._sequence import check_one_dtype, ends, grain


@first_order_only("Use matmul, where and softmax, which are simple ops.")
def attend(query: Any, keys: Any, values: Any, lengths: Any = None) -> Any:
    """softmax(query keys^T) values, over the places before the end of each memory.

    query: (N, T, A), or (N, A) for one step; keys: (N, S, A); values: (N, S, M); lengths: (N,)
    int64 in [1, S], or None: all S.
    Returns the contexts (N, T, M), and the alignments (N, T, S), zeros past the ends; without T
    for one step.
    Raises ShapeError, DTypeError or ArgumentError before anything is computed.
    """
    if query.ndim not in (2, 3) or keys.ndim != 3 or values.ndim != 3 or not (
        query.shape[0] == keys.shape[0] == values.shape[0]
        and query.shape[-1] == keys.shape[2]
        and keys.shape[1] == values.shape[1]
    ):  # fmt: skip
        raise ShapeError(
            "attend: query (N, T, A) or (N, A), keys (N, S, A) and values (N, S, M) do not fit: "
            f"they are {query.shape}, {keys.shape} and {values.shape}"
        )
    batch, depth = query.shape[0], query.shape[-1]
    steps = 1 if query.ndim == 2 else query.shape[1]
    lead = query.shape[:-1]
    places, size = values.shape[1:]
    if not (places and depth and size):
        raise ShapeError(
            f"attend: there is nothing to attend to: keys are {keys.shape}, values {values.shape}"
        )
    check_one_dtype("attend", query=query, keys=keys, values=values)
    stops = ends(lengths, places, batch)
    if stops.shape != (batch,) or (batch and not 1 <= stops.min() <= stops.max() <= places):
        raise ArgumentError(f"attend: lengths must be (N={batch},) in [1, S={places}], got {stops}")
    steps_of_query = query.reshape(batch, steps, depth)
    given = [np.ascontiguousarray(x) for x in (steps_of_query, keys, values)]
    context = np.empty((batch, steps, size), query.dtype)
    alignment = np.empty((batch, steps, places), query.dtype)
    worth = grain(steps * places * (depth + size))
    kernels.run_rows(kernels.attend_forward, batch, worth, *given, stops, context, alignment)

    def vjp(gs: Any) -> Any:
        d_context, d_alignment = (
            np.ascontiguousarray(g).reshape(batch, steps, g.shape[-1]) for g in gs
        )
        grads = [np.empty(x.shape, x.dtype) for x in given]
        kernels.run_rows(
            kernels.attend_backward, batch, worth // 2 + 1, *given, stops, alignment,
            d_context, d_alignment, *grads,
        )  # fmt: skip
        return grads[0].reshape(query.shape), grads[1], grads[2]

    return (context.reshape(*lead, size), alignment.reshape(*lead, places)), vjp
