"""Mien's own worker, model and clips, from the operator to the keyframes."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from mien.addon import session
from mien.core.files import PART_SUFFIX

from .conftest import curves_of, needs_worker

pytestmark = needs_worker


@pytest.fixture
def scene(rig, tmp_path):
    preferences = bpy.context.preferences.addons["mien"].preferences
    preferences.takes_folder = str(tmp_path / "takes")
    bpy.context.scene.mien.target = rig
    return bpy.context.scene


def bake_fails() -> str:
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.mien.bake("EXEC_DEFAULT")
    assert session.outcome.failed
    return str(caught.value)


@pytest.mark.data
def test_a_face_that_leaves(scene, data):
    scene.mien.source = str(data / "video" / "face_noface.mov")
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    found = curves_of(scene.mien.target.data.shape_keys)
    assert len(found) == 11
    for curve in found.values():
        values = np.array([curve.evaluate(frame) for frame in range(1, scene.frame_end + 1)])
        assert np.isfinite(values).all()
        assert values.min() >= 0.0
        assert values.max() <= 1.0
    # The longest jump a face makes in a frame is a blink's; losing it must not look like one.
    head = [curves_of(scene.mien.target.parent)['pose.bones["head"].rotation_quaternion', i] for i in range(4)]
    turns = np.array([[curve.evaluate(frame) for curve in head] for frame in range(1, scene.frame_end + 1)])
    assert np.abs(np.diff(turns, axis=0)).max() < 0.2


def test_not_a_video(scene, tmp_path, unchanged):
    path = tmp_path / "holiday.mp4"
    path.write_text("this is a letter, not a film" * 100)
    scene.mien.source = str(path)
    unchanged()
    assert "holiday.mp4" in bake_fails()


def test_an_empty_file(scene, tmp_path, unchanged):
    path = tmp_path / "empty.mov"
    path.touch()
    scene.mien.source = str(path)
    unchanged()
    assert "empty.mov" in bake_fails()


def test_a_folder_without_pictures(scene, tmp_path, unchanged):
    (tmp_path / "nothing").mkdir()
    scene.mien.source = str(tmp_path / "nothing")
    unchanged()
    bake_fails()


@pytest.mark.data
def test_a_damaged_model(scene, data, tmp_path, unchanged, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "face_landmarker.task").write_bytes(b"cut short")
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "models"))
    scene.mien.source = str(data / "video" / "face_noface.mov")
    unchanged()
    assert "face_landmarker.task" in bake_fails()


@pytest.mark.data
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk(scene, data, unchanged):
    from mien.addon import workflow

    scene.mien.source = str(data / "video" / "face_noface.mov")
    job, _ = workflow.prepare_capture(bpy.context)
    job.take.parent.mkdir()
    job.take.with_name(job.take.name + PART_SUFFIX).symlink_to("/dev/full")
    unchanged()
    assert "no room left" in bake_fails()
