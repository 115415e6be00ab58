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


def table(path) -> np.ndarray:
    """Points (frames, 68, 2) of a CSV, NaN where there is no face."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == points68.HEADER
    assert [int(row[0]) for row in rows[1:]] == list(range(len(rows) - 1))
    return np.array([[float(value or "nan") for value in row[2:]] for row in rows[1:]]).reshape(-1, 68, 2)


@needs_model
@pytest.mark.data
def test_histograms_follow_a_real_face_as_the_mesh_does(data):
    told = []
    clip = data / "video" / "woman2.mp4"
    mesh, histograms = (
        points68.read_points(clip, backend, progress=lambda *done: told.append(done))
        for backend in ("mesh", "histograms")
    )
    assert told[-1] == (464, 464)
    assert mesh.found == histograms.found == 464
    np.testing.assert_array_equal(mesh.times, histograms.times)
    eyes = np.linalg.norm(mesh.points[:, 36] - mesh.points[:, 45], axis=1)
    apart = np.linalg.norm(mesh.points - histograms.points, axis=2).mean(1) / eyes
    assert apart.mean() < 0.05
    assert np.quantile(apart, 0.95) < 0.08


@pytest.mark.data
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


@pytest.mark.data
def test_no_network_and_no_file_but_miens_own_is_needed(data, tmp_path, monkeypatch):
    monkeypatch.setattr("mien.core.models.landmark_model", lambda: pytest.fail("the landmark model was asked for"))
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda *_: pytest.fail("a network was loaded"))
    found = points68.read_points(data / "landmarks68" / "takeo.ppm", "histograms")
    assert found.found == 1
    found.write(tmp_path / "points.csv")
    np.testing.assert_allclose(table(tmp_path / "points.csv"), found.points, atol=0.006)


@pytest.fixture
def film(tmp_path):
    """Seven pictures without a face."""
    folder = tmp_path / "film"
    folder.mkdir()
    for number in range(7):
        picture = np.random.default_rng(number).integers(0, 256, (60, 80, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    return folder


def test_frames_without_a_face_are_empty(film, tmp_path):
    found = points68.read_points(film, "histograms", fps=10)
    assert (len(found.times), found.found, found.incomplete) == (7, 0, False)
    found.write(tmp_path / "points.csv")
    assert np.isnan(table(tmp_path / "points.csv")).all()
    assert (tmp_path / "points.csv").read_text().splitlines()[3].startswith("2,0.2000,,")


def test_pictures_without_a_face_are_not_all_searched(film):
    class Landmarker:
        searched = 0

        def detect(self, image):
            self.searched += 1
            return []

    landmarker = Landmarker()
    track = FaceTracker(landmarker)
    assert [track(np.zeros((60, 80), np.uint8)) for _ in range(2 * FaceTracker.PATIENCE + 1)].count(None) == 11
    assert landmarker.searched == 3


def test_what_cannot_be_done_is_told(film, tmp_path):
    found = points68.read_points(film, "histograms")
    with pytest.raises(MienError, match="cannot be written"):
        found.write(tmp_path / "none" / "points.csv")
    with pytest.raises(ValueError, match="backend must be"):
        points68.read_points(film, "guess")
    assert [entry.name for entry in tmp_path.iterdir()] == ["film"]
