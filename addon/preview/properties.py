"""Preview settings that belong in the .blend file; whether the preview runs is no business of the file's."""

from __future__ import annotations

import bpy

from ...core.units import ARKIT, EXPRESSIONS, UNITS
from ..ids import PREVIEW
from ..properties import BLEND_RELATIVE
from ..registration import register_classes, unregister_classes
from .particles import EFFECTS

_BASIC_ITEMS = tuple((name, name.capitalize(), "") for name in EXPRESSIONS)


def redraw(_self=None, _context=None) -> None:
    """Redraw every 3D viewport."""
    manager = bpy.context.window_manager
    for window in manager.windows if manager else ():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _show_camera(_self, _context) -> None:
    """Ask live capture for larger pictures when they are shown."""
    from .. import live_workflow

    live_workflow.tune()
    redraw()


def _place_heads(_self, context) -> None:
    from . import overlay

    overlay.place_heads()
    _show_camera(_self, context)


def _fill_effects(self, _context) -> None:
    """A panel may not write what it draws, and the preview may never have run in this scene."""
    add_effects(self)
    redraw()


def _find_own(self, _context, text):
    from ..workflow import own_names

    return [name for name in own_names(self.id_data) if text.lower() in name.lower()]


class MienShapeValue(bpy.types.PropertyGroup):
    value: bpy.props.FloatProperty(name="Value", description="Weight of this shape in the expression", min=0.0, max=1.0)


class MienExpression(bpy.types.PropertyGroup):
    values: bpy.props.CollectionProperty(type=MienShapeValue)


class MienEffect(bpy.types.PropertyGroup):
    use: bpy.props.BoolProperty(name="Use", description="Show this effect when it is triggered", update=redraw)
    trigger: bpy.props.EnumProperty(
        name="Trigger",
        description="What sets the effect off",
        items=(
            ("LABEL", "Expression", "The captured expression"),
            ("OWN", "Own Expression", "An expression of the actor's own, recorded under Live"),
            ("UNIT", "Unit", "A unit above a threshold"),
            ("ALWAYS", "Always", "It never stops"),
        ),
    )
    label: bpy.props.EnumProperty(
        name="Expression", description="Expression that sets the effect off", items=_BASIC_ITEMS
    )
    own: bpy.props.StringProperty(
        name="Own Expression",
        description="Name of the actor's own expression that sets the effect off",
        search=_find_own,
        search_options={"SUGGESTION"},
    )
    unit: bpy.props.EnumProperty(
        name="Unit",
        description="Shape key that sets the effect off",
        items=tuple((name, name, "") for name in (*UNITS, *ARKIT)),
    )
    threshold: bpy.props.FloatProperty(
        name="Above", description="The unit has to be above this", default=0.6, min=0.0, max=1.0, subtype="FACTOR"
    )
    amount: bpy.props.FloatProperty(
        name="Amount", description="How many particles", default=1.0, min=0.0, max=1.0, subtype="FACTOR", update=redraw
    )


class MienPreviewSettings(bpy.types.PropertyGroup):
    placement: bpy.props.EnumProperty(
        name="Show",
        description="Where the preview is drawn",
        items=(
            ("IN_PLACE", "In Place", "Over the head itself, which is hidden for as long"),
            ("WINDOW", "Picture in Picture", "In a corner of the viewport, seen from the front"),
        ),
        update=_place_heads,
    )
    size: bpy.props.FloatProperty(
        name="Size",
        description="Height of the picture, as part of the viewport's",
        default=0.45,
        min=0.1,
        max=1.0,
        subtype="FACTOR",
        update=redraw,
    )
    camera_beside: bpy.props.BoolProperty(
        name="Camera Picture",
        description="Show the camera's picture beside the head",
        default=True,
        update=_show_camera,
    )
    lighting: bpy.props.EnumProperty(
        name="Light",
        description="What lights the heads",
        items=(
            ("STUDIO", "Studio", "Warm key, cool fill, and a rim behind"),
            ("RIM", "Rim", "Two coloured lights from behind on a dark face"),
            ("FLAT", "Flat", "Even light from the front, to judge shapes"),
            ("SCENE", "Scene", "The scene's own lights and world"),
        ),
        default="STUDIO",
        update=redraw,
    )
    exposure: bpy.props.FloatProperty(
        name="Exposure",
        description="Brightness in stops",
        min=-10.0,
        max=10.0,
        soft_min=-3.0,
        soft_max=3.0,
        update=redraw,
    )
    shadows: bpy.props.BoolProperty(
        name="Shadows", description="Let the three strongest lights cast shadows", default=True, update=redraw
    )
    smooth: bpy.props.BoolProperty(
        name="Smooth Edges",
        description="Draw at twice the resolution and average. Turn off where there is no fast graphics card",
        default=True,
        update=redraw,
    )
    background: bpy.props.EnumProperty(
        name="Background",
        description="What stands behind the heads",
        items=(
            ("NONE", "None", "The viewport's own; transparent in pictures"),
            ("COLOUR", "Colour", "One colour"),
            ("GRADIENT", "Gradient", "One colour in the middle, another at the edge"),
            ("IMAGE", "Image", "A picture"),
            ("CAMERA", "Camera", "The camera's picture"),
        ),
        default="NONE",
        update=_show_camera,
    )
    inner: bpy.props.FloatVectorProperty(
        name="Middle",
        description="Colour in the middle, or of the whole",
        subtype="COLOR",
        size=3,
        min=0.0,
        max=1.0,
        default=(0.235, 0.365, 0.385),
        update=redraw,
    )
    outer: bpy.props.FloatVectorProperty(
        name="Edge",
        description="Colour at the edge",
        subtype="COLOR",
        size=3,
        min=0.0,
        max=1.0,
        default=(0.045, 0.095, 0.115),
        update=redraw,
    )
    image: bpy.props.PointerProperty(
        name="Image", description="Picture behind the heads", type=bpy.types.Image, update=redraw
    )

    expression: bpy.props.StringProperty(
        name="Expression", description="Expression laid over the capture", default="happiness", update=redraw
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How far the expression covers the capture",
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=redraw,
    )
    expressions: bpy.props.CollectionProperty(type=MienExpression)

    use_particles: bpy.props.BoolProperty(
        name="Particles",
        description="Draw tears, sparkles and the like when they are triggered: tick those that you want below",
        update=_fill_effects,
    )
    seed: bpy.props.IntProperty(
        name="Seed", description="Other paths for the same particles", min=0, max=999, update=redraw
    )
    effects: bpy.props.CollectionProperty(type=MienEffect)


