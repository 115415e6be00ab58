"""What Mien does about Blender's own events."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy")

from mien.addon import handlers, live, session  # noqa: E402
from mien.addon.rendering import write_as  # noqa: E402
from mien.addon.rig.puppet import Channels, Sample  # noqa: E402

from .conftest import make_rig  # noqa: E402

FACE = Sample([0.7] * 11, [0.7] * 52, [1.0, 0.0, 0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]])


def call(event):
    """Tell an event as Blender does."""
    for handler in getattr(bpy.app.handlers, event)[:]:
        handler(bpy.context.scene, None)


@pytest.fixture
def cast(monkeypatch):
    """The rig of a live session."""
    made = live.make_cast([make_rig()], Channels())
    monkeypatch.setattr(session, "live", SimpleNamespace(running=True, recording=False, cast=made))
    return made


def test_a_film_that_cannot_be_opened_holds_the_rig_no_longer_than_its_render(cast, tmp_path):
    scene = bpy.context.scene
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(scene.camera)
    scene.render.engine = "CYCLES"
    write_as(scene.render, "FFMPEG")
    (tmp_path / "file").touch()
    scene.render.filepath = str(tmp_path / "file" / "film.mp4")
    with contextlib.suppress(RuntimeError):  # which Blender 5.2 does not raise
        bpy.ops.render.render(animation=True)
    assert cast.still
    assert bpy.app.timers.is_registered(handlers.go_on_after_rendering)
    handlers.go_on_after_rendering()
    assert not cast.still


def test_a_render_job_holds_the_rig_until_it_has_ended_whatever_blender_tells(cast, monkeypatch):
    rendering = [True]
    app = SimpleNamespace(is_job_running=lambda kind: kind == "RENDER" and rendering[0])
    for module in (handlers, live):
        monkeypatch.setattr(module, "bpy", SimpleNamespace(app=app))
    handlers.hold_while_rendering()
    assert cast.still
    rendering[0] = False
    assert not cast.still


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("save_pre", "save_post"),
        ("save_pre", "save_post_fail"),
        ("render_init", "render_complete"),
        ("render_init", "render_cancel"),
    ],
)
def test_what_holds_the_rig_lets_go_of_it_however_it_ends(cast, begin, end):
    smile = cast.puppets[0]._mesh().data.shape_keys.key_blocks["Smile"]
    rest = smile.value
    cast.apply(FACE)
    call(begin)
    assert cast.still
    assert smile.value == pytest.approx(rest if begin == "save_pre" else 0.7)
    call(end)
    assert not cast.still
    assert smile.value == pytest.approx(0.7)


def test_a_file_that_cannot_be_saved_keeps_the_live_face_on_the_rig(cast, tmp_path):
    smile = cast.puppets[0]._mesh().data.shape_keys.key_blocks["Smile"]
    cast.apply(FACE)
    with pytest.raises(RuntimeError):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "gone" / "a.blend"))
    assert not cast.still
    assert smile.value == pytest.approx(0.7)


def test_what_steps_through_frames_gets_the_animation_and_the_playing_timeline_the_live_face(cast, monkeypatch):
    scene, mesh = bpy.context.scene, cast.puppets[0]._mesh()
    smile = mesh.data.shape_keys.key_blocks["Smile"]
    for frame in (1, 10):
        smile.value = frame / 100
        smile.keyframe_insert("value", frame=frame)
    cast.note()
    cast.apply(FACE)
    for frame in (1, 10):  # as an exporter and Bake Action do
        scene.frame_set(frame)
        assert smile.value == pytest.approx(frame / 100)
    assert cast.due
    monkeypatch.setattr(handlers, "_timeline_moves", lambda: True)
    scene.frame_set(5)
    assert smile.value == pytest.approx(0.7)
    assert not cast.due
