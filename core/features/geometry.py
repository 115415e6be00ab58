"""The mesh as numbers: turned to face the camera, compressed, with the model's blendshapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from ..head import head_space
from ..landmarks import Face
from ..units import ARKIT

Array = npt.NDArray[np.float32]

_SIDES = [ARKIT.index(name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")) for name in ARKIT]


@dataclasses.dataclass(frozen=True)
class GeometryBasis:
    """Principal components of the pose-normalised mesh.

    Attributes
    ----------
    mean : ndarray, shape (1434,)
        Mean mesh in `head.head_space`, flattened.
    axes : ndarray, shape (k, 1434)
        Components over their standard deviations: coordinates have unit variance.
    """

    mean: Array
    axes: Array

    @classmethod
    def fit(cls, meshes: npt.NDArray, count: int) -> GeometryBasis:
        """Return the first `count` components of meshes (n, 1434)."""
        mean = meshes.mean(0)
        _, spread, axes = np.linalg.svd(meshes - mean, full_matrices=False)
        scale = spread[:count, None] / np.sqrt(len(meshes))
        return cls(mean.astype(np.float32), (axes[:count] / scale).astype(np.float32))

    def describe(self, mesh: npt.NDArray, blendshapes: npt.NDArray) -> Array:
        """Return coordinates and blendshapes, (..., k + 52), of meshes (..., 1434) and weights (..., 52)."""
        coordinates = np.clip((mesh - self.mean) @ self.axes.T, -5, 5)
        return np.concatenate([coordinates, 4 * np.asarray(blendshapes)], -1).astype(np.float32)

    @property
    def length(self) -> int:
        """How many numbers `describe` gives."""
        return len(self.axes) + len(ARKIT)


def mesh_of(face: Face) -> Array:
    """Return the pose-normalised mesh of a face, flattened to (1434,)."""
    return head_space(face).astype(np.float32).ravel()


def mirrored_points(mean: npt.NDArray) -> npt.NDArray[np.intp]:
    """Return for each mesh point the one across the face, found on a mean mesh (1434,)."""
    points = mean.reshape(-1, 3)
    across = points * (-1, 1, 1)
    return np.argmin(((across[:, None] - points[None]) ** 2).sum(2), 1)


def mirror(meshes: npt.NDArray, blendshapes: npt.NDArray, twins: npt.NDArray) -> tuple[Array, Array]:
    """Return meshes (n, 1434) and blendshapes (n, 52) of the mirrored faces."""
    points = meshes.reshape(len(meshes), -1, 3)[:, twins] * np.float32([-1, 1, 1])
    return points.reshape(len(meshes), -1), blendshapes[:, _SIDES]
