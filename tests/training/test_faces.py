"""Faces of the expression sets: looked for once, and once more when the file was deleted."""

import contextlib
import types

import numpy as np
import pytest

from mien.core.training import faces

from .training_helpers import Cut


@pytest.fixture
def looked(monkeypatch, tmp_path):
    """One set of three pictures in chunks of two, and the number of pictures of each chunk looked at."""
    chunks = []

    def find(stills, images):
        chunks.append(len(images))
        return {"found": images > 0}

    monkeypatch.setattr(faces, "SETS", {"mux": "set.tar"})
    monkeypatch.setattr(faces, "_CHUNK", 2)
    monkeypatch.setattr(faces, "_find", find)
    monkeypatch.setattr(faces, "work_folder", lambda: tmp_path)
    monkeypatch.setattr(faces, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(faces, "landmark_model", lambda: None)
    monkeypatch.setattr(faces, "Landmarker", lambda path: contextlib.nullcontext())
    pictures = types.SimpleNamespace(images=np.arange(3))
    monkeypatch.setattr(faces, "load_expression_set", lambda path: pictures)
    return chunks


def test_a_set_is_looked_at_again_only_when_its_file_was_deleted(looked, tmp_path):
    for _ in range(2):
        faces.main([])
        assert looked == [2, 1]
    (joined,) = tmp_path.iterdir()
    np.testing.assert_array_equal(np.load(joined)["found"], [False, True, True])
    joined.unlink()
    faces.main([])
    assert looked == [2, 1, 2, 1]


def test_a_cut_loses_no_whole_chunk(looked, monkeypatch):
    find = faces._find

    def cut(stills, images):
        if len(images) == 1:
            raise Cut
        return find(stills, images)

    with monkeypatch.context() as patch:
        patch.setattr(faces, "_find", cut)
        with pytest.raises(Cut):
            faces.main([])
    faces.main([])
    assert looked == [2, 1]


def test_what_was_made_of_faces_is_made_anew_when_they_change(tmp_path):
    made = []

    def make():
        made.append(len(made))
        return {"count": np.array(len(made))}

    for content, wanted in ((b"", 1), (b"", 1), (b"other faces", 2), (b"other faces", 2)):
        (tmp_path / "faces_mux.npz").write_bytes(content)
        kept = faces.made_of_faces(tmp_path / "crops.npz", ["mux", "gone"], make)
        assert {name: int(value) for name, value in kept.items()} == {"count": wanted}
