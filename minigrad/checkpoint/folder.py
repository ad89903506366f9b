"""The checkpoints of one run: the last few and the best, in one folder."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, CheckpointError
from . import file

_NAME = re.compile(r"step-(\d{9,})\.npz")
_PART = ".step-*.part"  # what a process that was killed while writing leaves


class Folder:
    """Checkpoints ``step-000000100.npz`` ... in a folder, of which a few are kept.

    path: of the folder; made when something is saved.  keep: how many of the last are kept,
    and beside them the one with the best score.  better: "low" for a loss, "high" for an
    accuracy.  One process at a time may write to it.

    Whenever the process or the machine dies, the newest checkpoint is whole: a file gets its
    name when it is on the disk, and older ones are removed after that.
    Raises ArgumentError for a keep below 1 or another ``better``.

    >>> import tempfile
    >>> import minigrad as mg
    >>> from minigrad import checkpoint, nn
    >>> layer = nn.Linear(2, 1, generator=mg.manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as path:
    ...     folder = checkpoint.Folder(path, keep=2)
    ...     for step in (10, 20, 30):
    ...         file = folder.save(step, score=1 / step, model=layer)
    ...     names = [file.name for file in folder.paths]
    >>> names
    ['step-000000020.npz', 'step-000000030.npz']
    """

    def __init__(
        self, path: str | os.PathLike[str], keep: int = 3, better: str = "low"
    ) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ArgumentError(f"Folder: keep must be a whole number of at least 1, got {keep!r}")
        if better not in ("low", "high"):
            raise ArgumentError(f'Folder: better must be "low" or "high", got {better!r}')
        self.path = Path(path)
        self.keep = keep
        self.better = better
        self._scores: dict[Path, float | None] = {}

    @property
    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest step first."""
        found = []
        for path in self.path.iterdir() if self.path.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match:
                found.append((int(match[1]), path))
        return [path for _, path in sorted(found)]

    @property
    def newest(self) -> Path | None:
        """The one of the highest step; None if there is none."""
        paths = self.paths
        return paths[-1] if paths else None

    @property
    def best(self) -> Path | None:
        """The one with the best score, the later of equals; None if none has a score.

        Raises CheckpointError if one cannot be read.
        """
        sign = 1 if self.better == "low" else -1
        scored = [(path, self._score(path)) for path in self.paths]
        ranked = [(sign * score, -i, path) for i, (path, score) in enumerate(scored)
                  if score is not None]  # fmt: skip
        return min(ranked)[2] if ranked else None

    def save(self, step: int, score: float | None = None, **values: Any) -> Path:
        """Write a checkpoint, then remove those that are not to be kept.  Returns its path.

        step: training steps done.  score: how good the model is, if known; not kept if it is
        not finite.  values: as for ``checkpoint.save``; ``step`` and ``score`` are saved with
        them.  Raises as that does, and ArgumentError for a step below 0.
        """
        from . import save

        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise ArgumentError(f"Folder.save: step must be a count of steps, got {step!r}")
        score = None if score is None or not math.isfinite(score) else float(score)
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"step-{step:09d}.npz"
        save(path, step=step, score=score, **values)
        self._scores[path] = score
        self._remove({*self.paths[-self.keep :], self.best, path})
        return path

    def load(self, *records: type, **objects: Any) -> dict[str, Any]:
        """``checkpoint.load`` of the newest.  Raises CheckpointError if there is none."""
        from . import load

        newest = self.newest
        if newest is None:
            raise CheckpointError(f"there is no checkpoint in {self.path}")
        return load(newest, *records, **objects)

    def clear(self) -> None:
        """Remove all checkpoints, for a run that begins anew."""
        self._remove(set())

    def _remove(self, kept: set[Path | None]) -> None:
        gone = [path for path in self.paths if path not in kept]
        for path in [*gone, *self.path.glob(_PART)]:
            path.unlink(missing_ok=True)
            self._scores.pop(path, None)

    def _score(self, path: Path) -> float | None:
        if path not in self._scores:
            content, _ = file.read(path, structure_only=True)
            score = content.get("score") if isinstance(content, dict) else None
            known = isinstance(score, float) and math.isfinite(score)
            self._scores[path] = score if known else None
        return self._scores[path]
