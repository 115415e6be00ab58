"""Small convolutional networks, run without torch by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import MienError
from ..opencv import cv2

Array = npt.NDArray[np.float32]


class DeepNet:
    """An ONNX network on grey crops; for one thread at a time.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.
    outputs : sequence of str
        Names of the outputs wanted.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.

    Notes
    -----
    OpenCV's DNN module rather than onnxruntime: it is in the wheel that Mien ships anyhow,
    equals torch to some 1e-5 on these networks, and took 2.1 ms of one core for the first of
    them where onnxruntime took 1.3.
    """

    def __init__(self, path: str | os.PathLike[str], outputs: Sequence[str]):
        path = Path(path)
        if not path.is_file():
            raise MienError("model-missing", f"The model {path.name} is missing.", "Reinstall Mien.")
        try:
            # From memory, since OpenCV opens paths in the system's code page on Windows.
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
        except cv2.error as error:
            raise MienError("model-damaged", f"The model {path.name} cannot be read.", "Reinstall Mien.") from error
        self._outputs = tuple(outputs)

    def __call__(self, crops: npt.NDArray[np.uint8]) -> tuple[Array, ...]:
        """Return the outputs, each (n, ...), for crops (n, H, W) or one crop (H, W)."""
        batch = crops[None] if crops.ndim == 2 else crops
        self._net.setInput(batch[:, None].astype(np.float32) / 255)
        # Copies: the network keeps its buffers for the next call.
        return tuple(np.array(output) for output in self._net.forward(self._outputs))
