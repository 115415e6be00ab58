"""Reads meshes, key values and poses out of Blender into arrays."""

from __future__ import annotations

import functools
import zlib

import bpy
import numpy as np
from mathutils import Matrix, Quaternion

from ..rig.mapping import hangs_on_bone
from ..rig.targets import listed
from .render_data import Floats, MeshArrays

Shape = bpy.types.ShapeKey

_DEFORMING = ("ARMATURE", "LATTICE")
"""Kinds of parent by which an armature or a lattice deforms what hangs on it."""


def get_array(collection, attribute: str, width: int, dtype=np.float32) -> np.ndarray:
    """Read one attribute of a whole collection, shape (len, width), or (len,) for width 1."""
    values = np.empty(len(collection) * width, dtype)
    collection.foreach_get(attribute, values)
    return values.reshape(-1, width) if width > 1 else values


def armature_modifier(obj):
    """Return the Armature modifier that the preview follows, or None."""
    for modifier in obj.modifiers:
        if modifier.type == "ARMATURE" and modifier.show_viewport and modifier.object and modifier.use_vertex_groups:
            return modifier
    return None


def left_out(obj, *, final: bool = False) -> list[str]:
    """Return sentences about what the fast path draws otherwise than Blender does in the viewport, or in a render."""
    notices = []
    shown = "show_render" if final else "show_viewport"
    armature = armature_modifier(obj)
    others = [m.name for m in obj.modifiers if getattr(m, shown) and m != armature]
    if armature and not getattr(armature, shown):
        notices.append(f"With the modifier {armature.name}, which is not for renders")
    if others:
        notices.append(f"Without the modifiers {', '.join(others)}")
    if armature and armature.use_deform_preserve_volume:
        notices.append("Bones bend without Preserve Volume")
    if armature and armature.vertex_group:
        notices.append(f"Bones move more than the vertex group {armature.vertex_group}")
    bendy = _bendy_bones(obj, armature.object.data.bones) if armature else []
    if bendy:
        notices.append(f"Bendy bones stay straight: {listed(bendy)}")
    # Blender lets such a parent deform without a modifier.
    if obj.parent is not None and obj.parent_type in _DEFORMING:
        notices.append(f"Without the deformation by its parent {obj.parent.name}")
    keys = obj.data.shape_keys
    if keys and not keys.use_relative:
        notices.append("Absolute shape keys stay at rest")
    return notices


def _bendy_bones(obj, bones) -> list[str]:
    names = (group.name for group in obj.vertex_groups if group.name in bones)
    return [name for name in names if bones[name].use_deform and bones[name].bbone_segments > 1]


def left_out_of_a_take(obj) -> list[str]:
    """Return sentences about what a take played without a bake shows otherwise than a bake of it would."""
    armature = armature_modifier(obj)
    if armature is None and hangs_on_bone(obj):
        return ["What hangs on a bone does not turn with it: bake the take to see it turn"]
    bones = armature.object.pose.bones if armature else ()
    if any(not constraint.mute and constraint.influence for bone in bones for constraint in bone.constraints):
        return ["Bones move without their constraints: bake the take to see it with them"]
    return []


def is_exact(obj, *, final: bool = False) -> bool:
    """Whether keys and bones alone make the object's shape, as the fast path has it."""
    return not left_out(obj, final=final)


def is_flat(obj) -> bool:
    """Whether an object, or the armature that it follows, is scaled to nothing: there is no way back from its space."""
    modifier = armature_modifier(obj)
    objects = (obj,) if modifier is None else (obj, modifier.object)
    return any(np.linalg.matrix_rank(object_matrix(each)[:3, :3]) < 3 for each in objects)


def shape_keys(obj) -> list[Shape]:
    """Return the relative keys of a mesh object, without the one all are relative to."""
    keys = obj.data.shape_keys
    if keys is None or not keys.use_relative:
        return []
    return [key for key in keys.key_blocks if key != keys.reference_key]


