"""The file of a checkpoint: a ``.npz`` that NumPy reads too, with its structure as JSON text.

    structure.json        {"format": "minigrad checkpoint", "version": 1, "content": ...}
    model/lstm.w_h.npy    an array, as numpy.save writes it
    ...

Nothing is compressed or pickled, so the numbers in a file are never larger than the file.
Whatever is wrong with one is found out before any value is made of it.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..files import replacing

_STRUCTURE = "structure.json"
_FORMAT, _VERSION = "minigrad checkpoint", 1


def write(path: str | os.PathLike[str], content: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint, in place of what was at ``path``, all or nothing.

    It is on the disk when this returns.  Raises OSError.
    """
    structure = {"format": _FORMAT, "version": _VERSION, "content": content}
    with replacing(path, sync=True) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_STRUCTURE), json.dumps(structure, allow_nan=False))
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # without the time: the same bytes each time
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def read(
    path: str | os.PathLike[str], structure_only: bool = False
) -> tuple[Any, dict[str, np.ndarray]]:
    """The content, packed, and the arrays of a checkpoint; structure_only: no arrays.

    Raises CheckpointError for a file that is none or is damaged, OSError if it cannot be read.
    """
    with naming(path), open(path, "rb") as file:
        return _content(file, structure_only)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """``with`` block whose CheckpointErrors are to say which file is meant."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {os.fspath(path)} cannot be used: {error}") from error


def _content(file: Any, structure_only: bool) -> tuple[Any, dict[str, np.ndarray]]:
    size = os.fstat(file.fileno()).st_size
    try:
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
        _refuse_bombs(members, size)
        structure = _structure(archive.read(_STRUCTURE))
        chosen = [] if structure_only else [m for m in members if m.filename != _STRUCTURE]
        parts = {member.filename: archive.read(member) for member in chosen}
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"it has no {_STRUCTURE}; it is another kind of file") from error
    except Exception as error:  # damage comes out of zipfile as a dozen types
        raise CheckpointError(f"it is cut off, damaged, or no checkpoint ({error})") from error
    return structure, {name.removesuffix(".npy"): _array(name, raw) for name, raw in parts.items()}


def _refuse_bombs(members: list[zipfile.ZipInfo], size: int) -> None:
    """Raise if what is in the file would be larger than the file."""
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise CheckpointError("it has two parts of one name")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError("it is compressed, as minigrad's checkpoints never are")
    if sum(member.file_size for member in members) > size:
        raise CheckpointError("its parts are larger than the file")


def _structure(raw: bytes) -> Any:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its {_STRUCTURE} is damaged ({error})") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT or "content" not in found:
        raise CheckpointError(f"its {_STRUCTURE} is that of another program")
    if found.get("version") != _VERSION:
        raise CheckpointError(
            f"it has version {found.get('version')!r}, this minigrad reads version {_VERSION}"
        )
    return found["content"]


def _array(name: str, raw: bytes) -> np.ndarray:
    """An array of its own from what numpy.save wrote."""
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        form = np.lib.format
        header = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
        shape, fortran, dtype = header[version](stream)
    except Exception as error:  # a hostile header comes out of NumPy as a dozen types
        raise CheckpointError(f"{name} is no array ({error})") from error
    if dtype.kind not in "biufc" or dtype.hasobject or dtype.subdtype is not None:
        raise CheckpointError(f"{name} holds {dtype}; numbers and truth values are allowed")
    if any(length < 0 for length in shape):
        raise CheckpointError(f"{name} has the shape {shape}")
    data = memoryview(raw)[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise CheckpointError(f"{name} has {len(data)} bytes for shape {shape} of {dtype}")
    flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))  # a copy
    return flat.reshape(shape, order="F" if fortran else "C")
