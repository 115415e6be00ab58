"""Finds what a performance can be put on, and says in words what stands in the way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...core.errors import MienError
from ...core.units import ARKIT, UNITS
from ..ids import HEAD_BONES
from .aims import Aim, find_aim, goes_along, is_placed, replaces
from .axes import upright
from .eyes import turned_by_keys
from .mapping import BONES, EYES, HeadMapping, armature_of, find_armature, mapping_of
from .names import ARKIT_OF, covered

if TYPE_CHECKING:
    import bpy

JAW_ANGLE_PROPERTY = "mien_jaw_open_angle"
"""Custom property of the armature object: how far the jaw turns at JawOpen 1, radians."""

JAW_ANGLE = math.radians(20.0)
"""The jaw's turn for an armature that does not tell its own."""

_ROTATIONS = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}

_INSTEAD = {
    "jaw": ("JawOpen", "jawOpen"),
    "eye.L": ("eyeLookUpLeft", "eyeLookOutLeft"),
    "eye.R": ("eyeLookUpRight", "eyeLookOutRight"),
}
"""Channels of shape keys that do what a bone would."""

_OVERRIDING = frozenset(
    ("COPY_ROTATION", "COPY_TRANSFORMS", "DAMPED_TRACK", "IK", "LOCKED_TRACK", "SPLINE_IK", "STRETCH_TO", "TRACK_TO")
)
"""Constraints that turn a bone elsewhere than it is keyed; others add to its rotation, or limit it."""


@dataclasses.dataclass(frozen=True)
class Bone:
    """What the bake has to know of one bone.

    Attributes
    ----------
    name : str
    mode : str
        ``PoseBone.rotation_mode``.
    rest : tuple of float
        Rest orientation where up is Z and the character looks along -Y, quaternion w, x, y, z.
    ancestors : tuple of str
        Names of the bones whose turning carries this one along.
    aim : Aim or None
        What has to be moved for this bone to turn.
    """

    name: str
    mode: str
    rest: tuple[float, float, float, float]
    ancestors: tuple[str, ...] = ()
    aim: Aim | None = None

    @property
    def keyed(self) -> str:
        """Name of the bone that is given values."""
        return self.name if self.aim is None else self.aim.name


@dataclasses.dataclass(frozen=True)
class Rig:
    """A target's channels as plain data, so that planning a bake needs no Blender.

    Attributes
    ----------
    keys : dict of str to str
        Shape keys to drive, and the channel of each, of `UNITS` or `ARKIT`.
    strengths : dict of str to float
        Of the keys that are moved more or less than their channel: times how much.
    bones : dict of str to Bone
        Those that the rig has, by what they are in `BONES`.
    jaw_angle : float
        Radians at JawOpen 1.
    driven : tuple of str
        Bones of `BONES` that are not among `bones`, since drivers turn them.
    carried : float
        0..1, how much of the neck's turn the head is brought along by.
    """

    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    strengths: dict[str, float] = dataclasses.field(default_factory=dict)
    bones: dict[str, Bone] = dataclasses.field(default_factory=dict)
    jaw_angle: float = JAW_ANGLE
    driven: tuple[str, ...] = ()
    carried: float = 1.0

    def shares(self, wanted: float) -> tuple[float | None, float]:
        """Return how much of the head's turn neck and head take, where `wanted` is chosen for the neck.

        None for a neck that takes none.
        """
        if "neck" not in self.bones:
            return None, 1.0
        if "head" not in self.bones:
            return wanted if "head" in self.driven else 1.0, 1.0
        if self.bones["neck"].name not in self.bones["head"].ancestors:
            return None, 1.0
        return wanted, 1.0 - wanted * self.carried


@dataclasses.dataclass(frozen=True)
class Target:
    """A checked target. Holds Blender data: use it at once, do not keep it.

    Attributes
    ----------
    mesh : bpy.types.Object
    armature : bpy.types.Object or None
    rig : Rig
    missing_units : tuple of str
        Expression units the mesh has neither a key nor all ARKit shapes for, when it has keys of some units.
    missing_bones : dict of str to str
        What of `BONES` the rig has not, and the name under which it was looked for; of those that nobody chose, only
        what no shape key does instead.
    about_keys, about_bones : tuple of str
        Sentences about what will not be driven, or not be seen.
    """

    mesh: bpy.types.Object
    armature: bpy.types.Object | None
    rig: Rig
    missing_units: tuple[str, ...]
    missing_bones: dict[str, str]
    about_keys: tuple[str, ...]
    about_bones: tuple[str, ...]

    @property
    def notices(self) -> tuple[str, ...]:
        """All that is to be told."""
        return (*self.about_keys, *self.about_bones)