def read_mesh(obj, colour_name: str | None = None) -> MeshArrays:
    """Read an object's mesh with its keys and vertex groups, before any modifier.

    Parameters
    ----------
    obj : bpy.types.Object
    colour_name : str, optional
        Colour attribute to read; the one active for rendering by default.
    """
    mesh = obj.data
    keys = mesh.shape_keys
    positions = get_array(mesh.vertices, "co", 3)
    if keys is not None and len(keys.reference_key.points) == len(positions):
        positions = get_array(keys.reference_key.points, "co", 3)
    names, deltas = [], []
    read: dict[str, Floats] = {keys.reference_key.name: positions} if keys is not None else {}

    def points(key) -> Floats:
        if key.name not in read:
            read[key.name] = get_array(key.points, "co", 3)
        return read[key.name]

    groups, weights = _vertex_groups(obj)
    for key in shape_keys(obj):
        delta = points(key) - points(key.relative_key)
        if key.vertex_group:
            delta = delta * _group_weights(obj, key.vertex_group, groups, weights, len(positions))[:, None]
        index = np.flatnonzero(np.any(delta != 0.0, axis=1)).astype(np.int32)
        names.append(key.name)
        deltas.append((index, delta[index]))
    bones, influences = _influences(obj, groups, weights)
    return MeshArrays(
        positions=positions,
        shapes=tuple(names),
        deltas=deltas,
        bones=bones,
        influence_vertex=influences[0],
        influence_bone=influences[1],
        influence_weight=influences[2],
        **_surface(mesh, colour_name),
    )


def read_evaluated(obj, depsgraph, colour_name: str | None = None) -> MeshArrays:
    """Read an object's shape of this moment, after every modifier: no keys and no bones are left in it."""
    evaluated = obj.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh()
    try:
        return read_still(mesh, colour_name)
    finally:
        evaluated.to_mesh_clear()


def read_still(mesh: bpy.types.Mesh, colour_name: str | None = None) -> MeshArrays:
    """Read a mesh as it is, without keys and bones."""
    return MeshArrays(positions=get_array(mesh.vertices, "co", 3), **_surface(mesh, colour_name))


def _surface(mesh, colour_name) -> dict:
    mesh.calc_loop_triangles()
    triangles = get_array(mesh.loop_triangles, "loops", 3, np.int32)
    material = get_array(mesh.loop_triangles, "material_index", 1, np.int32)
    corner_vertex = get_array(mesh.loops, "vertex_index", 1, np.int32)
    uv = uv_map(mesh)
    if uv is not None and len(uv.uv) != len(corner_vertex):
        uv = None  # in Edit Mode it lies elsewhere
    return {
        "corner_vertex": corner_vertex,
        "corner_normal": get_array(mesh.corner_normals, "vector", 3),
        "face_start": get_array(mesh.polygons, "loop_start", 1, np.int32),
        "face_size": get_array(mesh.polygons, "loop_total", 1, np.int32),
        "triangles": triangles,
        "triangle_material": material,
        "uv": get_array(uv.uv, "vector", 2) if uv else None,
        "colour": _colour(mesh, corner_vertex, colour_name),
    }


def uv_map(mesh):
    """Return the UV map that renders use, or None."""
    return next((layer for layer in mesh.uv_layers if layer.active_render), None)


def _colour(mesh, corner_vertex, name: str | None):
    attributes = mesh.color_attributes
    if not len(attributes):
        return None
    found = attributes.get(name) if name else attributes[max(attributes.render_color_index, 0)]
    if found is None:
        return None
    if len(found.data) != (len(mesh.vertices) if found.domain == "POINT" else len(corner_vertex)):
        return None  # in Edit Mode it lies elsewhere
    values = get_array(found.data, "color", 4)
    return values[corner_vertex] if found.domain == "POINT" else values


