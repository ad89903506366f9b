"""minigrad.data.text: cleaning to 27 symbols, ids, and reading files of every kind."""

import gzip
import hashlib
import io
import random
import time
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad.data import ALPHABET, clean27, decode, encode, load_text
from minigrad.data.text import PACKAGED_TEXT
from minigrad.errors import DataError, DTypeError, IndexRangeError, ShapeError

CLEAN_LENGTH = 4_552_587
CLEAN_SHA256 = "66442ff5eeaf2e90c347e0700a607aa0784f6dde70f86189d485a5965d75582d"
RAW_SHA256 = "a36ff533ef1975bab363432e85fe4acbdb17053fb1c52c44afab9aa92b12930a"

WORDS = dict(enumerate("zero one two three four five six seven eight nine".split()))


def clean27_slowly(text: str) -> str:
    """The recipe, character by character: what clean27 must equal."""
    out = ""
    for char in text:
        if "A" <= char <= "Z":
            out += chr(ord(char) + 32)
        elif "a" <= char <= "z":
            out += char
        elif "0" <= char <= "9":
            out += " " + WORDS[int(char)] + " "
        else:
            out += " "
    return " ".join(out.split())


def zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


# -- the packaged text -------------------------------------------------------------------------


def test_packaged_text_is_the_known_one():
    assert hashlib.sha256(gzip.decompress(PACKAGED_TEXT.read_bytes())).hexdigest() == RAW_SHA256


def test_packaged_text_cleans_to_the_known_one():
    text = load_text()
    assert len(text) == CLEAN_LENGTH
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == CLEAN_SHA256
    ids = encode(text)
    assert (ids.min(), ids.max()) == (0, 26)
    assert decode(ids) == text


def test_cleaning_is_fast():
    raw = gzip.decompress(PACKAGED_TEXT.read_bytes()).decode("ascii")
    start = time.process_time()  # not the wall clock: other work on the machine does not count
    clean27(raw)
    assert time.process_time() - start < 1.0


# -- clean27 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("!?.", ""),
        ("a", "a"),
        ("  Hello,   World!\n", "hello world"),
        ("king's", "king s"),
        ("1605", "one six zero five"),
        ("he'11 x2y", "he one one x two y"),
        ("0", "zero"),
        ("3.14", "three one four"),
        ("caf\u00e9 na\u00efve", "caf na ve"),
        ("\u212aelvin \u0130", "elvin"),  # str.lower() would turn these two into k and i
        ("\uff11\u0663\u00b2", ""),  # digits, but not ASCII ones
        ("a_b\x00c\x7fd", "a b c d"),
        ("a\ud800b", "a b"),  # a lone surrogate
        ("AZaz", "azaz"),
        ("@[`{", ""),  # the neighbours of the letters in ASCII
        ("/:", ""),  # the neighbours of the digits
    ],
)
def test_clean27_examples(text, expected):
    assert clean27(text) == expected


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from(" az09AZ'\n"))))
@example("9" * 7)
@example(" a  b ")
def test_clean27_equals_the_slow_recipe(text):
    cleaned = clean27(text)
    assert cleaned == clean27_slowly(text)
    assert set(cleaned) <= set(ALPHABET)
    assert "  " not in cleaned and cleaned == cleaned.strip()
    assert clean27(cleaned) == cleaned


@pytest.mark.parametrize("wrong", [b"bytes", None, 3, ["a"]])
def test_clean27_and_encode_take_only_str(wrong):
    with pytest.raises(DTypeError, match="clean27: text must be a str"):
        clean27(wrong)
    with pytest.raises(DTypeError, match="encode: text must be a str"):
        encode(wrong)


# -- encode, decode ----------------------------------------------------------------------------


def test_ids_are_those_of_the_document():
    ids = encode(" az")
    assert ids.tolist() == [0, 1, 26]
    assert ids.dtype == np.uint8 and ids.shape == (3,)
    assert encode(ALPHABET).tolist() == list(range(27))


def test_encoded_ids_can_be_written_to():
    ids = encode("abc")
    ids[0] = 26
    assert decode(ids) == "zbc"


