"""Text of 27 symbols: reading, cleaning, and characters to ids and back.

The alphabet is that of text8 and of the character language model: the space (id 0) and the
letters a to z (ids 1 to 26).
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, DTypeError, IndexRangeError, ShapeError
from ._checks import positive_int

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
"""The 27 symbols; the position of a symbol is its id."""

PACKAGED_TEXT = Path(__file__).with_name("shakespeare.txt.gz")
"""37 plays by Shakespeare, 4.8 MB uncompressed; README.md in this folder has the credits."""

_LETTERS = ALPHABET[1:]
_DIGITS = "0123456789"
_DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_SPACE = ord(" ")
_NO_ID = 255


def _byte_map(default: int, pairs: dict[str, int]) -> bytes:
    """A table for bytes.translate: each character of pairs to its value, all else to default."""
    return bytes(pairs.get(chr(byte), default) for byte in range(256))


_FOLD_CASE = _byte_map(
    _SPACE,
    {char: ord(char.lower()) for char in _LETTERS + _LETTERS.upper() + _DIGITS},
)
_TO_ID = _byte_map(_NO_ID, {char: index for index, char in enumerate(ALPHABET)})
_TO_CHAR = np.frombuffer(ALPHABET.encode("ascii"), dtype=np.uint8)  # (27,)


def clean27(text: str) -> str:
    """Reduce any text to the 27 symbols, by the rules of Matt Mahoney's text8.

    A to Z become lower case; each digit becomes its English word with a space on both sides; each
    run of anything else, an apostrophe or an accented letter too, becomes one space; the ends are
    trimmed. The result is empty if text holds no letter and no digit. About 0.05 s for 5 MB.

    >>> clean27("  King HENRY the 4th's crown!")
    'king henry the four th s crown'

    Raises DTypeError if text is not a str.
    """
    _require_str(text, "clean27")
    # Outside ASCII every character is "anything else"; "?" stands in for it, one for one.
    data = text.encode("ascii", errors="replace").translate(_FOLD_CASE)
    for digit, word in zip(_DIGITS, _DIGIT_WORDS, strict=True):
        data = data.replace(digit.encode("ascii"), f" {word} ".encode("ascii"))
    symbols = np.frombuffer(data, dtype=np.uint8)
    keep = symbols != _SPACE
    keep[1:] |= symbols[:-1] != _SPACE  # of a run of spaces only the first stays
    return str(symbols[keep].tobytes().strip(), "ascii")


def encode(text: str) -> npt.NDArray[np.uint8]:
    """Return the ids of text's characters: (len(text),) uint8, space 0, a to z 1 to 26.

    One byte an id keeps text8 at 100 MB; CursorBatches hands out int64.

    Raises DataError, naming the character and its position, for a symbol outside the 27, and
    DTypeError if text is not a str.

    >>> from minigrad import data
    >>> data.encode("a bee").tolist()
    [1, 0, 2, 5, 5]
    """
    _require_str(text, "encode")
    # A bytearray, because an array over immutable bytes would be read-only.
    mapped = bytearray(text.encode("ascii", errors="replace")).translate(_TO_ID)
    bad = mapped.find(_NO_ID)
    if bad >= 0:
        raise DataError(
            f"encode: text[{bad}] is {text[bad]!r} (U+{ord(text[bad]):04X}), which is not one of "
            "the 27 symbols, space and a to z; clean it first: encode(clean27(text))"
        )
    return np.frombuffer(mapped, dtype=np.uint8)


def decode(ids: npt.ArrayLike) -> str:
    """Return the text of ids: (T,) integers of 0..26. The inverse of encode.

    Raises ShapeError if ids is not one-dimensional, DTypeError if it does not hold integers, and
    IndexRangeError, naming the position, for an id outside 0..26.

    >>> from minigrad import data
    >>> data.decode([1, 0, 2, 5, 5])
    'a bee'
    """
    array = np.asarray(ids)
    if array.ndim != 1:
        raise ShapeError(
            f"decode: ids must be one-dimensional, (T,), but its shape is {array.shape}; "
            "of a time-major (T, N) window decode one column, decode(window[:, n])"
        )
    if array.size == 0:
        return ""
    if array.dtype.kind not in "iu":
        raise DTypeError(f"decode: ids must be integers, but its dtype is {array.dtype}")
    outside = (array < 0) | (array >= len(ALPHABET))
    if outside.any():
        where = int(outside.argmax())
        raise IndexRangeError(
            f"decode: ids[{where}] is {array[where]}, but ids lie in 0..{len(ALPHABET) - 1}"
        )
    return str(_TO_CHAR[array].tobytes(), "ascii")


def load_text(path: str | os.PathLike[str] | None = None, *, min_length: int = 2) -> str:
    """Return a text in the 27 symbols: the packaged Shakespeare, or the file at path, cleaned.

    A file is UTF-8 text, plain, gzip-compressed, or the only text in a zip archive (a member
    called .txt or without a suffix, as in text8.zip). Text that is clean already, as text8 is,
    comes back unchanged, with its leading space; all other goes through clean27. Nothing is
    ever downloaded.

    min_length is the number of characters that the caller needs; fewer are refused. The default
    2 is what a language model needs at least, an input and its target.

    Raises DataError, naming the file and the reason, if it is missing, a folder, not readable, a
    damaged or encrypted archive, an archive without a text or with several, not UTF-8, empty, or
    too short. Raises DTypeError if path is not a path.

    >>> from minigrad import data
    >>> len(data.load_text())
    4552587
    >>> data.load_text()[:30]
    'all s well that ends well by w'
    """
    positive_int(min_length, "min_length", "load_text")
    if path is None:
        path = PACKAGED_TEXT
    if not isinstance(path, (str, os.PathLike)):
        raise DTypeError(f"load_text: path must be a str or a path, not {type(path).__name__}")
    file = Path(path).expanduser()
    text = _as_text(_unpacked(_file_bytes(file), file), file)
    if not _is_clean27(text):
        text = clean27(text)
    if len(text) < min_length:
        raise DataError(
            f"load_text: {file} is too short: after cleaning its length is {len(text)}, "
            f"but at least {min_length} characters are needed"
        )
    return text


def _require_str(text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise DTypeError(f"{where}: text must be a str, not {type(text).__name__}")


def _is_clean27(text: str) -> bool:
    """Only the 27 symbols, and never two spaces together."""
    if not text.isascii() or "  " in text:
        return False
    return not text.encode("ascii").translate(None, delete=ALPHABET.encode("ascii"))


def _file_bytes(file: Path) -> bytes:
    if file.is_dir():
        raise DataError(f"load_text: {file} is a folder; name a text file, a .gz or a .zip")
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"load_text: there is no file {file}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise DataError(f"load_text: {file} cannot be read: {error}") from error
    if not data:
        raise DataError(f"load_text: {file} is empty")
    return data


def _unpacked(data: bytes, file: Path) -> bytes:
    """Undo gzip or zip, known by the first bytes; by the suffix a damaged one is known as well."""
    suffix = file.suffix.lower()
    if data.startswith(b"\x1f\x8b") or suffix == ".gz":
        return _gunzipped(data, file)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")) or suffix == ".zip":
        return _unzipped(data, file)
    return data


def _gunzipped(data: bytes, file: Path) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"load_text: {file} is not a sound gzip file: {error}") from error


def _unzipped(data: bytes, file: Path) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.read(_text_member(archive.namelist(), file))
    except DataError:
        raise
    except Exception as error:  # damage and encryption come out of zipfile as a dozen types
        raise DataError(f"load_text: {file} is not a readable zip file: {error}") from error


def _text_member(members: list[str], file: Path) -> str:
    """Name the only text of a zip file; hidden files and macOS's extras do not count."""
    names = [
        name
        for name in members
        if not name.endswith("/")
        and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    ]
    texts = [name for name in names if Path(name).suffix.lower() in ("", ".txt")]
    if len(texts) == 1:
        return texts[0]
    if texts:
        raise DataError(
            f"load_text: {file} holds {len(texts)} texts ({_some(texts)}); "
            "unpack it and name one of them"
        )
    raise DataError(
        f"load_text: {file} has no text member, that is one called .txt or without a suffix; "
        f"it holds {_some(names) or 'nothing'}"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _as_text(data: bytes, file: Path) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"load_text: {file} is not UTF-8 text (byte 0x{data[error.start]:02x} at position "
            f"{error.start}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise DataError(
            f"load_text: {file} is not text: a NUL at position {text.index(chr(0))}; "
            "if it is UTF-16, save it as UTF-8"
        )
    if not text:
        raise DataError(f"load_text: {file} is empty once unpacked")
    return text
