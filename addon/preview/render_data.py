"""What the preview puts on the GPU, as plain arrays, and the same fusion on the CPU. No Blender here.

Every mesh vertex owns one *row*: a short list of the shape keys that move it and of the bones that
carry it. A vertex whose corners are split by a sharp edge has one row per side. Shapes that do not
move a vertex cost it nothing, neither memory nor time.

Positions are linear in the weights, p = p0 + sum w_i d_i. So are the two tangent vectors of the
surface, a = a0 + sum w_i (the slope of d_i along a0), and their cross product is the deformed
normal: it follows the surface exactly as far as the slopes are exact.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

TEXTURE_WIDTH = 4096
"""Texels per line of the fusion textures, a power of two; the shader knows it too."""

STATE_WIDTH = 256
"""Texels per line of the per-frame texture, a power of two; the shader knows it too."""

STATE_HEADER = 4
"""Texels before the weights: three rows of the object's matrix, then (shapes, bones, flip, 0)."""

NEGLIGIBLE = 5e-7
"""Deltas below this part of the head's size are dropped: 52 of them stay below 3e-5 together."""


@dataclasses.dataclass(frozen=True)
class MeshArrays:
    """A mesh as it is read from Blender.

    Attributes
    ----------
    positions : ndarray of float32, shape (V, 3)
        Vertices with every key at 0, in the object's space.
    corner_vertex : ndarray of int32, shape (C,)
    corner_normal : ndarray of float32, shape (C, 3)
    face_start, face_size : ndarray of int32, shape (F,)
    triangles : ndarray of int32, shape (T, 3)
        Corners.
    triangle_material : ndarray of int32, shape (T,)
    shapes : tuple of str
    deltas : list of tuple (ndarray of int32 (n,), ndarray of float32 (n, 3))
        Per shape: the vertices it moves, and by how much.
    bones : tuple of str
        Names of the bones in `influence_bone`.
    influence_vertex, influence_bone : ndarray of int32, shape (I,)
    influence_weight : ndarray of float32, shape (I,)
    uv : ndarray of float32, shape (C, 2), or None
    colour : ndarray of float32, shape (C, 4), or None
        Linear RGBA.
    """

    positions: Floats
    corner_vertex: Ints
    corner_normal: Floats
    face_start: Ints
    face_size: Ints
    triangles: Ints
    triangle_material: Ints
    shapes: tuple[str, ...] = ()
    deltas: list[tuple[Ints, Floats]] = dataclasses.field(default_factory=list)
    bones: tuple[str, ...] = ()
    influence_vertex: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    influence_bone: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    influence_weight: Floats = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    uv: Floats | None = None
    colour: Floats | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A mesh ready for the GPU.

    N points are drawn; they share R rows. A point is one vertex with one normal, one UV and one colour.

    Attributes
    ----------
    shapes, bones : tuple of str
    position, normal : ndarray of float32, shape (N, 3)
        At rest.
    tangent : ndarray of float32, shape (N, 3)
        The UV tangent as (cosine, sine) in the row's plane, and the sign of the bitangent.
    uv : ndarray of float32, shape (N, 2)
    colour : ndarray of float32, shape (N, 4)
        Linear RGBA; white where the mesh has none.
    row : ndarray of int32, shape (N, 4)
        First delta, number of deltas, first bone texel, number of bone texels.
    vertex : ndarray of int32, shape (N,)
        Mesh vertex of each point.
    row_of : ndarray of int32, shape (N,)
        Row of each point.
    fusion : ndarray of float32, shape (E + B, 4)
        E deltas (x, y, z, shape), then B texels (bone, weight, bone, weight).
    slopes : ndarray of float32, shape (2 E, 4)
        Per delta, its change along the row's first and second tangent.
    entries : int
        E.
    triangles : dict of int to ndarray of uint32, shape (T, 3)
        Points, by material slot.
    centre : ndarray of float32, shape (3,)
    size : float
        Diagonal of the box around the rest positions.
    """

    shapes: tuple[str, ...]
    bones: tuple[str, ...]
    position: Floats
    normal: Floats
    tangent: Floats
    uv: Floats
    colour: Floats
    row: Ints
    vertex: Ints
    row_of: Ints
    fusion: Floats
    slopes: Floats
    entries: int
    triangles: dict[int, npt.NDArray[np.uint32]]
    centre: Floats
    size: float

    @property
    def nbytes(self) -> int:
        """Bytes the model takes on the GPU, slopes at half precision."""
        points = sum(a.nbytes for a in (self.position, self.normal, self.tangent, self.uv, self.colour, self.row))
        return points + self.fusion.nbytes + self.slopes.nbytes // 2 + sum(t.nbytes for t in self.triangles.values())


def plane(normals: npt.ArrayLike) -> tuple[npt.NDArray, npt.NDArray]:
    """Return two unit vectors that make a right-handed frame with each normal.

    Without a branch at the poles: Duff et al., "Building an Orthonormal Basis, Revisited", JCGT 6(1), 2017.
    The vertex shader does the same.
    """
    n = np.asarray(normals)
    sign = np.where(n[..., 2] >= 0.0, 1.0, -1.0).astype(n.dtype)
    a = -1.0 / (sign + n[..., 2])
    b = n[..., 0] * n[..., 1] * a
    first = np.stack((1.0 + sign * n[..., 0] ** 2 * a, sign * b, -sign * n[..., 0]), axis=-1)
    second = np.stack((b, sign + n[..., 1] ** 2 * a, -n[..., 1]), axis=-1)
    return first, second


def build_model(mesh: MeshArrays) -> Model:
    """Arrange a mesh for the GPU.

    Parameters
    ----------
    mesh : MeshArrays

    Returns
    -------
    Model
    """
    low, high = (mesh.positions.min(0), mesh.positions.max(0)) if len(mesh.positions) else (np.zeros(3), np.zeros(3))
    size = float(np.linalg.norm(high - low)) or 1.0
    row_corner, corner_row = _rows(mesh)
    row_vertex = mesh.corner_vertex[row_corner]
    row_normal = mesh.corner_normal[row_corner]
    deltas, slopes, first, count = _entries(mesh, corner_row, row_vertex, row_normal, size)
    bones, bone_first, bone_count = _bone_texels(mesh, len(mesh.positions))

    point_corner, corner_point = _points(mesh, corner_row)
    point_row = corner_row[point_corner]
    vertex = mesh.corner_vertex[point_corner]
    row = np.empty((len(point_corner), 4), np.int32)
    row[:, 0], row[:, 1] = first[point_row], count[point_row]
    row[:, 2], row[:, 3] = bone_first[vertex] + len(deltas), bone_count[vertex]
    triangles = corner_point[mesh.triangles].astype(np.uint32)
    uv = np.zeros((len(point_corner), 2), np.float32) if mesh.uv is None else mesh.uv[point_corner]
    colour = np.ones((len(point_corner), 4), np.float32) if mesh.colour is None else mesh.colour[point_corner]
    position, normal = mesh.positions[vertex], mesh.corner_normal[point_corner]
    return Model(
        shapes=mesh.shapes,
        bones=mesh.bones,
        position=position,
        normal=normal,
        tangent=_tangents(position, normal, uv, triangles),
        uv=np.ascontiguousarray(uv, np.float32),
        colour=np.ascontiguousarray(colour, np.float32),
        row=row,
        vertex=vertex,
        row_of=point_row.astype(np.int32),
        fusion=np.concatenate((deltas, bones)),
        slopes=slopes,
        entries=len(deltas),
        triangles={int(m): triangles[mesh.triangle_material == m] for m in np.unique(mesh.triangle_material)},
        centre=((low + high) / 2).astype(np.float32),
        size=size,
    )


def _rows(mesh: MeshArrays) -> tuple[npt.NDArray, npt.NDArray]:
    """Return one corner per row, and the row of each corner."""
    steps = np.round(mesh.corner_normal * 511).astype(np.int64) + 512
    key = (mesh.corner_vertex.astype(np.int64) << 30) | (steps[:, 0] << 20) | (steps[:, 1] << 10) | steps[:, 2]
    _, corner, row = np.unique(key, return_index=True, return_inverse=True)
    return corner, row.reshape(-1)


def _points(mesh: MeshArrays, corner_row: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
    """Return one corner per point, and the point of each corner."""
    key = corner_row.astype(np.int64)
    for values in (mesh.uv, mesh.colour):
        if values is None:
            continue
        wide = np.ascontiguousarray(values, np.float32).view(np.int64)
        for column in range(wide.shape[1]):
            _, other = np.unique(wide[:, column], return_inverse=True)
            _, key = np.unique((key.reshape(-1) << 32) | other.reshape(-1), return_inverse=True)
    _, corner, point = np.unique(key.reshape(-1), return_index=True, return_inverse=True)
    return corner, point.reshape(-1)


def _neighbours(mesh: MeshArrays) -> tuple[npt.NDArray, npt.NDArray]:
    """Return the vertices after and before each corner in its face."""
    corners = np.arange(len(mesh.corner_vertex))
    start = np.repeat(mesh.face_start, mesh.face_size)
    size = np.repeat(mesh.face_size, mesh.face_size)
    inside = corners - start
    after = mesh.corner_vertex[start + (inside + 1) % size]
    before = mesh.corner_vertex[start + (inside - 1) % size]
    return after, before


def _entries(mesh, corner_row, row_vertex, row_normal, size):
    """Return the deltas and slopes of all rows, and each row's first entry and number of entries."""
    rows = len(row_vertex)
    p = mesh.positions.astype(np.float64)
    after, before = _neighbours(mesh)
    first, second = plane(row_normal.astype(np.float64))
    # Least squares over the edges of each row's corners, every edge by its direction alone: the slope of
    # a delta is the (2, 2) inverse of sum(x x^T / |x|^2) times sum(x delta / |x|^2).
    edges = []
    xx, xy, yy = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    for other in (after, before):
        edge = p[other] - p[mesh.corner_vertex]
        x = np.einsum("ij,ij->i", edge, first[corner_row])
        y = np.einsum("ij,ij->i", edge, second[corner_row])
        weight = 1.0 / np.maximum(np.einsum("ij,ij->i", edge, edge), (1e-7 * size) ** 2)
        edges.append((other, weight * x, weight * y))
        xx += np.bincount(corner_row, weight * x * x, rows)
        xy += np.bincount(corner_row, weight * x * y, rows)
        yy += np.bincount(corner_row, weight * y * y, rows)
    spread = xx + yy + 1e-12
    # A touch of damping, for slivers whose edges all point one way.
    xx, yy = xx + 1e-5 * spread, yy + 1e-5 * spread
    determinant = xx * yy - xy * xy

    pieces = []
    moved = np.zeros((len(p), 3))
    for shape, (index, values) in enumerate(mesh.deltas):
        keep = np.abs(values).max(axis=1, initial=0.0) > NEGLIGIBLE * size
        index, values = index[keep], values[keep]
        if not len(index):
            continue
        moved[index] = values
        touched = np.zeros(len(p), bool)
        touched[index] = True
        corners = np.flatnonzero(touched[mesh.corner_vertex] | touched[after] | touched[before])
        some, local = np.unique(corner_row[corners], return_inverse=True)
        local = local.reshape(-1)
        bx, by = np.zeros((len(some), 3)), np.zeros((len(some), 3))
        for other, wx, wy in edges:
            change = moved[other[corners]] - moved[mesh.corner_vertex[corners]]
            for k in range(3):
                bx[:, k] += np.bincount(local, wx[corners] * change[:, k], len(some))
                by[:, k] += np.bincount(local, wy[corners] * change[:, k], len(some))
        a, b, c, d = (v[some, None] for v in (xx, xy, yy, determinant))
        delta = np.empty((len(some), 4), np.float32)
        delta[:, :3], delta[:, 3] = moved[row_vertex[some]], shape
        slope = np.zeros((len(some), 2, 4), np.float32)
        slope[:, 0, :3], slope[:, 1, :3] = (c * bx - b * by) / d, (a * by - b * bx) / d
        pieces.append((some, delta, slope))
        moved[index] = 0.0
    if not pieces:
        return np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), *np.zeros((2, rows), np.int64)
    owner = np.concatenate([piece[0] for piece in pieces])
    order = np.argsort(owner, kind="stable")
    count = np.bincount(owner, minlength=rows)
    deltas = np.concatenate([piece[1] for piece in pieces])[order]
    # The GPU keeps them at half precision: rounded here, the CPU calculates with the same numbers.
    slopes = np.concatenate([piece[2] for piece in pieces])[order].reshape(-1, 4).astype(np.float16)
    slopes = slopes.astype(np.float32)
    return deltas, slopes, np.cumsum(count) - count, count


