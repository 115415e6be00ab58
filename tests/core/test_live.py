"""Live capture in the worker: sources, recording and faults. Only the device and the model are stood in for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pylivelinkface import FaceBlendShape, PyLiveLinkFace
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer

from mien.core import live as live_module
from mien.core.capture import camera as camera_module
from mien.core.capture import grabber as grabber_module
from mien.core.capture.camera import Camera, CameraInfo, find_camera, list_cameras
from mien.core.capture.grabber import Grabber
from mien.core.capture.paced import PacedFile
from mien.core.clock import now
from mien.core.errors import MienError
from mien.core.expression import FEATURES
from mien.core.labelling import Labeller
from mien.core.live import LiveSession, give_memory_back, small_picture
from mien.core.network import LiveLinkFaceSender, NetworkSource, VmcSender, ifacialmocap, lan_address
from mien.core.opencv import cv2
from mien.core.protocol import (
    PICTURE_HEIGHT,
    Expressions,
    LearnExpression,
    LiveFrame,
    LivePicture,
    LiveStatus,
    Output,
    Record,
    StartLive,
    TakeStatus,
    TuneLive,
)
from mien.core.solve import MAX_PREDICTION, Neutral, SolveOptions, Solver, solve_take
from mien.core.take import Take, TakeHeader
from mien.core.types import FrameResult

BLACK = np.zeros((48, 64, 3), np.uint8)


class Device:
    """What OpenCV gives for a camera, at 100 pictures a second."""

    plugged = True
    grabbed = 0
    stamps = None

    def __init__(self, number):
        self.number = number
        self.open = self.plugged
        self.settings = {}

    def isOpened(self):
        return self.open

    def set(self, what, value):
        self.settings[what] = value
        return True

    def get(self, what):
        if what == cv2.CAP_PROP_POS_MSEC:
            return 1000.0 * (now() - self.stamps) if self.stamps is not None else 0.0
        return {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0, cv2.CAP_PROP_FPS: 100.0}.get(what, 0)

    def grab(self):
        time.sleep(0.01)
        Device.grabbed += 1
        return self.plugged

    def retrieve(self):
        return True, np.full((48, 64, 3), (10, 20, 30), np.uint8)

    def release(self):
        self.open = False


class Pipeline:
    """A model that takes `pause` seconds and always sees a face."""

    pause = 0.0
    labeller = None

    def __init__(self, estimator):
        self.notices = []
        self.settings = {"estimator": estimator}

    def step(self, frame):
        time.sleep(self.pause)
        return FrameResult(frame.index, frame.time, found=True, confidence=1.0, size=(64, 48), units=np.full(11, 0.5))

    def close(self):
        pass


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(Device, "plugged", True)
    monkeypatch.setattr(Device, "stamps", None)
    monkeypatch.setattr(camera_module, "open_device", Device)
    monkeypatch.setattr(camera_module, "list_cameras", lambda: [CameraInfo("0", "Webcam"), CameraInfo("2", "Other")])
    monkeypatch.setattr(grabber_module, "RETRY", 0.05)
    return Device


@pytest.fixture
def session(device, monkeypatch):
    """Make sessions that collect what they say, and are stopped at the end."""
    monkeypatch.setattr(live_module, "make_pipeline", Pipeline)
    monkeypatch.setattr(Pipeline, "pause", 0.0)
    made = []

    def make(**order):
        said = []
        new = LiveSession(
            StartLive(1, **{"source": "camera", **order}), lambda message, droppable=False: said.append(message)
        )
        made.append(new)
        return new, said

    yield make
    for one in made:
        if not one.ended:
            one.stop()


def until(session, condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        session.step()


def of(said, cls):
    return [message for message in said if isinstance(message, cls)]


def test_a_phone_that_does_not_send_is_asked_again(session, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.setblocking(False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        monkeypatch.setattr(ifacialmocap, "PORT", phone.getsockname()[1])
        monkeypatch.setattr(live_module, "ASK_INTERVAL", 0.05)
        one, said = session(source="network", name="ifacialmocap", host="127.0.0.1", port=port)
        asked = []

        def heard():
            with contextlib.suppress(BlockingIOError):
                asked.append(phone.recvfrom(200))
            return len(asked) >= 3

        until(one, heard)
        assert {request for request, _address in asked} == {ifacialmocap.REQUEST}
        assert "127.0.0.1 is asked again" in of(said, LiveStatus)[-1].error.hint


# --- expressions of the actor's own


def test_an_actor_file_that_cannot_be_used_is_told_until_it_was_recorded_again(session, monkeypatch, tmp_path):
    class Classifier:
        def read(self, face, image):
            return rng.normal(face, 0.1, FEATURES).astype(np.float32), np.full(7, 1 / 7, np.float32)

    class Labelling(Pipeline):
        labeller = Labeller(Classifier())

        def step(self, frame):
            self.labeller(frame.time, 1.0 if self.labeller.lesson.state else 0.0, frame.image)
            return super().step(frame)

    rng = np.random.default_rng(0)
    monkeypatch.setattr(live_module, "make_pipeline", Labelling)
    path = tmp_path / "Zoë.npz"
    path.write_bytes(b"no archive")
    live, said = session()
    live.tune(TuneLive(1, actor=str(path)))
    until(live, lambda: len(of(said, LiveFrame)) > 120)
    assert of(said, Expressions)[-1].error.code == "model-damaged"
    live.learn(LearnExpression(1, "smirk", 0.5))
    until(live, lambda: of(said, Expressions)[-1].state == "done")
    assert (of(said, Expressions)[-1].names, of(said, Expressions)[-1].error) == (("smirk",), None)
    assert path.with_suffix(".old1").read_bytes() == b"no archive"


# --- cameras


def test_linux_cameras_have_names(tmp_path, monkeypatch):
    for number, name, index in ((0, "HD Webcam", 0), (1, "HD Webcam", 1), (2, "Capture", 0), (10, "Capture", 0)):
        folder = tmp_path / f"video{number}"
        folder.mkdir()
        (folder / "name").write_text(name + "\n")
        (folder / "index").write_text(f"{index}\n")
    (tmp_path / "video3").mkdir()  # unplugged while we look
    monkeypatch.setattr(camera_module, "DEVICES", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert list_cameras() == [
        CameraInfo("0", "HD Webcam"),
        CameraInfo("2", "Capture (video2)"),
        CameraInfo("10", "Capture (video10)"),
    ]


def test_mac_cameras_have_names(monkeypatch):
    """As system_profiler tells them, in the order of OpenCV's numbers; numbers alone where it cannot be asked."""
    told = [{"_name": "Desk", "spcamera_unique-id": "0xB"}, {"_name": "FaceTime", "spcamera_unique-id": "0xA"}]
    answer = json.dumps({"SPCameraDataType": told}).encode()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(
        camera_module.subprocess, "run", lambda command, **_how: subprocess.CompletedProcess(command, 0, answer)
    )
    assert list_cameras() == [CameraInfo("0", "FaceTime"), CameraInfo("1", "Desk")]
    answer = b"nothing to read"
    assert [camera.id for camera in list_cameras()] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("which", "id"), [("", "0"), ("Webcam", "0"), ("2", "2"), ("Other", "2"), ("/dev/video2", "2"), ("7", "7")]
)
def test_cameras_are_found_by_name_and_number(which, id):
    assert find_camera(which, [CameraInfo("0", "Webcam"), CameraInfo("2", "Other")]).id == id


