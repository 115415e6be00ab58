"""Runs in a Blender with a window (see window.py): takes, and keys that a user presses.

Another process sends a face over the network: it is recorded, punched in, baked, undone and redone, renamed and
deleted. A capture of a file is left by Esc, and what is kept of it is baked. Ctrl Alt and a number wears expressions.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))

from window_inside import SHARE, addon, call, contents, empty_scene, open_tab, report, run, shot, view, wait
from window_meanwhile_inside import head, key_press, moves, values

SENDER = """
import math, time
import numpy as np
from core.network import LiveLinkFaceSender
from core.types import FrameResult
with LiveLinkFaceSender() as sender:
    for i in range(100_000):
        moment = i / 60
        turn = 0.15 * math.sin(moment)
        face = np.full(52, 0.5 + 0.4 * math.sin(3 * moment))
        rotation = [math.cos(turn), 0.0, math.sin(turn), 0.0]
        sender.send(FrameResult(i, moment, found=True, confidence=1.0, arkit=face, head_rotation=rotation))
        time.sleep(1 / 60)
"""


def click(operator, **options):
    """Call an operator as a button does: invoked, with its undo step."""
    return sorted(call(operator, "INVOKE_DEFAULT", True, **options))


def open_panels(*names: str) -> None:
    """Open panels that are closed at first, as clicks do."""
    classes = [*addon("panels").CLASSES, *addon("panels.preview").CLASSES]
    for panel in reversed(classes):
        bpy.utils.unregister_class(panel)
    for panel in classes:
        if panel.__name__ in names:
            panel.bl_options = set()
        bpy.utils.register_class(panel)


def names() -> list[str]:
    return [item.name for item in bpy.context.window_manager.mien_takes.items]


def record(live, **how):
    before = len(names())
    click(bpy.ops.mien.live_record, **how)
    yield from wait(lambda: live.take is not None and live.take.recording and live.take.frames > 100, 120)
    click(bpy.ops.mien.live_record)
    yield from wait(lambda: len(names()) > before, 60)


def ends(session):
    """A take along the timeline ends where that loops, and where it is stopped."""
    scene, known = bpy.context.scene, bpy.context.window_manager.mien_takes
    for how in ("loops", "is stopped"):
        known.items.clear()
        scene.frame_set(scene.frame_end - 24 if how == "loops" else 30)
        click(bpy.ops.mien.live_record, punch=True)
        yield from wait(lambda: scene.frame_current not in (scene.frame_end - 24, 30), 20)
        if how == "is stopped":
            yield from wait(lambda: scene.frame_current > 40, 20)
            call(bpy.ops.screen.animation_play)
        yield from wait(lambda: not session.live.recording, 20)
        yield from wait(lambda: len(names()) > 0, 60)
        report[f"a take ends where the timeline {how}"] = session.outcome.lines
        if bpy.context.screen.is_animation_playing:
            call(bpy.ops.screen.animation_play)
        known.active = 0
        click(bpy.ops.mien.take_delete)


def network(window):
    session, live = addon("session"), addon("live")
    chosen = bpy.context.scene.mien_live
    chosen.source, chosen.countdown = "network", 1
    report["start"] = click(bpy.ops.mien.live_start)
    yield from wait(lambda: session.live.status.state == "opening" and session.live.status.error is not None, 60)
    yield from shot("takes-waiting")
    sender = subprocess.Popen([sys.executable, "-c", SENDER], cwd=Path(addon("session").__file__).parents[1])
    try:
        yield from wait(lambda: session.live.counts.applied > 5, 120)
        report["the head follows the network"] = yield from moves(head(), 60)
        yield from ends(session)
        yield from record(session.live)
        bpy.context.scene.frame_set(30)
        yield from record(session.live, punch=True)
        yield from shot("takes-recorded")
    finally:
        sender.kill()
        sender.wait()
    yield from wait(lambda: session.live.status.state == "stalled", 60)
    click(bpy.ops.mien.live_stop)
    yield from wait(lambda: not live.busy(), 60)
    report["back at rest"] = max(values(head())) < 1e-6


def takes(window):
    session = addon("session")
    known, settings = bpy.context.window_manager.mien_takes, bpy.context.scene.mien
    _punched, plain = names()
    call(bpy.ops.ed.undo_push, message="Before")
    before, known.active = contents(), 1
    report["bake"] = click(bpy.ops.mien.take_bake)
    report["the action bears the take's name"] = head().data.shape_keys.animation_data.action.name == plain
    baked = contents()
    yield from shot("takes-baked")
    yield from key_press(window, "Z", ctrl=True)
    report["undone"] = contents() == before
    yield from key_press(window, "Z", ctrl=True, shift=True)
    report["redone"] = contents() == baked
    known.active = 0
    report["bake of what was punched in"] = click(bpy.ops.mien.take_bake)
    report["outcome"] = session.outcome.lines
    # Its first frame comes a moment after the click, while the timeline plays.
    report["it goes where it was played"] = 30 <= int(session.outcome.lines[0].split()[1]) < 60

    call(bpy.ops.mien.take_rename, "EXEC_DEFAULT", True, name="My take")
    yield from key_press(window, "Z", ctrl=True)
    settings = bpy.context.scene.mien
    report["renamed, also after undo"] = names()[0] == Path(settings.take).stem == "My take"
    click(bpy.ops.mien.take_delete)
    yield from key_press(window, "Z", ctrl=True)
    settings = bpy.context.scene.mien
    report["deleted, also after undo"] = names() == [plain] and Path(settings.take).parent.name == "bin"
    report["the bin has it"] = Path(settings.take).is_file()


def escape(window):
    session = addon("session")
    settings = bpy.context.scene.mien
    settings.source, settings.reuse_take = str(next(SHARE.glob("performance.*"))), False
    call(bpy.ops.ed.undo_push, message="Source")
    before = contents()
    click(bpy.ops.mien.bake)
    yield from wait(lambda: session.job.progress is not None and session.job.progress.frame > 10, 120)
    yield from key_press(window, "ESC")
    yield from wait(lambda: session.job is None, 30)
    report["Esc leaves the scene as it was"] = contents() == before
    report["Esc"] = session.outcome.lines
    yield from shot("takes-cancelled")
    part = next(addon("preferences").takes_folder().glob("*.part"), None)
    report["what was captured is kept"] = part is not None
    report["bake of it"] = sorted(call(bpy.ops.mien.bake_take, "EXEC_DEFAULT", True, filepath=str(part)))
    report["it has keys"] = contents()[2] > before[2]
    yield from key_press(window, "Z", ctrl=True)
    report["that is undone"] = contents() == before


def keys(window):
    def worn() -> str:
        chosen = bpy.context.scene.mien_preview
        return chosen.expression if chosen.strength > 0.0 else ""

    yield from key_press(window, "TWO", ctrl=True, alt=True)
    report["without the preview no key wears anything"] = worn() == ""
    click(bpy.ops.mien.preview)
    seen = []
    for digit in ("TWO", "SEVEN", "SEVEN", "EIGHT"):
        yield from key_press(window, digit, ctrl=True, alt=True)
        yield
        seen.append(worn())
    report["worn"] = seen
    report["keys wear"] = seen == ["happiness", "anger", "", ""]
    yield from key_press(window, "SEVEN", ctrl=True, alt=True)
    yield
    call(bpy.ops.mien.preview_expression_save, "EXEC_DEFAULT", True, name="Mine")
    yield from key_press(window, "TWO", ctrl=True, alt=True)
    yield from key_press(window, "EIGHT", ctrl=True, alt=True)
    yield
    report["a key wears one's own"] = worn() == "Mine"
    yield from shot("takes-worn")
    yield from key_press(window, "Z", ctrl=True)
    report["undo takes it off"] = worn() == "happiness"
    digits = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "ZERO")
    others = [
        f"{keymap.name}: {item.idname}"
        for keymap in bpy.context.window_manager.keyconfigs.user.keymaps
        if keymap.space_type in ("EMPTY", "VIEW_3D") and not keymap.is_modal
        for item in keymap.keymap_items
        if item.type in digits and item.active and (item.any or (item.ctrl and item.alt))
        if not item.idname.startswith("mien.")
    ]
    report["nothing else has these keys"] = not others
    click(bpy.ops.mien.preview)


def steps():
    yield from wait(lambda: bool(bpy.context.window_manager.windows), 60)
    bpy.context.preferences.view.use_save_prompt = False
    bpy.context.preferences.system.viewport_aa = "OFF"  # without a graphics card, drawing is the brake
    empty_scene()
    yield from open_tab()
    open_panels("MIEN_PT_takes")
    call(bpy.ops.mien.add_sample_head, "INVOKE_DEFAULT")
    call(bpy.ops.view3d.view_camera)
    window, area, _ = view()
    area.spaces.active.overlay.show_overlays = False
    for part in (network, takes, escape, keys):
        yield from part(window)
    report["ok"] = all(value is True for name, value in report.items() if isinstance(value, bool) and name != "ok")


if __name__ == "__main__":
    run(steps())
