"""Face Cap's live mode: one OSC message per channel.

https://www.bannaflak.com/face-cap/livemode.html and the receiver its author published
(FaceCapOSCReceiverExample) are the sources; see ``docs/network.md``.
"""

from __future__ import annotations

import math

import numpy as np

from ..units import ARKIT, ARKIT_INDEX
from . import osc
from .sample import FaceSample, Refused, angles, eyes_from_weights, from_angles, is_number, to_yxz, weight

PORT = 8080


def _pair(name: str) -> tuple[str, str]:
    return f"{name}Left", f"{name}Right"


SHAPES: tuple[str, ...] = (
    "browInnerUp",
    *_pair("browDown"),
    *_pair("browOuterUp"),
    *_pair("eyeLookUp"),
    *_pair("eyeLookDown"),
    *_pair("eyeLookIn"),
    *_pair("eyeLookOut"),
    *_pair("eyeBlink"),
    *_pair("eyeSquint"),
    *_pair("eyeWide"),
    "cheekPuff",
    *_pair("cheekSquint"),
    *_pair("noseSneer"),
    "jawOpen",
    "jawForward",
    "jawLeft",
    "jawRight",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthRollUpper",
    "mouthRollLower",
    "mouthShrugUpper",
    "mouthShrugLower",
    "mouthClose",
    *_pair("mouthSmile"),
    *_pair("mouthFrown"),
    *_pair("mouthDimple"),
    *_pair("mouthUpperUp"),
    *_pair("mouthLowerDown"),
    *_pair("mouthPress"),
    *_pair("mouthStretch"),
    "tongueOut",
)
"""Names behind the index of ``/W``."""

_TO_ARKIT = tuple(ARKIT_INDEX[name] for name in SHAPES)
_DEGREES = {"/HR": 3, "/ELR": 2, "/ERR": 2}
_IGNORED = ("/HT", "/HRQ")  # position without a documented unit; the head's rotation a second time


class Decoder:
    """One sender's stream.

    A frame comes as some 57 messages, in a bundle or each in a datagram of its own. The
    decoder keeps the state and gives a frame at the end of a bundle, or, of loose messages,
    as soon as every channel of the frame before has come again.
    """

    def __init__(self):
        self._arkit = np.zeros(len(ARKIT), np.float32)
        self._angles: dict[str, tuple[float, ...]] = {}
        self._seen: set = set()
        self._frame: set = set()
        self._learned = False

    def feed(self, data: bytes) -> list[FaceSample] | None:
        """Decode one datagram; None where nothing in it is Face Cap's."""
        messages = osc.decode(data)
        changes = [change for change in map(self._read, messages) if change]
        if not changes:
            return None if not any(m.address in _IGNORED for m in messages) else []
        samples = []
        for channel, value in changes:
            if channel in self._seen:  # the next frame has begun, so the last one is complete
                self._finish(samples)
            self._seen.add(channel)
            if isinstance(channel, int):
                self._arkit[channel] = value
            else:
                self._angles[channel] = value
            if self._learned and self._seen >= self._frame:
                self._finish(samples)
        if osc.is_bundle(data) and self._seen:
            self._finish(samples)
        return samples

    @staticmethod
    def _read(message: osc.Message):
        """Check a message whole, before any of the datagram touches the state."""
        address, arguments = message
        if address == "/W":
            match arguments:
                case (int(index), value) if is_number(index) and is_number(value) and 0 <= index < len(SHAPES):
                    return _TO_ARKIT[index], weight(float(value))
            raise Refused("arguments")
        if address in _DEGREES:
            if len(arguments) != _DEGREES[address] or not all(map(is_number, arguments)):
                raise Refused("arguments")
            return address, tuple(math.radians(a) for a in angles(arguments, 360.0))
        return None

    def _finish(self, samples: list[FaceSample]):
        self._frame, self._seen, self._learned = self._seen, set(), True
        x, y, z = self._angles.get("/HR", (0.0, 0.0, 0.0))
        arkit = self._arkit.copy()
        guess = eyes_from_weights(arkit)
        eyes = []
        for address, fallback in zip(("/ELR", "/ERR"), guess, strict=True):
            if address in self._angles:
                pitch, yaw = self._angles[address]
                eyes.append((yaw, -pitch))
            else:
                eyes.append(fallback)
        samples.append(FaceSample(arkit, head_rotation=from_angles("yxz", x=x, y=y, z=z), eye_rotations=tuple(eyes)))


def encode(arkit, head_rotation, eye_rotations) -> list[bytes]:
    """Write one frame as Face Cap does, a message per channel."""
    head = to_yxz([float(c) for c in head_rotation])
    eyes = [[math.degrees(-pitch), math.degrees(yaw)] for yaw, pitch in eye_rotations]
    return [
        osc.message("/HR", *(math.degrees(a) for a in head)),
        osc.message("/ELR", *eyes[0]),
        osc.message("/ERR", *eyes[1]),
        *(osc.message("/W", i, float(arkit[at])) for i, at in enumerate(_TO_ARKIT)),
    ]
