"""Whole-face expressions to lay over a capture."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ..core.units import EXPRESSIONS
from .rig.names import ARKIT_OF, by_channel, channels_of

if TYPE_CHECKING:
    from .rig.mapping import HeadMapping

BASIC: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"Smile": 0.9, "CheekSquint": 0.7, "BrowRaise": 0.12, "JawOpen": 0.12},
    "sadness": {"BrowRaise": 0.45, "BrowFurrow": 0.5, "Frown": 0.8, "BlinkLeft": 0.18, "BlinkRight": 0.18},
    "surprise": {"BrowRaise": 1.0, "EyeWide": 0.9, "JawOpen": 0.65},
    "fear": {"BrowRaise": 0.8, "BrowFurrow": 0.55, "EyeWide": 1.0, "JawOpen": 0.3, "Frown": 0.35},
    "disgust": {"NoseWrinkle": 1.0, "BrowFurrow": 0.4, "CheekSquint": 0.5, "Frown": 0.4},
    "anger": {"BrowFurrow": 1.0, "EyeWide": 0.45, "NoseWrinkle": 0.4, "Frown": 0.35},
}
"""The seven basic expressions as unit weights, after the prototypes of Ekman & Friesen, EMFACS, 1983."""

assert tuple(BASIC) == EXPRESSIONS


def on_shapes(
    expression: Mapping[str, float], shapes: Collection[str], mapping: HeadMapping | None = None
) -> dict[str, float]:
    """Return an expression as weights of a head's own shapes.

    Units become the ARKit shapes that stand in for them, and of an expression that was saved
    on a head with ARKit shapes a unit becomes the mean of those. What the shapes stand for is
    told by `mapping`, by their names if it is not given.
    """
    result: dict[str, float] = {}
    channels = channels_of(tuple(shapes)) if mapping is None else mapping.channels
    names: dict[str, list[str]] = {}
    for name in shapes:
        names.setdefault(channels.get(name, name), []).append(name)
    own = {name: channels[name] for name in expression if name in channels}
    wanted = by_channel(expression, {**channels_of(tuple(expression)), **own})
    for channel, value in wanted.items():
        for part in (channel,) if channel in names else ARKIT_OF.get(channel, ()):
            result.update(dict.fromkeys(names.get(part, ()), value))
    for unit, parts in ARKIT_OF.items():
        if unit in names and unit not in wanted and not any(part in names for part in parts):
            mean = sum(wanted.get(part, 0.0) for part in parts) / len(parts)
            if mean > 0.0:
                result.update(dict.fromkeys(names[unit], mean))
    if mapping is not None:
        for name in result.keys() & mapping.strengths.keys():
            result[name] = min(result[name] * mapping.strengths[name], 1.0)
    return result


def blend(
    captured: Mapping[str, float],
    expression: Mapping[str, float],
    strength: float,
    mapping: HeadMapping | None = None,
) -> dict[str, float]:
    """Lay an expression over captured weights.

    At strength 1 the face wears the expression; eyes still blink and look, and the mouth still speaks, since for
    those the larger of both counts. Shapes that are no face's and that the expression does not name, such as
    those of a character's build, stay as they are. An expression that was saved on a head of quite other
    shapes changes nothing.

    Parameters
    ----------
    captured : mapping of str to float
        Weights of all the head's shapes.
    expression : mapping of str to float
        By names of units, ARKit shapes or the head's own.
    strength : float
        0..1.
    mapping : HeadMapping, optional
        What the head's shapes stand for; what their names tell if not given.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> blend({"Smile": 0.0, "JawOpen": 0.6}, {"Smile": 1.0}, 0.5)
    {'Smile': 0.5, 'JawOpen': 0.6}
    """
    result = {}
    channels = channels_of(tuple(captured)) if mapping is None else mapping.channels
    worn = on_shapes(expression, captured, mapping)
    if expression and not worn:
        return dict(captured)
    for name, value in captured.items():
        if name not in worn and name not in channels:
            result[name] = value
            continue
        mixed = (1.0 - strength) * value + strength * worn.get(name, 0.0)
        channel = channels.get(name, name).lower()
        kept = "blink" in channel or channel in ("jawopen", "mouthclose") or channel.startswith("eyelook")
        result[name] = max(value, mixed) if kept else mixed
    return result
