"""The eleven expression units, sculpted on the skin.

A shape is written as displacements of a few named landmarks on the cage, spread over it
bi-harmonically (so upper and lower lip part although they touch), lifted to the fine mesh by the
same subdivision, then detailed there: lids roll over the eyeballs, folds and wrinkles are pressed
in. Displacements are (outwards, forwards, up) in centimetres for the right half of the face.
"""

from __future__ import annotations

import numpy as np

from . import canonical
from .parts import Part
from .skin import EYE_CENTRE, EYE_RADIUS, JAW_HINGE, LID, Skin, both, bump, ramp
from .subdivision import spread

UNITS = (
    "BrowRaise", "BrowFurrow", "EyeWide", "BlinkLeft", "BlinkRight", "CheekSquint",
    "NoseWrinkle", "Smile", "Frown", "JawOpen", "Pucker",
)
JAW_OPEN_ANGLE = 0.38
"""Radians that the jaw bone turns about the armature's X at JawOpen 1."""

EYE = canonical.EYE_RIM + canonical.EYE_RING1
NOSE = [1, 2, 4, 5, 6, 19, 94, 97, 98, 48, 64, 129, 102, 195, 197, 168, 45, 51, 220, 115, 131, 49]
HAIRLINE = canonical.OVAL[:8] + canonical.OVAL[-8:]
LIPS = sorted({i for ring in canonical.LIP_UPPER + canonical.LIP_LOWER for i in ring})


