"""The wire between Blender and its worker: versioned, length-prefixed, checked messages.

A message is a 16-byte header (magic, version, kind, payload length, CRC-32) and a
payload: a JSON object for control, raw bytes for frames. ``docs/wire.md`` holds the byte
table. Whatever arrives is refused with a reason or becomes one of the dataclasses
below; nothing on the wire is ever executed or unpickled, and nothing can make a side
wait for, or hold, more than the kind's largest payload.

To add a message: a frozen dataclass with a free `KIND`, validation in ``__post_init__``
and, when it is not plain JSON, its own `encode` and `decode`; then its line in `KINDS`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import zlib
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import numpy as np

from .errors import MienError
from .jobs import CaptureSummary
from .record import FRAME_DTYPE, pack, unpack
from .take import APP
from .types import FrameResult

VERSION = 1
MAGIC = b"Mien"

HEADER = struct.Struct("<4sHHII")
"""Magic, protocol version, kind, payload length, CRC-32 of the header before it and of the payload."""

JOB = struct.Struct("<I")

_UNSEALED = struct.Struct("<4sHHI")
# Two of the longest texts fit, whatever their characters take in JSON.
_MAX_JSON = 1 << 18
MAX_TEXT = 8192
_MAX_PATH = 4096
_MAX_JOB = 2**32 - 1


def _whole(name: str, value: Any, high: int = 2**53) -> None:
    if type(value) is not int or not 0 <= value <= high:
        raise ValueError(f"{name} must be a whole number from 0 to {high}")


def _text(name: str, value: Any, longest: int = MAX_TEXT) -> None:
    if type(value) is not str or len(value) > longest:
        raise ValueError(f"{name} must be text of at most {longest} characters")


def _number(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a number, 0 or more")


_Self = TypeVar("_Self", bound="_Json")


class _Json:
    """A message whose payload is a JSON object of its fields.

    Fields that the receiver does not know are passed over, and fields with a default may
    be missing: so a message can gain a field without a new protocol version.
    """

    __slots__ = ()
    LIMIT: ClassVar[int] = _MAX_JSON

    def encode(self) -> bytes:
        data = {field.name: self._dump(getattr(self, field.name)) for field in dataclasses.fields(self)}
        # ASCII, so that file names which are not valid Unicode pass unharmed.
        return json.dumps(data, allow_nan=False).encode("ascii")

    @classmethod
    def decode(cls: type[_Self], payload: memoryview) -> _Self:
        data = json.loads(bytes(payload))
        if not isinstance(data, dict):
            raise ValueError("the payload must be a JSON object")
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: cls._load(data[name]) for name in names if name in data})

    @staticmethod
    def _dump(value: Any) -> Any:
        return value

    @staticmethod
    def _load(value: Any) -> Any:
        return value


@dataclasses.dataclass(frozen=True, slots=True)
class Hello(_Json):
    """First message of both sides; the worker's proves the token that its parent gave it.

    Attributes
    ----------
    token : str
        The parent's secret; empty in the parent's own Hello.
    app : str
        Program and version.
    record_size : int
        Bytes of the frame record; sides that disagree must not exchange frames.
    """

    KIND: ClassVar[int] = 1
    token: str = ""
    app: str = APP
    record_size: int = FRAME_DTYPE.itemsize

    def __post_init__(self):
        _text("token", self.token)
        _text("app", self.app)
        _whole("record_size", self.record_size)


@dataclasses.dataclass(frozen=True, slots=True)
class StartCapture(_Json):
    """Capture a file into a take.

    Attributes
    ----------
    job : int
        The asker's number for this job, from 1; the answers carry it.
    source : str
        Absolute path of a video or of an image sequence.
    take : str
        Absolute path of the take to write.
    fps : float
        Rate of a sequence of pictures; 0 for the usual one. A video keeps its own timing.
    loop : float
        Play the source again and again until so many seconds of it were captured; 0 plays it once.
    """

    KIND: ClassVar[int] = 2
    job: int
    source: str
    take: str
    fps: float = 0.0
    loop: float = 0.0

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        # Half of the longest text, since an error about a path must fit into a message too.
        _text("source", self.source, _MAX_PATH)
        _text("take", self.take, _MAX_PATH)
        _number("fps", self.fps)
        _number("loop", self.loop)


@dataclasses.dataclass(frozen=True, slots=True)
class Cancel(_Json):
    """Stop a job; it answers with Failed, code ``"cancelled"``, and leaves no take."""

    KIND: ClassVar[int] = 3
    job: int

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress(_Json):
    """How far a job is; at most ten a second.

    Attributes
    ----------
    job : int
    frame : int
        Frames done.
    total : int or None
        Frames in all, an estimate; None where unknown.
    found : int
        Frames with a face so far.
    seconds_left : float or None
        Estimate; None until there is one.
    stage : str
        ``"loading"`` (the libraries and the model) or ``"capturing"``.
    """

    KIND: ClassVar[int] = 4
    job: int
    frame: int = 0
    total: int | None = None
    found: int = 0
    seconds_left: float | None = None
    stage: str = "capturing"

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        _whole("frame", self.frame)
        _whole("found", self.found)
        if self.total is not None:
            _whole("total", self.total)
        if self.seconds_left is not None:
            _number("seconds_left", self.seconds_left)
        if self.stage not in ("loading", "capturing"):
            raise ValueError("stage must be 'loading' or 'capturing'")


@dataclasses.dataclass(frozen=True, slots=True)
class FrameMessage:
    """The newest result of a job: its number and the frame record.

    File jobs send the newest one beside each Progress, for a preview; the take has them all.
    """

    KIND: ClassVar[int] = 5
    LIMIT: ClassVar[int] = JOB.size + FRAME_DTYPE.itemsize
    job: int
    result: FrameResult

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if not isinstance(self.result, FrameResult):
            raise ValueError("result must be a FrameResult")

    def encode(self) -> bytes:
        return JOB.pack(self.job) + pack(self.result).tobytes()

    @classmethod
    def decode(cls, payload: memoryview) -> FrameMessage:
        if len(payload) != cls.LIMIT:
            raise ValueError(f"a frame takes {cls.LIMIT} bytes, got {len(payload)}")
        record = np.frombuffer(payload, FRAME_DTYPE, 1, JOB.size)[0]
        return cls(JOB.unpack_from(payload)[0], unpack(record))


@dataclasses.dataclass(frozen=True, slots=True)
class Finished(_Json):
    """A job is done and its take whole."""

    KIND: ClassVar[int] = 6
    job: int
    summary: CaptureSummary

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if not isinstance(self.summary, CaptureSummary):
            raise ValueError("summary must be a CaptureSummary")
        _whole("frames", self.summary.frames)
        _whole("found", self.summary.found)
        _number("duration", self.summary.duration)
        _number("seconds", self.summary.seconds)
        _text("take", self.summary.take)
        if type(self.summary.incomplete) is not bool:
            raise ValueError("incomplete must be true or false")

    @staticmethod
    def _dump(value: Any) -> Any:
        return value.to_dict() if isinstance(value, CaptureSummary) else value

    @staticmethod
    def _load(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return CaptureSummary(**{field.name: value[field.name] for field in dataclasses.fields(CaptureSummary)})


@dataclasses.dataclass(frozen=True, slots=True)
class Failed(_Json):
    """A job ended without a whole take, or (job 0) a message was refused.

    Codes beside those of the jobs: ``"internal"`` and the ``"wire-..."`` codes of `Refused`.
    """

    KIND: ClassVar[int] = 7
    job: int
    error: MienError

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if not isinstance(self.error, MienError):
            raise ValueError("error must be a MienError")
        for name, value in self.error.to_dict().items():
            _text(name, value)

    @staticmethod
    def _dump(value: Any) -> Any:
        return value.to_dict() if isinstance(value, MienError) else value

    @staticmethod
    def _load(value: Any) -> Any:
        return MienError.from_dict(value) if isinstance(value, dict) else value


@dataclasses.dataclass(frozen=True, slots=True)
class Shutdown(_Json):
    """Cancel what runs and end."""

    KIND: ClassVar[int] = 8


# 16 to 31 are kept for live capture: camera, recording, preview picture.
KINDS = {cls.KIND: cls for cls in (Hello, StartCapture, Cancel, Progress, FrameMessage, Finished, Failed, Shutdown)}

Message = Hello | StartCapture | Cancel | Progress | FrameMessage | Finished | Failed | Shutdown


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Something that arrived and was not accepted; never sent itself.

    Attributes
    ----------
    error : MienError
        ``"wire-magic"``, ``"wire-version"``, ``"wire-length"``, ``"wire-damaged"``
        (checksum), ``"wire-kind"`` (unknown, or not for this side) or ``"wire-content"``.
    fatal : bool
        Whether the place of the next message is lost, so that the connection must end.
    """

    error: MienError
    fatal: bool


