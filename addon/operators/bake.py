"""From the chosen source to keyframes: capture in the worker, then bake."""

from __future__ import annotations

import bpy

from ...core.errors import MienError
from .. import session, workflow
from ..ids import OP_BAKE, OP_CANCEL
from ..windows import redraw_panels

_INTERVAL = 0.1


def check_free(*, render: bool = True) -> None:
    """Check that no capture runs and, where `render`, no render: what that shows must not change under it.

    Raises
    ------
    MienError
        ``"capture-runs"`` or ``"render-runs"``.
    """
    if session.running():
        raise MienError("capture-runs", "A capture is running: wait for it, or cancel it")
    if render and bpy.app.is_job_running("RENDER"):
        raise MienError("render-runs", "Blender renders: wait for it")


def may_bake(operator: type[bpy.types.Operator], *, render: bool = True) -> bool:
    """Return whether `check_free` lets a bake begin; if not, the button says what to wait for."""
    try:
        check_free(render=render)
    except MienError as error:
        operator.poll_message_set(str(error))
        return False
    return True


class MIEN_OT_bake(bpy.types.Operator):
    """Capture the face in the source and put it on the head as keyframes"""

    bl_idname = OP_BAKE
    bl_label = "Bake Performance"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, _context):
        return may_bake(cls, render=False)  # the capture may begin, and its bake waits

    def invoke(self, context, _event):
        try:
            captured = self._prepare(context)
            if not captured:
                self._job.start()
        except MienError as error:
            return workflow.refuse(self, error)
        if captured:
            return self._bake()
        session.job = self._job
        session.outcome = None
        manager = context.window_manager
        session.timer = manager.event_timer_add(_INTERVAL, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        escape = event.type == "ESC" and event.value == "PRESS"
        # While the timeline plays, Esc is pressed to stop that.
        if escape and self._job.running and not context.screen.is_animation_playing:
            self._job.cancel()
        if event.type == "TIMER" and self._job.poll():
            redraw_panels()
        # What a render shows must not change under it: the timer comes again.
        if self._job.running or bpy.app.is_job_running("RENDER"):
            return {"PASS_THROUGH"}
        self._end()
        return self._conclude()

    def execute(self, context):
        try:
            captured = self._prepare(context)
            if not captured:
                self._job.start()
                self._job.wait()
        except MienError as error:
            return workflow.refuse(self, error)
        return self._bake() if captured else self._conclude()

    def cancel(self, _context):
        """Blender ends the operator, with its window or its file."""
        self._job.cancel()
        if session.job is self._job and self._job.error is not None:  # a new file has no outcome
            session.outcome = session.Outcome(self._job.error.lines)
        self._end()

    def _prepare(self, context) -> bool:
        self._job, captured = workflow.prepare_capture(context)
        self._notices = workflow.actor_notice(context)
        self._request = workflow.request(context, self._job.source.stem)
        return captured

    def _conclude(self):
        error = self._job.error
        if error is None:
            return self._bake()
        if error.code == "cancelled":
            session.outcome = session.Outcome(error.lines)
            self.report({"INFO"}, str(error))
            return {"CANCELLED"}
        return workflow.refuse(self, error)

    def _bake(self):
        try:
            check_free()
            summary = workflow.bake_take(self._request, self._job.take, self._job.source)
        except MienError as error:
            return workflow.refuse(self, error)
        return workflow.tell(self, workflow.outcome_of(summary, self._job.summary, self._notices))

    def _end(self):
        session.end_timer()
        session.job = None
        redraw_panels()


class MIEN_OT_cancel(bpy.types.Operator):
    """Stop the capture and leave the scene as it is; what was captured is kept (Esc)"""

    bl_idname = OP_CANCEL
    bl_label = "Cancel Capture"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context):
        return session.running()

    def execute(self, _context):
        # The modal operator notices within a tick, and tidies up.
        session.job.cancel()
        return {"FINISHED"}
