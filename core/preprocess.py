"""From a picture and its mesh to a canonical, light-normalised crop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

ANCHORS = np.array([33, 133, 362, 263, 168, 2])
"""Mesh points that expressions move least: eye corners, bridge and base of the nose."""

CANONICAL = np.array(
    [[0.251, 0.387], [0.400, 0.398], [0.600, 0.398], [0.749, 0.387], [0.5, 0.375], [0.5, 0.641]], np.float32
)
"""Where `ANCHORS` come to lie in the crop, in parts of its side: their mean place in FER2013,
made symmetric, so that crops are framed as the pictures that the networks learnt from."""

_FLOOR = 0.02


def similarity(source: npt.ArrayLike, target: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the least-squares similarity from one set of points to another.

    Parameters
    ----------
    source, target : array, shape (n, 2)
        At least two different points.

    Returns
    -------
    ndarray, shape (2, 3)
        Rotation, one scale and translation, no mirroring: ``target = m[:, :2] @ source + m[:, 2]``.

    References
    ----------
    Umeyama, Least-squares estimation of transformation parameters between two point
    patterns, IEEE PAMI 13(4), 1991; in the plane the solution is one complex division.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or len(a) < 2:
        raise ValueError(f"points must be two equal (n, 2) sets, got {a.shape} and {b.shape}")
    mean_a, mean_b = a.mean(0), b.mean(0)
    p, q = (a - mean_a) @ (1, 1j), (b - mean_b) @ (1, 1j)
    spread = np.vdot(p, p).real
    if spread < 1e-12:
        raise ValueError("source points must differ")
    factor = np.vdot(p, q) / spread
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, mean_b - linear @ mean_a])


def alignment(landmarks: npt.ArrayLike, size: int) -> npt.NDArray[np.float64]:
    """Return the similarity, shape (2, 3), from picture px to px of a crop of `size`.

    Parameters
    ----------
    landmarks : array, shape (478, 2 or 3)
        Mesh points in px.
    size : int
        Side of the crop in px.
    """
    points = np.asarray(landmarks)[ANCHORS, :2]
    # A pixel's centre is at a whole number for OpenCV, hence the halves.
    return similarity(points, CANONICAL * size - 0.5)


def grey(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a picture's luma (H, W), from RGB (H, W, 3) or grey (H, W)."""
    import cv2

    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def aligned_crop(image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, size: int) -> npt.NDArray[np.uint8]:
    """Return the face upright, at a fixed place and scale.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3) RGB or (H, W) grey
    landmarks : array, shape (478, 2 or 3)
        Mesh points in px of `image`.
    size : int
        Side of the crop in px.

    Returns
    -------
    ndarray of uint8, shape (size, size)
        Grey. Where the picture ends, its edge goes on.
    """
    return crop(image, alignment(landmarks, size), size)


def crop(image: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.uint8]:
    """Return the grey square of a picture that a similarity (2, 3), from px to px, brings to `size`.

    Where the picture ends, its edge goes on.

    Notes
    -----
    What is larger than the crop is first averaged down by the whole factor next below, over
    the part of the picture that the crop covers, so that nothing aliases.
    """
    import cv2

    shrink = 1 / np.hypot(matrix[0, 0], matrix[1, 0])
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]]) @ inverse.T
    height, width = image.shape[:2]
    low = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, np.maximum([width - 2, height - 2], 0))
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 3, low + 2, [width, height])
    part = grey(image[low[1] : high[1], low[0] : high[0]])
    factor = int(max(shrink, 1))
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ low
    if factor > 1:
        rows, columns = max(part.shape[0] // factor, 1), max(part.shape[1] // factor, 1)
        scale = np.array([part.shape[1] / columns, part.shape[0] / rows])
        part = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        matrix[:, 2] += matrix[:, :2] @ (scale / 2 - 0.5)
        matrix[:, :2] *= scale
    return cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def normalise_light(crop: npt.NDArray) -> Array:
    """Take the light out of a grey crop.

    Parameters
    ----------
    crop : ndarray, shape (H, W)
        Grey, 0..255.

    Returns
    -------
    ndarray of float32, shape (H, W)
        -1..1, about zero mean.

    Notes
    -----
    The chain of Tan and Triggs with a logarithm in place of their power: a camera's gain
    becomes an offset and its gamma a factor, so that the difference of Gaussians removes
    the one and the contrast equalisation the other. A shadow is a gain that changes over
    space: it leaves a line at its edge alone.

    References
    ----------
    Tan & Triggs, Enhanced local texture feature sets for face recognition under difficult
    lighting conditions, IEEE TIP 19(6), 2010.
    """
    import cv2

    levels = np.log(np.asarray(crop, np.float32) / 255 + _FLOOR)
    unit = crop.shape[0] / 96
    band = cv2.GaussianBlur(levels, (0, 0), unit, borderType=cv2.BORDER_REFLECT) - cv2.GaussianBlur(
        levels, (0, 0), 4 * unit, borderType=cv2.BORDER_REFLECT
    )
    size = np.abs(band)
    band = band / (np.mean(size**0.1) ** 10 + 1e-6)
    band = band / (np.mean(np.minimum(np.abs(band), 10.0) ** 0.1) ** 10 + 1e-6)
    return np.tanh(band / 6)


def gradients(image: npt.NDArray) -> tuple[Array, Array]:
    """Return the derivatives along x and y by the template [-1 0 1].

    Parameters
    ----------
    image : ndarray, shape (H, W)

    Returns
    -------
    tuple of ndarray of float32, shape (H, W)
        Differences of each pixel's two neighbours; the image is mirrored at its edge, so
        the derivative across an edge is zero there.
    """
    values = np.pad(np.asarray(image, np.float32), 1, mode="reflect")
    return values[1:-1, 2:] - values[1:-1, :-2], values[2:, 1:-1] - values[:-2, 1:-1]
