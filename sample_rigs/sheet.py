"""Draw the sample head's contact sheet and poster.

Run with a Python that has bpy and OpenCV; writes ``docs/images/sample_head_sheet.png`` and
``docs/images/sample_head.png``.
"""

from __future__ import annotations

import tempfile
from math import radians
from pathlib import Path

import bpy
import cv2
import numpy as np

from . import render
from .build_head import BLEND
from .expressions import EXPRESSIONS, POSTER
from .shapes import UNITS

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
TILE = (210, 236)
COLUMNS = 6
INK = (235, 238, 236)


def _label(image: np.ndarray, text: str) -> np.ndarray:
    bar = np.full((26, image.shape[1], 3), (58, 48, 24), np.uint8)
    width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]
    at = ((image.shape[1] - width) // 2, 18)
    cv2.putText(bar, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return cv2.vconcat([image, bar])


def sheet(path: Path, samples: int = 16) -> None:
    """Neutral, the eleven units, and the six other basic expressions."""
    render.prepare(samples)
    camera = bpy.data.objects["MienCamera"]
    lens = camera.data.lens
    camera.data.lens = 150.0
    entries = [("neutral", {})] + [(unit, {unit: 1.0}) for unit in UNITS]
    entries += [(name, units) for name, units in EXPRESSIONS.items() if units]
    tiles = []
    with tempfile.TemporaryDirectory() as folder:
        for name, units in entries:
            render.pose(units)
            file = render.render_frame(Path(folder) / f"{name}.png", TILE)
            tiles.append(_label(cv2.imread(str(file)), name))
    rows = [cv2.hconcat(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(path), cv2.vconcat(rows), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    camera.data.lens = lens


def poster(path: Path, samples: int = 32, size=(720, 864)) -> None:
    """A three-quarter portrait."""
    render.prepare(samples)
    camera = bpy.data.objects["MienCamera"]
    lens = camera.data.lens
    camera.data.lens = 122.0
    yaw = radians(16)
    # The eyes stay with the viewer: they turn back by what the head turned.
    render.pose(POSTER, head=(radians(1), yaw, radians(-4)), gaze=(0.0, -yaw))
    render.render_frame(path, size)
    render.pose()
    camera.data.lens = lens


def main() -> None:
    """Write both pictures."""
    bpy.ops.wm.open_mainfile(filepath=str(BLEND))
    IMAGES.mkdir(parents=True, exist_ok=True)
    poster(IMAGES / "sample_head.png")
    sheet(IMAGES / "sample_head_sheet.png")


if __name__ == "__main__":
    main()
