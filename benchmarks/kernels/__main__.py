"""Every kernel against its NumPy twin and against the limits of the machine.

    python -m benchmarks.kernels                     all, some two minutes
    python -m benchmarks.kernels matmul lstm_forward these
    python -m benchmarks.kernels --json k.json --picture roofline.png

For each kernel the call is timed that a document's model makes (cases.py says which), after both
have given the same result on it.  The columns:

    us         median time of the call, and quartiles
    twin       how many times as long the NumPy twin takes
    flops/B    operations per byte that must move: arithmetic intensity
    roof       share of what the machine allows, min(peak, intensity * bandwidth), measured in
               the same run by a product of matrices and by a triad over as many bytes
    by         which of the two is the limit
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from benchmarks import timing
from minigrad import kernels

from . import cases, limits, picture
from .calls import Call

DTYPE = "float32"  # of the documents
TURN_SECONDS = 0.02
REST_SECONDS = 0.1


def measure_call(call: Call, rounds: int) -> dict[str, timing.Timing]:
    """Check that kernel and twin agree on a call, then time both in turn."""
    outputs = call.outputs
    saved = [array.copy() for array in outputs]

    def restore() -> None:
        """Kernels that update in place begin each turn at the same numbers."""
        for array, copy in zip(outputs, saved):
            np.copyto(array, copy)

    def rest() -> None:
        """Threads of BLAS, which the twin's products have woken, spin on after them."""
        restore()
        time.sleep(REST_SECONDS)

    call.check()
    contenders = {"kernel": call.fast, "twin": call.slow}
    timings = timing.take_turns(
        contenders, rounds, TURN_SECONDS, warmup_seconds=0.0,
        before_turn={"kernel": rest, "twin": restore}, settle_calls=2, least_calls=2,
    )  # fmt: skip
    return {found.name: found for found in timings}


def row_of(
    call: Call, timed: Mapping[str, timing.Timing], roofs: Mapping[int, limits.Roof]
) -> dict[str, Any]:
    """What is printed of a kernel, and more for the file; times in microseconds."""
    flops, moved, size = cases.work(call)
    low, middle, high = timed["kernel"].quartiles
    threads = max(count for count in roofs if count <= max(call.threads, 1))
    roof = roofs[threads]
    least = roof.least_seconds(flops, moved, size, DTYPE) * 1e6
    ratios = np.divide(timed["twin"].turns, timed["kernel"].turns)
    by_products = flops / roof.peak[DTYPE] >= moved / roof.bandwidth_at(size)
    return {
        "name": call.kernel.name,
        "module": call.kernel.function.__module__.rpartition(".")[2],
        "program": cases.CASES[call.kernel.name].program,
        "shapes": {name: list(array.shape) for name, array in call.arrays.items()},
        "threads": threads,
        "microseconds": middle,
        "quartiles": [low, high],
        "twin_microseconds": timed["twin"].quartiles[1],
        "twin_ratio": float(np.median(ratios)),
        "flops": flops,
        "bytes": moved,
        "working_set": size,
        "intensity": flops / moved,
        "gflops": flops / middle / 1e3,
        "roof_share": least / middle,
        "bound": "product" if by_products else "bytes",
        "bandwidth": roof.bandwidth_at(size),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a kernel."""
    width = max(len(row["name"]) for row in rows)
    inside = max(len("call in"), *(len(row["program"]) for row in rows))
    lines = [
        f"{'kernel':{width}}  {'call in':{inside}}  thr        us  {'quartiles':>20}    twin"
        "     Mflop       MB  flops/B  GFLOP/s   roof  by"
    ]
    for row in rows:
        low, high = row["quartiles"]
        lines.append(
            f"{row['name']:{width}}  {row['program']:{inside}}  {row['threads']:3}"
            f"  {row['microseconds']:8.1f}  {low:8.1f} .. {high:8.1f}  {row['twin_ratio']:6.1f}"
            f"  {row['flops'] / 1e6:8.3f}  {row['bytes'] / 1e6:7.3f}  {row['intensity']:7.2f}"
            f"  {row['gflops']:7.2f}  {row['roof_share']:5.0%}  {row['bound']}"
        )
    return "\n".join(lines)


def roofs_as_dict(roofs: Mapping[int, limits.Roof]) -> dict[str, Any]:
    """For json, by the number of threads; per second."""
    return {
        str(count): {
            "peak": roof.peak[DTYPE], "peaks": dict(roof.peak), "memory": roof.memory,
            "cache": roof.cache, "bandwidth": {str(k): v for k, v in roof.bandwidth.items()},
        }
        for count, roof in roofs.items()
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; returns 0, or 2 if a kernel and its twin do not agree."""
    parser = timing.parser(__doc__, rounds=9)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="names (default: all)")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw the roofline plot")
    options = parser.parse_args(arguments)
    if options.threads:
        timing.limit_threads(options.threads)
        mg.set_num_threads(options.threads)
    names = options.kernels or list(kernels.load())
    unknown = [name for name in names if name not in cases.CASES]
    if unknown:
        parser.error(f"no case for the kernel {unknown[0]!r}; see benchmarks/kernels/cases.py")
    threads = mg.get_num_threads()
    busy = timing.busy_cores()
    before = limits.measure(threads)
    measured, failed = [], 0
    for name in names:
        call = cases.call_for(name)
        try:
            measured.append((call, measure_call(call, options.rounds)))
        except ValueError as error:
            print(error, file=sys.stderr)
            failed = 2
    after = limits.measure(threads)
    if not measured:
        return failed
    roofs = limits.best_of(before, after)
    rows = [row_of(call, timed, roofs) for call, timed in measured]
    print(table(rows))
    for count, roof in roofs.items():
        drift = abs(before[count].peak[DTYPE] / after[count].peak[DTYPE] - 1)
        print(
            f"{count} thread{'s' * (count > 1)}: products {roof.peak[DTYPE] / 1e9:.0f} GFLOP/s "
            f"({roof.peak['float64'] / 1e9:.0f} in float64; {drift:.0%} between start and end), "
            f"triad {roof.memory / 1e9:.1f} GB/s in memory, {roof.cache / 1e9:.0f} in cache"
        )
    busy = max(busy, timing.busy_cores())
    if busy > timing.QUIET:
        print(f"NOT A QUIET MACHINE: other work kept {busy:.1f} cores busy before or after")
    machine = timing.machine_facts() | {"busy_cores": [busy]}
    result = {"benchmark": "kernels", "machine": machine, "threads": threads,
              "roofs": roofs_as_dict(roofs), "kernels": rows}  # fmt: skip
    if options.json:
        timing.write_json(options.json, result)
    if options.picture:
        picture.draw(result, options.picture)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
