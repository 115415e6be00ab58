"""Puts the sound of a take on the sequencer, as lip reference.

Sample 0 of a take's sound is the moment of its first frame (see `core.wav`), so the strip
begins where the keys begin. In a video the sound may begin before the first picture, or
after it. Blender plays it from its own first sample, whatever the file says, so the strip
begins as much before the keys, or after them.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import bpy

from ..core import containers
from . import marks

MARK = "mien_sound_of"
"""Custom property of Mien's strips: the name of the head that speaks."""


def place(
    scene: bpy.types.Scene,
    path: Path,
    start: float,
    head: bpy.types.Object,
    *,
    delay: float = 0.0,
    replace: bool = True,
) -> list[str]:
    """Put a sound on the sequencer; one that is there already for this head is moved.

    Parameters
    ----------
    scene : bpy.types.Scene
    path : pathlib.Path
        A sound file, or a video; one without sound is passed over.
    start : float
        Scene frame of the first picture.
    head : bpy.types.Object
        The one that was baked.
    delay : float
        Seconds by which it comes later.
    replace : bool
        Mute the head's other sounds where they overlap: its performance was replaced as a whole.

    Returns
    -------
    list of str
        Sentences about what was done.
    """
    fps = scene.render.fps / scene.render.fps_base
    exact = start + (delay - containers.sound_lead(path)) * fps
    frame = math.floor(exact + 1e-6)
    had_editor = scene.sequence_editor is not None
    strips = strips_of(scene)
    mine = [strip for strip in strips if _speaks(strip, head)]
    strip = next((strip for strip in mine if strip.sound is not None and _is_file(strip.sound, path)), None)
    meta = next((meta for meta in strips if strip is None and _holds(meta, path, head)), None)
    if meta is not None:
        return [f'The sound stays where it is in the meta strip "{meta.name}"']
    if strip is not None and strip.lock:
        return [f'The sound stays where it is: the strip "{strip.name}", or its channel, is locked']
    channel = strip.channel if strip is not None else None
    if strip is None:
        strip, trouble = _new(strips, path, frame)
        if strip is None:
            if not had_editor:
                scene.sequence_editor_clear()
            return trouble
    name = marks.sign(head)
    for each in (*mine, strip):
        each[MARK] = name
    strip.mute = False
    _move(strip, frame)
    if hasattr(strip, "sound_offset"):
        # Strips begin on whole frames; the sound inside need not.
        strip.sound_offset = (exact - frame) / fps
    others = [other for other in mine if other != strip and _overlap(other, strip)]
    if replace:
        for other in others:
            other.mute = True
    strip.channel = _free_channel(scene, strip, channel)
    _show(scene)
    return [f"Sound on channel {strip.channel} of the sequencer"]


def moved(old: Path, new: Path) -> None:
    """Have the sounds of this file found where they are now."""
    for sound in bpy.data.sounds:
        if _is_file(sound, old):
            sound.filepath = str(new)


def strips_of(scene):
    return _strips_in(scene.sequence_editor or scene.sequence_editor_create())


def _strips_in(owner):
    # Blender 4.4 gave the collection its new name, 5.0 took the old one away.
    return owner.strips if hasattr(owner, "strips") else owner.sequences


def _new(strips, path: Path, frame: int):
    """Return a new strip; None where the file has no sound, and what to tell then."""
    known = set(bpy.data.sounds)
    top = max((strip.channel for strip in strips), default=0)
    try:
        strip = strips.new_sound(f"Mien {path.stem}", str(path), top + 1, frame)
    except RuntimeError as error:
        return None, [f"No sound: {str(error).strip().removeprefix('Error: ')}"]
    if strip.sound is not None and strip.sound.samplerate:
        return strip, []
    sound = strip.sound
    strips.remove(strip)
    if sound is not None and sound not in known and not sound.users:
        bpy.data.sounds.remove(sound)
    return None, []


def _speaks(strip, head: bpy.types.Object) -> bool:
    return strip.type == "SOUND" and marks.signed_by(strip.get(MARK, ""), head, strip.id_data)


def _holds(strip, path: Path, head: bpy.types.Object) -> bool:
    """Whether a head's sound was put into a meta strip."""
    if strip.type == "META":
        return any(_holds(each, path, head) for each in _strips_in(strip))
    return _speaks(strip, head) and strip.sound is not None and _is_file(strip.sound, path)


def _show(scene) -> None:
    """Have sequencers show the scene, where they show none: since Blender 5.0 each workspace chooses one."""
    workspace = bpy.context.workspace
    if workspace is not None and getattr(workspace, "sequencer_scene", scene) is None:
        workspace.sequencer_scene = scene


def names(told: str, path: Path, library: bpy.types.Library | None = None) -> bool:
    """Return whether a path as Blender's data tells it is that of a file."""
    theirs = bpy.path.abspath(told, library=library)
    return os.path.normcase(os.path.abspath(theirs)) == os.path.normcase(os.path.abspath(path))


def _is_file(sound, path: Path) -> bool:
    return names(sound.filepath, path, sound.library)


def _move(strip, frame: int) -> None:
    # Also where the strip was trimmed by hand: its content, not its visible beginning, is what has a time.
    setattr(strip, "content_start" if hasattr(strip, "content_start") else "frame_start", frame)


def _span(strip) -> tuple[float, float]:
    if hasattr(strip, "left_handle"):
        return strip.left_handle, strip.right_handle
    return strip.frame_final_start, strip.frame_final_end


def _overlap(one, other) -> bool:
    (begin, end), (other_begin, other_end) = _span(one), _span(other)
    return begin < other_end and other_begin < end


def _free_channel(scene, strip, chosen: int | None) -> int:
    """Return a channel with room for a strip: where there is any, the one that was chosen for it before."""
    taken = {other.channel for other in strips_of(scene) if other != strip and _overlap(other, strip)}
    if chosen is not None and chosen not in taken:
        return chosen
    taken |= {number for number, channel in enumerate(scene.sequence_editor.channels) if channel.mute or channel.lock}
    return next(channel for channel in range(1, len(taken) + 2) if channel not in taken)
