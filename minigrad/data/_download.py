"""Fetching a published file from the first mirror that has the right one."""

from __future__ import annotations

import gzip
import http.client
import io
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence

from ..errors import DataError
from ._files import Published


def fetch_gzip(
    name: str, published: Published, mirrors: Sequence[str], timeout: float, where: str
) -> bytes:
    """Return the bytes of a gzip file, checked by what they unpack to.

    name: of the file, appended to each of ``mirrors`` in turn.  timeout: seconds to wait for an
    answer.  where: the function that asks, for the message.

    Raises DataError, naming every address and why it failed, if none has the file.
    """
    reasons = []
    for mirror in mirrors:
        flaw: str | None
        try:
            with urllib.request.urlopen(f"{mirror}{name}", timeout=timeout) as answer:
                data = answer.read(published.size + 65_536)  # gzip may even add a little
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
                flaw = published.flaw(unpacked.read)
        except (OSError, http.client.HTTPException, EOFError, zlib.error, ValueError) as error:
            flaw = _spell(error)
        if flaw is None:
            return bytes(data)
        reasons.append(f"{mirror}{name} ({flaw})")
    tried = "; ".join(reasons) or "no mirror, none was given"
    raise DataError(f"{where}: {name} cannot be fetched. Tried: {tried}")


def _spell(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(reason) or type(error).__name__
