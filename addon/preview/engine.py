"""Mien Preview as a render engine: the preview's drawing in F12 and in Rendered view, with or without a window."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Set

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent

from ...core.errors import MienError
from ..ids import ENGINE
from . import compose, overlay, playback, properties, reading
from .compose import Posed, ShadowMap
from .drawing import LINEAR, Target, View, draw_picture
from .heads import Head, doubt, note_changes

log = logging.getLogger(__name__)

SAMPLES = 2
"""Pixels per side that are averaged to one, against jagged edges."""

_kept: dict[Hashable, Head] = {}
"""Meshes of the render under way: from frame to frame only what changed goes to the GPU again."""

_view_kept: dict[Hashable, Head] = {}
"""The same for Rendered view."""


class MienPreviewEngine(bpy.types.RenderEngine):
    bl_idname = ENGINE
    bl_label = "Mien Preview"
    bl_use_preview = False
    bl_use_gpu_context = True

    def __del__(self):
        # A viewport has left Rendered view. Should another be in it, that one uploads its heads again.
        _view_kept.clear()

    def render(self, depsgraph):
        scene = depsgraph.scene
        # As Blender rounds it: 0.29 of 100 is 28 in floating point.
        percent = scene.render.resolution_percentage
        width, height = scene.render.resolution_x * percent // 100, scene.render.resolution_y * percent // 100
        camera = scene.camera
        if camera is None:
            self.report({"ERROR"}, "No camera to render from")
            return
        camera = camera.evaluated_get(depsgraph)
        projection = camera.calc_matrix_camera(
            depsgraph,
            x=width,
            y=height,
            scale_x=scene.render.pixel_aspect_x,
            scale_y=scene.render.pixel_aspect_y,
        )
        view = View(
            np.linalg.inv(np.array(camera.matrix_world.normalized(), np.float64)), np.array(projection, np.float64)
        )
        try:
            doubt(_kept.values())
            target = Target(width * SAMPLES, height * SAMPLES, "RGBA16F")
            seconds = (scene.frame_current + scene.frame_subframe) * scene.render.fps_base / scene.render.fps
            draw(target, depsgraph, view, _kept, seconds, playback.at(scene.frame_current))
            pixels = target.read()
            for trouble in {head.trouble for head in _kept.values()} - {""}:
                self.report({"ERROR"}, trouble)
        except MienError as error:
            self.report({"ERROR"}, str(error))
            return
        except Exception as error:
            # Whatever it is, the render has to end, and say why.
            log.exception("render")
            self.report({"ERROR"}, f"{overlay.UNABLE}: {error}")
            return
        smoothed = pixels.reshape(height, SAMPLES, width, SAMPLES, 4).mean(axis=(1, 3))
        if scene.render.use_border:
            left, low, right, high = compose.render_border(scene.render, width, height)
            smoothed = smoothed[low:high, left:right]
            height, width = smoothed.shape[:2]
        result = self.begin_result(0, 0, width, height, layer=depsgraph.view_layer.name)
        result.layers[0].passes["Combined"].rect.foreach_set(smoothed.ravel())
        self.end_result(result)
        # Blender's bar would stand at 100 % after the first of a take's frames.
        self.update_progress(playback.share_done(scene.frame_current))

    def view_update(self, _context, depsgraph):
        note_changes(_view_kept.values(), depsgraph.updates)

    def view_draw(self, context, depsgraph):
        overlay.guarded(lambda: self._view_draw(context, depsgraph))

    def _view_draw(self, context, depsgraph):
        region, data = context.region, context.region_data
        view = View(np.array(data.view_matrix, np.float64), np.array(data.window_matrix, np.float64))
        target = Target(region.width, region.height, "RGBA16F")
        draw(target, depsgraph, view, _view_kept, time.perf_counter(), overlay.samples)
        border = view_border(context, view)
        gpu.state.blend_set("ALPHA_PREMULT")  # as the target's colours are
        if border is not None:
            gpu.state.scissor_test_set(True)
            gpu.state.scissor_set(*border)
        self.bind_display_space_shader(depsgraph.scene)
        draw_picture(target.colour)
        self.unbind_display_space_shader()
        if border is not None:
            gpu.state.scissor_test_set(False)
        gpu.state.blend_set("NONE")


def view_border(context, view: View) -> tuple[int, int, int, int] | None:
    """Return the part of a viewport that its Render Region keeps: left, low, width, height; None for all of it."""
    region, space, render = context.region, context.space_data, context.scene.render
    size = np.array((region.width, region.height))
    if context.region_data.view_perspective == "CAMERA":
        if not render.use_border or space.camera is None:
            return None
        camera = space.camera
        corners = np.array([camera.matrix_world @ corner for corner in camera.data.view_frame(scene=context.scene)])
        clip = np.column_stack((corners, np.ones(4))) @ (view.projection @ view.view).T
        corners = (clip[:, :2] / clip[:, 3:] * 0.5 + 0.5) * size
        low, high = corners.min(axis=0), corners.max(axis=0)
        first = low + (high - low) * (render.border_min_x, render.border_min_y)
        last = low + (high - low) * (render.border_max_x, render.border_max_y)
    else:
        if not space.use_render_border:
            return None
        first = size * (space.render_border_min_x, space.render_border_min_y)
        last = size * (space.render_border_max_x, space.render_border_max_y)
    first, last = np.clip(np.rint(first), 0, size).astype(int), np.clip(np.rint(last), 0, size).astype(int)
    return (*map(int, first), *map(int, np.maximum(last - first, 1)))


def meshes(depsgraph) -> list:
    """Return the evaluated mesh objects that a picture shows."""
    return [obj for obj in depsgraph.objects if _is_shown(obj, depsgraph) and properties.head_settings(obj).show]


def pose_instances(depsgraph, kept: dict[Hashable, Head]) -> dict[Hashable, Posed]:
    """Bring up to date what a picture shows besides: instances, and what Blender makes meshes of, as curves and text.

    Each is read while Blender's list stands at it: beyond that it is no more. Returns them by their keys in `kept`.
    """
    posed, twins = {}, {}
    for instance in depsgraph.object_instances:
        obj, parent = instance.object, instance.parent
        if not instance.is_instance or not _is_shown(obj, depsgraph) or reading.is_flat(obj):
            continue
        uid = obj.original.session_uid
        key = (uid, parent.original.session_uid if parent else 0, *instance.persistent_id)
        head = kept.setdefault(key, Head(uid))
        head.sync_instance(obj, twins.setdefault(obj.data.as_pointer(), head))
        if len(head.gpu.model.position):
            # Not where its object says: once a script has met that in `updates`, it is told as if it were no instance.
            head.pose(obj, matrix=np.array(instance.matrix_world, np.float64))
            posed[key] = Posed(head, obj.original)
    return posed


def _is_shown(obj, depsgraph) -> bool:
    shown = depsgraph.mode != "RENDER" or not obj.hide_render
    return shown and obj.type == "MESH" and obj.display_type not in {"BOUNDS", "WIRE"}


def draw(target: Target, depsgraph, view: View, kept: dict[Hashable, Head], seconds: float, live) -> None:
    """Draw a scene's meshes, linear, into a target, and let go of what no view layer shows any more.

    Parameters
    ----------
    target : Target
    depsgraph : bpy.types.Depsgraph
    view : View
    kept : dict to Head
        What is on the GPU already, objects by their ``session_uid``.
    seconds : float
        Time of the particles.
    live : mapping of int to Sample
        Values that stand in for the scene's.
    """
    scene = depsgraph.scene.original
    chosen = properties.settings(scene)
    objects = meshes(depsgraph)
    posed = overlay.pose_heads(objects, scene, depsgraph, kept, live)
    instances = pose_instances(depsgraph, kept)
    posed += instances.values()
    shown = {obj.original.session_uid for obj in objects} | instances.keys()
    _let_go(kept, shown, (scene.session_uid, depsgraph.view_layer.name))
    for item in posed:
        item.effects = overlay.effects_of(chosen, item)
    compose.draw_picture_of(target, chosen, depsgraph, posed, view, curve=LINEAR, time=seconds, shadow=ShadowMap())


def _let_go(kept: dict[Hashable, Head], shown: Set[Hashable], layer: Hashable) -> None:
    """Drop what a view layer has ceased to show, unless another one does: they are drawn in turn from what is kept."""
    for key, head in list(kept.items()):
        (head.seen_in.add if key in shown else head.seen_in.discard)(layer)
        if not head.seen_in:
            del kept[key]


@persistent
def _before_render(scene, *_args) -> None:
    playback.note_begun(scene)


@persistent
def _after_render(*_args) -> None:
    _kept.clear()


@persistent
def _before_load(*_args) -> None:
    _kept.clear()
    _view_kept.clear()
    playback.finish()


@persistent
def _after_load(*_args) -> None:
    playback.sweep()


@persistent
def _after_undo(*_args) -> None:
    """Blender has ended every job, and the step may hold the scene of a take's render."""
    doubt(_view_kept.values())
    playback.finish()
    playback.sweep()


