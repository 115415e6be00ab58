"""A picture that shows at a glance whether a capture is good: video frames beside the rig."""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Matrix, Vector

from ..core.capture import open_source
from ..core.errors import MienError
from ..core.files import replacing
from ..core.solve import Performance
from ..core.units import UNITS
from .rendering import literal, medium, write_as
from .rig.face import face_bounds

_SEPARATION = 0.4
"""Seconds between two moments of a sheet, so that it does not show the same look twice."""

_MARGIN = 1.5
"""How much wider than the moving part of the face the rig's picture is."""

_DARK = 40
"""Of 255: where nineteen of twenty pixels are darker, nothing is told by the picture."""


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


@contextlib.contextmanager
def _framed(scene: bpy.types.Scene, mesh: bpy.types.Object, size: int):
    """Set the scene up to render a square of `size` px around the face of `mesh`; all is put back after.

    The view is the scene camera's, cut to the face; a scene without one gets a camera in
    front of the face for the while. Cycles on few samples with denoising: it needs no GPU,
    so it works in any background Blender. Yields what lights the face from above the camera, for scenes without light.
    """
    low, high = face_bounds(mesh)
    corners = [
        mesh.matrix_world @ Vector(np.where(pick, high, low).tolist())
        for pick in itertools.product((False, True), repeat=3)
    ]
    camera, made = scene.camera, []
    if camera is None:
        made.append(bpy.data.cameras.new("Mien Sheet"))
        made[0].lens = 85.0
        camera = bpy.data.objects.new("Mien Sheet", made[0])
        reach = max((a - b).length for a, b in itertools.combinations(corners, 2))
        centre = sum(corners, Vector()) / len(corners)
        # A character looks along -Y.
        camera.matrix_world = Matrix.Translation(centre - Vector((0, 5 * reach, 0))) @ Matrix.Rotation(
            math.pi / 2, 4, "X"
        )
        scene.collection.objects.link(camera)
        bpy.context.view_layer.update()

    def light_up() -> None:
        made.append(bpy.data.lights.new("Mien Sheet", "SUN"))
        made[-1].energy, made[-1].angle = 3.0, 0.5
        light = bpy.data.objects.new("Mien Sheet", made[-1])
        # A sun shines along its -Z, as a camera looks.
        light.matrix_world = camera.matrix_world @ Matrix.Rotation(-0.6, 4, "X") @ Matrix.Rotation(0.4, 4, "Y")
        scene.collection.objects.link(light)

    render, cycles = scene.render, scene.cycles
    saved = [
        (owner, name, getattr(owner, name))
        for owner, names in (
            (render, ("engine", "resolution_x", "resolution_y", "resolution_percentage", "filepath", "use_border")),
            (render, ("use_crop_to_border", "border_min_x", "border_max_x", "border_min_y", "border_max_y")),
            (render, ("use_compositing", "use_sequencer", "use_multiview")),
            (cycles, ("samples", "use_denoising")),
            (scene, ("camera",)),
        )
        for name in names
    ]
    chosen = render.image_settings
    saved += [(chosen, name, getattr(chosen, name)) for name in (*medium(chosen), "file_format", "color_mode")]
    frame = scene.frame_current_final
    try:
        scene.camera = camera
        render.resolution_x = render.resolution_y = 1000
        seen = np.array([world_to_camera_view(scene, camera, corner)[:2] for corner in corners])
        centre, half = (seen.min(axis=0) + seen.max(axis=0)) / 2, np.ptp(seen, axis=0).max() / 2
        low_x, low_y = np.clip(centre - _MARGIN * half, 0.0, 1.0)
        high_x, high_y = np.clip(centre + _MARGIN * half, 0.0, 1.0)
        if min(high_x - low_x, high_y - low_y) > 0.01:  # else the camera looks elsewhere: show its whole view
            render.resolution_x = render.resolution_y = round(size / max(high_x - low_x, high_y - low_y))
            render.border_min_x, render.border_max_x = low_x, high_x
            render.border_min_y, render.border_max_y = low_y, high_y
            render.use_border = render.use_crop_to_border = True
        else:
            render.resolution_x = render.resolution_y = size
            render.use_border = False
        render.resolution_percentage = 100
        render.engine = "CYCLES"
        cycles.samples, cycles.use_denoising = 16, True
        write_as(render, "PNG")
        chosen.color_mode = "RGB"
        render.use_multiview = False
        yield light_up
    finally:
        for owner, name, value in saved:
            setattr(owner, name, value)
        _go_to(scene, frame)
        bpy.data.batch_remove(made)  # takes their objects along


def _go_to(scene: bpy.types.Scene, frame: float):
    whole = math.floor(frame)
    scene.frame_set(whole, subframe=frame - whole)


def _square(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Cut a square around the face `box` (x, y, w, h in px) and scale it to `size`."""
    import cv2

    centre = box[:2] + box[2:] / 2
    half = max(0.9 * float(box[2:].max()), 8.0)
    scale = size / (2 * half)
    matrix = np.array([[scale, 0, size / 2 - scale * centre[0]], [0, scale, size / 2 - scale * centre[1]]])
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_AREA, borderValue=(24, 24, 24))


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


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended: raised in the Python of a render engine it is the end of Blender."""
    before, came = signal.getsignal(signal.SIGINT), []
    if not callable(before):  # it is ignored
        yield
        return
    signal.signal(signal.SIGINT, lambda *told: came.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[0])


def _render(scene: bpy.types.Scene, frame: float, size: int, folder: str) -> np.ndarray:
    import cv2

    path = Path(folder) / "still.png"
    scene.render.filepath = literal(path)
    with interrupts_held():
        _go_to(scene, frame)
        bpy.ops.render.render(write_still=True, scene=scene.name)
    # imdecode rather than imread: it takes any path that Python can open.
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    scale = size / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    padded = np.zeros((size, size, 3), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    padded[top : top + height, left : left + width] = cv2.resize(picture, (width, height))
    return padded


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

    Raises
    ------
    MienError
        ``sheet-not-written``, and what the source raises.
    """
    import cv2

    moments = choose_moments(performance, count)
    pictures = _pictures(source, moments, fps)
    pairs = []
    with _framed(scene, mesh, size) as light_up, tempfile.TemporaryDirectory() as folder:
        for done, index in enumerate(moments, 1):
            actor = _square(pictures[index], take[index].box, size)
            at = frame_of(float(performance.times[index]))
            rig = _render(scene, at, size, folder)
            if done == 1 and np.percentile(rig, 95) < _DARK:
                light_up()
                rig = _render(scene, at, size, folder)
            strongest = np.argsort(-performance.units[index])[:3]
            _caption(actor, [f"{performance.times[index]:.2f} s"])
            _caption(rig, [f"{UNITS[u]} {performance.units[index, u]:.2f}" for u in strongest])
            pairs.append(np.hstack([actor, rig]))
            if on_progress:
                on_progress(done, len(moments))
    columns = 2 if len(pairs) > 1 else 1
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % columns)
    sheet = np.vstack([np.hstack(pairs[i : i + columns]) for i in range(0, len(pairs), columns)])
    # imencode rather than imwrite: it takes any path that Python can open.
    data = cv2.imencode(".png", np.ascontiguousarray(sheet[:, :, ::-1]))[1].tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise MienError(
            "sheet-not-written",
            f"{path} cannot be written: {error.strerror or error}.",
            "Check that you may write there and that the disk has room.",
        ) from error
    return moments
