"""The network formats against programs that others wrote: python-osc and pylivelinkface."""

from __future__ import annotations

import math
import socket
import threading
import time

import numpy as np
import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket
from pythonosc.osc_server import BlockingOSCUDPServer
from pythonosc.udp_client import SimpleUDPClient, UDPClient

from mien.core.network import LiveLinkFaceSender, NetworkSource, VmcSender, facecap, livelink, osc
from mien.core.units import ARKIT, ARKIT_INDEX

from .network_helpers import assert_same_face, face

DEVICE = "6F1B9C2A-1111-4222-8333-944455556666"


def collect(source, count=1, seconds=5.0):
    results, end = [], time.monotonic() + seconds
    while len(results) < count and time.monotonic() < end:
        results += source.wait(0.05)
    return results


# --- Live Link Face


def test_channel_order_is_pylivelinkfaces():
    theirs = [shape.name.lower() for shape in sorted(FaceBlendShape, key=lambda shape: shape.value)]
    assert theirs == [name.lower() for name in livelink.CHANNELS]


@pytest.mark.parametrize("seed", range(10))
def test_pylivelinkface_reads_mien(seed):
    result = face(seed)
    packet = livelink.encode(
        result.arkit, result.head_rotation, result.eye_rotations, seconds=100.25, device=DEVICE, subject="Mien"
    )
    found, theirs = PyLiveLinkFace.decode(packet)
    assert found
    assert theirs.name == "Mien"
    assert theirs.uuid.endswith(DEVICE)
    assert theirs.fps == 60
    assert theirs._version == 6
    assert theirs._frames == 6015
    for i in range(52):
        assert theirs.get_blendshape(FaceBlendShape(i)) == pytest.approx(float(result.arkit[i]), abs=1e-7)
    wanted = livelink.angles_from_pose(result.head_rotation, result.eye_rotations)
    for i in range(9):
        assert theirs.get_blendshape(FaceBlendShape(52 + i)) == pytest.approx(wanted[i], abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_mien_reads_pylivelinkface(seed):
    random = np.random.default_rng(seed)
    values = [*random.uniform(0.0, 1.0, 52), *random.uniform(-0.6, 0.6, 9)]
    theirs = PyLiveLinkFace("phone", DEVICE)
    for shape, value in zip(sorted(FaceBlendShape, key=lambda s: s.value), values, strict=True):
        theirs.set_blendshape(shape, value, no_filter=True)
    sample = livelink.decode(theirs.encode())
    assert sample.subject == "phone"
    assert sample.timecode is not None
    np.testing.assert_allclose(sample.arkit, values[:52], atol=1e-6)
    back = livelink.angles_from_pose(sample.head_rotation, sample.eye_rotations)
    for i in (0, 1, 2, 3, 4, 6, 7):
        assert back[i] == pytest.approx(values[52 + i], abs=1e-6)


def test_pylivelinkface_at_30_fps_has_no_usable_rate():
    theirs = PyLiveLinkFace("phone", DEVICE, fps=30)  # writes 30/0
    assert livelink.decode(theirs.encode()).timecode is None


def test_pylivelinkface_drives_a_source_over_the_network():
    theirs = PyLiveLinkFace("phone", DEVICE)
    with NetworkSource(port=0) as source, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for i in range(30):
            theirs.set_blendshape(FaceBlendShape.JawOpen, i / 30.0, no_filter=True)
            sock.sendto(theirs.encode(), source.address)
        results = collect(source, 30)
        assert [round(float(r.arkit[ARKIT_INDEX["jawOpen"]]) * 30) for r in results] == list(range(30))
        assert source.subject == "phone"
        assert source.stats.out_of_order == 0  # though its clock goes back again and again


def test_pylivelinkface_receives_the_sender():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5.0)
        with LiveLinkFaceSender(port=sock.getsockname()[1]) as out:
            result = face(1)
            out.send(result)
        found, theirs = PyLiveLinkFace.decode(sock.recv(2000))
    assert found
    assert theirs.get_blendshape(FaceBlendShape.JawOpen) == pytest.approx(float(result.arkit[17]), abs=1e-7)


# --- OSC


def test_pythonosc_reads_what_mien_writes():
    data = osc.bundle(osc.message("/a/b", 7, -1.5, "word"), osc.bundle(osc.message("/c")))
    messages = [(m.message.address, tuple(m.message.params)) for m in OscPacket(data).messages]
    assert messages == [("/a/b", (7, -1.5, "word")), ("/c", ())]
    assert isinstance(OscBundle(data).content(0).address, str)


def test_mien_reads_what_pythonosc_writes():
    inner = OscMessageBuilder("/a/b")
    for value in (7, -1.5, "word", b"blob!", True, False, None):
        inner.add_arg(value)
    inner.add_arg(2.5, "d")
    inner.add_arg(2**40, "h")
    bundle = OscBundleBuilder(IMMEDIATELY)
    bundle.add_content(inner.build())
    deeper = OscBundleBuilder(IMMEDIATELY)
    deeper.add_content(OscMessageBuilder("/c").build())
    bundle.add_content(deeper.build())
    first, second = osc.decode(bundle.build().dgram)
    assert first.arguments == (7, -1.5, "word", b"blob!", True, False, None, 2.5, 2**40)
    assert second == ("/c", ())


