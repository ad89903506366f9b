"""Finding the files of a data set in a folder, and knowing the right ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, DTypeError


def as_path(path: Any, where: str) -> Path:
    """Return ``path`` as a Path, ~ expanded; ``where`` heads the message.

    Raises DTypeError for anything but a str or a path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise DTypeError(f"{where}: path must be a str or a path, not {type(path).__name__}")
    return Path(path).expanduser()


def data_folder(path: Any, where: str) -> Path:
    """Return ``path`` as a Path, ~ expanded, if it is a folder.

    Raises DTypeError for anything but a str or a path, DataError if there is no such folder.
    """
    folder = as_path(path, where)
    if not os.path.isdir(folder):  # unlike Path.is_dir it never raises
        what = "is a file; name the folder it is in" if os.path.isfile(folder) else "is no folder"
        raise DataError(f"{where}: {folder} {what}")
    return folder


def find_file(folder: Path, subfolder: str, names: Iterable[str]) -> Path | None:
    """Return the first file that has one of ``names``, in ``folder`` or else in its ``subfolder``.

    One root folder can so hold every data set.  None if there is no such file.
    """
    candidates = (place / name for place in (folder, folder / subfolder) for name in names)
    return next((file for file in candidates if os.path.isfile(file)), None)


class Published(NamedTuple):
    """What is known of a file, before compression."""

    size: int  # bytes
    sha256: str

    def flaw(self, read: Callable[[int], bytes]) -> str | None:
        """Why what ``read(limit)`` gives is not the file; None if it is.

        No more is read than it takes to see that there is too much.
        """
        data = read(self.size + 1)
        if len(data) != self.size:
            found = "more" if len(data) > self.size else f"{len(data):,}"
            return f"{found} bytes uncompressed, expected {self.size:,}"
        digest = hashlib.sha256(data).hexdigest()
        return None if digest == self.sha256 else f"sha256 {digest}, expected {self.sha256}"
