"""minigrad.data.mnist: the packaged subset, folders whole and broken, and downloads.

The network is a server on this machine's loopback; nothing here reaches further.
"""

import gzip
import hashlib
import http.server
import socket
import struct
import threading
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.data import MNIST, download_mnist, load_mnist, mnist
from minigrad.data._files import Published
from minigrad.errors import ArgumentError, DataError, DTypeError

NAMES = [
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
]  # fmt: skip


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + array.tobytes()


def packed(data):
    return gzip.compress(data, mtime=0)


GENERATOR = np.random.default_rng(5)
SMALL = MNIST(
    GENERATOR.integers(0, 256, (12, 28, 28), dtype=np.uint8), np.arange(12, dtype=np.uint8) % 10,
    GENERATOR.integers(0, 256, (3, 28, 28), dtype=np.uint8), np.array([9, 0, 4], np.uint8),
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)


@pytest.fixture
def folder(tmp_path):
    for name, array in zip(NAMES, SMALL, strict=True):
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def assert_small(data):
    for field, found, expected in zip(MNIST._fields, data, SMALL, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=field)
        assert found.dtype == np.uint8 and found.flags.c_contiguous and found.flags.writeable


# -- the packaged subset -----------------------------------------------------------------------


def test_the_packaged_subset():
    data = load_mnist()
    assert data.train_images.shape == (6000, 28, 28) and data.test_images.shape == (1000, 28, 28)
    assert all(array.dtype == np.uint8 and array.flags.writeable for array in data)
    assert np.bincount(data.train_labels).tolist() == [600] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    # shuffled: the digits of every tenth of it are mixed
    for labels in data.train_labels.reshape(10, 600):
        assert (np.bincount(labels, minlength=10) > 30).all()
    # an image is upright and its label is right: ones are narrow, zeros have an empty middle
    ones, zeros = (data.train_images[data.train_labels == digit] for digit in (1, 0))
    assert ones[:, :, 12:17].sum() > 0.6 * ones.sum()
    assert zeros[:, 12:16, 12:16].mean() < 0.2 * ones[:, 12:16, 12:16].mean()
    assert 0.12 < data.train_images.mean() / 255 < 0.14
    unique = {image.tobytes() for image in (*data.train_images, *data.test_images)}
    assert len(unique) == 7000


