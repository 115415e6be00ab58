"""Takes in the preview without baking them: heads that play one, and its render to pictures or a film."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import bpy
import numpy as np

from ...core.errors import MienError
from ...core.take import Take
from .. import sound, workflow
from ..bake import BakeOptions, NothingToBake, plan
from ..ids import ENGINE
from ..rendering import literal, write_as
from ..rig.mapping import armature_of, mapping_of
from ..rig.targets import Rig, Target, find_target, without_shared
from ..triggers import Trigger, wear
from . import compose
from .heads import Sample
from .properties import head_settings
from .reading import armature_modifier, shape_keys

_NAME = re.compile(r'\["(.*)"\]\.')

_SCENE = "Mien Preview Render"


@dataclasses.dataclass
class _Playing:
    start: int
    count: int
    samples: dict[int, list[Sample]]
    scene: str
    begun: bool = False


_playing: _Playing | None = None


@dataclasses.dataclass
class _Taken:
    """What a head plays, as long as the take, the scene and the rig stay what they are.

    The rig, or why there is none, is looked at again where Blender evaluated one of its `parts` anew.
    """

    key: tuple = ()
    samples: list[Sample] = dataclasses.field(default_factory=list)
    trouble: str = ""
    rig: Rig | str = ""
    parts: frozenset[int] = frozenset()
    suspect: bool = True


_taken: dict[int, _Taken] = {}


def read_samples(path: Path, obj: bpy.types.Object, scene: bpy.types.Scene) -> list[Sample]:
    """Read a take as samples of a head, with what each frame expresses: the actor's own goes before the basic label.

    Parameters
    ----------
    path : Path
    obj : bpy.types.Object
    scene : bpy.types.Scene
        Whose bake they are the values of.

    Returns
    -------
    list of Sample

    Raises
    ------
    MienError
    """
    return next(iter(read_cast(path, [find_target(obj, need_keys=False)], scene).values()))


def read_cast(
    path: Path, targets: Sequence[Target], scene: bpy.types.Scene, start: float = 1
) -> dict[int, list[Sample]]:
    """Read a take as samples of every mesh that a bake of it would move.

    Parameters
    ----------
    path : Path
    targets : sequence of Target
        The head, and further ones that follow the same face.
    scene : bpy.types.Scene
        Whose bake they are the values of.
    start : float
        Scene frame of the take's time 0; samples are those of whole frames.

    Returns
    -------
    dict of int to list of Sample
        By the object's ``session_uid``, the head first: where files are linked, several have one name. All that has
        the shape keys of a target, or is on its armature, is there.

    Raises
    ------
    MienError
    """
    fps, solving, channels, triggers = _asked(scene)
    with Take(path) as take:
        performance = wear(workflow.solved(take, solving), take, triggers)
        own = take.column("own")
        labels = take.times, np.where(own == "", take.column("expression"), own)
    options = BakeOptions(start_frame=start, **channels)
    first, *others = without_shared(targets)
    samples = samples_of(performance, first.rig, fps, options, labels)
    played = [(first, samples)]
    for target in others:
        # A mesh without channels of its own is moved by what it shares.
        with contextlib.suppress(NothingToBake):
            played.append((target, samples_of(performance, target.rig, fps, options, labels)))
    moved = {target.mesh.data.shape_keys: each for target, each in played if target.rig.keys}
    turned = {target.armature: each for target, each in played if target.rig.bones}
    still = [Sample()] * len(samples)
    cast = {first.mesh.session_uid: samples}
    for obj in scene.objects:
        if obj.type != "MESH" or obj == first.mesh:
            continue
        modifier = armature_modifier(obj)
        shaped = moved.get(obj.data.shape_keys, still)
        posed = turned.get(modifier.object, still) if modifier is not None else still
        if shaped is not still or posed is not still:
            cast[obj.session_uid] = [
                Sample(shape.weights, pose.bones, face.label)
                for shape, pose, face in zip(shaped, posed, samples, strict=True)
            ]
    return cast


def _asked(scene: bpy.types.Scene) -> tuple[float, dict, dict, tuple[Trigger, ...]]:
    """Return all that a scene says about what a take becomes."""
    fps = scene.render.fps / scene.render.fps_base
    return fps, workflow.solving_of(scene), workflow.channels_of(scene), workflow.worn_of(scene)


def sample_of(obj: bpy.types.Object, scene: bpy.types.Scene, frame: int) -> Sample | None:
    """Return the sample of the take that a head plays, at a frame of the scene; None where it plays none."""
    chosen = head_settings(obj)
    if chosen.source != "TAKE" or not chosen.take:
        _taken.pop(obj.session_uid, None)
        return None
    path = Path(bpy.path.abspath(chosen.take))
    keys = tuple(key.name for key in shape_keys(obj))
    changed = path.stat().st_mtime if path.is_file() else 0.0
    taken = _taken.setdefault(obj.session_uid, _Taken())
    if taken.suspect:
        taken.rig, taken.parts, taken.suspect = _rig_of(obj), _parts_of(obj), False
    key = (str(path), changed, _asked(scene), keys, mapping_of(obj), taken.rig)
    if taken.key != key:
        taken.key, taken.samples, taken.trouble = key, [], ""
        try:
            taken.samples = read_samples(path, obj, scene)
        except MienError as error:
            taken.trouble = error.message
    if not taken.samples:
        return None
    return taken.samples[min(max(frame - chosen.start, 0), len(taken.samples) - 1)]


def _rig_of(obj: bpy.types.Object) -> Rig | str:
    try:
        return find_target(obj, need_keys=False).rig
    except MienError as error:
        return error.message


def _parts_of(obj: bpy.types.Object) -> frozenset[int]:
    """Return the ``session_uid`` of all that makes a head's rig."""
    armature = armature_of(obj)
    parts = (obj, obj.data, obj.data.shape_keys, armature, armature and armature.data)
    return frozenset(part.session_uid for part in parts if part is not None)


