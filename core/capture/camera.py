"""Cameras, through OpenCV.

Opening and reading can block for seconds, so both happen on the worker's capture thread
(see `grabber`); nothing here is for Blender's process.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from ..clock import now
from ..errors import MienError
from ..opencv import cv2

DEVICES = Path("/sys/class/video4linux")
"""Where Linux lists cameras; tests put their own folder here."""

_PATIENCE = 10
"""Pictures in a row that may fail before a camera counts as gone: USB drops one now and then."""

_STALE = 1.0
"""Seconds; an older time stamp of the driver's is not believed."""

_BACKENDS = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_DSHOW}

_UNNAMED = 4
"""Cameras offered by number where the system does not tell their names."""


@dataclasses.dataclass(frozen=True, slots=True)
class CameraInfo:
    """A camera as it is offered to a person.

    Attributes
    ----------
    id : str
        What `Camera` takes: OpenCV's number of it.
    name : str
    """

    id: str
    name: str


def list_cameras() -> list[CameraInfo]:
    """Return the cameras of this machine; opens none of them.

    Linux and macOS tell names. On Windows only numbers are offered, and whether a camera
    is behind one shows when it is opened.
    """
    if sys.platform.startswith("linux"):
        return _list_linux()
    if sys.platform == "darwin":
        return _list_mac()
    return [CameraInfo(str(i), f"Camera {i}") for i in range(_UNNAMED)]


def _list_linux() -> list[CameraInfo]:
    found = []
    for folder in DEVICES.glob("video*"):
        try:
            name = (folder / "name").read_text(errors="replace").strip()
            # A camera has further nodes, for its metadata; only the first gives pictures.
            first = (folder / "index").read_text().strip() == "0"
        except OSError:  # unplugged meanwhile
            continue
        number = folder.name.removeprefix("video")
        if first and number.isdigit():
            found.append((int(number), name or folder.name))
    names = [name for _number, name in found]
    return [
        CameraInfo(str(number), name if names.count(name) == 1 else f"{name} (video{number})")
        for number, name in sorted(found)
    ]


def _list_mac() -> list[CameraInfo]:
    command = ["system_profiler", "-json", "SPCameraDataType"]
    try:
        told = subprocess.run(command, capture_output=True, timeout=10, check=True).stdout
        cameras = json.loads(told)["SPCameraDataType"]
        # OpenCV numbers AVFoundation's devices in the order of their unique ids.
        cameras.sort(key=lambda camera: camera.get("spcamera_unique-id", ""))
        return [CameraInfo(str(i), str(camera["_name"])) for i, camera in enumerate(cameras)]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return [CameraInfo(str(i), f"Camera {i}") for i in range(_UNNAMED)]


def open_device(number: int) -> cv2.VideoCapture:
    """Open OpenCV's device; the one place that touches the hardware, and what tests replace."""
    return cv2.VideoCapture(number, _BACKENDS.get(sys.platform, cv2.CAP_ANY))


