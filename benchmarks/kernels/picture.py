"""The roofline plot: operations per byte, operations per second, and what bounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {  # by the module that a kernel is in
    "products": ("#c1121f", ("dense", "narrow", "small")),
    "convolution and pooling": ("#e07a00", ("conv", "through_pool", "pool")),
    "recurrences": (
        "#0057b8", ("lstm", "lstm_layer", "lstmp", "layer_norm_lstm", "gru", "rnn", "greedy")
    ),
    "losses, norms, attention": ("#2a9134", ("cross_entropy", "normalise", "attention")),
    "updates and clipping": ("#7b2cbf", ("update",)),
    "number by number": (
        "#5c6770", ("activations", "dropout", "embedding", "padding", "saturation")
    ),
}  # fmt: skip


def family(module: str) -> str:
    """The group of kernels that a module of minigrad.kernels belongs to; the last for new ones."""
    for name, (_, modules) in COLOURS.items():
        if module in modules:
            return name
    return list(COLOURS)[-1]


def place_labels(
    points: np.ndarray,
    sizes: np.ndarray,
    box: tuple[float, float, float, float],
    avoid: np.ndarray | None = None,
    gap: float = 4.0,
) -> np.ndarray:
    """Lower left corners (K, 2) for labels of `sizes` (K, 2) near `points` (K, 2), in pixels.

    One label after the other takes the nearest of the places around its point where it lies on no
    dot, no label before it and none of the points of `avoid` (P, 2), inside `box` (left, bottom,
    right, top).  Labels in the densest places choose first.
    """
    points, sizes = np.asarray(points, float), np.asarray(sizes, float)
    near = (np.abs(points[:, None] - points[None]) < 60).all(axis=2).sum(axis=1)
    taken = [np.array([x - gap, y - gap, x + gap, y + gap]) for x, y in points]
    taken += [np.array([x - 1, y - 1, x + 1, y + 1]) for x, y in (() if avoid is None else avoid)]
    corners = np.empty_like(points)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for k in np.argsort(-near, kind="stable"):
        (x, y), (width, height) = points[k], sizes[k]
        for distance in np.arange(gap + 2, 2000, 6):
            centres = np.stack([np.cos(angles), np.sin(angles)], axis=1) * distance
            reach = np.abs(np.cos(angles)) * width / 2
            centres = centres + np.stack([np.sign(np.cos(angles)) * reach, 0 * reach], axis=1)
            rectangles = [
                np.array([x + cx - width / 2, y + cy - height / 2,
                          x + cx + width / 2, y + cy + height / 2]) for cx, cy in centres
            ]  # fmt: skip
            free = [r for r in rectangles if _inside(r, box) and not _meets(r, taken)]
            if free:
                taken.append(free[0])
                corners[k] = free[0][:2]
                break
        else:  # no room anywhere: beside the dot, come what may
            corners[k] = x + gap, y
    return corners


def _inside(rectangle: np.ndarray, box: Sequence[float]) -> bool:
    return bool((rectangle[:2] >= box[:2]).all() and (rectangle[2:] <= box[2:]).all())


def _meets(rectangle: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    left, bottom, right, top = np.array(others).T
    apart = (
        (rectangle[0] >= right) | (rectangle[2] <= left)
        | (rectangle[1] >= top) | (rectangle[3] <= bottom)
    )  # fmt: skip
    return not apart.all()


def draw(measured: Mapping[str, Any], path: Path) -> None:
    """Write the picture of what ``python -m benchmarks.kernels`` measured to `path` (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in measured["kernels"] if row["flops"] > 0]
    roof = measured["roofs"][str(measured["threads"])]
    peak, memory, cache = roof["peak"] / 1e9, roof["memory"] / 1e9, roof["cache"] / 1e9
    figure = Figure(figsize=(13, 9), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.06, 0.13, 0.92, 0.81))
    axes.set(xscale="log", yscale="log")
    intensity = np.array([row["flops"] / row["bytes"] for row in rows])
    rate = np.array([row["flops"] / row["microseconds"] / 1e3 for row in rows])
    left, right = intensity.min() / 3, max(intensity.max() * 3, 10 * peak / memory)
    axes.set(xlim=(left, right), ylim=(rate.min() / 3, peak * 2.5))
    x = np.geomspace(left, right, 400)
    axes.plot(x, np.minimum(peak, memory * x), color="black", lw=2)
    axes.plot(x, np.minimum(peak, cache * x), color="black", lw=1, ls="--")
    axes.text(1.1 * peak / memory, peak * 1.12, f"largest product: {peak:.0f} GFLOP/s")
    figure.canvas.draw()
    for slope, name, at in ((memory, "memory", 0.5), (cache, "cache", 0.25)):
        where = at * peak / slope
        ends = axes.transData.transform([(where, slope * where), (2 * where, 2 * slope * where)])
        angle = float(np.degrees(np.arctan2(*(ends[1] - ends[0])[::-1])))
        axes.text(
            where, slope * where * 1.15, f"{name}: {slope:.0f} GB/s", rotation=angle,
            rotation_mode="anchor", ha="right",
        )  # fmt: skip
    for name, (colour, _) in COLOURS.items():
        chosen = [k for k, row in enumerate(rows) if family(row["module"]) == name]
        if chosen:
            axes.scatter(intensity[chosen], rate[chosen], s=22, color=colour, label=name, zorder=3)
    lines = [axes.transData.transform(np.stack([x, np.minimum(peak, slope * x)], axis=1))
             for slope in (memory, cache)]  # fmt: skip
    _label(axes, rows, intensity, rate, np.concatenate(lines))
    axes.legend(loc="lower right", framealpha=0.9)
    axes.set_xlabel("floating-point operations per byte that must move")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(
        f"Kernels of minigrad under the roofs of this machine ({measured['machine']['cpu']}, "
        f"{measured['threads']} threads, float32)"
    )
    axes.grid(True, which="major", color="0.92")
    axes.set_axisbelow(True)
    still = ", ".join(row["name"] for row in measured["kernels"] if not row["flops"])
    figure.text(
        0.06, 0.015,
        "Each dot is one call of a kernel as a document's model makes it.  Solid: what products of "
        "matrices and the memory (a triad over 256 MB) allow; dashed: the best cache.\n"
        "Between the two bandwidths are kernels whose arrays are in a cache.  Far below both are "
        "calls of a few microseconds, kernels of one thread, and steps that wait for each other.\n"
        f"Without floating-point operations, and not drawn: {still}.",
        fontsize=8,
    )  # fmt: skip
    figure.savefig(path)


def _label(
    axes: Any, rows: Sequence[Mapping[str, Any]], x: np.ndarray, y: np.ndarray, avoid: np.ndarray
) -> None:
    """Write the names beside the dots, with a line to those that are further away."""
    figure = axes.figure
    colours = [COLOURS[family(row["module"])][0] for row in rows]
    texts = [
        axes.text(x[k], y[k], row["name"], fontsize=6.5, color=colours[k], va="bottom")
        for k, row in enumerate(rows)
    ]
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in texts]
    sizes = np.array([(box.width + 2, box.height + 1) for box in boxes])
    points = axes.transData.transform(np.stack([x, y], axis=1))
    frame = axes.get_window_extent(renderer)
    box = (frame.x0 + 2, frame.y0 + 2, frame.x1 - 2, frame.y1 - 2)
    corners = place_labels(points, sizes, box, avoid)
    for text, corner, point, size, colour in zip(texts, corners, points, sizes, colours):
        text.set_position(axes.transData.inverted().transform(corner))
        nearest = np.clip(point, corner, corner + size)
        if np.hypot(*(nearest - point)) > 10:
            ends = axes.transData.inverted().transform([point, nearest])
            axes.plot(*ends.T, color=colour, lw=0.5, alpha=0.6, zorder=1)
