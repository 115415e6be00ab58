"""Names of files that every system takes, and archives of arrays."""

from __future__ import annotations

import getpass
from pathlib import Path

import numpy as np
import pytest

from mien.core.files import file_stem, from_home, read_arrays, write_arrays


@pytest.mark.parametrize(
    ("name", "stem"),
    [("Con", "_Con"), ("nul.1", "_nul.1"), ("com1", "_com1"), ("Connie", "Connie"), ("com", "com"), ("a/b", "a_b")],
)
def test_windows_names_of_devices_are_no_files(name, stem):
    assert file_stem(name) == stem


def test_only_a_tilde_that_names_a_folder_is_replaced(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    assert from_home("~") == home
    assert from_home("~/a/b.mp4") == home / "a" / "b.mp4"
    assert from_home(f"~{getpass.getuser()}/a.mp4").is_absolute()
    for kept in ("~clip.mp4", "~nobody at all/a.mp4", "a/~", "~a\0b", "~\ud800", "", "."):
        assert from_home(kept) == Path(kept)
    (here / "~").touch()
    assert from_home("~") == Path("~")


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", "npy", "cut"]
)
def test_what_is_no_archive_is_not_said_to_hold_pickles(tmp_path, content):
    path = tmp_path / "x.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "cut":
        write_arrays(path, a=np.zeros(300))
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^it is damaged, or no \.npz \(no zip archive\)$"):
        read_arrays(path)


def test_arrays_are_read_by_name_and_pickles_never(tmp_path):
    path = tmp_path / "x.npz"
    write_arrays(path, a=np.arange(3), b=np.array([{}], object))
    assert read_arrays(path, ["a", "c"])["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="saved with pickle"):
        read_arrays(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "gone.npz")
