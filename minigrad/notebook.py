"""All HTML there is: what a notebook shows of tensors, modules and records.

Each class has a one-line ``_repr_html_`` that imports this when it is first asked for, so that
importing minigrad costs nothing more.  Nothing here computes with tensors: arrays are only looked
at, so that showing a tensor is safe at any time, in ``no_grad`` or in ``mg.capture``.

The looks are written into the elements, without scripts and style sheets, and with colours that
can be seen through, so that they go with light and dark pages alike.  Every word that comes from
outside is escaped.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from .nodes import spell_site
from .spelling import digest, norm, short, spell_shape

_ROWS, _COLUMNS = 8, 10  # of a matrix that is written out
_CELLS = 32, 64  # rows and columns of a heat map
_MODULES = 100  # that are shown one by one
_BOX = "font-size:13px;line-height:1.45;max-width:64em;overflow-x:auto"
_CELL = "padding:1px 7px;text-align:right"
_TABLE = "border-collapse:collapse;margin:3px 0;color:inherit;font-size:inherit"
_FAINT = "opacity:.72"
_LOW, _HIGH, _BAD = (31, 111, 190), (224, 123, 0), (216, 27, 140)  # below zero, above, nan

_IMAGES = {"conv2d", "max_pool2d", "avg_pool2d"}
# ops whose result has the axes of what they take
_KEEP = {
    "absolute", "add", "astype", "clip", "dropout", "elu", "exp", "gelu", "identity",
    "leaky_relu", "multiply", "negative", "relu", "sigmoid", "softplus", "square", "subtract",
    "tanh",
}  # fmt: skip


# -- pieces -----------------------------------------------------------------------------------


def box(*parts: str) -> str:
    """Parts of HTML as one block."""
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def heading(name: str, *notes: str) -> str:
    """A line: a name, and in fainter letters notes about it.  All are text, not HTML."""
    faint = "".join(f' <span style="{_FAINT}">\u00b7 {escape(note)}</span>' for note in notes)
    return f"<div><b>{escape(name)}</b>{faint}</div>"


def remark(text: str) -> str:
    """A line in small letters.  text: not HTML."""
    return f'<div style="{_FAINT};font-size:12px">{escape(text)}</div>'


def table(
    rows: Iterable[Sequence[Any]], header: Sequence[str] = (), last_bold: bool = False
) -> str:
    """Rows of text (not HTML), the first column to the left, the others to the right."""
    left = _CELL.replace("right", "left")

    def line(cells: Sequence[Any], tag: str) -> str:
        styles = [left, *[_CELL] * (len(cells) - 1)]
        inside = (f'<{tag} style="{s}">{escape(str(c))}</{tag}>' for s, c in zip(styles, cells))
        return f"<tr>{''.join(inside)}</tr>"

    lines = [line(header, "th")] if header else []
    body = list(rows)
    lines += [line(row, "th" if last_bold and row is body[-1] else "td") for row in body]
    return f'<table style="{_TABLE}">{"".join(lines)}</table>'


# -- tensors ----------------------------------------------------------------------------------


def of_tensor(tensor: Any) -> str:
    """Values (a table, or a summary and a heat map), shape, dtype, maker, gradient."""
    array = tensor.array
    name = type(tensor).__name__ if tensor.node is None else "Tensor"
    label = getattr(tensor, "name", "")
    notes = [spell_shape(tensor.shape, axis_names(tensor)), str(tensor.dtype), made_by(tensor)]
    head = heading(f"{name} {label}".strip(), *notes, gradient(tensor))
    return box(head, _values(array))


def made_by(tensor: Any) -> str:
    """Which op made a tensor, and where it was called."""
    if tensor.node is not None:
        return f"made by {tensor.node.name} at {spell_site(tensor.node.site)}"
    return "a leaf"


def gradient(tensor: Any) -> str:
    """What there is to say about the gradient of a tensor."""
    if tensor.grad is not None:
        return f"gradient of norm {short(norm(tensor.grad.array))}"
    if not tensor.requires_grad:
        return "no gradient wanted"
    if tensor.node is not None:
        return "gradient: None (retain_grad() would keep it)"
    return "gradient: None yet"


def axis_names(tensor: Any) -> tuple[str, ...] | None:
    """Names of the axes where the op that made the tensor tells, else None."""
    node, ndim = tensor.node, len(tensor.shape)
    if node is None:
        return _parameter_axes(getattr(tensor, "name", ""), ndim)
    found: tuple[str, ...]
    moved: list[Any] = []  # axes of the transpositions that were looked through
    for _ in range(20):
        if getattr(node.op, "over_time", False):
            found = ("T", "N", "H") if tensor.slot == 0 else ("N", "H")
        elif node.name in _IMAGES:
            found = ("N", "H", "W", "C")
        else:
            source = next((arg for arg in node.args if hasattr(arg, "storage")), None)
            if source is None or source.node is None:
                return None
            if node.name == "transpose":
                axes = node.params.get("axes", node.args[1] if len(node.args) > 1 else None)
                moved.append(range(len(source.shape))[::-1] if axes is None else axes)
            elif node.name not in _KEEP or source.shape != node.outputs[0][0]:
                return None
            tensor, node = source, source.node
            continue
        for axes in reversed(moved):
            found = tuple(found[axis] for axis in axes)
        return found if len(found) == ndim else None
    return None


def _parameter_axes(name: str, ndim: int) -> tuple[str, ...] | None:
    """Axes of the parameters whose names mean one thing everywhere."""
    last = name.rpartition(".")[2]
    known: dict[tuple[str, int], tuple[str, ...]] = {
        ("w_x", 2): ("D", "gates"),
        ("w_h", 2): ("H", "gates"),
        ("weight", 4): ("KH", "KW", "C", "O"),
    }
    return known.get((last, ndim))


def _values(array: np.ndarray) -> str:
    if not array.size:
        return remark("empty: there are no numbers")
    if not array.ndim:
        return f"<div>{escape(short(array.item()))}</div>"
    if array.ndim <= 2 and array.size <= _ROWS * _COLUMNS:
        rows = array.reshape(-1, array.shape[-1])
        if len(rows) <= _ROWS and rows.shape[1] <= 2 * _COLUMNS:
            return _matrix(rows)
    told = f"{array.size:,} numbers: {digest(array)}"
    if array.ndim == 2 and min(array.shape) > 1:
        return remark(told) + _heat_map(array)
    return remark(told) + (remark(_beginning(array)) if array.ndim == 1 else "")


def _beginning(array: np.ndarray) -> str:
    return "begins " + ", ".join(short(value) for value in array[:8].tolist()) + ", \u2026"


def _matrix(rows: np.ndarray) -> str:
    """Every number, on a ground that shows its sign and size.  rows: (R, C)"""
    shares = _shares(rows)
    lines = []
    for row, row_shares in zip(rows.tolist(), shares.tolist()):
        cells = (
            f'<td style="{_CELL};background:{_color(share)}">{escape(short(value))}</td>'
            for value, share in zip(row, row_shares)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table style="{_TABLE}">{"".join(lines)}</table>'


def _shares(values: np.ndarray) -> np.ndarray:
    """Each number as a share of the largest, in [-1, 1]; what is infinite counts as 1."""
    with np.errstate(all="ignore"):
        values = values.astype(np.float64)
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        return np.clip(values / largest, -1, 1)


def _color(share: float) -> str:
    if math.isnan(share):
        return f"rgba{(*_BAD, 0.5)}"
    color = _LOW if share < 0 else _HIGH
    return f"rgba{(*color, round(0.42 * abs(share), 3))}"


def _heat_map(matrix: np.ndarray) -> str:
    """A faint picture of a matrix, or of some of its rows and columns."""
    picks = [
        np.linspace(0, size - 1, min(size, most)).astype(int)
        for size, most in zip(matrix.shape, _CELLS)
    ]
    cells = matrix[np.ix_(*picks)]
    nan = cells.dtype.kind == "f" and np.isnan(cells).any()
    rows, columns = cells.shape
    scale = max(2, min(12, 320 // columns, 200 // rows))
    code = base64.b64encode(_png(_shares(cells))).decode()
    some = "" if cells.shape == matrix.shape else f"{rows} rows and {columns} columns of it; "
    return (
        f'<img alt="heat map of the matrix" width="{columns * scale}" height="{rows * scale}" '
        f'style="image-rendering:pixelated;border:1px solid rgba(128,128,128,.4);margin-top:3px" '
        f'src="data:image/png;base64,{code}">'
        + remark(f"{some}blue below zero, orange above" + ", pink not a number" * bool(nan))
    )


def _png(shares: np.ndarray) -> bytes:
    """Numbers in [-1, 1] as a PNG with a palette one can see through.  shares: (R, C)"""
    steps = np.arange(255) - 127
    palette = [_LOW if step < 0 else _HIGH for step in steps] + [_BAD]
    alpha = [*np.abs(steps), 255 // 2]
    levels = np.where(np.isnan(shares), 255, np.nan_to_num(shares) * 127 + 127).round()
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in levels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    height, width = shares.shape
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", bytes(part for color in palette for part in color)),
            chunk(b"tRNS", bytes(int(a) for a in alpha)),
            chunk(b"IDAT", zlib.compress(rows, 9)),
            chunk(b"IEND", b""),
        ]
    )


# -- modules ----------------------------------------------------------------------------------


def of_module(module: Any) -> str:
    """The parts of a module, folded, with shapes, norms and gradients of its parameters."""
    known: dict[int, str] = {}  # id of a module that was shown -> its name

    def show(part: Any, name: str, path: str) -> str:
        title = f"{name + ': ' if name else ''}{type(part).__name__}"
        if id(part) in known:
            return heading(title, f"the same as {known[id(part)] or 'the whole'}")
        if len(known) >= _MODULES:
            return heading(title, "not shown")
        known[id(part)] = path
        count = _numbers(part)
        notes = [part.extra_repr(), f"{count:,} parameters" if count else "no parameters"]
        if not part.training:
            notes.append("evaluation mode")
        own = [(key, each) for key, each in part._parts() if hasattr(each, "storage")]
        below = [(key, each) for key, each in part._parts() if hasattr(each, "_parts")]
        head = heading(title, *[note for note in notes if note])
        if not own and not below:
            return f'<div style="margin-left:1.1em">{head}</div>'
        head = head.replace("<div>", "").replace("</div>", "")
        inside = _parameters(own) + "".join(
            show(each, key, f"{path}.{key}" if path else key) for key, each in below
        )
        state = " open" if not path or len(below) > 1 else ""
        return (
            f'<details{state} style="margin-left:{1.1 if path else 0}em"><summary>{head}</summary>'
            f"{inside}</details>"
        )

    return box(show(module, "", ""))


def _numbers(module: Any) -> int:
    """How many there are to learn.  (``num_parameters`` would give the parameters new names.)"""
    owned = [each for part in module.modules() for _, each in part._parts()]
    return sum(each.size for each in {id(each): each for each in owned if _learnt(each)}.values())


def _learnt(part: Any) -> bool:
    """Whether it is a Parameter rather than a Buffer, a module, or anything else."""
    return hasattr(part, "storage") and hasattr(part, "name")


def _parameters(own: Sequence[tuple[str, Any]]) -> str:
    if not own:
        return ""
    rows = [
        (
            key if _learnt(each) else f"{key} ({type(each).__name__.lower()})",
            spell_shape(each.shape), each.dtype, short(norm(each.array)),
            short(norm(each.grad.array)) if each.grad is not None
            else "none yet" if each.requires_grad else "not wanted",
        )
        for key, each in own
    ]  # fmt: skip
    header = ("", "shape", "dtype", "2-norm", "norm of gradient")
    return f'<div style="margin-left:1.1em">{table(rows, header)}</div>'
