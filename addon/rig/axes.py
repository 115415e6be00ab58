"""Which way a character stands in its armature's own space."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mathutils import Quaternion

Z_UP = Quaternion()
Y_UP = Quaternion((0.5**0.5, 0.5**0.5, 0.0, 0.0))
"""(x, y, z) -> (x, -z, y)"""


def upright(armature, bones: Mapping[str, str]) -> Quaternion:
    """Return what turns an armature's own axes into those in which up is Z, and a character looks along -Y.

    Those of other programs (FBX of Mixamo, Maya, Character Creator) have Y up and look along Z, and the object is
    turned. So is that of a character which lies, so the object does not tell: where the head is does, and where its
    eyes are. Without eyes it looks along -Y, or Z where Y is up.

    Parameters
    ----------
    armature : bpy.types.Object
    bones : mapping of str to str
        Names of bones by what they are in `mapping.BONES`, whether the armature has them or not.
    """
    there = armature.data.bones
    found = (there.get(bones.get(role, "")) for role in ("head", "neck"))
    bone = next(filter(None, found), None)
    if bone is None:
        return Z_UP
    # From the hips, or as far down as there are bones, to the head.
    lowest = bone.parent_recursive[-1] if bone.parent else bone
    way = bone.head_local - lowest.head_local
    if way.length < 0.5 * bone.length:
        way = bone.tail_local - bone.head_local
    stands = Y_UP if way.y > abs(way.z) else Z_UP
    eyes = [there.get(bones.get(role, "")) for role in ("eye.L", "eye.R")]
    turns = 0 if None in eyes else _quarter_turns(stands, bone, *eyes)
    return Quaternion((0.0, 0.0, 1.0), -turns * math.pi / 2) @ stands if turns else stands


def _quarter_turns(stands: Quaternion, bone, left, right) -> int:
    """Return by how many quarters of a turn about up a character looks elsewhere than along -Y."""
    left, right, base = (stands @ each.head_local for each in (left, right, bone))
    ahead, aside = (left + right) / 2 - base, left - right
    if math.hypot(ahead.x, ahead.y) < 0.1 * bone.length:
        return 0
    turns = round(math.atan2(ahead.x, -ahead.y) / (math.pi / 2))
    # Both have to say so: left and right may be those of whoever looks at it.
    return turns % 4 if (round(math.atan2(aside.y, aside.x) / (math.pi / 2)) - turns) % 4 == 0 else 0
