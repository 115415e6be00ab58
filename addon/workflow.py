"""What the operators do, apart from being operators."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from ..core.errors import MienError
from ..core.files import actor_file, actor_names
from ..core.pictures import UNREAD, heard_in, is_recording, is_sequence
from ..core.take import Take
from ..core.wav import sound_path
from . import actions, markers, session, sound, takes
from .bake import BakeOptions, BakeSummary, bake_into_scene
from .capturing import CaptureJob, is_whole, take_path
from .ids import LIVE_SETTINGS, SETTINGS
from .preferences import actors_folder, takes_folder
from .preview.properties import head_settings
from .rig.mapping import mapping_of, seen_along
from .rig.targets import Target, find_further, find_target, listed
from .triggers import Trigger, notices_of, triggers_of, troubles_of, wear
from .windows import redraw_panels

if TYPE_CHECKING:
    from ..core.jobs import CaptureSummary
    from ..core.solve import Performance


@dataclasses.dataclass(frozen=True)
class Request:
    """A bake as it was asked for, so that changes made while a capture runs do not matter.

    Scene and head are held by their identity in this session: pointers to Blender's data
    do not live through an undo.
    """

    scene: int
    mesh: int
    options: BakeOptions
    solving: dict
    others: tuple[int, ...] = ()
    sound: bool = True
    sound_delay: float = 0.0
    markers: bool = False
    triggers: tuple[Trigger, ...] = ()


def settings(context):
    """Return Mien's settings of the context's scene."""
    return getattr(context.scene, SETTINGS)


def chosen_source(context) -> tuple[Path, float | None]:
    """Return the chosen source and its rate, where it does not tell its own: that of pictures, or of a CSV's timecode.

    Raises
    ------
    MienError
        ``"source-none"``, ``"source-not-found"`` or ``"source-unreadable"``.
    """
    chosen = settings(context)
    if not chosen.source.strip():
        raise MienError("source-none", "No source is chosen.", "Choose a video, pictures or a CSV under Source.")
    source = Path(bpy.path.abspath(chosen.source)).absolute()
    pictures = is_sequence(source)
    try:
        source.stat()
    except FileNotFoundError:
        # A pattern is no file, and the capture tells why it cannot read one of pictures that Mien does not know.
        if not ((pictures or source.suffix.lower() in UNREAD) and source.parent.is_dir()):
            raise MienError(
                "source-not-found",
                f"There is no file {source}.",
                "Choose another, or check that its drive is connected.",
            ) from None
    except OSError as error:
        raise MienError(
            "source-unreadable",
            f"{source} cannot be read: {error.strerror or error}.",
            "Check that you may read the file and its folder.",
        ) from error
    if is_recording(source):
        return source, chosen.timecode_fps or None
    return source, chosen.sequence_fps if pictures else None


def actor_path(scene: bpy.types.Scene) -> Path | None:
    """Return where the chosen actor's own expressions are kept, or will be; None where no actor is chosen."""
    name = getattr(scene, LIVE_SETTINGS).actor
    return actors_folder() / actor_file(name) if name.strip(" .") else None


def own_names(scene: bpy.types.Scene) -> tuple[str, ...]:
    """Return the names of the chosen actor's own expressions; a live lesson is in the file as soon as it is learnt."""
    path = actor_path(scene)
    return actor_names(path) if path is not None else ()


def actor_notice(context) -> list[str]:
    """Return what to tell where the chosen actor has no expressions yet, or the name is misspelt: a line, or none."""
    path = actor_path(context.scene)
    if path is None or path.is_file():
        return []
    return [f"No expressions of {path.stem} are recorded: only the basic ones are labelled"]


def target_of(context) -> Target:
    """Return the chosen target, checked.

    Raises
    ------
    MienError
    """
    chosen = settings(context)
    return find_target(chosen.target, need_keys=chosen.use_shape_keys)


def request(context, name: str) -> Request:
    """Check the target and note everything a bake needs.

    Parameters
    ----------
    context : bpy.types.Context
    name : str
        Name of a new action, unless the user gave one.
    """
    target = target_of(context)
    chosen = settings(context)
    options = BakeOptions(
        start_frame=chosen.start_frame,
        tolerance=chosen.tolerance,
        rotation_tolerance=chosen.rotation_tolerance,
        new_action=chosen.action_mode == "NEW",
        action_name=chosen.action_name.strip() or name,
        extend_range=chosen.extend_range,
        **channels_of(context.scene),
    )
    return Request(
        scene=context.scene.session_uid,
        mesh=target.mesh.session_uid,
        options=options,
        solving=solving_of(context.scene),
        others=tuple(mesh.session_uid for mesh in further_heads(context.scene)),
        sound=chosen.use_sound,
        sound_delay=chosen.sound_delay / 1000.0,
        markers=chosen.use_markers,
        triggers=worn_of(context.scene),
    )


