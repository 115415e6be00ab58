"""Materials of the sample head: one Principled shader each, coloured by the mesh's colour attribute."""

from __future__ import annotations

import bpy

COLOUR = "MienColor"
"""Name of the point-domain colour attribute that carries every base colour."""

SPECS: dict[str, dict[str, float]] = {
    "MienSkin": {"Roughness": 0.50, "Subsurface Weight": 0.22, "Specular IOR Level": 0.42, "bump": 0.10},
    "MienLips": {"Roughness": 0.33, "Subsurface Weight": 0.22, "Specular IOR Level": 0.5, "Coat Weight": 0.12},
    "MienMouth": {"Roughness": 0.45, "Specular IOR Level": 0.3},
    "MienEyeWhite": {"Roughness": 0.22, "Specular IOR Level": 0.5, "Coat Weight": 0.8, "Coat Roughness": 0.03},
    "MienIris": {"Roughness": 0.25, "Specular IOR Level": 0.4, "Coat Weight": 1.0, "Coat Roughness": 0.02},
    "MienPupil": {"Roughness": 0.2, "Specular IOR Level": 0.4, "Coat Weight": 1.0, "Coat Roughness": 0.02},
    "MienTeeth": {"Roughness": 0.22, "Specular IOR Level": 0.5, "Coat Weight": 0.3},
    "MienGums": {"Roughness": 0.3, "Specular IOR Level": 0.5},
    "MienTongue": {"Roughness": 0.35, "Specular IOR Level": 0.5},
    "MienBrows": {"Roughness": 0.65, "Specular IOR Level": 0.2},
    "MienLashes": {"Roughness": 0.6, "Specular IOR Level": 0.2},
    "MienHair": {"Roughness": 0.42, "Specular IOR Level": 0.5, "Sheen Weight": 0.15},
    "MienSweater": {"Roughness": 0.85, "Specular IOR Level": 0.2, "Sheen Weight": 0.3, "knit": 0.22},
}
"""Slot order and shader settings; `bump` and `knit` are strengths of a fine procedural relief."""


def material(name: str) -> bpy.types.Material:
    """Make (or remake) one of the head's materials."""
    found = bpy.data.materials.get(name)
    result = found or bpy.data.materials.new(name)
    result.use_nodes = True
    tree = result.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
    colour = tree.nodes.new("ShaderNodeAttribute")
    colour.attribute_name = COLOUR
    output.location, colour.location = (320, 0), (-420, 0)
    tree.links.new(colour.outputs["Color"], shader.inputs["Base Color"])
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    settings = SPECS[name]
    for key, value in settings.items():
        if key in shader.inputs:
            shader.inputs[key].default_value = value
    if "Subsurface Weight" in settings:
        shader.inputs["Subsurface Radius"].default_value = (1.0, 0.38, 0.22)
        shader.inputs["Subsurface Scale"].default_value = 0.007
    if "bump" in settings:
        noise = tree.nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value = 900.0
        noise.inputs["Detail"].default_value = 2.0
        _relief(tree, shader, noise.outputs[0], settings["bump"], 0.0004)
    if "knit" in settings:
        wave = tree.nodes.new("ShaderNodeTexWave")
        wave.bands_direction = "X"
        wave.inputs["Scale"].default_value = 24.0
        place = tree.nodes.new("ShaderNodeUVMap")
        tree.links.new(place.outputs["UV"], wave.inputs["Vector"])
        _relief(tree, shader, wave.outputs[1], settings["knit"], 0.002)
    return result


def _relief(tree, shader, height, strength: float, distance: float) -> None:
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = strength
    bump.inputs["Distance"].default_value = distance
    tree.links.new(height, bump.inputs["Height"])
    tree.links.new(bump.outputs["Normal"], shader.inputs["Normal"])


def average(name: str, colours) -> None:
    """Give a material the viewport colour of what it covers, for solid view and simple previews."""
    mean = [float(v) for v in colours.mean(0)] if len(colours) else [0.8, 0.8, 0.8]
    found = bpy.data.materials[name]
    found.diffuse_color = (*mean, 1.0)
    found.roughness = SPECS[name]["Roughness"]
