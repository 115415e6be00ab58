"""The heads that the preview knows, in this run of Blender. Nothing here is saved.

A head is a mesh object with relative shape keys. It is read once, and again when its mesh or keys change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping

import bpy
import numpy as np

from ..expressions import blend
from ..rig.aims import find_aim
from ..rig.axes import upright
from ..rig.mapping import EYES, HeadMapping, mapping_of
from ..rig.names import by_channel
from ..rig.pose import IDENTITY, about, into_bone, multiply
from ..rig.targets import JAW_ANGLE, JAW_ANGLE_PROPERTY
from . import reading
from .drawing import GpuModel
from .looks import Look, Wardrobe
from .looks import forget as forget_looks
from .particles import anchor_frame
from .render_data import MeshArrays, build_model

_JAW_CHANNELS = ("JawOpen", "jawOpen")


@dataclasses.dataclass
class Sample:
    """Values from a live session, which stand in for the scene's.

    Attributes
    ----------
    weights : dict of str to float
    bones : dict of str to (w, x, y, z)
    label : str
        Expression label.
    """

    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    bones: dict[str, tuple[float, float, float, float]] = dataclasses.field(default_factory=dict)
    label: str = ""


class Head:
    """One mesh object as the preview has it.

    Parameters
    ----------
    uid : int
        ``session_uid`` of the object: pointers to Blender's data do not live through an undo.

    Attributes
    ----------
    suspect : bool
        Whether something hints at a change of its coordinates; see `note_changes`.
    source : int
        ``session_uid`` of what hints at it when Blender evaluates it anew: the mesh, or the object with its modifiers.
    trouble : str
        Why it cannot be drawn; empty while it can.
    seen_in : set
        Which view layers have shown it; see `engine.draw`.
    """

    def __init__(self, uid: int):
        self.uid = uid
        self.gpu: GpuModel | None = None
        self.uploads = 0
        self.matrix = np.eye(4)
        self.frame = np.eye(4)
        self.values: dict[str, float] = {}
        self._mapping = HeadMapping()
        self._eyes = np.zeros((2, 3))
        self._axes = np.eye(3)
        self._structure: tuple | None = None
        self._content = 0
        self._looks: list[Look] | None = None
        self._wardrobe = Wardrobe()
        self.suspect = True
        self.trouble = ""
        self.seen_in: set[Hashable] = set()
        self.source = uid

    def sync(self, obj, depsgraph=None, *, thorough: bool = True, laid_on: bool = False) -> None:
        """Read the object again if it changed since.

        Parameters
        ----------
        obj : bpy.types.Object
        depsgraph : bpy.types.Depsgraph, optional
            Where given, an object whose shape keys and bones alone cannot make is taken as it stands there.
        thorough : bool
            Compare coordinates too, if something hints at a change.
        laid_on : bool
            Values stand in for the scene's: the head is then made of shape keys and bones whatever else Blender does.
        """
        original = obj.original if depsgraph is not None else obj
        if original.data.is_editmode and self.gpu is not None:
            # Half of the mesh lies elsewhere until Edit Mode is left, which tells of a change.
            self.suspect = False
            return
        looks = self._wardrobe.looks_of(obj)
        colour, mapping = _colour_named_by(looks), mapping_of(original)
        if depsgraph is not None and not laid_on and not reading.is_exact(original, final=depsgraph.mode == "RENDER"):
            # Whatever changes a shape that was evaluated is told, and makes it suspect.
            same = looks == self._looks and mapping == self._mapping
            if self._structure is not None or self.suspect or not same:
                self._structure, self.source, self.suspect = None, self.uid, False
                self._upload(lambda: reading.read_evaluated(original, depsgraph, colour), looks, mapping, obj)
            return
        structure = (colour, mapping, *reading.structure(original))
        changed = structure != self._structure
        if self.suspect and thorough:
            content = reading.content(original)
            changed |= content != self._content
            self._content = content
            self.suspect = False
        self._structure, self.source = structure, original.data.session_uid
        if changed:
            self._upload(lambda: reading.read_mesh(original, colour), looks, mapping, obj)
        elif looks != self._looks and self.gpu is not None:
            self._dress_as(self, looks)

    def sync_instance(self, obj: bpy.types.Object, twin: Head) -> None:
        """Read the mesh of an instance again if it changed since: it has no keys and no bones left.

        Parameters
        ----------
        obj : bpy.types.Object
            As `Depsgraph.object_instances` has it, and only for as long as that stands there.
        twin : Head
            The first instance of the same mesh, which the others take it from, or this one itself.
        """
        looks = self._wardrobe.looks_of(obj)
        if twin is not self:
            if self.gpu is None or self.gpu.model is not twin.gpu.model or looks != self._looks:
                self._dress_as(twin, looks)
            return
        content = reading.content(obj) if self.suspect else self._content
        if self.gpu is None or content != self._content or looks != self._looks:
            colour = _colour_named_by(looks)
            self._upload(lambda: reading.read_still(obj.data, colour), looks, HeadMapping(), obj.original)
        self._content, self.suspect = content, False

    def _dress_as(self, twin: Head, looks: list[Look]) -> None:
        """Show a twin's mesh, shaded as it is there, with materials of its own."""
        occlusion = twin.gpu.occlusion
        self.gpu = GpuModel(twin.gpu.model, looks)
        self.gpu.dress(occlusion)
        self._looks = looks

    def _upload(self, read: Callable[[], MeshArrays], looks: list[Look], mapping: HeadMapping, obj) -> None:
        # Noted before it is read: what cannot be read is not tried again until it changes.
        self.gpu, self._looks, self._mapping = None, looks, mapping
        mesh = read()
        self.gpu = GpuModel(build_model(mesh), looks)
        self.uploads += 1
        if len(mesh.positions):
            self._eyes, self._axes = find_eyes(obj, mesh, mapping), find_axes(obj, mapping)
            self.gpu.bake_occlusion(*self._ajar(obj))

    def _ajar(self, obj):
        """Return the pose for occlusion: the mouth half open, so that it is no black hole later."""
        shapes = self.gpu.model.shapes
        weights = np.zeros(len(shapes), np.float32)
        for name, channel in self.channels.items():
            if channel in _JAW_CHANNELS and name in shapes:
                weights[shapes.index(name)] = 0.6
        bones, jaw = None, self._mapping.bones["jaw"]
        if jaw in self.gpu.model.bones:
            armature = reading.armature_modifier(obj).object
            rest = {bone.name: IDENTITY for bone in armature.pose.bones}
            rest[jaw] = jaw_turn(armature, jaw, 0.6, IDENTITY)
            bones = reading.read_bones(obj, self.gpu.model.bones, rest)
        return weights, bones

    def weights(self, obj, sample: Sample | None = None, depsgraph=None) -> dict[str, float]:
        """Return the weight of every shape, muted or not: the sample's where it has one, else the scene's."""
        values = reading.read_weights(obj, self.gpu.model.shapes, depsgraph)
        if sample is not None:
            lay_on(values, sample, self._mapping)
        return values

    def pose(
        self,
        obj,
        sample: Sample | None = None,
        *,
        depsgraph=None,
        matrix: np.ndarray | None = None,
        offset: np.ndarray | None = None,
        expression: dict[str, float] | None = None,
        strength: float = 0.0,
    ) -> None:
        """Bring the weights and matrices of this moment to the GPU.

        Parameters
        ----------
        obj : bpy.types.Object
        sample : Sample, optional
        depsgraph : bpy.types.Depsgraph, optional
            Where to read the scene's values; the viewport's by default.
        matrix : ndarray, shape (4, 4), optional
            Where it stands, if not where the object does.
        offset : ndarray, shape (4, 4), optional
            Put before that matrix.
        expression : dict of str to float, optional
            Unit weights to lay over the face.
        strength : float
            Of the expression, 0..1.
        """
        model = self.gpu.model
        channels, jaw = self.channels, self._mapping.bones["jaw"]
        self.values = self.weights(obj, sample, depsgraph)
        turns = dict(sample.bones) if sample else {}
        if expression is not None and strength > 0.0:
            captured = _opening(self.values, channels)
            self.values = blend(self.values, expression, strength, self._mapping)
            more = _opening(self.values, channels) - captured
            if more and jaw in model.bones:
                turns[jaw] = jaw_turn(reading.armature_modifier(obj).object, jaw, more, turns.get(jaw))
        # The bone of the jaw turns whether its key is seen or not, as in a bake.
        self.values = reading.as_mixed(obj, self.values, depsgraph)
        bones = reading.read_bones(obj, model.bones, turns, depsgraph)
        matrix = reading.object_matrix(obj) if matrix is None else matrix
        self.matrix = matrix if offset is None else matrix @ offset
        self.gpu.pose(self.matrix, list(self.values.values()), bones)
        self.frame = self._frame(bones)

    def _frame(self, bones: np.ndarray) -> np.ndarray:
        """Return where the face is: the middle between the eyes, and the head's axes."""
        carry, name = np.eye(4), self._mapping.bones["head"]
        if name in self.gpu.model.bones:
            carry = bones[self.gpu.model.bones.index(name)]
        carry = self.matrix @ carry
        left, right = (carry[:3, :3] @ eye + carry[:3, 3] for eye in self._eyes)
        return anchor_frame(left, right, carry[:3, :3] @ self._axes)

    @property
    def channels(self) -> Mapping[str, str]:
        """The channels of its shapes, by their names."""
        return self._mapping.channels

    def rest_middle(self) -> np.ndarray:
        """Return the middle between the eyes at rest, in the world."""
        middle = self._eyes.mean(axis=0)
        return self.matrix[:3, :3] @ middle + self.matrix[:3, 3]

    def ball(self) -> tuple[np.ndarray, float]:
        """Return centre and radius of a ball round the head at rest, in the world."""
        model = self.gpu.model
        scale = float(np.linalg.norm(self.matrix[:3, :3], axis=0).max())
        # A tenth more than the box's own ball leaves room for the pose.
        centre = self.matrix[:3, :3] @ model.centre + self.matrix[:3, 3]
        return centre, 0.55 * model.size * scale


