"""What each shape key and bone of a head stands for: as its name tells, or as was chosen for this head."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from ...core.units import ARKIT_INDEX, UNIT_INDEX
from ..ids import HEAD_BONES, HEAD_SHAPES
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
    bones = {role: getattr(obj, setting) or role for role, setting in HEAD_BONES.items()}
    # The search in the panel offers these alone; a script may write anything.
    rows = {
        row.name: row for row in getattr(obj, HEAD_SHAPES) if row.channel in UNIT_INDEX or row.channel in ARKIT_INDEX
    }
    if not rows:
        return HeadMapping(channels_of(names), bones=bones)
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
    candidates = [m.object for m in mesh.modifiers if m.type == "ARMATURE" and m.object is not None]
    if mesh.parent is not None and mesh.parent.type == "ARMATURE":
        candidates.append(mesh.parent)
    # A head often hangs on several armatures (body, face): the one with most of the bones is meant.
    return max(candidates, key=lambda a: sum(name in a.data.bones for name in bones.values()), default=None)


# VRM's expressions and what VRoid Studio calls its shape keys, by words of theirs; of two that fit the first counts.
_SHAPE_WORDS = (
    (r"(eye_close|blink|wink)_?(l|left)$", "BlinkLeft"),
    (r"(eye_close|blink|wink)_?(r|right)$", "BlinkRight"),
    (r"brw_(surprised|up)$", "BrowRaise"),
    (r"brw_(angry|down)$", "BrowFurrow"),
    (r"eye_(spread|wide)$", "EyeWide"),
    (r"eye_fun$", "CheekSquint"),
    (r"(^|mth_)aa?$", "JawOpen"),
    (r"(^|mth_)o?u$", "Pucker"),
    (r"mth_(fun|joy|smile)$", "Smile"),
    (r"mth_(sorrow|sad|frown)$", "Frown"),
)
# Of VRoid Studio, Mixamo and others. What a control rig turns by other bones is none of them.
_BONE_WORDS = (
    (r"(^|[_.: ])neck$", "neck"),
    (r"(^|[_.: ])head$", "head"),
    (r"(^|[_.: ])jaw$", "jaw"),
    (r"(^|[_.: ])(l_(face)?eye|(face)?eye[_. ]?l|left_?eye|eye_?left)$", "eye.L"),
    (r"(^|[_.: ])(r_(face)?eye|(face)?eye[_. ]?r|right_?eye|eye_?right)$", "eye.R"),
)
_NO_BONE = re.compile(r"^(org|mch|def|ik|ctrl)[-_.]|target|aim|upper|lower|lid")
_RIGIFY_JAW = "jaw_master"
"""What opens the mouth of a Rigify face; its ``jaw`` moves the chin's flesh."""


def guess_shapes(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return which channel each shape key may stand for: as its name tells, else as VRM and VRoid Studio call theirs.

    No unit is given to a shape key where ARKit's shapes make its movement, nor a channel that is `taken`.

    >>> guess_shapes(("Fcl_MTH_A", "Fcl_EYE_Close_L", "Hat"))
    {'Fcl_EYE_Close_L': 'BlinkLeft', 'Fcl_MTH_A': 'JawOpen'}
    """
    names = tuple(names)
    known = dict(channels_of(names))
    held = {*taken, *known.values()}
    made = {unit for unit, parts in ARKIT_OF.items() if held.issuperset(parts)}
    more = _guess([name for name in names if name not in known], _SHAPE_WORDS)
    result = {name: channel for name, channel in known.items() if channel not in made.union(taken)}
    return result | {name: channel for channel, name in more.items() if channel not in held | made}


def guess_bones(names: Iterable[str]) -> dict[str, str]:
    """Return which bone may be which, by what they are in `BONES`; one of that very name is.

    >>> guess_bones(("J_Bip_C_Head", "J_Adj_L_FaceEye", "Hat"))
    {'head': 'J_Bip_C_Head', 'eye.L': 'J_Adj_L_FaceEye'}
    """
    names = tuple(names)
    found = _guess([name for name in names if not _NO_BONE.search(name.casefold())], _BONE_WORDS)
    found |= {role: role for role in BONES if role in names}
    return found | ({"jaw": _RIGIFY_JAW} if _RIGIFY_JAW in names else {})


def _guess(names: Iterable[str], words: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first name that fits each meaning, by meaning."""
    found = {
        meaning: next((name for name in names if re.search(pattern, name.casefold())), None)
        for pattern, meaning in words
    }
    return {meaning: name for meaning, name in found.items() if name is not None}
