"""Render ICT-FaceKit people and run the landmark model on the pictures.

    python -m mien.core.training.synthesis

Writes parts of 50 people each and goes on where it was cut off. A person's number seeds
everything about it, so any part can be made again alone. On one core some 100,000 pictures
an hour: the landmark model takes half of the time. With `--processes` several parts at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from ..action_unit_model import CROP, eye_crops, mouth_crop
from ..evaluate import load_weights
from ..features.geometry import mesh_of
from ..files import write_arrays
from ..ict_face import IctFace, Scene, project, random_expression, random_look, random_scene, render, rotation
from ..landmarks import Landmarker
from ..models import landmark_model
from ..preprocess import aligned_crop
from ..units import ARKIT, LANDMARK_COUNT
from .paths import data_folder, work_folder
from .processes import each
from .rasteriser import rasterise

PEOPLE_PER_PART = 50
SCENES = 2
"""Per person."""
PICTURES = 8
"""Per scene, at rest in the first."""
PER_PERSON = SCENES * PICTURES
GREY = 160
CLOSE_UP_ROOM = 96
"""Side of the closer looks that are kept, px: room to shake them."""
PICTURE_NAMES = ("crops", "eyes", "mouths")

# Between pictures, s: so long that the landmark model's smoothing over time has no say.
_STEP = 1000.0
_EMPTY = np.zeros((64, 64, 3), np.uint8)


def landmark_vertices(folder: Path) -> np.ndarray:
    """Return the vertices of the 68 landmarks."""
    table = json.loads((folder / "face3d" / "vertex_indices.json").read_text())
    return np.array(table["idx_to_landmark_verts"])


def pictures_of(image: np.ndarray, landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Return what training keeps of a face's picture, by `PICTURE_NAMES`: the eyes are two squares, the others one."""
    crops = aligned_crop(image, landmarks, CROP)
    eyes, mouth = eye_crops(image, landmarks, CLOSE_UP_ROOM), mouth_crop(image, landmarks, CLOSE_UP_ROOM)
    return dict(zip(PICTURE_NAMES, (crops, eyes, mouth), strict=True))


