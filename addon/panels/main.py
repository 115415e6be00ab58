"""The tab "Mien" in the 3D viewport's sidebar."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...core.errors import MienError
from ...core.pictures import is_recording, is_sequence
from ...core.units import UNITS
from .. import session, workflow
from ..ids import (
    LIVE_SETTINGS,
    OP_ADD_SAMPLE_HEAD,
    OP_BAKE,
    OP_BAKE_TAKE,
    OP_CANCEL,
    OP_EXPORT_CSV,
    OP_LIVE_TARGET_ADD,
    OP_LIVE_TARGET_REMOVE,
    PANEL_BAKE_OPTIONS,
    PANEL_CHANNELS,
    PANEL_FURTHER_HEADS,
    PANEL_MAIN,
    PANEL_TAKES,
)
from ..preferences import takes_folder
from ..rig.targets import BONES
from .live import draw_take_list
from .sidebar import Sidebar
from .text import paragraph


class MIEN_PT_main(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_MAIN
    bl_label = "Mien"

    def draw(self, context):
        layout = self.layout
        chosen = workflow.settings(context)
        running = session.running()

        column = layout.column()
        column.enabled = not session.busy()
        column.label(text="Target", icon="USER")
        row = column.row(align=True)
        row.prop(chosen, "target", text="")
        if chosen.target is not None:
            row.operator(OP_ADD_SAMPLE_HEAD, text="", icon="ADD")
        else:
            column.operator(OP_ADD_SAMPLE_HEAD, icon="ADD")
        ready = self._draw_target(context, column)

        column = layout.column()
        column.enabled = not running
        column.label(text="Source", icon="FILE_MOVIE")
        column.prop(chosen, "source", text="")
        source = Path(bpy.path.abspath(chosen.source))
        if chosen.source and is_sequence(source):
            column.prop(chosen, "sequence_fps")
        elif is_recording(source):
            column.prop(chosen, "timecode_fps")

        layout.separator()
        if running:
            self._draw_progress(layout)
        else:
            row = layout.row()
            row.scale_y = 1.6
            row.enabled = ready and bool(chosen.source)
            row.operator(OP_BAKE, text="Bake", icon="REC")
            if chosen.target is None:
                layout.label(text="Choose a head under Target", icon="INFO")
            elif not chosen.source:
                layout.label(text="Choose a video under Source", icon="INFO")
        if session.outcome is not None and not running:
            self._draw_outcome(context, layout)

    @staticmethod
    def _draw_target(context, layout) -> bool:
        """Draw what was found; returns whether it can be baked on."""
        if workflow.settings(context).target is None:
            return False
        try:
            target = workflow.target_of(context)
        except MienError as error:
            paragraph(context, layout, error.message, icon="ERROR")
            paragraph(context, layout, error.hint)
            return False
        channels = set(target.rig.keys.values())
        units = channels & set(UNITS)
        parts = []
        if units:
            parts.append(f"{len(units)}/{len(UNITS)} units")
        if channels > units:
            parts.append(f"{len(channels - units)} ARKit shapes")
        if target.rig.bones:
            parts.append(f"{len(target.rig.bones)}/{len(BONES)} bones")
        paragraph(context, layout, ", ".join(parts), icon="CHECKMARK")
        if target.missing_units:
            paragraph(context, layout, f"No shape key {', '.join(target.missing_units)}")
        if target.missing_bones and target.armature is not None:
            paragraph(context, layout, f"No bone {', '.join(target.missing_bones.values())}")
        for notice in target.notices:
            paragraph(context, layout, notice, icon="INFO")
        return True

    @staticmethod
    def _draw_progress(layout):
        progress = session.job.progress
        if progress is None or progress.stage == "loading":
            layout.progress(factor=0.0, text="Starting")
        elif progress.total:
            factor = min(progress.frame / progress.total, 1.0)
            left = "" if progress.seconds_left is None else f", {_duration(progress.seconds_left)} left"
            layout.progress(factor=factor, text=f"{factor:.0%}{left}")
        else:
            layout.progress(factor=0.0, text=f"Frame {progress.frame}")
        if progress is not None and progress.frame:
            layout.label(text=f"Face in {progress.found} of {progress.frame} pictures")
        layout.operator(OP_CANCEL, text="Cancel (Esc)", icon="X")

    @staticmethod
    def _draw_outcome(context, layout):
        box = layout.box().column(align=True)
        box.alert = session.outcome.failed
        icon = "ERROR" if session.outcome.failed else "CHECKMARK" if session.outcome.baked else "INFO"
        for line in session.outcome.lines:
            paragraph(context, box, line, icon=icon)
            icon = "BLANK1"


class MIEN_PT_further_heads(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_FURTHER_HEADS
    bl_parent_id = PANEL_MAIN
    bl_label = "Further Heads"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, context):
        count = len(workflow.further_heads(context.scene))
        if count:
            self.layout.label(text=str(count))

    def draw(self, context):
        layout = self.layout
        layout.enabled = not session.busy()
        column = layout.column(align=True)
        for i, entry in enumerate(getattr(context.scene, LIVE_SETTINGS).targets):
            row = column.row(align=True)
            row.prop(entry, "mesh", text="")
            row.operator(OP_LIVE_TARGET_REMOVE, text="", icon="REMOVE").index = i
        column.operator(OP_LIVE_TARGET_ADD, icon="ADD")
        along = len(workflow.heads_along(context.scene))
        if along > 1:
            column.operator(OP_LIVE_TARGET_ADD, text=f"Add {along} on Its Armature", icon="ADD").along = True


class MIEN_PT_bake_options(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_BAKE_OPTIONS
    bl_parent_id = PANEL_MAIN
    bl_label = "Options"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.enabled = not session.running()
        chosen = workflow.settings(context)
        column = layout.column()
        column.prop(chosen, "start_frame")
        column.prop(chosen, "smoothing", slider=True)
        column.prop(chosen, "estimator")
        # The same as in the panel Live.
        column.prop(getattr(context.scene, LIVE_SETTINGS), "actor")
        column.prop(chosen, "neutral")
        column.prop(chosen, "level_head")
        column = layout.column()
        column.prop(chosen, "action_mode", expand=True)
        name = column.row()
        name.enabled = chosen.action_mode == "NEW"
        name.prop(chosen, "action_name", placeholder="From source")
        column = layout.column()
        column.prop(chosen, "tolerance")
        column.prop(chosen, "rotation_tolerance")
        column = layout.column()
        column.prop(chosen, "extend_range")
        column.prop(chosen, "use_markers")
        column.prop(chosen, "use_triggers")
        column.prop(chosen, "reuse_take")
        column = layout.column()
        column.prop(chosen, "use_sound")
        delay = column.row()
        delay.enabled = chosen.use_sound
        delay.prop(chosen, "sound_delay")


class MIEN_PT_channels(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_CHANNELS
    bl_parent_id = PANEL_MAIN
    bl_label = "Channels"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.enabled = not session.busy()
        chosen = workflow.settings(context)
        column = layout.column(heading="Bake")
        column.prop(chosen, "use_shape_keys")
        column.prop(chosen, "use_head")
        neck = column.row()
        neck.enabled = chosen.use_head
        neck.prop(chosen, "neck_share", text="Share to Neck", slider=True)
        column.prop(chosen, "use_jaw")
        column.prop(chosen, "use_eyes")


class MIEN_PT_takes(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_TAKES
    bl_parent_id = PANEL_MAIN
    bl_label = "Takes"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        layout.enabled = not session.running()
        draw_take_list(context, layout)
        column = layout.column()
        column.operator(OP_BAKE_TAKE, text="Bake Take...", icon="ACTION")
        column.prop(workflow.settings(context), "take", text="")
        column.operator(OP_EXPORT_CSV, text="Export CSV...", icon="EXPORT")
        folder = takes_folder()
        row = column.row()
        row.enabled = folder.is_dir()
        row.operator("wm.path_open", text="Open Takes Folder", icon="FILE_FOLDER").filepath = str(folder)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d} min" if minutes else f"{seconds} s"
