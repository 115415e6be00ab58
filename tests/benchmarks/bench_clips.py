"""What the pipeline makes of real clips: faces found, ranges per unit, jitter, blinks against gaze.

    python tests/benchmarks/bench_clips.py CLIPS... [--json FILE]

Tables are for each way of solving: raw, smoothed, and smoothed with the rest taken out.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest  # noqa: F401  makes the checkout importable as mien

from mien.core.capture import open_source, read_ahead
from mien.core.pipeline import Pipeline
from mien.core.solve import SolveOptions, solve_take
from mien.core.take import TakeHeader
from mien.core.units import ARKIT_INDEX, UNIT_INDEX, UNITS

WAYS = {
    "raw": SolveOptions(smoothing=0.0, neutral="none"),
    "smooth": SolveOptions(neutral="none"),
    "smooth, rest out": SolveOptions(neutral="auto"),
}
STILL = 0.3
"""The share of frames with the least movement that jitter is measured on."""


def jitter(times, values, found) -> np.ndarray:
    """Root mean square of the second difference on the stillest frames, per channel.

    A steady movement has no second difference and a still face only noise; the stillest are
    those with the smallest mean movement over half a second.
    """
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    whole = found[2:] & found[1:-1] & found[:-2]
    width = max(int(0.5 / np.median(np.diff(times))), 3)
    moved = np.abs(np.diff(values, axis=0)).mean(axis=1)
    moved = np.convolve(moved, np.ones(width) / width, "same")[1:]
    if not whole.any():
        return np.zeros(values.shape[1])
    still = whole & (moved <= np.quantile(moved[whole], STILL))
    return np.sqrt((second[still] ** 2).mean(axis=0) / 6)  # white noise of variance 1 has 6


def measure(clip: Path) -> dict:
    """Return the figures of one clip."""
    with open_source(clip) as source, Pipeline() as pipeline:
        results = [pipeline.step(frame) for frame in read_ahead(source)]
    take = types.SimpleNamespace(
        header=TakeHeader(clip.name),
        times=np.array([r.time for r in results]),
        column=lambda name, at=None: np.array(
            [getattr(r, name) if at is None else getattr(r, name)[at] for r in results]
        ),
    )
    found = take.column("found")
    row = {"clip": clip.name, "frames": len(results), "found": float(found.mean()), "ways": {}}
    for name, options in WAYS.items():
        performance = solve_take(take, options)
        units = performance.units[found]
        row["ways"][name] = {
            "p5": np.percentile(units, 5, axis=0).tolist(),
            "p50": np.percentile(units, 50, axis=0).tolist(),
            "p95": np.percentile(units, 95, axis=0).tolist(),
            "max": units.max(axis=0).tolist(),
            "jitter": jitter(performance.times, performance.units, found).tolist(),
            "head_jitter_degrees": float(
                np.degrees(2 * np.linalg.norm(jitter(performance.times, performance.head, found)[1:]))
            ),
            "eye_jitter_degrees": float(
                np.degrees(np.linalg.norm(jitter(performance.times, performance.eyes[:, 0], found)))
            ),
        }
    raw = solve_take(take, WAYS["raw"])
    row["pitch_moved_by_blinks_degrees"] = blink_crosstalk(raw, found)
    return row


def blink_crosstalk(performance, found) -> dict[str, float]:
    """How far pitch moves while lids close: Mien's gaze, and the model's eyeLook weights read as angles."""
    lids = performance.units[:, [UNIT_INDEX["BlinkLeft"], UNIT_INDEX["BlinkRight"]]].min(axis=1)
    shut = np.flatnonzero((lids[1:] > 0.8) & (lids[:-1] <= 0.8) & found[1:]) + 1
    weights = performance.arkit
    look = (
        weights[:, ARKIT_INDEX["eyeLookUpLeft"]]
        + weights[:, ARKIT_INDEX["eyeLookUpRight"]]
        - weights[:, ARKIT_INDEX["eyeLookDownLeft"]]
        - weights[:, ARKIT_INDEX["eyeLookDownRight"]]
    )
    pitches = {"mien": performance.eyes[:, 0, 1], "weights": 0.61 * look / 2}
    before = np.maximum(shut - 5, 0)
    return {"blinks": len(shut)} | {
        name: float(np.degrees(np.abs(p[shut] - p[before]).mean())) if len(shut) else 0.0 for name, p in pitches.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Ranges and jitter of the units on real clips.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [measure(clip) for clip in args.clips]
    short = [name[:9] for name in UNITS]
    for row in rows:
        cross = row["pitch_moved_by_blinks_degrees"]
        print(
            f"\n{row['clip']}: {row['frames']} frames, face in {row['found']:.1%}; {cross['blinks']} blinks move the "
            f"gaze's pitch by {cross['mien']:.1f} degrees (by the model's weights {cross['weights']:.1f})"
        )
        print(f"{'':28}" + "".join(f"{name:>10}" for name in short) + "  head deg   eye deg")
        for way, figures in row["ways"].items():
            for key in ("p5", "p50", "p95"):
                print(f"{way:>20} {key:>6} " + "".join(f"{value:10.2f}" for value in figures[key]))
            print(
                f"{way:>20} jitter " + "".join(f"{value:10.4f}" for value in figures["jitter"])
                + f"{figures['head_jitter_degrees']:10.3f}{figures['eye_jitter_degrees']:10.3f}"
            )  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
