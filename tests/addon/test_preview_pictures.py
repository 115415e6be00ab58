"""Pixels, in software on Mesa as well as on a GPU. Golden pictures: see `preview_helpers.compare`."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from mien.addon import preview  # noqa: E402
from mien.addon.preview.expressions import BASIC  # noqa: E402
from mien.addon.preview.particles import EFFECTS  # noqa: E402
from mien.addon.sample_head import append_sample_head  # noqa: E402
from mien.core.units import UNITS  # noqa: E402

from .preview_helpers import Studio, compare, render, save, sheet, with_gpu  # noqa: E402


def turn(axis: int, degrees: float):
    q = [math.cos(math.radians(degrees) / 2), 0.0, 0.0, 0.0]
    q[1 + axis] = math.sin(math.radians(degrees) / 2)
    return tuple(q)


@pytest.fixture
def head():
    return append_sample_head(bpy.context)[0]


def shots(head, each, tmp_path, name, columns, **options):
    """Draw a list of pictures and compare their sheet."""

    def job(depsgraph):
        studio = Studio(depsgraph, head, **options)
        studio.chosen.background = "GRADIENT"
        return [each(studio, item) for item in range(each.count)]

    pictures = with_gpu(job)
    compare(name, save(tmp_path / f"{name}.png", sheet(pictures, columns)))
    return pictures


def counted(count):
    def mark(function):
        function.count = count
        return function

    return mark


def test_each_unit(head, tmp_path):
    @counted(len(UNITS) + 1)
    def each(studio, i):
        weights = {UNITS[i - 1]: 1.0} if i else {}
        bones = {"jaw": turn(0, 20)} if weights.get("JawOpen") else {}
        return studio.shoot(weights, bones)

    pictures = shots(head, each, tmp_path, "units", 4)
    for unit, picture in zip(UNITS, pictures[1:], strict=True):
        assert np.abs(picture - pictures[0]).max() > 0.05, f"{unit} changes nothing"


def test_the_seven_expressions(head, tmp_path):
    names = list(BASIC)

    @counted(len(names))
    def each(studio, i):
        studio.chosen.expression, studio.chosen.strength = names[i], 1.0
        return studio.shoot()

    shots(head, each, tmp_path, "expressions", 4)


def test_bones(head, tmp_path):
    poses = [
        {"head": turn(1, 35)},
        {"head": turn(1, -35), "neck": turn(0, 15)},
        {"eye.L": turn(2, 22), "eye.R": turn(2, 22)},
        {"jaw": turn(0, 18)},
    ]

    @counted(len(poses))
    def each(studio, i):
        return studio.shoot({"JawOpen": 0.9} if "jaw" in poses[i] else {}, poses[i])

    shots(head, each, tmp_path, "bones", 4)


def test_light_sets(head, tmp_path):
    names = ("STUDIO", "RIM", "FLAT", "SCENE")

    @counted(len(names))
    def each(studio, i):
        studio.chosen.lighting = names[i]
        return studio.shoot({"Smile": 0.6}, {"head": turn(1, 20)})

    shots(head, each, tmp_path, "lights", 4)


def test_backgrounds(head, tmp_path):
    image = bpy.data.images.new("stripes", 8, 8)
    stripes = np.ones((8, 8, 4), np.float32)
    stripes[:, ::2, :3] = (0.9, 0.3, 0.1)
    image.pixels.foreach_set(stripes.ravel())
    camera = np.zeros((60, 80, 3), np.uint8)
    camera[:30] = (30, 90, 200)  # the sky is above
    camera[30:] = (60, 140, 40)
    preview.set_picture(camera)
    kinds = ("NONE", "COLOUR", "GRADIENT", "IMAGE", "CAMERA")

    @counted(len(kinds))
    def each(studio, i):
        studio.chosen.background, studio.chosen.image = kinds[i], image
        return studio.shoot(zoom=0.7)

    pictures = shots(head, each, tmp_path, "backgrounds", 5)
    assert pictures[0][-1, 0, 3] == 0.0
    assert np.allclose(pictures[4][-1, 0, :3] * 255, (30, 90, 200), atol=2)
    assert np.allclose(pictures[4][0, 0, :3] * 255, (60, 140, 40), atol=40)  # behind the shoulder's edge


@pytest.mark.parametrize("curve", ["plain", "skin", "eye", "hair", "teeth"])
def test_each_shader(head, tmp_path, curve):
    """The same head with every material in one kind of shader."""
    from mien.addon.preview.heads import Head

    def job(depsgraph):
        studio = Studio(depsgraph, head)
        studio.chosen.background = "COLOUR"
        kept = Head(head.session_uid)
        kept.sync(head)
        kept.gpu.looks[:] = [dataclasses.replace(look, kind=curve) for look in kept.gpu.looks]
        kept.sync = lambda *_args, **_options: None  # it would put the materials' own kinds back
        studio.kept[head.session_uid] = kept
        return studio.shoot({"Smile": 0.5, "JawOpen": 0.5}, {"jaw": turn(0, 10)})

    compare(f"shader-{curve}", save(tmp_path / "a.png", with_gpu(job)))


def test_particles(head, tmp_path):
    names = list(EFFECTS)

    @counted(len(names))
    def each(studio, i):
        return studio.shoot(effects={names[i]: 1.0}, time=1.7, zoom=0.85)

    pictures = shots(head, each, tmp_path, "particles", 5)

    @counted(1)
    def again(studio, _i):
        return studio.shoot(effects={names[1]: 1.0}, time=1.7, zoom=0.85)

    def job(depsgraph):
        studio = Studio(depsgraph, head)
        studio.chosen.background = "GRADIENT"
        return again(studio, 0)

    assert np.abs(with_gpu(job) - pictures[1]).max() < 1 / 255  # the same time, the same picture


def test_two_heads(head, tmp_path):
    from mien.addon.preview import compose, overlay

    other = append_sample_head(bpy.context)[0]
    other.mien_preview.location = (0.26, 0.0, 0.0)
    other.mien_preview.rotation = (0.0, 0.0, 0.4)
    head.mien_preview.scale = 0.8

    def job(depsgraph):
        from mien.addon.preview.drawing import AGX, Target

        preview.set_sample(head.name, {"Smile": 1.0})
        preview.set_sample(other.name, {"Frown": 1.0})
        posed = overlay.pose_heads([head, other], bpy.context.scene, None, {})
        chosen = bpy.context.scene.mien_preview
        chosen.background = "GRADIENT"
        target = Target(480, 288, "RGBA16F")
        view = overlay.portrait(posed, 240 / 144)
        compose.draw_picture_of(target, chosen, depsgraph, posed, view, curve=AGX, time=0.0, shadow=compose.ShadowMap())
        return np.clip(target.read().reshape(144, 2, 240, 2, 4).mean(axis=(1, 3)), 0, 1)

    compare("two-heads", save(tmp_path / "a.png", with_gpu(job)))


def test_the_cpu_gives_the_same_picture(head):
    """A head fused by numpy and then drawn without shapes, against the one fused by the vertex shader."""
    from mien.addon.preview import reading
    from mien.addon.preview.drawing import GpuModel
    from mien.addon.preview.render_data import fuse, plane

    weights = {"Smile": 0.8, "BrowRaise": 0.6, "JawOpen": 0.5, "NoseWrinkle": 0.4}
    bones = {"head": turn(1, 15), "jaw": turn(0, 10)}

    def job(depsgraph):
        studio = Studio(depsgraph, head, 180, 216)
        studio.posed(weights, bones)
        kept = studio.kept[head.session_uid]
        kept.sync = lambda *_args, **_options: None
        model = kept.gpu.model
        values = [kept.values[name] for name in model.shapes]
        position, normal, tangent = fuse(model, values, reading.read_bones(head, model.bones, bones))
        along, across = plane(normal)
        flat = np.stack((np.einsum("ij,ij->i", tangent, along), np.einsum("ij,ij->i", tangent, across)), axis=1)
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
        row = model.row.copy()
        row[:, [1, 3]] = 0
        still = dataclasses.replace(
            model, position=position, normal=normal, tangent=np.column_stack((flat, model.tangent[:, 2])), row=row
        )
        # Grain lies on the rest position, which the still one has not kept.
        looks = [dataclasses.replace(look, relief=(0.0, 0.0, 0.0)) for look in kept.gpu.looks]
        occlusion = kept.gpu.occlusion
        pictures = []
        for each in (model, still):
            kept.gpu = GpuModel(each, looks)
            kept.gpu.dress(occlusion)
            pictures.append(studio.shoot(weights, bones))
        return pictures

    on_gpu, on_cpu = with_gpu(job)
    difference = np.abs(on_gpu - on_cpu).max(axis=2)
    assert np.mean(difference <= 1 / 255) > 0.995  # the rest are edges and the shadow's
    assert difference.mean() < 0.1 / 255


def test_the_engine_renders_a_file(head, tmp_path):
    bpy.context.scene.mien_preview.background = "GRADIENT"
    key = head.data.shape_keys.key_blocks["JawOpen"]
    key.value = 0.0
    key.keyframe_insert("value", frame=1)
    key.value = 1.0
    key.keyframe_insert("value", frame=10)
    scene = bpy.context.scene
    scene.frame_set(1)
    closed = render(tmp_path / "closed.png", 120, 144)
    assert closed[..., 3].min() == 1.0
    scene.frame_set(10)
    opened = render(tmp_path / "open.png", 120, 144)
    assert np.abs(opened - closed).max() > 0.1  # the render's own values are those of the frame
    compare("engine", tmp_path / "open.png")


def test_a_modifier_is_drawn_as_blender_has_it(head, tmp_path):
    head.modifiers.new("Decimate", "DECIMATE").ratio = 0.2
    bpy.context.scene.mien_preview.background = "COLOUR"
    picture = render(tmp_path / "a.png", 60, 72)
    assert picture.std() > 0.05


def test_an_empty_scene(tmp_path):
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    picture = render(tmp_path / "a.png", 32, 32)
    assert picture.max() == 0.0


def test_textures_and_normal_maps(tmp_path):
    """A bent sheet with a chequered picture and a normal map of studs, at rest and bent."""
    side = 24
    x, y = np.meshgrid(np.linspace(-0.1, 0.1, side), np.linspace(0, 0.2, side))
    points = np.stack((x, 0 * x, y), axis=-1).reshape(-1, 3)
    first = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    quads = np.stack((first, first + 1, first + side + 1, first + side), axis=1)
    mesh = bpy.data.meshes.new("Sheet")
    mesh.from_pydata(points.tolist(), [], quads.tolist())
    mesh.shade_smooth()
    sheet_object = bpy.data.objects.new("Sheet", mesh)
    bpy.context.collection.objects.link(sheet_object)
    place = np.stack(((points[:, 0] + 0.1) / 0.2, points[:, 2] / 0.2), axis=1)
    mesh.uv_layers.new().uv.foreach_set("vector", place[quads.ravel()].astype(np.float32).ravel())
    sheet_object.shape_key_add(name="Basis")
    key = sheet_object.shape_key_add(name="Smile")
    bent = points + np.stack((0 * x, -0.08 * np.cos(16 * x), 0 * x), axis=-1).reshape(-1, 3)
    key.points.foreach_set("co", bent.astype(np.float32).ravel())
    key.value = 0.0

    def image(name, pixels, space):
        made = bpy.data.images.new(name, *pixels.shape[1::-1])
        made.colorspace_settings.name = space
        made.pixels.foreach_set(pixels.astype(np.float32).ravel())
        made.pack()
        return made

    u, v = np.meshgrid(np.arange(64), np.arange(64))
    chequer = np.ones((64, 64, 4))
    chequer[..., :3] = np.where((((u // 16) + (v // 16)) % 2)[..., None] == 0, (0.8, 0.35, 0.1), (0.1, 0.3, 0.6))
    a, b = (u % 16 - 7.5) / 8, (v % 16 - 7.5) / 8
    inside = a * a + b * b < 0.8
    studs = np.ones((64, 64, 4))
    studs[..., 0] = np.where(inside, 0.5 + 0.45 * a, 0.5)
    studs[..., 1] = np.where(inside, 0.5 + 0.45 * b, 0.5)
    studs[..., 2] = np.where(inside, 0.5 + 0.5 * np.sqrt(np.clip(1 - a * a - b * b, 0, 1)), 1.0)
    material = bpy.data.materials.new("Cloth")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes["Principled BSDF"]
    base, bump, to_normal = (nodes.new(kind) for kind in ("ShaderNodeTexImage",) * 2 + ("ShaderNodeNormalMap",))
    base.image, bump.image = image("chequer", chequer, "sRGB"), image("studs", studs, "Non-Color")
    links.new(base.outputs[0], shader.inputs["Base Color"])
    links.new(bump.outputs[0], to_normal.inputs["Color"])
    links.new(to_normal.outputs[0], shader.inputs["Normal"])
    mesh.materials.append(material)

    def job(depsgraph):
        from mien.addon.preview import overlay

        studio = Studio(depsgraph, sheet_object, 144, 144)
        studio.chosen.background = "COLOUR"
        poses = []
        for weight in (0.0, 1.0):
            overlay.samples.clear()
            poses.append(studio.shoot({"Smile": weight}, zoom=1.1))
        return poses

    pictures = with_gpu(job)
    compare("textures", save(tmp_path / "a.png", sheet(pictures, 2)))
