"""Everything that a person can get wrong: a clear message, and nothing changed in the scene.

Through the operator and Mien's own worker; what the worker refuses is asked of `mien capture` as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from mien.addon import session
from mien.addon.capturing import CaptureJob
from mien.core.client import WorkerClient
from mien.core.files import PART_SUFFIX
from mien.core.protocol import Progress
from mien.core.take import Take
from mien.tests.needs import needs_ffmpeg

from .conftest import PERFORMANCE, curves_of, make_rig, needs_worker
from .test_operators import CAPTURE
from .test_targets import library, override  # noqa: F401

pytestmark = [needs_worker, needs_ffmpeg]


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Twelve pictures of a face in 0.8 s, every other one whole, so that half of the file shows some."""
    path = tmp_path_factory.mktemp("clip") / "face.mp4"
    wide = "fps=15,scale=-2:270,pad=480:270:-1:-1"
    ffmpeg("-t", "0.8", "-i", PERFORMANCE, "-vf", wide, "-g", "2", "-movflags", "faststart", path)
    return path


@pytest.fixture
def scene(rig, tmp_path):
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(tmp_path / "takes")
    bpy.context.scene.mien.target = rig
    return bpy.context.scene


def bake_fails() -> str:
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.mien.bake("EXEC_DEFAULT")
    assert session.outcome.failed
    message, hint = session.outcome.lines
    assert message.endswith(".")
    assert hint.endswith(".") or Path(hint.rpartition(" ")[2].rstrip(".")).is_absolute()
    assert f"{message} {hint}" in str(caught.value)
    return message


def takes(tmp_path):
    return sorted(path.name for path in (tmp_path / "takes").glob("*"))


# --- sources that cannot be captured: (maker, code, words of the message)


def empty(path, clip):
    path.touch()


def cut_before_its_index(path, clip):
    data = clip.read_bytes()
    path.write_bytes(data[: data.index(b"moov")])


def not_a_video(path, clip):
    path.write_text("Dear diary, " * 500)


def audio_only(path, clip):
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", path)


def no_face(path, clip):
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.4:r=10:s=320x240", path)


def tiny(path, clip):
    ffmpeg("-i", clip, "-frames:v", "3", "-vf", "scale=16:16", path)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (empty, "source-empty", "is empty"),
        (cut_before_its_index, "video-truncated", "is cut off"),
        (not_a_video, "not-a-video", "is not a video"),
        (audio_only, "video-no-picture", "sound but no picture"),
        (no_face, "no-face", "No face was found in any of the 4 pictures"),
        (tiny, "no-face", "No face was found in any of the 3 pictures"),
    ],
)
def test_sources_that_are_refused(scene, clip, tmp_path, unchanged, mien_command, make, code, words):
    path = tmp_path / "bad ü.mp4"
    make(path, clip)
    scene.mien.source = str(path)
    unchanged()
    message = bake_fails()
    assert words in message
    assert path.name in message
    assert takes(tmp_path) == []

    command = [*mien_command, "capture", str(path), "--out", str(tmp_path / "cli" / "x.mien"), "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["message"]) == (1, code, message)
    assert error["hint"]
    assert list((tmp_path / "cli").iterdir()) == []


# --- sources that are odd, and bake


def bake(scene, path) -> Take:
    """Bake, check that the keys are sound, and return the take."""
    scene.mien.source = str(path)
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    keys = curves_of(scene.mien.target.data.shape_keys)
    assert len(keys) == 11
    turns = curves_of(scene.mien.target.parent)
    for curves, low, high in ((keys, 0.0, 1.0), (turns, -1.001, 1.001)):
        for curve in curves.values():
            values = [curve.evaluate(frame) for frame in range(0, scene.frame_end + 2)]
            assert np.isfinite(values).all()
            assert low <= min(values) <= max(values) <= high
    return Take(scene.mien.take)


def told_that_it_is_cut() -> bool:
    return any("cut or damaged" in line for line in session.outcome.lines)


def test_cut_in_the_middle(scene, clip, tmp_path):
    path = tmp_path / "cut.mp4"
    data = clip.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 5])
    with bake(scene, path) as take:
        assert 2 <= len(take) < 12
    assert told_that_it_is_cut()


