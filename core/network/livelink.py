"""Live Link Face: the binary packets of Epic's iPhone app.

Byte table and the evidence for every sign: ``docs/network.md``.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from ..units import ARKIT
from .sample import NO_FACE, FaceSample, Refused, angles, from_angles, to_zyx, weights

PORT = 11111
VERSION = 6
COUNT = 61
MAX_TEXT = 256
MAX_SIZE = 1 + 4 + MAX_TEXT + 4 + MAX_TEXT + 16 + 1 + COUNT * 4

ANGLES: tuple[str, ...] = (
    "headYaw",
    "headPitch",
    "headRoll",
    "leftEyeYaw",
    "leftEyePitch",
    "leftEyeRoll",
    "rightEyeYaw",
    "rightEyePitch",
    "rightEyeRoll",
)
"""What follows the 52 weights, in this order, radians. The same in the app's CSV."""

CHANNELS: tuple[str, ...] = (*ARKIT, *ANGLES)

_LENGTH = struct.Struct(">i")
_TIME = struct.Struct(">ifii")  # frame number, sub-frame, rate's numerator and denominator
_VALUES = struct.Struct(f">{COUNT}f")


def pose_from_angles(values):
    """Turn the nine angles into Mien's head rotation and eyes.

    Parameters
    ----------
    values : sequence of 9 float
        In the order of `ANGLES`, radians, as the app sends and saves them.

    Returns
    -------
    head_rotation : tuple of 4 float
        Quaternion w, x, y, z.
    eye_rotations : tuple
        ((left yaw, left pitch), (right yaw, right pitch)), left and up positive.
    """
    yaw, pitch, roll, left_yaw, left_pitch, _, right_yaw, right_pitch, _ = (float(v) for v in values)
    head = from_angles("zyx", x=-pitch, y=yaw, z=-roll)
    # The app names the eyes from the other side than it names the blendshapes: its LeftEye angles
    # follow eyeLook*Right, exactly. The blendshapes say whose left is meant, so the eyes are exchanged.
    return head, ((-right_yaw, -right_pitch), (-left_yaw, -left_pitch))


def angles_from_pose(head_rotation, eye_rotations) -> tuple[float, ...]:
    """Write a pose as the nine angles; the inverse of `pose_from_angles`."""
    x, y, z = to_zyx([float(c) for c in head_rotation])
    (left_yaw, left_pitch), (right_yaw, right_pitch) = eye_rotations
    return (
        y,
        -x,
        -z,
        *(-float(right_yaw), -float(right_pitch), 0.0),
        *(-float(left_yaw), -float(left_pitch), 0.0),
    )


def _text(data: bytes, at: int) -> tuple[str, int]:
    if at + _LENGTH.size > len(data):
        raise Refused("size")
    (length,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    if not 0 <= length <= MAX_TEXT or at + length > len(data):
        raise Refused("text")
    try:
        # Unreal's own strings end in a zero that counts; the app's do not.
        text = data[at : at + length].decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        raise Refused("text") from None
    if not text.isprintable():
        raise Refused("text")
    return text, at + length


def decode(data: bytes) -> FaceSample:
    """Read one packet.

    A packet that ends before the count, or counts no blendshapes, says that no face is seen.

    Raises
    ------
    Refused
    """
    if len(data) > MAX_SIZE or not data:
        raise Refused("size")
    if data[0] != VERSION:
        raise Refused("version")
    _device, at = _text(data, 1)
    subject, at = _text(data, at)
    if at + _TIME.size > len(data):
        raise Refused("size")
    frame, sub_frame, numerator, denominator = _TIME.unpack_from(data, at)
    at += _TIME.size
    if not 0.0 <= sub_frame <= 1.0:
        raise Refused("value")
    # A rate of n/0 has been seen from pylivelinkface at 30 fps: the face is good, the clock is not.
    rated = 0 < denominator <= 10_000_000 and 0 < numerator <= 1000 * denominator
    timecode = (frame + sub_frame) * denominator / numerator if rated else None
    count = data[at] if at < len(data) else 0
    if count == 0:
        if len(data) > at + 1:
            raise Refused("size")
        return FaceSample(NO_FACE, found=False, timecode=timecode, frame=frame, subject=subject)
    if count != COUNT:
        raise Refused("count")
    if len(data) != at + 1 + _VALUES.size:
        raise Refused("size")
    values = _VALUES.unpack_from(data, at + 1)
    head, eyes = pose_from_angles(angles(values[len(ARKIT) :]))
    return FaceSample(
        weights(values[: len(ARKIT)]),
        head_rotation=head,
        eye_rotations=eyes,
        timecode=timecode,
        frame=frame,
        subject=subject,
    )


def encode(
    arkit,
    head_rotation,
    eye_rotations,
    *,
    seconds: float,
    fps: int = 60,
    device: str = "",
    subject: str = "Mien",
) -> bytes:
    """Write one packet.

    Parameters
    ----------
    arkit, head_rotation, eye_rotations
        As in `FrameResult`.
    seconds : float
        The frame's time code, counted in frames of `fps`.
    fps : int
    device, subject : str
        The sender's identity and the name under which Unreal lists it; at most `MAX_TEXT` bytes.
    """
    names = [name.encode("utf-8") for name in (device, subject)]
    if max(map(len, names)) > MAX_TEXT:
        raise ValueError(f"names must not be longer than {MAX_TEXT} bytes")
    frame = math.floor(seconds * fps)
    return b"".join(
        (
            bytes((VERSION,)),
            *(_LENGTH.pack(len(name)) + name for name in names),
            _TIME.pack(frame & 0x7FFFFFFF, seconds * fps - frame, fps, 1),
            bytes((COUNT,)),
            _VALUES.pack(*np.asarray(arkit, float), *angles_from_pose(head_rotation, eye_rotations)),
        )
    )


class Decoder:
    """One sender's stream; each packet is whole in itself."""

    def feed(self, data: bytes) -> list[FaceSample]:
        """Decode one datagram."""
        return [decode(data)]
