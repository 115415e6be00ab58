"""Names of every channel Mien knows: expression units, ARKit blendshapes, action units, labels.

This is the one place for names and their order; arrays elsewhere are indexed by it.
Left and right are the actor's.
"""

from __future__ import annotations

UNITS: tuple[str, ...] = (
    "BrowRaise",
    "BrowFurrow",
    "EyeWide",
    "BlinkLeft",
    "BlinkRight",
    "CheekSquint",
    "NoseWrinkle",
    "Smile",
    "Frown",
    "JawOpen",
    "Pucker",
)
"""The 11 expression units, in the order of the sample rig's shape keys."""

_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")

ARKIT: tuple[str, ...] = (
    *(f"{name}Left" for name in _EYE),
    *(f"{name}Right" for name in _EYE),
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)
"""Apple ARKit's 52 blendshape locations, in the order of Live Link Face's CSV."""

_BILATERAL = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 20, 24, 30, 34, 45)

ACTION_UNITS: tuple[str, ...] = tuple(
    name
    for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30, 34, 45)
    for name in ((f"AU{number}L", f"AU{number}R") if number in _BILATERAL else (f"AU{number}",))
)
"""FACS action units that the estimators give, ``L``/``R`` where the face has two.

AU30 (jaw sideways) is split by direction rather than by side of the face.
Source: Ekman, Friesen & Hager, Facial Action Coding System, 2002.
"""

EXPRESSIONS: tuple[str, ...] = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
)
"""The seven basic expression labels."""

ESTIMATORS: tuple[str, ...] = ("combined", "learned", "landmark")
"""What can give the action units, the one used by default first; see `estimators.open_estimator`."""

POINT_BACKENDS = ("mesh", "histograms")
"""What finds the 68 points, see `points68`; the first is the default."""

REST = "rest"
"""Name under which an actor's resting face is learnt, beside expressions of the actor's own."""

LANDMARK_COUNT = 478
"""Points of the face mesh with irises (MediaPipe Face Landmarker model card)."""

UNIT_INDEX = {name: i for i, name in enumerate(UNITS)}
ARKIT_INDEX = {name: i for i, name in enumerate(ARKIT)}
AU_INDEX = {name: i for i, name in enumerate(ACTION_UNITS)}
