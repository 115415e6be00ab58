"""Live capture: start, stop, calibrate, record."""

from __future__ import annotations

import bpy

from ...core.errors import MienError
from .. import live, live_workflow, session, workflow
from ..ids import (
    OP_LIVE_CALIBRATE,
    OP_LIVE_CAMERAS,
    OP_LIVE_FORGET,
    OP_LIVE_LEARN,
    OP_LIVE_MICROPHONES,
    OP_LIVE_RECORD,
    OP_LIVE_START,
    OP_LIVE_STOP,
    OP_LIVE_TARGET_ADD,
    OP_LIVE_TARGET_REMOVE,
    OP_LIVE_TRIGGER_ADD,
    OP_LIVE_TRIGGER_REMOVE,
)
from ..windows import redraw_panels


def _live_runs(operator: type[bpy.types.Operator]) -> bool:
    """Return whether live capture runs; if not, the button says what to do."""
    if not session.live_running():
        operator.poll_message_set("Start live capture first")
        return False
    return True


class MIEN_OT_live_start(bpy.types.Operator):
    """Let the head follow the face at once. Nothing is keyed, and the head is put back when you stop"""

    bl_idname = OP_LIVE_START
    bl_label = "Start Live"
    # Not an undo step: a session changes nothing that stays.
    bl_options = set()

    @classmethod
    def poll(cls, _context):
        return not session.live_running()

    def execute(self, context):
        try:
            live_workflow.start(context)
        except MienError as error:
            return workflow.refuse(self, error)
        session.outcome = None
        return {"FINISHED"}


class MIEN_OT_live_stop(bpy.types.Operator):
    """Stop following the face, or stop the take that plays, and put the head back as it was"""

    bl_idname = OP_LIVE_STOP
    bl_label = "Stop"
    bl_options = set()

    @classmethod
    def poll(cls, _context):
        return session.live is not None or session.playback is not None

    def execute(self, context):
        if session.live_running() and session.live.recording:
            live_workflow.end_take(context)
        live.stop()
        return {"FINISHED"}


class MIEN_OT_live_cameras(bpy.types.Operator):
    """Look which cameras are connected"""

    bl_idname = OP_LIVE_CAMERAS
    bl_label = "Find Cameras"
    bl_options = set()

    def execute(self, _context):
        try:
            live.list_cameras()
        except MienError as error:
            return workflow.refuse(self, error)
        return {"FINISHED"}


class MIEN_OT_live_microphones(bpy.types.Operator):
    """Look which microphones are connected. None is opened for it"""

    bl_idname = OP_LIVE_MICROPHONES
    bl_label = "Find Microphones"
    bl_options = set()

    def execute(self, _context):
        try:
            live.list_microphones()
        except MienError as error:
            return workflow.refuse(self, error)
        return {"FINISHED"}


class MIEN_OT_live_calibrate(bpy.types.Operator):
    """Take the face of the next second as neutral: look straight ahead, relaxed, mouth closed"""

    bl_idname = OP_LIVE_CALIBRATE
    bl_label = "Calibrate Neutral"
    bl_options = set()

    clear: bpy.props.BoolProperty(
        name="Clear", description="Forget the calibrated face instead", options={"SKIP_SAVE", "HIDDEN"}
    )

    @classmethod
    def poll(cls, _context):
        return _live_runs(cls)

    def execute(self, _context):
        session.live.calibrate(self.clear)
        return {"FINISHED"}


class MIEN_OT_live_record(bpy.types.Operator):
    """Record a take from the live face, or end it. The camera goes on"""

    bl_idname = OP_LIVE_RECORD
    bl_label = "Record"
    bl_options = set()

    punch: bpy.props.BoolProperty(
        name="Punch",
        description="Play the timeline and record along it at once: the take replaces what the head does there",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, _context, properties):
        if properties.punch:
            return "Play the timeline and record along it at once; baking replaces what the head does at those frames"
        return cls.__doc__

    @classmethod
    def poll(cls, _context):
        return _live_runs(cls)

    def execute(self, context):
        try:
            if session.live.recording:
                live_workflow.end_take(context)
            else:
                live_workflow.record(context, punch=self.punch)
        except MienError as error:
            return workflow.refuse(self, error)
        redraw_panels()
        return {"FINISHED"}


