"""What a source's path names, without a library that reads it: Blender's side asks, too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2")
)
"""Lower-case suffixes that count as pictures."""

UNREAD = frozenset(
    (".exr", ".hdr", ".dpx", ".cin", ".tga", ".psd", ".sgi", ".rgb", ".rgba", ".bw", ".avif", ".heic", ".heif", ".dng")
)
"""Lower-case suffixes of pictures that are refused. FFmpeg opens some, as a video of one frame."""


_HEARD = (".wav", ".mov", ".mp4", ".m4v")
"""Lower-case suffixes of what a phone's recording is heard in, the first that is there."""


def is_sequence(path: Path) -> bool:
    """Whether a path names pictures, which carry no rate of their own, and not a video.

    A folder does, a picture, and a pattern (``face_####.png``), which ends as the pictures
    do; so a video may have any character in its name.
    """
    return os.path.isdir(path) or path.suffix.lower() in EXTENSIONS


def is_recording(path: Path) -> bool:
    """Whether a path names a face that an app recorded, a table without pictures (`livelink_csv`)."""
    return path.suffix.lower() == ".csv" and not os.path.isdir(path)


def heard_in(source: Path) -> Path | None:
    """Return the file that may hold a source's sound: a video itself, or what lies beside a recording by its name."""
    if is_sequence(source):
        return None
    if not is_recording(source):
        return source
    beside = {}
    with contextlib.suppress(OSError):
        beside = {path.suffix.lower(): path for path in source.parent.iterdir() if path.stem == source.stem}
    return next((beside[suffix] for suffix in _HEARD if suffix in beside), None)
