"""minigrad.data.words: corpora of words by the conventions of PTB."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import load_ptb, load_words
from minigrad.errors import ArgumentError, DataError, DTypeError

# as in Mikolov's files: a blank at both ends of every line
TRAIN = " the cat <unk> the dog \n a dog saw N cats \n"
VALID = " the cat saw a dog \n"
TEST = " <unk> N \n the dog \n"


@pytest.fixture
def ptb(tmp_path):
    for part, text in {"train": TRAIN, "valid": VALID, "test": TEST}.items():
        (tmp_path / f"ptb.{part}.txt").write_bytes(text.encode())
    return tmp_path


def slowly(train):
    """TensorFlow's vocabulary: by how often, then by the alphabet, newlines being words."""
    words = train.replace("\n", "<eos>").split()
    counts = sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))
    return [word for word, _ in counts]


# -- load_ptb ----------------------------------------------------------------------------------


def test_a_small_ptb_by_hand(ptb):
    corpus = load_ptb(ptb)
    assert corpus.vocabulary == ["<eos>", "dog", "the", "<unk>", "N", "a", "cat", "cats", "saw"]
    assert corpus.train.tolist() == [2, 6, 3, 2, 1, 0, 5, 1, 8, 4, 7, 0]
    assert corpus.valid.tolist() == [2, 6, 8, 5, 1, 0]
    assert corpus.test.tolist() == [3, 4, 0, 2, 1, 0]
    assert all(ids.dtype == np.int64 for ids in corpus[:3])


words = st.text("abcN'<>.-$é", min_size=1, max_size=3)


@given(st.lists(st.lists(words, max_size=6), min_size=1, max_size=8))
def test_reads_as_the_documents_reader_does(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("ptb")
    text = "".join(f" {' '.join(line)} \n" for line in lines)
    for part in ("train", "valid", "test"):
        (folder / f"ptb.{part}.txt").write_bytes(text.encode())
    if not text.strip():
        with pytest.raises(DataError, match="is empty"):
            load_ptb(folder)
        return
    corpus = load_ptb(folder)
    assert corpus.vocabulary == slowly(text)
    tokens = [corpus.vocabulary[i] for i in corpus.valid]
    assert tokens == text.replace("\n", "<eos>").split()


def test_a_missing_last_newline_and_windows_line_ends_do_not_matter(ptb):
    expected = load_ptb(ptb)
    (ptb / "ptb.train.txt").write_bytes(TRAIN.rstrip("\n").replace("\n", "\r\n").encode())
    (ptb / "ptb.test.txt").write_bytes(TEST.replace("\n", "\r\n").encode())
    for new, old in zip(load_ptb(ptb), expected, strict=True):
        assert list(new) == list(old)


def test_the_files_may_lie_in_a_subfolder(ptb, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    ptb.rename(root / "ptb")
    assert load_ptb(str(root)).test.tolist() == [3, 4, 0, 2, 1, 0]


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_broken_files(ptb, part):
    file = ptb / f"ptb.{part}.txt"
    for data, message in {
        b"": "is empty",
        b" \n \n": "is empty",
        b"\x1f\x8b\x08\x00": "not UTF-8 text .position 1.; unpack it",
        b"the \0 dog\n": "a NUL at position 4",
    }.items():
        file.write_bytes(data)
        with pytest.raises(DataError, match=message) as caught:
            load_ptb(ptb)
        assert str(file) in str(caught.value)
    file.unlink()
    with pytest.raises(DataError, match=rf"no ptb\.{part}\.txt in .* load_words"):
        load_ptb(ptb)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_an_unknown_word_is_named_with_its_line(ptb, part):
    (ptb / f"ptb.{part}.txt").write_text(" the dog \n the cat barked \n")
    with pytest.raises(DataError, match=rf"line 2 of .*ptb\.{part}\.txt has the word 'barked'"):
        load_ptb(ptb)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("missing", DataError, "missing is no folder"),
        ("ptb.train.txt", DataError, "is a file; name the folder"),
        (None, DTypeError, "not NoneType"),
        (3, DTypeError, "not int"),
    ],
)
def test_bad_folders(ptb, path, error, message):
    with pytest.raises(error, match=message):
        load_ptb(ptb / path if isinstance(path, str) else path)


