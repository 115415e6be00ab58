"""Render ICT-FaceKit people and run the landmark model on the pictures.

    python -m mien.core.training.synthesis --people 700

Writes parts of 50 people each and goes on where it was cut off. A person's number seeds
everything about it, so any part can be made again alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from ..ict_face import IctFace, project, random_expression, random_look, random_scene, render
from ..landmarks import Landmarker
from ..models import landmark_model
from ..stills import StillLandmarker
from ..units import ARKIT, LANDMARK_COUNT
from .paths import data_folder, work_folder

PEOPLE_PER_PART = 50
PICTURES_PER_PERSON = 6
GREY = 160


def real_take(folder: Path) -> np.ndarray:
    """Return the real performance's ARKit weights, shape (frames, 52)."""
    path = folder / "arkit" / "dao_arkit.csv"
    header = path.read_text().splitlines()[0].split(",")
    table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32)
    return np.clip(table[:, [header.index(name) for name in ARKIT]], 0, 1)


def landmark_vertices(folder: Path) -> np.ndarray:
    """Return the vertices of the 68 landmarks."""
    table = json.loads((folder / "face3d" / "vertex_indices.json").read_text())
    return np.array(table["idx_to_landmark_verts"])


def make_part(model, stills, part: int, take, points68) -> dict[str, np.ndarray]:
    """Render and measure one part; pictures in which no face was found keep zero landmarks."""
    count = PEOPLE_PER_PART * PICTURES_PER_PERSON
    arrays = {
        "person": np.repeat(np.arange(PEOPLE_PER_PART) + part * PEOPLE_PER_PART, PICTURES_PER_PERSON),
        "found": np.zeros(count, bool),
        "weights": np.zeros((count, len(model.names)), np.float32),
        "landmarks": np.zeros((count, LANDMARK_COUNT, 3), np.float32),
        "blendshapes": np.zeros((count, len(ARKIT)), np.float32),
        "matrix": np.zeros((count, 4, 4), np.float32),
        "points68": np.zeros((count, 68, 2), np.float32),
        "grey": np.zeros((count, GREY, GREY), np.uint8),
        "size": np.zeros(count, np.int32),
    }
    for row, person in enumerate(arrays["person"]):
        rng = np.random.default_rng([20_26, int(person)])
        if row % PICTURES_PER_PERSON == 0:
            head = model.head(rng.normal(0, rng.uniform(0.5, 1.0), 80))
            look = random_look(model, rng)
        rng = np.random.default_rng([20_27, int(person), row % PICTURES_PER_PERSON])
        weights = random_expression(model, rng, take)
        scene = random_scene(rng)
        vertices = model.express(head, weights)
        picture = render(model, vertices, look, scene, rng)
        face = stills.find(picture)
        arrays["weights"][row] = weights
        arrays["points68"][row] = project(vertices[points68], scene)[:, :2]
        arrays["grey"][row] = cv2.resize(
            cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (GREY, GREY), interpolation=cv2.INTER_AREA
        )
        arrays["size"][row] = scene.size
        if face is not None:
            arrays["found"][row] = True
            arrays["landmarks"][row] = face.landmarks
            arrays["blendshapes"][row] = face.blendshapes
            arrays["matrix"][row] = face.matrix
    return arrays


def load(folder: Path) -> dict[str, np.ndarray]:
    """Return all finished parts in `folder` joined."""
    parts = [dict(np.load(path, allow_pickle=False)) for path in sorted(folder.glob("part*.npz"))]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def main(arguments: list[str] | None = None) -> int:
    """Make the parts that are missing."""
    parser = argparse.ArgumentParser(description="Render people for training.")
    parser.add_argument("--people", type=int, default=700)
    people = parser.parse_args(arguments).people
    folder, data = work_folder() / "synthesis", data_folder()
    folder.mkdir(exist_ok=True)
    model, take, points68 = IctFace(data / "face3d" / "ict_facekit.npz"), real_take(data), landmark_vertices(data)
    cv2.setNumThreads(1)
    with Landmarker(landmark_model()) as landmarker:
        stills = StillLandmarker(landmarker)
        for part in range(-(-people // PEOPLE_PER_PART)):
            target = folder / f"part{part:04d}.npz"
            if target.is_file():
                continue
            began = time.monotonic()
            arrays = make_part(model, stills, part, take, points68)
            partial = folder / f"_{target.name}"
            np.savez(partial, **arrays)
            partial.replace(target)
            sys.stderr.write(
                f"part {part + 1}/{-(-people // PEOPLE_PER_PART)}: faces found in {arrays['found'].mean():.1%}, "
                f"{time.monotonic() - began:.0f} s\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
