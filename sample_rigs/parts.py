"""Everything of the sample head that is not skin: eyes, lashes, brows, teeth, tongue, ears, clothes.

Every maker returns a `Part`; `join` puts parts together. Centimetres, Blender's axes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .skin import EYE_CENTRE, EYE_RADIUS, ramp


@dataclass
class Part:
    """A piece of mesh with what the final object needs of it.

    Attributes
    ----------
    points : (n, 3) float
    faces : list of tuples of int
    materials : list of str
        One name per face.
    colours : (n, 3) float
        Linear RGB.
    uv : (n, 2) float
    weights : dict of str to (n,) float
        Bone name to weight.
    deltas : dict of str to (n, 3) float
        Unit name to displacement; a missing unit does not move the part.
    """

    points: np.ndarray
    faces: list
    materials: list
    colours: np.ndarray
    uv: np.ndarray
    weights: dict = field(default_factory=dict)
    deltas: dict = field(default_factory=dict)


def srgb(code: str) -> np.ndarray:
    """Linear RGB of a six-digit hex colour."""
    value = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def join(parts: list[Part]) -> Part:
    """One part out of many."""
    offset, faces, materials = 0, [], []
    bones = sorted({bone for part in parts for bone in part.weights})
    units = sorted({unit for part in parts for unit in part.deltas})
    for part in parts:
        faces += [tuple(int(i) + offset for i in face) for face in part.faces]
        materials += part.materials
        offset += len(part.points)
    return Part(
        np.vstack([p.points for p in parts]),
        faces,
        materials,
        np.vstack([p.colours for p in parts]),
        np.vstack([p.uv for p in parts]),
        {b: np.concatenate([p.weights.get(b, np.zeros(len(p.points))) for p in parts]) for b in bones},
        {u: np.vstack([p.deltas.get(u, np.zeros_like(p.points)) for p in parts]) for u in units},
    )


def tidy(part: Part, drop: np.ndarray | None = None) -> Part:
    """The part less the faces that touch only dropped vertices, and less vertices nothing uses."""
    faces = range(len(part.faces))
    kept = [i for i in faces if drop is None or not drop[list(part.faces[i])].all()]
    used = np.unique([v for i in kept for v in part.faces[i]])
    number = np.full(len(part.points), -1)
    number[used] = np.arange(len(used))
    return Part(
        part.points[used],
        [tuple(int(number[v]) for v in part.faces[i]) for i in kept],
        [part.materials[i] for i in kept],
        part.colours[used],
        part.uv[used],
        {bone: weight[used] for bone, weight in part.weights.items()},
        {unit: delta[used] for unit, delta in part.deltas.items()},
    )


def grid_faces(rows: int, columns: int, wrap: bool = False) -> list[tuple[int, ...]]:
    """Quads of a row-major grid; `wrap` closes the columns."""
    faces = []
    for r in range(rows - 1):
        for c in range(columns if wrap else columns - 1):
            d = (c + 1) % columns
            faces.append((r * columns + c, r * columns + d, (r + 1) * columns + d, (r + 1) * columns + c))
    return faces


def make(points, faces, material, colour, bone="head", uv=None, deltas=None) -> Part:
    """A part of one material and one bone; `colour` is one colour or one per vertex."""
    points = np.asarray(points, float)
    colours = np.broadcast_to(np.asarray(colour, float), points.shape).copy()
    if uv is None:
        low, size = points.min(0), np.ptp(points, axis=0).max() + 1e-9
        uv = (points[:, [0, 2]] - low[[0, 2]]) / size
    weights = {bone: np.ones(len(points))} if isinstance(bone, str) else bone
    return Part(points, list(faces), [material] * len(faces), colours, np.asarray(uv, float), weights, deltas or {})


def flip(part: Part) -> Part:
    """Turn a part's faces inside out."""
    part.faces = [tuple(reversed(face)) for face in part.faces]
    return part