def _vertex_groups(obj) -> tuple[np.ndarray, np.ndarray]:
    """Return (vertex, group) pairs and their weights."""
    if not len(obj.vertex_groups):
        return np.zeros((0, 2), np.int32), np.zeros(0, np.float32)
    pairs, weights = [], []
    for vertex in obj.data.vertices:
        for element in vertex.groups:
            pairs.append((vertex.index, element.group))
            weights.append(element.weight)
    return np.array(pairs, np.int32).reshape(-1, 2), np.array(weights, np.float32)


def _group_weights(obj, name, pairs, weights, vertices) -> Floats:
    result = np.zeros(vertices, np.float32)
    group = obj.vertex_groups.get(name)
    if group is None:
        return np.ones(vertices, np.float32)
    mine = pairs[:, 1] == group.index
    result[pairs[mine, 0]] = weights[mine]
    return result


def _influences(obj, pairs, weights):
    carrying = _carrying(obj)
    mapping = np.full(len(obj.vertex_groups) + 1, -1, np.int32)
    for i, name in enumerate(carrying):
        mapping[obj.vertex_groups[name].index] = i
    bone = mapping[pairs[:, 1]] if len(pairs) else np.zeros(0, np.int32)
    keep = bone >= 0
    return carrying, (pairs[keep, 0], bone[keep], weights[keep])


def _carrying(obj) -> tuple[str, ...]:
    """Return the names of the bones that move a mesh by its vertex groups."""
    modifier = armature_modifier(obj)
    if modifier is None:
        return ()
    bones = modifier.object.data.bones
    return tuple(group.name for group in obj.vertex_groups if group.name in bones and bones[group.name].use_deform)


def read_weights(obj, shapes: tuple[str, ...], depsgraph=None) -> dict[str, float]:
    """Return the scene's value of each shape, muted or not: see `as_mixed`.

    Parameters
    ----------
    obj : bpy.types.Object
    shapes : tuple of str
    depsgraph : bpy.types.Depsgraph, optional
        Whose values to read. While rendering only the render's own are those of the frame.
    """
    values = {key.name: key.value for key in _key_blocks(obj, depsgraph)}
    return {name: values.get(name, 0.0) for name in shapes}


def as_mixed(obj, values: dict[str, float], depsgraph=None) -> dict[str, float]:
    """Return values of shapes as Blender mixes them: within their ranges, muted and pinned keys heeded."""
    mixed = dict.fromkeys(values, 0.0)
    if obj.show_only_shape_key:
        # A pinned key is shown at 1, on top of whatever it is relative to.
        key = obj.active_shape_key
        while key is not None and mixed.get(key.name) == 0.0:
            mixed[key.name], key = 1.0, key.relative_key
        return mixed
    for key in _key_blocks(obj, depsgraph):
        if key.name in mixed and not key.mute:
            mixed[key.name] = min(max(values[key.name], key.slider_min), key.slider_max)
    return mixed


def _key_blocks(obj, depsgraph):
    keys = obj.data.shape_keys
    if keys is None:
        return ()
    return (keys if depsgraph is None else keys.evaluated_get(depsgraph)).key_blocks


def object_matrix(obj) -> np.ndarray:
    """Return an object's matrix in the world, shape (4, 4)."""
    return np.array(obj.matrix_world, np.float64)


def into_object(obj, armature) -> np.ndarray:
    """Return the matrix from an armature's space to an object's, shape (4, 4)."""
    return np.linalg.inv(object_matrix(obj)) @ object_matrix(armature)


