"""Action unit intensities of a face."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from .head import head_space
from .landmarks import Face
from .units import ACTION_UNITS, ARKIT, ARKIT_INDEX, AU_INDEX


class ActionUnitEstimator(Protocol):
    """Turns a tracked face into action unit intensities.

    An estimator sees one frame at a time and smooths nothing: takes hold its raw output,
    smoothing and calibration come later (`Solver`). One that lets an answer hold for more than
    its frame has a method `at`, which is told each frame's time, s, before.
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

    def estimate_arkit(
        self, face: Face, image: npt.NDArray[np.uint8] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the intensities and ARKit weights, shape (52,), 0..1, that go with them."""


# What each ARKit shape shows in FACS. Sources: Apple's pictures of ARFaceAnchor.BlendShapeLocation
# read with Ekman, Friesen & Hager 2002. `{s}` and `{side}` stand for both sides. AU23 (lips
# tightened) has no shape of its own.
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
    # ARKit's jawOpen is the bone, mouthClose the lips kept together over an open jaw.
    "AU25": {"jawOpen": 1.5, "mouthClose": -1.5, "mouthLowerDownLeft": 0.25, "mouthLowerDownRight": 0.25},
    "AU26": {"jawOpen": 1.0, "mouthClose": -1.0},
    "AU27": {"jawOpen": 1.0, "mouthClose": -1.0},
    "AU28": {"mouthRollLower": 0.5, "mouthRollUpper": 0.5},
    "AU29": {"jawForward": 1.0},
    "AU30{s}": {"jaw{side}": 1.0},
    "AU34{s}": {"cheekPuff": 1.0},
    "AU45{s}": {"eyeBlink{side}": 1.0},
}

# Where an action unit begins and where it is full, on the scale of the sum above: the value that
# faces at rest reach, and the one at their strongest. AU27 (mouth stretched) is the end of AU26's way.
_ARKIT_RANGE: dict[str, tuple[float, float]] = {"AU26": (0.0, 0.7), "AU27": (0.6, 1.0)}

# MediaPipe's weights rest above 0 and saturate below 1, each differently. Read off our
# twelve clips: 10th percentile of resting faces, strongest seen on a face that shows it.
_MEDIAPIPE_RANGE: dict[str, tuple[float, float]] = {
    "AU1{s}": (0.05, 0.95),
    "AU2{s}": (0.05, 0.95),
    "AU4{s}": (0.05, 0.85),
    "AU5{s}": (0.03, 0.50),
    "AU7{s}": (0.30, 0.85),
    "AU10{s}": (0.05, 0.90),
    "AU12{s}": (0.03, 0.92),
    "AU14{s}": (0.03, 0.45),
    "AU15{s}": (0.02, 0.30),
    "AU16{s}": (0.05, 0.75),
    "AU17": (0.05, 0.60),
    "AU18": (0.08, 0.98),
    "AU20{s}": (0.05, 0.45),
    "AU22": (0.05, 0.55),
    "AU24{s}": (0.05, 0.60),
    "AU26": (0.03, 0.75),
    "AU27": (0.60, 0.93),
    "AU28": (0.08, 0.75),
    "AU30{s}": (0.03, 0.25),
    "AU45{s}": (0.15, 0.62),
}


def _sides(name: str) -> list[str]:
    return [name.format(s=short) for short in "LR"] if "{s}" in name else [name]


def _matrix() -> npt.NDArray[np.float32]:
    weights = np.zeros((len(ACTION_UNITS), len(ARKIT)), np.float32)
    for unit, shapes in _SHAPES.items():
        for name, side in zip(_sides(unit), ("Left", "Right"), strict=False):
            for shape, share in shapes.items():
                weights[AU_INDEX[name], ARKIT_INDEX[shape.format(side=side)]] = share
    weights.flags.writeable = False
    return weights


def _ranges(table: dict[str, tuple[float, float]]) -> npt.NDArray[np.float32]:
    ranges = np.tile(np.float32([0.0, 1.0]), (len(ACTION_UNITS), 1))
    for unit, limits in table.items():
        for name in _sides(unit):
            ranges[AU_INDEX[name]] = limits
    return ranges


FROM_ARKIT = _matrix()
"""Share of each ARKit shape in each action unit, shape (len(ACTION_UNITS), 52)."""

_ARKIT_RANGES = _ranges(_ARKIT_RANGE)
_MEDIAPIPE_RANGES = _ranges(_MEDIAPIPE_RANGE)


def _within(values: npt.NDArray, ranges: npt.NDArray) -> npt.NDArray:
    low, high = ranges[:, 0], ranges[:, 1]
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def from_arkit(arkit: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the action units of ARKit weights as an iPhone measures them.

    Parameters
    ----------
    arkit : array, shape (..., 52)
        0..1 in the order of `ARKIT`.

    Returns
    -------
    ndarray of float32, shape (..., len(ACTION_UNITS))
        0..1 in the order of `ACTION_UNITS`.
    """
    weights = np.asarray(arkit, np.float32)
    if weights.shape[-1:] != (len(ARKIT),):
        raise ValueError(f"arkit must be (..., {len(ARKIT)}), got {weights.shape}")
    return _within(weights @ FROM_ARKIT.T, _ARKIT_RANGES)


# Mesh points for lips, the actor's left first where there are two.
_CORNERS = [291, 61]
_LIP_INSIDE = [13, 14]

_FROWN_RANGE = (0.0, 0.045)
_GAP_RANGE = (0.02, 0.20)

_AU6 = [AU_INDEX["AU6L"], AU_INDEX["AU6R"]]
_AU9 = [AU_INDEX["AU9L"], AU_INDEX["AU9R"]]
_AU15 = [AU_INDEX["AU15L"], AU_INDEX["AU15R"]]
_UPPER_UP = [ARKIT_INDEX["mouthUpperUpLeft"], ARKIT_INDEX["mouthUpperUpRight"]]
_SMILE = [ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["mouthSmileRight"]]
_SQUINT = [ARKIT_INDEX["eyeSquintLeft"], ARKIT_INDEX["eyeSquintRight"]]
_BROW_DOWN = [ARKIT_INDEX["browDownLeft"], ARKIT_INDEX["browDownRight"]]


class BlendshapeEstimator:
    """Action units from the landmark model's blendshapes and mesh.

    Most are blendshapes stretched to their live range. Four of the model's outputs are dead
    (below 0.01 in all of our clips: cheekSquint, noseSneer, jawForward, cheekPuff) and
    mouthFrown nearly so. In their place:

    AU6
        The squint of a smiling eye (Duchenne): squint where there is a smile.
    AU9
        Upper lip and brow drawn together, less what a smile does to the lip.
    AU15
        Corners of the mouth below the line between the lips, in the head's frame.
    AU25
        The gap between the lips.

    AU19 and AU23 stay 0: neither blendshapes nor mesh show them. AU29 and AU34 are the dead
    jawForward and cheekPuff as they come, nearly 0.
    """

    def estimate(self, face: Face, image: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.float32]:
        """See `ActionUnitEstimator.estimate`."""
        shapes = face.blendshapes
        units = _within(FROM_ARKIT @ shapes, _MEDIAPIPE_RANGES)
        smile = shapes[_SMILE]
        units[_AU6] = _ramp(shapes[_SQUINT], 0.2, 0.7) * _ramp(smile, 0.05, 0.6)
        units[_AU9] = np.clip(1.6 * (np.minimum(shapes[_UPPER_UP], shapes[_BROW_DOWN]) - 0.5 * smile), 0.0, 1.0)
        points = head_space(face)
        lips = points[_LIP_INSIDE, 1].mean()
        units[_AU15] = np.maximum(units[_AU15], _ramp(lips - points[_CORNERS, 1], *_FROWN_RANGE))
        gap = np.linalg.norm(points[_LIP_INSIDE[0]] - points[_LIP_INSIDE[1]])
        units[AU_INDEX["AU25"]] = _ramp(gap, *_GAP_RANGE)
        return units.astype(np.float32)

    def estimate_arkit(
        self, face: Face, image: npt.NDArray[np.uint8] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `ActionUnitEstimator.estimate_arkit`; the weights are the model's own."""
        return self.estimate(face, image), face.blendshapes


def _ramp(values, low: float, high: float):
    return np.clip((values - low) / (high - low), 0.0, 1.0)
