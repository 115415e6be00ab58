"""One frame in, one result out."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .action_units import ActionUnitEstimator, BlendshapeEstimator
from .actor import Actor
from .capture import read_ahead
from .errors import MienError
from .estimators import open_estimator
from .expression import UNSURE
from .fusion import fuse
from .head import GazeTracker, head_pose
from .labelling import Label, Labeller
from .landmarks import POINTS68, Face, Landmarker
from .landmarks68 import FaceCheck
from .models import landmark_model
from .opencv import cv2
from .types import SURE, Frame, FrameResult
from .units import ESTIMATORS

CHECKED = 0.16
"""Seconds for which the answer of `FaceCheck` holds: what covers a face stays longer."""

TURNED = math.radians(25.0)
"""A head turned further from the camera counts as seen: `FaceCheck` knows faces from the front alone."""


class Pipeline:
    """Follows one face through the frames of one source; results are raw, not smoothed.

    Parameters
    ----------
    model_path : path, optional
        ``face_landmarker.task``; the installed and verified one if not given.
    estimator : ActionUnitEstimator, optional
        Gives the action units; `BlendshapeEstimator` if not given.
    labeller : Labeller, optional
        Gives the expression's label; there is none if not given.
    check : FaceCheck, optional
        Gives the confidence, together with how much of the mesh lies inside the picture, which
        alone counts if not given.

    Attributes
    ----------
    labeller : Labeller or None
    notices : list of MienError
        What this pipeline has to do without.
    settings : dict
        What made the results, for the header of a take.

    Raises
    ------
    MienError
        ``model-missing``, ``model-damaged``, ``mediapipe-missing`` or ``mediapipe-unusable``.
    """

    def __init__(
        self,
        model_path: str | os.PathLike | None = None,
        estimator: ActionUnitEstimator | None = None,
        labeller: Labeller | None = None,
        check: FaceCheck | None = None,
    ):
        self._landmarker = Landmarker(landmark_model() if model_path is None else model_path)
        self._estimator = BlendshapeEstimator() if estimator is None else estimator
        # Most estimators see each frame by itself.
        self._tell_time = getattr(self._estimator, "at", None)
        self._gaze = GazeTracker()
        self._check = check
        self._checked, self._seen = -math.inf, 0.0
        self.labeller = labeller
        self.notices: list[MienError] = []
        self.settings: dict[str, Any] = {}

    def step(self, frame: Frame) -> FrameResult:
        """Return what is known about the face in the next frame of the source."""
        return self.describe(frame, self.find(frame))

    def find(self, frame: Frame) -> Face | None:
        """Return the face in the next frame of the source: the first half of `step`."""
        return self._landmarker.detect(frame.image, frame.time)

    def run(self, frames: Iterable[Frame]) -> Iterator[FrameResult]:
        """Yield the results of a whole source, as `step` would give them.

        The next face is found on a thread while this one is described. Close the generator to stop early.
        """

        def faces():
            for frame in frames:
                yield frame, self.find(frame)

        with contextlib.closing(read_ahead(faces())) as found:
            for frame, face in found:
                yield self.describe(frame, face)

    def describe(self, frame: Frame, face: Face | None) -> FrameResult:
        """Return what is known about a face, in the order of the frames: the second half of `step`."""
        height, width = frame.image.shape[:2]
        if face is None:
            self._label(frame, None)
            self._checked = -math.inf
            return FrameResult(frame.index, frame.time, size=(width, height))
        rotation, translation = head_pose(face)
        confidence = _share_inside(face) * self._visible(frame, face, rotation)
        label = self._label(frame, face if confidence >= SURE else None)
        if self._tell_time is not None:
            self._tell_time(frame.time)
        action_units, arkit = self._estimator.estimate_arkit(face, frame.image)
        eyes = self._gaze(face, frame.time)
        return FrameResult(
            frame.index,
            frame.time,
            found=True,
            confidence=confidence,
            size=face.size,
            box=face.box,
            landmarks=face.landmarks,
            points68=face.landmarks[POINTS68, :2],
            head_rotation=rotation,
            head_translation=translation,
            eye_rotations=eyes,
            action_units=action_units,
            arkit=self._gaze.hold(arkit),
            units=fuse(action_units),
            expression=label.expression,
            probabilities=label.probabilities,
            own=label.own,
        )

    def _label(self, frame: Frame, face: Face | None) -> Label:
        """Return what a face expresses; one that is hidden, given as None, is unsure, and teaches nothing."""
        if self.labeller is None:
            return Label()
        label = self.labeller(frame.time, face, frame.image)
        return Label(UNSURE) if face is None else label

    def _visible(self, frame: Frame, face: Face, rotation: npt.NDArray[np.float64]) -> float:
        """Return how surely a face is seen where the mesh lies, 0..1."""
        _w, x, y, _z = rotation
        if self._check is None or 1.0 - 2.0 * (x * x + y * y) < math.cos(TURNED):
            self._checked = -math.inf
            return 1.0
        if not 0.0 <= frame.time - self._checked < CHECKED:
            self._checked = frame.time
            self._seen = self._check(frame.image, face.landmarks[POINTS68, :2])
        return self._seen

    def close(self) -> None:
        """Free the models; closing twice is fine."""
        if self.labeller is not None:
            self.labeller.close()
        self._landmarker.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def open_pipeline(
    estimator: str = ESTIMATORS[0], *, live: bool = False, actor: str | os.PathLike[str] | None = None
) -> Pipeline:
    """Return the pipeline that captures use.

    Mien's own models and the actor's file are no condition: where one is missing or
    damaged the pipeline does without it, and `Pipeline.notices` tells.

    Parameters
    ----------
    estimator : str
        One of `units.ESTIMATORS`.
    live : bool
        Judge expressions, and have the network look, on threads, so that no frame waits for them.
    actor : path, optional
        File with the expressions of the actor's own that are looked for.

    Raises
    ------
    MienError
        As `Pipeline`.
    """
    # The networks are small: more threads would wait for each other, and take cores from Blender.
    cv2.setNumThreads(1)
    notices, without = [], []
    try:
        chosen = open_estimator(estimator, live=live)
    except (MienError, KeyError) as error:
        estimator, chosen = "landmark", BlendshapeEstimator()
        notices.append(_without(error, "Action units come from the landmark model alone."))
        without.append("action_units")
    try:
        labeller = Labeller(threaded=live)
    except (MienError, KeyError) as error:
        labeller = None
        notices.append(_without(error, "Expressions are not labelled."))
        without.append("expression")
    if labeller is not None and actor is not None:
        try:
            labeller.follow(Actor(actor))
        except MienError as error:
            notices.append(_without(error, "The actor's own expressions are not labelled."))
    try:
        check = FaceCheck()
    except (MienError, KeyError) as error:
        check = None
        notices.append(_without(error, "A hidden face is not noticed."))
        without.append("confidence")
    try:
        pipeline = Pipeline(estimator=chosen, labeller=labeller, check=check)
    except BaseException:
        if labeller is not None:
            labeller.close()
        raise
    pipeline.notices = notices
    pipeline.settings = {"estimator": estimator}
    if without:
        # A capture with whole models is another one. The actor's file is not Mien's to mend: `own` tells of it.
        pipeline.settings["without"] = without
    return pipeline


def _without(error: MienError | KeyError, consequence: str) -> MienError:
    if isinstance(error, KeyError):
        # A whole file, but of another version of Mien than the code.
        error = MienError("model-damaged", f"A model of Mien's lacks {error}.", "Install the Mien extension again.")
    return MienError(error.code, f"{error.message} {consequence}", error.hint)


def _share_inside(face: Face) -> float:
    """Return the share of the mesh inside the picture."""
    points = face.landmarks[:, :2]
    return float(((points >= 0) & (points < face.size)).all(axis=1).mean())
