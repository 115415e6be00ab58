"""Operators: each gathers, calls and reports; the work is elsewhere."""

from __future__ import annotations

from ..registration import register_classes, unregister_classes
from .bake import MIEN_OT_bake, MIEN_OT_cancel
from .live import (
    MIEN_OT_live_calibrate,
    MIEN_OT_live_cameras,
    MIEN_OT_live_forget,
    MIEN_OT_live_learn,
    MIEN_OT_live_microphones,
    MIEN_OT_live_record,
    MIEN_OT_live_start,
    MIEN_OT_live_stop,
    MIEN_OT_live_target_add,
    MIEN_OT_live_target_remove,
    MIEN_OT_live_trigger_add,
    MIEN_OT_live_trigger_remove,
)
from .mapping import MIEN_OT_add_head_bones, MIEN_OT_map_by_name, MIEN_OT_map_shapes
from .sample_head import MIEN_OT_add_sample_head
from .take_list import (
    MIEN_OT_take_bake,
    MIEN_OT_take_delete,
    MIEN_OT_take_export,
    MIEN_OT_take_play,
    MIEN_OT_take_rename,
    MIEN_OT_takes_refresh,
)
from .takes import MIEN_OT_bake_take, MIEN_OT_export_csv

CLASSES = (
    MIEN_OT_bake,
    MIEN_OT_cancel,
    MIEN_OT_bake_take,
    MIEN_OT_export_csv,
    MIEN_OT_add_sample_head,
    MIEN_OT_map_shapes,
    MIEN_OT_map_by_name,
    MIEN_OT_add_head_bones,
    MIEN_OT_live_start,
    MIEN_OT_live_stop,
    MIEN_OT_live_cameras,
    MIEN_OT_live_microphones,
    MIEN_OT_live_calibrate,
    MIEN_OT_live_record,
    MIEN_OT_live_target_add,
    MIEN_OT_live_target_remove,
    MIEN_OT_live_learn,
    MIEN_OT_live_forget,
    MIEN_OT_live_trigger_add,
    MIEN_OT_live_trigger_remove,
    MIEN_OT_takes_refresh,
    MIEN_OT_take_play,
    MIEN_OT_take_rename,
    MIEN_OT_take_delete,
    MIEN_OT_take_bake,
    MIEN_OT_take_export,
)


def register():
    register_classes(CLASSES)


def unregister():
    unregister_classes(CLASSES)
