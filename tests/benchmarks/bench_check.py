"""How surely the check on the mesh tells faces that can be seen from those that cannot.

    python tests/benchmarks/bench_check.py CLIPS... [--base DATA/face3d/ict_facekit.npz]

Every eighth frame of each clip: the mesh where it lies, beside the face by a fifth to three fifths of its size, with
the light of an eighth, blurred, and with the face painted over from the nose down, where the landmark model still
draws a whole one. With a base also rendered people turned aside and bowed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401  makes the checkout importable as mien

from mien.core.capture import open_source
from mien.core.ict_face import IctFace, random_look, random_scene, render, rotation
from mien.core.landmarks import POINTS68, Face, Landmarker
from mien.core.landmarks68 import FaceCheck
from mien.core.models import landmark_model
from mien.core.stills import StillLandmarker

PEOPLE = 8
TURNS = {"turned by": (1, 0), "bowed by": (0, -1)}
DEGREES = (20, 30, 40, 50)


def points_of(face: Face) -> np.ndarray:
    return face.landmarks[POINTS68, :2].astype(np.float32)


def covered(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the picture with its own middle colour over the face from the nose down."""
    image, side = image.copy(), np.ptp(points, axis=0).max()
    right, bottom = points.max(0)
    edges = (points[:, 0].min(), points[30, 1], right, bottom + 0.1 * side)
    left, top, right, bottom = (max(int(value), 0) for value in edges)
    image[top:bottom, left:right] = np.median(image.reshape(-1, 3), axis=0).astype(np.uint8)
    return image


def measure(clips: list[Path], base: Path | None) -> dict[str, list[float]]:
    """Return the confidences by what was looked at."""
    check, rng = FaceCheck(), np.random.default_rng(0)
    result: dict[str, list[float]] = {}
    with Landmarker(landmark_model()) as landmarker:
        look = StillLandmarker(landmarker).find
        for clip in clips:
            with open_source(clip) as source:
                for number, frame in enumerate(source):
                    face = None if number % 8 else look(frame.image)
                    if face is None:
                        continue
                    points = points_of(face)
                    side = np.ptp(points, axis=0).max()
                    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6) * side
                    moved = points + np.float32([np.cos(angle), np.sin(angle)]) * np.float32(distance)
                    said = {
                        "seen": check(frame.image, points),
                        "beside the face": check(frame.image, moved),
                        "an eighth of the light": check(frame.image // 8, points),
                        "blurred": check(cv2.GaussianBlur(frame.image, (0, 0), float(side) / 50), points),
                    }
                    hidden = covered(frame.image, points)
                    if (face := look(hidden)) is not None:
                        said["covered from the nose down"] = check(hidden, points_of(face))
                    for name, confidence in said.items():
                        result.setdefault(name, []).append(confidence)
        if base is not None:
            model = IctFace(base)
            for _ in range(PEOPLE):
                head, person = model.head(rng.normal(0, 0.8, 80)), random_look(model, rng)
                scene = random_scene(rng)
                for name, way in TURNS.items():
                    for degrees in DEGREES:
                        turn = rotation(*np.radians(degrees) * np.float32([*way, 0]))
                        image = render(
                            model,
                            model.express(head, np.zeros(len(model.names))),
                            person,
                            replace(scene, turn=turn),
                            rng,
                        )
                        if (face := look(image)) is not None:
                            result.setdefault(f"{name} {degrees}", []).append(check(image, points_of(face)))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--base", type=Path, help="ict_facekit.npz")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sys.stdout.write(f"{'':28}{'pictures':>9}{'doubted':>9}{'1 %':>7}{'5 %':>7}{'half':>7}{'95 %':>7}{'99 %':>7}\n")
    for name, values in measure(options.clips, options.base).items():
        doubted = np.mean(np.array(values) < 0.5)
        quantiles = "".join(f"{value:7.2f}" for value in np.quantile(values, (0.01, 0.05, 0.5, 0.95, 0.99)))
        sys.stdout.write(f"{name:28}{len(values):9}{doubted:9.1%}{quantiles}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