def tube(path, radii, ups, sides: int = 6, flat=1.0) -> tuple[np.ndarray, list]:
    """Sweep an ellipse along a path.

    Parameters
    ----------
    path : (k, 3)
    radii : (k,)
        Half width across.
    ups : (k, 3)
        Direction of the ellipse's short axis.
    flat : float or (k,)
        Short axis over long axis.
    """
    path, radii = np.asarray(path, float), np.asarray(radii, float)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-12
    across = np.cross(along, ups)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-12
    up = np.cross(across, along)
    angle = np.arange(sides) * 2 * np.pi / sides
    flat = np.broadcast_to(flat, radii.shape)
    ring = across[:, None] * np.cos(angle)[None, :, None] * radii[:, None, None]
    ring = ring + up[:, None] * np.sin(angle)[None, :, None] * (radii * flat)[:, None, None]
    points = (path[:, None] + ring).reshape(-1, 3)
    faces = [tuple(reversed(f)) for f in grid_faces(len(path), sides, True)]
    faces.append(tuple(range(sides)))
    faces.append(tuple(reversed(range((len(path) - 1) * sides, len(path) * sides))))
    return points, faces


def eye(side: float, iris: np.ndarray, segments: int = 32) -> Part:
    """An eyeball looking along -Y: pupil, iris, dark limbus, white; the cornea's bulge is in the shape."""
    angles = np.radians([3, 6.5, 9.2, 10.2, 13, 17, 21, 24.0, 26.2, 27.6, 29.5, 33, 40, 50, 62, 76, 92, 112, 135])
    turn = np.arange(segments) * 2 * np.pi / segments
    points, colours, uv = [[0, -1.03, 0]], [np.zeros(3)], [[0.5, 0.5]]
    rng = np.random.default_rng(4)
    fibre = rng.normal(0, 1, segments)
    fibre = 0.6 * fibre + 0.4 * np.roll(fibre, 1)
    white = srgb("e9e4e0")
    for a in angles:
        degrees = np.degrees(a)
        radius = 1.0 + 0.03 * (1 - ramp(degrees, 12, 34))
        for k, t in enumerate(turn):
            points.append([radius * np.sin(a) * np.cos(t), -radius * np.cos(a), radius * np.sin(a) * np.sin(t)])
            uv.append([0.5 + 0.5 * a / np.pi * np.cos(t), 0.5 + 0.5 * a / np.pi * np.sin(t)])
            if degrees < 9.5:
                colour = np.array([0.004, 0.004, 0.005])
            elif degrees < 28.5:
                depth = (degrees - 10) / 17
                colour = iris * (0.75 + 0.75 * np.sin(np.pi * np.clip(depth, 0, 1)) + 0.13 * fibre[k])
                # The lower half of an iris glows: light enters from above and leaves below.
                colour = colour * (1.0 - 0.38 * np.sin(t))
                colour = colour + srgb("b98238") * 0.30 * np.exp(-((depth / 0.22) ** 2))
                colour = colour * (1 - 0.85 * ramp(degrees, 23.5, 27.6))
            else:
                colour = white * (1 - 0.55 * (1 - ramp(degrees, 27.6, 31.5)))
                colour = colour * (1 - np.array([0.05, 0.2, 0.2]) * ramp(degrees, 40, 75))
            colours.append(np.clip(colour, 0.002, 1))
    faces = [(0, 1 + (k + 1) % segments, 1 + k) for k in range(segments)]
    materials = ["MienPupil"] * segments
    for r in range(len(angles) - 1):
        degrees = np.degrees(angles[r : r + 2].mean())
        name = "MienPupil" if degrees < 9.8 else "MienIris" if degrees < 28.4 else "MienEyeWhite"
        for k in range(segments):
            a, b = 1 + r * segments + k, 1 + r * segments + (k + 1) % segments
            faces.append((a, b, b + segments, a + segments))
            materials.append(name)
    centre = EYE_CENTRE * [-side, 1, 1]
    points = np.array(points) * EYE_RADIUS
    if side > 0:
        points[:, 0] *= -1
        faces = [tuple(reversed(f)) for f in faces]
    name = "eye.L" if side > 0 else "eye.R"
    return Part(
        points + centre, faces, materials, np.array(colours), np.array(uv), {name: np.ones(len(points))}
    )


