"""The live filter measured: how long a step takes to arrive, how much a face at rest jitters, and what prediction does.

    python tests/benchmarks/bench_filter.py [--clip CLIP | --noise 0.0044] [--out docs/live]

Movements, steps and rest are put through the real `Solver` at 30 pictures a second, with noise as the clip's own if one
is given (frame-to-frame noise of its landmarks' weights while the face holds still). Writes a table to the
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


class Chart:
    """A line chart as SVG.

    Parameters
    ----------
    corner, size : tuple of float
        Of the area that the curves have, px.
    x_range, y_range : tuple of float
    """

    def __init__(self, corner, size, x_range, y_range):
        self.corner, self.size, self.x_range, self.y_range = corner, size, x_range, y_range
        self.parts: list[str] = []

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (min(y, self.y_range[1]) - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return self.corner[0] + across * self.size[0], self.corner[1] + (1 - up) * self.size[1]

    def grid(self, xs, ys) -> None:
        for x in xs:
            (px, low), (_, high) = self.place(x, self.y_range[0]), self.place(x, self.y_range[1])
            self.parts.append(f'<path d="M{px:.1f},{low:.1f} V{high:.1f}" stroke="#ddd"/>')
            self.text(px, low + 16, f"{x:g}", "middle")
        for y in ys:
            (left, py), (right, _) = self.place(self.x_range[0], y), self.place(self.x_range[1], y)
            self.parts.append(f'<path d="M{left:.1f},{py:.1f} H{right:.1f}" stroke="#ddd"/>')
            self.text(left - 6, py + 4, f"{y:g}", "end")

    def curve(self, xs, ys, style: str) -> None:
        places = [self.place(x, y) for x, y in zip(xs, ys, strict=True) if self.x_range[0] <= x <= self.x_range[1]]
        self.parts.append(f'<path d="M{" L".join(f"{x:.1f},{y:.1f}" for x, y in places)}" fill="none" {style}/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        px, py = self.place(x, y)
        self.parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"/>')

    def text(self, x: float, y: float, words: str, anchor: str = "start", style: str = "") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{words}</text>')


def svg(width: int, height: int, title: str, charts: list[Chart]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"',
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="20" y="26" font-size="15">{title}</text>',
            *(part for chart in charts for part in chart.parts),
            "</svg>\n",
        ]
    )


def draw_steps() -> str:
    """Return a chart of each channel: the actor's movement, what the filter makes of it and of a hard step."""
    charts = []
    for i, (channel, (_field, _which, size, duration)) in enumerate(CHANNELS.items()):
        chart = Chart((50 + i % 3 * 250, 70 + i // 3 * 220), (210, 150), (-100, 500), (0.0, 1.1))
        chart.grid((0, 200, 400), (0, 0.5, 1))
        times, values = movement(channel, 0.2, 0.5)
        colour = COLOURS[i]
        hard = size * (times >= -1e-9)
        chart.curve(times * 1000, through(channel, hard, 0.5, 0.0) / size, f'stroke="{colour}" stroke-opacity="0.35"')
        chart.curve(times * 1000, values / size, 'stroke="#555" stroke-dasharray="4 3"')
        chart.curve(times * 1000, through(channel, values, 0.5, 0.0) / size, f'stroke="{colour}" stroke-width="2.5"')
        name = f"{channel}, {1000 * duration:.0f} ms: {lag(channel, 0.5)[0]:.0f} ms late"
        chart.text(chart.corner[0], chart.corner[1] - 8, name, style=f'fill="{colour}" font-weight="bold"')
        charts.append(chart)
    charts[-1].text(300, 490, "dashed: the actor; thick: the rig; thin: the rig after a hard step; x: ms")
    return svg(800, 510, "Movements through the live filter, smoothing 0.5, 30 pictures a second", charts)


def draw_jitter(noise: float) -> str:
    """Return a chart of jitter against lag, with a dot where smoothing is 0.5."""
    chart = Chart((60, 50), (600, 300), (0, 120), (0.0, 0.8))
    chart.grid(range(0, 121, 20), (0, 0.2, 0.4, 0.6, 0.8))
    strengths = np.linspace(0.1, 0.9, 9)
    for i, channel in enumerate(CHANNELS):
        lags = [lag(channel, s)[0] for s in strengths]
        left = [jitter(channel, s, noise) for s in strengths]
        chart.curve(lags, left, f'stroke="{COLOURS[i]}" stroke-width="2"')
        chart.dot(lags[4], left[4], COLOURS[i])
        chart.text(680, 66 + 18 * i, channel, style=f'fill="{COLOURS[i]}" font-weight="bold"')
    chart.text(360, 385, "lag of half the movement, ms", "middle")
    title = f"Share of the jitter left at rest (noise {noise:.4f}) against lag; smoothing 0.1 to 0.9, dots: 0.5"
    return svg(760, 400, title, [chart])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="take the noise from this clip")
    parser.add_argument("--noise", type=float, default=0.0044, help="without a clip: that of a real one's weights")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "live", help="folder for the curves")
    args = parser.parse_args()
    load_mien()
    noise = clip_noise(args.clip) if args.clip else args.noise
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
    (args.out / "step.svg").write_text(draw_steps())
    (args.out / "jitter.svg").write_text(draw_jitter(noise))
    return 0


if __name__ == "__main__":
    sys.exit(main())
