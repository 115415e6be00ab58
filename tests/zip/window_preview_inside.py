"""Runs in a Blender with a window (see window.py): the preview in all sorts of viewports, with pictures for the docs.

python tests/zip/window.py BLENDER ZIP CLIP --tool blender-window --steps window_preview_inside.py --timeout 1500
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from pathlib import Path

import bpy
import gpu
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from window_inside import SHARE, addon, call, empty_scene, open_tab, report, run, shot, view, wait

TURN = {"head": (math.cos(0.11), 0.0, math.sin(0.11), 0.0)}


def drawn(window=None):
    """Have a viewport of a window drawn, and return what its last region shows, (height, width, 3)."""
    window = window or bpy.context.window_manager.windows[0]
    area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width * a.height)
    seen = {}

    def look():
        if bpy.context.window != window or bpy.context.area != area:
            return
        x, y, width, height = gpu.state.viewport_get()
        pixels = gpu.state.active_framebuffer_get().read_color(x, y, width, height, 4, 0, "FLOAT")
        pixels.dimensions = width * height * 4
        seen[bpy.context.region.as_pointer()] = np.array(pixels, np.float32).reshape(height, width, 4)[..., :3]

    handle = bpy.types.SpaceView3D.draw_handler_add(look, (), "WINDOW", "POST_PIXEL")
    end = time.monotonic() + 120
    while len(seen) < sum(region.type == "WINDOW" for region in area.regions):
        if time.monotonic() > end:
            raise TimeoutError("the viewport was not drawn")
        area.tag_redraw()
        yield
    bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
    return list(seen.values())


def skin(picture: np.ndarray) -> float:
    """Return which part of a picture has the colour of skin and hair."""
    return float(np.mean((picture[..., 0] > picture[..., 2] + 0.08) & (picture[..., 0] > 0.12)))


def state() -> tuple:
    return (
        gpu.state.depth_test_get(),
        gpu.state.depth_mask_get(),
        gpu.state.blend_get(),
        tuple(gpu.state.viewport_get()),
        tuple(gpu.state.scissor_get()),
        np.array(gpu.matrix.get_projection_matrix()).tolist(),
        np.array(gpu.matrix.get_model_view_matrix()).tolist(),
    )


def pictures(chosen, head, preview, space):
    """The pictures of the documentation."""
    smile = {"Smile": 0.75, "CheekSquint": 0.45, "JawOpen": 0.14, "BrowRaise": 0.2}
    chosen.background = "GRADIENT"
    preview.set_sample(head.session_uid, smile, TURN)
    yield from shot("preview-inplace")

    chosen.lighting, chosen.use_particles = "RIM", True
    chosen.inner, chosen.outer = (0.03, 0.035, 0.055), (0.004, 0.005, 0.01)
    chosen.effects["steam"].use, chosen.effects["steam"].trigger = True, "ALWAYS"
    angry = {"BrowFurrow": 1.0, "EyeWide": 0.35, "NoseWrinkle": 0.4, "Frown": 0.35}
    preview.set_sample(head.session_uid, angry, TURN, "anger")
    yield from shot("preview-rim")
    chosen.lighting, chosen.use_particles = "STUDIO", False
    chosen.effects["steam"].use = False
    for name in ("inner", "outer"):
        chosen.property_unset(name)


def viewports(chosen, head, preview, space):
    """Quad view, local view, camera view, two windows."""
    overlay = addon("preview.overlay")
    smile = {"Smile": 0.6}
    preview.set_sample(head.session_uid, smile)
    chosen.background = "NONE"
    single = yield from drawn()
    call(bpy.ops.screen.region_quadview)
    quad = yield from drawn()
    report["skin in one view"] = round(skin(single[0]), 3)
    report["skin in quad view"] = [round(skin(each), 4) for each in quad]
    yield from shot("preview-quad")
    call(bpy.ops.screen.region_quadview)
    yield

    cube = bpy.data.objects.new("Cube", bpy.data.meshes.new("Cube"))
    bpy.context.scene.collection.objects.link(cube)
    local = []
    for obj in (cube, head.parent):
        for other in bpy.context.view_layer.objects:
            other.select_set(other == obj)
        bpy.context.view_layer.objects.active = obj
        call(bpy.ops.view3d.localview, frame_selected=False)
        seen = yield from drawn()
        local.append(round(skin(seen[0]), 3))
        call(bpy.ops.view3d.localview, frame_selected=False)
    bpy.data.objects.remove(cube)
    report["skin in local view of a cube, of the rig"] = local

    # The handlers before and after Mien's see the same state; each is called once per region.
    around, calls = [], []
    before = bpy.types.SpaceView3D.draw_handler_add(lambda: around.append(state()), (), "WINDOW", "POST_VIEW")
    overlay.stop()
    overlay.start()
    after = bpy.types.SpaceView3D.draw_handler_add(lambda: around.append(state()), (), "WINDOW", "POST_VIEW")
    original = overlay._in_place
    overlay._in_place = lambda: (calls.append(1), original())
    for background in ("NONE", "GRADIENT"):
        chosen.background = background
        yield from drawn()
    overlay._in_place = original
    bpy.types.SpaceView3D.draw_handler_remove(before, "WINDOW")
    bpy.types.SpaceView3D.draw_handler_remove(after, "WINDOW")
    report["states the same"] = len(around) >= 4 and all(a == b for a, b in zip(around[::2], around[1::2], strict=True))
    report["calls per drawing"] = len(calls) / (len(around) / 2)

    chosen.placement = "WINDOW"
    call(bpy.ops.wm.window_new)
    for _ in range(4):
        yield
    windows = bpy.context.window_manager.windows
    windows[-1].screen.areas[0].type = "VIEW_3D"
    for placement in ("WINDOW", "IN_PLACE"):
        chosen.placement = placement
        seen = []
        for window in (windows[0], windows[-1], windows[0]):
            pictures = yield from drawn(window)
            seen.append(round(skin(pictures[0]), 4))
        report[f"skin in two windows, {placement}"] = seen
    with bpy.context.temp_override(window=windows[-1]):
        bpy.ops.wm.window_close()
    yield


def region(chosen, _head, _preview, space):
    """Rendered view with the engine and a render region; the picture shows whether it is right."""
    overlay = addon("preview.overlay")
    scene = bpy.context.scene
    engine = scene.render.engine
    chosen.background = "GRADIENT"
    scene.render.engine = "MIEN_PREVIEW"
    space.shading.type = "RENDERED"
    overlay.stop()  # the engine draws alone
    scene.render.use_border = True
    scene.render.border_min_x, scene.render.border_max_x = 0.3, 0.7
    scene.render.border_min_y, scene.render.border_max_y = 0.4, 0.7
    yield from shot("preview-region")
    scene.render.use_border = False
    space.shading.type = "SOLID"
    scene.render.engine = engine
    overlay.start()
    yield from drawn()


def leaks(_chosen, _head, _preview, _space):
    """Undo and on and off, 200 times each, with drawing; nothing may be left."""
    drawing, overlay, heads = addon("preview.drawing"), addon("preview.overlay"), addon("preview.heads")
    import gc

    def alive():
        gc.collect()
        owners = (drawing.GpuModel, drawing.Target, heads.Head)
        return sum(isinstance(thing, owners) for thing in gc.get_objects())

    def calls():
        return sys.getrefcount(overlay._draw_in_place) + sys.getrefcount(overlay._draw_window)

    overlay.stop()
    rest = calls()
    for i in range(200):
        call(bpy.ops.mien.preview)
        if i % 20 == 0:
            yield from drawn()
        call(bpy.ops.mien.preview)
    report["alive and handlers after 200 times on and off"] = [alive(), calls() - rest]
    call(bpy.ops.mien.preview)
    call(bpy.ops.ed.undo_push, message="Start")
    for i in range(200):
        bpy.context.scene.mien_preview.exposure = 0.001 * i
        call(bpy.ops.ed.undo_push, message=f"Step {i}")
        call(bpy.ops.ed.undo)
        if i % 20 == 0:
            yield from drawn()
    report["handlers after 200 times undo"] = calls() - rest
    call(bpy.ops.mien.preview)
    report["alive after the last"] = alive()
    call(bpy.ops.mien.preview)


def live(chosen, head, preview, _space):
    """A clip as camera: the face, the camera's picture beside it, and what the preview costs Blender's main thread."""
    session, overlay, module = addon("session"), addon("preview.overlay"), addon("live")
    preview.clear_sample()
    settings = bpy.context.scene.mien_live
    settings.source, settings.video = "video", str(next(SHARE.glob("performance.*")))
    chosen.placement, chosen.size = "WINDOW", 0.62
    chosen.background = "GRADIENT"
    call(bpy.ops.mien.live_start)
    yield from wait(lambda: session.live is not None and session.live.counts.applied > 20, 400)
    yield from wait(lambda: addon("preview.compose").camera.size is not None, 100)
    yield from shot("preview-pip")
    chosen.placement = "IN_PLACE"
    costs, ticks = [], []
    tick = module.Live.tick

    def timed(self):
        began = time.perf_counter()
        tick(self)
        ticks.append(time.perf_counter() - began)

    module.Live.tick = timed
    end = time.monotonic() + 12
    while time.monotonic() < end:
        costs.append(overlay.busy_seconds)
        yield
    report["live tick with the preview, median ms"] = round(1e3 * statistics.median(ticks), 3)
    overlay.stop()
    ticks.clear()
    end = time.monotonic() + 12
    while time.monotonic() < end:
        yield
    report["live tick without, median ms"] = round(1e3 * statistics.median(ticks), 3)
    module.Live.tick = tick
    # What the preview itself does in Python before it draws.
    parts = []
    for _ in range(100):
        began = time.perf_counter()
        overlay.pose_heads([head], bpy.context.scene, moving={head.session_uid})
        parts.append(time.perf_counter() - began)
    report["pose, median ms"] = round(1e3 * statistics.median(parts), 3)
    report["label"] = session.live.label
    call(bpy.ops.mien.live_stop)
    yield from wait(lambda: not module.busy(), 60)


def take(_chosen, head, _preview, _space):
    """The render of a take in Blender's own job. Its Esc is not tried: a simulated key does not reach a render."""
    playback, heads = addon("preview.playback"), addon("preview.heads")
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 480, 576, 100
    samples = [heads.Sample({"Smile": 0.5 + 0.5 * math.sin(i / 4)}) for i in range(60)]
    name = playback.begin(bpy.context, head, {head.session_uid: samples}, SHARE / "frames" / "a_####", film=False)
    call(bpy.ops.render.render, "INVOKE_DEFAULT", animation=True, scene=name)
    bpy.app.timers.register(playback.look_for_end)
    yield from wait(lambda: len(list(SHARE.glob("frames/*.png"))) > 3, 200)
    report["rendering"] = bpy.app.is_job_running("RENDER")
    (SHARE / "wanted").write_text("preview-take")
    yield from wait(lambda: not (SHARE / "wanted").exists(), 60)
    yield from wait(lambda: not bpy.app.is_job_running("RENDER"), 120)
    yield from wait(lambda: not playback.busy(), 60)
    report["frames rendered"] = len(list(SHARE.glob("frames/*.png")))
    report["scenes afterwards"] = [each.name for each in bpy.data.scenes]


def steps():
    yield from wait(lambda: bool(bpy.context.window_manager.windows), 60)
    empty_scene()
    yield from open_tab()
    report["graphics"] = [gpu.platform.renderer_get(), gpu.platform.backend_type_get()]
    call(bpy.ops.mien.add_sample_head, "INVOKE_DEFAULT")
    call(bpy.ops.view3d.view_camera)
    call(bpy.ops.view3d.view_center_camera)
    _, area, _ = view()
    space = area.spaces.active
    space.region_3d.view_camera_zoom = 0
    space.overlay.show_overlays = space.show_gizmo = False
    preview, overlay = addon("preview"), addon("preview.overlay")
    call(bpy.ops.mien.preview)
    asked = SHARE / "only"
    only = asked.read_text().split() if asked.exists() else []
    parts = {"pictures": pictures, "viewports": viewports, "region": region, "live": live, "take": take, "leaks": leaks}
    for name, part in parts.items():
        if only and name not in only:
            continue
        scene = bpy.context.scene
        yield from part(scene.mien_preview, scene.mien.target, preview, space)
        report["problem"] = overlay.problem
    report["ok"] = overlay.problem is None


if __name__ == "__main__":
    run(steps())
