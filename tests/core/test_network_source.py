"""Ports: real sockets, on this machine only."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import time

import numpy as np
import pytest

from mien.core.errors import MienError
from mien.core.network import FORMATS, LiveLinkFaceSender, NetworkSource, VmcSender, ifacialmocap, livelink, vmc
from mien.core.network.source import MAX_DELAY, MAX_DRAIN, NEW_PORTS, STEPS, _Clock, result_from
from mien.core.types import FrameResult
from mien.core.units import UNIT_INDEX

from .network_helpers import assert_same_face, face, packets


@contextlib.contextmanager
def sender():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def collect(source, count=1, seconds=5.0):
    """Wait for that many results, at most so long."""
    results, end = [], time.monotonic() + seconds
    while len(results) < count and time.monotonic() < end:
        results += source.wait(0.05)
    return results


def llf(seconds: float, jaw: float = 0.0) -> bytes:
    arkit = np.zeros(52)
    arkit[17] = jaw
    return livelink.encode(arkit, (1, 0, 0, 0), ((0, 0), (0, 0)), seconds=seconds, device="A" * 36)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_arrives(format):
    with NetworkSource(format, 0) as source, sender() as phone:
        assert source.state == "waiting"
        assert source.poll() == []
        assert source.latest() is None
        wanted = face(5)
        for datagram in packets(wanted)[format]:
            phone.sendto(datagram, source.address)
        (got,) = collect(source)
        assert got.found
        assert got.confidence == 1.0
        assert_same_face(got, wanted, weight=0.0051)
        np.testing.assert_allclose(got.units, wanted.units, atol=0.01)
        assert source.state == "live"
        assert source.sender == f"127.0.0.1:{phone.getsockname()[1]}"
        assert source.stats.frames == 1


def test_units_follow_from_the_weights():
    arkit = np.zeros(52, np.float32)
    arkit[0] = 1.0  # eyeBlinkLeft
    sample = livelink.decode(livelink.encode(arkit, (1, 0, 0, 0), ((0, 0), (0, 0)), seconds=0.0))
    result = result_from(sample, 0, 0.0)
    assert result.units[UNIT_INDEX["BlinkLeft"]] > 0.9
    assert result.units[UNIT_INDEX["BlinkRight"]] < 0.1


def test_listens_on_this_machine_alone_unless_told():
    with NetworkSource(port=0) as source:
        assert source.address[0] == "127.0.0.1"
    with NetworkSource(port=0, listen_lan=True) as source:
        assert source.address[0] == "0.0.0.0"


def test_a_port_that_another_program_has_to_itself(monkeypatch):
    """On Windows that is told as a lack of permission, and so is a port that the system keeps."""

    def refuse(_self, _address):
        raise PermissionError(13, "no")

    monkeypatch.setattr(socket, "socket", type("Socket", (socket.socket,), {"bind": refuse}))
    with pytest.raises(MienError) as error:
        NetworkSource(port=0)
    assert error.value.code == "port-refused"
    assert "another port" in error.value.hint
    assert "program" in error.value.hint


def test_a_busy_port_says_what_to_do():
    with NetworkSource(port=0) as source:
        with pytest.raises(MienError) as error:
            NetworkSource(port=source.address[1])
        assert error.value.code == "port-busy"
        assert str(source.address[1]) in error.value.message
        assert error.value.hint


def test_the_port_is_free_again_after_closing():
    for _ in range(50):
        with NetworkSource(port=0) as source:
            port = source.address[1]
        with NetworkSource(port=port) as again:
            assert again.address[1] == port
        assert again.state == "closed"
        again.close()
        assert again.poll() == []
        assert again.wait(0.1) == []


def test_unknown_format():
    with pytest.raises(MienError) as error:
        NetworkSource("morse", 0)
    assert error.value.code == "format-unknown"


def test_recording_gets_every_frame_and_live_the_newest():
    with NetworkSource(port=0) as source, sender() as phone:
        for i in range(100):
            phone.sendto(llf(10.0 + i / 60.0, i / 100.0), source.address)
        results = collect(source, 100)
        assert [r.index for r in results] == list(range(100))
        assert all(b.time > a.time for a, b in itertools.pairwise(results))
        for i in range(100):
            phone.sendto(llf(20.0 + i / 60.0, i / 100.0), source.address)
        time.sleep(0.05)
        newest = source.latest()
        assert newest.index == 199
        assert newest.arkit[17] == pytest.approx(0.99)
        assert source.latest() is None


def test_a_flood_does_not_hold_up_the_caller():
    with NetworkSource(port=0) as source, sender() as phone:
        for _ in range(3 * MAX_DRAIN):
            phone.sendto(b"x", source.address)
        before = source.stats.received
        source.poll()
        assert source.stats.received - before <= MAX_DRAIN


def test_late_packets_are_dropped_and_counted():
    with NetworkSource(port=0) as source, sender() as phone:
        for seconds in (10.0, 10.1, 10.05, 10.2):
            phone.sendto(llf(seconds), source.address)
        assert len(collect(source, 3)) == 3
        assert source.stats.out_of_order == 1


def test_a_clock_that_went_back_a_little_is_believed_in_the_end():
    with NetworkSource(port=0) as source, sender() as phone:
        for i in range(10):
            phone.sendto(llf(10.2 if i == 0 else 10.0 + i / 60.0), source.address)
        assert len(collect(source, 7)) == 7
        assert source.stats.out_of_order == 3
        assert source.stats.restarts == 1


def test_lost_packets_are_counted_by_their_numbers():
    with NetworkSource(port=0) as source, sender() as phone:
        for frame in (600, 601, 605, 606):
            phone.sendto(llf(frame / 60.0 + 0.001), source.address)
        assert len(collect(source, 4)) == 4
        assert source.stats.missed == 3


@pytest.mark.parametrize(("step", "lost", "missed"), [(2, (), 0), (2, (50, 51, 90), 3), (1, (2,), 1), (3, (20,), 1)])
def test_a_sender_may_count_in_steps(step, lost, missed):
    """A phone at 30 frames a second under a timecode of 60 gives every second number."""
    with NetworkSource(port=0) as source, sender() as phone:
        for i in range(100):
            if i not in lost:
                phone.sendto(llf((600 + i * step) / 60.0 + 0.001), source.address)
        assert len(collect(source, 100 - len(lost))) == 100 - len(lost)
        assert source.stats.missed == missed


def test_a_sender_that_changes_its_rate_misses_little():
    with NetworkSource(port=0) as source, sender() as phone:
        for frame in (*range(600, 700), *range(700, 1300, 2)):
            phone.sendto(llf(frame / 60.0 + 0.001), source.address)
        assert len(collect(source, 400)) == 400
        assert source.stats.missed < STEPS


def test_a_clock_that_jumps_back_is_a_new_start():
    with NetworkSource(port=0) as source, sender() as phone:
        for seconds in (86399.9, 0.1, 0.2):
            phone.sendto(llf(seconds), source.address)
        results = collect(source, 3)
        assert len(results) == 3
        assert results[0].time < results[1].time < results[2].time
        assert source.stats.restarts == 1
        assert source.timecode == pytest.approx(0.2, abs=0.02)


def test_times_keep_the_senders_spacing_through_jitter():
    clock, random = _Clock(), np.random.default_rng(0)
    captured = np.arange(300) / 60.0
    arrived = captured + 0.02 + random.exponential(0.01, 300)
    dated = np.array([clock.date(t, a) for t, a in zip(captured, arrived, strict=True)])
    assert (np.diff(dated) > 0.0).all()
    assert (dated <= arrived + 1e-4).all()
    assert np.diff(dated[60:]).std() < np.diff(arrived[60:]).std() / 5


@pytest.mark.parametrize("speed", [0.0, 0.5, 0.8])
def test_times_follow_a_sender_whose_clock_is_slow_or_stands(speed):
    clock = _Clock()
    arrived = np.arange(1200) / 60.0
    dated = np.array([clock.date(a * speed, a) for a in arrived])
    assert (arrived - dated).max() <= 2 * MAX_DELAY
    np.testing.assert_allclose(dated[-600:], arrived[-600:])


def test_a_slow_clock_that_keeps_time_again_is_believed_again():
    clock, random = _Clock(), np.random.default_rng(0)
    arrived = np.arange(600) / 60.0
    captured = np.where(arrived < 2.0, arrived / 2.0, arrived - 1.0)
    arrived = arrived + random.exponential(0.01, 600)
    dated = np.array([clock.date(c, a) for c, a in zip(captured, arrived, strict=True)])
    np.testing.assert_allclose(np.diff(dated[-120:]), 1 / 60.0, atol=1e-3)


def test_frames_that_waited_together_keep_their_spacing():
    clock = _Clock()
    captured = np.arange(300) / 60.0
    arrived = np.where((captured > 2.0) & (captured < 2.9), 2.9, captured)  # the network stood still
    dated = np.array([clock.date(c, a) for c, a in zip(captured, arrived, strict=True)])
    np.testing.assert_allclose(dated, captured, atol=1e-4)


def test_a_senders_clock_may_have_stood_with_its_program():
    now = [100.0]
    with NetworkSource(port=0, clock=lambda: now[0]) as source, sender() as phone:
        for i in range(60):
            if i == 30:
                now[0] += 10.0
            now[0] += 1 / 30
            phone.sendto(llf(5.0 + i / 30), source.address)
            (result,) = collect(source)
            assert result.time == pytest.approx(now[0], abs=0.01)
        assert source.fps == pytest.approx(30.0, rel=0.01)


def test_the_first_sender_is_kept_until_it_falls_silent():
    now = [100.0]
    with NetworkSource(port=0, clock=lambda: now[0]) as source, sender() as one, sender() as two:
        one.sendto(llf(1.0, 0.1), source.address)
        assert len(collect(source)) == 1
        two.sendto(llf(1.0, 0.9), source.address)
        time.sleep(0.05)
        assert source.poll() == []
        assert source.stats.other_senders == 1
        assert source.sender == f"127.0.0.1:{one.getsockname()[1]}"
        now[0] += 2.0
        assert source.state == "stale"
        assert source.age == pytest.approx(2.0)
        two.sendto(llf(0.5, 0.9), source.address)
        (result,) = collect(source)
        assert result.arkit[17] == pytest.approx(0.9)
        assert source.state == "live"
        assert source.stats.out_of_order == 0


@pytest.mark.parametrize("format", ["livelink", "vmc"])
def test_a_sender_may_use_a_new_port_for_every_frame(format):
    with NetworkSource(format, 0) as source, contextlib.ExitStack() as stack:
        given = []
        for i in range(60):
            phone = stack.enter_context(sender())
            for datagram in packets(face(i, time=1.0 + i / 60.0))[format]:
                phone.sendto(datagram, source.address)
            given += collect(source, seconds=0.05)
        assert len(given) >= 60 - NEW_PORTS
        assert [result.index for result in given] == list(range(len(given)))
        assert source.state == "live"
        assert source.sender == f"127.0.0.1:{phone.getsockname()[1]}"
        assert source.stats.restarts == source.stats.out_of_order == 0
        # Another subject from the same machine is somebody else; VMC performers bear no names.
        if format == "livelink":
            with sender() as other:
                other.sendto(llf(1000.0), source.address)
                assert collect(source, seconds=0.1) == []


@pytest.mark.parametrize("programs", [2, 5])
def test_programs_of_one_machine_are_told_apart_by_their_ports(programs):
    with NetworkSource(port=0) as source, contextlib.ExitStack() as stack:
        phones = [stack.enter_context(sender()) for _ in range(programs)]
        for i in range(60):
            for phone, jaw in zip(phones, np.linspace(0.0, 1.0, programs), strict=True):
                phone.sendto(llf(1.0 + i / 60.0, jaw), source.address)
        results = collect(source, 60)
        assert [result.arkit[17] for result in results] == [0.0] * 60
        assert source.stats.other_senders == 60 * (programs - 1)


def test_a_stranger_with_a_bad_packet_does_not_become_the_sender():
    with NetworkSource(port=0) as source, sender() as stranger, sender() as phone:
        stranger.sendto(b"\6nonsense", source.address)
        phone.sendto(llf(1.0), source.address)
        assert len(collect(source)) == 1
        assert source.sender == f"127.0.0.1:{phone.getsockname()[1]}"
        assert sum(source.stats.refused.values()) == 1


def test_mirror_exchanges_sides():
    arkit = np.zeros(52)
    arkit[0] = 1.0
    with NetworkSource(port=0, mirror=True) as source, sender() as phone:
        phone.sendto(livelink.encode(arkit, (1, 0, 0, 0), ((0, 0), (0, 0)), seconds=1.0), source.address)
        (result,) = collect(source)
        assert result.units[UNIT_INDEX["BlinkRight"]] > 0.9
        assert result.units[UNIT_INDEX["BlinkLeft"]] < 0.1


def test_a_packet_without_a_face_is_a_frame_without_a_face():
    with NetworkSource(port=0) as source, sender() as phone:
        phone.sendto(llf(1.0)[:-245], source.address)
        (result,) = collect(source)
        assert not result.found
        assert result.confidence == 0.0


def test_asking_a_phone_to_send(monkeypatch):
    with NetworkSource("ifacialmocap", 0) as source, sender() as phone:
        with pytest.raises(MienError) as error:
            source.request("192.168.1.7")
        assert error.value.code == "network-not-allowed"
        monkeypatch.setattr(ifacialmocap, "PORT", phone.getsockname()[1])
        phone.settimeout(5.0)
        source.request("127.0.0.1")
        asked, address = phone.recvfrom(200)
        assert asked == ifacialmocap.REQUEST
        assert address == source.address
    source.request("127.0.0.1")
    with NetworkSource("vmc", 0) as source, pytest.raises(MienError):
        source.request("127.0.0.1")


# --- senders


@pytest.mark.parametrize("sender_type", [LiveLinkFaceSender, VmcSender])
def test_a_source_receives_what_a_sender_sends(sender_type):
    format = {LiveLinkFaceSender: "livelink", VmcSender: "vmc"}[sender_type]
    faces = [face(seed, time=5.0 + seed / 30.0) for seed in range(10)]
    now = [50.0]
    with (
        NetworkSource(format, 0, clock=lambda: now[0]) as source,
        sender_type(port=source.address[1]) as out,
    ):
        got = []
        for i, result in enumerate(faces):
            now[0] += 1 / 30 + (0.004 if i % 2 else -0.004)  # a network that is late every other time
            out.send(result)
            got += collect(source)
        assert len(got) == 10
        for a, b in zip(got, faces, strict=True):
            assert_same_face(a, b)
            np.testing.assert_allclose(a.units, b.units, atol=1e-5)
        np.testing.assert_allclose(np.diff([r.time for r in got])[1:], 1 / 30, atol=1e-4)
        assert out.stats.frames == 10
        assert out.stats.errors == 0


def test_frames_without_a_face():
    nothing = FrameResult(0, 1.0)
    with NetworkSource("vmc", 0) as source, VmcSender(port=source.address[1]) as out:
        out.send(face())
        out.send(dataclasses.replace(nothing, time=2.0))
        assert [r.found for r in collect(source, 2)] == [True, False]
    with LiveLinkFaceSender(port=9) as out:
        out.send(nothing)
        assert out.stats.datagrams == 0


@pytest.mark.parametrize("sender_type", [LiveLinkFaceSender, VmcSender])
@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("192.168.1.7", "network-not-allowed"),
        ("8.8.8.8", "network-not-allowed"),
        ("0.0.0.0", "address-unknown"),
        ("255.255.255.255", "address-unknown"),
        ("224.0.0.1", "address-unknown"),
        ("example.com", "address-unknown"),
        ("", "address-unknown"),
    ],
)
def test_senders_stay_on_this_machine_unless_told(sender_type, host, code):
    with pytest.raises(MienError) as error:
        sender_type(host)
    assert error.value.code == code
    assert error.value.hint


def test_senders_go_to_another_machine_when_allowed():
    VmcSender("192.168.1.7", allow_lan=True).close()
    VmcSender("localhost").close()


def test_a_missing_receiver_is_counted_not_raised():
    with sender() as gone:
        port = gone.getsockname()[1]
    with VmcSender(port=port) as out:
        for _ in range(20):
            out.send(face())
        assert out.stats.frames == 20
    out.send(face())
    out.close()
    assert out.stats.frames == 20


def test_an_unreachable_network_is_counted_not_raised():
    # 240.0.0.0/4 is reserved: no route takes it.
    with VmcSender("240.0.0.1", allow_lan=True) as out:
        out.send(face())
        assert out.stats.errors + out.stats.datagrams == 3
        if out.stats.errors:
            assert out.stats.last_error


def test_unknown_blends():
    with pytest.raises(ValueError, match="blends"):
        VmcSender(blends="all")
    assert vmc.PORT == 39539
