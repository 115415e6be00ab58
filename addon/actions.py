"""F-curves in actions, written in bulk, on every Blender from 4.2 on.

From 4.4 an action has a slot for each data-block that it animates; before, a data-block
has an action of its own. What is changed here puts its undoing on the caller's rollback
stack, so that a failure leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.errors import MienError

if TYPE_CHECKING:
    import bpy

# Blender's enum values for keyframes, the same from 4.2 to 5.2 (a test checks them).
BEZIER = 2
FREE, ALIGNED = 0, 3

_BESIDE = 0.5
"""Frames: a hand-set key that near to the first or last baked one would make a spike."""

_ATTRIBUTES = {
    "co": (2, np.float32),
    "handle_left": (2, np.float32),
    "handle_right": (2, np.float32),
    "interpolation": (1, np.int32),
    "easing": (1, np.int32),
    "handle_left_type": (1, np.int32),
    "handle_right_type": (1, np.int32),
    "type": (1, np.int32),
    "back": (1, np.float32),
    "amplitude": (1, np.float32),
    "period": (1, np.float32),
}


@dataclasses.dataclass(frozen=True)
class Keyframes:
    """Bezier keyframes of one F-curve.

    Attributes
    ----------
    co, handle_left, handle_right : ndarray, shape (K, 2)
        Scene frame and value.
    handle_types : ndarray of int, shape (K,)
        `FREE` or `ALIGNED`, for both handles of a key.
    """

    co: npt.NDArray[np.float64]
    handle_left: npt.NDArray[np.float64]
    handle_right: npt.NDArray[np.float64]
    handle_types: npt.NDArray[np.int64]


def slotted() -> bool:
    """Whether this Blender keeps several data-blocks' animation in slots of one action."""
    import bpy

    return bpy.app.version >= (4, 4, 0)


class CurveStore:
    """The F-curves of one data-block.

    Attributes
    ----------
    action : bpy.types.Action
    key : int
        Tells it from other stores.
    """

    def __init__(self, action: bpy.types.Action, bag):
        self.action = action
        self._bag = bag  # a channel bag, or before 4.4 the action itself: both have fcurves and groups
        self.key = bag.as_pointer()

    def put(self, data_path, index, group, keyframes: Keyframes, span, rollback: contextlib.ExitStack) -> None:
        """Put keyframes on one channel, instead of those it has from ``span[0]`` to ``span[1]``.

        Where it has others before or after, the curve stays as it was on both sides, up to the frame next to the span.
        """
        curve = self._bag.fcurves.find(data_path, index=index)
        if curve is None:
            curve = self._bag.fcurves.new(data_path, index=index)
            rollback.callback(self._bag.fcurves.remove, curve)
            curve.group = self._bag.groups.get(group) or self._new_group(group, rollback)
            _set(curve, _columns(keyframes))
            return
        self._check(curve)
        before = _get(curve)
        rollback.callback(_put_back, curve, before)
        old, x = before, before["co"][:, 0]
        if ((x < span[0] - _BESIDE) | (x > span[1] + _BESIDE)).any():
            for frame in (span[0] - 1, span[1] + 1):
                old = _held(old, curve, frame)
        _set(curve, _merged(old, _columns(keyframes), span))

    def _check(self, curve) -> None:
        """Refuse a curve that would not play the keys put into it, or would change elsewhere by them."""
        named = f'The F-curve {curve.data_path} of the action "{self.action.name}"'
        if curve.lock or (curve.group is not None and curve.group.lock):
            raise MienError(
                "curve-locked",
                f"{named} is locked.",
                "Unlock it in the Graph Editor, or bake into a new action.",
            )
        modifier = next((modifier for modifier in curve.modifiers if not modifier.mute), None)
        if modifier is not None:
            kind = modifier.type.replace("_", " ").title()
            raise MienError(
                "curve-modified",
                f"{named} has a modifier ({kind}), which would change what is baked.",
                "Mute or remove it in the Graph Editor's sidebar, or bake into a new action.",
            )
        if len(curve.sampled_points):
            raise MienError(
                "curve-sampled",
                f"{named} holds samples instead of keys.",
                "Make keys of them in the Graph Editor (Key > Samples to Keys), or bake into a new action.",
            )

    def _new_group(self, name, rollback):
        group = self._bag.groups.new(name)
        rollback.callback(self._bag.groups.remove, group)
        return group


def paths_in_use(owner: bpy.types.ID) -> set[str]:
    """Return the data paths that the action in use animates on a data-block."""
    return {curve.data_path for curve in curves_in_use(owner)}


