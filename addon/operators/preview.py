"""Operators of the preview."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import bpy
from bpy_extras.io_utils import ExportHelper

from ...core.errors import MienError
from .. import live_workflow, workflow
from ..expressions import BASIC
from ..ids import (
    OP_PREVIEW,
    OP_PREVIEW_EXPRESSION,
    OP_PREVIEW_EXPRESSION_REMOVE,
    OP_PREVIEW_EXPRESSION_SAVE,
    OP_PREVIEW_RENDER_TAKE,
)
from ..preview import overlay, playback
from ..preview.properties import add_effects, settings
from ..preview.reading import left_out, left_out_of_a_take
from ..registration import register_classes, unregister_classes
from ..rig.mapping import channels_worn, mapping_of
from ..rig.targets import find_further, find_target, listed

_START = "Start the preview first"


def _preview_runs(operator: type[bpy.types.Operator]) -> bool:
    """Return whether the preview runs; if not, the button says what to do."""
    if not overlay.running():
        operator.poll_message_set(_START)
        return False
    return True


class MIEN_OT_preview(bpy.types.Operator):
    bl_idname = OP_PREVIEW
    bl_label = "Preview"
    bl_description = "Draw the faces on the GPU, in every 3D viewport, without waiting for their shape keys"

    def execute(self, context):
        if overlay.running():
            overlay.stop()
        else:
            add_effects(settings(context.scene))
            overlay.start()
            if overlay.problem:
                self.report({"WARNING"}, overlay.problem)
        live_workflow.tune()  # the camera's picture may be larger now
        return {"FINISHED"}


class MIEN_OT_preview_expression(bpy.types.Operator):
    bl_idname = OP_PREVIEW_EXPRESSION
    bl_label = "Wear Expression"
    bl_description = "Lay this expression over the captured face; again takes it off"
    bl_options = {"REGISTER", "UNDO"}

    # Not of the last run: a button or key sets one of the two, and Blender would fill in the other.
    name: bpy.props.StringProperty(
        name="Expression", description="A basic expression, or one that was saved", options={"SKIP_SAVE"}
    )
    own: bpy.props.IntProperty(
        name="Own",
        description="In place of a name: the first, second ... of the saved expressions",
        default=0,
        min=0,
        options={"SKIP_SAVE"},
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How far it covers the capture",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        # What is worn can be taken off at any time: renders show it, too.
        chosen = settings(context.scene)
        return (bool(chosen.expression) and chosen.strength > 0.0) or _preview_runs(cls)

    def execute(self, context):
        chosen = settings(context.scene)
        name = self.name
        if self.own:
            name = chosen.expressions.keys()[self.own - 1] if self.own <= len(chosen.expressions) else ""
        if name not in BASIC and name not in chosen.expressions:
            self.report({"WARNING"}, f"There is no expression {name or f'{self.own} of your own yet'}")
            return {"CANCELLED"}
        worn = chosen.expression == name and chosen.strength > 0.0
        if not worn and not overlay.running():
            self.report({"WARNING"}, _START)
            return {"CANCELLED"}
        chosen.expression = name
        chosen.strength = 0.0 if worn else self.strength
        return {"FINISHED"}


def free_name(taken: Collection[str]) -> str:
    """Return a name for the next expression.

    >>> free_name(["Expression", "Smirk"])
    'Expression 2'
    """
    names = ("Expression", *(f"Expression {number}" for number in range(2, len(taken) + 2)))
    return next(name for name in names if name not in taken)


class MIEN_OT_preview_expression_save(bpy.types.Operator):
    bl_idname = OP_PREVIEW_EXPRESSION_SAVE
    bl_label = "Save Expression"
    bl_description = "Keep the face of the active head, as the preview shows it, as an expression of this file"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(
        name="Name",
        description="Name of the expression; one that is saved already is replaced",
        default="Expression",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        if not _preview_runs(cls):
            return False
        if not overlay.heads_of(context.scene):
            cls.poll_message_set("There is no mesh with shape keys that Mien knows, by name or by Mapping")
            return False
        return True

    def invoke(self, context, _event):
        self.name = free_name(settings(context.scene).expressions.keys())
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context):
        name = self.name.strip()
        if not name or name.casefold() in BASIC:
            self.report({"WARNING"}, "Give the expression a name of its own")
            return {"CANCELLED"}
        active = context.object in overlay.heads_of(context.scene)
        obj = context.object if active else overlay.main_face(context.scene)
        chosen = settings(context.scene)
        if name in chosen.expressions:
            self.report({"INFO"}, f"The earlier {name} was replaced")
        kept = chosen.expressions.get(name) or chosen.expressions.add()
        kept.name = name
        kept.values.clear()
        # By channels, so that other heads can wear it, and labels set it off.
        for channel, value in channels_worn(overlay.face_of(obj), mapping_of(obj)).items():
            item = kept.values.add()
            item.name, item.value = channel, value
        chosen.expression = name
        live_workflow.tune()  # a label may set it off
        return {"FINISHED"}


class MIEN_OT_preview_expression_remove(bpy.types.Operator):
    bl_idname = OP_PREVIEW_EXPRESSION_REMOVE
    bl_label = "Remove Expression"
    bl_description = "Forget an expression that was saved in this file"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(name="Name", description="Name of the expression")

    def execute(self, context):
        chosen = settings(context.scene)
        at = chosen.expressions.find(self.name)
        if at < 0:
            return {"CANCELLED"}
        chosen.expressions.remove(at)
        live_workflow.tune()
        return {"FINISHED"}


def named_for(path: str, film: bool) -> str:
    """Return the name of a film, or of pictures without their numbers; the end of shot.010 is no kind of file.

    >>> named_for("shot.010", film=True), named_for("shot.010.mp4", film=False)
    ('shot.010.mp4', 'shot.010')
    """
    stem = path[:-4] if path.lower().endswith((".mp4", ".png")) else path
    if not film or stem.endswith(("/", "\\")) or not stem:
        return stem
    return f"{stem}.mp4"


def told_of(meshes: Iterable[bpy.types.Object]) -> list[str]:
    """Return sentences about what the render of a take shows otherwise than a bake of it, each with whose it is."""
    names: dict[str, list[str]] = {}
    for mesh in meshes:
        if not mesh.hide_render:
            for notice in (*left_out(mesh, final=True), *left_out_of_a_take(mesh)):
                names.setdefault(notice, []).append(mesh.name)
    return [f"{listed(each)}: {notice}" for notice, each in names.items()]


class MIEN_OT_preview_render_take(bpy.types.Operator, ExportHelper):
    bl_idname = OP_PREVIEW_RENDER_TAKE
    bl_label = "Render Take"
    bl_description = (
        "Render the take baked last through Mien Preview, with light and background as set, as a film or pictures"
    )

    filename_ext = ".mp4"
    filter_glob: bpy.props.StringProperty(default="*.mp4;*.png", options={"HIDDEN"})
    film: bpy.props.BoolProperty(name="Film", description="One MP4 file instead of a PNG per frame", default=True)

    @classmethod
    def poll(cls, context):
        if not workflow.settings(context).take:
            cls.poll_message_set("Bake once, or choose a take")
            return False
        if playback.busy():
            cls.poll_message_set("A take is being rendered: wait for it, or stop it with Esc")
            return False
        return True

    def check(self, _context):
        named = named_for(self.filepath, self.film)
        changed = named != self.filepath
        self.filepath = named
        return changed

    def invoke(self, context, event):
        self.filepath = workflow.named_after_take(context, self.filepath, ".mp4")
        return ExportHelper.invoke(self, context, event)

    def execute(self, context):
        chosen = workflow.settings(context)
        head = chosen.target or overlay.main_face(context.scene)
        if head is None:
            self.report({"ERROR"}, "There is no head to render: choose one as Target")
            return {"CANCELLED"}
        path = Path(named_for(bpy.path.abspath(self.filepath), self.film))
        if not self.film:
            path = path.with_name(f"{path.name}_####")
        try:
            take = Path(bpy.path.abspath(chosen.take))
            further, notices = find_further(workflow.further_heads(context.scene))
            start = workflow.start_of(take, context.scene)
            cast = playback.read_cast(take, [find_target(head, need_keys=False), *further], context.scene, start)
            scene = playback.begin(
                context,
                head,
                cast,
                path,
                film=self.film,
                start=start,
                heard=workflow.heard_of(context.scene, take) if chosen.use_sound else None,
                delay=chosen.sound_delay / 1000.0,
            )
        except MienError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if head.hide_render:
            notices.append(f"{head.name} is hidden in renders: turn on Renders under Visibility in its Object tab")
        played = (obj for obj in context.scene.objects if obj.session_uid in cast)
        for notice in (*notices, *told_of(played)):
            self.report({"WARNING"}, notice)
        how = "EXEC_DEFAULT" if bpy.app.background else "INVOKE_DEFAULT"
        outcome = {"CANCELLED"}
        try:
            # With a window Blender's own render job: its progress bar, its Esc.
            outcome = bpy.ops.render.render(how, animation=True, scene=scene)
        except RuntimeError as error:  # what Blender reports of a render that fails
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
        finally:
            if "RUNNING_MODAL" in outcome:
                bpy.app.timers.register(playback.look_for_end, first_interval=0.5)
            else:
                playback.finish()
        return {"CANCELLED"} if "CANCELLED" in outcome else {"FINISHED"}


CLASSES = (
    MIEN_OT_preview,
    MIEN_OT_preview_expression,
    MIEN_OT_preview_expression_save,
    MIEN_OT_preview_expression_remove,
    MIEN_OT_preview_render_take,
)

_keys: list = []
"""Hot keys in Mien's own layer of the key map."""


def register():
    register_classes(CLASSES)
    keys = bpy.context.window_manager.keyconfigs.addon if bpy.context.window_manager else None
    if keys is None:  # no window
        return
    layer = keys.keymaps.new(name="3D View", space_type="VIEW_3D")
    digits = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "ZERO")
    wanted = [{"name": name} for name in BASIC] + [{"own": number} for number in (1, 2, 3)]
    for digit, values in zip(digits, wanted, strict=True):
        item = layer.keymap_items.new(OP_PREVIEW_EXPRESSION, digit, "PRESS", ctrl=True, alt=True)
        for name, value in values.items():
            setattr(item.properties, name, value)
        _keys.append((layer, item))


def unregister():
    for layer, item in _keys:
        layer.keymap_items.remove(item)
    _keys.clear()
    unregister_classes(CLASSES)
