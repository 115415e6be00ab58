"""Mien's own action unit model: deep features, histograms of gradients and the mesh together."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import MienError
from .features import hog
from .features.deep import DeepNet
from .features.geometry import GeometryBasis, mesh_of, mirror, mirrored_points
from .files import read_arrays
from .ict_face import ShapeMeaning, mirrored_shapes
from .landmarks import Face
from .models import catalogue, locate
from .opencv import cv2
from .preprocess import aligned_crop, alignment, crop

Array = npt.NDArray[np.float32]

CROP = 128
"""Side of the aligned crop, px."""

WINDOW = (slice(16, 128), slice(16, 112))
"""Rows and columns of the crop that are looked at: brows to chin, 112 x 96 px."""

EYE_SCALE = 256
"""Side of the crop, px, out of which the closer look at each eye is cut: lids and cheeks move little."""

EYE_MIDDLE = (0.325, 0.42)
"""Middle of the closer look at the eye on the picture's left, a little below the eye, in parts of the crop's side;
the other one lies across from it."""

MOUTH_SCALE = 200
"""Side of the crop, px, out of which the closer look at the mouth is cut."""

MOUTH_MIDDLE = (0.5, 0.79)
"""Middle of the closer look at the mouth, in parts of the crop's side."""

CLOSE_UP = 80
"""Side of a closer look, px: at an eye from brow to cheek, at the mouth from nose to chin."""

_HISTOGRAM_SIZE = (56, 64)


class LearnedEstimator:
    """Action units from the aligned crop, closer looks at eyes and mouth, and the pose-normalised mesh.

    Implements `action_units.ActionUnitEstimator`. Where there is no picture the mesh
    answers alone.

    One frame cannot tell a low brow from a lowered one. Who knows a frame or more in which
    the actor's face is at rest should say so: `set_rest` with one frame, or `rest` with
    the mean of what `describe` gives for several. From then on each frame is read beside
    it. `rest` is plain numbers: it may be kept in a file and set again. ``None`` forgets it.

    Parameters
    ----------
    folder : path, optional
        Holds ``action_unit_net.onnx``, ``action_unit_eyes.onnx``, ``action_unit_mouth.onnx`` and
        ``action_units.npz``; the shipped ones if not given.
    mirrored : bool
        Look at the frame's mirror image, too, and answer with the mean of both: surer, treats
        left and right alike, and costs half as much again.

    Attributes
    ----------
    rest : ndarray of float32, shape (views, length), or None
        Description of the actor's face at rest.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, mirrored: bool = True):
        arrays = load_arrays(weights_file("action_units", folder))
        self._face, self._eyes, self._mouth = (
            DeepNet(weights_file(f"action_unit_{name}", folder), ["features"]) for name in ("net", "eyes", "mouth")
        )
        try:
            self.describer = Describer(arrays)
            self._regressor = Regressor(arrays)
            names = [str(name) for name in arrays["shapes"]]
            self._meaning, self._twins = ShapeMeaning(names), mirrored_shapes(names)
            self._points = mirrored_points(arrays["mean"]) if mirrored else None
        except KeyError as error:
            raise MienError("model-damaged", f"The action unit model lacks {error}.", "Reinstall Mien.") from error
        self.rest: Array | None = None

    def describe(self, face: Face, image: npt.NDArray[np.uint8] | None) -> Array:
        """Return what the model knows of a frame: deep features, histograms, geometry; shape (views, length)."""
        shapes = [(mesh_of(face), face.blendshapes)]
        if self._points is not None:
            mesh, blendshapes = mirror(shapes[0][0][None], face.blendshapes[None], self._points)
            shapes.append((mesh[0], blendshapes[0]))
        if image is None:
            return np.stack([self.describer.join(None, None, *shape) for shape in shapes])
        # A live frame waits for the networks, so the small ones run beside the large one. A new thread takes a
        # twentieth of what that saves, and leaves none behind that somebody had to end.
        with ThreadPoolExecutor(1, "mien-close-up") as beside:
            close_up = beside.submit(self._look_closely, image, face.landmarks, len(shapes))
            picture = face_crop(image, face.landmarks)
            pictures = np.stack([picture, picture[:, ::-1]][: len(shapes)])
            deep = np.column_stack([self._face(pictures)[0], close_up.result()])
        seen = zip(deep, pictures, shapes, strict=True)
        return np.stack([self.describer.join(said, histograms(picture), *shape) for said, picture, shape in seen])

    def _look_closely(self, image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, views: int) -> Array:
        """Return the features of eyes and mouth, of the picture and with two views of its mirror image."""
        eyes = self._eyes(eye_crops(image, landmarks))[0]
        mouth = mouth_crop(image, landmarks)
        mouths = self._mouth(np.stack([mouth, mouth[:, ::-1]][:views]))[0]
        return np.column_stack([[eyes.ravel(), eyes[::-1].ravel()][:views], mouths])

    def set_rest(self, face: Face, image: npt.NDArray[np.uint8] | None) -> None:
        """Take a frame in which the actor's face is at rest."""
        self.rest = self.describe(face, image)

    def read(self, description: Array) -> tuple[Array, Array]:
        """Return action units and ARKit weights of what `describe` gave, beside `rest` where it is known."""
        rests = [None] * len(description) if self.rest is None else self.rest
        views = [self._regressor(view, rest) for view, rest in zip(description, rests, strict=True)]
        shapes = views[0] if len(views) == 1 else (views[0] + views[1][self._twins]) / 2
        return self._meaning.action_units(shapes), self._meaning.arkit(shapes)

    def estimate(self, face: Face, image: npt.NDArray[np.uint8] | None) -> Array:
        """See `ActionUnitEstimator.estimate`."""
        return self.read(self.describe(face, image))[0]

    def estimate_arkit(self, face: Face, image: npt.NDArray[np.uint8] | None) -> tuple[Array, Array]:
        """See `ActionUnitEstimator.estimate_arkit`."""
        return self.read(self.describe(face, image))


