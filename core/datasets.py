"""Readers of labelled sets that people bring to `evaluate` and that training uses.

Expression sets are either an ``.npz`` with ``images`` (n, H, W) uint8, ``labels`` (indices
into ``classes``) and ``classes`` (names), or a ``.tar`` of pictures with a ``labels.csv``
whose columns are ``file,expression``. What these become on their way through other programs is
read, too: whole numbers of another type, one channel or four, channels first, a ``;`` between columns.
A picture that cannot be read is left out and told; it ends nothing.
docs/models.md tells more.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import lzma
import os
import posixpath
import tarfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from .errors import MienError
from .files import need_file, read_arrays
from .units import EXPRESSIONS

# Those of two letters are KDEF's and JAFFE's; copies of FER2013 are short of an r. What may mean
# something else (contempt, calm, smile) is not guessed.
_ALIASES = {
    alias: word
    for word, aliases in {
        "neutral": "ne",
        "happiness": "happy joy ha",
        "sadness": "sad sa",
        "surprise": "surprised suprise su",
        "fear": "fearful afraid scared af fe",
        "disgust": "disgusted di",
        "anger": "angry an",
    }.items()
    for alias in aliases.split()
}

BLOCKS = 20
"""Contiguous blocks a set without identities is cut into, see `ExpressionSet.blocks`."""


@dataclasses.dataclass(frozen=True)
class ExpressionSet:
    """Grey pictures of faces with one expression label each.

    Attributes
    ----------
    name : str
        File name without its suffix.
    images : list of ndarray of uint8, each (H, W)
        Grey pictures, cropped roughly to the face.
    labels : ndarray of int64, shape (n,)
        Indices into `EXPRESSIONS`.
    skipped : dict of str to int
        Labels that Mien has no class for, with how many pictures had them.
    unreadable : tuple of str
        What is wrong with each picture of a known label, and each line of a table, that could not be read.
    """

    name: str
    images: list[np.ndarray]
    labels: np.ndarray
    skipped: dict[str, int]
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def blocks(self) -> np.ndarray:
        """Block number 0..19 per picture, contiguous in file order.

        Press-photo sets list one person's pictures side by side; whole blocks, not single
        pictures, are therefore held out, so that nearly no person is on both sides.
        """
        return np.arange(len(self)) * BLOCKS // max(len(self), 1)

    def of_blocks(self, numbers: Collection[int] | None) -> ExpressionSet:
        """Return the pictures of some blocks; all for None."""
        if numbers is None:
            return self
        rows = np.flatnonzero(np.isin(self.blocks, list(numbers)))
        return self._rows(rows)

    def without(self, other: ExpressionSet) -> ExpressionSet:
        """Return the pictures that another set does not have pixel for pixel."""
        known = {(image.shape, image.tobytes()) for image in other.images}
        return self._rows([i for i, image in enumerate(self.images) if (image.shape, image.tobytes()) not in known])

    def _rows(self, rows: Sequence[int]) -> ExpressionSet:
        return dataclasses.replace(self, images=[self.images[i] for i in rows], labels=self.labels[rows])


def label_index(name: str) -> int | None:
    """Return the index in `EXPRESSIONS` of a label under any of its usual names."""
    word = name.strip().lower()
    word = _ALIASES.get(word, word)
    return EXPRESSIONS.index(word) if word in EXPRESSIONS else None


def told(reasons: Sequence[str]) -> str:
    """Return the first of what may be thousands of reasons, and how many more there are."""
    return "; ".join([*reasons[:3], *([f"and {len(reasons) - 3} more"] if len(reasons) > 3 else [])])


def load_expression_set(path: str | os.PathLike[str]) -> ExpressionSet:
    """Read an expression set, see the module's description for the formats.

    Raises
    ------
    MienError
        ``set-not-found``, or ``set-unreadable`` with what is wrong; also where no picture of a
        known label can be read.
    """
    path = Path(path)
    need_file(path, "Give an .npz or a .tar with labels.csv.")
    try:
        names, images, unreadable = _read_tar(path) if tarfile.is_tarfile(path) else (*_read_npz(path), ())
        if unreadable and not any(image is not None for image in images):
            raise ValueError(told(unreadable))
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, csv.Error) as error:
        raise MienError(
            "set-unreadable",
            f"{path.name} is not an expression set: {error}.",
            "An .npz holds images, labels and classes; a .tar holds pictures and labels.csv.",
        ) from error
    kept, labels, skipped = [], [], {}
    for name, image in zip(names, images, strict=True):
        index = label_index(name)
        if index is None:
            skipped[name] = skipped.get(name, 0) + 1
        elif image is not None:
            kept.append(image)
            labels.append(index)
    return ExpressionSet(path.stem, kept, np.array(labels, np.int64), skipped, unreadable)


def _read_npz(path: Path) -> tuple[list[str], list[np.ndarray]]:
    from .opencv import cv2

    wanted = {"images", "labels", "classes"}
    arrays = read_arrays(path, wanted)
    missing = wanted - set(arrays)
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    classes = [name.decode() if isinstance(name, bytes) else str(name) for name in arrays["classes"].ravel().tolist()]
    labels, images = arrays["labels"], arrays["images"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] not in (1, 3, 4):
        images = np.moveaxis(images, 1, 3)
    if images.ndim == 4 and images.shape[3] in (1, 4):
        images = images[..., 0] if images.shape[3] == 1 else images[..., :3]
    if labels.ndim != 1 or labels.dtype.kind not in "biuf" or not np.isin(labels, np.arange(len(classes))).all():
        raise ValueError(f"labels must be numbers (n,) from 0 to {len(classes) - 1}, each the place of a class")
    images = _bytes_of(images)
    if not images.size or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"images of shape {images.shape} are no pictures: give (n, H, W) or (n, H, W, 3)")
    if len(images) != len(labels):
        raise ValueError(f"there are {len(images)} images, but {len(labels)} labels")
    # One by one: as numbers of 64 bits the whole set would take ten times its room.
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images] if images.ndim == 4 else list(images)
    return [classes[int(label)] for label in labels], grey


def _bytes_of(images: np.ndarray) -> np.ndarray:
    """Return pictures of whole numbers 0..255, of whatever type, as uint8."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf":
        raise ValueError(f"images are {images.dtype}, not numbers")
    # A set of 0..1 would be nearly black.
    whole = images.size and np.array_equal(images, np.clip(np.rint(images), 0, 255)) and images.max() > 1
    if not whole:
        raise ValueError("images must be whole numbers from 0 to 255: scale and round them")
    return images.astype(np.uint8)


