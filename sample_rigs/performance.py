"""A short performance of the sample head: known unit curves, head and eye motion. Pure numpy.

It is the truth behind ``performance.mp4``: what a capture of that clip should find.
"""

from __future__ import annotations

import numpy as np

from .shapes import UNITS

DURATION = 8.0
"""Seconds."""

# (seconds, value) keys, eased between; a unit rests at 0 outside its keys.
KEYS: dict[str, list[tuple[float, float]]] = {
    "BrowRaise": [(0.75, 0), (0.98, 0.95), (1.15, 0.9), (1.40, 0), (3.55, 0), (3.8, 0.22), (4.2, 0.1), (4.4, 0),
                  (5.45, 0), (5.6, 0.25), (5.85, 0.05), (6.0, 0.0), (6.62, 0), (6.82, 1.0), (7.12, 0.92),
                  (7.45, 0.05), (7.7, 0)],
    "BrowFurrow": [(1.40, 0), (1.62, 0.95), (1.78, 0.9), (2.0, 0), (4.85, 0), (5.05, 0.3), (5.35, 0)],
    "EyeWide": [(1.98, 0), (2.14, 0.95), (2.30, 0.9), (2.46, 0), (6.60, 0), (6.78, 0.9), (7.1, 0.8), (7.35, 0)],
    "BlinkLeft": [(0.33, 0), (0.42, 1), (0.47, 1), (0.60, 0), (2.48, 0), (2.60, 1), (2.70, 1), (2.84, 0),
                  (4.38, 0), (4.46, 1), (4.50, 1), (4.62, 0), (6.42, 0), (6.50, 1), (6.54, 1), (6.66, 0),
                  (7.48, 0), (7.57, 1), (7.61, 1), (7.74, 0)],
    "BlinkRight": [(0.33, 0), (0.42, 1), (0.47, 1), (0.60, 0), (2.80, 0), (2.92, 1), (3.02, 1), (3.16, 0),
                   (4.38, 0), (4.46, 1), (4.50, 1), (4.62, 0), (6.42, 0), (6.50, 1), (6.54, 1), (6.66, 0),
                   (7.48, 0), (7.57, 1), (7.61, 1), (7.74, 0)],
    "CheekSquint": [(3.12, 0), (3.28, 0.85), (3.38, 0.8), (3.52, 0), (3.86, 0), (4.02, 0.6), (4.25, 0.5), (4.42, 0)],
    "NoseWrinkle": [(4.46, 0), (4.66, 0.95), (4.80, 0.9), (4.98, 0)],
    "Smile": [(3.52, 0), (3.74, 0.85), (4.0, 1.0), (4.22, 0.9), (4.46, 0), (7.35, 0), (7.75, 0.5), (8.0, 0.42)],
    "Frown": [(4.90, 0), (5.10, 0.95), (5.25, 0.9), (5.46, 0)],
    "JawOpen": [(5.44, 0), (5.55, 0.75), (5.66, 0.15), (5.74, 0.45), (5.86, 0.02), (6.20, 0.02), (6.30, 0.40),
                (6.42, 0.0), (6.62, 0), (6.84, 0.72), (7.1, 0.6), (7.36, 0.0)],
    "Pucker": [(5.80, 0), (5.96, 0.95), (6.08, 0.9), (6.22, 0.15), (6.32, 0.35), (6.44, 0)],
}
# (seconds, pitch, yaw, roll) in degrees, Mien's head frame.
HEAD = [
    (0.0, 0, 0, 0), (0.65, 1, -3, 1), (1.05, -4, 0, 0), (1.65, 4, 3, -1), (2.2, -2, 0, 0), (2.65, 1, 6, -5),
    (3.0, 1, -6, 5), (3.4, 2, 0, 0), (3.9, -2, 15, 3), (4.35, 0, 8, 2), (4.75, 2, -6, -2), (5.2, 5, -15, 2),
    (5.7, -1, -8, 1), (6.1, 1, 0, -1), (6.4, 2, 3, 0), (6.85, -5, 0, 0), (7.4, 1, 4, 2), (8.0, 0, 2, 2),
]
# (seconds, pitch, yaw) in degrees: down, and to the character's left; eyes lead the head.
GAZE = [
    (0.0, 0, 0), (0.55, 0, 0), (0.62, 3, -8), (0.85, 0, 0), (1.4, 0, 0), (1.5, 4, 4), (1.95, 0, 0), (3.55, 0, 0),
    (3.68, -2, 14), (3.95, 0, -10), (4.3, 0, -6), (4.5, 0, 0), (4.9, 2, -14), (5.2, 8, -6), (5.45, 0, 8),
    (5.8, 0, 4), (6.2, 0, 0), (6.6, 0, 0), (7.3, 0, 0), (7.5, 0, -4), (8.0, 0, -2),
]


def ease(times: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Columns keyed at `keys[:, 0]`, smoothly stepped between keys, held outside them."""
    at = np.clip(np.searchsorted(keys[:, 0], times, side="right") - 1, 0, len(keys) - 2)
    span = keys[at + 1, 0] - keys[at, 0]
    t = np.clip((times - keys[at, 0]) / span, 0.0, 1.0)
    t = t * t * (3.0 - 2.0 * t)
    return keys[at, 1:] + (keys[at + 1, 1:] - keys[at, 1:]) * t[:, None]


def curves(fps: float = 30.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The performance, sampled.

    Parameters
    ----------
    fps : float
        Frames per second.

    Returns
    -------
    times : (n,) float64
        Seconds from the first frame.
    units : (n, 11) float64
        Weights 0..1, columns in `shapes.UNITS` order. The jaw bone follows JawOpen.
    head : (n, 3) float64
        Euler XYZ radians in the head's frame: pitch down, yaw to its left, roll to its right.
    gaze : (n, 2) float64
        Radians down, and to the character's left, relative to the head.
    """
    times = np.arange(round(DURATION * fps)) / fps
    units = np.stack([ease(times, np.array(KEYS[unit], float))[:, 0] for unit in UNITS], 1)
    head = np.radians(ease(times, np.array(HEAD, float)))
    # A living head is never quite still.
    drift = np.stack([np.sin(times * 2.1), np.sin(times * 1.3 + 1), np.sin(times * 1.7 + 2)], 1)
    head = head + np.radians([0.5, 0.8, 0.5]) * drift
    gaze = np.radians(ease(times, np.array(GAZE, float)))
    return times, np.clip(units, 0.0, 1.0), head, gaze
