"""Where the face is on a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import bpy


def points_of(key: bpy.types.ShapeKey) -> npt.NDArray[np.float32]:
    """Return where a shape key has the vertices, shape (n, 3)."""
    points = np.empty((len(key.data), 3), np.float32)
    key.data.foreach_get("co", points.ravel())  # of whole arrays a view
    return points


def face_bounds(mesh: bpy.types.Object) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the corners, in the mesh's own space, of what its shape keys move."""
    keys = mesh.data.shape_keys.key_blocks
    rest = points_of(keys[0])
    reach = np.zeros(len(rest), np.float32)
    for key in keys[1:]:
        np.maximum(reach, np.abs(points_of(key) - rest).max(axis=1), out=reach)
    # Soft sculpting reaches far with little: a tenth of the largest motion is the face.
    face = rest[reach >= 0.1 * reach.max()]
    return face.min(axis=0), face.max(axis=0)
