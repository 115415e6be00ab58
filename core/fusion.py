"""Action units to the 11 expression units: one matrix, then limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .units import ACTION_UNITS, AU_INDEX, UNIT_INDEX, UNITS

# `{s}` stands for both sides and its share is split between them. Negative shares keep apart
# what one movement would otherwise show twice.
_SHARES: dict[str, dict[str, float]] = {
    "BrowRaise": {"AU1{s}": 0.5, "AU2{s}": 0.5},
    "BrowFurrow": {"AU4{s}": 1.0},
    "EyeWide": {"AU5{s}": 1.0, "AU45{s}": -1.0},  # a closing eye is not wide
    "BlinkLeft": {"AU45L": 1.0},
    "BlinkRight": {"AU45R": 1.0},
    "CheekSquint": {"AU6{s}": 0.6, "AU7{s}": 0.5, "AU45{s}": -0.3},  # closing the lids also narrows the eye
    "NoseWrinkle": {"AU9{s}": 0.8, "AU10{s}": 0.3, "AU12{s}": -0.25},  # a smile also lifts the upper lip
    "Smile": {"AU12{s}": 1.0, "AU15{s}": -0.3},
    "Frown": {"AU15{s}": 0.7, "AU17": 0.5, "AU12{s}": -0.7},
    "JawOpen": {"AU25": 0.2, "AU26": 0.75, "AU27": 0.15},
    "Pucker": {"AU18": 0.85, "AU22": 0.35, "AU28": -0.6},  # lips rolled in look puckered to the model
}


def _matrix() -> npt.NDArray[np.float32]:
    matrix = np.zeros((len(UNITS), len(ACTION_UNITS)), np.float32)
    for unit, shares in _SHARES.items():
        for pattern, share in shares.items():
            names = [pattern.format(s=side) for side in "LR"] if "{s}" in pattern else [pattern]
            for name in names:
                matrix[UNIT_INDEX[unit], AU_INDEX[name]] = share / len(names)
    matrix.flags.writeable = False
    return matrix


FUSION = _matrix()
"""Shares of each action unit in each expression unit, shape (11, len(ACTION_UNITS))."""


def fuse(action_units: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return expression unit weights.

    Parameters
    ----------
    action_units : array, shape (..., len(ACTION_UNITS))
        Intensities 0..1.

    Returns
    -------
    ndarray of float32, shape (..., 11)
        0..1 in the order of `UNITS`.
    """
    values = np.asarray(action_units, np.float32)
    if values.shape[-1:] != (len(ACTION_UNITS),):
        raise ValueError(f"action_units must be (..., {len(ACTION_UNITS)}), got {values.shape}")
    return np.clip(values @ FUSION.T, 0.0, 1.0)
