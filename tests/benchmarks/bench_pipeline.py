"""What the pipeline costs on top of the bare landmark model, in one run.

    python tests/benchmarks/bench_pipeline.py CLIP [--frames N] [--json FILE]

The bare figure is MediaPipe's own call on the decoded frames of the same clip, in memory.
The pipeline figure is everything a capture does: decode, landmarks, action units, units,
gaze, validation, writing the take. Both run `--repeats` times, taking turns; each frame counts
with its quickest run, so that other programs on the machine weigh on neither. CPU time is that
of all threads together.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import conftest  # noqa: E402, F401  makes the checkout importable as mien

from mien.core import jobs  # noqa: E402
from mien.core.action_units import BlendshapeEstimator  # noqa: E402
from mien.core.capture import open_source  # noqa: E402
from mien.core.fusion import fuse  # noqa: E402
from mien.core.head import GazeTracker, head_pose  # noqa: E402
from mien.core.landmarks import Landmarker  # noqa: E402
from mien.core.models import landmark_model  # noqa: E402
from mien.core.record import pack  # noqa: E402
from mien.core.types import FrameResult  # noqa: E402


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


def whole(clip: Path) -> list[float]:
    """Seconds per frame of a capture, from the second frame: the first carries the model's warm-up."""
    stamps = []
    with tempfile.TemporaryDirectory() as folder:
        jobs.capture(clip, Path(folder) / "bench.mien", on_result=lambda _: stamps.append(time.perf_counter()))
    return [later - earlier for earlier, later in itertools.pairwise(stamps)]


def quickest(runs: list[list[float]]) -> float:
    """Milliseconds per frame, each frame at its quickest."""
    return 1000 * statistics.mean(min(times) for times in zip(*runs, strict=True))


def first(runs: list[list[float]], count: int) -> list[list[float]]:
    """The runs cut to the frames that the bare model was measured on."""
    return [run[:count] for run in runs]


def stages(clip: Path, frames) -> dict[str, float]:
    """Milliseconds per frame of each stage, run one after the other."""
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
    estimator, gaze = BlendshapeEstimator(), GazeTracker()
    with Landmarker(landmark_model()) as landmarker:
        for frame in frames:
            face = timed("landmarks", landmarker.detect, frame.image, frame.time)
            if face is None:
                continue
            rotation, translation = timed("head", head_pose, face)
            eyes = timed("gaze", gaze, face, frame.time)
            units = timed("action units", estimator.estimate, face, frame.image)
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
                "arkit": face.blendshapes,
                "units": fused,
            }
            result = timed("result", functools.partial(FrameResult, frame.index, frame.time, **fields))
            timed("record", pack, result)
    return {name: 1000 * total / len(frames) for name, total in totals.items()}


def measure(clip: Path, limit: int, repeats: int) -> dict:
    """Return the figures of one clip."""
    with open_source(clip) as source:
        frames = [frame for frame, _ in zip(source, range(limit), strict=False)]
        size = source.size
    official, direct, full, cpu = [], [], [], {}
    for _ in range(repeats):
        for name, runs, call in (
            ("official", official, lambda: bare_official(frames)[1:]),
            ("direct", direct, lambda: bare_direct(frames)[1:]),
            ("pipeline", full, lambda: whole(clip)),
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
        "size": size,
        "frames": len(frames),
        "bare_is": "mediapipe package" if has_official else "direct call",
        "bare_ms": bare,
        "direct_ms": quickest(direct),
        "pipeline_ms": quickest(full),
        "ratio": quickest(full) / bare,
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
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = [measure(clip, args.frames, args.repeats) for clip in args.clips]
    for row in figures:
        print(
            f"{row['clip']}: {row['pipeline_ms']:.2f} ms a frame, {row['ratio']:.2f} x the bare model "
            f"({row['bare_ms']:.2f} ms, {row['bare_is']}; direct call {row['direct_ms']:.2f} ms); "
            f"CPU {row['pipeline_cpu_ms']:.1f} against {row['bare_cpu_ms']:.1f} ms"
        )
        print("   " + ", ".join(f"{name} {value:.2f}" for name, value in row["stages_ms"].items()))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
