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
from .record import FRAME_DTYPE, Plain, pack, plain, unpack
from .take import APP
from .types import FrameResult
from .units import ESTIMATORS

VERSION = 1
MAGIC = b"Mien"

HEADER = struct.Struct("<4sHHII")
"""Magic, protocol version, kind, payload length, CRC-32 of the header before it and of the payload."""

JOB = struct.Struct("<I")

_UNSEALED = struct.Struct("<4sHHI")
# Two of the longest texts fit, whatever their characters take in JSON.
_MAX_JSON = 1 << 18
MAX_TEXT = 8192
MAX_LABEL = 64
"""Longest name of an actor's own expression, characters."""
MAX_ADDRESS = 64
"""Longest address of a machine, characters."""
_MAX_PATH = 4096
_MAX_NAME = 256
_MAX_JOB = 2**32 - 1

PICTURE_WIDTH, PICTURE_HEIGHT = 320, 320
"""Largest live picture, px."""

LIVE_STATES = ("loading", "opening", "live", "stalled", "lost", "stopped", "failed")

_LIVE = struct.Struct("<Idd")
_PICTURE = struct.Struct("<IHH")


def _whole(name: str, value: Any, high: int = 2**53) -> None:
    if type(value) is not int or not 0 <= value <= high:
        raise ValueError(f"{name} must be a whole number from 0 to {high}")


def _text(name: str, value: Any, longest: int = MAX_TEXT) -> None:
    if type(value) is not str or len(value) > longest:
        raise ValueError(f"{name} must be text of at most {longest} characters")


