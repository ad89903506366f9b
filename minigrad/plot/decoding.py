"""How a decoder wrote: where it looked, and the beams it kept and dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, IndexRangeError, ShapeError
from . import _canvas
from ._canvas import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_STEPS = 24  # of a beam tree that can be read


class Alignment(NamedTuple):
    """One heat map of :func:`alignments`."""

    weights: Any  # (T, S), each row adds up to 1
    source: Sequence[Any]  # S signs that were read, longest first to be cut where padded
    output: Sequence[Any]  # T signs that were written
    name: str = ""


def alignments(
    panels: Sequence[Alignment | tuple[Any, ...]], *, columns: int = 3, title: str | None = None
) -> Figure:
    """Heat maps of attention: rows are what was written, columns what was read.

    panels: an Alignment, or its entries as a tuple, for each map.  Weights may be larger than
    source and output, where a batch was padded; the rest is cut off.
    columns: maps side by side.
    Raises ArgumentError if there are none, ShapeError if weights are too small.

    >>> import numpy as np
    >>> from minigrad import plot
    >>> weights = np.eye(3)
    >>> looked = plot.Alignment(weights, list('abc'), list('cba'))
    >>> figure = plot.alignments([looked])
    """
    maps = [_checked(i, Alignment(*panel)) for i, panel in enumerate(panels)]
    if not maps:
        raise ArgumentError("alignments: there is nothing to draw")
    if not isinstance(columns, int) or columns < 1:
        raise ArgumentError(f"alignments: columns must be a positive integer, got {columns!r}")
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    tallest = max(each.weights.shape[0] for each in maps)
    height = rows * min(max(1.2 + 0.15 * tallest, 2.6), 3.6) + 0.5
    figure = _canvas.new_figure(title or _sharpness(maps[-1]), height)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, each in zip(grid.flat, maps):
        image = heat_map(axes, each)
    for axes in grid.flat[len(maps) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("written, downwards")
    bar = figure.colorbar(image, ax=grid.ravel().tolist()[: len(maps)], shrink=0.7, pad=0.01)
    bar.set_label("attention weight")
    return figure


def heat_map(axes: Axes, each: Alignment) -> Any:
    """One map with its signs along both sides.  Returns the image, for a colour bar."""
    image = axes.imshow(each.weights, cmap="magma", vmin=0, vmax=1, aspect="auto")
    for axis, signs in ((axes.xaxis, each.source), (axes.yaxis, each.output)):
        crowded = len(signs) > 16
        axis.set_ticks(range(len(signs)), [str(sign) for sign in signs])
        axis.set_tick_params(length=0, labelsize=6.5 if crowded else 8)
    axes.set_title(each.name, fontsize=10)
    axes.set_xlabel("read")
    return image


def beam_tree(
    beams: Any, sequence: int = 0, *, source: Sequence[Any] | None = None,
    sign: Callable[[int], str] = str, eos: int | None = None, title: str | None = None,
) -> Figure:  # fmt: skip
    """The tree that beam search grew for one sequence, and where its best answer looked.

    Each column is a step and holds the beginnings that were kept, the best on top: the sign
    that was added and the score so far.  What is left in the end is coloured, the best in
    blue; what died out on the way is grey.

    beams: what :func:`minigrad.nn.seq2seq.beam_search` gives.  sequence: which of the batch.
    source: the signs that were read, for the heat map, which is drawn if there are alignments.
    sign: an id as text.  eos: its id; told apart from the others.
    Raises IndexRangeError for a sequence that is none, ArgumentError for a tree of more than 24
    steps, which nobody could read, and if alignments have no source.
    """
    count, width, _ = beams.ids.shape
    if not 0 <= sequence < count:
        raise IndexRangeError(
            f"beam_tree: sequence {sequence} is none of the {count} in these beams"
        )
    lengths = beams.lengths[sequence]  # (W,)
    steps = int(lengths.max())
    if steps > _MOST_STEPS:
        raise ArgumentError(
            f"beam_tree: {steps} steps are too many for a picture, which holds {_MOST_STEPS}"
        )
    looks = None
    if beams.alignments is not None:
        if source is None:
            raise ArgumentError("beam_tree: the beams have alignments; give source=, what was read")
        wrote = [sign(int(i)) for i in beams.ids[sequence, 0, : lengths[0]]]
        looks = _checked(
            0, Alignment(beams.alignments[sequence, 0], source, wrote, "where the best looked")
        )
    best, second = (_spelled(beams, sequence, rank, sign, eos) for rank in (0, min(1, width - 1)))
    chance = np.exp(beams.log_probs[sequence])
    message = f"Best: {best} ({_percent(chance[0])})"
    if width > 1:
        message += f"; next: {second} ({_percent(chance[1])})"
    wide = max(8.0, 0.62 * steps + (4.2 if looks else 1.2))
    figure = _canvas.new_figure(title or message, max(3.4, 0.75 * width + 1.4), wide)
    if looks is None:
        tree = figure.add_subplot()
    else:
        ratio = [max(0.62 * steps, 3.5), 3.2]
        tree, side = figure.subplots(1, 2, gridspec_kw={"width_ratios": ratio})
        image = heat_map(side, looks)
        side.set_ylabel("written, downwards")
        figure.colorbar(image, ax=side, pad=0.02).set_label("attention weight")
    _draw_tree(tree, beams.tree, sequence, steps, width, sign, eos)
    return figure


def _draw_tree(
    axes: Axes, tree: Any, n: int, steps: int, width: int, sign: Callable[[int], str],
    eos: int | None,
) -> None:  # fmt: skip
    """Columns of ranks, joined to what they grew out of."""
    ids, parents, scores, ended = (
        part[n, :steps] for part in (tree.ids, tree.parents, tree.scores, tree.ended)
    )
    owner = np.full((steps, width), width)  # best of the last ranks that grew out of a node
    owner[-1] = np.arange(width)
    for t in range(steps - 1, 0, -1):
        np.minimum.at(owner[t - 1], parents[t], owner[t])
    for t in range(steps):
        for w in range(width):
            if not np.isfinite(scores[t, w]):
                continue
            from_ = (t, 0.5 * (width - 1)) if t == 0 else (t, parents[t, w])
            color = BLUE if owner[t, w] == 0 else ORANGE if owner[t, w] < width else GREY
            wait = t > 0 and ended[t - 1, parents[t, w]]  # it had ended: nothing is added
            lw = {BLUE: 2.6, ORANGE: 1.5, GREY: 0.8}[color]
            axes.plot([from_[0], t + 1], [from_[1], w], color=color, lw=lw,
                      ls=":" if wait else "-", zorder=1)  # fmt: skip
            if wait:
                if t == steps - 1:
                    axes.annotate(
                        f"{scores[t, w]:.2f}", (t + 1, w), (9, 0), va="center",
                        textcoords="offset points", fontsize=7.5, color=color,
                    )  # fmt: skip
                continue
            said = int(ids[t, w])
            box = {"boxstyle": "square" if said == eos else "circle", "fc": "white", "ec": color}
            axes.text(t + 1, w, "EOS" if said == eos else sign(said), ha="center", va="center",
                      fontsize=8, bbox=box, color="black" if color != GREY else GREY)  # fmt: skip
            axes.annotate(f"{scores[t, w]:.2f}", (t + 1, w), (0, -13), ha="center", va="top",
                          textcoords="offset points", fontsize=6.5, color=color,
                          bbox={"fc": "white", "ec": "none", "pad": 0.6})  # fmt: skip
    axes.text(0, 0.5 * (width - 1), "GO", ha="center", va="center", fontsize=8,
              bbox={"boxstyle": "square", "fc": "white", "ec": BLUE})  # fmt: skip
    axes.set_xlim(-0.5, steps + 0.9)
    axes.set_ylim(width - 0.4, -0.5)
    axes.set_yticks(range(width), [f"{w + 1}" for w in range(width)])
    axes.xaxis.set_major_locator(_canvas.whole_numbers())
    axes.set_xlabel("step")
    axes.set_ylabel("rank of the beam (best on top)")
    axes.set_title("score below each: log-probability so far, after the length penalty",
                   fontsize=9, loc="left")  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)


def _spelled(
    beams: Any, n: int, rank: int, sign: Callable[[int], str], eos: int | None
) -> str:
    """An answer as text, without its EOS."""
    ids = [int(i) for i in beams.ids[n, rank, : beams.lengths[n, rank]]]
    signs = [sign(i) for i in ids if i != eos]
    return ("" if all(len(each) == 1 for each in signs) else " ").join(signs) or "nothing"


def _percent(share: float) -> str:
    """A probability with two digits: 97%, 2.5%, 0.031%."""
    return f"{_canvas.two_digits(100 * share)}%"


def _checked(i: int, each: Alignment) -> Alignment:
    """With weights (T, S) cut to the signs."""
    weights = np.asarray(each.weights)
    size = len(each.output), len(each.source)
    if weights.ndim != 2 or weights.shape[0] < size[0] or weights.shape[1] < size[1] or 0 in size:
        raise ShapeError(
            f"alignments: panel {i} has {size[0]} signs written and {size[1]} read, so its weights "
            f"must be at least {size}, got shape {weights.shape}"
        )
    return each._replace(weights=weights[: size[0], : size[1]])


def _sharpness(each: Alignment) -> str:
    """What a map says at a glance."""
    top = float(each.weights.max(axis=1).mean())
    return f"Each sign written looks at one that was read with {top:.0%} of its attention"