@given(st.text(alphabet=ALPHABET))
def test_decode_inverts_encode(text):
    assert decode(encode(text)) == text
    assert decode(encode(text).astype(np.int64)) == text
    assert decode(encode(text).tolist()) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abC", r"text\[2\] is 'C' \(U\+0043\)"),
        ("a\nb", r"text\[1\] is '\\n' \(U\+000A\)"),
        ("caf\u00e9", "text\\[3\\] is '\u00e9' \\(U\\+00E9\\)"),
        ("ab\U0001f600c!", r"text\[2\] is .* \(U\+1F600\)"),  # beyond 16 bits, still one position
        ("1", r"text\[0\] is '1'"),
        ("ab?", r"text\[2\] is '\?'"),  # the stand-in for characters outside ASCII
    ],
)
def test_encode_names_the_first_bad_symbol(text, message):
    with pytest.raises(DataError, match=message):
        encode(text)


def test_encode_error_gives_the_remedy():
    with pytest.raises(DataError, match="clean27"):
        encode("A")


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([0, 27], IndexRangeError, r"ids\[1\] is 27"),
        ([1, 2, -1, 99], IndexRangeError, r"ids\[2\] is -1"),
        (np.array([255], dtype=np.uint8), IndexRangeError, r"ids\[0\] is 255"),
        ([[1, 2]], ShapeError, r"\(1, 2\).*window\[:, n\]"),
        (3, ShapeError, r"shape is \(\)"),
        ([1.0, 2.0], DTypeError, "float64"),
        ([True], DTypeError, "bool"),
        ("abc", ShapeError, r"one-dimensional"),
        (["a"], DTypeError, "<U1"),
    ],
)
def test_decode_refuses(ids, error, message):
    with pytest.raises(error, match=message):
        decode(ids)


def test_decode_of_nothing():
    assert decode([]) == "" and decode(np.array([], dtype=np.int64)) == ""


# -- load_text: what it reads ------------------------------------------------------------------

RAW = "Now is the WINTER of our discontent, 1592.\n"
CLEANED = "now is the winter of our discontent one five nine two"
TEXT8 = " anarchism originated as a term of abuse first used again"  # a leading space, as in text8


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("plain.txt", RAW.encode()),
        ("no_suffix", RAW.encode()),
        ("bom.txt", b"\xef\xbb\xbf" + RAW.encode()),
        ("crlf.txt", RAW.replace("\n", "\r\n").encode()),
        ("packed.txt.gz", gzip.compress(RAW.encode())),
        ("packed.GZ", gzip.compress(RAW.encode())),
        ("gzip_by_content", gzip.compress(RAW.encode())),
        ("two_members.gz", gzip.compress(RAW[:9].encode()) + gzip.compress(RAW[9:].encode())),
        ("book.zip", zip_bytes({"book.txt": RAW.encode()})),
        ("stored.zip", zip_bytes({"book.TXT": RAW.encode()}, zipfile.ZIP_STORED)),
        ("zip_by_content", zip_bytes({"book.txt": RAW.encode()})),
        (
            "from_a_mac.zip",
            zip_bytes({"d/": b"", "d/a.txt": RAW.encode(), "__MACOSX/d/a.txt": b"x", "d/.x": b""}),
        ),
        ("with_picture.zip", zip_bytes({"cover.png": b"\x89PNG", "text": RAW.encode()})),
    ],
)
def test_load_text_reads(tmp_path, name, data):
    file = tmp_path / name
    file.write_bytes(data)
    assert load_text(file) == CLEANED
    assert load_text(str(file)) == CLEANED


@pytest.mark.parametrize("name", ["text8", "text8.zip", "text8.gz"])
def test_clean_text_passes_through_unchanged(tmp_path, name):
    data = TEXT8.encode()
    packed = {"text8.zip": zip_bytes({"text8": data}), "text8.gz": gzip.compress(data)}
    (tmp_path / name).write_bytes(packed.get(name, data))
    assert load_text(tmp_path / name) == TEXT8


@pytest.mark.parametrize(
    "text", [" two  spaces", " ends in newline\n", " Upper", " d1git", " \u00e9tat"]
)
def test_almost_clean_text_is_cleaned(tmp_path, text):
    (tmp_path / "t").write_text(text, encoding="utf-8")
    assert load_text(tmp_path / "t") == clean27(text)


def test_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine.txt").write_text(RAW)
    assert load_text("~/mine.txt") == CLEANED


# -- load_text: what it refuses ----------------------------------------------------------------