_WIDTHS = [0.84, 0.66, 0.74, 0.68, 0.66, 0.86]


def _arch(x):
    """Front-to-back place of the dental arch at sideways distance x."""
    return -4.22 + 0.20 * np.abs(x) ** 2 + 0.03 * np.abs(x) ** 4


def teeth(upper: bool) -> Part:
    """A row of twelve rounded teeth with a gum band."""
    scale = 1.0 if upper else 0.86
    sign = 1.0 if upper else -1.0
    edge = -4.30 if upper else -4.16
    inset = 0.0 if upper else 0.22
    heights = [1.0, 0.9, 0.98, 0.86, 0.8, 0.75] if upper else [0.78, 0.78, 0.85, 0.78, 0.72, 0.7]
    table = np.linspace(0, 3.4, 400)
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(table), np.diff(_arch(table))))])
    rings, segments = 6, 8
    pieces = []
    for side in (-1, 1):
        at = 0.0
        for width, tall in zip(_WIDTHS, heights, strict=True):
            width = width * scale
            middle = at + width / 2
            at += width
            x = np.interp(middle, length, table)
            slope = np.arctan2(np.gradient(_arch(table), table)[np.searchsorted(table, x)], 1.0)
            points = []
            for r in range(rings):
                v = (-1.0, -0.93, -0.72, 0.0, 0.7, 1.0)[r]
                z = v
                plan = (0.88, 0.97, 1.0, 1.0, 0.93, 0.6)[r]
                neck = 1 - 0.20 * ramp(v, 0.0, 1.0)
                for s in range(segments):
                    t = 2 * np.pi * s / segments
                    c, d = np.cos(t), np.sin(t)
                    px = np.sign(c) * abs(c) ** 0.55 * width * 0.5 * plan * neck
                    py = np.sign(d) * abs(d) ** 0.7 * 0.24 * plan * (1 + 0.35 * ramp(v, -0.6, 0.8))
                    points.append([px, py * (0.75 if r == 0 else 1.0), z * tall / 2 + tall / 2])
            q = np.array(points)
            q[:, 2] = edge + sign * q[:, 2]
            turn = np.array([[np.cos(slope), -np.sin(slope)], [np.sin(slope), np.cos(slope)]])
            q[:, :2] = q[:, :2] @ turn.T
            q[:, 0] += x
            q[:, 1] += _arch(x) + inset
            faces = grid_faces(rings, segments, True)
            faces += [tuple(reversed(range(segments))), tuple(range((rings - 1) * segments, rings * segments))]
            if not upper:
                faces = [tuple(reversed(f)) for f in faces]
            q[:, 0] *= side
            if side < 0:
                faces = [tuple(reversed(f)) for f in faces]
            pieces.append(make(q, faces, "MienTeeth", srgb("fbf6ec"), "head" if upper else "jaw"))
    xs = np.linspace(-2.75 * scale, 2.75 * scale, 27)
    path = np.stack([xs, _arch(xs) + inset + 0.06, np.full_like(xs, edge + sign * 1.12)], 1)
    path[:, 2] -= sign * 0.18 * (np.abs(xs) / 2.6) ** 2
    q, faces = tube(path, np.full(27, 0.34), np.tile([0, 0, 1.0], (27, 1)), 8, 1.15)
    pieces.append(make(q, faces, "MienGums", srgb("b8615e"), "head" if upper else "jaw"))
    return join(pieces)