def test_a_camera_that_is_not_there():
    with pytest.raises(MienError) as error:
        find_camera("", [])
    assert error.value.code == "camera-none"
    with pytest.raises(MienError) as error:
        find_camera("My phone", [CameraInfo("0", "Webcam")])
    assert error.value.code == "camera-gone"
    assert "My phone" in error.value.message


def test_camera_settings_and_pictures(device):
    camera = Camera("Webcam", (1280, 720), 60.0)
    settings = camera._device.settings
    assert settings[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert settings[cv2.CAP_PROP_FPS] == 60
    assert settings[cv2.CAP_PROP_BUFFERSIZE] == 1
    moment, image = camera.read()
    assert 0 <= now() - moment < 0.5
    assert image[0, 0].tolist() == [30, 20, 10]  # RGB, where OpenCV gives BGR
    assert (camera.size, camera.fps, camera.name) == ((64, 48), 100.0, "Webcam")


def test_a_rate_is_asked_for_when_it_takes_no_format_back(device, monkeypatch):
    """For a rate DirectShow opens the camera anew, as it pleases; V4L2 knows rates of the format it has by then."""
    wishes = []
    monkeypatch.setattr(Device, "set", lambda self, what, value: wishes.append(what))
    size = [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT]
    for system, expected in (("win32", [cv2.CAP_PROP_FPS, *size]), ("linux", [*size, cv2.CAP_PROP_FPS])):
        monkeypatch.setattr(sys, "platform", system)
        wishes.clear()
        Camera("0", (1280, 720), 30.0)
        assert wishes[:4] == expected


def test_a_picture_that_is_waited_for_late_is_dated_late(device, monkeypatch):
    """DirectShow grabs at once, and waits for the picture when it is fetched."""

    def retrieve(_self):
        time.sleep(0.05)
        return True, BLACK

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Device, "retrieve", retrieve)
    camera = Camera("0")
    began = now()
    moment, _image = camera.read()
    assert moment - began >= 0.05


