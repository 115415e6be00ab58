"""Codecs of the network formats: bytes, signs, refusals."""

from __future__ import annotations

import gzip
import itertools
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from mien.core.network import facecap, ifacialmocap, livelink, osc, vmc
from mien.core.network.sample import (
    EYE_GAIN,
    FaceSample,
    Refused,
    about,
    eye_rotation,
    from_angles,
    gaze,
    mirrored,
    multiply,
    power,
    to_yxz,
    to_zyx,
    unity,
)
from mien.core.network.source import FORMATS
from mien.core.types import NO_ROTATION
from mien.core.units import ARKIT, ARKIT_INDEX, LANDMARK_COUNT

from .network_helpers import assert_same_face, face, packets

DOCS = Path(__file__).resolve().parents[2] / "docs" / "network.md"
NEUTRAL = np.zeros(52, np.float32)
NO_EYES = ((0.0, 0.0), (0.0, 0.0))


def decode(format: str, datagrams: list[bytes]) -> list[FaceSample]:
    decoder = FORMATS[format].Decoder()
    return [sample for datagram in datagrams for sample in decoder.feed(datagram) or ()]


def direction(q) -> np.ndarray:
    """Where a face turned by q looks."""
    return np.array(multiply(multiply(q, (0.0, 0.0, 0.0, 1.0)), (q[0], -q[1], -q[2], -q[3]))[1:])


# --- rotations


@pytest.mark.parametrize("seed", range(20))
def test_angles_split_and_compose_to_the_same_rotation(seed):
    q = face(seed).head_rotation
    for order, split in (("zyx", to_zyx), ("yxz", to_yxz)):
        x, y, z = split(q)
        np.testing.assert_allclose(from_angles(order, x=x, y=y, z=z), q, atol=1e-6)


def test_positive_rotations_go_where_the_head_frame_says():
    assert direction(about("y", 0.3))[0] > 0  # towards the actor's left, +x
    assert direction(about("x", 0.3))[1] < 0  # down
    assert gaze(eye_rotation(0.3, 0.2)) == pytest.approx((0.3, 0.2))
    assert direction(eye_rotation(0.3, 0.2))[0] > 0
    assert direction(eye_rotation(0.3, 0.2))[1] > 0


def test_unity_mirrors_x():
    # In Unity +y is a turn to the character's right (clockwise from above), +x a nod down.
    to_unity = unity(about("y", -0.4))
    assert to_unity == pytest.approx(about("y", 0.4))
    assert unity(about("x", 0.4)) == pytest.approx(about("x", 0.4))
    q = tuple(face(3).head_rotation)
    assert unity(unity(q)) == pytest.approx(q)


def test_power_shares_a_rotation_out():
    q = tuple(float(c) for c in face(4).head_rotation)
    assert multiply(power(q, 0.3), power(q, 0.7)) == pytest.approx(q, abs=1e-6)
    assert power(NO_ROTATION, 0.3) == NO_ROTATION


def test_mirroring_twice_changes_nothing_and_once_exchanges_sides():
    arkit = NEUTRAL.copy()
    arkit[ARKIT_INDEX["mouthLeft"]] = 0.4
    arkit[ARKIT_INDEX["eyeBlinkRight"]] = 0.9
    sample = FaceSample(arkit, head_rotation=about("y", 0.3), eye_rotations=((0.1, 0.2), (0.3, 0.4)))
    other = mirrored(sample)
    assert other.arkit[ARKIT_INDEX["mouthRight"]] == np.float32(0.4)
    assert other.arkit[ARKIT_INDEX["eyeBlinkLeft"]] == np.float32(0.9)
    assert other.head_rotation == pytest.approx(about("y", -0.3))
    assert other.eye_rotations == ((-0.3, 0.4), (-0.1, 0.2))
    again = mirrored(other)
    np.testing.assert_array_equal(again.arkit, sample.arkit)
    assert again.eye_rotations == sample.eye_rotations


