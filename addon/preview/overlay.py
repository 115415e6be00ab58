"""The preview in the 3D viewports: what runs, what it follows, and the draw handlers.

Everything here lasts as long as this run of Blender and is never saved.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Collection, Mapping

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent

from .. import session
from ..expressions import BASIC, blend
from ..ids import SETTINGS
from ..markers import label_at
from ..rig.mapping import mapping_of
from ..rig.names import by_channel
from . import compose, looks, playback, properties, reading
from .compose import Posed, ShadowMap
from .drawing import Target, View, draw_over, draw_picture, lacking, restored_state
from .heads import Head, Sample, doubt, lay_on, note_changes
from .particles import Fader, wanted
from .properties import redraw

log = logging.getLogger(__name__)

SETTLE = 0.3
"""Seconds without another change before coordinates are compared."""

TICK = 1 / 30
"""Seconds between redraws while particles fly."""


SMOOTH_LIMIT = 24_000_000
"""Pixels, four to each of the viewport's, beyond which edges are left as they are: some 300 MB."""


@dataclasses.dataclass
class _State:
    handles: list = dataclasses.field(default_factory=list)
    heads: dict[int, Head] = dataclasses.field(default_factory=dict)
    faders: dict[int, Fader] = dataclasses.field(default_factory=dict)
    shadow: ShadowMap = dataclasses.field(default_factory=ShadowMap)
    window: Target | None = None
    smooth: dict[tuple[int, int], Target] = dataclasses.field(default_factory=dict)
    posed_at: float = 0.0
    last_values: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)


_state = _State()

samples: dict[int, Sample] = {}
"""Newest values of live sessions, by the object's ``session_uid``: names are not unique where files are linked."""

UNABLE = "The preview cannot draw on this machine"

UNREADABLE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, ReferenceError)
"""What reading a head may raise, unlike the driver: that is one head's trouble, and not the machine's."""

able = True
"""Whether this machine can draw, as far as is known."""

problem: str | None = None
"""What is not drawn, and why, in words; None while all is well."""

busy_seconds = 0.0
"""How long Python and the driver took for the last picture."""


def running() -> bool:
    """Whether the preview is on."""
    return bool(_state.handles)


def start() -> None:
    """Turn the preview on in every 3D viewport."""
    global able, problem
    if running():
        return
    lacks = lacking()
    able, problem = not lacks, f"{UNABLE}: {lacks}" if lacks else None
    add = bpy.types.SpaceView3D.draw_handler_add
    _state.handles = [
        add(_draw_in_place, (), "WINDOW", "POST_VIEW"),
        add(_draw_window, (), "WINDOW", "POST_PIXEL"),
    ]
    place_heads()
    redraw()


def stop() -> None:
    """Turn the preview off, show what it hid, and let go of all it put on the GPU."""
    global _state, able, problem
    able, problem = True, None
    if not running():
        return
    for handle in _state.handles:
        bpy.types.SpaceView3D.draw_handler_remove(handle, "WINDOW")
    _show_again()
    for timer in (_settle, _tick, place_heads):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    _state = _State()
    redraw()


