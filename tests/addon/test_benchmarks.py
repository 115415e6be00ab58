"""Of the benchmarks that docs/accuracy.md quotes, those that need Blender and no clip run, on this Blender."""

import json
import subprocess
import sys
from pathlib import Path

from .conftest import needs_worker

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(name, folder, *arguments):
    path = folder / "told.json"
    command = [sys.executable, str(BENCHMARKS / name), *arguments, "--json", str(path)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert path.is_file(), ended.stderr  # a status of 1 tells figures that are worse than promised
    return json.loads(path.read_text())


def test_baking_is_measured_against_keying_one_by_one(tmp_path):
    told = run("bench_bake.py", tmp_path, "--frames", "24")
    assert told["frames"] == 24
    assert told["keys_every_frame"] == 24 * told["channels"]


@needs_worker
def test_the_sample_heads_own_performance_comes_back(tmp_path):
    """The closed loop of docs/accuracy.md, to a little less than it quotes."""
    told = run("bench_closed_loop.py", tmp_path)
    assert told["found"] == told["frames"] == 240
    assert told["mean_correlation"] > 0.85
    assert told["mean_error"] < 0.05