def tongue() -> Part:
    """A soft tongue lying behind the lower teeth."""
    rows, segments = 12, 16
    points = []
    for r in range(rows):
        v = r / (rows - 1)
        y = -3.75 + 4.6 * v
        round_ = np.sqrt(max(0.0, 1 - (1 - min(1, v / 0.35 + 0.03)) ** 2))
        for s in range(segments):
            t = 2 * np.pi * s / segments
            x = 1.35 * round_ * np.cos(t)
            z = 0.42 * round_ * np.sin(t) * (1.2 if np.sin(t) > 0 else 0.8)
            z -= 0.10 * np.exp(-((x / 0.3) ** 2)) * round_ * (np.sin(t) > 0)
            points.append([x, y, -4.50 + z + 0.45 * np.sin(np.pi * min(1, v * 1.3)) * 0.8])
    faces = [tuple(reversed(f)) for f in grid_faces(rows, segments, True)]
    faces += [tuple(range(segments)), tuple(reversed(range((rows - 1) * segments, rows * segments)))]
    return make(points, faces, "MienTongue", srgb("b4555a"), "jaw")


def ear(side: float, colour: np.ndarray) -> Part:
    """A stylised outer ear: a dish with a rolled helix, an inner fold, a bowl and a lobe."""
    rows, segments = 17, 32
    t = np.arange(segments) * 2 * np.pi / segments  # 0 = back, pi/2 = up, pi = front
    points, shade = [], []
    for r in range(rows):
        rho = min(1.0, r / (rows - 5))
        roll = max(0, r - (rows - 5)) / 4.0
        for a in t:
            up, back = np.sin(a), np.cos(a)
            outline_y = 1.62 if back > 0 else 0.95
            outline_z = 2.75
            narrow = 1 - 0.32 * ramp(-up, 0.1, 1.0) * (0.6 + 0.4 * back)
            y = rho * outline_y * back * narrow + 0.42 * rho * up
            z = rho * outline_z * up
            rear = ramp(back, -0.75, 0.1) * ramp(up, -0.85, -0.45)
            height = 0.35 + 0.75 * rho**1.5 * ramp(back, -0.9, 0.6) + 0.25 * rho * ramp(-up, 0.6, 1.0)
            height += 0.26 * np.exp(-(((rho - 0.93) / 0.10) ** 2)) * rear
            height -= 0.20 * np.exp(-(((rho - 0.77) / 0.09) ** 2)) * rear
            height += 0.22 * np.exp(-(((rho - 0.58) / 0.11) ** 2)) * ramp(back, -0.5, 0.3) * ramp(up, -0.8, -0.2)
            height -= 0.62 * np.exp(-(((y + 0.15) / 0.75) ** 2 + ((z + 0.35) / 0.95) ** 2))
            height += 0.30 * np.exp(-(((y + 0.80) / 0.28) ** 2 + ((z + 0.45) / 0.50) ** 2))
            scale = 1.0
            if roll > 0:
                # The last rows turn over the rim and run back into the head.
                scale = 1 + 0.05 * np.sin(np.pi * roll * 0.5) - 0.33 * max(0, roll - 0.4)
                height -= 0.10 * roll + 1.2 * roll**1.8
            points.append([height, y * scale, z * scale])
            bowl = np.exp(-(((y + 0.15) / 0.75) ** 2 + ((z + 0.35) / 0.95) ** 2))
            shade.append(1 - 0.35 * bowl)
    q = np.array(points)
    # Tilt back, flare the rear edge out, and set it on the side of the head.
    tilt, flare = np.radians(12), np.radians(24)
    y, z = q[:, 1] * np.cos(tilt) + q[:, 2] * np.sin(tilt), q[:, 2] * np.cos(tilt) - q[:, 1] * np.sin(tilt)
    x = q[:, 0]
    q = np.stack([x * np.cos(flare) + y * np.sin(flare), y * np.cos(flare) - x * np.sin(flare), z], 1)
    q = q * 0.94 + [7.05, 3.55, 1.25]
    q[:, 0] *= side
    faces = grid_faces(rows, segments, True)
    centre = len(q)
    q = np.vstack([q, q[:segments].mean(0)])
    faces = faces[segments:] + [(centre, k + segments, (k + 1) % segments + segments)[::-1] for k in range(segments)]
    faces = [tuple(reversed(f)) for f in faces] if side < 0 else faces
    tint = np.append(shade, 1.0)[:, None] * colour * [1.02, 0.90, 0.88]
    return make(q, faces, "MienSkin", tint)