def find_target(mesh: bpy.types.Object | None, *, need_keys: bool = True) -> Target:
    """Check that `mesh` can take a performance and list its channels.

    Parameters
    ----------
    mesh : bpy.types.Object or None
        The head: a mesh object with shape keys.
    need_keys : bool
        Whether a head without any usable shape key is an error (else its bones are enough).

    Raises
    ------
    MienError
        With a code beginning ``target-``.
    """
    _check_mesh(mesh)
    about_keys: list[str] = []
    about_bones: list[str] = []
    mapping = mapping_of(mesh)
    keys = _find_keys(mesh, mapping, need_keys, about_keys)
    armature = find_armature(mesh, mapping.bones)
    turned = turned_by_keys(mesh, armature, mapping) if armature is not None else ()
    if turned:
        about_bones.append(f"Shape keys turn the eyes, so {listed(mapping.bones[role] for role in turned)} rest")
    wanted = {role: name for role, name in mapping.bones.items() if role not in turned}
    bones, driven, angle = _find_bones(wanted, armature, about_bones)
    off = _modifiers_off(mesh, armature) if bones else []
    if off:
        about_bones.append(f"The modifier {listed(off)} is off: bones are baked, but not seen as long as it is")
    carried = _carried(armature, bones["neck"].name, bones["head"].name) if {"neck", "head"} <= bones.keys() else 1.0
    if not keys and not bones:
        raise MienError(
            "target-nothing",
            f'Nothing of "{mesh.name}" can be moved. {"".join(about_keys[:1])}'.strip(),
            "Choose what they stand for under Mapping, or add the sample head to see one.",
        )
    known = mapping.channels.values() if keys else ()
    missing = tuple(unit for unit in UNITS if unit not in known and not covered(unit, known))
    return Target(
        mesh=mesh,
        armature=armature if bones else None,
        rig=Rig(keys, dict(mapping.strengths), bones, angle, driven, carried),
        missing_units=missing if any(unit in known for unit in UNITS) else (),
        missing_bones={
            role: name
            for role, name in mapping.bones.items()
            if (armature is None or name not in armature.data.bones)
            and (getattr(mesh, HEAD_BONES[role]) or not any(channel in known for channel in _INSTEAD.get(role, ())))
        },
        about_keys=tuple(about_keys),
        about_bones=tuple(about_bones),
    )


def _check_mesh(mesh: bpy.types.Object | None) -> None:
    """Raise MienError unless `mesh` is a mesh object that can be animated in the scene."""
    if mesh is None:
        raise MienError(
            "target-none", "No head is chosen.", "Choose a mesh with shape keys under Target, or add the sample head."
        )
    if mesh.type != "MESH":
        raise MienError(
            "target-not-mesh", f'"{mesh.name}" is not a mesh.', "Choose the mesh object that carries the shape keys."
        )
    if mesh.library is not None:
        # In the scene itself, or in a collection that an empty brings there.
        instanced = not mesh.users_scene
        raise MienError(
            "target-linked",
            f'"{mesh.name}" is linked from {mesh.library.name} and cannot be changed here.',
            "Select the empty that shows it, choose Object > Library Override > Make, then the head under Target again."
            if instanced
            else "Make it local with Object > Relations > Make Local, or work in its own file.",
        )
    if mesh.users_collection and not mesh.users_scene:
        raise MienError(
            "target-instanced",
            f'"{mesh.name}" is in no scene: what is seen are instances of its collection.',
            "Drag its collection into the scene in the Outliner, or choose another head under Target.",
        )
    if not mesh.users_scene:
        # The setting that names it keeps it alive.
        raise MienError("target-gone", f'"{mesh.name}" was deleted.', "Choose another head under Target.")
    if mesh.data.is_editmode:
        raise MienError("target-edit-mode", f'"{mesh.name}" is in Edit Mode.', "Leave Edit Mode (Tab) and try again.")


def find_further(meshes: Iterable[bpy.types.Object]) -> tuple[list[Target], list[str]]:
    """Return those of further heads that can take a performance, and sentences about the others."""
    targets, left_out = [], []
    for mesh in meshes:
        try:
            targets.append(find_target(mesh, need_keys=False))
        except MienError as error:
            left_out.append(f"{mesh.name} was left out: {error.message}")
    return targets, left_out