class Sculptor:
    """Turns landmark displacements into fine deltas of one skin."""

    def __init__(self, skin: Skin):
        self.skin = skin
        self.left = canonical.mirror_map(canonical.load()[0]).tolist()
        self.cage = skin.cage_points
        self.rest = skin.points
        self.sockets = skin.sockets
        self.bag = skin.bag
        self.skull = [i for ring in skin.skull for i in ring]

    def solve(self, moves: dict, pins=(), skull: bool = True, order: int = 2, soft: float = 0.0) -> np.ndarray:
        """Displacements of the fine mesh from moves of right-hand landmarks, mirrored."""
        fixed: dict[int, np.ndarray] = {}
        for i in pins:
            fixed[i] = fixed[self.left[i]] = np.zeros(3)
        for i in (self.skull if skull else []) + self.sockets:
            fixed[i] = np.zeros(3)
        for i, (out, ahead, up) in moves.items():
            fixed[i] = np.array([-out, -ahead, up], float)
            if self.left[i] == i:
                fixed[i][0] = 0
            else:
                fixed[self.left[i]] = fixed[i] * [-1, 1, 1]
        cage = spread(self.skin.cage_laplacian, fixed, order, soft)
        # The mouth's bag follows the lips' inner edge, less and less towards the throat.
        ring = np.array(canonical.LIP_INNER)
        # Sideways it keeps up with them, or it would come out through the cheeks of a pucker.
        for ids, share in zip(self.bag, ((1.0, 0.85, 0.95), (0.8, 0.30, 0.7), (0.3, 0.0, 0.1)), strict=False):
            cage[ids] = cage[ring] * share
            inwards = cage[ids, 0] * self.cage[ids, 0] < 0
            cage[ids, 0] *= np.where(inwards, 1.7 if share[0] == 0.8 else 1.06, 1.0)
        return self.skin.lift(cage)

    # -- lids ------------------------------------------------------------------------------

    def rims(self, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Upper and lower lid edges as (x, pitch) curves in the eye's frame, x ascending."""
        chain = self.skin.chains["rim.L" if side > 0 else "rim.R"]
        p = self.local(self.rest[chain], side)
        half = len(chain) // 2
        pitch = np.arctan2(p[:, 2], -p[:, 1])
        lower = np.arange(0, half + 1)
        upper = np.r_[np.arange(half, len(chain)), 0]
        lo, hi = lower[np.argsort(p[lower, 0])], upper[np.argsort(p[upper, 0])]
        return p[lo, 0], pitch[lo], p[hi, 0], pitch[hi]

    @staticmethod
    def local(points: np.ndarray, side: float) -> np.ndarray:
        """Relative to the eyeball's centre, x outwards."""
        p = points - EYE_CENTRE * [-side, 1, 1]
        return p * [side, 1, 1]

    def lids(self, side: float, upper: float, lower: float, points=None, rigid: bool = False) -> np.ndarray:
        """Deltas that roll the lids over an eyeball.

        Parameters
        ----------
        side : 1 left, -1 right
        upper, lower : float
            Share of the opening that each lid closes (negative opens wider).
        points : (n, 3), optional
            Other points than the skin's; with `rigid` they all follow the upper rim (lashes).
        """
        rest = self.rest if points is None else points
        p = self.local(rest, side)
        lx, lp, hx, hp = self.rims(side)
        x = p[:, 0]
        low, high = np.interp(x, lx, lp), np.interp(x, hx, hp)
        opening = np.maximum(high - low, 0)
        pitch = np.arctan2(p[:, 2], -p[:, 1])
        plan = np.hypot(p[:, 1], p[:, 2])
        radius = np.linalg.norm(p, axis=1)
        near = ramp(radius, 3.05, 2.35) * (p[:, 1] < 0.4)
        inside = ramp(np.abs(x), 2.5, 1.65)
        # Corners lie on the line between the lids: without the margin rounding would choose.
        is_upper = (pitch > low + 0.5 * opening + 1e-6) | rigid
        above = pitch - high
        below = low - pitch
        # Nothing past the crease moves; the platform between rim and crease slides along.
        share_up = 1 - ramp(above, 0.02, 0.46)
        share_low = 1 - ramp(below, 0.02, 0.55)
        share = np.where(is_upper, share_up, share_low) * near * inside
        if rigid:
            share = np.ones_like(share)
        turn = np.where(is_upper, -upper, lower) * opening * share
        if rigid:
            radius_to = radius
        else:
            cap = EYE_RADIUS + LID + 0.10
            pull = share * np.clip(np.abs(np.where(is_upper, upper, lower)), 0, 1)
            lid = self.skin.masks["socket"] < 0.35
            radius_to = np.where(lid & (radius > cap), radius + (cap - radius) * 0.75 * pull, radius)
        new = p.copy()
        new[:, 1] = -plan * np.cos(pitch + turn)
        new[:, 2] = plan * np.sin(pitch + turn)
        new *= (radius_to / np.maximum(radius, 1e-6))[:, None]
        if not rigid:
            # Whatever happened, a lid lies on the eyeball and not in it.
            floor = np.where(self.skin.masks["socket"] < 0.35, EYE_RADIUS + 0.075, EYE_RADIUS + 0.035)
            r = np.linalg.norm(new, axis=1)
            hit = (r < floor) & (share > 0.01)
            new[hit] *= (floor[hit] / r[hit])[:, None]
            new = np.where((share > 1e-4)[:, None], new, p)
        return (new - p) * [side, 1, 1]

    def normals(self) -> np.ndarray:
        """Vertex normals of the fine skin."""
        quads = np.array([f if len(f) == 4 else (*f, f[-1]) for f in self.skin.faces])
        p = self.rest
        n = np.cross(p[quads[:, 2]] - p[quads[:, 0]], p[quads[:, 3]] - p[quads[:, 1]])
        out = np.zeros_like(p)
        for k in range(4):
            np.add.at(out, quads[:, k], n)
        return out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-12)


def _jaw_weights(s: Sculptor) -> np.ndarray:
    fixed: dict[int, float] = {}

    def put(items, value):
        for i in items:
            fixed[i] = fixed[s.left[i]] = value

    put([i for ring in canonical.LIP_UPPER for i in ring], 0.0)
    put([i for ring in canonical.LIP_LOWER for i in ring], 1.0)
    put([152, 148, 176, 149, 175, 171, 140, 199, 200, 201, 208, 18, 83, 32, 182, 194], 1.0)
    put([150], 0.95)
    put([136], 0.82)
    put([172], 0.62)
    put([58], 0.30)
    put([132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10], 0.0)
    put(NOSE + EYE + [50, 101, 118, 117, 123, 205, 36, 142, 203, 165, 92, 186][:9], 0.0)
    for i, value in ((61, 0.45), (76, 0.45), (62, 0.45), (78, 0.45)):
        put([i], value)
    for ring, blend in zip(s.bag, (0.0, 0.1, 0.8), strict=False):
        for j, i in enumerate(ring):
            base = 0.45 if j in (0, 10) else (1.0 if j < 10 else 0.0)
            fixed[i] = base + (0.4 - base) * blend
    for i in s.sockets:
        fixed[i] = 0.0
    # The throat follows a little; the skull's back and the neck do not.
    rings = len(s.skull) // 36
    for k in range(rings):
        for j in range(36):
            under = abs(j - 18)  # column 18 is the chin's
            if under > 6 or k >= 6:
                fixed[s.skull[k * 36 + j]] = 0.0
    return spread(s.skin.cage_laplacian, fixed, order=1)[:, 0]


