"""Puts a performance on a rig as keyframes.

Two steps: `plan` turns a performance into keys, in numpy and without Blender; `write`
puts them into actions in bulk. `bake_performance` does both and is what operators and
the command line call. Whatever fails, the scene is as it was before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.errors import MienError
from ..core.units import ARKIT_INDEX, UNIT_INDEX
from . import actions, curves
from .rig import pose
from .rig.mapping import EYES
from .rig.targets import Rig, Target, without_shared

if TYPE_CHECKING:
    import bpy

    from ..core.solve import Performance

KEY, OBJECT = "KEY", "OBJECT"

# A scene longer than this at its own frame rate is a mistake in the frame rate, not a take.
MAX_FRAMES = 1_000_000


class NothingToBake(MienError):
    """A rig has none of the channels that were asked for."""


@dataclasses.dataclass(frozen=True)
class BakeOptions:
    """How to bake.

    Attributes
    ----------
    start_frame : float
        Scene frame of the source's first frame (time 0); keys are on whole frames all the same.
    tolerance : float
        Largest allowed distance of a shape key's value at any frame; 0 keys every frame.
    rotation_tolerance : float
        Largest allowed error of a bone's rotation at any frame, radians; 0 keys every frame. For a
        bone in axis-angle it is exceeded where that turns by more than a radian.
    new_action : bool
        Put the keys in a new action, and keep the one in use as it is; else replace the
        baked channels between first and last frame in the action in use.
    action_name : str
        Name of a new action.
    shape_keys, head, jaw, eyes : bool
        What to bake.
    neck_share : float
        0..1, the neck's part of the head's rotation.
    extend_range : bool
        Move the scene's end frame if the performance is longer.
    """

    start_frame: float = 1
    tolerance: float = 0.005
    rotation_tolerance: float = math.radians(0.1)
    new_action: bool = True
    action_name: str = "Mien"
    shape_keys: bool = True
    head: bool = True
    jaw: bool = True
    eyes: bool = True
    neck_share: float = 0.3
    extend_range: bool = True


@dataclasses.dataclass(frozen=True)
class BakeSummary:
    """What a bake did.

    Attributes
    ----------
    start, end : int
        First and last baked scene frame.
    source_frames : int
        Frames of the performance.
    found : int
        Source frames with a face.
    channels : int
        F-curves written.
    keys_before, keys_after : int
        Keys at one per frame and channel, and keys written.
    actions : tuple of str
        Names of the actions that hold them.
    notices : tuple of str
        Sentences about what was not baked or will not be seen.
    """

    start: int
    end: int
    source_frames: int
    found: int
    channels: int
    keys_before: int
    keys_after: int
    actions: tuple[str, ...]
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as a JSON object."""
        return dataclasses.asdict(self) | {"actions": list(self.actions), "notices": list(self.notices)}


