"""The receiving end: a UDP port as a source of results."""

from __future__ import annotations

import collections
import dataclasses
import errno
import ipaddress
import select
import socket
import statistics
import time
from collections.abc import Callable

import numpy as np

from ..action_units import from_arkit
from ..errors import MienError
from ..fusion import fuse
from ..types import FrameResult
from . import facecap, ifacialmocap, livelink, vmc
from .sample import REASONS, FaceSample, Refused, mirrored

FORMATS = {"livelink": livelink, "facecap": facecap, "vmc": vmc, "ifacialmocap": ifacialmocap}
"""Module of each format that can be received; each has `PORT` and `Decoder`."""

STALE_AFTER = 1.0
"""Seconds without a frame until the sender counts as gone."""

MAX_DRAIN = 1024
"""Datagrams read at one go: a flood may not hold up the caller. Over 15 s of one phone."""

RECEIVE_BUFFER = 1 << 20

RESTART = 0.25
"""Seconds by which a sender's clock may lag before that means a new start and not a late packet.

A network delays a packet by some frames at most, while pylivelinkface, on which many programs
are built, counts its clock in a sawtooth of 0.8 s.
"""

MAX_LATE = 3
"""Late packets in a row after which it is the clock that went back."""

NEW_PORTS = 8
"""Ports of one machine in a row, none of which came again, that mean one sender with a new port for every frame."""

STEPS = 32
"""Frames whose numbers tell in which steps a sender counts: by 2 at 30 frames a second under a timecode of 60."""

CLOCK_WINDOW = 120
"""Frames over which the least delayed one is sought."""

MAX_DELAY = 0.25
"""Seconds by which a network delays frames, at most for as many seconds; what lasts is the sender's clock."""


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkStats:
    """What a port has met so far.

    Attributes
    ----------
    received : int
        Datagrams read, of any kind.
    frames : int
        Results given.
    refused : dict
        Datagrams that were not what the format allows, by reason; reasons are `REASONS`.
    ignored : int
        Sound datagrams with nothing about a face.
    out_of_order : int
        Frames older than one already given; dropped.
    missed : int
        Frames that the sender numbered, in the steps in which it usually counts, and that never came.
    restarts : int
        Times the sender's clock jumped back.
    other_senders : int
        Datagrams of senders other than the one followed.
    errors : int
        Failures of the socket itself.
    """

    received: int
    frames: int
    refused: dict[str, int]
    ignored: int
    out_of_order: int
    missed: int
    restarts: int
    other_senders: int
    errors: int


class _Clock:
    """Puts a sender's time stamps on this machine's monotonic clock.

    The packet that was least delayed tells the difference between the clocks; every other
    one is dated by it, so that the network's jitter does not become jitter of the motion.
    Only the last `CLOCK_WINDOW` frames are asked, so that clocks may drift. A clock by which
    frames come later and later, as one that stands, stood, or counts frames at a wrong rate,
    is believed again when it kept time for as many; until then a frame's time is its arrival.
    """

    def __init__(self):
        self._offsets: collections.deque[float] = collections.deque(maxlen=CLOCK_WINDOW)
        self._late_since = np.inf
        self._doubted = False
        self._last = -np.inf

    def date(self, timecode: float | None, arrival: float) -> float:
        """Return the frame's time: strictly rising, and not after its arrival."""
        moment = arrival
        if timecode is not None:
            offset = arrival - timecode
            self._offsets.append(offset)
            late = offset - min(self._offsets) > MAX_DELAY
            # Frames that waited together come at one moment, however many they are.
            self._late_since = min(self._late_since, arrival) if late else np.inf
            if arrival - self._late_since > MAX_DELAY:
                self.forget()
                self._offsets.append(offset)
                self._doubted = True
            self._doubted &= len(self._offsets) < CLOCK_WINDOW
            if not self._doubted:
                moment = timecode + min(self._offsets)
        self._last = max(moment, self._last + 1e-6)
        return self._last

    def forget(self):
        """Match the clocks anew with the next frame."""
        self._offsets.clear()
        self._late_since = np.inf


