"""Clipping of gradients, in place, with a report of what was done.

(Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
ICML 2013.)  TensorFlow's formulas: a gradient is multiplied by c / max(norm, c).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentError, InplaceError, NonFiniteError
from ..nodes import call_site, mark_changed
from ..tensor import Tensor
from ._checks import gradients, named_tensors, number, spell


class ClipReport(float):
    """What a clipping function did.  As a number it is ``before`` (what PyTorch returns).

    before, after: norm of all gradients together, the root of the sum of all squares.
    scale: after / before, 1 if nothing was clipped; for :func:`clip_grad_norm_` the factor
    that every gradient was multiplied by.
    clipped: whether anything was changed.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> report = optim.clip_grad_norm_({"w": w}, 5.0)
    >>> report
    ClipReport(before=10, after=5, scale=0.5, clipped=True)
    >>> [(name, round(share, 3)) for name, share in report.shares.items()]
    [('w', 1.0)]
    """

    __slots__ = ("after", "scale", "clipped", "_names", "_squares")
    after: float
    scale: float
    clipped: bool
    _names: Sequence[str]
    _squares: Sequence[float]

    def __new__(
        cls,
        before: float,
        after: float,
        scale: float,
        clipped: bool,
        names: Sequence[str] = (),
        squares: Sequence[float] = (),
    ) -> ClipReport:
        report = super().__new__(cls, before)
        report.after = after
        report.scale = scale
        report.clipped = clipped
        report._names = names
        report._squares = squares
        return report

    def __reduce__(self) -> tuple[Any, ...]:
        parts = self.before, self.after, self.scale, self.clipped, self._names, self._squares
        return ClipReport, parts

    @property
    def before(self) -> float:
        """The norm before clipping."""
        return float(self)

    @property
    def shares(self) -> dict[str, float]:
        """Name of each parameter -> its part of the squared norm before; they sum to 1."""
        total = sum(self._squares) or 1.0
        return {name: square / total for name, square in zip(self._names, self._squares)}

    def __repr__(self) -> str:
        return (
            f"ClipReport(before={self.before:.6g}, after={self.after:.6g}, "
            f"scale={self.scale:.6g}, clipped={self.clipped})"
        )


def clip_grad_norm_(
    params: Any,
    max_norm: float,
    *,
    error_if_nonfinite: bool = True,
    allow_missing: bool = False,
) -> ClipReport:
    """Multiply all gradients by max_norm / max(norm, max_norm), norm being that of them all.

    params: tensors, (name, tensor) pairs or a dict; those with ``requires_grad=False`` are
    left out.  max_norm: above 0; infinity measures and changes nothing.  The squares are
    summed in float64, in a fixed order.
    error_if_nonfinite: refuse NaN and infinity.  If False, arithmetic takes its course: a
    NaN makes every gradient NaN, an infinity makes the finite ones 0, as in PyTorch.
    allow_missing: leave out parameters without a gradient.

    Raises NonFiniteError naming the parameters and what they hold, GraphError naming those
    without a gradient, ArgumentError, DTypeError, ShapeError; no gradient is changed then.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.clip_grad_norm_([w], 5.0)
    ClipReport(before=10, after=5, scale=0.5, clipped=True)
    >>> w.grad.numpy().round(3)
    array([3., 4.], dtype=float32)
    """
    where = "clip_grad_norm_"
    max_norm = _bound(max_norm, where)
    found, names = _gradients(params, where, allow_missing)
    norm, squares, _ = _measure(found, names, where, error_if_nonfinite)
    if norm <= max_norm:
        return ClipReport(norm, norm, 1.0, False, names, squares)
    factor = max_norm / norm
    _refuse_read_only(found, names, where)
    site = call_site()
    for gradient in found:
        if gradient is not None:
            _change(gradient, where, site, _scale, factor)
    return ClipReport(norm, norm * factor, factor, True, names, squares)


def clip_each_grad_norm_(
    params: Any,
    max_norm: float,
    *,
    error_if_nonfinite: bool = True,
    allow_missing: bool = False,
) -> ClipReport:
    """Multiply each gradient by max_norm / max(norm, max_norm), norm being its own.

    TensorFlow's clip_by_norm.  The report is about all gradients together.  Arguments and
    errors as for :func:`clip_grad_norm_`.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> optim.clip_each_grad_norm_([w], 5.0)
    ClipReport(before=10, after=5, scale=0.5, clipped=True)
    >>> w.grad.numpy().round(3)
    array([3., 4.], dtype=float32)
    """
    where = "clip_each_grad_norm_"
    max_norm = _bound(max_norm, where)
    found, names = _gradients(params, where, allow_missing)
    before, squares, unit = _measure(found, names, where, error_if_nonfinite)
    norms = [unit * math.sqrt(square) for square in squares]
    if all(norm <= max_norm for norm in norms):
        return ClipReport(before, before, 1.0, False, names, squares)
    _refuse_read_only(found, names, where)
    site = call_site()
    after = 0.0  # squared
    for gradient, norm in zip(found, norms):
        if gradient is not None and not norm <= max_norm:
            factor = max_norm / norm
            _change(gradient, where, site, _scale, factor)
            norm *= factor
        after = math.hypot(after, norm)
    return ClipReport(before, after, after / before, True, names, squares)


def clip_grad_value_(
    params: Any,
    value: float | tuple[float, float],
    *,
    error_if_nonfinite: bool = True,
    allow_missing: bool = False,
) -> ClipReport:
    """Bring every entry of every gradient into [-value, value].

    value: above 0; or a pair (low, high), as in TensorFlow's clip_by_value.  Arguments and
    errors as for :func:`clip_grad_norm_`; if non-finite gradients are let through, infinities
    are clipped and NaNs stay.

    >>> import minigrad as mg
    >>> from minigrad import optim
    >>> w = mg.tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> report = optim.clip_grad_value_([w], 7.0)
    >>> w.grad
    tensor([6., 7.])
    """
    where = "clip_grad_value_"
    if isinstance(value, (tuple, list)):
        if len(value) != 2 or not number(value[0], "low", where) <= number(value[1], "high", where):
            raise ArgumentError(f"{where}: the bounds must be (low, high), got {value!r}")
        low, high = float(value[0]), float(value[1])
    else:
        high = _bound(value, where, "value")
        low = -high
    found, names = _gradients(params, where, allow_missing)
    before, squares, _ = _measure(found, names, where, error_if_nonfinite)
    _refuse_read_only(found, names, where)
    site = call_site()
    outside = 0
    for gradient in found:
        if gradient is not None:
            outside += _change(gradient, where, site, kernels.clamp, low, high)
    if not outside:
        return ClipReport(before, before, 1.0, False, names, squares)
    after, _, _ = _measure(found, names, where, False)
    return ClipReport(before, after, after / before if before else 1.0, True, names, squares)


# -- the parts ------------------------------------------------------------------------------


def _bound(value: Any, where: str, name: str = "max_norm") -> float:
    value = number(value, name, where)
    if not value > 0:
        raise ArgumentError(f"{where}: {name} must be above 0, got {value}")
    return value


def _gradients(
    params: Any, where: str, allow_missing: bool
) -> tuple[list[Tensor | None], list[str]]:
    tensors, names = named_tensors(params, where)
    return gradients(tensors, names, where, allow_missing), names


def _measure(
    found: Sequence[Tensor | None], names: Sequence[str], where: str, refuse: bool
) -> tuple[float, list[float], float]:
    """The norm of all gradients; the square of the norm of each, in units of ``unit``; unit."""
    squares = [0.0 if g is None else _square(g.array) for g in found]
    total = total_of(squares)
    if total < math.inf:  # false for NaN
        return math.sqrt(total), squares, 1.0
    arrays = [np.zeros(1) if g is None else g.array for g in found]
    broken = [_contents(name, x) for name, x in zip(names, arrays) if not np.isfinite(x).all()]
    if not broken:  # only the squares are beyond float64
        unit = max(float(np.abs(x).max(initial=0.0)) for x in arrays)
        squares = [_square(x / unit) for x in arrays]
        return unit * math.sqrt(sum(squares)), squares, unit
    if refuse:
        raise NonFiniteError(
            f"{where}: not finite: {spell(broken)} ({len(broken)} of {len(names)} gradients); "
            "they are unchanged. Look at the loss and the parameters, try a smaller learning "
            "rate, or go on regardless with error_if_nonfinite=False."
        )
    return math.sqrt(total), squares, 1.0


def _square(x: np.ndarray) -> float:
    """Sum of the squares of all numbers of x, in float64."""
    squares = kernels.room_for_squares(x)
    kernel = kernels.squared_norm
    kernels.run_rows(kernel, squares.size, kernel.grain, x.ravel(), squares)
    return total_of(squares.tolist())


def total_of(squares: Sequence[float]) -> float:
    """Their sum, from the first to the last (which the builtin does not in all versions)."""
    total = 0.0
    for square in squares:
        total += square
    return total


def _contents(name: str, array: np.ndarray) -> str:
    """``w (3 nan, 1 inf of 64)``."""
    counts = {"nan": np.isnan(array).sum(), "inf": np.isinf(array).sum()}
    parts = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"{name} ({parts} of {array.size})"


def _refuse_read_only(found: Sequence[Tensor | None], names: Sequence[str], where: str) -> None:
    for gradient, name in zip(found, names):
        if gradient is not None and not gradient.array.flags.writeable:
            raise InplaceError(f"{where}: the gradient of {name} is read-only; give it a copy")


def _scale(x: np.ndarray, factor: float) -> None:
    kernels.run_rows(kernels.scale, x.size, kernels.scale.grain, x, factor)


def _change(
    gradient: Tensor, where: str, site: Any, kernel: Callable[..., Any], *numbers: float
) -> Any:
    """Run a kernel on the flat gradient, in place.  site: of the call of ``where``."""
    array = gradient.array
    flat = array.ravel()  # a view, or a copy if strided
    result = kernel(flat, *numbers)
    if not array.flags.c_contiguous:
        array[...] = flat.reshape(array.shape)
    mark_changed(gradient.storage, array, f"{where}()", site)
    return result
