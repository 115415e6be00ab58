"""What goes to the GPU, against Blender's own evaluation and against numpy done by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from mien.addon.expressions import BASIC, blend, on_shapes  # noqa: E402
from mien.addon.preview import lights, looks, overlay, particles, reading, render_data  # noqa: E402
from mien.addon.sample_head import append_sample_head  # noqa: E402
from mien.core.units import EXPRESSIONS, UNITS  # noqa: E402

from .preview_helpers import with_gpu  # noqa: E402


def evaluated(obj) -> tuple[np.ndarray, np.ndarray]:
    """Blender's own positions and vertex normals."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    mesh = obj.evaluated_get(depsgraph).data
    return reading.get_array(mesh.vertices, "co", 3), reading.get_array(mesh.vertices, "normal", 3)


@pytest.fixture
def head():
    obj, rig = append_sample_head(bpy.context)
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
    return obj, rig


def pose(obj, rig, seed):
    random = np.random.default_rng(seed)
    for key in obj.data.shape_keys.key_blocks[1:]:
        key.value = random.uniform() if random.uniform() < 0.6 else 0.0
    for bone in rig.pose.bones:
        turn = random.normal(0, 0.15, 3)
        q = np.array((1.0, *turn))
        bone.rotation_quaternion = q / np.linalg.norm(q)
    bpy.context.view_layer.update()


def weights_of(obj, model):
    return list(reading.as_mixed(obj, reading.read_weights(obj, model.shapes)).values())


@pytest.mark.parametrize("seed", range(4))
def test_positions_are_blenders_own(head, seed):
    obj, rig = head
    model = render_data.build_model(reading.read_mesh(obj))
    pose(obj, rig, seed)
    expected, normals = evaluated(obj)
    weights = weights_of(obj, model)
    position, normal, _ = render_data.fuse(model, weights, reading.read_bones(obj, model.bones))
    error = np.abs(position - expected[model.vertex]).max() / model.size
    assert error < 1e-4
    cosine = np.einsum("ij,ij->i", normal, normals[model.vertex])
    # Blender averages the angles of faces, the preview fits slopes: they part where skin folds onto itself.
    assert np.median(cosine) > 0.999
    assert np.mean(cosine > 0.95) > 0.92


def test_keys_are_mixed_as_blender_mixes_them():
    """Muted, pinned, relative to another key, held back by a vertex group, outside 0..1."""
    mesh = bpy.data.meshes.new("Face")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], [], [(0, 1, 2, 3)])
    obj = bpy.data.objects.new("Face", mesh)
    bpy.context.collection.objects.link(obj)
    obj.vertex_groups.new(name="half").add([1, 2], 0.5, "REPLACE")
    random = np.random.default_rng(3)
    for name in ("Basis", "Smile", "Frown", "Pucker", "JawOpen"):
        key = obj.shape_key_add(name=name)
        key.points.foreach_set("co", random.normal(size=12).astype(np.float32))
        key.slider_min, key.slider_max = -1.0, 2.0
        key.value = 0.0
    blocks = obj.data.shape_keys.key_blocks
    blocks["Frown"].relative_key = blocks["Smile"]
    blocks["Pucker"].vertex_group = "half"

    def check():
        bpy.context.view_layer.update()
        model = render_data.build_model(reading.read_mesh(obj))
        position, _, _ = render_data.fuse(model, weights_of(obj, model))
        expected, _ = evaluated(obj)
        assert np.abs(position - expected[model.vertex]).max() < 1e-5

    blocks["Smile"].value, blocks["Frown"].value = 0.4, -0.7
    blocks["Pucker"].value, blocks["JawOpen"].value = 1.6, 0.3
    check()
    blocks["JawOpen"].mute = True
    check()
    obj.active_shape_key_index = 2
    obj.show_only_shape_key = True
    check()


@pytest.mark.parametrize("seed", range(2))
def test_the_gpu_does_as_the_cpu(head, seed):
    obj, rig = head
    pose(obj, rig, seed)
    expected, _ = evaluated(obj)

    def job(_depsgraph):
        from mien.addon.preview.heads import Head

        kept = Head(obj.session_uid)
        kept.sync(obj)
        kept.pose(obj)
        return kept.gpu.model, kept.gpu.read_fused(), kept.gpu.read_fused(normals=True)

    model, position, normal = with_gpu(job)
    assert np.abs(position - expected[model.vertex]).max() / model.size < 1e-4
    weights = weights_of(obj, model)
    reference, reference_normal, _ = render_data.fuse(model, weights, reading.read_bones(obj, model.bones))
    assert np.abs(position - reference).max() / model.size < 1e-5
    # Shading is made of n . l: its difference is at most the normals'.
    assert np.abs(normal - reference_normal).max() < 1 / 255


