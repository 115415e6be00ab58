"""Baking on real Blender data: what Blender evaluates is what was captured."""

from __future__ import annotations

import itertools
import math

import bpy
import mathutils
import numpy as np
import pytest

from mien.addon import actions
from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.rig.targets import find_target
from mien.core.errors import MienError
from mien.core.units import ARKIT, ARKIT_INDEX, UNITS

from .conftest import curves_of, link_action, make_performance, make_rig


def run(mesh, performance, /, **options):
    options = {"rotation_tolerance": math.radians(0.1), **options}
    return bake_performance(bpy.context, find_target(mesh), performance, BakeOptions(**options))


def test_enum_values_are_blenders():
    def values(name):
        return {item.identifier: item.value for item in bpy.types.Keyframe.bl_rna.properties[name].enum_items}

    assert values("interpolation")["BEZIER"] == actions.BEZIER
    assert values("handle_left_type")["FREE"] == actions.FREE
    assert values("handle_left_type")["ALIGNED"] == actions.ALIGNED


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "XYZ", "ZYX", "YXZ"])
def test_every_frame_is_within_tolerance(mode):
    head = make_rig(mode=mode)
    performance = make_performance(150, 30.0)
    summary = run(head, performance, tolerance=0.01, start_frame=11)
    assert (summary.start, summary.end) == (11, 11 + int(performance.times[-1] * 24))
    assert summary.keys_after < summary.keys_before / 3

    exact = make_rig(mode=mode)
    run(exact, performance, rotation_tolerance=0.0, start_frame=11)
    key_curves = curves_of(head.data.shape_keys)
    for frame in range(summary.start, summary.end + 1):
        bpy.context.scene.frame_set(frame)
        for bone, other in zip(head.parent.pose.bones, exact.parent.pose.bones, strict=True):
            one, two = (np.array(each.matrix_basis.to_quaternion()) for each in (bone, other))
            apart = min(np.linalg.norm(one - two), np.linalg.norm(one + two))
            assert 4 * math.asin(apart / 2) < math.radians(0.1) + 1e-5  # single precision
        time = (frame - 11) / 24
        for i, name in enumerate(UNITS):
            truth = np.interp(time, performance.times, performance.units[:, i])
            # 0.01 the tolerance, the rest what a straight line between samples misses of a wave.
            assert key_curves[f'key_blocks["{name}"].value', 0].evaluate(frame) == pytest.approx(truth, abs=0.0115)


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "XYZ", "ZXY"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_neck_and_head_together_make_the_measured_rotation(mode, share):
    head = make_rig(mode=mode)
    armature = head.parent
    performance = make_performance(60, 24.0)
    run(head, performance, neck_share=share)
    rest = armature.data.bones["head"].matrix_local.to_quaternion()
    neck_rest = armature.data.bones["neck"].matrix_local.to_quaternion()
    for frame in (1, 7, 20, 33, 60):
        bpy.context.scene.frame_set(frame)
        w, x, y, z = performance.head[frame - 1]
        measured = mathutils.Quaternion((w, x, -z, y))
        posed = armature.pose.bones["head"].matrix.to_quaternion() @ rest.inverted()
        assert measured.rotation_difference(posed).angle < math.radians(0.25)
        neck = armature.pose.bones["neck"].matrix.to_quaternion() @ neck_rest.inverted()
        assert measured.angle * share == pytest.approx(neck.angle, abs=math.radians(0.25))


