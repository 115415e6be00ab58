"""What video files say about themselves and OpenCV does not pass on: how much they show, and when their sound begins.

Of the containers only the index is read, or the first and last packets, with no library: Blender's side asks, too.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

# A file may claim anything: no more than this is looked at.
_MOST_INDEX = 1 << 26  # bytes
_MOST_PARTS = 1 << 20  # boxes or elements
_MOST_PICTURES = 1 << 24


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """What a container tells.

    Attributes
    ----------
    pictures : int or None
        How many pictures it shows, where that is counted.
    seconds : float or None
        How long the pictures last, where only that is told.
    cut : bool
        Whether the file ends before it says it does.
    sound_lead : float or None
        Seconds from the first sample of the sound to the first picture, negative where the
        picture comes first. None without sound, or where it is not told.
    mirrored : bool
        Whether the pictures are to be shown upside down, before they are turned.
    """

    pictures: int | None = None
    seconds: float | None = None
    cut: bool = False
    sound_lead: float | None = None
    mirrored: bool = False


def read(path: str | os.PathLike[str]) -> Contents | None:
    """Read what a file's container tells of its first picture and its first sound track, which are those in use.

    Returns
    -------
    Contents or None
        None where it is none of MP4 (MOV), Matroska (WebM) and MPEG transport streams, or
        is damaged.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(400)
            if is_mp4(start):
                return _read_mp4(file, size)
            if start.startswith(b"\x1a\x45\xdf\xa3"):
                return _read_matroska(file, size)
            # Camcorders and Blu-ray put four bytes before each packet.
            for lead in (0, 4):
                if start[lead :: 188 + lead][:2] == b"\x47\x47":
                    return _read_mpegts(file, size, lead)
    except (OSError, ValueError, IndexError, OverflowError, ZeroDivisionError):
        pass
    return None


def sound_lead(path: str | os.PathLike[str]) -> float:
    """Return how many seconds the sound of a file begins before its first picture; 0 where that is not told."""
    contents = read(path)
    return contents.sound_lead or 0.0 if contents is not None else 0.0


# --- ISO base media files: MP4, MOV (ISO/IEC 14496-12)

