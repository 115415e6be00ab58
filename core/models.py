"""Where the models are, and whether they are what they should be.

Only files whose SHA-256 stands in ``models/models.json`` are ever used. Nothing here
reaches the network: getting a model is `core.fetch`, which the extension does not ship.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path

from .errors import MienError

SHIPPED = Path(__file__).resolve().parents[1] / "models"

LANDMARK_MODEL = "face_landmarker"

_CHUNK = 1 << 20

# (path, size, mtime_ns) of files whose digest was right: hashing 4 MB at every start of a job is waste.
_verified: set[tuple[str, int, int]] = set()


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """One entry of ``models.json``.

    Attributes
    ----------
    name : str
        Mien's name for it.
    file : str
        File name in a models folder.
    bytes : int
        Exact size.
    sha256 : str
        Digest, lower-case hexadecimal.
    licence : str
        SPDX identifier.
    gives : str
        What it computes, for people.
    source : dict
        Where it can be had: ``url``; ``package``, ``version`` and ``member`` of the
        Python package that carries the same file. Empty for Mien's own, which come with it.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    licence: str
    gives: str
    source: dict[str, str]


def catalogue() -> dict[str, Model]:
    """Return every known model by name."""
    entries = json.loads((SHIPPED / "models.json").read_text(encoding="utf-8"))["models"]
    names = [field.name for field in dataclasses.fields(Model)]
    return {entry["name"]: Model(**{name: entry[name] for name in names}) for entry in entries}


def cache_folder() -> Path:
    """Return the user's cache folder for models, used where the package's own folder cannot be written."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mien" / "models"


def folders() -> list[Path]:
    """Return the folders searched for models, in order: ``MIEN_MODELS``, the package's own, the user's cache."""
    own = os.environ.get("MIEN_MODELS")
    return [*([Path(own)] if own else []), SHIPPED, cache_folder()]


def verify(path: Path, model: Model) -> Path:
    """Return `path` if it is exactly `model`'s file.

    Raises
    ------
    MienError
        ``model-missing`` when there is no such file, ``model-damaged`` when size or digest differ.
    """
    try:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key in _verified:
            return path
        if stat.st_size != model.bytes:
            raise _damaged(path, f"it has {stat.st_size:,} bytes, not {model.bytes:,}")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        raise MienError("model-missing", f"The model {path.name} is not at {path}.", _WHAT_TO_DO) from None
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror or error})") from None
    if digest.hexdigest() != model.sha256:
        raise _damaged(path, "its SHA-256 is wrong")
    _verified.add(key)
    return path


def locate(name: str = LANDMARK_MODEL) -> Path:
    """Return the verified file of model `name`.

    The first file of that name in `folders` counts: a damaged one is an error, not a
    reason to look further, so that nobody works with another file than they think.
    """
    model = catalogue()[name]
    for folder in folders():
        if (folder / model.file).exists():
            return verify(folder / model.file, model)
    searched = ", ".join(str(folder) for folder in folders())
    raise MienError("model-missing", f"The model {model.file} was not found in {searched}.", _WHAT_TO_DO)


def landmark_model() -> Path:
    """Return the verified face landmark model file."""
    return locate(LANDMARK_MODEL)


_WHAT_TO_DO = (
    "In Blender, install the Mien extension again: its zip contains the model. "
    "From a checkout, run `python3.11 . models`."
)


def _damaged(path: Path, why: str) -> MienError:
    message = f"The model {path.name} is damaged or not the right file: {why} ({path})."
    return MienError("model-damaged", message, _WHAT_TO_DO)