def brow(side: float, ridge: np.ndarray, normal: np.ndarray, colour: np.ndarray) -> Part:
    """An eyebrow of overlapping tapered strokes.

    Parameters
    ----------
    ridge : (k, 3)
        Middle line on the skin, from the inner end to the outer.
    normal : (k, 3)
        Outward directions there.
    """
    rng = np.random.default_rng(11)
    pieces = []
    count = 36
    rows = (-0.5, 0.0, 0.5)
    stations = np.linspace(0, 1, len(ridge))
    for k in range(count):
        u = k / (count - 1) * 0.94
        row = rows[k % 3]
        thick = 0.40 * ramp(u, -0.22, 0.14) * (1 - 0.80 * ramp(u, 0.40, 1.0))
        start = np.array([np.interp(u, stations, ridge[:, i]) for i in range(3)])
        n = np.array([np.interp(u, stations, normal[:, i]) for i in range(3)])
        ahead = np.array([np.interp(min(1, u + 0.08), stations, ridge[:, i]) for i in range(3)]) - start
        ahead /= np.linalg.norm(ahead)
        up = np.cross(n, ahead) * side
        up *= np.sign(up[2])
        rise = 0.95 * (1 - ramp(u, 0.02, 0.32)) + 0.16 - 0.25 * ramp(u, 0.55, 1.0) - 0.18 * row
        direction = ahead * np.cos(rise) + up * np.sin(rise)
        length = (0.72 + 0.14 * rng.random()) * (1 - 0.25 * u)
        s = np.linspace(0, 1, 5)
        base = start + up * row * thick * 1.25 - direction * 0.12
        path = base + s[:, None] * direction * length + ahead * (0.10 * s**2)[:, None]
        path = path + n * (0.03 + 0.07 * np.sin(np.pi * s))[:, None]
        radii = (0.135 * (0.35 + 0.65 * thick / 0.40)) * np.sin(np.pi * (0.16 + 0.82 * s)) ** 0.9
        q, faces = tube(path, radii, np.tile(n, (5, 1)), 4, 0.6)
        pieces.append(make(q, faces, "MienBrows", colour * (0.85 + 0.3 * rng.random())))
    return join(pieces)


def lashes(side: float, rim: np.ndarray, colour: np.ndarray) -> Part:
    """Upper lashes: a dark line along the rim and tapered clumps that sweep up and outwards.

    `rim` runs from the outer corner to the inner one.
    """
    centre = EYE_CENTRE * [-side, 1, 1]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(rim, axis=0), axis=1))])
    total = length[-1]

    def at(u):
        return np.array([np.interp(u * total, length, rim[:, i]) for i in range(3)])

    pieces = []
    count = 19
    for k in range(count):
        u = 0.015 + 0.86 * k / (count - 1)
        base = at(u)
        out = base - centre
        out /= np.linalg.norm(out)
        along = at(max(0, u - 0.02)) - at(u + 0.02)
        along /= np.linalg.norm(along)
        size = 0.16 + 0.40 * np.sin(np.pi * (0.62 - 0.5 * u)) ** 2 * (1 - 0.55 * ramp(u, 0.55, 0.95))
        size *= 1.0 if k % 2 else 0.84
        s = np.linspace(0, 1, 5)
        lean = 0.55 * (1 - u) ** 1.3 - 0.10
        forward = out * [0.6, 1.0, 0.3]
        forward /= np.linalg.norm(forward)
        path = base - out * 0.03 + size * (
            s[:, None] * forward * 0.80
            + (s**2)[:, None] * np.array([0, 0, 0.85])
            + s[:, None] * along * lean
        )
        radii = 0.062 * (1 - s) ** 0.8 + 0.006
        q, faces = tube(path, radii, np.tile([0, 0, 1.0], (5, 1)), 4, 0.5)
        pieces.append(make(q, faces, "MienLashes", colour))
    u = np.linspace(0.0, 0.95, 28)
    path = np.array([at(v) for v in u])
    out = path - centre
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    radii = 0.065 * np.sin(np.pi * np.clip(0.12 + 0.86 * u, 0, 1)) ** 0.7 + 0.008
    q, faces = tube(path + out * 0.01, radii, out, 5, 0.7)
    pieces.append(make(q, faces, "MienLashes", colour))
    return join(pieces)