def test_turning_to_the_actors_left_turns_the_rig_to_its_left():
    head = make_rig()
    turn = np.tile((math.cos(0.2), 0.0, math.sin(0.2), 0.0), (10, 1))  # about +Y, up
    eyes = np.zeros((10, 2, 2))
    eyes[:, 0] = (0.3, 0.2)  # left eye: to the actor's left, and up
    units = np.zeros((10, len(UNITS)))
    units[:, UNITS.index("JawOpen")] = 1.0
    run(head, make_performance(10, 24.0, head=turn, eyes=eyes, units=units))
    bones = head.parent.pose.bones

    def moved(name, direction):
        rest = head.parent.data.bones[name].matrix_local.to_quaternion()
        return bones[name].matrix.to_quaternion() @ rest.inverted() @ mathutils.Vector(direction)

    facing = (0.0, -1.0, 0.0)
    assert moved("head", facing).x == pytest.approx(math.sin(0.4), abs=1e-3)  # +X is the character's left
    # The head's turn comes on top of the eye's own.
    own = mathutils.Vector((math.sin(0.3) * math.cos(0.2), -math.cos(0.3) * math.cos(0.2), math.sin(0.2)))
    expected = mathutils.Quaternion((0, 0, 1), 0.4) @ own
    assert (moved("eye.L", facing) - expected).length < 2e-3
    chin = mathutils.Quaternion((0, 0, 1), -0.4) @ moved("jaw", facing)
    assert chin.z == pytest.approx(-math.sin(math.radians(20.0)), abs=2e-3)  # down: open


def test_the_rigs_own_jaw_angle_counts(rig):
    rig.parent["mien_jaw_open_angle"] = 0.5
    units = np.ones((5, len(UNITS)))
    run(rig, make_performance(5, 24.0, units=units), head=False, eyes=False)
    assert rig.parent.pose.bones["jaw"].rotation_quaternion.angle == pytest.approx(0.5, abs=2e-3)


def test_time_is_kept_not_frames(rig):
    """A variable-rate source: a step at 2.0 s lands on the scene's second 2, at any scene rate."""
    times = np.concatenate((np.arange(0, 1.0, 1 / 60), np.arange(1.0, 4.0, 1 / 11)))
    units = np.tile((times >= 2.0)[:, None], (1, len(UNITS))).astype(float)
    bpy.context.scene.render.fps = 24000
    bpy.context.scene.render.fps_base = 1001
    run(rig, make_performance(times=times, units=units), start_frame=101, tolerance=0.001)
    curve = curves_of(rig.data.shape_keys)['key_blocks["Smile"].value', 0]
    fps = 24000 / 1001
    before, after = times[times < 2.0][-1], times[times >= 2.0][0]
    assert curve.evaluate(math.floor(101 + before * fps)) < 0.002
    assert curve.evaluate(math.ceil(101 + after * fps)) > 0.998


def test_a_performance_may_begin_between_two_frames(rig):
    units = np.repeat(np.linspace(0, 0.5, 49)[:, None], len(UNITS), axis=1)
    for start, first, last in ((100.4, 100, 148), (100.6, 101, 148), (100, 100, 148)):
        summary = run(rig, make_performance(49, 24.0, units=units), start_frame=start, tolerance=0.0)
        assert (summary.start, summary.end) == (first, last)
        curve = curves_of(rig.data.shape_keys)['key_blocks["Smile"].value', 0]
        frames = np.arange(first, last + 1)
        expected = np.clip((frames - start) / 96, 0, 0.5)
        np.testing.assert_allclose([curve.evaluate(frame) for frame in frames], expected, atol=1e-4)


def test_time_stretching_is_told(rig):
    assert not any("Stretching" in notice for notice in run(rig, make_performance(5, 24.0)).notices)
    bpy.context.scene.render.frame_map_new = 200
    assert any("Time Stretching is on" in notice for notice in run(rig, make_performance(5, 24.0)).notices)


def test_zero_tolerance_keys_every_frame(rig):
    summary = run(rig, make_performance(48, 24.0), tolerance=0.0, rotation_tolerance=0.0)
    assert summary.keys_after == summary.keys_before == summary.channels * 48


def test_a_still_channel_gets_two_keys(rig):
    summary = run(rig, make_performance(48, 24.0, units=np.zeros((48, 11))), head=False, jaw=False, eyes=False)
    assert summary.keys_after == 2 * 11


