"""The skin: the canonical face made a character, closed into a head with lids, mouth, skull, neck.

Everything is plain numpy in centimetres, Blender's axes. The right eye (x < 0) is written out
and the left mirrored from it, so that the head is exactly symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import canonical
from .subdivision import catmull_clark, edge_array, laplacian, pair_triangles, smooth

EYE_CENTRE = np.array([-3.30, -2.00, 2.52])
"""Centre of the character's right eyeball."""
EYE_RADIUS = 1.72
LID = 0.13
"""Distance kept between the eyeball and the lid's outer edge."""
JAW_HINGE = np.array([0.0, 2.2, 0.2])
"""A point of the axis about which the jaw opens."""

_HINGE = np.array([-5.5, -12.5])  # (y, z): the axis about which sections sweep from face to neck
RINGS = 7
NECK_RINGS = 4


_MIRROR = canonical.mirror_map(canonical.load()[0]).tolist()


@dataclass
class Skin:
    """The skin's mesh and what the sculpting needs to know about it.

    Attributes
    ----------
    points : (n, 3) float
    faces : list of tuples of int
    cage_points : (m, 3) float
        Landmark i of the canonical face is cage vertex i, and vertex i of the fine mesh.
    cage_laplacian : (m, m) float
    lift : callable
        Takes (m, k) cage columns to (n, k) fine columns by subdivision.
    chains : dict of str to list of int
        Fine vertex loops: ``rim.R``, ``rim.L`` (eye openings), ``oval``, ``lips``.
    sockets, bag, skull : lists of int, and lists of rings of int
        Cage vertices added to the canonical face: lids' linings, the mouth's bag, skull and neck.
    masks : dict of str to (n,) float
        Smooth 0..1 fields: ``mouth`` (inside the lips), ``socket`` (behind the lids), ``skull``.
    """

    points: np.ndarray
    faces: list
    cage_points: np.ndarray
    cage_laplacian: np.ndarray
    lift: object
    chains: dict
    sockets: list
    bag: list
    skull: list
    masks: dict = field(default_factory=dict)
    mirror: np.ndarray | None = None


def bump(points: np.ndarray, centre, size, power: float = 1.0) -> np.ndarray:
    """Gaussian falloff around `centre` (mirrored pairs are the caller's business)."""
    offset = (points - np.asarray(centre, float)) / np.asarray(size, float)
    return np.exp(-((offset**2).sum(1) ** power))


def both(points: np.ndarray, centre, size, power: float = 1.0) -> np.ndarray:
    """`bump` around `centre` and its mirror image."""
    folded = points * [1.0, 1.0, 1.0]
    folded[:, 0] = np.abs(folded[:, 0])
    centre = np.array(centre, float)
    centre[0] = abs(centre[0])
    return bump(folded, centre, size, power)


