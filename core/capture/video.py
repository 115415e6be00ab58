"""Video files, through OpenCV's FFmpeg."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import containers
from ..errors import MienError
from ..opencv import cv2
from ..types import Frame

_FALLBACK_FPS = 30.0
_PLAUSIBLE_FPS = (1.0, 1000.0)  # raw streams claim 0, or their time base (90000)
_PLAUSIBLE_PIXELS = (0.1, 10.0)
_DAMAGE_PATIENCE = 64
"""Undecodable pictures in a row after which a file is given up."""

_ROTATE = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


class VideoFile:
    """A video file; see `Source` for its attributes.

    Pictures are upright, unmirrored and of square pixels, as players show them.
    Times are the file's own presentation times, so video of variable frame rate keeps its
    timing. Where a file has none or they stand still, pictures follow each other at the
    nominal rate.

    Parameters
    ----------
    path : path
        Any container and codec that OpenCV's FFmpeg reads.

    Raises
    ------
    MienError
        ``source-not-found``, ``source-unreadable``, ``source-empty``, ``video-truncated``,
        ``video-no-picture``, ``video-codec`` or ``not-a-video``.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)
        check_readable(self._path)
        self._capture = _open(self._path)
        self.name = self._path.name
        self.incomplete = False
        self.notices = ()
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and _PLAUSIBLE_FPS[0] <= fps <= _PLAUSIBLE_FPS[1] else 0.0
        self._contents = containers.read(self._path)
        with self._path.open("rb") as file:
            self._is_mp4 = containers.is_mp4(file.read(8))
        self.frame_count = self._count()
        # OpenCV's own rotation is off by default in some builds and on in others.
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._rotation = _ROTATE.get(int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360)
        width, height = self._unturned = self._unturned_size()
        turned = self._rotation in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE)
        self.size = (height, width) if turned else (width, height)
        self._used = False

    def __iter__(self) -> Iterator[Frame]:
        if self._used:  # seeking is inexact in many files; opening again is not
            self._capture.release()
            self._capture = _open(self._path)
            self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._used = True
        self.incomplete = False
        step = 1.0 / (self.fps or _FALLBACK_FPS)
        index, start, time, failures, lost = 0, 0.0, -step, 0, 0
        while True:
            if not self._capture.grab():
                failures += 1
                if failures > _DAMAGE_PATIENCE:  # at the end of the file each is at once
                    break
                continue
            # Read after grabbing, it is the time of the picture grabbed. Behind an edit list FFmpeg
            # gives the first picture a little less than 0, where it is shown at 0.
            stamp = max(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0, 0.0)
            ok, image = self._capture.retrieve()
            if not ok or image is None:
                failures += 1
                continue
            if index == 0:
                start = stamp
            time = _next_time(time, stamp - start, step)
            image = self._as_shown(image)
            self._expect(index, time)
            yield Frame(index, time, image)
            lost, failures = lost + failures, 0
            index += 1
        if index == 0:
            raise _codec_error(self._path, self._capture)
        # In a time-lapse the last picture is shown longer than any rate tells.
        self.incomplete = lost > 0 or not self._is_all(index, time, max(step, time / max(index - 1, 1)))

    def _unturned_size(self) -> tuple[int, int]:
        """Return width and height of the pictures before they are turned, their pixels made square."""
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        across, down = self._capture.get(cv2.CAP_PROP_SAR_NUM), self._capture.get(cv2.CAP_PROP_SAR_DEN)
        aspect = across / down if across > 0 and down > 0 else 1.0
        if not _PLAUSIBLE_PIXELS[0] <= aspect <= _PLAUSIBLE_PIXELS[1]:
            aspect = 1.0
        # Nothing is made smaller, so that no detail is lost.
        return round(width * max(aspect, 1.0)), round(height * max(1 / aspect, 1.0))

    def _as_shown(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a decoded picture as players show it, RGB."""
        if image.shape[1::-1] != self._unturned:
            image = cv2.resize(image, self._unturned, interpolation=cv2.INTER_LINEAR)
        if self._contents is not None and self._contents.mirrored:
            image = cv2.flip(image, 0)
        if self._rotation is not None:
            image = cv2.rotate(image, self._rotation)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)

    def _expect(self, index: int, time: float) -> None:
        """Count anew, where only time is told, by the pace of the pictures so far: the rate may vary."""
        told = self._contents
        if told is not None and told.pictures is None and told.seconds is not None and time > 1.0:
            self.frame_count = max(round(told.seconds * index / time), index + 1)

    def _count(self) -> int | None:
        """Return how many pictures there are: as the container counts them, else as FFmpeg estimates it.

        FFmpeg counts those too that an edit list leaves out, and estimates from the longest track.
        """
        told = self._contents or containers.Contents()
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT) if told.pictures is None else told.pictures
        if told.seconds is not None and self.fps:
            count = round(told.seconds * self.fps)
        return int(count) if math.isfinite(count) and 0 < count < 2**31 else None

    def _is_all(self, count: int, time: float, step: float) -> bool:
        """Whether `count` pictures, the last at `time`, are all that the file says it has."""
        told = self._contents
        if told is None:
            thought = self.frame_count or 0
            # Of an MP4 FFmpeg counts, too; else it estimates from duration and rate: go by time, and not closely.
            return count >= thought or (not self._is_mp4 and _reaches(time, thought * step, step))
        if told.pictures is not None:
            return count >= told.pictures
        if told.seconds is not None:
            return _reaches(time, told.seconds, step, closely=told.cut)
        return not told.cut

    def close(self) -> None:
        self._capture.release()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _reaches(time: float, end: float, step: float, closely: bool = False) -> bool:
    """Whether the last picture's time is that of a film which ends so; a picture may be shown longer than others."""
    return time + (2 * step if closely else max(1.0, 2 * step)) >= end


def _next_time(previous: float, stamp: float, step: float) -> float:
    """Return the next picture's time: its stamp where it moves on, else one nominal step."""
    return stamp if stamp > previous + 1e-6 else previous + step


def check_readable(path: Path) -> None:
    """Raise the `MienError` of a path that is not a file with something in it."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise MienError(
            "source-not-found", f"There is no file {path}.", "Check the path, or choose the file again."
        ) from None
    except OSError as error:
        raise MienError(
            "source-unreadable",
            f"{path} cannot be read: {error.strerror or error}.",
            "Check that you may read the file and that no other program holds it.",
        ) from error
    if empty:
        raise MienError("source-empty", f"{path.name} is empty.", "Copy or export the file again.")


def _open(path: Path) -> cv2.VideoCapture:
    # FFmpeg takes the cover of a record for a film of one picture.
    if _sniff(path)[0] == "audio":
        raise _why_not(path)
    with _name_in_utf8(path) as name:
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    if capture.isOpened():
        return capture
    capture.release()
    raise _why_not(path)


@contextlib.contextmanager
def _name_in_utf8(path: Path) -> Iterator[str]:
    """Yield a name under which OpenCV can open a file: it dies of others, as old drives and archives have them."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "video")
            try:
                link.symlink_to(path.absolute())
            except OSError as error:  # Windows asks for a right
                raise MienError(
                    "source-unreadable", f"The name {path.name!a} cannot be read.", "Rename the file."
                ) from error
            yield str(link)
    else:
        yield str(path.absolute())  # FFmpeg takes what stands before a colon at the beginning for a protocol


def _codec_error(path: Path, capture: cv2.VideoCapture) -> MienError:
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    name = code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")
    return MienError(
        "video-codec",
        f"No picture of {path.name} could be decoded{f' (codec {name})' if name.isprintable() and name else ''}.",
        "Convert it to MP4 with H.264 and try again.",
    )


def _why_not(path: Path) -> MienError:
    """Tell why FFmpeg did not open a file, from the file itself: OpenCV gives no reason."""
    kind, codec = _sniff(path)
    if kind == "cut":
        return MienError(
            "video-truncated",
            f"{path.name} is cut off: the index at its end is missing, so nothing in it can be read.",
            "Copy the file again, or have the camera or recorder close it properly.",
        )
    if kind == "audio":
        return MienError(
            "video-no-picture", f"{path.name} holds sound but no picture.", "Choose a file with a video track."
        )
    if kind == "video":
        return MienError(
            "video-codec",
            f"{path.name} uses a codec that cannot be read{f' ({codec})' if codec else ''}.",
            "Convert it to MP4 with H.264 and try again.",
        )
    return MienError(
        "not-a-video",
        f"{path.name} is not a video that can be read.",
        "Use MP4, MOV, MKV, WebM or AVI, or a folder of pictures.",
    )


_AUDIO_STARTS = (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"fLaC", b"#!AMR", b"FORM")
_OGG_VIDEO = (b"theora", b"BBCD", b"OVP80")
_MOST_INDEX = 1 << 24  # bytes


def _sniff(path: Path) -> tuple[str, str]:
    """Return what a file holds, ``"video"``, ``"audio"``, ``"cut"`` or ``""``, and its codec's four letters."""
    with path.open("rb") as file:
        start = file.read(4096)
    if containers.is_mp4(start):
        return _sniff_mp4(path)
    if start.startswith(b"OggS"):
        return ("video" if any(codec in start for codec in _OGG_VIDEO) else "audio"), ""
    if start.startswith(_AUDIO_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WAVE"):
        return "audio", ""
    if start.startswith(b"\x1a\x45\xdf\xa3") or (start[:4] == b"RIFF" and start[8:12] == b"AVI "):
        return "video", ""
    return "", ""


def _sniff_mp4(path: Path) -> tuple[str, str]:
    """Look into an MP4's index, ``moov``."""
    index = b""
    with path.open("rb") as file:
        for kind, begin, end in containers.boxes(file, path.stat().st_size):
            if kind == b"moov":
                file.seek(begin)
                index = file.read(min(end - begin, _MOST_INDEX))
                break
    if b"vide" in index:
        table = index.find(b"stsd", index.find(b"vide"))
        codec = index[table + 16 : table + 20].decode("ascii", "replace") if table >= 0 else ""
        return "video", codec if codec.isprintable() else ""
    if len(index) == _MOST_INDEX:  # pictures may be told of further on
        return "video", ""
    return ("audio", "") if b"soun" in index else ("cut", "")