def test_what_windows_does_not_tell_of_a_camera_is_asked(device, monkeypatch):
    """Absent, busy and forbidden cameras look alike there."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Device, "plugged", False)
    with pytest.raises(MienError) as error:
        Camera("0")
    assert error.value.code == "camera-busy"
    assert "not there" in error.value.message
    assert "Privacy" in error.value.hint


def test_mirror_turns_the_picture(device, monkeypatch):
    picture = BLACK.copy()
    picture[:, :10] = 255
    monkeypatch.setattr(Device, "retrieve", lambda self: (True, picture))
    _moment, image = Camera(mirror=True).read()
    assert image[0, -1].tolist() == [255] * 3
    assert image[0, 0].tolist() == [0] * 3


@pytest.mark.parametrize(("age", "believed"), [(0.03, True), (-0.01, False), (5.0, False), (None, False)])
def test_the_drivers_stamp_is_believed_when_it_can_be(device, monkeypatch, age, believed):
    monkeypatch.setattr(Device, "stamps", age)
    moment, _image = Camera().read()
    assert (now() - moment > 0.025) == believed


def test_a_refused_camera_says_so(device, monkeypatch):
    def refuse(*_args):
        raise PermissionError(13, "no")

    monkeypatch.setattr(Device, "plugged", False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(camera_module.os, "open", refuse)
    with pytest.raises(MienError) as error:
        Camera()
    assert error.value.code == "camera-refused"
    monkeypatch.setattr(camera_module.os, "open", lambda *_args: (_ for _ in ()).throw(OSError(16, "busy")))
    with pytest.raises(MienError) as error:
        Camera()
    assert error.value.code == "camera-busy"


# --- the capture thread


class Source:
    """A source whose pictures come when the test says so."""

    name, size, fps, missed = "scripted", (64, 48), 30.0, 0

    def __init__(self):
        self.go = threading.Semaphore(0)
        self.error = None

    def read(self):
        assert self.go.acquire(timeout=20)
        if self.error:
            raise self.error
        return now(), BLACK

    def close(self):
        pass


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_newest_wins_unless_all_are_kept():
    source = Source()
    grabber = Grabber(lambda: source)
    source.go.release(5)
    wait_for(lambda: grabber.tally.captured == 5)
    assert (grabber.tally.waiting, grabber.tally.dropped) == (1, 4)
    assert grabber.take(0).index == 4
    grabber.keep_all = True
    source.go.release(7)
    wait_for(lambda: grabber.tally.captured == 12)
    assert [grabber.take(0).index for _ in range(7)] == list(range(5, 12))
    assert grabber.take(0.01) is None
    assert (grabber.tally.dropped, grabber.tally.lost) == (4, 0)
    source.error = MienError("end", "End.")
    source.go.release()
    grabber.close()


def test_the_queue_is_bounded(monkeypatch):
    monkeypatch.setattr(grabber_module, "BACKLOG_BYTES", 3 * BLACK.nbytes)
    source = Source()
    grabber = Grabber(lambda: source)
    grabber.keep_all = True
    source.go.release(8)
    wait_for(lambda: grabber.tally.captured == 8)
    assert (grabber.tally.waiting, grabber.tally.lost) == (3, 5)
    source.error = MienError("end", "End.")
    source.go.release()
    grabber.close()


def test_a_source_that_fails_is_opened_again(monkeypatch):
    monkeypatch.setattr(grabber_module, "RETRY", 0.02)
    opened = []

    def opener():
        opened.append(Source())
        if len(opened) == 2:
            raise ValueError("something nobody thought of")
        opened[-1].go.release(100)
        return opened[-1]

    grabber = Grabber(opener)
    wait_for(lambda: grabber.tally.captured >= 100)
    opened[0].error = MienError("camera-gone", "Gone.")
    opened[0].go.release()
    wait_for(lambda: grabber.state[0] == "lost")
    wait_for(lambda: len(opened) == 3 and grabber.tally.captured >= 200)
    assert grabber.state == ("live", None)
    opened[2].error = MienError("end", "End.")
    opened[2].go.release()
    grabber.close()


def test_a_silent_source_is_stalled(monkeypatch):
    monkeypatch.setattr(grabber_module, "STALL", 0.1)
    source = Source()
    grabber = Grabber(lambda: source)
    source.go.release(2)
    wait_for(lambda: grabber.tally.captured == 2)
    wait_for(lambda: grabber.state[0] == "stalled")
    assert grabber.state[1].code == "camera-slow"
    assert grabber.rate == 0.0
    source.error = MienError("end", "End.")
    source.go.release()
    grabber.close()


def make_clip(path, frames=30, fps=30):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), i * 8 % 256, np.uint8))
    writer.release()
    return path


def test_a_file_keeps_a_cameras_pace(tmp_path):
    """One second of video takes no less than one second, again and again, with stamps of this clock."""
    source = PacedFile(make_clip(tmp_path / "a.mp4"))
    began = now()
    stamps = [source.read()[0] for _ in range(45)]
    assert stamps[-1] - stamps[0] > 44 / 30 - 0.1
    assert began <= stamps[0]
    assert stamps[-1] <= now()
    assert (np.diff(stamps) > 0).all()
    source.close()


# --- a session


def test_frames_pictures_and_status(session):
    one, said = session()
    one.tune(TuneLive(1, picture=64))
    until(one, lambda: len(of(said, LiveFrame)) > 20 and of(said, LivePicture))
    assert len(of(said, LivePicture)) == 1  # until that was taken
    one.picture_taken()
    until(one, lambda: len(of(said, LivePicture)) == 2)
    frame = of(said, LiveFrame)[-1]
    assert frame.captured <= frame.began <= frame.solved <= now()
    assert frame.result.found
    states = [status.state for status in of(said, LiveStatus)]
    assert states[0] == "loading"
    assert states[-1] == "live"
    assert of(said, LiveStatus)[-1].source == "Webcam"
    one.stop()
    assert of(said, LiveStatus)[-1].state == "stopped"
    assert threading.active_count() < 20


def test_a_slow_model_shows_the_newest_picture(session, monkeypatch):
    one, _said = session()
    monkeypatch.setattr(Pipeline, "pause", 0.05)
    step, newer = Pipeline.step, []

    def count(self, frame):
        newer.append(one._grabber.tally.captured - frame.index - 1)
        return step(self, frame)

    monkeypatch.setattr(Pipeline, "step", count)
    until(one, lambda: len(newer) > 15)
    assert np.median(newer) == 0
    assert one._grabber.tally.dropped > 15


def test_a_recording_keeps_every_picture(session, tmp_path, monkeypatch):
    """Also with a model that is three times slower than the camera; the live stream had dropped most."""
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    monkeypatch.setattr(Pipeline, "pause", 0.03)
    one.record(Record(1, str(tmp_path / "a.mien"), scene_frame=12.5))
    until(one, lambda: of(said, TakeStatus)[-1].frames >= 25)
    one.end_take()
    until(one, lambda: not of(said, TakeStatus)[-1].recording)
    status = of(said, TakeStatus)[-1]
    with Take(tmp_path / "a.mien") as take:
        assert len(take) == status.frames >= 25
        assert (np.diff(take.column("index")) == 1).all()
        assert take.times[0] == 0
        assert take.duration == pytest.approx(status.duration)
        assert take.header.extra["scene_frame"] == 12.5
        assert take.header.source == "Webcam"
    assert (status.lost, status.error) == (0, None)


def test_a_take_is_placed_where_the_timeline_was_at_its_first_picture(session, device, tmp_path):
    """The camera opens only a second after the timeline began to play."""
    device.plugged = False
    one, said = session()
    pressed = now()
    one.record(Record(1, str(tmp_path / "a.mien"), 40.0, 24.0, pressed))
    end = now() + 1.0
    until(one, lambda: now() > end)
    device.plugged = True
    until(one, lambda: of(said, TakeStatus)[-1].frames >= 5)
    first = of(said, LiveFrame)[0].result.time
    one.end_take()
    until(one, lambda: not of(said, TakeStatus)[-1].recording)
    assert first - pressed > 1.0
    with Take(tmp_path / "a.mien") as take:
        assert take.header.extra["scene_frame"] == pytest.approx(40.0 + (first - pressed) * 24.0, abs=1.0)
        assert take.header.extra["live"]
        assert take.times[0] == 0.0


def test_a_take_that_follows_at_once_cuts_nothing_off_the_one_before(session, tmp_path, monkeypatch):
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    monkeypatch.setattr(Pipeline, "pause", 0.03)
    one.record(Record(1, str(tmp_path / "a.mien")))
    until(one, lambda: of(said, TakeStatus)[-1].frames >= 15)
    waiting = one._grabber.tally.waiting
    assert waiting > 10
    frames = of(said, TakeStatus)[-1].frames
    one.record(Record(1, str(tmp_path / "b.mien")))
    until(one, lambda: any(not status.recording for status in of(said, TakeStatus)))
    until(one, lambda: of(said, TakeStatus)[-1].frames >= 5)
    one.stop()
    with Take(tmp_path / "a.mien") as first, Take(tmp_path / "b.mien") as second:
        assert len(first) >= frames + waiting - 1
        assert len(second) > 5
        for take in (first, second):
            assert (np.diff(take.column("index")) == 1).all()
    ended = [status for status in of(said, TakeStatus) if not status.recording]
    assert [(Path(status.take).name, status.lost) for status in ended] == [("a.mien", 0), ("b.mien", 0)]


def test_every_picture_is_accounted_for(session, device, tmp_path, monkeypatch):
    """With a slow model, a queue too small for the recording, a Blender that does not read and a camera that goes."""
    monkeypatch.setattr(grabber_module, "BACKLOG_BYTES", 4 * BLACK.nbytes)
    monkeypatch.setattr(grabber_module, "RETRY", 0.05)
    one, said = session()
    monkeypatch.setattr(Pipeline, "pause", 0.03)
    offered, results, reports = [], [], []

    def emit(message, droppable=False):
        if isinstance(message, LiveStatus) and message.captured:
            fates = message.dropped + message.lost + message.waiting + message.unsent + len(results)
            reports.append((message.captured, fates))
        if isinstance(message, LiveFrame):
            offered.append(message)
            if len(offered) % 7 == 0:
                return False  # Blender has not read for long
            results.append(message)
        said.append(message)
        return True

    one._emit = emit
    until(one, lambda: len(of(said, LiveFrame)) > 5)
    one.record(Record(1, str(tmp_path / "a.mien")))
    until(one, lambda: of(said, LiveStatus)[-1].lost > 5)
    one.end_take()
    until(one, lambda: not of(said, TakeStatus)[-1].recording)
    monkeypatch.setattr(Device, "plugged", False)
    until(one, lambda: of(said, LiveStatus)[-1].state == "lost")
    monkeypatch.setattr(Device, "plugged", True)
    count = len(reports)
    until(one, lambda: of(said, LiveStatus)[-1].state == "live" and len(reports) > count + 3)
    last = of(said, LiveStatus)[-1]
    assert min(last.dropped, last.lost, last.unsent) > 0
    assert all(captured == fates for captured, fates in reports)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks into /proc")
def test_a_long_queue_leaves_no_memory_behind():
    """Pictures that waited while a take was recorded, between other things that stay: glibc alone keeps their room."""

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    give_memory_back()
    before = resident()
    kept, queue = [], []
    for _ in range(2):  # what is let go of once comes from the heap from then on
        for _ in range(300):
            queue.append(np.ones(400_000, np.uint8))
            kept.append(bytearray(5000))
        queue.clear()
    give_memory_back()
    assert resident() - before < 10.0


def test_frames_are_in_the_take_before_they_are_sent(session, tmp_path):
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    path = tmp_path / "a.mien"
    one.record(Record(1, str(path)))
    written = []
    emit = one._emit

    def check(message, droppable=False):
        if isinstance(message, LiveFrame):
            with Take(path) as take:
                written.append(len(take))
        emit(message, droppable=droppable)

    one._emit = check
    until(one, lambda: len(written) >= 10)
    assert np.all(np.diff(written[1:]) == 1)


def test_takes_one_after_another_without_a_new_camera(session, tmp_path):
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    for name in "abc":
        path = str(tmp_path / f"{name}.mien")
        one.record(Record(1, path))
        # The last word may still be the one before's.
        until(one, lambda path=path: (last := of(said, TakeStatus)[-1]).take == path and last.frames > 5)
    one.stop()
    assert sum(not status.recording for status in of(said, TakeStatus)) == 3
    for name in "abc":
        with Take(tmp_path / f"{name}.mien") as take:
            assert len(take) > 5
            assert not take.truncated


def test_a_take_that_cannot_be_written(session, tmp_path):
    one, said = session()
    one.record(Record(1, str(tmp_path / "no" / "folder.mien")))
    status = of(said, TakeStatus)[-1]
    assert not status.recording
    assert status.error.code == "take-not-written"
    until(one, lambda: len(of(said, LiveFrame)) > 3)  # live goes on


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_take_and_not_the_session(session):
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    one.record(Record(1, "/dev/full"))
    until(one, lambda: of(said, TakeStatus) and not of(said, TakeStatus)[-1].recording)
    assert of(said, TakeStatus)[-1].error.code == "disk-full"
    count = len(of(said, LiveFrame))
    until(one, lambda: len(of(said, LiveFrame)) > count + 5)


def test_disk_fills_up_while_recording(session, tmp_path, monkeypatch):
    """A limit on the size of files stands for the disk: the frames before are kept and read."""
    resource = pytest.importorskip("resource")
    import signal

    monkeypatch.setattr(signal, "SIGXFSZ", signal.SIGXFSZ)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        one.record(Record(1, str(tmp_path / "a.mien")))
        until(one, lambda: not of(said, TakeStatus)[-1].recording)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    status = of(said, TakeStatus)[-1]
    assert status.error.code == "disk-full"
    with Take(tmp_path / "a.mien") as take:
        assert len(take) == status.frames > 5


def test_camera_unplugged_while_recording_and_back(session, device, tmp_path, monkeypatch):
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    one.record(Record(1, str(tmp_path / "a.mien")))
    until(one, lambda: of(said, TakeStatus)[-1].frames > 5)
    monkeypatch.setattr(Device, "plugged", False)
    until(one, lambda: of(said, LiveStatus)[-1].state == "lost")
    assert of(said, LiveStatus)[-1].error.hint
    monkeypatch.setattr(Device, "plugged", True)
    until(one, lambda: of(said, LiveStatus)[-1].state == "live")
    frames = of(said, TakeStatus)[-1].frames
    until(one, lambda: of(said, TakeStatus)[-1].frames > frames)
    one.stop()
    with Take(tmp_path / "a.mien") as take:
        assert (np.diff(take.times) > 0).all()


@pytest.mark.parametrize(
    ("errno", "code"),
    [(16, "camera-busy"), (13, "camera-refused"), (2, "camera-gone")],
    ids=["busy", "refused", "gone"],
)
def test_a_camera_that_cannot_be_had_yet(session, device, monkeypatch, errno, code):
    """Told in words, tried again, and live as soon as it can be had."""

    def fails(*_args):
        raise OSError(errno, "no")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(grabber_module, "RETRY", 0.05)
    monkeypatch.setattr(Device, "plugged", False)
    opened = camera_module.os.open
    monkeypatch.setattr(camera_module.os, "open", fails)
    one, said = session()
    until(one, lambda: of(said, LiveStatus)[-1].state == "lost")
    error = of(said, LiveStatus)[-1].error
    assert error.code == code
    assert error.hint
    monkeypatch.setattr(camera_module.os, "open", opened)
    monkeypatch.setattr(Device, "plugged", True)
    until(one, lambda: of(said, LiveStatus)[-1].state == "live" and of(said, LiveFrame))
    assert of(said, LiveStatus)[-1].error is None


def test_a_slow_camera_is_told_and_followed(session, device, monkeypatch):
    """A picture every 0.4 s, as in the dark: live at that rate, and stalled when even those stop."""
    monkeypatch.setattr(grabber_module, "STALL", 0.6)
    slow = [0.4]
    grab = Device.grab

    def slow_grab(self):
        time.sleep(slow[0])
        return grab(self)

    monkeypatch.setattr(Device, "grab", slow_grab)
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 2)
    assert of(said, LiveStatus)[-1].state == "live"
    assert 1.0 < of(said, LiveStatus)[-1].camera_fps < 3.0
    slow[0] = 2.0
    until(one, lambda: of(said, LiveStatus)[-1].state == "stalled")
    assert of(said, LiveStatus)[-1].error.code == "camera-slow"
    slow[0] = 0.0
    until(one, lambda: of(said, LiveStatus)[-1].state == "live")


@pytest.mark.parametrize("jump", [-1000.0, 3600.0])
def test_a_jumping_clock(session, tmp_path, monkeypatch, jump):
    """A driver's clock that jumps: times in the take rise, values stay finite, live goes on."""
    moment = [0.0]
    read = Camera.read
    monkeypatch.setattr(Camera, "read", lambda self: (read(self)[0] + moment[0], BLACK))
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    one.record(Record(1, str(tmp_path / "a.mien")))
    until(one, lambda: of(said, TakeStatus)[-1].frames > 5)
    moment[0] = jump
    count = len(of(said, LiveFrame))
    until(one, lambda: len(of(said, LiveFrame)) > count + 20)
    moment[0] = 0.0
    until(one, lambda: len(of(said, LiveFrame)) > count + 40)
    one.stop()
    with Take(tmp_path / "a.mien") as take:
        assert (np.diff(take.times) > 0).all()


