"""What can be baked on, and what is said when it cannot."""

from __future__ import annotations

import bpy
import pytest

from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.rig.targets import Bone, Rig, find_target
from mien.core.errors import MienError
from mien.core.units import ARKIT, UNITS

from .conftest import BONES, curves_of, empty_file, make_performance, make_rig


def refused(mesh, **options) -> str:
    with pytest.raises(MienError) as caught:
        find_target(mesh, **options)
    error = caught.value
    assert error.message.endswith(".")
    assert error.hint.endswith(".")
    return error.code


def test_everything_there(rig):
    target = find_target(rig)
    assert tuple(target.rig.keys) == UNITS
    assert set(target.rig.bones) == set(BONES)
    assert target.armature == rig.parent
    assert (target.missing_units, target.missing_bones, target.notices) == ((), {}, ())


def test_some_keys_are_enough():
    target = find_target(make_rig(keys=("Smile", "JawOpen", "mouthFunnel", "Key 4"), bones=("head",)))
    assert tuple(target.rig.keys) == ("Smile", "JawOpen", "mouthFunnel")
    assert set(target.missing_units) == set(UNITS) - {"Smile", "JawOpen"}
    assert set(target.missing_bones) == {"neck", "eye.L", "eye.R"}  # a shape key opens the mouth
    of_arkit = make_rig(keys=ARKIT, bones=("head",))
    assert set(find_target(of_arkit).missing_bones) == {"neck"}
    of_arkit.mien_jaw = "chin"  # what was chosen is missed
    assert set(find_target(of_arkit).missing_bones) == {"neck", "jaw"}


def test_names_need_not_match_to_the_letter():
    def keys(*names):
        return dict(find_target(make_rig(keys=names, bones=())).rig.keys)

    assert keys("eyeBlink_L", "mouthLeft") == {"eyeBlink_L": "eyeBlinkLeft", "mouthLeft": "mouthLeft"}
    assert keys("eyeBlink.R", "mouthLeft") == {"eyeBlink.R": "eyeBlinkRight", "mouthLeft": "mouthLeft"}
    assert keys("JawOpen", "MouthSmileLeft") == {"JawOpen": "jawOpen", "MouthSmileLeft": "mouthSmileLeft"}
    assert keys("jawopen", "smile") == {"smile": "Smile", "jawopen": "JawOpen"}
    assert keys("mouthsmileleft", "mouthSmileLeft") == {"mouthSmileLeft": "mouthSmileLeft"}


def test_arkit_alone_misses_nothing():
    target = find_target(make_rig(keys=ARKIT))
    assert tuple(target.rig.keys) == ARKIT
    assert target.missing_units == ()


def test_nothing_chosen():
    assert refused(None) == "target-none"


def test_not_a_mesh(rig):
    assert refused(rig.parent) == "target-not-mesh"


def test_no_shape_keys():
    assert refused(make_rig(keys=())) == "target-no-keys"
    assert find_target(bpy.data.objects["Head"], need_keys=False).rig.keys == {}


def test_no_known_shape_keys():
    assert refused(make_rig(keys=("Key 1", "grin"))) == "target-no-known-keys"


def test_neither_keys_nor_bones():
    assert refused(make_rig(keys=(), bones=()), need_keys=False) == "target-nothing"


def test_the_neck_takes_the_whole_turn_only_where_there_is_no_head():
    bones = {name: Bone(name, "XYZ", (1.0, 0.0, 0.0, 0.0), ("neck",)) for name in ("neck", "head")}
    assert Rig(bones=bones).shares(0.3) == (0.3, 0.7)
    assert Rig(bones=bones, carried=0.0).shares(0.3) == (0.3, 1.0)
    assert Rig(bones={"neck": bones["neck"]}).shares(0.3)[0] == 1.0
    assert Rig(bones={"neck": bones["neck"]}, driven=("head",)).shares(0.3)[0] == 0.3
    assert Rig(bones={"head": bones["head"]}).shares(0.3) == (None, 1.0)


def test_a_deleted_head_that_a_setting_still_names(rig):
    bpy.context.scene.mien.target = rig
    for collection in list(rig.users_collection):
        collection.objects.unlink(rig)
    assert refused(bpy.context.scene.mien.target) == "target-gone"


def test_a_head_that_only_instances_show(rig):
    aside = bpy.data.collections.new("Aside")
    bpy.context.scene.mien.target = rig
    for collection in list(rig.users_collection):
        collection.objects.unlink(rig)
    aside.objects.link(rig)
    assert refused(rig) == "target-instanced"
    bpy.context.scene.collection.children.link(aside)
    assert find_target(rig).mesh == rig


def test_edit_mode(rig):
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    assert refused(rig) == "target-edit-mode"
    bpy.ops.object.mode_set(mode="OBJECT")


def test_armature_in_edit_mode(rig):
    bpy.context.view_layer.objects.active = rig.parent
    bpy.ops.object.mode_set(mode="EDIT")
    assert refused(rig) == "target-edit-mode"
    bpy.ops.object.mode_set(mode="OBJECT")


def test_absolute_keys(rig):
    rig.data.shape_keys.use_relative = False
    assert refused(rig) == "target-absolute-keys"


def test_drivers_win_and_are_told(rig):
    key = rig.data.shape_keys
    key.key_blocks["Smile"].driver_add("value").driver.expression = "0.5"
    target = find_target(rig)
    assert "Smile" not in target.rig.keys
    assert any("Smile" in notice for notice in target.notices)
    for name in UNITS:
        key.key_blocks[name].driver_add("value")
    assert refused(rig) == "target-driven-keys"


