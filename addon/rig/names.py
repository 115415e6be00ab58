"""Which channel a shape key is, by its name."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping

from ...core.units import ARKIT, ARKIT_INDEX, UNIT_INDEX, UNITS

ARKIT_OF: dict[str, tuple[str, ...]] = {
    "BrowRaise": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "BrowFurrow": ("browDownLeft", "browDownRight"),
    "EyeWide": ("eyeWideLeft", "eyeWideRight"),
    "BlinkLeft": ("eyeBlinkLeft",),
    "BlinkRight": ("eyeBlinkRight",),
    "CheekSquint": ("cheekSquintLeft", "cheekSquintRight"),
    "NoseWrinkle": ("noseSneerLeft", "noseSneerRight"),
    "Smile": ("mouthSmileLeft", "mouthSmileRight"),
    "Frown": ("mouthFrownLeft", "mouthFrownRight"),
    "JawOpen": ("jawOpen",),
    "Pucker": ("mouthPucker",),
}
"""ARKit shapes that together make a unit's movement."""

_LOOSE = {name.casefold(): name for name in (*ARKIT, *UNITS)}

_SIDES = {"l": "left", "r": "right"}


def covered(unit: str, channels: Collection[str]) -> bool:
    """Whether ARKit shapes among `channels` make all of a unit's movement; of other channels False."""
    return unit in ARKIT_OF and all(part in channels for part in ARKIT_OF[unit])


@functools.lru_cache(maxsize=256)
def channels_of(names: tuple[str, ...]) -> Mapping[str, str]:
    """Return the channel of each name that has one, in the order of `UNITS` and `ARKIT`; it is not to be changed.

    A name of `UNITS` or `ARKIT` is meant to the letter; else capitals and what stands between words do not count, and
    ``_L``, ``.L``, ``_R`` and ``.R`` are ``Left`` and ``Right``. Where the names are ARKit's rather than units,
    ``JawOpen`` is ARKit's, too. Of two names of one channel the exact one counts.

    >>> dict(channels_of(("Mouth_Smile_L", "JawOpen", "Basis")))
    {'JawOpen': 'jawOpen', 'Mouth_Smile_L': 'mouthSmileLeft'}
    """
    exact = {name: name for name in names if name in UNIT_INDEX or name in ARKIT_INDEX}
    found = exact | {name: _LOOSE[_plain(name)] for name in names if name not in exact and _plain(name) in _LOOSE}
    others = [channel for channel in found.values() if channel.casefold() != "jawopen"]
    if "jawOpen" not in exact and sum(channel in ARKIT_INDEX for channel in others) > len(others) / 2:
        found = {name: "jawOpen" if channel == "JawOpen" else channel for name, channel in found.items()}
    keys: dict[str, str] = {}
    for name, channel in found.items():
        keys.setdefault(channel, name)
    return {keys[channel]: channel for channel in (*UNITS, *ARKIT) if channel in keys}


def by_channel(values: Mapping[str, float], channels: Mapping[str, str] | None = None) -> dict[str, float]:
    """Return the values of a head's shapes by their channels; of other shapes, by their own names.

    Of several shapes of one channel the largest value counts. `channels` are those that the names tell if not given.
    """
    channels = channels_of(tuple(values)) if channels is None else channels
    result: dict[str, float] = {}
    for name, value in values.items():
        channel = channels.get(name, name)
        result[channel] = max(value, result.get(channel, value))
    return result


def _plain(name: str) -> str:
    sided = re.sub(r"[_.]([lr])$", lambda match: _SIDES[match[1]], name.casefold())
    return re.sub(r"[_ -]", "", sided)