# --- round trips


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("format", FORMATS)
def test_a_result_comes_back_as_it_was_sent(format, seed):
    result = face(seed)
    (sample,) = decode(format, packets(result)[format])
    percent = 0.0051 if format == "ifacialmocap" else 1e-6  # iFacialMocap sends whole percents
    assert sample.found
    assert_same_face(sample, result, weight=percent)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (-0.4, 0.3, -0.2)])
def test_signs_survive_every_format(format, yaw, pitch, roll):
    head = from_angles("yxz", x=-pitch, y=yaw, z=-roll)
    eyes = ((yaw, pitch), (yaw / 2, pitch / 2))
    datagrams = packets(face(0).__class__(0, 0.0, found=True, head_rotation=head, eye_rotations=eyes))[format]
    (sample,) = decode(format, datagrams)
    np.testing.assert_allclose(direction(sample.head_rotation), direction(head), atol=1e-6)
    np.testing.assert_allclose(sample.eye_rotations, eyes, atol=1e-6)


# --- Live Link Face


def test_live_link_face_head_signs():
    def head(**values):
        angles = [values.get(name, 0.0) for name in livelink.ANGLES]
        return livelink.pose_from_angles(angles)

    rotation, _ = head(headYaw=0.3)
    assert direction(rotation)[0] > 0  # the actor's left
    rotation, _ = head(headPitch=0.3)
    assert direction(rotation)[1] > 0  # up
    rotation, _ = head(headRoll=0.3)
    assert to_zyx(rotation)[2] == pytest.approx(-0.3)  # the left ear goes down
    _, (left, right) = head(leftEyeYaw=0.1, rightEyeYaw=0.2, leftEyePitch=0.3, rightEyePitch=0.4)
    assert left == pytest.approx((-0.2, -0.4))  # the slots are crossed; right and down are positive
    assert right == pytest.approx((-0.1, -0.3))


def test_live_link_face_angles_round_trip():
    result = face(7)
    head, eyes = livelink.pose_from_angles(livelink.angles_from_pose(result.head_rotation, result.eye_rotations))
    assert head == pytest.approx(tuple(result.head_rotation), abs=1e-6)
    np.testing.assert_allclose(eyes, result.eye_rotations, atol=1e-6)


def test_live_link_face_time_code():
    (packet,) = packets(face(0, time=0.508))["livelink"]
    sample = livelink.decode(packet)
    assert sample.timecode == pytest.approx(3600.508, abs=1e-6)
    assert sample.frame == int(3600.508 * 60)
    assert sample.subject == "phone"


def without_face(packet: bytes, keep: int) -> bytes:
    return packet[: len(packet) - 245 + keep]


@pytest.mark.parametrize("keep", [0, 1])
def test_live_link_face_packet_without_a_face(keep):
    packet = bytearray(without_face(packets(face())["livelink"][0], keep))
    if keep:
        packet[-1] = 0
    sample = livelink.decode(bytes(packet))
    assert not sample.found
    assert sample.timecode is not None


def test_live_link_face_rate_of_zero_is_no_clock():
    packet = bytearray(packets(face())["livelink"][0])
    packet[-249:-245] = struct.pack(">i", 0)
    sample = livelink.decode(bytes(packet))
    assert sample.found
    assert sample.timecode is None


@pytest.mark.parametrize(
    ("reason", "break_it"),
    [
        ("size", lambda p: b""),
        ("size", lambda p: p + b"\0"),
        ("size", lambda p: p[:-1]),
        ("size", lambda p: p + bytes(2000)),
        ("version", lambda p: b"\7" + p[1:]),
        ("text", lambda p: p[:1] + struct.pack(">i", -5) + p[5:]),
        ("text", lambda p: p[:1] + struct.pack(">i", 2**31 - 1) + p[5:]),
        ("text", lambda p: p[:5] + b"\xff" + p[6:]),
        ("count", lambda p: p[:-245] + b"\x34" + p[-244:]),
        ("value", lambda p: p[:-4] + struct.pack(">f", math.nan)),
        ("value", lambda p: p[:-4] + struct.pack(">f", 40.0)),
        ("value", lambda p: p[:-244] + struct.pack(">f", math.inf) + p[-240:]),
        ("value", lambda p: p[:-244] + struct.pack(">f", 17.0) + p[-240:]),
    ],
)
def test_live_link_face_refuses(reason, break_it):
    with pytest.raises(Refused) as refusal:
        livelink.decode(break_it(packets(face())["livelink"][0]))
    assert refusal.value.reason == reason


