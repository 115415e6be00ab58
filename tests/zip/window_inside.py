"""Runs in a Blender with a window (see window.py): the sidebar, the sample head, Bake, Esc, Ctrl+Z.

A generator whose steps a timer runs: each `yield` lets Blender work, and `shot` has a picture taken.
"""

from __future__ import annotations

import importlib
import json
import time
import traceback
from pathlib import Path

import bpy

SHARE = Path("/share")
STEP = 0.25

report = {"blender": bpy.app.version_string, "ok": False}


def view():
    """Return window, area and sidebar of the 3D viewport."""
    window = bpy.context.window_manager.windows[0]
    area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width * a.height)
    sidebar = next(region for region in area.regions if region.type == "UI")
    return window, area, sidebar


def call(operator, *arguments, **options):
    """Call an operator as a click in the viewport would."""
    window, area, _ = view()
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        return operator(*arguments, **options)


def wait(condition, seconds: float):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {condition.__doc__ or condition}")
        yield


def shot(name: str):
    _, area, _ = view()
    drawn = []
    handle = bpy.types.SpaceView3D.draw_handler_add(drawn.append, (True,), "WINDOW", "POST_PIXEL")

    def drawn_twice() -> bool:
        """the viewport to be drawn"""
        area.tag_redraw()
        return len(drawn) >= 2

    yield from wait(drawn_twice, 240)
    bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
    (SHARE / "wanted").write_text(name)
    yield from wait(lambda: not (SHARE / "wanted").exists(), 60)


def contents() -> tuple:
    return len(bpy.data.objects), len(bpy.data.actions), keys()


def keys() -> int:
    return sum(len(curve.keyframe_points) for action in bpy.data.actions for curve in curves(action))


def curves(action):
    if hasattr(action, "layers"):
        for layer in action.layers:
            for strip in layer.strips:
                for bag in strip.channelbags:
                    yield from bag.fcurves
    else:
        yield from action.fcurves


def addon(name: str):
    """Return a module of the installed add-on."""
    return importlib.import_module(f"bl_ext.user_default.mien.addon.{name}")


def empty_scene():
    """Remove what Blender's default scene holds."""
    for name in ("Cube", "Light", "Camera"):
        if name in bpy.data.objects:
            bpy.data.objects.remove(bpy.data.objects[name])


def open_tab():
    _, area, sidebar = view()
    area.spaces.active.show_region_ui = True

    def tab_is_open() -> bool:
        """the sidebar's tab"""
        try:
            sidebar.active_panel_category = "Mien"
        except (AttributeError, TypeError):  # until it has been drawn once
            area.tag_redraw()
            return False
        return sidebar.active_panel_category == "Mien"

    yield from wait(tab_is_open, 60)
    area.tag_redraw()


def steps():
    yield from wait(lambda: bool(bpy.context.window_manager.windows), 60)
    empty_scene()
    yield from open_tab()
    yield from shot("installed")

    settings = bpy.context.scene.mien
    report["add"] = sorted(call(bpy.ops.mien.add_sample_head, "INVOKE_DEFAULT"))
    call(bpy.ops.view3d.view_camera)
    _, area, _ = view()
    area.spaces.active.overlay.show_overlays = False
    call(bpy.ops.view3d.view_center_camera)
    settings.reuse_take = False
    settings.source = str(next(SHARE.glob("performance.*")))
    yield from shot("head")

    before = contents()
    report["bake begun"] = sorted(call(bpy.ops.mien.bake, "INVOKE_DEFAULT"))
    state = addon("session")
    yield from wait(lambda: state.job is None or (state.job.progress is not None and state.job.progress.frame), 120)
    if state.job is None:
        raise RuntimeError(" ".join(state.outcome.lines))
    for value in ("PRESS", "RELEASE"):
        bpy.context.window_manager.windows[0].event_simulate(type="ESC", value=value)
    yield from wait(lambda: state.job is None, 20)
    report["Esc leaves the scene as it was"] = before == contents()
    yield from shot("cancelled")
    # No picture while it runs: to take one lasts longer than the bake.
    report["bake begun again"] = sorted(call(bpy.ops.mien.bake, "INVOKE_DEFAULT"))
    yield from wait(lambda: state.job is not None, 20)
    longest, last = 0.0, time.monotonic()
    begun = last
    while state.job is not None:
        yield
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        if last - begun > 300:
            raise TimeoutError("the bake takes too long")
    report["longest wait of the window, s"] = round(longest, 2)
    report["bake took, s"] = round(time.monotonic() - begun, 1)
    report["outcome"] = list(state.outcome.lines) if state.outcome else None
    report["keys"] = keys()

    scene = bpy.context.scene
    scene.frame_set((scene.frame_start + scene.frame_end) // 2)
    yield from shot("baked")
    bpy.ops.wm.save_as_mainfile(filepath=str(SHARE / "baked.blend"), copy=True, compress=True)

    call(bpy.ops.ed.undo)
    yield
    report["keys after undo"] = keys()
    call(bpy.ops.ed.redo)
    yield
    report["keys after redo"] = keys()
    report["ok"] = (
        report["Esc leaves the scene as it was"]
        and bool(report["keys"])
        and not report["keys after undo"]
        and report["keys after redo"] == report["keys"]
    )


def run(script, leave=bpy.ops.wm.quit_blender):
    """Have a timer go through the steps, then write the report and leave Blender."""

    def tick():
        try:
            next(script)
        except StopIteration:
            pass
        except BaseException:
            report["ok"] = False
            report["error"] = traceback.format_exc()
        else:
            return STEP
        (SHARE / "report.json").write_text(json.dumps(report, indent=2))
        leave()
        return None

    bpy.app.timers.register(tick, first_interval=1.0, persistent=True)


if __name__ == "__main__":
    run(steps())
