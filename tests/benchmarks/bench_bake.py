"""Baking against inserting keyframes one by one, in one run on one Blender.

    python tests/benchmarks/bench_bake.py [--frames 2000] [--json FILE]

Both ways put the same channels of the same performance on the same rig: 11 shape keys and
five bones, 31 F-curves. `keyframe_insert` sets each value and keys it, frame by frame, as
add-ons do that know no better. `write` is Mien's bulk writing of a key on every frame;
`bake` is all that Mien does after the capture: resampling, key reduction and writing.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _load(name: str, path: Path, package: bool = False):
    folders = [str(ROOT)] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _timed(action, repeat: int = 1) -> float:
    """Return the median of `repeat` runs in CPU seconds: a machine busy with other things must not decide."""
    runs = []
    for _ in range(repeat):
        started = time.process_time()
        action()
        runs.append(time.process_time() - started)
    return statistics.median(runs)


def insert_one_by_one(mesh, planned) -> None:
    """Set and key every channel on every frame."""
    blocks, bones = mesh.data.shape_keys.key_blocks, mesh.parent.pose.bones
    frames = range(planned.end - planned.start + 1)
    rows = {}
    for channel in planned.channels:
        rows.setdefault(channel.data_path, []).append(channel.keys.evaluate(frames))
    for i in frames:
        for path, columns in rows.items():
            name = path.split('"')[1]
            if path.startswith("key_blocks"):
                blocks[name].value = columns[0][i]
                blocks[name].keyframe_insert("value", frame=planned.start + i)
            else:
                prop = path.rpartition(".")[2]
                setattr(bones[name], prop, [column[i] for column in columns])
                bones[name].keyframe_insert(prop, frame=planned.start + i)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)

    import bpy

    _load("mien", ROOT / "__init__.py", package=True)
    fixtures = _load("mien_bench_fixtures", ROOT / "tests" / "addon" / "conftest.py")
    from mien.addon import head_properties
    from mien.addon.bake import BakeOptions, bake_performance, plan, write
    from mien.addon.rig.targets import find_target

    head_properties.register()  # the rig's mapping, without the add-on
    atexit.register(head_properties.unregister)
    fixtures.empty_file()
    performance = fixtures.make_performance(args.frames, 24.0)
    every = BakeOptions(tolerance=0.0, rotation_tolerance=0.0)
    reduced = BakeOptions()

    mesh = fixtures.make_rig()
    target = find_target(mesh)
    planned = plan(performance, target.rig, every, 24.0)
    few = plan(performance, target.rig, reduced, 24.0)

    write_s = _timed(lambda: write([(planned, find_target(mesh))], every), 5)
    plan_s = _timed(lambda: plan(performance, target.rig, reduced, 24.0), 3)
    bake_s = _timed(lambda: bake_performance(bpy.context, find_target(mesh), performance, reduced), 3)
    fixtures.empty_file()
    mesh = fixtures.make_rig()
    insert_s = _timed(lambda: insert_one_by_one(mesh, planned))

    result = {
        "blender": bpy.app.version_string,
        "frames": args.frames,
        "channels": len(planned.channels),
        "keys_every_frame": planned.keys_after,
        "keys_reduced": few.keys_after,
        "keyframe_insert_s": round(insert_s, 4),
        "write_s": round(write_s, 4),
        "plan_s": round(plan_s, 4),
        "bake_s": round(bake_s, 4),
        "write_ratio": round(insert_s / max(write_s, 1e-9), 1),
        "bake_ratio": round(insert_s / max(bake_s, 1e-9), 1),
    }
    print(
        f"Blender {result['blender']}: {args.frames} frames x {result['channels']} channels\n"
        f"  keyframe_insert  {insert_s:8.3f} s\n"
        f"  write            {write_s:8.3f} s   {result['write_ratio']:7.1f} times faster (same keys)\n"
        f"  bake             {bake_s:8.3f} s   {result['bake_ratio']:7.1f} times faster "
        f"({result['keys_reduced']:,} of {result['keys_every_frame']:,} keys)"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["write_ratio"] >= 50.0 else 1


if __name__ == "__main__":
    sys.exit(main())
