"""Renders a take through Mien Preview, to pictures or a film, without baking it first."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import bpy
import numpy as np

from ...core.errors import MienError
from ..bake import BakeOptions, plan
from ..ids import ENGINE
from ..rig.targets import Rig, find_target
from .heads import Sample

_NAME = re.compile(r'\["(.*)"\]\.')

_SCENE = "Mien Preview Render"


@dataclasses.dataclass
class _Playing:
    name: str
    start: int
    samples: list[Sample]
    scene: str


_playing: _Playing | None = None


def samples_of(performance, rig: Rig, fps: float, options: BakeOptions | None = None) -> list[Sample]:
    """Sample a performance once per frame, with the same values as a bake would give.

    Parameters
    ----------
    performance : core.solve.Performance
    rig : Rig
    fps : float
    options : BakeOptions, optional

    Returns
    -------
    list of Sample

    Raises
    ------
    MienError
        As `bake.plan`.
    """
    every = dataclasses.replace(options or BakeOptions(), tolerance=0.0, rotation_tolerance=0.0)
    bones = {name: dataclasses.replace(bone, mode="QUATERNION") for name, bone in rig.bones.items()}
    planned = plan(performance, dataclasses.replace(rig, bones=bones), every, fps)
    count = planned.end - planned.start + 1
    weights: dict[str, np.ndarray] = {}
    turns: dict[str, np.ndarray] = {}
    for channel in planned.channels:
        name = _NAME.search(channel.data_path).group(1)
        values = np.interp(np.arange(count), channel.keys.frames, channel.keys.values)
        if channel.data_path.startswith("key_blocks"):
            weights[name] = values
        else:
            turns.setdefault(name, np.zeros((count, 4)))[:, channel.index] = values
    return [
        Sample(
            {name: float(values[i]) for name, values in weights.items()},
            {name: tuple(map(float, values[i])) for name, values in turns.items()},
        )
        for i in range(count)
    ]


def at(frame: int) -> Mapping[str, Sample]:
    """Return the samples of a frame of the take that is being rendered; none while none is."""
    if _playing is None:
        return {}
    index = min(max(frame - _playing.start, 0), len(_playing.samples) - 1)
    return {_playing.name: _playing.samples[index]}


def begin(context, obj: bpy.types.Object, performance, path: Path, *, film: bool, options=None) -> str:
    """Set up a scene that renders a take, beside the one that is open.

    Parameters
    ----------
    context : bpy.types.Context
    obj : bpy.types.Object
        The head.
    performance : core.solve.Performance
    path : Path
        The film, or the pictures without their numbers.
    film : bool
        MP4 rather than PNG.
    options : BakeOptions, optional
        As for a bake.

    Returns
    -------
    str
        Name of the scene, for ``bpy.ops.render.render(animation=True, scene=...)``. `finish` takes it away.

    Raises
    ------
    MienError
        ``"preview-busy"``, ``"preview-camera"``, or as `bake.plan`.
    """
    global _playing
    if _playing is not None:
        raise MienError("preview-busy", "A take is being rendered already.", "Wait for it, or stop it with Esc.")
    if context.scene.camera is None:
        raise MienError("preview-camera", "The scene has no camera.", "Add one, or add the sample head, which has.")
    fps = context.scene.render.fps / context.scene.render.fps_base
    samples = samples_of(performance, find_target(obj, need_keys=False).rig, fps, options)
    scene = context.scene.copy()
    scene.name = _SCENE
    scene.frame_start, scene.frame_end, scene.frame_step = 1, len(samples), 1
    render = scene.render
    render.engine = ENGINE
    render.use_sequencer = render.use_compositing = False
    render.filepath = str(path)
    render.use_file_extension = True
    _set_format(render, film)
    _playing = _Playing(obj.name, 1, samples, scene.name)
    return scene.name


def _set_format(render, film: bool) -> None:
    chosen = render.image_settings
    if hasattr(chosen, "media_type"):  # from 5.0 on
        chosen.media_type = "VIDEO" if film else "IMAGE"
    chosen.file_format = "FFMPEG" if film else "PNG"
    if not film:
        chosen.color_mode = "RGBA"
        return
    render.ffmpeg.format = "MPEG4"
    render.ffmpeg.codec = "H264"
    render.ffmpeg.constant_rate_factor = "HIGH"
    render.ffmpeg.audio_codec = "NONE"
    # A film has even sides.
    render.resolution_x += render.resolution_x % 2
    render.resolution_y += render.resolution_y % 2


def finish() -> None:
    """Take away the scene of a take's render."""
    global _playing
    if _playing is None:
        return
    scene = bpy.data.scenes.get(_playing.scene)
    _playing = None
    if scene is not None:
        bpy.data.scenes.remove(scene)


def busy() -> bool:
    """Whether a take is being rendered."""
    return _playing is not None