def note_changes(updates: Iterable[bpy.types.DepsgraphUpdate]) -> None:
    """Note of which heads that play a take something was evaluated anew."""
    if _taken:
        changed = {update.id.original.session_uid for update in updates}
        for taken in list(_taken.values()):  # a render adds to them from its own thread
            taken.suspect |= not changed.isdisjoint(taken.parts)


def trouble_of(obj: bpy.types.Object) -> str:
    """Return why a head cannot play its take; empty while it can."""
    taken = _taken.get(obj.session_uid)
    return taken.trouble if taken is not None else ""


def forget(uid: int | None = None) -> None:
    """Let go of the take that a head plays, or of all."""
    if uid is None:
        _taken.clear()
    else:
        _taken.pop(uid, None)


def samples_of(
    performance, rig: Rig, fps: float, options: BakeOptions | None = None, labels: tuple | None = None
) -> list[Sample]:
    """Sample a performance once per frame, with the same values as a bake would give.

    Parameters
    ----------
    performance : core.solve.Performance
    rig : Rig
    fps : float
    options : BakeOptions, optional
    labels : tuple of ndarray, optional
        Times in seconds, and the expression's label at each.

    Returns
    -------
    list of Sample

    Raises
    ------
    MienError
        As `bake.plan`.
    """
    every = dataclasses.replace(options or BakeOptions(), tolerance=0.0, rotation_tolerance=0.0)
    # Constraints do not act on these poses: eyes turn whatever they look at, and the neck takes the head along.
    bones = {role: dataclasses.replace(bone, mode="QUATERNION", aim=None) for role, bone in rig.bones.items()}
    planned = plan(performance, dataclasses.replace(rig, bones=bones, carried=1.0), every, fps)
    count = planned.end - planned.start + 1
    weights: dict[str, np.ndarray] = {}
    turns: dict[str, np.ndarray] = {}
    for channel in planned.channels:
        name = bpy.utils.unescape_identifier(_NAME.search(channel.data_path).group(1))
        values = np.interp(np.arange(count), channel.keys.frames, channel.keys.values)
        if channel.data_path.startswith("key_blocks"):
            weights[name] = values
        else:
            turns.setdefault(name, np.zeros((count, 4)))[:, channel.index] = values
    worn = np.full(count, "")
    if labels is not None and len(labels[0]):
        times, names = labels
        at_frames = (np.arange(count) + planned.start - every.start_frame) / fps
        worn = names[np.clip(np.searchsorted(times, at_frames + 1e-6, "right") - 1, 0, len(names) - 1)]
    return [
        Sample(
            {name: float(values[i]) for name, values in weights.items()},
            {name: tuple(map(float, values[i])) for name, values in turns.items()},
            str(worn[i]),
        )
        for i in range(count)
    ]


def at(frame: int) -> Mapping[int, Sample]:
    """Return the samples of a frame of the take that is being rendered, as `read_cast` has them; none while none is."""
    if _playing is None:
        return {}
    index = min(max(frame - _playing.start, 0), _playing.count - 1)
    return {uid: samples[index] for uid, samples in _playing.samples.items()}


