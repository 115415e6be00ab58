"""The closed loop: the sample head's known performance, rendered, captured, baked, compared with the truth.

    python tests/benchmarks/bench_closed_loop.py [--rest auto|none] [--smoothing 0.5] [--json FILE]

Runs on the bpy module. What is compared is what the animator gets: the values that Blender
evaluates from the baked keys, frame by frame, and the turns of the posed bones.
"""

from __future__ import annotations

import argparse
import atexit
import json
import sys
import tempfile
from pathlib import Path

import bpy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401  makes the checkout importable as mien

from mien.addon import head_properties
from mien.addon.bake import BakeOptions, bake_into_scene
from mien.addon.rig.targets import find_target
from mien.core import jobs
from mien.core.solve import SolveOptions, solve_take
from mien.core.take import Take
from mien.core.units import ESTIMATORS, UNITS
from mien.sample_rigs import render

SAMPLES = Path(__file__).resolve().parents[2] / "sample_rigs"
BONES = ("head", "jaw", "eye.L", "eye.R")


def turns(rig) -> np.ndarray:
    """Return the bones' orientations as posed, quaternions (4, 4); the eyes' and jaw's relative to the head."""
    poses = {name: rig.pose.bones[name].matrix.to_quaternion() for name in BONES}
    rests = {name: rig.data.bones[name].matrix_local.to_quaternion() for name in BONES}
    turned = {name: poses[name] @ rests[name].inverted() for name in BONES}
    for name in BONES[1:]:
        turned[name] = turned["head"].inverted() @ turned[name]
    return np.array([turned[name] for name in BONES])


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the angle between two orientations, degrees, shape (...,)."""
    return np.degrees(2 * np.arccos(np.clip(np.abs((a * b).sum(axis=-1)), 0.0, 1.0)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation; 0 where one of the two never moves."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 and b.std() > 1e-6 else 0.0


def measure(
    smoothing: float = 0.5, rest: str = "auto", tolerance: float = 0.005, estimator: str = ESTIMATORS[0]
) -> dict:
    """Run the loop once.

    Returns
    -------
    dict
        ``units``: per unit correlation, mean absolute error, mean over the frames in which the
        truth rests (should be 0) and, at the truth's peaks, the share of it that is read (should be 1);
        ``bones``: per bone mean and 95th percentile of the angle to the truth, degrees.
    """
    with np.load(SAMPLES / "performance.npz", allow_pickle=False) as truth:
        times, units, head, gaze = (truth[name] for name in ("times", "units", "head", "gaze"))
    bpy.ops.wm.open_mainfile(filepath=str(SAMPLES / "mien_head.blend"))
    scene, mesh, rig = bpy.context.scene, bpy.data.objects["MienHead"], bpy.data.objects["MienRig"]
    true_turns = []
    for values, pose, look in zip(units, head, gaze, strict=True):
        render.pose(dict(zip(UNITS, values, strict=True)), pose, look)
        bpy.context.view_layer.update()
        true_turns.append(turns(rig))
    true_turns = np.array(true_turns)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loop.mien"
        captured = jobs.capture(SAMPLES / "performance.mp4", path, estimator=estimator)
        with Take(path) as take:
            performance = solve_take(take, SolveOptions(smoothing=smoothing, neutral=rest))
    baked = bake_into_scene(scene, find_target(mesh), performance, BakeOptions(start_frame=0, tolerance=tolerance))
    fps = scene.render.fps / scene.render.fps_base
    values, got_turns = [], []
    for time in times:
        frame = time * fps
        scene.frame_set(int(frame), subframe=frame % 1)
        values.append([mesh.data.shape_keys.key_blocks[name].value for name in UNITS])
        got_turns.append(turns(rig))
    values, got_turns = np.array(values), np.array(got_turns)
    rows = {}
    for i, name in enumerate(UNITS):
        true, got = units[:, i], values[:, i]
        rows[name] = {
            "correlation": correlation(true, got),
            "error": float(np.abs(true - got).mean()),
            "at_rest": float(got[true < 0.02].mean()),
            "at_peak": float(got[true > 0.8 * true.max()].mean() / true[true > 0.8 * true.max()].mean()),
        }
    off = angles(true_turns, got_turns)
    return {
        "clip": "sample_rigs/performance.mp4",
        "frames": captured.frames,
        "found": captured.found,
        "smoothing": smoothing,
        "rest": rest,
        "estimator": estimator,
        "keys": baked.keys_after,
        "units": rows,
        "mean_correlation": float(np.mean([row["correlation"] for row in rows.values()])),
        "mean_error": float(np.mean([row["error"] for row in rows.values()])),
        "bones": {
            name: {"error": float(off[:, i].mean()), "p95": float(np.percentile(off[:, i], 95))}
            for i, name in enumerate(BONES)
        },
    }


def table(result: dict) -> str:
    """Return the result as the Markdown of docs/accuracy.md."""
    lines = [
        "| unit | correlation | mean error | reads at rest | of its peak |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {row['correlation']:.3f} | {row['error']:.3f} | {row['at_rest']:.3f} | {row['at_peak']:.2f} |"
            for name, row in result["units"].items()
        ),
        f"| mean | {result['mean_correlation']:.3f} | {result['mean_error']:.3f} | | |",
        "",
        "| bone | mean error | 95th percentile |",
        "|---|---:|---:|",
        *(f"| {name} | {row['error']:.1f}° | {row['p95']:.1f}° |" for name, row in result["bones"].items()),
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoothing", type=float, default=0.5)
    parser.add_argument("--rest", choices=("auto", "none"), default="auto")
    parser.add_argument("--estimator", choices=ESTIMATORS, default=ESTIMATORS[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    head_properties.register()  # the rig's mapping, without the add-on
    atexit.register(head_properties.unregister)
    result = measure(args.smoothing, args.rest, estimator=args.estimator)
    print(f"{result['found']} of {result['frames']} frames with a face, {result['keys']} keys\n\n{table(result)}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