def test_values_never_leave_0_to_1_between_frames(rig):
    rng = np.random.default_rng(4)
    units = np.clip(np.cumsum(rng.normal(size=(200, 11)), axis=0) * 0.15, 0, 1)
    summary = run(rig, make_performance(200, 24.0, units=units), tolerance=0.02)
    for curve in curves_of(rig.data.shape_keys).values():
        values = [curve.evaluate(frame) for frame in np.linspace(summary.start, summary.end, 3001)]
        assert min(values) >= -1e-6
        assert max(values) <= 1 + 1e-6


def test_handles_are_a_third_and_stay_so(rig):
    """Blender recalculates handles on any edit: with these types it finds them as they should be."""
    run(rig, make_performance(150, 24.0))
    for curve in (*curves_of(rig.data.shape_keys).values(), *curves_of(rig.parent).values()):
        before = [(*p.handle_left, *p.handle_right) for p in curve.keyframe_points]
        curve.keyframe_points.handles_recalc()
        curve.update()
        after = [(*p.handle_left, *p.handle_right) for p in curve.keyframe_points]
        assert np.allclose(before, after, atol=1e-5)
        points = curve.keyframe_points
        for a, b in itertools.pairwise(points):
            third = (b.co.x - a.co.x) / 3
            assert a.handle_right.x - a.co.x == pytest.approx(third, rel=1e-4)
            assert b.co.x - b.handle_left.x == pytest.approx(third, rel=1e-4)


@pytest.mark.parametrize("start", [-500, 1, 100_000])
def test_start_frames_far_away(rig, start):
    performance = make_performance(100, 24.0)
    run(rig, performance, start_frame=start, tolerance=0.005)
    curve = curves_of(rig.data.shape_keys)['key_blocks["Smile"].value', 0]
    off = [curve.evaluate(start + i) - performance.units[i, UNITS.index("Smile")] for i in range(100)]
    # At frame 100,000 Blender's own key times are rounded to 1/128 frame.
    assert np.abs(off).max() < (0.0051 if start < 10_000 else 0.006)


def test_arkit_names_are_driven_too():
    head = make_rig(keys=("jawOpen", "mouthSmileLeft", "Frown", "Other"), bones=())
    performance = make_performance(24, 24.0)
    summary = run(head, performance, tolerance=0.0)
    found = curves_of(head.data.shape_keys)
    assert {path for path, _ in found} == {f'key_blocks["{n}"].value' for n in ("Frown", "jawOpen", "mouthSmileLeft")}
    value = found['key_blocks["jawOpen"].value', 0].evaluate(10)
    assert value == pytest.approx(performance.arkit[9, ARKIT_INDEX["jawOpen"]], abs=1e-6)
    assert summary.channels == 3
    missing = next(notice for notice in summary.notices if "no shape key" in notice)
    assert "Smile" in missing
    assert "JawOpen" not in missing  # jawOpen does it


def test_no_movement_is_made_twice():
    head = make_rig(keys=(*UNITS, *ARKIT), bones=())
    target = find_target(head)
    assert tuple(target.rig.keys) == ARKIT
    head = make_rig(keys=("mouthSmileLeft", "mouthSmileRight", "Smile", "Frown", "mouthFrownLeft"), bones=())
    target = find_target(head)
    assert "Smile" not in target.rig.keys
    assert "Frown" in target.rig.keys  # ARKit's would be but half of it
    assert "Smile left to mouthSmileLeft, mouthSmileRight" in target.notices
    # Shapes that drivers hold do nothing in its stead.
    for side in ("Left", "Right"):
        head.data.shape_keys.key_blocks[f"mouthSmile{side}"].driver_add("value")
    assert "Smile" in find_target(head).rig.keys


