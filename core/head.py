"""Head pose and gaze from the landmarker's output, and the quaternions that tell them.

Mien's head frame is right-handed: +x the actor's left, +y up, +z out of the face.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .units import ARKIT_INDEX

if TYPE_CHECKING:
    from .landmarks import Face

_CM = 0.01

# Mesh points, the actor's left eye first: inner and outer corner, iris centre.
_INNER = np.array([362, 133])
_OUTER = np.array([263, 33])
_IRIS = np.array([473, 468])

_IRIS_TO_SINE = 2.6  # eye's width over eyeball's radius: 30 mm / 12 mm, and a little for the mesh's reserve
# Radians for an eyeLook weight of 1: exactly so in Live Link Face's data, 0.6 to 0.7 in our clips.
_WEIGHT_TO_ANGLE = 0.61
_LID_SHARE = 0.7
_PITCH_AT_ZERO = 0.15  # radians; eyes on the camera read as looking down a little


def _shapes(*names: str) -> npt.NDArray[np.intp]:
    return np.array([ARKIT_INDEX[name] for name in names])


_LOOK_LEFT = _shapes("eyeLookOutLeft", "eyeLookInRight")
_LOOK_RIGHT = _shapes("eyeLookInLeft", "eyeLookOutRight")
_LOOK_UP = _shapes("eyeLookUpLeft", "eyeLookUpRight")
_LOOK_DOWN = _shapes("eyeLookDownLeft", "eyeLookDownRight")
_LOOK = np.concatenate((_LOOK_LEFT, _LOOK_RIGHT, _LOOK_UP, _LOOK_DOWN))
_BLINK = _shapes("eyeBlinkLeft", "eyeBlinkRight")


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


def product(a: Iterable, b: Iterable) -> tuple:
    """Return the Hamilton product a b, the turn b and then a, of two times w, x, y, z: numbers or arrays."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def multiply(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the `product` of quaternions, shape (..., 4)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.stack(product(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)), axis=-1)


def inverse(quaternion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the inverse of unit quaternions, shape (..., 4)."""
    return np.asarray(quaternion, np.float64) * (1.0, -1.0, -1.0, -1.0)


def continuous(quaternions: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Flip signs so that neighbours, shape (n, 4), lie on the same side, w >= 0 at first; q and -q are one rotation."""
    q = np.asarray(quaternions, np.float64)
    first = np.where(q[:1, 0] < 0.0, -1.0, 1.0)
    turns = np.where((q[1:] * q[:-1]).sum(axis=1) < 0.0, -1.0, 1.0)
    return q * np.concatenate((first, turns)).cumprod()[:, None]


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


def gaze(face: Face) -> npt.NDArray[np.float64]:
    """Return where the eyes look by this one frame; `GazeTracker` adds what went before.

    Returns
    -------
    ndarray, shape (2,)
        (yaw, pitch) in the head, radians; yaw towards the actor's left and pitch upwards positive.

    Notes
    -----
    Yaw is the mean of two measures that agree (r = 0.95..1 on twelve clips): the iris between
    the corners of the eye and the model's eyeLook weights. The iris moves further for large
    angles, where the weights saturate; the weights are steadier for small ones. Pitch is the
    weights alone: the mesh lets the iris move up and down by less than its noise (r = 0.82
    for the weights against 0.61 for the iris on a face that nods while looking at the camera).
    Scales are from two clips of heads that turn while the eyes stay on the camera.
    """
    points = head_space(face)
    width = np.linalg.norm(points[_INNER] - points[_OUTER], axis=1)
    offset = points[_IRIS, 0] - (points[_INNER, 0] + points[_OUTER, 0]) / 2
    # Both irises rest a little to the outside of the middle of the lids; the mean of both eyes cancels it.
    by_iris = np.arcsin(np.clip(_IRIS_TO_SINE * np.mean(offset / np.maximum(width, 1e-9)), -0.8, 0.8))
    weights = face.blendshapes
    by_weights = _WEIGHT_TO_ANGLE * (weights[_LOOK_LEFT].mean() - weights[_LOOK_RIGHT].mean())
    pitch = _WEIGHT_TO_ANGLE * (weights[_LOOK_UP].mean() - weights[_LOOK_DOWN].mean()) + _PITCH_AT_ZERO
    return np.array([(by_iris + by_weights) / 2, pitch])


def lids_at_most_shut(arkit: npt.NDArray) -> npt.NDArray:
    """Return ARKit weights, shape (..., 52), without the part of eyeLookDown that a shut lid has no room for.

    A character's eyeLookDown lowers the lid, too. An iPhone's stays below ``1 - 0.7 eyeBlink``; the landmark model
    says 0.7 to 0.9 of both where eyes are lowered.
    """
    result = np.array(arkit)
    result[..., _LOOK_DOWN] = np.minimum(result[..., _LOOK_DOWN], 1.0 - _LID_SHARE * result[..., _BLINK])
    return result


class GazeTracker:
    """Gaze that a blink does not move.

    As a lid closes the mesh's iris follows it down and the model reads the blink as a look
    down (eyeLookDown up to 0.9). So the gaze is held from before the lids close, for as long
    as a blink can last; after that the eyes may be lowered rather than shut. How far lids are
    open differs between people, and as they look down: a lid closes against where it just
    was. Both eyes turn together, which halves the noise and keeps a wink from turning an eye;
    a squint inwards is lost. A face that was away for longer than a blink is begun anew.
    """

    BLINK = 0.4
    """Seconds for which gaze is held at most."""

    OPEN, SHUT = 0.08, 0.2
    """How far above its lowest of the last `BLINK` seconds a lid (eyeBlink, of the more open eye) may be for the
    gaze to be taken, and from where on it is held."""

    BACK = 0.2
    """Seconds over which the gaze comes back."""

    def __init__(self):
        self._gaze: npt.NDArray[np.float64] | None = None
        self._weights: npt.NDArray[np.float32] | None = None
        self._trust = 1.0
        self._lids: list[tuple[float, float]] = []  # the last ones' times and weights

    def __call__(self, face: Face, time: float) -> npt.NDArray[np.float64]:
        """Return each eye's (yaw, pitch), radians, left eye first, shape (2, 2)."""
        seen, lid = gaze(face), float(face.blendshapes[_BLINK].min())
        self._lids = [(then, weight) for then, weight in self._lids if 0.0 < time - then <= self.BLINK]
        back = (time - self._lids[-1][0]) / self.BACK if self._lids else 1.0
        self._lids.append((time, lid))
        closed = lid - min(weight for _, weight in self._lids)
        trust = max((self.SHUT - closed) / (self.SHUT - self.OPEN), 0.0)
        self._trust = min(trust, self._trust + back, 1.0)
        if self._gaze is None:
            self._gaze = seen
        self._gaze = self._gaze + self._trust * (seen - self._gaze)
        return np.tile(self._gaze, (2, 1))

    def hold(self, arkit: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the weights, shape (52,), of the frame seen last, with its eyeLook weights held likewise.

        An eyeLookDown on top of each blink would push a character's lid down twice. See `lids_at_most_shut`, too.
        """
        look = arkit[_LOOK]
        if self._weights is None:
            self._weights = look
        self._weights = self._weights + np.float32(self._trust) * (look - self._weights)
        result = arkit.copy()
        result[_LOOK] = self._weights
        return lids_at_most_shut(result)
