"""Uses the extension in a real Blender with a window, as a user does, and takes pictures.

    python tests/zip/window.py BLENDER ZIP CLIP --tool blender-window [--out FOLDER]

BLENDER is a folder made by `blender-window setup`, with libgles2 installed in it, --tool that script. Needs root and
a machine to itself; not part of the tests. Leaves in FOLDER a picture per step (installed, head,
cancelled, baked), baked.blend and report.json. Other steps: --steps window_live_inside.py (live capture, with
pictures and timings), --steps window_meanwhile_inside.py (all that may happen while live; ends by closing the
window), --steps window_takes_inside.py (takes of a face from the network, Esc, hot keys).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHOT_EVERY = 2.0

OUTLIVE = 2.0
"""Seconds after Blender's end within which its worker has to be gone."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("blender", type=Path, help="folder made by `blender-window setup`")
    parser.add_argument("zip", type=Path, help="the Linux extension zip")
    parser.add_argument("clip", type=Path, help="video of a face")
    parser.add_argument("--tool", type=Path, required=True, help="the blender-window script")
    parser.add_argument("--out", type=Path, default=Path("out") / "window", help="folder for pictures and report")
    parser.add_argument("--steps", default="window_inside.py", help="what is done inside")
    parser.add_argument("--timeout", type=int, default=540, help="seconds for the session with the window")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="mien-window-") as scratch:
        share = Path(scratch)
        shutil.copyfile(arguments.zip, share / "mien.zip")
        shutil.copyfile(arguments.clip, share / f"performance{arguments.clip.suffix}")
        for script in HERE.glob("window_*inside.py"):
            shutil.copyfile(script, share / script.name)
        environment = {**os.environ, "TIMEOUT": str(arguments.timeout), "SHOT_EVERY": str(SHOT_EVERY)}
        tool = [arguments.tool, "run", arguments.blender, share]
        install = ["--command", "extension", "install-file", "-r", "user_default", "--enable", "/share/mien.zip"]
        subprocess.run([*tool, *install], check=True, env=environment)
        no_splash = "import bpy; bpy.context.preferences.view.show_splash = False; bpy.ops.wm.save_userpref()"
        subprocess.run([*tool, "--background", "--python-expr", no_splash], check=True, env=environment)

        script = ["--enable-event-simulate", "--python", f"/share/{arguments.steps}"]
        session = subprocess.Popen([*tool, *script], env=environment)
        arguments.out.mkdir(parents=True, exist_ok=True)
        while session.poll() is None and not (share / "processes").exists():
            follow(share, arguments.out)
            time.sleep(0.2)
        outlived = watch_worker(share)
        session.wait()
        report = share / "report.json"
        if not report.exists():
            print("Blender ended without a report", file=sys.stderr)
            return 1
        shutil.copy(report, arguments.out)
        for blend in share.glob("*.blend"):
            shutil.copy(blend, arguments.out)
        told = json.loads(report.read_text())
        if outlived is not None:
            told["worker outlived Blender by, s"] = round(outlived, 2)
            told["ok"] = told["ok"] and outlived < OUTLIVE
            (arguments.out / report.name).write_text(json.dumps(told, indent=2))
        print(json.dumps(told, indent=2))
        return 0 if told["ok"] else 1


def watch_worker(share: Path) -> float | None:
    """Return by how much the worker outlived its Blender, seconds; None where the script named no two processes."""
    named = share / "processes"
    if not named.exists():
        return None
    while len(both := named.read_text().split()) < 2:
        time.sleep(0.01)
    blender, worker = (Path("/proc") / pid for pid in both)
    while blender.exists():
        time.sleep(0.005)
    begin = time.monotonic()
    while worker.exists() and time.monotonic() - begin < 30:
        time.sleep(0.005)
    return time.monotonic() - begin


def follow(share: Path, out: Path) -> None:
    """Take the picture that the script inside waits for: it names it in `wanted`, and goes on when that is gone."""
    wanted = share / "wanted"
    if not wanted.exists():
        return
    name = wanted.read_text().strip()
    screen = share / "screen.png"
    # A picture begun after the wish; Blender draws slowly without a graphics card, so not the first one.
    if name and screen.exists() and screen.stat().st_mtime > wanted.stat().st_mtime + 2 * SHOT_EVERY:
        shutil.copyfile(screen, out / f"{name}.png")
        wanted.unlink()


if __name__ == "__main__":
    sys.exit(main())
