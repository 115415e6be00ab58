"""Run the landmark model over the expression sets, once, and keep what it found.

python -m mien.core.training.faces
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from .. import preprocess
from ..datasets import ExpressionSet, load_expression_set
from ..evaluate import find_in_grey
from ..features import geometry, hog
from ..files import write_arrays
from ..landmarks import Landmarker
from ..models import landmark_model
from ..stills import StillLandmarker
from ..units import ARKIT, LANDMARK_COUNT
from .paths import data_folder, work_folder
from .processes import each

SETS = {"public": "fer2013_publictest.npz", "mux": "muxspace_train.tar", "fer": "fer2013_training.npz"}
_CHUNK = 2000


@contextlib.contextmanager
def _finder():
    """Open what looks for the faces of a list of pictures."""
    with Landmarker(landmark_model()) as landmarker:
        stills = StillLandmarker(landmarker, repeats=1)
        yield lambda images: _find(stills, images)


def main(arguments: list[str] | None = None) -> int:
    """Write one file of landmarks per set, in pixels of the set's own pictures."""
    parser = argparse.ArgumentParser(description="Find faces in the expression sets.")
    parser.add_argument("--processes", type=int, default=1, help="that look at pictures at the same time")
    options = parser.parse_args(arguments)
    work = work_folder()
    for key, name in SETS.items():
        target = work / f"faces_{key}.npz"
        place = data_folder() / "expression" / name
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        if target.is_file() and _set_of(target) == digest:
            continue
        images = load_expression_set(place).images
        chunks = {start: work / f"_{key}_{digest[:8]}_{start:06d}.npz" for start in range(0, len(images), _CHUNK)}
        missing = [start for start, chunk in chunks.items() if not chunk.is_file()]
        began = time.monotonic()
        found = each(_finder, (images[start : start + _CHUNK] for start in missing), options.processes)
        for start, arrays in zip(missing, found, strict=True):
            write_arrays(chunks[start], **arrays)
            sys.stderr.write(f"{key} {start} of {len(images)}, {time.monotonic() - began:.0f} s\n")
        parts = [dict(np.load(chunk, allow_pickle=False)) for chunk in chunks.values()]
        joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        write_arrays(target, set=np.array(digest), **joined)
        # Chunks left behind would stand in for a new look when the joined file is deleted.
        for chunk in chunks.values():
            chunk.unlink()
        sys.stderr.write(f"{key}: found in {joined['found'].mean():.1%}\n")
    return 0


def _set_of(path: Path) -> str:
    """Return the digest of the set that a file of faces belongs to."""
    with np.load(path, allow_pickle=False) as archive:
        return str(archive["set"]) if "set" in archive else ""


def labelled_faces(key: str) -> tuple[ExpressionSet, dict[str, np.ndarray]]:
    """Return a set and what `main` found in its pictures.

    Raises
    ------
    SystemExit
        Where the set has changed since, or was not looked at.
    """
    place, file = data_folder() / "expression" / SETS[key], work_folder() / f"faces_{key}.npz"
    if not file.is_file() or _set_of(file) != hashlib.sha256(place.read_bytes()).hexdigest():
        raise SystemExit(f"The faces of {place.name} are unknown, or it has changed: run mien.core.training.faces.")
    with np.load(file, allow_pickle=False) as archive:
        return load_expression_set(place), {name: archive[name] for name in archive if name != "set"}


def made_of_faces(
    path: Path,
    keys: Iterable[str],
    make: Callable[[], dict[str, np.ndarray]],
    by: Iterable[ModuleType] = (preprocess, hog, geometry),
) -> dict[str, np.ndarray]:
    """Return arrays that `make` makes of sets' faces, kept in `path` while those and the modules `by` stay the same."""
    digest = hashlib.sha256()
    for key in keys:
        file = path.with_name(f"faces_{key}.npz")
        digest.update(file.read_bytes() if file.is_file() else b"")
    for module in by:
        digest.update(Path(module.__file__).read_bytes())
    if path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if str(arrays.pop("faces", "")) == digest.hexdigest():
            return arrays
    arrays = make()
    write_arrays(path, faces=np.array(digest.hexdigest()), **arrays)
    return arrays


def _find(stills, images):
    count = len(images)
    found = np.zeros(count, bool)
    landmarks = np.zeros((count, LANDMARK_COUNT, 3), np.float32)
    blendshapes = np.zeros((count, len(ARKIT)), np.float32)
    matrix = np.zeros((count, 4, 4), np.float32)
    for row, image in enumerate(images):
        face = find_in_grey(stills, image)
        if face is not None:
            found[row] = True
            landmarks[row], blendshapes[row], matrix[row] = face.landmarks, face.blendshapes, face.matrix
    return {"found": found, "landmarks": landmarks, "blendshapes": blendshapes, "matrix": matrix}


if __name__ == "__main__":
    sys.exit(main())