def test_weights_a_little_out_of_range_are_clipped():
    packet = bytearray(packets(face())["livelink"][0])
    packet[-244:-236] = struct.pack(">2f", -0.2, 1.3)
    assert tuple(livelink.decode(bytes(packet)).arkit[:2]) == (0.0, 1.0)


# --- real packets of the app


def recorded(data: Path) -> list[bytes]:
    """Unpack LLV's recording: gzip of version, count, and per packet its length and bytes."""
    raw = gzip.decompress((data / "arkit" / "gesichter" / "dao.gesichter").read_bytes())
    count, at, found = struct.unpack_from(">I", raw, 1)[0], 5, []
    for _ in range(count):
        (size,) = struct.unpack_from(">I", raw, at)
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == len(raw)
    return found


@pytest.mark.data
def test_a_real_recording_reads_and_writes_back(data):
    packets_ = recorded(data)
    assert len(packets_) == 180
    for packet in packets_:
        sample = livelink.decode(packet)
        values = struct.unpack(">61f", packet[-244:])
        np.testing.assert_allclose(sample.arkit, values[:52], atol=1e-6)
        back = livelink.angles_from_pose(sample.head_rotation, sample.eye_rotations)
        for i in (0, 1, 2, 3, 4, 6, 7):  # an eye's roll is not kept
            assert back[i] == pytest.approx(values[52 + i], abs=1e-6)


@pytest.mark.data
def test_eye_signs_and_unit_follow_from_real_weights(data):
    """The app's eye angles are the look weights times one factor: so sign, side and radians are known."""
    samples = [livelink.decode(packet) for packet in recorded(data)]
    arkit = np.array([sample.arkit for sample in samples])
    eyes = np.array([sample.eye_rotations for sample in samples])

    def look(name):
        return arkit[:, ARKIT_INDEX[f"eyeLook{name}"]]

    for side, outward, inward in ((0, "OutLeft", "InLeft"), (1, "InRight", "OutRight")):
        yaw = EYE_GAIN * (look(outward) - look(inward))
        np.testing.assert_allclose(eyes[:, side, 0], yaw, atol=0.003)
    for side, name in ((0, "Left"), (1, "Right")):
        pitch = EYE_GAIN * (look(f"Up{name}") - look(f"Down{name}"))
        np.testing.assert_allclose(eyes[:, side, 1], pitch, atol=0.003)


