"""Armatures that stand otherwise in their own space: those of other programs have Y up, and the object is turned."""

from __future__ import annotations

import math

import addon_utils
import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion

from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.preview.heads import find_axes
from mien.addon.rig.axes import Y_UP, Z_UP, upright
from mien.addon.rig.mapping import BONES, mapping_of
from mien.addon.rig.puppet import Channels, Puppet
from mien.addon.rig.targets import find_target

from .conftest import empty_file, make_performance, make_rig
from .test_control_rigs import add_aims, sample_of


@pytest.fixture(autouse=True)
def clean(addon):
    empty_file()


def turns(armature) -> dict[str, Quaternion]:
    """Return how far each bone is turned in the world from its rest."""
    bpy.context.view_layer.update()
    world, found = armature.matrix_world, {}
    for name in BONES:
        bone = armature.pose.bones[name]
        posed, rest = ((world @ matrix).to_quaternion() for matrix in (bone.matrix, bone.bone.matrix_local))
        found[name] = posed @ rest.inverted()
    return found


def baked_and_live(head, performance):
    """Bake a performance and play it live; yields a frame and how the bones are turned there by either."""
    target = find_target(head)
    assert target.notices == ()
    puppet = Puppet(target, Channels())
    bake_performance(bpy.context, target, performance, BakeOptions())
    for frame in (5, 20, 33):
        bpy.context.scene.frame_set(frame)
        baked = turns(head.parent)
        puppet.apply(sample_of(performance, frame - 1))
        yield frame, baked, turns(head.parent)


def let_y_be_up(head) -> None:
    """Turn a rig in its own space as Maya and Mixamo have it, and its object back."""
    armature, turn = head.parent, Matrix.Rotation(-math.pi / 2, 4, "X")
    head.parent = None
    armature.data.transform(turn)
    head.data.transform(turn, shape_keys=True)
    armature.matrix_world = turn.inverted()
    head.parent, head.matrix_parent_inverse = armature, Matrix.Identity(4)
    bpy.context.view_layer.update()


def through_fbx(folder):
    """Write the file as FBX and read it into an empty one; returns the head."""
    addon_utils.enable("io_scene_fbx")
    path = str(folder / "rig.fbx")
    bpy.ops.export_scene.fbx(filepath=path, add_leaf_bones=False, bake_anim=False)
    empty_file()
    bpy.ops.import_scene.fbx(filepath=path)
    return next(obj for obj in bpy.data.objects if obj.type == "MESH")


@pytest.mark.parametrize("aims", [False, True])
def test_a_rig_with_y_up_turns_in_the_world_as_one_with_z_up(tmp_path, aims):
    performance = make_performance(40, 24.0)
    expected = {}
    for kind in ("Z", "Y") if aims else ("Z", "Y", "FBX"):  # which has no constraints
        empty_file()
        head = add_aims(make_rig()) if aims else make_rig()
        if kind != "Z":
            let_y_be_up(head)
        if kind == "FBX":
            head = through_fbx(tmp_path)
            assert math.degrees(head.parent.matrix_world.to_euler().x) == pytest.approx(90)
        for frame, baked, live in baked_and_live(head, performance):
            for name in BONES:
                wanted = expected.setdefault((frame, name), baked[name])
                assert wanted.rotation_difference(baked[name]).angle < math.radians(0.5), (kind, name)
                assert wanted.rotation_difference(live[name]).angle < math.radians(0.5), (kind, name)
    # They did turn, each in its own way.
    assert all(turn.angle > math.radians(1) for (frame, _name), turn in expected.items() if frame == 20)


@pytest.mark.parametrize("y_up", [False, True])
@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_character_turns_by_where_it_looks(quarter, y_up):
    """As those of VRM 0, which look along Y; the whole of it turned about up in the armature's own space."""
    performance, about = make_performance(40, 24.0), Quaternion((0, 0, 1), quarter * math.pi / 2)
    expected = {}
    for turned in (False, True):
        empty_file()
        head = make_rig()
        if turned:
            head.parent.data.transform(about.to_matrix().to_4x4())
            head.data.transform(about.to_matrix().to_4x4(), shape_keys=True)
        if y_up:
            let_y_be_up(head)
        for frame, *each in baked_and_live(head, performance):
            for found in each:
                for name in BONES:
                    wanted = expected.setdefault((frame, name), found[name])
                    wanted = about @ wanted @ about.inverted() if turned else wanted
                    assert abs(wanted.dot(found[name])) > math.cos(math.radians(0.25)), name
    axes = np.array(head.matrix_world.to_3x3()) @ find_axes(head, mapping_of(head))
    np.testing.assert_allclose(axes, np.array(about.to_matrix()), atol=1e-6)


def test_left_and_right_of_whoever_looks_at_it_turn_nothing_round():
    head = make_rig()
    bones = head.parent.data.bones
    bones["eye.L"].name, bones["eye.R"].name = "right", "left"
    assert upright(head.parent, {"head": "head", "eye.L": "left", "eye.R": "right"}) == Z_UP
    assert upright(head.parent, {"head": "head", "eye.L": "right", "eye.R": "left"}) == Z_UP


def test_where_the_head_is_tells_which_way_is_up():
    head = make_rig()
    armature, names = head.parent, {role: role for role in BONES}
    assert upright(armature, names) == Z_UP
    armature.rotation_euler.x = math.pi / 2  # it lies; so does what it means by up
    bpy.context.view_layer.update()
    assert upright(armature, names) == Z_UP
    let_y_be_up(head)
    assert upright(armature, names) == upright(armature, {"neck": "neck"}) == Y_UP
    assert upright(armature, {"jaw": "jaw"}) == upright(armature, {}) == Z_UP
    bone = armature.data.bones["head"]
    axes = np.array(head.matrix_world.to_3x3()) @ find_axes(head, mapping_of(head))
    np.testing.assert_allclose(axes, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(Y_UP @ (bone.tail_local - bone.head_local).normalized(), (0, 0, 1), atol=1e-6)
