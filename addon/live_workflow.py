"""What the operators of live capture do, apart from being operators."""

from __future__ import annotations

import functools
from pathlib import Path

import bpy

from ..core.errors import MienError
from ..core.files import actor_file
from ..core.protocol import PICTURE_WIDTH as LARGEST_PICTURE
from ..core.protocol import Output, StartLive, TakeStatus, TuneLive
from ..core.units import REST
from . import live, session, takes, workflow
from .ids import LIVE_SETTINGS, TAKE_LIST
from .live_properties import SIZES
from .preferences import allowed, takes_folder
from .preview import overlay
from .rig.puppet import Channels
from .triggers import Wearer, triggers_of

PICTURE_WIDTH = 256
"""Of the small picture, px: sharp in a sidebar of usual width, also on a dense screen."""

NOTICEABLY_LATE = 3.0
"""Frames by which the timeline may be behind the clock at the end of a take before it is told."""

_JOB = 1


def followed() -> bpy.types.Scene | None:
    """Return the scene whose settings the running session follows: the one that it was started in."""
    if not session.live_running():
        return None
    return next((scene for scene in bpy.data.scenes if scene.session_uid == session.live.scene), bpy.context.scene)


def settings(context):
    """Return the live settings: those that a running session follows, else of the context's scene."""
    return getattr(followed() or context.scene, LIVE_SETTINGS)


def lan_allowed() -> bool:
    """Whether ports may be opened to, and packets leave for, other machines."""
    return allowed("lan") and bpy.app.online_access


def order_of(context) -> StartLive:
    """Return the order for the chosen source.

    Raises
    ------
    MienError
        ``"source-none"`` or ``"online-access"``.
    """
    chosen = settings(context)
    if allowed("lan") and not bpy.app.online_access:
        raise MienError(
            "online-access",
            "Blender's online access is off, so Mien stays on this machine.",
            "Turn on Allow Online Access in Preferences > System, or turn off Local Network.",
        )
    more = {
        "mirror": chosen.mirror,
        "lan": lan_allowed(),
        "estimator": workflow.settings(context).estimator,
    }
    if chosen.source == "camera":
        width, height = SIZES[chosen.size]
        return StartLive(_JOB, "camera", chosen.camera.strip(), width, height, float(chosen.fps), **more)
    if chosen.source == "video":
        if not chosen.video.strip():
            raise MienError("source-none", "No video is chosen.", "Choose one that is to be played as a camera.")
        return StartLive(_JOB, "video", str(Path(bpy.path.abspath(chosen.video)).absolute()), **more)
    phone = chosen.phone.strip() if chosen.format == "ifacialmocap" else ""
    return StartLive(_JOB, "network", chosen.format, port=chosen.port, host=phone, **more)


def tuning_of(scene: bpy.types.Scene) -> TuneLive:
    """Return a scene's settings that may change while live."""
    chosen = getattr(scene, LIVE_SETTINGS)
    outputs = []
    if chosen.send_livelink:
        outputs.append(Output("livelink", chosen.livelink_host.strip(), chosen.livelink_port))
    if chosen.send_vmc:
        outputs.append(Output("vmc", chosen.vmc_host.strip(), chosen.vmc_port, chosen.vmc_blends))
    return TuneLive(
        _JOB,
        **workflow.solving_of(scene) | {"smoothing": chosen.smoothing},
        prediction=chosen.prediction / 1000.0,
        picture=picture_width(scene),
        outputs=tuple(outputs),
        microphone=chosen.microphone_name.strip() if allowed("microphone") else None,
        actor=str(workflow.actor_path(scene) or ""),
    )


def picture_width(scene: bpy.types.Scene) -> int:
    """Return the width of the small pictures, px; as large as they get where a preview shows them."""
    scenes = {scene, *(window.scene for window in bpy.context.window_manager.windows)}
    if overlay.running() and any(map(overlay.wants_camera, scenes)):
        return LARGEST_PICTURE
    return PICTURE_WIDTH if getattr(scene, LIVE_SETTINGS).show_picture and not bpy.app.background else 0


