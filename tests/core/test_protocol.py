"""The wire: what is sent arrives, in any chunks, and nothing else gets through."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from mien.core.errors import MienError
from mien.core.jobs import CaptureSummary
from mien.core.protocol import (
    HEADER,
    KINDS,
    MAGIC,
    VERSION,
    Cancel,
    Decoder,
    Failed,
    Finished,
    FrameMessage,
    Hello,
    Progress,
    Refused,
    Shutdown,
    StartCapture,
    encode,
)
from mien.core.record import FRAME_DTYPE
from mien.core.types import FrameResult

ALL = tuple(KINDS.values())

MESSAGES = (
    Hello(token="secret"),
    Hello(),
    StartCapture(1, "/videos/actor.mp4", "/takes/actor.mien"),
    StartCapture(2**32 - 1, "C:\\Aufnahmen\\Zoë 東京.mov", "x", fps=29.97, loop=3600.0),
    StartCapture(3, "/videos/\udcff.mp4", "y", actor="/actors/Zoë.npz"),
    Cancel(1),
    Progress(1, stage="loading"),
    Progress(1, 10, None, 9, None),
    Progress(1, 10, 100, 9, 4.5),
    Finished(1, CaptureSummary(100, 90, 4.0, 1.5, "/takes/actor.mien", True)),
    Finished(2, CaptureSummary(9, 9, 0.3, 0.2, "/takes/actor.mien", notices=("The model is missing.", "So is this."))),
    Shutdown(),
)


def frame_message():
    return FrameMessage(4, FrameResult(3, 0.1, found=True, confidence=1.0, arkit=np.full(52, 1.0), expression="anger"))


def message(kind=1, payload=b"{}", *, magic=MAGIC, version=VERSION, length=None, crc=None):
    """Bytes of a message, any part of which can be wrong."""
    head = struct.pack("<4sHHI", magic, version, kind, len(payload) if length is None else length)
    return head + struct.pack("<I", zlib.crc32(head + payload) if crc is None else crc) + payload


@pytest.mark.parametrize("sent", MESSAGES, ids=lambda m: type(m).__name__)
def test_round_trip(sent):
    assert Decoder(ALL).feed(encode(sent)) == [sent]


def test_errors_and_frames_arrive():
    error, result = MienError("no-face", "No face.", "Look here."), frame_message().result
    failed, frame = Decoder(ALL).feed(encode(Failed(7, error)) + encode(FrameMessage(4, result)))
    assert (failed.job, failed.error.to_dict()) == (7, error.to_dict())
    assert (frame.job, frame.result.index, frame.result.expression) == (4, 3, "anger")
    assert np.array_equal(frame.result.arkit, result.arkit)


@pytest.mark.parametrize("size", [1, 2, 7, 16, 17, 100, 5000])
def test_any_chunks_give_the_same_messages(size):
    data = b"".join(map(encode, MESSAGES)) * 3
    decoder, out = Decoder(ALL), []
    for at in range(0, len(data), size):
        out += decoder.feed(data[at : at + size])
    assert out == list(MESSAGES) * 3


def only(decoder, data):
    (refused,) = decoder.feed(data)
    assert isinstance(refused, Refused)
    return refused


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "wire-magic"),
        (b"\0" * 20, "wire-magic"),
        (b"x", "wire-magic"),
        (message(version=VERSION + 1), "wire-version"),
        (message(length=2**32 - 1), "wire-length"),
        (message(kind=5, length=10_000), "wire-length"),
        (message(kind=99, length=10_000_000), "wire-length"),
        (message(crc=1), "wire-damaged"),
    ],
)
def test_a_stream_out_of_step_ends(data, code):
    decoder = Decoder(ALL)
    refused = only(decoder, data)
    assert (refused.error.code, refused.fatal) == (code, True)
    assert decoder.feed(encode(Shutdown())) == []


def test_messages_before_a_bad_one_are_kept():
    out = Decoder(ALL).feed(encode(Cancel(1)) + encode(Cancel(2)) + b"garbage")
    assert out[:2] == [Cancel(1), Cancel(2)]
    assert out[2].fatal


def test_the_version_message_names_both():
    error = only(Decoder(ALL), message(version=VERSION + 4)).error
    assert str(VERSION + 4) in error.message
    assert str(VERSION) in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (message(kind=99), "wire-kind"),
        (message(kind=2, payload=b""), "wire-content"),
        (message(kind=2, payload=b"[]"), "wire-content"),
        (message(kind=2, payload=b'{"job": 1}'), "wire-content"),
        (message(kind=2, payload=b'{"job": true, "source": "a", "take": "b"}'), "wire-content"),
        (message(kind=2, payload=b'{"job": 1.0, "source": "a", "take": "b"}'), "wire-content"),
        (message(kind=2, payload=b'{"job": -1, "source": "a", "take": "b"}'), "wire-content"),
        (message(kind=2, payload=b'{"job": 1, "source": ["a"], "take": "b"}'), "wire-content"),
        (message(kind=2, payload=b'{"job": 1, "source": "a", "take": "b", "loop": NaN}'), "wire-content"),
        (message(kind=2, payload=b'{"job": 1, "source": "a", "take": "b", "loop": 1e999}'), "wire-content"),
        (message(kind=2, payload=json.dumps({"job": 1, "source": "a" * 5000, "take": ""}).encode()), "wire-content"),
        (message(kind=3, payload=b'{"job": ' + b"9" * 100_000 + b"}"), "wire-content"),
        (message(kind=3, payload=b"[" * 100_000), "wire-content"),
        (message(kind=3, payload=b'{"job": \xff}'), "wire-content"),
        (message(kind=4, payload=b'{"job": 1, "stage": "dancing"}'), "wire-content"),
        (message(kind=5, payload=b"\0" * 10), "wire-content"),
        (message(kind=5, payload=b"\0" * (4 + FRAME_DTYPE.itemsize)), "wire-content"),
        (message(kind=5, payload=b"\xff" * (4 + FRAME_DTYPE.itemsize)), "wire-content"),
        (message(kind=6, payload=b'{"job": 1, "summary": {}}'), "wire-content"),
        (message(kind=6, payload=b'{"job": 1, "summary": null}'), "wire-content"),
        (message(kind=7, payload=b'{"job": 1, "error": "oops"}'), "wire-content"),
        (message(kind=7, payload=b'{"job": 1, "error": {"code": [1]}}'), "wire-content"),
    ],
)
def test_a_bad_message_is_passed_over(data, code):
    decoder = Decoder(ALL)
    refused = only(decoder, data)
    assert (refused.error.code, refused.fatal) == (code, False)
    assert decoder.feed(encode(Cancel(5))) == [Cancel(5)]


def test_kinds_for_the_other_side_are_refused():
    refused = only(Decoder([Hello]), encode(StartCapture(1, "a", "b")))
    assert (refused.error.code, refused.fatal) == ("wire-kind", False)


def test_unknown_keys_are_passed_over():
    assert Decoder(ALL).feed(message(kind=3, payload=b'{"job": 4, "why": "later version"}')) == [Cancel(4)]


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Cancel, {"job": -1}),
        (Cancel, {"job": "1"}),
        (StartCapture, {"job": 1, "source": b"a", "take": "b"}),
        (StartCapture, {"job": 1, "source": "a", "take": "b", "actor": None}),
        (StartCapture, {"job": 1, "source": "a", "take": "b", "fps": float("inf")}),
        (Progress, {"job": 1, "total": 1.5}),
        (Progress, {"job": 1, "seconds_left": -1}),
        (FrameMessage, {"job": 1, "result": b""}),
        (Finished, {"job": 1, "summary": {}}),
        (Failed, {"job": 1, "error": "oops"}),
    ],
)
def test_wrong_values_cannot_be_sent(cls, values):
    with pytest.raises(ValueError, match="must be"):
        cls(**values)


def test_messages_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cancel(1).job = 2


def test_the_longest_paths_can_be_sent():
    path = "\U0001f3ad" * 4096
    sent = StartCapture(1, path, path)
    assert Decoder(ALL).feed(encode(sent)) == [sent]


def test_waiting_for_a_payload_holds_little():
    decoder = Decoder(ALL)
    start = message(kind=2, payload=b" " * 100_000)
    for at in range(0, len(start) - 1, 1000):
        decoder.feed(start[at : min(at + 1000, len(start) - 1)])
    assert not decoder.broken
    assert len(decoder._buffer) <= HEADER.size + 100_000


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Damage a message in one of the ways that a wire, a bug or an attacker would."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        way = rng.randrange(6)
        if way == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            del data[at : at + rng.randint(1, 40)]
        elif way == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 40))
        elif way == 3:
            data[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"Mien"])
        elif way == 4:
            data = data[:at]
        else:
            data += data[at:]
    return bytes(data)


def resealed(data: bytes) -> bytes:
    """Give damaged bytes a true length and checksum, so that their content is looked at."""
    data = data.ljust(HEADER.size, b"\0")
    _magic, _version, kind, _length, _crc = HEADER.unpack_from(data)
    return message(kind=kind % 10, payload=data[HEADER.size :])


@pytest.mark.parametrize("seed", range(4))
def test_fuzz(seed):
    """Each of 5000 damaged messages is refused with a reason or valid, quickly and in little memory."""
    rng = random.Random(seed)
    seeds = [encode(m) for m in (*MESSAGES, frame_message(), Failed(1, MienError("a", "b", "c")))]
    reasons, accepted = set(), 0
    begin = time.monotonic()
    for _ in range(5000):
        data = mutate(rng.choice(seeds), rng)
        if rng.random() < 0.5:
            data = resealed(data)
        decoder = Decoder(ALL)
        cut = rng.randint(0, len(data))
        for item in decoder.feed(data[:cut]) + decoder.feed(data[cut:]):
            if isinstance(item, Refused):
                reasons.add(item.error.code)
            else:
                assert type(item) in ALL
                accepted += 1
        assert len(decoder._buffer) <= max(len(data), HEADER.size)
    assert reasons == {f"wire-{word}" for word in ("magic", "version", "length", "damaged", "kind", "content")}
    assert accepted
    assert time.monotonic() - begin < 60


def test_the_documented_bytes_are_the_header_s():
    text = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", text.split("## Message")[1].split("##")[0], re.MULTILINE)
    sizes = [struct.calcsize(f"<{part}") for part in ("4s", "H", "H", "I", "I")]
    assert [int(size) for _at, size in rows] == sizes
    assert [int(at) for at, _size in rows] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert sum(sizes) == HEADER.size
    kinds = re.findall(r"^\| (\d+) \| (\w+) \| \w+ \| (\d+) \|([^|]*)", text.split("## Kinds")[1], re.MULTILINE)
    assert {int(kind): (name, int(limit)) for kind, name, limit, _ in kinds} == {
        kind: (cls.__name__, cls.LIMIT) for kind, cls in KINDS.items()
    }
    for kind, _name, _limit, payload in kinds:
        if "JSON" in payload:
            fields = {field.name for field in dataclasses.fields(KINDS[int(kind)])}
            assert fields == set(re.findall(r"`(\w+)`", payload.split("(")[0]))
    codes = set(re.findall(r"^\| `(wire-\w+)`", text, re.MULTILINE))
    assert codes == {f"wire-{word}" for word in ("magic", "version", "length", "damaged", "kind", "content")}
