"""What a Blender material looks like to the preview: its Principled values, textures and kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import bpy
import numpy as np

KINDS = ("plain", "skin", "eye", "hair", "teeth")
"""Kinds of surface, each with its own shader."""

_WORDS = (
    # Hair first: "eyebrow" and "eyelash" are no eyes.
    ("hair", ("brow", "lash", "hair", "beard", "moustache", "fur")),
    ("eye", ("eye", "iris", "pupil", "sclera", "cornea")),
    ("teeth", ("teeth", "tooth", "gum", "tongue", "mouth")),
    ("skin", ("skin", "face", "head", "lip", "body", "ear")),
)


@dataclasses.dataclass(frozen=True)
class Look:
    """A material as the shaders take it.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    base : tuple of float
        Linear RGBA.
    roughness, metallic, specular, coat, coat_roughness, sheen : float
        As in the Principled BSDF.
    subsurface : float
        Weight, 0..1.
    radius : tuple of float
        How far red, green and blue travel in the material, the farthest 1.
    emission : tuple of float
        Linear RGB, strength included.
    relief : tuple of float
        Grain of a fine bump: its scale (per unit of the mesh), strength and height.
    normal_strength : float
    colour_attribute : str or None
        Attribute whose colour stands in for `base`; ``""`` for the active one.
    base_image, normal_image : str or None
        Names of images in the file.
    image_alpha : bool
        Whether the base image's alpha counts.
    """

    kind: str = "plain"
    base: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 1.0)
    roughness: float = 0.5
    metallic: float = 0.0
    specular: float = 0.5
    coat: float = 0.0
    coat_roughness: float = 0.03
    sheen: float = 0.0
    subsurface: float = 0.0
    radius: tuple[float, float, float] = (1.0, 0.38, 0.22)
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)
    relief: tuple[float, float, float] = (0.0, 0.0, 0.0)
    normal_strength: float = 1.0
    colour_attribute: str | None = None
    base_image: str | None = None
    normal_image: str | None = None
    image_alpha: bool = False

    @property
    def blended(self) -> bool:
        """Whether what lies behind may show through."""
        return self.base[3] < 0.999 or self.image_alpha

    def pack(self) -> np.ndarray:
        """Return the shader's ``Surface`` block, float32, shape (7, 4)."""
        block = np.zeros((7, 4), np.float32)
        block[0] = self.base
        block[1] = (self.roughness, self.metallic, self.specular, self.coat)
        block[2] = (*self.radius, self.subsurface)
        block[3] = (
            (self.base_image is not None) * (1 + self.image_alpha),
            self.colour_attribute is not None,
            self.normal_image is not None,
            self.normal_strength,
        )
        block[4] = (*self.emission, self.coat_roughness)
        block[5] = (*self.relief, self.sheen)
        return block


def kind_of(name: str, subsurface: float = 0.0) -> str:
    """Guess the kind of surface from a material's name, else from its subsurface weight.

    >>> kind_of("MienEyeWhite"), kind_of("eyebrow.L"), kind_of("Cloth"), kind_of("Wax", 0.4)
    ('eye', 'hair', 'plain', 'skin')
    """
    lower = name.lower()
    for kind, words in _WORDS:
        if any(word in lower for word in words):
            return kind
    return "skin" if subsurface > 0.0 else "plain"


def read_look(material) -> Look:
    """Read a material's look; any node set-up gives something to draw.

    Parameters
    ----------
    material : bpy.types.Material or None
    """
    if material is None:
        return Look()
    shader = _principled(material)
    if shader is None:
        return Look(kind_of(material.name), tuple(material.diffuse_color), roughness=material.roughness)

    def value(name, default=0.0):
        found = shader.inputs.get(name)
        return default if found is None else found.default_value

    # A socket finds its links by a search of all that the tree has.
    feeds = {link.to_socket.as_pointer(): link.from_node for link in shader.id_data.links}
    base, image, attribute = _colour(shader.inputs["Base Color"], feeds)
    subsurface = value("Subsurface Weight")
    radius = np.array(value("Subsurface Radius", (1.0, 0.2, 0.1)), float)
    normal_image, normal_strength, relief = _normal(shader.inputs.get("Normal"), feeds)
    emission = np.array(value("Emission Color", (0, 0, 0, 1))[:3]) * value("Emission Strength")
    # Glass, such as a cornea's, is seen by its gloss alone.
    alpha = value("Alpha", 1.0) * (1.0 - value("Transmission Weight"))
    return Look(
        kind=kind_of(material.name, subsurface),
        base=(*base[:3], alpha),
        roughness=value("Roughness", 0.5),
        metallic=value("Metallic"),
        specular=value("Specular IOR Level", 0.5),
        coat=value("Coat Weight"),
        coat_roughness=value("Coat Roughness", 0.03),
        sheen=value("Sheen Weight"),
        subsurface=subsurface,
        radius=tuple(radius / max(radius.max(), 1e-6)),
        emission=tuple(emission),
        relief=relief,
        normal_strength=normal_strength,
        colour_attribute=attribute,
        base_image=image,
        normal_image=normal_image,
        image_alpha=image is not None and image in map(_image, _sources(shader.inputs["Alpha"], feeds)),
    )


