"""Which paths name pictures, without a library that reads them: Blender's side asks, too."""

from __future__ import annotations

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


def is_sequence(path: Path) -> bool:
    """Whether a path names pictures, which carry no rate of their own, and not a video.

    A folder does, a picture, and a pattern (``face_####.png``), which ends as the pictures
    do; so a video may have any character in its name.
    """
    return os.path.isdir(path) or path.suffix.lower() in EXTENSIONS
