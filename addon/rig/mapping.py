"""What each shape key and bone of a head stands for: as its name tells, or as was chosen for this head."""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping

from ...core.units import ARKIT_INDEX, UNIT_INDEX
from ..ids import HEAD_BONES, HEAD_SHAPES, PREVIEW
from .names import ARKIT_OF, by_channel, channels_of

BONES: tuple[str, ...] = tuple(HEAD_BONES)

EYES = ("eye.L", "eye.R")


@dataclasses.dataclass(frozen=True)
class HeadMapping:
    """What a head's parts stand for.

    Attributes
    ----------
    channels : mapping of str to str
        Shape keys, and the channel of each, of `UNITS` or `ARKIT`.
    strengths : mapping of str to float
        Of the shape keys that move more or less than their channel: times how much.
    bones : mapping of str to str
        Names of the bones by what they are in `BONES`, whether the rig has them or not.
    by_hand : bool
        Whether the channels were chosen, and names count for nothing.
    gone : tuple of str
        Shape keys that a channel was chosen for and that the head has no more.
    """

    channels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    strengths: Mapping[str, float] = dataclasses.field(default_factory=dict)
    bones: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(zip(BONES, BONES, strict=True)))
    by_hand: bool = False
    gone: tuple[str, ...] = ()


def mapping_of(obj) -> HeadMapping:
    """Return what the shape keys and bones of a mesh object stand for."""
    key = getattr(obj.data, "shape_keys", None)
    names = tuple(key.key_blocks.keys()) if key is not None else ()
    chosen = {role: getattr(obj, setting) for role, setting in HEAD_BONES.items()}
    told = _told_by_bones(obj, set(chosen.values()))
    bones = {role: name or told.get(role, role) for role, name in chosen.items()}
    # The search in the panel offers these alone; a script may write anything.
    rows = {
        row.name: row for row in getattr(obj, HEAD_SHAPES) if row.channel in UNIT_INDEX or row.channel in ARKIT_INDEX
    }
    if not rows:
        return HeadMapping(guess_shapes(names), bones=bones)
    here = {name: rows[name] for name in names if name in rows}
    return HeadMapping(
        {name: row.channel for name, row in here.items()},
        {name: row.strength for name, row in here.items() if row.strength != 1.0},
        bones,
        by_hand=True,
        gone=tuple(name for name in rows if name not in here),
    )


def channels_worn(face: Mapping[str, float], mapping: HeadMapping) -> dict[str, float]:
    """Return the values of a head's shapes, by their channels, that are not 0: what it would take to make this face."""
    given = {
        name: min(value / (mapping.strengths.get(name) or 1.0), 1.0) for name, value in face.items() if value > 0.0
    }
    return by_channel(given, mapping.channels)


def find_armature(mesh, bones: Mapping[str, str]):
    """Return the armature object that carries a mesh, the one with most of the bones, or None."""
    # A head often hangs on several armatures (body, face): the one with most of the bones is meant.
    return max(_armatures_of(mesh), key=lambda a: sum(name in a.data.bones for name in bones.values()), default=None)


def armature_of(mesh):
    """Return the armature object that carries a mesh, by what its bones stand for, or None."""
    return find_armature(mesh, mapping_of(mesh).bones)


def _told_by_bones(mesh, chosen: set[str]) -> Mapping[str, str]:
    """Return what the bones of one armature that carries a mesh tell: one that has what was chosen, if any."""
    each = [tuple(armature.data.bones.keys()) for armature in _armatures_of(mesh)]
    told = ((len(chosen.intersection(names)), guess_bones(names)) for names in each)
    return max(told, key=lambda one: (one[0], len(one[1])), default=(0, {}))[1]


def _armatures_of(mesh) -> list:
    found = [m.object for m in mesh.modifiers if m.type == "ARMATURE" and m.object is not None]
    above = mesh.parent
    while above is not None and above.type != "ARMATURE":
        above = above.parent
    return found if above is None else [*found, above]


