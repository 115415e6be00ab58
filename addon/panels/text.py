"""Text in panels: Blender has no wrapping labels."""

from __future__ import annotations

import re
from collections.abc import Callable

import blf
import bpy

_MARGINS, _ICON = 76, 20
"""What a sidebar's width loses to margins, its tabs and a box, and to an icon; px at scale 1."""


def paragraph(context, layout, text: str, icon: str = "NONE") -> None:
    """Draw text over as many lines as the sidebar's width asks for."""
    scale = context.preferences.system.ui_scale
    width = context.region.width if context.region else 300 * scale
    room = width - scale * (_MARGINS + (_ICON if icon != "NONE" else 0))
    blf.size(0, scale * bpy.context.preferences.ui_styles[0].widget.points)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in lines_of(text, max(room, 100 * scale), lambda part: blf.dimensions(0, part)[0]):
        column.label(text=line, icon=icon, translate=False)
        icon = "BLANK1" if icon != "NONE" else "NONE"


def lines_of(text: str, room: float, width_of: Callable[[str], float]) -> list[str]:
    """Return the text in lines that are no wider than the room; a path is broken where it can be, else anywhere.

    >>> lines_of("in /takes/performance-a9.mien now", 14, len)
    ['in /takes/', 'performance-', 'a9.mien now']
    """
    lines = [""]
    for piece in re.findall(r"\s*[^\s/\\-]*[/\\-]?", text):
        for part in [piece] if width_of(piece.lstrip()) <= room else piece:
            if lines[-1] and width_of(lines[-1] + part) > room:
                lines.append("")
            lines[-1] += part if lines[-1] else part.lstrip()
    return lines
