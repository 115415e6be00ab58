"""Heads whose shape keys and bones have names of their own."""

from __future__ import annotations

import time

import bpy
import numpy as np
import pytest

from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.expressions import BASIC, blend, on_shapes
from mien.addon.ids import HEAD_BONES
from mien.addon.panels.main import MIEN_PT_main
from mien.addon.panels.mapping import MIEN_PT_mapping
from mien.addon.preview import compose, overlay
from mien.addon.preview.heads import Sample as PreviewSample
from mien.addon.preview.heads import lay_on
from mien.addon.preview.playback import samples_of
from mien.addon.rig.eyes import FRESH
from mien.addon.rig.mapping import channels_worn, guess_bones, guess_shapes, mapping_of
from mien.addon.rig.puppet import Channels, Puppet, Sample
from mien.addon.rig.targets import find_target
from mien.core.errors import MienError
from mien.core.units import ARKIT, UNITS

from .conftest import BONES, curves_of, empty_file, make_performance, make_rig
from .panel_text import drawn_by

VROID = (
    "Fcl_ALL_Joy", "Fcl_BRW_Angry", "Fcl_BRW_Surprised", "Fcl_EYE_Close", "Fcl_EYE_Close_R", "Fcl_EYE_Close_L",
    "Fcl_EYE_Fun", "Fcl_EYE_Spread", "Fcl_MTH_Down", "Fcl_MTH_Fun", "Fcl_MTH_Sorrow", "Fcl_MTH_A", "Fcl_MTH_I",
    "Fcl_MTH_U",
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean(addon):
    empty_file()


def choose(head, name, channel, strength=1.0):
    row = head.mien_shapes.add()
    row.name, row.channel, row.strength = name, channel, strength


def overridden(path):
    """Save this file's rig as a library, and return the target of another file: an override of its head."""
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    empty_file()
    with bpy.data.libraries.load(str(path), link=True) as (there, here):
        here.objects = list(there.objects)
    for obj in here.objects:
        bpy.context.collection.objects.link(obj)
    linked = bpy.data.objects["Head"]
    bpy.context.scene.mien.target = linked
    assert not bpy.ops.mien.map_shapes.poll()
    head = linked.override_hierarchy_create(bpy.context.scene, bpy.context.view_layer, do_fully_editable=True)
    bpy.context.scene.mien.target = head
    return head


def rename(head):
    """Give a head names that tell nothing, and choose what they stand for."""
    for unit in UNITS:
        head.data.shape_keys.key_blocks[unit].name = f"shape {UNITS.index(unit)}"
    bones = head.parent.data.bones
    for role, setting in HEAD_BONES.items():
        bones[role].name = f"bone {role}"
        setattr(head, setting, f"bone {role}")
    for i, unit in enumerate(UNITS):
        choose(head, f"shape {i}", unit)
    return head


def baked(head, performance):
    bake_performance(bpy.context, find_target(head), performance, BakeOptions(tolerance=0.0, rotation_tolerance=0.0))
    found = {**curves_of(head.data.shape_keys), **curves_of(head.parent)}
    return {path: np.array([tuple(p.co) for p in curve.keyframe_points]) for path, curve in found.items()}


def test_a_bake_gives_the_same_under_other_names():
    performance = make_performance()
    usual, other = baked(make_rig(), performance), baked(rename(make_rig()), performance)
    assert len(usual) == len(other) == len(UNITS) + 4 * len(BONES)
    for (path, index), keys in usual.items():
        for i, unit in enumerate(UNITS):
            path = path.replace(f'key_blocks["{unit}"]', f'key_blocks["shape {i}"]')
        path = path.replace('bones["', 'bones["bone ')
        np.testing.assert_array_equal(other[path, index], keys)


def test_strength_and_several_shapes_of_one_channel():
    head = make_rig(keys=("a", "b", "c", "Smile"))
    choose(head, "a", "JawOpen", 0.5)
    choose(head, "b", "JawOpen", 3.0)
    choose(head, "c", "mouthFunnel")
    performance = make_performance()
    keys = baked(head, performance)
    whole = keys['key_blocks["a"].value', 0][:, 1] * 2
    assert whole.max() > 0.9
    np.testing.assert_allclose(keys['key_blocks["b"].value', 0][:, 1], np.minimum(3 * whole, 1), atol=1e-5)
    assert 'key_blocks["Smile"].value' not in {path for path, _index in keys}  # names count for nothing now

    bpy.context.scene.mien.target = head
    assert "1/11 units, 1 ARKit shapes, 5/5 bones" in drawn_by(MIEN_PT_main)

    puppet = Puppet(find_target(head), Channels())
    units, arkit = [0.0] * len(UNITS), [0.0] * len(ARKIT)
    units[UNITS.index("JawOpen")] = 0.4
    puppet.apply(Sample(units, arkit, [1.0, 0.0, 0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]))
    blocks = head.data.shape_keys.key_blocks
    assert [blocks[name].value for name in "abc"] == pytest.approx([0.2, 1.0, 0.0])


def test_live_turns_bones_of_other_names():
    usual, other = make_rig(), rename(make_rig())
    sample = Sample([0.7] * len(UNITS), [0.0] * len(ARKIT), [0.98, 0.1, 0.15, 0.05], [[0.2, 0.1], [0.1, -0.1]])
    for head in (usual, other):
        Puppet(find_target(head), Channels()).apply(sample)
    for role in BONES:
        turn = usual.parent.pose.bones[role].rotation_quaternion
        assert tuple(other.parent.pose.bones[f"bone {role}"].rotation_quaternion) == tuple(turn)
        assert abs(turn[0]) < 1


def test_names_of_vroid_are_told_and_listed_to_be_changed():
    head = make_rig(keys=VROID)
    bones = head.parent.data.bones
    for role, name in (("neck", "J_Bip_C_Neck"), ("head", "J_Bip_C_Head"), ("eye.L", "J_Adj_L_FaceEye")):
        bones[role].name = name
    bpy.context.scene.mien.target = head
    assert "mien.map_shapes" in drawn_by(MIEN_PT_mapping)
    told = find_target(head)
    assert bpy.ops.mien.map_shapes() == {"FINISHED"}
    assert [row.name for row in head.mien_shapes] == list(VROID)
    target = find_target(head)
    assert target.rig == told.rig
    assert target.rig.keys == {
        "Fcl_BRW_Angry": "BrowFurrow",
        "Fcl_BRW_Surprised": "BrowRaise",
        "Fcl_EYE_Close_R": "BlinkRight",
        "Fcl_EYE_Close_L": "BlinkLeft",
        "Fcl_EYE_Fun": "CheekSquint",
        "Fcl_EYE_Spread": "EyeWide",
        "Fcl_MTH_Sorrow": "Frown",
        "Fcl_MTH_Fun": "Smile",
        "Fcl_MTH_A": "JawOpen",
        "Fcl_MTH_U": "Pucker",
    }
    assert target.missing_units == ("NoseWrinkle",)
    assert {role: bone.name for role, bone in target.rig.bones.items()} == {
        "neck": "J_Bip_C_Neck", "head": "J_Bip_C_Head", "jaw": "jaw", "eye.L": "J_Adj_L_FaceEye", "eye.R": "eye.R",
    }  # fmt: skip

    # What was chosen stays, what is new comes, what is gone goes.
    head.mien_shapes["Fcl_MTH_I"].channel = "mouthStretchLeft"
    head.mien_shapes["Fcl_MTH_A"].strength = 0.6
    head.shape_key_add(name="NoseWrinkle")
    head.shape_key_remove(head.data.shape_keys.key_blocks["Fcl_EYE_Fun"])
    assert find_target(head).notices[0] == "No shape key Fcl_EYE_Fun, which the mapping names"
    bpy.ops.mien.map_shapes()
    target = find_target(head)
    assert target.rig.keys["Fcl_MTH_I"] == "mouthStretchLeft"
    assert target.rig.keys["NoseWrinkle"] == "NoseWrinkle"
    assert target.rig.strengths == {"Fcl_MTH_A": pytest.approx(0.6)}
    assert not target.notices
    assert "mien.map_by_name" in drawn_by(MIEN_PT_mapping)
    bpy.ops.mien.map_by_name()
    keys = {name: channel for name, channel in told.rig.keys.items() if name != "Fcl_EYE_Fun"}
    assert find_target(head).rig.keys == keys | {"NoseWrinkle": "NoseWrinkle"}


def test_names_that_tell_nothing_are_left_to_the_user():
    head = make_rig(keys=("Key 1", "Fcl_ALL_Joy"))
    with pytest.raises(MienError, match="has a name that Mien knows") as caught:
        find_target(head)
    assert "Mapping" in caught.value.hint


def test_guesses_take_no_channel_twice():
    assert guess_shapes(("Blink_L", "Fcl_EYE_Close_L", "mouthSmileLeft")) == {
        "mouthSmileLeft": "mouthSmileLeft",
        "Blink_L": "BlinkLeft",
    }
    assert guess_shapes(("BlinkLeft", "Fcl_EYE_Close_L", "Panama", "Emu")) == {"BlinkLeft": "BlinkLeft"}
    assert guess_shapes(("Smile", "Fcl_MTH_A"), taken=frozenset(["JawOpen"])) == {"Smile": "Smile"}


def test_with_perfect_sync_all_that_vroids_own_make_is_made_by_arkits():
    assert guess_shapes((*VROID, *ARKIT)) == dict(zip(ARKIT, ARKIT, strict=True))
    head = make_rig(keys=(*VROID, "Smile", *ARKIT))
    assert set(find_target(head).rig.keys) == set(ARKIT)
    assert "Smile left to mouthSmileLeft, mouthSmileRight" in find_target(head).notices
    bpy.context.scene.mien.target = head
    bpy.ops.mien.map_shapes()
    assert {row.name for row in head.mien_shapes if row.channel} == set(ARKIT)


def test_guesses_of_character_creators_names():
    sided = {
        "Brow_Drop_{}": "browDown{}", "Brow_Raise_Inner_{}": "browInnerUp", "Brow_Raise_Outer_{}": "browOuterUp{}",
        "Cheek_Puff_{}": "cheekPuff", "Cheek_Raise_{}": "cheekSquint{}", "Eye_Blink_{}": "eyeBlink{}",
        "Eye_Squint_{}": "eyeSquint{}", "Eye_Wide_{}": "eyeWide{}", "Eye_{}_Look_Down": "eyeLookDown{}",
        "Jaw_{}": "jaw{}", "Mouth_{}": "mouth{}", "Mouth_Dimple_{}": "mouthDimple{}",
        "Mouth_Down_Lower_{}": "mouthLowerDown{}", "Mouth_Frown_{}": "mouthFrown{}",
        "Mouth_Funnel_Down_{}": "mouthFunnel", "Mouth_Funnel_Up_{}": "mouthFunnel", "Mouth_Press_{}": "mouthPress{}",
        "Mouth_Pucker_Down_{}": "mouthPucker", "Mouth_Pucker_Up_{}": "mouthPucker",
        "Mouth_Roll_In_Lower_{}": "mouthRollLower", "Mouth_Roll_In_Upper_{}": "mouthRollUpper",
        "Mouth_Smile_{}": "mouthSmile{}", "Mouth_Stretch_{}": "mouthStretch{}", "Mouth_Up_Upper_{}": "mouthUpperUp{}",
        "Nose_Sneer_{}": "noseSneer{}", "Eye_{}_Look_Up": "eyeLookUp{}",
    }  # fmt: skip
    wanted = {
        name.format(side[0]): channel.format(side) for side in ("Left", "Right") for name, channel in sided.items()
    }
    wanted |= {"Eye_L_Look_L": "eyeLookOutLeft", "Eye_L_Look_R": "eyeLookInLeft"}
    wanted |= {"Eye_R_Look_L": "eyeLookInRight", "Eye_R_Look_R": "eyeLookOutRight"}
    wanted |= {"Jaw_Forward": "jawForward", "Jaw_Open": "jawOpen", "Mouth_Close": "mouthClose"}
    wanted |= {
        "Mouth_Shrug_Lower": "mouthShrugLower",
        "Mouth_Shrug_Upper": "mouthShrugUpper",
        "Tongue_Out": "tongueOut",
    }
    found = guess_shapes((*wanted, "Brow_Compress_L", "V_Open", "Mouth_Blow_L", "Eyelash_Upper_Up_L"))
    assert found == wanted
    assert set(found.values()) == set(ARKIT)
    bones = ("CC_Base_NeckTwist01", "CC_Base_Head", "CC_Base_JawRoot", "CC_Base_L_Eye", "CC_Base_R_Eye")
    assert guess_bones(bones) == {
        "neck": "CC_Base_NeckTwist01", "head": "CC_Base_Head", "jaw": "CC_Base_JawRoot",
        "eye.L": "CC_Base_L_Eye", "eye.R": "CC_Base_R_Eye",
    }  # fmt: skip


def test_guesses_of_other_programs_names():
    assert guess_shapes(("mouthOpen", "mouthSmile")) == {"mouthOpen": "JawOpen", "mouthSmile": "Smile"}
    mmd = {
        "まばたき": None, "笑い": None, "ウィンク": "BlinkLeft", "ウィンク右": "BlinkRight", "びっくり": "EyeWide",
        "あ": "JawOpen", "い": None, "う": "Pucker", "え": None, "にやり": "Smile", "口角下げ": "Frown", "困る": None,
        "怒り": "BrowFurrow", "上": "BrowRaise", "下": None,
    }  # fmt: skip
    assert guess_shapes(tuple(mmd)) == {name: unit for name, unit in mmd.items() if unit is not None}
    # Those of 笑い (a laugh) stand first in the usual order, and give way to those of まばたき (a blink).
    winks = ("ウィンク", "ウィンク右", "ウィンク２", "ｳｨﾝｸ２右")
    assert guess_shapes(winks) == {"ウィンク２": "BlinkLeft", "ｳｨﾝｸ２右": "BlinkRight"}


def test_a_letter_alone_is_no_vowel():
    assert guess_shapes(("A", "Wobble")) == {}
    assert guess_shapes(("あ", "Wobble")) == {}
    assert guess_shapes(("A", "I", "U", "Wobble")) == {"A": "JawOpen", "U": "Pucker"}
    assert guess_shapes(("browInnerUp", "Fcl_BRW_Surprised")) == {"browInnerUp": "browInnerUp"}  # not twice


def test_chosen_bones_count_before_names_of_another_armature():
    head, body = make_rig(), make_rig().parent
    face = head.parent
    for role, name in zip(BONES, ("n", "Skull", "j", "l", "r"), strict=True):
        face.data.bones[role].name = name
    for role, name in zip(BONES, ("Neck", "Head", "Jaw", "LeftEye", "RightEye"), strict=True):
        body.data.bones[role].name = f"mixamorig:{name}"
    head.parent = body
    assert find_target(head).armature == body
    head.mien_head = "Skull"
    target = find_target(head)
    assert target.armature == face
    assert {role: bone.name for role, bone in target.rig.bones.items()} == {"head": "Skull"}


def eyeball(rig, group):
    """An eye whose own keys turn it, weighted to a bone, as Ready Player Me's."""
    eye = make_rig(keys=("eyeLookOutLeft", "eyeLookUpLeft"), bones=())
    eye.parent = rig
    eye.modifiers.new("Armature", "ARMATURE").object = rig
    eye.vertex_groups.new(name=group).add([0, 1, 2], 1.0, "REPLACE")
    return eye


def test_eyes_that_shape_keys_turn_are_not_turned_by_bones_too():
    head = make_rig(keys=ARKIT)
    for role, name in (("eye.L", "LeftEye"), ("eye.R", "RightEye"), ("head", "Head")):
        head.parent.data.bones[role].name = name
    assert set(find_target(head).rig.bones) == set(BONES)  # the lids alone may follow the gaze
    eyeball(head.parent, "LeftEye")
    target = find_target(head)
    assert set(target.rig.bones) == {"neck", "head", "jaw", "eye.R"}
    assert "Shape keys turn the eyes, so LeftEye rest" in target.notices
    assert not target.missing_bones
    head.mien_eye_left = "LeftEye"  # whoever wants it
    assert set(find_target(head).rig.bones) == set(BONES)


def test_eyes_whose_shape_keys_are_sculpted_later_are_turned_by_them():
    head = make_rig(keys=ARKIT)
    head.parent.data.bones["eye.L"].name = "LeftEye"
    eye = eyeball(head.parent, "LeftEye")
    look, rest = eye.data.shape_keys.key_blocks["eyeLookOutLeft"], eye.data.shape_keys.reference_key
    look.data[0].co = rest.data[0].co  # made, and not sculpted yet
    assert "eye.L" in find_target(head).rig.bones
    look.data[0].co.x += 1.0
    time.sleep(FRESH + 0.1)
    assert "eye.L" not in find_target(head).rig.bones


def test_the_plainest_bone_is_meant():
    assert guess_bones(("CTL_head", "FK_Head", "hair_head", "Head")) == {"head": "Head"}
    assert guess_bones(("aimee:Neck", "aimee:Head")) == {"neck": "aimee:Neck", "head": "aimee:Head"}


@pytest.mark.parametrize(
    "names",
    [
        ("Neck", "Head", None, "LeftEye", "RightEye"),  # Ready Player Me
        ("mixamorig:Neck", "mixamorig:Head", None, "mixamorig:LeftEye", "mixamorig:RightEye"),
        ("neckLower", "head", "lowerJaw", "lEye", "rEye"),  # DAZ Genesis 8
        ("neck1", "head", "lowerjaw", "l_eye", "r_eye"),  # Genesis 9
        ("neck_01", "head", None, None, None),  # Unreal's mannequin
        ("首", "頭", None, "目.L", "目.R"),  # as mmd_tools has them
    ],
)
def test_guesses_of_other_programs_bones(names):
    beside = ("HeadTop_End", "Spine", "neckUpper", "neck2", "neck_02", "upperFaceRig", "lLowerEyelid", "両目", "左腕")
    wanted = dict(zip(BONES, names, strict=True))
    assert guess_bones((*beside, *filter(None, names))) == {role: name for role, name in wanted.items() if name}


def test_guesses_of_bones():
    assert guess_bones(("mixamorig:Head", "head", "Forehead", "Bottleneck", "IK_Head")) == {"head": "head"}
    assert guess_bones(("CTRL_Eye", "Upper_Eye", "target_eye.L", "ORG-eye.L", "LeftEye")) == {"eye.L": "LeftEye"}
    assert guess_bones(("jaw", "jaw_master")) == {"jaw": "jaw_master"}


def test_names_that_data_paths_have_to_escape():
    head = make_rig(keys=('say "aa"', "back\\slash"))
    head.parent.data.bones["jaw"].name = 'the "jaw"'
    head.mien_jaw = 'the "jaw"'
    choose(head, 'say "aa"', "JawOpen")
    choose(head, "back\\slash", "Smile")
    performance = make_performance()
    bake_performance(bpy.context, find_target(head), performance, BakeOptions())
    bpy.context.scene.frame_set(40)
    values = [block.value for block in head.data.shape_keys.key_blocks[1:]]
    given = performance.units[:, [UNITS.index("JawOpen"), UNITS.index("Smile")]]
    assert values == pytest.approx([np.interp(39 / 24, performance.times, row) for row in given.T], abs=0.01)
    assert max(values) > 0.1
    assert abs(head.parent.pose.bones['the "jaw"'].rotation_quaternion[0]) < 1
    sample = samples_of(performance, find_target(head).rig, 24.0)[39]
    assert set(sample.weights) == {'say "aa"', "back\\slash"}
    assert 'the "jaw"' in sample.bones


def test_what_stands_in_the_way_is_told():
    head = rename(make_rig())
    head.mien_jaw = "bone head"
    target = find_target(head)
    assert "jaw" not in target.rig.bones
    assert any("bone head more than once: not as jaw" in notice for notice in target.notices)
    head.mien_jaw = "chin"
    assert find_target(head).missing_bones == {"jaw": "chin"}
    for row, channel in zip(head.mien_shapes, ("", "smile", "no channel", *[""] * len(UNITS)), strict=False):
        row.channel = channel
    with pytest.raises(MienError, match="has a name that Mien knows"):
        find_target(head)


def test_the_mapping_is_kept_with_the_file_and_undone(tmp_path):
    head = make_rig(keys=VROID)
    bpy.context.scene.mien.target = head
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.mien.map_shapes()
    bpy.ops.ed.undo_push(message="Map Shape Keys")
    path = tmp_path / "mapped.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.ed.undo()
    assert not bpy.data.objects["Head"].mien_shapes
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert mapping_of(bpy.data.objects["Head"]).channels["Fcl_MTH_A"] == "JawOpen"


def test_a_linked_head_is_mapped_by_an_override(tmp_path):
    make_rig(keys=VROID)
    head = overridden(tmp_path / "library.blend")
    assert bpy.ops.mien.map_shapes() == {"FINISHED"}
    assert not head.mien_shapes[1].is_property_readonly("channel")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    head = bpy.context.scene.mien.target
    assert head.override_library is not None
    assert mapping_of(head).channels["Fcl_MTH_A"] == "JawOpen"


def test_a_librarys_mapping_is_changed_in_an_override(tmp_path):
    source = make_rig(keys=("Smile", "grin", "gone"))
    choose(source, "gone", "JawOpen", 0.5)
    choose(source, "grin", "JawOpen", 0.5)
    source.shape_key_remove(source.data.shape_keys.key_blocks["gone"])
    head = overridden(tmp_path / "library.blend")
    assert mapping_of(head).gone == ("gone",)
    bpy.ops.mien.map_shapes()
    assert not mapping_of(head).gone
    assert mapping_of(head).channels == {"Smile": "Smile", "grin": "JawOpen"}
    bpy.ops.mien.map_by_name()
    assert mapping_of(head).channels == {"Smile": "Smile"}
    assert not mapping_of(head).by_hand


def test_expressions_and_the_preview_go_by_the_mapping():
    head = rename(make_rig())
    mapping = mapping_of(head)
    assert compose.has_face(head)
    shapes = tuple(mapping.channels)
    smile, jaw, blink = (f"shape {UNITS.index(unit)}" for unit in ("Smile", "JawOpen", "BlinkLeft"))
    assert on_shapes(BASIC["happiness"], shapes, mapping)[smile] == 0.9
    assert on_shapes({smile: 0.3}, shapes, mapping) == {smile: 0.3}  # as it was saved on this head
    face = dict.fromkeys(shapes, 0.0) | {jaw: 0.4, blink: 1.0, smile: 0.7}
    assert blend(face, BASIC["neutral"], 1.0, mapping) == face | {smile: 0.0}  # it speaks and blinks on
    head.data.shape_keys.key_blocks[smile].value = 0.5
    assert overlay.face_of(head)[smile] == 0.5
    bpy.context.scene.mien_preview.expression, bpy.context.scene.mien_preview.strength = "happiness", 1.0
    assert overlay.face_of(head)[smile] == pytest.approx(0.9)


def test_an_expression_saved_on_a_mapped_head_is_worn_by_others():
    """It is kept by channels, so labels set it off, too; strengths are those of the head that wears it."""
    head = rename(make_rig())
    smile = f"shape {UNITS.index('Smile')}"
    head.mien_shapes[smile].strength = 0.5
    for block in head.data.shape_keys.key_blocks:
        block.value = 0.4 if block.name == smile else 0.0
    mapping = mapping_of(head)
    kept = channels_worn(overlay.face_of(head), mapping)
    assert kept == {"Smile": pytest.approx(0.8)}
    assert on_shapes(kept, tuple(mapping.channels), mapping) == {smile: pytest.approx(0.4)}
    assert on_shapes(kept, UNITS) == {"Smile": pytest.approx(0.8)}
    values = dict.fromkeys(mapping.channels, 0.0)
    lay_on(values, PreviewSample({"Smile": 0.6}), mapping)
    assert values[smile] == pytest.approx(0.3)
