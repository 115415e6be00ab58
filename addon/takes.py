"""The takes folder: what is in it, and what can be done with a take as a file."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import MienError
from ..core.files import is_reserved
from ..core.take import SUFFIX, Take
from ..core.wav import sound_path

LISTED = 200
"""Takes in the list at most, the newest: each has to be opened, while Blender waits."""

MOST_TOLD = 5
"""Stretches told one by one."""

BIN = "bin"
"""Folder inside the takes folder that deleted takes go to."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A take on disk.

    Attributes
    ----------
    path : pathlib.Path
    frames : int
    duration : float
        Seconds.
    changed : float
        When it was written, as files tell it.
    sound : bool
        Whether sound was recorded with it.
    """

    path: Path
    frames: int
    duration: float
    changed: float
    sound: bool = False


def new_path(folder: Path, moment: datetime.datetime | None = None) -> Path:
    """Return a path for a new live take; makes the folder.

    Raises
    ------
    MienError
        ``"takes-folder"``
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MienError(
            "takes-folder",
            f"The takes folder {folder} cannot be made: {error.strerror or error}.",
            "Choose another one in Mien's preferences.",
        ) from error
    stem = (moment or datetime.datetime.now()).strftime("live-%Y%m%d-%H%M%S")
    return _free(folder / f"{stem}{SUFFIX}")


def scan(folder: Path) -> list[Entry]:
    """Return the takes of a folder, the newest first; what cannot be read is left out."""
    dated = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            dated.append((path.stat().st_mtime, path))
    newest = sorted(dated, reverse=True)[:LISTED]
    entries = filter(None, (read(path) for _changed, path in newest))
    return sorted(entries, key=lambda entry: entry.changed, reverse=True)


def read(path: Path) -> Entry | None:
    """Return what the list shows of a take; None where it cannot be read."""
    with contextlib.suppress(MienError, OSError), Take(path) as take:
        # The last frame tells the duration; reading all of a long take would hold Blender up.
        duration = take[len(take) - 1].time - take[0].time if len(take) else 0.0
        return Entry(path, len(take), duration, path.stat().st_mtime, _sound(take) is not None)
    return None


def sound_of(path: Path) -> Path | None:
    """Return the sound that was recorded with a take; None where there is none."""
    with contextlib.suppress(MienError, OSError), Take(path) as take:
        return _sound(take)
    return None


def _sound(take: Take) -> Path | None:
    # A file of that name beside a take that was recorded without is somebody else's.
    sound = sound_path(take.path)
    return sound if "microphone" in take.header.extra and sound.is_file() else None


def hidden_notice(spans: Sequence[tuple[float, float]]) -> list[str]:
    """Return what to tell about stretches in which the face is hidden (`core.solve.hidden_spans`): a line, or none."""
    if not spans:
        return []
    first = ", ".join(f"{start:.1f}-{end:.1f}" for start, end in spans[:MOST_TOLD])
    more = f" and {len(spans) - MOST_TOLD} more" if len(spans) > MOST_TOLD else ""
    return [f"The face is hidden at {first} s{more}: the animation there is a guess"]


def unlabelled_notice(take: Take) -> list[str]:
    """Return what to tell who asks for markers or triggers of a take that tells no expressions: a line, or none."""
    if (take.column("expression") != "").any():
        return []
    return ["The take tells no expressions, as they are read off pictures alone: none is marked or sets anything off"]


def rename(path: Path, name: str) -> Path:
    """Give a take, and its sound, another name; returns its new path.

    Raises
    ------
    MienError
        ``"take-name"``, ``"take-exists"`` or ``"take-not-moved"``.
    """
    name = name.strip().removesuffix(SUFFIX)
    # Names are limited to 255 bytes, not characters, and endings follow.
    long = len(os.fsencode(name)) > 200
    odd = name.startswith(".") or is_reserved(name) or any(c in '<>:"/\\|?*' or ord(c) < 32 for c in name)
    if not name or long or odd:
        raise MienError(
            "take-name",
            f'A take cannot be called "{name}".',
            'Use a few letters, numbers and spaces; no < > : " / \\ | ? *, and no name of a device as CON or AUX.',
        )
    goal = path.with_name(name + SUFFIX)
    if goal == path:
        return path
    # Where case makes no difference, a change of case finds the take itself.
    itself = False
    with contextlib.suppress(OSError):  # one of them is not there
        itself = goal.samefile(path)
    if not itself and (goal.exists() or sound_path(goal).exists()):
        raise MienError("take-exists", f'There is a take "{name}" already.', "Choose another name.")
    return _move(path, goal)


def delete(path: Path) -> Path:
    """Move a take, and its sound, into the bin folder beside it; returns where it is now."""
    bin_folder = path.parent / BIN
    try:
        bin_folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _not_moved(path, error) from error
    return _move(path, _free(bin_folder / path.name))


def _free(path: Path) -> Path:
    number, free = 2, path
    # Another take's sound, or one that lost its take, must not become this one's.
    while free.exists() or sound_path(free).exists():
        free, number = path.with_name(f"{path.stem} {number}{path.suffix}"), number + 1
    return free


def _move(path: Path, goal: Path) -> Path:
    sound = sound_of(path)
    try:
        # Windows refuses to move a sound that Blender plays: then nothing is moved.
        if sound is not None:
            os.replace(sound, sound_path(goal))
        os.replace(path, goal)
    except OSError as error:
        if sound is not None and not sound.exists():
            with contextlib.suppress(OSError):
                os.replace(sound_path(goal), sound)
        raise _not_moved(path, error) from error
    return goal


def _not_moved(path: Path, error: OSError) -> MienError:
    return MienError(
        "take-not-moved",
        f"The take {path.name} cannot be moved: {error.strerror or error}.",
        "Close what has it open, and check that you may write in its folder.",
    )
