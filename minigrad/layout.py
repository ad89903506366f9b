"""Where the boxes of a graph stand, and the ways of the lines between them: geometry alone.

Layers, after Sugiyama, Tagawa and Toda (1981): every box has a row, one below all that it takes
from; boxes of a row are put in the order in which the fewest lines cross; then each is moved
towards its neighbours as far as the others allow.  A line that passes rows runs in a lane of its
own through each of them, and all lines from one box share that lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ROW, GAP, LANE = 46.0, 34.0, 10.0  # height of a box, room below it for lines, width of a lane
_BETWEEN = 16.0  # boxes side by side
_PASSES = 12


class Line(NamedTuple):
    """A way from one box to another, through the gaps between rows from above to below.

    source, target: numbers of the boxes.  x: where it leaves the source, where it stands in
    each row that it passes, and where it enters the target.
    """

    source: int
    target: int
    x: tuple[float, ...]


class Layout(NamedTuple):
    """What :func:`place` returns.  Units are those of the widths of the boxes (pixels).

    x: centre of each box; row: number of its row, 0 at the top; lines; width, height: of all.
    """

    x: list[float]
    row: list[int]
    lines: list[Line]
    width: float
    height: float

    def top(self, row: int) -> float:
        """The upper edge of the boxes of a row."""
        return row * (ROW + GAP)


def place(widths: Sequence[float], edges: Sequence[tuple[int, int]], loose: set[int]) -> Layout:
    """Rows and places of boxes.

    widths: of each box.  edges: (source, target), each source before its target in the order of
    the boxes; one that comes twice is drawn once.  loose: boxes without inputs that belong near
    their users (parameters, data), not at the top.

    >>> place([80.0, 80.0, 80.0], [(0, 2), (1, 2)], {0, 1}).row
    [0, 0, 1]
    """
    edges = list(dict.fromkeys(edges))
    row = _rows(len(widths), edges, loose)
    # lanes are boxes too, numbered after the real ones
    sizes, level, arcs, chains = list(widths), list(row), [], {}
    for source in range(len(widths)):
        targets = [t for s, t in edges if s == source]
        chain = [source]
        for r in range(row[source] + 1, max((row[t] for t in targets), default=0)):
            sizes.append(LANE)
            level.append(r)
            arcs.append((chain[-1], len(sizes) - 1))
            chain.append(len(sizes) - 1)
        chains[source] = chain
        arcs += [(chain[row[t] - row[source] - 1], t) for t in targets]
    rows = _ordered(level, arcs)
    x = _moved(rows, sizes, arcs, len(widths))
    lines = []
    for source, target in edges:
        way = chains[source][: row[target] - row[source]]
        lines.append(Line(source, target, tuple(x[i] for i in (*way, target))))
    right = max((x[i] + w / 2 for i, w in enumerate(sizes)), default=0.0)
    height = (max(row, default=0) + 1) * (ROW + GAP) - GAP
    return Layout(x[: len(widths)], row, _spread(lines, widths), right, height)


def _rows(count: int, edges: Sequence[tuple[int, int]], loose: set[int]) -> list[int]:
    """The row of each box: one below the lowest of what it takes, but near what takes it."""
    row = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        row[target] = max(row[target], row[source] + 1)
    users: list[list[int]] = [[] for _ in row]
    free = [True] * count  # whether it may move down with all that leads to it
    for source, target in edges:
        users[source].append(target)
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        free[target] &= source in loose or (free[source] and len(users[source]) == 1)
    for box in reversed(range(count)):  # what is needed late stands near its first user
        if free[box] and users[box]:
            row[box] = max(row[box], min(row[user] for user in users[box]) - 1)
    least = min(row, default=0)
    return [r - least for r in row]


def _ordered(level: Sequence[int], arcs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The boxes of each row from left to right, in the best of several orders."""
    above: list[list[int]] = [[] for _ in level]
    below: list[list[int]] = [[] for _ in level]
    for source, target in arcs:
        above[target].append(source)
        below[source].append(target)
    rows: list[list[int]] = [[] for _ in range(max(level, default=-1) + 1)]
    for box in _depth_first(level, above, below):
        rows[level[box]].append(box)
    place = [0.0] * len(level)

    def number(row: list[int]) -> None:
        for i, box in enumerate(row):
            place[box] = i - len(row) / 2

    for row in rows:
        number(row)
    best, least = [list(row) for row in rows], _crossings(rows, below)
    for turn in range(2 * _PASSES):
        neighbours = below if turn % 2 else above
        for row in reversed(rows) if turn % 2 else rows:
            means = {}
            for box in row:
                near = neighbours[box] or [box]
                means[box] = sum(place[n] for n in near) / len(near)
            row.sort(key=means.__getitem__)
            number(row)
        found = _crossings(rows, below)
        if found < least:
            best, least = [list(row) for row in rows], found
        if least == 0:
            break
    return best


