"""The table of one case, and the picture of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import QUIET

LOOKS = {  # library -> title and colour
    "minigrad": ("minigrad", "#c1121f"), "torch": ("PyTorch", "#e07a00"),
    "jax": ("JAX", "#0057b8"), "tensorflow": ("TensorFlow", "#2a9134"),
    "tinygrad": ("tinygrad", "#7b2cbf"), "mygrad": ("MyGrad", "#8c6d46"),
    "autograd": ("autograd", "#5c6770"),
}  # fmt: skip
FARTHEST = 30  # ratios beyond it are drawn at the edge


def table(case: Mapping[str, Any]) -> str:
    """One line a contender, the fastest first, and what the fastest peer and minigrad reach."""
    rows = sorted(case["contenders"], key=lambda row: row["quartiles"][1])
    width = max(len(case["case"]), *(len(row["name"]) for row in rows))
    lines = [
        f"{case['case']:{width}}         us             quartiles  ratio  quartiles       compile"
        f"  to first step  memory: step, peak"
    ]
    for row in rows:
        low, middle, high = row["quartiles"]
        low_ratio, ratio, high_ratio = row["ratio"]
        memory = row["memory"]
        lines.append(
            f"{row['name']:{width}}  {middle:9.1f}  {low:8.1f} .. {high:8.1f}  {ratio:5.2f}"
            f"  {low_ratio:5.2f} .. {high_ratio:5.2f}  {row['compile_seconds']:6.1f} s"
            f"  {row['to_first_step_seconds']:11.1f} s"
            + (f"  {step_megabytes(memory):6.0f} {memory['peak']:6.0f} MB" if memory else "")
        )
    lines += [f"left out: {name} ({reason})" for name, reason in case["left_out"].items()]
    best = next(row for row in rows if row["name"] == case["best_peer"])
    lines.append(
        f"ratio: to {case['best_peer']}, the fastest peer, within each round; it does "
        f"{case['flops'] / best['quartiles'][1] / 1e3:.1f} GFLOP/s of the "
        f"{case['flops']:,} flops of matrix products in a step"
    )
    ours = of_library(case).get("minigrad")
    if ours is not None:
        low, product, high = (rate / 1e9 for rate in case["product"])
        lines.append(
            f"the largest product did {product:.0f} GFLOP/s ({low:.0f} to {high:.0f}) in these "
            f"rounds, {ours['name']} {ours['share'][1]:.0%} of that ({ours['share'][0]:.0%} to "
            f"{ours['share'][2]:.0%})"
        )
    if case["busy_cores"] > QUIET:
        lines.append(
            f"NOT A QUIET MACHINE: other work kept {case['busy_cores']:.1f} cores busy before or "
            "after; contenders that hand work from thread to thread lose most by it"
        )
    return "\n".join(lines) + "\n"


def step_megabytes(memory: Mapping[str, float]) -> float:
    """How far the memory rises when training starts."""
    return memory["peak"] - memory["before"]


def of_library(case: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Library -> its fastest contender in a case."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in sorted(case["contenders"], key=lambda row: -row["quartiles"][1]):
        found[row["library"]] = row
    return found


def draw(cases: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One line a model, one dot a library: its time over that of the fastest peer (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.6 + 0.38 * len(cases)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(1, color="black", lw=1)
    axes.axvline(0.7, color="#c1121f", lw=1, ls="--")
    seen: set[str] = set()
    for k, case in enumerate(cases):
        for library, row in of_library(case).items():
            low, middle, high = (min(value, FARTHEST) for value in row["ratio"])
            title, colour = LOOKS.get(library, (library, "black"))
            label = None if library in seen else title
            seen.add(library)
            mark = ">" if row["ratio"][1] > FARTHEST else "o"
            axes.plot([low, high], [k, k], color=colour, lw=2, alpha=0.5)
            size = 8 if library == "minigrad" else 6
            axes.plot([middle], [k], mark, color=colour, ms=size, label=label)
    axes.set(xscale="log", yticks=range(len(cases)), yticklabels=[c["case"] for c in cases])
    axes.set_ylim(-0.6, len(cases) - 0.4)
    ticks = [0.1, 0.2, 0.5, 0.7, 1, 2, 5, 10, 30]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.grid(True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.set_xlabel("time of a training step / that of the fastest peer (left of 1: faster)")
    axes.set_title("Each library at its best setting; bars: quartiles over the rounds")
    figure.legend(loc="outside right upper")
    figure.savefig(path)
