"""The face in single pictures that do not follow one another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .landmarks import Face, Landmarker

_STEP = 1.0
_EMPTY = np.zeros((64, 64, 3), np.uint8)


class StillLandmarker:
    """Finds faces as in a film that stands still.

    The landmarker follows a face from frame to frame: the first sight of one comes from
    the face detector's box, later ones from the mesh before, which is tighter. What is
    measured on stills should hold in films, so each picture is shown `repeats` times, and
    an empty one before it lets go of the face before.

    Parameters
    ----------
    landmarker : Landmarker
        Must be used for nothing else meanwhile.
    repeats : int
        How often a picture is shown.
    """

    def __init__(self, landmarker: Landmarker, repeats: int = 2):
        self._landmarker = landmarker
        self._repeats = repeats
        self._time = 0.0

    def find(self, image: npt.NDArray[np.uint8]) -> Face | None:
        """Return the face of one RGB picture (H, W, 3), or None."""
        face = self._show(_EMPTY)
        for _ in range(self._repeats):
            face = self._show(image)
            if face is None:
                return None
        return face

    def _show(self, image):
        self._time += _STEP
        return self._landmarker.detect(image, self._time)