def likeliness(mesh) -> tuple[int, int]:
    """Return how likely a mesh is the head among others: teeth and eyes, which move along, are smaller."""
    known = len(mapping_of(mesh).channels) if mesh.data.shape_keys else -1
    return known, len(mesh.data.vertices)


def hangs_on_bone(obj) -> bool:
    """Whether an object, or one above it, is parented to a bone."""
    while obj.parent is not None and obj.parent_type != "BONE":
        obj = obj.parent
    return obj.parent is not None


def meshes_along(mesh, objects: Iterable) -> list:
    """Return the other meshes with known shape keys, on the armature that carries `mesh`: teeth, eyes, brows."""
    armature = armature_of(mesh)
    if armature is None:
        return []
    moved = mesh.data.shape_keys
    shaped = (obj for obj in objects if obj.type == "MESH" and obj.data.shape_keys not in (None, moved))
    with_mapping = ((obj, mapping_of(obj)) for obj in shaped)
    return [obj for obj, own in with_mapping if own.channels and find_armature(obj, own.bones) == armature]


def seen_along(mesh, scene) -> list:
    """Return those of `meshes_along` that are seen in a scene: what else may follow the face."""
    along = meshes_along(mesh, scene.objects)
    return [each for each in along if any(is_seen(each, layer) for layer in scene.view_layers)]


def is_seen(obj, layer) -> bool:
    """Whether a view layer shows an object, or would if the preview had not hidden it to draw it itself."""
    noted = getattr(layer, PREVIEW, None)  # the command line knows no preview
    return obj.visible_get(view_layer=layer) or (noted is not None and any(one.head == obj for one in noted.hidden))


# What VRM, VRoid Studio, Ready Player Me and MikuMikuDance call shapes, by words; of two that fit the first counts.
_SHAPE_WORDS = (
    (r"((eye_close|blink|wink)_?(l|left)|^ウィンク2)$", "BlinkLeft"),
    (r"((eye_close|blink|wink)_?(r|right)|^ウィンク2右)$", "BlinkRight"),
    (r"^ウィンク$", "BlinkLeft"),  # with a laugh
    (r"^ウィンク右$", "BlinkRight"),
    (r"(brw_(surprised|up)|^上)$", "BrowRaise"),
    (r"(brw_(angry|down)|^怒り)$", "BrowFurrow"),
    (r"(eye_(spread|wide)|^びっくり)$", "EyeWide"),
    (r"eye_fun$", "CheekSquint"),
    (r"((^|mth_)aa?|^mouth_?open|^あ)$", "JawOpen"),
    (r"((^|mth_)o?u|^う)$", "Pucker"),
    (r"(mth_(fun|joy|smile)|^mouth_?smile|^にやり|^口角上げ)$", "Smile"),
    (r"(mth_(sorrow|sad|frown)|^口角下げ)$", "Frown"),
)
_VOWEL = re.compile(r"(aa?|ih?|o?u|ee?|oh?|[あいうえお])$")
"""Names that may be anything where they stand alone."""

