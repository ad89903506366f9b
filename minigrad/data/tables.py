"""Two small sets for a first classifier; both ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PACKAGED_IRIS = Path(__file__).with_name("iris.csv")
PACKAGED_DIGITS = Path(__file__).with_name("digits.csv.gz")


class Iris(NamedTuple):
    """150 flowers, 50 of each of three species, in the order of the species."""

    features: npt.NDArray[np.float32]  # (150, 4), lengths and widths in cm
    labels: npt.NDArray[np.int64]  # (150,), 0 to 2
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]


class Digits(NamedTuple):
    """1,797 handwritten digits, much smaller than those of MNIST."""

    images: npt.NDArray[np.float32]  # (1797, 8, 8), whole numbers: 0 the paper, 16 the ink
    labels: npt.NDArray[np.int64]  # (1797,), 0 to 9


def load_iris() -> Iris:
    """Return Fisher's iris data: four measurements in cm of 150 flowers of three species.

    The rows are sorted by species; shuffle before splitting.

    Source: R. A. Fisher, The use of multiple measurements in taxonomic problems (1936).  Samples
    35 and 38 are as in the paper, not as in UCI's copy.

    >>> from minigrad import data
    >>> iris = data.load_iris()
    >>> [array.shape for array in iris[:2]]
    [(150, 4), (150,)]
    """
    header, _ = PACKAGED_IRIS.read_text(encoding="ascii").split("\n", 1)
    table = np.loadtxt(PACKAGED_IRIS, delimiter=",", skiprows=1)  # (150, 5)
    return Iris(
        features=np.ascontiguousarray(table[:, :4], dtype=np.float32),
        labels=table[:, 4].astype(np.int64),
        feature_names=tuple(header.split(",")[:4]),
        class_names=("setosa", "versicolor", "virginica"),
    )


def load_digits() -> Digits:
    """Return 1,797 handwritten digits: images of 8 x 8 pixels from 0 to 16, and labels.

    Each pixel counts the ink in a block of 4 x 4 dots of the scan.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (1998), the test
    part; the same as load_digits of scikit-learn.

    >>> from minigrad import data
    >>> digits = data.load_digits()
    >>> [array.shape for array in digits[:2]]
    [(1797, 8, 8), (1797,)]
    """
    table = np.loadtxt(PACKAGED_DIGITS, delimiter=",")  # (1797, 65)
    return Digits(
        images=table[:, :64].astype(np.float32).reshape(-1, 8, 8),
        labels=table[:, 64].astype(np.int64),
    )
