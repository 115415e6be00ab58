"""iFacialMocap and Facemotion3D: one line of text per frame.

https://www.ifacialmocap.com/for-developer/; signs from its sample frame, see ``docs/network.md``.
"""

from __future__ import annotations

import math
import re

import numpy as np

from ..units import ARKIT, ARKIT_INDEX
from .sample import FaceSample, Refused, angles, eyes_from_weights, from_angles, to_yxz, weight

PORT = 49983
REQUEST = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719"
"""What the computer sends to the phone's port to be sent frames."""

MAX_SIZE = 8192  # as the documentation's own receiver
MAX_FIELDS = 256

_NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,18})?([eE][-+]?\d{1,2})?", re.ASCII)
_FIELD = re.compile(r"([A-Za-z_]{1,40})[-&](.{1,40})", re.ASCII)
_GROUPS = {"head": 6, "rightEye": 3, "leftEye": 3}


def _long_name(name: str) -> str:
    for short, side in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(short):
            return name.removesuffix(short) + side
    return name


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise Refused("value")
    return float(text)


def decode(data: bytes) -> FaceSample:
    """Read one frame; both dialects, ``name-value`` and ``name&value``.

    Unknown names are passed over, as Facemotion3D sends more than the 52.

    Raises
    ------
    Refused
    """
    if not 0 < len(data) <= MAX_SIZE:
        raise Refused("size")
    try:
        fields = data.decode("ascii").split("|")
    except UnicodeDecodeError:
        raise Refused("text") from None
    if len(fields) > MAX_FIELDS:
        raise Refused("count")
    arkit = np.zeros(len(ARKIT), np.float32)
    groups: dict[str, list[float]] = {}
    known = 0
    for field in fields:
        name, hash_sign, rest = field.strip().lstrip("=").partition("#")
        if hash_sign:
            if name in _GROUPS:
                groups[name] = [_number(value) for value in rest.split(",", _GROUPS[name])]
                if len(groups[name]) != _GROUPS[name]:
                    raise Refused("count")
        elif match := _FIELD.fullmatch(name):
            index = ARKIT_INDEX.get(_long_name(match[1]))
            if index is not None:
                arkit[index] = weight(_number(match[2]) / 100.0)
                known += 1
    if not known or "head" not in groups:
        raise Refused("content")
    x, y, z = (math.radians(a) for a in angles(groups["head"][:3], 360.0))
    eyes = list(eyes_from_weights(arkit))
    for i, name in enumerate(("leftEye", "rightEye")):
        if name in groups:
            pitch, yaw, _ = (math.radians(a) for a in angles(groups[name], 360.0))
            eyes[i] = (yaw, -pitch)
    return FaceSample(
        arkit,
        head_rotation=from_angles("yxz", x=x, y=y, z=z),
        head_translation=angles(groups["head"][3:], 1000.0),
        eye_rotations=tuple(eyes),
    )


def encode(arkit, head_rotation, eye_rotations, head_translation=(0.0, 0.0, 0.0)) -> bytes:
    """Write one frame in the first dialect; weights become whole percents."""

    def group(name, values):
        return f"{name}#{','.join(f'{float(v):.7f}' for v in values)}"

    def short(name):
        return re.sub("(?<!mouth)(?<!jaw)(Left|Right)$", lambda m: f"_{m[0][0]}", name)

    head = [math.degrees(a) for a in to_yxz([float(c) for c in head_rotation])]
    left, right = ([math.degrees(-pitch), math.degrees(yaw), 0.0] for yaw, pitch in eye_rotations)
    fields = [f"{short(name)}-{round(float(v) * 100)}" for name, v in zip(ARKIT, arkit, strict=True)]
    fields += ["=" + group("head", [*head, *head_translation]), group("rightEye", right), group("leftEye", left), ""]
    return "|".join(fields).encode("ascii")


class Decoder:
    """One sender's stream; each datagram is whole in itself."""

    def feed(self, data: bytes) -> list[FaceSample]:
        """Decode one datagram."""
        return [decode(data)]