def test_keys_of_other_spelling_are_driven(rig):
    head = make_rig(keys=("JawOpen", "mouthSmile_L", "mouthSmile_R"), bones=())
    performance = make_performance(24, 24.0)
    run(head, performance, tolerance=0.0)
    value = curves_of(head.data.shape_keys)['key_blocks["mouthSmile_L"].value', 0].evaluate(10)
    assert value == pytest.approx(performance.arkit[9, ARKIT_INDEX["mouthSmileLeft"]], abs=1e-6)


def test_channels_can_be_left_out(rig):
    summary = run(rig, make_performance(24, 24.0), shape_keys=False, head=False, jaw=False)
    assert summary.channels == 8
    assert not curves_of(rig.data.shape_keys)
    assert {path for path, _ in curves_of(rig.parent)} == {
        'pose.bones["eye.L"].rotation_quaternion',
        'pose.bones["eye.R"].rotation_quaternion',
    }


def test_one_action_with_two_slots_where_blender_has_slots(rig):
    summary = run(rig, make_performance(24, 24.0), action_name="Take 1")
    key, armature = rig.data.shape_keys, rig.parent
    if bpy.app.version >= (4, 4, 0):
        assert summary.actions == ("Take 1",)
        assert key.animation_data.action == armature.animation_data.action
        assert {slot.target_id_type for slot in key.animation_data.action.slots} == {"KEY", "OBJECT"}
    else:
        assert summary.actions == ("Take 1", "Take 1 Bones")


def test_a_new_action_keeps_the_old_one(rig):
    first = run(rig, make_performance(24, 24.0), action_name="Take")
    second = run(rig, make_performance(24, 24.0), action_name="Take")
    assert set(first.actions).isdisjoint(second.actions)
    for name in first.actions:
        assert bpy.data.actions[name].use_fake_user


def test_an_action_with_more_in_it_is_told_when_a_new_one_takes_its_place(rig):
    def told(**options):
        return [line for line in run(rig, make_performance(24, 24.0), **options).notices if "put aside" in line]

    assert told() == told() == []  # a bake of the same channels is but another version
    rig.parent.keyframe_insert("location", frame=1)
    rig.parent.animation_data.action.name = "Walk"
    assert told(head=False, jaw=False, eyes=False) == told(new_action=False) == []
    walk = 'The action "Walk" was put aside: choose Current under Action to keep its other channels'
    assert told() == [walk]
    assert told() == []


def test_into_the_current_action_replaces_only_the_range(rig):
    key = rig.data.shape_keys
    block = key.key_blocks["Smile"]
    for frame, value in ((1, 0.1), (5, 0.2), (20, 0.9), (40, 0.9), (80, 0.4), (100, 0.6)):
        block.value = value
        block.keyframe_insert("value", frame=frame)
    other = rig.data.shape_keys.key_blocks[0]
    other.keyframe_insert("value", frame=30)
    curve = curves_of(key)['key_blocks["Smile"].value', 0]
    curve.keyframe_points[0].interpolation = "LINEAR"
    action = key.animation_data.action
    before = {round(p.co.x): tuple(p.handle_right) for p in curve.keyframe_points}
    outside = (*np.arange(-5, 9.1, 0.25), *np.arange(51, 110.1, 0.25))
    stood = [curve.evaluate(frame) for frame in outside]

    summary = run(rig, make_performance(41, 24.0), new_action=False, start_frame=10, tolerance=0.0)
    assert key.animation_data.action == action
    assert not action.use_fake_user
    curve = curves_of(key)['key_blocks["Smile"].value', 0]
    points = {round(p.co.x): p for p in curve.keyframe_points}
    # One key on either side of the range holds what was there.
    assert set(points) == {1, 5, 9, 51, 80, 100, *range(10, 51)}
    np.testing.assert_allclose([curve.evaluate(frame) for frame in outside], stood, atol=2e-5)
    assert points[1].interpolation == "LINEAR"
    assert tuple(points[100].handle_right) == pytest.approx(before[100])
    assert len(curves_of(key)[f'key_blocks["{other.name}"].value', 0].keyframe_points) == 1
    assert summary.actions[0] == action.name