def test_the_packaged_file_is_the_one_the_readme_describes():
    raw = gzip.decompress(mnist.PACKAGED_SUBSET.read_bytes())
    readme = mnist.PACKAGED_SUBSET.with_name("README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(raw).hexdigest() in readme
    assert raw == b"".join(idx(array) for array in load_mnist())  # and nothing behind it
    assert mnist.PACKAGED_SUBSET.stat().st_size < 3_000_000


def test_the_readme_has_the_checksums_of_the_full_files():
    readme = mnist.PACKAGED_SUBSET.with_name("README.md").read_text(encoding="utf-8")
    for file in mnist._FILES:
        size, digest = file.published
        assert f"| {file.name} | {size:,} | `{digest}` |" in readme
        assert size in {n * 784 + 16 for n in (60_000, 10_000)} | {60_008, 10_008}


# -- folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("inside", ["", "mnist"])
def test_every_spelling(tmp_path, suffix, dot, inside):
    place = tmp_path / inside
    place.mkdir(exist_ok=True)
    for name, array in zip(NAMES, SMALL, strict=True):
        name = (name.replace("-idx", ".idx") if dot else name) + suffix
        (place / name).write_bytes(packed(idx(array)) if suffix else idx(array))
    assert_small(load_mnist(tmp_path))
    assert_small(load_mnist(str(tmp_path)))


def test_the_suffix_does_not_matter_the_bytes_do(tmp_path):
    for name, array in zip(NAMES, SMALL, strict=True):
        odd = "train" in name  # browsers unpack on the way and keep the name, or the reverse
        (tmp_path / f"{name}{'.gz' if odd else ''}").write_bytes(
            idx(array) if odd else packed(idx(array))
        )
    assert_small(load_mnist(tmp_path))


def test_the_variable_names_a_folder(folder, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(folder))
    assert_small(load_mnist())
    monkeypatch.setenv("MINIGRAD_DATA", str(folder / "nowhere"))
    assert_small(load_mnist(folder))  # an argument comes first
    with pytest.raises(DataError, match="load_mnist, MINIGRAD_DATA: .*nowhere is no folder"):
        load_mnist()
    monkeypatch.setenv("MINIGRAD_DATA", "")
    assert len(load_mnist().train_images) == 6000


def test_a_folder_in_the_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert_small(load_mnist(f"~/{folder.name}"))


IMAGES, LABELS = idx(SMALL.train_images), idx(SMALL.train_labels)


def with_header(data, *numbers):
    return struct.pack(f">{len(numbers)}I", *numbers) + data[4 * len(numbers) :]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("part", "data", "message"),
    [
        (0, b"", "ends within the header: it has 0 of 16 bytes"),
        (0, IMAGES[:15], "ends within the header: it has 15 of 16 bytes"),
        (1, LABELS[:7], "ends within the header: it has 7 of 8 bytes"),
        (0, with_header(IMAGES, 2049), "magic number 2049, but 2051 is expected"),
        (1, with_header(LABELS, 2051), "magic number 2051, but 2049 is expected"),
        (2, b"<html>not here</html>", "magic number 1013478509, but 2051"),
        (0, with_header(IMAGES, 2051, 12, 28, 27), r"shape \(28, 27\), expected \(28, 28\)"),
        (0, with_header(IMAGES, 2051, 12, 0, 28), r"shape \(0, 28\), expected \(28, 28\)"),
        (0, with_header(IMAGES, 2051, 0), "promises 0 items; expected are 1 to 1,000,000"),
        (0, with_header(IMAGES, 2051, 2**32 - 1), "promises 4294967295 items"),
        (1, with_header(LABELS, 2049, 1_000_001), "promises 1000001 items"),
        (0, with_header(IMAGES, 2051, 13), r"truncated: .* 10192 bytes .*, but 9408 follow"),
        (0, IMAGES[:-1], r"truncated: .* promises 9408 bytes for .*\(12, 28, 28\), but 9407"),
        (1, LABELS[:8], "promises 12 bytes .* but 0 follow"),
        (0, IMAGES + b"\0", "too long: its header promises 9408 bytes"),
        (3, idx(SMALL.test_labels) + b"x" * 9, "too long: its header promises 3 bytes"),
        (1, LABELS[:-3] + b"\x0a\x01\x02", "label 9 is 10, but labels are 0 to 9"),
        (3, with_header(LABELS, 2049), "12 labels, but .*t10k-images.* has 3 images"),
        (1, idx(SMALL.test_labels), "3 labels, but .*train-images.* has 12 images"),
    ],
)
def test_broken_files(folder, part, data, message, compress):
    file = folder / NAMES[part]
    file.write_bytes(packed(data) if compress else data)
    with pytest.raises(DataError, match=message) as caught:
        load_mnist(folder)
    assert str(caught.value).startswith(f"load_mnist: {file}")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:2],
        lambda data: data[:-8] + bytes(4) + data[-4:],  # the checksum
        lambda data: data[:200] + bytes(50) + data[250:],
        lambda data: data + b"more",
        lambda data: data[:2] + b"\x09" + data[3:],  # a method there is not
    ],
)
def test_damaged_compression(folder, damage):
    file = folder / NAMES[0]
    file.write_bytes(damage(packed(IMAGES)))
    with pytest.raises(DataError, match="is not a sound gzip file") as caught:
        load_mnist(folder)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing in .* download=True"):
        load_mnist(folder)
    (folder / name).mkdir()  # a folder of that name is no file
    with pytest.raises(DataError, match=f"{name} is missing in"):
        load_mnist(folder)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("nowhere", DataError, "nowhere is no folder"),
        (NAMES[0], DataError, "is a file; name the folder it is in"),
        ("nul\0", DataError, "is no folder"),
        (5, DTypeError, "path must be a str or a path, not int"),
        (True, DTypeError, "not bool"),
    ],
)
def test_bad_folders(folder, path, error, message):
    with pytest.raises(error, match=message):
        load_mnist(folder / path if isinstance(path, str) else path)


def test_a_bomb_does_not_fill_the_memory(folder):
    """A few kilobytes that unpack to 512 MB: no more is read than the header promises."""
    bomb = packed(IMAGES)
    zeros = packed(bytes(1 << 23))
    (folder / NAMES[0]).write_bytes(bomb + zeros * 64)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="too long"):
            load_mnist(folder)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# -- fuzz --------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(data=st.data())
def test_random_damage_gives_an_error_or_right_data(folder, data):
    part = data.draw(st.integers(0, 3), "part")
    compress = data.draw(st.booleans(), "compress")
    sound = packed(idx(SMALL[part])) if compress else idx(SMALL[part])
    broken = bytearray(sound)
    last = len(sound) - 1
    ends = st.integers(0, min(last, 40)) | st.integers(0, last)  # the header is at the beginning
    for _ in range(data.draw(st.integers(0, 3), "flips")):
        broken[data.draw(ends, "at")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    if data.draw(st.booleans(), "truncate"):
        del broken[data.draw(ends, "length") :]
    file = folder / NAMES[part]
    file.write_bytes(broken)
    try:
        found = load_mnist(folder)
    except DataError as error:
        assert str(file) in str(error)
        assert bytes(broken) != sound
    else:
        if compress:  # its checksum tells; flips elsewhere are in the time stamp and the like
            assert_small(found)
        else:  # a flipped pixel or label cannot be told from a right one
            for i, (array, expected) in enumerate(zip(found, SMALL, strict=True)):
                assert idx(array) == (bytes(broken) if i == part else idx(expected))
    finally:
        file.write_bytes(idx(SMALL[part]))


# -- downloads ---------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def mirror(tmp_path_factory):
    """A server of the small files: (its address, its folder, the paths it was asked for)."""
    root = tmp_path_factory.mktemp("mirror")
    for name, array in zip(NAMES, SMALL, strict=True):
        (root / f"{name}.gz").write_bytes(packed(idx(array)))
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(root))
    ) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", root, server.asked
        server.shutdown()
        thread.join()


