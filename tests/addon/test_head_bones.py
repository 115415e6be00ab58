"""Heads that hang on no armature are given one that turns them."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion, Vector

from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.panels.main import MIEN_PT_main
from mien.addon.panels.mapping import MIEN_PT_mapping
from mien.addon.rig import pose
from mien.addon.rig.head_bones import add_head_bones
from mien.addon.rig.puppet import Channels, Puppet
from mien.addon.rig.targets import find_target

from .conftest import empty_file, make_performance, make_rig
from .panel_text import drawn_by
from .test_control_rigs import sample_of


@pytest.fixture(autouse=True)
def clean(addon):
    empty_file()


def box(name, low, high):
    """A box between two corners in its own space."""
    mesh = bpy.data.meshes.new(name)
    corners = [(x, y, z) for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    mesh.from_pydata(corners, [], [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(obj)
    return obj


def make_head(y_up=False):
    """A head of 20 x 24 x 30 cm without an armature, whose face is its front; Y up as in other programs' files."""
    head = box("Head", (-0.10, -0.12, 0.0), (0.10, 0.12, 0.30))
    head.shape_key_add(name="Basis")
    moved = head.shape_key_add(name="jawOpen").data
    for point in moved:
        if point.co.y < 0:
            point.co.y -= 0.01
    if y_up:
        turn = Matrix.Rotation(-math.pi / 2, 4, "X")
        head.data.transform(turn, shape_keys=True)
        head.matrix_world = turn.inverted()
    bpy.context.view_layer.update()
    return head


def places(*objects):
    bpy.context.view_layer.update()
    return [obj.matrix_world.copy() for obj in objects]


def assert_same(before, after):
    np.testing.assert_allclose(np.array(after), np.array(before), atol=1e-6)


@pytest.mark.parametrize("y_up", [False, True])
@pytest.mark.parametrize("facing", [0.0, 1.0])
def test_the_head_turns_as_the_actors_baked_and_live(y_up, facing):
    head = make_head(y_up)
    about = Matrix.Translation((1.0, 2.0, 3.0)) @ Matrix.Rotation(facing, 4, "Z")
    head.matrix_world = about @ head.matrix_world
    rest = places(head)[0]
    armature = add_head_bones(bpy.context, head)
    assert_same(rest, places(head)[0])

    performance, target = make_performance(40, 24.0), find_target(head)
    assert [bone.name for bone in target.rig.bones.values()] == ["neck", "head"]
    puppet = Puppet(target, Channels())
    bake_performance(bpy.context, target, performance, BakeOptions())
    face = Quaternion((0, 0, 1), facing)
    for frame in (10, 20, 33):
        turn = Quaternion(pose.to_blender(performance.head[frame - 1]))
        assert turn.angle > math.radians(5)
        wanted = face @ turn @ face.inverted() @ rest.to_quaternion()
        bpy.context.scene.frame_set(frame)
        assert wanted.rotation_difference(places(head)[0].to_quaternion()).angle < math.radians(0.5)
        puppet.apply(sample_of(performance, frame - 1))
        assert wanted.rotation_difference(places(head)[0].to_quaternion()).angle < math.radians(0.5)
    # About a place inside of the skull: a head of 30 cm does not fly off.
    assert (places(head)[0] @ Vector((0, 0, 0)) - rest @ Vector((0, 0, 0))).length < 0.1
    assert armature.parent is None


def make_import():
    """Head and ear on an empty, as from glTF, and an eye on nothing; the empty is placed, and the head upon it."""
    root = bpy.data.objects.new("Root", None)
    bpy.context.collection.objects.link(root)
    root.matrix_world = Matrix.LocRotScale(Vector((1, 0, 0.5)), Quaternion((0, 0, 1), 0.4), Vector((2, 2, 2)))
    head, ear, eye = (
        make_head(),
        box("Ear", (0.1, 0, 0.2), (0.12, 0.02, 0.3)),
        box("Eye", (0, -0.1, 0.2), (0.1, 0, 0.3)),
    )
    for obj in (head, ear):
        obj.parent = root
        obj.location = (0.0, 0.1, 0.2)
    bpy.context.view_layer.update()
    return root, head, ear, eye