def encode(message: Message) -> bytes:
    """Return a message's bytes.

    Raises
    ------
    ValueError
        If the payload is larger than its kind allows.
    """
    payload = message.encode()
    if len(payload) > message.LIMIT:
        raise ValueError(f"{type(message).__name__} takes at most {message.LIMIT} bytes, this one has {len(payload)}")
    head = _UNSEALED.pack(MAGIC, VERSION, message.KIND, len(payload))
    return b"".join((head, struct.pack("<I", zlib.crc32(payload, zlib.crc32(head))), payload))


class Decoder:
    """Cuts the bytes that arrive into messages.

    Never raises for what it is fed, and holds no more than one message.

    Parameters
    ----------
    accepts : iterable of message classes
        The kinds that this side listens to; all others are refused.
    """

    def __init__(self, accepts: Iterable[type]):
        self.accepts = frozenset(accepts)
        self.broken = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message | Refused]:
        """Take what arrived, in chunks of any size, and return what is whole.

        After a fatal `Refused` everything further is dropped.
        """
        if self.broken:
            return []
        self._buffer += data
        out: list[Message | Refused] = []
        at = 0
        while not self.broken:
            item, size = self._next(at)
            if item is None:
                break
            out.append(item)
            at += size
        del self._buffer[: len(self._buffer) if self.broken else at]
        return out

    def _next(self, at: int) -> tuple[Message | Refused | None, int]:
        start = bytes(self._buffer[at : at + HEADER.size])
        if not MAGIC.startswith(start[: len(MAGIC)]):
            return self._fatal("wire-magic", "What arrived does not speak Mien's protocol."), 0
        if len(start) < HEADER.size:
            return None, 0
        _magic, version, kind, length, crc = HEADER.unpack(start)
        if version != VERSION:
            return self._fatal(
                "wire-version",
                f"The other side speaks version {version} of Mien's protocol, this side version {VERSION}.",
                "Restart Blender, so that both come from the same Mien.",
            ), 0
        cls = KINDS.get(kind)
        # Measured before the payload is waited for, so that a lie about the length costs nothing.
        if length > (cls.LIMIT if cls else _MAX_JSON):
            return self._fatal("wire-length", f"A message of {length} bytes is too long for its kind {kind}."), 0
        end = at + HEADER.size + length
        if len(self._buffer) < end:
            return None, 0
        payload = bytes(self._buffer[at + HEADER.size : end])
        if zlib.crc32(payload, zlib.crc32(start[: _UNSEALED.size])) != crc:
            return self._fatal("wire-damaged", "A message arrived damaged."), 0
        return self._content(cls, kind, payload), HEADER.size + length

    def _content(self, cls: type | None, kind: int, payload: bytes) -> Message | Refused:
        if cls is None:
            return Refused(MienError("wire-kind", f"Messages of kind {kind} are not known here."), fatal=False)
        if cls not in self.accepts:
            return Refused(MienError("wire-kind", f"{cls.__name__} is not expected here."), fatal=False)
        try:
            return cls.decode(payload)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            return Refused(MienError("wire-content", f"{cls.__name__} was refused: {error}."), fatal=False)

    def _fatal(self, code: str, message: str, hint: str = "") -> Refused:
        self.broken = True
        return Refused(MienError(code, message, hint), fatal=True)
