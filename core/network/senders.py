"""The sending end: results out to Unreal and to VTuber programs, never waiting."""

from __future__ import annotations

import dataclasses
import datetime
import socket
import uuid

from ..types import FrameResult
from . import livelink, vmc
from .source import check_address


@dataclasses.dataclass(frozen=True, slots=True)
class SenderStats:
    """What a sender has done so far.

    Attributes
    ----------
    frames : int
        Results given to `send`.
    datagrams : int
        Handed to the system.
    errors : int
        Not taken by the system: no route, nobody listening here, no room.
    last_error : str
        The latest of them in the system's words.
    """

    frames: int
    datagrams: int
    errors: int
    last_error: str


class _Sender:
    """A UDP socket towards one address.

    Parameters
    ----------
    host : str
        IPv4 address in digits, or ``"localhost"``.
    port : int
    allow_lan : bool
        Whether `host` may be another machine. Whoever calls with True has asked the user,
        and in Blender ``bpy.app.online_access``.

    Raises
    ------
    MienError
        ``address-unknown`` or ``network-not-allowed``.
    """

    def __init__(self, host: str, port: int, allow_lan: bool):
        self._destination = (str(check_address(host, allow_lan)), port)
        self._socket: socket.socket | None = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._frames = self._datagrams = self._errors = 0
        self._last_error = ""

    def send(self, result: FrameResult) -> None:
        """Send one result at once; failures are counted, never raised."""
        if self._socket is None:
            return
        self._frames += 1
        for datagram in self._encode(result):
            try:
                self._socket.sendto(datagram, self._destination)
                self._datagrams += 1
            except OSError as error:
                # Animation goes on: a frame that could not leave is worthless a moment later.
                self._errors += 1
                self._last_error = error.strerror or type(error).__name__

    def _encode(self, result: FrameResult) -> list[bytes]:
        raise NotImplementedError

    @property
    def stats(self) -> SenderStats:
        """Counts so far."""
        return SenderStats(self._frames, self._datagrams, self._errors, self._last_error)

    def close(self) -> None:
        """Let go of the socket; closing twice is fine."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self):
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _seconds_of_day() -> float:
    now = datetime.datetime.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (now - midnight).total_seconds()


class LiveLinkFaceSender(_Sender):
    """Sends what Live Link Face sends; Unreal's Live Link lists it as a subject.

    Nothing is sent for frames without a face: the receiver keeps the last pose, as with the app.

    Parameters
    ----------
    host, port, allow_lan
        As in `VmcSender`.
    subject : str
        Name in Unreal's list.
    fps : int
        Rate of the time code. It counts from midnight, as the app's does.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = livelink.PORT,
        *,
        subject: str = "Mien",
        fps: int = 60,
        allow_lan: bool = False,
    ):
        super().__init__(host, port, allow_lan)
        self._subject = subject
        self._fps = fps
        self._device = str(uuid.uuid4()).upper()
        self._start: float | None = None

    def _encode(self, result: FrameResult) -> list[bytes]:
        if not result.found:
            return []
        if self._start is None:
            # Frames keep the spacing at which they were captured, whenever they are sent.
            self._start = _seconds_of_day() - result.time
        return [
            livelink.encode(
                result.arkit,
                result.head_rotation,
                result.eye_rotations,
                seconds=(self._start + result.time) % 86400.0,
                fps=self._fps,
                device=self._device,
                subject=self._subject,
            )
        ]


class VmcSender(_Sender):
    """A VMC performer: head, neck and eye bones, and blendshapes.

    Parameters
    ----------
    host : str
        IPv4 address in digits, or ``"localhost"``.
    port : int
        `vmc.PORT` for programs that draw, `vmc.PERFORMER_PORT` for those that mix.
    blends : str
        ``"arkit"`` or ``"vrm"``, as in `vmc.encode`.
    neck_share : float
        Part of the head's turn that the neck makes.
    allow_lan : bool
        Whether `host` may be another machine. Whoever calls with True has asked the user,
        and in Blender ``bpy.app.online_access``.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = vmc.PORT,
        *,
        blends: str = "arkit",
        neck_share: float = vmc.NECK_SHARE,
        allow_lan: bool = False,
    ):
        if blends not in ("arkit", "vrm"):
            raise ValueError(f"blends must be 'arkit' or 'vrm', got {blends!r}")
        super().__init__(host, port, allow_lan)
        self._blends = blends
        self._neck_share = neck_share
        self._start: float | None = None

    def _encode(self, result: FrameResult) -> list[bytes]:
        if self._start is None:
            self._start = result.time  # the protocol's clock is relative, and a float32 keeps small numbers best
        return vmc.encode(
            result.arkit,
            result.head_rotation,
            result.eye_rotations,
            seconds=result.time - self._start,
            blends=self._blends,
            neck_share=self._neck_share,
            tracking=result.found,
        )
