"""A picture that shows at a glance whether a capture is good: video frames beside the rig."""

from __future__ import annotations

import tempfile
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..core.capture import open_source
from ..core.solve import Performance
from ..core.units import UNITS

_SEPARATION = 0.4
"""Seconds between two moments of a sheet, so that it does not show the same look twice."""


def choose_moments(performance: Performance, count: int = 8) -> list[int]:
    """Choose the frames that tell most: the peak of one unit after another, spread in time.

    Parameters
    ----------
    performance : Performance
    count : int
        How many frames at most.

    Returns
    -------
    list of int
        Indices into the performance, in time order; only frames with a face.
    """
    candidates = np.flatnonzero(performance.found)
    if not len(candidates):
        return []
    weights = performance.units[candidates]
    times = performance.times[candidates]
    chosen = [int(np.argmin(weights.sum(axis=1)))]  # the calmest frame shows the rest pose
    by_peak = np.argsort(-weights.max(axis=0))
    free = np.ones(len(candidates), bool)
    while len(chosen) < count:
        before = len(chosen)
        for unit in by_peak:
            free &= np.abs(times - times[chosen[-1]]) > _SEPARATION
            if len(chosen) == count or not free.any():
                break
            chosen.append(int(np.flatnonzero(free)[np.argmax(weights[free, unit])]))
        if len(chosen) == before:
            break
    return sorted(int(candidates[i]) for i in chosen)


def face_camera(scene: bpy.types.Scene, mesh: bpy.types.Object) -> bpy.types.Object:
    """Return the scene's camera, or a new one in front of the part of `mesh` that its shape keys move."""
    if scene.camera is not None:
        return scene.camera
    keys = mesh.data.shape_keys.key_blocks
    rest = np.empty(len(mesh.data.vertices) * 3, np.float32)
    keys[0].data.foreach_get("co", rest)
    moved = np.zeros(len(rest) // 3, bool)
    shape = np.empty_like(rest)
    for key in keys[1:]:
        key.data.foreach_get("co", shape)
        moved |= np.abs(shape - rest).reshape(-1, 3).max(axis=1) > 1e-5
    points = rest.reshape(-1, 3)[moved if moved.any() else slice(None)]
    low, high = Vector(points.min(axis=0)), Vector(points.max(axis=0))
    centre = mesh.matrix_world @ ((low + high) / 2)
    extent = (mesh.matrix_world.to_3x3() @ (high - low)).length
    data = bpy.data.cameras.new("Mien Sheet")
    data.lens = 85.0
    camera = bpy.data.objects.new("Mien Sheet", data)
    # The face looks along -Y; 4 face sizes away an 85 mm lens leaves room for the whole head.
    camera.matrix_world = Matrix.Translation(centre + Vector((0.0, -4.0 * extent, 0.0))) @ Matrix.Rotation(
        np.pi / 2, 4, "X"
    )
    scene.collection.objects.link(camera)
    return camera


def _square(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Cut a square around the face `box` (x, y, w, h in px) and scale it to `size`."""
    import cv2

    centre = box[:2] + box[2:] / 2
    half = max(0.9 * float(box[2:].max()), 8.0)
    scale = size / (2 * half)
    matrix = np.array([[scale, 0, size / 2 - scale * centre[0]], [0, scale, size / 2 - scale * centre[1]]])
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def _caption(picture: np.ndarray, lines: list[str]):
    import cv2

    for row, text in enumerate(lines):
        origin = (8, 20 + 18 * row)
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)


def _pictures(source: Path, indices: list[int], fps: float | None) -> dict[int, np.ndarray]:
    wanted, pictures = set(indices), {}
    with open_source(source, fps=fps) as frames:
        for frame in frames:
            if frame.index in wanted:
                pictures[frame.index] = frame.image
                if len(pictures) == len(wanted):
                    break
    return pictures


def render_still(scene: bpy.types.Scene, camera: bpy.types.Object, frame: float, size: int) -> np.ndarray:
    """Render one square picture of the scene quickly, as RGB; render settings are put back.

    Cycles on few samples with denoising: it needs no GPU context, so it works in any
    background Blender.
    """
    import cv2

    render = scene.render
    wanted = {
        (render, "engine"): "CYCLES",
        (render, "resolution_x"): size,
        (render, "resolution_y"): size,
        (render, "resolution_percentage"): 100,
        (render, "film_transparent"): False,
        (render.image_settings, "file_format"): "PNG",
        (render.image_settings, "color_mode"): "RGB",
        (render, "filepath"): "",
        (scene, "camera"): camera,
        (scene.cycles, "samples"): 16,
        (scene.cycles, "use_denoising"): True,
    }
    saved = {key: getattr(*key) for key in wanted}
    saved_frame = scene.frame_current_final
    with tempfile.TemporaryDirectory() as folder:
        wanted[render, "filepath"] = path = str(Path(folder) / "still.png")
        try:
            for (owner, name), value in wanted.items():
                setattr(owner, name, value)
            scene.frame_set(int(frame // 1), subframe=float(frame % 1))
            bpy.ops.render.render(write_still=True, scene=scene.name)
            return cv2.imread(path)[:, :, ::-1]
        finally:
            for (owner, name), value in saved.items():
                setattr(owner, name, value)
            scene.frame_set(int(saved_frame // 1), subframe=saved_frame % 1)


def write_contact_sheet(
    path: Path,
    scene: bpy.types.Scene,
    mesh: bpy.types.Object,
    performance: Performance,
    take,
    source: Path,
    frame_of,
    *,
    fps: float | None = None,
    count: int = 8,
    size: int = 288,
    on_progress=None,
) -> list[int]:
    """Write a PNG with video frame and rig, one pair per moment.

    Parameters
    ----------
    path : Path
        PNG to write.
    scene, mesh : bpy types
        Where the baked rig is.
    performance : Performance
        What was baked.
    take : Take
        Where the faces are in the pictures.
    source : Path
        The captured video or pictures.
    frame_of : callable
        Source time in seconds to scene frame.
    fps : float, optional
        Frames a second of a picture sequence.
    count, size : int
        Number of moments; side of each picture in px.
    on_progress : callable, optional
        Called with (done, total) pictures.

    Returns
    -------
    list of int
        The frames shown, as indices into the take.
    """
    import cv2

    moments = choose_moments(performance, count)
    pictures = _pictures(source, moments, fps)
    camera = face_camera(scene, mesh)
    pairs = []
    for done, index in enumerate(moments):
        actor = _square(pictures[index], take[index].box, size)
        rig = render_still(scene, camera, frame_of(float(performance.times[index])), size).copy()
        strongest = np.argsort(-performance.units[index])[:3]
        _caption(actor, [f"{performance.times[index]:.2f} s"])
        _caption(rig, [f"{UNITS[u]} {performance.units[index, u]:.2f}" for u in strongest])
        pairs.append(np.hstack([actor, rig]))
        if on_progress:
            on_progress(done + 1, len(moments))
    if camera.name == "Mien Sheet":
        bpy.data.cameras.remove(camera.data)
    columns = 2 if len(pairs) > 1 else 1
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % columns)
    sheet = np.vstack([np.hstack(pairs[i : i + columns]) for i in range(0, len(pairs), columns)])
    path.parent.mkdir(parents=True, exist_ok=True)
    # imencode rather than imwrite: it takes any path that Python can open.
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(sheet[:, :, ::-1]))[1].tobytes())
    return moments
