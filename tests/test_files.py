"""files.replacing: the old file or the new one, never half of one."""

import os

import pytest

from minigrad.files import replacing


def test_the_old_file_stays_until_the_block_has_ended(tmp_path):
    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["numbers"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_changes_nothing_and_leaves_nothing_behind(tmp_path, error):
    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half of it")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["numbers"]


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path, kind in (
        (tmp_path / "nowhere" / "numbers", FileNotFoundError),
        (tmp_path / "file" / "numbers", NotADirectoryError),
        (tmp_path / "folder", IsADirectoryError),
    ):
        with pytest.raises(kind) as caught, replacing(path) as file:
            file.write(b"new")
        assert caught.value.filename == str(path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
