"""Puts live samples on a rig, and the rig back as it was.

The rig's animation is never touched: live values are written over whatever the action
gave, also after each frame of the playing timeline, and taking them off leaves the action
to speak again. Blender's data is looked up anew for every sample: a kept reference would
not survive an undo, and using a dead one crashes Blender.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import bpy
from mathutils import Quaternion

from ...core.record import Plain
from ...core.units import ARKIT_INDEX, UNIT_INDEX, UNITS
from .. import actions
from .mapping import EYES
from .targets import Rig, Target

_JAW = UNITS.index("JawOpen")
_NOTICEABLE = 1e-5
_REST = (1.0, 0.0, 0.0, 0.0)
_ROTATIONS = ("rotation_quaternion", "rotation_euler", "rotation_axis_angle")


class Sample(NamedTuple):
    """One moment of a performance, as plain numbers; a `Plain` has all of it, too.

    Attributes
    ----------
    units : list of float
        The 11 expression units.
    arkit : list of float
        The 52 ARKit weights.
    head : sequence of float
        Quaternion w, x, y, z in Mien's head frame.
    eyes : sequence
        Left and right (yaw, pitch), radians.
    """

    units: list[float]
    arkit: list[float]
    head: list[float]
    eyes: list[list[float]]


@dataclasses.dataclass(frozen=True)
class Channels:
    """What of a rig is driven; see the settings ``use_shape_keys`` and so on, and ``neck_share``."""

    shape_keys: bool = True
    head: bool = True
    jaw: bool = True
    eyes: bool = True
    neck_share: float = 0.3


class _Handle:
    """An object found again by its identity in this session, whatever became of it meanwhile."""

    def __init__(self, obj: bpy.types.Object):
        self.name = obj.name
        self.uid = obj.session_uid

    def __call__(self) -> bpy.types.Object | None:
        obj = bpy.data.objects.get(self.name)
        if obj is not None and obj.session_uid == self.uid:
            return obj
        obj = next((o for o in bpy.data.objects if o.session_uid == self.uid), None)
        if obj is not None:
            self.name = obj.name
        return obj


def _deleted(obj: bpy.types.Object) -> bool:
    """Return whether an object is in no scene: deleted, but kept alive by a setting that names it."""
    # Looking through the scenes takes as long as they have objects; one that is seen is in one.
    return not obj.visible_get() and not obj.users_scene


class Puppet:
    """One target under live control.

    Parameters
    ----------
    target : Target
    channels : Channels

    Attributes
    ----------
    name : str
        The mesh object's name, the last one where it is gone.
    """

    def __init__(self, target: Target, channels: Channels):
        self._mesh = _Handle(target.mesh)
        self._armature = _Handle(target.armature) if target.armature is not None else None
        rig = target.rig
        self._keys = _key_sources(rig) if channels.shape_keys else []
        self._turns = _turns(rig, channels)
        self._last: dict[str, tuple[float, ...]] = {}
        self.note()

    @property
    def name(self) -> str:
        self._mesh()
        return self._mesh.name

    @property
    def uid(self) -> int:
        """``session_uid`` of the mesh object."""
        return self._mesh.uid

    @property
    def channels(self) -> int:
        """Shape keys and bones that are driven."""
        return len(self._keys) + len(self._turns)

    def apply(self, sample: Sample | Plain) -> bool:
        """Put a sample on the rig; returns whether there still is one."""
        mesh = self._mesh()
        if mesh is None or mesh.type != "MESH" or _deleted(mesh):
            return False
        key = mesh.data.shape_keys
        if key is not None and not mesh.data.is_editmode:
            blocks = key.key_blocks
            for name, unit, index, strength in self._keys:
                block = blocks.get(name)
                if block is None:
                    continue
                value = sample.units[index] if unit else sample.arkit[index]
                if strength != 1.0:
                    value = min(value * strength, 1.0)
                # Each change has its price in evaluation; a face at rest has none.
                if abs(block.value - value) > _NOTICEABLE:
                    block.value = value
        armature = self._armature() if self._turns and self._armature is not None else None
        if armature is not None and armature.mode != "EDIT":
            bones, last = armature.pose.bones, self._last
            for name, turn, arm in self._turns:
                bone = bones.get(name)
                if bone is None:
                    continue
                if arm is not None:
                    bone.location = _swung(turn(sample), arm)
                else:
                    last[name] = _rotate(bone, turn(sample), last.get(name, _REST))
        return True

    def note(self) -> None:
        """Take what the rig holds now for what `restore` puts back."""
        self._frame = bpy.context.scene.frame_current_final
        self._before = self._read()
        self._stale = False
        self._known = {self._in_use()}

    def restore(self) -> None:
        """Put every driven channel back as it was before the first sample."""
        for owner, before in zip(self._owners(), self._before, strict=True):
            if owner is None or before is None:
                continue
            things = _things(owner)
            spoken = {path for path, *_more in _animation(owner, self._frame) - before.animation}
            found = _by_old_name(things, before.names)
            keyed = False
            for name, props in before.values.items():
                for prop, value in props.items() if name in found else ():
                    setattr(found[name], prop, value)
                    keyed |= bool(spoken) and found[name].path_from_id(prop) in spoken
            # Where the timeline stands elsewhere now, the values from before are of another frame.
            stale = self._stale or keyed or bpy.context.scene.frame_current_final != self._frame
            if stale and owner.animation_data is not None:
                owner.update_tag(refresh={"TIME"})  # the animation speaks again

    def animation_changed(self) -> None:
        """Note that the rig's animation is another one now: what it held before is of no use then."""
        self._stale = True

    def look_before_undo(self) -> None:
        """Note the animation in use: what came while live is nothing that an undo brings from before."""
        self._known.add(self._in_use())

    def catch_up_after_undo(self) -> None:
        """Take what the rig holds now where it is older than `note`: its actions are others, or animate less."""
        now = self._in_use()
        # One that animates more was keyed while live, or says itself what it holds.
        if not any(all(map(_holds, now, known)) for known in self._known):
            self.note()

    def _owners(self) -> tuple[bpy.types.Key | None, bpy.types.Object | None]:
        """Return the shape keys and the armature; None where one is gone or not driven."""
        mesh = self._mesh() if self._keys else None
        key = mesh.data.shape_keys if mesh is not None and mesh.type == "MESH" else None
        return key, self._armature() if self._turns else None

    def _in_use(self) -> tuple[tuple[int | None, frozenset[str]], ...]:
        """Return ``session_uid`` of the action in use and the paths that it animates, by owner."""
        return tuple(map(_in_use, self._owners()))

    def _read(self) -> list[_Before | None]:
        key_props = {name: ("value",) for name, *_source in self._keys}
        bone_props = {name: _ROTATIONS if arm is None else ("location",) for name, _turn, arm in self._turns}
        return [
            None if owner is None else _read(owner, props, self._frame)
            for owner, props in zip(self._owners(), (key_props, bone_props), strict=True)
        ]


