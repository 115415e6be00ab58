"""How the 68-point model learns: from faces near and far, their mirror images, and faces that are covered."""

import numpy as np
import pytest

from mien.core.ict_face import IctFace
from mien.core.landmarks68 import window_of
from mien.core.training.landmarks68 import _MIRROR, SIDES, brought_down, covered
from mien.core.training.synthesis import landmark_vertices


@pytest.fixture
def face(data):
    """A picture whose brightness is the column, and a face's points in it."""
    points = IctFace(data / "face3d" / "ict_facekit.npz").neutral[landmark_vertices(data)][:, :2] * [1, -1]
    points = (points - points.min(0)) / np.ptp(points, axis=0).max() * 120 + 40
    return np.tile(np.arange(200, dtype=np.uint8), (200, 1)), points.astype(np.float32)


def test_mirroring_twice_changes_nothing():
    np.testing.assert_array_equal(_MIRROR[_MIRROR], np.arange(68))


@pytest.mark.data
def test_a_symmetric_face_is_its_own_mirror_image(data):
    points = IctFace(data / "face3d" / "ict_facekit.npz").neutral[landmark_vertices(data)]
    eyes = np.linalg.norm(points[36] - points[45])
    np.testing.assert_allclose((points * [-1, 1, 1])[_MIRROR], points, atol=1e-3 * eyes)


@pytest.mark.data
def test_points_stay_on_a_face_that_is_brought_down(face):
    image, points = face
    sides, rng = [], np.random.default_rng(2)
    for _ in range(40):
        small, moved = brought_down(image, points, rng)
        sides.append(window_of(moved)[2])
        column, row = np.round(moved).astype(int).T
        # Dark or not: what is seen at a point is as bright as the column that it comes from.
        assert np.corrcoef(small[row, column], points[:, 0])[0, 1] > 0.97
    assert SIDES[0] - 0.1 < min(sides) < 35
    assert 95 < max(sides) < SIDES[1] + 0.1


@pytest.mark.data
def test_a_cover_hides_the_face_from_the_nose_down_alone(face):
    image, points = face
    views, rng = [np.full((64, 64), 255, np.uint8)], np.random.default_rng(3)
    top, (left, bottom) = points[28, 1], (points[:, 0].min(), points[:, 1].max())
    for _ in range(10):
        hidden = covered(image, points, views, rng)
        changed = hidden != image
        assert not changed[: int(top)].any()
        assert not changed[:, : int(left)].any()
        mouth = slice(int(points[48, 1]), int(bottom)), slice(int(points[48, 0]), int(points[54, 0]))
        assert changed[mouth].mean() > 0.95