@pytest.mark.data
def test_head_signs_keep_the_real_gaze_on_the_phone(data):
    """An actor who looks at the phone while the head sways: only the right signs hold the gaze still."""
    angles = np.array([struct.unpack(">61f", packet[-244:])[52:] for packet in recorded(data)])

    def wander(yaw, pitch, roll):
        looks = []
        for row in angles:
            head, (left, right) = livelink.pose_from_angles([yaw * row[0], pitch * row[1], roll * row[2], *row[3:]])
            eye = eye_rotation((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
            looks.append(direction(multiply(head, eye)))
        return math.degrees(math.sqrt(np.var(looks, axis=0).sum()))

    spread = {signs: wander(*signs) for signs in itertools.product((1, -1), repeat=3)}
    assert min(spread, key=spread.get) == (1, 1, 1)
    assert spread[1, 1, 1] < 4.0
    assert spread[-1, 1, 1] > 15.0


@pytest.mark.data
def test_the_mouth_goes_left_in_the_real_recording_when_the_left_side_smiles(data):
    arkit = np.array([livelink.decode(packet).arkit for packet in recorded(data)])

    def lean(name):
        return arkit[:, ARKIT_INDEX[f"{name}Left"]] - arkit[:, ARKIT_INDEX[f"{name}Right"]]

    assert np.corrcoef(lean("mouth"), lean("mouthSmile"))[0, 1] > 0.9


# --- OSC


def test_osc_reads_what_it_writes():
    messages = [("/a", (1, -2.5, "text")), ("/bc/def", ()), ("/x", ("",))]
    data = osc.bundle(*(osc.message(address, *arguments) for address, arguments in messages))
    assert [tuple(m) for m in osc.decode(data)] == messages
    assert osc.is_bundle(data)
    nested = osc.bundle(osc.bundle(osc.message("/a", 1)), osc.message("/b"))
    assert [m.address for m in osc.decode(nested)] == ["/a", "/b"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"/a\0\0",
        b"/a\0\0,i\0\0",
        b"/a\0\0,f\0\0\0\0\0\0\0\0\0\0",
        b"/a\0b,\0\0\0",
        b"abc\0,\0\0\0",
        b"/a\0\0xyz\0",
        b"/a\0\0,?\0\0",
        b"/\xff\0\0,\0\0\0",
        b"/a\0\0,b\0\0\x7f\xff\xff\xff",
        b"/a\0\0,b\0\0\xff\xff\xff\xff",
        b"#bundle\0",
        b"#bundle\0" + bytes(8) + b"\0\0\0\0",
        b"#bundle\0" + bytes(8) + b"\0\0\0\5aaaa",
        b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xf8",
        b"/" + b"a" * 200 + bytes(3) + b",\0\0\0",
    ],
)
def test_osc_refuses(data):
    with pytest.raises(Refused):
        osc.decode(data)


def test_osc_bounds_depth_and_number_of_messages():
    deep = osc.message("/a")
    for _ in range(osc.MAX_DEPTH):
        deep = osc.bundle(deep)
    assert len(osc.decode(deep)) == 1
    with pytest.raises(Refused):
        osc.decode(osc.bundle(deep))
    many = [osc.message("/a")] * (osc.MAX_MESSAGES + 1)
    assert len(osc.decode(osc.bundle(*many[:-1]))) == osc.MAX_MESSAGES
    with pytest.raises(Refused):
        osc.decode(osc.bundle(*many))


# --- Face Cap


def test_face_cap_loose_messages_give_one_sample_per_frame():
    decoder = facecap.Decoder()
    faces = [face(seed) for seed in range(4)]
    given = []
    for result in faces:
        for datagram in facecap.encode(result.arkit, result.head_rotation, result.eye_rotations):
            given += decoder.feed(datagram)
    # The first frame ends when the second begins; from then on its set of channels is known.
    assert len(given) == 4
    for sample, result in zip(given[1:], faces[1:], strict=True):
        assert_same_face(sample, result)


def test_face_cap_head_and_eyes_are_right_handed_degrees():
    decoder = facecap.Decoder()
    (sample,) = decoder.feed(osc.bundle(osc.message("/HR", 0.0, 10.0, 0.0), osc.message("/ELR", 5.0, -3.0)))
    assert sample.head_rotation == pytest.approx(about("y", math.radians(10.0)))
    assert sample.eye_rotations[0] == pytest.approx((math.radians(-3.0), math.radians(-5.0)))


@pytest.mark.parametrize(
    "message",
    [
        osc.message("/W", 52, 0.5),
        osc.message("/W", -1, 0.5),
        osc.message("/W", 0.5, 0.5),
        osc.message("/W", 0, math.nan),
        osc.message("/W", 0),
        osc.message("/HR", 1.0, 2.0),
        osc.message("/HR", math.inf, 0.0, 0.0),
        osc.message("/ELR", "a", "b"),
    ],
)
def test_face_cap_refuses(message):
    with pytest.raises(Refused):
        facecap.Decoder().feed(message)


def test_face_cap_passes_over_what_is_not_its_own():
    decoder = facecap.Decoder()
    assert decoder.feed(osc.message("/other", 1)) is None
    assert decoder.feed(osc.message("/HT", 0.0, 0.0, 0.0)) == []


# --- iFacialMocap


IFACIALMOCAP_DOCS = (
    b"mouthSmile_R-0|eyeLookOut_L-0|mouthUpperUp_L-11|eyeLookDown_L-17|eyeLookIn_R-6|eyeLookDown_R-17|jawOpen-12|"
    b"eyeLookIn_L-4|mouthLeft-1|=head#-21.488958,-6.038993,-6.6019735,-0.030653415,-0.10287084,-0.6584072|"
    b"rightEye#6.0297494,2.4403017,0.25649446|leftEye#6.034903,-1.6660284,-0.17520553|"
)
"""From the app's documentation, most weights left out."""


def test_ifacialmocap_documentation_frame():
    sample = ifacialmocap.decode(IFACIALMOCAP_DOCS)
    assert sample.arkit[ARKIT_INDEX["jawOpen"]] == pytest.approx(0.12)
    assert sample.arkit[ARKIT_INDEX["mouthLeft"]] == pytest.approx(0.01)
    assert sample.head_translation == pytest.approx((-0.030653415, -0.10287084, -0.6584072))
    # The frame's own look weights say what its eye angles mean: in by 6 and 4 percent, down by 17.
    (left_yaw, left_pitch), (right_yaw, right_pitch) = sample.eye_rotations
    assert left_yaw == pytest.approx(-EYE_GAIN * 0.04, abs=0.01)
    assert right_yaw == pytest.approx(EYE_GAIN * 0.06, abs=0.01)
    assert left_pitch == pytest.approx(-EYE_GAIN * 0.17, abs=0.01)
    assert right_pitch == pytest.approx(-EYE_GAIN * 0.17, abs=0.01)


def test_ifacialmocap_second_dialect_and_suffix():
    frame = b"jawOpen&25|browDownLeft&-3|FM_SAD&0|=head#1,2,3,0,0,0|rightEye#0,0,0|leftEye#0,0,0|___iFacialMocap"
    sample = ifacialmocap.decode(frame)
    assert sample.arkit[ARKIT_INDEX["jawOpen"]] == pytest.approx(0.25)
    assert sample.arkit[ARKIT_INDEX["browDownLeft"]] == 0.0


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff\xff",
        b"hello",
        b"jawOpen-12|",
        b"=head#1,2,3,4,5,6|",
        b"jawOpen-nan|=head#1,2,3,4,5,6|",
        b"jawOpen-1_0|=head#1,2,3,4,5,6|",
        b"jawOpen-900|=head#1,2,3,4,5,6|",
        b"jawOpen-1|=head#1,2,3|",
        b"jawOpen-1|=head#1,2,3,4,5,6,7|",
        b"jawOpen-1|=head#1,2,3,4,5,1e99|",
        b"jawOpen-1|" * 300 + b"=head#1,2,3,4,5,6|",
        b"jawOpen-1|=head#1,2,3,4,5,6|" + b" " * 9000,
    ],
)
def test_ifacialmocap_refuses(frame):
    with pytest.raises(Refused):
        ifacialmocap.decode(frame)


