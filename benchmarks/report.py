"""The page of results, from what the benchmarks wrote.

    python -m benchmarks.report runs/benchmarks                 benchmarks/RESULTS.md
    python -m benchmarks.report runs/benchmarks --out page.md

The folder holds startup.json, kernels.json, scaling.json and peers.json, each written by the
benchmark of that name with --json; what is not there is named on the page.  Pictures go into the
folder pictures beside the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import startup
from benchmarks.peers import table as peers
from benchmarks.timing import QUIET

PAGE = Path(__file__).parent / "RESULTS.md"
GOAL = 0.7  # of the best peer's time
Result = Mapping[str, Any]


def head(result: Result) -> str:
    """Machine, versions, date and commit of one benchmark, as one paragraph."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    busy = max(machine["busy_cores"])
    quiet = "quiet" if busy <= QUIET else f"**not quiet: other work kept {busy:.1f} cores busy**"
    return (
        f"{machine['date']}, commit {machine['commit']}: {machine['cpu']}, "
        f"{machine['usable_cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"{versions}; the machine was {quiet}."
    )


def rows(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    every = [titles, ["---", *["---:"] * (len(titles) - 1)], *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in every)


def duration(microseconds: float) -> str:
    """Three digits, in us, ms or s."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} us"


def peers_part(result: Result, pictures: Path) -> str:
    """Steps of the models: one line a model, then one table a model."""
    peers.draw(result["cases"], pictures / "peers.png")
    lines, tables, met = [], [], 0
    for case in result["cases"]:
        fastest = peers.of_library(case)
        ours = fastest.get("minigrad")
        best = next(row for row in case["contenders"] if row["name"] == case["best_peer"])
        if ours is not None:
            low, ratio, high = ours["ratio"]
            met += ratio <= GOAL
            lines.append([
                f"`{case['case']}`", duration(ours["quartiles"][1]), best["name"],
                duration(best["quartiles"][1]), f"{ratio:.2f} ({low:.2f} to {high:.2f})",
                f"{ours['share'][1]:.0%} of {case['product'][1] / 1e9:.0f} GFLOP/s",
                _memory(ours), _memory(best),
            ])  # fmt: skip
        tables.append(f"### `{case['case']}`\n\n{_case_table(case)}")
    cold = "none on disk" if result["cold"] else "those on disk"
    return "\n\n".join([
        "## Against peers",
        head(result),
        f"One training step, {result['rounds']} rounds, the contenders in turn, each in a process "
        "of its own; all had the same losses before anything was timed.  minigrad at its best "
        "setting beside the fastest peer at its best (minigrad and PyTorch at one thread and at "
        "all of them, the others at what suits them); the ratio is taken within each round "
        "(median and quartiles).  Rate: what minigrad does of the rate that the largest product of "
        "matrices had in the same rounds.  Memory: how far it rises when training starts / the "
        "peak of the process.",
        rows(["model", "minigrad", "fastest peer", "its time", "ratio", "rate", "memory",
              "peer's memory"], lines),
        f"{met} of {len(lines)} models take at most {GOAL} of the fastest peer's time.",
        "![Time of each library over that of the fastest peer](pictures/peers.png)",
        f"Compile is the first step without what a step takes later, with caches: {cold}.",
        *tables,
    ])  # fmt: skip


def _memory(row: Result) -> str:
    """How far it rises, and the peak."""
    memory = row["memory"]
    return f"{peers.step_megabytes(memory):.0f} / {memory['peak']:.0f} MB" if memory else ""


def _case_table(case: Result) -> str:
    lines = []
    for row in sorted(case["contenders"], key=lambda row: row["quartiles"][1]):
        low, middle, high = row["quartiles"]
        lines.append([
            row["name"], duration(middle), f"{duration(low)} to {duration(high)}",
            f"{row['ratio'][1]:.2f}", f"{row['compile_seconds']:.1f} s",
            f"{row['to_first_step_seconds']:.1f} s", _memory(row),
        ])  # fmt: skip
    text = rows(
        ["contender", "step", "quartiles", "ratio", "compile", "to first step", "memory"], lines
    )
    left = "; ".join(f"{name} ({reason})" for name, reason in case["left_out"].items())
    return text + (f"\n\nLeft out: {left}." if left else "")


def kernels_part(result: Result, pictures: Path) -> str:
    """Every kernel under its roof."""
    from benchmarks.kernels import picture

    picture.draw(result, pictures / "roofline.png")
    lines = [
        [f"`{row['name']}`", row["program"], str(row["threads"]), duration(row["microseconds"]),
         f"{row['twin_ratio']:.1f}", f"{row['gflops']:.2f}", f"{row['intensity']:.2f}",
         f"{row['roof_share']:.0%}", row["bound"]]
        for row in result["kernels"]
    ]  # fmt: skip
    roofs = "; ".join(
        f"{count} thread{'s' * (count != '1')}: products {roof['peak'] / 1e9:.0f} GFLOP/s, triad "
        f"{roof['memory'] / 1e9:.1f} GB/s in memory and {roof['cache'] / 1e9:.0f} GB/s in cache"
        for count, roof in result["roofs"].items()
    )
    return "\n\n".join([
        "## Kernels",
        head(result),
        "The call of each kernel that a document's model makes, beside its NumPy twin, and beside "
        f"what the machine allows.  Limits measured in the same run: {roofs}.  The roof of a call "
        "is min(peak, intensity x bandwidth), with the bandwidth of a triad over as many bytes and "
        "the threads of the call; kernels that change an array in place may pass it, since a triad "
        "first fetches what it overwrites.",
        "![Roofline plot of all kernels](pictures/roofline.png)",
        rows(["kernel", "call in", "threads", "time", "twin takes", "GFLOP/s", "flops/byte",
              "of the roof", "bound by"], lines),
    ])  # fmt: skip


def scaling_part(result: Result, pictures: Path) -> str:
    """Exponents and curves."""
    from benchmarks.scaling import curves

    curves.draw(result["sweeps"], pictures / "scaling.png")
    lines = [
        [name, found["fixed"], who, f"{min(curve['sizes'])} to {max(curve['sizes'])}",
         *(f"{curve['exponents'][kind]:.2f}" for kind in ("milliseconds", "megabytes")),
         duration(curve["milliseconds"][-1] * 1e3), f"{curve['megabytes'][-1]:.0f} MB"]
        for name, found in result["sweeps"].items() if name != "threads"
        for who, curve in found["curves"].items()
    ]  # fmt: skip
    return "\n\n".join([
        "## Growth",
        head(result),
        "An LSTM's training step; the exponent p of size^p is fitted to the logarithms by least "
        "squares over the larger sizes, those from the geometric middle of the range on.",
        rows(["grows", "held", "library", "sizes", "time exponent", "memory exponent",
              "time at the largest", "memory there"], lines),
        "![Time and memory against batch, length, hidden size, threads](pictures/scaling.png)",
    ])  # fmt: skip


def startup_part(result: Result, pictures: Path) -> str:
    """Import, first compile, warm start."""
    imports = [
        [name, f"{middle:.2f} s", f"{low:.2f} to {high:.2f} s"]
        for name, (low, middle, high) in result["imports"].items()
    ]
    models = [
        [f"`{model}`, {kind}", *(f"{parts[part][1]:.2f} s" for part in startup.PARTS)]
        for model, kinds in result["models"].items()
        for kind, parts in kinds.items()
    ]
    return "\n\n".join([
        "## Start",
        head(result),
        "Processes that import one package and end:",
        rows(["import", "median", "quartiles"], imports),
        "One training step in a new process, with an empty cache of kernels (first) and with that "
        "of an earlier run (warm); medians:",
        rows(["model", *startup.PARTS], models),
    ])  # fmt: skip


PARTS: dict[str, Callable[[Result, Path], str]] = {
    "peers": peers_part,
    "kernels": kernels_part,
    "scaling": scaling_part,
    "startup": startup_part,
}


def write(folder: Path, page: Path) -> list[str]:
    """Write the page and its pictures; returns the benchmarks that have no results in `folder`."""
    pictures = page.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = ["# Results", "Generated by `python -m benchmarks.report`; not to be edited."]
    missing = []
    for name, part in PARTS.items():
        source = folder / f"{name}.json"
        if source.exists():
            parts.append(part(json.loads(source.read_text()), pictures))
        else:
            missing.append(name)
            parts.append(f"Not measured: `python -m benchmarks.{name}`.")
    page.write_text("\n\n".join(parts) + "\n")
    return missing


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns 0, or 2 if there is nothing to write about."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the JSON files are")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args(arguments)
    if not any((options.folder / f"{name}.json").exists() for name in PARTS):
        print(f"report: no results in {options.folder}", file=sys.stderr)
        return 2
    for name in write(options.folder, options.out):
        print(f"not measured: {name}")
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
