"""The take: a recording on disk, one fixed-size record a frame.

A take can be cut at any byte, by a crash, a kill or a full disk, and every whole frame
before the cut is still readable: each record is one unbuffered write, carries its own
CRC, and nothing is written at the end. ``docs/take-format.md`` holds the byte table.

The file is read in pieces, never mapped into memory: a mapped file that shrinks, or a
network drive that goes away, kills the process that reads it, which would be Blender.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import datetime
import errno
import functools
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import MienError
from .record import BARE_DTYPE, CHANNELS, FRAME_DTYPE, LABELS, decode, neutral, pack, results, sane
from .types import FrameResult

SUFFIX = ".mien"
APP = "mien 0.1.0"

# The PNG trick: a byte above 127 and both line endings, so that a text-mode copy is noticed.
MAGIC = b"\x89MIEN\r\n\x1a"
VERSION = (1, 1)
"""A newer first number is refused; a newer second number only adds fields and channels."""

PREFIX = struct.Struct("<8sHHIII")
"""Magic, version major and minor, length of the JSON header, size of a record, CRC-32."""

_CRC = struct.Struct("<I")
_MAX_HEADER = 1 << 20
_MAX_OWN = 255
_MAX_RECORD = 1 << 20
_LONGEST = 1e7
"""Seconds; a time beyond that is damage."""

_CHUNK = 128
_FORMAT = re.compile(r"[<|](?:[iu][1248]|f[48])")
_RESERVED = ("source", "fps", "size", "created", "app", "own", "fields", "channels")

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclasses.dataclass(frozen=True)
class TakeHeader:
    """What a take says about itself.

    Attributes
    ----------
    source : str
        Where the pictures came from: the name of a file, folder or camera, without its path.
    fps : float
        The source's nominal frames per second; 0 where unknown.
    size : tuple of int
        (width, height) of the pictures, px.
    created : str
        When the recording began, ISO 8601 with time zone.
    app : str
        Program and version that wrote it.
    own : tuple of str
        Names of the actor's own expressions; frames tell of no others.
    extra : dict
        Further fields, JSON values only. Fields that this version does not know are kept here.
    """

    source: str
    fps: float = 0.0
    size: tuple[int, int] = (0, 0)
    created: str = dataclasses.field(default_factory=_now)
    app: str = APP
    own: tuple[str, ...] = ()
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not all(isinstance(text, str) for text in (self.source, self.created, self.app)):
            raise ValueError("source, created and app must be text")
        if not math.isfinite(self.fps) or self.fps < 0:
            raise ValueError(f"fps must be finite and not negative, got {self.fps}")
        if len(self.size) != 2 or not all(isinstance(side, int) and side >= 0 for side in self.size):
            raise ValueError(f"size must be two whole numbers, got {self.size!r}")
        if len(self.own) > _MAX_OWN or not all(isinstance(name, str) for name in self.own):
            raise ValueError(f"own must be at most {_MAX_OWN} texts")
        taken = [name for name in self.extra if name in _RESERVED]
        if taken:
            raise ValueError(f"extra must not use the header's own names: {taken}")


class TakeWriter:
    """Writes a take, one frame at a time.

    After each `write` the frame is the operating system's: killing this process loses
    nothing that was written.

    Parameters
    ----------
    path : path-like
        The file; one that exists is written over.
    header : TakeHeader

    Raises
    ------
    MienError
        ``"disk-full"`` or ``"take-not-written"``, here and from `write` and `close`. The
        file then holds every frame written before.
    """

    def __init__(self, path: str | os.PathLike[str], header: TakeHeader):
        self.path = Path(path)
        self.frames = 0
        self._own = header.own
        head = _encode_header(header)
        try:
            self._file = open(self.path, "wb", buffering=0)
        except OSError as error:
            raise self._error(error) from error
        self._end = 0
        try:
            self._append(head)
        except MienError:
            self._file.close()
            raise

    def write(self, result: FrameResult) -> None:
        """Append one frame."""
        record = pack(result, self._own).tobytes()
        self._append(record + _CRC.pack(zlib.crc32(record)))
        self.frames += 1

    def close(self) -> None:
        """Flush to the disk itself and close; safe to call twice."""
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            # Pipes and devices cannot be synchronised, and need not be.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise self._error(error) from error
        finally:
            self._file.close()

    def __enter__(self) -> TakeWriter:
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                # An unbuffered write may take only a part when the disk is nearly full.
                view = view[self._file.write(view) :]
        except OSError as error:
            self._drop_partial_record()
            raise self._error(error) from error
        self._end += len(data)

    def _drop_partial_record(self) -> None:
        try:
            self._file.truncate(self._end)
            self._file.seek(self._end)
        except OSError:
            pass  # The reader copes with half a record; the first error is the one to tell.

    def _error(self, error: OSError) -> MienError:
        # A pipe keeps nothing.
        is_kept = self.frames and self.path.is_file()
        kept = f"The {self.frames} frames written so far are kept in {self.path}." if is_kept else ""
        if error.errno in _FULL:
            return MienError(
                "disk-full",
                f"There is no room left to write the take {self.path.name}.",
                f"Free some space or choose another folder. {kept}".strip(),
            )
        reason = error.strerror or str(error)
        return MienError(
            "take-not-written",
            f"The take {self.path} cannot be written: {reason}.",
            f"Check that the folder exists and that you may write in it. {kept}".strip(),
        )


def is_take(path: Path) -> bool:
    """Whether a file is a take by its ending, or begins as takes do whatever it is called."""
    if path.suffix == SUFFIX:
        return True
    with contextlib.suppress(OSError):  # who opens it to read it tells
        if path.is_file():  # a pipe could be read once
            with path.open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
    return False


class Take:
    """A recorded take, read in pieces.

    Frames whose record is damaged read as frames without a face, at a time between their
    neighbours'; `damaged` lists them. Use as a context manager, or call `close`.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    path : pathlib.Path
    header : TakeHeader
    version : tuple of int
        (major, minor) of the file.
    truncated : bool
        Whether the file ends in unfinished or damaged records, which are left out. Those at the
        end whose times do not go forward are found, and left out, when the whole file is read.

    Raises
    ------
    MienError
        ``"take-not-found"``, ``"take-unreadable"``, ``"not-a-take"``, ``"take-damaged"``
        (the header is), or ``"take-too-new"``.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            self._file = open(self.path, "rb", buffering=0)
        except FileNotFoundError as error:
            raise MienError(
                "take-not-found", f"There is no take at {self.path}.", "Check the path, or record the take again."
            ) from error
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        prefix = self._read(0, PREFIX.size)
        if not prefix or not MAGIC.startswith(prefix[: len(MAGIC)]):
            raise MienError("not-a-take", f"{self.path.name} is not a Mien take.", f"Choose a {SUFFIX} file.")
        if len(prefix) < PREFIX.size:
            raise self._damaged("it ends inside its header")
        _magic, major, minor, length, record_size, crc = PREFIX.unpack(prefix)
        self.version = (major, minor)
        if major > VERSION[0]:
            raise MienError(
                "take-too-new",
                f"{self.path.name} was written by a newer Mien: take format {major}, this one reads {VERSION[0]}.",
                "Update Mien, then open the take again.",
            )
        if length > _MAX_HEADER or not 0 < record_size <= _MAX_RECORD:
            raise self._damaged("its header is damaged")
        text = self._read(PREFIX.size, length)
        if len(text) < length:
            raise self._damaged("it ends inside its header")
        if zlib.crc32(prefix[: -_CRC.size] + text) != crc:
            raise self._damaged("its header is damaged")
        try:
            self.header, self._layout = _decode_header(text)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise self._damaged("its header is damaged") from error
        if self._layout.dtype.itemsize + _CRC.size != record_size:
            raise self._damaged("its header is damaged")

        self._start = PREFIX.size + length
        self._stride = record_size
        body = os.fstat(self._file.fileno()).st_size - self._start
        self._count, rest = divmod(max(body, 0), record_size)
        self.truncated = rest > 0
        # A crash of the machine can leave a tail of the right length and the wrong content.
        while self._count and not self._records(self._count - 1, self._count)[1][0]:
            self._count -= 1
            self.truncated = True

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> FrameResult:
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(f"the take has {self._count} frames")
        records, good = self._records(index, index + 1)
        return next(results(records, self.header.own)) if good[0] else self._gap(index)

    def __iter__(self) -> Iterator[FrameResult]:
        for first, records, good in self._good_chunks():
            whole = results(records[good], self.header.own)
            for i in range(len(records)):
                yield next(whole) if good[i] else self._gap(first + i)

    def column(self, name: str, at: npt.ArrayLike | None = None) -> np.ndarray:
        """Return one field of every frame.

        The first one asked for reads the whole file, and the others are there with it; but for
        the points of the mesh, which few can hold in memory: these are read each time.

        Parameters
        ----------
        name : str
            A field of `FrameResult`.
        at : array of int, optional
            Only these rows of the field: some of the landmarks of an hour fit where all do not.

        Returns
        -------
        ndarray, shape (len(take), ...)
            float32 with the field's own shape, except ``time`` (float64), ``index`` and
            ``size`` (integers), ``found`` (bool), ``expression`` and ``own`` (str).
        """
        own = self.header.own
        if name in BARE_DTYPE.names:
            return decode(self._scan[0], name, own, at)
        empty = decode(neutral(0), name, own, at)
        column = np.zeros((len(self._scan[0]), *empty.shape[1:]), empty.dtype)
        for first, records, good in self._good_chunks():
            column[first + np.flatnonzero(good)] = decode(records[good], name, own, at)
        return column

    @functools.cached_property
    def times(self) -> npt.NDArray[np.float64]:
        """Capture time of every frame in seconds, read-only."""
        times = self.column("time")
        times.flags.writeable = False
        return times

    @property
    def damaged(self) -> npt.NDArray[np.int64]:
        """Positions of the frames whose record is damaged; reads the whole file once."""
        return self._scan[1]

    @property
    def losses(self) -> tuple[str, ...]:
        """What to tell of frames that were recorded and are not there; reads the whole file once."""
        told = []
        count = len(self.damaged)
        if self.truncated:
            told.append("The take was cut off: what came after its last whole frame is lost")
        if count:
            told.append(f"{count} of {self._count} frames of the take are damaged and count as frames without a face")
        return tuple(told)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return float(self.times[-1] - self.times[0]) if self._count else 0.0

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def __enter__(self) -> Take:
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    @functools.cached_property
    def _scan(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
        """Read the file once: every frame without its points, mended where it is damaged, and where it is."""
        frames = np.zeros(self._count, BARE_DTYPE)
        whole = np.zeros(self._count, bool)
        fields = list(BARE_DTYPE.names)
        for first, records, good in self._chunks():
            here = slice(first, first + len(records))
            frames[here] = records[fields]
            whole[here] = good
        # Frames follow each other: what does not go forward in time is damage, whatever its checksum says.
        known = np.flatnonzero(whole)
        known = known[_forward(frames["time"][known])]
        end = int(known[-1]) + 1 if len(known) else 0
        if end < self._count:
            frames, self._count, self.truncated = frames[:end], end, True
        damaged = np.setdiff1d(np.arange(end), known)
        if len(damaged):
            frames[damaged] = neutral(1)[fields]
            times, numbers = frames["time"], frames["index"]
            times[damaged] = np.interp(damaged, known, times[known])
            numbers[damaged] = np.rint(np.interp(damaged, known, numbers[known]))
            # Nothing stands before the first known frame to interpolate from.
            lead = damaged[damaged < known[0]]
            period = 1.0 / self.header.fps if self.header.fps else 1.0 / 30.0
            times[lead] = times[known[0]] - (known[0] - lead) * period
            numbers[lead] = np.maximum(int(numbers[known[0]]) - (known[0] - lead), 0)
        for array in (frames, damaged):
            array.flags.writeable = False
        return frames, damaged

    def _gap(self, position: int) -> FrameResult:
        frame = self._scan[0][position]
        return FrameResult(index=int(frame["index"]), time=float(frame["time"]), size=self.header.size)

    def _good_chunks(self) -> Iterator[tuple[int, npt.NDArray[np.void], npt.NDArray[np.bool_]]]:
        """Read the file as `_chunks` does; only frames that go forward in time count as good."""
        damaged = self.damaged
        for first, records, good in self._chunks():
            good[damaged[(first <= damaged) & (damaged < first + len(records))] - first] = False
            yield first, records, good

    def _chunks(self) -> Iterator[tuple[int, npt.NDArray[np.void], npt.NDArray[np.bool_]]]:
        """Read the file in pieces: the first record's position, the records, and which of them are whole."""
        for first in range(0, self._count, _CHUNK):
            yield first, *self._records(first, min(first + _CHUNK, self._count))

    def _records(self, first: int, last: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.bool_]]:
        """Read records first..last in today's layout, and which of them are good."""
        size = self._stride - _CRC.size
        data = self._read(self._start + first * self._stride, (last - first) * self._stride)
        data = data.ljust((last - first) * self._stride, b"\0")  # the file shrank since it was opened
        whole = np.zeros(last - first, bool)
        view = memoryview(data)
        for i in range(last - first):
            at = i * self._stride
            whole[i] = zlib.crc32(view[at : at + size]) == _CRC.unpack_from(data, at + size)[0]
        stored = np.ndarray((last - first,), self._layout.dtype, data, strides=(self._stride,))
        records = self._layout.convert(stored)
        return records, whole & sane(records, self.header.own) & (np.abs(records["time"]) <= _LONGEST)

    def _read(self, at: int, size: int) -> bytes:
        parts = []
        try:
            self._file.seek(at)
            while size > 0 and (part := self._file.read(size)):
                parts.append(part)
                size -= len(part)
        except OSError as error:
            raise self._unreadable(error) from error
        return b"".join(parts)

    def _damaged(self, how: str) -> MienError:
        return MienError(
            "take-damaged",
            f"The take {self.path.name} cannot be opened: {how}.",
            "Record it again, or restore the file from a backup.",
        )

    def _unreadable(self, error: OSError) -> MienError:
        return MienError(
            "take-unreadable",
            f"The take {self.path} cannot be read: {error.strerror or error}.",
            "Check that it is a file that you may read.",
        )


