"""Live capture in the sidebar."""

from __future__ import annotations

import math

import bpy

from ...core.units import UNITS
from .. import live_workflow, session, workflow
from ..ids import (
    LIST_TAKES,
    OP_LIVE_CALIBRATE,
    OP_LIVE_CAMERAS,
    OP_LIVE_FORGET,
    OP_LIVE_LEARN,
    OP_LIVE_RECORD,
    OP_LIVE_START,
    OP_LIVE_STOP,
    OP_LIVE_TRIGGER_ADD,
    OP_LIVE_TRIGGER_REMOVE,
    OP_TAKE_BAKE,
    OP_TAKE_DELETE,
    OP_TAKE_EXPORT,
    OP_TAKE_PLAY,
    OP_TAKE_RENAME,
    OP_TAKES_REFRESH,
    PANEL_LIVE,
    PANEL_LIVE_EXPRESSIONS,
    PANEL_LIVE_OPTIONS,
    PANEL_LIVE_OUTPUT,
    TAKE_LIST,
)
from ..preferences import get_preferences
from ..triggers import troubles_of
from .sidebar import Sidebar
from .text import paragraph

_STATES = {
    "loading": "Starting",
    "opening": "Waiting for the source",
    "live": "Live",
    "stalled": "Nothing comes in",
    "lost": "Source lost, trying again",
}

_SOURCES = {"video": "FILE_MOVIE", "network": "INTERNET"}
"""Icons; a camera's is Blender's."""

_NEUTRAL = {
    "running": ("Hold Still", "TIME"),
    "done": ("Calibrated", "CHECKMARK"),
    "failed": ("No Face: Calibrate Again", "ERROR"),
}
"""Text and icon of the button, by how the calibration stands."""


