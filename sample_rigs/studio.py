"""The head's armature, and the little studio around it: lights, camera, background."""

from __future__ import annotations

import bpy
from mathutils import Vector

from .skin import EYE_CENTRE, JAW_HINGE

TARGET = Vector((0.0, -0.005, 0.300))


def _place(x: float, y: float, z: float) -> Vector:
    """Centimetres of the sculpt to metres of the file."""
    return Vector((x, y, z + 30.0)) * 0.01


def armature(collection, body):
    """Make ``MienRig`` and bind the mesh to it."""
    data = bpy.data.armatures.new("MienRig")
    rig = bpy.data.objects.new("MienRig", data)
    collection.objects.link(rig)
    rig.show_in_front = True
    data.display_type = "STICK"
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    x, y, z = EYE_CENTRE
    spans = {
        "root": ((0, 5.6, -26.0), (0, 5.4, -18.0), None),
        "neck": ((0, 5.4, -16.5), (0, 4.0, -6.5), "root"),
        "head": ((0, 3.4, -4.5), (0, 3.4, 13.0), "neck"),
        "jaw": (tuple(JAW_HINGE), (0.0, -4.6, -8.0), "head"),
        "eye.L": ((-x, y, z), (-x, y - 3.0, z), "head"),
        "eye.R": ((x, y, z), (x, y - 3.0, z), "head"),
    }
    for name, (start, end, parent) in spans.items():
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = _place(*start), _place(*end)
        if parent:
            bone.parent = data.edit_bones[parent]
        # Local X is the armature's X for every bone, so that X always nods, opens, looks down.
        along = (bone.tail - bone.head).normalized()
        bone.align_roll(Vector((1, 0, 0)).cross(along))
    bpy.ops.object.mode_set(mode="OBJECT")
    for bone in rig.pose.bones:
        bone.rotation_mode = "XYZ"
    body.parent = rig
    modifier = body.modifiers.new("Armature", "ARMATURE")
    modifier.object = rig
    return rig


def _light(collection, name, location, energy, size, colour, target=TARGET):
    data = bpy.data.lights.new(name, "AREA")
    data.energy, data.size, data.color = energy, size, colour
    data.shape = "DISK"
    thing = bpy.data.objects.new(name, data)
    thing.location = location
    thing.rotation_euler = (target - Vector(location)).to_track_quat("-Z", "Y").to_euler()
    collection.objects.link(thing)
    return thing


def dress(scene, collection) -> None:
    """Three-point light, portrait camera, a soft background, and render settings of a poster."""
    _light(collection, "MienKey", (0.50, -0.95, 0.72), 19.0, 0.42, (1.0, 0.94, 0.86))
    _light(collection, "MienFill", (-0.9, -0.8, 0.25), 4.0, 0.8, (0.80, 0.90, 1.0))
    _light(collection, "MienRim", (-0.45, 0.75, 0.70), 18.0, 0.4, (1.0, 0.86, 0.72))
    data = bpy.data.cameras.new("MienCamera")
    data.lens, data.sensor_width, data.sensor_fit = 105.0, 36.0, "HORIZONTAL"
    camera = bpy.data.objects.new("MienCamera", data)
    camera.location = (0.0, -1.12, 0.308)
    camera.rotation_euler = (TARGET - camera.location).to_track_quat("-Z", "Y").to_euler()
    collection.objects.link(camera)
    scene.camera = camera
    scene.world = _world()
    scene.render.resolution_x, scene.render.resolution_y = 900, 1080
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 64
    scene.cycles.use_denoising = True
    scene.cycles.max_bounces = 5
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"


def _world():
    """Cool soft light all round; the camera sees a gradient from below the shoulders up."""
    world = bpy.data.worlds.new("MienStudio")
    world.use_nodes = True
    tree = world.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("ShaderNodeOutputWorld")
    light = tree.nodes.new("ShaderNodeBackground")
    light.inputs["Color"].default_value = (0.42, 0.52, 0.60, 1)
    light.inputs["Strength"].default_value = 0.42
    seen = tree.nodes.new("ShaderNodeBackground")
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    window = tree.nodes.new("ShaderNodeTexCoord")
    spot = tree.nodes.new("ShaderNodeVectorMath")
    spot.operation = "DISTANCE"
    spot.inputs[1].default_value = (0.5, 0.55, 0.0)
    tree.links.new(window.outputs["Window"], spot.inputs[0])
    tree.links.new(spot.outputs["Value"], ramp.inputs["Fac"])
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[0].color = 0.05, (0.235, 0.365, 0.385, 1)
    ramp.color_ramp.elements[1].position, ramp.color_ramp.elements[1].color = 0.75, (0.045, 0.095, 0.115, 1)
    tree.links.new(ramp.outputs["Color"], seen.inputs["Color"])
    path = tree.nodes.new("ShaderNodeLightPath")
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(path.outputs["Is Camera Ray"], mix.inputs["Fac"])
    tree.links.new(light.outputs[0], mix.inputs[1])
    tree.links.new(seen.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])
    return world
