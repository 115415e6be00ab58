"""Reads a live source on a thread, so that the newest picture is there whenever it is wanted."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..clock import now
from ..errors import MienError
from ..types import Frame

STALL = 1.5
"""Seconds without a picture after which a source counts as stalled."""

RETRY = 1.0
"""Seconds between two tries to open a source that failed."""

BACKLOG_BYTES = 256 << 20
"""Room for pictures that wait while a take is recorded; some 290 of 640 x 480."""


class LiveSource(Protocol):
    """What a `Grabber` reads: a camera, or what stands for one.

    Attributes
    ----------
    name : str
    size : tuple of int
    fps : float
    missed : int
        Pictures that it knows to have passed unread; cameras do not tell theirs.
    """

    name: str
    size: tuple[int, int]
    fps: float
    missed: int

    def read(self) -> tuple[float, np.ndarray]:
        """Wait for the next picture; raises MienError when there will be none."""

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """What became of the pictures, all of one moment: captured = taken + dropped + lost + waiting.

    Attributes
    ----------
    captured : int
        Pictures read.
    taken : int
        Pictures handed out by `Grabber.take`.
    dropped : int
        Pictures replaced by newer ones before anyone took them.
    lost : int
        Pictures that a recording should have had and that found no room.
    waiting : int
        Pictures that wait to be taken.
    missed : int
        Pictures never read, because reading came too late; not among the captured.
    """

    captured: int = 0
    taken: int = 0
    dropped: int = 0
    lost: int = 0
    waiting: int = 0
    missed: int = 0


class Grabber:
    """A live source, opened and read on a thread of its own, and opened again when it fails.

    Without a recording the newest picture replaces the one that waits. With one, pictures
    queue, and only a full queue loses one.

    Parameters
    ----------
    opener : callable
        Opens the source; may block and may raise MienError.

    Attributes
    ----------
    name, size, fps
        Of the source, once it has been open.
    """

    def __init__(self, opener: Callable[[], LiveSource]):
        self._opener = opener
        self._frames: collections.deque[Frame] = collections.deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._keep_all = False
        self._arrivals: collections.deque[float] = collections.deque(maxlen=60)
        self._error: MienError | None = None
        self._since = now()
        self._opened = False
        self.name = ""
        self.size = (0, 0)
        self.fps = 0.0
        self._captured = self._taken = self._dropped = self._lost = self._missed = 0
        self._thread = threading.Thread(target=self._run, name="mien-grab", daemon=True)
        self._thread.start()

    @property
    def state(self) -> tuple[str, MienError | None]:
        """``"opening"``, ``"live"``, ``"stalled"`` (open, but silent) or ``"lost"``, and why."""
        with self._changed:
            if self._error is not None:
                return "lost", self._error
            if not self._opened:
                return "opening", None
            silent = now() - self._since
        if silent < STALL:
            return "live", None
        return "stalled", MienError(
            "camera-slow",
            f"{self.name} has given no picture for {silent:.0f} s.",
            "Check its cable; in poor light some cameras are very slow.",
        )

    @property
    def rate(self) -> float:
        """Pictures per second over the last ones; 0 until known or when they stopped."""
        with self._changed:
            times = list(self._arrivals)
        if len(times) < 2 or now() - times[-1] > STALL:
            return 0.0
        return (len(times) - 1) / max(times[-1] - times[0], 1e-9)

    @property
    def tally(self) -> Tally:
        """What became of the pictures so far."""
        with self._changed:
            return Tally(self._captured, self._taken, self._dropped, self._lost, len(self._frames), self._missed)

    @property
    def keep_all(self) -> bool:
        """Whether pictures queue instead of replacing each other."""
        return self._keep_all

    @keep_all.setter
    def keep_all(self, value: bool):
        with self._changed:
            self._keep_all = value

    def take(self, timeout: float) -> Frame | None:
        """Return the next picture, or None if none comes within `timeout` seconds."""
        with self._changed:
            if not self._frames:
                self._changed.wait(timeout)
            if not self._frames:
                return None
            self._taken += 1
            return self._frames.popleft()

    def close(self, timeout: float = 1.0) -> None:
        """End the thread and let go of the source.

        A read that hangs is left to itself: the thread lets go when it returns, or ends
        with the process.
        """
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            source = None
            try:
                source = self._opener()
                with self._changed:
                    self.name, self.size, self.fps = source.name, source.size, source.fps
                    self._opened, self._since = True, now()
                missed = self._missed
                while not self._stopping.is_set():
                    time, image = source.read()
                    self._put(time, image, missed + source.missed)
            except MienError as error:
                self._fail(error)
            except Exception as error:
                what = f"The source failed in a way that Mien does not know ({type(error).__name__}: {error})"
                self._fail(MienError("source-failed", f"{what[:400]}.", "Choose another source."))
            finally:
                if source is not None:
                    source.close()
            self._stopping.wait(RETRY)

    def _fail(self, error: MienError) -> None:
        with self._changed:
            self._error, self._opened = error, False
            self._arrivals.clear()
            self._changed.notify()

    def _put(self, time: float, image: np.ndarray, missed: int) -> None:
        frame = Frame(self._captured, time, image)
        with self._changed:
            self._error, self._since = None, now()
            self._arrivals.append(time)
            self._captured += 1
            self._missed = missed
            if not self._keep_all:
                self._dropped += len(self._frames)
                self._frames.clear()
            elif self._frames and (len(self._frames) + 1) * image.nbytes > BACKLOG_BYTES:
                self._lost += 1
                return
            self._frames.append(frame)
            self._changed.notify()
