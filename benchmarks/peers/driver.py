"""Check that the contenders of a case do the same work, time them in turn, print the table."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import timing

Weights = dict[str, np.ndarray]
Step = Callable[..., Any]  # arrays of a batch -> loss

SEED = 4
BATCHES = 200
CHECKED_STEPS, TOLERANCE = 5, 1e-4


def prepare_jax(threads: int | None) -> None:
    """Set XLA up before JAX is imported: 512-bit vectors, ``threads`` threads (None: all).

    XLA has its vectors at half their width unless it is asked, and its thread pool costs a
    small step more than it gains (both measured).  What the environment says stays.
    """
    if threads is not None:
        os.environ.setdefault("PJRT_NPROC", str(threads))
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_prefer_vector_width" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_prefer_vector_width=512".strip()


def torch_threads(threads: int) -> Callable[[], None]:
    """A call that sets PyTorch's number of threads; does nothing where PyTorch is missing."""

    def set_threads() -> None:
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)

    return set_threads


def contenders(case: ModuleType, threads: int) -> dict[str, tuple[Any, Callable[[], None] | None]]:
    """Name -> maker of the step, and what to do before each of its turns."""
    found: dict[str, tuple[Any, Callable[[], None] | None]] = {}
    for name, maker in case.MAKERS.items():
        if name.startswith("PyTorch"):
            for count in sorted({1, threads}):
                title = f"{name}, {count} thread{'s' * (count > 1)}"
                found[title] = (maker, torch_threads(count))
        else:
            found[name] = (maker, None)
            if "captured" in inspect.signature(maker).parameters:
                found[f"{name}, captured"] = (functools.partial(maker, captured=True), None)
    return found


def make_steps(makers: Mapping[str, Any], weights: Weights, **options: Any) -> dict[str, Step]:
    """The step of every contender whose library is there; the missing ones are named on stdout."""
    steps = {}
    for name, (maker, _) in makers.items():
        try:
            steps[name] = maker({k: v.copy() for k, v in weights.items()}, **options)
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    return steps


def check_agreement(steps: Mapping[str, Step], batches: Sequence[Any]) -> dict[str, float]:
    """Run CHECKED_STEPS training steps of each contender; the losses must be the same.

    One that read other data or updated differently is seen from the second loss on.  Returns
    the seconds of each first step, which compiles.  Raises ValueError naming the contenders,
    the step and the two losses when they differ by more than TOLERANCE, relative.
    """
    first_steps, losses = {}, {}
    for name, step in steps.items():
        start = time.perf_counter()
        losses[name] = [float(step(*batches[0]))]
        first_steps[name] = time.perf_counter() - start
        losses[name] += [float(step(*batch)) for batch in batches[1:CHECKED_STEPS]]
    reference = next(iter(losses))
    for name, values in losses.items():
        for k, (value, expected) in enumerate(zip(values, losses[reference], strict=True)):
            if not abs(value - expected) <= TOLERANCE * abs(expected):
                raise ValueError(
                    f"{name} does not do the same work as {reference}: loss {value:.7g} "
                    f"against {expected:.7g} at step {k + 1}"
                )
    return first_steps


def cycling(step: Step, batches: Sequence[Any]) -> Callable[[], Any]:
    """`step` as a call without arguments that goes on through the batches, round and round."""
    following = itertools.cycle(batches)
    return lambda: step(*next(following))


def run(case: ModuleType, name: str, options: Any) -> tuple[int, dict[str, Any]]:
    """Check, time, print the table of one case.

    Returns 0 and what was measured; or 2 when there is nobody to time or the contenders do
    not do the same work.
    """
    prepare_jax(options.threads or case.JAX_THREADS)
    rng = np.random.default_rng(SEED)
    weights, batches = case.draw_weights(rng), case.draw_batches(rng, BATCHES)
    makers = contenders(case, options.threads or timing.usable_cores())
    checked = make_steps(makers, weights)
    if not checked:
        print(f"{name}: none of the contenders can be imported", file=sys.stderr)
        return 2, {}
    try:
        first_steps = check_agreement(checked, batches)
        steep = getattr(case, "steepened", None)  # weights whose gradients are clipped
        if steep is not None:
            check_agreement(make_steps(makers, steep(weights)), batches)
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2, {}
    settings = getattr(case, "TIMED_WITH", {})  # dropout, which is off in the check
    steps = make_steps(makers, weights, **settings) if settings else checked
    print(f"{name}: same losses (relative {TOLERANCE:g}) for {CHECKED_STEPS} steps")

    calls = {who: cycling(step, batches[CHECKED_STEPS:]) for who, step in steps.items()}
    report = timing.measure(
        calls,
        rounds=options.rounds,
        first_calls=first_steps,
        before_turn={who: makers[who][1] for who in steps if makers[who][1] is not None},
        turn_seconds=getattr(case, "TURN_SECONDS", 0.06),
    )
    final = {who: float(call()) for who, call in calls.items()}
    if not np.isfinite(list(final.values())).all():
        print(f"{name}: the training that was timed diverged: {final}", file=sys.stderr)
        return 2, {}
    peers = [who for who in steps if not who.startswith("minigrad")]
    reference = report.fastest(peers or list(steps))
    print(report.table(reference))
    _, microseconds, _ = report[reference].quartiles
    print(
        f"matrix products of one step: {case.FLOPS:,} FLOPs; {reference} does "
        f"{case.FLOPS / microseconds / 1e3:.1f} GFLOP/s of them\n",
        flush=True,
    )
    return 0, {"flops": case.FLOPS, "final_losses": final} | report.as_dict(reference)
