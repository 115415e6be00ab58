"""Where the face is on a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import bpy


def face_bounds(mesh: bpy.types.Object) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the corners, in the mesh's own space, of what its shape keys move."""
    keys = mesh.data.shape_keys.key_blocks
    rest = np.empty(len(mesh.data.vertices) * 3, np.float32)
    keys[0].data.foreach_get("co", rest)
    reach = np.zeros(len(rest) // 3, np.float32)
    shape = np.empty_like(rest)
    for key in keys[1:]:
        key.data.foreach_get("co", shape)
        np.maximum(reach, np.abs(shape - rest).reshape(-1, 3).max(axis=1), out=reach)
    # Soft sculpting reaches far with little: a tenth of the largest motion is the face.
    face = rest.reshape(-1, 3)[reach >= 0.1 * reach.max()]
    return face.min(axis=0), face.max(axis=0)
