"""Where pictures come from."""

from __future__ import annotations

import os

from ..errors import MienError
from ..files import from_home
from ..pictures import UNREAD, is_recording, is_sequence
from .ahead import read_ahead
from .images import ImageSequence
from .source import Source
from .video import VideoFile

__all__ = ["ImageSequence", "Source", "VideoFile", "open_source", "read_ahead"]


def open_source(path: str | os.PathLike, fps: float | None = None) -> Source:
    """Open what a path names.

    Parameters
    ----------
    path : path
        A video file, a folder of pictures, a pattern (``face_%04d.png``, ``face_####.png``)
        or a picture, the first of a numbered sequence if its name ends in a number.
    fps : float, optional
        Rate of a sequence of pictures; a video keeps its own timing.

    Raises
    ------
    MienError
        ``picture-format`` or ``no-pictures``, and see `VideoFile` and `ImageSequence`.
    """
    path = from_home(path)
    if is_sequence(path):
        return ImageSequence(path, fps)
    if path.suffix.lower() in UNREAD:
        raise MienError(
            "picture-format",
            f"{path.name} is a picture of a kind that Mien does not read ({path.suffix[1:].upper()}).",
            "Export the pictures as PNG or JPEG.",
        )
    if is_recording(path):
        raise MienError(
            "no-pictures",
            f"{path.name} is a table and holds no pictures.",
            "Choose a video; a CSV of Live Link Face can only be captured and baked.",
        )
    return VideoFile(path)
