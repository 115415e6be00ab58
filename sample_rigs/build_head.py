"""Build the sample head: mesh, shape keys, armature, lights and camera, from nothing but this code.

`geometry` makes everything as arrays (no Blender needed), `build` puts it into the open file, and
running the module saves ``mien_head.blend``.

The rest face grows from MediaPipe's canonical face (Apache-2.0; see `canonical`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import canonical, hair, parts
from .parts import Part, srgb
from .shapes import JAW_OPEN_ANGLE, LASH_LIDS, UNITS, Sculptor, detail, follow, sculpt
from .skin import Skin, both, bump, ramp
from .skin import build as build_skin

BLEND = Path(__file__).with_name("mien_head.blend")
SCALE = 0.01
LIFT = 30.0
"""The bust's cut stands on the floor: added to every height, in centimetres."""
GRID = 2.0**-17
"""Coordinates are rounded to this many metres (8 micrometres): the file compresses far better."""
BONES = ("root", "neck", "head", "jaw", "eye.L", "eye.R")

SKIN_TONE = srgb("c98d6f")
LIP_TONE = srgb("b0564f")
IRIS_TONE = srgb("3f7f78")
SWEATER_TONE = srgb("1f5a63")
TRIM_TONE = srgb("246a73")


def _skin_colours(skin: Skin) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB per skin vertex, and the lips' mask."""
    p = skin.points
    lips = np.zeros(len(skin.cage_points))
    left = canonical.mirror_map(canonical.load()[0])
    for rings in (canonical.LIP_UPPER, canonical.LIP_LOWER):
        for ring, amount in zip(rings, (0.30, 1.15, 1.1, 1.1), strict=False):
            for i in ring:
                lips[i] = lips[left[i]] = amount
    for i in (61, 291):
        lips[i] = 0.2
    lips = np.clip(skin.lift(lips[:, None])[:, 0], 0, 1)
    lips = ramp(lips, 0.32, 0.62) * (skin.masks["mouth"] < 0.5)
    colour = np.tile(SKIN_TONE, (len(p), 1))

    def tint(amount, towards):
        nonlocal colour
        amount = np.clip(amount, 0, 1)[:, None]
        colour = colour * (1 - amount) + np.asarray(towards) * amount

    blush = srgb("c4655a")
    tint(0.38 * both(p, [4.3, -3.0, -1.2], [1.7, 2.5, 1.5]), blush)
    tint(0.30 * bump(p, [0, -7.4, -0.7], [1.5, 1.8, 1.2]), blush)
    tint(0.18 * bump(p, [0, -4.6, -8.3], [1.6, 2.0, 1.2]), blush)
    tint(0.25 * both(p, [3.2, -4.2, 3.6], [1.6, 1.5, 0.7]), srgb("9a5a4c"))
    tint(0.16 * both(p, [3.1, -4.2, 1.6], [1.4, 1.5, 0.6]), srgb("a0605a"))
    tint(lips * 0.92, LIP_TONE)
    seam = p[skin.chains["lips"]]
    near = np.min(np.linalg.norm(p[:, None] - seam[None, ::2], axis=2), axis=1)
    tint(0.45 * np.exp(-((near / 0.16) ** 2)), srgb("6d2a2a"))
    tint(0.92 * both(p, [0.62, -6.2, -1.62], [0.40, 0.55, 0.26], 2.0), srgb("3a1613"))
    tint(ramp(skin.masks["mouth"], 0.25, 0.9), srgb("5a1d20"))
    tint(ramp(skin.masks["socket"], 0.3, 0.9), srgb("b06a60"))
    tint(0.9 * ramp(hair.scalp(p), 0.0, 1.0), hair.HAIR * 1.2)
    return colour, lips


def _skin_part(skin: Skin) -> Part:
    p = skin.points
    colour, lips = _skin_colours(skin)
    materials = []
    mouth = skin.masks["mouth"]
    for face in skin.faces:
        ids = list(face)
        if mouth[ids].mean() > 0.55:
            materials.append("MienMouth")
        elif lips[ids].mean() > 0.5:
            materials.append("MienLips")
        else:
            materials.append("MienSkin")
    neck = ramp(p[:, 2], -9.5, -14.5) * ramp(p[:, 1] - 0.35 * (p[:, 2] + 10), -3.0, 1.5)
    root = ramp(p[:, 2], -14.5, -18.5)
    weights = {"head": (1 - neck) * (1 - root), "neck": neck * (1 - root), "root": root}
    turn = np.arctan2(p[:, 0], -(p[:, 1] - 4.0)) / (2 * np.pi) + 0.5
    uv = np.stack([turn, (p[:, 2] + 22) / 36], 1)
    return Part(p, skin.faces, materials, colour, uv, weights, sculpt(skin))