@dataclasses.dataclass(frozen=True)
class Channel:
    """Keys of one F-curve.

    Attributes
    ----------
    owner : str
        `KEY` (the mesh's shape keys) or `OBJECT` (the armature).
    data_path : str
    index : int
    group : str
    keys : curves.Keys
        Frames count from the plan's `start`.
    """

    owner: str
    data_path: str
    index: int
    group: str
    keys: curves.Keys


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything `write` needs; scene frames `start` to `end`, both included."""

    start: int
    end: int
    channels: tuple[Channel, ...]

    @property
    def keys_before(self) -> int:
        """Keys at one per frame and channel."""
        return len(self.channels) * (self.end - self.start + 1)

    @property
    def keys_after(self) -> int:
        """Keys left after reduction."""
        return sum(len(channel.keys.frames) for channel in self.channels)


def plan(performance: Performance, rig: Rig, options: BakeOptions, fps: float) -> Plan:
    """Turn a performance into keys for a rig; no Blender data is touched.

    Source time becomes scene time: second `t` of the source lands on frame
    ``start_frame + t * fps``, whatever the frame rate of the source, or of a source
    without a steady one.

    Raises
    ------
    MienError
        ``"performance-empty"``, ``"no-face"``, ``"nothing-to-bake"``, ``"performance-too-long"``.
    """
    times = np.asarray(performance.times, dtype=np.float64)
    if len(times) == 0:
        raise MienError("performance-empty", "The take has no frames.", "Capture the source again.")
    if not np.asarray(performance.found).any():
        raise MienError(
            "no-face",
            f"No face was found in any of the {len(times)} frames.",
            "Use a clip in which the face is seen from the front, well lit, and at least 100 pixels wide.",
        )
    start = round(options.start_frame)
    before = options.start_frame - start  # frames from the first key to time 0
    count = math.floor(times[-1] * fps + before + 1e-6) + 1
    if count > MAX_FRAMES:
        raise MienError(
            "performance-too-long",
            f"The performance would take {count:,} frames at {fps:g} fps.",
            "Check the scene's frame rate and, for pictures, the sequence's.",
        )
    # Two samples of one moment say nothing about the motion between them: the later one counts.
    keep = np.append(np.diff(times) > 1e-9, True)
    at = (np.arange(max(count, 1)) - before) / fps

    def sampled(values) -> npt.NDArray[np.float64]:
        return curves.resample(times[keep], np.asarray(values)[keep], at)

    rows = []  # owner, data path, index, group, samples, tolerance, low, high
    if options.shape_keys and rig.keys:
        units, arkit = sampled(performance.units), sampled(performance.arkit)
        for name, channel in rig.keys.items():
            values = units[:, UNIT_INDEX[channel]] if channel in UNIT_INDEX else arkit[:, ARKIT_INDEX[channel]]
            if name in rig.strengths:
                values = np.clip(values * rig.strengths[name], 0.0, 1.0)
            path = f'key_blocks["{_escaped(name)}"].value'
            rows.append((KEY, path, 0, "Shape Keys", values, options.tolerance, 0.0, 1.0))
    moved = set()
    for role, turns in _bone_turns(performance, rig, options, sampled).items():
        bone, reach = rig.bones[role], 1.0
        if bone.keyed in moved:  # both eyes look at it
            continue
        moved.add(bone.keyed)
        if bone.aim is None:
            prop, values = pose.to_channels(pose.into_bone(turns, bone.rest), bone.mode)
        else:
            prop, values = "location", pose.swing(pose.into_bone(turns, bone.aim.axes), bone.aim.arm)
            reach = math.hypot(*bone.aim.arm)
        for i in range(values.shape[1]):
            tolerance = _component_tolerance(prop, i, options.rotation_tolerance * reach)
            path = f'pose.bones["{_escaped(bone.keyed)}"].{prop}'
            rows.append((OBJECT, path, i, bone.keyed, values[:, i], tolerance, -np.inf, np.inf))
    if not rows:
        raise NothingToBake(
            "nothing-to-bake",
            "There is nothing to bake on this rig with these options.",
            "Turn on Shape Keys, Head, Jaw or Eyes, and check that the rig has them.",
        )
    owners, paths, indices, groups, samples, tolerances, low, high = zip(*rows, strict=True)
    fitted = curves.fit(np.array(samples), np.array(tolerances), np.array(low), np.array(high))
    channels = tuple(map(Channel, owners, paths, indices, groups, fitted))
    return Plan(start, start + len(at) - 1, channels)


def _escaped(name: str) -> str:
    """Return a name as it stands in data paths; `bpy.utils.escape_identifier` is not there without Blender."""
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _bone_turns(performance, rig: Rig, options: BakeOptions, sampled) -> dict[str, npt.NDArray[np.float64]]:
    """Return each bone's turn beyond what its ancestors bring along, in Blender's frame."""
    turns = {}
    bones = rig.bones
    if options.head and ("head" in bones or "neck" in bones):
        total = pose.normalised(pose.to_blender(sampled(pose.continuous(performance.head))))
        for role, share in zip(("neck", "head"), rig.shares(options.neck_share), strict=True):
            if role in bones and share is not None:
                turns[role] = pose.share(total, share)
    if options.jaw and "jaw" in bones:
        opening = sampled(performance.units)[:, UNIT_INDEX["JawOpen"]]
        turns["jaw"] = pose.about(0, opening * rig.jaw_angle)
    if options.eyes:
        eyes = sampled(performance.eyes)
        for side, name in enumerate(EYES):
            if name in bones:
                turns[name] = pose.to_blender(pose.gaze(eyes[:, side, 0], eyes[:, side, 1]))
    return turns


def _component_tolerance(prop: str, index: int, angle: float) -> float:
    """Return what each component may be off so that the rotation is off by at most `angle`."""
    if prop == "rotation_quaternion":
        # Four components off by e are a turn off by at most 4 e (|dq| <= 2 e, angle <= 2 |dq|).
        return angle / 4.0
    if prop == "rotation_euler":
        return angle / 3.0
    if prop == "location":
        # At the end of an arm, whose length is in `angle` already; three components are off by 1.7 e.
        return angle / 2.0
    # Axis-angle: the axis counts only as far as the bone turns, seldom beyond one radian.
    return angle / 2.0 if index == 0 else angle / 4.0


def bake_performance(
    context: bpy.types.Context,
    target: Target,
    performance: Performance,
    options: BakeOptions,
    others: Sequence[Target] = (),
) -> BakeSummary:
    """Bake a performance on a target in the context's scene; see `bake_into_scene`."""
    return bake_into_scene(context.scene, target, performance, options, others)


