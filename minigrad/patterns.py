"""Warnings about losses that are put together in a way that trains badly, seen in the graph.

Three mistakes of many tutorials: a softmax before a loss that takes one itself, the logarithm
of a softmax, and relu on the logits.  Nothing is guessed from values: a tensor knows the op
that made it, and ops that only move numbers are looked through.  Where nothing is wrong that
costs one look at an attribute.

Each is a :class:`minigrad.errors.PatternWarning`, shown once for each place of the program;
the ``warnings`` module silences it or makes an error of it, as it does for any other.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from typing import Any

import numpy as np

from . import ops
from .errors import PatternWarning
from .nodes import Node, call_site, spell_site

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

# They move numbers and change none.
_MOVES = {
    ops.astype, ops.broadcast_to, ops.flip, ops.getitem, ops.identity, ops.reshape, ops.split,
    ops.transpose, ops.unstack,
}  # fmt: skip
_OF_LOGITS = {*_MOVES, ops.relu, ops.softmax}
_OF_LOG = {*_MOVES, ops.softmax}


def look_at_logits(logits: Any) -> None:
    """Warn if what a softmax cross-entropy was given comes out of a softmax or a relu.

    logits: (..., V), a tensor, array or anything.  A softmax counts only if its rows, whole,
    are the rows of the logits.
    """
    node = getattr(logits, "node", None)
    if node is None or node.op not in _OF_LOGITS:
        return
    source, rows = _source(logits)
    if source is None:
        return
    made = spell_site(source.site)
    if source.op is ops.softmax and rows and _argument(source, 1, "axis", -1) in (
        -1, len(source.outputs[0][0]) - 1
    ):  # fmt: skip
        classes = logits.shape[-1]
        top = math.e / (math.e + classes - 1)
        _warn(
            f"softmax twice: cross_entropy (at {_here()}) takes the softmax of its logits, and was "
            f"given the output of a softmax (made at {made}). Numbers between 0 and 1 make poor "
            f"logits: with {classes} classes the second softmax gives the true one {top:.3g} at "
            f"most, the loss of a row cannot fall below {-math.log(top):.3g}, and gradients are "
            "small. Give cross_entropy what goes into the softmax."
        )
    elif source.op is ops.relu:
        _warn(
            f"relu on logits: cross_entropy (at {_here()}) was given the output of a relu (made "
            f"at {made}). No logit can be negative, and where relu gives 0 no gradient passes: "
            "the logit of the true class, once below 0, is not raised again. Give cross_entropy "
            "what goes into the relu."
        )


def look_at_log(x: Any) -> None:
    """Warn if what a logarithm is taken of comes out of a softmax.  x: anything."""
    node = getattr(x, "node", None)
    if node is None or node.op not in _OF_LOG:
        return
    source, _ = _source(x)
    if source is not None and source.op is ops.softmax:
        _warn(
            f"log of softmax: log (at {_here()}) was given the output of a softmax (made at "
            f"{spell_site(source.site)}). A probability that underflows to 0 (in float32, a logit "
            "104 below the largest) has the logarithm -inf, and makes gradients nan; the "
            "logarithm of one close to 1 is inexact. Take log_softmax of what goes into the "
            "softmax, or give that to cross_entropy, which takes logits."
        )


def _source(x: Any) -> tuple[Node | None, bool]:
    """The call whose numbers x holds, and whether rows (the last axis) are still whole.

    None if that is not known any more: a backward pass has freed the way to it.
    """
    rows = True
    node = x.node
    while node is not None and node.op in _MOVES:
        if not node.args:
            return None, False
        before = node.args[0]
        rows = rows and _keeps_rows(node, before.shape, node.outputs[x.slot][0])
        x, node = before, getattr(before, "node", None)
    return (node if node is not None and node.args else None), rows


def _argument(node: Node, place: int, name: str, default: Any = None) -> Any:
    """What an op was given by place or by name."""
    return node.args[place] if len(node.args) > place else node.params.get(name, default)


def _keeps_rows(node: Node, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether every row of a moved array, along its last axis, was a row of the array."""
    op, last = node.op, len(before) - 1
    if op in (ops.identity, ops.astype, ops.flip):
        return True
    if not before or not after or before[-1] != after[-1]:
        return False
    if op is ops.transpose:
        axes = _argument(node, 1, "axes")
        return last == 0 if axes is None else axes[-1] in (-1, last)
    if op is ops.split:
        return _argument(node, 2, "axis", 0) not in (-1, last)
    if op is ops.unstack:
        return _argument(node, 1, "axis", 0) not in (-1, last)
    if op is ops.getitem:
        index = _argument(node, 1, "index")
        parts = index if isinstance(index, tuple) else (index,)
        to_the_end = any(part is Ellipsis for part in parts[:-1])
        if to_the_end or sum(_axes_of(part) for part in parts) > last:
            return isinstance(parts[-1], slice) and parts[-1] == slice(None)
    return True  # reshape, broadcast_to


def _axes_of(part: Any) -> int:
    """How many axes one part of an index stands for."""
    if part is None or part is Ellipsis:
        return 0
    array = np.asarray(part) if isinstance(part, (list, np.ndarray)) else None
    return array.ndim if array is not None and array.dtype == bool else 1


def _here() -> str:
    return spell_site(call_site())


def _warn(message: str) -> None:
    """Warn at the innermost place outside minigrad."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, PatternWarning, stacklevel=level)