# --- VMC


def bone(name, q):
    return osc.message("/VMC/Ext/Bone/Pos", name, 0.0, 0.0, 0.0, *(float(c) for c in (*q[1:], q[0])))


def test_vmc_head_is_neck_and_head_together_in_unity_axes():
    decoder = vmc.Decoder()
    decoder.feed(osc.bundle(bone("Neck", about("y", -0.1)), bone("Head", about("y", -0.2))))
    (sample,) = decoder.feed(osc.message("/VMC/Ext/Blend/Apply"))
    assert sample.head_rotation == pytest.approx(about("y", 0.3))  # Unity's -y is the character's left
    assert direction(sample.head_rotation)[0] > 0


def test_vmc_bones_alone_give_frames_by_the_clock():
    decoder = vmc.Decoder()
    (sample,) = decoder.feed(osc.bundle(bone("Head", about("x", 0.2)), osc.message("/VMC/Ext/T", 1.5)))
    assert sample.timecode == 1.5
    assert decoder.feed(osc.message("/VMC/Ext/T", 1.6)) == []  # nothing new was said


@pytest.mark.parametrize("tracking", [1, 0])
@pytest.mark.parametrize("clock_at", [0, 1, 2, 3])
def test_vmc_gives_one_frame_a_cycle_wherever_the_clock_stands_in_it(clock_at, tracking):
    decoder = vmc.Decoder()

    def cycle(i):
        steps = [
            bone("Head", about("x", i / 1000)),
            osc.message("/VMC/Ext/Blend/Val", "JawOpen", i / 100),
            osc.message("/VMC/Ext/Blend/Apply"),
        ]
        steps.insert(clock_at, osc.message("/VMC/Ext/T", i / 60))
        return [decoder.feed(step) for step in (osc.message("/VMC/Ext/OK", 1, 3, 0, tracking), *steps)]

    cycle(0)
    for i in range(1, 40):
        (sample,) = [sample for samples in cycle(i) for sample in samples]
        assert sample.found == bool(tracking)
        assert not tracking or sample.arkit[ARKIT_INDEX["jawOpen"]] == pytest.approx(i / 100)


