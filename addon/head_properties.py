"""What is kept of a head on its mesh object: what its shape keys and bones stand for, and the names it had."""

from __future__ import annotations

import bpy

from ..core.units import ARKIT, UNITS
from .ids import HEAD_BONES, HEAD_NAMES, HEAD_SHAPES
from .registration import register_classes, unregister_classes
from .rig.mapping import armature_of

_OVERRIDABLE = {"LIBRARY_OVERRIDABLE"}


def _find_channels(_self, _context, text):
    return [name for name in (*UNITS, *ARKIT) if text.casefold() in name.casefold()]


def _find_bones(self, _context, text):
    armature = armature_of(self)
    names = armature.data.bones.keys() if armature is not None else ()
    return [name for name in names if text.casefold() in name.casefold()]


def _bone(name: str, what: str):
    return bpy.props.StringProperty(
        name=name,
        description=f"Bone that {what}. Left empty it is the one whose name tells",
        search=_find_bones,
        override=_OVERRIDABLE,
    )


class MienHeadShape(bpy.types.PropertyGroup):
    """A shape key, by its name, and its channel."""

    channel: bpy.props.StringProperty(
        name="Channel",
        description="What moves this shape key: one of Mien's 11 units or of the 52 ARKit shapes. "
        "Left empty nothing does",
        search=_find_channels,
        search_options=set(),
        override=_OVERRIDABLE,
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How far the shape key goes where the channel is at 1; it never goes beyond 1",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=10.0,
        override=_OVERRIDABLE,
    )


# Each on the object itself: in Blender 5.2 an override of a group that the library's file lacks is lost.
PROPERTIES = {
    HEAD_SHAPES: bpy.props.CollectionProperty(type=MienHeadShape, override={"LIBRARY_OVERRIDABLE", "USE_INSERTION"}),
    HEAD_BONES["neck"]: _bone("Neck", "takes a share of the head's turn"),
    HEAD_BONES["head"]: _bone("Head", "turns the head"),
    HEAD_BONES["jaw"]: _bone("Jaw", "opens the mouth"),
    HEAD_BONES["eye.L"]: _bone("Left Eye", "turns the character's left eye, or that this eye looks at"),
    HEAD_BONES["eye.R"]: _bone("Right Eye", "turns the character's right eye, or that this eye looks at"),
    HEAD_NAMES: bpy.props.StringProperty(options={"HIDDEN"}, override=_OVERRIDABLE),
}


def register():
    register_classes([MienHeadShape])
    for name, definition in PROPERTIES.items():
        setattr(bpy.types.Object, name, definition)


def unregister():
    for name in reversed(PROPERTIES):
        delattr(bpy.types.Object, name)
    unregister_classes([MienHeadShape])
