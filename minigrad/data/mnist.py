"""MNIST, the handwritten digits: from the package, from a folder, or from the network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError
from ..files import replacing
from ._files import Published, as_path, data_folder, find_file
from .idx import opened, read_idx, read_idx_file

PACKAGED_SUBSET = Path(__file__).with_name("mnist_subset.gz")
"""6,000 training and 1,000 test images; README.md in this folder says how they were chosen."""

DATA_VARIABLE = "MINIGRAD_DATA"
"""The environment variable that names a folder of data when no argument does."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Where the four files can be had, each as NAME.gz."""


class MNIST(NamedTuple):
    """Images and labels of a training and of a test set, all uint8 and C-contiguous.

    An image is 28 rows of 28 pixels, 0 the paper and 255 the ink; a label is the digit, 0 to 9.
    """

    train_images: npt.NDArray[np.uint8]  # (N, 28, 28)
    train_labels: npt.NDArray[np.uint8]  # (N,)
    test_images: npt.NDArray[np.uint8]  # (M, 28, 28)
    test_labels: npt.NDArray[np.uint8]  # (M,)


class _File(NamedTuple):
    """One of the published files."""

    name: str
    item: tuple[int, ...]  # shape of an image, or of a label
    published: Published

    def spellings(self) -> list[str]:
        """The names it goes by: as published, as some programs unpack it, and compressed."""
        plain = [self.name, self.name.replace("-idx", ".idx")]
        return plain + [f"{name}.gz" for name in plain]


_IMAGE, _LABEL = (28, 28), ()
_FILES = (  # in the order of MNIST's fields
    _File(
        "train-images-idx3-ubyte", _IMAGE,
        Published(47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ),
    _File(
        "train-labels-idx1-ubyte", _LABEL,
        Published(60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ),
    _File(
        "t10k-images-idx3-ubyte", _IMAGE,
        Published(7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ),
    _File(
        "t10k-labels-idx1-ubyte", _LABEL,
        Published(10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
)  # fmt: skip


def load_mnist(path: str | os.PathLike[str] | None = None, *, download: bool = False) -> MNIST:
    """Return the handwritten digits.

    path: a folder with the four published idx files (or with a subfolder ``mnist`` that has
    them), gzip-compressed or not, as ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``.
    None means the folder that the environment variable MINIGRAD_DATA names, and where it is not
    set, a balanced subset that ships with the package: 600 training and 100 test images of each
    digit, shuffled.  download: fetch what the folder lacks first, as ``download_mnist`` does.

    Raises DataError, naming the file, what was found and what was expected, if a file is missing,
    damaged, too short or too long, if it holds anything but images of 28 x 28 or labels of 0 to
    9, or if there are not as many labels as images.  Raises ArgumentError for download without
    a folder, and DTypeError if path is not a path.

    Source: Y. LeCun and C. Cortes, The MNIST database of handwritten digits.

    >>> from minigrad import data
    >>> mnist = data.load_mnist()
    >>> mnist.train_images.shape[1:], mnist.train_images.dtype
    ((28, 28), dtype('uint8'))
    """
    where = "load_mnist"
    if path is None and os.environ.get(DATA_VARIABLE):
        path, where = os.environ[DATA_VARIABLE], f"load_mnist, {DATA_VARIABLE}"
    if path is None:
        if download:
            raise ArgumentError(
                f"{where}: download=True (--download) needs a folder to keep the files in: path= "
                f"(--data DIR) or {DATA_VARIABLE}"
            )
        with opened(PACKAGED_SUBSET, where) as stream:
            return MNIST(*(read_idx(stream, PACKAGED_SUBSET, file.item, where) for file in _FILES))
    if download:
        download_mnist(path)
    folder = data_folder(path, where)
    files = [_found(file, folder) for file in _FILES]
    data = MNIST(*(read_idx_file(place, file.item, where) for place, file in zip(files, _FILES)))
    _check_labels(data.train_images, data.train_labels, files[0], files[1])
    _check_labels(data.test_images, data.test_labels, files[2], files[3])
    return data


def _found(file: _File, folder: Path) -> Path:
    found = find_file(folder, "mnist", file.spellings())
    if found is None:
        raise DataError(
            f"load_mnist: {file.name} is missing in {folder}: there is none of "
            f"{', '.join(file.spellings())}, nor in a subfolder mnist; "
            "load_mnist(folder, download=True) fetches it, load_mnist() with "
            f"{DATA_VARIABLE} unset needs no files"
        )
    return found


def _check_labels(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], of: Path, file: Path
) -> None:
    if len(images) != len(labels):
        raise DataError(
            f"load_mnist: {file} has {len(labels)} labels, but {of} has {len(images)} images; "
            "they must be as many"
        )
    if labels.max() > 9:
        place = int((labels > 9).argmax())
        raise DataError(
            f"load_mnist: {file}: label {place} is {labels[place]}, but labels are 0 to 9"
        )


def download_mnist(
    folder: str | os.PathLike[str], *, mirrors: Sequence[str] = MIRRORS, timeout: float = 30.0
) -> Path:
    """Fetch the four files of MNIST, 11 MB, into a folder, and return the folder.

    folder: is made if it does not exist; files in it, or in its subfolder ``mnist``, that have
    the right checksum are not fetched again.  mirrors: addresses that end in a slash, tried in
    this order for each file.  timeout: seconds to wait for an answer, each time.

    A file is kept only if its uncompressed bytes have the known SHA-256, and it appears whole or
    not at all.  Raises DataError, naming every mirror and why it failed, if none can deliver;
    DTypeError if folder is not a path, and OSError if it cannot be written to.
    """
    from ._download import fetch_gzip  # here, because all of http takes its time to import

    where = "download_mnist"
    target = as_path(folder, where)
    target.mkdir(parents=True, exist_ok=True)
    for file in _FILES:
        if _is_there(file, target):
            continue
        try:
            data = fetch_gzip(f"{file.name}.gz", file.published, mirrors, timeout, where)
        except DataError as error:
            raise DataError(
                f"{error}. Remedy: get the four files in another way and name their folder, "
                f"load_mnist(folder), --data DIR or {DATA_VARIABLE}"
            ) from error
        with replacing(target / f"{file.name}.gz") as out:
            out.write(data)
    return target


def _is_there(file: _File, folder: Path) -> bool:
    found = find_file(folder, "mnist", file.spellings())
    if found is None:
        return False
    try:
        with opened(found, "download_mnist") as stream:
            return file.published.flaw(stream.read) is None
    except DataError:
        return False
