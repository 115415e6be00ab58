"""Panels: they draw, and nothing else."""

from __future__ import annotations

from ..registration import register_classes, unregister_classes
from .live import (
    MIEN_PT_live,
    MIEN_PT_live_expressions,
    MIEN_PT_live_options,
    MIEN_PT_live_output,
    MIEN_UL_takes,
)
from .live_sound import MIEN_PT_live_sound
from .main import MIEN_PT_bake_options, MIEN_PT_channels, MIEN_PT_further_heads, MIEN_PT_main, MIEN_PT_takes
from .mapping import MIEN_PT_mapping, MIEN_UL_shapes

CLASSES = (
    MIEN_PT_main,
    MIEN_PT_live,
    MIEN_PT_live_sound,
    MIEN_PT_live_expressions,
    MIEN_PT_live_options,
    MIEN_PT_live_output,
    MIEN_PT_further_heads,
    MIEN_PT_mapping,
    MIEN_PT_bake_options,
    MIEN_PT_channels,
    MIEN_PT_takes,
)

LISTS = (MIEN_UL_takes, MIEN_UL_shapes)


def register():
    register_classes((*LISTS, *CLASSES))


def unregister():
    unregister_classes((*LISTS, *CLASSES))