def _smooth_seams(delta: np.ndarray, s: Sculptor) -> np.ndarray:
    """Make a symmetric shape exactly so."""
    mirrored = delta[s.skin.mirror] * [-1, 1, 1]
    return 0.5 * (delta + mirrored)


def detail(skin: Skin) -> None:
    """Sculpt the resting skin's fine forms, in place: lid crease, nostrils, wings, philtrum, lips' edge."""
    s = Sculptor(skin)
    n = s.normals()
    p = skin.points
    push = np.zeros(len(p))
    outer = skin.masks["socket"] < 0.1
    for side in (-1, 1):
        q = s.local(p, side)
        _, _, hx, hp = s.rims(side)
        above = np.arctan2(q[:, 2], -q[:, 1]) - np.interp(q[:, 0], hx, hp)
        near = ramp(np.linalg.norm(q, axis=1), 3.2, 2.4) * (q[:, 1] < 0) * outer
        along = ramp(np.abs(q[:, 0] - 0.05), 1.85, 1.1)
        push -= 0.13 * np.exp(-(((above - 0.27) / 0.055) ** 2)) * near * along
        push += 0.06 * np.exp(-(((above - 0.13) / 0.07) ** 2)) * near * along
    # Nostrils go in and up; the wing's crease curls behind them.
    push -= 0.30 * both(p, [0.62, -6.15, -1.50], [0.36, 0.50, 0.30], 2.0)
    push -= 0.16 * both(p, [1.62, -5.0, -0.65], [0.22, 0.6, 0.50])
    push += 0.10 * both(p, [1.18, -5.7, -0.85], [0.38, 0.5, 0.42])
    push -= 0.07 * bump(p, [0, -5.8, -2.35], [0.22, 0.9, 0.55])
    push += 0.05 * both(p, [0.36, -5.8, -2.45], [0.16, 0.9, 0.55])
    # Under the lower lip, and the small shadow at the mouth's corners.
    push -= 0.14 * bump(p, [0, -5.3, -5.75], [1.1, 1.2, 0.35])
    push -= 0.10 * both(p, [2.5, -4.3, -4.05], [0.28, 0.8, 0.30])
    mouth = skin.masks["mouth"] < 0.3
    skin.points = p + n * (push * mouth)[:, None]
    # The corners of a resting mouth turn up a little: neutral, not glum.
    skin.points[:, 2] += 0.14 * both(skin.points, [2.15, -4.4, -4.0], [0.8, 1.5, 0.8])
    skin.points = 0.5 * (skin.points + skin.points[skin.mirror] * [-1, 1, 1])


