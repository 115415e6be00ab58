"""The take's expression labels as markers on the timeline."""

from __future__ import annotations

import itertools
from pathlib import Path

import bpy
import numpy as np
import numpy.typing as npt

from ..core.take import Take
from ..core.units import EXPRESSIONS

SHORTEST = 0.2
"""Seconds for which a label has to hold to be marked."""

NAMES = frozenset(name.capitalize() for name in EXPRESSIONS)
"""Names of markers that are taken to be Mien's."""


def changes(times: npt.NDArray[np.float64], labels: list[str]) -> list[tuple[float, str]]:
    """Return (seconds, label) wherever another expression begins.

    Frames without a face or a sure label say nothing: the expression before them goes on.

    Parameters
    ----------
    times : ndarray, shape (n,)
    labels : list of str
        As in `core.types.FrameResult.expression`.
    """
    told = [(float(time), label) for time, label in zip(times, labels, strict=True) if label in EXPRESSIONS]
    if not told:
        return []
    runs = [(next(group)[0], label) for label, group in itertools.groupby(told, key=lambda item: item[1])]
    ends = [start for start, _ in runs[1:]] + [float(times[-1])]
    found: list[tuple[float, str]] = []
    for (start, label), end in zip(runs, ends, strict=True):
        lasts = end - start >= SHORTEST or len(runs) == 1
        if lasts and (not found or found[-1][1] != label):
            found.append((start, label))
    return found


def mark_expressions(scene: bpy.types.Scene, path: Path, start: int, end: int) -> int:
    """Set a marker wherever a take's expression changes; returns how many.

    Markers of that kind between the frames `start` and `end` make way.

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
        found = changes(take.times, take.column("expression").tolist())
    for marker in list(scene.timeline_markers):
        if marker.name in NAMES and start <= marker.frame <= end:
            scene.timeline_markers.remove(marker)
    fps = scene.render.fps / scene.render.fps_base
    for time, label in found:
        scene.timeline_markers.new(label.capitalize(), frame=round(start + time * fps))
    return len(found)
