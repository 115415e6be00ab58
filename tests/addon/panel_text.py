"""What a panel draws, without a window."""

from __future__ import annotations

from types import SimpleNamespace

import bpy


class Layout:
    """Stands in for `bpy.types.UILayout`: notes each text, property and operator with the layout that it stands in."""

    def __init__(self, drawn: list, parent: Layout | None = None):
        self._drawn, self._parent = drawn, parent
        self.enabled, self.alert = True, False

    @property
    def usable(self) -> bool:
        return self.enabled and (self._parent is None or self._parent.usable)

    def _inside(self, **_more) -> Layout:
        return Layout(self._drawn, self)

    row = column = box = grid_flow = _inside

    def label(self, text="", **_more):
        self._drawn.append((text, self))

    def prop(self, _data, name, **_more):
        self._drawn.append((name, self))

    def operator(self, name, text=None, **_more):
        self._drawn.append((name, self))
        self._drawn.append((text or "", self))
        return SimpleNamespace()

    def progress(self, text="", **_more):
        self._drawn.append((text, self))

    def separator(self):
        pass

    def template_icon(self, **_more):
        pass

    def template_list(self, *_more, **_options):
        pass


def drawn_by(panel: type[bpy.types.Panel]) -> dict[str, Layout]:
    """Return what a panel draws: each text, property and operator, with where it stands (the last one counts)."""
    drawn: list = []
    # Blender alone makes panels; its methods are all that drawing needs.
    members = {name: value for name, value in vars(panel).items() if not name.startswith(("__", "bl_"))}
    stand_in = type(panel.__name__, (), members)()
    stand_in.layout = Layout(drawn)
    context = SimpleNamespace(
        scene=bpy.context.scene,
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
        window_manager=bpy.context.window_manager,
        region=SimpleNamespace(width=10_000),
    )
    stand_in.draw(context)
    return dict(drawn)