class MienPreviewHead(bpy.types.PropertyGroup):
    source: bpy.props.EnumProperty(
        name="Source",
        description="What moves this head in the preview",
        items=(
            ("SCENE", "Scene", "Its own keys and bones, which live capture, a bake or you set"),
            ("TAKE", "Take", "A take, played by the scene's frame without baking it"),
        ),
        update=redraw,
    )
    take: bpy.props.StringProperty(
        name="Take",
        description="The take that this head plays",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
        update=redraw,
    )
    start: bpy.props.IntProperty(
        name="Start", description="Frame of the scene at which the take begins", default=1, update=redraw
    )
    show: bpy.props.BoolProperty(
        name="Show in Preview",
        description="Draw this head in Mien's preview",
        default=True,
        update=_place_heads,
    )
    location: bpy.props.FloatVectorProperty(
        name="Offset", description="Moves the head in the preview alone", subtype="TRANSLATION", size=3, update=redraw
    )
    rotation: bpy.props.FloatVectorProperty(
        name="Rotation", description="Turns the head in the preview alone", subtype="EULER", size=3, update=redraw
    )
    scale: bpy.props.FloatProperty(
        name="Scale", description="Sizes the head in the preview alone", default=1.0, min=0.01, max=100.0, update=redraw
    )


class MienHiddenHead(bpy.types.PropertyGroup):
    head: bpy.props.PointerProperty(name="Head", type=bpy.types.Object)
    selected: bpy.props.BoolProperty(name="Selected", description="Whether it was selected when it was hidden")


class MienPreviewLayer(bpy.types.PropertyGroup):
    """What the preview hid in a view layer.

    Kept there, where Blender keeps what is hidden: so an undo, a copy of the scene and a file recovered from an
    auto-save bring back the one with the other.
    """

    hidden: bpy.props.CollectionProperty(type=MienHiddenHead)
    active: bpy.props.StringProperty(name="Active", description="Name of the active object when heads were hidden")


CLASSES = (
    MienShapeValue,
    MienExpression,
    MienEffect,
    MienPreviewSettings,
    MienPreviewHead,
    MienHiddenHead,
    MienPreviewLayer,
)


def settings(scene) -> MienPreviewSettings:
    """Return a scene's preview settings."""
    return getattr(scene, PREVIEW)


def head_settings(obj) -> MienPreviewHead:
    """Return an object's preview settings."""
    return getattr(obj, PREVIEW)


def hidden_in(layer) -> MienPreviewLayer:
    """Return what the preview hid in a view layer."""
    return getattr(layer, PREVIEW)


def add_effects(chosen: MienPreviewSettings) -> None:
    """Give a scene its row of effects, with the triggers one would expect."""
    for name, effect in EFFECTS.items():
        if name not in chosen.effects:
            row = chosen.effects.add()
            row.name, row.label = name, effect.label


def register():
    register_classes(CLASSES)
    setattr(bpy.types.Scene, PREVIEW, bpy.props.PointerProperty(type=MienPreviewSettings))
    setattr(bpy.types.Object, PREVIEW, bpy.props.PointerProperty(type=MienPreviewHead))
    setattr(bpy.types.ViewLayer, PREVIEW, bpy.props.PointerProperty(type=MienPreviewLayer))


def unregister():
    delattr(bpy.types.ViewLayer, PREVIEW)
    delattr(bpy.types.Object, PREVIEW)
    delattr(bpy.types.Scene, PREVIEW)
    unregister_classes(CLASSES)
