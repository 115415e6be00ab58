"""The live filter measured: how long a step takes to arrive, how much a face at rest jitters, and what prediction does.

    python tests/benchmarks/bench_filter.py [--clip CLIP] [--out docs/live]

Steps and rest are put through the real `Solver` at 30 pictures a second, with noise as the clip's own if one is given
(frame-to-frame noise of its landmarks' weights while the face holds still), else of 0.01. Writes a table to the
standard output, and two curves as SVG: step responses, and jitter against lag over the whole range of smoothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FPS = 30.0

CHANNELS = {
    "blink": ("units", "BlinkLeft", 1.0, 0.10),
    "jaw": ("units", "JawOpen", 0.8, 0.10),
    "smile": ("units", "Smile", 0.8, 0.20),
    "brow": ("units", "BrowRaise", 0.8, 0.20),
    "gaze": ("eyes", 0, 0.4, 0.07),
    "head": ("head", 0, 0.4, 0.30),
}
"""Field, channel, size of the step (weight or radians) and how long an actor takes for it, seconds."""

COLOURS = ("#c0392b", "#e67e22", "#27ae60", "#2980b9", "#8e44ad", "#2c3e50")


def load_mien():
    spec = importlib.util.spec_from_file_location("mien", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = sys.modules["mien"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def result_at(channel: str, index: int, time: float, value: float):
    """Return a result whose one channel has a value, and how to read it again."""
    from mien.core.types import FrameResult
    from mien.core.units import UNIT_INDEX

    field, which, _size, _duration = CHANNELS[channel]
    if field == "units":
        units = np.zeros(11)
        units[UNIT_INDEX[which]] = np.clip(value, 0.0, 1.0)
        return FrameResult(index, time, found=True, units=units)
    if field == "eyes":
        return FrameResult(index, time, found=True, eye_rotations=[[value, 0.0], [value, 0.0]])
    return FrameResult(index, time, found=True, head_rotation=[np.cos(value / 2), 0.0, np.sin(value / 2), 0.0])


def read(channel: str, result) -> float:
    from mien.core.units import UNIT_INDEX

    field, which, _size, _duration = CHANNELS[channel]
    if field == "units":
        return float(result.units[UNIT_INDEX[which]])
    if field == "eyes":
        return float(result.eye_rotations[0, 0])
    return float(2 * np.arctan2(result.head_rotation[2], result.head_rotation[0]))


def through(channel: str, values, smoothing: float, prediction: float) -> np.ndarray:
    """Return what the solver gives for a channel's values, one a frame."""
    from mien.core.solve import SolveOptions, Solver

    solver = Solver(SolveOptions(smoothing=smoothing, neutral="none", prediction=prediction))
    return np.array(
        [read(channel, solver.step(result_at(channel, i, i / FPS, value))) for i, value in enumerate(values)]
    )


