"""What a head's shape keys and bones stand for."""

from __future__ import annotations

import bpy

from .. import session, workflow
from ..ids import (
    HEAD_BONES,
    HEAD_SHAPES,
    LIST_SHAPES,
    OP_ADD_HEAD_BONES,
    OP_MAP_BY_NAME,
    OP_MAP_SHAPES,
    PANEL_MAIN,
    PANEL_MAPPING,
)
from ..rig.mapping import find_armature, mapping_of
from .sidebar import Sidebar
from .text import paragraph


class MIEN_UL_shapes(bpy.types.UIList):
    bl_idname = LIST_SHAPES

    def draw_item(self, context, layout, _data, item, _icon, _active_data, _active_property):
        key = workflow.settings(context).target.data.shape_keys
        gone = key is None or item.name not in key.key_blocks
        # Text alone: fields, and icons, would leave no room for names in a sidebar of usual width.
        row = layout.split(factor=0.6)
        row.alert = gone
        row.label(text=item.name)
        row.label(text=item.channel or "-")


class MIEN_PT_mapping(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_MAPPING
    bl_parent_id = PANEL_MAIN
    bl_label = "Mapping"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        settings = workflow.settings(context)
        mesh = settings.target
        if mesh is None:
            layout.label(text="Choose a head under Target", icon="INFO")
            return
        # A session has looked up what it drives when it began.
        layout.enabled = not session.busy()
        rows = getattr(mesh, HEAD_SHAPES)
        if rows:
            layout.template_list(LIST_SHAPES, "", mesh, HEAD_SHAPES, settings, "mapping_row", rows=6)
            if 0 <= settings.mapping_row < len(rows):
                active = rows[settings.mapping_row]
                column = layout.column()
                column.use_property_split = True
                column.use_property_decorate = False
                column.prop(active, "channel", placeholder="None")
                strength = column.row()
                strength.enabled = bool(active.channel)
                strength.prop(active, "strength")
            row = layout.row(align=True)
            row.operator(OP_MAP_SHAPES, text="Add New", icon="FILE_REFRESH")
            row.operator(OP_MAP_BY_NAME, icon="X")
        else:
            paragraph(context, layout, "Shape keys are told by their names.", icon="INFO")
            layout.operator(OP_MAP_SHAPES, icon="PRESET")
        bones = mapping_of(mesh).bones
        if find_armature(mesh, bones) is not None:
            column = layout.column(heading="Bones")
            column.use_property_split = True
            column.use_property_decorate = False
            for role, setting in HEAD_BONES.items():
                column.prop(mesh, setting, placeholder=bones[role])
        else:
            paragraph(context, layout, "No armature turns the head.", icon="INFO")
            layout.operator(OP_ADD_HEAD_BONES, icon="BONE_DATA")
