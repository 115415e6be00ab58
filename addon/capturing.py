"""A capture in the worker process, followed without waiting; and where its take is kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from ..core.client import WorkerClient, WorkerDied
from ..core.errors import MienError
from ..core.files import file_stem, places
from ..core.jobs import CaptureSummary
from ..core.models import catalogue
from ..core.pictures import is_sequence
from ..core.protocol import Failed, Finished, Progress, StartCapture
from ..core.take import APP, SUFFIX, Take
from ..core.units import ESTIMATORS

_JOB = 1


class CaptureJob:
    """One source on its way to a take.

    Call `start`, then `poll` ten times a second until it returns False; then `error` or
    the take at `take` is there. `cancel` at any time.

    Parameters
    ----------
    source, take : pathlib.Path
    fps : float, optional
        Rate of a sequence of pictures, or of a CSV's timecode.
    estimator : str
        One of `core.units.ESTIMATORS`.
    actor : pathlib.Path, optional
        File with the actor's own expressions.
    command : list of str, optional
        Another worker, for tests.

    Attributes
    ----------
    progress : core.protocol.Progress or None
        The newest report.
    summary : core.jobs.CaptureSummary or None
        What the capture gave, once it has.
    error : MienError or None
        Why there is no take.
    """

    def __init__(
        self,
        source: Path,
        take: Path,
        fps: float | None = None,
        estimator: str = ESTIMATORS[0],
        actor: Path | None = None,
        command: list[str] | None = None,
    ):
        self.source = source
        self.take = take
        self.fps = fps
        self.estimator = estimator
        self.actor = actor
        self.progress: Progress | None = None
        self.summary: CaptureSummary | None = None
        self.error: MienError | None = None
        self._client = WorkerClient(command, background=True)
        self._running = False

    @property
    def running(self) -> bool:
        """Whether an answer is still awaited."""
        return self._running

    def start(self) -> None:
        """Start a worker and give it the order.

        Raises
        ------
        MienError
        """
        try:
            self.take.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MienError(
                "takes-folder",
                f"The takes folder {self.take.parent} cannot be made: {error.strerror}.",
                "Choose another one in Mien's preferences.",
            ) from error
        self._client.start()
        self._running = True
        more = {} if self.fps is None else {"fps": self.fps}
        if self.actor is not None:
            more["actor"] = str(self.actor)
        self._client.send(StartCapture(_JOB, str(self.source), str(self.take), estimator=self.estimator, **more))

    def poll(self) -> bool:
        """Take in what the worker said; returns whether the job still runs. Never waits."""
        if not self._running:
            return False
        for message in self._client.poll():
            if isinstance(message, Progress):
                self.progress = message
            elif isinstance(message, Finished):
                self.summary = message.summary
                self._end()
                break
            elif isinstance(message, Failed):
                self._end(message.error)
                break
            elif isinstance(message, WorkerDied):
                self._end(self._saying_where(message.error))
                break
        return self._running

    def wait(self) -> None:
        """Follow the job to its end: for scripts, where nothing else has to go on."""
        try:
            while self.poll():
                time.sleep(0.02)
        except BaseException:  # Ctrl-C as well: no worker must be left behind
            self.cancel()
            raise

    def cancel(self) -> None:
        """End the worker; the frames that it captured are kept. Safe to call at any time."""
        if not self._running:
            return
        # Hanging up ends it within a frame, also while it is still loading its libraries.
        self._end(patience=0.0)
        frames = self._frames_kept()
        if frames:
            error = MienError("cancelled", "The capture was cancelled.", f"{frames:,} captured frames are kept.")
            self.error = self._saying_where(error)
        else:
            self.error = MienError("cancelled", "The capture was cancelled, nothing was changed.")
            with contextlib.suppress(OSError):  # it may not be there, or a virus scanner has it
                self._part.unlink()

    @property
    def _part(self) -> Path:
        return places(self.take)[0]

    def _frames_kept(self) -> int:
        """Return how many frames an ended worker left of a take."""
        try:
            with Take(self._part) as take:
                return len(take)
        except MienError:
            return 0

    def _saying_where(self, error: MienError) -> MienError:
        """Add where the frames are that a worker had written when it ended."""
        if not self._frames_kept():
            return error
        where = f"They are in {self._part}: Bake Take puts them on the head."
        return MienError(error.code, error.message, f"{error.hint} {where}")

    def _end(self, error: MienError | None = None, patience: float = 0.5):
        self._running = False
        self.error = error
        self._client.stop(timeout=patience)


def take_path(
    source: Path,
    folder: Path,
    fps: float | None = None,
    estimator: str = ESTIMATORS[0],
    actor: Path | None = None,
) -> Path:
    """Return where the take of this source belongs.

    The name holds a digest of all that the take depends on, so a take that is there under
    this name is the take of this source as it is now, if it `is_whole`.

    Parameters
    ----------
    source : pathlib.Path
        A video, a Live Link Face CSV, or for a sequence its folder, pattern or first picture.
    folder : pathlib.Path
    fps : float, optional
        Rate of a sequence, where all pictures beside `source` count, or of a CSV's timecode.
    estimator : str
        One of `core.units.ESTIMATORS`.
    actor : pathlib.Path, optional
        File with the actor's own expressions.
    """
    files = [source]
    if is_sequence(source):
        beside = source if os.path.isdir(source) else source.parent
        with contextlib.suppress(OSError):  # the capture tells what is wrong with it
            files = sorted(beside.iterdir())
    if actor is not None:
        files.append(actor)
    state = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        state.append((file.name, stat.st_size, stat.st_mtime_ns))
    models = [model.sha256 for model in catalogue().values()]
    identity = json.dumps([APP, str(source.absolute()), fps, state, estimator, models])
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    # A folder or a video alike: their own name, without what file systems dislike.
    return folder / f"{file_stem(source.stem) or 'take'}-{digest}{SUFFIX}"


def is_whole(path: Path) -> bool:
    """Whether there is a take that a new capture would give again: all of Mien's models had their part in it."""
    try:
        with Take(path) as take:
            return "without" not in take.header.extra
    except MienError:
        return False