# Character Creator's names, but for those that are ARKit's otherwise spelt; some ARKit shapes are several of its.
_CHARACTER_CREATOR = {
    name.format(short): channel.format(side)
    for short, side in (("l", "Left"), ("r", "Right"))
    for name, channel in {
        "brow_drop_{}": "browDown{}",
        "brow_raise_inner_{}": "browInnerUp",
        "brow_raise_outer_{}": "browOuterUp{}",
        "cheek_puff_{}": "cheekPuff",
        "cheek_raise_{}": "cheekSquint{}",
        "eye_{}_look_down": "eyeLookDown{}",
        "eye_{}_look_up": "eyeLookUp{}",
        "eye_{0}_look_{0}": "eyeLookOut{}",
        "mouth_down_lower_{}": "mouthLowerDown{}",
        "mouth_funnel_down_{}": "mouthFunnel",
        "mouth_funnel_up_{}": "mouthFunnel",
        "mouth_pucker_down_{}": "mouthPucker",
        "mouth_pucker_up_{}": "mouthPucker",
        "mouth_roll_in_lower_{}": "mouthRollLower",
        "mouth_roll_in_upper_{}": "mouthRollUpper",
        "mouth_up_upper_{}": "mouthUpperUp{}",
    }.items()
} | {"eye_l_look_r": "eyeLookInLeft", "eye_r_look_l": "eyeLookInRight"}
# Of VRoid Studio, Mixamo, Character Creator, DAZ, MakeHuman, Unreal, MikuMikuDance and others. What a control rig
# turns by other bones is none of them.
_BONE_WORDS = (
    (r"(^|[_.: ])neck(lower|_?0?1|twist01)?$|^首$", "neck"),
    (r"(^|[_.: ])head$|^頭$", "head"),
    (r"(^|[_.: ])(lower_?)?jaw(root)?$", "jaw"),
    (r"(^|[_.: ])(l_?(face)?eye|(face)?eye[_. ]?l|left_?eye|eye_?left)$|^(左目|目\.l)$", "eye.L"),
    (r"(^|[_.: ])(r_?(face)?eye|(face)?eye[_. ]?r|right_?eye|eye_?right)$|^(右目|目\.r)$", "eye.R"),
)
_NO_BONE = re.compile(r"^(org|mch|def|ik|fk|ctrl|ctl)[-_.]|target|aim|upper|(?<!neck)lower(?!_?jaw)|lid")
_RIGIFY_JAW = "jaw_master"
"""What opens the mouth of a Rigify face; its ``jaw`` moves the chin's flesh."""


@functools.lru_cache(maxsize=256)
def guess_shapes(names: tuple[str, ...], taken: frozenset[str] = frozenset()) -> Mapping[str, str]:
    """Return which channel each shape key stands for, as far as names tell; it is not to be changed.

    As `channels_of` knows them, else as VRM, VRoid Studio, Ready Player Me, MikuMikuDance and Character Creator call
    theirs. A channel that is `taken` is given to none, and by words no unit of which ARKit's shapes make a part.

    >>> guess_shapes(("Fcl_MTH_A", "Fcl_EYE_Close_L", "Hat"))
    {'Fcl_EYE_Close_L': 'BlinkLeft', 'Fcl_MTH_A': 'JawOpen'}
    """
    known = channels_of(names)
    held = {*taken, *known.values()}
    others = [name for name in names if name not in known]
    parts = {name: _CHARACTER_CREATOR.get(name.casefold()) for name in others}
    parts = {name: channel for name, channel in parts.items() if channel is not None and channel not in held}
    held.update(parts.values())
    plain = {name: unicodedata.normalize("NFKC", name).casefold() for name in others if name not in parts}
    vowels = [name for name, text in plain.items() if _VOWEL.match(text)]
    more = _guess({name: text for name, text in plain.items() if len(vowels) > 1 or name not in vowels}, _SHAPE_WORDS)
    result = {name: channel for name, channel in known.items() if channel not in taken}
    return result | parts | {name: unit for unit, name in more.items() if held.isdisjoint((unit, *ARKIT_OF[unit]))}


@functools.lru_cache(maxsize=256)
def guess_bones(names: tuple[str, ...]) -> Mapping[str, str]:
    """Return which bone is which, by what they are in `BONES`, as far as names tell; it is not to be changed.

    One of that very name is.

    >>> guess_bones(("J_Bip_C_Head", "J_Adj_L_FaceEye", "Hat"))
    {'head': 'J_Bip_C_Head', 'eye.L': 'J_Adj_L_FaceEye'}
    """
    plain = {name: name.casefold().rpartition(":")[2] for name in sorted(names, key=len)}  # the plainest first
    found = _guess({name: text for name, text in plain.items() if not _NO_BONE.search(text)}, _BONE_WORDS)
    found |= {role: role for role in BONES if role in names}
    return found | ({"jaw": _RIGIFY_JAW} if _RIGIFY_JAW in names else {})


def _guess(names: Mapping[str, str], words: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first name that fits each meaning, by meaning; the first pattern of a meaning that fits any counts."""
    found: dict[str, str] = {}
    for pattern, meaning in words:
        name = next((name for name, text in names.items() if re.search(pattern, text)), None)
        if name is not None:
            found.setdefault(meaning, name)
    return found
