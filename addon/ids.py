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
PANEL_FURTHER_HEADS = "MIEN_PT_further_heads"
PANEL_TAKES = "MIEN_PT_takes"

SIDEBAR_TAB = "Mien"

HEAD_SHAPES = "mien_shapes"
"""Name of the mapping's shape keys on a head's object."""

HEAD_BONES = {
    "neck": "mien_neck",
    "head": "mien_head",
    "jaw": "mien_jaw",
    "eye.L": "mien_eye_left",
    "eye.R": "mien_eye_right",
}
"""Names of the mapping's bones on a head's object."""

HEAD_NAMES = "mien_names"
"""Name of what keeps, on a head's object, the names by which its sounds and markers were marked."""

OP_ADD_HEAD_BONES = "mien.add_head_bones"
OP_MAP_SHAPES = "mien.map_shapes"
OP_MAP_BY_NAME = "mien.map_by_name"

PANEL_MAPPING = "MIEN_PT_mapping"
LIST_SHAPES = "MIEN_UL_shapes"

PREVIEW = "mien_preview"
"""Name of the preview's settings on scenes, view layers and objects."""

OP_PREVIEW = "mien.preview"
OP_PREVIEW_EXPRESSION = "mien.preview_expression"
OP_PREVIEW_EXPRESSION_SAVE = "mien.preview_expression_save"
OP_PREVIEW_EXPRESSION_REMOVE = "mien.preview_expression_remove"
OP_PREVIEW_RENDER_TAKE = "mien.preview_render_take"
ENGINE = "MIEN_PREVIEW"

PANEL_PREVIEW = "MIEN_PT_preview"
PANEL_PREVIEW_LOOK = "MIEN_PT_preview_look"
PANEL_PREVIEW_EXPRESSION = "MIEN_PT_preview_expression"
PANEL_PREVIEW_PARTICLES = "MIEN_PT_preview_particles"
PANEL_PREVIEW_HEADS = "MIEN_PT_preview_heads"

LIVE_SETTINGS = "mien_live"
"""Name of the live settings on a scene."""

TAKE_LIST = "mien_takes"
"""Name of the list of takes on the window manager."""

OP_LIVE_START = "mien.live_start"
OP_LIVE_STOP = "mien.live_stop"
OP_LIVE_CAMERAS = "mien.live_cameras"
OP_LIVE_MICROPHONES = "mien.live_microphones"
OP_LIVE_CALIBRATE = "mien.live_calibrate"
OP_LIVE_RECORD = "mien.live_record"
OP_LIVE_TARGET_ADD = "mien.live_target_add"
OP_LIVE_TARGET_REMOVE = "mien.live_target_remove"
OP_LIVE_LEARN = "mien.live_learn"
OP_LIVE_FORGET = "mien.live_forget"
OP_LIVE_TRIGGER_ADD = "mien.live_trigger_add"
OP_LIVE_TRIGGER_REMOVE = "mien.live_trigger_remove"
OP_TAKES_REFRESH = "mien.takes_refresh"
OP_TAKE_PLAY = "mien.take_play"
OP_TAKE_RENAME = "mien.take_rename"
OP_TAKE_DELETE = "mien.take_delete"
OP_TAKE_BAKE = "mien.take_bake"
OP_TAKE_EXPORT = "mien.take_export"

PANEL_LIVE = "MIEN_PT_live"
PANEL_LIVE_SOUND = "MIEN_PT_live_sound"
PANEL_LIVE_OPTIONS = "MIEN_PT_live_options"
PANEL_LIVE_EXPRESSIONS = "MIEN_PT_live_expressions"
PANEL_LIVE_OUTPUT = "MIEN_PT_live_output"
LIST_TAKES = "MIEN_UL_takes"
