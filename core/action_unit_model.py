"""Mien's own action unit model: the picture and the mesh together."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import MienError
from .features.deep import DeepNet
from .features.geometry import GeometryBasis, mesh_of
from .ict_face import ShapeMeaning
from .landmarks import Face
from .models import catalogue, locate
from .preprocess import aligned_crop

Array = npt.NDArray[np.float32]

CROP = 96
"""Side of the crop that the network looks at, px."""


class LearnedEstimator:
    """Action units from the aligned crop and the pose-normalised mesh.

    Implements `action_units.ActionUnitEstimator`. Where there is no picture the mesh
    answers alone.

    Parameters
    ----------
    folder : path, optional
        Holds ``action_unit_net.onnx`` and ``action_units.npz``; the shipped ones if not given.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        arrays = load_arrays(weights_file("action_units", folder))
        self._net = DeepNet(weights_file("action_unit_net", folder), ["features"])
        self._basis = GeometryBasis(arrays["mean"], arrays["axes"].astype(np.float32))
        self._join, self._join_bias = arrays["join"], arrays["join_bias"]
        self._head, self._head_bias = arrays["head"], arrays["head_bias"]
        self._rest, self._gain = arrays["rest"], arrays["gain"]
        self._meaning = ShapeMeaning([str(name) for name in arrays["shapes"]])
        self._silent = np.zeros(self._join.shape[1] - self._basis.length, np.float32)

    def shapes(self, face: Face, image: npt.NDArray[np.uint8] | None) -> Array:
        """Return weights 0..1 of ICT-FaceKit's expression shapes, in the order that training had."""
        features = self._silent
        if image is not None:
            features = self._net(aligned_crop(image, face.landmarks, CROP))[0][0]
        return self.join(features, self._basis.describe(mesh_of(face), face.blendshapes))

    def join(self, features: Array, geometry: Array) -> Array:
        """Return the shapes (..., s) for deep features (..., 96) and geometry (..., g)."""
        hidden = np.concatenate([features, geometry], -1) @ self._join.T + self._join_bias
        raw = np.maximum(hidden, 0) @ self._head.T + self._head_bias
        return np.clip((raw - self._rest) * self._gain, 0, 1)

    def estimate(self, face: Face, image: npt.NDArray[np.uint8] | None) -> Array:
        """See `ActionUnitEstimator.estimate`."""
        return self._meaning.action_units(self.shapes(face, image))

    def estimate_arkit(self, face: Face, image: npt.NDArray[np.uint8] | None) -> tuple[Array, Array]:
        """See `ActionUnitEstimator.estimate_arkit`."""
        shapes = self.shapes(face, image)
        return self._meaning.action_units(shapes), self._meaning.arkit(shapes)


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
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MienError("model-damaged", f"The model {path.name} cannot be read.", "Reinstall Mien.") from error
