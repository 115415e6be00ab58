"""Pixels, in software on Mesa as well as on a GPU. Golden pictures: see `preview_helpers.compare`."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from mien.addon import preview  # noqa: E402
from mien.addon.expressions import BASIC  # noqa: E402
from mien.addon.preview.drawing import GpuModel  # noqa: E402
from mien.addon.preview.particles import EFFECTS  # noqa: E402
from mien.addon.sample_head import append_sample_head  # noqa: E402
from mien.core.units import UNITS  # noqa: E402

from .preview_helpers import Studio, compare, load, render, save, sheet, with_gpu  # noqa: E402


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
    compare(name, save(tmp_path / f"{name}.png", sheet(pictures, columns)), columns, -(-len(pictures) // columns))
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


def test_combinations(head, tmp_path):
    """Units together, as faces have them, with the bones that go with them."""
    faces = [
        {"Smile": 1.0, "CheekSquint": 0.8, "JawOpen": 0.5},
        {"BrowRaise": 0.9, "EyeWide": 0.8, "Pucker": 0.7},
        {"BrowFurrow": 1.0, "NoseWrinkle": 0.7, "Frown": 0.6, "JawOpen": 0.2},
        {"BlinkLeft": 1.0, "Smile": 0.7, "BrowRaise": 0.5},
        dict.fromkeys(UNITS, 0.35),
        {"BlinkLeft": 0.6, "BlinkRight": 0.6, "Frown": 0.5, "Smile": 0.5},
        {"JawOpen": 1.0, "Pucker": 0.8, "EyeWide": 1.0},
        {"Smile": 0.6, "NoseWrinkle": 0.5, "CheekSquint": 1.0},
    ]

    @counted(len(faces))
    def each(studio, i):
        bones = {"jaw": turn(0, 20 * faces[i].get("JawOpen", 0.0)), "head": turn(2, 6 * (i % 3 - 1))}
        bones |= dict.fromkeys(("eye.L", "eye.R"), turn(2, 8 * (i % 4 - 1.5)))
        return studio.shoot(faces[i], bones)

    shots(head, each, tmp_path, "combinations", 4)


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

    def job(depsgraph):
        studio = Studio(depsgraph, head)
        studio.chosen.background = "GRADIENT"
        again = studio.shoot(effects={names[1]: 1.0}, time=1.7, zoom=0.85)
        studio.chosen.seed = 7
        return again, studio.shoot(effects={names[1]: 1.0}, time=1.7, zoom=0.85)

    again, others = with_gpu(job)
    assert np.abs(again - pictures[1]).max() < 1 / 255  # the same time and seed, the same picture
    assert np.abs(others - pictures[1]).max() > 0.2


def test_two_heads(head, tmp_path):
    from mien.addon.preview import compose, overlay

    other = append_sample_head(bpy.context)[0]
    other.mien_preview.location = (0.26, 0.0, 0.0)
    other.mien_preview.rotation = (0.0, 0.0, 0.4)
    head.mien_preview.scale = 0.8

    def job(depsgraph):
        from mien.addon.preview.drawing import AGX, Target

        preview.set_sample(head.session_uid, {"Smile": 1.0})
        preview.set_sample(other.session_uid, {"Frown": 1.0})
        posed = overlay.pose_heads([head, other], bpy.context.scene, None, {})
        chosen = bpy.context.scene.mien_preview
        chosen.background = "GRADIENT"
        target = Target(480, 288, "RGBA16F")
        view = overlay.portrait(posed, 240 / 144)
        compose.draw_picture_of(target, chosen, depsgraph, posed, view, curve=AGX, time=0.0, shadow=compose.ShadowMap())
        return np.clip(target.read().reshape(144, 2, 240, 2, 4).mean(axis=(1, 3)), 0, 1)

    compare("two-heads", save(tmp_path / "a.png", with_gpu(job)))


def test_a_floor_takes_no_shadow_off_a_face(head):
    mesh = bpy.data.meshes.new("Floor")
    mesh.from_pydata([(-50, -50, 0), (50, -50, 0), (50, 50, 0), (-50, 50, 0)], [], [(0, 1, 2, 3)])
    floor = bpy.data.objects.new("Floor", mesh)
    bpy.context.collection.objects.link(floor)

    def job(_depsgraph):
        from mien.addon.preview import compose, overlay

        posed = overlay.pose_heads([head, floor], bpy.context.scene, None, {})
        cast = []
        scene = SimpleNamespace(
            cast_shadows=lambda _target, models, _centre, radius: cast.append((len(models), radius))
        )
        for heads in (posed, posed[1:]):
            compose.ShadowMap().cast(scene, heads)
        return cast, [item.head.ball()[1] for item in posed]

    (both, alone), (face, ground) = with_gpu(job)
    assert both == (2, pytest.approx(face))  # the floor casts, too
    assert alone == (1, pytest.approx(ground))


def test_the_cpu_gives_the_same_picture(head):
    """A head fused by numpy and then drawn without shapes, against the one fused by the vertex shader."""
    from mien.addon.preview import reading
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
        for shadows in (False, True):
            studio.chosen.shadows = shadows
            for each in (model, still):
                kept.gpu = GpuModel(each, looks)
                kept.gpu.dress(occlusion)
                pictures.append(studio.shoot(weights, bones))
        return pictures

    on_gpu, on_cpu, gpu_shadows, cpu_shadows = with_gpu(job)
    difference = np.abs(on_gpu - on_cpu).max(axis=2)
    # A last bit of a position may turn an edge's sample over: at most a few of the 38,880 pixels.
    assert np.mean(difference <= 1 / 255) > 0.9998, f"{np.sum(difference > 1 / 255)} pixels"
    assert difference.mean() < 0.01 / 255
    # A shadow's edge is a step in depth, so more of its pixels turn over.
    difference = np.abs(gpu_shadows - cpu_shadows).max(axis=2)
    assert np.mean(difference <= 1 / 255) > 0.995
    assert difference.mean() < 0.1 / 255


def make_sheet(name, y, colour, alpha, kind="Cloth"):
    """An upright square of 0.2 at a depth, in one colour that lets something show through."""
    mesh = bpy.data.meshes.new(name)
    corners = [(-0.1, y, -0.1), (0.1, y, -0.1), (0.1, y, 0.1), (-0.1, y, 0.1)]
    mesh.from_pydata(corners, [], [(0, 1, 2, 3)])
    material = bpy.data.materials.new(f"{kind} {name}")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (0.0, 0.0, 0.0, 1.0)
    shader.inputs["Specular IOR Level"].default_value = 0.0
    shader.inputs["Emission Color"].default_value = (*colour, 1.0)
    shader.inputs["Emission Strength"].default_value = 1.0
    shader.inputs["Alpha"].default_value = alpha
    mesh.materials.append(material)
    sheet_object = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(sheet_object)
    return sheet_object


def seen_through(sheets, sky=(0.0, 0.0, 0.0), kept=None) -> np.ndarray:
    """What a camera at -Y sees of sheets, by the sky's light alone: the linear RGBA of the middle."""

    def job(_depsgraph):
        from mien.addon.preview import compose, overlay
        from mien.addon.preview.drawing import LINEAR, Target, View
        from mien.addon.preview.lights import Lighting

        posed = overlay.pose_heads(sheets, bpy.context.scene, None, {} if kept is None else kept)
        axes = np.array(((1, 0, 0, 0), (0, 0, 1, 0), (0, -1, 0, -1), (0, 0, 0, 1)), float)
        view = View(axes, np.diag((1.0, 1.0, -0.5, 1.0)))
        target = Target(16, 16)
        dark = Lighting((), sky, (0.0, 0.0, 0.0))
        with target.bound() as frame:
            frame.clear(color=(0.0, 0.0, 0.0, 0.0), depth=1.0)
            compose.draw_heads(compose.Scene(view, dark, LINEAR), posed, 0.0)
        return target.read()[8, 8]

    return with_gpu(job)


