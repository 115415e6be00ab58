"""Runs in a Blender with a window (see window.py): all that a user may do while live capture runs.

A second window with another scene, a render, undo with Ctrl+Z, the timeline over an animated head, other scenes and
view layers, deleting the head, loading a file; at the end the last window is closed while live, and window.py looks
whether the worker is gone.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))

from window_inside import SHARE, addon, call, empty_scene, open_tab, report, run, view, wait

RENDER = {"engine": "CYCLES", "resolution_x": 160, "resolution_y": 160, "resolution_percentage": 100}


def head():
    return bpy.context.scene.mien.target


def values(mesh) -> list[float]:
    return [key.value for key in mesh.data.shape_keys.key_blocks[1:]]


def moves(mesh, seconds: float = 10.0):
    """Wait until the head has moved; returns whether it did."""
    before, end = values(mesh), time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        if max(abs(a - b) for a, b in zip(values(mesh), before, strict=True)) > 0.01:
            return True
    return False


def begin():
    """Start live as a click does, with the undo step that the operator asks for, if any."""
    session = addon("session")
    begun = time.monotonic()
    call(bpy.ops.mien.live_start, "INVOKE_DEFAULT", True)
    yield from wait(lambda: session.live.counts.applied > 0, 120)
    return round(time.monotonic() - begun, 2)


def key_press(window, key: str, **modifiers):
    area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width * a.height)
    x, y = area.x + area.width // 3, area.y + area.height // 2
    window.event_simulate(type="MOUSEMOVE", value="NOTHING", x=x, y=y)
    yield
    for value in ("PRESS", "RELEASE"):
        window.event_simulate(type=key, value=value, x=x, y=y, **modifiers)
    yield


def steps():
    yield from wait(lambda: bool(bpy.context.window_manager.windows), 60)
    bpy.context.preferences.view.use_save_prompt = False
    bpy.context.preferences.view.render_display_type = "NONE"
    bpy.context.preferences.system.viewport_aa = "OFF"
    empty_scene()
    yield from open_tab()
    session, live = addon("session"), addon("live")
    call(bpy.ops.mien.add_sample_head, "INVOKE_DEFAULT")
    call(bpy.ops.view3d.view_camera)
    window, area, _ = view()
    area.spaces.active.overlay.show_overlays = False
    scene = bpy.context.scene
    chosen = scene.mien_live
    chosen.source, chosen.video = "video", str(next(SHARE.glob("performance.*")))
    call(bpy.ops.ed.undo_push, message="Head")

    # One undo step or none: after a whole session, one Ctrl+Z takes back what was done before it.
    head().location.x = 0.5
    call(bpy.ops.ed.undo_push, message="Moved")
    report["first motion after, s"] = yield from begin()
    report["moves"] = yield from moves(head())
    call(bpy.ops.mien.live_stop, "INVOKE_DEFAULT", True)
    yield from key_press(window, "Z", ctrl=True)
    report["one undo goes back past the session"] = head().location.x == 0.0
    yield from key_press(window, "Z", ctrl=True, shift=True)
    report["redo"] = head().location.x == 0.5

    # Undo while live.
    report["first motion again after, s"] = yield from begin()
    yield from key_press(window, "Z", ctrl=True)
    report["undone while live"] = head().location.x == 0.0
    report["moves after undo"] = yield from moves(head())
    yield from key_press(window, "Z", ctrl=True, shift=True)
    report["moves after redo"] = yield from moves(head())

    # A render, in its own thread: the rig holds still, then goes on.
    scene = bpy.context.scene  # undoing has made another of it
    for name, value in RENDER.items():
        setattr(scene.render, name, value)
    scene.cycles.samples, scene.cycles.use_denoising = 256, False
    ends, drawing, held = [], [], session.live.counts.held

    def note_begin(*_args):
        drawing.append(True)

    def note_end(*_args):
        drawing.clear()
        ends.append(True)

    bpy.app.handlers.render_pre.append(note_begin)
    bpy.app.handlers.render_post.append(note_end)
    scene.render.filepath = str(SHARE / "rendered.png")
    report["render begun"] = sorted(call(bpy.ops.render.render, "INVOKE_DEFAULT", write_still=True))
    rendering = set()

    def rendered() -> bool:
        """the render to end"""
        pose = tuple(round(value, 4) for value in values(head()))
        if drawing:
            rendering.add(pose)
        return bool(ends) and not bpy.app.is_job_running("RENDER")

    yield from wait(rendered, 120)
    bpy.app.handlers.render_pre.remove(note_begin)
    bpy.app.handlers.render_post.remove(note_end)
    report["poses seen while rendering"] = len(rendering)
    report["samples held while rendering"] = session.live.counts.held - held
    report["rendered"] = (SHARE / "rendered.png").exists()
    report["moves after the render"] = yield from moves(head())

    # An animated head, and the timeline that plays: live wins, the old animation comes back.
    call(bpy.ops.mien.live_stop)
    key = head().data.shape_keys.key_blocks["Smile"]
    for frame, value in ((1, 0.9), (50, 0.9)):
        key.value = value
        key.keyframe_insert("value", frame=frame)
    scene.frame_set(10)
    yield from begin()
    seen = []
    call(bpy.ops.screen.animation_play)
    end = time.monotonic() + 4.0
    while time.monotonic() < end:
        yield
        seen.append(head().data.shape_keys.key_blocks["Smile"].value)
    call(bpy.ops.screen.animation_play)
    report["live wins over the animation"] = min(seen) < 0.85
    call(bpy.ops.mien.live_stop)
    yield
    report["the animation is back"] = abs(head().data.shape_keys.key_blocks["Smile"].value - 0.9) < 1e-3

    # A second window that shows the head's scene, while this one shows another scene and view layer.
    yield from begin()
    call(bpy.ops.wm.window_new_main)
    yield
    second = next(w for w in bpy.context.window_manager.windows if w != window)
    other = bpy.data.scenes.new("Other")
    window.scene = other
    layer = other.view_layers.new("Layer")
    window.view_layer = layer
    report["the windows show different scenes"] = second.scene == scene
    mesh = scene.mien.target
    drawn = []

    def count(*_args):
        drawn.append(bpy.context.window == second)

    handle = bpy.types.SpaceView3D.draw_handler_add(count, (), "WINDOW", "POST_PIXEL")
    report["moves in the other window"] = yield from moves(mesh)
    applied, draws = session.live.counts.applied, sum(drawn)
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        yield
    report["other window: applied, drawn in 5 s"] = [session.live.counts.applied - applied, sum(drawn) - draws]
    bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
    evaluated = mesh.evaluated_get(second.view_layer.depsgraph).data.shape_keys.key_blocks
    shown = max(abs(a.value - b.value) for a, b in zip(mesh.data.shape_keys.key_blocks, evaluated, strict=True))
    report["other window shows it"] = shown < 0.5
    with bpy.context.temp_override(window=second):
        bpy.ops.wm.window_close()
    yield
    window.scene = scene
    bpy.data.scenes.remove(other)
    report["moves with one window again"] = yield from moves(mesh)

    # The head is deleted, and brought back by undo.
    call(bpy.ops.ed.undo_push, message="Before deleting")
    bpy.data.objects.remove(mesh)
    call(bpy.ops.ed.undo_push, message="Deleted")
    yield from wait(lambda: session.live.cast.left == 0, 20)
    yield from key_press(window, "Z", ctrl=True)
    yield from wait(lambda: session.live.cast.left == 1, 20)
    report["moves after the head came back"] = yield from moves(head())

    # Another file is loaded while live; what was saved holds no face and no running session.
    bpy.ops.wm.save_as_mainfile(filepath=str(SHARE / "meanwhile.blend"))
    worker = session.live._client.pid
    bpy.ops.wm.open_mainfile(filepath=str(SHARE / "meanwhile.blend"))
    yield
    report["loading ends it"] = not session.live_running()
    yield from wait(lambda: not Path(f"/proc/{worker}").exists(), 5)
    report["animation in the file"] = abs(head().data.shape_keys.key_blocks["Smile"].value - 0.9) < 1e-3
    others = [k.value for k in head().data.shape_keys.key_blocks[1:] if k.name != "Smile"]
    report["face in the file"] = max(others)

    # The last window is closed while live: window.py takes the time from Blender's end to the worker's.
    yield from open_tab()
    yield from begin()
    (SHARE / "processes").write_text(f"{os.getpid()} {session.live._client.pid}")
    report["ok"] = (
        all(value is True for name, value in report.items() if isinstance(value, bool) and name != "ok")
        and report["poses seen while rendering"] == 1
        and report["samples held while rendering"] > 0
        and report["face in the file"] < 1e-6
        and live.busy()
    )


if __name__ == "__main__":
    run(steps(), leave=lambda: call(bpy.ops.wm.window_close))
