"""Operators: each gathers, calls and reports; the work is elsewhere."""

from __future__ import annotations

from ..registration import register_classes, unregister_classes
from .bake import MIEN_OT_bake, MIEN_OT_cancel
from .sample_head import MIEN_OT_add_sample_head
from .takes import MIEN_OT_bake_take, MIEN_OT_export_csv

CLASSES = (MIEN_OT_bake, MIEN_OT_cancel, MIEN_OT_bake_take, MIEN_OT_export_csv, MIEN_OT_add_sample_head)


def register():
    register_classes(CLASSES)


def unregister():
    unregister_classes(CLASSES)