def _forward(times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the positions of the most times that rise strictly; of several such choices the earliest."""
    if (np.diff(times) > 0).all():
        return np.arange(len(times))
    # From the last to the first: how many can follow each. ends[n] is the latest, negated, that n can follow.
    following, ends = [], []
    for time in times[::-1].tolist():
        following.append(bisect.bisect_left(ends, -time))
        ends[following[-1] : following[-1] + 1] = [-time]
    kept, last = [], -math.inf
    for position, count in enumerate(reversed(following)):
        if count == len(ends) - len(kept) - 1 and times[position] > last:
            kept.append(position)
            last = times[position]
    return np.array(kept, np.int64)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a file's records are laid out, so that older and newer ones can be read."""

    dtype: np.dtype
    channels: dict[str, tuple[str, ...]]
    labels: tuple[str, ...]

    def convert(self, stored: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """Return the records in today's layout: what is missing is neutral, what is unknown is left out."""
        if self == _TODAY:
            return stored.copy()
        records = neutral(len(stored))
        for name in FRAME_DTYPE.names:
            if name not in self.dtype.names:
                continue
            if name in CHANNELS:
                theirs = self.channels[name]
                for column, channel in enumerate(CHANNELS[name]):
                    if channel in theirs:
                        records[name][:, column] = stored[name][:, theirs.index(channel)]
            elif name == "expression":
                known = [LABELS.index(label) if label in LABELS else 0 for label in self.labels]
                # Numbers beyond their own labels stay impossible, and so are noticed.
                known += [255] * (256 - len(known))
                records[name] = np.array(known, np.uint8)[stored[name]]
            else:
                records[name] = stored[name]
        return records


_TODAY = _Layout(FRAME_DTYPE, CHANNELS, LABELS)


def _encode_header(header: TakeHeader) -> bytes:
    fields = [[name, FRAME_DTYPE[name].base.str, list(FRAME_DTYPE[name].shape)] for name in FRAME_DTYPE.names]
    data = {
        "source": header.source,
        "fps": header.fps,
        "size": header.size,
        "created": header.created,
        "app": header.app,
        "own": header.own,
        **header.extra,
        "fields": fields,
        "channels": {**CHANNELS, "expression": LABELS},
    }
    text = json.dumps(data, allow_nan=False).encode("ascii")
    if len(text) > _MAX_HEADER:
        raise ValueError("the header's extra fields are too large")
    prefix = PREFIX.pack(MAGIC, *VERSION, len(text), FRAME_DTYPE.itemsize + _CRC.size, 0)[: -_CRC.size]
    return prefix + _CRC.pack(zlib.crc32(prefix + text)) + text


def _decode_header(text: bytes) -> tuple[TakeHeader, _Layout]:
    data = {"own": [], **json.loads(text)}  # takes before 1.1 tell of none
    known = {name: data.pop(name) for name in _RESERVED}
    fields, channels = known.pop("fields"), known.pop("channels")
    width, height = known.pop("size")
    own = tuple(known.pop("own"))
    header = TakeHeader(**known, size=(width, height), own=own, extra=data)

    for _name, form, _shape in fields:
        if not _FORMAT.fullmatch(form):
            raise ValueError(f"unknown field format {form!r}")
    dtype = np.dtype([(name, form, tuple(shape)) for name, form, shape in fields])
    names = {name: tuple(channels[name]) for name in CHANNELS if name in dtype.names}
    for name in set(FRAME_DTYPE.names) & set(dtype.names):
        form = FRAME_DTYPE[name]
        shape = (len(names[name]),) if name in CHANNELS else form.shape
        if dtype[name].base != form.base or dtype[name].shape != shape:
            raise ValueError(f"field {name!r} has another form")
    return header, _Layout(dtype, names, tuple(channels["expression"]))
