"""Head pose and gaze from the landmarker's output.

Mien's head frame is right-handed: +x the actor's left, +y up, +z out of the face.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .landmarks import Face
from .units import ARKIT_INDEX

_CM = 0.01

# Mesh points, the actor's left eye first: inner and outer corner, iris centre.
_INNER = np.array([362, 133])
_OUTER = np.array([263, 33])
_IRIS = np.array([473, 468])


def quaternion_from_matrix(matrix: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the unit quaternion w, x, y, z (w >= 0) of a rotation matrix.

    Parameters
    ----------
    matrix : array, shape (..., 3, 3)
        Proper rotations.

    Returns
    -------
    ndarray, shape (..., 4)

    Notes
    -----
    Takes the largest eigenvector of Bar-Itzhack's symmetric matrix, which holds for every
    angle and takes the nearest rotation where the input is not quite one.

    References
    ----------
    Bar-Itzhack, New method for extracting the quaternion from a rotation matrix,
    Journal of Guidance, Control and Dynamics 23(6), 2000.
    """
    m = np.asarray(matrix, np.float64)
    if m.shape[-2:] != (3, 3):
        raise ValueError(f"matrix must be (..., 3, 3), got {m.shape}")
    k = np.empty((*m.shape[:-2], 4, 4))
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    k[..., 0, 0] = xx + yy + zz
    k[..., 1, 1] = xx - yy - zz
    k[..., 2, 2] = yy - xx - zz
    k[..., 3, 3] = zz - xx - yy
    k[..., 0, 1] = k[..., 1, 0] = m[..., 2, 1] - m[..., 1, 2]
    k[..., 0, 2] = k[..., 2, 0] = m[..., 0, 2] - m[..., 2, 0]
    k[..., 0, 3] = k[..., 3, 0] = m[..., 1, 0] - m[..., 0, 1]
    k[..., 1, 2] = k[..., 2, 1] = m[..., 0, 1] + m[..., 1, 0]
    k[..., 1, 3] = k[..., 3, 1] = m[..., 0, 2] + m[..., 2, 0]
    k[..., 2, 3] = k[..., 3, 2] = m[..., 1, 2] + m[..., 2, 1]
    quaternion = np.linalg.eigh(k)[1][..., :, -1]
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_from_quaternion(quaternion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the rotation matrices, shape (..., 3, 3), of unit quaternions w, x, y, z, shape (..., 4)."""
    q = np.asarray(quaternion, np.float64)
    if q.shape[-1:] != (4,):
        raise ValueError(f"quaternion must be (..., 4), got {q.shape}")
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def head_pose(face: Face) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the head's rotation and place.

    MediaPipe's canonical face has the axes of Mien's head frame, so that its matrix needs
    no change of axes.

    Returns
    -------
    rotation : ndarray, shape (4,)
        Unit quaternion w, x, y, z from facing the camera to where the head faces.
    translation : ndarray, shape (3,)
        Metres from the camera: x to the picture's right, y up, z negative in front of it.
        Distance rests on MediaPipe's assumed lens (63 degrees high) and head size.
    """
    rotation = face.matrix[:3, :3].astype(np.float64)
    rotation /= np.cbrt(np.linalg.det(rotation))
    return quaternion_from_matrix(rotation), face.matrix[:3, 3].astype(np.float64) * _CM


def head_space(face: Face) -> npt.NDArray[np.float64]:
    """Return the mesh points turned back to facing the camera.

    Returns
    -------
    ndarray, shape (478, 3)
        Mien's head frame, origin between the outer eye corners, in units of the distance
        between these. Perspective is left as it is.
    """
    points = face.landmarks.astype(np.float64) * (1.0, -1.0, -1.0)
    rotation = face.matrix[:3, :3].astype(np.float64)
    turned = points @ rotation  # R^T applied to row vectors
    left, right = turned[_OUTER]
    scale = np.linalg.norm(left - right)
    return (turned - (left + right) / 2) / max(scale, 1e-9)


def eye_rotations(face: Face) -> npt.NDArray[np.float64]:
    """Return each eye's (yaw, pitch) in the head, radians, left eye first, shape (2, 2)."""
    points = head_space(face)
    middle = (points[_INNER] + points[_OUTER]) / 2
    width = np.linalg.norm(points[_INNER] - points[_OUTER], axis=1)
    offset = (points[_IRIS] - middle)[:, :2] / (0.42 * width[:, None])
    angles = np.arcsin(np.clip(offset, -0.9, 0.9))
    return angles
