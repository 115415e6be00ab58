"""What is going on in this run of Blender. Never saved, so no file opens as "running"."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import bpy

    from ..core.client import WorkerClient
    from ..core.protocol import LivePicture
    from .capturing import CaptureJob
    from .live import Live, Playback


@dataclasses.dataclass
class Outcome:
    """What the panel tells of what was done last.

    Attributes
    ----------
    lines : list of str
    failed : bool
    baked : bool
        Whether it is in the scene, so that an undo may take it away.
    """

    lines: list[str]
    failed: bool = False
    baked: bool = False


job: CaptureJob | None = None
"""The capture that runs."""

timer: bpy.types.Timer | None = None
"""What has the capture's operator look at it."""

outcome: Outcome | None = None

worker_command: list[str] | None = None
"""Another worker than Mien's own; for tests."""

live: Live | None = None
"""The live session, also when it ended by itself: its error is still to be read."""

playback: Playback | None = None
"""The take that plays on the rigs."""

lister: WorkerClient | None = None
"""The worker that was asked for the cameras or the microphones."""

cameras: list[tuple[str, str]] = []
"""(id, name) of the cameras, as told last."""

microphones: list[str] = []
"""Names of the microphones, as told last."""


class Retiring(Protocol):
    """A worker that was told to end."""

    def gone(self) -> bool:
        """Whether it has ended."""


retiring: list[Retiring] = []
"""Workers that were told to end and have not yet."""

picture_followers: list[Callable[[LivePicture | None], None]] = []
"""Called with each live picture, and with None when there is none any more."""

moved: list[tuple[Path, Path]] = []
"""Takes that were renamed or deleted, from where to where: an undo brings back their old names, not their files."""

previews: Any = None
"""Blender's collection of generated icons, where the live picture is kept."""


def running() -> bool:
    """Whether a capture is on, or has yet to be baked, since a render ends first."""
    return job is not None


def busy() -> bool:
    """Whether heads, and how they are driven, are in use."""
    return running() or live_running()


def live_running() -> bool:
    """Whether a live session is on."""
    return live is not None and live.running


def show_picture(picture: LivePicture) -> None:
    """Put a live picture where the panel finds it, and hand it to whoever else shows it."""
    global previews
    import bpy.utils.previews
    import numpy as np

    for follower in picture_followers:
        follower(picture)
    if previews is None:
        previews = bpy.utils.previews.new()
    preview = previews.get("live") or previews.new("live")
    size = (picture.width, picture.height)
    if tuple(preview.image_size) != size:
        preview.image_size = size
    # Four bytes a pixel read as one whole number is what Blender stores: no list, no copy per pixel.
    preview.image_pixels.foreach_set(np.frombuffer(picture.pixels, np.int32))


def picture_icon() -> int:
    """Return the icon number of the live picture; 0 where there is none."""
    return previews["live"].icon_id if previews is not None and "live" in previews else 0


def forget_picture() -> None:
    """Free the live picture, and have whoever else shows it let go of it."""
    global previews
    for follower in picture_followers:
        follower(None)
    if previews is not None:
        import bpy.utils.previews

        bpy.utils.previews.remove(previews)
        previews = None


def end_timer() -> None:
    """Have nothing look at the capture any more."""
    global timer
    if timer is not None:
        import bpy

        bpy.context.window_manager.event_timer_remove(timer)
        timer = None


def stop() -> None:
    """End what runs: another file is opened, or Mien is disabled."""
    global job, outcome, lister
    if job is not None:
        job.cancel()
    job = None
    end_timer()  # with Mien, Blender drops the operator without a word to it
    outcome = None
    moved.clear()
    from . import live as live_module

    live_module.stop()
    if lister is not None:
        lister.dismiss()
        retiring.append(lister)
        lister = None
