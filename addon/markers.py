"""What a take's face expresses, as markers on the timeline."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import bpy
import numpy as np
import numpy.typing as npt

from ..core.units import EXPRESSIONS
from . import marks

if TYPE_CHECKING:
    from ..core.take import Take

SHORTEST = 0.2
"""Seconds for which an expression has to hold to be marked."""

MARK = "mien_markers"
"""Custom property of scenes: frame, name and heads of each of Mien's markers, which can carry none of their own."""

HIDDEN, VISIBLE = "Hidden", "Visible"
"""Names of markers: where something comes before the face, and after it where nothing else is to tell."""


def name_of(expression: str, own: str) -> str:
    """Return the name of a frame's marker; empty where there is nothing to tell.

    Parameters
    ----------
    expression, own : str
        As in `core.types.FrameResult`; the actor's own expression goes before the basic one.
    """
    return own or (expression.capitalize() if expression in EXPRESSIONS else "")


def changes(
    times: npt.NDArray[np.float64], names: list[str], hidden: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, str]]:
    """Return (seconds, name) wherever another expression begins.

    Frames without a face or a sure label say nothing: the expression before them goes on.

    Parameters
    ----------
    times : ndarray, shape (n,)
    names : list of str
        See `name_of`.
    hidden : sequence of tuple of float
        First and last second of the stretches in which the expression is a guess.
    """
    covered = np.zeros(len(times), bool)
    for first, last in hidden:
        covered |= (times >= first) & (times <= last)
    shown, current = [], ""
    for name, guessed in zip(names, covered.tolist(), strict=True):
        if guessed:
            current = current or VISIBLE
        else:
            current = name or current
        shown.append(HIDDEN if guessed else current)
    told = [(float(time), name) for time, name in zip(times, shown, strict=True) if name]
    runs = [(next(group)[0], name) for name, group in itertools.groupby(told, key=lambda item: item[1])]
    ends = [start for start, _ in runs[1:]] + [float(times[-1])] if runs else []
    found: list[tuple[float, str]] = []
    for (start, name), end in zip(runs, ends, strict=True):
        lasts = end - start >= SHORTEST or len(runs) == 1 or name == HIDDEN
        if lasts and (not found or found[-1][1] != name):
            found.append((start, name))
    return found


def changes_in(take: Take, hidden: Sequence[tuple[float, float]]) -> list[tuple[float, str]]:
    """Return what a take's face expresses, and where it is hidden (`core.solve.hidden_spans`); see `changes`."""
    names = map(name_of, take.column("expression").tolist(), take.column("own").tolist())
    return changes(take.times, list(names), hidden)


def mark(
    scene: bpy.types.Scene,
    found: Sequence[tuple[float, str]],
    start: float,
    end: int,
    heads: Sequence[bpy.types.Object],
) -> None:
    """Set a marker at each change.

    Those that Mien set before for these heads between the frames `start` and `end` make way; one that was
    moved, renamed or given a camera since is Mien's no more.

    Parameters
    ----------
    scene : bpy.types.Scene
    found : sequence of (seconds, name)
    start : float
        Scene frame of the take's time 0.
    end : int
        Last baked frame.
    heads : sequence of bpy.types.Object
        Those that show it.
    """
    kept = []
    for marker, theirs in _noted(scene):
        if round(start) <= marker.frame <= end and any(_concerns(theirs, head, scene) for head in heads):
            scene.timeline_markers.remove(marker)
        else:
            kept.append(_note(marker, theirs))
    fps = scene.render.fps / scene.render.fps_base
    names = [marks.sign(head) for head in heads]
    new = [scene.timeline_markers.new(name, frame=round(start + time * fps)) for time, name in found]
    scene[MARK] = "\n".join([*kept, *(_note(marker, names) for marker in new)])


def label_at(scene: bpy.types.Scene, frame: int, head: bpy.types.Object) -> str:
    """Return the label that Mien's markers tell of a head for a frame, as takes have it; ``""`` without any."""
    before = [each for each in _noted(scene) if each[0].frame <= frame]
    before.sort(key=lambda each: each[0].frame, reverse=True)
    name = next((marker.name for marker, names in before if _concerns(names, head, scene)), "")
    if name in (HIDDEN, VISIBLE):
        return ""
    return name.lower() if name.lower() in EXPRESSIONS else name


def _noted(scene) -> list[tuple[bpy.types.TimelineMarker, Sequence[str]]]:
    """Return the markers that are still Mien's, each with the names of the heads it was set for."""
    notes = collections.defaultdict(list)  # two heads may be told the same at one frame
    for note in str(scene.get(MARK, "")).split("\n"):
        told, *names = note.split("\t")
        notes[told].append(names)
    free = (marker for marker in scene.timeline_markers if marker.camera is None)
    return [(marker, notes[told].pop(0)) for marker in free if notes.get(told := _note(marker, ()))]


def _concerns(names: Sequence[str], head: bpy.types.Object, scene: bpy.types.Scene) -> bool:
    return any(marks.signed_by(name, head, scene) for name in names)


def _note(marker: bpy.types.TimelineMarker, names: Sequence[str]) -> str:
    return "\t".join((f"{marker.frame} {marker.name}", *names))
