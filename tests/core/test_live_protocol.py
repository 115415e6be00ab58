"""The messages of live capture on the wire: what is sent arrives, and nothing else gets through."""

from __future__ import annotations

import random
import struct
import time
import zlib

import numpy as np
import pytest

from mien.core.errors import MienError
from mien.core.protocol import (
    HEADER,
    KINDS,
    MAGIC,
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
    VERSION,
    Calibrate,
    Cameras,
    Decoder,
    EndTake,
    Expressions,
    LearnExpression,
    ListCameras,
    ListMicrophones,
    LiveFrame,
    LivePicture,
    LiveStatus,
    Microphones,
    Output,
    PictureTaken,
    Record,
    Refused,
    SoundStatus,
    StartLive,
    StopLive,
    TakeStatus,
    TuneLive,
    encode,
)
from mien.core.record import FRAME_DTYPE, neutral, pack
from mien.core.types import FrameResult

ALL = tuple(KINDS.values())

ERROR = MienError("camera-busy", "Busy.", "Wait.")

MESSAGES = (
    StartLive(1, "camera"),
    StartLive(2, "camera", "Kamera Zoë", 1920, 1080, 59.94, True),
    StartLive(3, "network", "ifacialmocap", port=49983, lan=True, host="192.168.1.7"),
    TuneLive(1),
    TuneLive(1, 0.9, "none", True, 0.03, 320, (Output("vmc", "127.0.0.1", 39539, "vrm"), Output("livelink", "h", 1))),
    TuneLive(1, microphone=""),
    TuneLive(1, microphone="Mikrofon Zoë"),
    StopLive(1),
    Record(1, "/takes/a.mien"),
    Record(1, "/takes/a.mien", -12.5, 29.97, 1234.5),
    EndTake(1),
    Calibrate(1),
    Calibrate(1, True),
    PictureTaken(1),
    StartLive(4, "video", "a.mp4", estimator="landmark"),
    TuneLive(1, actor="/actors/Zoë.npz"),
    LearnExpression(1, "smirk"),
    LearnExpression(1, "rest", 0.5, True),
    Expressions(1),
    Expressions(1, ("smirk", "Schnute"), True, "smirk", "Schnute", "running", 0.5),
    LiveStatus(1, "loading"),
    TakeStatus(1, "/takes/a.mien", True, 10, 9, 1, 0.3),
    ListCameras(),
    Cameras(),
    Cameras((("0", "Webcam"), ("2", "Kamera Zoë"))),
    ListMicrophones(),
    Microphones(),
    Microphones(("Mikrofon Zoë", "Headset")),
    SoundStatus(1),
    SoundStatus(1, "open", 0.5),
    TakeStatus(1, "/takes/a.mien", False, 10, 9, 1, 0.3, sound=0.31),
)


def message(kind, payload):
    head = struct.pack("<4sHHI", MAGIC, VERSION, kind, len(payload))
    return head + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head))) + payload


def frame():
    result = FrameResult(7, 123.5, found=True, units=np.full(11, 0.5), expression="anger")
    return LiveFrame(1, 123.51, 123.52, pack(result).reshape(1))


@pytest.mark.parametrize("sent", MESSAGES)
def test_what_is_sent_arrives(sent):
    assert Decoder(ALL).feed(encode(sent)) == [sent]


def test_errors_arrive():
    for sent in (
        LiveStatus(1, "lost", ERROR, "Webcam", 640, 480),
        TakeStatus(1, "a", False, error=ERROR),
        Microphones(error=ERROR),
        SoundStatus(1, "lost", error=ERROR),
        Expressions(1, learning="smirk", state="failed", error=ERROR),
    ):
        (came,) = Decoder(ALL).feed(encode(sent))
        assert came.error.to_dict() == ERROR.to_dict()
    (came,) = Decoder(ALL).feed(encode(TakeStatus(1, "a", False, sound_error=ERROR)))
    assert (came.error, came.sound_error.to_dict()) == (None, ERROR.to_dict())


def test_frames_arrive():
    (came,) = Decoder(ALL).feed(encode(frame()))
    assert (came.job, came.captured, came.began, came.solved) == (1, 123.5, 123.51, 123.52)
    assert came.result.units == pytest.approx(np.full(11, 0.5), abs=1e-5)
    assert came.result.expression == "anger"


