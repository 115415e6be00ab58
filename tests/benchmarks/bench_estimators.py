"""What the estimators make of the same real faces: range, noise at rest, and the strongest frames as pictures.

    python tests/benchmarks/bench_estimators.py CLIPS... [--frames N] [--sheet FILE.jpg]

There is no truth on real clips, so this shows what changes from one estimator to another: the
99th percentile of each channel after solving (how far it moves), its noise in the calmest quarter
of the clip before and after, and, to be looked at, the frame in which it is strongest.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401  makes the checkout importable as mien
import numpy as np

from mien.core.capture import open_source
from mien.core.estimators import open_estimator
from mien.core.fusion import fuse
from mien.core.head import GazeTracker, head_pose
from mien.core.landmarks import Landmarker
from mien.core.models import landmark_model
from mien.core.opencv import cv2
from mien.core.solve import solve_take
from mien.core.take import TakeHeader
from mien.core.types import FrameResult
from mien.core.units import ARKIT_INDEX, ESTIMATORS, UNIT_INDEX, UNITS

SHAPES = ("cheekSquintLeft", "noseSneerLeft", "cheekPuff", "jawForward")
"""ARKit shapes in which the landmark model is dead."""

PICTURED = ("CheekSquint", "NoseWrinkle", "cheekPuff", "jawForward")
WINDOW = 15


def follow(clip: Path, limit: int):
    """Return thumbnails, and each estimator's results, of one clip: the landmark model runs once."""
    estimators = {name: open_estimator(name) for name in ESTIMATORS}
    results: dict[str, list[FrameResult]] = {name: [] for name in ESTIMATORS}
    pictures, gaze = [], GazeTracker()
    with open_source(clip) as source, Landmarker(landmark_model()) as landmarker:
        for frame, _ in zip(source, range(limit), strict=False):
            face = landmarker.detect(frame.image, frame.time)
            pictures.append(thumbnail(frame.image, face))
            if face is None:
                for name in ESTIMATORS:
                    results[name].append(FrameResult(frame.index, frame.time))
                continue
            rotation, translation = head_pose(face)
            eyes = gaze(face, frame.time)
            for name, estimator in estimators.items():
                if hasattr(estimator, "at"):
                    estimator.at(frame.time)
                units, arkit = estimator.estimate_arkit(face, frame.image)
                results[name].append(
                    FrameResult(
                        frame.index,
                        frame.time,
                        found=True,
                        confidence=1.0,
                        size=face.size,
                        landmarks=face.landmarks,
                        head_rotation=rotation,
                        head_translation=translation,
                        eye_rotations=eyes,
                        action_units=units,
                        arkit=gaze.hold(arkit),
                        units=fuse(units),
                    )
                )
    return pictures, results


def thumbnail(image, face):
    """Return the face, 200 x 220 px; black where there is none."""
    if face is None:
        return np.zeros((220, 200, 3), np.uint8)
    x, y, width, height = face.box
    margin = height / 4
    rows = slice(max(int(y - margin), 0), int(y + height + margin / 2))
    columns = slice(max(int(x - margin), 0), int(x + width + margin))
    return cv2.resize(image[rows, columns], (200, 220), interpolation=cv2.INTER_AREA)


def noise(values) -> float:
    """Return the spread of second differences in the calmest quarter of the windows."""
    starts = range(max(len(values) - WINDOW, 1))
    calm = sorted(starts, key=lambda i: values[i : i + WINDOW].std())[: max(len(starts) // 4, 1)]
    return float(np.mean([np.diff(values[i : i + WINDOW], 2).std() for i in calm]) / np.sqrt(6))


def channel(source, name: str):
    """Return one unit or ARKit shape of a performance or a stack of results."""
    return source.units[:, UNIT_INDEX[name]] if name in UNIT_INDEX else source.arkit[:, ARKIT_INDEX[name]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Range and noise of the estimators on real clips.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--sheet", type=Path, help="picture of the strongest frames to write")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    solved: dict[str, list] = {name: [] for name in ESTIMATORS}
    sheet: dict[tuple[str, str], list] = {(name, estimator): [] for name in PICTURED for estimator in ESTIMATORS}
    for clip in args.clips:
        pictures, results = follow(clip, args.frames)
        for estimator, rows in results.items():
            take = types.SimpleNamespace(
                header=TakeHeader(clip.name),
                times=np.array([row.time for row in rows]),
                column=lambda name, at=None, rows=rows: np.array(
                    [getattr(row, name) if at is None else getattr(row, name)[at] for row in rows]
                ),
            )
            raw = types.SimpleNamespace(units=take.column("units"), arkit=take.column("arkit"))
            performance = solve_take(take)
            solved[estimator].append((raw, performance))
            for name in PICTURED:
                values = channel(performance, name)
                best = int(np.argmax(values))
                picture = pictures[best].copy()
                text = f"{name} {values[best]:.2f}"
                cv2.putText(picture, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 0), 1)
                sheet[name, estimator].append(picture)
    print("median, 99 %, noise before and after solving")
    print(f"{'':16}" + "".join(f"{name:^30}" for name in ESTIMATORS))
    for name in (*UNITS, *SHAPES):
        line = f"{name:16}"
        for pairs in solved.values():
            joined = np.concatenate([channel(performance, name) for _, performance in pairs])
            before = np.mean([noise(channel(raw, name)) for raw, _ in pairs])
            after = np.mean([noise(channel(performance, name)) for _, performance in pairs])
            line += f"{np.median(joined):7.3f}{np.percentile(joined, 99):6.2f}{before:8.4f}{after:8.4f} "
        print(line)
    if args.sheet:
        rows = [np.hstack(cells) for cells in sheet.values()]
        cv2.imwrite(str(args.sheet), np.vstack(rows)[:, :, ::-1])
        print(f"{args.sheet}: a column per clip; a row per channel and estimator ({', '.join(ESTIMATORS)})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
