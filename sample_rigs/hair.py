"""Hair: a scalp cap and sculpted, overlapping locks that follow a combed direction field."""

from __future__ import annotations

import numpy as np

from .parts import Part, join, make, srgb, tube
from .skin import _body, ramp


def surface_normal(points: np.ndarray) -> np.ndarray:
    """Outward direction of the head's implicit body."""
    step = 1e-3
    gradient = np.stack([_body(points + step * e) - _body(points - step * e) for e in np.eye(3)], 1)
    return gradient / (np.linalg.norm(gradient, axis=1, keepdims=True) + 1e-12)


def onto(points: np.ndarray, height) -> np.ndarray:
    """Move points to the given height above the body."""
    p = points.copy()
    for _ in range(6):
        p -= surface_normal(p) * (_body(p) - height)[:, None] * 0.8
    return p


def scalp(points: np.ndarray) -> np.ndarray:
    """Positive inside the hair's region, in centimetres from the hairline (roughly)."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    levels = [-12, -7.0, -4.5, -1.0, 0.8, 2.2, 4.0, 6.0, 7.6, 8.6, 9.4, 12]
    starts = [9.5, 8.0, 7.0, 6.2, 5.6, 1.5, 0.9, 0.3, -1.2, -3.2, -5.2, -9]
    front = np.interp(z, levels, starts)
    # A soft widow's peak and receding temples.
    front = front + 0.5 * np.exp(-(((x - 4.4) / 1.2) ** 2)) * ramp(z, 5.5, 7.5) - 0.25 * np.exp(-((x / 0.9) ** 2))
    return y - front


def combed(points: np.ndarray) -> np.ndarray:
    """Direction in which the hair lies: up and over from a side parting, back and down at the sides."""
    x, y, z = points.T
    top = ramp(z, 5.5, 10.0)
    back = ramp(y, 3.0, 10.0)
    over = np.stack([0.55 * np.ones_like(x), np.full_like(x, 0.9), 0.35 * (1 - back)], 1)
    side = np.stack([0 * x, np.full_like(x, 0.95), -0.55 - 0.25 * back], 1)
    down = np.stack([-0.10 * x, 0.25 + 0 * x, np.full_like(x, -1.0)], 1)
    field = side * (1 - top)[:, None] + over * top[:, None]
    field = field * (1 - back)[:, None] + down * back[:, None]
    n = surface_normal(points)
    field -= n * (field * n).sum(1, keepdims=True)
    return field / (np.linalg.norm(field, axis=1, keepdims=True) + 1e-9)


def _roots(rng, spacing: float) -> np.ndarray:
    """Evenly spread roots over the scalp (dart throwing on the body's surface)."""
    direction = rng.normal(size=(6000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    p = onto(np.array([0, 3.9, 3.0]) + direction * [8, 10, 9.5], 0.0)
    p = p[scalp(p) > 0.15]
    chosen: list[np.ndarray] = []
    for q in p:
        if all(np.linalg.norm(q - c) > spacing for c in chosen):
            chosen.append(q)
    return np.array(chosen)


def lock(root, length, width, rise, rng, steps: int = 9, sides: int = 6, flat: float = 0.30):
    """One tapered lock from a root along the combed field, and its (steps * sides,) place root to tip."""
    p = np.array([root], float)
    path = []
    s = np.linspace(0, 1, steps)
    sway = rng.normal(0, 0.12)
    for v in s:
        # Rooted in the scalp, full in the middle, lying on the lock behind at its tip.
        height = -0.25 + rise * np.sin(np.pi * min(1.0, 0.04 + 0.86 * v)) ** 0.75
        path.append(onto(p, height)[0])
        d = combed(onto(p, 0.0))
        across = np.cross(surface_normal(p), d)
        d = d + across * sway * np.cos(2.5 * v)
        p = onto(p + d * length / (steps - 1), 0.0)
    path = np.array(path)
    radii = width * np.sin(np.pi * np.clip(0.20 + 0.79 * s, 0, 1)) ** 0.65 + 0.01
    points, faces = tube(path, radii, surface_normal(path), sides, flat)
    return points, faces, np.repeat(s, sides)


def build(colour: np.ndarray) -> Part:
    """The hair as one part."""
    rng = np.random.default_rng(7)
    pieces = []
    for root in _roots(rng, 2.05):
        front = float(ramp(root[1], 2.5, -3.5) * ramp(root[2], 5.5, 9.0))
        low = float(ramp(root[2], 5.0, -1.0))
        length = 6.5 + 2.5 * front - 2.8 * low
        width = (1.45 + 0.15 * front - 0.45 * low) * rng.uniform(0.9, 1.15)
        rise = 0.95 + 1.0 * front - 0.30 * low + rng.uniform(-0.1, 0.1)
        q, faces, t = lock(root, length, width, rise, rng)
        tint = colour * (rng.uniform(0.82, 1.2) * (0.70 + 0.5 * t))[:, None]
        pieces.append(make(q, faces, "MienHair", tint))
    return join(pieces)


HAIR = srgb("6a2f1c")
