"""Files that are whole or not there, and archives of arrays."""

from __future__ import annotations

import contextlib
import functools
import os
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from .errors import MienError
from .units import REST

PART_SUFFIX = ".part"
"""Added to a file's name until it is whole."""


def from_home(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` or ``~user`` at its start replaced by that folder.

    A ``~`` can also begin a file's name: what is there under that very name, or names nobody's
    folder, stays as it is.
    """
    path = Path(path)
    first, *rest = path.parts or ("",)
    if first.startswith("~") and not os.path.lexists(path):
        with contextlib.suppress(ValueError):  # no name of a user
            home = os.path.expanduser(first)
            # Windows makes up a folder for any name.
            if os.path.isdir(home):
                return Path(home, *rest)
    return path


def places(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return where to write a file until it is whole, and the place that it takes then.

    Of a link, what it points to is replaced. What is no ordinary file, such as a pipe or a
    device, is written to directly: then both are `path`.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        return Path(path), Path(path)
    place = Path(os.path.realpath(path))
    return place.with_name(place.name + PART_SUFFIX), place


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the first of a path's `places` to write to; it takes the other if nothing is raised, else it is removed.

    Raises
    ------
    OSError
    """
    part, place = places(path)
    if part == place:
        yield part
        return
    try:
        yield part
        os.replace(part, place)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


@contextlib.contextmanager
def writing_csv(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Give a text file to write a table to; it takes the place of `path` as in `replacing`.

    Raises
    ------
    MienError
        ``csv-not-written``.
    """
    try:
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise MienError(
            "csv-not-written",
            f"{path} cannot be written: {error.strerror or error}.",
            "Check that the folder exists, that you may write in it and that no other program has the file open.",
        ) from error


def need_file(path: Path, wanted: str) -> None:
    """Refuse a path at which there is no file.

    Parameters
    ----------
    path : Path
    wanted : str
        What to give instead, a sentence.

    Raises
    ------
    MienError
        ``set-not-found``.
    """
    if not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"There is no file {path}"
        raise MienError("set-not-found", f"{what}.", wanted)


def read_arrays(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of an ``.npz``; never unpickles.

    Parameters
    ----------
    path : path
    names : collection of str, optional
        Read those of these that are there, and no others.

    Raises
    ------
    OSError
    ValueError
        Whatever else is wrong with it.
    """
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):  # numpy takes for a pickle what it does not know
                raise zipfile.BadZipFile("no zip archive")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive if names is None or name in names}
    except OSError:
        raise
    except Exception as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                "it holds objects saved with pickle, which Mien never reads: save text and numbers"
            ) from error
        # zipfile, zlib and numpy's reader of headers each have errors of their own.
        raise ValueError(f"it is damaged, or no .npz ({error})") from error


def write_arrays(path: str | os.PathLike[str], **arrays: npt.ArrayLike) -> None:
    """Write an ``.npz`` that is whole or not there.

    Raises
    ------
    OSError
    """
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


# Windows keeps these for devices, with any ending.
_RESERVED = {"con", "aux", "nul", "prn", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def is_reserved(name: str) -> bool:
    """Whether a file's name, with any ending or none, is that of a device on Windows."""
    return name.split(".")[0].rstrip().lower() in _RESERVED


def file_stem(name: str) -> str:
    """Return a name without what file systems dislike, short enough for endings to follow; it may be empty."""
    stem = "".join(c if c.isalnum() or c in "-_ ." else "_" for c in name).strip(" .")[:80]
    if is_reserved(stem):
        stem = f"_{stem}"
    # Names are limited to 255 bytes, not characters.
    return stem.encode()[:220].decode(errors="ignore")


def actor_file(name: str) -> str:
    """Return the name of an actor's file: the actor's, without what file systems dislike.

    Raises
    ------
    MienError
        ``actor-none`` where nothing is left of the name.
    """
    stem = file_stem(name)
    if not stem:
        raise MienError("actor-none", "The actor has no name.", "Type the actor's name first.")
    return f"{stem}.npz"


def actor_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the own expressions in an actor's file; none where it cannot be read.

    Cheap enough for a panel: a file that has not changed is not read again.
    """
    try:
        told = os.stat(path)
    except OSError:
        return ()
    return _actor_names(os.fspath(path), told.st_mtime_ns, told.st_size)


@functools.lru_cache(maxsize=4)
def _actor_names(path: str, _changed: int, _size: int) -> tuple[str, ...]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return tuple(name for name in archive["names"].tolist() if isinstance(name, str) and name != REST)
    except Exception:
        # zipfile, zlib and numpy's reader each have errors of their own; who opens the file tells them.
        return ()
