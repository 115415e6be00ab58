"""One frame in, one result out."""

from __future__ import annotations

import os

from .action_units import ActionUnitEstimator, BlendshapeEstimator
from .fusion import fuse
from .head import GazeTracker, head_pose
from .landmarks import POINTS68, Face, Landmarker
from .models import landmark_model
from .types import Frame, FrameResult


class Pipeline:
    """Follows one face through the frames of one source; results are raw, not smoothed.

    Parameters
    ----------
    model_path : path, optional
        ``face_landmarker.task``; the installed and verified one if not given.
    estimator : ActionUnitEstimator, optional
        Gives the action units; `BlendshapeEstimator` if not given.

    Raises
    ------
    MienError
        ``model-missing``, ``model-damaged``, ``mediapipe-missing`` or ``mediapipe-unusable``.
    """

    def __init__(
        self, model_path: str | os.PathLike | None = None, estimator: ActionUnitEstimator | None = None
    ):
        self._landmarker = Landmarker(landmark_model() if model_path is None else model_path)
        self._estimator = BlendshapeEstimator() if estimator is None else estimator
        self._gaze = GazeTracker()

    def step(self, frame: Frame) -> FrameResult:
        """Return what is known about the face in the next frame of the source."""
        height, width = frame.image.shape[:2]
        face = self._landmarker.detect(frame.image, frame.time)
        if face is None:
            self._gaze.reset()
            return FrameResult(frame.index, frame.time, size=(width, height))
        rotation, translation = head_pose(face)
        action_units, arkit = self._estimator.estimate_arkit(face, frame.image)
        return FrameResult(
            frame.index,
            frame.time,
            found=True,
            confidence=_share_inside(face),
            size=face.size,
            box=face.box,
            landmarks=face.landmarks,
            points68=face.landmarks[POINTS68, :2],
            head_rotation=rotation,
            head_translation=translation,
            eye_rotations=self._gaze(face, frame.time),
            action_units=action_units,
            arkit=arkit,
            units=fuse(action_units),
        )

    def close(self) -> None:
        """Free the model; closing twice is fine."""
        self._landmarker.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _share_inside(face: Face) -> float:
    """Stand-in for a confidence, which the library does not tell: the share of the mesh inside the picture."""
    points = face.landmarks[:, :2]
    return float(((points >= 0) & (points < face.size)).all(axis=1).mean())