class Camera:
    """An open camera.

    Parameters
    ----------
    which : str
        Its name, its number, or ``/dev/video2``; empty for the first camera.
    size : tuple of int
        Wished (width, height), px; the camera gives the nearest that it has. (0, 0) leaves its own.
    fps : float
        Wished pictures per second; 0 leaves the camera's own.
    mirror : bool
        Exchange left and right.

    Attributes
    ----------
    name : str
    size : tuple of int
        (width, height) that it gives.
    fps : float
        What it says it gives; 0 where it does not say.
    missed : int
        Always 0: drivers do not tell through OpenCV which pictures nobody fetched.

    Raises
    ------
    MienError
        ``camera-none``, ``camera-gone``, ``camera-refused`` or ``camera-busy``.
    """

    missed = 0

    def __init__(self, which: str = "", size: tuple[int, int] = (0, 0), fps: float = 0.0, mirror: bool = False):
        info = find_camera(which, list_cameras())
        self.name = info.name
        self._number = int(info.id)
        self._mirror = mirror
        self._device = open_device(self._number)
        if not self._device.isOpened():
            self._device.release()
            raise self._why_not()
        # Most webcams give more than a few pictures a second only as JPEG, and say so last.
        wishes = [(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))]
        if all(size):
            wishes += [(cv2.CAP_PROP_FRAME_WIDTH, size[0]), (cv2.CAP_PROP_FRAME_HEIGHT, size[1])]
        if fps:
            # V4L2 gives the rate that the format by then allows; DirectShow forgets the format for a rate.
            wishes.insert(0 if sys.platform == "win32" else len(wishes), (cv2.CAP_PROP_FPS, fps))
        # An older picture in a queue is lag.
        wishes.append((cv2.CAP_PROP_BUFFERSIZE, 1))
        for what, value in wishes:
            self._device.set(what, value)
        self.size = (
            int(self._device.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._device.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        told = self._device.get(cv2.CAP_PROP_FPS)
        self.fps = told if 1.0 <= told <= 1000.0 else 0.0

    def read(self) -> tuple[float, np.ndarray]:
        """Wait for the next picture.

        Returns
        -------
        time : float
            Moment of capture, on `clock.now`.
        image : ndarray of uint8, shape (H, W, 3)
            RGB.

        Raises
        ------
        MienError
            ``camera-gone``, ``camera-refused`` or ``camera-busy``: it gives no more pictures.
        """
        for _ in range(_PATIENCE):
            if not self._device.grab():
                continue
            time = now()
            stamp = self._device.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
            if 0.0 <= time - stamp < _STALE:
                time = stamp  # V4L2 dates by the same clock, when the picture began to arrive
            ok, image = self._device.retrieve()
            if sys.platform == "win32":
                time = now()  # DirectShow waits for the picture here, and not when it is grabbed
            if ok and image is not None:
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                return time, cv2.flip(image, 1) if self._mirror else image
        raise self._why_not()

    def close(self) -> None:
        """Let go of the camera; closing twice is fine."""
        self._device.release()

    def _why_not(self) -> MienError:
        """Tell from the system why there are no pictures: OpenCV gives no reason."""
        if sys.platform.startswith("linux"):
            path = Path(f"/dev/video{self._number}")
            try:
                os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EPERM):
                    return MienError(
                        "camera-refused",
                        f"{self.name} may not be used by you.",
                        "Join the group that owns it (often: video), then log in again.",
                    )
                if error.errno != errno.EBUSY:
                    return _gone(self.name)
        elif sys.platform == "darwin":
            return MienError(
                "camera-refused",
                f"{self.name} gives no pictures.",
                "Allow the camera under Privacy & Security for the program that Blender was started from: Blender "
                "itself cannot be allowed, so start it from the Terminal.",
            )
        elif sys.platform == "win32":
            return MienError(
                "camera-busy",
                f"{self.name} gives no pictures: it is not there, in use by another program, or not allowed.",
                "Close what uses it, choose another number, or let desktop apps access it in Windows's Settings > "
                "Privacy > Camera. Mien goes on as soon as it can.",
            )
        return MienError(
            "camera-busy",
            f"{self.name} gives no pictures; most likely another program uses it.",
            "Close video calls and browsers that use the camera. Mien goes on as soon as it is free.",
        )


def find_camera(which: str, cameras: list[CameraInfo]) -> CameraInfo:
    """Return the camera that a person named.

    Parameters
    ----------
    which : str
        As for `Camera`.
    cameras : list of CameraInfo

    Raises
    ------
    MienError
        ``camera-none`` or ``camera-gone``.
    """
    which = which.strip()
    for camera in cameras:
        if which in ("", camera.id, camera.name):
            return camera
    if not which:
        raise MienError("camera-none", "No camera is connected.", "Plug one in; Mien notices when it is there.")
    number = re.fullmatch(r"(?:/dev/video)?(\d{1,3})", which)
    if number is None:
        raise _gone(which)
    return next((camera for camera in cameras if camera.id == number[1]), CameraInfo(number[1], f"Camera {number[1]}"))


def _gone(name: str) -> MienError:
    return MienError(
        "camera-gone", f"{name} is not connected.", "Plug it in again. Mien goes on as soon as it is there."
    )
