"""Names of files that every system takes."""

from __future__ import annotations

import pytest

from mien.core.files import file_stem


@pytest.mark.parametrize(
    ("name", "stem"),
    [("Con", "_Con"), ("nul.1", "_nul.1"), ("com1", "_com1"), ("Connie", "Connie"), ("com", "com"), ("a/b", "a_b")],
)
def test_windows_names_of_devices_are_no_files(name, stem):
    assert file_stem(name) == stem