def _depth_first(
    level: Sequence[int], above: list[list[int]], below: list[list[int]]
) -> list[int]:
    """All boxes, those that hang together one after the other, from what is at the bottom."""
    order: list[int] = []
    seen: set[int] = set()
    for end in sorted(range(len(level)), key=lambda box: -level[box]):
        stack = [end]
        while stack:
            box = stack.pop()
            if box not in seen:
                seen.add(box)
                order.append(box)
                stack += reversed(above[box])
    return order


def _crossings(rows: list[list[int]], below: list[list[int]]) -> int:
    """How many pairs of lines cross between neighbouring rows."""
    count = 0
    for row, under in zip(rows, rows[1:]):
        at = {box: i for i, box in enumerate(under)}
        ends = np.array([e for box in row for e in sorted(at[t] for t in below[box])], int)
        for i in range(1, len(ends)):
            count += int(np.sum(ends[:i] > ends[i]))
    return count


def _moved(
    rows: list[list[int]], sizes: Sequence[float], arcs: Sequence[tuple[int, int]], boxes: int
) -> list[float]:
    """Centres: boxes under the mean of their neighbours, lanes straight, nothing overlapping."""
    x = np.zeros(len(sizes))
    above: list[dict[int, float]] = [{} for _ in sizes]
    below: list[dict[int, float]] = [{} for _ in sizes]
    for source, target in arcs:
        lanes = (source >= boxes) + (target >= boxes)
        above[target][source] = below[source][target] = (1.0, 4.0, 16.0)[lanes]
    heavy = [max([*a.values(), *b.values(), 0.1]) for a, b in zip(above, below)]
    for row in rows:
        x[row] = _apart(np.zeros(len(row)), np.ones(len(row)), [sizes[i] for i in row])
    for turn in range(2 * _PASSES):
        up = turn % 2
        for row in reversed(rows) if up else rows:
            wanted = []
            for i in row:
                near = (below if up else above)[i]
                if i < boxes or not near:  # a lane goes straight on from where it comes
                    near = above[i] | below[i]
                total = sum(near.values())
                wanted.append(sum(x[n] * w for n, w in near.items()) / total if near else x[i])
            weight = np.array([heavy[i] for i in row])
            x[row] = _apart(np.array(wanted), weight, [sizes[i] for i in row])
    if len(x):
        x -= min(x[i] - sizes[i] / 2 for i in range(len(x)))
    return [float(each) for each in x]


def _apart(wanted: np.ndarray, weight: np.ndarray, sizes: Sequence[float]) -> np.ndarray:
    """Places in this order, apart by their sizes, with the least squared distance to ``wanted``.

    Pool adjacent violators: neighbours that would overlap move as one, to where their mean is.
    """
    gaps = [_BETWEEN if max(a, b) > LANE else 2.0 for a, b in zip(sizes, sizes[1:])]
    steps = [(a + b) / 2 + gap for a, b, gap in zip(sizes, sizes[1:], gaps)]
    offset = np.concatenate([[0.0], np.cumsum(steps)]) if len(sizes) else np.zeros(0)
    groups: list[tuple[float, float, int]] = []  # mean of wanted - offset, weight, how many
    for value, heavy in zip(wanted - offset, weight):
        mean, total, count = float(value), float(heavy), 1
        while groups and groups[-1][0] >= mean:
            before, much, many = groups.pop()
            mean = (before * much + mean * total) / (much + total)
            total, count = total + much, count + many
        groups.append((mean, total, count))
    return offset + np.array([mean for mean, _, count in groups for _ in range(count)])


def _spread(lines: list[Line], widths: Sequence[float]) -> list[Line]:
    """Lines that enter one box get places of their own along its edge, in the order they come."""
    ends: dict[int, list[int]] = {}
    for number, line in enumerate(lines):
        ends.setdefault(line.target, []).append(number)
    result = list(lines)
    for target, numbers in ends.items():
        numbers.sort(key=lambda number: lines[number].x[-2])
        room = min(22.0, 0.7 * widths[target] / len(numbers))
        for place, number in enumerate(numbers):
            line = lines[number]
            end = line.x[-1] + room * (place - (len(numbers) - 1) / 2)
            result[number] = line._replace(x=(*line.x[:-1], end))
    return result