@pytest.fixture
def small_is_published(monkeypatch):
    files = [
        file._replace(published=Published(len(idx(array)), hashlib.sha256(idx(array)).hexdigest()))
        for file, array in zip(mnist._FILES, SMALL, strict=True)
    ]
    monkeypatch.setattr(mnist, "_FILES", files)


@pytest.fixture
def refused():
    """The address of a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def test_download(mirror, small_is_published, tmp_path):
    url, root, asked = mirror
    target = tmp_path / "new" / "mnist"
    assert download_mnist(target, mirrors=[url]) == target
    assert sorted(file.name for file in target.iterdir()) == sorted(f"{n}.gz" for n in NAMES)
    assert_small(load_mnist(target))
    assert_small(load_mnist(target.parent))  # found in its subfolder
    assert len(asked) == 4
    for again in (target, target.parent):  # what is there and right is not fetched
        download_mnist(again, mirrors=[url])
    assert len(asked) == 4
    (target / f"{NAMES[1]}.gz").write_bytes(b"broken")
    download_mnist(target, mirrors=[url])
    assert len(asked) == 5
    assert_small(load_mnist(target))


def test_load_with_download(mirror, small_is_published, tmp_path, monkeypatch):
    url, _, asked = mirror
    monkeypatch.setattr(mnist.download_mnist, "__kwdefaults__", {"mirrors": [url], "timeout": 5.0})
    assert_small(load_mnist(tmp_path / "data", download=True))
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "other"))
    assert_small(load_mnist(download=True))
    monkeypatch.delenv("MINIGRAD_DATA")
    with pytest.raises(ArgumentError, match="needs a folder to keep"):
        load_mnist(download=True)
    assert len(asked) == 8


def test_the_next_mirror_steps_in(mirror, small_is_published, refused, tmp_path):
    url, root, _ = mirror
    download_mnist(tmp_path, mirrors=[refused, f"{url}not-here/", url], timeout=5)
    assert_small(load_mnist(tmp_path))


def test_every_mirror_is_named_with_its_reason(mirror, small_is_published, refused, tmp_path):
    url, root, _ = mirror
    with pytest.raises(DataError) as caught:
        download_mnist(tmp_path, mirrors=[refused, f"{url}not-here/"], timeout=5)
    message = str(caught.value)
    assert message.startswith(f"download_mnist: {NAMES[0]}.gz cannot be fetched")
    assert f"{refused}{NAMES[0]}.gz (" in message and "refused" in message
    assert f"{url}not-here/{NAMES[0]}.gz (HTTP 404 File not found)" in message
    assert "--data DIR or MINIGRAD_DATA" in message
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no mirror, none was given"):
        download_mnist(tmp_path, mirrors=[])
    with pytest.raises(DataError, match="unknown url type"):
        download_mnist(tmp_path, mirrors=["nonsense/"])


WRONG = idx(SMALL.train_images[::-1])  # as long, but not the same


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (b"", "0 bytes uncompressed, expected 9,424"),
        (b"<html>moved</html>", "Not a gzipped file"),
        (packed(IMAGES)[:-20], "end-of-stream"),
        (packed(IMAGES[:-1]), "9,423 bytes uncompressed, expected 9,424"),
        (packed(IMAGES + bytes(1 << 20)), "more bytes uncompressed, expected 9,424"),
        (packed(WRONG), f"sha256 {hashlib.sha256(WRONG).hexdigest()}, expected"),
    ],
)
def test_a_wrong_file_is_not_kept(mirror, small_is_published, tmp_path, served, reason):
    url, root, _ = mirror
    (root / f"{NAMES[0]}.gz").write_bytes(served)
    with pytest.raises(DataError, match=reason):
        download_mnist(tmp_path, mirrors=[url])
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_hangs_up_or_says_nothing(small_is_published, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(DataError, match="timed out"):
            download_mnist(tmp_path, mirrors=[url], timeout=0.2)
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def answer():
            connection, _ = rude.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 9000\r\n\r\n\x1f\x8b\x08")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{rude.getsockname()[1]}/"
        with pytest.raises(DataError, match=f"{NAMES[0]}.gz cannot be fetched"):
            download_mnist(tmp_path, mirrors=[url], timeout=5)
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        download_mnist(tmp_path / "file", mirrors=[])
    with pytest.raises(DTypeError, match="download_mnist: path must be"):
        download_mnist(3, mirrors=[])
