"""The face's 478 mesh points, blendshapes and head matrix, from MediaPipe's face landmarker.

One face is followed. The landmarker runs with ``num_faces=1``: it looks for a face only
while it has none and then follows the mesh from picture to picture, so the face that it
holds stays the one when a second face comes in, and only after losing it does it take the
face it detects best. This is also the only setting in which MediaPipe smooths the points
over time.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import numpy.typing as npt

from .mediapipe_lite import LandmarkerCall
from .units import ARKIT, ARKIT_INDEX, LANDMARK_COUNT

MODEL_BLENDSHAPES: tuple[str, ...] = (
    "_neutral",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookDownLeft",
    "eyeLookDownRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
)
"""The model's 52 outputs in its order: ARKit's names without tongueOut, after ``_neutral``."""

_FROM_MODEL = np.array([i for i, name in enumerate(MODEL_BLENDSHAPES) if name in ARKIT_INDEX])
_TO_ARKIT = np.array([ARKIT_INDEX[name] for name in MODEL_BLENDSHAPES if name in ARKIT_INDEX])

# iBUG counts from the picture's left, which is the actor's right. Along the jaw the mesh has no
# point for point equivalent: these lie nearest on average (tests/benchmarks/bench_landmarks.py).
POINTS68: npt.NDArray[np.intp] = np.array(
    [
        *(127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356),  # 0-16 jaw, ear to ear
        *(70, 63, 105, 66, 107),  # 17-21 right brow, outer end to inner
        *(336, 296, 334, 293, 300),  # 22-26 left brow, inner end to outer
        *(168, 197, 195, 4),  # 27-30 nose bridge to tip
        *(98, 97, 2, 326, 327),  # 31-35 under the nose, right to left
        *(33, 160, 158, 133, 153, 144),  # 36-41 right eye: outer corner, upper lid, inner corner, lower lid
        *(362, 385, 387, 263, 373, 380),  # 42-47 left eye: inner corner, upper lid, outer corner, lower lid
        *(61, 39, 37, 0, 267, 269, 291),  # 48-54 upper lip's outer edge, right corner to left
        *(321, 314, 17, 84, 91),  # 55-59 lower lip's outer edge, left to right
        *(78, 82, 13, 312, 308),  # 60-64 upper lip's inner edge, right corner to left
        *(317, 14, 87),  # 65-67 lower lip's inner edge, left to right
    ]
)
"""The mesh point for each of iBUG 300-W's 68 points, in its order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Face:
    """The face as the landmark model gives it.

    Attributes
    ----------
    size : tuple of int
        (width, height) of the picture in px.
    landmarks : ndarray of float32, shape (478, 3)
        Mesh points in px, x to the right and y down; z on the scale of x, smaller is nearer.
    blendshapes : ndarray of float32, shape (52,)
        Weights 0..1 in the order of `ARKIT`; tongueOut is always 0, the model has none.
    matrix : ndarray of float32, shape (4, 4)
        Places MediaPipe's canonical face (cm; +x to the picture's right, +y up, +z to the
        camera) in front of a camera at the origin that looks along -z.
    """

    size: tuple[int, int]
    landmarks: npt.NDArray[np.float32]
    blendshapes: npt.NDArray[np.float32]
    matrix: npt.NDArray[np.float32]

    @property
    def box(self) -> npt.NDArray[np.float32]:
        """x, y, width, height around the mesh, px, shape (4,)."""
        low, high = self.landmarks[:, :2].min(axis=0), self.landmarks[:, :2].max(axis=0)
        return np.concatenate([low, high - low])


class Landmarker:
    """Finds and follows one face through the pictures of one source.

    Parameters
    ----------
    model_path : path
        ``face_landmarker.task``.

    Raises
    ------
    MienError
        ``mediapipe-missing``, ``mediapipe-unusable``, ``model-missing`` or ``model-damaged``.
    """

    def __init__(self, model_path: str | os.PathLike):
        self._call = LandmarkerCall(model_path)
        self._last_ms = -1

    def detect(self, image: npt.NDArray[np.uint8], time: float) -> Face | None:
        """Find the face in the next picture.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
            RGB.
        time : float
            Seconds; later than at the call before.

        Returns
        -------
        Face or None
            None where no face was found.

        Raises
        ------
        ValueError
            For any other picture, and after `close`.
        """
        # The library takes whole milliseconds and refuses one that does not grow.
        self._last_ms = max(round(time * 1000), self._last_ms + 1)
        height, width = image.shape[:2]
        found = self._call(np.ascontiguousarray(image), self._last_ms)
        if found is None:
            return None
        points, scores, matrix = found
        if points.shape != (LANDMARK_COUNT, 3) or not (np.isfinite(points).all() and np.isfinite(matrix).all()):
            return None
        blendshapes = np.zeros(len(ARKIT), np.float32)
        blendshapes[_TO_ARKIT] = np.clip(scores[_FROM_MODEL], 0.0, 1.0)
        return Face((width, height), points * np.float32([width, height, width]), blendshapes, matrix)

    def close(self) -> None:
        """Free the model; closing twice is fine."""
        self._call.close()

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()