class Describer:
    """Joins a frame's features to one vector.

    Parameters
    ----------
    arrays : dict of str to ndarray
        ``mean`` and ``axes`` of the mesh, ``histogram_mean`` and ``histogram_axes``, and
        ``features``, the number of deep ones.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self._basis = GeometryBasis(arrays["mean"], arrays["axes"].astype(np.float32))
        self._histogram_mean = arrays["histogram_mean"].astype(np.float32)
        self._histogram_axes = arrays["histogram_axes"].astype(np.float32)
        self._silent = np.zeros(int(arrays["features"]), np.float32)

    def join(self, features: Array | None, histogram: Array | None, mesh: Array, blendshapes: Array) -> Array:
        """Return deep features, components of the histograms, geometry; without a picture the first two are 0."""
        if features is None or histogram is None:
            features, components = self._silent, np.zeros(len(self._histogram_axes), np.float32)
        else:
            components = self._histogram_axes @ (histogram - self._histogram_mean)
        return np.concatenate([features, components, self._basis.describe(mesh, blendshapes)])


class Regressor:
    """Expression shapes from a frame's description and that of the actor's rest.

    Parameters
    ----------
    arrays : dict of str to ndarray
        ``weight0`` (hidden, 2 length + 1), ``weight1``, ``weight2`` with ``bias0`` to
        ``bias2``; ``leak``, the slope of hidden units below 0; ``off`` and ``slope`` (2, shapes),
        which bring the result to scale without and with a known rest.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self._layers = [(arrays[f"weight{i}"].astype(np.float32), arrays[f"bias{i}"]) for i in range(3)]
        self._leak, self._off, self._slope = np.float32(arrays["leak"]), arrays["off"], arrays["slope"]

    def __call__(self, description: Array, rest: Array | None) -> Array:
        """Return weights 0..1 of ICT-FaceKit's expression shapes, in the order that training had."""
        known = int(rest is not None)
        change = np.zeros_like(description) if rest is None else description - rest
        values = np.concatenate([description, change, np.float32([known])])
        for weight, bias in self._layers[:2]:
            values = weight @ values + bias
            values = np.maximum(values, self._leak * values)
        weight, bias = self._layers[2]
        return np.clip((weight @ values + bias - self._off[known]) * self._slope[known], 0, 1)


def face_crop(image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Return what the model looks at: the aligned face from brows to chin, grey, shape (112, 96)."""
    return np.ascontiguousarray(aligned_crop(image, landmarks, CROP)[WINDOW])


def eye_crops(image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, size: int = CLOSE_UP) -> npt.NDArray[np.uint8]:
    """Return a closer look at both eyes, grey, shape (2, size, size).

    The one on the picture's left comes first; the other one is mirrored, so that both look alike. Of the
    picture's mirror image the two are the same in the other order.
    """
    matrix = alignment(landmarks, EYE_SCALE)
    across = np.array([[-1.0], [1.0]]) * matrix + [[0, 0, EYE_SCALE - 1.0], [0, 0, 0]]
    return np.stack([_around(image, m, EYE_SCALE, EYE_MIDDLE, size) for m in (matrix, across)])


def mouth_crop(image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, size: int = CLOSE_UP) -> npt.NDArray[np.uint8]:
    """Return a closer look at the mouth, grey, shape (size, size)."""
    return _around(image, alignment(landmarks, MOUTH_SCALE), MOUTH_SCALE, MOUTH_MIDDLE, size)


def _around(image, matrix, scale, middle, size):
    """Return a square of the aligned crop whose side is `scale` px, about `middle` in parts of that side."""
    shift = np.column_stack([np.zeros((2, 2)), np.array(middle) * scale - size / 2])
    return crop(image, matrix - shift, size)


def histograms(crop: npt.NDArray[np.uint8]) -> Array:
    """Return the histograms of gradients of a `face_crop`."""
    return hog.describe(cv2.resize(crop, _HISTOGRAM_SIZE, interpolation=cv2.INTER_AREA))


def weights_file(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the file of one of Mien's own models: the verified one, or as it is in `folder`."""
    return locate(name) if folder is None else Path(folder) / catalogue()[name].file


def load_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read an ``.npz`` of weights; never unpickles.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """
    path = Path(path)
    if not path.is_file():
        raise MienError("model-missing", f"The model {path.name} is missing.", "Reinstall Mien.")
    try:
        return read_arrays(path)
    except (OSError, ValueError) as error:
        raise MienError("model-damaged", f"The model {path.name} cannot be read.", "Reinstall Mien.") from error