def test_the_time_of_day_does_not_matter(session, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 5)
    assert all(0 <= frame.solved - frame.captured < 5 for frame in of(said, LiveFrame))


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_network_in_and_out(session, tmp_path):
    """A face that comes as Live Link Face goes on the rig, into a take, and out again as VMC."""
    port_in, port_out = free_port(), free_port()
    one, said = session(source="network", name="livelink", port=port_in)
    with NetworkSource("vmc", port_out) as listener, LiveLinkFaceSender(port=port_in) as phone:
        one.tune(TuneLive(1, smoothing=0.0, neutral="none", outputs=(Output("vmc", "127.0.0.1", port_out),)))
        one.record(Record(1, str(tmp_path / "a.mien")))
        came = []
        for i in range(200):
            phone.send(FrameResult(i, now(), found=True, arkit=np.full(52, 0.25)))
            one.step()
            came += listener.poll()
            if len(came) > 5:
                break
        assert came[-1].arkit == pytest.approx(np.full(52, 0.25), abs=0.01)
    status = of(said, LiveStatus)[-1]
    assert status.state == "live"
    one.stop()
    with Take(tmp_path / "a.mien") as take:
        assert len(take) > 5
        assert take[len(take) - 1].arkit == pytest.approx(np.full(52, 0.25), abs=0.01)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "own"])