def sweater(colour: np.ndarray, trim: np.ndarray) -> Part:
    """A knitted sweater's shoulders with a folded roll collar; hides where the neck ends."""
    segments = 56
    t = np.arange(segments) * 2 * np.pi / segments
    c, s = np.cos(t), np.sin(t)
    profile = [
        # half width, half depth, middle y, z, droop of the sides
        (4.5, 4.5, 5.0, -13.30, 0.0),
        (4.75, 4.8, 5.0, -11.95, 0.0),
        (5.1, 5.2, 4.95, -11.45, 0.0),
        (5.5, 5.6, 4.9, -11.75, 0.0),
        (5.8, 5.9, 4.9, -12.90, 0.0),
        (5.9, 6.0, 5.0, -14.30, 0.0),
        (5.75, 5.9, 5.0, -15.10, 0.0),
        (5.5, 5.6, 5.0, -15.20, 0.0),
        (5.9, 5.8, 5.1, -15.60, 0.1),
        (8.2, 6.9, 5.2, -16.50, 0.3),
        (11.2, 7.7, 5.4, -17.50, 0.9),
        (14.2, 8.3, 5.6, -18.50, 1.6),
        (17.0, 8.8, 5.7, -20.00, 2.3),
        (18.6, 9.1, 5.8, -22.50, 2.4),
        (19.0, 9.2, 5.8, -25.70, 1.2),
        (19.0, 9.2, 5.8, -28.70, 0.0),
    ]
    points, shade = [], []
    for k, (w, d, y, z, droop) in enumerate(profile):
        front = np.clip(-s, 0, 1)
        x = w * np.sign(c) * np.abs(c) ** (1.0 if k < 8 else 0.95)
        tilt = -0.95 * front + 0.5 * np.clip(s, 0, 1) if k < 8 else -1.1 * front * (1 - (k - 8) / 8)
        points += np.stack([x, y + d * s, z - droop * np.abs(c) ** 2 + tilt], 1).tolist()
        shade += [1.0 if k >= 8 else 1.06] * segments
    faces = [tuple(reversed(f)) for f in grid_faces(len(profile), segments, True)]
    q = np.array(points)
    body = np.array([0.0] * 8 * segments + [1.0] * (len(profile) - 8) * segments)
    neck = 0.35 * (1 - body) * ramp(q[:, 2], -15.7, -11.7)
    colours = np.where(body[:, None] > 0, colour, trim) * np.array(shade)[:, None]
    uv = np.stack([np.tile(t / (2 * np.pi), len(profile)), np.repeat(np.linspace(0, 1, len(profile)), segments)], 1)
    return make(q, faces, "MienSweater", colours, {"neck": neck, "root": 1 - neck}, uv)


def bind(points: np.ndarray, anchors: np.ndarray, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """For each point the nearest anchors and weights that sum to one, so that it follows them."""
    distance = np.linalg.norm(points[:, None] - anchors[None], axis=2)
    near = np.argsort(distance, axis=1)[:, :count]
    weight = 1.0 / (np.take_along_axis(distance, near, 1) + 1e-3) ** 2
    return near, weight / weight.sum(1, keepdims=True)
