"""The sample head as a collection in the scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import MienError

if TYPE_CHECKING:
    import bpy

FILE = Path(__file__).resolve().parents[1] / "sample_rigs" / "mien_head.blend"

COLLECTION = "Mien Head"


def append_sample_head(context: bpy.types.Context) -> tuple[bpy.types.Object, bpy.types.Object | None]:
    """Append the sample head's collection to the context's scene.

    Added a second time it is a head of its own, under the next free names. The head's
    camera becomes the scene's where it has none.

    Returns
    -------
    mesh : bpy.types.Object
    armature : bpy.types.Object or None

    Raises
    ------
    MienError
        ``"scene-linked"``, ``"sample-head-missing"``, ``"sample-head-damaged"`` or ``"sample-head-open"``.
    """
    import bpy

    scene = context.scene
    if scene.library is not None:
        raise MienError(
            "scene-linked",
            f'The scene "{scene.name}" is linked from {scene.library.name} and cannot be changed here.',
            "Choose a scene of this file, or make it local.",
        )
    if not FILE.is_file():
        raise MienError(
            "sample-head-missing",
            f"The sample head is not at {FILE}.",
            "Install the Mien extension again; in a checkout, build it with sample_rigs.",
        )
    if bpy.data.filepath and Path(bpy.data.filepath).resolve() == FILE:
        raise MienError(
            "sample-head-open", f"{FILE.name} is the file that is open.", "Its head is here: choose it as Target."
        )
    try:
        with bpy.data.libraries.load(str(FILE), link=False) as (source, wanted):
            wanted.collections = [name for name in source.collections if name == COLLECTION]
    except OSError as error:
        raise MienError(
            "sample-head-damaged", f"The sample head cannot be read: {error}.", "Install the Mien extension again."
        ) from error
    collection = wanted.collections[0] if wanted.collections else None
    heads = [o for o in collection.all_objects if o.type == "MESH" and o.data.shape_keys] if collection else []
    if not heads:
        if collection is not None:
            bpy.data.collections.remove(collection)
        raise MienError(
            "sample-head-damaged", f"The file {FILE.name} holds no head.", "Install the Mien extension again."
        )
    scene.collection.children.link(collection)
    if scene.camera is None:
        scene.camera = next((o for o in collection.all_objects if o.type == "CAMERA"), None)
    return heads[0], heads[0].find_armature()


def enclosing(context: bpy.types.Context, mesh: bpy.types.Object) -> list[str]:
    """Return the names of visible meshes whose bounds hold all of the head, which is not seen then."""
    context.view_layer.update()
    low, high = _bounds(mesh)
    names = []
    for obj in context.visible_objects:
        if obj.type == "MESH" and obj != mesh:
            other_low, other_high = _bounds(obj)
            if all(a < b for a, b in zip(other_low, low, strict=True)) and all(
                a > b for a, b in zip(other_high, high, strict=True)
            ):
                names.append(obj.name)
    return names


def _bounds(obj: bpy.types.Object) -> tuple[list[float], list[float]]:
    """Return the lowest and highest x, y, z of an object in the world."""
    from mathutils import Vector

    axes = list(zip(*(obj.matrix_world @ Vector(corner) for corner in obj.bound_box), strict=True))
    return [min(axis) for axis in axes], [max(axis) for axis in axes]
