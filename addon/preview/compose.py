"""Puts a picture together: what stands behind, then the heads, then what flies about."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import bpy
import gpu
import numpy as np

from ..ids import SETTINGS
from ..rig.mapping import armature_of, likeliness, mapping_of
from . import lights, properties, reading
from .drawing import (
    AGX,
    LINEAR,
    SHADOW_SIZE,
    SRGB,
    Scene,
    Target,
    View,
    draw_gradient,
    draw_picture,
    restored_state,
    texture,
)
from .heads import Head
from .lights import SHADOWS, Lighting


@dataclasses.dataclass
class Posed:
    """A head in the pose of one picture.

    Attributes
    ----------
    head : Head
    obj : bpy.types.Object
        Only for as long as the picture is drawn.
    label : str
        Expression of the face.
    face : bool
        Whether it is a face, rather than a part of one, as teeth are, or something else; see `mark_faces`.
    effects : dict of str to float
        Particles, by strength.
    """

    head: Head
    obj: bpy.types.Object
    label: str = ""
    face: bool = False
    effects: dict[str, float] = dataclasses.field(default_factory=dict)


class CameraPicture:
    """The camera's newest picture, brought to the GPU when it is first drawn.

    Attributes
    ----------
    top_first : bool
        Whether the first line is the highest.
    """

    def __init__(self):
        self.top_first = True
        self._pixels: np.ndarray | None = None
        self._texture: gpu.types.GPUTexture | None = None

    def set(self, pixels: np.ndarray | None) -> None:
        """Take a picture, (H, W, 3) uint8 RGB with its first line highest; None takes it away."""
        if pixels is not None:
            pixels = np.asarray(pixels)
            if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
                raise ValueError(f"picture must be (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
            pixels = pixels.copy()
        self._pixels, self._texture, self.top_first = pixels, None, True

    def set_rgba(self, width: int, height: int, pixels: bytes) -> None:
        """Take a live picture as the worker sends it: RGBA, a byte each, its lowest line first."""
        self._pixels = np.frombuffer(pixels, np.uint8).reshape(height, width, 4)
        self._texture, self.top_first = None, False

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height, or None where there is no picture."""
        return None if self._pixels is None else (self._pixels.shape[1], self._pixels.shape[0])

    def texture(self) -> gpu.types.GPUTexture | None:
        """Return the picture as a texture, its own first line first."""
        if self._texture is None and self._pixels is not None:
            rgba = np.ones((*self._pixels.shape[:2], 4), np.float32)
            np.multiply(self._pixels[..., :3], np.float32(1 / 255), out=rgba[..., :3])
            self._texture = texture(rgba, "RGBA8")
        return self._texture


camera = CameraPicture()


def cover(size: tuple[int, int], width: float, height: float) -> tuple[float, float, float, float]:
    """Return the area, in clip space, over which a picture fills a frame and keeps its shape.

    >>> cover((200, 100), 100, 100)
    (-2.0, -1.0, 2.0, 1.0)
    """
    ratio = (size[0] / size[1]) / (width / height)
    x, y = (ratio, 1.0) if ratio > 1.0 else (1.0, 1.0 / ratio)
    return (-x, -y, x, y)


def draw_background(chosen, width: float, height: float, curve: float) -> bool:
    """Fill the bound frame buffer behind everything; returns whether there was anything to fill it with.

    Parameters
    ----------
    chosen : properties.MienPreviewSettings
    width, height : float
    curve : float
        A tone curve of `drawing`.
    """
    kind = chosen.background
    if kind in {"COLOUR", "GRADIENT"}:
        inner = (*chosen.inner, 1.0)
        outer = (*chosen.outer, 1.0) if kind == "GRADIENT" else inner
        draw_gradient(inner, outer, width / height, curve)
        return True
    # A picture is shown as it was taken: no film curve over it.
    plain = SRGB if curve != LINEAR else LINEAR
    if kind == "CAMERA" and camera.size:
        area = cover(camera.size, width, height)
        draw_picture(camera.texture(), area, top_first=camera.top_first, encoded=True, curve=plain)
        return True
    image = chosen.image
    if kind == "IMAGE" and image is not None and image.size[0] and image.size[1]:
        draw_picture(gpu.texture.from_image(image), cover(tuple(image.size), width, height), curve=plain)
        return True
    return False


def render_border(render, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the pixels of a picture that its Render Region keeps: left, low, right, high; as Blender rounds them."""
    # In single precision: 0.65 of 100 is 65 there, and 64 otherwise.
    size = np.array((width, height), np.float32)
    left, low = map(int, size * np.float32((render.border_min_x, render.border_min_y)))
    right, high = map(int, size * np.float32((render.border_max_x, render.border_max_y)))
    return left, low, max(right, left + 1), max(high, low + 1)


def ball(heads: list[Posed]) -> tuple[np.ndarray, float]:
    """Return centre and radius of a ball round all heads, as they stand at rest in the world."""
    centres, radii = zip(*(posed.head.ball() for posed in heads), strict=True)
    centres, radii = np.array(centres), np.array(radii)
    low, high = (centres - radii[:, None]).min(0), (centres + radii[:, None]).max(0)
    centre = (low + high) / 2
    return centre, float((np.linalg.norm(centres - centre, axis=1) + radii).max())


def lighting_for(chosen, depsgraph, heads: list[Posed]) -> Lighting:
    """Return the chosen light; the studio's where the scene has none."""
    if chosen.lighting == "SCENE":
        found = lights.read_scene(depsgraph)
        if found is not None:
            return found
    name = "STUDIO" if chosen.lighting == "SCENE" else chosen.lighting
    if not heads:
        return lights.preset(name, (0.0, 0.0, 0.0), 1.0)
    first = faces_or_all(heads)[0].head
    frame = first.frame
    unit = float(np.linalg.norm(frame[:3, 0]))
    # A head is some four distances between the eyes across; the lights stand round the first one's rest.
    matrix = first.matrix[:3, :3]
    turn = matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-9)
    return lights.preset(name, frame[:3, 3], 4.0 * unit, turn)


