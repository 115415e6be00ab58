"""Memory of the worker over a long capture: a clip looped to an hour of video, at full speed.

    python tests/benchmarks/bench_worker_memory.py CLIP [--minutes 60] [--json FILE]

Runs the real worker as Blender would, samples its resident memory from outside (Linux),
and fits a line through the samples after the warm-up. The slope is told per hour of
video and per hour of the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

# Models, decoders and allocators fill their caches first.
WARM_UP = 0.1


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def run(clip: Path, minutes: float) -> dict:
    """Capture and sample; return the figures."""
    from mien.core.client import WorkerClient, WorkerDied
    from mien.core.protocol import Failed, Finished, Progress, StartCapture

    samples = []
    with tempfile.TemporaryDirectory() as folder, WorkerClient(log_path=Path(folder, "worker.log")) as client:
        begin = sampled = time.monotonic()
        client.send(StartCapture(1, str(clip.resolve()), str(Path(folder, "take.mien")), loop=minutes * 60))
        frame, end = 0, None
        while end is None:
            for event in client.poll():
                if isinstance(event, Progress):
                    frame = event.frame
                elif isinstance(event, (Finished, Failed, WorkerDied)):
                    end = event
            now = time.monotonic()
            if frame and client.alive and now - sampled >= 0.5:
                sampled = now
                samples.append((now - begin, frame, resident_mb(client.pid)))
            time.sleep(0.02)
        if not isinstance(end, Finished):
            raise SystemExit(f"the capture failed: {end.error}\n{getattr(end, 'log_tail', '')}")
        take = Path(folder, "take.mien").stat().st_size

    seconds, frames, memory = np.array(samples).T
    summary = end.summary
    steady = frames >= WARM_UP * summary.frames
    video_hours = frames * (summary.duration / summary.frames) / 3600
    return {
        "clip": clip.name,
        "video_minutes": round(summary.duration / 60, 2),
        "frames": summary.frames,
        "seconds": round(summary.seconds, 1),
        "frames_per_second": round(summary.frames / summary.seconds, 1),
        "take_mb": round(take / 1e6, 1),
        "samples": len(samples),
        "rss_mb_after_warm_up": round(float(memory[steady][0]), 1),
        "rss_mb_at_end": round(float(memory[-1]), 1),
        "rss_mb_peak": round(float(memory.max()), 1),
        "slope_mb_per_hour_of_video": round(float(np.polyfit(video_hours[steady], memory[steady], 1)[0]), 2),
        "slope_mb_per_hour_of_clock": round(float(np.polyfit(seconds[steady] / 3600, memory[steady], 1)[0]), 2),
    }


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the video to play (default 60)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    # Makes the checkout importable as `mien`; needs no install.
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest  # noqa: F401

    figures = run(args.clip, args.minutes)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