class _Before(NamedTuple):
    """What shape keys or bones held: names of all, `_animation`, and values by name and property."""

    names: list[str]
    animation: set[tuple[str, int, float]]
    values: dict[str, dict[str, float | tuple[float, ...]]]


def _things(owner: bpy.types.Key | bpy.types.Object):
    return owner.key_blocks if isinstance(owner, bpy.types.Key) else owner.pose.bones


def _animation(owner: bpy.types.Key | bpy.types.Object, frame: float) -> set[tuple[str, int, float]]:
    """Return data path, index and value of each F-curve at a frame of the scene."""
    data = owner.animation_data
    at = frame if data is None else data.nla_tweak_strip_time_to_scene(frame, invert=True)
    return {(curve.data_path, curve.array_index, curve.evaluate(at)) for curve in actions.curves_in_use(owner)}


def _in_use(owner: bpy.types.Key | bpy.types.Object | None) -> tuple[int | None, frozenset[str]]:
    action = owner.animation_data.action if owner is not None and owner.animation_data else None
    return (action.session_uid, frozenset(actions.paths_in_use(owner))) if action else (None, frozenset())


def _holds(now: tuple[int | None, frozenset[str]], known: tuple[int | None, frozenset[str]]) -> bool:
    """Whether it is the same action and animates all that it did."""
    return now[0] == known[0] and now[1] >= known[1]


def _read(owner: bpy.types.Key | bpy.types.Object, driven: dict[str, tuple[str, ...]], frame: float) -> _Before:
    things = _things(owner)
    values = {
        name: {prop: _plain(getattr(things[name], prop)) for prop in props}
        for name, props in driven.items()
        if name in things
    }
    return _Before(things.keys(), _animation(owner, frame), values)


def _plain(value):
    """Return a value that is no reference into Blender's data."""
    return value if isinstance(value, float) else tuple(value)


def _by_old_name(things, names: list[str]) -> dict:
    """Return things by the names that they had: one that was renamed stands where it stood."""
    found = {name: things[name] for name in names if name in things}
    if len(things) == len(names):
        pairs = zip(names, things, strict=True)
        found |= {name: thing for name, thing in pairs if name not in found and thing.name not in found}
    return found


