"""Faces and their 68 points from histograms and linear models alone, without a neural network.

A linear SVM slides over a pyramid of the picture and proposes faces; a cascade of linear
regressions moves a mean shape onto each; a second linear SVM looks at what the shape has
brought upright and keeps the faces. All look at histograms of oriented gradients. It
serves where no neural network may run (`points68`, `FaceTracker`), and as a check on the
landmark model (`FaceCheck`).

References
----------
Dalal & Triggs, Histograms of oriented gradients for human detection, CVPR 2005.
Xiong & De la Torre, Supervised descent method and its applications to face alignment,
CVPR 2013.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import numpy.typing as npt

from .action_unit_model import load_arrays, weights_file
from .features import hog
from .opencv import cv2
from .preprocess import crop, grey, similarity

Array = npt.NDArray[np.float32]

WINDOW = 64
"""Side of the detector's window, px."""

FRAME = 128
"""Side of the crop on which the shape is fitted, px; the window covers its middle."""

MARGIN = 1.25
"""Side of a face's window over the larger side of its 68 points."""

REACH = 1.5
"""Side of the crop on which the shape is fitted, over that of the window."""

MOST = 60
"""Most places of a picture whose shape is fitted."""

PATCHES = (32, 32, 16, 16)
"""Side of the patch around each point at each step of the cascade, px of the crop."""


@dataclasses.dataclass(frozen=True, slots=True)
class Detection:
    """A face found by the sliding window.

    Attributes
    ----------
    box : ndarray of float32, shape (4,)
        x, y, width, height of the window, px.
    score : float
        Distance from the verifying SVM's boundary; larger is surer.
    points : ndarray of float32, shape (68, 2)
        The face's points, px.
    """

    box: Array
    score: float
    points: Array


def window_of(points: npt.ArrayLike) -> Array:
    """Return the square window x, y, width, height that belongs to 68 points (68, 2)."""
    points = np.asarray(points, np.float32)
    low, high = points.min(0), points.max(0)
    side = MARGIN * float((high - low).max())
    return np.float32([*((low + high) / 2 - side / 2), side, side])


def crop_matrix(window: npt.ArrayLike, side: int, reach: float = 1.0) -> npt.NDArray[np.float64]:
    """Return the (2, 3) matrix from picture px to px of a square crop that is `reach` windows wide."""
    x, y, width, height = np.asarray(window, np.float64)
    scale = side / (reach * width)
    centre = np.array([x + width / 2, y + height / 2])
    return np.column_stack([np.eye(2) * scale, side / 2 - scale * centre])


def sliding_window(weights: npt.ArrayLike) -> cv2.HOGDescriptor:
    """Return what finds the windows in which the weights of a linear SVM, the bias last, see a face."""
    machine = cv2.HOGDescriptor(
        (WINDOW, WINDOW), (2 * hog.CELL, 2 * hog.CELL), (hog.CELL, hog.CELL), (hog.CELL, hog.CELL), hog.BINS,
        1, hog.SIGMA, 0, 0.2, False,
    )  # fmt: skip
    machine.setSVMDetector(np.asarray(weights, np.float32))
    return machine