def test_vmc_a_performer_that_stops_sending_blendshapes_goes_on_with_bones():
    decoder = vmc.Decoder()
    decoder.feed(osc.message("/VMC/Ext/Blend/Apply"))
    frames = [
        decoder.feed(osc.bundle(bone("Head", about("x", i / 1000)), osc.message("/VMC/Ext/T", i / 60)))
        for i in range(60)
    ]
    assert all(len(samples) == 1 for samples in frames[10:])


def test_vmc_standard_blendshapes_move_a_face_and_perfect_sync_overrules_them():
    decoder = vmc.Decoder()

    def value(name, v):
        return osc.message("/VMC/Ext/Blend/Val", name, v)

    apply = osc.message("/VMC/Ext/Blend/Apply")
    (sample,) = decoder.feed(osc.bundle(value("Blink_L", 1.0), value("Joy", 0.5), value("LookLeft", 1.0), apply))
    assert sample.arkit[ARKIT_INDEX["eyeBlinkLeft"]] == 1.0
    assert sample.arkit[ARKIT_INDEX["eyeBlinkRight"]] == 0.0
    assert sample.arkit[ARKIT_INDEX["mouthSmileRight"]] == pytest.approx(0.5)
    assert sample.eye_rotations[0][0] > 0.5
    assert sample.eye_rotations[1][0] > 0.5
    (sample,) = decoder.feed(osc.bundle(value("JawOpen", 0.25), value("MyOwnShape", 1.0), apply))
    assert sample.arkit[ARKIT_INDEX["jawOpen"]] == pytest.approx(0.25)
    assert sample.arkit[ARKIT_INDEX["eyeBlinkLeft"]] == 0.0


@pytest.mark.parametrize("name", ["Blink", "A", "I", "U", "E", "O", "Joy", "Angry", "Sorrow", "Fun", "happy", "ou"])
def test_vmc_every_preset_moves_something(name):
    data = osc.bundle(osc.message("/VMC/Ext/Blend/Val", name, 1.0), osc.message("/VMC/Ext/Blend/Apply"))
    (sample,) = vmc.Decoder().feed(data)
    assert sample.arkit.max() > 0.1


def test_vmc_presets_of_a_face():
    arkit = NEUTRAL.copy()
    arkit[ARKIT_INDEX["eyeBlinkRight"]] = 0.8
    arkit[ARKIT_INDEX["jawOpen"]] = 0.35
    named = vmc.presets(arkit)
    assert named["Blink_R"] == pytest.approx(0.8)
    assert named["Blink_L"] == 0.0
    assert named["A"] == pytest.approx(0.5)
    assert all(0.0 <= v <= 1.0 for seed in range(50) for v in vmc.presets(face(seed).arkit).values())


def test_vmc_lost_face_is_told_on_both_ways():
    decoder = vmc.Decoder()
    for datagram in packets(face())["vmc"]:
        decoder.feed(datagram)
    lost = vmc.encode(NEUTRAL, NO_ROTATION, NO_EYES, seconds=2.0, tracking=False)
    assert [[s.found for s in decoder.feed(d)] for d in lost * 2] == [[False], [False]]


def test_vmc_bones_of_the_body_may_be_anything():
    body = osc.message("/VMC/Ext/Bone/Pos", "Hips", *[0.0] * 7)
    assert vmc.Decoder().feed(body) == []
    assert vmc.Decoder().feed(osc.message("/VMC/Ext/Cam", "Camera", *[0.0] * 8)) is None


