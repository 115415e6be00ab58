"""Render `performance` to ``performance.mp4`` and store its truth in ``performance.npz``.

Needs bpy and the ffmpeg program. Frames already in the work folder are kept, so that a render
that was cut short goes on where it stopped; frames can be shared out between processes.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import bpy
import numpy as np

from . import render
from .build_head import BLEND
from .performance import curves
from .shapes import UNITS

FPS = 30
SIZE = (384, 384)
VIDEO = Path(__file__).with_name("performance.mp4")
TRUTH = Path(__file__).with_name("performance.npz")


def frames(folder: Path, samples: int = 5, part: int = 0, parts: int = 1) -> None:
    """Render every `parts`-th frame from `part` on that is not in the folder yet."""
    bpy.ops.wm.open_mainfile(filepath=str(BLEND))
    render.prepare(samples)
    bpy.context.scene.cycles.max_bounces = 2
    camera = bpy.data.objects["MienCamera"]
    camera.data.lens = 122.0
    _, units, head, gaze = curves(FPS)
    for index in range(part, len(units), parts):
        path = folder / f"{index:04d}.png"
        if path.exists():
            continue
        render.pose(dict(zip(UNITS, units[index], strict=True)), head[index], gaze[index])
        # A name of its own until it is whole, so that an interrupted frame is not taken for done.
        render.render_frame(folder / f"part-{index:04d}.png", SIZE).rename(path)


def encode(folder: Path, target: Path = VIDEO) -> None:
    """Make the H.264 file of the folder's frames."""
    command = ["ffmpeg", "-y", "-loglevel", "error", "-framerate", str(FPS), "-i", str(folder / "%04d.png")]
    command += ["-c:v", "libx264", "-preset", "slow", "-crf", "20", "-pix_fmt", "yuv420p", "-g", "30"]
    command += ["-movflags", "+faststart", str(target)]
    subprocess.run(command, check=True)


def store(target: Path = TRUTH) -> None:
    """Write the truth of the clip."""
    times, units, head, gaze = curves(FPS)
    np.savez_compressed(
        target,
        fps=np.float64(FPS),
        times=times,
        names=np.array(UNITS),
        units=units.astype(np.float32),
        head=head.astype(np.float32),
        gaze=gaze.astype(np.float32),
    )


def main(arguments: list[str] | None = None) -> None:
    """Render, encode, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, help="work folder for the frames (a temporary one)")
    parser.add_argument("--part", default="0/1", help="render only this share of the frames, as K/N; no video")
    options = parser.parse_args(arguments)
    part, parts = (int(v) for v in options.part.split("/"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.frames or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        frames(folder, part=part, parts=parts)
        if parts == 1:
            encode(folder)
            store()


if __name__ == "__main__":
    main()
