"""Measure Mien on sets that others bring: expression, landmarks, units."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from .landmarks import Face
from .stills import StillLandmarker

_SMALLEST = 192


def find_in_grey(stills: StillLandmarker, image: npt.NDArray[np.uint8]) -> Face | None:
    """Find the face in a grey crop that may be small and tight.

    The detector wants some room around a face: the crop gets a margin of half its size on
    each side in its mean grey, and small ones are enlarged to 192 px.

    Parameters
    ----------
    stills : StillLandmarker
    image : ndarray of uint8, shape (H, W)

    Returns
    -------
    Face or None
        In pixels of `image`.
    """
    import cv2

    height, width = image.shape
    margin = max(height, width) // 2
    scale = max(_SMALLEST / max(height, width), 1.0)
    padded = cv2.copyMakeBorder(
        image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=float(image.mean())
    )
    if scale > 1:
        padded = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    face = stills.find(cv2.cvtColor(padded, cv2.COLOR_GRAY2RGB))
    if face is None:
        return None
    points = face.landmarks / np.float32(scale) - np.float32([margin, margin, 0])
    return dataclasses.replace(face, size=(width, height), landmarks=points)