@pytest.mark.parametrize(
    "message",
    [
        osc.message("/VMC/Ext/Bone/Pos", "Head", *[0.0] * 7),
        osc.message("/VMC/Ext/Bone/Pos", "Head", *[math.nan] * 7),
        osc.message("/VMC/Ext/Bone/Pos", "Head", *[0.0] * 6),
        osc.message("/VMC/Ext/Blend/Val", "A"),
        osc.message("/VMC/Ext/Blend/Val", "A", "x"),
        osc.message("/VMC/Ext/Blend/Val", 1, 1.0),
        osc.message("/VMC/Ext/Blend/Val", "A", math.nan),
        osc.message("/VMC/Ext/Blend/Apply", 1),
        osc.message("/VMC/Ext/T"),
        osc.message("/VMC/Ext/T", math.inf),
        osc.message("/VMC/Ext/OK"),
        osc.message("/VMC/Ext/OK", "1"),
    ],
)
def test_vmc_refuses(message):
    with pytest.raises(Refused):
        vmc.Decoder().feed(message)


def test_a_refused_datagram_changes_nothing():
    decoder = vmc.Decoder()
    good = osc.message("/VMC/Ext/Blend/Val", "JawOpen", 0.5)
    with pytest.raises(Refused):
        decoder.feed(osc.bundle(good, osc.message("/VMC/Ext/T")))
    assert decoder.feed(osc.message("/VMC/Ext/Blend/Apply")) == []


@pytest.mark.parametrize("value", [50.0, -7.0, math.nan, math.inf])
def test_shapes_of_the_senders_own_model_may_have_any_value(value):
    known, own = (osc.message("/VMC/Ext/Blend/Val", name, v) for name, v in (("JawOpen", 0.5), ("MyTail", value)))
    (sample,) = vmc.Decoder().feed(osc.bundle(known, own, osc.message("/VMC/Ext/Blend/Apply")))
    assert sample.arkit[ARKIT_INDEX["jawOpen"]] == 0.5
    assert sample.arkit.sum() == 0.5


def test_vmc_datagrams_cross_a_network_whole():
    assert max(map(len, packets(face())["vmc"])) <= 1472  # Ethernet's 1500 less IP and UDP headers


# --- the page


def table(title: str) -> list[list[str]]:
    """Rows of the tables under a heading of docs/network.md, without the first one's head."""
    section = re.split(r"^#+ ", DOCS.read_text("utf-8").split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    lines = [line.strip("|") for line in section.splitlines() if line[:1] == "|"]
    return [[cell.strip(" `") for cell in line.split("|")] for line in lines[2:]]


def test_the_page_lists_live_link_faces_bytes_as_they_are():
    sizes = {"u8": 1, "i32": 4, "f32": 4, "61 x f32": 244, "n bytes": 36, "m bytes": 5}
    rows = table("Packet")
    offset = 0
    for _, type_, _, _ in rows:
        offset += sizes[type_]
    assert offset == len(packets(face())["livelink"][0])


def test_the_page_lists_the_channels_in_order():
    listed = [name for row in table("Channels") if row[0][:1].isdigit() for name in re.findall(r"[a-zA-Z]+", row[1])]
    assert tuple(listed) == livelink.CHANNELS


def test_the_page_lists_face_caps_indices():
    listed = {int(row[i]): row[i + 1] for row in table("Shapes") for i in range(0, len(row), 2)}
    assert tuple(listed[i] for i in range(52)) == facecap.SHAPES
    assert set(facecap.SHAPES) == set(ARKIT)


def test_the_page_lists_formats_and_ports():
    listed = {row[1]: int(row[2]) for row in table("Formats")}
    assert listed == {name: module.PORT for name, module in FORMATS.items()}


def test_the_page_lists_the_presets():
    listed = {name for row in table("Standard blendshapes") for name in re.findall(r"\w+", row[0])}
    assert listed == {name for names in vmc._PRESETS for name in names}


def test_no_pictures_come_from_the_network():
    assert LANDMARK_COUNT == 478  # a result from the network has no landmarks: they stay at zero
    assert not face().landmarks.any()