class ShadowMap:
    """The texture that the shadow is drawn into, made once."""

    def __init__(self):
        self.target: Target | None = None

    def cast(self, scene: Scene, heads: list[Posed]) -> None:
        """Draw the strongest lights' shadows for a picture."""
        if self.target is None:
            self.target = Target(SHADOWS * SHADOW_SIZE, SHADOW_SIZE, "R32F")
        # A floor round them would leave the faces, and what has shapes beside them, next to none of the map.
        centre, radius = ball([posed for posed in heads if posed.head.channels] or heads)
        scene.cast_shadows(self.target, [posed.head.gpu for posed in heads], centre, radius)


def make_scene(chosen, depsgraph, heads: list[Posed], view: View, curve: float, shadow: ShadowMap) -> Scene:
    """Set up camera, light and shadow as chosen."""
    scene = Scene(view, lighting_for(chosen, depsgraph, heads), curve, 2.0**chosen.exposure)
    if chosen.shadows and heads:
        shadow.cast(scene, heads)
    return scene


def draw_heads(scene: Scene, heads: list[Posed], time: float, seed: int = 0) -> None:
    """Draw heads and particles into the bound frame buffer."""
    effects = [(posed.head.frame, posed.effects) for posed in heads if posed.effects]
    scene.draw([posed.head.gpu for posed in heads], effects, time, seed)


def draw_picture_of(
    target: Target, chosen, depsgraph, heads: list[Posed], view: View, *, curve: float, time: float, shadow: ShadowMap
) -> None:
    """Fill a target: background, heads, particles."""
    scene = make_scene(chosen, depsgraph, heads, view, curve, shadow)
    with target.bound() as frame, restored_state():
        frame.clear(color=(0.0, 0.0, 0.0, 0.0), depth=1.0)
        gpu.state.depth_test_set("NONE")
        gpu.state.depth_mask_set(False)
        gpu.state.blend_set("NONE")
        draw_background(chosen, target.width, target.height, curve)
        draw_heads(scene, heads, time, chosen.seed)


def offset_matrix(obj) -> np.ndarray:
    """Return what the preview alone does to an object: its place, turn and size there."""
    from mathutils import Euler, Matrix

    chosen = properties.head_settings(obj)
    matrix = Matrix.LocRotScale(chosen.location, Euler(chosen.rotation), (chosen.scale,) * 3)
    return np.array(matrix, np.float64)


def has_face(obj) -> bool:
    """Whether an object is a head: a mesh with at least one relative shape key that stands for a channel."""
    return obj.type == "MESH" and bool(reading.shape_keys(obj)) and bool(mapping_of(obj).channels)


def faces_of(heads: Iterable[bpy.types.Object], target: bpy.types.Object | None = None) -> list[bpy.types.Object]:
    """Return those of some heads that are faces: others on the same armature are parts of it, as teeth and brows.

    Of one armature that is the target, else what has most channels, and of several the one with most vertices.
    """
    parts: dict[bpy.types.Object, list[bpy.types.Object]] = {}
    for obj in heads:
        parts.setdefault(armature_of(obj) or obj, []).append(obj)

    return [target if target in each else max(each, key=likeliness) for each in parts.values()]


def mark_faces(posed: list[Posed], scene: bpy.types.Scene) -> None:
    """Mark those of a picture's heads that are faces: light, particles and portrait go by them alone."""
    heads = [item.obj for item in posed if item.head.channels]
    faces = faces_of(heads, getattr(scene, SETTINGS).target)
    for item in posed:
        item.face = item.obj in faces


def faces_or_all(posed: list[Posed]) -> list[Posed]:
    """Return the faces of a picture, or everything where it has none."""
    return [item for item in posed if item.face] or posed


_CONTRASTS = (
    ("Very High", 0.45),
    ("Medium High", 0.16),
    ("High", 0.3),
    ("Punchy", 0.3),
    ("Very Low", -0.3),
    ("Medium Low", -0.1),
    ("Low", -0.2),
)


def scene_curve(scene: bpy.types.Scene) -> float:
    """Return the tone curve nearest to a scene's view transform and look."""
    chosen = scene.view_settings
    if chosen.view_transform not in {"AgX", "Filmic"}:
        return SRGB
    return AGX + next((value for words, value in _CONTRASTS if words in chosen.look), 0.0)
