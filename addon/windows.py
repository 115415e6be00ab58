"""What Mien asks of Blender's windows."""

from __future__ import annotations

import bpy


def redraw_panels() -> None:
    """Redraw the sidebars alone: the views redraw themselves when the rig changes."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