def _key_sources(rig: Rig) -> list[tuple[str, bool, int, float]]:
    """Return (shape key, whether it is a unit, index, times how much) of each key."""
    sources = []
    for name, channel in rig.keys.items():
        unit = channel in UNIT_INDEX
        index = UNIT_INDEX[channel] if unit else ARKIT_INDEX[channel]
        sources.append((name, unit, index, rig.strengths.get(name, 1.0)))
    return sources


Turn = Callable[[Sample | Plain], tuple[float, float, float, float]]
"""Gives a bone's rotation, a quaternion w, x, y, z in its own axes.

Plain numbers all the way: each of mathutils' functions costs little, but a face is put on
the rig after Blender has drawn, when nothing of them is left in the processor's caches.
"""


def _turns(rig: Rig, channels: Channels) -> list[tuple[str, Turn, tuple[float, float, float] | None]]:
    """Return (bone, its turn, None), as a bake has them; with an arm the bone is moved as the turn moves its end."""
    bones = rig.bones
    turns = []

    def add(role: str, make: Callable[..., Turn], *more) -> None:
        # A turn by `rest` and back leaves the angle and rotates the axis.
        bone = bones[role]
        if any(bone.keyed == name for name, *_more in turns):  # both eyes look at it
            return
        rows = Quaternion(bone.rest if bone.aim is None else bone.aim.axes).inverted().to_matrix()
        # Mien's head frame (x, y, z) is (x, -z, y) in Blender.
        axes = tuple((row[0], row[2], -row[1]) for row in rows)
        turns.append((bone.keyed, make(axes, *more), None if bone.aim is None else bone.aim.arm))

    if channels.head and ("head" in bones or "neck" in bones):
        for role, share in zip(("neck", "head"), rig.shares(channels.neck_share), strict=True):
            if role in bones and share is not None:
                add(role, _head, share)
    if channels.jaw and "jaw" in bones:
        add("jaw", _jaw, rig.jaw_angle / 2.0)
    if channels.eyes:
        for side, name in enumerate(EYES):
            if name in bones:
                add(name, _gaze, side)
    return turns


def _head(axes, share: float) -> Turn:
    """Return the turn of a bone that takes a share of the head's; shares have one axis, so they add up."""

    def turn(sample):
        w, x, y, z = sample.head
        sine = math.sqrt(x * x + y * y + z * z)
        if sine < 1e-9:
            return _REST
        # The short way round.
        half = math.atan2(sine, w) if w >= 0.0 else -math.atan2(sine, -w)
        scale = math.sin(half * share) / sine
        return (math.cos(half * share), *_along(axes, x * scale, y * scale, z * scale))

    return turn


def _jaw(axes, half: float) -> Turn:
    def turn(sample):
        angle = sample.units[_JAW] * half
        return (math.cos(angle), *_along(axes, math.sin(angle), 0.0, 0.0))

    return turn


def _gaze(axes, side: int) -> Turn:
    def turn(sample):
        # First about the side axis, then about the upright one.
        yaw, pitch = sample.eyes[side]
        sin_yaw, cos_yaw = math.sin(yaw / 2.0), math.cos(yaw / 2.0)
        sin_pitch, cos_pitch = math.sin(-pitch / 2.0), math.cos(pitch / 2.0)
        x, y, z = cos_yaw * sin_pitch, sin_yaw * cos_pitch, -sin_yaw * sin_pitch
        return (cos_yaw * cos_pitch, *_along(axes, x, y, z))

    return turn


def _along(axes, x: float, y: float, z: float) -> tuple[float, float, float]:
    (a, b, c), (d, e, f), (g, h, i) = axes
    return a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + i * z


def _swung(turn: tuple[float, ...], arm: tuple[float, ...]) -> tuple[float, float, float]:
    """Return how far a turn moves the end of an arm, as `pose.swing` does."""
    w, x, y, z = turn
    a, b, c = arm
    d, e, f = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return w * d + y * f - z * e, w * e + z * d - x * f, w * f + x * e - y * d


def _rotate(bone: bpy.types.PoseBone, turn: tuple[float, ...], last: tuple[float, ...]) -> tuple[float, ...]:
    """Set a bone's rotation; returns the turn with the sign that was used."""
    mode = bone.rotation_mode
    if mode == "QUATERNION":
        w, x, y, z = turn
        # On the side of the last one, so that whoever keys it by hand gets no jump.
        if w * last[0] + x * last[1] + y * last[2] + z * last[3] < 0.0:
            turn = (-w, -x, -y, -z)
        bone.rotation_quaternion = turn
    elif mode == "AXIS_ANGLE":
        axis, angle = Quaternion(turn).to_axis_angle()
        bone.rotation_axis_angle = (angle, *axis)
    else:
        bone.rotation_euler = Quaternion(turn).to_euler(mode, bone.rotation_euler)
    return turn
