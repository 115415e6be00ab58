"""Runs in a Blender with a window (see window.py): a clip as camera drives the sample head.

What a user does meanwhile is done too: recording, saving, undoing, playing, leaving Blender.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))

from window_inside import SHARE, addon, call, empty_scene, open_tab, report, run, shot, view, wait


def follow(seconds: float, drawn: list, applied: list):
    """Let Blender work, and count draws and applied samples."""
    live = addon("session").live
    begin, draws, count = time.monotonic(), len(drawn), live.counts.applied
    while time.monotonic() - begin < seconds:
        yield
    spent = time.monotonic() - begin
    applied.append((live.counts.applied - count) / spent)
    return (len(drawn) - draws) / spent


def steps():
    yield from wait(lambda: bool(bpy.context.window_manager.windows), 60)
    empty_scene()
    yield from open_tab()
    session, live = addon("session"), addon("live")
    call(bpy.ops.mien.add_sample_head, "INVOKE_DEFAULT")
    call(bpy.ops.view3d.view_camera)
    _, area, _ = view()
    area.spaces.active.overlay.show_overlays = False
    bpy.context.preferences.system.viewport_aa = "OFF"  # without a graphics card, drawing is the brake
    call(bpy.ops.view3d.view_center_camera)
    chosen = bpy.context.scene.mien_live
    chosen.source = "video"
    chosen.video = str(next(SHARE.glob("performance.*")))
    mesh = bpy.context.scene.mien.target
    call(bpy.ops.ed.undo_push, message="Head")  # operators called by a script push none
    yield from shot("live-ready")

    # How long Mien's own code takes each time that it applies a sample, and how often views are drawn.
    costs, ticks, drawn, rates = [], [], [], []
    tick, apply = live.Live.tick, live.Live._apply

    def timed_tick(self):
        begin = time.perf_counter()
        tick(self)
        ticks.append(time.perf_counter() - begin)

    def timed_apply(self, frame):
        begin = time.perf_counter()
        apply(self, frame)
        costs.append(time.perf_counter() - begin)

    live.Live.tick, live.Live._apply = timed_tick, timed_apply
    handle = bpy.types.SpaceView3D.draw_handler_add(drawn.append, (True,), "WINDOW", "POST_PIXEL")

    begun = time.monotonic()
    report["start"] = sorted(call(bpy.ops.mien.live_start))
    yield from wait(lambda: session.live.status.state == "live", 120)
    opened = time.monotonic()
    yield from wait(lambda: session.live.counts.applied > 0, 120)
    report["source open after, s"] = round(opened - begun, 2)
    report["first motion after, s"] = round(time.monotonic() - begun, 2)
    draws = yield from follow(12.0, drawn, rates)
    report["draws per second"] = round(draws, 1)
    report["applied per second"] = round(rates[-1], 1)
    report["apply, median ms"] = round(1000 * statistics.median(costs), 3)
    report["tick, longest ms"] = round(1000 * max(ticks), 1)
    report["latency, ms"] = round(1000 * session.live.latency, 1)
    status = session.live.status
    report["fps camera, worker"] = [round(status.camera_fps, 1), round(status.worker_fps, 1)]
    moved = {key.name: round(key.value, 3) for key in mesh.data.shape_keys.key_blocks[1:]}
    yield from shot("live")
    report["moved"] = sum(abs(moved[key.name] - key.value) > 0.01 for key in mesh.data.shape_keys.key_blocks[1:])

    call(bpy.ops.mien.live_calibrate)
    yield from wait(lambda: session.live.status.neutral in ("done", "failed"), 120)
    report["calibration"] = session.live.status.neutral
    chosen.countdown = 0
    call(bpy.ops.mien.live_record)
    yield from wait(lambda: session.live.take is not None and session.live.take.frames > 60, 60)
    yield from shot("live-recording")
    session.live._client._process.kill()  # the worker dies while it records
    yield from wait(lambda: session.live.counts.restarts == 1, 60)
    yield from wait(lambda: session.live.take.recording and session.live.take.take.endswith("part2.mien"), 60)
    yield from wait(lambda: session.live.take.frames > 10, 60)
    call(bpy.ops.mien.live_record)
    yield from wait(lambda: not session.live.take.recording, 30)
    report["takes"] = [[item.name, item.frames] for item in bpy.context.window_manager.mien_takes.items]

    # Saving, undoing and playing meanwhile.
    bpy.ops.wm.save_as_mainfile(filepath=str(SHARE / "live.blend"), copy=True)
    call(bpy.ops.ed.undo_push, message="something")
    call(bpy.ops.ed.undo)
    yield
    call(bpy.ops.screen.animation_play)
    yield from follow(3.0, drawn, rates)
    call(bpy.ops.screen.animation_play)
    report["applied per second while playing"] = round(rates[-1], 1)
    bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")

    call(bpy.ops.mien.live_stop)
    stopped = time.monotonic()
    yield from wait(lambda: not live.busy(), 20)
    report["worker gone after, s"] = round(time.monotonic() - stopped, 2)
    mesh = bpy.context.scene.mien.target
    report["back at rest"] = max(key.value for key in mesh.data.shape_keys.key_blocks[1:]) < 1e-6
    report["timer left"] = bpy.app.timers.is_registered(live._on_timer)
    yield from shot("live-stopped")
    report["bake"] = sorted(call(bpy.ops.mien.take_bake))
    report["outcome"] = session.outcome.lines
    bpy.context.scene.frame_set(20)
    yield from shot("live-baked")
    call(bpy.ops.mien.live_start)  # Blender is left while it runs: see whether a worker stays
    yield from wait(lambda: session.live.status.state == "live", 60)
    (SHARE / "processes").write_text(f"{os.getpid()} {session.live._client.pid}")
    report["ok"] = bool(report["moved"] and report["back at rest"] and not report["timer left"])


if __name__ == "__main__":
    run(steps())