def _moved(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene a moment later: head and camera moved, in half of them other light."""
    changes = {
        "turn": rotation(*rng.normal(0, np.radians([5, 4, 2.5]))) @ scene.turn,
        "shift": scene.shift + rng.normal(0, 0.01, 2).astype(np.float32),
        "width": float(np.clip(scene.width * np.exp(rng.normal(0, 0.03)), 0.42, 0.70)),
    }
    if rng.random() < 0.5:
        other = random_scene(rng, scene.size)
        for name in ("lights", "ambient", "shade", "exposure", "gamma", "blur", "noise"):
            changes[name] = getattr(other, name)
    return dataclasses.replace(scene, **changes)


def _at_rest(model: IctFace, rng: np.random.Generator) -> np.ndarray:
    weights = np.zeros(len(model.names), np.float32)
    if rng.random() < 0.3:
        aside = random_expression(model, rng)
        gaze = [model.index[name] for name in model.names if name.startswith("eyeLook")]
        weights[gaze] = 0.5 * aside[gaze]
    return weights


def empty_part(shapes: int, part: int) -> dict[str, np.ndarray]:
    """Return the arrays of a part of which nothing is rendered yet."""
    count, kept = PEOPLE_PER_PART * PER_PERSON, PEOPLE_PER_PART
    return {
        "person": np.repeat(np.arange(PEOPLE_PER_PART) + part * PEOPLE_PER_PART, PER_PERSON),
        "rest": np.arange(count) % PICTURES == 0,
        "found": np.zeros(count, bool),
        "weights": np.zeros((count, shapes), np.float32),
        "meshes": np.zeros((count, 3 * LANDMARK_COUNT), np.float32),
        "blendshapes": np.zeros((count, len(ARKIT)), np.float32),
        "crops": np.zeros((count, CROP, CROP), np.uint8),
        "eyes": np.zeros((count, 2, CLOSE_UP_ROOM, CLOSE_UP_ROOM), np.uint8),
        "mouths": np.zeros((count, CLOSE_UP_ROOM, CLOSE_UP_ROOM), np.uint8),
        "points68": np.zeros((kept, 68, 2), np.float32),
        "grey": np.zeros((kept, GREY, GREY), np.uint8),
        "size": np.zeros(kept, np.int32),
    }


def is_whole(path: Path) -> bool:
    """Return whether a part is there with all that this version keeps: an older one may have kept less."""
    if not path.is_file():
        return False
    with np.load(path, allow_pickle=False) as part:
        return empty_part(0, 0).keys() <= {*part.files}


def make_part(model, landmarker: Landmarker, part: int, take, points68, clock: float) -> dict[str, np.ndarray]:
    """Render and measure one part.

    Pictures in which no face was found keep zeros. A whole grey picture with the 68 points in it is kept of
    every sixteenth: ``grey``, ``points68`` and ``size`` are shorter than the other arrays.
    """
    arrays = empty_part(len(model.names), part)
    for row, person in enumerate(arrays["person"]):
        number = row % PER_PERSON
        if number == 0:
            rng = np.random.default_rng([20_26, int(person)])
            head = model.head(rng.normal(0, rng.uniform(0.6, 1.1), 80))
            look = random_look(model, rng)
        rng = np.random.default_rng([20_27, int(person), number])
        first = number % PICTURES == 0
        if first:
            place = random_scene(rng, int(rng.integers(220, 321)))
        scene = place if first else _moved(place, rng)
        weights = _at_rest(model, rng) if first else random_expression(model, rng, take)
        vertices = model.express(head, weights)
        picture = render(model, vertices, look, scene, rng, rasterise)
        for image in (_EMPTY, picture, picture) if first else (picture,):
            clock += _STEP
            face = landmarker.detect(image, clock)
        arrays["weights"][row] = weights
        if number == person % PER_PERSON:
            arrays["points68"][row // PER_PERSON] = project(vertices[points68], scene)[:, :2]
            arrays["grey"][row // PER_PERSON] = cv2.resize(
                cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (GREY, GREY), interpolation=cv2.INTER_AREA
            )
            arrays["size"][row // PER_PERSON] = scene.size
        if face is not None:
            arrays["found"][row] = True
            arrays["meshes"][row] = mesh_of(face)
            arrays["blendshapes"][row] = face.blendshapes
            for name, seen in pictures_of(picture, face.landmarks).items():
                arrays[name][row] = seen
    return arrays


def load(folder: Path, *names: str) -> dict[str, np.ndarray]:
    """Return the arrays `names` of all finished parts in `folder`, joined."""
    paths = sorted(folder.glob("part*.npz"))
    for path in paths:
        with np.load(path, allow_pickle=False) as part:
            if not {*names} <= {*part.files}:
                raise SystemExit(f"{path} was made by an older version: run synthesis for its people again.")
    # One after the other: parts and whole together are large.
    return {name: np.concatenate([_array(path, name) for path in paths]) for name in names}


def _array(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as part:
        return part[name]


@contextlib.contextmanager
def _maker():
    """Open what renders a part and writes it to its file, and returns a line about it."""
    data = data_folder()
    model, points68 = IctFace(data / "face3d" / "ict_facekit.npz"), landmark_vertices(data)
    take = load_weights(data / "arkit" / "dao_arkit.csv")
    cv2.setNumThreads(1)

    def make(job: tuple[int, Path]) -> str:
        part, target = job
        began = time.monotonic()
        clock = 2000 * _STEP * part  # time must grow; a part takes 1,000 steps
        arrays = make_part(model, landmarker, part, take, points68, clock)
        write_arrays(target, **arrays)
        return f"part {part + 1}: faces found in {arrays['found'].mean():.1%}, {time.monotonic() - began:.0f} s"

    with Landmarker(landmark_model()) as landmarker:
        yield make


def main(arguments: list[str] | None = None) -> int:
    """Make the parts that are missing."""
    parser = argparse.ArgumentParser(description="Render people for training.")
    parser.add_argument("--people", type=int, default=6500, help="one past the number of the last one")
    parser.add_argument("--first", type=int, default=0, help="number of the first one, in whole parts of 50")
    parser.add_argument("--processes", type=int, default=1, help="that render at the same time")
    options = parser.parse_args(arguments)
    folder = work_folder() / "synthesis"
    folder.mkdir(exist_ok=True)
    last = -(-options.people // PEOPLE_PER_PART)
    targets = {part: folder / f"part{part:04d}.npz" for part in range(options.first // PEOPLE_PER_PART, last)}
    missing = [job for job in targets.items() if not is_whole(job[1])]
    for done, line in enumerate(each(_maker, missing, options.processes), 1):
        sys.stderr.write(f"{done}/{len(missing)} {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
