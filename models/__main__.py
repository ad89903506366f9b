"""``python -m models``: every model in one table."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence

from . import MODELS, Model

_COLUMNS = {  # heading -> attribute of Model
    "model": "name", "document": "document", "learns": "learns",
    "expected result": "expected", "training takes": "time",
}  # fmt: skip
_GAP = "  "
_WIDEST = 160  # characters; a wider table is hard to read
_HINT = "python -m models.NAME --help explains a model, python -m models.NAME runs it."


def table(models: Sequence[Model], width: int) -> str:
    """The models as text at most ``width`` characters wide.

    One row a model, its cells wrapped; in a narrow terminal one paragraph a model.
    """
    cells = [[getattr(model, attribute) for attribute in _COLUMNS.values()] for model in models]
    room = min(width, _WIDEST) - len(_GAP) * (len(_COLUMNS) - 1)
    widths = _share(cells, room)
    if sum(widths) > room:
        return "\n\n".join(_paragraph(row, width) for row in cells)
    lines = [*_row(list(_COLUMNS), widths), _GAP.join("-" * each for each in widths)]
    for row in cells:
        lines += _row(row, widths)
    return "\n".join(lines)


def _share(cells: list[list[str]], room: int) -> list[int]:
    """Widths of the columns: no word is broken, and the rest of the room goes where it helps."""
    columns = list(zip(_COLUMNS, *cells, strict=True))
    needs = [max(len(text) for text in column) for column in columns]
    words = [max(len(word) for text in column for word in text.split()) for column in columns]
    widths = [needs[0], *words[1:]]
    while sum(widths) < room and widths != needs:
        narrow = max(range(len(needs)), key=lambda i: needs[i] / widths[i])
        widths[narrow] += 1
    return widths


def _row(texts: list[str], widths: list[int]) -> list[str]:
    wrapped = [
        textwrap.wrap(text, width, break_on_hyphens=False)
        for text, width in zip(texts, widths, strict=True)
    ]
    height = max(len(lines) for lines in wrapped)
    filled = [lines + [""] * (height - len(lines)) for lines in wrapped]
    return [
        _GAP.join(line.ljust(width) for line, width in zip(lines, widths, strict=True)).rstrip()
        for lines in zip(*filled, strict=True)
    ]


def _paragraph(texts: list[str], width: int) -> str:
    head, *rest = texts
    lines = [head]
    for heading, text in zip(list(_COLUMNS)[1:], rest, strict=True):
        lines += textwrap.wrap(
            f"{heading}: {text}", max(width, 20), break_on_hyphens=False,
            initial_indent="  ", subsequent_indent="    ",
        )  # fmt: skip
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, as wide as the terminal."""
    argparse.ArgumentParser(
        prog="python -m models", description=f"List every model in one table. {_HINT}"
    ).parse_args(argv)
    width = shutil.get_terminal_size(fallback=(100, 24)).columns
    print(table(MODELS, width))
    print()
    print(textwrap.fill(_HINT, max(width, 20)))


if __name__ == "__main__":
    main()
