"""Lights of the preview: the scene's own, or a set that stands round the head."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from .looks import nodes_of

MAX_LIGHTS = 8
"""Lights that the shaders heed; the strongest are taken."""

SHADOWS = 3
"""Lights that cast a shadow, the strongest ones: a rim light without one would shine through the head."""

SUN, AREA, POINT = 0.0, 1.0, 2.0


@dataclasses.dataclass(frozen=True)
class Light:
    """One light.

    Attributes
    ----------
    kind : float
        `SUN`, `AREA` or `POINT`.
    place : tuple of float
        Position in the world; for a sun the direction towards it.
    aim : tuple of float
        Unit vector along which an area light or a spot shines.
    colour : tuple of float
        Linear RGB of the light that falls on a surface facing it, at one unit's distance (suns: everywhere),
        divided by pi: what a white surface then sends back.
    radius : float
        Of the light's own disk, in units; for a sun the tangent of half its angle.
    cone : float
        Cosine of a spot's outer angle, -1 for others.
    """

    kind: float
    place: tuple[float, float, float]
    aim: tuple[float, float, float]
    colour: tuple[float, float, float]
    radius: float = 0.0
    cone: float = -1.0


@dataclasses.dataclass(frozen=True)
class Lighting:
    """All light of a picture.

    Attributes
    ----------
    lights : tuple of Light
    sky, ground : tuple of float
        Linear RGB of the soft light from above and below.
    """

    lights: tuple[Light, ...]
    sky: tuple[float, float, float]
    ground: tuple[float, float, float]

    def pack(self) -> npt.NDArray[np.float32]:
        """Return ``light_place``, ``light_aim`` and ``light_colour`` one after the other, shape (24, 4)."""
        block = np.zeros((3, MAX_LIGHTS, 4), np.float32)
        for i, light in enumerate(self.strongest()):
            block[0, i] = (*light.place, light.kind)
            block[1, i] = (*light.aim, light.cone)
            block[2, i] = (*light.colour, light.radius)
        return block.reshape(-1, 4)

    def strongest(self) -> tuple[Light, ...]:
        """Return the lights that are drawn; the first `SHADOWS` cast shadows."""
        return tuple(sorted(self.lights, key=lambda light: -sum(light.colour)))[:MAX_LIGHTS]


_PRESETS: dict[str, tuple[tuple, tuple, tuple]] = {
    # Per light: azimuth from the face's front to the actor's left and elevation (degrees), distance and
    # radius in head sizes, light that falls on the face / pi, colour.
    "STUDIO": (
        (
            (34, 30, 3.2, 0.7, 1.15, (1.0, 0.92, 0.83)),
            (-52, 10, 3.2, 1.3, 0.30, (0.78, 0.88, 1.0)),
            (-148, 42, 3.2, 0.6, 1.25, (1.0, 0.86, 0.72)),
        ),
        (0.17, 0.20, 0.235),
        (0.115, 0.095, 0.085),
    ),
    "RIM": (
        (
            (130, 30, 3.0, 0.6, 2.6, (1.0, 0.78, 0.58)),
            (-128, 24, 3.0, 0.6, 2.2, (0.45, 0.68, 1.0)),
            (20, 40, 3.5, 0.9, 0.16, (0.95, 0.92, 1.0)),
        ),
        (0.055, 0.065, 0.09),
        (0.03, 0.03, 0.035),
    ),
    "FLAT": (
        (
            (0, 20, 4.0, 2.4, 0.30, (1.0, 1.0, 1.0)),
            (70, 10, 4.0, 2.4, 0.16, (1.0, 1.0, 1.0)),
            (-70, 10, 4.0, 2.4, 0.16, (1.0, 1.0, 1.0)),
        ),
        (0.50, 0.50, 0.51),
        (0.34, 0.33, 0.33),
    ),
}

PRESETS = tuple(_PRESETS)
"""Names of the light sets."""


def preset(name: str, centre: npt.ArrayLike, size: float, turn: npt.ArrayLike | None = None) -> Lighting:
    """Set up lights round a head that looks along -Y.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    centre : array, shape (3,)
        Of the head, in the world.
    size : float
        Of the head, in units.
    turn : array, shape (3, 3), optional
        Rotation of the set.
    """
    lamps, sky, ground = _PRESETS[name]
    turn = np.eye(3) if turn is None else np.asarray(turn, float)
    lights = []
    for azimuth, elevation, distance, radius, strength, colour in lamps:
        a, e = math.radians(azimuth), math.radians(elevation)
        away = turn @ np.array((math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)))
        reach = distance * size
        lights.append(
            Light(
                AREA,
                tuple(np.asarray(centre, float) + away * reach),
                tuple(-away),
                tuple(strength * reach * reach * c for c in colour),
                radius * size,
            )
        )
    return Lighting(tuple(lights), sky, ground)


def read_scene(depsgraph) -> Lighting | None:
    """Read the scene's visible lights and its world; None where nothing shines.

    Watts become light as in Cycles: a point of P W sends P / (4 pi r^2) to a surface at distance r,
    an area of P W P / (4 r^2) along its axis.
    """
    lights = []
    for instance in depsgraph.object_instances:
        obj = instance.object
        if obj.type != "LIGHT":
            continue
        matrix = np.array(instance.matrix_world, float)
        data = obj.data
        towards = matrix[:3, 2] / max(np.linalg.norm(matrix[:3, 2]), 1e-9)
        colour = np.array(data.color, float) * data.energy * 2.0 ** getattr(data, "exposure", 0.0)
        scale = float(np.linalg.norm(matrix[:3, 0]))
        if data.type == "SUN":
            light = Light(SUN, tuple(towards), tuple(-towards), tuple(colour / math.pi), math.tan(data.angle / 2))
        elif data.type == "AREA":
            width = data.size * scale
            height = (data.size_y if data.shape in {"RECTANGLE", "ELLIPSE"} else data.size) * scale
            radius = 0.5 * math.sqrt(width * height)
            light = Light(AREA, tuple(matrix[:3, 3]), tuple(-towards), tuple(colour / (4 * math.pi)), radius)
        else:
            cone = math.cos(data.spot_size / 2) if data.type == "SPOT" else -1.0
            strength = colour / (4 * math.pi * math.pi)
            light = Light(
                POINT, tuple(matrix[:3, 3]), tuple(-towards), tuple(strength), data.shadow_soft_size * scale, cone
            )
        lights.append(light)
    sky = _world(depsgraph.scene.world)
    if not lights and max(sky) <= 0.0:
        return None
    return Lighting(tuple(lights), sky, tuple(0.6 * c for c in sky))


def _world(world) -> tuple[float, float, float]:
    if world is None:
        return (0.0, 0.0, 0.0)
    tree = nodes_of(world)
    if tree is not None:
        for node in tree.nodes:
            if node.type == "BACKGROUND":
                strength = node.inputs["Strength"].default_value
                # A picture all round is too much for the preview: a grey of its strength stands in.
                linked = node.inputs["Color"].is_linked
                colour = (0.35, 0.35, 0.35) if linked else node.inputs["Color"].default_value[:3]
                return tuple(strength * c for c in colour)
    return tuple(world.color)
