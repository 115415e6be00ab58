"""What every source of pictures is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..types import Frame


class Source(Protocol):
    """A finite or endless run of pictures; a context manager.

    Attributes
    ----------
    name : str
        What to call it to a person: a file's name, a folder's.
    size : tuple of int
        (width, height) of its pictures in px, upright and in square pixels, as a person sees them.
    fps : float
        Nominal pictures per second; 0 where unknown. `Frame.time` is what counts.
    frame_count : int or None
        How many pictures it is thought to have; None where it cannot be told. May change while iterating.
    incomplete : bool
        Whether pictures that the source should have could not be read: a cut or damaged
        file. Known only after iterating to the end.
    notices : tuple of str
        What else a person should know of it, sentences.
    """

    name: str
    size: tuple[int, int]
    fps: float
    frame_count: int | None
    incomplete: bool
    notices: tuple[str, ...]

    def __iter__(self) -> Iterator[Frame]:
        """Yield the pictures from the first; times start at 0 and grow strictly."""

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""

    def __enter__(self) -> Source: ...

    def __exit__(self, *exc_info) -> None: ...
