"""The contact sheet beside what the user has set up for renders."""

from __future__ import annotations

import bpy
import pytest

from mien.addon.contact_sheet import _framed
from mien.addon.rendering import write_as


def test_a_sheet_of_a_scene_that_writes_films_past_compositor_and_sequencer(rig):
    pytest.importorskip("cycles")
    render = bpy.context.scene.render
    write_as(render, "FFMPEG")
    render.use_sequencer = render.use_compositing = True
    with _framed(bpy.context.scene, rig, 64):
        assert render.image_settings.file_format == "PNG"
        assert (render.use_sequencer, render.use_compositing) == (False, False)
    assert render.image_settings.file_format == "FFMPEG"
    assert (render.use_sequencer, render.use_compositing) == (True, True)
