"""ICT-FaceKit faces: geometry from weights, and plain renders of them.

The renders are ground truth: any identity with known expression weights, seen by a known
camera. They are drawn in numpy alone, so that `evaluate units` runs wherever Mien does.

References
----------
Li et al., Learning formation of physically-based face attributes, CVPR 2020; the model is
USC Institute for Creative Technologies' ICT-FaceKit (MIT).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .action_units import from_arkit
from .errors import MienError
from .files import need_file, read_arrays
from .units import ARKIT, AU_INDEX

Array = npt.NDArray[np.float32]

_ARRAYS = ("neutral", "identity", "expression", "expression_names", "faces")

Rasteriser = Callable[[Array, npt.NDArray[np.int32], Array, Array], None]

REGIONS: dict[str, slice] = {
    "face": slice(0, 9409),
    "head": slice(9409, 11248),
    "mouth": slice(11248, 13294),
    "sockets": slice(13294, 14062),
    "gums": slice(14062, 17039),
    "teeth": slice(17039, 21451),
    "eye_left": slice(21451, 23021),
    "eye_right": slice(23021, 24591),
    "glass": slice(24591, 25351),
    "lashes": slice(25351, 26719),
}
"""Vertices of the model's parts; ``glass`` holds tear film and shadow cards, which are not drawn."""

# What ICT-FaceKit tells apart and ARKit does not: sides of the inner brow and of puffed cheeks,
# and a second shape for AU 6 (orbicularis oculi's outer part).
_SIDED_UNITS: dict[str, tuple[str, ...]] = {
    "AU1{s}": ("browInnerUp_{s}",),
    "AU6{s}": ("cheekSquint_{s}", "cheekRaiser_{s}"),
    "AU34{s}": ("cheekPuff_{s}",),
}


