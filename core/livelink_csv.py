"""Live Link Face CSV: Epic's iPhone app writes it; Unreal, Faceit and many scripts read it.

One row per frame: ``Timecode``, ``BlendShapeCount`` (always 61), then 61 values, ARKit's 52
weights 0..1 and nine angles in radians. Columns are ARKit's names with a capital first letter,
in the app's order, which has right before left for jaw and mouth.

Timecode is ``HH:MM:SS:FF.mmm``: FF counts frames at the recording's rate, mmm thousandths of a
frame. The app writes the time of day; Mien writes the time since the recording began.

Signs of the angles are those of the app's packets: see ``docs/network.md`` and
`network.livelink.pose_from_angles`, which both this file and the packets go through.
"""

from __future__ import annotations

import csv
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .action_units import from_arkit
from .errors import MienError
from .files import writing_csv
from .fusion import fuse
from .network.livelink import ANGLES, angles_from_pose, pose_from_angles
from .solve import Performance, SolveOptions, solve_take
from .units import ARKIT

if TYPE_CHECKING:
    from .take import Take

DEFAULT_FPS = 60.0
"""The app's rate unless the user changes it."""

_RATES = (24, 25, 30, 48, 50, 60, 90, 100, 120, 240)
_TIMECODE = re.compile(r"(\d+):(\d\d):(\d\d):(\d+)(?:\.(\d+))?")
_DAY = 86400.0


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


def load(path: str | os.PathLike, fps: float | None = None) -> Performance:
    """Read a Live Link Face CSV.

    Columns are found by name in any order and case; angles may be missing. Rows without
    ``Timecode`` follow each other at `fps`. A last row that was cut off is left out.

    Parameters
    ----------
    path : path
    fps : float, optional
        Rate of the timecode's frames; read off the file if not given.

    Returns
    -------
    Performance
        Weights as the app measured them; action units by `from_arkit` and units by `fuse`.
        The app records no place: `translation` is 0.

    Raises
    ------
    MienError
        ``csv-not-found``, ``csv-not-read``, ``csv-not-livelink`` or ``csv-damaged``.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise MienError("csv-not-found", f"There is no file {path}.", "Check the path.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MienError("csv-not-read", f"{path.name} cannot be read: {error}.", "Check the file.") from error
    where = {name.strip().lower(): i for i, name in enumerate(rows[0])} if rows else {}
    missing = [name for name in ARKIT if name.lower() not in where]
    if missing:
        raise MienError(
            "csv-not-livelink",
            f"{path.name} is not a Live Link Face CSV: it has no column {_column(missing[0])}.",
            "Export the take as CSV from the app and choose that file.",
        )
    body = rows[1:]
    if body and len(body[-1]) < len(rows[0]):
        body.pop()
    if not body:
        raise MienError("csv-damaged", f"{path.name} has no frames.", "Export the take again.")
    angles = [name for name in ANGLES if name.lower() in where]
    try:
        table = np.array([[float(row[where[name.lower()]]) for name in (*ARKIT, *angles)] for row in body])
    except (ValueError, IndexError):
        table = np.full((1, 1), np.nan)
    if not np.isfinite(table).all():
        raise MienError(
            "csv-damaged", f"{path.name} has a frame with missing or unreadable values.", "Export the take again."
        )
    if "timecode" in where:
        times = _times([row[where["timecode"]] for row in body], fps, path.name)
    else:
        times = np.arange(len(body)) / (fps or DEFAULT_FPS)
    arkit = np.clip(table[:, : len(ARKIT)], 0.0, 1.0).astype(np.float32)
    turns = np.zeros((len(body), len(ANGLES)))
    turns[:, [ANGLES.index(name) for name in angles]] = table[:, len(ARKIT) :]
    poses = [pose_from_angles(row) for row in turns]
    heads = np.array([head for head, _ in poses])
    flips = np.cumprod(np.concatenate([[1.0], np.where((heads[1:] * heads[:-1]).sum(axis=1) < 0, -1.0, 1.0)]))
    action_units = from_arkit(arkit)
    return Performance(
        times=times,
        found=np.ones(len(body), bool),
        units=fuse(action_units),
        arkit=arkit,
        action_units=action_units,
        head=(heads * flips[:, None]).astype(np.float32),
        translation=np.zeros((len(body), 3), np.float32),
        eyes=np.array([eyes for _, eyes in poses], np.float32),
    )


def _times(codes: list[str], fps: float | None, name: str) -> npt.NDArray[np.float64]:
    """Turn timecodes into seconds from the first, growing."""
    matches = [_TIMECODE.fullmatch(code.strip()) for code in codes]
    if None in matches:
        bad = codes[matches.index(None)]
        raise MienError("csv-damaged", f"{name} has the timecode {bad!r}.", "It should be HH:MM:SS:FF.mmm.")
    parts = np.array([[float(group) for group in match.groups()[:4]] for match in matches])
    frames = parts[:, 3] + np.array([float(f"0.{match[5] or 0}") for match in matches])
    if fps is None:
        # The smallest usual rate that holds every frame number seen.
        fps = next((rate for rate in _RATES if rate > parts[:, 3].max()), DEFAULT_FPS)
        seconds = len(np.unique(parts[:, :3], axis=0))
        if seconds < 3:  # too short to have met the highest number
            fps = max(fps, DEFAULT_FPS)
    times = parts[:, 0] * 3600 + parts[:, 1] * 60 + parts[:, 2] + frames / fps
    times += _DAY * np.concatenate([[0], np.cumsum(np.diff(times) < -_DAY / 2)])  # recorded over midnight
    times -= times[0]
    for i in range(1, len(times)):  # the app repeats a timecode when it drops a frame
        if times[i] <= times[i - 1]:
            times[i] = times[i - 1] + 0.001
    return times
