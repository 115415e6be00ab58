"""Where Mien's panels are."""

from __future__ import annotations

from ..ids import SIDEBAR_TAB


class Sidebar:
    """A panel in Mien's tab of the 3D viewport's sidebar."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = SIDEBAR_TAB
