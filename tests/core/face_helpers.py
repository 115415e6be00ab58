"""Faces made up by hand, for tests that need no picture."""

from __future__ import annotations

import numpy as np

from mien.core import mediapipe_lite, models
from mien.core.errors import MienError
from mien.core.landmarks import Face
from mien.core.units import ARKIT, ARKIT_INDEX, LANDMARK_COUNT
from mien.tests.needs import need


def about(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation about an axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[j, i], matrix[i, j] = s, -s
    return matrix


def face_at(rotation=None, translation=(0.0, 0.0, -40.0), scale=1.0, iris=0.0, **shapes) -> Face:
    """A made-up face: eyes 10 wide, 50 px, with the irises moved `iris` px to the actor's left."""
    rotation = np.eye(3) if rotation is None else rotation
    points = np.zeros((LANDMARK_COUNT, 3))
    points[[33, 133, 362, 263], 0] = -45, -15, 15, 45
    points[[468, 473], 0] = -30 + iris, 30 + iris
    points[4] = 0, -40, 30
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = rotation * scale
    matrix[:3, 3] = translation
    landmarks = points @ rotation.T * (1, -1, -1) + (320, 240, 0)
    weights = np.zeros(len(ARKIT), np.float32)
    for name, value in shapes.items():
        weights[ARKIT_INDEX[name]] = value
    return Face((640, 480), landmarks.astype(np.float32), weights, matrix)


def _why_no_model() -> str:
    """Return why no face can be found here, or nothing."""
    try:
        mediapipe_lite.library_path()
        models.landmark_model()
    except MienError as error:
        return str(error)
    return ""


needs_model = need(not _why_no_model(), _why_no_model())
"""For tests that run the landmark model."""
