"""What can be done with a take that is there already."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ...core.errors import MienError
from ...core.take import SUFFIX
from .. import workflow
from ..ids import OP_BAKE_TAKE, OP_EXPORT_CSV
from ..preferences import takes_folder
from .bake import check_free, may_bake


class MIEN_OT_bake_take(bpy.types.Operator, ImportHelper):
    """Put a take that was captured before on the head, with the options as they are now"""

    bl_idname = OP_BAKE_TAKE
    bl_label = "Bake Take"
    bl_options = {"UNDO"}

    filename_ext = SUFFIX
    # An interrupted capture leaves its frames under the name of a part.
    filter_glob: bpy.props.StringProperty(default=f"*{SUFFIX};*{SUFFIX}.part", options={"HIDDEN"})

    @classmethod
    def poll(cls, _context):
        return may_bake(cls)

    def invoke(self, context, event):
        self.filepath = workflow.settings(context).take or self.filepath or str(takes_folder()) + "/"
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        try:
            check_free()  # a render may have begun while the file was chosen
            return workflow.bake_file(self, context, Path(bpy.path.abspath(self.filepath)))
        except MienError as error:
            return workflow.refuse(self, error)


class MIEN_OT_export_csv(bpy.types.Operator, ExportHelper):
    """Write a take as Live Link Face CSV: the 52 ARKit shapes, head and eyes, with smoothing and rest pose as set"""

    bl_idname = OP_EXPORT_CSV
    bl_label = "Export CSV"

    filename_ext = ".csv"
    filter_glob: bpy.props.StringProperty(default="*.csv", options={"HIDDEN"})
    fps: bpy.props.FloatProperty(
        name="Rows per Second",
        description="Live Link Face records 60",
        default=60.0,
        min=1.0,
        max=1000.0,
    )

    sound: bpy.props.BoolProperty(
        name="Sound", description="Put the sound that was recorded with the take beside the file", default=True
    )

    @classmethod
    def poll(cls, context):
        if not workflow.settings(context).take:
            cls.poll_message_set("Bake once, or choose a take")
            return False
        return True

    def invoke(self, context, event):
        self.filepath = workflow.named_after_take(context, self.filepath, self.filename_ext)
        return ExportHelper.invoke(self, context, event)

    def execute(self, context):
        take, path = (Path(bpy.path.abspath(each)) for each in (workflow.settings(context).take, self.filepath))
        try:
            return workflow.export_csv(self, context, take, path, self.fps, self.sound)
        except MienError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
