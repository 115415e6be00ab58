"""Live Link Face CSV: Epic's iPhone app writes it; Unreal, Faceit and many scripts read it.

One row per frame: ``Timecode``, ``BlendShapeCount`` (61, or 0 where the face was lost and no
values follow), then 61 values, ARKit's 52 weights 0..1 and nine angles in radians. Columns are
ARKit's names with a capital first letter, in the app's order, which has right before left for
jaw and mouth.

Timecode is ``HH:MM:SS:FF.mmm``: FF counts frames at the timecode's rate, which no column tells
and which need not be that of the rows; mmm are thousandths of a frame. The app writes the time
of day; Mien writes the time since the recording began.

Signs of the angles are those of the app's packets: see ``docs/network.md`` and
`network.livelink.pose_from_angles`, which both this file and the packets go through.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import MienError
from .files import writing_csv
from .network.livelink import ANGLES, angles_from_pose, pose_from_angles
from .network.sample import NO_FACE, FaceSample, Refused, angles, eyes_from_weights, weights
from .network.source import result_from
from .solve import Performance, SolveOptions, solve_take
from .types import FrameResult
from .units import ARKIT

if TYPE_CHECKING:
    from .take import Take

DEFAULT_FPS = 60.0
"""The app's rate unless the user changes it."""

_RATES = (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 240)
_NEAR = 0.05
"""A rate that is measured this close to one of `_RATES`, as a share, is that one."""

_TIMECODE = re.compile(r"(\d+):(\d\d):(\d\d)([:;])(\d+(?:\.\d+)?)")
_BACK = 0.25
"""Seconds; a clock that goes back further was set."""

_TICK = 0.001
"""Seconds between rows of the same timecode."""


def _column(name: str) -> str:
    return name[0].upper() + name[1:]


def _app_order() -> tuple[str, ...]:
    names = list(ARKIT)
    for side in ("jaw", "mouth"):
        left, right = names.index(f"{side}Left"), names.index(f"{side}Right")
        names[left], names[right] = names[right], names[left]
    return tuple(_column(name) for name in (*names, *ANGLES))


COLUMNS: tuple[str, ...] = _app_order()
"""The 61 value columns in the app's order."""

HEADER: tuple[str, ...] = ("Timecode", "BlendShapeCount", *COLUMNS)


def timecode(seconds: float, fps: float) -> str:
    """Write a time of 0 or more as ``HH:MM:SS:FF.mmm``."""
    # In thousandths of a frame, so that rounding carries into the seconds.
    rate = max(round(fps), 1)
    whole = math.floor(seconds)
    thousandths = round((seconds - whole) * rate * 1000)
    if thousandths >= rate * 1000:
        whole, thousandths = whole + 1, 0
    frame, part = divmod(thousandths, 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frame:02d}.{part:03d}"


def export(recording: Performance | Take, path: str | os.PathLike, fps: float = DEFAULT_FPS) -> int:
    """Write a recording as Live Link Face CSV.

    Parameters
    ----------
    recording : Performance or Take
        A take is written as it was measured, without smoothing or calibration.
    path : path
        The file; one that exists is replaced, but only by a whole one.
    fps : float
        Rows per second; the recording is resampled to it.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    MienError
        ``bad-fps``, ``nothing-to-export`` or ``csv-not-written``.
    """
    if not (math.isfinite(fps) and 1.0 <= fps <= 1000.0):
        raise MienError("bad-fps", f"{fps:g} rows per second cannot be written.", "Give a rate from 1 to 1000.")
    if not isinstance(recording, Performance):
        recording = solve_take(recording, SolveOptions(smoothing=0.0, neutral="none"))
    if not len(recording):
        raise MienError("nothing-to-export", "The recording has no frames.", "Capture a performance first.")
    start, end = recording.times[0], recording.times[-1]
    times = start + np.arange(math.floor((end - start) * fps + 1e-6) + 1) / fps
    weights = _resample(times, recording.times, recording.arkit)
    heads = _resample(times, recording.times, recording.head)
    heads /= np.linalg.norm(heads, axis=1, keepdims=True)
    eyes = _resample(times, recording.times, recording.eyes)
    values = {_column(name): weights[:, i] for i, name in enumerate(ARKIT)}
    angles = np.array([angles_from_pose(head, eye) for head, eye in zip(heads, eyes, strict=True)])
    values |= {_column(name): angles[:, i] for i, name in enumerate(ANGLES)}
    table = np.stack([values[name] for name in COLUMNS], axis=1)
    with writing_csv(path) as file:
        file.write(",".join(HEADER) + "\n")
        for time, row in zip(times - start, table, strict=True):
            cells = ",".join(f"{value:.8f}" for value in row)
            file.write(f"{timecode(time, fps)},{len(COLUMNS)},{cells}\n")
    return len(times)