def tune() -> None:
    """Send changed settings to the worker, if one runs."""
    scene = followed()
    if scene is not None:
        session.live.tune(tuning_of(scene))
        session.live.wearer.change(triggers_of(scene))


def learn(context, *, rest: bool) -> None:
    """Learn what the actor shows from now on as the named expression, or as rest.

    Raises
    ------
    MienError
        ``"actor-none"``, ``"class-name-empty"`` or ``"class-name-rest"``.
    """
    chosen = settings(context)
    actor_file(chosen.actor)
    name = REST if rest else chosen.lesson.strip()
    if not name:
        raise MienError("class-name-empty", "The expression has no name.", "Type a name first.")
    if not rest and name.casefold() == REST:
        # Under that name the resting face is kept, which all others are told apart from.
        message = f'An expression cannot be called "{name}": that is the resting face.'
        raise MienError("class-name-rest", message, "Type another name, or press Record Rest.")
    session.live.learn(name, chosen.lesson_seconds)


def cast_of(context) -> live.Cast:
    """Return the chosen heads, ready to be driven.

    Raises
    ------
    MienError
    """
    common = workflow.settings(context)
    channels = Channels(
        shape_keys=common.use_shape_keys,
        head=common.use_head,
        jaw=common.use_jaw,
        eyes=common.use_eyes,
        neck_share=common.neck_share,
    )
    workflow.target_of(context)
    return live.make_cast([common.target, *workflow.further_heads(context.scene)], channels)


def start(context) -> None:
    """Begin a live session as chosen.

    Raises
    ------
    MienError
    """
    session_live = live.start(order_of(context), tuning_of(context.scene), cast_of(context))
    session_live.scene = context.scene.session_uid
    session_live.on_take = functools.partial(on_take, session_live)
    session_live.wearer = Wearer(triggers_of(context.scene))


def record(context, *, punch: bool) -> None:
    """Begin a take, at once for a punch, else after the countdown.

    Raises
    ------
    MienError
        ``"timeline-end"``, or why no take can be written.
    """
    chosen, scene = settings(context), context.scene
    placed = punch or chosen.play_timeline
    end = scene.frame_preview_end if scene.use_preview_range else scene.frame_end
    if placed and scene.frame_current_final >= end:
        # Blender's first step would jump back to the start.
        raise MienError("timeline-end", f"The timeline ends at frame {end}.", "Go to an earlier one, or move its end.")
    path = takes.new_path(takes_folder())
    if not placed:
        session.live.record(path, countdown=float(chosen.countdown))
        session.live.timeline = None
        return
    frame, fps = scene.frame_current_final, scene.render.fps / scene.render.fps_base
    session.live.record(path, frame, scene_fps=fps)
    session.live.timeline = live.Timeline(scene.session_uid, session.live.wanted, frame)
    play_timeline(context, True)


def end_take(context) -> None:
    """Finish the take."""
    timeline = along()
    if timeline is not None:
        timeline.end()
    session.live.end_take()
    if timeline is not None:
        play_timeline(context, False)


def along() -> live.Timeline | None:
    """Return the timeline along which a take is recorded now, if one is."""
    running = session.live
    return running.timeline if running is not None and running.running and running.recording else None


def follow_timeline(scene) -> None:
    """A frame is shown: a take along the timeline ends where that jumps back, as it does at its end."""
    timeline = along()
    if timeline is None or timeline.scene != scene.session_uid:
        return
    if scene.frame_current_final < timeline.reached:
        end_with_timeline()
    timeline.reached = max(timeline.reached, scene.frame_current_final)


def end_with_timeline() -> None:
    """The timeline stopped or jumped back: what the actor does from now on has no place in it."""
    timeline = along()
    if timeline is not None:
        timeline.end()
        timeline.ended = True
        session.live.end_take()


