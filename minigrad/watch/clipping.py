"""What clipping did, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..spelling import short

_SHOWN = 5  # steps in a notebook


class ClipTimeline:
    """What clipping by the global norm did, step by step, beside the loss.

    (Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural
    networks", is where the clipping comes from.)

    >>> import minigrad as mg
    >>> from minigrad import optim, watch
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> clips = watch.ClipTimeline()
    >>> for step in range(2):
    ...     w.grad = mg.tensor([3.0, 4.0])
    ...     clips.record(step, 1.0, optim.clip_grad_norm_([w], 2.0))
    >>> clips.before, clips.after.round(3), clips.fraction_clipped
    (array([5., 5.]), array([2., 2.]), 1.0)
    """

    def __init__(self) -> None:
        self._rows: list[tuple[int, float, float, float, float, bool]] = []
        self._shares: list[dict[str, float]] = []

    def record(self, step: int, loss: Any, report: Any) -> None:
        """Add one training step.

        loss: a number, or a tensor of one.  report: what ``clip_grad_norm_`` returned
        (before and after: global norms; scale; clipped; shares: a number by parameter name).
        Raises DTypeError for anything else; nothing is added then.
        """
        try:
            row = (
                int(step), float(loss), float(report.before), float(report.after),
                float(report.scale), bool(report.clipped),
            )  # fmt: skip
            shares = dict(report.shares)
        except (AttributeError, TypeError, ValueError) as error:
            raise DTypeError(
                "ClipTimeline.record: expects a step, a loss and what clip_grad_norm_ returned, "
                f"got {step!r:.40}, {loss!r:.40} and {report!r:.40}: {error}"
            ) from error
        self._rows.append(row)
        self._shares.append(shares)

    def state_dict(self) -> dict[str, Any]:
        """All records, for a checkpoint."""
        return {"records": list(self._rows), "shares": self.shares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`.  Raises ArgumentError for anything else."""
        records: Any = state.get("records")
        shares: Any = state.get("shares")
        columns: list[Any] = list(shares.values()) if isinstance(shares, dict) else [None]
        if not isinstance(records, list) or any(np.shape(c) != (len(records),) for c in columns):
            raise ArgumentError(
                "ClipTimeline.load_state_dict: expects 'records', a list, and 'shares', an array "
                "as long for each parameter"
            )
        rows = zip(*columns) if columns else [()] * len(records)
        self._rows = list(records)
        self._shares = [
            {name: float(share) for name, share in zip(shares, row) if not np.isnan(share)}
            for row in rows
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<ClipTimeline {self._told()}>"

    def _told(self) -> str:
        if not self._rows:
            return "without records"
        loss, before = self.loss, self.before
        return (
            f"of {len(self):,} steps: {self.fraction_clipped:.0%} clipped, largest norm "
            f"{short(np.max(before))}, loss {short(loss[0])} to {short(loss[-1])}"
        )

    def _repr_html_(self) -> str:
        from .. import notebook

        rows = [
            (f"{step:,}", *map(short, numbers), "yes" if clipped else "no")
            for step, *numbers, clipped in self._rows[-_SHOWN:]
        ]
        header = ("step", "loss", "norm before", "norm after", "scale", "clipped")
        last = notebook.remark("the last steps:") if len(self) > _SHOWN else ""
        table = notebook.table(rows, header) if rows else ""
        return notebook.box(notebook.heading("ClipTimeline", self._told()), last, table)

    def _column(self, index: int, dtype: Any) -> np.ndarray:
        return np.array([row[index] for row in self._rows], dtype)

    @property
    def steps(self) -> np.ndarray:
        """Training steps, (records,) int64."""
        return self._column(0, np.int64)

    @property
    def loss(self) -> np.ndarray:
        """Loss at each step, (records,) float64."""
        return self._column(1, np.float64)

    @property
    def before(self) -> np.ndarray:
        """Global norm of the gradients before clipping, (records,) float64."""
        return self._column(2, np.float64)

    @property
    def after(self) -> np.ndarray:
        """Global norm after clipping, (records,) float64."""
        return self._column(3, np.float64)

    @property
    def scale(self) -> np.ndarray:
        """What the gradients were multiplied by, (records,) float64; 1 where not clipped."""
        return self._column(4, np.float64)

    @property
    def clipped(self) -> np.ndarray:
        """Whether the step was clipped, (records,) bool."""
        return self._column(5, np.bool_)

    @property
    def shares(self) -> dict[str, np.ndarray]:
        """Share of each parameter in the global norm: name to (records,) float64.

        NaN at the steps whose report did not name the parameter.
        """
        names = dict.fromkeys(name for shares in self._shares for name in shares)
        return {
            name: np.array([shares.get(name, np.nan) for shares in self._shares], np.float64)
            for name in names
        }

    @property
    def fraction_clipped(self) -> float:
        """Clipped steps over all steps, 0 to 1; 0 if there are none."""
        return float(np.mean(self.clipped)) if self._rows else 0.0

    def running_fraction_clipped(self, window: int = 100) -> np.ndarray:
        """Fraction clipped among the last ``window`` steps at each step, (records,) float64.

        At the start, among as many as there are.  Raises ArgumentError unless window >= 1.
        """
        if window < 1:
            raise ArgumentError(
                f"running_fraction_clipped: window must be at least 1 step, got {window}"
            )
        total = np.concatenate([[0], np.cumsum(self.clipped)])
        last = np.arange(1, len(total))
        first = np.maximum(last - window, 0)
        return (total[last] - total[first]) / (last - first)