def curves_in_use(owner: bpy.types.ID) -> list[bpy.types.FCurve]:
    """Return the F-curves that the action in use has for a data-block."""
    action = _action_of(owner)
    if action is None:
        return []
    if not slotted():
        return list(action.fcurves)
    slot = owner.animation_data.action_slot
    strips = (strip for layer in action.layers for strip in layer.strips) if slot is not None else ()
    bags = filter(None, (strip.channelbag(slot) for strip in strips))
    return [curve for bag in bags for curve in bag.fcurves]


def open_stores(
    owners: dict[str, bpy.types.ID],
    *,
    new_action: bool,
    name: str,
    rollback: contextlib.ExitStack,
    beside: bpy.types.Action | None = None,
) -> dict[str, CurveStore]:
    """Find or make the place for each data-block's F-curves, and assign it.

    Parameters
    ----------
    owners : dict of str to ID
        Data-blocks of one head by ID type (``"KEY"``, ``"OBJECT"``).
    new_action : bool
        Make a new action. The one in use gets a fake user, so that it is kept. Otherwise
        the one in use is taken, where there is one.
    name : str
        Name of a new action.
    rollback : contextlib.ExitStack
        Receives what undoes all of it.
    beside : Action, optional
        Another head's action, which takes what has none, where actions have slots.
    """
    for owner in owners.values():
        _check(owner, new_action)
    if slotted():
        return _open_slots(owners, new_action, name, rollback, beside)
    stores = {}
    for kind, owner in owners.items():
        action = None if new_action else _action_of(owner)
        if action is None:
            # One name would be the better for finding them, but the second would become "Name.001".
            action = _new(name if kind == "KEY" or len(owners) == 1 else f"{name} Bones", rollback)
            _assign(owner, action, None, rollback)
        stores[kind] = CurveStore(action, action)
    return stores


def _open_slots(owners, new_action, name, rollback, beside):
    # A data-block without an action joins the other's: one performance, one action.
    own = () if new_action else filter(None, map(_action_of, owners.values()))
    shared = next(iter(own), beside)
    stores = {}
    for kind, owner in owners.items():
        action = None if new_action else _action_of(owner)
        slot = owner.animation_data.action_slot if action is not None else None
        if slot is None:
            if action is None:
                shared = action = shared or _new(name, rollback)
            slot = action.slots.new(id_type=kind, name=owner.name)
            rollback.callback(action.slots.remove, slot)
            _assign(owner, action, slot, rollback)
        if not action.layers:
            rollback.callback(action.layers.remove, action.layers.new("Layer"))
        layer = action.layers[0]
        if not layer.strips:
            rollback.callback(layer.strips.remove, layer.strips.new(type="KEYFRAME"))
        stores[kind] = CurveStore(action, layer.strips[0].channelbag(slot, ensure=True))
    return stores


def is_linked(owner: bpy.types.ID) -> bool:
    """Whether the action in use on a data-block is another file's, and not to be changed here."""
    action = _action_of(owner)
    return action is not None and not action.is_editable


def _check(owner, new_action):
    data = owner.animation_data
    if data is None:
        return
    if data.use_tweak_mode:
        raise MienError(
            "nla-tweak-mode",
            f'The animation of "{owner.name}" is in tweak mode.',
            "Leave tweak mode in the Nonlinear Animation editor (Tab) and bake again.",
        )
    if not new_action and is_linked(owner):
        raise MienError(
            "action-linked",
            f'The action "{data.action.name}" is linked and cannot be changed here.',
            "Bake into a new action.",
        )


def _action_of(owner):
    return owner.animation_data.action if owner.animation_data is not None else None


def _new(name, rollback):
    import bpy

    action = bpy.data.actions.new(name)
    rollback.callback(bpy.data.actions.remove, action)
    return action


def _assign(owner, action, slot, rollback):
    data = owner.animation_data
    if data is None:
        data = owner.animation_data_create()
        rollback.callback(owner.animation_data_clear)
    else:
        rollback.callback(_restore, data, data.action, data.action_slot if slotted() else None)
        old = data.action
        if old is not None and old is not action and old.is_editable:
            rollback.callback(setattr, old, "use_fake_user", old.use_fake_user)
            old.use_fake_user = True
    data.action = action
    if slot is not None:
        data.action_slot = slot


def _restore(data, action, slot):
    data.action = action
    if action is not None and slotted():
        # Also where there was none: an action that is set chooses one by itself.
        data.action_slot = slot


def _columns(keyframes: Keyframes) -> dict[str, np.ndarray]:
    count = len(keyframes.co)
    return {
        "co": keyframes.co,
        "handle_left": keyframes.handle_left,
        "handle_right": keyframes.handle_right,
        "interpolation": np.full(count, BEZIER),
        "handle_left_type": keyframes.handle_types,
        "handle_right_type": keyframes.handle_types,
    }


def _get(curve) -> dict[str, np.ndarray]:
    points = curve.keyframe_points
    columns = {}
    for name, (width, dtype) in _ATTRIBUTES.items():
        column = np.empty(len(points) * width, dtype)
        points.foreach_get(name, column)
        columns[name] = column.reshape(-1, width) if width > 1 else column
    return columns


