"""Numbers, shapes, sizes and arrays in a few letters, for reprs and pictures."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MOST = 1 << 24  # numbers that a repr looks at


def short(value: Any) -> str:
    """A number in three digits, a whole one in full: 4.53, 9,870, 2.4e-06, nan, True.

    >>> [short(x) for x in (4.5312, 9870.2, 0.0000024, 3, -1.0)]
    ['4.53', '9,870', '2.4e-06', '3', '-1']
    """
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return f"{value:,}" if abs(int(value)) < 1e15 else f"{float(value):.3g}"
    value = float(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def spell_shape(shape: Any, names: Any = None) -> str:
    """A shape, with names of its axes where they are known.

    >>> spell_shape((2, 10, 5), "NTH"), spell_shape((3,)), spell_shape(())
    ('(N=2, T=10, H=5)', '(3,)', 'number')
    """
    if not len(shape):
        return "number"
    if names is None or len(names) != len(shape):
        return str(tuple(int(size) for size in shape))
    inside = ", ".join(f"{name}={size}" for name, size in zip(names, shape))
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def byte_unit(size: float) -> tuple[str, int]:
    """The largest unit that is not above ``size``, and its bytes."""
    name = [name for name, unit in UNITS.items() if unit <= max(size, 1)][-1]
    return name, UNITS[name]


def spell_bytes(size: float) -> str:
    """Bytes as 512 B, 3.4 MiB.

    >>> spell_bytes(512), spell_bytes(3_565_158)
    ('512 B', '3.4 MiB')
    """
    name, unit = byte_unit(size)
    return f"{size / unit:.3g} {name}" if size < 1000 * unit else f"{size / unit:,.0f} {name}"


def spell_count(count: float) -> str:
    """A large count: 950, 1.25 k, 6.4 M, 12 G.

    >>> spell_count(950), spell_count(6_422_528)
    ('950', '6.42 M')
    """
    for letter, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= unit:
            return f"{count / unit:.3g} {letter}" if count < 1000 * unit else f"{count:.3g}"
    return f"{count:,.0f}"


def norm(array: Any) -> float:
    """2-norm of all entries; inf where it is too large for a float64, nan where one is."""
    with np.errstate(all="ignore"):
        return math.sqrt(np.sum(np.square(np.asarray(array), dtype=np.float64)))


class Digest(NamedTuple):
    """What :func:`digest` found.  least, mean, most: of the finite numbers, None without any."""

    least: Any
    mean: float | None
    most: Any
    nans: int
    infinities: int
    sampled: bool  # whether only some of the numbers were looked at

    def __str__(self) -> str:
        parts = []
        if self.least is not None and self.mean is not None:
            parts = [f"min {short(self.least)}", f"mean {short(self.mean)}",
                     f"max {short(self.most)}"]  # fmt: skip
        parts += [f"{self.nans:,} nan"] * (self.nans > 0)
        parts += [f"{self.infinities:,} inf"] * (self.infinities > 0)
        return ", ".join(parts) + " (of a sample)" * self.sampled if parts else "empty"


def digest(array: np.ndarray) -> Digest:
    """Least, mean and largest number, and how many are none.

    array: of any shape and real dtype.  Of a very large one every k-th entry is looked at.
    """
    whole = array.size
    while array.size > _MOST:
        axis = int(np.argmax(array.shape))
        array = array[(slice(None),) * axis + (slice(None, None, 2),)]
    nans = infinities = 0
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            nans = int(np.isnan(array).sum())
            infinities = array.size - nans - int(finite.sum())
            array = array[finite]
    if not array.size:
        return Digest(None, None, None, nans, infinities, array.size < whole and not nans)
    with np.errstate(all="ignore"):
        mean = float(array.mean(dtype=np.float64))
    seen = array.size + nans + infinities
    return Digest(array.min(), mean, array.max(), nans, infinities, seen < whole)