def test_bones_that_drivers_hold_are_left_out_and_told(rig):
    armature = rig.parent
    armature.pose.bones["jaw"].driver_add("rotation_quaternion", 1)
    armature.pose.bones["head"].driver_add("rotation_euler")  # not what the bone's mode reads
    for driver in armature.pose.bones["neck"].driver_add("rotation_quaternion"):
        driver.mute = True
    target = find_target(rig)
    assert set(target.rig.bones) == set(BONES) - {"jaw"}
    assert target.notices == ("Drivers hold jaw: not baked",)
    assert target.missing_bones == {}


def test_constraints_that_turn_bones_are_told(rig):
    bones = rig.parent.pose.bones
    bones["eye.L"].constraints.new("DAMPED_TRACK")
    bones["eye.R"].constraints.new("TRACK_TO").mute = True
    bones["jaw"].constraints.new("COPY_ROTATION").mix_mode = "ADD"
    bones["neck"].constraints.new("COPY_LOCATION")
    target = find_target(rig)
    assert set(target.rig.bones) == set(BONES)
    assert target.notices == ("Constraints turn eye.L: baked, but not seen as long as they do",)


def test_a_limit_that_leaves_no_rotation_is_told(rig):
    for name, high in (("jaw", 1.0), ("head", 0.0), ("neck", 0.0)):
        limit = rig.parent.pose.bones[name].constraints.new("LIMIT_ROTATION")
        limit.use_limit_x = limit.use_limit_y = limit.use_limit_z = True
        limit.max_x = high
        limit.influence = 0.0 if name == "neck" else 1.0
    assert find_target(rig).notices == ("Constraints hold head: baked, but not seen as long as they do",)


def test_an_armature_modifier_that_is_off_is_told(rig):
    (modifier,) = rig.modifiers
    modifier.show_viewport = False
    assert find_target(rig).notices == ()
    modifier.show_render = False
    assert find_target(rig).notices == (
        f"The modifier {modifier.name} is off: bones are baked, but not seen as long as it is",
    )
    rig.parent_type, rig.parent_bone = "BONE", "head"
    assert find_target(rig).notices == ()


def test_muted_and_pinned_keys_are_told(rig):
    rig.data.shape_keys.key_blocks["Frown"].mute = True
    rig.show_only_shape_key = True
    notices = " ".join(find_target(rig).notices)
    assert "Frown" in notices
    assert "pinned" in notices


def test_short_ranges_and_rest_position_are_told(rig):
    rig.data.shape_keys.key_blocks["Smile"].slider_max = 0.3
    rig.data.shape_keys.key_blocks["Frown"].slider_min = 0.2
    rig.parent.data.pose_position = "REST"
    assert find_target(rig).notices == (
        "The range of Smile ends before 1, and so do the keys: set Max to 1",
        "The range of Frown begins above 0, and so do the keys: set Min to 0",
        '"Rig" is in Rest Position: baked, but not seen as long as it is',
    )


def test_hidden_is_no_matter(rig):
    rig.hide_viewport = True
    rig.hide_set(True)
    assert tuple(find_target(rig).rig.keys) == UNITS


def test_no_armature_is_told():
    target = find_target(make_rig(bones=()))
    assert target.armature is None
    assert any("armature" in notice for notice in target.notices)


def test_of_two_armatures_the_one_with_the_bones():
    head = make_rig()
    face = head.parent
    body = bpy.data.objects.new("Body", bpy.data.armatures.new("Body"))
    bpy.context.collection.objects.link(body)
    head.modifiers.new("Body", "ARMATURE").object = body
    head.modifiers.move(1, 0)
    assert find_target(head).armature == face


@pytest.fixture
def library(tmp_path):
    """A file with a rig, and the rig linked from it into a new one."""
    make_rig()
    path = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    empty_file()
    with bpy.data.libraries.load(path, link=True) as (_source, wanted):
        wanted.objects = ["Head", "Rig"]
    for obj in wanted.objects:
        bpy.context.scene.collection.objects.link(obj)
    return bpy.data.objects["Head"]


def test_linked(library):
    assert refused(library) == "target-linked"


def test_linked_in_a_collection_that_an_empty_shows(library):
    for collection in library.users_collection:
        collection.objects.unlink(library)
    assert not library.users_scene
    with pytest.raises(MienError, match="is linked from") as caught:
        find_target(library)
    assert "Library Override" in caught.value.hint


def override(linked):
    mesh = linked.override_hierarchy_create(bpy.context.scene, bpy.context.view_layer, do_fully_editable=True)
    return next(obj for obj in bpy.data.objects if obj.library is None and obj.type == "MESH") if mesh else None


def test_override_whose_mesh_is_linked(library):
    """Animation on the keys of a linked mesh shows, and is gone after saving: refused."""
    assert refused(override(library)) == "target-linked-keys"


def test_override_with_its_mesh_bakes_and_survives_saving(library, tmp_path):
    mesh = override(library)
    mesh.data.override_create(remap_local_usages=True)
    target = find_target(mesh)
    assert tuple(target.rig.keys) == UNITS
    assert set(target.rig.bones) == set(BONES)
    bake_performance(bpy.context, target, make_performance(30, 24.0), BakeOptions(tolerance=0.0))
    values = [c.evaluate(17) for _, c in sorted(curves_of(mesh.data.shape_keys).items())]

    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    mesh = next(obj for obj in bpy.data.objects if obj.library is None and obj.type == "MESH")
    bpy.context.scene.frame_set(17)
    assert [c.evaluate(17) for _, c in sorted(curves_of(mesh.data.shape_keys).items())] == values
    blocks = mesh.data.shape_keys.key_blocks
    assert sorted(round(block.value, 5) for block in blocks[1:]) == sorted(round(value, 5) for value in values)
    armature = find_target(mesh).armature
    assert len(curves_of(armature)) > 0
