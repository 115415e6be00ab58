"""Panels: they draw, and nothing else."""

from __future__ import annotations

from ..registration import register_classes, unregister_classes
from .main import MIEN_PT_bake_options, MIEN_PT_channels, MIEN_PT_main, MIEN_PT_takes

CLASSES = (MIEN_PT_main, MIEN_PT_bake_options, MIEN_PT_channels, MIEN_PT_takes)


def register():
    register_classes(CLASSES)


def unregister():
    unregister_classes(CLASSES)
