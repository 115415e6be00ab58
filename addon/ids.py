"""Every identifier that Blender knows Mien by."""

from __future__ import annotations

# `bl_ext.<repository>.mien` in Blender, `mien` in a checkout: never written out anywhere.
ROOT_PACKAGE = __package__.rpartition(".")[0]

SETTINGS = "mien"
"""Name of the settings on a scene."""

OP_ADD_SAMPLE_HEAD = "mien.add_sample_head"
OP_BAKE = "mien.bake"
OP_BAKE_TAKE = "mien.bake_take"
OP_CANCEL = "mien.cancel"
OP_EXPORT_CSV = "mien.export_csv"

PANEL_MAIN = "MIEN_PT_main"
PANEL_BAKE_OPTIONS = "MIEN_PT_bake_options"
PANEL_CHANNELS = "MIEN_PT_channels"
PANEL_TAKES = "MIEN_PT_takes"

SIDEBAR_TAB = "Mien"
