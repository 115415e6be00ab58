"""How far the 68 points lie from people's labels.

    python tests/benchmarks/bench_landmarks.py DATA/landmarks68 [--json FILE]

Error is the distance to the label over the distance between the outer eye corners, as in
300-W. The mesh and iBUG's labels mean slightly different places, most of all along the jaw,
so that this measures the map as much as the model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401  makes the checkout importable as mien

from mien.core.landmarks import POINTS68, Landmarker
from mien.core.models import landmark_model
from mien.core.opencv import cv2

PARTS = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}
PICTURE = 256
"""Faces are enlarged so that their crop has at least this many px: the set's are small."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One labelled face: errors (68,) as parts of the eye distance (px)."""

    picture: str
    eye_distance: float
    errors: np.ndarray


def labelled(folder: Path):
    """Yield (picture, labels (68, 2) in px) from dlib's XML and from .pts files."""
    for image in ET.parse(folder / "training_with_face_landmarks.xml").getroot().iter("image"):
        for box in image.iter("box"):
            parts = sorted(box.iter("part"), key=lambda part: int(part.get("name")))
            yield folder / image.get("file"), np.array([(float(p.get("x")), float(p.get("y"))) for p in parts])
    for path in sorted(folder.glob("*.pts")):
        numbers = path.read_text().split("{")[1].split("}")[0].split()
        picture = next(p for p in folder.glob(path.stem + ".*") if p != path)
        yield picture, np.array(numbers, float).reshape(-1, 2) - 1  # .pts counts from 1


def measure(folder: Path) -> list[Row]:
    """Return one row per face that was found."""
    rows = []
    for picture, labels in labelled(folder):
        image = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
        low, high = labels.min(axis=0), labels.max(axis=0)
        margin = 0.6 * (high - low).max()
        left, top = np.maximum(low - margin, 0).astype(int)
        right, bottom = (high + margin).astype(int)
        crop = image[top:bottom, left:right]
        scale = max(1.0, PICTURE / max(crop.shape[:2]))
        crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        with Landmarker(landmark_model()) as landmarker:
            for i in range(3):  # the mesh settles on a still picture
                face = landmarker.detect(crop, i / 30)
        if face is None:
            continue
        points = face.landmarks[POINTS68, :2] / scale + [left, top]
        eyes = np.linalg.norm(labels[36] - labels[45])
        rows.append(Row(picture.name, float(eyes), np.linalg.norm(points - labels, axis=1) / eyes))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Error of the 68 points on labelled photos.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = measure(args.folder)
    print(f"{'picture':20}{'eyes px':>9}{'all %':>8}{'inner %':>9}" + "".join(f"{name:>8}" for name in PARTS))
    table = []
    for row in [*rows, Row("mean", np.mean([r.eye_distance for r in rows]), np.mean([r.errors for r in rows], axis=0))]:
        parts = {name: 100 * float(row.errors[a:b].mean()) for name, (a, b) in PARTS.items()}
        whole, inner = 100 * float(row.errors.mean()), 100 * float(row.errors[17:].mean())
        table.append({"picture": row.picture, "eye_px": float(row.eye_distance), "all": whole, "inner": inner, **parts})
        cells = "".join(f"{value:8.2f}" for value in parts.values())
        print(f"{row.picture:20}{row.eye_distance:9.0f}{whole:8.2f}{inner:9.2f}{cells}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
