"""Brings the sample head in."""

from __future__ import annotations

import bpy

from ...core.errors import MienError
from .. import workflow
from ..ids import OP_ADD_SAMPLE_HEAD
from ..sample_head import append_sample_head, enclosing


class MIEN_OT_add_sample_head(bpy.types.Operator):
    """Add Mien's sample head to the scene and make it the target: 11 shape keys, head, jaw and eye bones"""

    bl_idname = OP_ADD_SAMPLE_HEAD
    bl_label = "Add Sample Head"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        try:
            mesh, _armature = append_sample_head(context)
        except MienError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        workflow.settings(context).target = mesh
        if context.mode == "OBJECT":
            for obj in context.selected_objects:
                obj.select_set(False)
            mesh.select_set(True)
            context.view_layer.objects.active = mesh
        for name in enclosing(context, mesh):
            self.report({"WARNING"}, f"{name} stands round the head: hide or move it")
        return {"FINISHED"}
