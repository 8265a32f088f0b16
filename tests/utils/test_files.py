"""Files appear whole or not at all, and nothing is left beside them."""

import os
from pathlib import Path

import pytest

from utils.files import clear_partial, final_of, naming, partial_of, short_name, written_whole


def test_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    with pytest.raises(RuntimeError), written_whole(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    partial.write_text("half, left by a killed process")
    with written_whole(path) as again:
        again.write_text("newer")
    assert again == partial
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    words = "choose a folder that can be written"
    with pytest.raises(PermissionError, match=words) as raised, written_whole(tmp_path / "a.txt"):
        pass
    assert raised.value.filename == str(tmp_path / "a.txt")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("9 requested and 4 written")])
def test_a_full_disk_is_named(error, tmp_path):
    """By the file's final name; the words of an error without a number are kept."""
    with pytest.raises(OSError, match=error.strerror or str(error)) as raised, written_whole(tmp_path / "a.txt"):
        raise error
    assert raised.value.filename == str(tmp_path / "a.txt")
    assert raised.value.errno == error.errno
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, naming(tmp_path / "a.txt"):
        (tmp_path / "b.txt").read_text()
    assert Path(raised.value.filename) == tmp_path / "b.txt"


@pytest.mark.parametrize("name", ["a.txt", "b", ".hidden.png", "c.partial.png", "d.e.tif"])
def test_a_partial_file_tells_what_it_becomes(name):
    assert final_of(partial_of(Path("x", name))) == Path("x", name) == final_of(Path("x", name))


def test_what_killed_processes_left_is_cleared(tmp_path):
    for name in ("a.txt", "b"):
        partial_of(tmp_path / name).touch()
        (tmp_path / name).touch()
    (tmp_path / ".hidden").touch()
    clear_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "a.txt", "b"]


@pytest.mark.skipif(os.name == "nt", reason="Windows limits whole paths to 260 characters")
@pytest.mark.parametrize("name", ["x" * 251 + ".png", "\u57ce" * 83 + ".tif", "x" * 139 + ".png"])
def test_a_name_as_long_as_the_file_system_takes(name, tmp_path):
    path = tmp_path / name
    with written_whole(path) as partial:
        partial.write_text("new")
        assert len(partial.name.encode()) <= len(name.encode())
        assert partial.suffix == path.suffix
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_longer_name_is_refused_before_anything_is_written(tmp_path):
    words, path = "the name is too long for this file system", tmp_path / ("x" * 252 + ".png")
    with pytest.raises(ValueError, match=words), written_whole(path):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_long_names_have_short_ones_of_their_own():
    assert short_name("scene_1") == "scene_1"
    assert len({short_name("x" * 200 + end) for end in "abc"}) == 3
    assert len(short_name("x" * 200)) == 32
