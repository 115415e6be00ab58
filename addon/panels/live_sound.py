"""The microphone in the sidebar, below live capture."""

from __future__ import annotations

import bpy

from .. import live_workflow, session
from ..ids import OP_LIVE_MICROPHONES, PANEL_LIVE, PANEL_LIVE_SOUND, SIDEBAR_TAB
from .text import paragraph


class MIEN_PT_live_sound(bpy.types.Panel):
    bl_idname = PANEL_LIVE_SOUND
    bl_parent_id = PANEL_LIVE
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = SIDEBAR_TAB
    bl_label = "Microphone"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header(self, context):
        self.layout.prop(live_workflow.settings(context), "microphone", text="")

    def draw(self, context):
        layout = self.layout
        chosen = live_workflow.settings(context)
        row = layout.row(align=True)
        row.enabled = not (session.live_running() and session.live.recording)
        row.prop(chosen, "microphone_name", text="", icon="SPEAKER", placeholder="Default microphone")
        row.operator(OP_LIVE_MICROPHONES, text="", icon="FILE_REFRESH")
        sound = session.live.sound if session.live_running() else None
        if sound is not None and sound.state != "off":
            layout.progress(factor=min(sound.level, 1.0), text="Opening" if sound.state == "opening" else "Level")
            if sound.error is not None:
                paragraph(context, layout, sound.error.message, icon="ERROR")
                paragraph(context, layout, sound.error.hint)
        if chosen.microphone:
            told = "Open while live. Only takes keep what it hears"
        else:
            told = "Off: no microphone is opened"
        paragraph(context, layout, told, icon="INFO")