_revision = 0
"""Goes up whenever a material may have changed."""


def forget() -> None:
    """Have every look read again."""
    global _revision
    _revision += 1


def note_changes(depsgraph: bpy.types.Depsgraph) -> None:
    """Have every look read again where a material was evaluated anew: it was edited, or is keyed or driven."""
    # Not by what `updates` has: an object that Python has met there comes without its place in `object_instances`.
    if any(map(depsgraph.id_type_updated, ("MATERIAL", "NODETREE", "IMAGE"))):
        forget()


class Wardrobe:
    """The looks of an object's materials, read again only if one may have changed: a tree of nodes takes its time."""

    def __init__(self):
        self._mark: tuple = ()
        self._looks: list[Look] = []

    def looks_of(self, obj) -> list[Look]:
        """Return the looks of an object's materials, one per slot; a plain one where it has none."""
        materials = [slot.material for slot in obj.material_slots]
        mark = _revision, *(material and material.original.session_uid for material in materials)
        if mark != self._mark:
            self._mark, self._looks = mark, [read_look(material) for material in materials] or [Look()]
        return self._looks


def nodes_of(owner):
    """Return the node tree of a material or world, or None where it uses none."""
    # From Blender 5.0 on all use nodes, and asking warns.
    if bpy.app.version < (5, 0) and not owner.use_nodes:
        return None
    return owner.node_tree


def _principled(material):
    tree = nodes_of(material)
    if tree is None:
        return None
    return next((node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"), None)


def _sources(socket, feeds: Mapping[int, bpy.types.Node]) -> Iterator[bpy.types.Node]:
    """Yield the nodes that feed a socket, each once, nearest first; `feeds` has those that feed one at once."""
    seen, waiting = set(), [socket]
    while waiting:
        node = feeds.get(waiting.pop().as_pointer())
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            # Colours last, to be popped first: what mixes them is a mask.
            waiting += sorted(reversed(node.inputs), key=lambda each: each.type == "RGBA")


def _image(node) -> str | None:
    """Return the name of the image that a node shows, or None."""
    return node.image.name if node.type == "TEX_IMAGE" and node.image is not None else None


def _colour(socket, feeds) -> tuple[tuple, str | None, str | None]:
    """Return a colour socket's value, or the image or attribute it comes from."""
    for node in _sources(socket, feeds):
        if _image(node):
            return (1.0, 1.0, 1.0, 1.0), _image(node), None
        if node.type == "ATTRIBUTE" and node.attribute_type == "GEOMETRY":
            return (1.0, 1.0, 1.0, 1.0), None, node.attribute_name
        if node.type == "VERTEX_COLOR":
            return (1.0, 1.0, 1.0, 1.0), None, node.layer_name
        if node.type == "RGB":
            return tuple(node.outputs[0].default_value), None, None
    return tuple(socket.default_value), None, None


def _normal(socket, feeds) -> tuple[str | None, float, tuple[float, float, float]]:
    image, strength, relief = None, 1.0, (0.0, 0.0, 0.0)
    for node in _sources(socket, feeds) if socket is not None else ():
        if node.type == "NORMAL_MAP":
            strength = node.inputs["Strength"].default_value
            image = next(filter(None, map(_image, _sources(node.inputs["Color"], feeds))), None)
        elif node.type == "BUMP":
            grain = next((n for n in _sources(node.inputs["Height"], feeds) if "Scale" in n.inputs), None)
            if grain is not None and grain.type == "TEX_NOISE":
                relief = (
                    grain.inputs["Scale"].default_value,
                    node.inputs["Strength"].default_value,
                    node.inputs["Distance"].default_value,
                )
    return image, strength, relief