_HANDLERS = (
    ("render_init", _before_render),
    ("render_complete", _after_render),
    ("render_cancel", _after_render),
    ("load_pre", _before_load),
    ("load_post", _after_load),
    ("undo_post", _after_undo),
    ("redo_post", _after_undo),
)


def _panels():
    """Yield Blender's own panels that make sense for this engine too."""
    left_out = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes", "RENDER_PT_freestyle"}
    for panel in bpy.types.Panel.__subclasses__():
        if "BLENDER_RENDER" in getattr(panel, "COMPAT_ENGINES", ()) and panel.__name__ not in left_out:
            yield panel


def register():
    bpy.utils.register_class(MienPreviewEngine)
    for panel in _panels():
        panel.COMPAT_ENGINES.add(ENGINE)
    for name, function in _HANDLERS:
        getattr(bpy.app.handlers, name).append(function)


def unregister():
    if bpy.app.timers.is_registered(playback.look_for_end):
        bpy.app.timers.unregister(playback.look_for_end)
    _before_load()
    for name, function in reversed(_HANDLERS):
        getattr(bpy.app.handlers, name).remove(function)
    for panel in _panels():
        panel.COMPAT_ENGINES.discard(ENGINE)
    bpy.utils.unregister_class(MienPreviewEngine)
