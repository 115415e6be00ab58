"""Measure the action unit model on real clips: range, noise, cross-talk, and pictures to look at.

    python -m mien.core.training.clips --sheet out/sheet.jpg

There is no truth for these clips; the tables say how the channels behave, beside the
landmark model's blendshapes on the same frames.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from ..action_unit_model import LearnedEstimator
from ..action_units import BlendshapeEstimator
from ..capture import open_source
from ..evaluate import correlation
from ..fusion import fuse
from ..head import gaze as gaze_of
from ..landmarks import Landmarker
from ..models import landmark_model
from ..opencv import cv2
from ..units import UNIT_INDEX, UNITS
from .paths import data_folder

CLIPS = ("d0", "d3", "d9", "d10", "d11", "d14", "d18", "woman2", "WolfgangLanger_Pexels")
THUMB = 112
ESTIMATORS = ("mien", "mien_rest", "blendshapes")

PAIRS = (
    ("BlinkLeft", "BrowRaise"),
    ("BlinkLeft", "BrowFurrow"),
    ("BlinkLeft", "EyeWide"),
    ("BlinkLeft", "CheekSquint"),
    ("Smile", "CheekSquint"),
    ("Smile", "NoseWrinkle"),
    ("JawOpen", "BrowRaise"),
    ("Pucker", "JawOpen"),
)


CALM = 5
"""Of a clip's frames with the least movement by the blendshapes, as many make its rest."""


def run(clip: Path, learned: LearnedEstimator, most: int) -> dict[str, np.ndarray]:
    """Return units per estimator, gaze and thumbnails of a clip's first `most` frames with a face."""
    said, described, gaze, thumbs = [], [], [], []
    plain = BlendshapeEstimator()
    with Landmarker(landmark_model()) as landmarker, open_source(clip) as source:
        for frame in source:
            if frame.index >= most:
                break
            face = landmarker.detect(frame.image, frame.time)
            if face is None:
                continue
            described.append(learned.describe(face, frame.image))
            said.append(fuse(plain.estimate(face)))
            gaze.append(gaze_of(face))
            x, y, w, h = face.box
            side, centre = 1.3 * max(w, h), (x + w / 2, y + h / 2)
            matrix = np.array([[THUMB / side, 0, THUMB / 2 - centre[0] * THUMB / side],
                               [0, THUMB / side, THUMB / 2 - centre[1] * THUMB / side]])  # fmt: skip
            thumbs.append(cv2.warpAffine(frame.image, matrix, (THUMB, THUMB), flags=cv2.INTER_AREA))
    units = {"mien": [], "mien_rest": [], "blendshapes": np.array(said)}
    calm = np.argsort(units["blendshapes"].sum(1))[:CALM]
    for name, learned.rest in (("mien", None), ("mien_rest", np.mean([described[i] for i in calm], axis=0))):
        units[name] = fuse([learned.read(description)[0] for description in described])
    return {"gaze": np.array(gaze), "thumbs": np.array(thumbs), **units}


def noise(values: np.ndarray) -> np.ndarray:
    """Return each channel's noise at rest: the spread of second differences in the calmest quarter."""
    second = np.diff(values, 2, axis=0) / np.sqrt(6)  # white noise of unit variance has 6
    windows = np.lib.stride_tricks.sliding_window_view(second, 10, axis=0).std(-1)
    return np.quantile(windows, 0.25, axis=0)


def sheet(results: dict[str, dict], name: str, best: int = 6) -> np.ndarray:
    """Return a picture of the strongest frames per unit over all clips, at most two of a clip."""
    rows = []
    for column, unit in enumerate(UNITS):
        ranked = sorted(
            ((float(r[name][i, column]), clip, i) for clip, r in results.items() for i in range(0, len(r[name]), 5)),
            reverse=True,
        )
        used: dict[str, int] = {}
        cells = []
        for value, clip, i in ranked:
            if used.get(clip, 0) < 2 and len(cells) < best:
                used[clip] = used.get(clip, 0) + 1
                cell = results[clip]["thumbs"][i].copy()
                cv2.putText(cell, f"{value:.2f} {clip[:6]}", (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 0), 1)
                cells.append(cell)
        label = np.zeros((THUMB, 110, 3), np.uint8)
        cv2.putText(label, unit, (4, THUMB // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
        rows.append(np.hstack([label, *cells]))
    return np.vstack(rows)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables as JSON and write the contact sheet."""
    parser = argparse.ArgumentParser(description="Measure the action unit model on real clips.")
    parser.add_argument("--frames", type=int, default=150, help="most frames of each clip")
    parser.add_argument("--sheet", type=Path, help="where to write the contact sheets")
    parser.add_argument("--folder", type=Path, help="where the weights are; the shipped ones if not given")
    options = parser.parse_args(arguments)
    learned = LearnedEstimator(options.folder)
    results = {}
    for name in CLIPS:
        results[name] = run(data_folder() / "video" / f"{name}.mp4", learned, options.frames)
        sys.stderr.write(f"{name}: {len(results[name]['gaze'])} frames\n")
    tables: dict[str, dict] = {}
    for name in ESTIMATORS:
        joined = np.concatenate([r[name] for r in results.values()])
        rest, median, strongest = np.quantile(joined, [0.1, 0.5, 0.99], axis=0)
        still = np.mean([noise(r[name]) for r in results.values()], axis=0)
        tables[name] = {
            "channels": {
                u: {
                    "rest": float(rest[i]),
                    "median": float(median[i]),
                    "strongest": float(strongest[i]),
                    "noise": float(still[i]),
                }
                for i, u in enumerate(UNITS)
            },
            "pairs": {
                f"{a} - {b}": float(
                    np.mean(
                        [correlation(r[name][:, UNIT_INDEX[a]], r[name][:, UNIT_INDEX[b]]) for r in results.values()]
                    )
                )
                for a, b in PAIRS
            },
            "gaze": {
                f"{axis} - {unit}": float(
                    np.mean([correlation(r["gaze"][:, k], r[name][:, UNIT_INDEX[unit]]) for r in results.values()])
                )
                for k, axis in enumerate(("yaw", "pitch"))
                for unit in ("BlinkLeft", "BlinkRight", "BrowRaise", "EyeWide")
            },
        }
        if options.sheet:
            options.sheet.parent.mkdir(parents=True, exist_ok=True)
            path = options.sheet.with_stem(f"{options.sheet.stem}_{name}")
            cv2.imwrite(str(path), sheet(results, name)[..., ::-1])
    every = {name: np.concatenate([r[name] for r in results.values()]) for name in ESTIMATORS}
    for name in ESTIMATORS[:2]:
        tables[name]["agreement"] = {
            u: float(correlation(every[name][:, i], every["blendshapes"][:, i])) for i, u in enumerate(UNITS)
        }
    sys.stdout.write(json.dumps(tables, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
