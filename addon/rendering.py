"""Render settings that Blender's versions keep in different ways."""

from __future__ import annotations

from pathlib import Path

import bpy


def literal(path: Path) -> str:
    """Return a path for renders to write to: since Blender 4.5 braces in it stand for something else."""
    return str(path).replace("{", "{{").replace("}", "}}") if bpy.app.version >= (4, 5, 0) else str(path)


def medium(settings: bpy.types.ImageFormatSettings) -> tuple[str, ...]:
    """Return the setting that decides which formats there are: to be set before the format, since Blender 5.0."""
    return ("media_type",) if hasattr(settings, "media_type") else ()


def write_as(render: bpy.types.RenderSettings, file_format: str) -> None:
    """Have a scene write what its camera sees as a format: past the user's compositor and sequencer."""
    render.use_sequencer = render.use_compositing = False
    for name in medium(render.image_settings):
        setattr(render.image_settings, name, "VIDEO" if file_format == "FFMPEG" else "IMAGE")
    render.image_settings.file_format = file_format