def bake_into_scene(
    scene: bpy.types.Scene,
    target: Target,
    performance: Performance,
    options: BakeOptions,
    others: Sequence[Target] = (),
) -> BakeSummary:
    """Bake a performance on a target, at a scene's frame rate.

    Parameters
    ----------
    scene : bpy.types.Scene
    target : Target
    performance : core.solve.Performance
    options : BakeOptions
    others : sequence of Target
        Further meshes that follow the same face, as teeth and brows with shape keys of their own. What they
        share, an armature or shape keys, is baked once.

    Raises
    ------
    MienError
        The scene is then as it was before.
    """
    fps = scene.render.fps / scene.render.fps_base
    planned = plan(performance, target.rig, options, fps)
    works = [(planned, target)]
    target, *others = without_shared([target, *others])
    for other in others:
        # A mesh without channels of its own is moved by what it shares.
        with contextlib.suppress(NothingToBake):
            works.append((plan(performance, other.rig, options, fps), other))
    aside = dict.fromkeys(notice for work in works for notice in _put_aside(*work)) if options.new_action else ()
    names = write(works, options)
    if options.extend_range and scene.frame_end < planned.end:
        scene.frame_end = planned.end
    # Puts the pose of the current frame on the rig.
    scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)
    found = np.asarray(performance.found)
    return BakeSummary(
        start=planned.start,
        end=planned.end,
        source_frames=len(found),
        found=int(found.sum()),
        channels=sum(len(each.channels) for each, _target in works),
        keys_before=sum(each.keys_before for each, _target in works),
        keys_after=sum(each.keys_after for each, _target in works),
        actions=names,
        notices=(
            *target.notices,
            *_missing(target, options),
            *(f"{other.mesh.name}: {notice}" for other in others for notice in other.notices),
            *aside,
            *dict.fromkeys(notice for work in works for notice in _unplayed(*work)),
            *_stretched(scene.render),
        ),
    )


def _put_aside(planned: Plan, target: Target) -> list[str]:
    """Return what to tell about actions in use that hold more than the new one: the rest of them stands still."""
    names = []
    for kind, owner in _owners(target).items():
        baked = {channel.data_path for channel in planned.channels if channel.owner == kind}
        if baked and actions.paths_in_use(owner) - baked:
            names.append(owner.animation_data.action.name)
    return [
        f'The action "{name}" was put aside: choose Current under Action to keep its other channels'
        for name in dict.fromkeys(names)
    ]


