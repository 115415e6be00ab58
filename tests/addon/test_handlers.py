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


def test_what_steps_through_frames_gets_the_animation_and_the_playing_timeline_the_live_face(cast, monkeypatch):
    scene, mesh = bpy.context.scene, cast.puppets[0]._mesh()
    smile = mesh.data.shape_keys.key_blocks["Smile"]
    for frame in (1, 10):
        smile.value = frame / 100
        smile.keyframe_insert("value", frame=frame)
    cast.note()
    cast.apply(Sample([0.7] * 11, [0.7] * 52, [1.0, 0.0, 0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]))
    for frame in (1, 10):  # as an exporter and Bake Action do
        scene.frame_set(frame)
        assert smile.value == pytest.approx(frame / 100)
    assert cast.due
    monkeypatch.setattr(handlers, "_timeline_moves", lambda: True)
    scene.frame_set(5)
    assert smile.value == pytest.approx(0.7)
    assert not cast.due