def test_what_comes_in_is_not_sent_out_to_the_same_port(session, host):
    if host == "own" and not (host := lan_address()):
        pytest.skip("needs a network")
    port, other = free_port(), free_port()
    one, said = session(source="network", name="livelink", port=port, lan=True)
    with NetworkSource("vmc", other) as listener, LiveLinkFaceSender(port=port, subject="phone") as phone:
        one.tune(TuneLive(1, outputs=(Output("livelink", host, port), Output("vmc", "127.0.0.1", other))))

        def act():
            phone.send(FrameResult(0, now(), found=True))
            return of(said, LiveStatus)[-1].state == "live"

        until(one, act)
        assert of(said, LiveStatus)[-1].error.code == "output-loops"
        until(one, lambda: one._network.state == "stale")
        assert one._network.subject == "phone"
        assert listener.poll()  # what is sent elsewhere is not held up by it
        one.tune(TuneLive(1, outputs=(Output("vmc", "127.0.0.1", other),)))
        assert one._trouble is None


def test_others_programs_on_both_ends(session):
    """pylivelinkface's packets come in, python-osc's server gets VMC: neither end is ours."""
    dispatcher = Dispatcher()
    heard = {}
    dispatcher.map("/VMC/Ext/Blend/Val", lambda _address, name, value: heard.update({name: value}))
    server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
    server.timeout = 0.05
    port_in, port_out = free_port(), server.server_address[1]
    one, _said = session(source="network", name="livelink", port=port_in)
    one.tune(TuneLive(1, smoothing=0.0, neutral="none", outputs=(Output("vmc", "127.0.0.1", port_out),)))
    phone = PyLiveLinkFace("phone", "6F1B9C2A-1111-4222-8333-944455556666")
    phone.set_blendshape(FaceBlendShape.JawOpen, 0.75, no_filter=True)
    with server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(100):
            sock.sendto(phone.encode(), ("127.0.0.1", port_in))
            one.step()
            server.handle_request()
            if len(heard) == 52 and heard["JawOpen"] > 0.7:
                break
    assert heard["JawOpen"] == pytest.approx(0.75, abs=0.01)
    assert len(heard) == 52