def sculpt(skin: Skin) -> dict[str, np.ndarray]:
    """Deltas of the skin for every unit, (n, 3) each."""
    s = Sculptor(skin)
    p = skin.points
    n = s.normals()
    face = 1 - np.clip(skin.masks["mouth"] + skin.masks["socket"], 0, 1)
    out: dict[str, np.ndarray] = {}

    def dent(amount):
        return -n * (np.asarray(amount) * face)[:, None]

    # BrowRaise: the whole brow up, the lids' fold stretched, two soft forehead lines.
    raise_ = {70: (0.05, 0.05, 1.00), 63: (0.03, 0.10, 1.22), 105: (0, 0.12, 1.25), 66: (0, 0.10, 1.12),
              107: (0, 0.05, 1.05), 46: (0.05, 0.05, 0.85), 53: (0.02, 0.05, 1.05), 52: (0, 0.08, 1.10),
              65: (0, 0.08, 1.0), 55: (0, 0.05, 0.90), 9: (0, 0, 0.7), 8: (0, 0, 0.45), 151: (0, 0, 0.75),
              108: (0, 0, 0.80), 69: (0, 0, 0.85), 104: (0, 0, 0.85), 68: (0, 0, 0.7)}
    d = s.solve(raise_, EYE + NOSE + HAIRLINE + [50, 101, 118, 117, 123, 205, 111, 116])
    for level, depth in ((6.75, 0.10), (7.65, 0.08)):
        line = np.exp(-(((p[:, 2] - level - 0.25 * np.cos(p[:, 0] * 0.55)) / 0.16) ** 2))
        d += dent(depth * line * ramp(np.abs(p[:, 0]), 4.6, 2.0) * (p[:, 1] < 0))
    for side in (-1, 1):
        d += s.lids(side, -0.10, 0.0)
    out["BrowRaise"] = d

    # BrowFurrow: inner brows down and together, a bulge and two grooves between them.
    d = s.solve(
        {107: (-0.58, 0.22, -0.86), 55: (-0.56, 0.25, -0.86), 66: (-0.55, 0.15, -0.84), 65: (-0.48, 0.18, -0.78),
         105: (-0.38, 0.05, -0.62), 52: (-0.30, 0.05, -0.58), 63: (-0.20, 0, -0.30), 53: (-0.16, 0, -0.28),
         70: (-0.05, 0, 0.10), 46: (-0.05, 0, 0.05), 9: (0, 0.18, -0.45), 8: (0, 0.20, -0.42),
         151: (0, 0, -0.15), 108: (-0.1, 0, -0.25), 168: (0, 0.08, -0.2)},
        [i for i in EYE if i not in (56, 28, 27, 190)] + HAIRLINE + [6, 197, 195, 5, 4, 50, 101, 118, 205, 122, 196],
    )
    d += dent(0.20 * both(p, [0.52, -5.2, 4.55], [0.13, 1.2, 0.75]))
    d -= dent(0.10 * both(p, [0.95, -5.0, 4.6], [0.30, 1.2, 0.7]))
    for side in (-1, 1):
        d += s.lids(side, 0.22, 0.10)
    out["BrowFurrow"] = d

    # EyeWide: more white above the iris.
    d = sum(s.lids(side, -0.46, -0.10) for side in (-1, 1))
    d += s.solve({52: (0, 0, 0.18), 65: (0, 0, 0.15), 53: (0, 0, 0.15), 223: (0, 0, 0.25), 222: (0, 0, 0.2),
                  224: (0, 0, 0.22)}, EYE + NOSE + HAIRLINE + [50, 101, 118])
    out["EyeWide"] = d

    for name, side in (("BlinkLeft", 1), ("BlinkRight", -1)):
        out[name] = s.lids(side, 0.88, 0.15) + s.solve({52: (0, 0, -0.10), 53: (0, 0, -0.12), 65: (0, 0, -0.08)},
                                                        EYE + NOSE + HAIRLINE) * ramp(side * p[:, 0], 0.3, 1.2)[:, None]

    # CheekSquint: the lower lid climbs, the cheek pushes up under it, crow's feet.
    d = s.solve(
        {50: (0.12, 0.38, 0.62), 101: (0.05, 0.25, 0.50), 118: (0.05, 0.25, 0.52), 117: (0.10, 0.28, 0.55),
         123: (0.15, 0.28, 0.50), 205: (0.10, 0.25, 0.40), 36: (0.05, 0.2, 0.30), 111: (0.05, 0.10, 0.30),
         230: (0, 0.08, 0.24), 229: (0, 0.10, 0.26), 228: (0, 0.08, 0.22), 231: (0, 0.06, 0.18),
         53: (0, 0, -0.12), 46: (0, 0.0, -0.16), 70: (0, 0, -0.12), 226: (0.02, 0, 0.02)},
        canonical.EYE_RIM + HAIRLINE + LIPS + NOSE[:12] + [107, 9, 8, 66, 58, 172, 136],
    )
    for side in (-1, 1):
        d += s.lids(side, 0.08, 0.30)
    for angle in (-0.45, 0.0, 0.45):
        a = np.abs(p[:, 0]) - 5.15
        z = p[:, 2] - 2.55
        along, across = a * np.cos(angle) + z * np.sin(angle), z * np.cos(angle) - a * np.sin(angle)
        d += dent(0.085 * np.exp(-((across / 0.10) ** 2)) * np.exp(-(((along - 0.55) / 0.5) ** 2)) * (p[:, 1] < 1.5))
    d += dent(0.09 * np.exp(-(((p[:, 2] - 1.15 - 0.1 * (np.abs(p[:, 0]) - 3.2) ** 2) / 0.14) ** 2))
              * ramp(np.abs(p[:, 0]), 1.6, 2.4) * ramp(np.abs(p[:, 0]), 4.8, 4.0) * (p[:, 1] < 0))
    out["CheekSquint"] = d

    # NoseWrinkle: wings and upper lip up, the bridge bunched, the inner brow dragged down.
    d = s.solve(
        {64: (0.12, 0.05, 0.50), 48: (0.12, 0.05, 0.50), 98: (0.10, 0, 0.42), 129: (0.12, 0.08, 0.55),
         102: (0.15, 0.08, 0.52), 49: (0.08, 0.05, 0.50), 1: (0, 0.02, 0.12), 4: (0, 0.02, 0.12), 2: (0, 0, 0.16),
         0: (0, 0.12, 0.34), 37: (0, 0.14, 0.46), 39: (0.05, 0.14, 0.55), 40: (0.06, 0.10, 0.48),
         185: (0.04, 0.05, 0.24), 13: (0, 0.10, 0.26), 82: (0, 0.12, 0.36), 81: (0.03, 0.12, 0.42),
         80: (0.03, 0.08, 0.34), 191: (0.02, 0.03, 0.14), 11: (0, 0.12, 0.31), 72: (0, 0.14, 0.42),
         203: (0.16, 0.22, 0.62), 36: (0.16, 0.26, 0.60), 142: (0.15, 0.22, 0.55), 126: (0.05, 0.14, 0.42),
         205: (0.08, 0.18, 0.42), 101: (0.05, 0.18, 0.38), 50: (0.05, 0.15, 0.32), 118: (0, 0.1, 0.25),
         107: (-0.22, 0.12, -0.42), 55: (-0.22, 0.15, -0.45), 66: (-0.16, 0.06, -0.32), 65: (-0.15, 0.06, -0.35),
         105: (-0.06, 0, -0.18), 9: (0, 0.10, -0.30), 8: (0, 0.14, -0.30), 52: (-0.05, 0, -0.22)},
        canonical.LIP_LOWER[0] + canonical.LIP_LOWER[3] + [61, 78, 76, 62] + canonical.EYE_RIM + HAIRLINE
        + [70, 46, 17, 18, 200, 152, 58],
    )
    for level in (2.15, 2.75, 3.35):
        d += dent(0.11 * np.exp(-(((p[:, 2] - level + 0.25 * np.abs(p[:, 0])) / 0.13) ** 2))
                  * ramp(np.abs(p[:, 0]), 1.25, 0.6) * (p[:, 1] < -4))
    d += _nasolabial(p, face, n, 0.13, 0.45)
    for side in (-1, 1):
        d += s.lids(side, 0.12, 0.12)
    out["NoseWrinkle"] = d

    # Smile: corners out, up and back; lips thin and stretch; cheeks round; the fold deepens.
    d = s.solve(
        {61: (0.92, -0.62, 0.92), 76: (0.92, -0.60, 0.90), 62: (0.92, -0.60, 0.88), 78: (0.92, -0.60, 0.86),
         185: (0.66, -0.42, 0.72), 40: (0.46, -0.25, 0.50), 39: (0.28, -0.14, 0.34), 37: (0.12, -0.12, 0.29),
         0: (0, -0.12, 0.24), 191: (0.72, -0.46, 0.74), 80: (0.50, -0.30, 0.56), 81: (0.30, -0.22, 0.44),
         82: (0.12, -0.18, 0.37), 13: (0, -0.17, 0.34),
         146: (0.70, -0.42, 0.66), 91: (0.48, -0.28, 0.36), 181: (0.28, -0.16, 0.10), 84: (0.12, -0.12, -0.02),
         17: (0, -0.12, -0.04), 95: (0.70, -0.46, 0.64), 88: (0.50, -0.32, 0.34), 178: (0.30, -0.22, 0.02),
         87: (0.12, -0.18, -0.13), 14: (0, -0.17, -0.17),
         205: (0.36, 0.22, 0.58), 50: (0.26, 0.32, 0.60), 36: (0.22, 0.16, 0.45), 203: (0.20, 0.0, 0.34),
         187: (0.55, 0.05, 0.50), 207: (0.62, -0.05, 0.52), 216: (0.72, -0.25, 0.58), 212: (0.60, -0.3, 0.46),
         117: (0.1, 0.18, 0.34), 101: (0.08, 0.18, 0.36), 123: (0.2, 0.2, 0.35), 118: (0.04, 0.12, 0.28),
         98: (0.10, 0, 0.06), 64: (0.12, 0, 0.08), 48: (0.12, 0, 0.06), 200: (0, -0.05, 0.03), 18: (0, -0.1, 0.0)},
        canonical.EYE_RIM + HAIRLINE + [152, 148, 176, 199, 172, 58, 1, 4, 2, 107, 55, 52, 70, 234, 93],
    )
    d += _nasolabial(p, face, n, 0.12, 1.1)
    d += dent(0.10 * both(p, [2.95, -3.6, -3.85], [0.42, 1.2, 0.6]))
    for side in (-1, 1):
        d += s.lids(side, 0.03, 0.09)
    out["Smile"] = d

    # Frown: corners down, the lower lip pushed up by the chin, the chin dimpled.
    d = s.solve(
        {61: (0.22, -0.20, -1.25), 76: (0.18, -0.20, -1.20), 62: (0.15, -0.20, -1.15), 78: (0.12, -0.20, -1.10),
         185: (0.16, -0.05, -0.82), 40: (0.10, 0.0, -0.32), 39: (0.04, 0.02, 0.02), 37: (0, 0.04, 0.15),
         0: (0, 0.05, 0.19), 191: (0.10, -0.05, -0.76), 80: (0.06, 0, -0.26), 81: (0.02, 0, 0.06), 82: (0, 0.02, 0.18),
         13: (0, 0.02, 0.22),
         146: (0.20, -0.05, -0.96), 91: (0.14, 0.06, -0.46), 181: (0.06, 0.16, 0.04), 84: (0, 0.24, 0.22),
         17: (0, 0.26, 0.27), 95: (0.10, -0.05, -0.76), 88: (0.06, 0, -0.26), 178: (0.02, 0.10, 0.06),
         87: (0, 0.14, 0.18), 14: (0, 0.14, 0.22), 200: (0, 0.20, 0.50), 199: (0, 0.26, 0.50), 175: (0, 0.18, 0.36),
         18: (0, 0.12, 0.42), 83: (0.02, 0.08, 0.34), 201: (0.02, 0.16, 0.42), 208: (0.03, 0.20, 0.40),
         152: (0, 0.10, 0.22), 204: (0.20, 0.05, -0.34), 202: (0.22, 0.05, -0.68), 57: (0.20, -0.1, -0.80),
         212: (0.16, -0.1, -0.70), 216: (0.06, -0.05, -0.48), 92: (0.04, 0, -0.28), 205: (0, -0.08, -0.25)},
        EYE + HAIRLINE + NOSE + [50, 101, 118, 117, 123, 172, 58, 136, 234, 107, 52, 70],
    )
    d += dent(0.07 * both(p, [2.75, -3.7, -5.5], [0.40, 1.2, 0.65]))
    dimple = np.sin(p[:, 0] * 7.0 + 1.0) * np.sin(p[:, 2] * 6.0 + np.abs(p[:, 0]) * 2)
    d += dent(0.045 * dimple * bump(p, [0, -5.2, -7.6], [1.1, 1.5, 0.8]))
    out["Frown"] = d

    # JawOpen: the lower face turns about the jaw's hinge; the corners draw in.
    weight = skin.lift(_jaw_weights(s)[:, None])[:, 0]
    weight = np.clip(weight, 0, 1)
    rel = p - JAW_HINGE
    c, k = np.cos(JAW_OPEN_ANGLE), np.sin(JAW_OPEN_ANGLE)
    turned = np.stack([rel[:, 0], rel[:, 1] * c - rel[:, 2] * k, rel[:, 1] * k + rel[:, 2] * c], 1)
    d = (turned - rel) * weight[:, None]
    d += s.solve(
        {61: (-0.22, -0.10, 0), 76: (-0.22, -0.10, 0), 62: (-0.20, -0.05, 0), 78: (-0.20, -0.05, 0),
         0: (0, 0, 0.10), 13: (0, 0.02, 0.12), 82: (0, 0.02, 0.11), 37: (0, 0, 0.10), 81: (0, 0, 0.10),
         187: (-0.22, -0.12, 0), 207: (-0.25, -0.15, 0), 147: (-0.15, 0, 0), 205: (-0.05, -0.08, -0.05)},
        EYE + HAIRLINE + NOSE + [152, 148, 176, 17, 84, 14, 87, 50, 117, 123, 172, 58],
    )
    out["JawOpen"] = d

    # Pucker: the mouth becomes a small thick ring, pushed forwards. Every lip point keeps its share
    # of the width, so nothing folds over at the corners.
    moves = {}
    for rings, sign in ((canonical.LIP_UPPER, 1.0), (canonical.LIP_LOWER, -1.0)):
        for depth, ring in enumerate(rings):
            for i in ring:
                across = min(1.0, abs(s.cage[i, 0]) / 2.3)
                ahead = 0.66 + (1 - across**2) * (0.11 * depth + 0.14)
                up = sign * (0.13 + 0.03 * depth) * (1 - across**2) - (0.14 * across**3)
                moves[i] = (-0.47 * abs(s.cage[i, 0]), ahead, up)
    moves |= {205: (-0.16, 0.05, -0.05), 207: (-0.38, 0.10, 0), 216: (-0.62, 0.22, 0), 212: (-0.62, 0.22, 0),
              57: (-0.85, 0.38, -0.05), 187: (-0.28, 0.02, 0), 18: (0, 0.34, 0.02), 200: (0, 0.12, 0.06),
              164: (0, 0.34, -0.02), 2: (0, 0.05, -0.03), 165: (-0.30, 0.32, 0), 92: (-0.60, 0.36, 0)}
    d = s.solve(
        moves,
        EYE + HAIRLINE + [1, 4, 6, 98, 64, 48, 50, 101, 118, 117, 123, 172, 58, 152, 148, 199, 107, 52, 70],
    )
    out["Pucker"] = d

    result = {}
    for name in UNITS:
        delta = out[name]
        if not name.startswith("Blink"):
            delta = _smooth_seams(delta, s)
        delta[np.linalg.norm(delta, axis=1) < 2e-3] = 0.0
        result[name] = delta
    # Each blink stays on its own half; the two are mirror images.
    result["BlinkRight"] = result["BlinkLeft"][skin.mirror] * [-1, 1, 1]
    return result