@pytest.mark.parametrize("extrapolation", ["CONSTANT", "LINEAR"])
@pytest.mark.parametrize("interpolation", ["BEZIER", "LINEAR", "CONSTANT"])
@pytest.mark.parametrize("handles", ["AUTO", "AUTO_CLAMPED", "VECTOR", "ALIGNED", "FREE"])
def test_what_stands_outside_of_the_range_stays_whatever_its_keys(rig, handles, interpolation, extrapolation):
    key = rig.data.shape_keys
    block = key.key_blocks["Smile"]
    # Half a frame beside the range, at it, and far from it; before and after it, or on one side alone.
    for frames in ((1, 30, 70), (1, 9.4, 50.6, 70), (2, 9, 51, 70), (1, 4, 6), (60, 70, 80), (20,)):
        for frame, value in zip(frames, (0.1, 0.9, 0.3, 0.8), strict=False):
            block.value = value
            block.keyframe_insert("value", frame=frame)
        curve = curves_of(key)['key_blocks["Smile"].value', 0]
        curve.extrapolation = extrapolation
        for point in curve.keyframe_points:
            point.interpolation = interpolation
            point.handle_left_type = point.handle_right_type = handles
        if handles == "FREE":
            # Too long for what lies between, and broken.
            for point in curve.keyframe_points:
                point.handle_right = (point.co.x + 40, point.co.y + 0.5)
                point.handle_left = (point.co.x - 8, point.co.y + 0.2)
        curve.update()
        inside = min(frames) > 9.5 and max(frames) < 50.5
        outside = () if inside else (*np.arange(-5, 9.1, 0.5), *np.arange(51, 90.1, 0.5))
        stood = [curve.evaluate(frame) for frame in outside]
        run(rig, make_performance(41, 24.0), new_action=False, start_frame=10)
        curve = curves_of(key)['key_blocks["Smile"].value', 0]
        np.testing.assert_allclose([curve.evaluate(frame) for frame in outside], stood, atol=1e-4)
        if inside:
            assert (curve.keyframe_points[0].co.x, curve.keyframe_points[-1].co.x) == (10, 50)
        key.animation_data_clear()


def test_current_action_without_one_makes_one(rig):
    run(rig, make_performance(24, 24.0), new_action=False, action_name="Fresh")
    assert rig.data.shape_keys.animation_data.action.name == "Fresh"


def test_muted_curves_are_told(rig):
    def told(**options):
        return [line for line in run(rig, make_performance(24, 24.0), **options).notices if "muted" in line]

    assert told() == told(new_action=False) == []
    curves_of(rig.parent)['pose.bones["jaw"].rotation_quaternion', 0].mute = True
    assert len(told(new_action=False)) == 1
    assert told(new_action=False, jaw=False) == []
    assert told() == []  # another action


def test_what_else_keeps_keys_from_playing_is_told(rig):
    def told(**options):
        rig.data.shape_keys.key_blocks["Smile"].value = 0.0
        summary = run(rig, make_performance(24, 24.0), **options)
        words = ("muted", "alone", "influence", "NLA")
        return [line for line in summary.notices if any(word in line for word in words)]

    assert told() == []
    data, curves = rig.data.shape_keys.animation_data, curves_of(rig.data.shape_keys)
    action, group = data.action.name, curves['key_blocks["Smile"].value', 0].group
    group.mute = True
    assert told(new_action=False) == [
        f'F-curves of the action "{action}" are muted, so their keys do not play: unmute them in the Graph Editor'
    ]
    group.mute = False
    data.action_influence = 0.5
    assert told(new_action=False) == [f'The action "{action}" plays with an influence of 0.5: set it to 1']
    data.action_influence = 1.0
    track = data.nla_tracks.new()
    track.strips.new("Old", 1, data.action)
    assert told(new_action=False) == []
    data.action_blend_type = "ADD"
    (blended,) = told(new_action=False)
    assert "set its Blending to Replace" in blended
    data.action_blend_type = "REPLACE"
    track.is_solo = True
    alone = f'An NLA track plays alone, so the action "{action}" does not: turn off its star'
    assert told(new_action=False) == [alone]
    group.lock = True
    with pytest.raises(MienError, match="locked"):
        told(new_action=False)