def _bone_texels(mesh: MeshArrays, vertices: int):
    """Return texels of two (bone, weight) pairs, and each vertex's first texel and number of texels.

    Weights are normalised to a sum of 1 as Blender's Armature modifier does.
    """
    total = np.bincount(mesh.influence_vertex, mesh.influence_weight, vertices)
    keep = (mesh.influence_weight > 0.0) & (total[mesh.influence_vertex] > 1e-4)
    vertex, bone = mesh.influence_vertex[keep], mesh.influence_bone[keep]
    weight = mesh.influence_weight[keep] / total[vertex]
    order = np.argsort(vertex, kind="stable")
    vertex, bone, weight = vertex[order], bone[order], weight[order]
    pairs = np.bincount(vertex, minlength=vertices)
    count = (pairs + 1) // 2
    first = np.cumsum(count) - count
    place = np.arange(len(vertex)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    texels = np.zeros((int(count.sum()), 4), np.float32)
    at = first[vertex] + place // 2
    texels[at, 2 * (place % 2)] = bone
    texels[at, 2 * (place % 2) + 1] = weight
    return texels, first, count


def _tangents(position, normal, uv, triangles) -> Floats:
    """Return each point's UV tangent as (cosine, sine) in its plane, and the sign of the bitangent."""
    corner = position[triangles].astype(np.float64)
    place = uv[triangles].astype(np.float64)
    e1, e2 = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    d1, d2 = place[:, 1] - place[:, 0], place[:, 2] - place[:, 0]
    area = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    sign = np.sign(area)[:, None]
    along = (e1 * d2[:, 1:] - e2 * d1[:, 1:]) * sign
    across = (e2 * d1[:, :1] - e1 * d2[:, :1]) * sign
    total, other = np.zeros(position.shape), np.zeros(position.shape)
    for k in range(3):
        for sums, values in ((total, along), (other, across)):
            sums[:, k] = np.bincount(triangles.ravel(), np.repeat(values[:, k], 3), len(position))
    first, second = plane(normal.astype(np.float64))
    x, y = np.einsum("ij,ij->i", total, first), np.einsum("ij,ij->i", total, second)
    length = np.hypot(x, y)
    flat = length < 1e-20
    x, y = np.where(flat, 1.0, x / np.where(flat, 1.0, length)), np.where(flat, 0.0, y / np.where(flat, 1.0, length))
    tangent = first * x[:, None] + second * y[:, None]
    turn = np.einsum("ij,ij->i", np.cross(normal, tangent), other)
    return np.stack((x, y, np.where(turn < 0.0, -1.0, 1.0)), axis=1).astype(np.float32)


def fuse(model: Model, weights: npt.ArrayLike, bone_matrices: npt.ArrayLike | None = None) -> tuple[Floats, ...]:
    """Deform a model on the CPU, step for step as the vertex shader does.

    Parameters
    ----------
    model : Model
    weights : array, shape (K,)
        One per shape.
    bone_matrices : array, shape (B, 4, 4), optional
        Per bone, from rest to pose, in the object's space; none moves by default.

    Returns
    -------
    position, normal, tangent : ndarray of float32, shape (N, 3)
        In the object's space.
    """
    weights = np.asarray(weights, np.float64)
    p = model.position.astype(np.float64)
    a, b = plane(model.normal.astype(np.float64))
    a0, b0 = a.copy(), b.copy()
    entry_row = np.repeat(np.arange(len(p)), model.row[:, 1])
    if len(entry_row):
        offset = np.arange(len(entry_row)) - np.repeat(np.cumsum(model.row[:, 1]) - model.row[:, 1], model.row[:, 1])
        entry = np.repeat(model.row[:, 0], model.row[:, 1]) + offset
        weight = weights[model.fusion[entry, 3].astype(np.int64)]
        for k in range(3):
            p[:, k] += np.bincount(entry_row, weight * model.fusion[entry, k], len(p))
            a[:, k] += np.bincount(entry_row, weight * model.slopes[2 * entry, k], len(p))
            b[:, k] += np.bincount(entry_row, weight * model.slopes[2 * entry + 1, k], len(p))
    tangent = a * model.tangent[:, :1] + b * model.tangent[:, 1:2]
    if bone_matrices is not None and len(bone_matrices):
        matrices = np.asarray(bone_matrices, np.float64)
        blend = np.zeros((len(p), 4, 4))
        texel = np.repeat(np.arange(len(p)), model.row[:, 3])
        at = np.repeat(model.row[:, 2], model.row[:, 3]) + (
            np.arange(len(texel)) - np.repeat(np.cumsum(model.row[:, 3]) - model.row[:, 3], model.row[:, 3])
        )
        for k in (0, 2):
            part = model.fusion[at, k + 1, None, None] * matrices[model.fusion[at, k].astype(np.int64)]
            np.add.at(blend, texel, part)
        blend[model.row[:, 3] == 0] = np.eye(4)
        p = np.einsum("nij,nj->ni", blend[:, :3, :3], p) + blend[:, :3, 3]
        a, b, tangent = (np.einsum("nij,nj->ni", blend[:, :3, :3], v) for v in (a, b, tangent))
    normal = np.cross(a, b)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    # Where the surface collapses to a line the rest normal is as good as any.
    normal = np.where(length > 1e-12, normal / np.where(length > 1e-12, length, 1.0), np.cross(a0, b0))
    return p.astype(np.float32), normal.astype(np.float32), tangent.astype(np.float32)


def pack_state(model: Model, matrix: npt.ArrayLike, weights: npt.ArrayLike, bone_matrices=None) -> Floats:
    """Lay out what changes from frame to frame, for one small texture.

    Parameters
    ----------
    model : Model
    matrix : array, shape (4, 4)
        From the object's space to the world's.
    weights : array, shape (K,)
    bone_matrices : array, shape (B, 4, 4), optional

    Returns
    -------
    ndarray of float32, shape (lines, STATE_WIDTH, 4)
    """
    shapes, bones = len(model.shapes), len(model.bones)
    texels = STATE_HEADER + shapes + 3 * bones
    lines = -(-texels // STATE_WIDTH)
    state = np.zeros((lines * STATE_WIDTH, 4), np.float32)
    matrix = np.asarray(matrix, np.float64)
    state[:3] = matrix[:3]
    state[3] = (shapes, bones, -1.0 if np.linalg.det(matrix[:3, :3]) < 0.0 else 1.0, 0.0)
    state[STATE_HEADER : STATE_HEADER + shapes, 0] = weights
    if bones:
        matrices = np.broadcast_to(np.eye(4), (bones, 4, 4)) if bone_matrices is None else np.asarray(bone_matrices)
        state[STATE_HEADER + shapes : texels] = matrices[:, :3].reshape(-1, 4)
    return state.reshape(lines, STATE_WIDTH, 4)


def far_to_near(centres: npt.NDArray, eye: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the order in which triangles that let something show through are drawn.

    Parameters
    ----------
    centres : ndarray, shape (T, 3)
    eye : array, shape (4,)
        The eye's place with a 1, or for a parallel view the direction to it with a 0.
    """
    eye = np.asarray(eye, np.float64)
    if eye[3]:
        distance = np.linalg.norm(eye[:3] / eye[3] - centres, axis=1)
    else:
        distance = -(centres @ eye[:3])
    return np.argsort(-distance, kind="stable")


def pack_texture(texels: Floats) -> Floats:
    """Fold texels into lines of `TEXTURE_WIDTH`; never empty, since a shader needs a texture to read.

    Returns
    -------
    ndarray of float32, shape (lines, width, 4)
    """
    lines = max(-(-len(texels) // TEXTURE_WIDTH), 1)
    folded = np.zeros((lines * TEXTURE_WIDTH, 4), np.float32)
    folded[: len(texels)] = texels
    return folded.reshape(lines, TEXTURE_WIDTH, 4)