def result_from(sample: FaceSample, index: int, time: float) -> FrameResult:
    """Complete a sample to a result: action units and expression units follow from the 52 weights.

    Parameters
    ----------
    sample : FaceSample
    index : int
    time : float
        Seconds, as in `FrameResult`.
    """
    if not sample.found:
        return FrameResult(index, time)
    action_units = from_arkit(sample.arkit)
    return FrameResult(
        index,
        time,
        found=True,
        confidence=1.0,
        head_rotation=np.array(sample.head_rotation),
        head_translation=np.array(sample.head_translation),
        eye_rotations=np.array(sample.eye_rotations),
        action_units=action_units,
        arkit=sample.arkit,
        units=fuse(action_units),
    )


def _bind(port: int, listen_lan: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            # Windows lets two programs share a port otherwise, and each would get half the packets.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        # Room for what arrives while the caller is busy; the system may give less.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind(("0.0.0.0" if listen_lan else "127.0.0.1", port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise MienError(
                "port-busy",
                f"UDP port {port} is in use by another program.",
                "Close that program, or set another port here and in the sending app.",
            ) from error
        if isinstance(error, PermissionError):
            raise MienError(
                "port-refused",
                f"This system does not let Mien listen on UDP port {port}.",
                "Set another port above 1023 here and in the sending app, or close the program that holds this one.",
            ) from error
        raise MienError(
            "network-failed",
            f"Cannot listen on UDP port {port}: {error.strerror or error}.",
            "Set another port here and in the sending app, or check that this machine's network is on.",
        ) from error
    return sock


