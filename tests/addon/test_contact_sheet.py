"""The contact sheet beside what the user has set up for renders."""

from __future__ import annotations

import importlib.util
import signal

import bpy
import pytest

from mien.addon.contact_sheet import _framed, _render, interrupts_held
from mien.addon.rendering import write_as
from mien.tests.needs import need

from .conftest import needs_worker

needs_cycles = need(importlib.util.find_spec("cycles"), "this bpy was built without Cycles")


@needs_cycles
def test_a_sheet_of_a_scene_that_writes_films_past_compositor_and_sequencer(rig):
    render = bpy.context.scene.render
    write_as(render, "FFMPEG")
    render.use_sequencer = render.use_compositing = render.use_multiview = True
    with _framed(bpy.context.scene, rig, 64):
        assert render.image_settings.file_format == "PNG"
        assert (render.use_sequencer, render.use_compositing, render.use_multiview) == (False, False, False)
    assert render.image_settings.file_format == "FFMPEG"
    assert (render.use_sequencer, render.use_compositing, render.use_multiview) == (True, True, True)


@needs_cycles
@needs_worker
def test_a_picture_is_read_back_from_any_folder_in_stereo_too(rig, tmp_path):
    scene = bpy.context.scene
    scene.render.use_multiview = True
    folder = tmp_path / "ü {b}"
    folder.mkdir()
    with _framed(scene, rig, 32):
        assert _render(scene, 1, 32, str(folder)).shape == (32, 32, 3)


def test_ctrl_c_waits_for_what_holds_it_and_counts_then():
    """Raised in the middle of a render, within Cycles' own Python, it was a crash."""
    before, done = signal.signal(signal.SIGINT, signal.default_int_handler), []

    def work():
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")

    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == ["whole"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
