"""Docstrings as Markdown: what mkdocstrings is told about minigrad's way of writing them.

Docstrings here are plain text that reads well in a terminal.  Three things in them mean something
else in Markdown, and are put in its words:

    x, y: shapes and meaning      a line that explains arguments   -> an entry of a list
    >>> mg.ones(2)                an example                       -> a block of code
    :func:`minigrad.ops.gru`      a reference                      -> `minigrad.ops.gru`
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAMES = re.compile(r"\*{0,2}`?\w+`?((, | and )\*{0,2}`?\w+`?)*(: )")
_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_NEW_SENTENCE = re.compile(r"[A-Z][a-z]+\b")  # Returns, Raises, Attributes, ...


def markdown(text: str) -> str:
    """A docstring, without its indentation, as Markdown."""
    text = _ROLE.sub(r"`\1`", text.replace("``", "`"))
    lines: list[str] = []
    listing = example = False
    for line in text.split("\n"):
        if line.startswith(">>> ") and not example:
            lines += ["", "```pycon"]
            example = True
        elif example and not line.strip():
            lines.append("```")
            example = False
        if example:
            lines.append(line)
            continue
        names = _NAMES.match(line)
        if names and not _NEW_SENTENCE.match(line):
            words = re.sub(r"(\*{0,2})`?(\w+)`?", r"`\1\2`", names[0][:-2]).replace("`and`", "and")
            if not listing:
                lines.append("")
            lines.append(f"- {words}: {line[names.end():]}")
            listing = True
        elif listing and line.strip() and not _NEW_SENTENCE.match(line):
            lines.append("  " + line)  # an entry goes on
        else:
            if listing and line.strip():
                lines.append("")
            listing = False
            lines.append(line)
    if example:
        lines.append("```")
    return "\n".join(lines)


class Docstrings(griffe.Extension):
    """Brings each docstring into Markdown as it is found."""

    def on_members(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called when all that is in a module or class has been found: forget what is not ours."""
        for name, member in list(obj.members.items()):
            if member.is_alias and not member.target_path.startswith("minigrad."):
                obj.del_member(name)

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for everything it finds."""
        if obj.is_attribute and "property" not in obj.labels:
            obj.docstring = None  # that of its type: int, say
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
