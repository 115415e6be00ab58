"""Action units to the 11 expression units: one matrix, then limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .units import ACTION_UNITS, AU_INDEX, UNIT_INDEX, UNITS

# Each unit is the weighted sum of its action units. A pair of sides counts half each, except
# where the unit is one side's own. Negative shares resolve what cannot be seen together.
_SHARES: dict[str, dict[str, float]] = {
    "BrowRaise": {"AU1L": 0.25, "AU1R": 0.25, "AU2L": 0.25, "AU2R": 0.25},
    "BrowFurrow": {"AU4L": 0.5, "AU4R": 0.5},
    "EyeWide": {"AU5L": 0.5, "AU5R": 0.5, "AU45L": -0.5, "AU45R": -0.5},
    "BlinkLeft": {"AU45L": 1.0},
    "BlinkRight": {"AU45R": 1.0},
    "CheekSquint": {"AU6L": 0.5, "AU6R": 0.5},
    "NoseWrinkle": {"AU9L": 0.5, "AU9R": 0.5},
    "Smile": {"AU12L": 0.5, "AU12R": 0.5},
    "Frown": {"AU15L": 0.5, "AU15R": 0.5},
    "JawOpen": {"AU26": 1.0},
    "Pucker": {"AU18": 1.0},
}


def _matrix() -> npt.NDArray[np.float32]:
    matrix = np.zeros((len(UNITS), len(ACTION_UNITS)), np.float32)
    for unit, shares in _SHARES.items():
        for action_unit, share in shares.items():
            matrix[UNIT_INDEX[unit], AU_INDEX[action_unit]] = share
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