def without_shared(targets: Sequence[Target]) -> list[Target]:
    """Return targets, each without the shape keys and the armature that one before it has: these are moved once."""
    taken, result = set(), []
    for target in targets:
        key, rig, about_bones = target.mesh.data.shape_keys, target.rig, target.about_bones
        armature = armature_of(target.mesh)
        if key in taken:
            rig = dataclasses.replace(rig, keys={})
        # Teeth without an armature are no surprise, and of a shared one all is told already.
        if taken and (armature is None or armature in taken):
            rig, about_bones = dataclasses.replace(rig, bones={}), ()
        result.append(dataclasses.replace(target, rig=rig, about_bones=about_bones))
        taken |= {key, armature}
    return result


def _find_keys(mesh, mapping: HeadMapping, need_keys, notices) -> dict[str, str]:
    def none(code, message, hint) -> dict[str, str]:
        if need_keys:
            raise MienError(code, message, hint)
        notices.append(message)
        return {}

    key = mesh.data.shape_keys
    if key is None:
        return none(
            "target-no-keys",
            f'"{mesh.name}" has no shape keys.',
            "Choose a mesh with shape keys for the face.",
        )
    known = mapping.channels
    if mapping.gone:
        notices.append(f"No shape key {listed(mapping.gone)}, which the mapping names")
    if not known:
        return none(
            "target-no-known-keys",
            f'None of the {len(key.key_blocks)} shape keys of "{mesh.name}" has a name that Mien knows.',
            f"Choose what each stands for under Mapping, or name them as Mien's 11 units ({UNITS[0]}, ...) or the 52 "
            f"ARKit shapes ({ARKIT[0]}, ...).",
        )
    if not is_ours(key):
        # Keys of a linked mesh can be animated in the window, but the animation is not saved with
        # the file: a bake that vanishes on reload is worse than none.
        return none(
            "target-linked-keys",
            f'The shape keys of "{mesh.name}" belong to a linked mesh, and animation on them would not be saved.',
            "In the Object Data tab, Shift-click the link icon beside the mesh's name to override the mesh as well, "
            "or use Object > Relations > Make Local.",
        )
    if not key.use_relative:
        return none(
            "target-absolute-keys",
            f'The shape keys of "{mesh.name}" are absolute, so their values do nothing.',
            "Turn on Relative in the Shape Keys panel.",
        )
    driven = _driven_keys(key)
    free = {name: channel for name, channel in known.items() if name not in driven}
    if not free:
        return none(
            "target-driven-keys",
            f'Drivers hold every shape key of "{mesh.name}" that Mien knows.',
            "Remove the drivers (right-click a value, Delete Drivers), or choose the mesh that drives them.",
        )
    if len(free) < len(known):
        held = [name for name in known if name in driven]
        notices.append(f"Drivers hold {listed(held)}: not baked")
    muted = [name for name in free if key.key_blocks[name].mute]
    if muted:
        notices.append(f"Muted, so not seen: {listed(muted)}")
    short = [name for name in free if key.key_blocks[name].slider_max < 1.0]
    if short:
        notices.append(f"The range of {listed(short)} ends before 1, and so do the keys: set Max to 1")
    high = [name for name in free if key.key_blocks[name].slider_min > 0.0]
    if high:
        notices.append(f"The range of {listed(high)} begins above 0, and so do the keys: set Min to 0")
    if mesh.show_only_shape_key:
        notices.append("The active shape key is pinned (solo): the others are not seen")
    # Of both, each movement would be made twice; who chose by hand may want that.
    twice = {
        name: ARKIT_OF[unit] for name, unit in free.items() if not mapping.by_hand and covered(unit, free.values())
    }
    if twice:
        parts = [name for name, channel in free.items() if any(channel in arkit for arkit in twice.values())]
        notices.append(f"{listed(twice)} left to {listed(parts)}")
    return {name: channel for name, channel in free.items() if name not in twice}


def _driven_keys(key) -> set[str]:
    paths = _driven_paths(key)
    return {block.name for block in key.key_blocks if block.path_from_id("value") in paths}


def _driven_paths(owner) -> set[str]:
    data = owner.animation_data
    return {driver.data_path for driver in data.drivers if not driver.mute} if data is not None else set()