class MIEN_PT_live(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_LIVE
    bl_label = "Live"

    def draw(self, context):
        layout = self.layout
        live = session.live
        on = session.live_running()
        if not on:
            # While live the state line names the source, and the picture has its place.
            self._draw_source(context, layout)

        row = layout.row()
        row.scale_y = 1.4
        if on or session.playback is not None:
            row.operator(OP_LIVE_STOP, text="Stop", icon="CANCEL")
        else:
            row.enabled = workflow.settings(context).target is not None
            row.operator(OP_LIVE_START, text="Start", icon="PLAY")
            if not row.enabled:
                layout.label(text="Choose a head under Target", icon="INFO")
        if session.playback is not None:
            layout.progress(factor=session.playback.position, text=session.playback.name)
            for line in session.playback.cast.left_out:
                paragraph(context, layout, line, icon="INFO")
        if live is not None and live.error is not None and not on:
            self._draw_error(context, layout, live.error)
        if on:
            self._draw_live(context, layout, live)

    @staticmethod
    def _draw_source(context, layout):
        chosen = live_workflow.settings(context)
        layout.row(align=True).prop(chosen, "source", expand=True)
        if chosen.source == "camera":
            row = layout.row(align=True)
            row.prop(chosen, "camera", text="", icon="OUTLINER_OB_CAMERA", placeholder="First camera")
            row.operator(OP_LIVE_CAMERAS, text="", icon="FILE_REFRESH")
            row = layout.row(align=True)
            row.prop(chosen, "size", text="")
            row.prop(chosen, "fps")
        elif chosen.source == "video":
            layout.prop(chosen, "video", text="")
        else:
            row = layout.row(align=True)
            row.prop(chosen, "format", text="")
            row.prop(chosen, "port")
            if chosen.format == "ifacialmocap":
                layout.prop(chosen, "phone", placeholder="192.168.1.7")
            _draw_lan(context, layout)
        layout.prop(chosen, "mirror")

    @staticmethod
    def _draw_error(context, layout, error):
        box = layout.box().column(align=True)
        box.alert = True
        paragraph(context, box, error.message, icon="ERROR")
        paragraph(context, box, error.hint, icon="BLANK1")

    def _draw_live(self, context, layout, live):
        status = live.status
        row = layout.row(align=True)
        take = row.row(align=True)
        take.scale_y = 1.4
        take.alert = live.recording
        if live.countdown:
            take.operator(OP_LIVE_RECORD, text=f"Recording in {math.ceil(live.countdown)}", icon="TIME")
        elif live.recording:
            seconds = live.take.duration if live.take is not None and live.take.recording else 0.0
            take.operator(OP_LIVE_RECORD, text=f"End Take ({seconds:.0f} s)", icon="SNAP_FACE")
        else:
            take.operator(OP_LIVE_RECORD, text="Record", icon="REC")
            take.operator(OP_LIVE_RECORD, text="Punch In", icon="KEYFRAME").punch = True
        row = layout.row(align=True)
        text, icon = _NEUTRAL.get(status.neutral, ("Calibrate Neutral", "USER"))
        row.operator(OP_LIVE_CALIBRATE, text=text, icon=icon)
        if status.neutral:
            row.operator(OP_LIVE_CALIBRATE, text="", icon="X").clear = True
        if live.tuning.neutral == "none":
            paragraph(context, layout, "Rest Pose is As Captured: calibration has no effect", icon="INFO")

        self._draw_state(context, layout, live)
        picture = session.picture_icon()
        if picture and live_workflow.settings(context).show_picture and live.order.source != "network":
            layout.template_icon(icon_value=picture, scale=8.0)
        if live.faceless:
            layout.label(text="No face is seen", icon="ERROR")
        elif live.hidden:
            layout.label(text="The face is hidden", icon="HIDE_ON")
        elif live.label:
            own = f", {live.expressions.shown}" if live.expressions.shown else ""
            paragraph(context, layout, f"{live.label.capitalize()} ({live.probability:.0%}){own}", icon="MONKEY")
        self._draw_meters(layout, live)
        self._draw_counts(layout, live)

    @staticmethod
    def _draw_state(context, layout, live):
        """Draw what has to be seen at a glance, and what is wrong."""
        status = live.status
        column = layout.column(align=True)
        column.scale_y = 0.8
        text = _STATES.get(status.state, "")
        if status.state == "live" and not math.isnan(live.latency):
            text = f"{text}: {live.apply_fps:.0f} fps, {live.latency * 1000:.0f} ms behind"
        column.label(text=text, icon=_icon(status.state))
        if status.error is not None:
            paragraph(context, column, status.error.message, icon="BLANK1")
            paragraph(context, column, status.error.hint, icon="BLANK1")
        for line in live.cast.left_out:
            paragraph(context, column, line, icon="INFO")
        if not live.cast.left:
            paragraph(context, column, "The head is gone: undo, or stop and choose another", icon="ERROR")

    @staticmethod
    def _draw_counts(layout, live):
        status = live.status
        column = layout.column(align=True)
        column.scale_y = 0.8
        if status.source:
            column.label(text=status.source, icon=_SOURCES.get(live.order.source, "OUTLINER_OB_CAMERA"))
        rates = f"{live.order.source} {status.camera_fps:.0f}, worker {status.worker_fps:.0f}, rig {live.apply_fps:.0f}"
        column.label(text=f"Fps: {rates}", icon="BLANK1")
        skipped = live.counts.superseded + live.counts.held
        column.label(text=f"Dropped: {live.dropped - skipped}, not drawn: {skipped}", icon="BLANK1")
        if status.waiting > 3:
            column.label(text=f"{status.waiting} pictures wait for the take", icon="INFO")
        if refused := status.refused + live.counts.refused:
            column.label(text=f"{refused} packets refused", icon="INFO")
        if live.counts.restarts:
            column.label(text=f"Worker started again {live.counts.restarts} times", icon="INFO")

    @staticmethod
    def _draw_meters(layout, live):
        sample = live.cast.sample
        if sample is None:
            return
        grid = layout.grid_flow(columns=2, align=True, even_columns=True)
        grid.scale_y = 0.8
        grid.enabled = live.found
        for name, value in zip(UNITS, sample.units, strict=True):
            grid.progress(factor=value, text=name)


class MIEN_PT_live_expressions(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_LIVE_EXPRESSIONS
    bl_parent_id = PANEL_LIVE
    bl_label = "Expressions"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        chosen = live_workflow.settings(context)
        on = session.live_running()
        layout.prop(chosen, "actor", icon="USER")
        if (session.live.order.source if on else chosen.source) == "network":
            paragraph(context, layout, "No picture comes over a network: no expression is told", icon="INFO")
        elif chosen.actor and on:
            self._draw_own(context, layout, chosen, session.live.expressions)
        elif chosen.actor:
            paragraph(context, layout, "Start live capture to record expressions", icon="INFO")
        column = layout.column(align=True)
        column.label(text="Triggers")
        troubles = troubles_of(chosen.id_data, workflow.own_names(chosen.id_data))
        for i, (row, trouble) in enumerate(zip(chosen.triggers, troubles, strict=True)):
            line = column.row(align=True)
            line.alert = bool(trouble)
            line.prop(row, "label", text="", placeholder="Face shows")
            line.label(text="", icon="FORWARD")
            line.prop(row, "expression", text="", placeholder="Head wears")
            line.operator(OP_LIVE_TRIGGER_REMOVE, text="", icon="REMOVE").index = i
            column.prop(row, "strength", slider=True)
            if trouble:
                paragraph(context, column, trouble, icon="ERROR")
        column.operator(OP_LIVE_TRIGGER_ADD, icon="ADD")

    @staticmethod
    def _draw_own(context, layout, chosen, told):
        column = layout.column(align=True)
        for name in told.names:
            row = column.row(align=True)
            row.label(text=name, icon="RADIOBUT_ON" if name == told.shown else "RADIOBUT_OFF")
            row.operator(OP_LIVE_FORGET, text="", icon="X").name = name
        if told.error is not None:
            box = layout.box().column(align=True)
            box.alert = True
            paragraph(context, box, told.error.message, icon="ERROR")
            paragraph(context, box, told.error.hint, icon="BLANK1")
        if told.state == "running":
            layout.progress(factor=told.share, text=f"Show it: {told.learning}")
            return
        row = layout.row(align=True)
        row.prop(chosen, "lesson", text="", placeholder="Name")
        row.prop(chosen, "lesson_seconds", text="")
        column = layout.column(align=True)
        column.operator(OP_LIVE_LEARN, icon="REC")
        rest = "Record Rest Again" if told.knows_rest else "Record Rest"
        column.operator(OP_LIVE_LEARN, text=rest, icon="USER").rest = True


class MIEN_PT_live_options(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_LIVE_OPTIONS
    bl_parent_id = PANEL_LIVE
    bl_label = "Live Options"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        chosen = live_workflow.settings(context)
        column = layout.column()
        column.prop(chosen, "smoothing", slider=True)
        column.prop(chosen, "prediction", text="Prediction (ms)")
        column.prop(chosen, "show_picture")
        column = layout.column()
        column.enabled = not session.live_running()
        column.prop(workflow.settings(context), "estimator")
        column = layout.column()
        row = column.row()
        row.enabled = not chosen.play_timeline
        row.prop(chosen, "countdown")
        column.prop(chosen, "play_timeline")


class MIEN_PT_live_output(Sidebar, bpy.types.Panel):
    bl_idname = PANEL_LIVE_OUTPUT
    bl_parent_id = PANEL_LIVE
    bl_label = "Send"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        chosen = live_workflow.settings(context)
        for switch, host, port in (
            ("send_livelink", "livelink_host", "livelink_port"),
            ("send_vmc", "vmc_host", "vmc_port"),
        ):
            column = layout.column(align=True)
            column.prop(chosen, switch)
            row = column.row(align=True)
            row.enabled = getattr(chosen, switch)
            row.prop(chosen, host, text="")
            row.prop(chosen, port, text="")
        row = layout.row()
        row.enabled = chosen.send_vmc
        row.prop(chosen, "vmc_blends", expand=True)
        column = layout.column()
        column.enabled = not session.live_running()
        _draw_lan(context, column)
        if session.live_running():
            paragraph(context, layout, "Stop to change Local Network", icon="INFO")


class MIEN_UL_takes(bpy.types.UIList):
    bl_idname = LIST_TAKES

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_property):
        # The name has the whole line: those of live takes differ in their last letters.
        layout.label(text=item.name, icon="SPEAKER" if item.sound else "ACTION")


def draw_take_list(context, layout) -> None:
    """Draw the takes folder with what can be done with each take."""
    known = getattr(context.window_manager, TAKE_LIST)
    row = layout.row()
    row.template_list(LIST_TAKES, "", known, "items", known, "active", rows=3)
    column = row.column(align=True)
    column.operator(OP_TAKES_REFRESH, text="", icon="FILE_REFRESH")
    column.operator(OP_TAKE_RENAME, text="", icon="GREASEPENCIL")
    column.operator(OP_TAKE_DELETE, text="", icon="TRASH")
    if 0 <= known.active < len(known.items):
        take = known.items[known.active]
        layout.label(text=f"{take.duration:.1f} s, {take.frames} frames", icon="TIME")
    row = layout.row(align=True)
    row.operator(OP_TAKE_PLAY, text="Play", icon="PLAY")
    row.operator(OP_TAKE_BAKE, text="Bake", icon="REC")
    row.operator(OP_TAKE_EXPORT, text="CSV", icon="EXPORT")


def _draw_lan(context, layout):
    preferences = get_preferences()
    if preferences is None:
        return
    layout.prop(preferences, "lan", icon="INTERNET" if live_workflow.lan_allowed() else "LOCKED")
    if preferences.lan and not bpy.app.online_access:
        paragraph(context, layout, "Blender's online access is off: see Preferences > System", icon="ERROR")


def _icon(state: str) -> str:
    return {"live": "RADIOBUT_ON", "lost": "ERROR", "stalled": "ERROR"}.get(state, "TIME")
