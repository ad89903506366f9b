"""Readers of files on random bytes, and on sound files that were cut or changed: typed errors only.

What a damaged file may give is an array or a text of the right kind, or a DataError that names
the file; nothing else, and nothing that fills the memory.
"""

import gzip
import io
import zipfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from minigrad import data
from minigrad.data import idx
from minigrad.data.text import ALPHABET
from minigrad.errors import DataError, MinigradError

EIGHTY = hypothesis.settings(max_examples=80)

IMAGES = (2051).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (2, 3, 3)) + bytes(18)
LABELS = (2049).to_bytes(4, "big") + (5).to_bytes(4, "big") + bytes([1, 2, 3, 4, 5])
TEXT = b"the quick brown fox\n" * 30


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text.txt", content)
    return buffer.getvalue()


@st.composite
def damaged(draw, *sound):
    """Random bytes; or one of the sound files, cut, with bytes changed, put in or taken out."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=80))
    content = bytearray(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(0, 3))):
        if not content:
            break
        place = draw(st.integers(0, len(content) - 1))
        what = draw(st.sampled_from(["cut", "change", "change", "put in", "take out"]))
        if what == "cut":
            del content[place:]
        elif what == "change":
            content[place] = draw(st.integers(0, 255))
        elif what == "put in":
            content[place:place] = draw(st.binary(min_size=1, max_size=9))
        else:
            del content[place : place + draw(st.integers(1, 9))]
    return bytes(content)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@EIGHTY
@given(damaged(IMAGES, LABELS, gzip.compress(IMAGES), gzip.compress(LABELS)))
def test_idx(place, content):
    file = place / "file-idx"
    file.write_bytes(content)
    for item in ((3, 3), ()):
        try:
            array = idx.read_idx_file(file, item, "fuzz")
        except DataError as error:
            assert str(file) in str(error)
        else:
            assert array.dtype == np.uint8 and array.shape[1:] == item and array.nbytes < 1000


@EIGHTY
@given(damaged(TEXT, gzip.compress(TEXT), zipped(TEXT)), st.sampled_from(["", ".gz", ".zip"]))
def test_text(place, content, suffix):
    file = place / f"text{suffix}"
    file.write_bytes(content)
    try:
        text = data.load_text(file)
    except DataError as error:
        assert str(file) in str(error)
    else:
        assert set(text) <= set(ALPHABET) and len(text) >= 2
        assert data.decode(data.encode(text)) == text


@EIGHTY
@given(st.tuples(*[damaged(TEXT, b"<unk> N\n", b"a b\n")] * 3))
def test_ptb(place, contents):
    for part, content in zip(("train", "valid", "test"), contents):
        (place / f"ptb.{part}.txt").write_bytes(content)
    try:
        corpus = data.load_ptb(place)
    except DataError as error:
        assert "ptb." in str(error)
    else:
        for ids in corpus[:3]:
            assert ids.dtype == np.int64 and 0 <= ids.min() <= ids.max() < len(corpus.vocabulary)


@EIGHTY
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60), st.just(TEXT.decode())),
       st.integers(-1, 9))  # fmt: skip
def test_words(text, size):
    try:
        corpus = data.load_words(text, size)
    except MinigradError as error:
        assert str(error).startswith("load_words: ")
    else:
        assert len(corpus.vocabulary) <= size
