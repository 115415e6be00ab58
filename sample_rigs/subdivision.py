"""Polygon bookkeeping in numpy: quads from triangles, Catmull-Clark, smoothing, harmonic fields."""

from __future__ import annotations

import numpy as np

Faces = list  # of tuples of vertex indices


def pair_triangles(points: np.ndarray, triangles: np.ndarray, mirror: np.ndarray) -> Faces:
    """Join triangles into quads, the same way on both sides of x = 0.

    Quads subdivide into an even mesh that deforms well; triangles that find no partner stay.
    """
    tris = [tuple(int(i) for i in t) for t in triangles]
    where: dict[tuple[int, int], list[int]] = {}
    for index, tri in enumerate(tris):
        for a, b in zip(tri, tri[1:] + tri[:1], strict=True):
            where.setdefault((min(a, b), max(a, b)), []).append(index)
    lookup = {frozenset(t): i for i, t in enumerate(tris)}
    image = [lookup[frozenset(int(mirror[v]) for v in t)] for t in tris]

    def quad(first: int, second: int) -> tuple[int, ...] | None:
        shared = set(tris[first]) & set(tris[second])
        tri = tris[first]
        for i in range(3):
            if tri[i] not in shared:
                tip = next(v for v in tris[second] if v not in shared)
                return (tri[i], tri[(i + 1) % 3], tip, tri[(i + 2) % 3])
        return None

    def cost(corners: tuple[int, ...]) -> float:
        p = points[list(corners)]
        sides = np.roll(p, -1, 0) - p
        sides /= np.linalg.norm(sides, axis=1, keepdims=True)
        turn = np.einsum("ij,ij->i", -np.roll(sides, 1, 0), sides)
        normals = np.cross(np.roll(sides, 1, 0), sides)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        flat = 1.0 - (normals @ normals.T).min()
        return float(np.abs(turn).max() + 0.5 * flat)

    candidates = []
    for (a, b), users in where.items():
        if len(users) != 2 or (mirror[a] == a and mirror[b] == b) or mirror[a] == b:
            continue
        if points[[a, b], 0].mean() < 0:
            continue  # the other side copies this one
        corners = quad(*users)
        candidates.append((cost(corners), users[0], users[1]))
    taken: set[int] = set()
    faces: Faces = []
    for value, first, second in sorted(candidates):
        pair, twin = {first, second}, {image[first], image[second]}
        if value > 1.2 or pair & taken or twin & taken:
            continue
        faces.append(quad(first, second))
        taken |= pair
        if twin != pair:
            faces.append(quad(image[first], image[second]))
            taken |= twin
    faces += [tri for index, tri in enumerate(tris) if index not in taken]
    return faces


def catmull_clark(faces: Faces, values: np.ndarray, labels: np.ndarray, chains: dict):
    """One Catmull-Clark step of any per-vertex columns (positions are just three of them).

    Parameters
    ----------
    faces : list of tuples
    values : (n, k) float
    labels : (f,) int
        Carried from each face to its children.
    chains : dict of str to list of int
        Closed vertex loops that are followed through the step.

    Returns
    -------
    faces, values, labels, chains
        The first n vertices are the images of the old ones.
    """
    count = len(values)
    face_points = np.array([values[list(f)].mean(0) for f in faces])
    edges: dict[tuple[int, int], list[int]] = {}
    for index, face in enumerate(faces):
        for a, b in zip(face, face[1:] + face[:1], strict=True):
            edges.setdefault((min(a, b), max(a, b)), []).append(index)
    keys = list(edges)
    number = {key: i for i, key in enumerate(keys)}
    ends = np.array(keys)
    middles = 0.5 * (values[ends[:, 0]] + values[ends[:, 1]])
    edge_points = middles.copy()
    border = np.zeros(len(keys), bool)
    for i, key in enumerate(keys):
        users = edges[key]
        if len(users) == 2:
            edge_points[i] = 0.5 * (middles[i] + 0.5 * (face_points[users[0]] + face_points[users[1]]))
        else:
            border[i] = True

    ring_sum = np.zeros_like(values)
    valence = np.zeros(count)
    np.add.at(ring_sum, ends[:, 0], middles)
    np.add.at(ring_sum, ends[:, 1], middles)
    np.add.at(valence, ends.ravel(), 1)
    face_sum = np.zeros_like(values)
    face_count = np.zeros(count)
    for index, face in enumerate(faces):
        face_sum[list(face)] += face_points[index]
        face_count[list(face)] += 1
    n = np.maximum(valence, 1)[:, None]
    moved = (face_sum / np.maximum(face_count, 1)[:, None] + 2 * ring_sum / n + (n - 3) * values) / n
    rim_sum = np.zeros_like(values)
    rim_count = np.zeros(count)
    for side in (0, 1):
        np.add.at(rim_sum, ends[border, side], middles[border])
        np.add.at(rim_count, ends[border, side], 1)
    on_rim = rim_count > 0
    moved[on_rim] = 0.5 * values[on_rim] + 0.5 * rim_sum[on_rim] / rim_count[on_rim, None]
    moved[valence == 0] = values[valence == 0]

    new_faces, new_labels = [], []
    face_base = count + len(keys)
    for index, face in enumerate(faces):
        size = len(face)
        rim = [count + number[(min(a, b), max(a, b))] for a, b in zip(face, face[1:] + face[:1], strict=True)]
        for i in range(size):
            new_faces.append((face[i], rim[i], face_base + index, rim[i - 1]))
            new_labels.append(labels[index])
    new_chains = {}
    for name, loop in chains.items():
        out = []
        for a, b in zip(loop, loop[1:] + loop[:1], strict=True):
            out += [a, count + number[(min(a, b), max(a, b))]]
        new_chains[name] = out
    return new_faces, np.vstack([moved, edge_points, face_points]), np.array(new_labels), new_chains


