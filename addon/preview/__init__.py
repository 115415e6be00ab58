"""The preview: faces fused and drawn on the GPU, without Blender's own evaluation of their shape keys.

What a live session needs of it is here:

- `set_sample` gives a head new values for the next redraw; no shape key is touched,
- `clear_sample` gives the head back to the scene's own values,
- `set_picture` shows the camera's picture, beside the head or behind it,
- `start`, `stop`, `running`.

Without a sample a head follows the values of its keys and bones in the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy.typing as npt

from ...core.units import ARKIT, UNITS
from . import compose, engine, overlay, properties, shaders
from .heads import Sample
from .overlay import running, start, stop

__all__ = ["clear_sample", "running", "set_picture", "set_sample", "start", "stop"]


def set_sample(
    head: int,
    weights: Mapping[str, float] | Sequence[float] | npt.NDArray,
    bones: Mapping[str, Sequence[float]] | None = None,
    label: str = "",
) -> None:
    """Give a head the values of this moment.

    Cheap enough for every captured frame: a few floats are kept, and the viewports are asked to redraw.

    Parameters
    ----------
    head : int
        ``session_uid`` of the mesh object: where files are linked several objects have one name.
    weights : mapping of str to float, or array of shape (11,) or (52,)
        Values by shape key name; or all units in the order of `UNITS`; or all shapes in the order of
        `ARKIT`. Keys not named keep the scene's values.
    bones : mapping of str to (w, x, y, z), optional
        Rotations in the bones' own axes, as ``PoseBone.rotation_quaternion`` has them. Bones not named
        keep the scene's pose.
    label : str
        Expression label, which can set particles off.

    Raises
    ------
    ValueError
        For an array of another length.
    """
    if not isinstance(weights, Mapping):
        names = {len(UNITS): UNITS, len(ARKIT): ARKIT}.get(len(weights))
        if names is None:
            raise ValueError(f"weights must have {len(UNITS)} or {len(ARKIT)} values, got {len(weights)}")
        weights = dict(zip(names, weights, strict=True))
    overlay.samples[head] = Sample(
        {name: float(value) for name, value in weights.items()},
        {name: tuple(map(float, rotation)) for name, rotation in (bones or {}).items()},
        label,
    )
    if running():
        properties.redraw()


def clear_sample(head: int | None = None) -> None:
    """Let a head, by its ``session_uid``, or all heads, follow the scene again."""
    if head is None:
        overlay.samples.clear()
    else:
        overlay.samples.pop(head, None)
    if running():
        properties.redraw()


def set_picture(picture: npt.NDArray | None) -> None:
    """Show the camera's newest picture.

    Parameters
    ----------
    picture : ndarray of uint8, shape (H, W, 3), or None
        RGB, its first line highest. It is copied. None takes the picture away.

    Raises
    ------
    ValueError
        For another shape or type.
    """
    compose.camera.set(picture)
    if running():
        properties.redraw()


def register():
    from ..operators import preview as operators
    from ..panels import preview as panels

    for module in (properties, overlay, engine, operators, panels):
        module.register()


def unregister():
    from ..operators import preview as operators
    from ..panels import preview as panels

    for module in (panels, operators, engine, overlay, properties):
        module.unregister()
    shaders.forget()
