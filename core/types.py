"""What flows between the stages: a frame in, a result out.

Both are immutable and validated when made, so that a bad array is caught at the
stage that made it and not three stages later.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from .units import ACTION_UNITS, ARKIT, EXPRESSIONS, LANDMARK_COUNT, UNITS

Array = npt.NDArray[np.float32]

NO_ROTATION = (1.0, 0.0, 0.0, 0.0)

SURE = 0.5
"""A face found with a lower confidence is hidden, or is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    Attributes
    ----------
    index : int
        Frame number in the source, from 0.
    time : float
        Seconds from the source's first frame (files), or on the monotonic clock (cameras).
    image : ndarray of uint8, shape (H, W, 3)
        RGB picture.
    """

    index: int
    time: float
    image: npt.NDArray[np.uint8]

    def __post_init__(self):
        check_picture(self.image)
        if not math.isfinite(self.time):
            raise ValueError("time must be finite")


def check_picture(image: npt.NDArray) -> None:
    """Raise ValueError unless `image` is an RGB picture, (H, W, 3) of uint8, that has a pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")


def _frozen(values, shape: tuple[int, ...], name: str, low=-np.inf, high=np.inf) -> Array:
    array = np.array(values, dtype=np.float32)  # a copy, so that freezing cannot touch the caller's array
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    if array.size and (array.min() < low or array.max() > high):
        raise ValueError(f"{name} must lie in [{low}, {high}], got [{array.min():.3f}, {array.max():.3f}]")
    array.flags.writeable = False
    return array


@dataclasses.dataclass(frozen=True, slots=True)
class FrameResult:
    """What Mien knows about the face in one frame.

    All arrays are float32, read-only and finite. Where no face was found, `found` is
    False, `confidence` 0 and every array holds its neutral value, until a `solve.Solver`
    puts in the pose that is to be shown meanwhile.

    Attributes
    ----------
    index : int
        Frame number in the source, from 0; in a live take, from its first record.
    time : float
        Capture time in seconds, as in `Frame`; in a live take, from its first record.
    found : bool
        Whether a face was found.
    confidence : float
        0..1, how surely a face is seen where the mesh lies, and how much of it is inside the
        picture; under 0.5 it is hidden, and what the mesh shows is guessed. A face that is
        turned away counts as seen.
    size : tuple of int
        (width, height) of the picture in px, which `box`, `landmarks` and `points68` refer to.
    box : ndarray, shape (4,)
        x, y, width, height of the face in px.
    landmarks : ndarray, shape (478, 3)
        Mesh points: x, y in px; z in px on the scale of x, smaller is nearer the camera.
    points68 : ndarray, shape (68, 2)
        The 68-point set of iBUG 300-W, px.
    head_rotation : ndarray, shape (4,)
        Unit quaternion w, x, y, z that turns the head from facing the camera to where it
        faces. Right-handed frame: +x the actor's left, +y up, +z from the face to the camera.
    head_translation : ndarray, shape (3,)
        Head position in the camera's frame, metres.
    eye_rotations : ndarray, shape (2, 2)
        Left and right eye's (yaw, pitch) in the head, radians; yaw towards the actor's
        left and pitch upwards are positive.
    action_units : ndarray, shape (len(ACTION_UNITS),)
        FACS intensities 0..1, in the order of `ACTION_UNITS`.
    arkit : ndarray, shape (52,)
        ARKit blendshape weights 0..1, in the order of `ARKIT`.
    units : ndarray, shape (11,)
        Expression unit weights 0..1, in the order of `UNITS`.
    expression : str
        One of `EXPRESSIONS`; ``"unsure"`` where none is likely or the face is hidden; ``""`` where
        no face was found or no classifier has looked at it.
    probabilities : ndarray, shape (7,)
        Probability per label of `EXPRESSIONS`; zeros where the face is hidden and where there is no label.
    own : str
        The actor's own expression that the face shows, or ``""``.
    """

    index: int
    time: float
    found: bool = False
    confidence: float = 0.0
    size: tuple[int, int] = (0, 0)
    box: Array = dataclasses.field(default_factory=lambda: np.zeros(4))
    landmarks: Array = dataclasses.field(default_factory=lambda: np.zeros((LANDMARK_COUNT, 3)))
    points68: Array = dataclasses.field(default_factory=lambda: np.zeros((68, 2)))
    head_rotation: Array = dataclasses.field(default_factory=lambda: np.array(NO_ROTATION))
    head_translation: Array = dataclasses.field(default_factory=lambda: np.zeros(3))
    eye_rotations: Array = dataclasses.field(default_factory=lambda: np.zeros((2, 2)))
    action_units: Array = dataclasses.field(default_factory=lambda: np.zeros(len(ACTION_UNITS)))
    arkit: Array = dataclasses.field(default_factory=lambda: np.zeros(len(ARKIT)))
    units: Array = dataclasses.field(default_factory=lambda: np.zeros(len(UNITS)))
    expression: str = ""
    probabilities: Array = dataclasses.field(default_factory=lambda: np.zeros(len(EXPRESSIONS)))
    own: str = ""

    def __post_init__(self):
        def freeze(name, shape, low=-np.inf, high=np.inf):
            object.__setattr__(self, name, _frozen(getattr(self, name), shape, name, low, high))

        if not math.isfinite(self.time):
            raise ValueError("time must be finite")
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"confidence must lie in [0, 1], got {self.confidence}")
        if self.expression not in ("", "unsure", *EXPRESSIONS):
            raise ValueError(f"unknown expression label {self.expression!r}")
        if not isinstance(self.own, str):
            raise ValueError("own must be text")
        freeze("box", (4,))
        freeze("landmarks", (LANDMARK_COUNT, 3))
        freeze("points68", (68, 2))
        freeze("head_rotation", (4,), -1.001, 1.001)
        freeze("head_translation", (3,))
        freeze("eye_rotations", (2, 2))
        freeze("action_units", (len(ACTION_UNITS),), 0.0, 1.0)
        freeze("arkit", (len(ARKIT),), 0.0, 1.0)
        freeze("units", (len(UNITS),), 0.0, 1.0)
        freeze("probabilities", (len(EXPRESSIONS),), 0.0, 1.001)
        if abs(float(np.linalg.norm(self.head_rotation)) - 1.0) > 1e-3:
            raise ValueError("head_rotation must be a unit quaternion")