def _nasolabial(p, face, n, depth: float, cheek: float) -> np.ndarray:
    """The fold from the nose's wing to beside the mouth's corner, with the cheek rounded above it."""
    start, end = np.array([1.75, -1.0]), np.array([3.05, -4.1])
    x, z = np.abs(p[:, 0]), p[:, 2]
    axis = end - start
    t = ((x - start[0]) * axis[0] + (z - start[1]) * axis[1]) / (axis @ axis)
    across = ((x - start[0]) * axis[1] - (z - start[1]) * axis[0]) / np.linalg.norm(axis)
    across = -across + 0.22 * np.sin(np.pi * np.clip(t, 0, 1))
    ends = ramp(t, -0.15, 0.25) * ramp(t, 1.2, 0.8) * (p[:, 1] < 0)
    groove = depth * np.exp(-((across / 0.17) ** 2)) * ends
    puff = depth * cheek * np.exp(-(((across - 0.55) / 0.42) ** 2)) * ends
    return n * ((puff - groove) * face)[:, None]


def follow(part: Part, near: np.ndarray, weight: np.ndarray, skin_deltas: dict) -> None:
    """Give a part bound to the skin (see `parts.bind`) the skin's deltas."""
    for unit, delta in skin_deltas.items():
        part.deltas[unit] = (delta[near] * weight[:, :, None]).sum(1)


LASH_LIDS = {
    "BrowRaise": (-0.10, -0.10), "BrowFurrow": (0.22, 0.22), "EyeWide": (-0.46, -0.46), "BlinkLeft": (0.88, 0.0),
    "BlinkRight": (0.0, 0.88), "CheekSquint": (0.08, 0.08), "NoseWrinkle": (0.12, 0.12), "Smile": (0.03, 0.03),
}
"""How far each unit rolls the upper lid of the (left, right) eye: what the lashes follow."""