def heads_of(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Return the objects that the preview takes for heads, whether shown or not."""
    return [obj for obj in scene.objects if compose.has_face(obj)]


def main_face(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """Return the face that is meant where none is named: the target, else the first one; None where there is none."""
    heads, target = heads_of(scene), getattr(scene, SETTINGS).target
    return target if target in heads else next(iter(compose.faces_of(heads)), None)


def head(obj) -> Head | None:
    """Return what the preview holds of an object."""
    return _state.heads.get(obj.session_uid)


def trouble_of(obj) -> str:
    """Return why a head cannot be drawn; empty while it can."""
    kept = head(obj)
    return "" if kept is None else kept.trouble


def face_of(obj) -> dict[str, float]:
    """Return the weights that an object's face shows just now: the sample's, else the scene's, and the expression."""
    shapes, mapping = tuple(key.name for key in reading.shape_keys(obj)), mapping_of(obj)
    values = reading.read_weights(obj, shapes)
    scene = bpy.context.scene
    sample = sample_for(obj, scene, scene.frame_current)
    if sample is not None:
        lay_on(values, sample, mapping)
    chosen = properties.settings(scene)
    layered = expression(chosen)
    if layered is not None:
        values = blend(values, layered, chosen.strength, mapping)
    return reading.as_mixed(obj, values)


def place_heads() -> None:
    """Hide the heads that the preview draws in place, and show those it does not."""
    if not running():
        return
    _show_again()
    for scene in bpy.data.scenes:
        for layer in scene.view_layers:
            noted = properties.hidden_in(layer)
            noted.active = _active_name(layer)
            for obj in heads_of(scene):
                shown = properties.head_settings(obj).show and obj.name in layer.objects
                if shown and _stands_in(obj, scene) and not trouble_of(obj) and obj.visible_get(view_layer=layer):
                    one = noted.hidden.add()
                    one.head, one.selected = obj, obj.select_get(view_layer=layer)
                    obj.hide_set(True, view_layer=layer)
    redraw()


def _stands_in(obj, scene) -> bool:
    """Whether the preview draws a head in Blender's place: what is edited, sculpted or painted is left to Blender."""
    return able and properties.settings(scene).placement == "IN_PLACE" and obj.mode == "OBJECT"


def _place_soon() -> None:
    """Place heads once Blender has drawn: nothing may be hidden or shown before."""
    if not bpy.app.timers.is_registered(place_heads):
        bpy.app.timers.register(place_heads, first_interval=0.0)


def _active_name(layer) -> str:
    active = layer.objects.active
    return "" if active is None else active.name


def _show_again() -> None:
    """Show what the preview hid, selected as before, unless the user turned to another object meanwhile."""
    for scene in bpy.data.scenes:
        for layer in scene.view_layers:
            noted = properties.hidden_in(layer)
            same = noted.active == _active_name(layer)
            for one in noted.hidden:
                if one.head is not None and one.head.name in layer.objects:
                    one.head.hide_set(False, view_layer=layer)
                    if one.selected and same:
                        one.head.select_set(True, view_layer=layer)
            noted.hidden.clear()


def expression(chosen) -> dict[str, float] | None:
    """Return the expression that a scene has chosen, one of its own or a basic one."""
    own = chosen.expressions.get(chosen.expression)
    if own is not None:
        return {item.name: item.value for item in own.values}
    return BASIC.get(chosen.expression)


def pose_heads(
    objects,
    scene: bpy.types.Scene,
    depsgraph=None,
    cache: dict[int, Head] | None = None,
    live: Mapping[int, Sample] | None = None,
    moving: Collection[int] = (),
) -> list[Posed]:
    """Bring heads up to date and into their pose; one that cannot be read is left out, with its `Head.trouble`.

    Parameters
    ----------
    objects : iterable of bpy.types.Object
    scene : bpy.types.Scene
    depsgraph : bpy.types.Depsgraph, optional
        While rendering: the render's own.
    cache : dict of int to Head, optional
        Where heads are kept; the viewport's by default.
    live : mapping of int to Sample, optional
        Values that stand in for the scene's, by the object's ``session_uid``; those of live sessions by default.
    moving : collection of int, optional
        ``session_uid`` of heads whose values change right now: their coordinates are not compared.

    Returns
    -------
    list of Posed
    """
    chosen = properties.settings(scene)
    cache = _state.heads if cache is None else cache
    layered = expression(chosen)
    frame = (scene if depsgraph is None else depsgraph.scene).frame_current
    posed = []
    for obj in objects:
        original = obj.original
        if reading.is_flat(obj):
            continue  # there is nothing to see
        kept = cache.setdefault(original.session_uid, Head(original.session_uid))
        sample = sample_for(original, scene, frame, live)
        laid_on = sample is not None and bool(sample.weights or sample.bones)
        laid_on |= layered is not None and chosen.strength > 0.0 and compose.has_face(original)
        try:
            kept.sync(obj, depsgraph, thorough=original.session_uid not in moving, laid_on=laid_on)
            if kept.gpu is None or not len(kept.gpu.model.position):
                continue
            kept.pose(
                obj,
                sample,
                depsgraph=depsgraph,
                offset=compose.offset_matrix(obj),
                expression=layered,
                strength=chosen.strength,
            )
        except UNREADABLE as error:
            if not kept.trouble:
                log.exception("preview of %s", original.name)
            kept.trouble = f"{original.name} is left out, for it cannot be read: {error}"
            continue
        kept.trouble = ""
        posed.append(Posed(kept, original, label_of(original, sample, scene.original, frame)))
    compose.mark_faces(posed, scene)
    return posed


def sample_for(obj, scene, frame: int, live: Mapping[int, Sample] | None = None) -> Sample | None:
    """Return what stands in for the values that the scene has for a head.

    That is what was handed over with `preview.set_sample`, or the frame of the take that the head plays.
    """
    sample = (samples if live is None else live).get(obj.session_uid)
    if sample is not None and (sample.weights or sample.bones):
        return sample
    # A label alone, of a rig that is driven live, takes no head off its take.
    played = playback.sample_of(obj, scene, frame)
    return sample if played is None else played


def label_of(obj, sample: Sample | None, scene, frame: int) -> str:
    """Return what a head's face expresses: by its sample, or where it was baked by the markers of the bake."""
    if sample is not None:
        return sample.label
    keys = getattr(obj.data, "shape_keys", None)
    baked = keys is not None and keys.animation_data is not None and keys.animation_data.action is not None
    return label_at(scene, frame, obj) if baked else ""


def effects_of(chosen, posed: Posed) -> dict[str, float]:
    """Return which particles a head's face asks for, at full strength at once."""
    if not chosen.use_particles or not posed.face:
        return {}
    label = posed.label
    # An expression that covers the face is as good as a captured one.
    if chosen.strength >= 0.5 and chosen.expression in BASIC:
        label = chosen.expression
    return wanted(chosen.effects, by_channel(posed.head.values, posed.head.channels), label)


def _posed_for(context) -> list[Posed]:
    """Return the heads that this viewport shows, posed; particles come and go by the clock."""
    global problem
    scene, layer, space = context.scene, context.view_layer, context.space_data
    chosen = properties.settings(scene)
    hidden = {one.head for one in properties.hidden_in(layer).hidden}
    objects = []
    for obj in heads_of(scene):
        if not properties.head_settings(obj).show or obj.name not in layer.objects:
            continue
        visible, ours = obj.visible_get(view_layer=layer), _stands_in(obj, scene)
        if visible if (ours and not trouble_of(obj)) else (obj in hidden):
            _place_soon()  # a head that came, was shown, changed its mode or got into trouble since
        if chosen.placement == "IN_PLACE" and not ours:
            continue
        seen = visible or obj in hidden
        if seen and (space.local_view is None or _in_local_view(obj, space)):
            objects.append(obj)
    gone = set(_state.heads) - {obj.session_uid for obj in bpy.data.objects}
    for uid in gone:
        del _state.heads[uid]
        _state.faders.pop(uid, None)
        _state.last_values.pop(uid, None)
        playback.forget(uid)
    moving = set()
    for obj in objects:
        kept = _state.heads.get(obj.session_uid)
        # While a slider is dragged its own changes hide whether the mesh changed too: look when it rests.
        values = None if kept is None or kept.gpu is None else kept.weights(obj)
        if values != _state.last_values.get(obj.session_uid):
            moving.add(obj.session_uid)
    posed = pose_heads(objects, scene, moving=moving)
    problem = "; ".join(filter(None, map(trouble_of, objects))) or None
    for item in posed:
        _state.last_values[item.obj.session_uid] = item.head.weights(item.obj)
        if item.head.suspect and not bpy.app.timers.is_registered(_settle):
            bpy.app.timers.register(_settle, first_interval=SETTLE)
    now = time.perf_counter()
    passed = min(now - _state.posed_at, 0.2)
    _state.posed_at = now
    for item in posed:
        fader = _state.faders.setdefault(item.obj.session_uid, Fader())
        item.effects = fader.step(effects_of(chosen, item), passed)
    if any(item.effects for item in posed) and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=TICK)
    return posed


