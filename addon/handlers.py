"""Blender's own events that Mien listens to."""

from __future__ import annotations

import bpy

from . import live, live_workflow, session


@bpy.app.handlers.persistent
def stop_before_load(*_args):
    """Another file comes: a capture for the old one must not end in the new one."""
    session.stop()


@bpy.app.handlers.persistent
def take_off_before_save(*_args):
    """The file gets the rig as it was, not the face that the actor happens to make."""
    for cast in _casts():
        cast.restore()
        cast.held.add("save")


@bpy.app.handlers.persistent
def put_on_after_save(*_args):
    for cast in _casts():
        cast.held.discard("save")
        cast.apply()


@bpy.app.handlers.persistent
def win_over_animation(scene, *_args):
    """The timeline moved and the action wrote its values: the live ones go over them.

    Not at once for whatever else steps through frames: an exporter and Bake Action want the
    animation. No timer runs before they have ended.
    """
    for cast in _casts():
        cast.due = True
        if _timeline_moves():
            cast.apply()
    live_workflow.follow_timeline(scene)


def _timeline_moves() -> bool:
    """Whether the timeline plays, or the user drags it."""
    screens = [window.screen for window in bpy.context.window_manager.windows]
    return any(screen.is_animation_playing or screen.is_scrubbing for screen in screens)


@bpy.app.handlers.persistent
def end_take_with_timeline(*_args):
    """Playback stopped."""
    live_workflow.end_with_timeline()


@bpy.app.handlers.persistent
def hold_while_rendering(*_args):
    """A render reads the scene from another thread: nothing may change under it."""
    job, casts = bpy.app.is_job_running("RENDER"), _casts()
    for cast in casts:
        cast.held.add("render job" if job else "render")
    if casts and not job and not bpy.app.timers.is_registered(go_on_after_rendering):
        # Blender does not tell the end of a film that it cannot open. No timer runs before such a render has ended.
        bpy.app.timers.register(go_on_after_rendering, first_interval=0.0)


@bpy.app.handlers.persistent
def go_on_after_rendering(*_args):
    for cast in _casts():
        cast.held.discard("render")


@bpy.app.handlers.persistent
def look_before_undo(*_args):
    for cast in _casts():
        cast.look_before_undo()


@bpy.app.handlers.persistent
def catch_up_after_undo(*_args):
    """An undo changes settings, and Blender tells nobody which; what it knows of takes and rigs may be gone."""
    for cast in _casts():
        cast.catch_up_after_undo()
    live_workflow.name_takes_again()
    live_workflow.tune()
    if session.outcome is not None and session.outcome.baked:
        session.outcome = None


def _casts():
    return [thing.cast for thing in (session.live, session.playback) if thing is not None and thing.running]


@bpy.app.handlers.persistent
def list_takes_soon(*_args):
    """The list of takes is no part of any file, so it is read anew.

    Not at once: while Blender enables an extension its data cannot be reached yet, and while
    it loads a file, writing to the window manager makes Blender 4.5 hang at its end.
    """
    live_workflow.refresh_takes_soon()


HANDLERS = {
    "load_post": list_takes_soon,
    "load_pre": stop_before_load,
    "save_pre": take_off_before_save,
    "save_post": put_on_after_save,
    "save_post_fail": put_on_after_save,
    "frame_change_post": win_over_animation,
    "animation_playback_post": end_take_with_timeline,
    "undo_pre": look_before_undo,
    "redo_pre": look_before_undo,
    "undo_post": catch_up_after_undo,
    "redo_post": catch_up_after_undo,
    "render_init": hold_while_rendering,
    "render_complete": go_on_after_rendering,
    "render_cancel": go_on_after_rendering,
}


def register():
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)
    list_takes_soon()


def unregister():
    for name, handler in HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
    for timer in (live_workflow.refresh_takes, go_on_after_rendering):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    session.stop()
    live.remove_timer()
    live.wait_for_end()
    session.forget_picture()