def test_a_locked_curve_stops_the_bake_and_everything_is_put_back(rig, unchanged):
    run(rig, make_performance(24, 24.0), tolerance=0.0)
    curves_of(rig.parent)['pose.bones["eye.R"].rotation_quaternion', 3].lock = True
    unchanged()
    with pytest.raises(MienError) as caught:
        run(rig, make_performance(30, 24.0), new_action=False)
    assert caught.value.code == "curve-locked"


@pytest.mark.parametrize("part", ["keys", "bones"])
def test_a_linked_action_in_use_stops_the_bake_into_it(rig, unchanged, tmp_path, part):
    owner = rig.data.shape_keys if part == "keys" else rig.parent
    owner.animation_data_create().action = link_action(bpy.data.actions.new("Linked"), tmp_path)
    unchanged()
    with pytest.raises(MienError) as caught:
        run(rig, make_performance(30, 24.0), new_action=False)
    assert caught.value.code == "action-linked"


@pytest.mark.parametrize("kind", ["curve-modified", "curve-sampled"])
def test_a_curve_that_would_not_play_its_keys_stops_the_bake(rig, unchanged, kind):
    run(rig, make_performance(24, 24.0))
    curve = curves_of(rig.data.shape_keys)['key_blocks["Smile"].value', 0]
    if kind == "curve-modified":
        curve.modifiers.new("CYCLES")
    else:
        curve.convert_to_samples(1, 24)
    unchanged()
    with pytest.raises(MienError) as caught:
        run(rig, make_performance(30, 24.0), new_action=False, start_frame=40)
    assert caught.value.code == kind


def test_a_failure_leaves_no_group_in_the_action_in_use(rig):
    rig.parent.keyframe_insert("location", frame=1)
    action = rig.parent.animation_data.action
    bag = action.layers[0].strips[0].channelbags[0] if actions.slotted() else action
    before = [group.name for group in bag.groups]
    run(rig, make_performance(24, 24.0), new_action=False, head=False, jaw=False)
    curves_of(rig.parent)['pose.bones["eye.R"].rotation_quaternion', 3].lock = True
    eyes = [group.name for group in bag.groups]
    with pytest.raises(MienError):
        run(rig, make_performance(24, 24.0), new_action=False)
    assert [group.name for group in bag.groups] == eyes
    assert eyes == [*before, "eye.L", "eye.R"]


def test_a_failure_half_way_leaves_nothing(rig, unchanged, monkeypatch):
    """Whatever fails after actions were made and assigned: they are gone again."""
    put = actions.CurveStore.put
    calls = []

    def failing(self, *args):
        calls.append(1)
        if len(calls) == 20:
            raise RuntimeError("half way")
        put(self, *args)

    monkeypatch.setattr(actions.CurveStore, "put", failing)
    unchanged()
    with pytest.raises(RuntimeError, match="half way"):
        run(rig, make_performance(30, 24.0))


@pytest.mark.skipif(not actions.slotted(), reason="actions have no slots")
def test_a_failure_leaves_an_action_unplayed_that_was(rig, monkeypatch):
    rig.data.shape_keys.key_blocks["Smile"].keyframe_insert("value", frame=1)
    data = rig.data.shape_keys.animation_data
    before, data.action_slot = data.action, None

    def failing(*_args):
        raise RuntimeError("half way")

    monkeypatch.setattr(actions.CurveStore, "put", failing)
    with pytest.raises(RuntimeError, match="half way"):
        run(rig, make_performance(30, 24.0))
    assert (data.action, data.action_slot) == (before, None)