def _in_local_view(obj, space) -> bool:
    """Whether a viewport's local view shows a head, or its rig: a head that is hidden cannot be brought there."""
    modifier = reading.armature_modifier(obj)
    return obj.local_view_get(space) or (modifier is not None and modifier.object.local_view_get(space))


def _settle() -> None:
    redraw()


def _tick() -> float | None:
    redraw()
    flying = any(any(fader.strength.values()) for fader in _state.faders.values())
    return TICK if running() and flying else None


def guarded(draw) -> None:
    """Draw; if this machine cannot, say so once in the panel, show what is hidden and let the rest of Mien work."""
    global able, problem, busy_seconds
    if not able:
        return
    began = time.perf_counter()
    try:
        draw()
    except Exception as error:
        # A draw handler that raises would be called again at every redraw, for ever.
        able, problem = False, f"{UNABLE}: {error}"
        log.exception("preview")
        _place_soon()
    busy_seconds = time.perf_counter() - began


def _draw_in_place() -> None:
    if properties.settings(bpy.context.scene).placement == "IN_PLACE":
        guarded(_in_place)


def _in_place() -> None:
    context = bpy.context
    posed = _posed_for(context)
    chosen = properties.settings(context.scene)
    if not posed and chosen.background == "NONE":
        return
    view = View(
        np.array(gpu.matrix.get_model_view_matrix(), np.float64),
        np.array(gpu.matrix.get_projection_matrix(), np.float64),
    )
    curve = compose.scene_curve(context.scene)
    scene = compose.make_scene(chosen, context.evaluated_depsgraph_get(), posed, view, curve, _state.shadow)
    with restored_state():
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.depth_mask_set(False)
        gpu.state.blend_set("NONE")
        compose.draw_background(chosen, context.region.width, context.region.height, curve)
        target = _smooth_target(context.region, chosen) if posed else None
        if target is None:
            compose.draw_heads(scene, posed, time.perf_counter(), chosen.seed)
            return
        with target.bound() as frame:
            frame.clear(color=(0.0, 0.0, 0.0, 0.0), depth=1.0)
            compose.draw_heads(scene, posed, time.perf_counter(), chosen.seed)
        draw_over(target)


