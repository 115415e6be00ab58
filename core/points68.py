"""The 68 points of every frame as a table: from the landmark model's mesh, or from histograms alone."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from .capture import open_source
from .files import writing_csv
from .units import POINT_BACKENDS

HEADER = ("frame", "time", *(f"{axis}{i}" for i in range(68) for axis in "xy"))

Finder = Callable[[npt.NDArray[np.uint8], float], npt.NDArray | None]


@contextlib.contextmanager
def finder(backend: str) -> Iterator[Finder]:
    """Give a function from a picture and its time, s, to the points (68, 2) of the face in it, px, or None.

    With ``"histograms"`` no neural network runs, and no file but Mien's own is needed.

    Raises
    ------
    ValueError
        If `backend` is none of `POINT_BACKENDS`.
    """
    if backend not in POINT_BACKENDS:
        raise ValueError(f"backend must be one of {POINT_BACKENDS}, got {backend!r}")
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


@dataclasses.dataclass(frozen=True)
class Points68:
    """The points of a film.

    Attributes
    ----------
    indices : ndarray of int64, shape (n,)
        Numbers of the frames.
    times : ndarray of float64, shape (n,)
        s.
    points : ndarray of float32, shape (n, 68, 2)
        px; NaN where there is no face.
    incomplete : bool
        Whether the film is cut or damaged, so that pictures are missing.
    notices : tuple of str
        What else its source tells.
    """

    indices: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    points: npt.NDArray[np.float32]
    incomplete: bool
    notices: tuple[str, ...] = ()

    @property
    def found(self) -> int:
        """How many frames have a face."""
        return int(np.isfinite(self.points).all((1, 2)).sum())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV: number, time in s, x and y of each point in px, empty without a face.

        Parameters
        ----------
        path : path
            The file; one that exists is replaced, but only by a whole one.

        Raises
        ------
        MienError
            ``csv-not-written``.
        """
        with writing_csv(path) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(HEADER)
            for index, time, points in zip(self.indices, self.times, self.points, strict=True):
                values = ["" if np.isnan(value) else f"{value:.2f}" for value in points.ravel()]
                table.writerow([index, f"{time:.4f}", *values])


def read_points(
    source: str | os.PathLike[str],
    backend: str = POINT_BACKENDS[0],
    fps: float | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Points68:
    """Find the 68 points of each frame.

    Parameters
    ----------
    source : path
        A video or pictures, see `capture.open_source`.
    backend : {"mesh", "histograms"}
    fps : float, optional
        Of a sequence of pictures.
    progress : callable, optional
        Is given frames done and, where it is known, in all.

    Raises
    ------
    MienError
        What `open_source` raises.
    """
    indices, times, points = [], [], []
    nowhere = np.full((68, 2), np.nan, np.float32)
    with open_source(source, fps) as film, finder(backend) as find:
        for frame in film:
            found = find(frame.image, frame.time)
            indices.append(frame.index)
            times.append(frame.time)
            points.append(nowhere if found is None else found.astype(np.float32))
            if progress:
                progress(len(indices), film.frame_count)
    points = np.array(points).reshape(-1, 68, 2)
    return Points68(np.array(indices), np.array(times), points, film.incomplete, film.notices)