class MIEN_OT_live_target_add(bpy.types.Operator):
    """Let a further head follow the same face, at bake and live: the active object, or else a mesh with known shape \
keys on the same armature, as teeth and brows"""

    bl_idname = OP_LIVE_TARGET_ADD
    bl_label = "Add Head"
    bl_options = {"REGISTER", "UNDO"}

    along: bpy.props.BoolProperty(
        name="All",
        description="All meshes with known shape keys on the target's armature",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, _context, properties):
        if properties.along:
            return "Let all meshes with known shape keys on the target's armature follow the same face"
        return cls.__doc__

    def execute(self, context):
        meshes = workflow.heads_along(context.scene) if self.along else [workflow.next_head(context)]
        for mesh in meshes:
            live_workflow.settings(context).targets.add().mesh = mesh
        return {"FINISHED"}


class MIEN_OT_live_target_remove(bpy.types.Operator):
    """Let this head no longer follow the face"""

    bl_idname = OP_LIVE_TARGET_REMOVE
    bl_label = "Remove Head"
    bl_options = {"REGISTER", "UNDO"}

    index: bpy.props.IntProperty(name="Index", description="Which of the further heads", options={"HIDDEN"})

    def execute(self, context):
        live_workflow.settings(context).targets.remove(self.index)
        return {"FINISHED"}


class MIEN_OT_live_learn(bpy.types.Operator):
    """Show the expression now: Mien learns it from the next seconds, and tells from then on when the face shows it"""

    bl_idname = OP_LIVE_LEARN
    bl_label = "Record Expression"
    bl_options = set()

    rest: bpy.props.BoolProperty(
        name="Rest",
        description="Record the relaxed face instead, which the others are told apart from",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, _context, properties):
        if properties.rest:
            return "Look relaxed, and talk a little: what Mien sees in the next seconds is none of the expressions"
        return cls.__doc__

    @classmethod
    def poll(cls, _context):
        return _live_runs(cls) and session.live.expressions.state != "running"

    def invoke(self, context, event):
        name = live_workflow.settings(context).lesson.strip()
        if self.rest or name not in session.live.expressions.names:
            return self.execute(context)
        # The one before is gone from the actor's file once this is learnt, and no undo brings it back.
        message = f'"{name}" is known already.'
        return context.window_manager.invoke_confirm(
            self, event, title="Record it anew?", message=message, confirm_text="Record"
        )

    def execute(self, context):
        try:
            live_workflow.learn(context, rest=self.rest)
        except MienError as error:
            return workflow.refuse(self, error)
        return {"FINISHED"}


class MIEN_OT_live_forget(bpy.types.Operator):
    """Delete this expression of the actor's own"""

    bl_idname = OP_LIVE_FORGET
    bl_label = "Delete Expression"
    bl_options = set()

    name: bpy.props.StringProperty(name="Name", description="Name of the expression", options={"HIDDEN"})

    @classmethod
    def poll(cls, _context):
        return _live_runs(cls)

    def invoke(self, context, event):
        # It is gone from the actor's file at once, and no undo brings it back.
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, _context):
        session.live.forget(self.name)
        return {"FINISHED"}


class MIEN_OT_live_trigger_add(bpy.types.Operator):
    """Let an expression of the face set off one of the head's"""

    bl_idname = OP_LIVE_TRIGGER_ADD
    bl_label = "Add Trigger"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        live_workflow.settings(context).triggers.add()
        return {"FINISHED"}


class MIEN_OT_live_trigger_remove(bpy.types.Operator):
    """Let this expression of the face set off nothing any more"""

    bl_idname = OP_LIVE_TRIGGER_REMOVE
    bl_label = "Remove Trigger"
    bl_options = {"REGISTER", "UNDO"}

    index: bpy.props.IntProperty(name="Index", description="Which of the triggers", options={"HIDDEN"})

    def execute(self, context):
        live_workflow.settings(context).triggers.remove(self.index)
        live_workflow.tune()
        return {"FINISHED"}
