"""Particles round a face: what there is, where it starts, and how strong it is just now. No GPU here.

A particle has no memory: the shader works out where it is from its number and the time alone. So a
picture at a given time is the same every time, and nothing has to be simulated or stored.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..rig.names import ARKIT_OF


@dataclasses.dataclass(frozen=True)
class Effect:
    """One kind of particle. Lengths are in distances between the eyes.

    Attributes
    ----------
    title : str
    label : str
        Expression that sets it off unless told otherwise.
    shape : int
        The shader's number: 0 drop, 1 sparkle, 2 puff, 3 sweat, 4 heart.
    count : int
        Particles at full strength.
    life : float
        Seconds that one lives.
    size : float
    colour : tuple of float
        Linear RGBA.
    anchor : tuple of float
        Where it starts: from the middle between the eyes to the side, out of the face, up. It starts on
        either side.
    """

    title: str
    label: str
    shape: int
    count: int
    life: float
    size: float
    colour: tuple[float, float, float, float]
    anchor: tuple[float, float, float]


EFFECTS: dict[str, Effect] = {
    "tears": Effect("Tears", "sadness", 0, 14, 1.6, 0.085, (0.62, 0.84, 1.0, 0.85), (0.56, 0.16, -0.2)),
    "sparkles": Effect("Sparkles", "happiness", 1, 36, 1.2, 0.20, (1.0, 0.82, 0.32, 1.0), (1.75, 0.1, 0.25)),
    "steam": Effect("Steam", "anger", 2, 44, 1.5, 0.55, (0.92, 0.94, 0.97, 0.42), (1.25, -1.3, -0.3)),
    "sweat": Effect("Sweat", "fear", 3, 10, 1.8, 0.12, (0.66, 0.86, 1.0, 0.85), (0.74, 0.14, 0.62)),
    "hearts": Effect("Hearts", "happiness", 4, 22, 2.2, 0.30, (1.0, 0.12, 0.24, 1.0), (1.3, 0.3, 0.6)),
}

ATTACK, DECAY = 0.25, 0.9
"""Seconds in which an effect comes and goes."""


@dataclasses.dataclass
class Fader:
    """Lets effects come and go smoothly.

    Attributes
    ----------
    strength : dict of str to float
        Of each effect just now, 0..1.
    """

    strength: dict[str, float] = dataclasses.field(default_factory=dict)

    def step(self, wanted: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Move every effect towards what is wanted.

        Parameters
        ----------
        wanted : mapping of str to float
        seconds : float
            Since the last step.
        """
        for name in EFFECTS:
            now, goal = self.strength.get(name, 0.0), wanted.get(name, 0.0)
            reach = seconds / (ATTACK if goal > now else DECAY)
            self.strength[name] = min(goal, now + reach) if goal > now else max(goal, now - reach)
        return {name: value for name, value in self.strength.items() if value > 0.0}


def wanted(rules, weights: Mapping[str, float], label: str) -> dict[str, float]:
    """Return how strong each effect should be.

    Parameters
    ----------
    rules : iterable
        Objects with the attributes of `properties.MienEffect`.
    weights : mapping of str to float
        Weights of the head's shapes, by channel.
    label : str
        Expression label, a basic one or one of the actor's own; ``""`` for none.
    """
    result = {}
    for rule in rules:
        on = rule.trigger == "ALWAYS"
        if rule.trigger == "LABEL":
            on = bool(label) and rule.label == label
        elif rule.trigger == "OWN":
            on = bool(label) and rule.own.strip().casefold() == label.casefold()
        elif rule.trigger == "UNIT":
            on = _weight(rule.unit, weights) > rule.threshold
        if rule.use and on and rule.name in EFFECTS:
            result[rule.name] = rule.amount
    return result


def _weight(channel: str, weights: Mapping[str, float]) -> float:
    """Return the weight of a channel; on a head of the other kind, of what stands in for it there."""
    if channel in weights:
        return weights[channel]
    parts = [weights[part] for part in ARKIT_OF.get(channel, ()) if part in weights]
    if parts:
        return sum(parts) / len(parts)
    return max((weights.get(unit, 0.0) for unit, parts in ARKIT_OF.items() if channel in parts), default=0.0)


def anchor_frame(left, right, turn: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the matrix from distances between the eyes to the world.

    Parameters
    ----------
    left, right : array, shape (3,)
        The actor's eyes in the world.
    turn : array, shape (3, 3)
        The head's axes in the world: to its left, backwards, up.
    """
    left, right = np.asarray(left, float), np.asarray(right, float)
    unit = float(np.linalg.norm(left - right))
    axes = np.asarray(turn, float)
    axes = axes / np.maximum(np.linalg.norm(axes, axis=0), 1e-9)
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1], frame[:3, 2] = axes[:, 0] * unit, -axes[:, 1] * unit, axes[:, 2] * unit
    frame[:3, 3] = (left + right) / 2
    return frame


SEED_STEP = 4096
"""What a seed adds to a particle's number; single precision holds the sum exactly up to seed 999."""


def corners(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return (x, y, number) of two triangles per particle, shape (6 count, 3)."""
    square = np.array(((-1, -1), (1, -1), (-1, 1), (-1, 1), (1, -1), (1, 1)), np.float32)
    result = np.empty((count, 6, 3), np.float32)
    result[:, :, :2] = square
    result[:, :, 2] = np.arange(count)[:, None] + SEED_STEP * seed
    return result.reshape(-1, 3)


def clock(seconds: float) -> float:
    """Wrap a time so that single precision keeps it exact to a millisecond.

    Every life divides the hour, or nearly, so nothing jumps that anyone would see.
    """
    return math.fmod(seconds, 3600.0)
