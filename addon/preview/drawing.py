"""Puts models on the GPU and draws them. The only module besides `shaders` that deals with ``gpu`` objects.

Call it only where Blender has a GPU context: in a draw handler, or in an engine with ``bl_use_gpu_context``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref

import bpy
import gpu
import numpy as np

from ...core.errors import MienError
from . import shaders
from .lights import SHADOWS, Lighting
from .looks import Look
from .particles import EFFECTS, Effect, clock, corners
from .render_data import TEXTURE_WIDTH, Model, far_to_near, fuse, pack_state, pack_texture

OCCLUSION_VIEWS = 40
OCCLUSION_SIZE = 192

SHADOW_SIZE = 1024

RESORT = 0.05
"""Turn of the eye, in radians as a blended surface sees it, after which its triangles are put in order again."""

LINEAR, SRGB, AGX = 0.0, 1.0, 2.0
"""Tone curves: none, what a display needs, and Blender's AgX. What is above `AGX` is contrast."""


def buffer(array: np.ndarray) -> gpu.types.Buffer:
    """Wrap a float32 array for the GPU."""
    flat = np.ascontiguousarray(array, np.float32).ravel()
    return gpu.types.Buffer("FLOAT", flat.size, flat)


def texture(pixels: np.ndarray, form: str = "RGBA32F") -> gpu.types.GPUTexture:
    """Make a texture from an array of shape (height, width, 4), its first line lowest."""
    height, width = pixels.shape[:2]
    return gpu.types.GPUTexture((width, height), format=form, data=buffer(pixels))


def image_texture(name: str | None) -> gpu.types.GPUTexture | None:
    """Return the texture of an image in the file, or None where there is none."""
    image = bpy.data.images.get(name) if name else None
    if image is None or not (image.has_data or image.packed_file or image.filepath):
        return None
    try:
        return gpu.texture.from_image(image)
    except RuntimeError:  # the file is gone
        return None


class Target:
    """A picture to draw on, with depth.

    Parameters
    ----------
    width, height : int
    form : str
        Format of the colours.
    """

    def __init__(self, width: int, height: int, form: str = "RGBA32F"):
        self.width, self.height = width, height
        self.colour = gpu.types.GPUTexture((width, height), format=form)
        self.depth = gpu.types.GPUTexture((width, height), format="DEPTH_COMPONENT32F")

    @contextlib.contextmanager
    def bound(self):
        """Draw on this picture while the context lasts; yields its frame buffer.

        Windows share textures, but in OpenGL no frame buffers, and Blender quietly binds nothing where one comes
        from another window. Making one costs next to nothing.
        """
        frame = gpu.types.GPUFrameBuffer(depth_slot=self.depth, color_slots=(self.colour,))
        with frame.bind():
            yield frame

    def read(self) -> np.ndarray:
        """Return the picture as float32, shape (height, width, 4), its first line lowest."""
        pixels = np.empty((self.height, self.width, 4), np.float32)
        # A buffer made from an array shares its memory; those that Blender makes have wrong strides before 5.0.
        shared = gpu.types.Buffer("FLOAT", pixels.size, pixels.reshape(-1))
        with self.bound() as frame:
            frame.read_color(0, 0, self.width, self.height, 4, 0, "FLOAT", data=shared)
        return pixels


@contextlib.contextmanager
def restored_state():
    """Leave depth test, depth mask and blending as they were."""
    before = gpu.state.depth_test_get(), gpu.state.depth_mask_get(), gpu.state.blend_get()
    try:
        yield
    finally:
        gpu.state.depth_test_set(before[0])
        gpu.state.depth_mask_set(before[1])
        gpu.state.blend_set(before[2])


def lacking() -> str | None:
    """Return in words why nothing can be drawn in this Blender at all; None where it can be tried."""
    try:
        units = gpu.capabilities.max_textures_vert_get()
    except SystemError:
        return "Blender runs without a window here, and so without a graphics card to draw with"
    if units < 3:
        return f"its graphics card takes {units} textures in a vertex shader, and 3 are needed"
    return None