def test_rate_of_0_in_the_header(scene, clip, tmp_path):
    path = tmp_path / "zero.avi"
    ffmpeg("-i", clip, "-c:v", "mjpeg", "-q:v", "3", path)
    data = bytearray(path.read_bytes())
    stream, main = data.index(b"strh") + 8, data.index(b"avih") + 8
    data[stream + 20 : stream + 28] = bytes(8)  # dwScale, dwRate
    data[main : main + 4] = bytes(4)  # dwMicroSecPerFrame
    path.write_bytes(data)
    with bake(scene, path) as take:
        assert len(take) == 12
        assert (np.diff(take.times) > 0.01).all()
    assert not told_that_it_is_cut()


def test_time_scale_of_0(scene, clip, tmp_path):
    """FFmpeg takes each picture for one of a thousand seconds, and gives up after the first."""
    path = tmp_path / "zero.mp4"
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdhd") + 16
    data[start : start + 4] = bytes(4)
    path.write_bytes(data)
    bake(scene, path).close()
    assert scene.frame_end < 1000
    assert told_that_it_is_cut()


def test_one_picture(scene, clip, tmp_path):
    path = tmp_path / "one.mp4"
    ffmpeg("-i", clip, "-frames:v", "1", path)
    with bake(scene, path) as take:
        assert len(take) == 1
    assert session.outcome.lines[0].startswith("Frames 1 to 1,")
    assert not told_that_it_is_cut()


def test_4k(scene, clip, tmp_path):
    path = tmp_path / "4k.mp4"
    ffmpeg("-i", clip, "-frames:v", "3", "-vf", "scale=3840:2160", "-preset", "ultrafast", path)
    with bake(scene, path) as take:
        assert take.header.size == (3840, 2160)
        assert take.column("found").all()


@pytest.mark.data
def test_of_two_faces_one_is_followed_throughout(scene, data, tmp_path):
    """Two actors side by side: the performance never jumps from one to the other."""
    path = tmp_path / "two.mp4"
    one, other = data / "video" / "d3.mp4", data / "video" / "d0.mp4"
    scaled = "[0:v]fps=15,scale=256:256[a];[1:v]fps=15,scale=256:256[b];[a][b]hstack"
    ffmpeg("-t", "1.5", "-i", one, "-t", "1.5", "-i", other, "-filter_complex", scaled, "-an", path)
    with bake(scene, path) as take:
        assert take.column("found").mean() > 0.9
        boxes = take.column("box")[take.column("found").astype(bool)]
        centres = boxes[:, 0] + boxes[:, 2] / 2
        assert len(set(centres > 256)) == 1
        assert np.ptp(centres) < 80


@pytest.mark.data
@pytest.mark.parametrize("name", ["face_noface.mov", "noface_face.mov"])
def test_a_face_that_leaves_or_comes(scene, data, name):
    bake(scene, data / "video" / name).close()
    key = curves_of(scene.mien.target.data.shape_keys)
    head = curves_of(scene.mien.target.parent)
    frames = range(1, scene.frame_end + 1)
    turns = [
        np.array([head[f'pose.bones["{bone}"].rotation_quaternion', i].evaluate(frame) for i in range(4)])
        for bone in ("neck", "head")
        for frame in frames
    ]
    # In face_noface.mov a title passes for a face in one frame, and once turned the head by half a right angle.
    assert 2 * np.degrees(np.arccos(min(min(turn[0] for turn in turns), 1.0))) < 10
    gone = frames[-1] - 5 if name.startswith("face") else 5
    for curve in key.values():
        assert curve.evaluate(gone) < 0.02
    assert "Face in 7" in session.outcome.lines[1]


# --- heads that cannot be baked on: refused before anything is captured


@pytest.fixture
def ready(scene, clip):
    scene.mien.source = str(clip)
    return scene


