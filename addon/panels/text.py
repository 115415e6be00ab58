"""Text in panels: Blender has no wrapping labels."""

from __future__ import annotations

import textwrap


def paragraph(context, layout, text: str, icon: str = "NONE") -> None:
    """Draw text over as many lines as the sidebar's width asks for."""
    scale = context.preferences.system.ui_scale
    width = context.region.width if context.region else 300
    # A letter of the interface font takes about 6.5 px.
    letters = max(int((width / scale - 50) / 6.5), 16)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in textwrap.wrap(text, letters):
        column.label(text=line, icon=icon)
        icon = "BLANK1" if icon != "NONE" else "NONE"