def test_no_face_at_all(rig, unchanged):
    unchanged()
    with pytest.raises(MienError) as caught:
        run(rig, make_performance(30, 24.0, found=np.zeros(30, bool)))
    assert caught.value.code == "no-face"


def test_nothing_chosen(rig, unchanged):
    unchanged()
    with pytest.raises(MienError) as caught:
        run(rig, make_performance(30, 24.0), shape_keys=False, head=False, jaw=False, eyes=False)
    assert caught.value.code == "nothing-to-bake"


def test_a_performance_of_days_is_told(rig, unchanged):
    unchanged()
    with pytest.raises(MienError, match="would take 24,000,001 frames at 24 fps") as caught:
        run(rig, make_performance(times=[0.0, 1e6]))
    assert caught.value.code == "performance-too-long"


def test_one_frame(rig):
    summary = run(rig, make_performance(1, 24.0))
    assert (summary.start, summary.end, summary.keys_after) == (1, 1, summary.channels)


def test_the_scene_grows_but_never_shrinks(rig):
    scene = bpy.context.scene
    scene.frame_end = 50
    run(rig, make_performance(100, 24.0), extend_range=False)
    assert scene.frame_end == 50
    run(rig, make_performance(100, 24.0))
    assert scene.frame_end == 100
    run(rig, make_performance(20, 24.0))
    assert scene.frame_end == 100


def test_nla_tweak_mode_is_told(rig, unchanged):
    key = rig.data.shape_keys
    data = key.animation_data_create()
    strip = data.nla_tracks.new().strips.new("s", 1, bpy.data.actions.new("in the NLA"))
    assert strip
    data.nla_tracks[0].select = True
    data.use_tweak_mode = True
    if not data.use_tweak_mode:
        pytest.skip("this Blender enters tweak mode from the editor only")
    unchanged()
    with pytest.raises(MienError) as caught:
        run(rig, make_performance(30, 24.0))
    assert caught.value.code == "nla-tweak-mode"


def test_golden_values():
    """The same numbers on every Blender version: change them only when the bake is meant to change."""
    head = make_rig(mode="XYZ")
    summary = run(head, make_performance(150, 30.0))
    curves = {**curves_of(head.data.shape_keys), **curves_of(head.parent)}
    sampled = {
        f"{path}[{index}]": [round(curves[path, index].evaluate(frame), 5) for frame in (1, 13.25, 40, 77.5, 119)]
        for path, index in (
            ('key_blocks["Smile"].value', 0),
            ('key_blocks["BlinkLeft"].value', 0),
            ('pose.bones["head"].rotation_euler', 0),
            ('pose.bones["neck"].rotation_euler', 2),
            ('pose.bones["jaw"].rotation_euler', 0),
            ('pose.bones["eye.L"].rotation_euler', 2),
        )
    }
    assert summary.keys_after == GOLDEN_KEYS
    for path, values in sampled.items():
        assert values == pytest.approx(GOLDEN[path], abs=2e-5), path


GOLDEN_KEYS = 357
GOLDEN = {
    'key_blocks["Smile"].value[0]': [0.40674, 0.26184, 0.00878, 0.39042, 0.98723],
    'key_blocks["BlinkLeft"].value[0]': [0.75242, 0.91633, 0.23788, 0.01437, 0.23699],
    'pose.bones["head"].rotation_euler[0]': [0.0, 0.11298, -0.01546, 0.01315, -0.06018],
    'pose.bones["neck"].rotation_euler[2]': [0.0, -0.04546, 0.00651, -0.00517, 0.02341],
    'pose.bones["jaw"].rotation_euler[0]': [2e-05, 0.34271, 0.34098, 0.07776, 0.30511],
    'pose.bones["eye.L"].rotation_euler[2]': [-0.4, -0.2094, 0.39784, -0.39835, 0.36721],
}
