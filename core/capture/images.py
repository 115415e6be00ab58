"""Pictures on disk as a source: a folder, a numbered sequence, one picture."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import MienError
from ..opencv import cv2
from ..pictures import EXTENSIONS
from ..types import Frame
from .video import check_readable

DEFAULT_FPS = 24.0
"""Pictures carry no rate; this is the one that Blender gives a new scene."""

_MAX_GAP = 100
"""A larger jump in the numbers ends a sequence given by its first picture: those are others of that name."""

_PATTERN = re.compile(r"%0?(\d*)d|#+")


def _natural(path: Path) -> tuple:
    """Sort key that puts 2 before 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return tuple(int(part) if part.isdecimal() else part for part in parts), path.name


class ImageSequence:
    """Pictures on disk; see `Source` for its attributes.

    Parameters
    ----------
    path : path
        A folder (every picture in it, in natural order), a pattern such as
        ``face_%04d.png`` or ``face_####.png``, or one picture: with a number at the end
        of its name it begins a sequence, else it is all there is.
    fps : float, optional
        Pictures per second, `DEFAULT_FPS` if not given. A number missing from a numbered
        sequence leaves its place in time empty.

    Raises
    ------
    MienError
        ``source-not-found``, ``source-unreadable``, ``source-empty``, ``no-pictures``,
        ``bad-fps``, ``picture-unreadable`` or ``picture-size``.
    """

    def __init__(self, path: str | os.PathLike, fps: float | None = None):
        fps = DEFAULT_FPS if fps is None else float(fps)
        if not (np.isfinite(fps) and fps > 0):
            raise MienError(
                "bad-fps", f"{fps:g} is no number of pictures per second.", "Give a rate above 0, such as 24."
            )
        path = Path(path)
        self.name = path.name
        self.fps = fps
        self.incomplete = False
        self._pictures, left_out = find_pictures(path)
        self.notices = (_told([path for _, path in self._pictures], left_out),) if left_out else ()
        self.frame_count = len(self._pictures)
        height, width = read_picture(self._pictures[0][1]).shape[:2]
        self.size = (width, height)

    def __iter__(self) -> Iterator[Frame]:
        for index, (number, path) in enumerate(self._pictures):
            image = read_picture(path)
            height, width = image.shape[:2]
            if (width, height) != self.size:
                raise MienError(
                    "picture-size",
                    f"{path.name} is {width} x {height}, the pictures before it are {self.size[0]} x {self.size[1]}.",
                    "Give pictures of one size, or put the others into a folder of their own.",
                )
            yield Frame(index, number / self.fps, image)

    def close(self) -> None:
        """Nothing stays open between pictures."""

    def __enter__(self) -> ImageSequence:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def find_pictures(path: Path) -> tuple[list[tuple[int, Path]], list[Path]]:
    """Return (place in time, file) of each picture that a path names, and those left out; see `ImageSequence`."""
    if path.is_dir():
        pictures = [entry for entry in _entries(path) if entry.suffix.lower() in EXTENSIONS]
        if not pictures:
            raise MienError(
                "no-pictures", f"There is no picture in {path}.", "Choose a folder of JPEG, PNG or TIFF pictures."
            )
        return list(enumerate(sorted(pictures, key=_natural))), []
    match = _PATTERN.search(path.name)
    if match is not None and not os.path.isfile(path):
        prefix, suffix = path.name[: match.start()], path.name[match.end() :]
        width = int(match[1] or 0) if match[0].startswith("%") else len(match[0])
        numbered = _numbered(path.parent, prefix, suffix, width)
        if not numbered:
            raise MienError(
                "no-pictures",
                f"No picture's name fits {path.name} in {path.parent}.",
                "Check the name; %04d or #### stands for the number.",
            )
        return _without_start(numbered), []
    check_readable(path)
    match = re.fullmatch(r"(.*?)(\d+)", path.stem)
    if match is None:
        return [(0, path)], []
    number, digits = int(match[2]), match[2]
    # Zero-padded numbers all have one width; others grow with the number.
    numbered = _numbered(path.parent, match[1], path.suffix, len(digits) if digits.startswith("0") else 0)
    following = [entry for entry in numbered if entry[0] >= number] or [(number, path)]
    numbers = [entry[0] for entry in following]
    jumps = (i for i in range(1, len(numbers)) if numbers[i] - numbers[i - 1] > _MAX_GAP)
    end = next(jumps, len(numbers))
    return _without_start(following[:end]), [entry[1] for entry in following[end:]]


def _entries(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_file()]
    except FileNotFoundError:
        raise MienError(
            "source-not-found", f"There is no folder {folder}.", "Check the path, or choose the folder again."
        ) from None
    except OSError as error:
        raise MienError(
            "source-unreadable",
            f"{folder} cannot be read: {error.strerror or error}.",
            "Check that you may read the folder.",
        ) from error


def _numbered(folder: Path, prefix: str, suffix: str, width: int) -> list[tuple[int, Path]]:
    """Return (number, file) in order of pictures named prefix, digits (at least `width` of them), suffix."""
    form = re.compile(re.escape(prefix) + rf"(\d{{{max(width, 1)},}})" + re.escape(suffix))
    found = {}
    for entry in _entries(folder):
        match = form.fullmatch(entry.name)
        if match and entry.suffix.lower() in EXTENSIONS:
            found.setdefault(int(match[1]), entry)
    return sorted(found.items())


def _without_start(numbered: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """Count numbers from the first."""
    return [(number - numbered[0][0], path) for number, path in numbered]


def _told(pictures: list[Path], left_out: list[Path]) -> str:
    first = pictures[0]
    pattern = re.sub(r"\d+$", lambda digits: "#" * len(digits[0]), first.stem) + first.suffix
    return (
        f"The pictures end with {pictures[-1].name}: {len(left_out)} of that name with much higher numbers, "
        f"from {left_out[0].name} on, are left out. To have all of that name, give {pattern}."
    )


def read_picture(path: Path) -> np.ndarray:
    """Return a picture, RGB uint8 (H, W, 3), turned as its EXIF says.

    Raises
    ------
    MienError
        ``picture-unreadable``, or what `check_readable` raises.
    """
    check_readable(path)
    # imread takes no non-ASCII path on Windows; imdecode has no path.
    data = np.fromfile(path, np.uint8)
    # Of WebP, OpenCV does not read the EXIF; should it learn to, nothing may be turned twice.
    is_webp = bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WEBP"
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if is_webp else 0)
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error:  # a picture of more than 2^30 pixels, by its own account
        image = None
    if image is None:
        raise MienError(
            "picture-unreadable",
            f"{path.name} is not a picture that can be read.",
            "Export it again as JPEG or PNG, or take it out of the sequence.",
        )
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return _turned(image, _webp_orientation(data.tobytes())) if is_webp else image


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an orientation of EXIF, 1 to 8."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _webp_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a WebP file; 1, upright, where none can be read."""
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            return _orientation(data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return 1


def _orientation(exif: bytes) -> int:
    """Return the orientation in EXIF, which is a TIFF without a picture."""
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for i in range(count):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", exif, at + 2 + 12 * i)
            if (tag, kind, values) == (0x0112, 3, 1) and 1 <= value <= 8:
                return value
    except struct.error:
        pass  # cut off
    return 1