def begin(
    context,
    obj: bpy.types.Object,
    cast: dict[int, list[Sample]],
    path: Path,
    *,
    film: bool,
    start: float = 1,
    heard: Path | None = None,
    delay: float = 0.0,
) -> str:
    """Set up a scene that renders a take, beside the one that is open.

    Parameters
    ----------
    context : bpy.types.Context
    obj : bpy.types.Object
        The head.
    cast : dict of int to list of Sample
        One per frame for all that moves; see `read_cast`.
    path : Path
        The film, or the pictures without their numbers.
    film : bool
        MP4 rather than PNG.
    start : float
        Scene frame of the take's time 0; the first sample is that of the frame next to it. Of what comes before
        frame 0 Blender renders nothing.
    heard : Path, optional
        The take's sound, or its video, for the film.
    delay : float
        Seconds by which the sound comes later.

    Returns
    -------
    str
        Name of the scene, for ``bpy.ops.render.render(animation=True, scene=...)``. `finish` takes it away.

    Raises
    ------
    MienError
        ``"preview-busy"``, ``"preview-camera"``, ``"preview-layer"`` or ``"preview-film"``.
    """
    global _playing
    if _playing is not None:
        raise MienError("preview-busy", "A take is being rendered already.", "Wait for it, or stop it with Esc.")
    if context.scene.camera is None:
        raise MienError("preview-camera", "The scene has no camera.", "Add one, or add the sample head, which has.")
    if not any(layer.use for layer in context.scene.view_layers):
        raise MienError(
            "preview-layer",
            "No view layer of the scene is rendered.",
            "Turn on Use for Rendering in the View Layer tab of the properties.",
        )
    if film:
        _check_film(path)
    scene = context.scene.copy()
    scene.name = _SCENE
    first, count = round(start), len(cast[obj.session_uid])
    scene.frame_start, scene.frame_end, scene.frame_step = first, first + count - 1, 1
    render = scene.render
    render.engine = ENGINE
    render.filepath = literal(path)
    render.use_file_extension = render.use_overwrite = True
    render.use_placeholder = render.use_multiview = False
    _set_format(render, film)
    # What is cut in the scene itself belongs to its own pictures.
    scene.sequence_editor_clear()
    if film and heard is not None:
        sound.place(scene, heard, start, obj, delay=delay)
    if scene.sequence_editor is not None:  # a video may have no sound
        render.ffmpeg.audio_codec = "AAC"
        render.use_sequencer = True  # unasked Blender mixes no sound; one alone leaves the pictures to the scene
    _playing = _Playing(first, count, cast, scene.name)
    return scene.name


def _check_film(path: Path) -> None:
    """Open a film for writing, without a change to it: where Blender cannot, it says so only after all is set up."""
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise MienError(
            "preview-film",
            f"{path} cannot be written: {error.strerror or error}.",
            "Close the film where it is open, or choose another name or folder.",
        ) from error
    if new:
        with contextlib.suppress(OSError):  # a virus scanner has it: the film will replace it
            path.unlink()


def _set_format(render, film: bool) -> None:
    write_as(render, "FFMPEG" if film else "PNG")
    render.image_settings.color_mode = "RGB" if film else "RGBA"
    if not film:
        return
    render.ffmpeg.format = "MPEG4"
    render.ffmpeg.codec = "H264"
    render.ffmpeg.constant_rate_factor = "HIGH"
    render.ffmpeg.audio_codec = "NONE"
    # A film has even sides.
    for side in ("resolution_x", "resolution_y"):
        pixels = getattr(render, side) * render.resolution_percentage // 100
        setattr(render, side, pixels + pixels % 2)
    render.resolution_percentage = 100
    if render.use_border and render.use_crop_to_border:
        _make_region_even(render)


def _make_region_even(render) -> None:
    """Widen a Render Region of odd sides by a pixel, within the picture."""
    width, height = render.resolution_x, render.resolution_y
    left, low, right, high = compose.render_border(render, width, height)
    for axis, first, last, side in (("x", left, right, width), ("y", low, high, height)):
        if (last - first) % 2:
            # To the middle of a pixel, where nothing rounds it elsewhere; an even picture has room on one side.
            setattr(render, f"border_max_{axis}", (min(last + 1, side) + 0.5) / side)
            setattr(render, f"border_min_{axis}", (first - (last == side) + 0.5) / side)


def note_begun(scene: bpy.types.Scene) -> None:
    """Note that Blender has begun to render a scene: the job may wait for another one first."""
    if _playing is not None and scene.name == _playing.scene:
        _playing.begun = True


def look_for_end() -> float | None:
    """Finish once Blender's render job has ended; for a timer, since Blender does not tell every end."""
    if _playing is not None and (not _playing.begun or bpy.app.is_job_running("RENDER")):
        return 0.5
    finish()
    return None


def finish() -> None:
    """Take away the scene of a take's render."""
    global _playing
    if _playing is None:
        return
    scene = bpy.data.scenes.get(_playing.scene)
    _playing = None
    if scene is not None:
        _remove(scene)


def sweep() -> None:
    """Take away the scenes that a file, or a step of undo, brings along which was made while a take was rendered."""
    for scene in list(bpy.data.scenes):
        if re.fullmatch(rf"{_SCENE}(\.\d+)?", scene.name) and len(bpy.data.scenes) > 1:
            _remove(scene)


def _remove(scene: bpy.types.Scene) -> None:
    """Remove a scene and the sounds that are heard in it alone; a window that shows it turns to another."""
    for window in bpy.context.window_manager.windows:
        if window.scene == scene:
            window.scene = next(other for other in bpy.data.scenes if other != scene)
    heard = [strip.sound for strip in sound.strips_of(scene) if strip.type == "SOUND"]
    bpy.data.scenes.remove(scene)
    for one in heard:
        if not one.users:
            bpy.data.sounds.remove(one)


def share_done(frame: int) -> float:
    """Return how much of the take's render is done with a frame of it, 0..1; 1 where no take is rendered."""
    if _playing is None:
        return 1.0
    return min(max((frame - _playing.start + 1) / _playing.count, 0.0), 1.0)


def busy() -> bool:
    """Whether a take is being rendered."""
    return _playing is not None