def encrypted_zip() -> bytes:
    data = bytearray(zip_bytes({"text8": TEXT8.encode()}, zipfile.ZIP_STORED))
    data[6] |= 1  # the flag in the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the central directory
    return bytes(data)


def corrupt_zip() -> bytes:
    data = bytearray(zip_bytes({"text8": TEXT8.encode()}, zipfile.ZIP_STORED))
    data[data.index(b"anarchism")] ^= 1
    return bytes(data)


PACKED = gzip.compress(RAW.encode() * 50)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"", "is empty"),
        ("empty.gz", b"", "is empty"),
        ("empty_inside.gz", gzip.compress(b""), "is empty once unpacked"),
        ("empty_inside.zip", zip_bytes({"text8": b""}), "is empty once unpacked"),
        ("signs.txt", b"!?, ...\n", "too short: after cleaning its length is 0, but at least 2"),
        ("one.txt", b"a\n", "too short: after cleaning its length is 1"),
        ("latin1.txt", b"caf\xe9", "not UTF-8 text .byte 0xe9 at position 3"),
        ("utf16.txt", RAW.encode("utf-16"), "not UTF-8 text .byte 0xff at position 0"),
        ("utf16le.txt", RAW.encode("utf-16-le"), "a NUL at position 1.*UTF-16"),
        ("plain.gz", RAW.encode(), "not a sound gzip file"),
        ("plain.GZ", RAW.encode(), "not a sound gzip file"),
        ("cut.gz", PACKED[:-12], "not a sound gzip file"),
        ("checksum.gz", PACKED[:-8] + b"\0" * 8, "not a sound gzip file"),
        ("damaged.gz", PACKED[:10] + b"\xff" * 8 + PACKED[18:], "not a sound gzip file"),
        ("trailing.gz", PACKED + b"more", "not a sound gzip file"),
        ("plain.zip", RAW.encode(), "not a readable zip file"),
        ("cut.zip", zip_bytes({"text8": TEXT8.encode()})[:60], "not a readable zip file"),
        ("damaged.zip", corrupt_zip(), "not a readable zip file.*CRC"),
        ("secret.zip", encrypted_zip(), "not a readable zip file.*(encrypted|password)"),
        ("nothing.zip", zip_bytes({}), "no text member.*it holds nothing"),
        ("folder.zip", zip_bytes({"folder/": b""}), "no text member.*it holds nothing"),
        ("picture.zip", zip_bytes({"a.png": b"\x89PNG"}), r"no text member.*it holds a\.png"),
        (
            "two.zip",
            zip_bytes({"a.txt": b"aa", "b.txt": b"bb"}),
            r"holds 2 texts \(a\.txt, b\.txt\)",
        ),
        (
            "many.zip",
            zip_bytes({f"{i}.txt": b"aa" for i in range(9)}),
            r"9 texts \(0\.txt, 1\.txt, 2\.txt, 3\.txt, 4\.txt, \.\.\.\)",
        ),
    ],
)
def test_load_text_refuses(tmp_path, name, data, message):
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load_text(file)
    assert str(caught.value).startswith(f"load_text: {file} ")
    assert str(caught.value).count("load_text: ") == 1


def test_load_text_refuses_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="there is no file .*absent.txt"):
        load_text(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="is a folder"):
        load_text(tmp_path)
    (tmp_path / "file").write_text(RAW)
    with pytest.raises(DataError, match="file"):
        load_text(tmp_path / "file" / "below")
    with pytest.raises(DataError, match="cannot be read|there is no file"):
        load_text(str(tmp_path / "nul\0inside"))
    with pytest.raises(DTypeError, match="path must be a str or a path, not int"):
        load_text(3)


def test_min_length_is_the_callers(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text("abcde")
    assert load_text(file, min_length=5) == "abcde"
    with pytest.raises(DataError, match="length is 5, but at least 6 characters are needed"):
        load_text(file, min_length=6)


def test_damaged_archives_never_escape_as_other_errors(tmp_path):
    rng = random.Random(0)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    whole = [zip_bytes({"text8": TEXT8.encode() * 5}, method) for method in methods]
    whole.append(gzip.compress(RAW.encode() * 5))
    file = tmp_path / "damaged"
    refused = 0
    for _ in range(400):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(1, len(data)) :]
        file.write_bytes(data)
        try:
            load_text(file)
        except DataError:
            refused += 1
    assert refused > 100