def _smooth_target(region, chosen) -> Target | None:
    """Return a target of twice the viewport's size, or None where edges are not to be smoothed."""
    size = 2 * region.width, 2 * region.height
    if not chosen.smooth or size[0] * size[1] > SMOOTH_LIMIT:
        return None
    if size not in _state.smooth:
        if len(_state.smooth) >= 8:  # viewports come in few sizes, except while one is dragged
            _state.smooth.clear()
        _state.smooth[size] = Target(*size, "RGBA16F")
    return _state.smooth[size]


def _draw_window() -> None:
    if properties.settings(bpy.context.scene).placement == "WINDOW":
        guarded(_window)


def _window() -> None:
    context = bpy.context
    region, chosen = context.region, properties.settings(context.scene)
    height = max(int(region.height * chosen.size), 32)
    width = max(int(height * 0.8), 32)
    posed = _posed_for(context)
    if _state.window is None or (_state.window.width, _state.window.height) != (2 * width, 2 * height):
        _state.window = Target(2 * width, 2 * height, "RGBA16F")
    curve = compose.scene_curve(context.scene)
    if posed:
        compose.draw_picture_of(
            _state.window,
            chosen,
            context.evaluated_depsgraph_get(),
            posed,
            portrait(posed, width / height),
            curve=curve,
            time=time.perf_counter(),
            shadow=_state.shadow,
        )
    margin = 12
    right = region.width - margin - _sidebar_width(context)
    areas = [(_state.window.colour, right - width, width, False)] if posed else []
    size = compose.camera.size
    if chosen.camera_beside and size:
        wide = int(height * size[0] / size[1])
        areas.append((compose.camera.texture(), right - width * bool(posed) - wide, wide, True))
    with restored_state():
        gpu.state.depth_test_set("NONE")
        gpu.state.depth_mask_set(False)
        for picture, left, wide, from_camera in areas:
            gpu.state.blend_set("NONE" if from_camera else "ALPHA_PREMULT")
            low = 2.0 * margin / region.height - 1.0
            area = (
                2.0 * left / region.width - 1.0,
                low,
                2.0 * (left + wide) / region.width - 1.0,
                low + 2.0 * height / region.height,
            )
            draw_picture(picture, area, top_first=from_camera and compose.camera.top_first)


