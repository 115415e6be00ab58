"""Draw triangles as `ict_face.rasterise` does, fifty times as fast: numba compiles it for training."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def _draw(screen, triangles, colour, picture):
    height, width = picture.shape[:2]
    nearest = np.full((height, width), np.inf)
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        ax, ay, bx, by, cx, cy = (
            screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1],
        )  # fmt: skip
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area >= -1e-6:
            continue
        left, right = max(math.floor(min(ax, bx, cx)), 0), min(math.ceil(max(ax, bx, cx)), width)
        top, bottom = max(math.floor(min(ay, by, cy)), 0), min(math.ceil(max(ay, by, cy)), height)
        for y in range(top, bottom):
            py = y + 0.5
            for x in range(left, right):
                px = x + 0.5
                first = ((bx - px) * (cy - py) - (cx - px) * (by - py)) / area
                second = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) / area
                third = 1 - first - second
                if first < 0 or second < 0 or third < 0:
                    continue
                depth = first * screen[a, 2] + second * screen[b, 2] + third * screen[c, 2]
                if depth < nearest[y, x]:
                    nearest[y, x] = depth
                    for k in range(3):
                        picture[y, x, k] = first * colour[a, k] + second * colour[b, k] + third * colour[c, k]


def rasterise(screen: np.ndarray, triangles: np.ndarray, colour: np.ndarray, picture: np.ndarray) -> None:
    """Draw over `picture`; see `ict_face.rasterise`."""
    _draw(screen.astype(np.float64), triangles, colour, picture)
