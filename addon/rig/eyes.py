"""Whether a head's eyes are turned by shape keys, so that its bones are not to turn them, too."""

from __future__ import annotations

import time

import bpy
import numpy as np

from ..ids import HEAD_BONES
from .face import points_of
from .mapping import EYES, HeadMapping, mapping_of, meshes_along

_SIDES = {"eye.L": "Left", "eye.R": "Right"}

FRESH = 1.0
"""Seconds after which `_carries` is asked again: keys are sculpted and weights painted meanwhile."""

_moved: dict[tuple, tuple[float, bool]] = {}
"""When and what `_carries` found: it takes milliseconds for a body, and a panel asks at every redraw."""


def turned_by_keys(mesh, armature, mapping: HeadMapping) -> list[str]:
    """Return the eyes whose bones nobody chose or named as Mien's, and whose eyeballs eyeLook shape keys turn."""
    found = [role for role in EYES if mapping.bones[role] != role and not getattr(mesh, HEAD_BONES[role])]
    found = [role for role in found if mapping.bones[role] in armature.data.bones]
    if not found or not any(channel.startswith("eyeLook") for channel in mapping.channels.values()):
        return []
    meshes = [mesh, *meshes_along(mesh, bpy.data.objects)]
    return [role for role in found if any(_moves(each, mapping.bones[role], _SIDES[role]) for each in meshes)]


def _moves(mesh, bone: str, side: str) -> bool:
    """Whether a mesh's eyeLook shape keys of a side move what a bone carries, too."""
    names = {channel: name for name, channel in mapping_of(mesh).channels.items()}
    looks = [names[look] for look in (f"eyeLookOut{side}", f"eyeLookIn{side}", f"eyeLookUp{side}") if look in names]
    group = mesh.vertex_groups.find(bone)
    if not looks or (group < 0 and mesh.parent_bone != bone):
        return False
    keys = mesh.data.shape_keys
    asked = (keys.session_uid, len(mesh.data.vertices), len(keys.key_blocks), looks[0], group)
    moment = time.monotonic()
    if asked not in _moved or moment - _moved[asked][0] > FRESH:
        if len(_moved) > 100:
            _moved.clear()
        _moved[asked] = moment, _carries(mesh, keys.key_blocks[looks[0]], group)
    return _moved[asked][1]


def _carries(mesh, look, group: int) -> bool:
    """Whether a shape key moves vertices of a group; of -1 any."""
    far = np.abs(points_of(look) - points_of(mesh.data.shape_keys.reference_key)).max(axis=1)
    if group < 0 or not far.any():
        return bool((far > 1e-5).any())
    most = np.argpartition(far, -min(100, len(far)))[-100:]
    moved = most[far[most] > 1e-5]
    vertices = mesh.data.vertices
    return any(each.group == group and each.weight > 0.5 for i in moved for each in vertices[int(i)].groups)