class NetworkSource:
    """Results from a face capture app, over UDP; a context manager.

    No call blocks except `wait`. The first sender whose packet is sound is followed until it
    has been silent for `stale_after`; what others send meanwhile is counted and dropped. One that
    opens a new port for every frame is followed from port to port.

    Parameters
    ----------
    format : str
        A key of `FORMATS`.
    port : int, optional
        UDP port; the format's own if not given, 0 for any free one.
    listen_lan : bool
        Listen on all of the machine's addresses instead of on itself alone. Whoever calls
        with True has asked the user, and in Blender ``bpy.app.online_access``.
    mirror : bool
        Exchange left and right, so that the character acts as the actor's mirror.
    stale_after : float
        Seconds.
    clock : callable
        Monotonic time in seconds; `FrameResult.time` is on it.

    Attributes
    ----------
    name : str
        What to call the source to a person.
    address : tuple
        (host, port) that is listened on.
    subject : str
        What the followed sender calls itself; empty if it does not say.

    Raises
    ------
    MienError
        ``port-busy``, ``port-refused``, ``network-failed`` or ``format-unknown``.
    """

    def __init__(
        self,
        format: str = "livelink",
        port: int | None = None,
        *,
        listen_lan: bool = False,
        mirror: bool = False,
        stale_after: float = STALE_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ):
        if format not in FORMATS:
            known = ", ".join(FORMATS)
            raise MienError("format-unknown", f"Unknown network format {format!r}.", f"Use one of {known}.")
        self.format = format
        self._module = FORMATS[format]
        self._lan = listen_lan
        self._mirror = mirror
        self._stale_after = stale_after
        self._now = clock
        self._socket: socket.socket | None = _bind(self._module.PORT if port is None else port, listen_lan)
        self.address = self._socket.getsockname()
        self.name = f"{format}:{self.address[1]}"
        self.subject = ""
        self._sender: tuple | None = None
        self._ports: collections.deque[tuple] = collections.deque(maxlen=NEW_PORTS)
        self._decoder = self._module.Decoder()
        self._clock = _Clock()
        self._heard = -np.inf  # when the followed sender last sent a sound packet
        self._timecode: float | None = None
        self._frame: int | None = None
        self._steps: collections.deque[int] = collections.deque(maxlen=STEPS)
        self._late = 0
        self._index = 0
        self._refused = dict.fromkeys(REASONS, 0)
        self._counts = collections.Counter()
        self._arrivals: collections.deque[float] = collections.deque(maxlen=64)

    # --- what it knows

    @property
    def sender(self) -> str | None:
        """Address of the sender followed, ``"host:port"``; None before the first."""
        return None if self._sender is None else f"{self._sender[0]}:{self._sender[1]}"

    @property
    def state(self) -> str:
        """``"waiting"`` for a first sender, ``"live"``, ``"stale"`` when it fell silent, or ``"closed"``."""
        if self._socket is None:
            return "closed"
        if self._sender is None:
            return "waiting"
        return "live" if self.age <= self._stale_after else "stale"

    @property
    def age(self) -> float:
        """Seconds since the sender was last heard; infinite before the first time."""
        return self._now() - self._heard

    @property
    def timecode(self) -> float | None:
        """The sender's own clock at its last frame, seconds; None where it does not send one."""
        return self._timecode

    @property
    def fps(self) -> float:
        """Frames per second over the last second or so; 0 until known."""
        times = self._arrivals
        if len(times) < 2 or self.state != "live":
            return 0.0
        span = times[-1] - times[0]
        return (len(times) - 1) / span if span > 0.0 else 0.0

    @property
    def stats(self) -> NetworkStats:
        """Counts so far."""
        c = self._counts
        return NetworkStats(
            received=c["received"],
            frames=self._index,
            refused={reason: n for reason, n in self._refused.items() if n},
            ignored=c["ignored"],
            out_of_order=c["out_of_order"],
            missed=c["missed"],
            restarts=c["restarts"],
            other_senders=c["other_senders"],
            errors=c["errors"],
        )

    def fileno(self) -> int:
        """Make the source usable in `select`, beside the caller's other sockets."""
        return -1 if self._socket is None else self._socket.fileno()

    def hears(self, host: str, port: int) -> bool:
        """Whether what this machine sends to an address comes back to this port.

        Raises
        ------
        MienError
            As `check_address`.
        """
        host = str(check_address(host, self._lan))
        if port != self.address[1]:
            return False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((host, port))
            except OSError:
                return False
            # Nothing is sent: to an address of its own a machine would send from that one, or from 127.0.0.1.
            return probe.getsockname()[0] in (host, "127.0.0.1")

    # --- results

    def poll(self) -> list[FrameResult]:
        """Give every frame that has come, oldest first; for recording."""
        results: list[FrameResult] = []
        if self._socket is None:
            return results
        for _ in range(MAX_DRAIN):
            try:
                data, sender = self._socket.recvfrom(65535)
            except BlockingIOError:
                break
            except OSError:
                # Windows reports here that an earlier packet of ours met a closed port.
                self._counts["errors"] += 1
                continue
            self._counts["received"] += 1
            results += self._take(data, sender)
        return results

    def latest(self) -> FrameResult | None:
        """Give the newest frame that has come since the last call, or None; for live."""
        results = self.poll()
        return results[-1] if results else None

    def wait(self, timeout: float) -> list[FrameResult]:
        """Wait at most `timeout` seconds for a packet, then `poll`."""
        if self._socket is None:
            return []
        select.select([self._socket], [], [], timeout)
        return self.poll()

    def _take(self, data: bytes, sender: tuple) -> list[FrameResult]:
        now = self._now()
        silent = now - self._heard > self._stale_after
        moved = self._has_moved(sender) and not silent
        follow = sender == self._sender or moved
        if not follow and self._sender is not None and not silent:
            self._counts["other_senders"] += 1
            return []
        decoder = self._decoder if follow else self._module.Decoder()
        try:
            samples = decoder.feed(data)
        except Refused as refusal:
            self._refused[refusal.reason] += 1
            return []
        if samples is None:
            self._counts["ignored"] += 1
            return []
        if moved and any(sample.subject != self.subject for sample in samples):
            self._counts["other_senders"] += 1
            return []
        if not follow:  # its first packet is sound: from now on this is the one
            self._decoder = decoder
            self._frame = self._timecode = None
            self._steps.clear()
            self._ports.clear()
        self._sender = sender
        if not follow or silent:  # a paused program's clock stood, too
            self._clock.forget()
            self._arrivals.clear()
        self._heard = now
        return [result for sample in samples if (result := self._date(sample, now)) is not None]

    def _has_moved(self, sender: tuple) -> bool:
        """Whether the sender followed is one that opens a new port for every frame, and this is the next."""
        if self._sender is None or sender[0] != self._sender[0]:
            return False
        if not self._ports or sender != self._ports[-1]:
            if sender in self._ports:
                self._ports.clear()  # ports that come again are those of several programs
            self._ports.append(sender)
        return sender != self._sender and len(self._ports) == NEW_PORTS

    def _date(self, sample: FaceSample, now: float) -> FrameResult | None:
        if sample.timecode is not None and self._timecode is not None:
            lag = self._timecode - sample.timecode
            self._late = self._late + 1 if lag > 0.0 else 0
            if 0.0 < lag <= RESTART and self._late <= MAX_LATE:
                # Its moment has passed; times in a take only rise.
                self._counts["out_of_order"] += 1
                return None
            if lag > 0.0:
                self._counts["restarts"] += 1
                self._clock.forget()
                self._frame = None
                self._late = 0
        if sample.frame is not None and self._frame is not None:
            step = sample.frame - self._frame
            if 0 < step <= 3600:  # beyond a minute it is a clock that was set, not packets that were lost
                self._steps.append(step)
                self._counts["missed"] += max(step // statistics.median_low(self._steps) - 1, 0)
        self._timecode, self._frame, self.subject = sample.timecode, sample.frame, sample.subject
        self._arrivals.append(now)
        if self._mirror:
            sample = mirrored(sample)
        result = result_from(sample, self._index, self._clock.date(sample.timecode, now))
        self._index += 1
        return result

    # --- the rest

    def request(self, host: str) -> None:
        """Ask an iFacialMocap phone to send its frames here.

        Parameters
        ----------
        host : str
            The phone's address in digits; the app shows it.

        Raises
        ------
        MienError
            ``address-unknown``, ``network-not-allowed`` or ``format-unknown``.
        """
        if self.format != "ifacialmocap":
            raise MienError(
                "format-unknown",
                f"{self.format} senders are not asked; they are told the address.",
                "Type this machine's address and port into the sending program.",
            )
        check_address(host, self._lan)
        if self._socket is None:
            return
        try:
            self._socket.sendto(ifacialmocap.REQUEST, (host, ifacialmocap.PORT))
        except OSError:
            self._counts["errors"] += 1

    def close(self) -> None:
        """Let go of the port; closing twice is fine."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> NetworkSource:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def check_address(host: str, allow_lan: bool) -> ipaddress.IPv4Address:
    """Return an address to send to, if it is one and is allowed.

    Names are not looked up, as that can block for seconds.

    Raises
    ------
    MienError
        ``address-unknown`` or ``network-not-allowed``.
    """
    try:
        address = ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise MienError(
            "address-unknown", f"{host!r} is not an IPv4 address.", "Give it in digits, like 192.168.1.7."
        ) from None
    if address.is_multicast or address.is_unspecified or address == ipaddress.IPv4Address("255.255.255.255"):
        raise MienError(
            "address-unknown", f"{host} is not the address of one machine.", "Give the receiver's own address."
        )
    if not address.is_loopback and not allow_lan:
        raise MienError(
            "network-not-allowed",
            f"Sending to {host} leaves this machine, and that is not allowed.",
            "Stop, tick Local Network under Source or Send, and allow online access in Preferences > System.",
        )
    return address


def lan_address() -> str:
    """Return this machine's own address as others of the local network see it; ``""`` where it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses the way out alone: nothing is sent. The address is nobody's, kept for documentation.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
