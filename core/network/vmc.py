"""VMC protocol: what VTuber programs send each other, OSC over UDP.

https://protocol.vmc.info/english, /marionette-spec and /performer-spec are the source.
"""

from __future__ import annotations

import numpy as np

from ..types import NO_ROTATION
from ..units import ARKIT, ARKIT_INDEX
from . import osc
from .sample import (
    NO_FACE,
    FaceSample,
    Refused,
    angles,
    eye_rotation,
    eyes_from_weights,
    gaze,
    is_number,
    multiply,
    normalised,
    power,
    unity,
    weight,
)

PORT = 39539
"""On which a marionette listens; performers listen to assistants on `PERFORMER_PORT`."""

PERFORMER_PORT = 39540

BONES = ("Neck", "Head", "LeftEye", "RightEye")

NECK_SHARE = 0.3
"""Part of the head's turn that `encode` gives to the neck."""


def _both(name: str, share: float) -> dict[str, float]:
    return {f"{name}Left": share, f"{name}Right": share}


# What a model without the 52 shapes can show, said in them. Mien's own reading of the presets'
# names; VRM describes them in words only.
_PRESETS: dict[tuple[str, ...], dict[str, float]] = {
    ("Blink",): _both("eyeBlink", 1.0),
    ("Blink_L", "blinkLeft"): {"eyeBlinkLeft": 1.0},
    ("Blink_R", "blinkRight"): {"eyeBlinkRight": 1.0},
    ("A", "aa"): {"jawOpen": 0.7, **_both("mouthLowerDown", 0.3)},
    ("I", "ih"): {"jawOpen": 0.2, **_both("mouthStretch", 0.6)},
    ("U", "ou"): {"jawOpen": 0.2, "mouthPucker": 0.8},
    ("E", "ee"): {"jawOpen": 0.4, **_both("mouthStretch", 0.3)},
    ("O", "oh"): {"jawOpen": 0.5, "mouthFunnel": 0.7},
    ("Joy", "happy"): {**_both("mouthSmile", 1.0), **_both("cheekSquint", 0.6)},
    ("Angry",): {**_both("browDown", 1.0), **_both("noseSneer", 0.4)},
    ("Sorrow", "sad"): {"browInnerUp": 0.8, **_both("mouthFrown", 0.8)},
    ("Fun", "relaxed"): _both("mouthSmile", 0.6),
    ("surprised",): {"browInnerUp": 0.8, "jawOpen": 0.4, **_both("eyeWide", 1.0), **_both("browOuterUp", 0.8)},
    ("LookUp",): _both("eyeLookUp", 1.0),
    ("LookDown",): _both("eyeLookDown", 1.0),
    ("LookLeft",): {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    ("LookRight",): {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
}

# Some programs write names as they like, so case is let pass; the specification warns of those that do not.
_SHAPES = {name.lower(): i for i, name in enumerate(ARKIT)}
_PRESET_OF = {
    name.lower(): [(ARKIT_INDEX[shape], share) for shape, share in shapes.items()]
    for names, shapes in _PRESETS.items()
    for name in names
}

_RESOLVED = 2.0**18
"""Seconds up to which a number of 32 bits tells frames apart; what is farther off is no clock."""

_PATIENCE = 10
"""Time stamps without an Apply after which a performer counts as one that sends bones alone."""

_ADDRESSES = ("/VMC/Ext/Blend/Val", "/VMC/Ext/Bone/Pos", "/VMC/Ext/OK", "/VMC/Ext/T", "/VMC/Ext/Blend/Apply")


def _check(message: osc.Message):
    address, arguments = message
    match address:
        case "/VMC/Ext/Blend/Val":
            match arguments:
                case (str(name), value) if is_number(value):
                    name = name.lower()
                    if name not in _SHAPES and name not in _PRESET_OF:
                        return address, None  # a shape of the sender's own model, of whatever range
                    return address, (name, weight(float(value)))
        case "/VMC/Ext/Bone/Pos":
            match arguments:
                case (str(name), *numbers) if len(numbers) == 7 and all(map(is_number, numbers)):
                    if name not in BONES:
                        return address, None  # the body's; programs leave those they do not move at zero
                    x, y, z, w = numbers[3:]
                    return address, (name, unity(normalised((w, x, y, z))))
        case "/VMC/Ext/OK":
            if 1 <= len(arguments) <= 16 and all(map(is_number, arguments)):
                # The fourth, since 2.7: whether the performer tracks at all.
                return address, len(arguments) < 4 or arguments[3] != 0
        case "/VMC/Ext/T":
            if len(arguments) == 1 and is_number(arguments[0]):
                # Some send the time since 1970, in a number of 32 bits that then holds for two minutes.
                seconds = angles(arguments, 1e10)[0]
                return address, seconds if abs(seconds) < _RESOLVED else None
        case "/VMC/Ext/Blend/Apply":
            if not arguments:
                return address, None
    raise Refused("arguments")


class Decoder:
    """One performer's stream.

    VMC sends states, not frames: the last value holds until the next. A frame is given at
    ``/VMC/Ext/Blend/Apply``, or at ``/VMC/Ext/T`` for performers that send bones alone or that
    see no face.
    """

    def __init__(self):
        self._shapes = np.zeros(len(ARKIT), np.float32)
        self._presets: dict[str, float] = {}
        self._bones: dict[str, tuple] = {}
        self._perfect_sync = False
        self._tracking = True
        self._timecode: float | None = None
        self._changed = False
        self._stamps = _PATIENCE  # since the last Apply; none came yet
        self._told_lost = False  # at a time stamp since the last Apply

    def feed(self, data: bytes) -> list[FaceSample] | None:
        """Decode one datagram; None where nothing in it is for a face.

        The whole datagram is checked before any of it counts.
        """
        changes = [_check(m) for m in osc.decode(data) if m.address in _ADDRESSES]
        samples = []
        for address, value in changes:
            match address:
                case "/VMC/Ext/Blend/Val":
                    if value:
                        self._blend(*value)
                case "/VMC/Ext/Bone/Pos":
                    if value:
                        bone, rotation = value
                        self._bones[bone] = rotation
                        self._changed = True
                case "/VMC/Ext/OK":
                    self._tracking = value
                case "/VMC/Ext/T":
                    self._timecode = value
                    self._stamps += 1
                    # Without a face a performer may send nothing else, and each of those is a frame too.
                    self._told_lost = not self._tracking
                    if self._told_lost or (self._changed and self._stamps > _PATIENCE):
                        samples.append(self._end_frame())
                case "/VMC/Ext/Blend/Apply":
                    self._stamps = 0
                    if self._changed and not self._told_lost:
                        samples.append(self._end_frame())
                    self._told_lost = False
        return samples if changes else None

    def _blend(self, name: str, value: float):
        if name in _SHAPES:
            self._shapes[_SHAPES[name]] = value
            self._perfect_sync = True
        else:
            self._presets[name] = value
        self._changed = True

    def _end_frame(self) -> FaceSample:
        self._changed = False
        if not self._tracking:
            return FaceSample(NO_FACE, found=False, timecode=self._timecode)
        arkit = self._shapes.copy()
        if not self._perfect_sync:  # such performers send the presets too, and they would count twice
            for name, value in self._presets.items():
                for index, share in _PRESET_OF[name]:
                    arkit[index] += share * value
            np.clip(arkit, 0.0, 1.0, out=arkit)
        head = multiply(self._bones.get("Neck", NO_ROTATION), self._bones.get("Head", NO_ROTATION))
        eyes = tuple(
            gaze(self._bones[bone]) if bone in self._bones else guess
            for bone, guess in zip(("LeftEye", "RightEye"), eyes_from_weights(arkit), strict=True)
        )
        return FaceSample(arkit, head_rotation=normalised(head), eye_rotations=eyes, timecode=self._timecode)


def presets(arkit) -> dict[str, float]:
    """Reduce the 52 weights to VRM's standard blendshapes, for models without perfect sync.

    Parameters
    ----------
    arkit : array, shape (52,)

    Returns
    -------
    dict
        VRM 0 names to weights 0..1.
    """

    def value(name):
        return float(arkit[ARKIT_INDEX[name]])

    def mean(name):
        return (value(f"{name}Left") + value(f"{name}Right")) / 2.0

    def unit(x):
        return min(max(x, 0.0), 1.0)

    jaw = max(0.0, value("jawOpen") - value("mouthClose"))  # ARKit opens the jaw behind closed lips
    pucker, funnel, stretch = value("mouthPucker"), value("mouthFunnel"), mean("mouthStretch")
    return {
        "Blink_L": value("eyeBlinkLeft"),
        "Blink_R": value("eyeBlinkRight"),
        "A": unit(jaw * (1.0 - funnel) * (1.0 - pucker) / 0.7),
        "I": unit(stretch * (1.0 - jaw)),
        "U": unit(pucker * (1.0 - funnel)),
        "E": unit(stretch * jaw * 2.0),
        "O": unit(funnel),
        "Joy": unit(mean("mouthSmile")),
        "Angry": unit(mean("browDown")),
        "Sorrow": unit(max(mean("mouthFrown"), 0.0)),
        "Fun": 0.0,
    }


def encode(
    arkit,
    head_rotation,
    eye_rotations,
    *,
    seconds: float,
    blends: str = "arkit",
    neck_share: float = NECK_SHARE,
    tracking: bool = True,
) -> list[bytes]:
    """Write one frame as bundles, bones and then blendshapes, each of a size that crosses a network whole.

    Parameters
    ----------
    arkit, head_rotation, eye_rotations
        As in `FrameResult`.
    seconds : float
        The sender's clock, for ``/VMC/Ext/T``.
    blends : str
        ``"arkit"`` for models with perfect sync, ``"vrm"`` for the standard blendshapes. Not
        both: on a model that has both, every movement would be made twice.
    neck_share : float
        Part of the head's turn that the neck makes.
    tracking : bool
        Whether a face is seen; if not, only that is sent.
    """
    status = [osc.message("/VMC/Ext/OK", 1, 3, 0, int(tracking)), osc.message("/VMC/Ext/T", float(seconds))]
    if not tracking:
        return [osc.bundle(*status)]
    if blends == "arkit":
        named = {name[0].upper() + name[1:]: float(v) for name, v in zip(ARKIT, arkit, strict=True)}
    elif blends == "vrm":
        named = presets(arkit)
    else:
        raise ValueError(f"blends must be 'arkit' or 'vrm', got {blends!r}")
    head = tuple(float(c) for c in head_rotation)
    (left, right) = eye_rotations
    turns = (
        power(head, neck_share),
        power(head, 1.0 - neck_share),
        eye_rotation(float(left[0]), float(left[1])),
        eye_rotation(float(right[0]), float(right[1])),
    )
    bones = []
    for name, turn in zip(BONES, turns, strict=True):
        w, x, y, z = unity(turn)
        # The rest position is the receiver's model's, which is not known here.
        bones.append(osc.message("/VMC/Ext/Bone/Pos", name, 0.0, 0.0, 0.0, x, y, z, w))
    values = [osc.message("/VMC/Ext/Blend/Val", name, value) for name, value in named.items()]
    half = (len(values) + 1) // 2
    return [
        osc.bundle(*status, *bones),
        osc.bundle(*values[:half]),
        osc.bundle(*values[half:], osc.message("/VMC/Ext/Blend/Apply")),
    ]