def _colour_named_by(looks: list[Look]) -> str | None:
    """Return the colour attribute that one of an object's materials names."""
    return next((look.colour_attribute for look in looks if look.colour_attribute), None)


def doubt(heads: Iterable[Head]) -> None:
    """Have coordinates and looks compared anew, whatever hints there were."""
    forget_looks()
    for head in heads:
        head.suspect = True


def note_changes(heads: Iterable[Head], updates: Iterable[bpy.types.DepsgraphUpdate]) -> None:
    """Note of which heads the coordinates may have changed: bones that turn evaluate the object anew, not its mesh."""
    changed = {update.id.original.session_uid for update in updates if update.is_updated_geometry}
    for head in heads:
        head.suspect |= head.source in changed


def lay_on(values: dict[str, float], sample: Sample, mapping: HeadMapping) -> None:
    """Put a sample's weights, by names of shapes or of their channels, in the place of a head's own."""
    for name in values:
        channel = mapping.channels.get(name)
        if name in sample.weights:
            values[name] = sample.weights[name]
        elif channel in sample.weights:
            values[name] = min(sample.weights[channel] * mapping.strengths.get(name, 1.0), 1.0)


def _opening(values: dict[str, float], channels: Mapping[str, str]) -> float:
    """Return how far the mouth is open, 0..1."""
    known = by_channel(values, channels)
    return max(known.get(channel, 0.0) for channel in _JAW_CHANNELS)


