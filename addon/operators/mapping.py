"""What a head's shape keys stand for: chosen by hand, or told by their names."""

from __future__ import annotations

import contextlib

import bpy

from .. import session, workflow
from ..ids import HEAD_BONES, HEAD_SHAPES, OP_ADD_HEAD_BONES, OP_MAP_BY_NAME, OP_MAP_SHAPES
from ..rig.head_bones import add_head_bones
from ..rig.mapping import armature_of, guess_shapes, is_seen
from ..rig.names import covered
from ..rig.targets import is_ours, listed


class _OnHead:
    """An operator on the head that is chosen as target."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        mesh = workflow.settings(context).target
        if mesh is None or mesh.type != "MESH" or mesh.data.shape_keys is None:
            cls.poll_message_set("Choose a head with shape keys under Target")
            return False
        if not is_ours(mesh):
            cls.poll_message_set("The head is linked from another file: make it local, or override it")
            return False
        if session.busy():
            cls.poll_message_set("Mien is at work on the head: wait for it, or stop it")
            return False
        return True

    def execute(self, context):
        return self.work(workflow.settings(context).target)


def _remove(rows, place: int) -> None:
    """Remove a row; one that an override has from its library can only be emptied."""
    try:
        rows.remove(place)
    except TypeError:
        rows[place].channel, rows[place].strength = "", 1.0


class MIEN_OT_map_shapes(_OnHead, bpy.types.Operator):
    """List the head's shape keys, to choose what moves each; what their names tell is filled in. Again, it adds \
shape keys that are new and drops those that are gone"""

    bl_idname = OP_MAP_SHAPES
    bl_label = "Map Shape Keys"

    def work(self, mesh):
        rows, key = getattr(mesh, HEAD_SHAPES), mesh.data.shape_keys
        names = [block.name for block in key.key_blocks if block != key.reference_key]
        for i in reversed(range(len(rows))):
            if rows[i].name not in names:
                _remove(rows, i)
        taken = frozenset(row.channel for row in rows)
        guesses = guess_shapes(tuple(names), taken)
        for name in names:
            if name not in rows:
                row, channel = rows.add(), guesses.get(name, "")
                # Beside the ARKit shapes that make it a unit would move the face twice.
                row.name, row.channel = name, "" if covered(channel, taken.union(guesses.values())) else channel
        # In the order of the head's own list, as far as rows of a library may be moved.
        with contextlib.suppress(TypeError):
            for place, name in enumerate(names):
                if rows[place].name != name:
                    rows.move(rows.find(name), place)
        found = sum(bool(row.channel) for row in rows)
        self.report({"INFO"}, f"{found} of {len(names)} shape keys have a channel")
        return {"FINISHED"}


class MIEN_OT_map_by_name(_OnHead, bpy.types.Operator):
    """Forget what was chosen, and go by the names of shape keys and bones again"""

    bl_idname = OP_MAP_BY_NAME
    bl_label = "By Names Again"

    def work(self, mesh):
        rows = getattr(mesh, HEAD_SHAPES)
        for i in reversed(range(len(rows))):
            _remove(rows, i)
        for setting in HEAD_BONES.values():
            setattr(mesh, setting, "")
        return {"FINISHED"}


class MIEN_OT_add_head_bones(_OnHead, bpy.types.Operator):
    """Put an armature with the bones neck and head under a head that has none, so that it turns with the actor's. \
The further heads, and what is selected, turn along"""

    bl_idname = OP_ADD_HEAD_BONES
    bl_label = "Add Head Bones"

    whole: bpy.props.BoolProperty(
        name="All under Its Parent",
        description="Whatever hangs on the same parent as the head turns along, as ears, hair and teeth of an import, "
        "unless an armature, a camera or a light is among it",
        default=True,
    )

    @classmethod
    def poll(cls, context):
        if not super().poll(context):
            return False
        mesh = workflow.settings(context).target
        if armature_of(mesh) is not None:
            cls.poll_message_set("The head has an armature: choose its bones under Mapping")
            return False
        if context.mode != "OBJECT" or not is_seen(mesh, context.view_layer):
            cls.poll_message_set("Show the head, and go to Object Mode")
            return False
        return True

    def work(self, mesh):
        context = bpy.context
        along = [*workflow.further_heads(context.scene), *context.selected_objects]
        armature = add_head_bones(context, mesh, along, whole=self.whole)
        self.report({"INFO"}, f"{armature.name} turns {listed(obj.name for obj in armature.children)}")
        held = [obj.name for obj in armature.children if any(not c.mute and c.influence for c in obj.constraints)]
        if held:
            self.report({"WARNING"}, f"Constraints may hold {listed(held)} where it is")
        return {"FINISHED"}
