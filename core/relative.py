"""Action units from how far a face has moved from its own rest.

Where brows, lids and lips rest differs more between people than an action unit moves them, so
one frame alone cannot tell low brows from lowered ones. Against the actor's own resting face
it can: `measure` reads distances off the mesh, `refine` turns their change into intensities.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .head import matrix_from_quaternion
from .units import ARKIT_INDEX, AU_INDEX

Array = npt.NDArray[np.float64]

# Mesh points, the actor's left and right: what moves.
_INNER_BROW = ((336, 296), (107, 66))
_OUTER_BROW = ((334, 293), (105, 63))
_BROW_HEAD = ((285,), (55,))
_UPPER_LID = ((385, 386, 387), (158, 159, 160))
_LOWER_LID = ((380, 374, 373), (153, 145, 144))
_WING = ((358,), (129,))
_MOUTH_CORNER = ((291,), (61,))
# And what it is measured from.
_INNER_CORNER, _OUTER_CORNER = (362, 133), (263, 33)
_UPPER_LIP = 0
_LIPS = (13, 14)

_GROUPS = (_INNER_BROW, _OUTER_BROW, _BROW_HEAD, _UPPER_LID, _LOWER_LID, _WING, _MOUTH_CORNER)
POINTS: npt.NDArray[np.intp] = np.unique(
    [*(p for group in _GROUPS for side in group for p in side), *_INNER_CORNER, *_OUTER_CORNER, _UPPER_LIP, *_LIPS]
)
"""The mesh points that `measure` needs."""

_AT = {int(point): i for i, point in enumerate(POINTS)}

INNER_BROW, OUTER_BROW, APERTURE, LOWER_LID = (slice(i, i + 2) for i in (0, 2, 4, 6))
WING, LIP, WIDTH, GAP, DROP = 8, 9, 10, 11, 12
MEASURES = 13
"""Height of the inner and the outer brow, lid aperture and height of the lower lid, each left and right; height
of the nose's wings, height of the upper lip, width of the mouth, gap between the brows, depth of the corners of the
mouth under the line between the lips. Heights are above the eye corners."""

RAISED_MORE = [0, 1, 2, 3]
"""Measures that leave their rest upwards more often and for longer than downwards: the brows."""


def measure(points: npt.ArrayLike, rotation: npt.ArrayLike) -> Array:
    """Measure faces.

    Parameters
    ----------
    points : array, shape (n, len(POINTS), 3)
        The mesh points `POINTS` of `FrameResult.landmarks`.
    rotation : array, shape (n, 4)
        `FrameResult.head_rotation`; the head is turned back to face the camera first.

    Returns
    -------
    ndarray, shape (n, MEASURES)
        In units of the distance between the outer eye corners; NaN where there is no mesh,
        as in frames that came over the network.
    """
    flipped = np.asarray(points, np.float64) * (1.0, -1.0, -1.0)
    if flipped.ndim != 3 or flipped.shape[1:] != (len(POINTS), 3):
        raise ValueError(f"points must be (n, {len(POINTS)}, 3), got {flipped.shape}")
    turned = flipped @ matrix_from_quaternion(rotation)  # R^T applied to row vectors

    def at(*indices):
        return turned[:, [_AT[i] for i in indices]]

    outer = at(*_OUTER_CORNER)
    scale = np.linalg.norm(outer[:, 0] - outer[:, 1], axis=1)
    corners = [at(inner, out)[..., 1].mean(axis=1) for inner, out in zip(_INNER_CORNER, _OUTER_CORNER, strict=True)]
    middle = (corners[0] + corners[1]) / 2
    out = np.empty((len(turned), MEASURES))
    for side in (0, 1):
        upper, lower = (at(*group[side])[..., 1].mean(axis=1) for group in (_UPPER_LID, _LOWER_LID))
        for where, group in ((INNER_BROW, _INNER_BROW), (OUTER_BROW, _OUTER_BROW)):
            out[:, where.start + side] = at(*group[side])[..., 1].mean(axis=1) - corners[side]
        out[:, APERTURE.start + side] = upper - lower
        out[:, LOWER_LID.start + side] = lower - corners[side]
    out[:, WING] = at(*_WING[0], *_WING[1])[..., 1].mean(axis=1) - middle
    out[:, LIP] = at(_UPPER_LIP)[:, 0, 1] - middle
    out[:, GAP] = np.linalg.norm(at(*_BROW_HEAD[0])[:, 0] - at(*_BROW_HEAD[1])[:, 0], axis=1)
    mouth = [at(*side)[:, 0] for side in _MOUTH_CORNER]
    out[:, WIDTH] = np.linalg.norm(mouth[0] - mouth[1], axis=1)
    out[:, DROP] = at(*_LIPS)[..., 1].mean(axis=1) - (mouth[0][:, 1] + mouth[1][:, 1]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale[:, None] > 0, out / scale[:, None], np.nan)


def turn(rotation: npt.ArrayLike, rest: npt.ArrayLike) -> Array:
    """Return the angle between where heads face and where they face at rest, degrees; a tilt hides no side.

    Parameters
    ----------
    rotation : array, shape (..., 4)
        `FrameResult.head_rotation`.
    rest : array, shape (4,)
        The same at rest.

    Returns
    -------
    ndarray, shape (...,)
    """
    forward = matrix_from_quaternion(rotation)[..., 2] @ matrix_from_quaternion(rest)[:, 2]
    return np.degrees(np.arccos(np.clip(forward, -1.0, 1.0)))


def _sides(number: int) -> list[int]:
    return [AU_INDEX[f"AU{number}L"], AU_INDEX[f"AU{number}R"]]


_AU1, _AU2, _AU4, _AU5, _AU6, _AU9, _AU15, _AU45 = map(_sides, (1, 2, 4, 5, 6, 9, 15, 45))
_AU18, _AU26 = AU_INDEX["AU18"], AU_INDEX["AU26"]

# ARKit shapes that show one of these action units alone take its intensity.
_SAME_AS = {
    ARKIT_INDEX[shape + side]: AU_INDEX[f"AU{number}{side[0]}"]
    for shape, number in {
        "browOuterUp": 2,
        "browDown": 4,
        "eyeWide": 5,
        "cheekSquint": 6,
        "noseSneer": 9,
        "mouthFrown": 15,
        "eyeBlink": 45,
    }.items()
    for side in ("Left", "Right")
} | {ARKIT_INDEX["mouthPucker"]: _AU18}
_SHAPES, _UNITS = (list(part) for part in zip(*_SAME_AS.items(), strict=True))
_BROW_INNER_UP = ARKIT_INDEX["browInnerUp"]

# Change from rest at which each begins and at which it is full, in the units of `measure`. Tuned on
# the rendered performance of the sample head and checked against our twelve clips.
_FURROW = (0.008, 0.045)  # brows down plus `_GAP_SHARE` of how much closer they are
_GAP_SHARE = 1.5
_BROW_UP = (0.004, 0.040)
_WIDE = (0.004, 0.020)
_CHEEK = (0.006, 0.016)
_WING_UP = (0.004, 0.011)
_LIP_UP = (0.006, 0.018)
_CLOSED = (0.40, 0.85)  # share of the rest aperture that is gone
_DROP = (0.012, 0.045)
_NARROW = (0.015, 0.120)
_LID_PER_BROW = 0.22  # a raised brow takes the upper lid along
# Beyond these angles from its rest the far side of a face is guessed by the model, degrees.
_TURN = (20.0, 40.0)


def _ramp(values, low: float, high: float) -> Array:
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def refine(
    action_units: npt.ArrayLike, arkit: npt.ArrayLike, measured: npt.ArrayLike, rest: npt.ArrayLike, turn: npt.ArrayLike
) -> tuple[Array, Array]:
    """Bring in what the change from rest shows.

    Parameters
    ----------
    action_units, arkit : array, shape (n, len(ACTION_UNITS)) and (n, 52)
        As estimated frame by frame, their own rest taken out.
    measured : array, shape (n, MEASURES)
        From `measure`; finite.
    rest : array, shape (MEASURES,)
        The same of the actor's face at rest.
    turn : array, shape (n,)
        From `turn`, degrees.

    Returns
    -------
    action_units, arkit : ndarray
        Refined copies, 0..1.

    Notes
    -----
    AU4, AU6, AU9 and AU45 take the stronger of both readings. AU5 and AU15 are measured alone: the model's
    eyeWide rests anywhere and its mouthFrown is dead; an open jaw bends the line between the lips. AU1
    and AU2 ask for brows above their rest, AU18 for a mouth narrower than at rest (the model calls a
    pout puckered, too). AU9 asks for brows down and wings and lip up at once.
    """
    units, shapes = np.array(action_units, np.float64), np.array(arkit, np.float64)
    measured, rest = np.asarray(measured, np.float64), np.asarray(rest, np.float64)
    change = measured - rest
    sure = 1.0 - _ramp(np.asarray(turn, np.float64), *_TURN)

    closed = _ramp(-change[:, APERTURE] / np.maximum(rest[APERTURE], 1e-3), *_CLOSED)
    inner, outer = change[:, INNER_BROW], change[:, OUTER_BROW]
    brow = (inner + outer) / 2
    # Brows that come back from a raise only lower, those of AU4 draw together as well.
    furrow = _ramp(-brow - _GAP_SHARE * change[:, [GAP]], *_FURROW)
    wide = _ramp(change[:, APERTURE] - _LID_PER_BROW * np.maximum(brow, 0.0), *_WIDE)
    cheek = _ramp(change[:, LOWER_LID], *_CHEEK)
    wing, lip = _ramp(change[:, WING], *_WING_UP), _ramp(change[:, LIP], *_LIP_UP)
    sneer = np.minimum.reduce([wing, lip, furrow.mean(axis=1)])
    narrow = _ramp(-change[:, WIDTH], *_NARROW)

    unsure = 1.0 - sure[:, None]
    # The inner brows are one movement to ARKit and to most faces: the higher one counts for both.
    lifted = _ramp(inner.max(axis=1, keepdims=True), *_BROW_UP)
    units[:, _AU1] = np.minimum(units[:, _AU1], np.maximum(lifted, unsure))
    units[:, _AU2] = np.minimum(units[:, _AU2], np.maximum(_ramp(outer, *_BROW_UP), unsure))
    units[:, _AU45] = np.maximum(units[:, _AU45], closed * sure[:, None])
    # A wrinkled nose pulls the brows down by itself.
    units[:, _AU4] = np.maximum(units[:, _AU4], furrow * (1.0 - 0.6 * sneer)[:, None] * sure[:, None])
    units[:, _AU5] = units[:, _AU5] * unsure + wide * sure[:, None]
    units[:, _AU6] = np.maximum(units[:, _AU6], cheek * (1.0 - units[:, _AU45]) * sure[:, None])
    units[:, _AU9] = np.maximum(units[:, _AU9], (sneer * sure)[:, None])
    drop = (_ramp(change[:, DROP], *_DROP) * (1.0 - units[:, _AU26]))[:, None]
    units[:, _AU15] = units[:, _AU15] * unsure + drop * sure[:, None]
    units[:, _AU18] = np.minimum(units[:, _AU18], np.maximum(narrow, unsure[:, 0]))
    shapes[:, _SHAPES] = units[:, _UNITS]
    # ARKit has one shape for both inner brows.
    shapes[:, _BROW_INNER_UP] = units[:, _AU1].mean(axis=1)
    return units, shapes
