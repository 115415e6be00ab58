"""Where pictures come from."""

from __future__ import annotations

import os
from pathlib import Path

from .ahead import read_ahead
from .images import EXTENSIONS, ImageSequence, is_pattern
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
        See `VideoFile` and `ImageSequence`.
    """
    path = Path(path).expanduser()
    if path.is_dir() or path.suffix.lower() in EXTENSIONS or (is_pattern(path.name) and not path.exists()):
        return ImageSequence(path, fps)
    return VideoFile(path)
