"""Which way a character stands in its armature's own space."""

from __future__ import annotations

from collections.abc import Mapping

from mathutils import Quaternion

Z_UP = Quaternion()
Y_UP = Quaternion((0.5**0.5, 0.5**0.5, 0.0, 0.0))
"""(x, y, z) -> (x, -z, y)"""


def upright(armature, bones: Mapping[str, str]) -> Quaternion:
    """Return what turns an armature's own axes into those in which up is Z, and a character looks along -Y.

    Those of other programs (FBX of Mixamo, Maya, Character Creator) have Y up and look along Z, and the object is
    turned. So is that of a character which lies, so the object does not tell: where the head is does.

    Parameters
    ----------
    armature : bpy.types.Object
    bones : mapping of str to str
        Names of bones by what they are in `mapping.BONES`, whether the armature has them or not.
    """
    found = (armature.data.bones.get(bones.get(role, "")) for role in ("head", "neck"))
    bone = next(filter(None, found), None)
    if bone is None:
        return Z_UP
    # From the hips, or as far down as there are bones, to the head.
    lowest = bone.parent_recursive[-1] if bone.parent else bone
    way = bone.head_local - lowest.head_local
    if way.length < 0.5 * bone.length:
        way = bone.tail_local - bone.head_local
    return Y_UP if way.y > abs(way.z) else Z_UP
