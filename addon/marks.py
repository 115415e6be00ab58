"""Whose a mark is: strips and markers hold the name of their head, as they can hold no object.

A head may be renamed. So it keeps the names by which it was marked, and what bears one of them stays its own.
"""

from __future__ import annotations

import bpy

from .ids import HEAD_NAMES


def sign(head: bpy.types.Object) -> str:
    """Return the name to mark with what is a head's."""
    names = _names(head)
    if head.name not in names:
        setattr(head, HEAD_NAMES, "\t".join([*names, head.name]))
    return head.name


def signed_by(name: str, head: bpy.types.Object, scene: bpy.types.Scene) -> bool:
    """Return whether a mark with this name, in a scene, is a head's.

    By its name, or by an earlier one of its own that nothing in the scene has now, or by that of a head which was
    deleted.
    """
    if not name or name == head.name:
        return bool(name)
    if name in _names(head):
        # A full copy of a scene gives its heads other names; the marks in it keep the old ones.
        return name not in scene.objects
    return name not in bpy.data.objects and not any(name in _names(obj) for obj in bpy.data.objects)


def _names(head) -> list[str]:
    return [name for name in getattr(head, HEAD_NAMES).split("\t") if name]
