"""How far sound drifts from the clock of the pictures, with a microphone whose own clock is wrong.

    python tests/benchmarks/bench_sound.py --minutes 8 --drift 0.0002

Needs PulseAudio. A click a second is spoken into a microphone that runs fast, or slow, and looked up in the file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--drift", type=float, default=0.0002, help="by which part the microphone is fast")
    arguments = parser.parse_args()
    load("conftest", ROOT / "tests" / "conftest.py")
    studio = load("sound_helpers", ROOT / "tests" / "core" / "sound_helpers.py")
    from mien.core.clock import now
    from mien.core.microphone import Microphone

    with tempfile.TemporaryDirectory() as scratch:
        server = studio.SoundServer(Path(scratch))
        os.environ.update(server.environment)
        speaker = studio.Speaker(server.pipe, every=1.0, drift=arguments.drift)
        microphone = Microphone(studio.NAME)
        while microphone.state[0] != "open":
            time.sleep(0.01)
        time.sleep(1.5)
        path, origin = Path(scratch) / "take.wav", now()
        microphone.begin(path, origin)
        time.sleep(60.0 * arguments.minutes)
        summary = microphone.end(now())
        late = 1000.0 * studio.off_by(path, origin, speaker.clicks)
        with wave.open(str(path)) as file:
            rate = file.getframerate()
        microphone.close()
        speaker.stop()
        server.stop()
    print(
        json.dumps(
            {
                "minutes": arguments.minutes,
                "uncorrected at the end, ms": round(60_000.0 * arguments.minutes * abs(arguments.drift), 1),
                "rate in the file": rate,
                "clicks": len(late),
                "late, median ms": round(float(np.median(late)), 2),
                "worst ms": round(float(np.abs(late).max()), 2),
                "error": summary.error and str(summary.error),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