def further_heads(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Return the meshes that follow the same face as the scene's target."""
    target = getattr(scene, SETTINGS).target
    meshes = dict.fromkeys(row.mesh for row in getattr(scene, LIVE_SETTINGS).targets)
    return [mesh for mesh in meshes if mesh not in (None, target)]


def heads_along(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Return the meshes with known shape keys that are seen, on the target's armature, and are no further heads yet."""
    target = getattr(scene, SETTINGS).target
    if target is None:
        return []
    there = further_heads(scene)
    return [mesh for mesh in seen_along(target, scene) if mesh not in there]


def next_head(context) -> bpy.types.Object | None:
    """Return the mesh that may be meant as the next further head, or None.

    The active object, if it has known shape keys, or else the first of `heads_along`.
    """
    mesh, there = context.object, (settings(context).target, *further_heads(context.scene))
    if mesh is not None and mesh.type == "MESH" and mesh not in there and mapping_of(mesh).channels:
        return mesh
    return next(iter(heads_along(context.scene)), None)


def channels_of(scene: bpy.types.Scene) -> dict:
    """Return what a scene bakes, as keywords of `BakeOptions`."""
    chosen = getattr(scene, SETTINGS)
    return {
        "shape_keys": chosen.use_shape_keys,
        "head": chosen.use_head,
        "jaw": chosen.use_jaw,
        "eyes": chosen.use_eyes,
        "neck_share": chosen.neck_share,
    }


def trigger_notices(scene: bpy.types.Scene, take: Take) -> list[str]:
    """Return what to tell about a scene's triggers that nothing in a take can set off."""
    if not getattr(scene, SETTINGS).use_triggers:
        return []
    return notices_of(troubles_of(scene, take.header.own))


def worn_of(scene: bpy.types.Scene) -> tuple[Trigger, ...]:
    """Return what labels set off in a scene's bakes."""
    return triggers_of(scene) if getattr(scene, SETTINGS).use_triggers else ()


def solving_of(scene: bpy.types.Scene) -> dict:
    """Return a scene's `SolveOptions`, as keywords: its module is imported when it is needed."""
    chosen = getattr(scene, SETTINGS)
    return {"smoothing": chosen.smoothing, "neutral": chosen.neutral, "level_head": chosen.level_head}


def prepare_capture(context) -> tuple[CaptureJob, bool]:
    """Return the capture of the chosen source, and whether its take is there already and as good as a new one.

    Raises
    ------
    MienError
    """
    source, fps = chosen_source(context)
    chosen = settings(context)
    actor = actor_path(context.scene)
    if actor is not None and not actor.is_file():
        actor = None  # nothing was learnt yet
    take = take_path(source, takes_folder(), fps, chosen.estimator, actor)
    job = CaptureJob(source, take, fps, chosen.estimator, actor, session.worker_command)
    return job, chosen.reuse_take and is_whole(take)


def bake_take(asked: Request, path: Path, source: Path | None = None) -> BakeSummary:
    """Bake a take as asked, with its sound, or that of what it was captured from.

    Parameters
    ----------
    asked : Request
    path : pathlib.Path
        The take.
    source : pathlib.Path, optional
        What it was captured from.

    Raises
    ------
    MienError
        The scene is then as it was.
    """
    from ..core.solve import hidden_spans

    scene = next((s for s in bpy.data.scenes if s.session_uid == asked.scene), None)
    mesh = next((o for o in bpy.data.objects if o.session_uid == asked.mesh), None)
    gone = [what for what, there in (("scene", scene), ("head", mesh)) if there is None]
    if gone:
        raise MienError(
            "target-gone",
            f"The {gone[0]} was deleted while the performance was captured.",
            f"The take is kept in {path}.",
        )
    target = find_target(mesh, need_keys=asked.options.shape_keys)
    # All of the take is read before anything is written.
    with Take(path) as take:
        options = placed(asked.options, take)
        along = options is not asked.options
        if along and _linked_action(target) is not None:
            options = dataclasses.replace(options, new_action=asked.options.new_action)
        performance = wear(solved(take, asked.solving), take, asked.triggers)
        hidden = hidden_spans(take)
        changes = markers.changes_in(take, hidden) if asked.markers else []
        unlabelled = takes.unlabelled_notice(take) if asked.markers or asked.triggers else []
        notices = [*take.losses, *takes.hidden_notice(hidden), *unlabelled, *trigger_notices(scene, take)]
    beside = [each.name for each in seen_along(mesh, scene) if each.session_uid not in asked.others]
    if beside and options.shape_keys:
        notices.append(f"{listed(beside)} could move along: add them under Further Heads")
    others, left_out = _others(asked, new_action=options.new_action)
    summary = bake_into_scene(scene, target, performance, options, others)
    if along and not options.new_action:
        notices = [*_along_timeline(summary), *notices]
    if summary.start < scene.frame_start:
        notices.append(f"The scene begins at frame {scene.frame_start}: what comes before is not seen. Set Start Frame")
    summary = dataclasses.replace(summary, notices=(*notices, *left_out, *summary.notices))
    chosen = getattr(scene, SETTINGS)
    if source is not None or not sound.names(chosen.take, path):
        chosen.origin = str(source or "")
    chosen.take = str(path)
    heard = heard_of(scene, path)
    if asked.sound and heard is not None:
        told = sound.place(scene, heard, options.start_frame, mesh, delay=asked.sound_delay, replace=options.new_action)
        summary = dataclasses.replace(summary, notices=(*summary.notices, *told))
    if asked.markers:
        shown_by = [each.mesh for each in (target, *others)]
        markers.mark(scene, changes, options.start_frame, summary.end, shown_by)
    for driver in (session.live, session.playback):
        if driver is not None:
            driver.cast.animation_changed()
    return summary


def _others(asked: Request, *, new_action: bool) -> tuple[list[Target], list[str]]:
    """Return the further heads of a bake, and what to tell about those that cannot take it."""
    meshes = {obj.session_uid: obj for obj in bpy.data.objects}
    found, notices = find_further(meshes[uid] for uid in asked.others if uid in meshes)
    targets = []
    for target in found:
        action = None if new_action else _linked_action(target)
        if action is None:
            targets.append(target)
        else:
            notices.append(f'{target.mesh.name} was left out: its action "{action.name}" is linked')
    return targets, notices


def _linked_action(target: Target) -> bpy.types.Action | None:
    """Return an action in use on a target that is another file's and takes no keys, or None."""
    owners = filter(None, (target.mesh.data.shape_keys, target.armature))
    return next((owner.animation_data.action for owner in owners if actions.is_linked(owner)), None)


def heard_of(scene: bpy.types.Scene, path: Path) -> Path | None:
    """Return the sound recorded with a take, or what its source is heard in; None where neither is known or there.

    Takes hold no paths, since they are handed on: the scene remembers the source from the bake.
    The take's own word tells whether another was chosen since.

    Raises
    ------
    MienError
    """
    origin = Path(bpy.path.abspath(getattr(scene, SETTINGS).origin))
    with Take(path) as take:
        mine = take.header.source == origin.name and "live" not in take.header.extra
    heard = takes.sound_of(path) or (heard_in(origin) if mine else None)
    return heard if heard is not None and heard.is_file() else None


def bake_file(operator: bpy.types.Operator, context, path: Path) -> set[str]:
    """Bake a take's file with the options as they are now; returns what the operator ends with.

    Raises
    ------
    MienError
    """
    with Take(path) as take:
        # A live take is named by its actor, its source after the camera.
        name = path.stem if take.header.extra.get("live") else Path(take.header.source).stem or path.stem
    return tell(operator, outcome_of(bake_take(request(context, name), path)))


def export_csv(
    operator: bpy.types.Operator, context, take: Path, path: Path, fps: float = 60.0, with_sound: bool = True
) -> set[str]:
    """Write a take as Live Link Face CSV, its sound beside it; returns what the operator ends with.

    Raises
    ------
    MienError
    """
    from ..core import livelink_csv

    performance = solve(take, solving_of(context.scene))
    try:
        rows = livelink_csv.export(performance, path, fps=fps)
        also = _export_sound(take, path) if with_sound else ""
    except OSError as error:
        raise MienError(
            "csv-not-written", f"{path} cannot be written: {error.strerror or error}.", "Choose another folder."
        ) from error
    operator.report({"INFO"}, f"{rows} rows written to {path}{also}")
    return {"FINISHED"}


def _export_sound(take: Path, path: Path) -> str:
    """Put the take's sound beside the file; returns what to tell."""
    heard, beside = takes.sound_of(take), sound_path(path)
    if heard is None or heard == beside:
        return ""
    if not beside.exists():
        shutil.copyfile(heard, beside)
    elif not filecmp.cmp(heard, beside, shallow=False):
        # Nobody was asked whether it may be replaced.
        return f", without the sound: there is another {beside.name}"
    return f", the sound to {beside.name}"


def named_after_take(context, last: str, ending: str) -> str:
    """Return a path named after the scene's take, in the folder of the last run.

    Blender keeps the whole path of that, whose name belongs to another take.
    """
    return os.path.join(os.path.dirname(last), Path(settings(context).take).stem + ending)


def take_moved(old: Path, new: Path) -> None:
    """Have whatever names a take, or its sound, name it where it is now."""
    sound.moved(sound_path(old), sound_path(new))
    heads = (obj for obj in bpy.data.objects if obj.type == "MESH")
    for chosen in (*(getattr(scene, SETTINGS) for scene in bpy.data.scenes), *map(head_settings, heads)):
        if chosen.take and sound.names(chosen.take, old):
            chosen.take = str(new)


def solve(path: Path, solving: dict) -> Performance:
    """Return the performance of a take's file; see `solved`.

    Raises
    ------
    MienError
    """
    with Take(path) as take:
        return solved(take, solving)


def solved(take: Take, solving: dict) -> Performance:
    """Return a take's performance."""
    from ..core.solve import SolveOptions, solve_take

    return solve_take(take, SolveOptions(**solving))


def placed(options: BakeOptions, take: Take) -> BakeOptions:
    """Return the options for a take: one recorded along the timeline goes where it was played, over what is there.

    It ended with the timeline, give or take a picture, so that lengthens no scene.
    """
    frame = take.header.extra.get("scene_frame")
    if not isinstance(frame, int | float) or not abs(frame) < 1e6:
        return options
    return dataclasses.replace(options, start_frame=frame, new_action=False, extend_range=False)


def _along_timeline(summary: BakeSummary) -> list[str]:
    held = ", ".join(f'"{name}"' for name in summary.actions)
    return [
        f"Recorded along the timeline: keys of frames {summary.start} to {summary.end} of {held} were replaced; "
        "Start Frame and Action do not apply"
    ]


def start_of(path: Path, scene: bpy.types.Scene) -> float:
    """Return the frame of a scene, not always a whole one, at which a bake would begin a take's file.

    Raises
    ------
    MienError
    """
    with Take(path) as take:
        return placed(BakeOptions(getattr(scene, SETTINGS).start_frame), take).start_frame


def tell(operator: bpy.types.Operator, outcome: session.Outcome) -> set[str]:
    """Tell what a bake gave in the panel and by Blender's own means; returns what the operator ends with."""
    session.outcome = outcome
    operator.report({"INFO"}, outcome.lines[0])
    redraw_panels()
    return {"FINISHED"}


def refuse(operator: bpy.types.Operator, error: MienError) -> set[str]:
    """Tell an error in the panel and by Blender's own means; returns what the operator ends with."""
    session.outcome = session.Outcome(error.lines, failed=True)
    operator.report({"ERROR"}, str(error))
    redraw_panels()
    return {"CANCELLED"}


def outcome_of(
    summary: BakeSummary, captured: CaptureSummary | None = None, notices: Sequence[str] = ()
) -> session.Outcome:
    """Return what the panel tells about a bake, and about the capture that went before."""
    saved = 1.0 - summary.keys_after / max(summary.keys_before, 1)
    lines = [
        f"Frames {summary.start} to {summary.end}, {summary.channels} channels",
        f"Face in {summary.found} of {summary.source_frames} pictures ({summary.found / summary.source_frames:.0%})",
        f"{summary.keys_before:,} keys, {summary.keys_after:,} kept ({saved:.0%} fewer)",
        *(["The source is cut or damaged: frames are missing"] if captured and captured.incomplete else []),
        *(captured.notices if captured else ()),
        *notices,
        *summary.notices,
    ]
    return session.Outcome(lines, baked=True)