def _find_bones(wanted: Mapping[str, str], armature, notices) -> tuple[dict[str, Bone], tuple[str, ...], float]:
    if armature is None:
        notices.append("No armature, so the head does not turn: Add Head Bones, under Mapping, makes one")
        return {}, (), JAW_ANGLE
    names = {role: name for role, name in wanted.items() if name in armature.data.bones}
    if not names:
        notices.append(f'"{armature.name}" has none of the bones {listed(wanted.values(), len(BONES))}')
        return {}, (), JAW_ANGLE
    if not is_ours(armature):
        notices.append(f'"{armature.name}" is linked: its bones are not baked')
        return {}, (), JAW_ANGLE
    if armature.mode == "EDIT":
        raise MienError(
            "target-edit-mode", f'"{armature.name}" is in Edit Mode.', "Leave Edit Mode (Tab) and try again."
        )
    bones, driven, turned, paths = {}, {}, [], _driven_paths(armature)
    posed, stands = armature.pose.bones, upright(armature, names)
    for role, name in names.items():
        eye, aim, tracking = find_aim(armature, name, stands) if role in EYES else (name, None, "")
        bone = Bone(
            name=eye,
            mode=posed[eye].rotation_mode,
            rest=tuple(stands @ posed[eye].bone.matrix_local.to_quaternion()),
            ancestors=_turning_ancestors(posed[eye].bone),
            aim=aim,
        )
        if any(eye == other.name for other in bones.values()):
            notices.append(f"The mapping has the bone {name} more than once: not as {role}")
            continue
        prop = "location" if aim else _ROTATIONS.get(bone.mode, "rotation_euler")
        if posed[bone.keyed].path_from_id(prop) in paths:
            driven[role] = bone.keyed
            continue
        if any(_overrides(constraint) and constraint.name != tracking for constraint in posed[eye].constraints):
            turned.append(eye)
        if aim is not None:
            _check_aim(armature, role, bones, bone, names.get("head", names.get("neck")), notices)
        bones[role] = bone
    if armature.data.pose_position == "REST":
        notices.append(f'"{armature.name}" is in Rest Position: baked, but not seen as long as it is')
    if driven:
        notices.append(f"Drivers hold {listed(driven.values(), len(BONES))}: not baked")
    if turned:
        notices.append(f"Constraints turn {listed(turned, len(BONES))}: baked, but not seen as long as they do")
    held = [bone.name for bone in bones.values() if any(map(_holds, posed[bone.name].constraints))]
    if held:
        notices.append(_held(listed(held, len(BONES))))
    return bones, tuple(driven), float(armature.get(JAW_ANGLE_PROPERTY, JAW_ANGLE))


def _modifiers_off(mesh, armature) -> list[str]:
    """Return the modifiers by which an armature would carry a mesh, where none is on and no parent does it instead."""
    carrying = [m for m in mesh.modifiers if m.type == "ARMATURE" and m.object == armature]
    carried = mesh.parent_type != "OBJECT" or any(m.show_viewport or m.show_render for m in carrying)
    return [] if carried else [m.name for m in carrying]


def _check_aim(armature, role, bones, bone, head, notices) -> None:
    name = bone.keyed
    if any(name == other.keyed for other in bones.values()):
        notices.append(f"Both eyes look at {name}: it follows the gaze of the left one")
        return
    if is_placed(armature.pose.bones[name]):
        notices.append(_held(name))
    if head is not None and not goes_along(armature, name, head):
        notices.append(f"{name} does not go with the head: where that turns, {role} looks elsewhere")


def _held(bones: str) -> str:
    return f"Constraints hold {bones}: baked, but not seen as long as they do"


def _overrides(constraint) -> bool:
    return constraint.type in _OVERRIDING and replaces(constraint)


def _holds(constraint) -> bool:
    """Whether a constraint leaves a bone a single rotation."""
    return (constraint.type == "LIMIT_ROTATION" and replaces(constraint)) and all(
        getattr(constraint, f"use_limit_{axis}")
        and getattr(constraint, f"min_{axis}") == getattr(constraint, f"max_{axis}")
        for axis in "xyz"
    )


def _carried(armature, neck: str, head: str) -> float:
    """Return how much of the neck's turn the head is brought along by: control rigs hold it upright by constraints."""
    share, bone = 1.0, armature.pose.bones[head].parent
    while bone is not None and bone.name != neck:
        for constraint in bone.constraints:
            if constraint.type in ("COPY_ROTATION", "COPY_TRANSFORMS") and _overrides(constraint):
                copied = armature.data.bones.get(constraint.subtarget) if constraint.target == armature else None
                if copied is None or neck not in (copied.name, *_turning_ancestors(copied)):
                    share *= 1.0 - constraint.influence
        bone = bone.parent
    return share


def _turning_ancestors(bone) -> tuple[str, ...]:
    names = []
    while bone.parent is not None and bone.use_inherit_rotation:
        bone = bone.parent
        names.append(bone.name)
    return tuple(names)


def is_ours(data_block) -> bool:
    """Whether animation on this data-block is saved with the file: local, or a real override."""
    override = data_block.override_library
    return data_block.is_editable and not (override is not None and override.is_system_override)


def listed(names: Iterable[str], limit: int = 4) -> str:
    """Return names as a part of a sentence; of more than `limit` the rest is counted."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
