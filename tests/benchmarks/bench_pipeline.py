"""What the pipeline costs on top of the bare landmark model, in one run.

    python tests/benchmarks/bench_pipeline.py CLIP [--frames N] [--estimator NAME] [--json FILE]

The bare figure is MediaPipe's own call on the decoded frames of the same clip, in memory.
`pipeline` is everything a capture does: decode, landmarks, action units, expression label, units,
gaze, validation, writing the take. `live` is what one live frame waits for: the same without
decoding and writing, while threads beside it judge the label and, in the combined reading, have the
network look. Neither may take `LIMIT` times as long as the bare call. All run `--repeats` times, taking
turns; each frame counts with its quickest run, so that other programs on the machine weigh on none.
CPU time is that of all threads together.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

# Before numpy: as in the worker and the command line.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

LIMIT = 1.4
"""What the pipeline may cost, in calls of the bare landmark model."""

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import conftest  # noqa: E402, F401  makes the checkout importable as mien
import numpy as np  # noqa: E402

from mien.core import estimators, jobs, labelling  # noqa: E402
from mien.core.action_unit_model import CROP as UNIT_CROP  # noqa: E402
from mien.core.action_unit_model import LearnedEstimator  # noqa: E402
from mien.core.action_units import BlendshapeEstimator  # noqa: E402
from mien.core.capture import open_source  # noqa: E402
from mien.core.expression import ExpressionClassifier, hog_of  # noqa: E402
from mien.core.fusion import fuse  # noqa: E402
from mien.core.head import GazeTracker, head_pose  # noqa: E402
from mien.core.landmarks import POINTS68, Landmarker  # noqa: E402
from mien.core.landmarks68 import FaceCheck  # noqa: E402
from mien.core.models import landmark_model  # noqa: E402
from mien.core.pipeline import CHECKED, open_pipeline  # noqa: E402
from mien.core.preprocess import aligned_crop  # noqa: E402
from mien.core.record import pack  # noqa: E402
from mien.core.solve import Solver  # noqa: E402
from mien.core.types import FrameResult  # noqa: E402
from mien.core.units import ESTIMATORS, EXPRESSIONS  # noqa: E402


def bare_official(frames) -> list[float]:
    """Seconds per frame of the unmodified MediaPipe package; empty where it is not installed whole."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(landmark_model())),
        running_mode=vision.RunningMode.VIDEO,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    seconds = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for i, frame in enumerate(frames):
            started = time.perf_counter()
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, frame.image)
            landmarker.detect_for_video(image, i * 33)
            seconds.append(time.perf_counter() - started)
    return seconds


def bare_direct(frames) -> list[float]:
    """Seconds per frame of Mien's call into the same library."""
    seconds = []
    with Landmarker(landmark_model()) as landmarker:
        for frame in frames:
            started = time.perf_counter()
            landmarker.detect(frame.image, frame.time)
            seconds.append(time.perf_counter() - started)
    return seconds


def whole(clip: Path, estimator: str) -> list[float]:
    """Seconds per frame of a capture, from the second frame: the first carries the model's warm-up."""
    stamps = []
    with tempfile.TemporaryDirectory() as folder:
        jobs.capture(
            clip,
            Path(folder) / "bench.mien",
            estimator=estimator,
            on_result=lambda _: stamps.append(time.perf_counter()),
        )
    return [later - earlier for earlier, later in itertools.pairwise(stamps)]


def steps(frames, estimator: str) -> list[float]:
    """Seconds per frame of the live pipeline's step."""
    seconds = []
    with open_pipeline(estimator, live=True) as pipeline:
        for frame in frames:
            started = time.perf_counter()
            pipeline.step(frame)
            seconds.append(time.perf_counter() - started)
    return seconds


def quickest(runs: list[list[float]]) -> float:
    """Milliseconds per frame, each frame at its quickest."""
    return 1000 * statistics.mean(min(times) for times in zip(*runs, strict=True))


def first(runs: list[list[float]], count: int) -> list[list[float]]:
    """The runs cut to the frames that the bare model was measured on."""
    return [run[:count] for run in runs]


