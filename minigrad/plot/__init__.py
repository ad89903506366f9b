"""Pictures of what :mod:`minigrad.watch` recorded.

    gradient_flow         heat maps: gradients by time step and training step, for each layer
    flows_side_by_side    gradients through time in several models: who vanishes, who explodes
    truncated_series      gradients along a series cut into windows, and where they stop
    saturation            heat maps: gates stuck at one of their ends
    clip_timeline         norms before and after clipping, over the loss curve
    loss_curve, perplexity
    memory                bytes kept for the backward pass, by time step and by op
    alignments            heat maps of attention: what was read against what was written
    beam_tree             what beam search kept and dropped, and where its best answer looked
    unrolled_graph        the graph of a few time steps, with shapes and gradient norms

Each function returns a matplotlib Figure, 1200 pixels wide or more, which a notebook shows by
itself and :func:`save` writes as PNG or SVG.  Neither a display nor pyplot is needed, and
matplotlib is imported when the first picture is drawn.  Every picture has a title that says
what was found; ``title=`` puts another one in its place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError, DTypeError
from ..files import replacing
from . import _canvas
from .clipping import clip_timeline
from .decoding import Alignment, alignments, beam_tree
from .flow import flows_side_by_side, gradient_flow, truncated_series
from .gates import saturation
from .graph import unrolled_graph
from .kept import memory
from .learning import loss_curve, perplexity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Alignment", "alignments", "beam_tree", "clip_timeline", "flows_side_by_side",
    "gradient_flow", "loss_curve", "memory", "perplexity", "saturation", "save",
    "truncated_series", "unrolled_graph",
]  # fmt: skip


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG or SVG; whatever was at ``path`` is replaced whole, or not at all.

    Raises ArgumentError unless the name ends in .png or .svg, OSError if it cannot be written.

    >>> import os, tempfile
    >>> from minigrad import plot
    >>> figure = plot.loss_curve([0, 1, 2], [2.0, 1.5, 1.2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot.save(figure, f"{folder}/loss.svg")
    ...     names = os.listdir(folder)
    >>> names
    ['loss.svg']
    """
    if not isinstance(path, (str, os.PathLike)):
        raise DTypeError(f"plot.save: path must be a str or a path, not {type(path).__name__}")
    if not hasattr(figure, "savefig"):
        raise DTypeError(f"plot.save: expects a figure, got {type(figure).__name__}")
    kind = Path(path).suffix.lower()
    if kind not in (".png", ".svg"):
        raise ArgumentError(
            f"plot.save: the name must end in .png or .svg, got {os.fspath(path)!r}"
        )
    content = _canvas.content(figure, kind[1:])
    with replacing(path) as file:
        file.write(content)
