"""`mien bake`: the main job without a window, on the bpy module."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.cli import add_capture_arguments, add_solve_arguments, capture_take, number, spare
from ..core.errors import MienError
from ..core.pictures import heard_in, is_recording
from ..core.units import EXPRESSIONS
from .expressions import BASIC
from .ids import HEAD_SHAPES
from .rig.mapping import armature_of, likeliness, seen_along

if TYPE_CHECKING:
    from .rig.targets import Target

NAME = "bake"
HELP = "put the face of a video, a phone's recording or a take on a rig: a .blend, and of pictures a contact sheet"

_SAMPLES = Path(__file__).resolve().parents[1] / "sample_rigs"


def add_arguments(parser):
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        default=_SAMPLES / "performance.mp4",
        help="video, picture folder, first picture of a sequence, a CSV of Live Link Face, or a take "
        "(default: the sample performance)",
    )
    parser.add_argument("--rig", type=Path, metavar="RIG.blend", help="prepared rig (default: the sample head)")
    parser.add_argument(
        "--object",
        action="append",
        metavar="NAME",
        help="the head's mesh object; given again, a further one that follows the same face (default: the one with "
        "most of the shape keys that Mien knows, and what else on its armature has some, as teeth and eyes)",
    )
    parser.add_argument(
        "--head-bones",
        action="store_true",
        help="put an armature with a neck and a head bone under a head that has none, so that it turns",
    )
    parser.add_argument(
        "--out", type=Path, metavar="OUT.blend", help="file to write (default: out/<name of the video>.blend)"
    )
    add_capture_arguments(parser)
    parser.add_argument("--scene-fps", type=number(1, 1000), help="frame rate of the scene (default: that of the rig)")
    parser.add_argument("--start", type=int, default=1, help="scene frame of the video's first picture (default 1)")
    parser.add_argument(
        "--tolerance",
        type=number(0, 0.5),
        default=0.005,
        help="how far reduced keys may stray, 0 keeps all (default 0.005)",
    )
    parser.add_argument("--action", help="name of the new action (default: the name of the video)")
    parser.add_argument("--no-sheet", action="store_true", help="do not render the contact sheet")
    parser.add_argument(
        "--no-sound", action="store_true", help="do not put the sound of the take or video on the sequencer"
    )
    parser.add_argument("--markers", action="store_true", help="mark on the timeline where the expression changes")
    parser.add_argument(
        "--trigger",
        type=trigger,
        action="append",
        default=[],
        metavar="SHOWN=WORN[:STRENGTH]",
        help="while the face shows one expression, basic or the actor's own, the head wears another, basic one, at a "
        "strength of 0..1 (default 1); may be given again",
    )
    add_solve_arguments(parser)


def trigger(text: str) -> tuple[str, str, float]:
    """Return what the face shows, what the head wears and how strongly, from ``shown=worn:strength``."""
    shown, _, worn = text.rpartition("=")
    worn, _, strength = worn.partition(":")
    if not shown.strip() or worn.strip().lower() not in EXPRESSIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is not SHOWN=WORN, with WORN one of {', '.join(EXPRESSIONS)}")
    return shown.strip(), worn.strip().lower(), number(0, 1)(strength) if strength else 1.0


def run(args, console) -> dict:
    try:
        import bpy
    except ImportError as error:
        raise MienError(
            "blender-missing",
            f"Blender's Python module cannot be loaded: {error}.",
            "From a checkout, run `python3.11 . bake`, which sets it up.",
        ) from error
    from . import head_properties

    if hasattr(bpy.types.Object, HEAD_SHAPES):
        return _bake(args, console)
    # The module runs without add-ons, and the rig may bring its mapping. Blender 4.5 hangs at its end with
    # callbacks that are still registered.
    head_properties.register()
    try:
        return _bake(args, console)
    finally:
        head_properties.unregister()


def _bake(args, console) -> dict:
    import bpy

    from ..core.solve import SolveOptions, hidden_spans, solve_take
    from ..core.take import SUFFIX, Take, is_take
    from . import bake, markers, sound, takes, triggers
    from .contact_sheet import write_contact_sheet

    rig = args.rig or _SAMPLES / "mien_head.blend"
    name = args.source.stem.strip(".") or args.source.absolute().name  # `.` and `..` are folders too
    out = args.out or Path("out") / f"{name}.blend"
    if out.suffix != ".blend":
        raise MienError("bad-output", f"{out} is not a .blend file.", "Give --out a name that ends in .blend.")
    if not rig.is_file():
        raise MienError("rig-not-found", f"There is no file {rig}.", "Give --rig the path of a .blend file.")
    # A take is baked as it is; it and a phone's recording have no pictures to show.
    captured_before = is_take(args.source)
    take_path = args.source if captured_before else out.with_suffix(SUFFIX)
    sheet = None if captured_before or is_recording(args.source) or args.no_sheet else out.with_suffix(".png")
    spare(args.source, [rig, args.actor], [out, None if captured_before else take_path, sheet])
    _open(rig)
    scene = bpy.context.scene
    if args.scene_fps:
        scene.render.fps = max(1, round(args.scene_fps))
        scene.render.fps_base = scene.render.fps / args.scene_fps
    # Looked for before the capture, so that a wrong rig costs nobody the wait.
    target, others, left_out = _targets(args, console)

    captured = None
    if captured_before:
        if args.actor is not None:
            console.say("Note: a take keeps the labels that it was captured with: --actor was not used")
    else:
        captured = capture_take(args, take_path, console)
    with Take(take_path) as take:
        worn = [triggers.Trigger(shown, BASIC[name], strength) for shown, name, strength in args.trigger]
        performance = triggers.wear(solve_take(take, SolveOptions(args.smoothing, args.rest)), take, worn)
        options = bake.BakeOptions(
            start_frame=args.start,
            tolerance=args.tolerance,
            rotation_tolerance=args.tolerance / 3,  # by default a tenth of a degree, as in the panel
            action_name=args.action or name,
        )
        baked = bake.bake_performance(bpy.context, target, performance, options, others)
        hidden = hidden_spans(take)
        unshown = triggers.notices_of(triggers.trouble_with(each.label, take.header.own) for each in worn)
        unlabelled = takes.unlabelled_notice(take) if args.markers or worn else []
        before = (*take.losses, *takes.hidden_notice(hidden), *left_out, *unlabelled, *unshown)
        baked = dataclasses.replace(baked, notices=(*before, *baked.notices))
        scene.frame_start, scene.frame_end = baked.start, baked.end
        scene.frame_set(baked.start)
        heard = takes.sound_of(take_path) if captured is None else heard_in(args.source)
        if not args.no_sound and heard is not None and heard.is_file():
            for told in sound.place(scene, heard.absolute(), baked.start, target.mesh):
                console.say(f"{told}.")
        if args.markers:
            shown_by = [each.mesh for each in (target, *others)]
            markers.mark(scene, markers.changes_in(take, hidden), args.start, baked.end, shown_by)
        _save(out)
        for notice in baked.notices:
            console.say(f"Note: {notice}.")
        console.say(f"{out}: {baked.keys_after} keys on {baked.channels} curves, frames {baked.start}-{baked.end}")
        outcome = {
            "source": str(args.source),
            "rig": str(rig),
            "blend": str(out),
            "take": str(take_path),
            "capture": captured.to_dict() if captured is not None else None,
            "bake": baked.to_dict(),
        }
        if sheet is not None:
            write_contact_sheet(
                sheet,
                scene,
                target.mesh,
                performance,
                take,
                args.source,
                lambda time: args.start + time * scene.render.fps / scene.render.fps_base,
                fps=args.fps,
                on_progress=console.progress("contact sheet", unit="picture"),
            )
            console.say(f"{sheet}: contact sheet")
            outcome["sheet"] = str(sheet)
    return outcome


def _open(rig: Path):
    """Open a rig's file in place of the one that is open."""
    import bpy

    try:
        bpy.ops.wm.open_mainfile(filepath=str(rig.resolve()), load_ui=False)
    except RuntimeError as error:
        message = f"{rig} cannot be opened: {_reason(error)}."
        raise MienError("rig-damaged", message, "Choose another .blend file.") from error


