"""Drawing in tests: a GPU context without a window, and comparison with golden pictures."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import bpy
import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "preview"

_job = None


class _Runner(bpy.types.RenderEngine):
    """Blender gives an engine a GPU context where there is no window."""

    bl_idname = "MIEN_TEST_RUNNER"
    bl_label = "Runs a test"
    bl_use_gpu_context = True

    def render(self, depsgraph):
        _job(depsgraph)


def with_gpu(function):
    """Call `function(depsgraph)` where ``gpu`` works; returns what it returns and raises what it raises."""
    global _job
    outcome = {}

    def job(depsgraph):
        try:
            outcome["value"] = function(depsgraph)
        except BaseException as error:
            outcome["error"] = error

    _job = job
    scene = bpy.context.scene
    before = scene.render.engine, scene.render.resolution_x, scene.render.resolution_y
    bpy.utils.register_class(_Runner)
    camera = None
    if scene.camera is None:  # without one Blender renders nothing
        camera = scene.camera = bpy.data.objects.new("Runner", bpy.data.cameras.new("Runner"))
    try:
        scene.render.engine = _Runner.bl_idname
        scene.render.resolution_x = scene.render.resolution_y = 16
        bpy.ops.render.render()
    finally:
        scene.render.engine, scene.render.resolution_x, scene.render.resolution_y = before
        bpy.utils.unregister_class(_Runner)
        if camera is not None:
            bpy.data.cameras.remove(camera.data)  # and with it the object
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        message = "no GPU to draw with, not even in software: install Mesa's EGL"
        if os.environ.get("CI"):  # there all that is drawn would pass unseen
            pytest.fail(message)
        pytest.skip(message)
    return outcome["value"]


def render(path: Path, width: int = 160, height: int = 192) -> np.ndarray:
    """Render the scene with Mien Preview; returns (height, width, 4) 0..1, first line lowest."""
    scene = bpy.context.scene
    scene.render.engine = "MIEN_PREVIEW"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.render.filepath = str(path)
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    scene.render.dither_intensity = 0.0
    bpy.ops.render.render(write_still=True)
    return load(path)


def load(path: Path) -> np.ndarray:
    """Read a picture's stored values."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    pixels = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(pixels)
    size = image.size[:]
    bpy.data.images.remove(image)
    return pixels.reshape(size[1], size[0], 4)


def compare(name: str, path: Path, columns: int = 1, rows: int = 1) -> None:
    """Compare a sheet with its golden one, each picture for itself; with MIEN_GOLDEN=write keep it as golden instead.

    Drivers differ at edges: a mean of 1/255 and 1 % of the pixels off by more than 8/255 are let pass.
    """
    golden = GOLDEN / f"{name}.png"
    if os.environ.get("MIEN_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_bytes(path.read_bytes())
        return
    assert golden.exists(), f"no golden picture {golden.name}: make it with MIEN_GOLDEN=write and look at it"
    found, expected = load(path), load(golden)
    assert found.shape == expected.shape
    difference = np.abs(found - expected).reshape(rows, found.shape[0] // rows, columns, found.shape[1] // columns, 4)
    mean = difference.mean(axis=(1, 3, 4))
    assert mean.max() < 1 / 255, f"{name}: mean differences {mean * 255}/255"
    off = (difference.max(axis=4) > 8 / 255).mean(axis=(1, 3))
    assert off.max() < 0.01, f"{name}: parts of the pixels that differ {off}"


class Studio:
    """Draws pictures of one head one after the other, without reading it again for each.

    Use it inside `with_gpu`.
    """

    def __init__(self, depsgraph, obj, width: int = 120, height: int = 144):
        from mien.addon.preview import properties

        self.depsgraph, self.obj = depsgraph, obj
        self.width, self.height = width, height
        self.chosen = properties.settings(bpy.context.scene)
        self.kept: dict = {}

    def posed(self, weights=None, bones=None):
        from mien.addon import preview
        from mien.addon.preview import looks, overlay

        looks.forget()  # of what is changed between two pictures of one job Blender tells nobody
        preview.set_sample(self.obj.session_uid, weights or {}, bones)
        return overlay.pose_heads([self.obj], bpy.context.scene, None, self.kept)

    def shoot(self, weights=None, bones=None, effects=None, time: float = 0.0, zoom: float = 1.0) -> np.ndarray:
        """Return a picture, (height, width, 4), first line lowest, as shown on a display."""
        from mien.addon.preview import compose, overlay
        from mien.addon.preview.drawing import AGX, Target

        posed = self.posed(weights, bones)
        posed[0].effects = effects or {}
        view = overlay.portrait(posed, self.width / self.height)
        view.projection[0, 0] *= zoom
        view.projection[1, 1] *= zoom
        target = Target(2 * self.width, 2 * self.height, "RGBA16F")
        compose.draw_picture_of(
            target,
            self.chosen,
            self.depsgraph,
            posed,
            view,
            curve=AGX,
            time=time,
            shadow=compose.ShadowMap(),
        )
        pixels = target.read().reshape(self.height, 2, self.width, 2, 4).mean(axis=(1, 3))
        return np.clip(pixels, 0.0, 1.0)


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write a PNG from values 0..1, first line lowest."""
    rgb = np.round(pixels[::-1, :, :3] * 255).astype(np.uint8)
    height, width = rgb.shape[:2]
    lines = np.concatenate((np.zeros((height, 1), np.uint8), rgb.reshape(height, -1)), axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
    return path


def sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Lay pictures of one size side by side, the first one high on the left."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    result = np.zeros((rows * height, columns * width, 4), np.float32)
    for i, picture in enumerate(pictures):
        row, column = rows - 1 - i // columns, i % columns
        result[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return result
