"""Runs in a Blender with a window (see window.py): the label, an expression of one's own, a trigger, in the panel."""

from __future__ import annotations

import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))

from window_inside import SHARE, addon, call, empty_scene, open_tab, report, run, shot, view, wait


def open_expressions() -> None:
    """Open the subpanel, as a click does; the live panel's other children stay closed."""
    panel = addon("panels.live").MIEN_PT_live_expressions
    bpy.utils.unregister_class(panel)
    panel.bl_options = set()
    bpy.utils.register_class(panel)


def scroll_to_the_end() -> None:
    """Show the sidebar's last panels."""
    window, area, sidebar = view()
    with bpy.context.temp_override(window=window, area=area, region=sidebar):
        for _ in range(40):
            bpy.ops.view2d.scroll_down()


def steps():
    yield from wait(lambda: bool(bpy.context.window_manager.windows), 60)
    empty_scene()
    yield from open_tab()
    open_expressions()
    session, live = addon("session"), addon("live")
    call(bpy.ops.mien.add_sample_head, "INVOKE_DEFAULT")
    call(bpy.ops.view3d.view_camera)
    _, area, _ = view()
    area.spaces.active.overlay.show_overlays = False
    bpy.context.preferences.system.viewport_aa = "OFF"  # without a graphics card, drawing is the brake
    chosen = bpy.context.scene.mien_live
    chosen.source, chosen.video = "video", str(next(SHARE.glob("performance.*")))
    chosen.show_picture = False  # the panel is long
    chosen.actor, chosen.lesson, chosen.lesson_seconds = "Zoe", "My look", 10.0  # a picture takes seconds
    trigger = chosen.triggers.add()
    trigger.label, trigger.expression = "My look", "anger"

    report["start"] = sorted(call(bpy.ops.mien.live_start))
    yield from wait(lambda: session.live.label not in ("", "unsure"), 120)
    report["label"] = [session.live.label, round(session.live.probability, 2)]
    applied = session.live.counts.applied
    yield from wait(lambda: session.live.counts.applied > applied + 20, 120)
    call(bpy.ops.mien.live_learn)
    yield from wait(lambda: session.live.expressions.state == "running", 60)
    scroll_to_the_end()
    yield from shot("expressions-learning")
    yield from wait(lambda: session.live.expressions.state in ("done", "failed"), 60)
    report["learnt"] = [session.live.expressions.state, *session.live.expressions.names]
    scroll_to_the_end()
    yield from wait(lambda: session.live.expressions.shown == "My look", 120)
    mesh = bpy.context.scene.mien.target
    yield from wait(lambda: mesh.data.shape_keys.key_blocks["BrowFurrow"].value > 0.9, 60)
    report["trigger"] = round(mesh.data.shape_keys.key_blocks["BrowFurrow"].value, 2)
    yield from shot("expressions-shown")
    call(bpy.ops.mien.live_stop)
    yield from wait(lambda: not live.busy(), 20)
    report["ok"] = report["learnt"] == ["done", "My look"]


if __name__ == "__main__":
    run(steps())
