"""From Mien's rotations to a bone's own channels: quaternions in numpy.

Quaternions are w, x, y, z along the last axis. Mien's head frame (+X the actor's left,
+Y up, +Z out of the face) becomes Blender's (+X left, -Y out of the face, +Z up); which way
an armature's own space stands in that, `axes.upright` tells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...core.head import continuous, inverse, matrix_from_quaternion, multiply

Floats = npt.NDArray[np.float64]

IDENTITY = (1.0, 0.0, 0.0, 0.0)

_AXES = {"X": 0, "Y": 1, "Z": 2}


def to_blender(rotation) -> Floats:
    """Turn quaternions of Mien's head frame into Blender's, (x, y, z) -> (x, -z, y)."""
    q = np.asarray(rotation, dtype=np.float64)
    return np.stack((q[..., 0], q[..., 1], -q[..., 3], q[..., 2]), axis=-1)


def normalised(q) -> Floats:
    """Return `q` at unit length."""
    q = np.asarray(q, dtype=np.float64)
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def about(axis: int, angle) -> Floats:
    """Return the turns by `angle` (radians) about one axis (0, 1, 2)."""
    half = 0.5 * np.asarray(angle, dtype=np.float64)
    q = np.zeros((*half.shape, 4))
    q[..., 0] = np.cos(half)
    q[..., 1 + axis] = np.sin(half)
    return q


def share(q, part: float) -> Floats:
    """Return `part` (0..1) of each turn: slerp from no turn, the short way round."""
    q = np.asarray(q, dtype=np.float64)
    q = np.where(q[..., :1] < 0.0, -q, q)
    length = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    half = part * np.arctan2(length, q[..., :1])
    with np.errstate(divide="ignore", invalid="ignore"):
        axis = np.where(length > 1e-12, q[..., 1:] / length, 0.0)
    return np.concatenate((np.cos(half), axis * np.sin(half)), axis=-1)


def gaze(yaw, pitch) -> Floats:
    """Return an eye's turn in Mien's head frame: yaw to the actor's left, then pitch upwards (radians)."""
    return multiply(about(1, yaw), about(0, -np.asarray(pitch, dtype=np.float64)))


def into_bone(q, rest) -> Floats:
    """Express turns given in Blender's frame in a bone's own.

    Parameters
    ----------
    q : array, shape (..., 4)
    rest : array, shape (4,)
        The bone's rest orientation there, as a quaternion.
    """
    return multiply(inverse(rest), multiply(q, rest))


def swing(q, arm) -> Floats:
    """Return how far turns move the end of an arm, shape (..., 3); `q` and `arm` (3,) in the same axes."""
    q = np.asarray(q, dtype=np.float64)
    twice = 2.0 * np.cross(q[..., 1:], arm)
    return q[..., :1] * twice + np.cross(q[..., 1:], twice)


def to_channels(q, mode: str) -> tuple[str, Floats]:
    """Write turns in a pose bone's rotation mode, without jumps from frame to frame.

    Parameters
    ----------
    q : array, shape (N, 4)
    mode : str
        ``PoseBone.rotation_mode``: ``"QUATERNION"``, ``"AXIS_ANGLE"`` or an Euler order.

    Returns
    -------
    name : str
        The pose bone's property.
    values : ndarray, shape (N, 3) or (N, 4)
    """
    q = continuous(normalised(q))
    if mode == "QUATERNION":
        return "rotation_quaternion", q
    if mode == "AXIS_ANGLE":
        return "rotation_axis_angle", _axis_angle(q)
    return "rotation_euler", _euler(q, mode)


def _axis_angle(q) -> Floats:
    length = np.linalg.norm(q[:, 1:], axis=1)
    angle = 2.0 * np.arctan2(length, q[:, 0])
    values = np.empty((len(q), 4))
    axis = np.array((0.0, 1.0, 0.0))  # Blender's default, for a bone that never turns
    turning = np.flatnonzero(length > 1e-6)
    if len(turning):
        axis = q[turning[0], 1:] / length[turning[0]]
    for i in range(len(q)):
        sign = 1.0
        if length[i] > 1e-6:
            new = q[i, 1:] / length[i]
            # Through zero the axis would flip; a negative angle about the old side does not jump.
            sign = -1.0 if new @ axis < 0.0 else 1.0
            axis = sign * new
        values[i] = (sign * angle[i], *axis)
    values[:, 0] = np.unwrap(values[:, 0])
    return values


def _euler(q, order: str) -> Floats:
    """Blender's Euler angles: ``"XYZ"`` turns about X first, so the matrix is Z Y X."""
    i, j, k = (_AXES[letter] for letter in order)
    odd = -1.0 if (j - i) % 3 != 1 else 1.0
    m = matrix_from_quaternion(q)
    cosine = np.hypot(m[:, i, i], m[:, j, i])
    first = np.where(cosine > 1e-9, np.arctan2(odd * m[:, k, j], m[:, k, k]), np.arctan2(-odd * m[:, j, k], m[:, j, j]))
    second = np.arctan2(-odd * m[:, k, i], cosine)
    third = np.where(cosine > 1e-9, np.arctan2(odd * m[:, j, i], m[:, i, i]), 0.0)
    angles = np.stack((first, second, third), axis=1)
    other = np.stack((first + np.pi, np.pi - second, third + np.pi), axis=1)  # the same turn, told otherwise
    for frame in range(1, len(angles)):
        before = angles[frame - 1]
        near = [a - 2 * np.pi * np.round((a - before) / (2 * np.pi)) for a in (angles[frame], other[frame])]
        angles[frame] = min(near, key=lambda a: np.abs(a - before).sum())
    values = np.empty_like(angles)
    values[:, [i, j, k]] = angles
    return values