class Marionette:
    """A VMC receiver on python-osc's server: keeps the last value of everything."""

    def __init__(self):
        self.bones, self.blends, self.applied, self.times, self.status = {}, {}, 0, [], []
        dispatcher = Dispatcher()
        dispatcher.map("/VMC/Ext/Bone/Pos", lambda _, name, *v: self.bones.__setitem__(name, v))
        dispatcher.map("/VMC/Ext/Blend/Val", lambda _, name, v: self.blends.__setitem__(name, v))
        dispatcher.map("/VMC/Ext/Blend/Apply", self._apply)
        dispatcher.map("/VMC/Ext/T", lambda _, t: self.times.append(t))
        dispatcher.map("/VMC/Ext/OK", lambda _, *v: self.status.append(v))
        self.server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def _apply(self, _):
        self.applied += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc_info):
        self.server.shutdown()
        self.thread.join(5.0)
        self.server.server_close()

    def wait(self, count):
        end = time.monotonic() + 5.0
        while self.applied < count and time.monotonic() < end:
            time.sleep(0.01)
        assert self.applied == count


def test_a_pythonosc_marionette_receives_the_sender():
    result = face(2)
    with Marionette() as marionette:
        with VmcSender(port=marionette.port) as out:
            out.send(result)
            marionette.wait(1)
            # A turn to the actor's left is negative about Unity's y.
            turned = type(result)(1, 2.0, found=True, head_rotation=(math.cos(0.2), 0.0, math.sin(0.2), 0.0))
            assert {name[0].lower() + name[1:]: v for name, v in marionette.blends.items()} == pytest.approx(
                {name: float(v) for name, v in zip(ARKIT, result.arkit, strict=True)}, abs=1e-6
            )
            out.send(turned)
            marionette.wait(2)
    assert set(marionette.bones) == {"Neck", "Head", "LeftEye", "RightEye"}
    x, y, z, w = marionette.bones["Head"][3:]
    assert (x, z) == pytest.approx((0.0, 0.0))
    assert 2.0 * math.atan2(y, w) == pytest.approx(-0.4 * 0.7, abs=1e-5)
    assert marionette.status[-1] == (1, 3, 0, 1)
    assert marionette.times == pytest.approx([0.0, 1.0])


def test_a_pythonosc_marionette_receives_standard_blendshapes():
    with Marionette() as marionette, VmcSender(port=marionette.port, blends="vrm") as out:
        out.send(face(2))
        marionette.wait(1)
    assert set(marionette.blends) == {"Blink_L", "Blink_R", "A", "I", "U", "E", "O", "Joy", "Angry", "Sorrow", "Fun"}


def test_a_pythonosc_performer_drives_a_source():
    with NetworkSource("vmc", 0) as source:
        client = SimpleUDPClient("127.0.0.1", source.address[1])
        client.send_message("/VMC/Ext/OK", 1)
        client.send_message("/VMC/Ext/T", 12.5)
        client.send_message("/VMC/Ext/Root/Pos", ["root", *[0.0] * 6, 1.0])
        half = math.sin(-0.15), math.cos(-0.15)
        client.send_message("/VMC/Ext/Bone/Pos", ["Head", 0.0, 0.1, 0.0, 0.0, half[0], 0.0, half[1]])
        client.send_message("/VMC/Ext/Bone/Pos", ["LeftEye", 0.0, 0.0, 0.0, math.sin(0.05), 0.0, 0.0, math.cos(0.05)])
        client.send_message("/VMC/Ext/Blend/Val", ["JawOpen", 0.5])
        client.send_message("/VMC/Ext/Blend/Val", ["browInnerUp", 0.25])
        client.send_message("/VMC/Ext/Blend/Apply", [])
        (result,) = collect(source)
        assert result.arkit[ARKIT_INDEX["jawOpen"]] == 0.5
        assert result.arkit[ARKIT_INDEX["browInnerUp"]] == 0.25
        assert 2.0 * math.atan2(result.head_rotation[2], result.head_rotation[0]) == pytest.approx(0.3, abs=1e-5)
        assert result.eye_rotations[0] == pytest.approx((0.0, -0.1), abs=1e-5)
        assert source.timecode == 12.5
        assert source.stats.ignored == 1  # the root


def test_a_pythonosc_bundle_of_face_cap_drives_a_source():
    wanted = face(3)
    builder = OscBundleBuilder(IMMEDIATELY)
    for data in facecap.encode(wanted.arkit, wanted.head_rotation, wanted.eye_rotations):
        (ours,) = osc.decode(data)
        theirs = OscMessageBuilder(ours.address)
        for argument in ours.arguments:
            theirs.add_arg(argument)
        builder.add_content(theirs.build())
    with NetworkSource("facecap", 0) as source:
        UDPClient("127.0.0.1", source.address[1]).send(builder.build())
        (result,) = collect(source)
        assert_same_face(result, wanted)
