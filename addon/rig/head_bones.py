"""An armature for a head that has none, so that it can turn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import bpy
import numpy as np
from mathutils import Matrix, Vector

from .axes import Y_UP, Z_UP
from .face import face_bounds

NAME = "Head Bones"


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
        What turns along: eyes, teeth, hair.
    whole : bool
        Whether all that hangs on the same parent turns along.

    Returns
    -------
    bpy.types.Object
        The armature.
    """
    layer = context.view_layer
    layer.update()
    world = mesh.matrix_world.to_quaternion()
    up_y, up_z = (world @ Vector(axis) for axis in ((0, 1, 0), (0, 0, 1)))
    upright = world @ (Y_UP if up_y.z > up_z.z else Z_UP).inverted()
    space = Matrix.LocRotScale(mesh.matrix_world.translation, upright, None)

    data = bpy.data.armatures.new(NAME)
    armature = bpy.data.objects.new(NAME, data)
    armature.matrix_world = space
    armature.show_in_front, data.display_type = True, "STICK"  # seen, and yet the face, too
    home = mesh.users_collection[0]
    home.objects.link(armature)
    if not armature.visible_get():  # the head is seen by another collection that it is in, too
        home.objects.unlink(armature)
        context.scene.collection.objects.link(armature)
    active = layer.objects.active
    layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    parent = None
    for name, head, tail in _joints(space.inverted() @ mesh.matrix_world, mesh):
        bone = data.edit_bones.new(name)
        bone.head, bone.tail, bone.parent, bone.use_connect = head, tail, parent, parent is not None
        parent = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    layer.objects.active = active
    layer.update()

    tops = dict.fromkeys(_top(obj) if whole else obj for obj in (mesh, *others))
    if not whole and mesh.parent is not None:
        _hang(armature, mesh.parent)
    for obj in tops:
        _hang(obj, armature, "head")
    layer.update()
    return armature


def _joints(into: Matrix, mesh: bpy.types.Object) -> list[tuple[str, Vector, Vector]]:
    """Return name, head and tail of each bone, where up is Z: the skull turns behind the mouth, below the ears."""

    def extent(corners):
        points = np.array([into @ Vector(corner) for corner in corners])
        return points.min(axis=0), points.max(axis=0)

    low, high = extent(itertools.product(*zip(*face_bounds(mesh), strict=True)))
    front, back = (corner[1] for corner in extent(mesh.bound_box))
    height, middle, depth = high[2] - low[2], (low[0] + high[0]) / 2, (front + back) / 2
    base, skull, top = (Vector((middle, depth, low[2] + share * height)) for share in (-0.3, 0.3, 1.3))
    return [("neck", base, skull), ("head", skull, top)]


def _top(obj: bpy.types.Object) -> bpy.types.Object:
    while obj.parent is not None:
        obj = obj.parent
    return obj


def _hang(obj: bpy.types.Object, parent: bpy.types.Object, bone: str = "") -> None:
    """Parent an object, to a bone if one is named, so that it stays where it is and keeps its own channels."""
    before = obj.parent.matrix_world @ obj.matrix_parent_inverse if obj.parent is not None else Matrix()
    to = parent.matrix_world
    if bone:
        posed = parent.pose.bones[bone]
        to = to @ posed.matrix @ Matrix.Translation((0.0, posed.length, 0.0))  # what hangs on a bone hangs on its tail
    obj.parent, obj.parent_type, obj.parent_bone = parent, "BONE" if bone else "OBJECT", bone
    obj.matrix_parent_inverse = to.inverted() @ before