def check_size(model: Model) -> None:
    """Make sure that a model's textures fit this graphics card.

    Raises
    ------
    MienError
        ``"preview-size"``
    """
    limit = gpu.capabilities.max_texture_size_get()
    lines = -(-len(model.slopes) // TEXTURE_WIDTH)
    if max(lines, TEXTURE_WIDTH) > limit:
        raise MienError(
            "preview-size",
            f"a head needs a texture of {TEXTURE_WIDTH} x {lines}, and this graphics card takes {limit} at most",
            "Hide the head from the preview, or give it fewer vertices or shape keys.",
        )


class GpuModel:
    """A model on the GPU, with the looks of its materials.

    Parameters
    ----------
    model : Model
    looks : list of Look
        One per material slot.
    """

    def __init__(self, model: Model, looks: list[Look]):
        self.model = model
        self.looks = looks
        self.occlusion = np.ones((len(model.position), 2), np.float32)
        self._state: gpu.types.GPUTexture | None = None
        self._packed: np.ndarray | None = None
        check_size(model)
        self._fusion = texture(pack_texture(model.fusion))
        self._slopes = texture(pack_texture(model.slopes), "RGBA16F")
        form = gpu.types.GPUVertFormat()
        form.attr_add(id="position", comp_type="F32", len=3, fetch_mode="FLOAT")
        form.attr_add(id="normal", comp_type="F32", len=3, fetch_mode="FLOAT")
        form.attr_add(id="row", comp_type="I32", len=4, fetch_mode="INT")
        self._shape = gpu.types.GPUVertBuf(form, len(model.position))
        self._shape.attr_fill("position", model.position)
        self._shape.attr_fill("normal", model.normal)
        self._shape.attr_fill("row", model.row)
        everything = np.concatenate(list(model.triangles.values())) if model.triangles else np.zeros((0, 3), np.uint32)
        self._solid = gpu.types.GPUBatch(
            type="TRIS", buf=self._shape, elem=gpu.types.GPUIndexBuf(type="TRIS", seq=everything)
        )
        self._blocks = [gpu.types.GPUUniformBuf(buffer(look.pack())) for look in looks]
        self._nothing = texture(np.ones((1, 1, 4), np.float32))
        self._parts: list[tuple[int, gpu.types.GPUBatch]] = []
        self._veils: list[Veil] = []
        self.dress(np.ones((len(model.position), 2), np.float32))

    def dress(self, occlusion: np.ndarray) -> None:
        """Make the second vertex buffer: all that only the visible picture needs.

        Parameters
        ----------
        occlusion : ndarray, shape (N, 2)
            How much of the sky each point sees, 0..1, from the surface's front and from its back.
        """
        self.occlusion = occlusion
        model = self.model
        form = gpu.types.GPUVertFormat()
        form.attr_add(id="tangent", comp_type="F32", len=3, fetch_mode="FLOAT")
        form.attr_add(id="uv", comp_type="F32", len=2, fetch_mode="FLOAT")
        form.attr_add(id="colour", comp_type="F32", len=4, fetch_mode="FLOAT")
        form.attr_add(id="occlusion", comp_type="F32", len=2, fetch_mode="FLOAT")
        paint = gpu.types.GPUVertBuf(form, len(model.position))
        paint.attr_fill("tangent", model.tangent)
        paint.attr_fill("uv", model.uv)
        paint.attr_fill("colour", model.colour)
        paint.attr_fill("occlusion", occlusion.astype(np.float32))
        self._paint = paint
        self._parts = []
        self._veils = []
        for slot, triangles in model.triangles.items():
            look = self.looks[min(slot, len(self.looks) - 1)]
            batch = self._batch(triangles)
            # Hair and cut-outs are drawn twice: where dense like anything solid, and their soft edges over that.
            if look.kind == "hair" or look.image_alpha or not look.blended:
                self._parts.append((min(slot, len(self.looks) - 1), batch))
            if look.blended:
                self._veils.append(Veil(self, min(slot, len(self.looks) - 1), triangles, batch))

    def _batch(self, triangles: np.ndarray) -> gpu.types.GPUBatch:
        elem = gpu.types.GPUIndexBuf(type="TRIS", seq=np.ascontiguousarray(triangles, np.uint32))
        batch = gpu.types.GPUBatch(type="TRIS", buf=self._shape, elem=elem)
        batch.vertbuf_add(self._paint)
        return batch

    def pose(self, matrix, weights, bone_matrices=None) -> None:
        """Set what this frame looks like: a few kilobytes go to the GPU, and only if something changed."""
        packed = pack_state(self.model, matrix, weights, bone_matrices)
        if self._packed is None or not np.array_equal(packed, self._packed):
            self._packed = packed
            self._state = texture(packed)
            for veil in self._veils:
                veil.follow(np.asarray(matrix, np.float64), bone_matrices)

    def _bind(self, shader) -> None:
        shader.bind()
        shader.uniform_sampler("fusion", self._fusion)
        shader.uniform_sampler("state", self._state)

    def draw_depth(self, matrix: np.ndarray) -> None:
        """Draw depth into the bound frame buffer; `matrix` takes the world to the light's clip space."""
        shader = shaders.depth()
        self._bind(shader)
        shader.uniform_float("light", mat4(matrix))
        self._solid.draw(shader)

    def draw(self, scene_block, shadow_map) -> None:
        """Draw all that is solid."""
        for slot, batch in self._parts:
            self.draw_part(slot, batch, scene_block, shadow_map)

    def veils(self, eye: np.ndarray) -> list[tuple[float, Veil]]:
        """Return the parts that let something show through, with their distance from the eye."""
        return [(veil.distance(eye), veil) for veil in self._veils]

    def draw_part(self, slot: int, batch, scene_block, shadow_map, *, blended: bool = False) -> None:
        """Draw the triangles of one material."""
        look = self.looks[slot]
        shader = shaders.head(look.kind)
        self._bind(shader)
        shader.uniform_sampler("slopes", self._slopes)
        shader.uniform_block("scene", scene_block)
        shader.uniform_block("surface", self._blocks[slot])
        # Blender keeps an image's texture, and makes another where it is read anew.
        base, normal = image_texture(look.base_image), image_texture(look.normal_image)
        shader.uniform_sampler("base_image", base or self._nothing)
        shader.uniform_sampler("normal_image", normal or self._nothing)
        shader.uniform_sampler("shadow_map", shadow_map or self._nothing)
        shader.uniform_float("paint", (0.0 if blended else 1.0, 0.0, 0.0, 0.0))
        batch.draw(shader)

    def read_fused(self, normals: bool = False) -> np.ndarray:
        """Return positions (or normals) as the vertex shader makes them, shape (N, 3), in the object's space."""
        points = len(self.model.position)
        width, height = 256, max(-(-points // 256), 1)
        target = Target(width, height)
        batch = gpu.types.GPUBatch(type="POINTS", buf=self._shape)
        shader = shaders.positions()
        with target.bound(), restored_state():
            gpu.state.depth_test_set("NONE")
            gpu.state.blend_set("NONE")
            gpu.state.point_size_set(1.0)
            self._bind(shader)
            shader.uniform_sampler("slopes", self._slopes)
            shader.uniform_float("paint", (width, height, float(normals), 0.0))
            batch.draw(shader)
            pixels = target.read()
        return pixels.reshape(-1, 4)[:points, :3]

    def bake_occlusion(self, weights, bone_matrices=None) -> None:
        """Find how much of the sky each point sees, by drawing the model's depth from all round.

        Parameters
        ----------
        weights, bone_matrices
            The pose to do it in: a slightly open mouth lets some light in.
        """
        keep = self._packed
        self.pose(np.eye(4), weights, bone_matrices)
        points, normals, _ = fuse(self.model, weights, bone_matrices)
        centre, radius = self.model.centre, 0.5 * self.model.size
        target = Target(OCCLUSION_SIZE, OCCLUSION_SIZE, "R32F")
        occlusion = np.zeros((len(points), 2))
        total = np.zeros((len(points), 2))
        for direction in sphere(OCCLUSION_VIEWS):
            facing = normals @ direction
            matrix = light_view(centre, radius, direction)
            depth = read_depth(target, matrix, [self])
            for side, sign in enumerate((1.0, -1.0)):
                lifted = points + normals * (sign * 0.004 * radius)
                clip = lifted @ matrix[:3, :3].T + matrix[:3, 3]
                at = np.clip(((clip[:, :2] * 0.5 + 0.5) * OCCLUSION_SIZE).astype(int), 0, OCCLUSION_SIZE - 1)
                gap = clip[:, 2] - depth[at[:, 1], at[:, 0]]
                weight = np.clip(sign * facing, 0.0, 1.0)
                occlusion[:, side] += weight * np.clip(2.0 - gap / 0.012, 0.0, 1.0)
                total[:, side] += weight
        occlusion /= np.maximum(total, 1e-6)
        self.dress(np.stack([smooth(occlusion[:, side], self.model) for side in (0, 1)], axis=1))
        self._packed, self._state = None, None
        if keep is not None:
            self._packed, self._state = keep, texture(keep)


class Veil:
    """The triangles of a material that lets something show through, drawn from far to near.

    Their order is that of the undeformed surface, moved as its bones move it on average.

    Parameters
    ----------
    owner : GpuModel
    slot : int
        Material.
    triangles : ndarray, shape (T, 3)
    batch : gpu.types.GPUBatch
        Of the triangles in their own order.
    """

    def __init__(self, owner: GpuModel, slot: int, triangles: np.ndarray, batch):
        self._owner = weakref.proxy(owner)
        self._slot, self._triangles, self._batch = slot, triangles, batch
        model = owner.model
        self._centres = model.position[triangles].mean(axis=1, dtype=np.float64)
        self._middle = self._centres.mean(axis=0)
        self._share = bone_share(model, np.unique(triangles))
        self._matrix = np.eye(4)
        self._sorted_from: np.ndarray | None = None

    def follow(self, matrix: np.ndarray, bone_matrices) -> None:
        """Note where the part is now."""
        carried = np.eye(4)
        if len(self._share) and bone_matrices is not None:
            carried = np.tensordot(self._share, np.asarray(bone_matrices, np.float64), 1)
            carried += (1.0 - self._share.sum()) * np.eye(4)
        self._matrix = matrix @ carried

    def distance(self, eye: np.ndarray) -> float:
        """Return how far the part is from the eye (x, y, z, 1), or along a parallel view (direction to it, 0)."""
        place = self._matrix[:3, :3] @ self._middle + self._matrix[:3, 3]
        return float(np.linalg.norm(eye[:3] - place) if eye[3] else -(eye[:3] @ place))

    def draw(self, eye: np.ndarray, scene_block, shadow_map) -> None:
        """Draw the part, its farthest triangles first."""
        try:
            here = np.linalg.solve(self._matrix, eye)
        except np.linalg.LinAlgError:
            return  # its bone is scaled to nothing
        towards = here[:3] - self._middle * here[3]
        towards /= max(float(np.linalg.norm(towards)), 1e-12)
        if self._sorted_from is None or np.linalg.norm(towards - self._sorted_from) > RESORT:
            self._sorted_from = towards
            self._batch = self._owner._batch(self._triangles[far_to_near(self._centres, here)])
        self._owner.draw_part(self._slot, self._batch, scene_block, shadow_map, blended=True)


def bone_share(model: Model, points: np.ndarray) -> np.ndarray:
    """Return how much each bone carries of some points together, shape (B,)."""
    share = np.zeros(len(model.bones))
    count = model.row[points, 3]
    texel = np.repeat(model.row[points, 2] - (np.cumsum(count) - count), count) + np.arange(count.sum())
    for k in (0, 2):
        np.add.at(share, model.fusion[texel, k].astype(np.int64), model.fusion[texel, k + 1])
    return share / max(len(points), 1)


def smooth(values: np.ndarray, model: Model, rounds: int = 2) -> np.ndarray:
    """Average values over the triangles round each point, across the seams of UVs."""
    triangles = np.concatenate(list(model.triangles.values())) if model.triangles else np.zeros((0, 3), int)
    rows = model.row_of
    corners = rows[triangles]
    values = np.bincount(rows, values) / np.maximum(np.bincount(rows), 1)
    count = np.bincount(corners.ravel(), minlength=len(values))
    for _ in range(rounds):
        mean = values[corners].mean(axis=1)
        total = np.bincount(corners.ravel(), np.repeat(mean, 3), len(values))
        values = np.where(count > 0, total / np.maximum(count, 1), values)
    return values[rows]


def sphere(count: int) -> np.ndarray:
    """Return unit vectors spread evenly over the sphere (a Fibonacci lattice), shape (count, 3)."""
    i = np.arange(count) + 0.5
    z = 1.0 - 2.0 * i / count
    turn = np.pi * (1.0 + 5.0**0.5) * i
    r = np.sqrt(1.0 - z * z)
    return np.stack((r * np.cos(turn), r * np.sin(turn), z), axis=1)


def light_view(centre, radius: float, direction) -> np.ndarray:
    """Return the matrix that sees a ball from one direction: x, y and depth -1..1, near is -1."""
    z = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    x = np.cross((0.0, 0.0, 1.0), z) if abs(z[2]) < 0.99 else np.cross((1.0, 0.0, 0.0), z)
    x /= np.linalg.norm(x)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack((x, np.cross(z, x), -z)) / radius
    matrix[:3, 3] = -matrix[:3, :3] @ np.asarray(centre, np.float64)
    return matrix


def mat4(matrix: np.ndarray):
    """Return a matrix as Blender's own, for ``uniform_float``."""
    from mathutils import Matrix

    return Matrix(matrix.tolist())


def read_depth(target: Target, matrix: np.ndarray, models: list[GpuModel]) -> np.ndarray:
    """Draw depths and read them back, shape (height, width)."""
    draw_depths(target, [matrix], models)
    pixels = np.empty(target.width * target.height, np.float32)
    shared = gpu.types.Buffer("FLOAT", pixels.size, pixels)
    with target.bound() as frame:
        frame.read_color(0, 0, target.width, target.height, 1, 0, "FLOAT", data=shared)
    return pixels.reshape(target.height, target.width)


def draw_depths(target: Target, matrices, models: list[GpuModel]) -> None:
    """Draw how far models are from lights into a target, one light beside the other."""
    side = target.height
    with target.bound() as frame, restored_state():
        frame.clear(color=(4.0, 0.0, 0.0, 0.0), depth=1.0)
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.depth_mask_set(True)
        gpu.state.blend_set("NONE")
        for i, matrix in enumerate(matrices):
            gpu.state.viewport_set(i * side, 0, side, side)
            for model in models:
                model.draw_depth(matrix)


@dataclasses.dataclass(frozen=True)
class View:
    """How a picture is taken.

    Attributes
    ----------
    view, projection : ndarray, shape (4, 4)
        World to camera, camera to clip space.
    """

    view: np.ndarray
    projection: np.ndarray

    @property
    def eye(self) -> tuple[float, float, float, float]:
        """The camera's place with a 1, or for a parallel view the direction to it with a 0."""
        back = np.linalg.inv(self.view)
        if abs(self.projection[3, 3]) > 0.5:
            return (*(back[:3, 2] / np.linalg.norm(back[:3, 2])), 0.0)
        return (*back[:3, 3], 1.0)


class Scene:
    """What all heads of a picture share: camera, lights, shadow.

    Parameters
    ----------
    view : View
    lighting : Lighting
    curve : float
    exposure : float
        Factor on all light.
    """

    def __init__(self, view: View, lighting: Lighting, curve: float = LINEAR, exposure: float = 1.0):
        self.view, self.lighting = view, lighting
        self.curve, self.exposure = curve, exposure
        self.shadow_map: gpu.types.GPUTexture | None = None
        self._shadow_matrices = np.tile(np.eye(4), (SHADOWS, 1, 1))
        self._shadows = np.zeros((SHADOWS, 4))

    def cast_shadows(self, target: Target, models: list[GpuModel], centre, radius: float) -> None:
        """Draw the shadows of the strongest lights in a ball; what is outside stands in the light.

        Parameters
        ----------
        target : Target
            Of `SHADOW_SIZE` pixels a side and light, side by side.
        models : list of GpuModel
        centre : array, shape (3,)
        radius : float
        """
        lights = self.lighting.strongest()[:SHADOWS]
        if not lights or not models:
            return
        texel = 2.0 * radius / SHADOW_SIZE
        for i, light in enumerate(lights):
            away = np.asarray(light.place) if light.kind == 0.0 else np.asarray(light.place) - centre
            reach = max(float(np.linalg.norm(away)), 1e-6)
            self._shadow_matrices[i] = light_view(centre, radius, away)
            spread = light.radius if light.kind == 0.0 else light.radius / reach
            self._shadows[i] = (1.0, texel, 1.5 * texel / radius, 0.006 + 0.05 * min(spread, 0.6))
        draw_depths(target, self._shadow_matrices[: len(lights)], models)
        self.shadow_map = target.colour

    def block(self) -> gpu.types.GPUUniformBuf:
        """Return the shaders' ``Scene`` block."""
        matrix = self.view.projection @ self.view.view
        lights = len(self.lighting.strongest())
        head = np.zeros((8 + 5 * SHADOWS, 4), np.float32)
        head[0:4] = matrix.T
        head[4] = self.view.eye
        head[5, :3], head[6, :3] = self.lighting.sky, self.lighting.ground
        head[7] = (lights, self.curve, self.exposure, 0.0)
        head[8 : 8 + 4 * SHADOWS] = self._shadow_matrices.transpose(0, 2, 1).reshape(-1, 4)
        head[8 + 4 * SHADOWS :] = self._shadows
        return gpu.types.GPUUniformBuf(buffer(np.concatenate((head, self.lighting.pack()))))

    def draw(
        self,
        models: list[GpuModel],
        effects: list[tuple[np.ndarray, dict[str, float]]] = (),
        time: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Draw heads into the bound frame buffer, against its depth.

        Parameters
        ----------
        models : list of GpuModel
        effects : list of (ndarray (4, 4), dict of str to float)
            Per head: its `particles.anchor_frame`, and how strong each effect is.
        time : float
            Seconds that the particles have flown.
        seed : int
            Of the particles' paths.
        """
        block = self.block()
        eye = np.array(self.view.eye, np.float64)
        with restored_state():
            gpu.state.depth_test_set("LESS_EQUAL")
            gpu.state.depth_mask_set(True)
            gpu.state.blend_set("NONE")
            for model in models:
                model.draw(block, self.shadow_map)
            gpu.state.blend_set("ALPHA")
            gpu.state.depth_mask_set(False)
            veils = [veil for model in models for veil in model.veils(eye)]
            for _distance, veil in sorted(veils, key=lambda each: -each[0]):
                veil.draw(eye, block, self.shadow_map)
            for frame, strengths in effects:
                for name, strength in strengths.items():
                    _draw_particles(block, EFFECTS[name], frame, strength, time, seed)


def _draw_particles(block, effect: Effect, frame: np.ndarray, strength: float, time: float, seed: int) -> None:
    form = gpu.types.GPUVertFormat()
    form.attr_add(id="corner", comp_type="F32", len=3, fetch_mode="FLOAT")
    points = corners(effect.count, seed)
    vertices = gpu.types.GPUVertBuf(form, len(points))
    vertices.attr_fill("corner", points)
    shader = shaders.particles()
    shader.bind()
    shader.uniform_block("scene", block)
    shader.uniform_float("frame", mat4(frame))
    shader.uniform_float("anchor", (*effect.anchor, effect.shape))
    shader.uniform_float("tint", effect.colour)
    shader.uniform_float("params", (clock(time), effect.life, effect.size, strength))
    gpu.types.GPUBatch(type="TRIS", buf=vertices).draw(shader)


def draw_over(target: Target) -> None:
    """Lay a target of twice the size over the bound frame buffer, smoothed, at the depth that it was drawn at."""
    shader = shaders.over()
    shader.bind()
    shader.uniform_sampler("picture", target.colour)
    shader.uniform_sampler("depths", target.depth)
    with restored_state():
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.depth_mask_set(True)
        gpu.state.blend_set("ALPHA_PREMULT")
        _square().draw(shader)


_SQUARE = np.array(((0, 0), (1, 0), (0, 1), (1, 1)), np.float32)


def _square() -> gpu.types.GPUBatch:
    form = gpu.types.GPUVertFormat()
    form.attr_add(id="corner", comp_type="F32", len=2, fetch_mode="FLOAT")
    points = gpu.types.GPUVertBuf(form, 4)
    points.attr_fill("corner", _SQUARE)
    return gpu.types.GPUBatch(type="TRI_STRIP", buf=points)


def draw_gradient(inner, outer, aspect: float, curve: float = LINEAR, area=(-1.0, -1.0, 1.0, 1.0)) -> None:
    """Fill an area (in clip space) with one colour at its middle and another at its edge, linear RGBA."""
    shader = shaders.picture()
    shader.bind()
    shader.uniform_float("area", area)
    shader.uniform_float("first", inner)
    shader.uniform_float("second", outer)
    shader.uniform_float("paint", (0.0, curve, aspect, 0.0))
    # A texture must live until its draw call: Vulkan looks at it only then.
    unused = texture(np.ones((1, 1, 4), np.float32))
    shader.uniform_sampler("picture", unused)
    _square().draw(shader)


def draw_picture(
    picture: gpu.types.GPUTexture, area=(-1.0, -1.0, 1.0, 1.0), *, top_first=False, encoded=False, curve: float = LINEAR
) -> None:
    """Lay a texture over an area (in clip space).

    Parameters
    ----------
    picture : GPUTexture
    area : tuple of float
        Left, low, right, high.
    top_first : bool
        Its first line is the highest, as cameras give it.
    encoded : bool
        Its values are sRGB and have to be made linear.
    curve : float
    """
    shader = shaders.picture()
    shader.bind()
    shader.uniform_float("area", area)
    shader.uniform_float("first", (0.0, 0.0, 0.0, 0.0))
    shader.uniform_float("second", (0.0, 0.0, 0.0, 0.0))
    shader.uniform_float("paint", (2.0 if top_first else 1.0, curve, 1.0, float(encoded)))
    shader.uniform_sampler("picture", picture)
    _square().draw(shader)