def _resample(times: npt.NDArray, known: npt.NDArray, values: npt.NDArray) -> npt.NDArray[np.float64]:
    """Interpolate rows of `values` linearly."""
    right = np.clip(np.searchsorted(known, times), 1, max(len(known) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(known) - 1)
    span = np.maximum(known[right] - known[left], 1e-9)
    share = np.clip((times - known[left]) / span, 0.0, 1.0).reshape(-1, *[1] * (values.ndim - 1))
    return (1.0 - share) * values[left] + share * values[right]


@dataclasses.dataclass(frozen=True)
class Recording:
    """A Live Link Face CSV that was read; iterating gives a `FrameResult` a row.

    Attributes
    ----------
    name : str
        The file's.
    fps : float
        Rows per second.
    times : ndarray of float64, shape (n,)
        Seconds from the first row, growing.
    samples : list of FaceSample
        What the rows say.
    incomplete : bool
        Whether the last row was cut and left out.
    notices : tuple of str
        What was assumed.
    """

    name: str
    fps: float
    times: npt.NDArray[np.float64]
    samples: list[FaceSample]
    incomplete: bool = False
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[FrameResult]:
        for index, (sample, time) in enumerate(zip(self.samples, self.times.tolist(), strict=True)):
            yield result_from(sample, index, time)


def load(path: str | os.PathLike[str], fps: float | None = None) -> Recording:
    """Read a Live Link Face CSV.

    Columns are found by name in any order and case, others are passed over. Where there are no
    eye angles, the look weights tell them. A last row that cannot be read was cut and is left out.

    Parameters
    ----------
    path : path
    fps : float, optional
        Frames per second of the timecode, or of the rows where there is no timecode. If not
        given, it is read off the timecode, or `DEFAULT_FPS`.

    Returns
    -------
    Recording
        As the app measured it. The app records no place of the head.

    Raises
    ------
    MienError
        ``csv-not-found``, ``csv-not-read``, ``csv-not-livelink``, ``csv-damaged``,
        ``csv-no-face`` or ``bad-fps``.
    """
    path = Path(path)
    codes, samples, incomplete = _read(path)
    if not samples:
        raise _damaged(f"{path.name} has no frames")
    if not any(sample.found for sample in samples):
        raise MienError(
            "csv-no-face",
            f"The phone saw no face in any of the {len(samples)} frames of {path.name}.",
            "Record again with the face in front of the phone.",
        )
    notices = ()
    if not len(codes):
        times = np.arange(len(samples)) / (fps or DEFAULT_FPS)
    else:
        if fps is None and (fps := _rate(codes)) is None:
            fps = float(max(DEFAULT_FPS, math.floor(codes[:, 3].max()) + 1))
            notices = (
                f"{path.name} is too short to tell the rate of its timecode, so {fps:g} frames a second are assumed: "
                "give the rate if the face moves too fast or too slowly.",
            )
        times = _times(codes, fps, path.name)
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / (fps or DEFAULT_FPS)
    return Recording(path.name, round(1.0 / step, 3), times, samples, incomplete, notices)


def _read(path: Path) -> tuple[npt.NDArray[np.float64], list[FaceSample], bool]:
    """Return the rows' timecodes, shape (n, 5), or (0,) without that column; what they say; whether one was cut."""
    codes, samples, unread = [], [], None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            columns = _Columns(next(rows, []), path.name)
            for row in rows:
                if not any(map(str.strip, row)):
                    continue
                if unread is not None:
                    raise unread
                where = f"{path.name} is damaged in line {rows.line_num}"
                try:
                    code, sample = columns.read(row)
                except (ValueError, IndexError):
                    unread = _damaged(f"{where}: a value is missing, or cannot be read")
                    continue
                except Refused:
                    hint = "Weights go from 0 to 1, angles are in radians: scale them if they are others."
                    unread = _damaged(f"{where}: a value is none of the app's", hint)
                    continue
                codes += code
                samples.append(sample)
    except FileNotFoundError:
        raise MienError("csv-not-found", f"There is no file {path}.", "Check the path.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MienError(
            "csv-not-read", f"{path.name} cannot be read: {error}.", "Choose a CSV that Live Link Face recorded."
        ) from error
    if unread is not None and not samples:
        raise unread
    return np.array(codes), samples, unread is not None


def _damaged(message: str, hint: str = "Copy it from the phone again.") -> MienError:
    return MienError("csv-damaged", f"{message}.", hint)


class _Columns:
    """Where in a row the values are, by the header."""

    def __init__(self, header: Sequence[str], name: str):
        where = {column.strip().lower(): i for i, column in enumerate(header)}
        missing = [shape for shape in ARKIT if shape.lower() not in where]
        if missing:
            raise MienError(
                "csv-not-livelink",
                f"{name} is not a Live Link Face CSV: it has no column {_column(missing[0])}.",
                "Choose the CSV that Live Link Face recorded in its mode for ARKit: it is named after the take.",
            )
        self._timecode, self._count = where.get("timecode"), where.get("blendshapecount")
        self._angles = [i for i, angle in enumerate(ANGLES) if angle.lower() in where]
        self._values = [where[value.lower()] for value in (*ARKIT, *(ANGLES[i] for i in self._angles))]

    def read(self, row: Sequence[str]) -> tuple[list[tuple[float, ...]], FaceSample]:
        """Return a row's timecode, where there is that column, and what it says.

        Raises
        ------
        ValueError, IndexError, Refused
        """
        code = [] if self._timecode is None else [_timecode(row[self._timecode])]
        if self._count is not None and row[self._count].strip() == "0":
            return code, FaceSample(NO_FACE, found=False)
        cells = [row[i].strip() for i in self._values]
        if not any(cells):
            return code, FaceSample(NO_FACE, found=False)
        values = [float(cell) for cell in cells]
        arkit = weights(values[: len(ARKIT)])
        turns = np.zeros(len(ANGLES))
        turns[self._angles] = angles(values[len(ARKIT) :])
        head, eyes = pose_from_angles(turns)
        if len(self._angles) < len(ANGLES):
            eyes = eyes_from_weights(arkit)
        return code, FaceSample(arkit, head, eye_rotations=eyes)


def _timecode(text: str) -> tuple[float, ...]:
    """Return hours, minutes, seconds, frames, and 1 for drop-frame, which is written with a semicolon."""
    match = _TIMECODE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no timecode")
    hours, minutes, seconds, mark, frames = match.groups()
    return float(hours), float(minutes), float(seconds), float(frames), float(mark == ";")


def _rate(codes: npt.NDArray[np.float64]) -> float | None:
    """Tell how many frames a second timecodes count, from where they begin a new one.

    Returns None where no second, or nothing else, was seen to pass.
    """
    seconds, frames = codes[:, :3] @ (3600, 60, 1), codes[:, 3]
    passed, steps = np.diff(seconds), np.diff(frames)
    within, turns = (passed == 0) & (steps > 0), passed == 1
    if not within.any() or not turns.any():
        return None
    least = math.floor(frames.max()) + 1
    measured = max(float(np.median(np.median(steps[within]) - steps[turns])), least)
    nearest = min((rate for rate in _RATES if rate >= least), key=lambda rate: abs(rate - measured), default=0)
    rate = float(nearest if abs(nearest - measured) <= _NEAR * measured else round(measured))
    return rate / 1.001 if codes[:, 4].any() else rate


def _times(codes: npt.NDArray[np.float64], fps: float, name: str) -> npt.NDArray[np.float64]:
    """Turn timecodes, shape (n, 5), into seconds from the first, growing."""
    minutes, frames = codes[:, :2] @ (60, 1), codes[:, 3]
    # One of 59.94 frames a second counts 60 before it begins a new second.
    counted = math.ceil(fps - 1e-6)
    highest = math.floor(frames.max())
    if highest >= counted:
        raise MienError(
            "bad-fps",
            f"{name} counts frames up to {highest}, too many for {fps:g} frames a second.",
            "Give the rate of its timecode, or none: then it is read off the file.",
        )
    numbers = (minutes * 60 + codes[:, 2]) * counted + frames
    day = 86400 * counted
    if codes[:, 4].any():  # drop-frame: each minute but every tenth begins with 2, or with 4 of 60
        left_out = 2 * (counted // 30)
        numbers -= (minutes - minutes // 10) * left_out
        day -= (1440 - 144) * left_out
    steps = np.diff(numbers)
    steps[steps < -day / 2] += day  # recorded over midnight
    steps[steps < -_BACK * fps] = np.median(steps[steps > 0]) if (steps > 0).any() else 1.0
    times = np.concatenate([[0.0], np.cumsum(steps)]) / fps
    for i in range(1, len(times)):  # the app repeats a timecode when it drops a frame
        if times[i] <= times[i - 1]:
            times[i] = times[i - 1] + _TICK
    return times
