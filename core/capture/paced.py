"""A video file played as if it were a camera."""

from __future__ import annotations

import math
import os
import time

import numpy as np

from ..clock import now
from . import open_source
from .loop import LoopSource

_LATE = 0.5
"""Seconds behind after which the clock is set anew instead of hurrying."""


class PacedFile:
    """Pictures of a file at the pace of its time stamps, again and again.

    Like a camera it does not wait for its reader: pictures whose moment had passed when the next
    one was asked for are left out. For what cannot be decoded at its pace it does wait, and plays
    slower: leaving pictures out would gain nothing, as they have to be decoded all the same.

    Parameters
    ----------
    path : path
        As in `open_source`.
    mirror : bool
        Exchange left and right.

    Attributes
    ----------
    name, size, fps
        As in `Source`.
    missed : int
        Pictures left out because they were asked for too late.

    Raises
    ------
    MienError
        As in `open_source`.
    """

    def __init__(self, path: str | os.PathLike, mirror: bool = False):
        self._source = LoopSource(lambda: open_source(path), seconds=1e9)
        self._frames = iter(self._source)
        self._mirror = mirror
        self._start = math.nan
        self.name = self._source.name
        self.size = self._source.size
        self.fps = self._source.fps
        self.missed = 0

    def read(self) -> tuple[float, np.ndarray]:
        """Wait for the next picture; see `Camera.read`."""
        period = 1.0 / (self.fps or 30.0)
        asked = now()
        while True:
            frame = next(self._frames)
            due = self._start + frame.time
            if period < asked - due < _LATE:
                self.missed += 1
                continue
            moment = now()
            if not moment - due <= period:  # also at the start
                self._start, due = moment - frame.time, moment
            time.sleep(max(due - moment, 0.0))
            return now(), np.ascontiguousarray(frame.image[:, ::-1]) if self._mirror else frame.image

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._source.close()