def test_network_tells_that_it_waits(session):
    one, said = session(source="network", name="vmc", port=free_port())
    until(one, lambda: len(of(said, LiveStatus)) > 1)
    assert of(said, LiveStatus)[-1].state == "opening"
    assert "this machine alone" in of(said, LiveStatus)[-1].error.hint
    assert "tick Local Network" in of(said, LiveStatus)[-1].error.hint


def test_the_network_tells_of_another_format(session):
    port = free_port()
    one, said = session(source="network", name="livelink", port=port)
    until(one, lambda: len(of(said, LiveStatus)) > 1)
    with VmcSender(port=port) as program:
        program.send(FrameResult(0, now(), found=True))
        until(one, lambda: of(said, LiveStatus)[-1].error.code == "network-other-format")
    assert of(said, LiveStatus)[-1].state == "opening"
    with LiveLinkFaceSender(port=port) as phone:
        phone.send(FrameResult(1, now(), found=True))
        until(one, lambda: of(said, LiveStatus)[-1].state == "live")
    assert of(said, LiveStatus)[-1].error is None


def test_the_network_tells_what_to_type_into_the_app(session):
    port = free_port()
    one, said = session(source="network", name="livelink", port=port, lan=True)
    until(one, lambda: len(of(said, LiveStatus)) > 1)
    hint = of(said, LiveStatus)[-1].error.hint
    assert hint.startswith("Type into the app: ")
    assert hint.endswith(f"port {port}.")
    assert lan_address() in hint


