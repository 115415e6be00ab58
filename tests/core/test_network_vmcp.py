"""VMC against a program of its own that others wrote from the specification: vmcp, with osc4py3 beneath."""

from __future__ import annotations

import math
import socket
import time
from enum import Enum

import pytest
from vmcp.events import BlendShapeApplyEvent, BlendShapeEvent, BoneTransformEvent, RelativeTimeEvent, StateEvent
from vmcp.facades import on_receive
from vmcp.osc import OSC
from vmcp.osc.backend.osc4py3 import as_eventloop
from vmcp.osc.typing import Message
from vmcp.protocol import blendshape, blendshape_apply, bone_transform, state
from vmcp.protocol import time as relative_time
from vmcp.typing import BlendShapeKey, Bone, CoordinateVector, ModelState, Quaternion, Timestamp

from mien.core.network import NetworkSource, VmcSender
from mien.core.units import ARKIT, ARKIT_INDEX

from .network_helpers import face

Shape = Enum("Shape", {name: name for name in ARKIT}, type=BlendShapeKey)


@pytest.fixture(scope="module")
def theirs():
    # osc4py3 starts once in a process.
    system = OSC(as_eventloop)
    with system.open():
        yield system
    system.close()


def test_vmcp_receives_mien(theirs):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    receiver = theirs.create_receiver("127.0.0.1", port, "marionette")
    came = []
    for kind in (BlendShapeEvent, BlendShapeApplyEvent, BoneTransformEvent, StateEvent, RelativeTimeEvent):
        on_receive(receiver, kind, came.append)
    receiver.open()
    result = face(2)
    end = time.monotonic() + 10.0
    with VmcSender(port=port) as sender:
        while not any(isinstance(event, BlendShapeApplyEvent) for event in came) and time.monotonic() < end:
            sender.send(result)
            for _ in range(20):
                theirs.run()
    blends = {event.key: event.value for event in came if isinstance(event, BlendShapeEvent)}
    assert {name.lower(): value for name, value in blends.items()} == pytest.approx(
        {name.lower(): float(value) for name, value in zip(ARKIT, result.arkit, strict=True)}, abs=1e-6
    )
    bones = {event.joint: event.rotation for event in came if isinstance(event, BoneTransformEvent)}
    assert set(bones) == {Bone.NECK, Bone.HEAD, Bone.LEFT_EYE, Bone.RIGHT_EYE}
    for turn in bones.values():
        assert math.hypot(turn.x, turn.y, turn.z, turn.w) == pytest.approx(1.0, abs=1e-5)
    assert any(isinstance(event, StateEvent) for event in came)
    assert any(isinstance(event, RelativeTimeEvent) for event in came)


def test_mien_receives_vmcp(theirs):
    half = -0.15
    turned = Quaternion(x=0.0, y=math.sin(half), z=0.0, w=math.cos(half))
    with NetworkSource("vmc", 0) as source:
        sender = theirs.create_sender("127.0.0.1", source.address[1], "performer").open()
        packet = (
            Message(*bone_transform(Bone.HEAD, CoordinateVector.identity(), turned)),
            Message(*blendshape(Shape.jawOpen, 0.5)),
            Message(*blendshape(Shape.browInnerUp, 0.25)),
            Message(*blendshape_apply()),
            Message(*state(ModelState.LOADED)),
            Message(*relative_time(Timestamp())),
        )
        results, end = [], time.monotonic() + 10.0
        while not results and time.monotonic() < end:
            sender.send(packet)
            for _ in range(20):
                theirs.run()
            results += source.wait(0.05)
        assert results[0].arkit[ARKIT_INDEX["jawOpen"]] == 0.5
        assert results[0].arkit[ARKIT_INDEX["browInnerUp"]] == 0.25
        # A turn to the actor's left is negative about Unity's y.
        assert 2.0 * math.atan2(results[0].head_rotation[2], results[0].head_rotation[0]) == pytest.approx(
            0.3, abs=1e-5
        )
        assert not source.stats.refused
        assert source.timecode is None  # it sends the time since 1970, too coarse in 32 bits
