"""Eyes that look at a bone, as control rigs have them: they turn where that bone is moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mathutils import Quaternion

from .axes import Z_UP

_TRACKING = frozenset(("DAMPED_TRACK", "LOCKED_TRACK", "TRACK_TO"))

_PLACING = frozenset(("CLAMP_TO", "COPY_LOCATION", "COPY_TRANSFORMS", "FOLLOW_PATH"))
"""Constraints that put a bone elsewhere than it is keyed."""


@dataclasses.dataclass(frozen=True)
class Aim:
    """A bone that an eye looks at.

    Attributes
    ----------
    name : str
    axes : tuple of float
        Orientation of the axes along which it is moved, as `targets.Bone.rest`.
    arm : tuple of float
        From the eye to it at rest, along these axes.
    """

    name: str
    axes: tuple[float, float, float, float]
    arm: tuple[float, float, float]


def find_aim(armature, name: str, stands: Quaternion = Z_UP) -> tuple[str, Aim | None, str]:
    """Return an eye's bone, what it looks at, and the name of the constraint by which it does.

    Parameters
    ----------
    armature : bpy.types.Object
    name : str
        The eye's bone, or the one that it looks at. Without such a constraint it is the eye, and looks at None.
    stands : Quaternion
        From `axes.upright`.
    """
    bones = armature.data.bones
    for eye, constraint in _looks(armature, name):
        moved = bones[constraint.subtarget]
        turn, arm = Z_UP, moved.head_local.lerp(moved.tail_local, constraint.head_tail) - bones[eye].head_local
        along = moved if moved.use_local_location else moved.parent
        if along is not None:
            turn = along.matrix_local.to_quaternion()
            arm = turn.inverted() @ arm
        if arm.length > 0.0:
            return eye, Aim(moved.name, tuple(stands @ turn), tuple(arm)), constraint.name
    return name, None, ""


def _looks(armature, name: str) -> Iterator[tuple]:
    """Yield bones that look at another, and the constraint: where `name` is the eye, then where it is the other."""
    bones = armature.data.bones
    found = [
        (bone.name, constraint)
        for bone in armature.pose.bones
        for constraint in bone.constraints
        if constraint.type in _TRACKING
        and not constraint.mute
        and constraint.influence == 1.0
        and constraint.target == armature
        and constraint.subtarget in bones
        and not bones[constraint.subtarget].use_connect  # it could not be moved
    ]
    yield from (pair for pair in found if pair[0] == name)
    # An eye may itself be looked at, by its lids: what eyes look at moves no mesh.
    if not bones[name].use_deform:
        yield from (pair for pair in found if pair[1].subtarget == name)


def goes_along(armature, name: str, head: str) -> bool:
    """Return whether a bone seems to go with the head: it hangs on it, or constraints may see to that."""
    bone = armature.pose.bones[name]
    return any(above.name == head or len(above.constraints) for above in (bone, *bone.parent_recursive))


def replaces(constraint) -> bool:
    """Return whether a constraint is on, and mixes nothing with what is keyed."""
    mixes = getattr(constraint, "mix_mode", "REPLACE") != "REPLACE"
    return not (constraint.mute or constraint.influence == 0.0 or mixes)


def is_placed(bone) -> bool:
    """Return whether constraints put a pose bone elsewhere than it is keyed."""
    return any(
        constraint.type in _PLACING and replaces(constraint) and not getattr(constraint, "use_offset", False)
        for constraint in bone.constraints
    )
