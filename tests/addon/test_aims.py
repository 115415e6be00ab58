"""Eyes that look at a bone, as control rigs have them: that bone is moved."""

from __future__ import annotations

import math

import bpy
import mathutils
import numpy as np
import pytest

from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.preview.heads import find_eyes
from mien.addon.preview.playback import samples_of
from mien.addon.preview.reading import read_mesh
from mien.addon.rig.mapping import EYES, mapping_of
from mien.addon.rig.puppet import Channels, Puppet, Sample
from mien.addon.rig.targets import find_target

from .conftest import curves_of, empty_file, make_performance, make_rig, run_alone


@pytest.fixture(autouse=True)
def clean(addon):
    empty_file()


def add_aims(head, names=("aim.L", "aim.R"), *, own_axes=True):
    """Let the eyes of a rig look at bones in front of them, which go with the head and lie askew."""
    armature = head.parent
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature.data.edit_bones
    for eye, name in zip(EYES, names, strict=True):
        if name not in bones:
            aim = bones.new(name)
            aim.head = bones[eye].head + mathutils.Vector((0.0, -0.4, 0.0))
            aim.tail = aim.head + mathutils.Vector((0.02, 0.01, 0.05))
            aim.roll, aim.parent, aim.use_local_location = 0.7, bones["head"], own_axes
    bpy.ops.object.mode_set(mode="OBJECT")
    for eye, name in zip(EYES, names, strict=True):
        track = armature.pose.bones[eye].constraints.new("DAMPED_TRACK")
        track.target, track.subtarget, track.track_axis = armature, name, "TRACK_Y"
    return head


def looks(armature, eye, head="head"):
    """Return yaw to the actor's left and pitch up of an eye against its head, as posed; radians."""
    bones = armature.pose.bones
    turned = bones[head].matrix.to_quaternion() @ bones[head].bone.matrix_local.to_quaternion().inverted()
    rest = bones[eye].bone.matrix_local.to_quaternion()
    x, y, z = turned.inverted() @ bones[eye].matrix.to_quaternion() @ rest.inverted() @ mathutils.Vector((0, -1, 0))
    return math.atan2(x, -y), math.asin(z)


def sample_of(performance, i):
    return Sample(
        *(list(values[i]) for values in (performance.units, performance.arkit)),
        *(values[i].tolist() for values in (performance.head, performance.eyes)),
    )


@pytest.mark.parametrize("own_axes", [True, False])
def test_eyes_follow_what_they_look_at(own_axes):
    head = add_aims(make_rig(), own_axes=own_axes)
    armature, performance = head.parent, make_performance(60, 24.0)
    target = find_target(head)
    assert target.notices == ()
    summary = bake_performance(bpy.context, target, performance, BakeOptions())
    assert summary.keys_after < summary.keys_before / 3
    paths = {path for path, _index in curves_of(armature)}
    assert {f'pose.bones["aim.{side}"].location' for side in "LR"} <= paths
    assert not any("eye" in path for path in paths)
    for frame in range(1, 61, 7):
        bpy.context.scene.frame_set(frame)
        for side, eye in enumerate(EYES):
            assert looks(armature, eye) == pytest.approx(performance.eyes[frame - 1, side], abs=math.radians(0.15))

    baked = {name: tuple(armature.pose.bones[name].location) for name in ("aim.L", "aim.R")}
    puppet = Puppet(target, Channels())
    puppet.apply(sample_of(performance, 20))
    bpy.context.view_layer.update()
    for side, eye in enumerate(EYES):
        assert looks(armature, eye) == pytest.approx(performance.eyes[20, side], abs=1e-4)
    puppet.restore()
    assert {name: tuple(armature.pose.bones[name].location) for name in baked} == baked


def test_the_bone_that_is_looked_at_may_be_the_one_that_is_named():
    head = add_aims(make_rig(), ("goal.L", "goal.R"))
    for side in "LR":
        head.parent.data.bones[f"eye.{side}"].name = f"MCH-eye.{side}"
        head.parent.data.bones[f"goal.{side}"].name = f"eye.{side}"
    bones = find_target(head).rig.bones
    assert [(bones[role].name, bones[role].keyed) for role in EYES] == [("MCH-eye.L", "eye.L"), ("MCH-eye.R", "eye.R")]
    centres = find_eyes(head, read_mesh(head), mapping_of(head))
    np.testing.assert_allclose(centres, [(0.03, -0.02, 0.33), (-0.03, -0.02, 0.33)], atol=1e-6)


def test_a_take_in_the_preview_turns_the_eyes_themselves():
    performance = make_performance(10, 24.0)
    plain = samples_of(performance, find_target(make_rig()).rig, 24.0)
    aimed = samples_of(performance, find_target(add_aims(make_rig())).rig, 24.0)
    assert [sample.bones for sample in aimed] == [sample.bones for sample in plain]
    assert set(EYES) <= set(plain[0].bones)


def test_what_both_eyes_look_at_follows_one():
    head = add_aims(make_rig(), ("gaze", "gaze"))
    target = find_target(head)
    assert target.notices == ("Both eyes look at gaze: not as eye.R",)
    assert [bone.keyed for bone in target.rig.bones.values()].count("gaze") == 1


def test_drivers_on_it_and_other_constraints_are_told():
    head = add_aims(make_rig())
    head.parent.pose.bones["aim.L"].driver_add("location", 0)
    head.parent.pose.bones["eye.R"].constraints.new("COPY_ROTATION")
    target = find_target(head)
    assert target.notices == (
        "Drivers turn aim.L: not baked",
        "Constraints turn eye.R: baked, but not seen as long as they do",
    )
    assert target.rig.bones["eye.R"].keyed == "aim.R"


def test_constraints_that_do_not_act_aim_at_nothing():
    head = add_aims(make_rig())
    bones = head.parent.pose.bones
    bones["eye.L"].constraints[0].mute = True
    bones["eye.R"].constraints[0].subtarget = "gone"
    rig = find_target(head).rig
    assert [rig.bones[role].aim for role in EYES] == [None, None]


def check_rigify():
    """Rigify's own human: its face is rigged, and looks where the actor does."""
    import addon_utils

    addon_utils.enable("rigify", default_set=True)
    bpy.ops.object.armature_human_metarig_add()
    bpy.ops.pose.rigify_generate()
    armature = next(o for o in bpy.data.objects if o.type == "ARMATURE" and "MCH-eye.L" in o.data.bones)
    head = make_rig(bones=())
    head.modifiers.new("Armature", "ARMATURE").object = armature
    bpy.context.scene.mien.target = head
    bpy.ops.mien.map_shapes()
    performance = make_performance(48, 24.0)
    target = find_target(head)
    assert {role: bone.keyed for role, bone in target.rig.bones.items()} == {
        "neck": "neck", "head": "head", "jaw": "jaw_master", "eye.L": "eye.L", "eye.R": "eye.R",
    }  # fmt: skip
    bake_performance(bpy.context, target, performance, BakeOptions())
    for frame in range(1, 49, 9):
        bpy.context.scene.frame_set(frame)
        for side, eye in enumerate(("ORG-eye.L", "ORG-eye.R")):
            wanted = performance.eyes[frame - 1, side]
            assert looks(armature, eye, "ORG-face") == pytest.approx(wanted, abs=math.radians(0.2))


def test_rigify():
    # Rigify leaves properties behind, with which Blender 4.5 hangs at its end.
    done = run_alone("from tests.addon.test_aims import check_rigify\ncheck_rigify()")
    assert done.returncode == 0, done.stderr[-2000:]