def test_a_phone_outside_this_machine_needs_the_switch(session):
    one, _said = session(source="network", name="ifacialmocap", port=free_port(), host="192.168.1.7")
    with pytest.raises(MienError) as error:
        one.step()
    assert error.value.code == "network-not-allowed"
    assert "tick Local Network" in error.value.hint


def test_a_port_that_is_taken(session):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(MienError) as error:
            session(source="network", name="vmc", port=other.getsockname()[1])
    assert error.value.code == "port-busy"


def test_lan_addresses_need_the_switch(session):
    one, said = session()
    one.tune(TuneLive(1, outputs=(Output("vmc", "192.168.1.7", 39539),)))
    until(one, lambda: of(said, LiveStatus)[-1].state == "live")
    assert of(said, LiveStatus)[-1].error.code == "network-not-allowed"
    one.tune(TuneLive(1))
    until(one, lambda: of(said, LiveStatus)[-1].error is None)


def test_calibration(session, monkeypatch):
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    one.calibrate(clear=False)
    until(one, lambda: of(said, LiveStatus)[-1].neutral == "done")
    until(one, lambda: abs(of(said, LiveFrame)[-1].result.units[0]) < 0.01)  # 0.5 was its rest
    one.calibrate(clear=True)
    until(one, lambda: of(said, LiveStatus)[-1].neutral == "")


def test_calibration_without_a_face(session, monkeypatch):
    monkeypatch.setattr(live_module, "_CALIBRATION_PATIENCE", 0.2)
    monkeypatch.setattr(Pipeline, "step", lambda self, frame: FrameResult(frame.index, frame.time))
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    one.calibrate(clear=False)
    until(one, lambda: of(said, LiveStatus)[-1].neutral == "failed")