def _read_tar(path: Path) -> tuple[list[str], list[np.ndarray | None], tuple[str, ...]]:
    """Return labels, pictures, None for those that are not wanted or cannot be read, and why they cannot."""
    with tarfile.open(path) as archive:
        places: dict[str, tarfile.TarInfo] = {}
        ends: dict[str, list[tarfile.TarInfo]] = {}
        for member in archive:
            if member.isfile() or member.islnk():
                place = _place(member.name)
                places[place] = member
                parts = place.split("/")
                for i in range(1, len(parts)):
                    ends.setdefault("/".join(parts[i:]), []).append(member)

        def find(name: str, folder: str = "") -> tarfile.TarInfo:
            # Beside the table, by its place in the archive, or by the end of it where that is one file's alone.
            place = _place(name)
            here = next((p for p in (_place(f"{folder}/{name}"), place) if p in places), None)
            found = ends.get(place, []) if here is None else [places[here]]
            if len(found) != 1:
                raise ValueError(f"{name} is {'there more than once' if found else 'missing'}")
            return found[0]

        table = find("labels.csv")
        labels, unreadable = _read_labels(archive.extractfile(table).read())
        members: dict[int, tarfile.TarInfo] = {}
        images: list[np.ndarray | None] = [None] * len(labels)
        for row, (file, name) in enumerate(labels):
            if label_index(name) is not None:
                try:
                    members[row] = find(file, posixpath.dirname(table.name))
                except ValueError as error:
                    unreadable.append(str(error))
        # In the archive's order: in a compressed one each step back begins at its start again.
        for row in sorted(members, key=lambda row: members[row].offset):
            try:
                images[row] = _grey(archive.extractfile(members[row]).read())
            except KeyError:  # a link to what is not there
                pass
            if images[row] is None:
                unreadable.append(f"{labels[row][0]} is not a picture")
    return [name for _, name in labels], images, tuple(unreadable)


def _place(name: str) -> str:
    """Return a file's place in an archive, as it is compared."""
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/")


def _grey(data: bytes) -> np.ndarray | None:
    """Return an encoded picture as grey uint8 (H, W), or None if it is none."""
    from .opencv import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype == np.uint16:
            # Programs that think in 16 bits write 0..255 as it is, too: nearly black, if taken at its word.
            return (image if image.max() <= 255 else image >> 8).astype(np.uint8)
        if image is not None and image.dtype != np.uint8:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:  # no bytes at all, or more than 2^30 pixels by its own account
        return None
    return image


def _read_labels(data: bytes) -> tuple[list[tuple[str, str]], list[str]]:
    """Return file and expression of each line of a ``labels.csv``, and what is wrong with the others."""
    # Spreadsheets write a mark before the text, in half of Europe semicolons, and Macs' once ended lines with \r.
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline=None)
    except UnicodeDecodeError as error:
        raise ValueError("labels.csv is not in UTF-8") from error
    head = text.readline()
    text.seek(0)
    separator = next((mark for mark in ",;\t" if mark in head), ",")
    lines = csv.reader(text, delimiter=separator, skipinitialspace=True)
    columns = [name.strip().lower() for name in next(lines, [])]
    if not {"file", "expression"} <= set(columns):
        raise ValueError("labels.csv has no columns file and expression")
    labels, unreadable = [], []
    for line in filter(None, lines):
        row = dict(zip(columns, map(str.strip, line), strict=False))
        if row.get("file") and row.get("expression"):
            labels.append((row["file"], row["expression"]))
        else:
            unreadable.append(f"line {lines.line_num} of labels.csv lacks a file or an expression")
    return labels, unreadable
