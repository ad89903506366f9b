"""Text as ids of words, by the conventions of Mikolov's Penn Treebank files.

Each line is a sentence, and ``<eos>`` follows it; a word too rare for the vocabulary is
``<unk>``.  Words get their ids in the order of how often they occur in the training text, the
commonest first and equally common ones in the order of the alphabet.
"""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, DTypeError
from ._checks import positive_int
from ._files import data_folder, find_file
from .text import PACKAGED_TEXT

EOS, UNKNOWN = "<eos>", "<unk>"

TRAIN_FRACTION, VALID_FRACTION = 0.90, 0.05
"""Of the lines of a text; the rest is for the test.  (PTB: 86%, 7% and 8%.)"""

_LEAST_LINES = 20  # so that every part has one
_WORD_OR_NUMBER = re.compile(r"[a-z]+(?:'[a-z]+)*|[0-9]+")  # "o'er" and "king's" are one word
_NUMBER = "N"  # as PTB writes every number; no other word has a capital

Sentences = list[list[str]]


class Corpus(NamedTuple):
    """A text in three parts, as ids of words, and what the ids mean."""

    train: npt.NDArray[np.int64]  # (length,)
    valid: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    vocabulary: list[str]  # the word of each id


def load_ptb(folder: str | os.PathLike[str]) -> Corpus:
    """Return the Penn Treebank corpus of Mikolov: 929,589 + 73,760 + 82,430 ids, 10,000 words.

    folder: has ptb.train.txt, ptb.valid.txt and ptb.test.txt, or a subfolder ``ptb`` with them.
    They are not in the package, because their licence (LDC) does not allow it.  Other texts of
    the same form, a sentence a line and words between blanks, are read as well.

    Raises DataError, naming the file, if one is missing, unreadable, not UTF-8 text or empty, or
    if a word of ptb.valid.txt or ptb.test.txt does not occur in ptb.train.txt.  Raises DTypeError
    if folder is not a path.

    Source: T. Mikolov et al., Recurrent neural network based language model (2010); the ids are
    those of TensorFlow's PTB reader.
    """
    place = data_folder(folder, "load_ptb")
    files = [_found(place, f"ptb.{part}.txt") for part in ("train", "valid", "test")]
    train, valid, test = map(_read_sentences, files)
    known = {EOS}.union(*train)
    for file, sentences in zip(files[1:], (valid, test)):
        for number, sentence in enumerate(sentences, start=1):
            if not known.issuperset(sentence):
                word = next(word for word in sentence if word not in known)
                raise DataError(
                    f"load_ptb: line {number} of {file} has the word {word!r}, which does not "
                    f"occur in {files[0].name}; the three files must share one vocabulary, with "
                    f"{UNKNOWN} for all other words"
                )
    return _corpus(train, valid, test)


def load_words(text: str | None = None, vocabulary_size: int = 10_000) -> Corpus:
    """Make a corpus with PTB's conventions of a text: the packaged plays of Shakespeare, or yours.

    text: English; every line counts as a sentence.  Words are lower case and of the letters a to
    z, apostrophes within a word stay, all other signs are removed, a number becomes ``N``, and
    lines without a word are left out.  vocabulary_size: at most so many words, ``<unk>`` and
    ``<eos>`` among them; the others are the commonest of the training part.

    The first 90% of the lines are for training, the next 5% for validation, the last 5% for the
    test: whole blocks, so that no two parts share a page.

    Raises DTypeError for a text that is no str and a size that is no integer, ArgumentError for a
    size below 3, and DataError for fewer than 20 lines.

    >>> from minigrad import data
    >>> corpus = data.load_words()
    >>> len(corpus.train), len(corpus.vocabulary)
    (918487, 10000)
    >>> " ".join(corpus.vocabulary[i] for i in corpus.train[:8])
    "all's well that ends well <eos> by william"
    """
    where = "load_words"
    if positive_int(vocabulary_size, "vocabulary_size", where) < 3:
        raise ArgumentError(
            f"{where}: vocabulary_size must be at least 3, for {EOS}, {UNKNOWN} and a word, not "
            f"{vocabulary_size}"
        )
    if text is None:
        text = gzip.decompress(PACKAGED_TEXT.read_bytes()).decode("ascii")
    if not isinstance(text, str):
        raise DTypeError(f"{where}: text must be a str, not {type(text).__name__}")
    found = (_WORD_OR_NUMBER.findall(line) for line in _lines(text.lower()))
    sentences = [
        [word if word[0].isalpha() else _NUMBER for word in words] for words in found if words
    ]
    if len(sentences) < _LEAST_LINES:
        raise DataError(
            f"{where}: the text has {len(sentences)} lines with words, but at least "
            f"{_LEAST_LINES} are needed for three parts"
        )
    train_end = round(TRAIN_FRACTION * len(sentences))
    valid_end = round((TRAIN_FRACTION + VALID_FRACTION) * len(sentences))

    by_frequency = _by_frequency(chain.from_iterable(sentences[:train_end]))
    common = set(by_frequency[: vocabulary_size - 2])
    sentences = [
        [word if word in common else UNKNOWN for word in sentence] for sentence in sentences
    ]
    return _corpus(
        sentences[:train_end], sentences[train_end:valid_end], sentences[valid_end:], [UNKNOWN]
    )


def _corpus(
    train: Sentences, valid: Sentences, test: Sentences, extra: Iterable[str] = ()
) -> Corpus:
    """Number the words; ``extra`` ones are in the vocabulary even if train is without them."""
    vocabulary = _by_frequency(_with_ends(train))
    vocabulary += [word for word in extra if word not in vocabulary]
    ids = {word: i for i, word in enumerate(vocabulary)}

    def encoded(sentences: Sentences) -> npt.NDArray[np.int64]:
        return np.array([ids[word] for word in _with_ends(sentences)], dtype=np.int64)

    return Corpus(encoded(train), encoded(valid), encoded(test), vocabulary)


def _with_ends(sentences: Sentences) -> Iterable[str]:
    for sentence in sentences:
        yield from sentence
        yield EOS


def _by_frequency(words: Iterable[str]) -> list[str]:
    """All different words, the commonest first, equally common ones by the alphabet."""
    counts = Counter(words)
    return sorted(counts, key=lambda word: (-counts[word], word))


def _lines(text: str) -> list[str]:
    """The lines without their ends; unlike str.splitlines, at line feeds alone."""
    return text.removesuffix("\n").split("\n")


def _found(folder: Path, name: str) -> Path:
    file = find_file(folder, "ptb", [name])
    if file is None:
        raise DataError(
            f"load_ptb: there is no {name} in {folder}, nor in a subfolder ptb; load_words() makes "
            "a corpus of the same form from the text in the package"
        )
    return file


def _read_sentences(file: Path) -> Sentences:
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"load_ptb: {file} is not UTF-8 text (position {error.start}); unpack it if it is "
            "compressed"
        ) from error
    except OSError as error:
        raise DataError(f"load_ptb: {file} cannot be read: {error.strerror}") from error
    if "\0" in text:
        raise DataError(f"load_ptb: {file} is not text: a NUL at position {text.index(chr(0))}")
    if not text.strip():
        raise DataError(f"load_ptb: {file} is empty")
    return [line.split() for line in _lines(text)]
