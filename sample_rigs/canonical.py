"""The canonical face: 468 named points and their triangles, the seed of the sample head.

The coordinates come from ``geometry_pipeline_metadata_landmarks.binarypb`` inside MediaPipe's
``face_landmarker.task`` (Copyright Google, Apache License 2.0). They are stored beside this file
in ``canonical_face.npz`` so that the head builds on a machine that has not fetched the model;
`read_model` makes that file again, and a test compares the two.

Coordinates here are in centimetres in Blender's axes: +X the character's left, -Y forward, +Z up.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

STORE = Path(__file__).with_name("canonical_face.npz")
_MEMBER = "geometry_pipeline_metadata_landmarks.binarypb"

# Concentric loops round the character's right eye, matched column by column, from the rim outwards.
EYE_RIM = [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]
EYE_RING1 = [130, 25, 110, 24, 23, 22, 26, 112, 243, 190, 56, 28, 27, 29, 30, 247]
EYE_RING2 = [226, 31, 228, 229, 230, 231, 232, 233, 244, 189, 221, 222, 223, 224, 225, 113]
# The inner edge of the lips, from the right corner along the lower lip to the left and back above.
LIP_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]
LIP_UPPER = [
    [61, 185, 40, 39, 37, 0],
    [76, 184, 74, 73, 72, 11],
    [62, 183, 42, 41, 38, 12],
    [78, 191, 80, 81, 82, 13],
]
LIP_LOWER = [
    [146, 91, 181, 84, 17],
    [77, 90, 180, 85, 16],
    [96, 89, 179, 86, 15],
    [95, 88, 178, 87, 14],
]
# The face oval, from the forehead's middle over the character's left side.
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _fields(data: bytes):
    """Yield (field number, value) of one protobuf message; only the wire types met here."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif kind == 5:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError(f"unexpected protobuf wire type {kind}")
        yield key >> 3, value


def read_model(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the canonical face out of a ``face_landmarker.task``.

    Parameters
    ----------
    path : str or Path
        The model file.

    Returns
    -------
    points : (468, 3) float64
        Centimetres, Blender's axes.
    triangles : (898, 3) int64
    """
    with zipfile.ZipFile(path) as model:
        metadata = model.read(_MEMBER)
    mesh = next(value for number, value in _fields(metadata) if number == 1)
    floats = [struct.unpack("<f", value)[0] for number, value in _fields(mesh) if number == 3]
    indices = [value for number, value in _fields(mesh) if number == 4]
    raw = np.array(floats).reshape(-1, 5)[:, :3]  # x, y, z, u, v per vertex
    return raw[:, [0, 2, 1]] * [1.0, -1.0, 1.0], np.array(indices).reshape(-1, 3)


def load() -> tuple[np.ndarray, np.ndarray]:
    """The stored canonical face, as `read_model` returns it."""
    with np.load(STORE, allow_pickle=False) as data:
        return data["points"].astype(np.float64), data["triangles"].astype(np.int64)


def store(model: str | Path) -> None:
    """Write ``canonical_face.npz`` from the model file."""
    points, triangles = read_model(model)
    np.savez_compressed(STORE, points=points.astype(np.float32), triangles=triangles.astype(np.int16))


def mirror_map(points: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """For each point the index of its mirror image across x = 0 (itself on the middle line)."""
    image = points * [-1.0, 1.0, 1.0]
    partner = np.empty(len(points), int)
    for start in range(0, len(points), 512):
        block = image[start : start + 512]
        distance = np.linalg.norm(block[:, None] - points[None], axis=2)
        partner[start : start + 512] = distance.argmin(1)
        if distance.min(1).max() > tolerance:
            raise ValueError("the mesh is not symmetric")
    return partner