def movement(channel: str, before: float = 1.0, after: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return times from the start of a movement and the values of a smooth one."""
    _field, _which, size, duration = CHANNELS[channel]
    times = np.arange(-before, duration + after, 1 / FPS)
    x = np.clip(times / duration, 0.0, 1.0)
    return times, size * x * x * (3 - 2 * x)


def lag(channel: str, smoothing: float, prediction: float = 0.0) -> tuple[float, float]:
    """Return by how many ms half of the movement is late, and by how much of the step it overshoots."""
    size = CHANNELS[channel][2]
    times, values = movement(channel)
    out = through(channel, values, smoothing, prediction)

    def half(curve) -> float:
        i = int(np.argmax(curve >= size / 2))
        share = (size / 2 - curve[i - 1]) / (curve[i] - curve[i - 1])
        return float(times[i - 1] + share / FPS)

    return 1000 * (half(out) - half(values)), max(float(out.max()) / size - 1.0, 0.0)


def jitter(channel: str, smoothing: float, noise: float, prediction: float = 0.0) -> float:
    """Return the share of a resting channel's frame-to-frame noise that is left."""
    rng = np.random.default_rng(1)
    values = 0.3 + noise * rng.standard_normal(900)
    out = through(channel, values, smoothing, prediction)
    return float(np.diff(out[60:]).std() / np.diff(values[60:]).std())


def clip_noise(clip: Path, frames: int = 150) -> float:
    """Return the noise of a clip's livelier weights: their high-frequency part while they are slow."""
    from mien.core.capture import open_source
    from mien.core.pipeline import Pipeline

    rows = []
    with open_source(clip) as source, Pipeline() as pipeline:
        for frame in source:
            rows.append(pipeline.step(frame).arkit)
            if len(rows) == frames:
                break
    second = np.diff(np.array(rows), 2, axis=0) / np.sqrt(6.0)  # white noise keeps its size under this
    # Many weights stay at 0 and have no noise; those that a face uses do.
    return float(np.percentile(np.median(np.abs(second), axis=0) * 1.4826, 90))


def svg(title: str, x_label: str, y_label: str, curves: dict, x_range, y_range) -> str:
    """Return a line chart; curves are label -> (x, y)."""
    width, height, left, bottom, top, right = 720, 400, 60, 50, 40, 120

    def place(x, y):
        px = left + (x - x_range[0]) / (x_range[1] - x_range[0]) * (width - left - right)
        py = height - bottom - (y - y_range[0]) / (y_range[1] - y_range[0]) * (height - bottom - top)
        return f"{px:.1f},{py:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">{title}</text>',
        f'<text x="{(width - right) / 2}" y="{height - 12}">{x_label}</text>',
        f'<text x="16" y="{top + 120}" transform="rotate(-90 16 {top + 120})">{y_label}</text>',
    ]
    for i in range(6):
        x = x_range[0] + i / 5 * (x_range[1] - x_range[0])
        y = y_range[0] + i / 5 * (y_range[1] - y_range[0])
        (x0, y0), (x1, y1) = (place(x, v).split(",") for v in y_range)
        parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0}" y="{float(y0) + 18}" text-anchor="middle">{x:g}</text>')
        (x0, y0), (x1, y1) = (place(v, y).split(",") for v in x_range)
        parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#ddd"/>')
        parts.append(f'<text x="{float(x0) - 6}" y="{float(y0) + 4}" text-anchor="end">{y:.2g}</text>')
    for i, (label, (xs, ys)) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        inside = [(x, np.clip(y, *y_range)) for x, y in zip(xs, ys, strict=True) if x_range[0] <= x <= x_range[1]]
        points = " ".join(place(x, y) for x, y in inside)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{width - right + 10}" y="{top + 16 + 18 * i}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="take the noise from this clip")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "live", help="folder for the curves")
    args = parser.parse_args()
    load_mien()
    noise = clip_noise(args.clip) if args.clip else 0.01
    rows = []
    for channel in CHANNELS:
        late, _over = lag(channel, 0.5)
        led, over = lag(channel, 0.5, prediction=0.03)
        rows.append(
            {
                "channel": channel,
                "movement_ms": round(1000 * CHANNELS[channel][3]),
                "lag_ms": round(late, 1),
                "jitter_left": round(jitter(channel, 0.5, noise), 3),
                "lag_ms_predicted_30": round(led, 1),
                "overshoot_predicted_30": round(over, 3),
                "jitter_left_predicted_30": round(jitter(channel, 0.5, noise, 0.03), 3),
            }
        )
    print(json.dumps({"noise": round(noise, 5), "fps": FPS, "smoothing": 0.5, "channels": rows}, indent=1))

    args.out.mkdir(parents=True, exist_ok=True)
    curves = {}
    for channel in CHANNELS:
        times, values = movement(channel, 0.1, 0.3)
        curves[channel] = (times * 1000, through(channel, values, 0.5, 0.0) / CHANNELS[channel][2])
    title = "Movements through the live filter, smoothing 0.5, 30 fps"
    (args.out / "step.svg").write_text(
        svg(title, "ms from the start of the movement", "share of it", curves, (-100, 400), (0, 1))
    )
    strengths = np.linspace(0.1, 0.9, 9)
    curves = {
        channel: ([lag(channel, s)[0] for s in strengths], [jitter(channel, s, noise) for s in strengths])
        for channel in CHANNELS
    }
    title = f"Smoothing from 0.1 (upper left) to 0.9: jitter left at rest (noise {noise:.4f}) against lag"
    (args.out / "jitter.svg").write_text(svg(title, "lag, ms", "jitter left", curves, (0, 200), (0, 1)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
