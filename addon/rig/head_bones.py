"""An armature for a head that has none, so that it can turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import bpy
import numpy as np
from mathutils import Matrix, Vector

from .face import face_bounds, points_of
from .mapping import find_armature
from .targets import is_ours

NAME = "Head Bones"

_STAYS = ("ARMATURE", "CAMERA", "LIGHT")
"""Types of objects that do not turn with a head."""


def add_head_bones(
    context: bpy.types.Context, mesh: bpy.types.Object, others: Sequence[bpy.types.Object] = (), *, whole: bool = True
) -> bpy.types.Object:
    """Put an armature with the bones ``neck`` and ``head`` under a head; nothing is seen to move.

    Parameters
    ----------
    context : bpy.types.Context
        In Object Mode.
    mesh : bpy.types.Object
        Head with shape keys that hangs on no armature; up is Z, or Y as in other programs, in its own space.
    others : sequence of bpy.types.Object
        What turns along, as eyes, teeth and hair. Armatures and what hangs on one, cameras, lights and linked objects
        are passed over.
    whole : bool
        Whether all that hangs on the same parent turns along, unless something of that kind is among it.

    Returns
    -------
    bpy.types.Object
        The armature.
    """
    layer = context.view_layer
    layer.update()
    top = _top(mesh) if whole else mesh
    turned = [top, *(obj for obj in dict.fromkeys(others) if _may_turn(obj) and obj not in _above(mesh))]
    turned = [obj for obj in dict.fromkeys(turned) if not any(above in turned for above in _above(obj))]

    data = bpy.data.armatures.new(NAME)
    data.display_type = "STICK"  # in front of the face, and yet it is seen
    armature = bpy.data.objects.new(NAME, data)
    armature.show_in_front = True
    armature.matrix_world = _upright(mesh)
    _link(armature, mesh, context)
    active = layer.objects.active
    layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    parent = None
    for name, head, tail in _joints(armature.matrix_world.inverted() @ mesh.matrix_world, mesh):
        bone = data.edit_bones.new(name)
        bone.head, bone.tail, bone.parent, bone.use_connect = head, tail, parent, parent is not None
        parent = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    layer.objects.active = active
    layer.update()

    if top.parent is not None:
        _hang(armature, top.parent)
    for obj in turned:
        _hang(obj, armature, "head")
    layer.update()
    return armature


def _above(obj: bpy.types.Object) -> Iterable[bpy.types.Object]:
    while obj.parent is not None:
        obj = obj.parent
        yield obj


def _may_turn(obj: bpy.types.Object) -> bool:
    return obj.type not in _STAYS and is_ours(obj) and find_armature(obj, {}) is None


def _top(mesh: bpy.types.Object) -> bpy.types.Object:
    """Return the highest object above a head with nothing under it that stays."""
    top = mesh
    for above in _above(mesh):
        if not all(map(_may_turn, (above, *above.children_recursive))):
            break
        top = above
    return top


def _upright(mesh: bpy.types.Object) -> Matrix:
    """Return the space at a head's place in which up is Z and it looks along -Y; a mirrored head's, too."""
    own = mesh.matrix_world.to_3x3()
    up, front = own @ Vector((0, 0, 1)), own @ Vector((0, -1, 0))
    other_up = own @ Vector((0, 1, 0))
    if other_up.normalized().z > up.normalized().z:
        up, front = other_up, own @ Vector((0, 0, 1))
    up.normalize()
    left = up.cross(front).normalized()
    back = up.cross(left)
    return Matrix.Translation(mesh.matrix_world.translation) @ Matrix((left, back, up)).transposed().to_4x4()


def _link(armature: bpy.types.Object, mesh: bpy.types.Object, context: bpy.types.Context) -> None:
    """Put an armature beside a mesh where it is seen, else into the scene's own collection."""
    for home in mesh.users_collection:
        if home.library is None and home.override_library is None:
            home.objects.link(armature)
            if armature.visible_get():
                return
            home.objects.unlink(armature)
    context.scene.collection.objects.link(armature)


def _joints(into: Matrix, mesh: bpy.types.Object) -> list[tuple[str, Vector, Vector]]:
    """Return name, head and tail of each bone, where up is Z: the skull turns behind the mouth, below the ears."""
    into = np.array(into)
    points = points_of(mesh.data.shape_keys.reference_key) @ into[:3, :3].T + into[:3, 3]
    corners = np.stack(np.meshgrid(*zip(*face_bounds(mesh), strict=True)), axis=-1).reshape(-1, 3)
    face = corners @ into[:3, :3].T + into[:3, 3]
    if np.ptp(face[:, 2]) < 0.05 * np.ptp(points, axis=0).max():  # a line, as of one key that moves a lip
        face = points
    low, high = face.min(axis=0), face.max(axis=0)
    height, middle = max(high[2] - low[2], 1e-3), (low[0] + high[0]) / 2
    # How deep the skull is tells the part that is as high as the face: no tail, and no body.
    skull = (points[:, 2] >= low[2]) & (points[:, 2] <= low[2] + 1.3 * height)
    skull &= np.abs(points[:, 0] - middle) <= high[0] - low[0]
    depths = points[skull if skull.any() else slice(None), 1]
    depth = (depths.min() + depths.max()) / 2
    base, joint, top = (Vector((middle, depth, low[2] + share * height)) for share in (-0.3, 0.3, 1.3))
    return [("neck", base, joint), ("head", joint, top)]


def _hang(obj: bpy.types.Object, parent: bpy.types.Object, bone: str = "") -> None:
    """Parent an object, to a bone if one is named, so that it stays where it is and keeps its own channels."""
    before = Matrix()
    if obj.parent is not None and obj.parent_type == "OBJECT":
        before = obj.parent.matrix_world @ obj.matrix_parent_inverse
    elif obj.parent is not None:  # to a bone or vertices
        before = obj.matrix_world @ obj.matrix_basis.inverted_safe()
    to = parent.matrix_world
    if bone:
        posed = parent.pose.bones[bone]
        to = to @ posed.matrix @ Matrix.Translation((0.0, posed.length, 0.0))  # what hangs on a bone hangs on its tail
    obj.parent, obj.parent_type, obj.parent_bone = parent, "BONE" if bone else "OBJECT", bone
    obj.matrix_parent_inverse = to.inverted_safe() @ before