def test_a_shape_that_moves_little_costs_little():
    grid = np.stack(np.meshgrid(np.arange(50.0), np.arange(50.0)), -1).reshape(-1, 2)
    positions = np.concatenate((grid, np.zeros((2500, 1))), axis=1).astype(np.float32)
    first = (np.arange(49)[:, None] * 50 + np.arange(49)).ravel()
    quads = np.stack((first, first + 1, first + 51, first + 50), axis=1)
    corners = np.arange(quads.size).reshape(-1, 4)
    mesh = render_data.MeshArrays(
        positions=positions,
        corner_vertex=quads.ravel().astype(np.int32),
        corner_normal=np.tile(np.float32((0, 0, 1)), (quads.size, 1)),
        face_start=(np.arange(len(quads)) * 4).astype(np.int32),
        face_size=np.full(len(quads), 4, np.int32),
        triangles=np.concatenate((corners[:, :3], corners[:, [0, 2, 3]])).astype(np.int32),
        triangle_material=np.zeros(2 * len(quads), np.int32),
        shapes=("one",) * 200,
        deltas=[(np.array((1275,), np.int32), np.array(((0, 0, 1),), np.float32))] * 200,
    )
    model = render_data.build_model(mesh)
    assert model.entries == 200 * 5  # the vertex and the four whose slope it changes
    _, normal, _ = render_data.fuse(model, np.full(200, 0.0))
    assert np.allclose(normal, (0, 0, 1))
    position, _, _ = render_data.fuse(model, np.full(200, 0.01))
    assert np.isclose(position[:, 2].max(), 2.0, atol=1e-5)