def refused_at_once(scene, mesh, unchanged, tmp_path, words):
    scene.mien.target = mesh
    unchanged()
    assert words in bake_fails()
    assert takes(tmp_path) == []


@pytest.mark.parametrize("keys", [(), ("Key 1", "grin")])
def test_a_rig_without_the_keys(ready, unchanged, tmp_path, keys):
    refused_at_once(ready, make_rig(keys=keys), unchanged, tmp_path, "shape keys")


@pytest.mark.parametrize("part", ["mesh", "armature"])
def test_edit_mode(ready, rig, unchanged, tmp_path, part):
    bpy.context.view_layer.objects.active = rig if part == "mesh" else rig.parent
    bpy.ops.object.mode_set(mode="EDIT")
    refused_at_once(ready, rig, unchanged, tmp_path, "is in Edit Mode")
    assert bpy.context.object.mode == "EDIT"


@pytest.fixture
def linked(library, clip, tmp_path):  # noqa: F811
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(tmp_path / "takes")
    bpy.context.scene.mien.source = str(clip)
    return library


def test_a_linked_rig(linked, unchanged, tmp_path):
    refused_at_once(bpy.context.scene, linked, unchanged, tmp_path, "is linked from library.blend")


def test_an_override_whose_keys_are_linked(linked, unchanged, tmp_path):
    mesh = override(linked)
    refused_at_once(bpy.context.scene, mesh, unchanged, tmp_path, "belong to a linked mesh")


def test_an_override_of_mesh_and_rig_bakes(linked, tmp_path):
    mesh = override(linked)
    mesh.data.override_create(remap_local_usages=True)
    bpy.context.scene.mien.target = mesh
    bake(bpy.context.scene, bpy.context.scene.mien.source).close()


def test_edit_mode_while_it_captures(scene, rig, tmp_path, unchanged, fake_worker, monkeypatch):
    """The capture is not lost: its take is there when Edit Mode is left."""
    source = tmp_path / "actor.mp4"
    source.write_bytes(b"not looked at by the fake worker")
    scene.mien.source = str(source)
    fake_worker(CAPTURE)
    bpy.context.view_layer.objects.active = rig
    wait = CaptureJob.wait

    def wait_and_edit(job):
        wait(job)
        bpy.ops.object.mode_set(mode="EDIT")
        unchanged()

    monkeypatch.setattr(CaptureJob, "wait", wait_and_edit)
    assert "is in Edit Mode" in bake_fails()
    assert len(takes(tmp_path)) == 1
    (path,) = (tmp_path / "takes").iterdir()
    assert len(Take(path)) == 50


# --- a machine that does not play along


def test_a_missing_model(ready, unchanged, tmp_path, fake_worker):
    fake_worker(
        "from core import models\n"
        f"models.folders = lambda: [__import__('pathlib').Path({str(tmp_path / 'models')!r})]\n"
        "return jobs.capture(source, take, on_progress=on_progress, is_cancelled=is_cancelled, **more)"
    )
    unchanged()
    message = bake_fails()
    assert "face_landmarker.task was not found" in message
    assert str(tmp_path / "models") in message
    assert "install the Mien extension again" in session.outcome.lines[1]
    assert takes(tmp_path) == []


@pytest.mark.data
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_worker_killed_at_work(scene, data, unchanged, tmp_path, monkeypatch):
    """What it had captured is kept, and the message says where; the next try begins anew."""
    scene.mien.source = str(data / "video" / "d11.mp4")
    poll = WorkerClient.poll

    def poll_and_kill(client):
        events = poll(client)
        if any(isinstance(event, Progress) and event.frame > 2 for event in events):
            os.kill(client.pid, signal.SIGKILL)
        return events

    monkeypatch.setattr(WorkerClient, "poll", poll_and_kill)
    unchanged()
    assert "SIGKILL" in bake_fails()
    (part,) = (tmp_path / "takes").iterdir()
    assert part.name.endswith(PART_SUFFIX)
    assert str(part) in session.outcome.lines[1]
    with Take(part) as take:
        assert len(take) > 2