def neighbours(faces: Faces, count: int) -> list[np.ndarray]:
    """Vertices joined to each vertex by an edge."""
    sets: list[set[int]] = [set() for _ in range(count)]
    for face in faces:
        for a, b in zip(face, face[1:] + face[:1], strict=True):
            sets[a].add(b)
            sets[b].add(a)
    return [np.array(sorted(s), int) for s in sets]


def edge_array(faces: Faces) -> np.ndarray:
    """Every edge once, (e, 2)."""
    found = {(min(a, b), max(a, b)) for face in faces for a, b in zip(face, face[1:] + face[:1], strict=True)}
    return np.array(sorted(found))


def smooth(values: np.ndarray, edges: np.ndarray, amount, steps: int = 1) -> np.ndarray:
    """Move each vertex `amount` (scalar or per vertex) of the way to its neighbours' mean."""
    out = values.astype(float).copy()
    degree = np.bincount(edges.ravel(), minlength=len(values)).astype(float)
    degree[degree == 0] = 1
    factor = np.broadcast_to(np.asarray(amount, float), (len(values),))
    for _ in range(steps):
        total = np.zeros_like(out)
        np.add.at(total, edges[:, 0], out[edges[:, 1]])
        np.add.at(total, edges[:, 1], out[edges[:, 0]])
        if out.ndim == 1:
            out += factor * (total / degree - out)
        else:
            out += factor[:, None] * (total / degree[:, None] - out)
    return out


def laplacian(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Dense, row-normalised Laplacian with inverse-length weights (the cage is small)."""
    count = len(points)
    weight = 1.0 / (np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) + 0.05)
    matrix = np.zeros((count, count))
    matrix[edges[:, 0], edges[:, 1]] = matrix[edges[:, 1], edges[:, 0]] = -weight
    total = -matrix.sum(1)
    total[total == 0] = 1
    matrix /= total[:, None]
    matrix[np.arange(count), np.arange(count)] = 1.0
    return matrix


def spread(matrix: np.ndarray, fixed: dict[int, np.ndarray], order: int = 2, soft: float = 0.0) -> np.ndarray:
    """Extend values given at a few vertices over the whole cage.

    ``order=1`` is harmonic (no overshoot, for weights), ``order=2`` bi-harmonic (smooth through
    the handles, for displacements). `soft` > 0 pulls free vertices towards zero.
    """
    count = len(matrix)
    known = np.array(sorted(fixed))
    free = np.setdiff1d(np.arange(count), known)
    given = np.array([np.atleast_1d(fixed[i]) for i in known], float)
    system = matrix if order == 1 else matrix.T @ matrix
    system = system + soft * np.eye(count)
    out = np.zeros((count, given.shape[1]))
    out[known] = given
    out[free] = np.linalg.solve(system[np.ix_(free, free)], -system[np.ix_(free, known)] @ given)
    return out
