"""The microphone in the sidebar, below live capture."""

from __future__ import annotations

import bpy

from .. import live_workflow, session
from ..ids import OP_LIVE_MICROPHONES, PANEL_LIVE, PANEL_LIVE_SOUND
from ..preferences import allowed, get_preferences
from .sidebar import Sidebar
from .text import paragraph


class MIEN_PT_live_sound(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_LIVE_SOUND
    bl_parent_id = PANEL_LIVE
    bl_label = "Microphone"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header(self, _context):
        preferences = get_preferences()
        if preferences is not None:
            self.layout.prop(preferences, "microphone", text="")

    def draw_header_preset(self, _context):
        # Seen also while the panel is closed: that it is open, and that it hears.
        sound = _status()
        if sound is not None and sound.state == "open":
            self.layout.progress(factor=min(sound.level, 1.0), text="Level")
        elif sound is not None and sound.state == "lost":
            self.layout.label(icon="ERROR")

    def draw(self, context):
        layout = self.layout
        chosen = live_workflow.settings(context)
        row = layout.row(align=True)
        row.enabled = not (session.live_running() and session.live.recording)
        row.prop(chosen, "microphone_name", text="", icon="SPEAKER", placeholder="Default microphone")
        row.operator(OP_LIVE_MICROPHONES, text="", icon="FILE_REFRESH")
        sound = _status()
        if sound is not None and sound.error is not None:
            paragraph(context, layout, sound.error.message, icon="ERROR")
            paragraph(context, layout, sound.error.hint, icon="BLANK1")
        if allowed("microphone"):
            told = "Open while live. Only takes keep what it hears"
        else:
            told = "Off: no microphone is opened"
        paragraph(context, layout, told, icon="INFO")


def _status():
    """Return how the microphone stands; None where it is off."""
    sound = session.live.sound if session.live_running() else None
    return sound if sound is not None and sound.state != "off" else None