def _brow_line(skin: Skin, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The eyebrow's middle line on the skin, inner end first, and normals there."""
    upper, lower = [107, 66, 105, 63, 70], [55, 65, 52, 53, 46]
    p = skin.points
    line = 0.50 * p[upper] + 0.50 * p[lower]
    line[0] += [-0.05, 0, -0.05]
    line[-1] += [-0.05, 0.1, -0.25]
    u = np.linspace(0, 4, 13)
    line = np.stack([np.interp(u, range(5), line[:, i]) for i in range(3)], 1)
    for _ in range(3):
        line[1:-1] = 0.5 * line[1:-1] + 0.25 * (line[2:] + line[:-2])
    skin_ids = np.flatnonzero((skin.masks["socket"] < 0.1) & (skin.masks["mouth"] < 0.1) & (p[:, 1] < 2))
    near, weight = parts.bind(line, p[skin_ids], 3)
    normals = Sculptor(skin).normals()[skin_ids]
    n = (normals[near] * weight[:, :, None]).sum(1)
    line = (p[skin_ids][near] * weight[:, :, None]).sum(1)
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    if side > 0:
        line, n = line * [-1, 1, 1], n * [-1, 1, 1]
    return line, n


def geometry() -> Part:
    """The whole head as one `Part`, in centimetres."""
    skin = build_skin()
    detail(skin)
    body = _skin_part(skin)
    sculptor = Sculptor(skin)
    # What hair and collar hide for good is left out.
    hidden = (hair.scalp(skin.points + np.array([0, -1.6, -0.9])) > 0) | (skin.points[:, 2] < -15.5)
    pieces = [parts.tidy(body, hidden)]
    outside = np.flatnonzero((skin.masks["socket"] < 0.1) & (skin.masks["mouth"] < 0.1) & (skin.points[:, 1] < 2.0))
    for side in (1.0, -1.0):
        eye = parts.eye(side, IRIS_TONE)
        pieces.append(eye)
        line, normal = _brow_line(skin, side)
        brow = parts.brow(side, line, normal, hair.HAIR * 0.62)
        near, weight = parts.bind(brow.points, skin.points[outside])
        follow(brow, outside[near], weight, body.deltas)
        pieces.append(brow)
        chain = skin.chains["rim.L" if side > 0 else "rim.R"]
        half = len(chain) // 2
        upper = np.r_[0, np.arange(len(chain) - 1, half - 1, -1)]
        lash = parts.lashes(side, skin.points[np.array(chain)[upper]], srgb("17100e"))
        for unit, amounts in LASH_LIDS.items():
            amount = amounts[0] if side > 0 else amounts[1]
            if amount:
                lash.deltas[unit] = sculptor.lids(side, amount, 0.0, lash.points, rigid=True)
        pieces.append(lash)
        pieces.append(parts.ear(side, SKIN_TONE))
    pieces += [parts.teeth(True), parts.teeth(False), parts.tongue(), hair.build(hair.HAIR)]
    pieces.append(parts.sweater(SWEATER_TONE, TRIM_TONE))
    return parts.join(pieces)


def build(scene=None):
    """Build the head into the open file.

    Parameters
    ----------
    scene : bpy.types.Scene, optional
        The scene that gets the collection, the camera and the world (the current one).

    Returns
    -------
    bpy.types.Object
        The mesh object ``MienHead``.
    """
    import bpy

    from . import studio
    from .materials import COLOUR, SPECS, average, material

    scene = scene or bpy.context.scene
    head = geometry()
    points = (head.points + np.array([0, 0, LIFT])) * SCALE
    mesh = bpy.data.meshes.new("MienHead")
    points = np.round(points / GRID) * GRID
    mesh.from_pydata(points.tolist(), [], head.faces)
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
    names = list(SPECS)
    for name in names:
        mesh.materials.append(material(name))
    slot = np.array([names.index(name) for name in head.materials], np.int32)
    mesh.polygons.foreach_set("material_index", slot)
    rgba = np.ones((len(points), 4), np.float32)
    rgba[:, :3] = head.colours
    attribute = mesh.color_attributes.new(COLOUR, "BYTE_COLOR", "POINT")
    attribute.data.foreach_set("color", rgba.ravel())
    _write_uv(mesh, head.uv)
    for index, name in enumerate(names):
        used = [v for face, s in zip(head.faces, slot, strict=False) if s == index for v in face]
        average(name, head.colours[used])

    body = bpy.data.objects.new("MienHead", mesh)
    collection = bpy.data.collections.new("Mien Head")
    scene.collection.children.link(collection)
    collection.objects.link(body)
    body.shape_key_add(name="Basis", from_mix=False)
    for unit in UNITS:
        key = body.shape_key_add(name=unit, from_mix=False)
        key.slider_min, key.slider_max, key.value = 0.0, 1.0, 0.0
        moved = points + np.round(head.deltas[unit] * SCALE / GRID) * GRID
        key.data.foreach_set("co", moved.astype(np.float32).ravel())
    for bone, weight in head.weights.items():
        group = body.vertex_groups.new(name=bone)
        for value in np.unique(np.round(weight, 3)):
            if value > 0:
                group.add(np.flatnonzero(np.round(weight, 3) == value).tolist(), float(value), "REPLACE")
    rig = studio.armature(collection, body)
    studio.dress(scene, collection)
    mesh.update()
    rig["mien_jaw_open_angle"] = JAW_OPEN_ANGLE
    return body


def _write_uv(mesh, uv: np.ndarray) -> None:
    """Write per-vertex coordinates to the corners, opening the seam where they wrap round."""
    layer = mesh.uv_layers.new(name="UVMap")
    corners = np.zeros(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    values = uv[corners].copy()
    start = np.zeros(len(mesh.polygons), np.int32)
    total = np.zeros(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_start", start)
    mesh.polygons.foreach_get("loop_total", total)
    for a, n in zip(start, total, strict=False):
        u = values[a : a + n, 0]
        if np.ptp(u) > 0.5:
            u[u < 0.5] += 1.0
    layer.data.foreach_set("uv", values.astype(np.float32).ravel())


def save(path: str | Path = BLEND) -> Path:
    """Build into an empty file and save it, compressed."""
    import bpy

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.context.preferences.filepaths.save_version = 0  # no .blend1 beside it
    build()
    bpy.ops.outliner.orphans_purge(do_recursive=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=True, relative_remap=False)
    return Path(path)


def main() -> None:
    """Save ``mien_head.blend``."""
    path = save()
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