@pytest.mark.parametrize("kind", ["Cloth", "Hair"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_what_shows_through_is_laid_over_from_far_to_near(order, kind, tmp_path):
    """Three sheets of half their colour behind one another, whatever order they are drawn in."""
    sheets = [
        make_sheet("far", 0.05, (1.0, 0.0, 0.0), 0.5, kind),
        make_sheet("middle", 0.0, (0.0, 1.0, 0.0), 0.5, kind),
        make_sheet("near", -0.05, (0.0, 0.0, 1.0), 0.5, kind),
    ]
    assert seen_through([sheets[i] for i in order]) == pytest.approx((0.125, 0.25, 0.5, 0.875), abs=2e-3)


def test_an_image_that_is_read_anew_is_drawn_anew(tmp_path):
    sheet_object = make_sheet("photo", 0.0, (0.0, 0.0, 0.0), 1.0)
    tree = sheet_object.data.materials[0].node_tree
    image = bpy.data.images.load(str(save(tmp_path / "a.png", np.full((4, 4, 4), 0.5))))
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    tree.links.new(node.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    kept, seen = {}, []

    def look():
        bpy.context.view_layer.update()
        seen.append(seen_through([sheet_object], (1.0, 1.0, 1.0), kept)[0])

    look()
    image.colorspace_settings.name = "Non-Color"
    look()
    save(tmp_path / "a.png", np.full((4, 4, 4), 1.0))
    image.reload()
    look()
    assert seen[1:] == pytest.approx([seen[0] * 0.5 / 0.214, seen[0] / 0.214], rel=0.1)


def test_the_back_of_what_is_mirrored_is_lit_as_of_what_is_not():
    seen = []
    for scale in (1.0, -1.0):
        sheet_object = make_sheet("back", 0.0, (0.0, 0.0, 0.0), 1.0)
        sheet_object.data.materials[0].node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value[0] = 1.0
        sheet_object.rotation_euler.x, sheet_object.scale.x = np.radians(135.0), scale
        bpy.context.view_layer.update()
        seen.append(seen_through([sheet_object], sky=(1.0, 1.0, 1.0)))
    assert seen[0][0] > 0.5
    assert seen[1] == pytest.approx(seen[0], abs=2e-3)


def test_dense_hair_hides_what_lies_behind():
    skin = make_sheet("skin", 0.0, (1.0, 0.0, 0.0), 1.0)
    hair = make_sheet("hair", -0.05, (0.0, 0.0, 1.0), 0.8, "Hair")
    assert seen_through([skin, hair]) == pytest.approx((0.0, 0.0, 1.0, 1.0), abs=2e-3)


@pytest.mark.parametrize("alpha", [0.25, 0.75])
def test_an_images_alpha_counts_where_it_is_linked(alpha):
    """A thin one shows what lies behind, a dense one is as good as solid; unlinked it is none, as for Blender."""
    skin = make_sheet("skin", 0.0, (1.0, 0.0, 0.0), 1.0)
    card = make_sheet("card", -0.05, (0.0, 0.0, 1.0), 1.0)
    image = bpy.data.images.new("card", 4, 4, alpha=True)
    image.pixels.foreach_set(np.float32([0.0, 0.0, 0.0, alpha] * 16))
    tree = card.data.materials[0].node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    shader = tree.nodes["Principled BSDF"]
    tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    assert seen_through([skin, card]) == pytest.approx((0.0, 0.0, 1.0, 1.0), abs=2e-3)
    tree.links.new(node.outputs["Alpha"], shader.inputs["Alpha"])
    expected = (1 - alpha, 0.0, alpha, 1.0) if alpha < 0.5 else (0.0, 0.0, 1.0, 1.0)
    assert seen_through([skin, card]) == pytest.approx(expected, abs=5e-3)


def test_triangles_of_one_material_are_laid_over_from_far_to_near():
    from mien.addon.preview.render_data import far_to_near

    centres = np.array(((0, 0, 0), (0, 3, 0), (0, 1, 0)), float)
    assert far_to_near(centres, (0, -2, 0, 1)).tolist() == [1, 2, 0]
    assert far_to_near(centres, (0, 9, 0, 1)).tolist() == [0, 2, 1]
    assert far_to_near(centres, (0, -1, 0, 0)).tolist() == [1, 2, 0]  # a parallel view from -Y


def test_a_picture_lets_through_as_much_as_heads_in_place():
    """Laid over a frame buffer that encodes what it is given, as the viewport's does."""

    def job(_depsgraph):
        import gpu

        from mien.addon.preview.drawing import Target, draw_over, draw_picture

        source, seen = Target(16, 16), []
        with source.bound() as frame:
            frame.clear(color=(0.4, 0.2, 0.0, 0.5), depth=0.5)
        for draw in (draw_over, lambda source: draw_picture(source.colour)):
            view = Target(8, 8, "SRGB8_A8")
            with view.bound() as frame:
                frame.clear(color=(0.0, 0.0, 0.0, 1.0), depth=1.0)
                gpu.state.blend_set("ALPHA_PREMULT")
                draw(source)
                gpu.state.blend_set("NONE")
            seen.append(view.read()[4, 4])
        return seen

    over, picture = with_gpu(job)
    assert over[0] > 0.45  # half the light of 0.8, not half the number
    assert picture == pytest.approx(over, abs=0.01)


def test_drawing_leaves_the_state_as_it_was(head):
    import gpu

    def state():
        frame = gpu.state.active_framebuffer_get()
        return (
            gpu.state.depth_test_get(),
            gpu.state.depth_mask_get(),
            gpu.state.blend_get(),
            gpu.state.line_width_get(),
            tuple(gpu.state.viewport_get()),
            tuple(gpu.state.scissor_get()),
            np.array(gpu.matrix.get_projection_matrix()).tolist(),
            np.array(gpu.matrix.get_model_view_matrix()).tolist(),
            frame is not None,
        )

    def job(depsgraph):
        from mien.addon.preview.drawing import Target

        outer = Target(64, 48)
        studio = Studio(depsgraph, head, 32, 40)
        seen = []
        with outer.bound() as frame:
            frame.clear(color=(0.25, 0.5, 0.75, 1.0), depth=1.0)
            for depth, mask, blend in (("NONE", False, "NONE"), ("GREATER", True, "ADDITIVE")):
                gpu.state.depth_test_set(depth)
                gpu.state.depth_mask_set(mask)
                gpu.state.blend_set(blend)
                before = state()
                for background in ("NONE", "COLOUR", "GRADIENT"):
                    studio.chosen.background = background
                    studio.shoot({"Smile": 0.5}, effects={"tears": 1.0})
                seen.append((before, state()))
            gpu.state.depth_test_set("NONE")
            gpu.state.depth_mask_set(False)
            gpu.state.blend_set("NONE")
        return seen, outer.read()

    seen, outer = with_gpu(job)
    for before, after in seen:
        assert before == after
    assert np.allclose(outer, (0.25, 0.5, 0.75, 1.0))  # and nothing was drawn on what was bound


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


@pytest.mark.parametrize("crop", [False, True])
def test_a_render_region(head, tmp_path, crop):
    bpy.context.scene.mien_preview.background = "GRADIENT"
    whole = render(tmp_path / "whole.png", 100, 120)
    chosen = bpy.context.scene.render
    chosen.use_border, chosen.use_crop_to_border = True, crop
    chosen.border_min_x, chosen.border_max_x = 0.25, 0.65
    chosen.border_min_y, chosen.border_max_y = 0.5, 0.9
    part = render(tmp_path / "part.png", 100, 120)
    inside = whole[60:108, 25:65]
    if not crop:
        assert part[:60].max() == 0.0
        assert part[:, 65:].max() == 0.0
        part = part[60:108, 25:65]
    assert part.shape == inside.shape
    assert np.abs(part - inside).max() < 2 / 255


def test_a_modifier_is_drawn_as_blender_has_it(head, tmp_path):
    head.modifiers.new("Decimate", "DECIMATE").ratio = 0.2
    bpy.context.scene.mien_preview.background = "COLOUR"
    picture = render(tmp_path / "a.png", 60, 72)
    assert picture.std() > 0.05


def test_a_head_with_a_modifier_moves_from_frame_to_frame(head, tmp_path):
    """It is read as Blender evaluates it, and kept on the GPU in between."""
    head.modifiers.new("Smooth", "SMOOTH").factor = 0.1
    key, scene = head.data.shape_keys.key_blocks["JawOpen"], bpy.context.scene
    for frame, value in ((1, 0.0), (2, 1.0)):
        key.value = value
        key.keyframe_insert("value", frame=frame)
    scene.frame_start, scene.frame_end = 1, 2
    render(tmp_path / "still.png", 60, 72)
    scene.render.filepath = str(tmp_path / "#")
    bpy.ops.render.render(animation=True)
    closed, opened = (load(tmp_path / f"{frame}.png") for frame in (1, 2))
    assert np.abs(opened - closed).max() > 0.1


def look_at_sheets():
    """A camera at -Y that sees a square of 0.8 round the origin."""
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.type, camera.data.ortho_scale = "ORTHO", 0.8
    camera.location, camera.rotation_euler = (0.0, -1.0, 0.0), (math.radians(90), 0.0, 0.0)
    bpy.context.collection.objects.link(camera)
    bpy.context.scene.camera = camera


def test_a_film_follows_what_is_keyed_beside_shapes_and_bones(tmp_path):
    """A material's colour, what appears, and the preview's own offset: each as in a still of that frame."""
    look_at_sheets()
    painted, appearing, moved = (make_sheet(name, 0.0, (0.0, 1.0, 0.0), 1.0) for name in ("a", "b", "c"))
    painted.location.x, appearing.location.x, moved.location.x = -0.25, 0.0, 0.25
    emission = painted.data.materials[0].node_tree.nodes["Principled BSDF"].inputs["Emission Color"]
    for frame, red in ((1, 0.0), (2, 1.0)):
        emission.default_value[0], appearing.hide_render, moved.mien_preview.location[2] = red, frame == 1, 0.3 * red
        emission.keyframe_insert("default_value", frame=frame)
        appearing.keyframe_insert("hide_render", frame=frame)
        moved.keyframe_insert("mien_preview.location", frame=frame)
    scene = bpy.context.scene
    scene.frame_set(2)
    still = render(tmp_path / "still.png", 32, 32)
    assert still[16, [6, 16], 0] == pytest.approx([1.0, 0.0], abs=0.02)
    assert still[[16, 28], 26, 3].tolist() == [0.0, 1.0]
    scene.frame_start, scene.frame_end, scene.render.filepath = 1, 2, str(tmp_path / "#")
    scene.frame_set(1)
    bpy.ops.render.render(animation=True)
    first, second = (load(tmp_path / f"{frame}.png") for frame in (1, 2))
    assert first[16, [6, 16, 26], 3].tolist() == [1.0, 0.0, 1.0]
    assert first[16, 6, 0] < 0.1
    assert np.abs(second - still).max() < 1 / 255


def test_instances_and_curves_are_rendered(tmp_path, monkeypatch):
    """Twice the same collection, without what is not for renders there; a curve beside them."""
    baked, bake = [], GpuModel.bake_occlusion
    monkeypatch.setattr(GpuModel, "bake_occlusion", lambda model, *pose: (baked.append(model), bake(model, *pose)))
    look_at_sheets()
    props = bpy.data.collections.new("Props")
    shown, hidden = make_sheet("shown", 0.0, (1.0, 0.0, 0.0), 1.0), make_sheet("hidden", -0.1, (0.0, 0.0, 1.0), 1.0)
    hidden.hide_render = True
    for obj in (shown, hidden):
        bpy.context.collection.objects.unlink(obj)
        props.objects.link(obj)
    data = bpy.data.curves.new("Bar", "CURVE")
    data.dimensions, data.bevel_depth = "3D", 0.05
    line = data.splines.new("POLY")
    line.points.add(1)
    for point, x in zip(line.points, (-0.05, 0.05), strict=True):
        point.co = (x, 0.0, 0.0, 1.0)
    data.materials.append(hidden.data.materials[0])
    for name, x, content in (("a", -0.25, None), ("b", 0.25, None), ("c", 0.0, data)):
        obj = bpy.data.objects.new(name, content)
        bpy.context.collection.objects.link(obj)
        obj.location.x = x
        if content is None:
            obj.instance_type, obj.instance_collection = "COLLECTION", props
    picture = render(tmp_path / "a.png", 32, 32)
    expected = np.array([(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)])
    assert picture[16, [6, 16, 26], :3] == pytest.approx(expected, abs=0.15)  # as light falls on the curve's round
    assert picture[2:6, :, 3].max() == 0.0
    assert len(baked) == 2  # of a mesh's instances one


def test_each_view_layer_has_its_own_picture(head, tmp_path):
    """The first one, which is the one that is saved, is without the head: the second one must not lie over it."""
    scene = bpy.context.scene
    first = scene.view_layers[0]
    scene.view_layers.new("Head")
    for collection in first.layer_collection.children:
        collection.exclude = True
    bpy.context.view_layer.update()
    assert head.name not in first.objects
    assert render(tmp_path / "a.png", 32, 32)[..., 3].max() == 0.0


def test_a_percentage_is_rounded_as_blender_rounds_it(head, tmp_path):
    """In floating point 29 % of 100 pixels are 28: a line and a column would stay empty."""
    bpy.context.scene.mien_preview.background = "COLOUR"
    render(tmp_path / "a.png", 100, 100)
    bpy.context.scene.render.resolution_percentage = 29
    bpy.ops.render.render(write_still=True)
    picture = load(tmp_path / "a.png")
    assert picture.shape == (29, 29, 4)
    assert picture[..., 3].min() == 1.0


def test_an_empty_scene(tmp_path):
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    picture = render(tmp_path / "a.png", 32, 32)
    assert picture.max() == 0.0


def test_textures_and_normal_maps(tmp_path):
    """A sheet with a chequered picture and a normal map of studs, at rest and bent: as cloth, as skin, and without."""
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
        for kind, subsurface, strength in (("Cloth", 0.0, 1.0), ("Skin", 0.4, 1.0), ("Skin", 0.4, 0.0)):
            material.name = kind
            shader.inputs["Subsurface Weight"].default_value = subsurface
            to_normal.inputs["Strength"].default_value = strength
            for weight in (0.0, 1.0):
                overlay.samples.clear()
                poses.append(studio.shoot({"Smile": weight}, zoom=1.1))
        return poses

    pictures = with_gpu(job)
    compare("textures", save(tmp_path / "a.png", sheet(pictures, 2)), 2, 3)
    studded, smooth = pictures[2:4], pictures[4:]
    for rough, plain in zip(studded, smooth, strict=True):
        assert np.abs(rough - plain).max() > 0.1  # the map is seen, at rest and bent