def turn_head(armature):
    armature.pose.bones["head"].rotation_quaternion = Quaternion((0, 1, 0), 0.5)


def test_all_under_its_parent_turns_along_and_what_is_selected():
    root, head, ear, eye = make_import()
    own = [tuple(obj.location) for obj in (root, head, ear, eye)]
    before = places(root, head, ear, eye)
    bpy.context.scene.mien.target = head
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj == eye)
    bpy.ops.ed.undo_push(message="before")
    assert "mien.add_head_bones" in drawn_by(MIEN_PT_mapping)
    assert any("No armature" in str(text) for text in drawn_by(MIEN_PT_main))
    assert bpy.ops.mien.add_head_bones() == {"FINISHED"}
    armature = root.parent
    assert armature.type == "ARMATURE"
    assert_same(before, places(root, head, ear, eye))
    assert own == [tuple(obj.location) for obj in (root, head, ear, eye)]  # what is keyed goes on to fit
    assert "mien.add_head_bones" not in drawn_by(MIEN_PT_mapping)
    assert not bpy.ops.mien.add_head_bones.poll()
    turn_head(armature)
    for was, now in zip(before, places(root, head, ear, eye), strict=True):
        assert was.to_quaternion().rotation_difference(now.to_quaternion()).angle == pytest.approx(0.5, abs=1e-4)
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert bpy.data.objects["Root"].parent is None
    assert not bpy.data.armatures


def test_the_head_alone_leaves_the_rest_where_it_is():
    root, head, ear, _eye = make_import()
    bpy.context.scene.mien.target = head
    head.select_set(True)
    before = places(root, head, ear)
    assert bpy.ops.mien.add_head_bones(whole=False) == {"FINISHED"}
    armature = head.parent
    assert (armature.type, armature.parent) == ("ARMATURE", root)
    assert_same(before, places(root, head, ear))
    turn_head(armature)
    assert_same(before[0], places(root)[0])
    assert_same(before[2], places(ear)[0])
    assert places(head)[0].to_quaternion().rotation_difference(before[1].to_quaternion()).angle > 0.4
    root.location.x += 1.0  # all of it still goes with the root
    bpy.context.view_layer.update()
    assert armature.matrix_world.translation.x == pytest.approx(before[1].translation.x + 1.0, abs=1e-5)


@pytest.mark.parametrize("mirrored", ["head", "root"])
def test_a_mirrored_head_turns_as_any(mirrored):
    head = make_head()
    root = bpy.data.objects.new("Root", None)
    bpy.context.collection.objects.link(root)
    head.parent = root
    (head if mirrored == "head" else root).scale.x = -1.0
    before = places(head)[0]
    armature = add_head_bones(bpy.context, head)
    assert_same(before, places(head)[0])
    armature.pose.bones["head"].rotation_mode = "XYZ"
    turn = Quaternion(pose.to_blender((math.cos(0.2), 0.0, math.sin(0.2), 0.0)))  # a turn to the left: about up
    bone = armature.data.bones["head"].matrix_local.to_quaternion()
    armature.pose.bones["head"].rotation_euler = (bone.inverted() @ turn @ bone).to_euler()
    nose = Vector((0.0, -0.12, 0.15))
    moved = places(head)[0] @ nose - before @ nose
    assert moved.x > 0.02
    assert abs(moved.z) < 1e-5


def test_bodies_cameras_and_sets_stay():
    root, head, ear, eye = make_import()
    rig = make_rig().parent
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    stage, floor = bpy.data.objects.new("Set", None), box("Floor", (-1, -1, 0), (1, 1, 0.1))
    for obj in (camera, stage):
        bpy.context.collection.objects.link(obj)
    camera.parent, eye.parent, floor.parent = root, stage, stage
    before = places(root, head, ear, eye, camera, floor, rig)
    armature = add_head_bones(bpy.context, head, [rig, *rig.children, camera, root, eye])
    assert armature.parent == root  # which a camera keeps from turning
    assert set(armature.children) == {head, eye}
    assert_same(before, places(root, head, ear, eye, camera, floor, rig))
    turn_head(armature)
    bpy.context.view_layer.update()
    after = places(root, head, ear, eye, camera, floor, rig)
    angles = [
        a.to_quaternion().rotation_difference(b.to_quaternion()).angle for a, b in zip(before, after, strict=True)
    ]
    assert [angle > 0.1 for angle in angles] == [False, True, False, True, False, False, False]