def _targets(args, console) -> tuple[Target, list[Target], list[str]]:
    """Return the head and the further ones of the file that is open, and what to tell about those left out."""
    import bpy

    from .rig.head_bones import add_head_bones
    from .rig.targets import find_further, find_target

    mesh, *further = _heads(bpy.data.objects, args.object)
    if args.head_bones:
        find_target(mesh)
        if armature_of(mesh) is None:
            add_head_bones(bpy.context, mesh, further)
        else:
            console.say("Note: the head has an armature: --head-bones was not used")
    if args.object is not None:
        return find_target(mesh), [find_target(each) for each in further], []
    return find_target(mesh), *find_further(seen_along(mesh, bpy.context.scene))


def _save(path: Path):
    """Save the file that is open; one that was there is only replaced by a whole one, and keeps no backup."""
    import bpy

    bpy.context.preferences.filepaths.save_version = 0
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(path.resolve()), compress=True)
    except RuntimeError as error:
        raise MienError(
            "blend-not-written",
            f"{path} cannot be written: {_reason(error)}.",
            "Check that you may write there and that the disk has room.",
        ) from error


def _reason(error: RuntimeError) -> str:
    """Return what Blender said, as a part of a sentence."""
    return str(error).strip().removeprefix("Error: ").rstrip(".")


def _heads(objects, names: list[str] | None) -> list:
    """Return the mesh objects to drive: those named, or the one with most of the keys Mien knows."""
    if names is not None:
        for name in names:
            if name not in objects:
                meshes = ", ".join(o.name for o in objects if o.type == "MESH") or "none"
                raise MienError("object-not-found", f"The rig has no object {name!r}.", f"Its meshes are: {meshes}.")
        return [objects[name] for name in dict.fromkeys(names)]
    meshes = [o for o in objects if o.type == "MESH"]
    if not meshes:
        raise MienError("no-mesh", "The rig file holds no mesh.", "Choose a .blend with a head that has shape keys.")
    return [max(meshes, key=likeliness)]