def jaw_turn(armature, name: str, opening: float, start=None) -> tuple[float, float, float, float]:
    """Return the jaw bone's rotation (w, x, y, z) when it opens further.

    Parameters
    ----------
    armature : bpy.types.Object
    name : str
        The bone's.
    opening : float
        Of the shape that goes with it.
    start : (w, x, y, z), optional
        Where it opens from; its pose by default.
    """
    bone = armature.pose.bones[name]
    if start is None:
        start = bone.matrix_basis.to_quaternion()
    angle = float(armature.get(JAW_ANGLE_PROPERTY, JAW_ANGLE))
    rest = tuple(bone.bone.matrix_local.to_quaternion())
    return tuple(map(float, multiply(start, into_bone(about(0, opening * angle), rest))))


def find_axes(obj, mapping: HeadMapping) -> np.ndarray:
    """Return a character's axes at rest in the object's space, shape (3, 3): to its left, backwards, up."""
    modifier = reading.armature_modifier(obj)
    if modifier is None:
        return np.eye(3)
    into = reading.into_object(obj, modifier.object)
    return into[:3, :3] @ np.array(upright(modifier.object, mapping.bones).inverted().to_matrix())


def find_eyes(obj, mesh: MeshArrays, mapping: HeadMapping) -> np.ndarray:
    """Return where the actor's left and right eye are at rest, in the object's space, shape (2, 3).

    From the eye bones, or the middle of what the blinks move, or else a guess from the mesh's box.
    """
    modifier = reading.armature_modifier(obj)
    bones = modifier.object.data.bones if modifier else {}
    eyes = [mapping.bones[role] for role in EYES]
    if all(name in bones for name in eyes):
        into = reading.into_object(obj, modifier.object)
        heads = [np.array(bones[find_aim(modifier.object, name)[0]].head_local) for name in eyes]
        return np.array([into[:3, :3] @ head + into[:3, 3] for head in heads])
    names = {channel: name for name, channel in mapping.channels.items() if name in mesh.shapes}
    for pair in (("BlinkLeft", "BlinkRight"), ("eyeBlinkLeft", "eyeBlinkRight")):
        if all(channel in names for channel in pair):
            moved = [mesh.deltas[mesh.shapes.index(names[channel])][0] for channel in pair]
            if all(map(len, moved)):
                return np.array([mesh.positions[index].mean(axis=0) for index in moved], np.float64)
    low, high = mesh.positions.min(axis=0), mesh.positions.max(axis=0)
    middle, span = (low + high) / 2, high - low
    side = np.array((0.2 * span[0], 0.0, 0.0))
    front = np.array((middle[0], low[1] + 0.15 * span[1], middle[2]))
    return np.array((front + side, front - side), np.float64)