def play_timeline(context, on: bool) -> None:
    """Start or stop the timeline, where there is a window."""
    screen = context.screen
    if screen is not None and screen.is_animation_playing != on and not bpy.app.background:
        bpy.ops.screen.animation_play()


def on_take(running: live.Live, status: TakeStatus) -> None:
    """A take of a session, which may have ended since, was closed: tell how it went, and list it."""
    lines = [f"Take {Path(status.take).stem}: {status.frames} frames, {status.duration:.1f} s"]
    timeline = running.timeline
    if timeline is not None and timeline.ended:
        lines.append("It ended with the timeline")
    if timeline is not None and timeline.late > NOTICEABLY_LATE:
        lines.append(
            f"The timeline was {timeline.late:.0f} frames behind: keys will stand later than what was acted to"
        )
        lines.append("Choose Frame Dropping as the timeline's Sync, and record again")
    if status.lost:
        lines.append(f"{status.lost} pictures were lost: this machine is too slow for the camera's rate")
    if status.sound:
        lines.append(f"Sound: {status.sound:.1f} s")
    for error in filter(None, (status.error, status.sound_error)):
        lines += error.lines
    session.outcome = session.Outcome(lines, failed=status.error is not None)
    # This one alone: a folder of hundreds would hold the live session up.
    entry = takes.read(Path(status.take))
    known = getattr(bpy.context.window_manager, TAKE_LIST)
    if entry is not None and all(item.path != str(entry.path) for item in known.items):
        _add(known, entry)
        known.items.move(len(known.items) - 1, 0)
        known.active = 0


def refresh_takes() -> None:
    """Read the takes folder into the list."""
    known = getattr(bpy.context.window_manager, TAKE_LIST)
    active, row = active_take(), known.active
    known.items.clear()
    for entry in takes.scan(takes_folder()):
        _add(known, entry)
    # After a delete the one that follows, not the newest.
    known.active = max(min(row, len(known.items) - 1), 0)
    if active is not None:
        select_take(active)


def refresh_takes_soon() -> None:
    """Read the takes folder into the list in a moment."""
    if not bpy.app.timers.is_registered(refresh_takes):
        bpy.app.timers.register(refresh_takes, first_interval=0.1, persistent=True)


def _add(known, entry: takes.Entry) -> None:
    item = known.items.add()
    item.name = entry.path.stem
    item.path = str(entry.path)
    item.frames, item.duration, item.sound = entry.frames, entry.duration, entry.sound


def select_take(path: Path) -> None:
    """Make a take the active one in the list, if it is there."""
    known = getattr(bpy.context.window_manager, TAKE_LIST)
    paths = [item.path for item in known.items]
    if str(path) in paths:
        known.active = paths.index(str(path))


def take_moved(old: Path, new: Path) -> None:
    """Have whatever names a take name it where it is now, also after an undo, and list it so."""
    session.moved.append((old, new))
    workflow.take_moved(old, new)
    refresh_takes()


def name_takes_again() -> None:
    """Name the takes that were moved where they are now: an undo brought their old names back."""
    for old, new in session.moved:
        if not old.exists():  # else another take has the name by now
            workflow.take_moved(old, new)


def active_take() -> Path | None:
    """Return the path of the take that is chosen in the list."""
    known = getattr(bpy.context.window_manager, TAKE_LIST)
    return Path(known.items[known.active].path) if 0 <= known.active < len(known.items) else None


def play_take(context, path: Path) -> None:
    """Play a take on the chosen heads.

    Raises
    ------
    MienError
    """
    performance = workflow.solve(path, workflow.solving_of(context.scene))
    if not len(performance):
        raise MienError("performance-empty", "The take has no frames.", "It ended before the first picture came.")
    live.play(performance, cast_of(context), path.stem)