# -- load_words --------------------------------------------------------------------------------


def test_the_packaged_corpus():
    corpus = load_words()
    assert [len(ids) for ids in corpus[:3]] == [918_487, 49_300, 50_386]
    assert len(corpus.vocabulary) == len(set(corpus.vocabulary)) == 10_000
    assert corpus.vocabulary[:8] == ["<eos>", "the", "and", "<unk>", "i", "to", "of", "a"]
    for ids in corpus[:3]:
        assert ids.dtype == np.int64 and 0 <= ids.min() <= ids.max() < 10_000
        assert ids[-1] == 0
    counts = np.bincount(corpus.train, minlength=10_000)
    assert (np.diff(counts) <= 0).all() and counts[-1] >= 1
    ties = np.flatnonzero(np.diff(counts) == 0)
    assert all(corpus.vocabulary[i] < corpus.vocabulary[i + 1] for i in ties)
    # the beginning and the end of the text, and no empty sentence
    assert _text(corpus, corpus.train[:6]) == "all's well that ends well <eos>"
    assert _text(corpus, corpus.test[-7:]) == "<unk> hastily lead away <eos> exeunt <eos>"
    for ids in corpus[:3]:
        assert not ((ids[1:] == 0) & (ids[:-1] == 0)).any()


def _text(corpus, ids):
    return " ".join(corpus.vocabulary[i] for i in ids)


def lines_of(count, *last):
    return "\n".join(["the cat, the DOG!"] * (count - len(last)) + list(last))


def test_the_rules_of_words():
    first = "  O'er the King's -- 4th (1605) dogs' café: 'tis tho' it's_me\n\n---\n"
    corpus = load_words(first + lines_of(19), 100)
    assert _text(corpus, corpus.train[:18]) == (
        "o'er the king's N th N dogs caf tis tho it's me <eos> the cat the dog <eos>"
    )


def test_the_three_parts_are_blocks_of_whole_lines():
    lines = [f"line {'abcdefghij'[i // 10]} {'abcdefghij'[i % 10]}" for i in range(100)]
    corpus = load_words("\n".join(lines), 50)
    texts = [_text(corpus, ids).split(" <eos>") for ids in corpus[:3]]
    sentences = [[line.strip() for line in part if line] for part in texts]
    assert [len(part) for part in sentences] == [90, 5, 5]
    assert sum(sentences, []) == lines


def test_the_vocabulary_is_of_the_training_part_alone():
    text = lines_of(20, "only here", "the owl and only the owl")  # line 19 valid, line 20 test
    corpus = load_words(text, 100)
    assert corpus.vocabulary == ["the", "<eos>", "cat", "dog", "<unk>"]
    assert _text(corpus, corpus.valid) == "<unk> <unk> <eos>"
    assert _text(corpus, corpus.test) == "the <unk> <unk> <unk> the <unk> <eos>"


def test_words_too_rare_become_unk():
    corpus = load_words(lines_of(20), 4)  # <eos>, <unk> and two more: the, and cat before dog
    assert corpus.vocabulary == ["the", "<eos>", "<unk>", "cat"]
    assert _text(corpus, corpus.test) == "the cat the <unk> <eos>"
    assert load_words(lines_of(20), 3).vocabulary == ["<unk>", "the", "<eos>"]


@pytest.mark.parametrize(
    ("text", "size", "error", "message"),
    [
        (lines_of(19), 100, DataError, "19 lines with words, but at least 20"),
        ("\n" * 50 + "...\n" * 50, 100, DataError, "0 lines with words"),
        ("", 100, DataError, "0 lines with words"),
        (b"bytes", 100, DTypeError, "text must be a str, not bytes"),
        (lines_of(20), 2, ArgumentError, "at least 3"),
        (lines_of(20), 0, ArgumentError, "at least 1"),
        (lines_of(20), 10.0, DTypeError, "must be an integer"),
    ],
)
def test_bad_arguments(text, size, error, message):
    with pytest.raises(error, match=message) as caught:
        load_words(text, size)
    assert str(caught.value).startswith("load_words: ")
