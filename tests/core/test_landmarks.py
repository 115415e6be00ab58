"""Landmarks, their 68-point map, and which face is followed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.core.action_unit_model import load_arrays, weights_file
from mien.core.capture import open_source
from mien.core.features.geometry import mirrored_points
from mien.core.landmarks import MODEL_BLENDSHAPES, POINTS68, Landmarker
from mien.core.models import landmark_model
from mien.core.opencv import cv2
from mien.core.units import ARKIT, LANDMARK_COUNT

from .face_helpers import needs_model

ACROSS = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
ACROSS += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
ACROSS += [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
"""Which of the 68 points lies across the face from each."""


@pytest.fixture
def landmarker():
    with Landmarker(landmark_model()) as landmarker:
        yield landmarker


def first_frame(path):
    with open_source(path) as source:
        return next(iter(source)).image


def test_blendshape_names_are_arkits_without_the_tongue():
    assert set(MODEL_BLENDSHAPES) - {"_neutral"} == set(ARKIT) - {"tongueOut"}


@pytest.mark.data
@pytest.mark.parametrize("name", ["face_blendshapes_out.prototxt", "portrait_expected_blendshapes.pbtxt"])
def test_blendshape_order_is_the_published_one(data, name):
    text = (data / "golden" / name).read_text()
    index = [int(i) for i in re.findall(r"index: (\d+)", text)]
    labels = re.findall(r'label: "(\w+)"', text)
    assert [labels[index.index(i)] for i in range(52)] == list(MODEL_BLENDSHAPES)


def test_points68_are_68_mesh_points_mirrored_about_the_middle():
    assert POINTS68.shape == (68,)
    assert len(set(POINTS68)) == 68
    twins = mirrored_points(load_arrays(weights_file("action_units"))["mean"])
    assert twins.shape == (LANDMARK_COUNT,)
    np.testing.assert_array_equal(twins[POINTS68], POINTS68[ACROSS])


@pytest.mark.data
@needs_model
def test_face_in_a_picture(data, landmarker):
    face = landmarker.detect(first_frame(data / "video" / "single_face.mp4"), 0.0)
    assert face.landmarks.shape == (LANDMARK_COUNT, 3)
    assert face.size == (640, 360)
    x, y, width, height = face.box
    assert 0 < x < x + width < 640
    assert 0 < y < y + height < 360
    points = face.landmarks[POINTS68]
    assert points[36, 0] < points[45, 0]  # the actor's right eye is left in the picture
    assert points[27, 1] < points[8, 1]  # y runs down
    assert points[30, 2] < points[0, 2]  # the nose is nearer than the ear
    assert face.blendshapes[ARKIT.index("tongueOut")] == 0


@pytest.mark.data
@needs_model
def test_mirrored_picture_gives_mirrored_points(data):
    image = first_frame(data / "video" / "single_face.mp4")
    with Landmarker(landmark_model()) as one, Landmarker(landmark_model()) as other:
        face = one.detect(image, 0.0)
        mirrored = other.detect(np.ascontiguousarray(image[:, ::-1]), 0.0)
    # The model's points are shares of the width, so it is the picture's edge, x = 640, that comes to lie at 0.
    expected = face.landmarks[POINTS68, :2] * [-1, 1] + [640, 0]
    error = np.linalg.norm(mirrored.landmarks[POINTS68[ACROSS], :2] - expected, axis=1)
    eyes = np.linalg.norm(expected[36] - expected[45])
    assert error.mean() < 0.03 * eyes


@pytest.mark.data
@needs_model
def test_points68_against_labelled_photos(data):
    """Mean error over the eye distance on the labelled faces large enough to judge; see bench_landmarks.py."""
    path = Path(__file__).parents[1] / "benchmarks" / "bench_landmarks.py"
    spec = importlib.util.spec_from_file_location("bench_landmarks", path)
    bench = sys.modules["bench_landmarks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    rows = [row for row in bench.measure(data / "landmarks68") if row.eye_distance >= 35]
    assert len(rows) >= 6
    inner = np.mean([row.errors[17:].mean() for row in rows])
    assert inner < 0.045, inner


@needs_model
def test_no_face(landmarker):
    for i, size in enumerate([(120, 90), (16, 16), (640, 480), (1, 1)]):
        assert landmarker.detect(np.zeros((size[1], size[0], 3), np.uint8), i / 30) is None


@pytest.mark.data
@needs_model
def test_times_that_stand_still_or_run_back_do_not_matter(data, landmarker):
    image = first_frame(data / "video" / "single_face.mp4")
    for time in (0.0, 0.0, 0.0001, 5.0, 1.0):
        assert landmarker.detect(image, time) is not None


@pytest.mark.data
@needs_model
def test_size_may_change_and_views_are_fine(data, landmarker):
    image = first_frame(data / "video" / "single_face.mp4")
    first = landmarker.detect(image, 0.0)
    larger = landmarker.detect(cv2.resize(image, (1280, 720)), 0.1)
    view = landmarker.detect(np.asfortranarray(image), 0.2)
    np.testing.assert_allclose(larger.landmarks[POINTS68, :2], 2 * first.landmarks[POINTS68, :2], atol=12)
    np.testing.assert_allclose(view.landmarks[POINTS68, :2], first.landmarks[POINTS68, :2], atol=6)


@pytest.mark.data
@needs_model
def test_the_face_that_is_followed_stays(data, landmarker):
    """A second face coming in does not take over; when the first leaves, the second is found."""
    one = first_frame(data / "video" / "d14.mp4")
    two = first_frame(data / "video" / "d18.mp4")
    two = cv2.resize(two, (512, 512))
    nobody = np.full_like(one, 128)

    def middle(left, right, time):
        face = landmarker.detect(np.hstack([left, right]), time)
        return None if face is None else face.box[0] + face.box[2] / 2

    for i in range(3):
        assert middle(one, nobody, i / 30) < 512
    for i in range(3, 9):
        assert middle(one, two, i / 30) < 512
    for i in range(9, 13):
        last = middle(nobody, two, i / 30)
    assert last > 512
