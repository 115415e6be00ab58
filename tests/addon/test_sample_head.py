"""The sample head comes into any scene."""

from __future__ import annotations

import bpy
import pytest

from mien.addon import sample_head
from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.rig.targets import find_target
from mien.core.units import UNITS

from .conftest import BONES, empty_file, make_performance, snapshot


def test_it_is_added_as_the_target_with_all_its_channels():
    assert bpy.ops.mien.add_sample_head() == {"FINISHED"}
    target = find_target(bpy.context.scene.mien.target)
    assert tuple(target.rig.keys) == UNITS
    assert set(target.rig.bones) == set(BONES)
    assert (target.missing_units, target.missing_bones, target.notices) == ((), {}, ())
    assert target.rig.jaw_angle > 0.1
    assert bpy.context.scene.camera is not None
    summary = bake_performance(bpy.context, target, make_performance(30, 24.0), BakeOptions())
    assert summary.channels > 11


def test_it_is_selected_and_what_hides_it_is_told():
    bpy.ops.mesh.primitive_cube_add(size=2.0)
    cube = bpy.context.object
    bpy.ops.mien.add_sample_head()
    head = bpy.context.scene.mien.target
    assert bpy.context.object == head
    assert bpy.context.selected_objects == [head]
    assert sample_head.enclosing(bpy.context, head) == [cube.name]
    cube.location.x = 5.0
    assert sample_head.enclosing(bpy.context, head) == []


def test_a_second_one_is_a_head_of_its_own():
    bpy.ops.mien.add_sample_head()
    first = bpy.context.scene.mien.target
    camera = bpy.context.scene.camera
    bpy.ops.mien.add_sample_head()
    second = bpy.context.scene.mien.target
    assert second != first
    assert second.data != first.data
    assert second.find_armature() != first.find_armature()
    assert bpy.context.scene.camera == camera


def test_it_can_be_undone():
    bpy.ops.ed.undo_push(message="before")
    before = snapshot()
    bpy.ops.mien.add_sample_head()
    bpy.ops.ed.undo_push(message="Add Sample Head")
    bpy.ops.ed.undo()
    after = snapshot()
    assert after["objects"] == before["objects"]
    assert after["collections"] == before["collections"]


def test_a_linked_scene_is_told(tmp_path):
    bpy.context.scene.name = "Theirs"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    empty_file()
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, found):
        found.scenes = ["Theirs"]
    bpy.context.window.scene = found.scenes[0]
    with pytest.raises(RuntimeError, match=r'^Error: The scene "Theirs" is linked from library\.blend'):
        bpy.ops.mien.add_sample_head()
    assert not bpy.data.collections


def test_a_missing_file_is_told(monkeypatch, tmp_path, unchanged):
    monkeypatch.setattr(sample_head, "FILE", tmp_path / "gone.blend")
    unchanged()
    with pytest.raises(RuntimeError, match="sample head is not at"):
        bpy.ops.mien.add_sample_head()


def test_a_damaged_file_is_told(monkeypatch, tmp_path, unchanged):
    path = tmp_path / "broken.blend"
    path.write_bytes(b"no blend file at all")
    monkeypatch.setattr(sample_head, "FILE", path)
    unchanged()
    with pytest.raises(RuntimeError, match="sample head cannot be read"):
        bpy.ops.mien.add_sample_head()


def test_a_file_without_a_head_is_told(monkeypatch, tmp_path, unchanged):
    path = tmp_path / "empty.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    monkeypatch.setattr(sample_head, "FILE", path)
    unchanged()
    with pytest.raises(RuntimeError, match="holds no head"):
        bpy.ops.mien.add_sample_head()


def test_its_own_file_being_open_is_told(monkeypatch, tmp_path):
    path = tmp_path / "head.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    monkeypatch.setattr(sample_head, "FILE", path)
    with pytest.raises(RuntimeError, match="is the file that is open"):
        bpy.ops.mien.add_sample_head()
