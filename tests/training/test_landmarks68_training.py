"""How the 68-point model learns: from faces and their mirror images."""

import numpy as np
import pytest

from mien.core.ict_face import IctFace
from mien.core.training.landmarks68 import _MIRROR
from mien.core.training.synthesis import landmark_vertices


def test_mirroring_twice_changes_nothing():
    np.testing.assert_array_equal(_MIRROR[_MIRROR], np.arange(68))


@pytest.mark.data
def test_a_symmetric_face_is_its_own_mirror_image(data):
    points = IctFace(data / "face3d" / "ict_facekit.npz").neutral[landmark_vertices(data)]
    eyes = np.linalg.norm(points[36] - points[45])
    np.testing.assert_allclose((points * [-1, 1, 1])[_MIRROR], points, atol=1e-3 * eyes)
