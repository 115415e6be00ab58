"""Lets an expression label set off a pre-defined expression, on the live rig and in a bake."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from ..core.units import ARKIT, EXPRESSIONS, UNITS
from .expressions import BASIC, blend
from .ids import LIVE_SETTINGS, PREVIEW
from .rig.names import channels_of
from .rig.puppet import Sample

if TYPE_CHECKING:
    import bpy

    from ..core.solve import Performance
    from ..core.take import Take

ATTACK, DECAY = 0.2, 0.4
"""Seconds in which an expression comes and goes."""


@dataclasses.dataclass(frozen=True)
class Trigger:
    """While the face shows a label, the rig wears an expression.

    Attributes
    ----------
    label : str
        One of `core.units.EXPRESSIONS`, or one of the actor's own; upper and lower case are alike.
    weights : mapping of str to float
        By the names of shape keys.
    strength : float
        0..1, how far it covers the capture.
    """

    label: str
    weights: Mapping[str, float]
    strength: float = 1.0


def named(typed: str, names: Collection[str]) -> str:
    """Return which of the names was typed: exactly that, else one that differs in upper and lower case; or ``""``."""
    typed = typed.strip()
    if typed in names:
        return typed
    return next((name for name in names if name.casefold() == typed.casefold()), "")


def wearable(scene: bpy.types.Scene) -> dict[str, dict[str, float]]:
    """Return the weights of every expression that a head can wear, by name."""
    saved = getattr(scene, PREVIEW).expressions
    return BASIC | {item.name: {value.name: value.value for value in item.values} for item in saved}


def triggers_of(scene: bpy.types.Scene) -> tuple[Trigger, ...]:
    """Return what the face sets off, as chosen; what names nothing is left out, see `troubles_of`."""
    known = wearable(scene)
    return tuple(
        Trigger(row.label.strip(), known[worn], row.strength)
        for row in getattr(scene, LIVE_SETTINGS).triggers
        if row.label.strip() and (worn := named(row.expression, known))
    )


def trouble_with(label: str, own: Collection[str]) -> str:
    """Return why a face never shows what is named; ``""`` where it may, as `own` has the actor's own expressions."""
    known = named(label, (*EXPRESSIONS, *own))
    return "" if known else f'"{label}" is neither a basic expression nor one of the actor\'s own'


def notices_of(troubles: Iterable[str]) -> list[str]:
    """Return what a bake tells of triggers, each ``""`` or why it sets nothing off."""
    return [f"A trigger was left out: {trouble}" for trouble in troubles if trouble]


def troubles_of(scene: bpy.types.Scene, own: Collection[str]) -> list[str]:
    """Return for each of a scene's triggers why it sets nothing off; ``""`` where it does, or is not filled in yet.

    Parameters
    ----------
    scene : bpy.types.Scene
    own : collection of str
        The actor's own expressions.
    """
    known = wearable(scene)
    troubles = []
    for row in getattr(scene, LIVE_SETTINGS).triggers:
        trouble = trouble_with(row.label, own) if row.label.strip() else ""
        if not trouble and row.expression.strip():
            trouble = _trouble_wearing(row.expression, known)
        troubles.append(trouble)
    return troubles


def _trouble_wearing(expression: str, known: Mapping[str, Mapping[str, float]]) -> str:
    worn = named(expression, known)
    if not worn:
        return f'"{expression}" is neither a basic expression nor one saved in the preview'
    if known[worn] and not channels_of(tuple(known[worn])):
        return f'"{worn}" moves only shape keys without a channel: choose channels under Mapping, and save it again'
    return ""


class Wearer:
    """Lays expressions over samples while their labels are shown; they fade in and out.

    Parameters
    ----------
    triggers : collection of Trigger
    """

    def __init__(self, triggers: Collection[Trigger] = ()):
        self._triggers: tuple[Trigger, ...] = ()
        self._strengths: list[float] = []
        self._moment: float | None = None
        self.change(triggers)

    def change(self, triggers: Collection[Trigger]) -> None:
        """Take over other triggers; what is worn for one that stays, if not as strongly, is worn on."""
        worn = list(zip(self._triggers, self._strengths, strict=True))
        self._triggers = tuple(triggers)
        self._strengths = [
            next((strength for old, strength in worn if (old.label, old.weights) == (new.label, new.weights)), 0.0)
            for new in self._triggers
        ]

    def __call__(self, sample: Sample, labels: Collection[str], moment: float) -> Sample:
        """Return a sample with what its labels set off.

        Parameters
        ----------
        sample : Sample
            Or anything with its attributes.
        labels : collection of str
            What the face shows.
        moment : float
            Seconds, growing.
        """
        passed = moment - self._moment if self._moment is not None else 0.0
        self._moment = moment
        units = arkit = None
        for i, trigger in enumerate(self._triggers):
            goal = trigger.strength if named(trigger.label, labels) else 0.0
            strength = self._strengths[i]
            if goal > strength:
                strength = min(goal, strength + passed / ATTACK)
            else:
                strength = max(goal, strength - passed / DECAY)
            self._strengths[i] = strength
            if strength > 0.0:
                units = _worn(UNITS, sample.units if units is None else units, trigger.weights, strength)
                arkit = _worn(ARKIT, sample.arkit if arkit is None else arkit, trigger.weights, strength)
        if units is None:
            return sample
        return Sample(units, arkit, sample.head, sample.eyes)


def wear(performance: Performance, take: Take, triggers: Collection[Trigger]) -> Performance:
    """Return a take's performance with what its labels set off, as it was laid over it live.

    Parameters
    ----------
    performance : Performance
    take : Take
        That it was solved from.
    triggers : collection of Trigger
    """
    if not triggers:
        return performance
    wearer = Wearer(triggers)
    units, arkit = performance.units.copy(), performance.arkit.copy()
    labels = zip(take.column("expression").tolist(), take.column("own").tolist(), strict=True)
    for i, shown in enumerate(labels):
        captured = Sample(units[i].tolist(), arkit[i].tolist(), [], [])
        worn = wearer(captured, shown, performance.times[i])
        if worn is not captured:
            units[i], arkit[i] = worn.units, worn.arkit
    return dataclasses.replace(performance, units=units, arkit=arkit)


def _worn(names: tuple[str, ...], values, weights: Mapping[str, float], strength: float) -> list[float]:
    return list(blend(dict(zip(names, values, strict=True)), weights, strength).values())