def _flag(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false")


def _number(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a number, 0 or more")


def _estimator(value: Any) -> None:
    if value not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}")


def _error(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, MienError):
        raise ValueError("error must be a MienError")
    for name, text in value.to_dict().items():
        _text(name, text)


def _dump_error(value: Any) -> Any:
    return value.to_dict() if isinstance(value, MienError) else value


def _load_error(value: Any) -> Any:
    return MienError.from_dict(value) if isinstance(value, dict) else value


def _load_names_or_error(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else _load_error(value)


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
        Absolute path of a video, an image sequence or a Live Link Face CSV.
    take : str
        Absolute path of the take to write.
    fps : float
        Rate of a sequence of pictures or of a CSV's timecode; 0 for the usual one, or the one that it
        shows. A video keeps its own timing.
    loop : float
        Play the source again and again until so many seconds of it were captured; 0 plays it once.
    estimator : str
        What gives the action units, one of `units.ESTIMATORS`.
    actor : str
        Absolute path of the file with the actor's own expressions; empty for none.
    """

    KIND: ClassVar[int] = 2
    job: int
    source: str
    take: str
    fps: float = 0.0
    loop: float = 0.0
    estimator: str = ESTIMATORS[0]
    actor: str = ""

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        # Half of the longest text, since an error about a path must fit into a message too.
        _text("source", self.source, _MAX_PATH)
        _text("take", self.take, _MAX_PATH)
        _number("fps", self.fps)
        _number("loop", self.loop)
        _estimator(self.estimator)
        _text("actor", self.actor, _MAX_PATH)


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
        _flag("incomplete", self.summary.incomplete)
        if type(self.summary.notices) is not tuple or len(self.summary.notices) > 8:
            raise ValueError("notices must be at most 8")
        for notice in self.summary.notices:
            _text("notice", notice)

    @staticmethod
    def _dump(value: Any) -> Any:
        return value.to_dict() if isinstance(value, CaptureSummary) else value

    @staticmethod
    def _load(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        data = {field.name: value[field.name] for field in dataclasses.fields(CaptureSummary)}
        if isinstance(data["notices"], list):
            data["notices"] = tuple(data["notices"])
        return CaptureSummary(**data)


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
        if self.error is None:
            raise ValueError("error must be a MienError")
        _error(self.error)

    _dump = staticmethod(_dump_error)
    _load = staticmethod(_load_error)


@dataclasses.dataclass(frozen=True, slots=True)
class Shutdown(_Json):
    """Cancel what runs and end."""

    KIND: ClassVar[int] = 8


@dataclasses.dataclass(frozen=True, slots=True)
class StartLive(_Json):
    """Follow a live source until StopLive; one at a time.

    Attributes
    ----------
    job : int
        The asker's number; the answers carry it.
    source : str
        ``"camera"``, ``"video"`` (a file in place of a camera) or ``"network"``.
    name : str
        The camera's name or number, the file's path, or the network format.
    width, height : int
        Wished size of the pictures; 0 leaves the camera's own.
    fps : float
        Wished rate; 0 leaves the camera's own.
    mirror : bool
        Exchange left and right.
    port : int
        UDP port to listen on; 0 for the format's own.
    lan : bool
        Listen beyond this machine, and let outputs leave it.
    host : str
        Address of a phone that has to be asked to send; empty for none.
    estimator : str
        What gives the action units, one of `units.ESTIMATORS`.
    """

    KIND: ClassVar[int] = 16
    job: int
    source: str
    name: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    mirror: bool = False
    port: int = 0
    lan: bool = False
    host: str = ""
    estimator: str = ESTIMATORS[0]

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if self.source not in ("camera", "video", "network"):
            raise ValueError("source must be 'camera', 'video' or 'network'")
        _text("name", self.name, _MAX_PATH)
        _whole("width", self.width, 2**15)
        _whole("height", self.height, 2**15)
        _number("fps", self.fps)
        _flag("mirror", self.mirror)
        _whole("port", self.port, 2**16 - 1)
        _flag("lan", self.lan)
        _text("host", self.host, MAX_ADDRESS)
        _estimator(self.estimator)


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """Where live results are sent to over UDP.

    Attributes
    ----------
    format : str
        ``"livelink"`` or ``"vmc"``.
    host : str
        IPv4 address in digits.
    port : int
    blends : str
        For VMC: ``"arkit"`` or ``"vrm"``.
    """

    format: str
    host: str
    port: int
    blends: str = "arkit"

    def __post_init__(self):
        if self.format not in ("livelink", "vmc"):
            raise ValueError("format must be 'livelink' or 'vmc'")
        _text("host", self.host, MAX_ADDRESS)
        _whole("port", self.port, 2**16 - 1)
        if self.blends not in ("arkit", "vrm"):
            raise ValueError("blends must be 'arkit' or 'vrm'")


@dataclasses.dataclass(frozen=True, slots=True)
class TuneLive(_Json):
    """How live results are made and shown; can come at any time and holds all settings.

    Attributes
    ----------
    job : int
    smoothing, neutral, level_head, prediction
        As in `core.solve.SolveOptions`.
    picture : int
        Width of the small pictures, px, at most `PICTURE_WIDTH`; 0 for none.
    outputs : tuple of Output
        At most 4.
    microphone : str or None
        Name of the microphone that takes are recorded with, empty for the system's default one;
        None for no sound.
    actor : str
        Absolute path of the file with the actor's own expressions; empty for none.
    """

    KIND: ClassVar[int] = 17
    job: int
    smoothing: float = 0.5
    neutral: str = "auto"
    level_head: bool = False
    prediction: float = 0.0
    picture: int = 0
    outputs: tuple[Output, ...] = ()
    microphone: str | None = None
    actor: str = ""

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if self.microphone is not None:
            _text("microphone", self.microphone, _MAX_NAME)
        _number("smoothing", self.smoothing)
        _number("prediction", self.prediction)
        if self.neutral not in ("auto", "none"):
            raise ValueError("neutral must be 'auto' or 'none'")
        _flag("level_head", self.level_head)
        _whole("picture", self.picture, PICTURE_WIDTH)
        if type(self.outputs) is not tuple or len(self.outputs) > 4:
            raise ValueError("outputs must be at most 4")
        if not all(isinstance(output, Output) for output in self.outputs):
            raise ValueError("outputs must be Output")
        _text("actor", self.actor, _MAX_PATH)

    @staticmethod
    def _dump(value: Any) -> Any:
        return [dataclasses.asdict(output) for output in value] if isinstance(value, tuple) else value

    @staticmethod
    def _load(value: Any) -> Any:
        return tuple(Output(**output) for output in value) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True, slots=True)
class StopLive(_Json):
    """End live capture; a recording is finished first. Answered by a LiveStatus ``"stopped"``."""

    KIND: ClassVar[int] = 18
    job: int

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)


@dataclasses.dataclass(frozen=True, slots=True)
class Record(_Json):
    """Write what is captured from now on into a take; answered by TakeStatus.

    Attributes
    ----------
    job : int
    take : str
        Absolute path; a file of that name is written over.
    scene_frame : float or None
        Where the scene's timeline stood at `since`, for a take that belongs to a place in it.
    scene_fps : float
        Frames per second at which the timeline plays from there on; 0 where it stands.
    since : float
        Moment on the shared clock, `clock.now`.
    """

    KIND: ClassVar[int] = 19
    job: int
    take: str
    scene_frame: float | None = None
    scene_fps: float = 0.0
    since: float = 0.0

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        _text("take", self.take, _MAX_PATH)
        if self.scene_frame is not None:
            _number("scene_frame", abs(self.scene_frame))
        _number("scene_fps", self.scene_fps)
        _number("since", self.since)


@dataclasses.dataclass(frozen=True, slots=True)
class EndTake(_Json):
    """Finish the take; pictures captured before still go into it."""

    KIND: ClassVar[int] = 20
    job: int

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)


@dataclasses.dataclass(frozen=True, slots=True)
class Calibrate(_Json):
    """Take the face of the next moments as neutral, or forget that."""

    KIND: ClassVar[int] = 21
    job: int
    clear: bool = False

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        _flag("clear", self.clear)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """One solved result, stamped on the clock that both processes share (`clock.now`).

    Attributes
    ----------
    job : int
    began : float
        When work on the picture began.
    solved : float
        When the result was ready; sent at once.
    record : ndarray of FRAME_DTYPE, shape (1,)
        The result; its ``time`` is the moment of capture.
    plain : Plain
        What a rig needs of it.
    """

    KIND: ClassVar[int] = 22
    LIMIT: ClassVar[int] = _LIVE.size + FRAME_DTYPE.itemsize
    job: int
    began: float
    solved: float
    record: np.ndarray
    plain: Plain = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        _number("began", self.began)
        _number("solved", self.solved)
        if self.record.dtype != FRAME_DTYPE or self.record.shape != (1,):
            raise ValueError("record must be a frame record")
        object.__setattr__(self, "plain", plain(self.record))

    @property
    def captured(self) -> float:
        """Moment of capture."""
        return self.plain.time

    @property
    def result(self) -> FrameResult:
        """The record as a `FrameResult`."""
        return unpack(self.record[0])

    def encode(self) -> bytes:
        return _LIVE.pack(self.job, self.began, self.solved) + self.record.tobytes()

    @classmethod
    def decode(cls, payload: memoryview) -> LiveFrame:
        if len(payload) != cls.LIMIT:
            raise ValueError(f"a live frame takes {cls.LIMIT} bytes, got {len(payload)}")
        return cls(*_LIVE.unpack_from(payload), np.frombuffer(payload, FRAME_DTYPE, 1, _LIVE.size))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LivePicture:
    """A small picture of what the camera sees, with box and landmarks drawn in.

    Attributes
    ----------
    job : int
    width, height : int
        At most `PICTURE_WIDTH` and `PICTURE_HEIGHT`.
    pixels : bytes
        RGBA, a byte each, the lowest row first, as Blender's images have them.
    """

    KIND: ClassVar[int] = 23
    LIMIT: ClassVar[int] = _PICTURE.size + PICTURE_WIDTH * PICTURE_HEIGHT * 4
    job: int
    width: int
    height: int
    pixels: bytes

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        _whole("width", self.width, PICTURE_WIDTH)
        _whole("height", self.height, PICTURE_HEIGHT)
        if len(self.pixels) != self.width * self.height * 4:
            raise ValueError("pixels must be width * height * 4 bytes")

    def encode(self) -> bytes:
        return _PICTURE.pack(self.job, self.width, self.height) + self.pixels

    @classmethod
    def decode(cls, payload: memoryview) -> LivePicture:
        if len(payload) < _PICTURE.size:
            raise ValueError("a picture needs its size")
        return cls(*_PICTURE.unpack_from(payload), payload[_PICTURE.size :])


@dataclasses.dataclass(frozen=True, slots=True)
class LiveStatus(_Json):
    """How live capture stands; sent on every change, and four times a second.

    Attributes
    ----------
    job : int
    state : str
        One of `LIVE_STATES`: ``"loading"`` (libraries, model), ``"opening"`` (the source),
        ``"live"``, ``"stalled"`` (open but silent), ``"lost"`` (tried again and again),
        ``"stopped"`` or ``"failed"`` (live capture ended).
    error : MienError or None
        Why, in words.
    source : str
        The source's name.
    width, height : int
        Size of its pictures.
    camera_fps, worker_fps : float
        Pictures given and results made per second, over the last two seconds.
    inference_ms : float
        Median time from picture to solved result, over the last 60.
    captured : int
        Pictures given. Each has one of the fates below, or its result was sent before this report: the sum
        is exact.
    dropped : int
        Pictures left out because a newer one was there.
    lost : int
        Pictures that a recording had no room for.
    waiting : int
        Pictures that wait while recording.
    unsent : int
        Results not sent because Blender had not read for long; takes have them.
    missed : int
        Pictures of a video whose moment had passed before they were read, or that a network sender counted
        and that never came; not among the captured.
    refused : int
        Network packets that were not what the format allows.
    neutral : str
        Calibration: ``""``, ``"running"``, ``"done"`` or ``"failed"`` (no face).
    """

    KIND: ClassVar[int] = 24
    job: int
    state: str
    error: MienError | None = None
    source: str = ""
    width: int = 0
    height: int = 0
    camera_fps: float = 0.0
    worker_fps: float = 0.0
    inference_ms: float = 0.0
    captured: int = 0
    missed: int = 0
    dropped: int = 0
    lost: int = 0
    waiting: int = 0
    unsent: int = 0
    refused: int = 0
    neutral: str = ""

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if self.state not in LIVE_STATES:
            raise ValueError("state must be one of LIVE_STATES")
        _error(self.error)
        _text("source", self.source)
        for name in ("width", "height", "captured", "missed", "dropped", "lost", "waiting", "unsent", "refused"):
            _whole(name, getattr(self, name))
        for name in ("camera_fps", "worker_fps", "inference_ms"):
            _number(name, getattr(self, name))
        if self.neutral not in ("", "running", "done", "failed"):
            raise ValueError("neutral must be '', 'running', 'done' or 'failed'")

    _dump = staticmethod(_dump_error)
    _load = staticmethod(_load_error)


@dataclasses.dataclass(frozen=True, slots=True)
class TakeStatus(_Json):
    """How a recording stands; sent when it starts and ends, and four times a second.

    Attributes
    ----------
    job : int
    take : str
    recording : bool
        False when the take is closed.
    frames, found : int
        Frames in the take, and those with a face.
    lost : int
        Pictures that found no room while the worker was behind, and are not in the take.
    duration : float
        Seconds from its first frame to its last.
    error : MienError or None
        Why it ended early; what was written is kept.
    sound : float
        Seconds of sound beside it, told when it is closed; 0 for none.
    sound_error : MienError or None
        Why the sound is missing or has a hole; the take has its frames all the same.
    """

    KIND: ClassVar[int] = 25
    job: int
    take: str
    recording: bool
    frames: int = 0
    found: int = 0
    lost: int = 0
    duration: float = 0.0
    error: MienError | None = None
    sound: float = 0.0
    sound_error: MienError | None = None

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        _text("take", self.take, _MAX_PATH)
        _flag("recording", self.recording)
        for name in ("frames", "found", "lost"):
            _whole(name, getattr(self, name))
        _number("duration", self.duration)
        _number("sound", self.sound)
        _error(self.error)
        _error(self.sound_error)

    _dump = staticmethod(_dump_error)
    _load = staticmethod(_load_error)


@dataclasses.dataclass(frozen=True, slots=True)
class PictureTaken(_Json):
    """The last LivePicture was taken; another may come.

    Pictures are large, and one that waits unread would hold up the frames behind it.
    """

    KIND: ClassVar[int] = 28
    job: int

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)


@dataclasses.dataclass(frozen=True, slots=True)
class LearnExpression(_Json):
    """Learn what the face shows from now on as an expression of the actor's own, or forget one; see Expressions.

    Attributes
    ----------
    job : int
    name : str
        ``"rest"`` is the actor's resting face, which the others are told apart from.
    seconds : float
        How long it is shown, 0.5 to 30.
    forget : bool
    """

    KIND: ClassVar[int] = 32
    job: int
    name: str
    seconds: float = 3.0
    forget: bool = False

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        _text("name", self.name, MAX_LABEL)
        _number("seconds", self.seconds)
        if not 0.5 <= self.seconds <= 30.0:
            raise ValueError("seconds must be 0.5 to 30")
        _flag("forget", self.forget)


@dataclasses.dataclass(frozen=True, slots=True)
class Expressions(_Json):
    """The actor's own expressions and what the face shows of them; sent on every change.

    Attributes
    ----------
    job : int
    names : tuple of str
        Expressions learnt, at most 64.
    knows_rest : bool
        Whether the actor's resting face was learnt.
    shown : str
        The one that the face shows just now; empty for none.
    learning : str
        The one of the last lesson.
    state : str
        How that lesson stands: ``""`` (there was none), ``"running"``, ``"done"`` or ``"failed"``.
    share : float
        0..1, how much of the lesson is over.
    error : MienError or None
        Why it failed, or why the actor's file cannot be used.
    """

    KIND: ClassVar[int] = 33
    job: int
    names: tuple[str, ...] = ()
    knows_rest: bool = False
    shown: str = ""
    learning: str = ""
    state: str = ""
    share: float = 0.0
    error: MienError | None = None

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if type(self.names) is not tuple or len(self.names) > 64:
            raise ValueError("names must be at most 64")
        for name in (*self.names, self.shown, self.learning):
            _text("name", name, MAX_LABEL)
        _flag("knows_rest", self.knows_rest)
        if self.state not in ("", "running", "done", "failed"):
            raise ValueError("state must be '', 'running', 'done' or 'failed'")
        _number("share", self.share)
        _error(self.error)

    _dump = staticmethod(_dump_error)
    _load = staticmethod(_load_names_or_error)


@dataclasses.dataclass(frozen=True, slots=True)
class ListCameras(_Json):
    """Ask for the cameras of this machine."""

    KIND: ClassVar[int] = 26


@dataclasses.dataclass(frozen=True, slots=True)
class Cameras(_Json):
    """The cameras of this machine.

    Attributes
    ----------
    cameras : tuple of tuple of str
        (id, name) of each, at most 64.
    """

    KIND: ClassVar[int] = 27
    cameras: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        if type(self.cameras) is not tuple or len(self.cameras) > 64:
            raise ValueError("cameras must be at most 64")
        for camera in self.cameras:
            if type(camera) is not tuple or len(camera) != 2:
                raise ValueError("cameras must be pairs of id and name")
            _text("id", camera[0], _MAX_NAME)
            _text("name", camera[1], _MAX_NAME)

    @staticmethod
    def _load(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return tuple(tuple(camera) if isinstance(camera, list) else camera for camera in value)


@dataclasses.dataclass(frozen=True, slots=True)
class ListMicrophones(_Json):
    """Ask for the microphones of this machine; none is opened for it."""

    KIND: ClassVar[int] = 29


@dataclasses.dataclass(frozen=True, slots=True)
class Microphones(_Json):
    """The microphones of this machine.

    Attributes
    ----------
    microphones : tuple of str
        Their names, at most 64.
    error : MienError or None
        Why there is none.
    """

    KIND: ClassVar[int] = 30
    microphones: tuple[str, ...] = ()
    error: MienError | None = None

    def __post_init__(self):
        if type(self.microphones) is not tuple or len(self.microphones) > 64:
            raise ValueError("microphones must be at most 64")
        for name in self.microphones:
            _text("name", name, _MAX_NAME)
        _error(self.error)

    _dump = staticmethod(_dump_error)
    _load = staticmethod(_load_names_or_error)


@dataclasses.dataclass(frozen=True, slots=True)
class SoundStatus(_Json):
    """How the microphone stands; sent ten times a second while it is switched on, and once when it is off again.

    Attributes
    ----------
    job : int
    state : str
        ``"off"``, ``"opening"``, ``"open"``, or ``"lost"`` (tried again every second).
    level : float
        Loudest sample since the last report, 0 to 1.
    error : MienError or None
        What is wrong, in words.
    """

    KIND: ClassVar[int] = 31
    job: int
    state: str = "off"
    level: float = 0.0
    error: MienError | None = None

    def __post_init__(self):
        _whole("job", self.job, _MAX_JOB)
        if self.state not in ("off", "opening", "open", "lost"):
            raise ValueError("state must be 'off', 'opening', 'open' or 'lost'")
        _number("level", self.level)
        _error(self.error)

    _dump = staticmethod(_dump_error)
    _load = staticmethod(_load_error)


KINDS = {
    cls.KIND: cls
    for cls in (
        *(Hello, StartCapture, Cancel, Progress, FrameMessage, Finished, Failed, Shutdown),
        *(StartLive, TuneLive, StopLive, Record, EndTake, Calibrate, LiveFrame, LivePicture, LiveStatus, TakeStatus),
        *(ListCameras, Cameras, PictureTaken, ListMicrophones, Microphones, SoundStatus, LearnExpression, Expressions),
    )
}

Message = (
    (Hello | StartCapture | Cancel | Progress | FrameMessage | Finished | Failed | Shutdown)
    | (StartLive | TuneLive | StopLive | Record | EndTake | Calibrate | LiveFrame | LivePicture | LiveStatus)
    | (TakeStatus | ListCameras | Cameras | PictureTaken | ListMicrophones | Microphones | SoundStatus)
    | (LearnExpression | Expressions)
)


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
