"""Registers classes all or none."""

from __future__ import annotations

import bpy


def register_classes(classes) -> None:
    """Register classes in order; if one fails, take back those before it and let the error rise."""
    done = []
    try:
        for cls in classes:
            bpy.utils.register_class(cls)
            done.append(cls)
    except BaseException:
        unregister_classes(done)
        raise


def unregister_classes(classes) -> None:
    """Unregister classes, last first."""
    for cls in reversed(classes):
        bpy.utils.unregister_class(cls)
