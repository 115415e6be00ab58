"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import MienError

PART_SUFFIX = ".part"
"""Added to a file's name until it is whole."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` if nothing is raised, else it is removed.

    What is no ordinary file, such as ``/dev/stdout``, is written to directly.

    Raises
    ------
    OSError
    """
    if os.path.exists(path) and not os.path.isfile(path):
        yield Path(path)
        return
    path = Path(os.path.realpath(path))
    part = path.with_name(path.name + PART_SUFFIX)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def actor_file(name: str) -> str:
    """Return the name of an actor's file: the actor's, without what file systems dislike.

    Raises
    ------
    MienError
        ``actor-none`` where nothing is left of the name.
    """
    stem = "".join(c if c.isalnum() or c in "-_ ." else "_" for c in name).strip(" .")[:80]
    if not stem:
        raise MienError("actor-none", "The actor has no name.", "Type the actor's name first.")
    return f"{stem}.npz"