def test_size_is_that_of_what_moves():
    """100,000 vertices: a shape that moves a hundredth of them takes a hundredth of one that moves all."""
    side = 316
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    positions = np.concatenate((grid, np.zeros((side * side, 1))), axis=1).astype(np.float32)
    first = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    quads = np.stack((first, first + 1, first + side + 1, first + side), axis=1)
    corners = np.arange(quads.size).reshape(-1, 4)

    def entries(moved, count):
        index = np.arange(moved, dtype=np.int32)
        mesh = render_data.MeshArrays(
            positions=positions,
            corner_vertex=quads.ravel().astype(np.int32),
            corner_normal=np.tile(np.float32((0, 0, 1)), (quads.size, 1)),
            face_start=(np.arange(len(quads)) * 4).astype(np.int32),
            face_size=np.full(len(quads), 4, np.int32),
            triangles=np.concatenate((corners[:, :3], corners[:, [0, 2, 3]])).astype(np.int32),
            triangle_material=np.zeros(2 * len(quads), np.int32),
            shapes=tuple(map(str, range(count))),
            deltas=[(index, np.tile(np.float32((0, 0, 1)), (moved, 1)))] * count,
        )
        return render_data.build_model(mesh).entries

    every, few = entries(side * side, 2), entries(side * side // 100, 2)
    assert every == 2 * side * side
    assert few < every / 50  # the rim of what moves has slopes, too


def test_normals_of_a_bent_plane_are_exact():
    positions = np.array(((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)), np.float32)
    mesh = render_data.MeshArrays(
        positions=positions,
        corner_vertex=np.arange(4, dtype=np.int32),
        corner_normal=np.tile(np.float32((0, 0, 1)), (4, 1)),
        face_start=np.zeros(1, np.int32),
        face_size=np.full(1, 4, np.int32),
        triangles=np.array(((0, 1, 2), (0, 2, 3)), np.int32),
        triangle_material=np.zeros(2, np.int32),
        shapes=("tilt",),
        deltas=[(np.array((1, 2), np.int32), np.array(((0, 0, 1), (0, 0, 1)), np.float32))],
        uv=positions[:, :2].copy(),
    )
    model = render_data.build_model(mesh)
    _, normal, tangent = render_data.fuse(model, [1.0])
    assert np.allclose(normal, np.array((-1, 0, 1)) / np.sqrt(2), atol=1e-4)
    assert np.allclose(tangent, (1, 0, 1), atol=1e-4)


def test_many_shapes_are_read_in_time(head):
    obj, _ = head
    began = time.perf_counter()
    render_data.build_model(reading.read_mesh(obj))
    assert time.perf_counter() - began < 20.0  # some 0.7 s when the machine has nothing else to do


@pytest.mark.parametrize("preset", lights.PRESETS)
def test_light_sets_fit_any_head(preset):
    small, large = (lights.preset(preset, (0, 0, 0), size) for size in (0.1, 10.0))
    for a, b in zip(small.lights, large.lights, strict=True):
        reach_a, reach_b = np.linalg.norm(a.place), np.linalg.norm(b.place)
        assert np.allclose(np.array(a.colour) / reach_a**2, np.array(b.colour) / reach_b**2)
        assert np.isclose(a.radius / reach_a, b.radius / reach_b)


def test_scene_lights_are_read():
    for kind in ("SUN", "AREA", "POINT", "SPOT"):
        light = bpy.data.objects.new(kind, bpy.data.lights.new(kind, kind))
        light.data.energy = 10.0
        light.location = (0, 0, 2)
        bpy.context.collection.objects.link(light)
    bpy.context.view_layer.update()
    found = lights.read_scene(bpy.context.evaluated_depsgraph_get())
    assert len(found.lights) == 4
    assert all(np.allclose(light.aim, (0, 0, -1)) for light in found.lights)
    assert np.isfinite(found.pack()).all()


def test_materials_are_read():
    material = bpy.data.materials.new("Face")
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (0.2, 0.4, 0.6, 1.0)
    shader.inputs["Roughness"].default_value = 0.3
    shader.inputs["Subsurface Weight"].default_value = 0.5
    look = looks.read_look(material)
    assert look.kind == "skin"
    assert look.base == pytest.approx((0.2, 0.4, 0.6, 1.0))
    assert (look.roughness, look.subsurface) == pytest.approx((0.3, 0.5))
    image = bpy.data.images.new("skin", 4, 4)
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    mix = material.node_tree.nodes.new("ShaderNodeHueSaturation")
    material.node_tree.links.new(node.outputs[0], mix.inputs["Color"])
    material.node_tree.links.new(mix.outputs[0], shader.inputs["Base Color"])
    assert looks.read_look(material).base_image == "skin"
    assert looks.read_look(None).kind == "plain"


def test_a_render_is_judged_by_what_it_shows(head):
    obj, _rig = head
    armature = reading.armature_modifier(obj)
    assert reading.is_exact(obj)
    assert reading.is_exact(obj, final=True)
    armature.show_render = False
    assert reading.is_exact(obj)
    assert armature.name in reading.left_out(obj, final=True)[0]
    armature.show_render = True
    obj.modifiers.new("Smooth", "SMOOTH").show_viewport = False
    assert reading.is_exact(obj)
    assert reading.left_out(obj, final=True) == ["Without the modifiers Smooth"]
    armature.vertex_group = "eye.L"
    armature.object.data.bones["neck"].bbone_segments = 4
    obj.parent_type = "ARMATURE"
    assert reading.left_out(obj) == [
        "Bones move more than the vertex group eye.L",
        "Bendy bones stay straight: neck",
        f"Without the deformation by its parent {obj.parent.name}",
    ]
    obj.vertex_groups.remove(obj.vertex_groups["neck"])  # no bone of this mesh's any more
    armature.vertex_group, obj.parent_type = "", "OBJECT"
    assert reading.is_exact(obj)
    assert reading.left_out_of_a_take(obj) == []
    armature.object.pose.bones["jaw"].constraints.new("COPY_ROTATION")
    assert "constraints" in reading.left_out_of_a_take(obj)[0]
    rig = armature.object
    obj.modifiers.remove(armature)
    obj.parent, obj.parent_type, obj.parent_bone = rig, "BONE", "head"
    assert "hangs on a bone" in reading.left_out_of_a_take(obj)[0]
    obj.parent = None
    assert reading.left_out_of_a_take(obj) == []


def test_the_maps_of_renders_are_read():
    mesh = bpy.data.meshes.new("Square")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [], [(0, 1, 2, 3)])
    obj = bpy.data.objects.new("Square", mesh)
    bpy.context.collection.objects.link(obj)
    for name, value in (("Edited", 0.25), ("Rendered", 0.75)):
        mesh.uv_layers.new(name=name).uv.foreach_set("vector", [value] * 8)
        mesh.color_attributes.new(f"{name} Colour", "FLOAT_COLOR", "CORNER").data.foreach_set("color", [value] * 16)
    mesh.uv_layers["Rendered"].active_render = True
    mesh.uv_layers.active = mesh.uv_layers["Edited"]
    mesh.color_attributes.render_color_index = 0
    assert reading.read_mesh(obj).uv == pytest.approx(0.75)
    before = reading.content(obj)
    mesh.uv_layers["Edited"].active_render = True
    assert reading.content(obj) != before
    # Of the colours, the one that a material names.
    material = bpy.data.materials.new("Painted")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    colour = nodes.new("ShaderNodeVertexColor")
    links.new(colour.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    mesh.materials.append(material)

    def drawn(name):
        colour.layer_name = f"{name} Colour"
        (item,) = with_gpu(lambda _: overlay.pose_heads([obj], bpy.context.scene, None, cache))
        return item.head.gpu.model.colour[:, 0]

    cache = {}
    assert drawn("Rendered") == pytest.approx(0.75)
    assert drawn("Edited") == pytest.approx(0.25)


def test_a_node_that_feeds_many_is_met_once():
    """A ladder whose every rung has both inputs from the one before: 2^40 ways lead to the picture."""
    material = bpy.data.materials.new("Face")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    below = nodes.new("ShaderNodeTexImage")
    below.image = bpy.data.images.new("skin", 4, 4)
    for _ in range(40):
        rung = nodes.new("ShaderNodeVectorMath")
        for socket in rung.inputs[:2]:
            links.new(below.outputs[0], socket)
        below = rung
    links.new(below.outputs[0], nodes["Principled BSDF"].inputs["Base Color"])
    assert looks.read_look(material).base_image == "skin"


def test_a_mask_between_colours_is_no_colour():
    material = bpy.data.materials.new("Face")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    mix = nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    for name, socket in (("mask", mix.inputs["Factor"]), ("skin", mix.inputs[6])):
        node = nodes.new("ShaderNodeTexImage")
        node.image = bpy.data.images.new(name, 4, 4)
        links.new(node.outputs["Color"], socket)
    links.new(mix.outputs[2], nodes["Principled BSDF"].inputs["Base Color"])
    assert looks.read_look(material).base_image == "skin"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Eyebrow", "hair"),
        ("eyelashes", "hair"),
        ("Eye_L", "eye"),
        ("Teeth", "teeth"),
        ("Cloth", "plain"),
        ("Lips", "skin"),
    ],
)
def test_kinds_by_name(name, kind):
    assert looks.kind_of(name) == kind


