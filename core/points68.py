"""The 68 points of every frame as a table: from the landmark model's mesh, or from histograms alone."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from .capture import open_source
from .errors import MienError
from .files import replacing
from .units import POINT_BACKENDS

HEADER = ("frame", "time", *(f"{axis}{i}" for i in range(68) for axis in "xy"))

Finder = Callable[[npt.NDArray[np.uint8], float], npt.NDArray | None]


@contextlib.contextmanager
def finder(backend: str) -> Iterator[Finder]:
    """Give a function from a picture and its time, s, to the points (68, 2) of the face in it, px, or None.

    With ``"histograms"`` no neural network runs, and no file but Mien's own is needed.
    """
    if backend == "histograms":
        from .landmarks68 import FaceTracker

        track = FaceTracker()

        def find(image, time):
            face = track(image)
            return None if face is None else face.points

        yield find
        return
    from .landmarks import POINTS68, Landmarker
    from .models import landmark_model

    with Landmarker(landmark_model()) as landmarker:

        def find(image, time):
            face = landmarker.detect(image, time)
            return None if face is None else face.landmarks[POINTS68, :2]

        yield find


def write_points(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    backend: str = POINT_BACKENDS[0],
    fps: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, int]:
    """Write the 68 points of each frame as CSV: its number, its time in s, x and y in px; empty without a face.

    Parameters
    ----------
    source : path
        A video or pictures, see `capture.open_source`.
    target : path
        The file; one that exists is replaced, but only by a whole one.
    backend : {"mesh", "histograms"}
    fps : float, optional
        Of a sequence of pictures.
    progress : callable, optional

    Returns
    -------
    dict
        ``frames`` and how many of them have a face, ``found``.

    Raises
    ------
    MienError
        What `open_source` raises, or ``csv-not-written``.
    """
    frames = found = 0
    with open_source(source, fps) as film, finder(backend) as find:
        try:
            with replacing(target) as part, part.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(HEADER)
                for frame in film:
                    points = find(frame.image, frame.time)
                    values = [""] * 136 if points is None else [f"{value:.2f}" for value in np.ravel(points)]
                    table.writerow([frame.index, f"{frame.time:.4f}", *values])
                    frames, found = frames + 1, found + (points is not None)
                    if progress:
                        progress(frames, film.frame_count)
        except OSError as error:
            raise MienError(
                "csv-not-written",
                f"{target} cannot be written: {error.strerror or error}.",
                "Give a place where you may write.",
            ) from error
    return {"frames": frames, "found": found}
