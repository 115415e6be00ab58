"""Preview against Blender's own path: the same head, the same window, in one run.

    blender --python tests/benchmarks/bench_preview.py -- [--out FILE] [--sizes 5000,20000,100000] [--shapes 11,52]

Needs a Blender with a window (the viewport is redrawn for each measurement). `MIEN_ROOT` tells where the checkout
is, unless it is two folders up. Prints one line per case, writes all to FILE as JSON and ends Blender.

A *frame* is: new weights for every shape, then the whole window drawn and swapped. *Idle* is the window drawn again
with nothing changed. *Prepare* is what has to be done before anything can be drawn: Blender's evaluation of the
head, or the preview's weights and matrices on their way to the GPU. Solid shading, no overlays, no antialiasing, no
shadow on either side.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import bpy
import gpu
import numpy as np

ROOT = Path(os.environ.get("MIEN_ROOT") or Path(__file__).resolve().parents[2])


def load():
    """Import the checkout as `mien` and enable it."""
    spec = importlib.util.spec_from_file_location("mien", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["mien"] = module
    spec.loader.exec_module(module)
    bpy.context.preferences.addons.new().module = "mien"
    module.register()


def make_head(vertices: int, shapes: int):
    """A ball with `shapes` bumps, each of which moves about an eighth of it, on an armature of two bones."""
    from mien.core.units import ARKIT, UNITS

    rings = max(int((vertices / 2) ** 0.5), 4)
    sectors = max(vertices // rings, 4)
    theta = np.linspace(0.02, np.pi - 0.02, rings)[:, None]
    phi = np.linspace(0, 2 * np.pi, sectors, endpoint=False)[None]
    points = np.stack(
        (np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi), axis=-1
    ).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(sectors), indexing="ij")
    k = (j + 1) % sectors
    quads = np.stack((i * sectors + j, (i + 1) * sectors + j, (i + 1) * sectors + k, i * sectors + k), -1)
    mesh = bpy.data.meshes.new("Ball")
    mesh.from_pydata(points.tolist(), [], quads.reshape(-1, 4).tolist())
    mesh.shade_smooth()
    head = bpy.data.objects.new("Ball", mesh)
    bpy.context.scene.collection.objects.link(head)
    head.shape_key_add(name="Basis")
    names = UNITS if shapes == len(UNITS) else ARKIT[:shapes]
    random = np.random.default_rng(7)
    centres = random.normal(size=(shapes, 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    for name, centre in zip(names, centres, strict=True):
        near = np.clip(1.0 - np.linalg.norm(points - centre, axis=1) / 0.72, 0.0, 1.0)[:, None]
        key = head.shape_key_add(name=name)
        key.value = 0.0
        key.points.foreach_set("co", (points + 0.2 * near * near * points).astype(np.float32).ravel())
    data = bpy.data.armatures.new("Rig")
    rig = bpy.data.objects.new("Rig", data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for name, low, high in (("head", 0.0, 1.0), ("jaw", -1.0, 0.0)):
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = (0, 0, low), (0, 0, high)
    bpy.ops.object.mode_set(mode="OBJECT")
    for name, mine in (("head", points[:, 2] >= 0), ("jaw", points[:, 2] < 0)):
        head.vertex_groups.new(name=name).add(np.flatnonzero(mine).tolist(), 1.0, "REPLACE")
    head.modifiers.new("Armature", "ARMATURE").object = rig
    rig.hide_set(True)
    bpy.context.view_layer.objects.active = head
    return head, names, float(np.mean([np.mean(np.linalg.norm(points - c, axis=1) < 0.72) for c in centres]))


def redraw() -> float:
    """Draw and swap the whole window; returns seconds."""
    began = time.perf_counter()
    bpy.ops.wm.redraw_timer(type="DRAW_WIN_SWAP", iterations=1)
    return time.perf_counter() - began


def measure(step, frames: int) -> dict:
    """Time frames in which `step` changes the face, and frames in which nothing changes."""
    for _ in range(5):
        step()
        redraw()
    changed, stepping = [], []
    for _ in range(frames):
        began = time.perf_counter()
        step()
        stepping.append(time.perf_counter() - began)
        changed.append(stepping[-1] + redraw())
    idle = [redraw() for _ in range(frames)]
    frame, rest = statistics.median(changed), statistics.median(idle)
    return {
        "frame_ms": 1e3 * frame,
        "idle_ms": 1e3 * rest,
        "change_ms": 1e3 * (frame - rest),
        "prepare_ms": 1e3 * statistics.median(stepping),
    }


def case(vertices: int, shapes: int, frames: int) -> dict:
    """Measure one size of head."""
    from mien.addon import preview
    from mien.addon.preview import overlay

    head, names, share = make_head(vertices, shapes)
    chosen = bpy.context.scene.mien_preview
    chosen.smooth = chosen.shadows = False
    keys = [head.data.shape_keys.key_blocks[name] for name in names]
    random = np.random.default_rng(1)
    layer = bpy.context.view_layer

    def blender():
        for key, value in zip(keys, random.uniform(0, 1, shapes), strict=True):
            key.value = value
        layer.update()

    own = measure(blender, frames)
    began = time.perf_counter()
    preview.start()
    redraw()
    upload = time.perf_counter() - began

    def ours():
        preview.set_sample(head.session_uid, dict(zip(names, random.uniform(0, 1, shapes), strict=True)))

    fast = measure(ours, frames)
    kept = overlay.head(head)
    posing = []
    for _ in range(frames):
        began = time.perf_counter()
        ours()
        overlay.pose_heads([head], bpy.context.scene, moving={head.session_uid})
        posing.append(time.perf_counter() - began)
    prepare_ms = 1e3 * statistics.median(posing)
    result = {
        "vertices": len(head.data.vertices),
        "shapes": shapes,
        "moved_share": share,
        "blender": own,
        "preview": fast
        | {"python_ms": 1e3 * overlay.busy_seconds, "upload_ms": 1e3 * upload, "prepare_ms": prepare_ms},
        "gpu_megabytes": kept.gpu.model.nbytes / 1e6,
        "frame_times_faster": own["frame_ms"] / fast["frame_ms"],
        "prepare_times_faster": own["prepare_ms"] / prepare_ms,
        "problem": overlay.problem,
    }
    preview.stop()
    preview.clear_sample()
    for obj in list(bpy.context.scene.objects):
        bpy.data.objects.remove(obj)
    bpy.ops.outliner.orphans_purge(do_recursive=True)
    return result


def prepare():
    """A clean scene in a clean viewport."""
    bpy.context.preferences.view.show_splash = False
    bpy.context.preferences.system.viewport_aa = "OFF"
    for obj in list(bpy.context.scene.objects):
        bpy.data.objects.remove(obj)
    for area in bpy.context.window_manager.windows[0].screen.areas:
        if area.type == "VIEW_3D":
            space = area.spaces.active
            space.shading.type = "SOLID"
            space.overlay.show_overlays = False
            space.show_gizmo = False
            space.region_3d.view_distance = 4.0
            space.region_3d.view_location = (0, 0, 0)


def run(arguments) -> None:
    prepare()
    load()
    window = bpy.context.window_manager.windows[0]
    report = {
        "blender": bpy.app.version_string,
        "gpu": gpu.platform.renderer_get(),
        "backend": gpu.platform.backend_type_get(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "window": (window.width, window.height),
        "cases": [],
    }
    for vertices in map(int, arguments.sizes.split(",")):
        for shapes in map(int, arguments.shapes.split(",")):
            with bpy.context.temp_override(window=window):
                found = case(vertices, shapes, arguments.frames)
            report["cases"].append(found)
            print(json.dumps(found), flush=True)
    text = json.dumps(report, indent=1)
    print(text, flush=True)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench_preview")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sizes", default="5000,20000,100000")
    parser.add_argument("--shapes", default="11,52")
    parser.add_argument("--frames", type=int, default=15)
    arguments = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [])

    def later():
        try:
            run(arguments)
        finally:
            bpy.ops.wm.quit_blender()

    bpy.app.timers.register(later, first_interval=4.0)


main()
