"""What can be done with a take that is there already."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ...core.errors import MienError
from ...core.take import SUFFIX, Take
from ...core.wav import sound_path
from .. import session, takes, workflow
from ..ids import OP_BAKE_TAKE, OP_EXPORT_CSV
from ..preferences import takes_folder


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
        return not session.running()

    def invoke(self, context, event):
        if not self.filepath:
            self.filepath = workflow.settings(context).take or str(takes_folder()) + "/"
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        path = Path(bpy.path.abspath(self.filepath))
        try:
            with Take(path) as take:
                name = Path(take.header.source).stem or path.stem
            summary = workflow.bake_take(workflow.request(context, name), path)
        except MienError as error:
            return workflow.refuse(self, error)
        session.outcome = workflow.outcome_of(summary)
        self.report({"INFO"}, session.outcome.lines[0])
        workflow.redraw_panels()
        return {"FINISHED"}


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
        if not self.filepath:
            self.filepath = Path(workflow.settings(context).take).stem + self.filename_ext
        return ExportHelper.invoke(self, context, event)

    def execute(self, context):
        from ...core import livelink_csv

        chosen = workflow.settings(context)
        try:
            path = Path(bpy.path.abspath(chosen.take))
            performance = workflow.solve(path, workflow.solving(context))
            again = Path(self.filepath).exists()
            rows = livelink_csv.export(performance, self.filepath, fps=self.fps)
            also = self._export_sound(path, again)
        except MienError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except OSError as error:
            self.report({"ERROR"}, f"{self.filepath} cannot be written: {error.strerror}. Choose another folder.")
            return {"CANCELLED"}
        self.report({"INFO"}, f"{rows} rows written to {self.filepath}{also}")
        return {"FINISHED"}

    def _export_sound(self, take: Path, again: bool) -> str:
        """Put the take's sound beside the file; returns what to tell."""
        heard = takes.sound_of(take) if self.sound else None
        beside = sound_path(self.filepath)
        if heard is None or heard == beside:
            return ""
        if beside.exists() and not again:
            return f", without the sound: there is another {beside.name}"
        shutil.copyfile(heard, beside)
        return f", the sound to {beside.name}"