def _patch_descriptor(side: int):
    return cv2.HOGDescriptor((side, side), (side, side), (side, side), (side // 2, side // 2), hog.BINS)


_DESCRIPTORS = {side: _patch_descriptor(side) for side in set(PATCHES)}


def patches(picture: npt.NDArray[np.uint8], points: Array, side: int) -> Array:
    """Return the histograms of the patches around each point of a `FRAME` crop, flattened, and a 1."""
    border = 32
    padded = cv2.copyMakeBorder(picture, border, border, border, border, cv2.BORDER_REPLICATE)
    corner = np.clip(np.round(points) - side // 2 + border, 0, FRAME + 2 * border - side).astype(int)
    values = _DESCRIPTORS[side].compute(padded, (side, side), (0, 0), [tuple(map(int, p)) for p in corner])
    return np.append(values.ravel(), np.float32(1))


class HogLandmarker:
    """Detector and 68-point model.

    Parameters
    ----------
    folder : path, optional
        Holds ``landmarks68.npz``; the shipped one if not given.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        arrays = load_arrays(weights_file("landmarks68", folder))
        self._detector = sliding_window(arrays["detector"])
        self._propose = float(arrays["thresholds"][0])
        self._accept = float(arrays["thresholds"][1])
        self._verify = _Verifier(arrays, "verifier")
        self.mean = self._verify.mean
        self._modes = arrays["modes"].astype(np.float32)
        self._steps = [arrays[f"step{i}"].astype(np.float32) for i in range(len(PATCHES))]

    def detect(self, image: npt.NDArray[np.uint8], smallest: int | None = None) -> list[Detection]:
        """Return the faces of a picture, surest first.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3) RGB or (H, W)
        smallest : int, optional
            Side in px of the smallest window looked for. If not given 32, or a twelfth of the
            picture's shorter side where that is more.
        """
        smallest = smallest or max(32, min(image.shape[:2]) // 12)
        fitted = (self.look(image, box) for box in self.propose(image, smallest)[:MOST])
        found = [detection for detection in fitted if detection is not None]
        found.sort(key=lambda detection: -detection.score)
        kept: list[Detection] = []
        for detection in found:
            if all(overlap(detection.box, other.box) < 0.3 for other in kept):
                kept.append(detection)
        return kept

    def propose(self, image: npt.NDArray[np.uint8], smallest: int) -> list[Array]:
        """Return the windows of at least `smallest` px where the sliding window sees faces, surest first."""
        picture = grey(image)
        zoom = WINDOW / smallest
        picture = cv2.resize(
            picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        )
        pad = WINDOW // 4
        picture = cv2.copyMakeBorder(picture, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        if min(picture.shape) < WINDOW:
            return []
        boxes, scores = self._detector.detectMultiScale(
            picture, hitThreshold=self._propose, winStride=(hog.CELL // 2, hog.CELL // 2), padding=(0, 0), scale=1.1,
            groupThreshold=0,
        )  # fmt: skip
        boxes = (np.float32(boxes).reshape(-1, 4) - [pad, pad, 0, 0]) / zoom
        return merged(boxes, np.ravel(scores))

    def look(self, image: npt.NDArray[np.uint8], box: npt.ArrayLike) -> Detection | None:
        """Return the face in a window x, y, width, height, or None if there is none."""
        points = self.fit(image, box)
        score = self._verify.score(image, points)
        return Detection(window_of(points), score, points) if score > self._accept else None

    def fit(self, image: npt.NDArray[np.uint8], box: npt.ArrayLike) -> Array:
        """Return the 68 points, px, shape (68, 2), of the face in a window x, y, width, height."""
        matrix = crop_matrix(box, FRAME, REACH)
        picture = crop(image, matrix, FRAME)
        shape = self.mean.copy()
        for side, step in zip(PATCHES, self._steps, strict=True):
            shape = shape + (patches(picture, shape, side) @ step @ self._modes).reshape(68, 2)
        return (shape - matrix[:, 2].astype(np.float32)) / np.float32(matrix[0, 0])


class FaceTracker:
    """Follows one face through a film: looks where it was, and in the whole picture when it is not there.

    Parameters
    ----------
    landmarker : HogLandmarker, optional

    Notes
    -----
    Where the face was takes some 5 ms, the whole picture a hundred times as long; so while
    there is no face, only every `PATIENCE`-th frame is searched.
    """

    PATIENCE = 5

    SURE = 0.7
    """Score from which a face is taken up: real ones of clips have 0.9 to 2.8, wrong windows under 0.5."""

    def __init__(self, landmarker: HogLandmarker | None = None):
        self._landmarker = landmarker or HogLandmarker()
        self._face: Detection | None = None
        self._waited = 0

    def __call__(self, image: npt.NDArray[np.uint8]) -> Detection | None:
        """Return the face of the next frame, the surest where it has to be looked for, or None."""
        if self._face is not None:
            self._face = self._landmarker.look(image, self._face.box)
            self._waited = 0
        if self._face is None:
            if self._waited % self.PATIENCE == 0:
                found = self._landmarker.detect(image)
                self._face = found[0] if found and found[0].score > self.SURE else None
            self._waited += 1
        return self._face


def overlap(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the intersection over the union of boxes x, y, width, height; (..., 4) and (..., 4) to (...)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - low, 0, None).prod(-1)
    return shared / np.maximum(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared, 1e-9)


class _Verifier:
    """An SVM that looks at what points bring upright."""

    def __init__(self, arrays: dict[str, np.ndarray], name: str):
        self.mean = arrays["mean"].astype(np.float32)
        self._weights = arrays[name].astype(np.float32)

    def score(self, image: npt.NDArray[np.uint8], points: Array) -> float:
        return float(self._weights[:-1] @ upright(image, points, self.mean) + self._weights[-1])


class FaceCheck:
    """Tells how surely points lie on a face that can be seen: a check on the landmark model.

    That model goes on drawing a mesh where a hand covers the mouth, and one that has slid off
    the face. A linear SVM, which learnt from faces, places beside them and covered faces, looks
    at what the mesh's 68 points bring upright. On all clips it is sure of every face, dark and
    blurred ones too, and doubts what lies beside it by a fifth to three fifths of its size and
    what is covered from the nose down (``tests/benchmarks/bench_check.py``). It knows faces from
    the front: rendered ones that are turned by 40 degrees or bowed by 30 are doubted now and
    then, those turned by 50 always.

    Parameters
    ----------
    folder : path, optional
        Holds ``landmarks68.npz``; the shipped one if not given.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """

    _SLOPE = 4.0  # 0.4 above the boundary is 0.83

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self._verify = _Verifier(load_arrays(weights_file("landmarks68", folder)), "check")

    def __call__(self, image: npt.NDArray[np.uint8], points: npt.ArrayLike) -> float:
        """Return the confidence 0..1; under 0.5 the face is hidden, or is none.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3) RGB or (H, W)
        points : array, shape (68, 2)
            px; anywhere, since a picture's edge goes on beyond it.
        """
        points = np.asarray(points, np.float32)
        if np.ptp(points, axis=0).max() < 1:
            return 0.0
        return float(1 / (1 + np.exp(-self._SLOPE * self._verify.score(image, points))))


def upright(image: npt.NDArray[np.uint8], points: Array, mean: Array) -> Array:
    """Return the histograms of a face brought to the mean shape, as the verifying SVM sees it."""
    target = (mean - FRAME / 2) * np.float32(WINDOW / FRAME * REACH) + WINDOW / 2
    return hog.describe(crop(image, similarity(points, target), WINDOW))


def merged(boxes: npt.NDArray, scores: npt.NDArray) -> list[Array]:
    """Return one window per place, surest first: the mean of those around it, weighted by score."""
    order = np.argsort(-scores)
    boxes, scores = boxes[order], scores[order] - scores.min(initial=0) + 1e-3
    free = np.ones(len(boxes), bool)
    result = []
    for best in range(len(boxes)):
        if free[best]:
            same = free & (overlap(boxes, boxes[best]) > 0.5)
            free &= ~same
            result.append((scores[same] @ boxes[same] / scores[same].sum()).astype(np.float32))
    return result