_DEEPEST = 8  # holders in each other: files nest four, and what nests thousands would be copied as often
_HOLDERS = frozenset((b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf"))


def is_mp4(start: bytes) -> bool:
    """Whether a file that begins so is an MP4."""
    return start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box on a file's top level, and where its content begins and ends (14496-12, 4.2)."""
    offset = 0
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(16)
        length, begin = int.from_bytes(header[:4], "big"), 8
        if length == 1:
            length, begin = int.from_bytes(header[8:16], "big"), 16
        elif length == 0:
            length = size - offset
        if length < begin:
            return
        yield header[4:8], offset + begin, offset + length
        offset += length


def _within(data: bytes, depth: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield every box in the content of one, each holder before what it holds."""
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    for kind, begin, end in boxes(io.BytesIO(data), len(data)):
        yield kind, data[begin:end]
        if kind in _HOLDERS:
            yield from _within(data[begin:end], depth + 1)


@dataclasses.dataclass
class _Track:
    """A track of an MP4, times in its own units but for `edits`: (length in units of the film, first time or -1)."""

    kind: bytes = b""
    id: int = 0
    scale: int = 1
    mirrored: bool = False
    edits: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    steps: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros((0, 2), np.int64))
    shifts: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros((0, 2), np.int64))
    in_fragments: int = 0
    first_in_fragments: int = 0

    def times(self) -> npt.NDArray[np.int64]:
        """Return when each sample of the index is presented."""
        count = int(self.steps[:, 0].sum())
        if count > _MOST_PICTURES or int(self.shifts[:, 0].sum()) > _MOST_PICTURES:
            raise ValueError("too many samples")
        times = np.cumsum(np.repeat(self.steps[:, 1], self.steps[:, 0]))
        times = np.concatenate([[0], times[:-1]])[:count]
        shifts = np.repeat(self.shifts[:, 1], self.shifts[:, 0])[:count]
        times[: len(shifts)] += shifts
        return times


def _read_mp4(file: BinaryIO, size: int) -> Contents:
    tracks: list[_Track] = []
    film_scale, cut = 1, False
    for kind, begin, end in itertools.islice(boxes(file, size), _MOST_PARTS):
        cut |= end > size
        if kind not in (b"moov", b"moof"):
            continue
        file.seek(begin)
        data = file.read(min(end - begin, _MOST_INDEX))
        if kind == b"moov":
            film_scale = _read_index(data, tracks)
        else:
            _read_fragment(data, {track.id: track for track in tracks})
    video = next((track for track in tracks if track.kind == b"vide"), None)
    sound = next((track for track in tracks if track.kind == b"soun"), None)
    if video is None:
        return Contents(cut=cut)
    times = video.times()
    shown = _shown(video, times, film_scale)
    start = _start(video, int(times[shown].min()) if shown.any() else 0, film_scale)
    lead = None
    if sound is not None and (len(sound.steps) or sound.in_fragments):
        lead = start - _start(sound, 0, film_scale)
    return Contents(int(shown.sum()) + video.in_fragments, cut=cut, sound_lead=lead, mirrored=video.mirrored)


def _read_index(data: bytes, tracks: list[_Track]) -> int:
    """Take in a ``moov`` box; returns the film's units per second."""
    film_scale, track = 1, _Track()
    for kind, body in _within(data):
        wide = body[:1] == b"\1"  # times of 64 bits
        if kind == b"trak":
            track = _Track()
            tracks.append(track)
        elif kind == b"mvhd":
            film_scale = _number(body, 20 if wide else 12)
        elif kind == b"mdhd":
            track.scale = _number(body, 20 if wide else 12)
        elif kind == b"tkhd":
            track.id = _number(body, 20 if wide else 12)
            # Where x and y of a picture go: what turns it alone keeps their order.
            at = 52 if wide else 40
            (a, b), (c, d) = np.frombuffer(body[at : at + 24], ">i4").reshape(2, 3)[:, :2].tolist()
            track.mirrored = a * d < b * c
        elif kind == b"hdlr" and not track.kind:  # another one in MOV tells of the file
            track.kind = body[8:12]
        elif kind == b"elst":
            form = np.dtype([("length", ">u8" if wide else ">u4"), ("time", ">i8" if wide else ">i4"), ("rate", ">u4")])
            track.edits = [(int(edit["length"]), int(edit["time"])) for edit in _table(body, form)]
        elif kind == b"stts":
            track.steps = _table(body, np.dtype((">u4", 2))).astype(np.int64)
        elif kind == b"ctts":
            track.shifts = _table(body, np.dtype((">i4", 2))).astype(np.int64)
    return film_scale


def _read_fragment(data: bytes, tracks: dict[int, _Track]) -> None:
    """Take in a ``moof`` box, of a file that is written piece by piece."""
    track, base = _Track(), 0
    for kind, body in _within(data):
        if kind == b"tfhd":
            track, base = tracks.get(_number(body, 4), _Track()), 0
        elif kind == b"tfdt":
            base = int.from_bytes(body[4 : 12 if body[:1] == b"\1" else 8], "big")
        elif kind == b"trun":
            flags = int.from_bytes(body[1:4], "big")
            if not track.in_fragments:
                # Before a sample's shift stand what is told of the run, and of the sample, as the flags say.
                at = 8 + 4 * sum(bool(flags & flag) for flag in (0x1, 0x4, 0x100, 0x200, 0x400))
                shift = int.from_bytes(body[at : at + 4], "big", signed=True) if flags & 0x800 else 0
                track.first_in_fragments = base + shift
            track.in_fragments += _number(body, 4)


def _number(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 4], "big")


def _table(body: bytes, form: np.dtype) -> np.ndarray:
    """Return the rows of a box that holds their number and them; fewer where it is cut."""
    return np.frombuffer(body, form, min(_number(body, 4), (len(body) - 8) // form.itemsize), 8)


def _shown(track: _Track, times: npt.NDArray[np.int64], film_scale: int) -> npt.NDArray[np.bool_]:
    """Return which samples are within the edits: what was trimmed without encoding it again is still in the file."""
    edits = [(length * track.scale / film_scale or math.inf, time) for length, time in track.edits if time >= 0]
    if not edits:
        return np.ones(len(times), bool)
    # A picture that begins just before the end may or may not come, as lengths are rounded.
    return np.logical_or.reduce([(times >= time) & (times < time + length - 1) for length, time in edits])


def _start(track: _Track, first: int, film_scale: int) -> float:
    """Return when a track begins, in seconds of the film, whose first sample within the edits has the time `first`."""
    wait = sum(length for length, _time in itertools.takewhile(lambda edit: edit[1] < 0, track.edits)) / film_scale
    begin = next((time for _length, time in track.edits if time >= 0), 0)
    if not len(track.steps) and track.in_fragments:
        return wait + (track.first_in_fragments - begin) / track.scale
    return wait + max(first - begin, 0) / track.scale


# --- Matroska, WebM (RFC 9559)

_SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
_TRACK, _NUMBER, _UID, _TYPE = 0xAE, 0xD7, 0x73C5, 0x83
_TAG_UID, _TAG_NAME, _TAG_TEXT = 0x63C5, 0x45A3, 0x4487
_SCALE, _CLUSTER_TIME, _BLOCKS = 0x2AD7B1, 0xE7, (0xA3, 0xA1)
# Segment, Info, Tracks, TrackEntry, Tags, Tag, Targets, SimpleTag, BlockGroup
_MASTERS = frozenset((_SEGMENT, 0x1549A966, 0x1654AE6B, _TRACK, 0x1254C367, 0x7373, 0x63C0, 0x67C8, _BLOCK_GROUP))
_CLOCK = re.compile(rb"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclasses.dataclass
class _Matroska:
    """What is read of a Matroska file so far.

    Attributes
    ----------
    tracks : list of dict
        Number, UID and type of each, by the elements' IDs.
    firsts : dict
        When the first block of each track is presented, s, by the track's number.
    lasting : dict
        When each track ends by its tag ``DURATION``, s, by the track's UID.
    """

    tracks: list[dict[int, int]] = dataclasses.field(default_factory=list)
    firsts: dict[int, float] = dataclasses.field(default_factory=dict)
    lasting: dict[int, float] = dataclasses.field(default_factory=dict)
    scale: int = 1_000_000
    cluster: int = 0
    tag_of: int = 0
    tag: bytes = b""

    def in_use(self, kind: int) -> dict[int, int]:
        """Return the first track of a type, 1 for pictures and 2 for sound; an empty one where there is none."""
        return next((track for track in self.tracks if track.get(_TYPE) == kind), {})

    def first(self, kind: int) -> float | None:
        """Return when the track in use of a type begins, s; None until its first block is met."""
        return self.firsts.get(self.in_use(kind).get(_NUMBER, -1))

    def complete(self) -> bool:
        """Whether the first block of each track in use was met."""
        return all(self.first(kind) is not None for kind in (1, 2) if self.in_use(kind))

    def take_block(self, head: bytes) -> None:
        """Take in how a block begins."""
        number, width = _vint(head)
        time = self.cluster + int.from_bytes(head[width : width + 2], "big", signed=True)
        self.firsts.setdefault(number, time * self.scale / 1e9)

    def take_value(self, kind: int, value: bytes) -> None:
        """Take in an element that holds a number or a text."""
        number = int.from_bytes(value, "big")
        if kind in (_NUMBER, _UID, _TYPE) and self.tracks:
            self.tracks[-1][kind] = number
        elif kind == _SCALE:
            self.scale = number
        elif kind == _CLUSTER_TIME:
            self.cluster = number
        elif kind == _TAG_UID:
            self.tag_of = number
        elif kind == _TAG_NAME:
            self.tag = value
        elif kind == _TAG_TEXT and self.tag == b"DURATION" and (clock := _CLOCK.match(value)):
            hours, minutes, seconds = map(float, clock.groups())
            self.lasting[self.tag_of] = 3600 * hours + 60 * minutes + seconds


def _read_matroska(file: BinaryIO, size: int) -> Contents:
    found, cut, at = _Matroska(), False, 0
    for _ in range(_MOST_PARTS):
        kind, begin, end = _element(file, at)
        if kind == 0:
            break
        if kind == _SEGMENT and end is not None:
            cut = end > size
        elif kind == _TRACK:
            found.tracks.append({})
        if kind == _CLUSTER:
            # Tags stand before the clusters or behind them: those between are passed over.
            if not found.complete():
                end = begin
            elif end is None or found.in_use(1).get(_UID) in found.lasting:
                break
        elif kind in _MASTERS:
            end = begin
        elif kind in _BLOCKS:
            file.seek(begin)
            found.take_block(file.read(10))
        elif end is not None and end - begin <= 64:
            file.seek(begin)
            found.take_value(kind, file.read(end - begin))
        if end is None:
            break
        at = end
    start, heard = found.first(1), found.first(2)
    if start is None:
        return Contents(cut=cut)
    # Written by FFmpeg it is when the track ends.
    ends = found.lasting.get(found.in_use(1).get(_UID, -1))
    return Contents(
        seconds=None if ends is None else ends - start, cut=cut, sound_lead=None if heard is None else start - heard
    )


def _element(file: BinaryIO, at: int) -> tuple[int, int, int | None]:
    """Return an element's ID, 0 where there is none, and where its content begins and ends, None where it is open."""
    file.seek(at)
    head = file.read(12)
    if not head or not head[0] >> 4:
        return 0, at, at
    width = 9 - head[0].bit_length()
    kind = int.from_bytes(head[:width], "big")
    if len(head) <= width:
        return 0, at, at
    length, more = _vint(head[width:])
    begin = at + width + more
    return kind, begin, None if length == (1 << 7 * more) - 1 else begin + length


def _vint(data: bytes) -> tuple[int, int]:
    """Return a number of variable length (RFC 8794, 4), and how many bytes it takes."""
    width = 9 - data[0].bit_length()
    if width > 8:
        raise ValueError("no number")
    return int.from_bytes(data[:width], "big") & (1 << 7 * width) - 1, width


# --- MPEG transport streams (ISO/IEC 13818-1)

_ENDS = 1 << 23
"""Bytes at either end that are looked at: a second of the largest streams."""

_WRAP = 1 << 33


def _read_mpegts(file: BinaryIO, size: int, lead: int) -> Contents:
    stride = 188 + lead
    count, most = size // stride, _ENDS // stride
    video, sound = _stamps(file, 0, min(count, most), stride)
    # Of a recording that was cut out of another, the pictures before the first whole one cannot be decoded.
    start = next((time for time, whole in video if whole), video[0][0] if video else None)
    if start is None:
        return Contents()
    last, _sound = _stamps(file, max(count - most, 0), min(count, most), stride)
    # The clock wraps after 26 hours.
    times = np.unique([(time - start) % _WRAP for time, _whole in last])
    times = times[times < _WRAP // 2]
    return Contents(
        seconds=float(times[-1] + np.median(np.diff(times))) / 90_000 if len(times) > 1 else None,
        sound_lead=((start - sound[0][0] + _WRAP // 2) % _WRAP - _WRAP // 2) / 90_000 if sound else None,
    )


def _stamps(file: BinaryIO, first: int, count: int, stride: int) -> tuple[list[tuple[int, bool]], ...]:
    """Return what some packets tell of the first stream of pictures, and of the first of sound.

    For each picture or piece of sound that begins, it is the time, in 1/90000 s, and
    whether decoding can begin there.
    """
    file.seek(first * stride)
    data = np.frombuffer(file.read(count * stride), np.uint8)
    packets = data[: len(data) // stride * stride].reshape(-1, stride)[:, stride - 188 :]
    found: tuple[dict[int, list[tuple[int, bool]]], ...] = ({}, {})
    for packet in packets[(packets[:, 0] == 0x47) & (packets[:, 1] & 0x40 != 0)]:
        row = packet.tobytes()
        adapted = row[3] & 0x20
        pes = row[4 + (1 + row[4] if adapted else 0) :]
        if pes[:3] != b"\0\0\1" or len(pes) < 14 or not pes[7] & 0x80:
            continue
        if 0xE0 <= pes[3] <= 0xEF:
            streams = found[0]
        elif 0xC0 <= pes[3] <= 0xDF or pes[3] == 0xBD:
            streams = found[1]
        else:
            continue
        time = (pes[9] & 0x0E) << 29 | pes[10] << 22 | (pes[11] & 0xFE) << 14 | pes[12] << 7 | pes[13] >> 1
        whole = bool(adapted and row[4] and row[5] & 0x40)
        streams.setdefault((row[1] & 0x1F) << 8 | row[2], []).append((time, whole))
    return tuple(next(iter(streams.values()), []) for streams in found)
