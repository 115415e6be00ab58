"""What can be done with the takes in the list."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...core.errors import MienError
from .. import live_workflow, session, takes, workflow
from ..ids import (
    OP_EXPORT_CSV,
    OP_TAKE_BAKE,
    OP_TAKE_DELETE,
    OP_TAKE_EXPORT,
    OP_TAKE_PLAY,
    OP_TAKE_RENAME,
    OP_TAKES_REFRESH,
)
from .bake import may_bake


class _OnTake:
    """An operator on the take that is chosen in the list."""

    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context):
        if session.live_running() and session.live.recording:
            cls.poll_message_set("A take is being recorded")
            return False
        if live_workflow.active_take() is None:
            cls.poll_message_set("No take is chosen")
            return False
        return True

    def execute(self, context):
        try:
            return self.work(context, live_workflow.active_take())
        except MienError as error:
            return workflow.refuse(self, error)


class MIEN_OT_takes_refresh(bpy.types.Operator):
    """Read the takes folder again"""

    bl_idname = OP_TAKES_REFRESH
    bl_label = "Refresh Takes"
    bl_options = {"INTERNAL"}

    def execute(self, _context):
        live_workflow.refresh_takes()
        return {"FINISHED"}


class MIEN_OT_take_play(_OnTake, bpy.types.Operator):
    """Play the chosen take on the head, without keying anything"""

    bl_idname = OP_TAKE_PLAY
    bl_label = "Play Take"

    @classmethod
    def poll(cls, context):
        if session.live_running():
            cls.poll_message_set("Stop live capture first")
            return False
        return super().poll(context)

    def work(self, context, path):
        live_workflow.play_take(context, path)
        return {"FINISHED"}


class MIEN_OT_take_rename(_OnTake, bpy.types.Operator):
    """Give the chosen take another name"""

    bl_idname = OP_TAKE_RENAME
    bl_label = "Rename Take"
    bl_options = {"UNDO", "INTERNAL"}

    name: bpy.props.StringProperty(name="Name", description="The take's new name")
    path: bpy.props.StringProperty(
        name="Take",
        description="The take; the one that is chosen in the list if empty",
        options={"HIDDEN", "SKIP_SAVE"},
    )

    def invoke(self, context, _event):
        # While the dialog is open a take that ends may come into the list, and become the chosen one.
        path = live_workflow.active_take()
        self.path, self.name = str(path), path.stem
        return context.window_manager.invoke_props_dialog(self)

    def work(self, _context, path):
        path = Path(self.path) if self.path else path
        renamed = takes.rename(path, self.name)
        live_workflow.take_moved(path, renamed)
        live_workflow.select_take(renamed)
        return {"FINISHED"}


class MIEN_OT_take_delete(_OnTake, bpy.types.Operator):
    """Move the chosen take into the folder "bin" beside it"""

    bl_idname = OP_TAKE_DELETE
    bl_label = "Delete Take"
    bl_options = {"UNDO", "INTERNAL"}

    def work(self, _context, path):
        gone = takes.delete(path)
        live_workflow.take_moved(path, gone)
        self.report({"INFO"}, f"{path.name} is in {gone.parent} now")
        return {"FINISHED"}


class MIEN_OT_take_bake(_OnTake, bpy.types.Operator):
    """Put the chosen take on the head as keyframes; one recorded along the timeline goes where it was played"""

    bl_idname = OP_TAKE_BAKE
    bl_label = "Bake Take"
    bl_options = {"UNDO", "INTERNAL"}

    @classmethod
    def poll(cls, context):
        return may_bake(cls) and super().poll(context)

    def work(self, context, path):
        return workflow.bake_file(self, context, path)


class MIEN_OT_take_export(_OnTake, bpy.types.Operator):
    """Write the chosen take as a Live Link Face CSV file"""

    bl_idname = OP_TAKE_EXPORT
    bl_label = "Export Take"

    def work(self, context, path):
        workflow.settings(context).take = str(path)
        if bpy.app.background:
            return workflow.export_csv(self, context, path, path.with_suffix(".csv"))
        module, name = OP_EXPORT_CSV.split(".")
        return getattr(getattr(bpy.ops, module), name)("INVOKE_DEFAULT")  # asks for a name