def test_expressions():
    assert tuple(BASIC) == EXPRESSIONS
    assert all(name in UNITS and 0 <= value <= 1 for face in BASIC.values() for name, value in face.items())
    assert on_shapes({"Smile": 0.5}, ("mouthSmileLeft", "mouthSmileRight")) == {
        "mouthSmileLeft": 0.5,
        "mouthSmileRight": 0.5,
    }
    # And back, of one that was saved on a head with ARKit shapes; where there are both, each has its own.
    saved = {"browInnerUp": 0.9, "mouthSmileLeft": 0.4, "mouthSmileRight": 0.2}
    assert on_shapes(saved, UNITS) == {"BrowRaise": pytest.approx(0.3), "Smile": pytest.approx(0.3)}
    assert on_shapes(saved, (*UNITS, *saved)) == saved
    assert on_shapes({"Smile": 0.5}, ("mouthSmile_L", "Mouthsmileright")) == {
        "mouthSmile_L": 0.5,
        "Mouthsmileright": 0.5,
    }
    face = {"Smile": 0.2, "BlinkLeft": 1.0, "JawOpen": 0.4}
    assert blend(face, {"Grin of another head": 1.0}, 1.0) == face
    assert blend(face, BASIC["neutral"], 1.0) == {"Smile": 0.0, "BlinkLeft": 1.0, "JawOpen": 0.4}
    assert blend(face, BASIC["happiness"], 0.0) == face
    worn = blend(face, BASIC["sadness"], 1.0)
    assert worn["Smile"] == 0.0
    assert worn["BlinkLeft"] == 1.0  # eyes still blink
    assert worn["JawOpen"] == 0.4  # and the mouth still speaks
    spoken = {"jawOpen": 0.5, "mouthClose": 0.4, "eyeLookInLeft": 0.3, "mouthSmileLeft": 0.2}
    assert blend(spoken, {"mouthSmileLeft": 0.9}, 1.0) == spoken | {"mouthSmileLeft": 0.9}  # lips shut, eyes looking
    # What is no face's stays, unless the expression itself was saved with it.
    assert blend(face | {"Build": 0.7}, {"Smile": 0.9}, 1.0) == face | {"Smile": 0.9, "Build": 0.7}
    assert blend(face | {"Build": 0.7}, {"Smile": 0.9, "Build": 0.1}, 1.0) == face | {"Smile": 0.9, "Build": 0.1}


def test_effects_come_and_go():
    fader = particles.Fader()
    assert fader.step({"tears": 1.0}, particles.ATTACK / 2) == {"tears": pytest.approx(0.5)}
    assert fader.step({"tears": 1.0}, 10.0) == {"tears": 1.0}
    assert fader.step({}, particles.DECAY / 2) == {"tears": pytest.approx(0.5)}
    assert fader.step({}, 10.0) == {}
