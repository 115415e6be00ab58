"""What is going on in this run of Blender. Never saved, so no file opens as "running"."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .capturing import CaptureJob


@dataclasses.dataclass
class Outcome:
    """The line that the panel shows after a bake.

    Attributes
    ----------
    lines : list of str
    failed : bool
    """

    lines: list[str]
    failed: bool = False


job: CaptureJob | None = None
"""The capture that runs."""

outcome: Outcome | None = None

worker_command: list[str] | None = None
"""Another worker than Mien's own; for tests."""


def running() -> bool:
    """Whether a capture is on."""
    return job is not None and job.running


def stop() -> None:
    """End what runs: another file is opened, or Mien is disabled."""
    global job, outcome
    if job is not None:
        job.cancel()
    job = None
    outcome = None