def ramp(value, start: float, end: float) -> np.ndarray:
    """Smooth step from 0 at `start` to 1 at `end` (which may be the smaller)."""
    t = np.clip((np.asarray(value, float) - start) / (end - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def stylise(points: np.ndarray) -> np.ndarray:
    """The character's proportions: larger eyes, slim nose, full lips, tapered jaw."""
    p = points.copy()
    side = np.sign(p[:, 0])
    # Jaw: narrower towards the chin, and a chin that comes forward a little.
    low = ramp(p[:, 2], 1.0, -9.0)
    p[:, 0] *= 1.0 - 0.13 * low
    p[:, 1] -= 0.75 * bump(p, [0, -4.3, -8.6], [2.4, 3.0, 2.0])
    p[:, 2] += 0.35 * bump(p, [0, -4.3, -9.2], [4.0, 3.0, 2.6])
    # Cheekbones up and out, hollow below.
    p += np.outer(both(p, [5.0, -2.6, -0.2], [1.9, 2.0, 1.5]), [0, -0.28, 0.1])
    p[:, 1] += 0.25 * both(p, [4.6, -2.0, -4.2], [1.5, 2.0, 1.6])
    # Nose: slimmer and shorter, with a small upturned tip.
    nose = bump(p, [0, -6.4, 0.2], [2.3, 2.6, 2.9])
    p[:, 0] *= 1.0 - 0.20 * nose
    p[:, 1] += 0.42 * bump(p, [0, -7.2, -0.6], [1.8, 1.6, 1.6])
    p[:, 2] += 0.38 * bump(p, [0, -6.9, -1.3], [2.0, 2.0, 1.6])
    p[:, 1] += 0.28 * bump(p, [0, -5.6, 2.6], [0.9, 1.4, 1.5])
    # Lips: fuller, a little less wide.
    mouth = bump(p, [0, -5.3, -4.35], [2.8, 2.0, 1.5])
    p[:, 0] *= 1.0 - 0.04 * mouth
    p[:, 1] -= 0.22 * bump(p, [0, -5.6, -3.75], [1.5, 1.2, 0.5])
    p[:, 1] -= 0.30 * bump(p, [0, -5.5, -5.0], [1.4, 1.2, 0.55])
    # The canonical lips are parted; bring them together along a seam that rises to the corners.
    # Their edges cross here by what subdivision, rounding them into the mouth, takes back.
    for rings, direction in ((canonical.LIP_UPPER, 1), (canonical.LIP_LOWER, -1)):
        for ring, share in zip(rings, (0.0, 0.35, 0.7, 1.0), strict=False):
            for i in ring:
                for v in {i, _MIRROR[i]}:
                    a = min(1.0, abs(p[v, 0]) / 2.1)
                    seam = -4.24 + 0.02 * a - 0.10 * a * (1 - a) * 2 - 0.10 * direction * (share == 1.0)
                    level = p[v, 2] + share * (seam - p[v, 2])
                    if share == 1.0:
                        level = seam
                    p[v, 2] = level
    # Brows a little lower and heavier over the eyes; the lower face shorter.
    p[:, 2] -= 0.22 * both(p, [3.4, -4.6, 4.8], [3.2, 3.0, 1.3])
    p[:, 2] = np.where(p[:, 2] < -1, -1 + (p[:, 2] + 1) * 0.93, p[:, 2])
    # Forehead: higher and rounder.
    p[:, 2] += 0.5 * ramp(p[:, 2], 5.0, 9.0)
    p[:, 1] -= 0.45 * bump(p, [0, -4.6, 7.2], [4.5, 3.0, 2.4])
    p[:, 0] = np.abs(p[:, 0]) * side
    return p


def _set_eye(p: np.ndarray, side: float, rim, ring1, ring2) -> None:
    """Place the lids' rims and the first rings around an eye, in place."""
    centre = EYE_CENTRE * [-side, 1, 1]
    outer, inner = p[rim[0], 0], p[rim[8], 0]
    u = (p[rim, 0] - outer) / (inner - outer) * 2 - 1  # -1 outer corner .. 1 inner corner
    upper = np.array([i > 8 for i in range(16)])
    lower = np.array([0 < i < 8 for i in range(16)])
    half = 1.68
    x = half * u
    z = np.zeros(16)
    z[upper] = 0.69 * (1 - np.abs(u[upper] + 0.05) ** 2.3)
    z[lower] = -0.55 * (1 - np.abs(u[lower] - 0.08) ** 2.2)
    z += 0.02 - 0.13 * u + 0.02 * (u > 0.9)  # the outer corner sits higher

    def place(x, z, radius, ahead):
        depth = np.sqrt(np.maximum(radius**2 - x**2 - z**2, 0.55**2))
        return np.stack([centre[0] + (x if side < 0 else -x), centre[1] - depth - ahead, centre[2] + z], 1)

    toward = np.clip(u, 0, 1) ** 3 * 0.42  # the inner corner lies ahead of the eyeball
    p[rim] = place(x, z, EYE_RADIUS + LID + 0.05, toward)
    # Ring 1: the lid's platform; ring 2 keeps its place, moved by what the opening grew.
    grow = np.where(upper, 0.50, np.where(lower, -0.44, 0.0))
    edge = np.clip(1 - u**2, 0, 1)
    z1 = z + grow * (0.35 + 0.65 * edge)
    x1 = x + np.sign(u) * 0.42 * np.abs(u) ** 2
    new = place(x1, z1, EYE_RADIUS + LID + 0.22, toward + 0.05)
    corner = np.abs(u) ** 6
    old = p[ring1] + np.stack([0.12 * np.sign(x) * (1 if side < 0 else -1), 0 * u, 0 * u], 1)
    p[ring1] = new * (1 - corner)[:, None] + old * corner[:, None]
    lift2 = np.where(upper, 0.52, np.where(lower, -0.22, 0.0)) * edge
    p[ring2, 2] += lift2
    p[ring2, 1] += np.where(upper, 0.20, 0.0) * edge


def _body(points: np.ndarray) -> np.ndarray:
    """Implicit skull, jaw and neck: negative inside."""

    def ellipsoid(centre, radii):
        scaled = (points - centre) / radii
        k = np.linalg.norm(scaled, axis=1)
        return (k - 1.0) * min(radii)

    def union(a, b, k):
        h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
        return b * (1 - h) + a * h - k * h * (1 - h)

    cranium = ellipsoid(np.array([0, 3.9, 4.6]), np.array([7.75, 9.5, 8.7]))
    jaw = ellipsoid(np.array([0, 0.6, -4.6]), np.array([6.0, 5.0, 4.9]))
    start, end = np.array([0, 4.0, -4.0]), np.array([0, 6.2, -22.0])
    t = np.clip((points - start) @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
    offset = points - (start + t[:, None] * (end - start))
    offset[:, 1] *= 0.95
    neck = np.linalg.norm(offset, axis=1) - (4.25 + 0.5 * ramp(t, 0.5, 1.0))
    return union(union(cranium, jaw, 2.0), neck, 2.6)


def _section(theta: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Points of the body surface in the half plane `theta` about the hinge, at angle `alpha` round its middle."""
    middle = 11.6 * np.cos(theta) + 10.6 * np.sin(theta) ** 2 + 0.8 * np.sin(2 * theta)

    def at(distance):
        x = distance * np.sin(alpha)
        r = middle - distance * np.cos(alpha)
        return np.stack([x, _HINGE[0] + r * np.sin(theta), _HINGE[1] + r * np.cos(theta)], 1)

    low, high = np.zeros_like(theta), np.full_like(theta, 22.0)
    for _ in range(40):
        mid = 0.5 * (low + high)
        inside = _body(at(mid)) < 0
        low, high = np.where(inside, mid, low), np.where(inside, high, mid)
    return at(low)


def _skull(oval: np.ndarray) -> list[np.ndarray]:
    """Rings of 36 points from just behind the face oval, over the head, down the neck."""
    y, z = oval[:, 1] - _HINGE[0], oval[:, 2] - _HINGE[1]
    theta0, r0 = np.arctan2(y, z), np.hypot(y, z)
    middle = 11.6 * np.cos(theta0) + 10.6 * np.sin(theta0) ** 2 + 0.8 * np.sin(2 * theta0)
    alpha = np.arctan2(oval[:, 0], middle - r0)
    gap = oval - _section(theta0, alpha)
    # At the neck the columns are spread evenly round.
    even = np.pi - np.arange(36) * (2 * np.pi / 36)
    even = np.where(even < -np.pi, even + 2 * np.pi, even)
    unwrapped = np.where(np.arange(36) > 18, np.where(alpha > 0, alpha - 2 * np.pi, alpha), np.abs(alpha))
    even = np.pi - np.arange(36) * (2 * np.pi / 36)
    steps = np.linspace(0, 1, RINGS + 1)[1:] ** 0.92
    rings = []
    for s in steps:
        theta = theta0 * (1 - s) + np.radians(93.0) * s
        a = unwrapped * (1 - s) + even * s
        rings.append(_section(theta, a) + gap * max(0.0, 1 - s * 2.2) ** 1.5)
    last = rings[-1]
    centre = last.mean(0)
    for k in range(1, NECK_RINGS + 1):
        drop = 2.3 * k
        ring = last.copy()
        spread = 1.0 + 0.02 * k**2
        ring[:, 0] = last[:, 0] * spread
        ring[:, 1] = centre[1] + (last[:, 1] - centre[1]) * spread + 0.28 * k
        ring[:, 2] = last[:, 2] * max(0.0, 1 - 0.34 * k) + centre[2] * min(1.0, 0.34 * k) - drop
        rings.append(ring)
    return rings


def _strip(first: list[int], second: list[int]) -> list[tuple[int, ...]]:
    count = len(first)
    return [(first[i], first[(i + 1) % count], second[(i + 1) % count], second[i]) for i in range(count)]


def build(subdivisions: int = 2) -> Skin:
    """Make the skin of the sample head."""
    raw, triangles = canonical.load()
    mirror = canonical.mirror_map(raw)
    left = {i: int(mirror[i]) for i in range(len(raw))}
    eyes = {-1.0: canonical.EYE_RIM, 1.0: [left[i] for i in canonical.EYE_RIM]}
    lips = canonical.LIP_INNER
    closed = [set(eyes[-1.0]), set(eyes[1.0]), set(lips)]
    keep = np.array([t for t in triangles if not any(set(t.tolist()) <= c for c in closed)])
    faces = pair_triangles(raw, keep, mirror)

    p = stylise(raw)
    for side, rim in eyes.items():
        ring1, ring2 = canonical.EYE_RING1, canonical.EYE_RING2
        if side > 0:
            ring1, ring2 = [left[i] for i in ring1], [left[i] for i in ring2]
        _set_eye(p, side, rim, ring1, ring2)
    points = [p]
    extra = len(p)

    def add(ring: np.ndarray) -> list[int]:
        nonlocal extra
        points.append(ring)
        extra += len(ring)
        return list(range(extra - len(ring), extra))

    # Lids: a rim with thickness, then a lining that hugs the eyeball behind the lid.
    sockets = []
    for side, rim in eyes.items():
        centre = EYE_CENTRE * [-side, 1, 1]
        away = p[rim] - centre
        previous = rim
        for radius, spread in ((EYE_RADIUS + 0.045, 1.0), (EYE_RADIUS + 0.07, 1.40)):
            flat = away * [spread, 1, spread]
            plan = np.hypot(flat[:, 0], flat[:, 2])
            limit = np.minimum(plan, radius * 0.97)
            flat[:, [0, 2]] *= (limit / plan)[:, None]
            flat[:, 1] = -np.sqrt(radius**2 - limit**2)
            ring = add(centre + flat)
            sockets += ring
            faces += _strip(previous, ring)[::1]
            previous = ring
    # Mouth: the inner edge of the lips drawn back into a bag. It falls away at once behind the lips,
    # clear of the teeth, but near the corners, where the flesh is thin, it goes straight back.
    inner = p[lips]
    previous = lips
    bag = []
    across = np.clip(np.abs(inner[:, 0]) / np.abs(inner[:, 0]).max(), 0, 1)
    up = np.sign(inner[:, 2] - inner[[0, 10], 2].mean() + np.where(np.arange(20) > 10, 1e3, -1e3))
    up[[0, 10]] = 0.0
    for back, corner, tall, wide in ((0.35, 0.45, 0.55, 0.94), (1.3, 0.5, 1.6, 1.20), (4.6, 0.0, 1.7, 1.15)):
        ring = inner.copy()
        ring[:, 0] *= wide
        ring[:, 1] += back + corner * across**2
        ring[:, 2] += up * tall * np.sqrt(1 - across**2)
        bag.append(add(ring))
        faces += _strip(previous, bag[-1])
        previous = bag[-1]
    faces.append(tuple(bag[-1]))
    # Skull and neck.
    skull = []
    previous = canonical.OVAL
    for ring in _skull(p[canonical.OVAL]):
        ids = add(ring)
        faces += _strip(previous, ids)
        skull.append(ids)
        previous = ids
    cage = np.vstack(points)

    # Exact symmetry of the added rings, and one orientation for every face.
    full_mirror = canonical.mirror_map(cage, 0.6)
    cage = 0.5 * (cage + cage[full_mirror] * [-1, 1, 1])
    edges = edge_array(faces)
    free = np.zeros(len(cage))
    for ring in skull[:-1]:
        free[ring] = 0.6
    free[canonical.OVAL] = 0.35
    cage = smooth(cage, edges, free, 4)
    faces = orient(faces)

    count = len(cage)
    masks = np.zeros((count, 4))
    for ring in bag:
        masks[ring, 0] = 1
    masks[sockets, 1] = 1
    for k, ring in enumerate(skull):
        masks[ring, 2] = min(1.0, (k + 1) / 2)
    masks[skull[-NECK_RINGS:], 3] = 1

    chains = {
        "rim.R": list(eyes[-1.0]),
        "rim.L": list(eyes[1.0]),
        "lips": list(lips),
        "oval": list(canonical.OVAL),
        "end": list(skull[-1]),
    }

    def lift(columns: np.ndarray, with_faces: bool = False):
        f, v, l, c = faces, columns, np.zeros(len(faces), int), chains
        for _ in range(subdivisions):
            f, v, l, c = catmull_clark(f, v, l, c)
        return (v, f, c) if with_faces else v

    columns, fine_faces, fine_chains = lift(np.hstack([cage, masks]), True)
    names = ("mouth", "socket", "skull", "neck")
    skin = Skin(
        points=columns[:, :3],
        faces=fine_faces,
        cage_points=cage,
        cage_laplacian=laplacian(cage, edge_array(faces)),
        lift=lift,
        chains=fine_chains,
        sockets=list(sockets),
        bag=bag,
        skull=skull,
        masks={name: columns[:, 3 + i] for i, name in enumerate(names)},
    )
    skin.mirror = canonical.mirror_map(skin.points, 0.05)
    return skin


def orient(faces: list) -> list:
    """Give all faces the winding of the first, by walking over shared edges."""
    users: dict[tuple[int, int], list[int]] = {}
    for index, face in enumerate(faces):
        for a, b in zip(face, face[1:] + face[:1], strict=False):
            users.setdefault((min(a, b), max(a, b)), []).append(index)
    out = list(faces)
    seen = {0}
    queue = [0]
    while queue:
        index = queue.pop()
        face = out[index]
        directed = set(zip(face, face[1:] + face[:1], strict=False))
        for a, b in directed:
            for other in users[(min(a, b), max(a, b))]:
                if other in seen:
                    continue
                seen.add(other)
                theirs = out[other]
                if (a, b) in set(zip(theirs, theirs[1:] + theirs[:1], strict=False)):
                    out[other] = tuple(reversed(theirs))
                queue.append(other)
    return out
