"""Boxes and lines as the text of an SVG file.

:mod:`minigrad.drawing` says what is drawn, :mod:`minigrad.layout` where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from .layout import GAP, ROW, Layout, Line, place
from .spelling import short

if TYPE_CHECKING:
    from .drawing import Box

LETTER = 6.4  # pixels, of a bold letter of 11
_MARGIN, _HEAD = 18.0, 66.0
_FONT = "font-family='Helvetica, Arial, sans-serif'"
_INK, _GREY = "#1b1b1b", "#666666"
# a line by the kind of what it comes from: colour and width
_LINE = {"op": ("#3f444c", 1.6), "parameter": ("#7aa6d3", 1.1), "input": ("#aaaaaa", 1.1),
         "cut": ("#aaaaaa", 1.1)}  # fmt: skip
_FILL = {"op": "#ffffff", "parameter": "#dbe9f8", "input": "#eeeeee", "cut": "#ffffff"}
_EDGE = {"op": "#5a5a5a", "parameter": "#1f5fa8", "input": "#999999", "cut": "#999999"}
# from the smallest gradient to the largest: light yellow, orange, red
_SCALE = ((255, 251, 214), (254, 190, 104), (240, 96, 60))


def picture(boxes: Sequence[Box], title: str, note: str) -> str:
    """The text of an SVG file, on paper of its own, so that it can be read on any ground.

    boxes: each after those it takes; title, note: the lines on top, whatever signs are in them.
    """
    edges = [(i, number) for number, box in enumerate(boxes) for i in box.inputs]
    loose = {i for i, box in enumerate(boxes) if box.kind != "op"}
    layout = place([box.width for box in boxes], edges, loose)
    note = note if len(note) < 160 else note[:157] + "..."
    text = max(8.2 * len(title), 6.6 * len(note), 430.0)
    width = max(layout.width, text) + 2 * _MARGIN
    height = layout.height + _HEAD + _MARGIN
    left = (width - layout.width) / 2
    label = escape(f"Graph of {title}", quote=True)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' "
        f"width='{width:.0f}' height='{height:.0f}' role='img' aria-label='{label}' {_FONT} "
        "font-size='11'>",
        f"<rect width='{width:.0f}' height='{height:.0f}' rx='6' fill='#ffffff'/>",
        _text(_MARGIN, 22, title, "start", f"font-size='14' font-weight='bold' fill='{_INK}'"),
        _text(_MARGIN, 38, note, "start", f"font-size='12' fill='{_INK}'"),
        *_legend(boxes),
        f"<g transform='translate({left:.1f} {_HEAD:.1f})'>",
    ]
    drawn: set[tuple[float, ...]] = set()  # ways that lines of one box share, from its lower edge
    for line in sorted(layout.lines, key=lambda line: boxes[line.source].kind == "op"):
        ways = [(float(line.source), *line.x[:stop]) for stop in range(2, len(line.x) + 1)]
        shared = sum(way in drawn for way in ways)
        drawn.update(ways)
        parts.append(_line(layout, line, shared, *_LINE[boxes[line.source].kind]))
    colors = _colors(boxes)
    for box, x, row, color in zip(boxes, layout.x, layout.row, colors):
        parts.append(_box(box, x, layout.top(row), color))
    return "\n".join([*parts, "</g>", "</svg>"])


def _text(x: float, y: float, text: str, anchor: str, style: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {style}>{escape(text)}</text>"


def _legend(boxes: Sequence[Box]) -> Iterator[str]:
    """Small boxes that say what the colours mean."""
    norms = _finite(boxes)
    kinds = [("op", "op"), ("parameter", "parameter"), ("input", "data")]
    x = _MARGIN
    for kind, word in kinds:
        if any(box.kind == kind for box in boxes):
            yield (f"<rect x='{x:.0f}' y='47' width='12' height='10' rx='2' fill='{_FILL[kind]}' "
                   f"stroke='{_EDGE[kind]}'/>")  # fmt: skip
            yield _text(x + 17, 56, word, "start", f"fill='{_GREY}'")
            x += 30 + LETTER * len(word)
    if norms:
        low, high = short(min(norms)), short(max(norms))
        yield _text(x, 56, f"|g| {low}", "start", f"fill='{_GREY}'")
        x += 16 + 5.6 * len(low)
        for step in range(12):
            yield (f"<rect x='{x + 8 * step:.0f}' y='47' width='8' height='10' "
                   f"fill='{_between(step / 11)}'/>")  # fmt: skip
        yield _text(x + 101, 56, f"{high} (log)", "start", f"fill='{_GREY}'")


def _finite(boxes: Sequence[Box]) -> list[float]:
    norms = [box.gradient for box in boxes if box.gradient is not None]
    return [norm for norm in norms if 0 < norm < math.inf]


def _colors(boxes: Sequence[Box]) -> list[str]:
    """The fill of each box: its gradient on a log scale if that is known, else its kind."""
    norms = np.log(_finite(boxes) or [1.0])
    low, span = float(norms.min()), float(np.ptp(norms))
    colors = []
    for box in boxes:
        if box.gradient is None:
            colors.append(_FILL[box.kind])
        elif not math.isfinite(box.gradient):
            colors.append("#d81b8c")
        elif box.gradient == 0:
            colors.append("#ffffff")
        else:
            colors.append(_between((math.log(box.gradient) - low) / span if span else 0.5))
    return colors


def _between(share: float) -> str:
    """The colour at a place of the scale, 0 to 1."""
    at = share * (len(_SCALE) - 1)
    first = min(int(at), len(_SCALE) - 2)
    mixed = [a + (b - a) * (at - first) for a, b in zip(_SCALE[first], _SCALE[first + 1])]
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def _box(box: Box, x: float, top: float, color: str) -> str:
    """A box with its lines, and what a pointer that rests on it is told."""
    lines = box.lines
    style = " stroke-dasharray='4 3'" if box.kind == "cut" else ""
    wide = 2.0 if box.kind == "parameter" else 1.0
    tip = f"{box.name} {box.shape}" + (f" at {box.site}" if box.site else "")
    parts = [
        f"<g><title>{escape(tip)}</title><rect x='{x - box.width / 2:.1f}' y='{top:.1f}' "
        f"width='{box.width:.1f}' height='{ROW:.0f}' rx='{5 if box.kind == 'op' else 14}' "
        f"fill='{color}' stroke='{_EDGE[box.kind]}' stroke-width='{wide}'{style}/>"
    ]
    first = top + ROW / 2 + 4 - 6.8 * (len(lines) - 1)
    for line, text in enumerate(lines):
        weight = " font-weight='bold'" if line == 0 else ""
        parts.append(_text(x, first + 13.6 * line, text, "middle", f"fill='{_INK}'{weight}"))
    return "".join(parts) + "</g>"


def _line(layout: Layout, line: Line, shared: int, color: str, width: float) -> str:
    """A line from below its source, straight through rows and bent between them, with a head.

    shared: gaps between rows that another line from the same source runs through as well.
    """
    x, y = line.x[shared:], layout.top(layout.row[line.source] + shared) + ROW
    path = f"M{x[0]:.1f} {y:.1f}"
    for step, (here, there) in enumerate(zip(x, x[1:])):
        last = step == len(x) - 2
        end = y + GAP - (7 if last else 0)
        bend = y + GAP / 2
        path += f"C{here:.1f} {bend:.1f} {there:.1f} {bend - 4:.1f} {there:.1f} {end:.1f}"
        if not last:
            path += f"V{end + ROW:.1f}"
        y += GAP + ROW
    tip = layout.top(layout.row[line.target])
    head = f"M{x[-1] - 3.5:.1f} {tip - 8:.1f}h7L{x[-1]:.1f} {tip - 0.5:.1f}z"
    return (f"<path d='{path}' fill='none' stroke='{color}' stroke-width='{width}'/>"
            f"<path d='{head}' fill='{color}'/>")  # fmt: skip
