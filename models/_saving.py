"""--resume: everything that a training depends on, saved between two of its steps.

A run is made of *parts*, one for each loop over ``run.steps()``.  What is saved of a part:

    objects      what the model handed to run.keep(): networks, optimisers, batches, records
    carried      what goes from step to step in the loop's own variables: run.carry()
    generators   all that run.generator() made for it
    step         how many steps were done

A part that is over is saved as it stood before its last step.  So a run that is resumed after
it does that step once more, and the program behind the loop finds its variables as they were.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import checkpoint
from minigrad.errors import CheckpointError, MinigradError
from minigrad.nn import Module

_PAUSE = 10.0  # seconds between two checkpoints, if --save-every does not say
_SHARE = 60  # and so many times as long as saving takes: under 2% of the time
_BEST = 1.0  # seconds after which a best result is worth a checkpoint of its own
_HIGH = ("accuracy", "exact")  # measures of which more is better
# arguments that do not change what is learned
_FREE = {"out", "resume", "save_every", "tensorboard", "steps", "live", "ask", "date", "download"}


def networks_of(objects: Mapping[str, Any]) -> dict[str, Module]:
    """The networks among what run.keep() was given, and in dicts of them, by name."""
    found = {}
    for name, value in objects.items():
        each = value if isinstance(value, dict) else {"": value}
        found.update({f"{name}/{k}".rstrip("/"): v for k, v in each.items()
                      if isinstance(v, Module)})  # fmt: skip
    return found


class Saver:
    """Saves a run into OUT/checkpoints, and brings it back.

    name: of the model; args: as parsed.  say: prints a line.
    """

    def __init__(self, name: str, args: argparse.Namespace, say: Callable[[str], None]) -> None:
        self.first = 0  # steps of this part that were done before
        self.ended = False  # whether they were all that came (the loop was left by break)
        self.carried: tuple[Any, ...] | None = None
        self.seconds = 0.0  # of training before
        self._name, self._args, self._say = name, args, say
        self._folder = checkpoint.Folder(args.out / "checkpoints")
        self._generators: dict[str, np.random.Generator] = {}  # made since the last part began
        self._part: dict[str, Any] | None = None
        self._over: list[dict[str, Any]] = []  # parts before this one, as values
        self._last: dict[str, Any] | None = None  # this part, should it be over
        self._before: dict[str, Any] | None = None  # what --resume found
        self._where = ""
        self._records: tuple[type, ...] = ()
        self._networks: dict[str, dict[str, Module]] = {}  # of all parts
        self._cost, self._since = 0.0, time.monotonic()  # seconds
        self._begun = self._saved = False
        self._score: float | None = None  # measured in the step under way; less is better
        self._best = math.inf
        self._is_best = self._wanted = self._at_last = False  # as due() found
        self._saved_score: float | None = None

    def register(self, purpose: str, generator: np.random.Generator) -> None:
        """A generator that belongs to the next part."""
        self._generators[f"{purpose} ({len(self._generators)})"] = generator

    def keep(self, name: str, records: tuple[type, ...], objects: Mapping[str, Any]) -> None:
        """Begin a part; on --resume, bring its objects and generators to where they were."""
        if self._last is not None:
            self._over.append(self._last)
        self._last, self.first, self.ended, self.carried = None, 0, False, None
        self._part = {"objects": dict(objects), "generators": self._generators}
        self._records = records
        self._generators = {}
        name = f"{name} ({len(self._networks)})" if name in self._networks else name
        self._networks[name] = networks_of(objects)
        try:
            if self._args.resume and not self._begun:
                self._read(records)
            self._begun = True
            parts = self._before["parts"] if self._before is not None else []
            if len(self._over) < len(parts):
                self._restore(parts[len(self._over)])
        except MinigradError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self._where} is not one of a run ({error!r})") from error

    def _read(self, records: tuple[type, ...]) -> None:
        path = self._folder.newest
        if path is None:
            self._say(f"no checkpoint in {self._folder.path} yet: from the beginning")
            return
        found = checkpoint.read(path, *records)
        self._where = f"checkpoint {path}"
        if found.get("model") != self._name or not isinstance(found.get("parts"), list):
            raise CheckpointError(f"{self._where} is not of a run of {self._name}")
        made, now = found.get("arguments"), self._arguments()
        if made != now:
            made = made if isinstance(made, dict) else {}
            wrong = [
                f"--{key.replace('_', '-')} {made.get(key)} (now {now.get(key)})"
                for key in {**made, **now}
                if made.get(key) != now.get(key)
            ]
            raise CheckpointError(f"{self._where} is of a run with {', '.join(wrong)}")
        self.seconds, self._best = float(found["seconds"]), float(found["best"])
        self._before = found
        self._say(f"resumed after {found['step']:,} steps, from {path}")

    def _restore(self, saved: Any) -> None:
        assert self._part is not None
        step, ended, carried = int(saved["step"]), bool(saved["ended"]), saved["carried"]
        checkpoint.restore(saved, self._part, self._where)
        self.first, self.ended, self.carried = step, ended, carried

    def _arguments(self) -> dict[str, Any]:
        chosen = {key: value for key, value in vars(self._args).items() if key not in _FREE}
        return {k: str(v) if isinstance(v, Path) else v for k, v in chosen.items()}

    def forget(self) -> None:
        """Save nothing more: something went wrong."""
        self._part = None

    # -- saving -------------------------------------------------------------------------------

    def measured(self, values: Mapping[str, float]) -> None:
        """A result on data that are not trained on: the first of ``values`` counts."""
        name, value = next(iter(values.items()))
        self._score = -value if name.startswith(_HIGH) else value
        self._is_best = self._score < self._best
        self._best = min(self._best, self._score)

    def due(self, step: int, total: int) -> bool:
        """Whether something is to be saved before ``step`` of ``total`` of this part."""
        is_best, self._is_best = self._is_best, False
        score, self._score = self._score, None
        self._at_last = step == total - 1
        if self._part is None or (step == self.first and not self._at_last):
            return False
        since = time.monotonic() - self._since
        if self._args.save_every is not None:
            wanted = is_best or step % self._args.save_every == 0
        else:
            enough = since >= _SHARE * self._cost
            wanted = enough and (since >= _PAUSE or (is_best and since >= _BEST))
            wanted = wanted or (enough and self._at_last)
        self._wanted, self._saved_score = wanted, score
        return wanted or self._at_last

    def between(self, step: int, done: int, seconds: float, leaving: bool) -> None:
        """Save before a step, where :meth:`due` said so, or because the run ends here.

        step: of this part, done: of all parts.  leaving: after Ctrl-C.
        """
        if self._part is None or (step == self.first and not self._at_last):
            return
        part = self._as_it_is(step)
        if self._at_last:
            self._last = part = checkpoint.snapshot(part, *self._records)
        if self._wanted or leaving:
            self._save(part, done, seconds)

    def left(self, step: int) -> None:
        """Called when a loop was left by break, with ``step`` under way."""
        if self._part is not None:
            part = {**self._as_it_is(step), "ended": True}
            self._last = checkpoint.snapshot(part, *self._records)

    def _due(self, step: int) -> bool:
        since = time.monotonic() - self._since
        if self._args.save_every is not None:
            return step % self._args.save_every == 0 or self._is_best
        return since >= _PAUSE or (self._is_best and since >= _BEST)

    def _affordable(self) -> bool:
        since = time.monotonic() - self._since
        return self._args.save_every is not None or since >= _SHARE * self._cost

    def _as_it_is(self, step: int) -> dict[str, Any]:
        return {"step": step, "ended": False, "carried": self.carried, **(self._part or {})}

    def _save(self, part: dict[str, Any], done: int, seconds: float) -> None:
        began = time.monotonic()
        if self._before is None and not self._saved:
            self._folder.clear()  # what another run left
        self._saved = True
        self._folder.save(
            done, self._saved_score, model=self._name, arguments=self._arguments(), seconds=seconds,
            best=self._best, parts=[*self._over, part],
        )  # fmt: skip
        self._since = time.monotonic()
        self._cost = self._since - began

    def save_weights(self, path: Path) -> bool:
        """Write the networks of all parts as they are in the end; False if there are none."""
        found = {name: networks for name, networks in self._networks.items() if networks}
        if len(found) == 1:
            (found,) = found.values()
        if found:
            checkpoint.save(path, **found)
        return bool(found)