def _set(curve, columns) -> None:
    points = curve.keyframe_points
    points.clear()
    points.add(len(columns["co"]))
    for name, column in columns.items():
        points.foreach_set(name, np.ascontiguousarray(column, _ATTRIBUTES[name][1]).ravel())
    curve.update()


def _put_back(curve, columns) -> None:
    _set(curve, columns)
    # Updating lines handles up anew and rounds them; to the bit as before is better.
    for name in ("handle_left", "handle_right"):
        curve.keyframe_points.foreach_set(name, columns[name].ravel())


def _held(columns, curve, frame) -> dict[str, np.ndarray]:
    """Return a curve's keyframes with one at `frame`, so that it stays as it is on both sides of it.

    Bezier segments are split as de Casteljau's algorithm does. Segments with easing (sine, bounce, ...) keep their
    ends alone.
    """
    columns = {name: column.astype(np.float64 if column.dtype.kind == "f" else int) for name, column in columns.items()}
    co, left, right = (columns[name] for name in ("co", "handle_left", "handle_right"))
    x = co[:, 0]
    nearest = int(np.abs(x - frame).argmin())
    if abs(x[nearest] - frame) < _BESIDE:
        # Automatic handles would follow the new neighbour.
        _freeze(columns, nearest)
        return columns
    at = int(np.searchsorted(x, frame))
    inside = 0 < at < len(x)
    row = {name: column[max(at - 1, 0)].copy() for name, column in columns.items()}
    if inside and row["interpolation"] == BEZIER:
        points = _kept_in_order(np.stack([co[at - 1], right[at - 1], left[at], co[at]]))
        first, last = _split(points, frame)
        right[at - 1], left[at] = first[1], last[2]
        row |= {"co": first[3], "handle_left": first[2], "handle_right": last[1]}
        row |= {"handle_left_type": ALIGNED, "handle_right_type": ALIGNED}
    else:
        row["co"] = np.array([frame, curve.evaluate(frame)])
        third = np.array([1 / 3, 0.0])
        if not inside:
            # Before the first key and after the last one a curve goes straight on, level or not.
            handles, neighbour = (right, at - 1) if at else (left, 0)
            way = row["co"] - co[neighbour]
            handles[neighbour] = co[neighbour] + way / 3
            third[1] = way[1] / way[0] / 3
            row["interpolation"] = BEZIER
        row["handle_left"], row["handle_right"] = row["co"] - third, row["co"] + third
        row |= {"handle_left_type": FREE, "handle_right_type": FREE}
    for neighbour in {max(at - 1, 0), min(at, len(x) - 1)}:
        _freeze(columns, neighbour)
    return {name: np.insert(column, at, row[name], axis=0) for name, column in columns.items()}


def _freeze(columns, i) -> None:
    """Let handles stay where they are, whatever comes to stand beside their key."""
    before, after = (columns[name][i] - columns["co"][i] for name in ("handle_left", "handle_right"))
    bend = before[0] * after[1] - before[1] * after[0]
    straight = abs(bend) <= 1e-4 * np.linalg.norm(before) * np.linalg.norm(after)
    for name in ("handle_left_type", "handle_right_type"):
        columns[name][i] = ALIGNED if straight else FREE


def _kept_in_order(points) -> np.ndarray:
    """Return a segment's four points, each handle no longer than the segment, as Blender evaluates it."""
    start, one, other, end = points
    length = end[0] - start[0]
    first, second = (min(length / max(abs(arm[0]), 1e-9), 1.0) for arm in (one - start, end - other))
    return np.stack([start, start + first * (one - start), end - second * (end - other), end])


def _split(points, frame) -> tuple[np.ndarray, np.ndarray]:
    """Split a cubic Bezier segment (4, 2) whose time grows at a frame, by de Casteljau."""
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        levels = [points]
        while len(levels[-1]) > 1:
            levels.append(levels[-1][:-1] + share * np.diff(levels[-1], axis=0))
        low, high = (share, high) if levels[3][0][0] < frame else (low, share)
    return np.stack([level[0] for level in levels]), np.stack([level[-1] for level in levels[::-1]])


def _merged(before, new, span) -> dict[str, np.ndarray]:
    """Return the old keyframes outside of `span` and the new ones inside."""
    x = before["co"][:, 0]
    early, late = x < span[0] - _BESIDE, x > span[1] + _BESIDE
    count = len(new["co"])
    merged = {}
    for name, old in before.items():
        fresh = new.get(name)
        if fresh is None:
            # The settings of other interpolation types: unused by Bezier keys, kept in range.
            fresh = np.zeros(count, old.dtype)
        merged[name] = np.concatenate((old[early], fresh, old[late]))
    return merged