def stages(clip: Path, frames) -> dict[str, float]:
    """Milliseconds per frame of each stage, run one after the other on one thread.

    Those that do not look at every frame count as often as they do: the label every
    `labelling.INTERVAL` seconds, the network for action units every `estimators.LOOK`, the
    check on the mesh every `pipeline.CHECKED`.
    """
    totals: dict[str, float] = {}

    def timed(name, call, *arguments):
        started = time.perf_counter()
        value = call(*arguments)
        totals[name] = totals.get(name, 0.0) + time.perf_counter() - started
        return value

    with open_source(clip) as source:
        iterator = iter(source)
        for _ in frames:
            timed("decode", next, iterator)
    blendshapes, learned, classifier = BlendshapeEstimator(), LearnedEstimator(mirrored=False), ExpressionClassifier()
    gaze, solver, check = GazeTracker(), Solver(), FaceCheck()
    due = look = checked = frames[0].time
    with Landmarker(landmark_model()) as landmarker:
        for frame in frames:
            face = timed("landmarks", landmarker.detect, frame.image, frame.time)
            if face is None:
                continue
            rotation, translation = timed("head", head_pose, face)
            eyes = timed("gaze", gaze, face, frame.time)
            units, arkit = timed("blendshape units", blendshapes.estimate_arkit, face, frame.image)
            if frame.time >= look - 1e-3:
                look = frame.time + estimators.LOOK
                timed("units: crop", aligned_crop, frame.image, face.landmarks, UNIT_CROP)
                timed("units: geometry", learned.estimate_arkit, face, None)
                timed("units: whole", learned.estimate_arkit, face, frame.image)
            label, probabilities = "unsure", np.zeros(len(EXPRESSIONS))
            if frame.time >= due - 1e-3:
                due = frame.time + labelling.INTERVAL
                timed("label: histograms", hog_of, frame.image, face.landmarks)
                timed("label: whole", classifier.classify, face, frame.image)
            if frame.time >= checked - 1e-3:
                checked = frame.time + CHECKED
                timed("check on the mesh", check, frame.image, face.landmarks[POINTS68, :2])
            fused = timed("fusion", fuse, units)
            fields = {
                "found": True,
                "confidence": 1.0,
                "size": face.size,
                "box": face.box,
                "landmarks": face.landmarks,
                "head_rotation": rotation,
                "head_translation": translation,
                "eye_rotations": eyes,
                "action_units": units,
                "arkit": arkit,
                "units": fused,
                "expression": label,
                "probabilities": probabilities,
            }
            result = timed("result", functools.partial(FrameResult, frame.index, frame.time, **fields))
            timed("record", pack, result)
            timed("solve (live)", solver.step, result)
    # What is left of the whole: the networks; for the label also crop, geometry and SVM.
    totals["units: network"] = totals.pop("units: whole") - totals["units: crop"] - totals["units: geometry"]
    totals["label: network, SVM"] = totals.pop("label: whole") - totals["label: histograms"]
    return {name: 1000 * total / len(frames) for name, total in totals.items()}


def measure(clip: Path, limit: int, repeats: int, estimator: str) -> dict:
    """Return the figures of one clip."""
    with open_source(clip) as source:
        frames = [frame for frame, _ in zip(source, range(limit), strict=False)]
        size = source.size
    official, direct, single, full, cpu = [], [], [], [], {}
    for _ in range(repeats):
        for name, runs, call in (
            ("official", official, lambda: bare_official(frames)[1:]),
            ("direct", direct, lambda: bare_direct(frames)[1:]),
            ("live", single, lambda: steps(frames, estimator)[1:]),
            ("pipeline", full, lambda: whole(clip, estimator)),
        ):
            started = time.process_time()
            runs.append(call())
            cpu.setdefault(name, []).append(1000 * (time.process_time() - started) / max(len(runs[-1]), 1))
    full = first(full, len(frames) - 1)
    has_official = bool(official[0])
    bare = quickest(official if has_official else direct)
    bare_cpu = min(cpu["official" if has_official else "direct"])
    return {
        "clip": clip.name,
        "estimator": estimator,
        "size": size,
        "frames": len(frames),
        "bare_is": "mediapipe package" if has_official else "direct call",
        "bare_ms": bare,
        "direct_ms": quickest(direct),
        "pipeline_ms": quickest(full),
        "live_ms": quickest(single),
        "ratio": quickest(full) / bare,
        "live_ratio": quickest(single) / bare,
        "ratio_to_direct": quickest(full) / quickest(direct),
        "bare_cpu_ms": bare_cpu,
        "pipeline_cpu_ms": min(cpu["pipeline"]),
        "stages_ms": stages(clip, frames),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of the pipeline over the bare landmark model.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=100000, help="measure the bare model on this many frames")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--estimator", choices=ESTIMATORS, default=ESTIMATORS[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = [measure(clip, args.frames, args.repeats, args.estimator) for clip in args.clips]
    for row in figures:
        print(
            f"{row['clip']}: bare {row['bare_ms']:.2f} ms ({row['bare_is']}; direct call {row['direct_ms']:.2f} ms); "
            f"pipeline {row['pipeline_ms']:.2f} ms, {row['ratio']:.2f} x; live {row['live_ms']:.2f} ms, "
            f"{row['live_ratio']:.2f} x; CPU {row['pipeline_cpu_ms']:.1f} against {row['bare_cpu_ms']:.1f} ms"
        )
        within = "within" if max(row["ratio"], row["live_ratio"]) <= LIMIT else "beyond"
        print(f"   {within} {LIMIT} x; milliseconds per frame of each stage:")
        for name, value in row["stages_ms"].items():
            print(f"   {name:20} {value:6.2f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