def test_pictures_arrive():
    pixels = bytes(range(256)) * 3
    (came,) = Decoder(ALL).feed(encode(LivePicture(1, 16, 12, pixels)))
    assert (came.width, came.height, bytes(came.pixels)) == (16, 12, pixels)
    largest = LivePicture(1, PICTURE_WIDTH, PICTURE_HEIGHT, bytes(PICTURE_WIDTH * PICTURE_HEIGHT * 4))
    assert isinstance(Decoder(ALL).feed(encode(largest))[0], LivePicture)


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (StartLive, {"job": 1, "source": "telepathy"}),
        (StartLive, {"job": 1, "source": "camera", "width": -1}),
        (StartLive, {"job": 1, "source": "camera", "mirror": 1}),
        (StartLive, {"job": 1, "source": "network", "port": 65536}),
        (StartLive, {"job": 1, "source": "network", "host": "h" * 65}),
        (TuneLive, {"job": 1, "smoothing": float("nan")}),
        (TuneLive, {"job": 1, "picture": PICTURE_WIDTH + 1}),
        (TuneLive, {"job": 1, "outputs": [Output("vmc", "a", 1)]}),
        (TuneLive, {"job": 1, "outputs": (Output("vmc", "a", 1),) * 5}),
        (Output, {"format": "fax", "host": "a", "port": 1}),
        (StartLive, {"job": 1, "source": "camera", "estimator": "crystal ball"}),
        (TuneLive, {"job": 1, "actor": None}),
        (LearnExpression, {"job": 1, "name": "n" * 65}),
        (LearnExpression, {"job": 1, "name": "smirk", "seconds": float("nan")}),
        (LearnExpression, {"job": 1, "name": "smirk", "seconds": 1e9}),
        (Expressions, {"job": 1, "names": ["smirk"]}),
        (Expressions, {"job": 1, "names": ("smirk",) * 65}),
        (Expressions, {"job": 1, "names": (7,)}),
        (Expressions, {"job": 1, "state": "fine"}),
        (Record, {"job": 1, "take": b"a"}),
        (Record, {"job": 1, "take": "a", "scene_frame": float("inf")}),
        (Record, {"job": 1, "take": "a", "scene_fps": -1.0}),
        (Record, {"job": 1, "take": "a", "since": float("nan")}),
        (LiveFrame, {"job": 1, "began": 0.0, "solved": 0.0, "record": np.zeros(1, FRAME_DTYPE)}),
        (LiveFrame, {"job": 1, "began": float("nan"), "solved": 0.0, "record": neutral(1)}),
        (LivePicture, {"job": 1, "width": 2, "height": 2, "pixels": b"123"}),
        (LiveStatus, {"job": 1, "state": "fine"}),
        (LiveStatus, {"job": 1, "state": "live", "error": "bad"}),
        (LiveStatus, {"job": 1, "state": "live", "camera_fps": -1}),
        (TakeStatus, {"job": 1, "take": "a", "recording": 1}),
        (Cameras, {"cameras": (("0",),)}),
        (Cameras, {"cameras": (("0", "a"),) * 65}),
        (TuneLive, {"job": 1, "microphone": "m" * 257}),
        (TuneLive, {"job": 1, "microphone": False}),
        (TakeStatus, {"job": 1, "take": "a", "recording": False, "sound": -1.0}),
        (Microphones, {"microphones": ("a",) * 65}),
        (Microphones, {"microphones": (1,)}),
        (SoundStatus, {"job": 1, "state": "loud"}),
        (SoundStatus, {"job": 1, "level": float("nan")}),
    ],
)
def test_wrong_values_cannot_be_sent(cls, values):
    with pytest.raises(ValueError, match=r"must be|impossible"):
        cls(**values)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (17, b'{"job": 1, "outputs": [{"format": "vmc"}]}'),
        (17, b'{"job": 1, "outputs": [7]}'),
        (17, b'{"job": 1, "outputs": {"format": "vmc"}}'),
        (22, b"\0" * 20),
        (22, b"\xff" * LiveFrame.LIMIT),
        (23, b"\0"),
        (23, struct.pack("<IHH", 1, 65535, 65535) + b"\0" * 64),
        (24, b'{"job": 1, "state": "live", "error": {"code": [1]}}'),
        (27, b'{"cameras": [["0", 7]]}'),
        (27, b'{"cameras": "all"}'),
        (30, b'{"microphones": [7]}'),
        (31, b'{"job": 1, "state": "open", "level": "loud"}'),
        (32, b'{"job": 1, "name": ["smirk"]}'),
        (33, b'{"job": 1, "names": {"smirk": 1}}'),
        (33, b'{"job": 1, "error": 7}'),
    ],
)
def test_a_bad_message_is_passed_over(kind, payload):
    decoder = Decoder(ALL)
    (refused,) = decoder.feed(message(kind, payload))
    assert isinstance(refused, Refused)
    assert (refused.error.code, refused.fatal) == ("wire-content", False)
    assert decoder.feed(encode(StopLive(1))) == [StopLive(1)]


@pytest.mark.parametrize("seed", range(2))
def test_fuzz(seed):
    """Each of 5000 damaged live messages is refused with a reason or valid."""
    rng = random.Random(seed)
    seeds = [encode(sent) for sent in (*MESSAGES, LiveStatus(1, "lost", ERROR), LivePicture(1, 4, 4, bytes(64)))]
    seeds += [encode(frame())] * 4
    reasons, accepted, begin = set(), 0, time.monotonic()
    for _ in range(5000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.7:  # a true checksum, so that the content is looked at
            kind = struct.unpack_from("<H", data, 6)[0] % 36
            end = rng.choice((None, None, rng.randint(HEADER.size, len(data))))
            data = message(kind, bytes(data[HEADER.size : end]))
        for item in Decoder(ALL).feed(bytes(data)):
            if isinstance(item, Refused):
                reasons.add(item.error.code)
            else:
                accepted += 1
    assert {"wire-content", "wire-damaged", "wire-kind"} <= reasons
    assert accepted
    assert time.monotonic() - begin < 60
