"""Blender's own events that Mien listens to."""

from __future__ import annotations

import bpy

from . import session


@bpy.app.handlers.persistent
def stop_before_load(*_args):
    """Another file comes: a capture for the old one must not end in the new one."""
    session.stop()


def register():
    bpy.app.handlers.load_pre.append(stop_before_load)


def unregister():
    bpy.app.handlers.load_pre.remove(stop_before_load)
    session.stop()
