"""What belongs to the user and not to a file."""

from __future__ import annotations

from pathlib import Path

import bpy

from . import session
from .ids import ROOT_PACKAGE
from .properties import tune_live


def _follow_folder(self, _context) -> None:
    """List what is in the folder. ``//`` is that of the open file alone: where there is none, the default holds."""
    from .live_workflow import refresh_takes_soon

    folder = self.folder()
    if folder != self.takes_folder:
        self.takes_folder = folder  # which comes here again
        return
    refresh_takes_soon()


class MienPreferences(bpy.types.AddonPreferences):
    bl_idname = ROOT_PACKAGE

    takes_folder: bpy.props.StringProperty(
        name="Takes Folder",
        description="Where captured takes are kept, whatever file is open. Leave empty for Blender's folder for this "
        "extension's data",
        subtype="DIR_PATH",
        update=_follow_folder,
    )
    # Not in the file: one from somebody else, or an undo, may open no port and no microphone.
    lan: bpy.props.BoolProperty(
        name="Local Network",
        description="Listen to other machines and phones of the local network, and send to them. Off, Mien's ports are "
        "closed to everything but this machine. Needs Blender's online access. Kept in the preferences, in no file",
    )
    microphone: bpy.props.BoolProperty(
        name="Microphone",
        description="Record sound with every take, in sync. The microphone is open while live, for the level, and "
        "what it hears is kept in takes alone. Kept in the preferences, in no file",
        update=tune_live,
    )

    def folder(self) -> str:
        """Return the takes folder; ``""`` where none is set, or one that is relative to whatever file is open."""
        folder = bpy.path.abspath(self.takes_folder)
        return folder if Path(folder).is_absolute() else ""

    def draw(self, _context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "takes_folder", placeholder=str(default_takes_folder()))
        live = session.live_running()
        row = layout.row()
        row.enabled = not live  # the ports are open
        row.prop(self, "lan")
        if live:
            layout.label(text="Stop live capture to change Local Network", icon="INFO")
        layout.prop(self, "microphone")


def get_preferences() -> MienPreferences | None:
    """Return Mien's preferences; None where Mien was registered without being enabled (scripts, tests)."""
    addon = bpy.context.preferences.addons.get(ROOT_PACKAGE)
    return addon.preferences if addon is not None else None


def allowed(what: str) -> bool:
    """Return whether the user switched on ``"lan"`` or ``"microphone"`` on this machine."""
    preferences = get_preferences()
    return preferences is not None and getattr(preferences, what)


def default_takes_folder() -> Path:
    """Return where takes are kept unless the user says otherwise."""
    return _data_folder("takes")


def actors_folder() -> Path:
    """Return where actors' own expressions are kept; it may not exist yet."""
    return _data_folder("actors")


def _data_folder(name: str) -> Path:
    try:
        return Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path=name))
    except ValueError:
        # Run from a checkout, not installed as an extension.
        return Path(bpy.utils.user_resource("DATAFILES", path=f"mien/{name}"))


def takes_folder() -> Path:
    """Return where takes are kept; it may not exist yet."""
    preferences = get_preferences()
    # An earlier Mien kept relative ones, too.
    folder = preferences.folder() if preferences is not None else ""
    return Path(folder) if folder else default_takes_folder()


def register():
    bpy.utils.register_class(MienPreferences)


def unregister():
    bpy.utils.unregister_class(MienPreferences)
