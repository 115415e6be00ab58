"""Runs in Blender's Python: installs the zip, bakes with it, disables and enables it, and reports what it finds.

    inside.py ZIP [CLIP]

The last line printed is one JSON object. Nothing of Mien is importable here but what the zip brings.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

WHEELS = ("mediapipe", "cv2", "_cffi_backend", "miniaudio")

NEVER_HERE = [name for name in (*WHEELS, "mien") if importlib.util.find_spec(name)]

# isort: off
import bpy  # noqa: E402
import addon_utils  # noqa: E402  # importable once bpy is
# isort: on

MODULE = "bl_ext.user_default.mien"

registered_timers = []
draw_handlers = []


@contextlib.contextmanager
def watching():
    """Note every timer and draw handler that is added: Blender cannot list them.

    All is put back at the end: the bpy module hangs at exit where its own functions are replaced.
    """
    register = bpy.app.timers.register

    def noting(function, *args, **kwargs):
        registered_timers.append(function)
        return register(function, *args, **kwargs)

    bpy.app.timers.register = noting
    space = bpy.types.SpaceView3D
    add, remove = space.draw_handler_add, space.draw_handler_remove

    def adding(*args):
        handle = add(*args)
        draw_handlers.append(handle)
        return handle

    def removing(handle, *args):
        remove(handle, *args)
        draw_handlers.remove(handle)

    space.draw_handler_add, space.draw_handler_remove = adding, removing
    try:
        yield
    finally:
        bpy.app.timers.register = register
        del space.draw_handler_add, space.draw_handler_remove  # inherited from Space


def state() -> dict:
    """Return everything that an add-on can leave behind, by kind."""
    types = [getattr(bpy.types, name) for name in dir(bpy.types)]
    rna = [kind.bl_rna for kind in types if hasattr(kind, "bl_rna")]
    keyconfig = bpy.context.window_manager.keyconfigs.addon
    return {
        "classes": sorted(dir(bpy.types)),
        "operators": sorted(dir(bpy.ops.mien)),
        "properties": sorted(f"{kind.identifier}.{name}" for kind in rna for name in kind.properties.keys()),
        "handlers": sorted(
            f"{name}: {getattr(function, '__module__', function)}"
            for name in dir(bpy.app.handlers)
            if isinstance(functions := getattr(bpy.app.handlers, name), list)
            for function in functions
        ),
        "timers": [str(function) for function in registered_timers if bpy.app.timers.is_registered(function)],
        "draw handlers": [str(handle) for handle in draw_handlers],
        "menu entries": sorted(
            f"{kind.__name__}: {function.__module__}"
            for kind in types
            for function in getattr(getattr(kind, "draw", None), "_draw_funcs", ())
        ),
        "keymap items": sorted(
            f"{keymap.name}: {item.idname}"
            for keymap in (keyconfig.keymaps if keyconfig else ())
            for item in keymap.keymap_items
        ),
        "search path": list(sys.path),
        "children": children(),
    }


def children() -> list:
    """Return the child processes of this one (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # ended meanwhile
            continue
        if int(text.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(text)
    return found


def left_behind(before: dict) -> dict:
    after = state()
    # The wheels' folder joins the search path with the extension; Blender takes it away on its own time.
    return {
        kind: sorted(set(after[kind]) - set(before[kind]))
        for kind in before
        if kind != "search path" and set(after[kind]) - set(before[kind])
    }


def policy_warnings() -> list:
    """Return what Blender complains of in the extension: foreign top-level modules, search paths."""
    addon_utils.modules_refresh()
    warnings = addon_utils._extensions_warnings_get()
    return [str(entry) for module, entries in warnings.items() if "mien" in str(module) for entry in entries]


def sound_library() -> str:
    """Load the sound library where the worker does, in a process of its own; returns its version."""
    from bl_ext.user_default.mien.core.client import default_env, find_python

    ask = "import miniaudio; print(miniaudio.__version__)"
    done = subprocess.run([find_python(), "-P", "-c", ask], env=default_env(), capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


def bake(clip: str) -> dict:
    """Do what the user does in the sidebar: sample head, video, Bake."""
    bpy.ops.wm.read_homefile(app_template="", use_empty=True)
    bpy.ops.mien.add_sample_head()
    scene = bpy.context.scene
    scene.mien.source = clip
    outcome = bpy.ops.mien.bake()
    mesh = scene.mien.target
    moved = {}
    start, end = scene.frame_start, scene.frame_end
    for frame in range(start, min(end, start + 250) + 1, 5):
        scene.frame_set(frame)
        for key in mesh.data.shape_keys.key_blocks[1:]:
            low, high = moved.get(key.name, (1.0, 0.0))
            moved[key.name] = (min(low, key.value), max(high, key.value))
    with importlib.import_module(f"{MODULE}.core.take").Take(scene.mien.take) as take:
        made_with, labels = take.header.extra.get("estimator"), sorted(set(take.column("expression").tolist()))
    return {
        "outcome": sorted(outcome),
        "estimator": made_with,
        "labels": labels,
        "mesh": mesh.name,
        "actions": len(bpy.data.actions),
        "moved": {name: high - low for name, (low, high) in moved.items()},
        "libraries": sorted({name for name in WHEELS if name in sys.modules}),
    }


def follow(clip: str) -> dict:
    """Do what the user does under Live, with a clip as the camera, until the expression is told."""
    scene = bpy.context.scene
    scene.mien_live.source, scene.mien_live.video = "video", clip
    outcome = bpy.ops.mien.live_start()
    live = importlib.import_module(f"{MODULE}.addon.live")
    running = importlib.import_module(f"{MODULE}.addon.session").live
    end = time.monotonic() + 60
    while running.running and running.label in ("", "unsure") and time.monotonic() < end:
        live.tick()
        time.sleep(0.005)
    error = running.status.error or running.error
    told = {
        "outcome": sorted(outcome),
        "state": running.status.state,
        "label": running.label,
        "probability": running.probability,
        "error": str(error) if error else "",
    }
    bpy.ops.mien.live_stop()
    live.wait_for_end()
    return told


def main() -> None:
    archive, *clips = sys.argv[1:]
    with watching():
        report = go_through(archive, clips)
    print(json.dumps(report))


def go_through(archive: str, clips: list) -> dict:
    report = {"blender": bpy.app.version_string, "never_here": NEVER_HERE}
    before = state()
    bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
    report["enabled"] = addon_utils.check(MODULE)[1]
    report["panels"] = sorted(name for name in dir(bpy.types) if name.startswith("MIEN_PT_"))
    report["operators"] = sorted(dir(bpy.ops.mien))
    report["tabs"] = sorted({getattr(bpy.types, name).bl_category for name in report["panels"]})
    report["wheels"] = {
        name: str(importlib.util.find_spec(name).origin) for name in WHEELS if importlib.util.find_spec(name)
    }
    report["sound"] = sound_library()
    if clips:
        report["bake"] = bake(clips[0])
        report["live"] = follow(clips[0])
    report["warnings"] = policy_warnings()
    report["cycles"] = []
    for _ in range(2):
        addon_utils.disable(MODULE, default_set=True)
        report["cycles"].append(left_behind(before))
        addon_utils.enable(MODULE, default_set=True)
        report["cycles"].append(addon_utils.check(MODULE)[1])
    addon_utils.disable(MODULE, default_set=True)
    report["cycles"].append(left_behind(before))
    return report


if __name__ == "__main__":
    main()