def read_bones(obj, bones: tuple[str, ...], rotations: dict | None = None, depsgraph=None) -> np.ndarray:
    """Return how each bone moves the mesh, in the object's space.

    Parameters
    ----------
    obj : bpy.types.Object
    bones : tuple of str
    rotations : dict of str to (w, x, y, z), optional
        Rotations in the bones' own axes that stand in for the pose's; the rest of the pose is kept.
        Constraints do not act on bones so turned.
    depsgraph : bpy.types.Depsgraph, optional
        Read the pose as evaluated there.

    Returns
    -------
    ndarray of float64, shape (B, 4, 4)
    """
    modifier = armature_modifier(obj)
    if modifier is None or not bones:
        return np.zeros((0, 4, 4))
    armature = modifier.object
    if depsgraph is not None:
        armature, obj = armature.evaluated_get(depsgraph), obj.evaluated_get(depsgraph)
    pose = armature.pose.bones
    if rotations:
        posed = _posed(pose, bones, rotations)
    else:
        posed = {name: np.array(pose[name].matrix, np.float64) for name in bones}
    into = into_object(obj, armature)
    back = np.linalg.inv(into)
    rest = armature.data.bones
    result = np.empty((len(bones), 4, 4))
    for i, name in enumerate(bones):
        result[i] = into @ posed[name] @ np.linalg.inv(np.array(rest[name].matrix_local, np.float64)) @ back
    return result


def _posed(pose, bones, rotations) -> dict[str, np.ndarray]:
    moved = set(rotations)

    @functools.cache
    def place(name: str) -> Matrix:
        bone = pose[name]
        parent, rest, above = bone.parent, bone.bone.matrix_local, {}
        if parent is not None:
            above = {"parent_matrix": place(parent.name), "parent_matrix_local": parent.bone.matrix_local}
        if name in rotations:
            local = Matrix.LocRotScale(bone.location, Quaternion(rotations[name]).normalized(), bone.scale)
        elif parent is not None and parent.name in moved:
            moved.add(name)
            # Taken from where it is, not from its channels: what constraints made of it goes along.
            before = above | {"parent_matrix": parent.matrix}
            local = bone.bone.convert_local_to_pose(bone.matrix, rest, **before, invert=True)
        else:
            return bone.matrix
        return bone.bone.convert_local_to_pose(local, rest, **above)

    return {name: np.array(place(name), np.float64) for name in bones}


def structure(obj) -> tuple:
    """Return a cheap mark of everything but coordinates: when it changes, the model is read again."""
    mesh, keys = obj.data, obj.data.shape_keys
    shapes = tuple((k.name, k.relative_key.name, k.vertex_group) for k in shape_keys(obj)) if keys else ()
    modifier = armature_modifier(obj)
    armature = None
    if modifier is not None:
        armature = (modifier.object.session_uid, modifier.object.data.session_uid, _carrying(obj))
    return (
        mesh.session_uid,
        len(mesh.vertices),
        len(mesh.loops),
        len(mesh.polygons),
        shapes,
        tuple(group.name for group in obj.vertex_groups),
        armature,
        tuple(slot.material.session_uid if slot.material else 0 for slot in obj.material_slots),
    )


def content(obj) -> int:
    """Return a checksum of coordinates, faces, normals, UVs, colours, weights and keys: the slow, sure mark."""
    mesh = obj.data
    mark = zlib.crc32(get_array(mesh.vertices, "co", 3))
    mark = zlib.crc32(get_array(mesh.loops, "vertex_index", 1, np.int32), mark)
    mark = zlib.crc32(get_array(mesh.polygons, "material_index", 1, np.int32), mark)
    mark = zlib.crc32(get_array(mesh.corner_normals, "vector", 3), mark)
    if uv_map(mesh):
        mark = zlib.crc32(get_array(uv_map(mesh).uv, "vector", 2), mark)
    for attribute in mesh.color_attributes:
        mark = zlib.crc32(get_array(attribute.data, "color", 4), mark)
    for array in _vertex_groups(obj):
        mark = zlib.crc32(array, mark)
    if mesh.shape_keys is not None:
        for key in mesh.shape_keys.key_blocks:
            mark = zlib.crc32(get_array(key.points, "co", 3), mark)
    return mark