def test_calibration_with_a_face_that_only_flashed_up(session, monkeypatch):
    monkeypatch.setattr(live_module, "_CALIBRATION_PATIENCE", 0.2)
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    one.calibrate(clear=False)
    seen = iter(now() + np.array([0.0, 0.05, 0.1]))

    def step(self, frame):
        time = next(seen, None)
        return FrameResult(frame.index, frame.time if time is None else time, found=time is not None)

    monkeypatch.setattr(Pipeline, "step", step)
    until(one, lambda: of(said, LiveStatus)[-1].neutral not in ("", "running"))
    assert of(said, LiveStatus)[-1].neutral == "failed"


def test_calibration_without_pictures(session, device, monkeypatch):
    monkeypatch.setattr(live_module, "_CALIBRATION_PATIENCE", 0.2)
    one, said = session()
    until(one, lambda: len(of(said, LiveFrame)) > 3)
    monkeypatch.setattr(Device, "plugged", False)
    until(one, lambda: of(said, LiveStatus)[-1].state == "lost")
    one.calibrate(clear=False)
    until(one, lambda: of(said, LiveStatus)[-1].neutral == "failed")


# --- solving live


def test_neutral_survives_the_header():
    results = [FrameResult(i, i / 30, found=True, units=np.full(11, 0.2)) for i in range(5)]
    neutral = Neutral.of(results)
    again = Neutral.from_dict(neutral.to_dict())
    assert np.allclose(again.weights, neutral.weights)
    for nonsense in (None, 3, {}, {"weights": [1], "head": [1, 0, 0, 0]}, {**neutral.to_dict(), "head": [0, 0, 0, 0]}):
        assert Neutral.from_dict(nonsense) is None
    assert Neutral.from_dict({**neutral.to_dict(), "gaze": [10**400, 0]}) is None
    assert Neutral.of([FrameResult(0, 0.0)]) is None


def test_a_calibrated_take_has_its_rest_taken_out():
    neutral = Neutral.of([FrameResult(0, 0.0, found=True, units=np.full(11, 0.2))])

    class FakeTake:
        header = TakeHeader("memory", extra={"neutral": neutral.to_dict()})
        times = np.arange(20) / 30

        def column(self, name, at=None):
            rows = [FrameResult(i, t, found=True, units=np.full(11, 0.2)) for i, t in enumerate(self.times)]
            values = np.array([getattr(row, name) for row in rows])
            return values if at is None else values[:, at]

    assert solve_take(FakeTake(), SolveOptions()).units.max() < 1e-3


def test_prediction_leads():
    """On a steady movement, prediction takes the lag away that smoothing brings."""
    errors = {}
    for prediction in (0.0, 0.05):
        solver = Solver(SolveOptions(neutral="none", prediction=prediction))
        for i in range(60):
            value = i / 100
            out = solver.step(FrameResult(i, i / 30, found=True, units=np.full(11, value)))
        errors[prediction] = abs(float(out.units[0]) - value)
    assert errors[0.05] < 0.7 * errors[0.0]
    with pytest.raises(ValueError, match="prediction"):
        SolveOptions(prediction=MAX_PREDICTION * 2)


@pytest.mark.parametrize(("neutral", "shown"), [("none", 0.4), ("auto", 0.0)])
def test_tuning_keeps_the_pose(neutral, shown):
    solver = Solver(SolveOptions(neutral=neutral, smoothing=0.8))
    told = []
    for i in range(330):
        if i == 300:
            solver.tune(dataclasses.replace(solver.options, smoothing=0.1, prediction=0.05))
        told.append(solver.step(FrameResult(i, i / 30, found=True, units=np.full(11, 0.4))).units)
    assert told[299] == pytest.approx(np.full(11, shown), abs=0.02)
    assert np.array(told[300:]) == pytest.approx(np.tile(told[299], (30, 1)), abs=0.02)


# --- the small picture


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (1920, 1080), (3, 5000), (2000, 4)])
def test_small_pictures_are_bounded(shape):
    image = np.zeros((*shape, 3), np.uint8)
    image[: shape[0] // 2] = 200
    found = FrameResult(0, 0.0, found=True, box=(-50, -50, 1e5, 1e5), points68=np.full((68, 2), -1e4))
    width, height, pixels = small_picture(image, found, 192)
    assert width <= 192
    assert height <= PICTURE_HEIGHT
    assert len(pixels) == width * height * 4
    LivePicture(1, width, height, pixels)
    rows = np.frombuffer(pixels, np.uint8).reshape(height, width, 4)
    if height > 10:
        assert rows[-3, width // 2, 0] > rows[2, width // 2, 0]  # the lowest row comes first
    assert (rows[..., 3] == 255).all()