def test_in_an_override_the_bones_lie_in_the_scenes_own_collection(tmp_path):
    head = make_head()
    collection = bpy.data.collections.new("Char")
    bpy.context.scene.collection.children.link(collection)
    collection.objects.link(head)
    bpy.context.scene.collection.objects.unlink(head)
    path = tmp_path / "lib.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    empty_file()
    with bpy.data.libraries.load(str(path), link=True) as (_there, here):
        here.collections = ["Char"]
    bpy.context.scene.collection.children.link(here.collections[0])
    override = here.collections[0].override_hierarchy_create(
        bpy.context.scene, bpy.context.view_layer, do_fully_editable=True
    )
    head = next(obj for obj in override.objects if obj.type == "MESH")
    bpy.context.scene.mien.target = head
    assert bpy.ops.mien.add_head_bones() == {"FINISHED"}
    assert head.parent.users_collection[0] == bpy.context.scene.collection
    turn_head(head.parent)
    assert places(head)[0].to_quaternion().angle == pytest.approx(0.5, abs=1e-4)


def test_a_tail_does_not_move_the_joint():
    head = make_head()
    plain = add_head_bones(bpy.context, head).data.bones["head"].head_local.copy()
    empty_file()
    head = box("Head", (-0.10, -0.12, 0.0), (0.10, 0.12, 0.30))
    body = box("Body", (-0.3, -0.2, -1.4), (0.3, 3.0, -0.1)).data
    mesh = bpy.data.meshes.new("Whole")
    points = [tuple(v.co) for data in (head.data, body) for v in data.vertices]
    mesh.from_pydata(points, [], [])
    whole = bpy.data.objects.new("Whole", mesh)
    bpy.context.collection.objects.link(whole)
    whole.shape_key_add(name="Basis")
    for point in whole.shape_key_add(name="jawOpen").data[:8]:
        if point.co.y < 0:
            point.co.y -= 0.01
    joint = add_head_bones(bpy.context, whole).data.bones["head"].head_local
    assert tuple(joint) == pytest.approx(tuple(plain), abs=0.01)


def test_a_moving_part_without_height():
    head = make_head()
    for point in head.data.shape_keys.key_blocks["jawOpen"].data:
        if point.co.z > 0.1:
            point.co.y = max(point.co.y, -0.12)
    armature = add_head_bones(bpy.context, head)
    assert [bone.name for bone in armature.data.bones] == ["neck", "head"]
    assert all(bone.length > 0.05 for bone in armature.data.bones)


def test_it_is_for_heads_without_an_armature_that_are_seen():
    bpy.context.scene.mien.target = make_rig()
    assert not bpy.ops.mien.add_head_bones.poll()
    head = make_head()
    bpy.context.scene.mien.target = head
    assert bpy.ops.mien.add_head_bones.poll()
    head.hide_set(True)
    assert not bpy.ops.mien.add_head_bones.poll()


def test_a_head_seen_by_its_second_collection():
    head, first, second = make_head(), bpy.data.collections.new("First"), bpy.data.collections.new("Second")
    bpy.context.collection.objects.unlink(head)
    for collection in (first, second):
        bpy.context.scene.collection.children.link(collection)
        collection.objects.link(head)
    bpy.context.view_layer.layer_collection.children["First"].hide_viewport = True
    bpy.context.scene.mien.target = head
    assert bpy.ops.mien.add_head_bones() == {"FINISHED"}
    assert head.parent.visible_get()


def test_an_armature_above_the_parent_counts():
    rig = make_rig().parent
    root, head, _ear, _eye = make_import()
    root.parent, root.parent_type, root.parent_bone = rig, "BONE", "head"
    target = find_target(head)
    assert target.armature == rig
    assert set(target.rig.bones) == {"neck", "head", "jaw", "eye.L", "eye.R"}
