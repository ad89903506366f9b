"""What recorders of recurrent layers share: training steps, and finding the layers of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..nn.module import Module
from ..nn.rnn.base import Cell, Layer

_SHOWN = 16  # columns in a notebook: a name, and time steps


class LayerRecorder:
    """Base of what records one recurrent layer.  ``attach`` watches all layers of a model."""

    _slot = ""  # attribute of layers and cells that takes the function to call

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._step: int | None = None
        self._records: list[Any] = []  # as many as steps

    @classmethod
    def attach(cls, model: Module) -> Recorders[Any]:
        """One recorder for each recurrent layer and cell in ``model``, by its dotted name.

        They record from now on until ``detach()``, or until the end of a ``with`` block:

            with watch.GradientFlow.attach(model) as flows:
                ...
            flows["decoder.0"].h

        A layer that *is* the model goes by the name of its class.  Raises ArgumentError if
        the model has no recurrent layer.
        """
        if not isinstance(model, Module):
            raise DTypeError(f"{cls.__name__}.attach: expects a module, got {type(model).__name__}")
        found = {
            name or type(module).__name__: module
            for name, module in model.named_modules()
            if isinstance(module, (Cell, Layer))
        }
        if not found:
            raise ArgumentError(
                f"{cls.__name__}.attach: {type(model).__name__} has no recurrent layer or cell"
            )
        return Recorders(cls._slot, {name: (m, cls._of(m)) for name, m in found.items()})

    @classmethod
    def _of(cls, layer: Cell | Layer) -> Any:
        """A recorder that fits the layer."""
        return cls()

    def record(self, *args: Any) -> None:
        """What a fused layer calls."""
        raise TypeError(f"{type(self).__name__} does not define record()")

    def watch_step(self, *args: Any) -> None:
        """What a cell calls at each time step."""
        raise TypeError(f"{type(self).__name__} does not define watch_step()")

    def tag(self, step: int) -> None:
        """Say which training step the records from now on belong to.

        Without it records are numbered 0, 1, 2 and so on.
        """
        self._step = step

    def _number_record(self) -> None:
        self._steps.append(len(self._steps) if self._step is None else self._step)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._told()}>"

    def _repr_html_(self) -> str:
        from .. import notebook

        return notebook.box(notebook.heading(type(self).__name__, self._told()), *self._tables())

    def _told(self) -> str:
        """How many records there are, and what the last one says."""
        if not self._steps:
            return "without records"
        many = "1 record" if len(self) == 1 else f"{len(self):,} records"
        return f"of {many}, the last of step {self._steps[-1]:,}: {self._last()}"

    def _last(self) -> str:
        """The last record in a few words."""
        return ""

    def _grid(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the last record: something for each time step."""
        return [], []

    def _tables(self) -> list[str]:
        """The last record as HTML."""
        from .. import notebook

        if not self._steps:
            return []
        header, rows = self._grid()
        kept = [*range(len(header))]
        if len(header) > _SHOWN:  # the first and the last time steps
            kept = [*kept[: _SHOWN // 2], *kept[-_SHOWN // 2 :]]
        cut = [[line[place] for place in kept] for line in (header, *rows)]
        note = f"{len(header) - len(kept)} time steps in the middle are left out"
        more = notebook.remark(note) if len(kept) < len(header) else ""
        return [notebook.table(cut[1:], cut[0]), more]

    def state_dict(self) -> dict[str, Any]:
        """All records, for a checkpoint."""
        return {"steps": list(self._steps), "records": list(self._records)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`.  Raises ArgumentError for anything else."""
        steps: Any = state.get("steps")
        records: Any = state.get("records")
        lists = isinstance(steps, list) and isinstance(records, list)
        if not lists or len(steps) != len(records):
            raise ArgumentError(
                f"{type(self).__name__}.load_state_dict: expects as many steps as records"
            )
        self._steps = list(steps)
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def steps(self) -> np.ndarray:
        """Training step of each record, (records,) int64."""
        return np.array(self._steps, np.int64)


R = TypeVar("R", bound=LayerRecorder)


class Recorders(dict[str, R], Generic[R]):
    """Recorders of the recurrent layers of one model, by name; ``attach`` makes them."""

    def __init__(self, slot: str, watched: dict[str, tuple[Module, R]]) -> None:
        super().__init__({name: recorder for name, (_, recorder) in watched.items()})
        self._slot = slot
        self._before = [(module, vars(module).get(slot)) for module, _ in watched.values()]
        for module, recorder in watched.values():
            fused = isinstance(module, Layer)
            setattr(module, slot, recorder.record if fused else recorder.watch_step)

    def tag(self, step: int) -> None:
        """Say which training step the records from now on belong to, in all layers."""
        for recorder in self.values():
            recorder.tag(step)

    def state_dict(self) -> dict[str, Any]:
        """All records, for a checkpoint: name of the layer -> state of its recorder."""
        return {name: recorder.state_dict() for name, recorder in self.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`.  Raises ArgumentError for that of other layers."""
        if state.keys() != self.keys():
            raise ArgumentError(
                f"Recorders.load_state_dict: the state is of the layers {', '.join(state)}, not of "
                f"{', '.join(self)}"
            )
        before = self.state_dict()
        try:
            for name, recorder in self.items():
                recorder.load_state_dict(state[name])
        except ArgumentError:
            for name, recorder in self.items():
                recorder.load_state_dict(before[name])
            raise

    def __repr__(self) -> str:
        lines = "".join(f"\n  {name}: {recorder!r}" for name, recorder in self.items())
        return f"<Recorders of {len(self)} layers:{lines}>"

    def _repr_html_(self) -> str:
        from .. import notebook

        parts = [
            notebook.heading(f"{name}: {type(recorder).__name__}", recorder._told())
            + "".join(recorder._tables())
            for name, recorder in self.items()
        ]
        return notebook.box(*parts)

    def detach(self) -> None:
        """Record no more; whoever watched the layers before does so again."""
        for module, before in self._before:
            setattr(module, self._slot, before)

    def __enter__(self) -> Recorders[R]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.detach()


def rows(records: list[np.ndarray]) -> np.ndarray:
    """Arrays (T,) of different lengths as one (records, T) float64, filled up with NaN."""
    result = np.full((len(records), max((len(r) for r in records), default=0)), np.nan)
    for row, record in zip(result, records):
        row[: len(record)] = record
    return result
