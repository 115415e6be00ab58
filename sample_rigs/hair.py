"""Hair: one sculpted mass, combed back from the hairline, its grooves following the comb."""

from __future__ import annotations

import numpy as np

from .parts import Part, grid_faces, make, srgb, tidy
from .skin import _body, _section, ramp


def surface_normal(points: np.ndarray) -> np.ndarray:
    """Outward direction of the head's implicit body."""
    step = 1e-3
    gradient = np.stack([_body(points + step * e) - _body(points - step * e) for e in np.eye(3)], 1)
    return gradient / (np.linalg.norm(gradient, axis=1, keepdims=True) + 1e-12)


def scalp(points: np.ndarray) -> np.ndarray:
    """Positive inside the hair's region, in centimetres from the hairline (roughly)."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    levels = [-12, -7.0, -4.5, -1.0, 0.8, 2.2, 4.0, 6.0, 7.6, 8.6, 9.4, 12]
    starts = [9.5, 8.0, 7.0, 6.2, 5.6, 1.5, 0.9, 0.3, -1.2, -3.2, -5.2, -9]
    front = np.interp(z, levels, starts)
    # A soft widow's peak and receding temples.
    front = front + 0.5 * np.exp(-(((x - 4.4) / 1.2) ** 2)) * ramp(z, 5.5, 7.5) - 0.25 * np.exp(-((x / 0.9) ** 2))
    return y - front


def _hairline(alpha: np.ndarray, end: float) -> np.ndarray:
    """Section angle at which each column of the head passes under the hair."""
    theta = np.linspace(-0.12, end, 240)
    out = np.full(len(alpha), end)
    for i, a in enumerate(alpha):
        inside = scalp(_section(theta, np.full_like(theta, a))) > 0
        if inside.any():
            out[i] = theta[np.argmax(inside)]
    return out


END = 1.17
TOP = np.pi


def _sweep(alpha: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Sideways course of the hair on its way back: up from a low parting on the right, over to the left."""
    top = np.exp(-(((alpha - TOP + 0.1) / 0.95) ** 2))
    return alpha - 0.42 * top * np.sin(np.pi * np.minimum(1, s * 1.15)) ** 1.2


def _height(alpha: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Thickness of the hair: full at the front of the top, close at the sides and the nape."""
    top = np.exp(-(((alpha - TOP - 0.12) / 0.90) ** 4))
    body = 0.55 + 0.85 * top
    quiff = 1.15 * top * np.exp(-(((s - 0.15) / 0.15) ** 2))
    rise = ramp(s, -0.04, 0.13)
    fall = 1 - ramp(s, 0.62, 1.0)
    return -0.30 + (body * (0.30 + 0.70 * fall) + quiff + 0.30) * rise * (0.25 + 0.75 * ramp(s, 1.0, 0.9))


def _surface(alpha: np.ndarray, s: np.ndarray, start: np.ndarray, extra) -> np.ndarray:
    """Points of the hair: column `alpha` at the hairline, share `s` of the way back, raised by `extra`."""
    theta = start + (END - start) * s
    base = _section(theta, _sweep(alpha, s))
    lean = np.exp(-(((alpha - TOP - 0.12) / 0.80) ** 4)) * np.exp(-(((s - 0.08) / 0.10) ** 2))
    out = base + surface_normal(base) * (_height(alpha, s) + extra)[:, None]
    out[:, 1] -= 0.12 * lean  # the quiff leans forwards over the forehead
    return out


def build(colour: np.ndarray) -> Part:
    """The hair as one part: a combed, grooved mass."""
    rng = np.random.default_rng(7)
    ridges, per, rows = 30, 4, 16
    reach = 1.80
    columns = ridges * per + 1
    unit = np.linspace(-1, 1, columns)
    # Uneven ridges look combed rather than turned on a lathe.
    warp = np.cumsum(np.repeat(rng.uniform(0.55, 1.45, ridges), per))
    warp = np.concatenate([[0], warp / warp[-1]]) * 2 - 1
    alpha = TOP + reach * (0.35 * unit + 0.65 * warp)
    phase = np.arange(columns) % per / per
    valley = np.abs(np.cos(np.pi * phase)) ** 3
    number = np.minimum(np.arange(columns) // per, ridges - 1)
    jitter = rng.uniform(-1, 1, ridges)
    start = _hairline(alpha, END - 0.05)
    # The hair comes out of the skin a little before the scalp's tint begins.
    edge = start - 0.045 + 0.014 * jitter[number] + 0.022 * valley
    points, tints = [], []
    shade = rng.uniform(0.82, 1.18, ridges)
    fraction = np.linspace(0, 1, rows) ** 1.25
    for s in fraction:
        depth = 0.26 * valley * ramp(s, 0.0, 0.08) * (1 - 0.5 * s)
        wave = 0.10 * jitter[number] * np.sin(np.pi * s)
        points.append(_surface(alpha, np.full(columns, s), edge, wave - depth))
        tints.append(shade[number] * (1 - 0.50 * valley) * (0.62 + 0.45 * ramp(s, 0.0, 0.25)))
    q = np.vstack(points)
    # Columns that would run only a little way, behind the ear, are left out.
    short = start > END - 0.30
    faces = [f for f in grid_faces(rows, columns) if not short[[v % columns for v in f]].any()]
    tint = colour * np.concatenate(tints)[:, None]
    return tidy(make(q, faces, "MienHair", tint))


HAIR = srgb("6a2f1c")
