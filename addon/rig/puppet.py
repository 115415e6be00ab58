"""Puts live samples on a rig, and the rig back as it was.

The rig's animation is never touched: live values are written over whatever the action
gave, also after each frame of the playing timeline, and taking them off leaves the action
to speak again. Blender's data is looked up anew for every sample: a kept reference would
not survive an undo, and using a dead one crashes Blender.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import bpy
import numpy as np
from mathutils import Quaternion

from ...core.record import LABELS
from ...core.units import ARKIT_INDEX, UNIT_INDEX, UNITS
from .targets import Rig, Target

_WHOLE = 65535.0
_JAW = UNITS.index("JawOpen")
_NOTICEABLE = 1e-5


class Sample(NamedTuple):
    """One moment of a performance, as plain numbers.

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


def sample_of(record: np.ndarray) -> Sample:
    """Read the sample out of a frame record, shape (1,), that is known to be sane."""
    row = record[0]
    return Sample(
        units=(row["units"] / _WHOLE).tolist(),
        arkit=(row["arkit"] / _WHOLE).tolist(),
        head=row["head_rotation"].tolist(),
        eyes=row["eye_rotations"].tolist(),
    )


def label_of(record: np.ndarray) -> tuple[str, float]:
    """Return the expression's label and its probability; an empty label where no classifier ran."""
    row = record[0]
    return LABELS[row["expression"]], float(row["probabilities"].max()) / _WHOLE


@dataclasses.dataclass(frozen=True)
class Channels:
    """What of a rig is driven; see the settings of the same names."""

    shape_keys: bool = True
    head: bool = True
    jaw: bool = True
    eyes: bool = True
    neck_share: float = 0.3


class _Handle:
    """An object found again by its identity in this session, whatever became of it meanwhile."""

    def __init__(self, obj: bpy.types.Object):
        self._name = obj.name
        self._uid = obj.session_uid

    def __call__(self) -> bpy.types.Object | None:
        obj = bpy.data.objects.get(self._name)
        if obj is not None and obj.session_uid == self._uid:
            return obj
        obj = next((o for o in bpy.data.objects if o.session_uid == self._uid), None)
        if obj is not None:
            self._name = obj.name
        return obj


class Puppet:
    """One target under live control.

    Parameters
    ----------
    target : Target
    channels : Channels

    Attributes
    ----------
    name : str
        The mesh object's name at the start.
    """

    def __init__(self, target: Target, channels: Channels):
        self.name = target.mesh.name
        self._mesh = _Handle(target.mesh)
        self._armature = _Handle(target.armature) if target.armature is not None else None
        rig = target.rig
        self._keys = _key_sources(rig) if channels.shape_keys else []
        self._turns = _turns(rig, channels)
        self._before = self._read()
        self._frame = bpy.context.scene.frame_current_final
        self._stale = False

    @property
    def channels(self) -> int:
        """Shape keys and bones that are driven."""
        return len(self._keys) + len(self._turns)

    def apply(self, sample: Sample) -> bool:
        """Put a sample on the rig; returns whether there still is one."""
        mesh = self._mesh()
        if mesh is None or mesh.type != "MESH":
            return False
        key = mesh.data.shape_keys
        if key is not None and not mesh.data.is_editmode:
            blocks = key.key_blocks
            for name, unit, index in self._keys:
                block = blocks.get(name)
                if block is None:
                    continue
                value = sample.units[index] if unit else sample.arkit[index]
                # Each change has its price in evaluation; a face at rest has none.
                if abs(block.value - value) > _NOTICEABLE:
                    block.value = value
        armature = self._armature() if self._turns and self._armature is not None else None
        if armature is not None and armature.mode != "EDIT":
            bones = armature.pose.bones
            for name, turn in self._turns:
                bone = bones.get(name)
                if bone is not None:
                    _rotate(bone, turn(sample))
        return True

    def restore(self) -> None:
        """Put every driven channel back as it was before the first sample."""
        mesh = self._mesh()
        values, rotations = self._before
        if mesh is not None and mesh.type == "MESH" and mesh.data.shape_keys is not None:
            key = mesh.data.shape_keys
            for name, value in values.items():
                if name in key.key_blocks:
                    key.key_blocks[name].value = value
            self._let_animation_speak(key)
        armature = self._armature() if self._armature is not None else None
        if armature is not None:
            for name, rotation in rotations.items():
                bone = armature.pose.bones.get(name)
                if bone is not None:
                    for prop, value in rotation.items():
                        setattr(bone, prop, value)
            self._let_animation_speak(armature)

    def animation_changed(self) -> None:
        """Note that the rig's animation is another one now: what it held before is of no use then."""
        self._stale = True

    def _let_animation_speak(self, block) -> None:
        # Where the timeline stands elsewhere now, the values from before are of another frame.
        stale = self._stale or bpy.context.scene.frame_current_final != self._frame
        if stale and block.animation_data is not None:
            block.update_tag(refresh={"TIME"})

    def _read(self):
        values, rotations = {}, {}
        mesh = self._mesh()
        if self._keys:
            blocks = mesh.data.shape_keys.key_blocks
            values = {name: blocks[name].value for name, _unit, _index in self._keys if name in blocks}
        if self._turns:
            bones = self._armature().pose.bones
            props = ("rotation_quaternion", "rotation_euler", "rotation_axis_angle")
            for name, _turn in self._turns:
                rotations[name] = {prop: tuple(getattr(bones[name], prop)) for prop in props}
        return values, rotations