def _unplayed(planned: Plan, target: Target) -> list[str]:
    """Return what to tell about keys that do not play as they are."""
    notices = []
    for kind, owner in _owners(target).items():
        baked = {channel.data_path for channel in planned.channels if channel.owner == kind}
        if not baked:
            continue
        data, held = owner.animation_data, [c for c in actions.curves_in_use(owner) if c.data_path in baked]
        name = data.action.name
        if any(curve.mute or (curve.group is not None and curve.group.mute) for curve in held):
            notices.append(
                f'F-curves of the action "{name}" are muted, so their keys do not play: unmute them in the Graph Editor'
            )
        if any(track.is_solo for track in data.nla_tracks):
            notices.append(f'An NLA track plays alone, so the action "{name}" does not: turn off its star')
        elif data.action_influence < 1.0:
            notices.append(f'The action "{name}" plays with an influence of {data.action_influence:.2g}: set it to 1')
        elif data.action_blend_type != "REPLACE" and any(not track.mute for track in data.nla_tracks):
            notices.append(
                f'The action "{name}" is blended with the NLA tracks below it: set its Blending to Replace, '
                "or mute them"
            )
    return notices


def _stretched(render: bpy.types.RenderSettings) -> list[str]:
    if render.frame_map_old == render.frame_map_new:
        return []
    return ["Time Stretching is on: the keys play at another speed than the sound. Set Old and New alike"]


def _owners(target: Target) -> dict[str, bpy.types.ID]:
    return {KEY: target.mesh.data.shape_keys, OBJECT: target.armature}


def _missing(target: Target, options: BakeOptions) -> list[str]:
    notices = []
    wanted = {"neck": options.head, "head": options.head, "jaw": options.jaw}
    bones = [name for role, name in target.missing_bones.items() if wanted.get(role, options.eyes)]
    if options.shape_keys and target.missing_units:
        notices.append(f"The mesh has no shape key {', '.join(target.missing_units)}")
    if bones and target.armature is not None:
        notices.append(f"The armature has no bone {', '.join(bones)}")
    return notices


def write(works: Sequence[tuple[Plan, Target]], options: BakeOptions) -> tuple[str, ...]:
    """Write the keys planned for each target into actions; returns the names of the actions.

    All or nothing: whatever goes wrong, what was done by then is undone.
    """
    with contextlib.ExitStack() as rollback:
        opened, written = [], set()
        for planned, target in works:
            wanted = {channel.owner for channel in planned.channels}
            stores = actions.open_stores(
                {kind: owner for kind, owner in _owners(target).items() if kind in wanted},
                new_action=options.new_action,
                name=options.action_name.strip() or "Mien",
                rollback=rollback,
                beside=opened[0].action if opened else None,
            )
            for channel in planned.channels:
                store = stores[channel.owner]
                # Two heads may share an action and its slot: the first one's keys stand.
                curve = store.key, channel.data_path, channel.index
                if curve not in written:
                    written.add(curve)
                    store.put(
                        channel.data_path,
                        channel.index,
                        channel.group,
                        _keyframes(channel.keys, planned.start),
                        (planned.start, planned.end),
                        rollback,
                    )
            opened += stores.values()
        rollback.pop_all()
    return tuple(dict.fromkeys(store.action.name for store in opened))


def _keyframes(keys: curves.Keys, start: int) -> actions.Keyframes:
    """Return Bezier keyframes whose handles stand at a third of the segments."""
    frames = keys.frames + float(start)
    lengths = np.diff(keys.frames).astype(np.float64)
    if len(lengths) == 0:
        lengths = np.ones(1)
    # The outer handles of the ends have no segment: they mirror the inner ones.
    before = np.concatenate((lengths[:1], lengths))[: len(frames)] / 3.0
    after = np.concatenate((lengths, lengths[-1:]))[: len(frames)] / 3.0
    left, right = keys.left.copy(), keys.right.copy()
    left[0], right[-1] = right[0], left[-1]
    # In line where the slopes agree, so that dragging a handle keeps the curve smooth.
    types = np.where(left == right, actions.ALIGNED, actions.FREE)
    return actions.Keyframes(
        co=np.stack((frames, keys.values), axis=1),
        handle_left=np.stack((frames - before, keys.values - left * before), axis=1),
        handle_right=np.stack((frames + after, keys.values + right * after), axis=1),
        handle_types=types,
    )
