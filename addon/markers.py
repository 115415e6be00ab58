"""What a take's face expresses, as markers on the timeline."""

from __future__ import annotations

import itertools
from pathlib import Path

import bpy
import numpy as np
import numpy.typing as npt

from ..core.take import Take
from ..core.types import SURE
from ..core.units import EXPRESSIONS

SHORTEST = 0.2
"""Seconds for which an expression has to hold to be marked."""

MARK = "mien_markers"
"""Custom property of scenes: frame and name of each of Mien's markers, which can carry none of their own."""


HIDDEN = "Hidden"
"""Name of the marker where something comes before the face."""


def name_of(expression: str, own: str, hidden: bool = False) -> str:
    """Return the name of a frame's marker; empty where there is nothing to tell.

    Parameters
    ----------
    expression, own : str
        As in `core.types.FrameResult`; the actor's own expression goes before the basic one.
    hidden : bool
        Whether the face is hidden, which makes the expression a guess.
    """
    if hidden:
        return HIDDEN
    return own or (expression.capitalize() if expression in EXPRESSIONS else "")


def changes(times: npt.NDArray[np.float64], names: list[str]) -> list[tuple[float, str]]:
    """Return (seconds, name) wherever another expression begins.

    Frames without a face or a sure label say nothing: the expression before them goes on.

    Parameters
    ----------
    times : ndarray, shape (n,)
    names : list of str
        See `name_of`.
    """
    told = [(float(time), name) for time, name in zip(times, names, strict=True) if name]
    if not told:
        return []
    runs = [(next(group)[0], name) for name, group in itertools.groupby(told, key=lambda item: item[1])]
    ends = [start for start, _ in runs[1:]] + [float(times[-1])]
    found: list[tuple[float, str]] = []
    for (start, name), end in zip(runs, ends, strict=True):
        lasts = end - start >= SHORTEST or len(runs) == 1
        if lasts and (not found or found[-1][1] != name):
            found.append((start, name))
    return found


def mark_expressions(scene: bpy.types.Scene, path: Path, start: int, end: int) -> int:
    """Set a marker wherever a take's expression changes, or the face is hidden; returns how many.

    Those that Mien set before between the frames `start` and `end` make way; one that was
    moved or renamed since is Mien's no more.

    Parameters
    ----------
    scene : bpy.types.Scene
    path : pathlib.Path
        The take.
    start : int
        Scene frame of the take's time 0.
    end : int
        Last baked frame.
    """
    with Take(path) as take:
        hidden = take.column("found").astype(bool) & (take.column("confidence") < SURE)
        columns = take.column("expression").tolist(), take.column("own").tolist(), hidden.tolist()
        names = list(map(name_of, *columns))
        found = changes(take.times, names)
    noted = str(scene.get(MARK, "")).split("\n")
    mine = [marker for marker in scene.timeline_markers if _note(marker) in noted]
    kept = [_note(marker) for marker in mine if not start <= marker.frame <= end]
    for marker in mine:
        if start <= marker.frame <= end:
            scene.timeline_markers.remove(marker)
    fps = scene.render.fps / scene.render.fps_base
    new = [scene.timeline_markers.new(name, frame=round(start + time * fps)) for time, name in found]
    scene[MARK] = "\n".join([*kept, *map(_note, new)])
    return len(found)


def _note(marker: bpy.types.TimelineMarker) -> str:
    return f"{marker.frame} {marker.name}"
