"""The 68 points of films, by the landmark model's mesh and by histograms alone."""

import csv
import itertools

import cv2
import numpy as np
import pytest

from mien.core import points68
from mien.core.capture import open_source
from mien.core.errors import MienError
from mien.core.landmarks68 import FaceTracker

from .face_helpers import needs_model

pytestmark = pytest.mark.data


def table(path) -> np.ndarray:
    """Points (frames, 68, 2) of a CSV, NaN where there is no face."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == points68.HEADER
    assert [int(row[0]) for row in rows[1:]] == list(range(len(rows) - 1))
    return np.array([[float(value or "nan") for value in row[2:]] for row in rows[1:]]).reshape(-1, 68, 2)


@needs_model
def test_histograms_follow_a_real_face_as_the_mesh_does(data, tmp_path):
    told, found = [], {}
    for backend in ("mesh", "histograms"):
        target = tmp_path / f"{backend}.csv"
        outcome = points68.write_points(
            data / "video" / "woman2.mp4", target, backend, progress=lambda *done: told.append(done)
        )
        found[backend] = table(target)
        assert outcome == {"frames": len(found[backend]), "found": len(found[backend])}
        assert told[-1] == (464, 464)
    eyes = np.linalg.norm(found["mesh"][:, 36] - found["mesh"][:, 45], axis=1)
    apart = np.linalg.norm(found["mesh"] - found["histograms"], axis=2).mean(1) / eyes
    assert apart.mean() < 0.05
    assert np.quantile(apart, 0.95) < 0.08


def test_a_face_that_leaves_is_let_go_and_found_again(data):
    with open_source(data / "video" / "face_noface.mov") as source:
        film = [frame.image for frame in source]
    track = FaceTracker()
    leaves = [track(image) is not None for image in film]
    assert np.mean(leaves[: len(film) // 4]) > 0.9
    assert not any(leaves[-len(film) // 4 :])
    back = [track(image) is not None for image in film[: 3 * FaceTracker.PATIENCE]]
    assert back[-1]
    assert len(list(itertools.takewhile(lambda here: not here, back))) <= FaceTracker.PATIENCE


def test_no_network_and_no_file_but_miens_own_is_needed(data, tmp_path, monkeypatch):
    monkeypatch.setattr("mien.core.models.landmark_model", lambda: pytest.fail("the landmark model was asked for"))
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda *_: pytest.fail("a network was loaded"))
    photo = data / "landmarks68" / "takeo.ppm"
    outcome = points68.write_points(photo, tmp_path / "points.csv", "histograms")
    assert outcome == {"frames": 1, "found": 1}


def test_what_cannot_be_written_is_told(data, tmp_path):
    with pytest.raises(MienError, match="cannot be written"):
        points68.write_points(data / "landmarks68" / "takeo.ppm", tmp_path / "none" / "points.csv", "histograms")
    assert not list(tmp_path.iterdir())
