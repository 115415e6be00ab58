"""Action unit intensities of a face."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from .landmarks import Face
from .units import ACTION_UNITS, ARKIT, ARKIT_INDEX, AU_INDEX


class ActionUnitEstimator(Protocol):
    """Turns a tracked face into action unit intensities.

    An estimator sees one frame at a time and keeps no memory: takes hold its raw output,
    smoothing and calibration come later (`Solver`).
    """

    def estimate(self, face: Face, image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
        """Return the intensities.

        Parameters
        ----------
        face : Face
            Landmarks, blendshapes and head matrix of the frame.
        image : ndarray of uint8, shape (H, W, 3), or None
            The picture, RGB; None where only landmarks are left, as in a recorded take.

        Returns
        -------
        ndarray of float32, shape (len(ACTION_UNITS),)
            0..1 in the order of `ACTION_UNITS`.
        """


# FACS action unit: ARKit shapes and their shares. Sources: Apple's pictures of
# ARFaceAnchor.BlendShapeLocation read with Ekman, Friesen & Hager 2002; the pairing agrees with
# Melinda Ozel's ARKit-to-FACS cheat sheet. L and R are filled in for both sides.
_SHAPES: dict[str, dict[str, float]] = {
    "AU1{s}": {"browInnerUp": 1.0},
    "AU2{s}": {"browOuterUp{side}": 1.0},
    "AU4{s}": {"browDown{side}": 1.0},
    "AU5{s}": {"eyeWide{side}": 1.0},
    "AU6{s}": {"cheekSquint{side}": 1.0},
    "AU7{s}": {"eyeSquint{side}": 1.0},
    "AU9{s}": {"noseSneer{side}": 1.0},
    "AU10{s}": {"mouthUpperUp{side}": 1.0},
    "AU12{s}": {"mouthSmile{side}": 1.0},
    "AU14{s}": {"mouthDimple{side}": 1.0},
    "AU15{s}": {"mouthFrown{side}": 1.0},
    "AU16{s}": {"mouthLowerDown{side}": 1.0},
    "AU17": {"mouthShrugLower": 1.0},
    "AU18": {"mouthPucker": 1.0},
    "AU19": {"tongueOut": 1.0},
    "AU20{s}": {"mouthStretch{side}": 1.0},
    "AU22": {"mouthFunnel": 1.0},
    "AU24{s}": {"mouthPress{side}": 1.0},
    "AU26": {"jawOpen": 1.0},
    "AU28": {"mouthRollLower": 0.5, "mouthRollUpper": 0.5},
    "AU29": {"jawForward": 1.0},
    "AU30{s}": {"jaw{side}": 1.0},
    "AU34{s}": {"cheekPuff": 1.0},
    "AU45{s}": {"eyeBlink{side}": 1.0},
}


def _matrix() -> npt.NDArray[np.float32]:
    weights = np.zeros((len(ACTION_UNITS), len(ARKIT)), np.float32)
    for unit, shapes in _SHAPES.items():
        for short, side in (("L", "Left"), ("R", "Right")):
            for shape, share in shapes.items():
                weights[AU_INDEX[unit.format(s=short)], ARKIT_INDEX[shape.format(side=side)]] = share
    return weights


FROM_ARKIT = _matrix()
"""ARKit weights to action units, shape (len(ACTION_UNITS), 52), before gains."""


class BlendshapeEstimator:
    """Action units from the landmark model's blendshapes."""

    def estimate(self, face: Face, image: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.float32]:
        """See `ActionUnitEstimator.estimate`."""
        return np.clip(FROM_ARKIT @ face.blendshapes, 0.0, 1.0)
