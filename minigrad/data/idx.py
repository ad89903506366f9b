"""The idx format, in which MNIST is published: a short header, then bytes.

All numbers are big-endian and of 32 bits: a magic number, 0x0800 + the number of axes, where 08
stands for unsigned bytes; the length of each axis; then the entries, the last axis fastest.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import DataError

MOST_ITEMS = 1_000_000
"""A header that promises more is taken for damaged; the largest relative of MNIST has 814,255."""

Stream = BinaryIO | gzip.GzipFile
_GZIP = b"\x1f\x8b"  # how every gzip file begins


@contextmanager
def opened(file: Path, where: str) -> Iterator[Stream]:
    """``with`` block on the bytes of a file, unpacked on the way if they begin as gzip does.

    Raises DataError, naming the file, if it cannot be read or its compression is damaged; so do
    reads inside the block.
    """
    try:
        with open(file, "rb") as packed:
            is_gzip = packed.read(2) == _GZIP
            packed.seek(0)
            yield gzip.GzipFile(fileobj=packed) if is_gzip else packed
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{where}: {file} is not a sound gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"{where}: {file} cannot be read: {error.strerror or error}") from error


def read_idx(
    stream: Stream, file: Path, item: tuple[int, ...], where: str
) -> npt.NDArray[np.uint8]:
    """Read one array of unsigned bytes, (N, *item), and leave the stream right behind it.

    stream: at the header.  file: its name, for messages.  item: the shape of one item, () for
    labels and (28, 28) for images.  where: the function that asks, for messages.

    No more is read than the header promises, so that a few bytes of gzip cannot fill the memory.
    Raises DataError, naming the file, what was found and what was expected, for another magic
    number, other axes, no items or more than MOST_ITEMS of them, and for an end too early.
    """
    axes = 1 + len(item)
    header = stream.read(4 + 4 * axes)
    if len(header) < 4 + 4 * axes:
        raise DataError(
            f"{where}: {file} ends within the header: it has {len(header)} of {4 + 4 * axes} bytes"
        )
    magic, count, *found = struct.unpack(f">{1 + axes}I", header)
    if magic != 0x0800 + axes:
        raise DataError(
            f"{where}: {file} begins with the magic number {magic}, but {0x0800 + axes} is "
            f"expected of an idx file of unsigned bytes with {axes} "
            f"{'axes' if axes > 1 else 'axis'}"
        )
    if tuple(found) != item:
        raise DataError(f"{where}: {file} holds items of shape {tuple(found)}, expected {item}")
    if not 1 <= count <= MOST_ITEMS:
        raise DataError(f"{where}: {file} promises {count} items; expected are 1 to {MOST_ITEMS:,}")
    shape = (count, *item)
    size = int(np.prod(shape))
    data = stream.read(size)
    if len(data) < size:
        raise DataError(
            f"{where}: {file} is truncated: its header promises {size} bytes for shape {shape}, "
            f"but {len(data)} follow"
        )
    return np.frombuffer(data, np.uint8).reshape(shape).copy()  # over bytes it were read-only


def read_idx_file(file: Path, item: tuple[int, ...], where: str) -> npt.NDArray[np.uint8]:
    """Read a file, gzip-compressed or not, that holds one idx array and nothing else.

    Arguments and errors are those of ``opened`` and ``read_idx``; and DataError if anything
    follows the array.
    """
    with opened(file, where) as stream:
        array = read_idx(stream, file, item, where)
        if stream.read(1):  # at the end of gzip this also checks its checksum
            raise DataError(
                f"{where}: {file} is too long: its header promises {array.size} bytes for shape "
                f"{array.shape}, but more follow"
            )
    return array
