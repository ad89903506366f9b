"""Who takes part in a case: library, number of threads, environment, and how it makes a step.

A new peer is one module here with

    contenders(maker, threads)   the Contenders that a maker gives, on so many threads
    MAKERS                       name of a case -> function of the weights that returns a step

and its name in PEERS.  minigrad, PyTorch and JAX stand in the cases themselves.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

PEERS = ("tensorflow_models", "tinygrad_models", "mygrad_models", "autograd_models")
WIDE_VECTORS = "--xla_cpu_prefer_vector_width=512"  # XLA has them at half unless asked (measured)


@dataclass(frozen=True)
class Contender:
    """maker: weights -> step; environment: set before the process starts; threads: of PyTorch."""

    name: str
    library: str
    maker: Callable[..., Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None

    def start(self) -> None:
        """Import the library; raises ImportError where it is missing."""
        module = importlib.import_module(self.library)
        if self.library == "torch" and self.threads is not None:
            module.set_num_threads(self.threads)


def xla_environment(threads: int | None) -> dict[str, str]:
    """Wide vectors, and ``threads`` threads (None: all); what the environment says stays."""
    flags = os.environ.get("XLA_FLAGS", "")
    found = {}
    if "xla_cpu_prefer_vector_width" not in flags:
        found["XLA_FLAGS"] = f"{flags} {WIDE_VECTORS}".strip()
    if threads is not None and "PJRT_NPROC" not in os.environ:
        found["PJRT_NPROC"] = str(threads)
    return found


def find(case_name: str, case: ModuleType, threads: int) -> dict[str, Contender]:
    """Name -> contender of a case on a machine with `threads` cores."""
    found: list[Contender] = []
    few = case.JAX_THREADS  # None for all: what suits XLA's and TensorFlow's pools best
    for name, maker in case.MAKERS.items():
        if name.startswith("PyTorch"):
            for count in sorted({1, threads}):
                title = f"{name}, {count} thread{'s' * (count > 1)}"
                settings = {"OMP_NUM_THREADS": str(count)}
                found.append(Contender(title, "torch", maker, settings, count))
        elif name.startswith("JAX"):
            found.append(Contender(name, "jax", maker, xla_environment(few)))
        else:
            forms = {name: maker}
            if "captured" in inspect.signature(maker).parameters:
                forms[f"{name}, captured"] = functools.partial(maker, captured=True)
            found += [Contender(title, "minigrad", form) for title, form in forms.items()]
            if threads > 1:  # on two halves of one core a small model is faster with one thread
                one = {"MINIGRAD_NUM_THREADS": "1"}
                found += [
                    Contender(f"{title}, 1 thread", "minigrad", form, one)
                    for title, form in forms.items()
                ]
    for module_name in PEERS:
        peer = importlib.import_module(f"{__package__}.{module_name}")
        maker = peer.MAKERS.get(case_name)
        if maker is not None:
            found += peer.contenders(maker, few or threads)
    return {contender.name: contender for contender in found}
