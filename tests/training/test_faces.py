"""Faces of the expression sets: looked for once, and once more when the set has changed."""

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
    (tmp_path / "work").mkdir()
    (tmp_path / "expression").mkdir()
    (tmp_path / "expression" / "set.tar").write_bytes(b"a set")
    monkeypatch.setattr(faces, "work_folder", lambda: tmp_path / "work")
    monkeypatch.setattr(faces, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(faces, "landmark_model", lambda: None)
    monkeypatch.setattr(faces, "Landmarker", lambda path: contextlib.nullcontext())
    pictures = types.SimpleNamespace(images=np.arange(3))
    monkeypatch.setattr(faces, "load_expression_set", lambda path: pictures)
    return chunks


def test_a_set_is_looked_at_again_only_when_it_has_changed(looked, tmp_path):
    with pytest.raises(SystemExit, match="are unknown"):
        faces.labelled_faces("mux")
    for _ in range(2):
        faces.main([])
        assert looked == [2, 1]
        (_joined,) = (tmp_path / "work").iterdir()
    _, found = faces.labelled_faces("mux")
    assert set(found) == {"found"}
    np.testing.assert_array_equal(found["found"], [False, True, True])
    (tmp_path / "expression" / "set.tar").write_bytes(b"another")
    with pytest.raises(SystemExit, match="it has changed"):
        faces.labelled_faces("mux")
    faces.main([])
    assert looked == [2, 1, 2, 1]
    assert len(faces.labelled_faces("mux")[1]["found"]) == 3


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


def test_a_cut_while_writing_leaves_nothing_that_looks_whole(looked, monkeypatch, tmp_path):
    def cut(file, **arrays):
        file.write(b"PK half of it")
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", cut)
        with pytest.raises(Cut):
            faces.main([])
    assert not list((tmp_path / "work").iterdir())
    faces.main([])
    assert faces.labelled_faces("mux")[1]["found"].sum() == 2


def test_what_was_made_of_faces_is_made_anew_when_they_or_the_code_change(tmp_path):
    made = []
    module = types.SimpleNamespace(__file__=str(tmp_path / "hog.py"))

    def make():
        made.append(len(made))
        return {"count": np.array(len(made))}

    for content, code, wanted in (
        (b"", "a", 1),
        (b"", "a", 1),
        (b"other faces", "a", 2),
        (b"other faces", "a", 2),
        (b"other faces", "b", 3),
    ):
        (tmp_path / "faces_mux.npz").write_bytes(content)
        (tmp_path / "hog.py").write_text(code)
        kept = faces.made_of_faces(tmp_path / "crops.npz", ["mux", "gone"], make, [module])
        assert {name: int(value) for name, value in kept.items()} == {"count": wanted}