def _sidebar_width(context) -> int:
    """Return how much of the viewport the sidebar covers."""
    for region in context.area.regions:
        if region.type == "UI" and region.width > 1 and context.preferences.system.use_region_overlap:
            return region.width
    return 0


def portrait(posed: list[Posed], aspect: float) -> View:
    """Return a portrait lens's view of all faces from the front.

    It stays where it is when a head turns: a camera on a stand, not on a helmet.
    """
    posed = compose.faces_or_all(posed)
    frames = [item.head.frame for item in posed]
    first = posed[0].head
    turn = first.matrix[:3, :3] / np.maximum(np.linalg.norm(first.matrix[:3, :3], axis=0), 1e-9)
    unit = max(float(np.linalg.norm(frame[:3, 0])) for frame in frames)
    middles = np.array([item.head.rest_middle() for item in posed])
    centre = middles.mean(axis=0) - turn[:, 2] * 0.12 * unit
    spread = float(np.abs((middles - centre) @ turn[:, 0]).max())
    half = max(2.6 * unit, (spread + 1.9 * unit) / aspect)
    distance = half / np.tan(np.radians(9.0))
    axes = np.eye(4)
    axes[:3, :3] = np.stack((turn[:, 0], turn[:, 2], -turn[:, 1]))
    axes[:3, 3] = -axes[:3, :3] @ (centre - turn[:, 1] * distance)
    near, far = 0.2 * distance, 3.0 * distance
    slope = distance / half
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = slope / aspect, slope
    projection[2, 2], projection[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = -1.0
    return View(axes, projection)


def _show_camera(picture) -> None:
    """Take the live picture, if any viewport shows it; None takes it away."""
    if picture is None:
        compose.camera.set(None)
        redraw()
        return
    if not running():
        return
    compose.camera.set_rgba(picture.width, picture.height, picture.pixels)
    if any(wants_camera(window.scene) for window in bpy.context.window_manager.windows):
        redraw()


def wants_camera(scene) -> bool:
    """Whether a scene's preview shows what the camera sees."""
    chosen = properties.settings(scene)
    return chosen.background == "CAMERA" or (chosen.placement == "WINDOW" and chosen.camera_beside)


@persistent
def _before_load(*_args) -> None:
    stop()
    samples.clear()
    playback.forget()
    compose.camera.set(None)


@persistent
def _after_load(*_args) -> None:
    """A file recovered from an auto-save has its heads hidden where the preview ran."""
    _show_again()


@persistent
def _after_undo(*_args) -> None:
    doubt(_state.heads.values())
    if running():
        place_heads()
    else:
        _show_again()  # the step may be one that was made while the preview ran


@persistent
def _after_update(_scene, depsgraph) -> None:
    playback.note_changes(depsgraph.updates)  # renders play takes, and are of looks, too
    looks.note_changes(depsgraph)
    if running():
        note_changes(_state.heads.values(), depsgraph.updates)


@persistent
def _after_frame(_scene, depsgraph) -> None:
    looks.note_changes(depsgraph)  # of another frame Blender tells nobody else


@persistent
def _before_save(*_args) -> None:
    """A file saved while the preview runs must not open with its heads hidden."""
    _show_again()


@persistent
def _after_save(*_args) -> None:
    place_heads()


_HANDLERS = (
    ("load_pre", _before_load),
    ("load_post", _after_load),
    ("undo_post", _after_undo),
    ("redo_post", _after_undo),
    ("depsgraph_update_post", _after_update),
    ("frame_change_post", _after_frame),
    ("save_pre", _before_save),
    ("save_post", _after_save),
    ("save_post_fail", _after_save),
)


def register():
    session.picture_followers.append(_show_camera)
    for name, function in _HANDLERS:
        getattr(bpy.app.handlers, name).append(function)


def unregister():
    stop()
    samples.clear()
    playback.forget()
    compose.camera.set(None)
    for name, function in reversed(_HANDLERS):
        getattr(bpy.app.handlers, name).remove(function)
    session.picture_followers.remove(_show_camera)