def mirrored_shapes(names: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return for each expression shape the index of the one across the face."""
    other = {"_L": "_R", "_R": "_L"}
    names, result = list(names), []
    for name in names:
        twin = name[:-2] + other.get(name[-2:], name[-2:])
        if name.startswith(("jaw", "mouth")) and name.endswith(("Left", "Right")):
            twin = name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")
        result.append(names.index(twin))
    return np.array(result)


class ShapeMeaning:
    """What expression shapes of ICT-FaceKit mean in ARKit's and in FACS's terms.

    Each shape bears an ARKit name and counts as that shape; action units follow from
    ARKit's by `action_units.from_arkit`, but for those that ICT-FaceKit has in two sides
    or in two shapes: AU1 is browInnerUp of its side, AU34 cheekPuff of its side, AU6 the
    sum of cheekSquint and cheekRaiser.

    Parameters
    ----------
    names : sequence of str
        The shapes, in the order of the weights.
    """

    def __init__(self, names: Sequence[str]):
        index = {name: i for i, name in enumerate(names)}
        self._to_arkit = np.zeros((len(names), len(ARKIT)), np.float32)
        for column, name in enumerate(ARKIT):
            shapes = [shape for shape in arkit_shapes(name) if shape in index]
            for shape in shapes:
                self._to_arkit[index[shape], column] = 1 / len(shapes)
        rows, sided = [], []
        for unit, shapes in _SIDED_UNITS.items():
            for side in "LR":
                rows.append(AU_INDEX[unit.format(s=side)])
                used = {shape.format(s=side) for shape in shapes}
                sided.append([float(name in used) for name in names])
        self._rows, self._sided = rows, np.array(sided, np.float32).T

    def arkit(self, weights: npt.ArrayLike) -> Array:
        """Return ARKit weights 0..1, (..., 52), of shape weights (..., s)."""
        return np.clip(np.asarray(weights, np.float32) @ self._to_arkit, 0, 1)

    def action_units(self, weights: npt.ArrayLike) -> Array:
        """Return action units 0..1, (..., len(ACTION_UNITS)), of shape weights (..., s)."""
        units = from_arkit(self.arkit(weights))
        units[..., self._rows] = np.clip(np.asarray(weights, np.float32) @ self._sided, 0, 1)
        return units


class IctFace:
    """The face model.

    Parameters
    ----------
    path : path
        ``ict_facekit.npz``.

    Attributes
    ----------
    neutral : ndarray of float32, shape (26719, 3)
        Mean face; +x the actor's left, +y up, +z out of the face; about 2 units a centimetre.
    identity : ndarray of float16, shape (80, 26719, 3)
        Offsets per identity mode, for weights of about unit variance.
    expression : ndarray of float16, shape (57, 26719, 3)
        Offsets per expression shape.
    names : tuple of str
        Names of the expression shapes.
    index : dict of str to int
        Place of each shape in `names`.
    meaning : ShapeMeaning
        What weights mean as action units.
    triangles : ndarray of int32, shape (t, 3)
        What is drawn.

    Raises
    ------
    MienError
        ``set-not-found`` or ``set-unreadable``.
    """

    def __init__(self, path: str | os.PathLike[str]):
        path = Path(path)
        need_file(path, "Give ICT-FaceKit as an .npz.")
        try:
            arrays = read_arrays(path, _ARRAYS)
            missing = [name for name in _ARRAYS if name not in arrays]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            self.neutral = arrays["neutral"].astype(np.float32)
            self.identity = arrays["identity"]
            self.expression = arrays["expression"]
            # Text that is bytes, and numbers of another type: what MATLAB and others save.
            names = arrays["expression_names"].tolist()
            self.names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
            faces = arrays["faces"]
            self.index = {name: i for i, name in enumerate(self.names)}
            self._check(faces)
            faces = faces.astype(np.int32)
        except (ValueError, OSError) as error:
            raise MienError(
                "set-unreadable",
                f"{path.name} is not an ICT-FaceKit archive: {error}.",
                "Give its whole head: neutral, identity, expression, expression_names and faces.",
            ) from error
        quads = faces[faces[:, 3] >= 0]
        triangles = np.concatenate([faces[:, :3], quads[:, [0, 2, 3]]])
        hidden = np.zeros(len(self.neutral), bool)
        hidden[REGIONS["glass"]] = hidden[REGIONS["lashes"]] = True
        self.triangles = triangles[~hidden[triangles].any(1)]
        self.meaning = ShapeMeaning(self.names)

    def _check(self, faces: npt.NDArray):
        vertices = max(part.stop for part in REGIONS.values())
        for name, shape, wanted in (
            ("neutral", self.neutral.shape, (vertices, 3)),
            ("identity", self.identity.shape[1:], (vertices, 3)),
            ("expression", self.expression.shape, (len(self.names), vertices, 3)),
            ("faces", faces.shape[1:], (4,)),
        ):
            if shape != wanted:
                raise ValueError(f"{name} has shape {shape} where {wanted} belongs")
        if faces.dtype.kind not in "iuf" or not np.array_equal(faces, np.rint(faces)):
            raise ValueError("faces are not whole numbers")
        if not -1 <= faces.min() <= faces.max() < vertices:
            raise ValueError(f"faces name vertices up to {faces.max()} of {vertices}")
        missing = {shape for name in ARKIT if name != "tongueOut" for shape in arkit_shapes(name)} - set(self.index)
        if missing:
            raise ValueError(f"it lacks the shapes {', '.join(sorted(missing))}")

    def head(self, identity: npt.ArrayLike) -> Array:
        """Return the neutral vertices (26719, 3) of identity weights (up to 80,)."""
        weights = np.asarray(identity, np.float32)
        offsets = self.identity[: len(weights)].astype(np.float32)
        return self.neutral + np.tensordot(weights, offsets, 1)

    def express(self, head: Array, weights: npt.ArrayLike) -> Array:
        """Return the vertices of `head` with expression weights (57,), eyeballs turned along.

        The eyeballs turn 30 degrees sideways and 25 up or down at full weight of the
        ``eyeLook`` shapes, whose own offsets move the lids alone.
        """
        weights = np.asarray(weights, np.float32)
        used = np.flatnonzero(weights)
        vertices = head + np.tensordot(weights[used], self.expression[used].astype(np.float32), 1)
        for side, sign in (("L", 1.0), ("R", -1.0)):
            part = REGIONS["eye_left" if side == "L" else "eye_right"]

            def weight(name, side=side):
                return weights[self.index[f"eyeLook{name}_{side}"]]

            yaw = sign * np.radians(30) * (weight("Out") - weight("In"))
            pitch = np.radians(25) * (weight("Up") - weight("Down"))
            centre = (head[part].min(0) + head[part].max(0)) / 2
            vertices[part] = (vertices[part] - centre) @ rotation(yaw, pitch, 0.0).T + centre
        return vertices

    def normals(self, vertices: Array) -> Array:
        """Return unit vertex normals, shape (26719, 3)."""
        a, b, c = (vertices[self.triangles[:, i]] for i in range(3))
        face = np.cross(b - a, c - a)
        total = np.empty_like(vertices)
        for axis in range(3):
            total[:, axis] = np.bincount(self.triangles.ravel(), np.repeat(face[:, axis], 3), minlength=len(vertices))
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)


def arkit_shapes(name: str) -> tuple[str, ...]:
    """Return the expression shapes of ICT-FaceKit that make an ARKit shape."""
    if name in ("browInnerUp", "cheekPuff"):
        return (f"{name}_L", f"{name}_R")
    for side in ("Left", "Right"):
        if name.endswith(side) and not name.startswith(("jaw", "mouthLeft", "mouthRight")):
            return (f"{name[: -len(side)]}_{side[0]}",)
    return (name,)


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Return the matrix that rolls, then pitches up, then yaws towards the actor's left; radians."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (turn @ nod @ tilt).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Look:
    """A person's colouring: one linear RGB colour 0..1 per vertex.

    Attributes
    ----------
    albedo : ndarray of float32, shape (26719, 3)
    gloss : float
        Strength of the skin's highlight.
    """

    albedo: Array
    gloss: float


def random_look(model: IctFace, rng: np.random.Generator) -> Look:
    """Paint skin, lips, brows, hair, stubble, eyes and teeth on the mean face's vertices."""
    at = model.neutral
    albedo = np.empty_like(at)
    tone = rng.beta(1.2, 1.0)
    skin = (1 - tone) * np.array([0.10, 0.05, 0.03]) + tone * np.array([0.72, 0.50, 0.40])
    skin = skin * rng.uniform(0.9, 1.1, 3)
    albedo[:] = skin

    # Blotches: a few random waves over the face, freckles on top.
    for _ in range(6):
        wave = np.sin(at @ rng.normal(0, 0.8, 3) + rng.uniform(0, 6.3))
        albedo *= 1 + 0.04 * wave[:, None] * rng.uniform(0, 1, 3)
    albedo *= 1 + rng.normal(0, rng.uniform(0, 0.06), (len(at), 1))

    face = np.zeros(len(at), bool)
    face[REGIONS["face"]] = True
    front = at[:, 2] > 6
    lips = face & (((at[:, 0] / 2.45) ** 2 + ((at[:, 1] + 3.75) / 0.85) ** 2) < 1) & front
    albedo[lips] = albedo[lips] * (1 - 0.75 * (rng.random() ** 0.5) * np.array([0.1, 0.55, 0.45]))

    hair = np.array([0.02, 0.015, 0.01]) + rng.random() ** 3 * np.array([0.5, 0.35, 0.2])
    if rng.random() < 0.2:
        hair = np.full(3, rng.uniform(0.2, 0.6))
    brow = np.zeros(len(at), np.float32)
    thick = rng.uniform(0.22, 0.42)
    for sign in (1, -1):
        x = sign * at[:, 0]
        along = np.clip((x - 1.15) / 4.75, 0, 1)
        height = 5.75 + 0.75 * np.sin(np.pi * np.clip(along * 0.86 + 0.08, 0, 1)) - 0.45 * along
        inside = (x > 0.95) & (x < 6.1)
        width = thick * (1.15 - 0.75 * along)
        brow = np.maximum(brow, inside * np.exp(-(((at[:, 1] - height) / width) ** 2)))
    brow = (brow * face * rng.uniform(0.55, 1.0))[:, None]
    albedo = albedo * (1 - brow) + hair * brow

    # Dark lid margins stand for the lashes, which are not drawn.
    for sign in (1, -1):
        d = np.hypot((sign * at[:, 0] - 3.15) / 1.55, (at[:, 1] - 3.55) / 0.62)
        lid = face & front & (np.abs(d - 1) < 0.14) & (at[:, 1] > 3.45 - 0.5 * (rng.random() < 0.3))
        albedo[lid] *= rng.uniform(0.25, 0.7)

    line = rng.uniform(9.5, 11.5) - 0.03 * at[:, 0] ** 2
    scalp = (at[:, 1] > line) | ((at[:, 2] < rng.uniform(-2.0, 0.5)) & (at[:, 1] > rng.uniform(-12, 0)))
    scalp &= rng.random() < 0.85
    albedo[scalp] = hair * rng.uniform(0.8, 1.2)
    if rng.random() < 0.3:
        jaw = face & (at[:, 1] < -1.6) & (at[:, 1] > -9) & ~lips & (at[:, 2] > 1)
        jaw &= ~((np.abs(at[:, 0]) > 2.5) & (at[:, 1] > -3 - (np.abs(at[:, 0]) - 2.5)) & (at[:, 2] > 5.5))
        share = rng.uniform(0.15, 0.8)
        albedo[jaw] = albedo[jaw] * (1 - share) + hair * share

    albedo[REGIONS["mouth"]] = [0.12, 0.03, 0.03]
    albedo[REGIONS["sockets"]] = skin * 0.4
    albedo[REGIONS["gums"]] = [0.28, 0.10, 0.09]
    albedo[REGIONS["teeth"]] = np.array([0.62, 0.58, 0.50]) * rng.uniform(0.7, 1.1)
    iris = np.array([0.03, 0.02, 0.01]) + rng.random() ** 2 * np.array([0.12, 0.16, 0.2]) * rng.random(3)
    for name in ("eye_left", "eye_right"):
        part = REGIONS[name]
        centre = (at[part].min(0) + at[part].max(0)) / 2
        axis = at[part] - centre
        angle = np.degrees(np.arccos(np.clip(axis[:, 2] / np.linalg.norm(axis, axis=1), -1, 1)))
        colour = np.full((len(axis), 3), 0.62) * [1.0, 0.95, 0.93]
        colour[angle < 29] = iris
        colour[(angle > 25) & (angle < 29)] *= 0.5
        colour[angle < 11] = 0.004
        albedo[part] = colour
    return Look(np.clip(albedo, 0.002, 1).astype(np.float32), float(rng.uniform(0.0, 0.35)))


@dataclasses.dataclass(frozen=True)
class Scene:
    """Camera, pose and light of one picture.

    Attributes
    ----------
    size : int
        Width and height in px.
    turn : ndarray of float32, shape (3, 3)
        Head rotation.
    focal : float
        Focal length in units of the picture's width.
    width : float
        Share of the picture that the head's width of 18 units takes, at its distance.
    shift : ndarray of float32, shape (2,)
        Place of the head's centre from the picture's, in parts of the picture.
    lights : ndarray of float32, shape (n, 6)
        Unit direction to the light and linear RGB strength, each.
    ambient : ndarray of float32, shape (3,)
    background : ndarray of float32, shape (size, size, 3)
        Linear RGB.
    shade : ndarray of float32, shape (size, size)
        Factor on the picture, a shadow across it.
    exposure, gamma, blur, noise : float
    """

    size: int
    turn: Array
    focal: float
    width: float
    shift: Array
    lights: Array
    ambient: Array
    background: Array
    shade: Array
    exposure: float
    gamma: float
    blur: float
    noise: float


def random_scene(rng: np.random.Generator, size: int = 320, turn: float = 1.0) -> Scene:
    """Return a scene with a head turned by normal angles, of 14, 9 and 6 degrees times `turn`."""
    import cv2

    angles = np.clip(rng.normal(0, 1, 3), -2.2, 2.2) * np.radians([14, 9, 6]) * turn
    lights = []
    for _ in range(rng.integers(1, 4)):
        direction = np.array([rng.normal(0, 0.8), rng.normal(0.35, 0.5), rng.uniform(0.35, 1.0)])
        strength = rng.uniform(0.4, 1.3) * rng.uniform(0.85, 1.15, 3)
        lights.append(np.concatenate([direction / np.linalg.norm(direction), strength]))
    blobs = rng.uniform(0.0, 0.8, (rng.integers(2, 7), rng.integers(2, 7), 3)).astype(np.float32) ** 2
    background = cv2.resize(blobs, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    chest = rng.uniform(0, 0.5, 3)
    cv2.ellipse(
        background, (size // 2, round(size * 1.12)), (round(size * 0.48), round(size * 0.25)), 0, 0, 360, chest, -1
    )
    shade = np.ones((size, size), np.float32)
    if rng.random() < 0.3:
        y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
        a = rng.uniform(0, 2 * np.pi)
        edge = 1 / (1 + np.exp(-(np.cos(a) * x + np.sin(a) * y - rng.uniform(-0.2, 0.2)) * rng.uniform(8, 60)))
        shade = 1 - edge * rng.uniform(0.2, 0.6)
    return Scene(
        size=size,
        turn=rotation(angles[0], angles[1], angles[2]),
        focal=float(rng.uniform(1.0, 3.0)),
        width=float(rng.uniform(0.45, 0.68)),
        shift=rng.uniform(-0.05, 0.05, 2).astype(np.float32),
        lights=np.array(lights, np.float32),
        ambient=(rng.uniform(0.15, 0.6) * rng.uniform(0.9, 1.1, 3)).astype(np.float32),
        background=background,
        shade=shade.astype(np.float32),
        exposure=float(rng.uniform(0.7, 1.25)),
        gamma=float(rng.uniform(1.8, 2.6)),
        blur=float(rng.uniform(0.4, 1.0)),
        noise=float(rng.uniform(0.0, 0.02)),
    )


def project(vertices: Array, scene: Scene) -> Array:
    """Return x, y in px and depth (larger is farther) of vertices, shape (n, 3)."""
    middle = np.array([0.0, 0.0, 4.0], np.float32)
    turned = (vertices - middle) @ scene.turn.T
    distance = scene.focal / scene.width * 18.0
    depth = distance - turned[:, 2]
    scale = scene.focal * scene.size / depth
    result = np.empty_like(turned)
    result[:, 0] = scene.size * (0.5 + scene.shift[0]) + turned[:, 0] * scale
    result[:, 1] = scene.size * (0.48 + scene.shift[1]) - turned[:, 1] * scale
    result[:, 2] = depth
    return result


def _fragments(corners: Array, size: int):
    """Yield (pixel, triangle, weights of its corners) of all triangles that cover pixel centres."""
    x, y = corners[:, :, 0], corners[:, :, 1]
    low = np.floor(np.stack([x.min(1), y.min(1)], 1)).astype(np.int32)
    high = np.ceil(np.stack([x.max(1), y.max(1)], 1)).astype(np.int32)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    # y points down, so that triangles which face the camera turn clockwise here: area < 0.
    seen = (area < -1e-6) & (high > 0).all(1) & (low < size).all(1)
    extent = (high - low).max(1)
    done = 0
    for limit in (2, 3, 4, 6, 10, 24, 96):
        chosen = np.flatnonzero(seen & (extent > done) & (extent <= limit))
        done = limit
        if not len(chosen):
            continue
        offset = np.stack(np.meshgrid(np.arange(limit), np.arange(limit)), -1).reshape(-1, 2)
        pixel = low[chosen, None] + offset
        px, py = pixel[..., 0] + 0.5, pixel[..., 1] + 0.5
        cx, cy = x[chosen][:, :, None], y[chosen][:, :, None]
        inverse = 1 / area[chosen, None]
        first = ((cx[:, 1] - px) * (cy[:, 2] - py) - (cx[:, 2] - px) * (cy[:, 1] - py)) * inverse
        second = ((cx[:, 2] - px) * (cy[:, 0] - py) - (cx[:, 0] - px) * (cy[:, 2] - py)) * inverse
        third = 1 - first - second
        inside = (first >= 0) & (second >= 0) & (third >= 0) & (pixel >= 0).all(2) & (pixel < size).all(2)
        row, column = np.nonzero(inside)
        place = pixel[row, column]
        weights = np.stack([first[inside], second[inside], third[inside]], 1).astype(np.float32)
        yield place[:, 1] * size + place[:, 0], chosen[row], weights


def rasterise(screen: Array, triangles: npt.NDArray[np.int32], colour: Array, picture: Array) -> None:
    """Draw triangles over a square picture, the nearest in front.

    Parameters
    ----------
    screen : ndarray, shape (n, 3)
        x, y in px and depth of the vertices, as from `project`.
    triangles : ndarray of int32, shape (t, 3)
        Those that turn away are not drawn.
    colour : ndarray of float32, shape (n, 3)
        Colour of each vertex.
    picture : ndarray of float32, shape (size, size, 3)
        Drawn over in place.
    """
    corners, size = screen[triangles], len(picture)
    parts = list(_fragments(corners, size))
    if not parts:
        return
    pixel, triangle, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    depth = np.einsum("nk,nk->n", weights, corners[triangle, :, 2])
    nearest = np.full(size * size, np.inf, np.float32)
    np.minimum.at(nearest, pixel, depth)
    front = depth <= nearest[pixel]
    pixel, triangle, weights = pixel[front], triangle[front], weights[front]
    picture.reshape(-1, 3)[pixel] = np.einsum("nk,nkc->nc", weights, colour[triangles[triangle]])


def render(
    model: IctFace, vertices: Array, look: Look, scene: Scene, rng: np.random.Generator, draw: Rasteriser = rasterise
) -> np.ndarray:
    """Return the picture, RGB uint8 (size, size, 3); `rng` gives the sensor's noise alone."""
    import cv2

    normals = model.normals(vertices) @ scene.turn.T
    light = scene.ambient[None] * (0.75 + 0.25 * normals[:, 1:2])
    shine = np.zeros((len(vertices), 1), np.float32)
    for source in scene.lights:
        facing = normals @ source[:3]
        light = light + np.clip((facing + 0.15) / 1.15, 0, None)[:, None] * source[3:]
        half = source[:3] + np.array([0, 0, 1], np.float32)
        shine[:, 0] += np.clip(normals @ (half / np.linalg.norm(half)), 0, 1) ** 24
    inner = np.ones((len(vertices), 1), np.float32)
    for name, factor in (("mouth", 0.25), ("gums", 0.4), ("teeth", 0.7)):
        inner[REGIONS[name]] = factor
    gloss = np.full((len(vertices), 1), look.gloss, np.float32)
    gloss[REGIONS["mouth"]] = 0
    gloss[REGIONS["eye_left"]] = gloss[REGIONS["eye_right"]] = 0.6
    colour = look.albedo * light * inner + shine * gloss * 0.35

    picture = scene.background.copy()
    draw(project(vertices, scene), model.triangles, colour, picture)
    picture = picture * scene.shade[..., None] * scene.exposure
    picture = cv2.GaussianBlur(picture, (0, 0), scene.blur).clip(0, 1) ** (1 / scene.gamma)
    picture = picture + rng.normal(0, 1, picture.shape).astype(np.float32) * scene.noise
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


_SIDED = (
    *("browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeSquint", "eyeWide"),
    *("mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch"),
    *("mouthUpperUp", "noseSneer", "eyeBlink"),
)
_SINGLE = (
    *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthFunnel", "mouthLeft", "mouthPucker", "mouthRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
)

# Movements that go together in life.
_LOOKS = (
    ("mouthSmile", "cheekSquint", "eyeSquint"),
    ("mouthFrown", "mouthShrugLower", "browInnerUp", "browDown"),
    ("browDown", "eyeSquint", "noseSneer", "mouthPress"),
    ("browInnerUp", "browOuterUp", "eyeWide", "jawOpen"),
    ("noseSneer", "mouthUpperUp", "browDown", "cheekSquint", "eyeSquint"),
    ("browInnerUp", "eyeWide", "mouthStretch", "jawOpen"),
    ("mouthPucker", "mouthFunnel", "cheekSquint"),
)


def random_expression(model: IctFace, rng: np.random.Generator, take: npt.NDArray[np.float32] | None = None) -> Array:
    """Return expression weights (57,): neutral, one movement, two, several, a look, or as in a real take.

    Parameters
    ----------
    model : IctFace
    rng : Generator
    take : ndarray, shape (frames, 52), optional
        ARKit weights of a real performance, whose frames are drawn from where given.

    Notes
    -----
    A movement with two sides is symmetric seven times in ten. Gaze and blink come on top in
    some pictures of every kind, so that no estimator can learn brows from lids.
    """
    weights = np.zeros(len(model.names), np.float32)

    def put(name, value):
        weights[model.index[name]] = np.clip(max(weights[model.index[name]], value), 0, 1)

    def move(name, value):
        if name not in _SIDED:
            put(name, value)
            return
        left, right = value * rng.uniform(0.85, 1.15, 2)
        if rng.random() < 0.3:
            if rng.random() < 0.5:
                left *= rng.random() * 0.3
            else:
                right *= rng.random() * 0.3
        put(f"{name}_L", left)
        put(f"{name}_R", right)

    kind = rng.choice(6, p=(0.04, 0.30, 0.26, 0.16, 0.14, 0.10))
    if kind == 4 and take is not None:
        row = take[rng.integers(len(take))] * rng.uniform(0.7, 1.3)
        for name, value in zip(ARKIT, row, strict=True):
            if not name.startswith("eyeLook") and name != "tongueOut":
                for shape in arkit_shapes(name):
                    put(shape, value)
    elif kind == 5:
        for name in _LOOKS[rng.integers(len(_LOOKS))]:
            if rng.random() < 0.75:
                move(name, rng.uniform(0.1, 1.0))
    else:
        for name in rng.choice(_SIDED + _SINGLE, (0, 1, 2, rng.integers(3, 7), 3)[min(kind, 4)], replace=False):
            move(name, rng.uniform(0.1, 1.0))
    if rng.random() < 0.15:  # the two shapes that raise the cheek come together in life
        move("cheekSquint", rng.uniform(0.2, 1.0))
        for side in "LR":
            put(f"cheekRaiser_{side}", weights[model.index[f"cheekSquint_{side}"]] * rng.uniform(0, 0.6))
    if rng.random() < 0.2:
        move("eyeBlink", rng.uniform(0.1, 1.0))
    for side in "LR":  # lids cannot be shut and torn open at once
        shut = weights[model.index[f"eyeBlink_{side}"]]
        weights[model.index[f"eyeWide_{side}"]] *= 1 - shut
    weights[model.index["mouthClose"]] = min(weights[model.index["mouthClose"]], weights[model.index["jawOpen"]])
    if weights[model.index["jawOpen"]] > 0.1 and rng.random() < 0.12:
        put("mouthClose", weights[model.index["jawOpen"]] * rng.uniform(0.3, 1.0))
    if rng.random() < 0.6:
        yaw, pitch = rng.normal(0, 0.4, 2)
        put("eyeLookOut_L", yaw)
        put("eyeLookIn_R", yaw)
        put("eyeLookIn_L", -yaw)
        put("eyeLookOut_R", -yaw)
        for side in "LR":
            put(f"eyeLookUp_{side}", pitch)
            put(f"eyeLookDown_{side}", -pitch)
    return weights


def drill_expression(
    model: IctFace, rng: np.random.Generator, number: int, take: npt.NDArray[np.float32] | None = None
) -> Array:
    """Return expression weights (57,) for picture `number` of a person in a test.

    Of twelve pictures one is at rest, five show one movement, four two, and two are frames
    of the real take (without one: two more pairs). One movement in three has one side
    alone. A third of the pictures look aside.
    """
    weights = np.zeros(len(model.names), np.float32)
    place = number % 12
    if place >= 10 and take is not None:
        row = take[rng.integers(len(take))]
        for name, value in zip(ARKIT, row, strict=True):
            for shape in arkit_shapes(name):
                if shape in model.index and name != "cheekPuff":
                    weights[model.index[shape]] = value
        return weights
    count = 0 if place == 0 else 1 if place <= 5 else 2
    for name in rng.choice(_SIDED + _SINGLE, count, replace=False):
        value = rng.uniform(0.2, 1.0)
        sides = ("_L", "_R") if rng.random() < 2 / 3 else (str(rng.choice(["_L", "_R"])),)
        for shape in [name] if name in _SINGLE else [name + side for side in sides]:
            weights[model.index[shape]] = value
    for side in "LR":
        weights[model.index[f"eyeWide_{side}"]] *= 1 - weights[model.index[f"eyeBlink_{side}"]]
    if rng.random() < 1 / 3:
        yaw, pitch = rng.normal(0, 0.4, 2).clip(-1, 1)
        for shape, value in (("Out_L", yaw), ("In_R", yaw), ("In_L", -yaw), ("Out_R", -yaw)):
            weights[model.index[f"eyeLook{shape}"]] = max(value, 0)
        for side in "LR":
            weights[model.index[f"eyeLookUp_{side}"]] = max(pitch, 0)
            weights[model.index[f"eyeLookDown_{side}"]] = max(-pitch, 0)
    return weights
