"""What a head's shape keys stand for: chosen by hand, or told by their names."""

from __future__ import annotations

import contextlib

import bpy

from .. import session, workflow
from ..ids import HEAD_BONES, HEAD_SHAPES, OP_MAP_BY_NAME, OP_MAP_SHAPES
from ..rig.mapping import guess_shapes
from ..rig.names import covered
from ..rig.targets import is_ours


class _OnHead:
    """An operator on the head that is chosen as target."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        mesh = workflow.settings(context).target
        if mesh is None or mesh.data.shape_keys is None:
            cls.poll_message_set("Choose a head with shape keys under Target")
            return False
        if not is_ours(mesh):
            cls.poll_message_set("The head is linked from another file: make it local, or override it")
            return False
        if session.running() or session.live_running():
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
