"""A worker without a camera and without a model: the real process, loop, recorder and solver, the rest stood in for."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
import numpy as np
from core import live, worker
from core.capture import camera
from core.clock import now
from core.types import FrameResult

class Device:
    def __init__(self, number):
        self.next = now()
    def isOpened(self): return not os.path.exists({gone!r})
    def set(self, *args): return True
    def get(self, what): return {{3: 64, 4: 48, 5: 60}}.get(what, -1.0)
    def grab(self):
        if os.path.exists({gone!r}):
            return False
        self.next = max(self.next + 1 / 60, now() - 0.1)
        time.sleep(max(self.next - now(), 0))
        return True
    def retrieve(self): return True, np.zeros((48, 64, 3), np.uint8)
    def release(self): pass

class Pipeline:
    labeller, notices = None, ()
    def __init__(self, estimator): self.settings = {{"estimator": estimator}}
    def step(self, frame):
        time.sleep(0.1 if os.path.exists({slow!r}) else 0.0)
        sure = 0.2 if os.path.exists({hand!r}) else 1.0
        units = np.full(11, 0.5 + 0.4 * np.sin(frame.time * 3))
        if os.path.exists({nobody!r}):
            return FrameResult(frame.index, frame.time, size=(64, 48))
        return FrameResult(frame.index, frame.time, found=True, confidence=sure, size=(64, 48), box=(10, 10, 20, 20),
                           units=units, expression="happiness", probabilities=[0, 0, 0, 0.9, 0, 0, 0.1])
    def close(self): pass

camera.open_device = Device
camera.list_cameras = lambda: [camera.CameraInfo("0", "Stand-in")]
live.make_pipeline = Pipeline
sys.exit(worker.main())
"""


def make_worker(folder: Path) -> tuple[list[str], Path]:
    """Return the command of the worker, and the file whose existence unplugs its camera.

    While there is a file ``hand`` beside that, the face is hidden, with ``nobody`` there is none; with one named
    ``slow`` the model is slow.
    """
    gone, script = folder / "gone", folder / "worker.py"
    flags = {name: str(folder / name) for name in ("gone", "hand", "nobody", "slow")}
    script.write_text(SCRIPT.format(root=str(ROOT), **flags))
    return [sys.executable, str(script)], gone
