"""What every format decodes to, and the rotations that lead there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..head import product as multiply
from ..types import NO_ROTATION
from ..units import ARKIT, ARKIT_INDEX

MAX_WEIGHT = 4.0
"""A weight beyond this is not a blendshape weight that overshoots but another format's data."""

MAX_ANGLE = 2.0 * math.pi

EYE_GAIN = 0.61
"""Radians an eye turns at weight 1 of `eyeLookDownLeft` and its kin.

Fitted on the real packets of Live Link Face (r = 0.99999 for pitch and yaw); the sample
frames in iFacialMocap's and Facemotion3D's documentation give the same.
"""


class Refused(Exception):
    """A datagram that is not what its port expects.

    Parameters
    ----------
    reason : str
        One of `REASONS`; a closed list, so that hostile input cannot grow the counts.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


REASONS = ("size", "version", "text", "count", "value", "osc", "arguments", "content")


@dataclasses.dataclass(frozen=True, slots=True)
class FaceSample:
    """One frame as a sender described it, in Mien's names, frame and signs.

    Attributes
    ----------
    arkit : ndarray of float32, shape (52,)
        Weights 0..1 in the order of `ARKIT`.
    head_rotation : tuple of float
        Unit quaternion w, x, y, z, as in `FrameResult`.
    head_translation : tuple of float
        Metres in the camera's frame; zeros where the format has none.
    eye_rotations : tuple of tuple of float
        Left and right eye's (yaw, pitch) in radians; left and up are positive.
    found : bool
        False when the sender says that it sees no face.
    timecode : float or None
        The sender's own clock, seconds; None where the format carries none.
    frame : int or None
        The sender's frame number, to count what was lost on the way.
    subject : str
        Name that the sender gives itself; empty where the format has none.
    """

    arkit: np.ndarray
    head_rotation: tuple[float, float, float, float] = NO_ROTATION
    head_translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    eye_rotations: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    found: bool = True
    timecode: float | None = None
    frame: int | None = None
    subject: str = ""


NO_FACE = np.zeros(len(ARKIT), np.float32)
NO_FACE.flags.writeable = False


def weights(values) -> np.ndarray:
    """Check 52 weights and clip them to 0..1.

    Raises
    ------
    Refused
        ``"value"`` where one is not finite or so large that it cannot be a weight.
    """
    array = np.array(values, np.float32)
    if not np.abs(array).max(initial=0.0) <= MAX_WEIGHT:  # written so that NaN fails too
        raise Refused("value")
    return np.clip(array, 0.0, 1.0, out=array)


def weight(value: float) -> float:
    """Check one weight and clip it to 0..1."""
    if not abs(value) <= MAX_WEIGHT:
        raise Refused("value")
    return min(max(value, 0.0), 1.0)


def is_number(value) -> bool:
    """Whether an OSC argument is a number; Python counts True as one, OSC does not."""
    return isinstance(value, float | int) and not isinstance(value, bool)


def angles(values, limit: float = MAX_ANGLE) -> tuple[float, ...]:
    """Check that angles are finite and within a full turn."""
    if not all(abs(value) <= limit for value in values):
        raise Refused("value")
    return tuple(values)


# --- quaternions: w, x, y, z; plain floats, as numpy costs more than it saves on four numbers


def normalised(q):
    """Return `q` at length 1 with w >= 0, or refuse what is no rotation."""
    length = math.sqrt(sum(c * c for c in q)) if all(abs(c) <= 2.0 for c in q) else 0.0
    if not 0.5 <= length <= 2.0:
        raise Refused("value")
    sign = -1.0 if q[0] < 0.0 else 1.0  # q and -q turn alike; one of them must be chosen to compare
    return tuple(sign * c / length for c in q)


def about(axis: str, angle: float):
    """Right-handed rotation by `angle` radians about ``"x"``, ``"y"`` or ``"z"``."""
    half, c = math.sin(angle / 2.0), math.cos(angle / 2.0)
    return (c, half * (axis == "x"), half * (axis == "y"), half * (axis == "z"))


def from_angles(order: str, **angle: float):
    """Compose rotations about named axes; ``"yxz"`` means Ry Rx Rz, so z turns first."""
    q = NO_ROTATION
    for axis in order:
        q = multiply(q, about(axis, angle[axis]))
    return normalised(q)


def to_zyx(q) -> tuple[float, float, float]:
    """Split a rotation into angles about x, y, z with R = Rz Ry Rx."""
    w, x, y, z = q
    return (
        math.atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y)),
        math.asin(min(1.0, max(-1.0, 2.0 * (w * y - z * x)))),
        math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)),
    )


def to_yxz(q) -> tuple[float, float, float]:
    """Split a rotation into angles about x, y, z with R = Ry Rx Rz."""
    w, x, y, z = q
    return (
        math.asin(min(1.0, max(-1.0, 2.0 * (w * x - y * z)))),
        math.atan2(2.0 * (x * z + w * y), 1.0 - 2.0 * (x * x + y * y)),
        math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z)),
    )


def power(q, share: float):
    """Return the rotation `share` of the way from none to `q`."""
    w, *v = normalised(q)
    sine = math.sqrt(sum(c * c for c in v))
    if sine < 1e-9:
        return NO_ROTATION
    half = math.atan2(sine, w) * share
    return (math.cos(half), *(math.sin(half) * c / sine for c in v))


def unity(q):
    """Carry a rotation between Mien's right-handed head frame and Unity's left-handed one.

    Unity's character looks along +z with its right at +x, so the frames are mirrored in x;
    the map is its own inverse.
    """
    w, x, y, z = q
    return (w, x, -y, -z)


# --- eyes


def gaze(q) -> tuple[float, float]:
    """Yaw and pitch of the direction in which an eye turned by `q` looks."""
    w, x, y, z = q
    forward = (2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y))
    return math.atan2(forward[0], forward[2]), math.asin(min(1.0, max(-1.0, forward[1])))


def eye_rotation(yaw: float, pitch: float):
    """Quaternion of an eye; the inverse of `gaze`."""
    return multiply(about("y", yaw), about("x", -pitch))


def eyes_from_weights(arkit) -> tuple[tuple[float, float], tuple[float, float]]:
    """Estimate both eyes' (yaw, pitch) from the eight look weights, for senders without eye angles."""

    def value(name):
        return float(arkit[ARKIT_INDEX[name]])

    return tuple(
        (
            EYE_GAIN * (value(f"eyeLook{outward}{side}") - value(f"eyeLook{inward}{side}")),
            EYE_GAIN * (value(f"eyeLookUp{side}") - value(f"eyeLookDown{side}")),
        )
        for side, outward, inward in (("Left", "Out", "In"), ("Right", "In", "Out"))
    )


# --- the actor in a mirror


def _other_side(name: str) -> str:
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


MIRROR = np.array([ARKIT_INDEX[_other_side(name)] for name in ARKIT])


def mirrored(sample: FaceSample) -> FaceSample:
    """Return the sample with left and right exchanged, for a character that acts as a mirror."""
    w, x, y, z = sample.head_rotation
    tx, ty, tz = sample.head_translation
    (left_yaw, left_pitch), (right_yaw, right_pitch) = sample.eye_rotations
    return dataclasses.replace(
        sample,
        arkit=sample.arkit[MIRROR],
        head_rotation=(w, x, -y, -z),
        head_translation=(-tx, ty, tz),
        eye_rotations=((-right_yaw, right_pitch), (-left_yaw, left_pitch)),
    )
