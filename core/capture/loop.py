"""A source played again and again, for long runs and for a video in place of a camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..types import Frame

if TYPE_CHECKING:
    from .source import Source

# Sources without a nominal rate still need a step from one pass to the next.
_DEFAULT_FPS = 30.0


class LoopSource:
    """Plays a source from its start each time it ends, with frame numbers and times going on.

    Parameters
    ----------
    opener : callable
        Opens the source; called once a pass, so that no pass inherits a decoder's state.
    seconds : float
        How many seconds to play; at least one frame comes.
    """

    def __init__(self, opener: Callable[[], Source], seconds: float):
        self._opener = opener
        self._source = opener()
        self._seconds = seconds
        self.name = self._source.name
        self.size = self._source.size
        self.fps = self._source.fps
        self.notices = self._source.notices
        self.frame_count = max(round(seconds * self.fps), 1) if self.fps else None
        self.incomplete = False

    def __iter__(self) -> Iterator[Frame]:
        period = 1.0 / (self.fps or _DEFAULT_FPS)
        index, begin, time = 0, 0.0, 0.0
        while True:
            before = index
            for frame in self._source:
                time = begin + frame.time
                if index and time >= self._seconds:
                    return
                yield Frame(index, time, frame.image)
                index += 1
            self.incomplete |= self._source.incomplete
            if index == before:
                return  # An empty source would be reopened for ever.
            begin = time + period
            self._source.close()
            self._source = self._opener()

    def close(self) -> None:
        """Close the source that is playing."""
        self._source.close()

    def __enter__(self) -> LoopSource:
        return self

    def __exit__(self, *_exc) -> None:
        self.close()