def _key_sources(rig: Rig) -> list[tuple[str, bool, int]]:
    """Return (shape key, whether it is a unit, index) of each key."""
    return [
        (name, name in UNIT_INDEX, UNIT_INDEX[name] if name in UNIT_INDEX else ARKIT_INDEX[name]) for name in rig.keys
    ]


def _turns(rig: Rig, channels: Channels) -> list:
    """Return (bone, function of the sample that gives its turn in its own axes); the same as a bake's."""
    bones = rig.bones
    turns = []

    def add(name, turn):
        rest = Quaternion(bones[name].rest)
        back = rest.inverted()
        turns.append((name, lambda sample: back @ turn(sample) @ rest))

    if channels.head and ("head" in bones or "neck" in bones):
        if "head" not in bones:
            add("neck", _head)
        elif "neck" in bones and "neck" in bones["head"].ancestors:
            share = channels.neck_share
            add("neck", lambda sample: _part(_head(sample), share))
            add("head", lambda sample: _part(_head(sample), 1.0 - share))
        else:
            add("head", _head)
    if channels.jaw and "jaw" in bones:
        add("jaw", lambda sample: Quaternion((1.0, 0.0, 0.0), sample.units[_JAW] * rig.jaw_angle))
    if channels.eyes:
        for side, name in enumerate(("eye.L", "eye.R")):
            if name in bones:
                add(name, lambda sample, side=side: _gaze(*sample.eyes[side]))
    return turns


def _head(sample: Sample) -> Quaternion:
    w, x, y, z = sample.head
    return Quaternion((w, x, -z, y))


def _part(turn: Quaternion, share: float) -> Quaternion:
    """Return a share of a turn, the short way round. Shares of one turn have one axis, so they add up."""
    return Quaternion().slerp(-turn if turn.w < 0.0 else turn, share)


def _gaze(yaw: float, pitch: float) -> Quaternion:
    w, x, y, z = Quaternion((0.0, 1.0, 0.0), yaw) @ Quaternion((1.0, 0.0, 0.0), -pitch)
    return Quaternion((w, x, -z, y))


def _rotate(bone: bpy.types.PoseBone, turn: Quaternion) -> None:
    mode = bone.rotation_mode
    if mode == "QUATERNION":
        # On the side of the last one, so that whoever keys it by hand gets no jump.
        bone.rotation_quaternion = -turn if turn.dot(bone.rotation_quaternion) < 0.0 else turn
    elif mode == "AXIS_ANGLE":
        axis, angle = turn.to_axis_angle()
        bone.rotation_axis_angle = (angle, *axis)
    else:
        bone.rotation_euler = turn.to_euler(mode, bone.rotation_euler)
