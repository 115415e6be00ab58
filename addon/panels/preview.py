"""The preview's part of the sidebar."""

from __future__ import annotations

import bpy

from ..expressions import BASIC
from ..ids import (
    OP_PREVIEW,
    OP_PREVIEW_EXPRESSION,
    OP_PREVIEW_EXPRESSION_REMOVE,
    OP_PREVIEW_EXPRESSION_SAVE,
    OP_PREVIEW_RENDER_TAKE,
    PANEL_PREVIEW,
    PANEL_PREVIEW_EXPRESSION,
    PANEL_PREVIEW_HEADS,
    PANEL_PREVIEW_LOOK,
    PANEL_PREVIEW_PARTICLES,
)
from ..preview import overlay, playback
from ..preview.particles import EFFECTS
from ..preview.properties import head_settings, settings
from ..preview.reading import left_out, left_out_of_a_take
from ..registration import register_classes, unregister_classes
from .sidebar import Sidebar
from .text import paragraph


class MIEN_PT_preview(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_PREVIEW
    bl_label = "Preview"

    def draw(self, context):
        layout = self.layout
        chosen = settings(context.scene)
        row = layout.row()
        row.scale_y = 1.3
        on = overlay.running()
        row.operator(OP_PREVIEW, text="Stop Preview" if on else "Preview", icon="PAUSE" if on else "PLAY", depress=on)
        if overlay.problem:
            box = layout.box().column(align=True)
            box.alert = True
            paragraph(context, box, overlay.problem, icon="ERROR")
        layout.row().prop(chosen, "placement", expand=True)
        layout.operator(OP_PREVIEW_RENDER_TAKE, icon="RENDER_ANIMATION")
        if chosen.placement == "WINDOW":
            column = layout.column()
            column.use_property_split = True
            column.use_property_decorate = False
            column.prop(chosen, "size")
            column.prop(chosen, "camera_beside")


class _Child(Sidebar):
    bl_parent_id = PANEL_PREVIEW
    bl_options = {"DEFAULT_CLOSED"}


class MIEN_PT_preview_look(_Child, bpy.types.Panel):
    bl_idname = PANEL_PREVIEW_LOOK
    bl_label = "Light and Background"

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        chosen = settings(context.scene)
        column = layout.column()
        column.prop(chosen, "lighting")
        column.prop(chosen, "exposure")
        column.prop(chosen, "shadows")
        column.prop(chosen, "smooth")
        column = layout.column()
        column.prop(chosen, "background")
        if chosen.background in {"COLOUR", "GRADIENT"}:
            column.prop(chosen, "inner")
        if chosen.background == "GRADIENT":
            column.prop(chosen, "outer")
        if chosen.background == "IMAGE":
            column.template_ID(chosen, "image", open="image.open")


class MIEN_PT_preview_expression(_Child, bpy.types.Panel):
    bl_idname = PANEL_PREVIEW_EXPRESSION
    bl_label = "Expressions"

    def draw(self, context):
        layout = self.layout
        chosen = settings(context.scene)
        layout.prop(chosen, "strength", slider=True)
        grid = layout.grid_flow(columns=2, align=True)
        for name in (*BASIC, *chosen.expressions.keys()):
            worn = chosen.expression == name and chosen.strength > 0.0
            row = grid.row(align=True)
            basic = name in BASIC
            shown = name.capitalize() if basic else name
            row.operator(OP_PREVIEW_EXPRESSION, text=shown, translate=basic, depress=worn).name = name
            if not basic:
                row.operator(OP_PREVIEW_EXPRESSION_REMOVE, text="", icon="X").name = name
        layout.operator(OP_PREVIEW_EXPRESSION_SAVE, icon="ADD")


class MIEN_PT_preview_particles(_Child, bpy.types.Panel):
    bl_idname = PANEL_PREVIEW_PARTICLES
    bl_label = "Particles"

    def draw_header(self, context):
        self.layout.prop(settings(context.scene), "use_particles", text="")

    def draw(self, context):
        layout = self.layout
        chosen = settings(context.scene)
        layout.enabled = chosen.use_particles
        layout.prop(chosen, "seed")
        for rule in chosen.effects:
            row = layout.row()
            row.prop(rule, "use", text=EFFECTS[rule.name].title)
            row.prop(rule, "trigger", text="")
            if not rule.use:
                continue
            column = layout.column(align=True)
            column.use_property_split = True
            column.use_property_decorate = False
            if rule.trigger == "LABEL":
                column.prop(rule, "label")
            elif rule.trigger == "OWN":
                column.prop(rule, "own", text="Expression")
            elif rule.trigger == "UNIT":
                column.prop(rule, "unit")
                column.prop(rule, "threshold")
            column.prop(rule, "amount")


class MIEN_PT_preview_heads(_Child, bpy.types.Panel):
    bl_idname = PANEL_PREVIEW_HEADS
    bl_label = "Heads"

    def draw(self, context):
        layout = self.layout
        heads = overlay.heads_of(context.scene)
        if not heads:
            layout.label(text="No mesh with shape keys that Mien knows", icon="INFO")
        for obj in heads:
            chosen = head_settings(obj)
            layout.prop(chosen, "show", text=obj.name, translate=False)
            if not chosen.show:
                continue
            column = layout.column()
            column.use_property_split = True
            column.use_property_decorate = False
            column.prop(chosen, "source")
            if chosen.source == "TAKE":
                column.prop(chosen, "take")
                column.prop(chosen, "start")
                trouble = playback.trouble_of(obj)
                if trouble:
                    paragraph(context, column, trouble, icon="ERROR")
                for notice in left_out_of_a_take(obj):
                    paragraph(context, column, notice, icon="INFO")
            column.prop(chosen, "location")
            column.prop(chosen, "rotation")
            column.prop(chosen, "scale")
            for notice in left_out(obj):
                paragraph(context, column, notice, icon="INFO")


CLASSES = (
    MIEN_PT_preview,
    MIEN_PT_preview_look,
    MIEN_PT_preview_expression,
    MIEN_PT_preview_particles,
    MIEN_PT_preview_heads,
)


def register():
    register_classes(CLASSES)


def unregister():
    unregister_classes(CLASSES)
