"""Measure Mien on sets that others bring: expression, landmarks, units.

Each function returns a `Report`: one JSON object and one table of the same figures.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import livelink_csv, relative
from .action_units import BlendshapeEstimator
from .capture.images import read_picture
from .datasets import load_expression_set, told
from .errors import MienError
from .expression import LOOSE_FRAME
from .files import need_file, read_arrays
from .fusion import fuse
from .head import head_pose
from .landmarks import POINTS68, Face, Landmarker
from .models import landmark_model
from .pictures import EXTENSIONS
from .solve import MAX_REST
from .stills import StillLandmarker
from .units import ACTION_UNITS, EXPRESSIONS, UNITS

_SMALLEST = 192
_NO_PICTURE = "whose picture cannot be read"
_NO_FIT = "whose points do not fit the picture"
_IDENTITIES = "Give an .npz with an array identity, (n, 80) or (n, 26719, 3)."

_SAME = 0.7
"""Overlap of the windows of one face that is labelled twice."""

_SIZES = 0.6, 1.5
"""How wide, high and deep a head may be in parts of the base's; people of thrice the usual variety still are."""

_ASIDE = 3.0
"""How far from the base's place a head may be, in its unit; 200 random people are within 0.45."""

_LEAST_OFFSET = 0.05
"""In the base's unit; the farthest vertex of a random person is 1 to 6 from the mean face's."""

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Report:
    """Figures of one evaluation.

    Attributes
    ----------
    title : str
    figures : dict
        JSON-ready.
    columns : tuple of str
    rows : list of tuple
        The table's rows; numbers are floats or ints.
    """

    title: str
    figures: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[tuple]

    def __str__(self) -> str:
        def show(value):
            if isinstance(value, float):
                return "-" if np.isnan(value) else f"{value:.3f}"
            return str(value)

        cells = [self.columns, *(tuple(map(show, row)) for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(line))
            for line in (list(zip(row, widths, strict=True)) for row in cells)
        ]
        figures = {key: value for key, value in self.figures.items() if not isinstance(value, dict | list)}
        skipped = self.figures.get("skipped")
        if skipped:
            figures["skipped"] = ", ".join(f"{count} {label}" for label, count in skipped.items())
        unreadable = self.figures.get("unreadable")
        if unreadable:
            figures["unreadable"] = told(unreadable)
        summary = [f"{key}: {show(value)}" for key, value in figures.items()]
        return "\n".join([self.title, *summary, "", lines[0], "-" * len(lines[0]), *lines[1:]])


def find_in_grey(stills: StillLandmarker, image: npt.NDArray[np.uint8]) -> Face | None:
    """Find the face in a grey crop that may be small and tight.

    The detector wants some room around a face: the crop gets a margin of half its size on
    each side in its mean grey, and small ones are enlarged to 192 px. A large picture in which
    nothing is found so may have room enough: it is looked at as it is.

    Parameters
    ----------
    stills : StillLandmarker
    image : ndarray of uint8, shape (H, W)

    Returns
    -------
    Face or None
        In pixels of `image`.
    """
    from .opencv import cv2

    height, width = image.shape
    margin = max(height, width) // 2
    scale = max(_SMALLEST / max(height, width), 1.0)
    padded = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=float(image.mean()))
    if scale > 1:
        padded = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    face = stills.find(cv2.cvtColor(padded, cv2.COLOR_GRAY2RGB))
    if face is None:
        return stills.find(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)) if max(height, width) > LOOSE_FRAME else None
    # Pixels count from the middle of the first one, here as in the picture that was enlarged.
    half = np.float32([0.5, 0.5, 0.0])
    points = (face.landmarks + half) / np.float32(scale) - half - np.float32([margin, margin, 0])
    return dataclasses.replace(face, size=(width, height), landmarks=points)


def expression(
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    blocks: Collection[int] | None = None,
    without: str | os.PathLike[str] | None = None,
) -> Report:
    """Score expression labels on a set, see `datasets` for its formats.

    Every picture counts: one in which no mesh is found is judged by the network on the
    picture as it is. "Unsure" is reported beside, and does not change accuracy.

    Parameters
    ----------
    path : path
    progress : callable, optional
    blocks : collection of int, optional
        Of the twenty blocks of `ExpressionSet.blocks`; all if not given.
    without : path, optional
        Another set, whose pictures are left out.
    """
    from .expression import THRESHOLD, ExpressionClassifier

    pictures = load_expression_set(path).of_blocks(blocks)
    if without is not None:
        pictures = pictures.without(load_expression_set(without))
    if not len(pictures):
        others = ", ".join(sorted(pictures.skipped)) or "none"
        raise MienError(
            "set-empty",
            f"{Path(path).name} holds no picture to score. Labels that Mien does not know: {others}.",
            f"Mien knows {', '.join(EXPRESSIONS)}."
            + (" Or choose other blocks." if blocks is not None else "")
            + (" Or leave --without away." if without is not None else ""),
        )
    classifier = ExpressionClassifier()
    probabilities = np.zeros((len(pictures), len(EXPRESSIONS)), np.float32)
    alone = probabilities.copy()
    found = np.zeros(len(pictures), bool)
    with Landmarker(landmark_model()) as landmarker:
        stills = StillLandmarker(landmarker, repeats=1)
        for row, image in enumerate(pictures.images):
            face = find_in_grey(stills, image)
            found[row] = face is not None
            alone[row] = classifier.classify_still(image)
            probabilities[row] = alone[row] if face is None else classifier.classify_still(image, face)
            if progress:
                progress(row + 1, len(pictures))
    skipped = dict(pictures.skipped)
    if pictures.unreadable:
        skipped["that cannot be read"] = len(pictures.unreadable)
    report = expression_report(pictures.name, pictures.labels, probabilities, alone, found, skipped, THRESHOLD)
    report.figures["unreadable"] = list(pictures.unreadable)
    return report


def expression_report(
    name: str, truth: npt.NDArray, probabilities: npt.NDArray, alone: npt.NDArray, found: npt.NDArray,
    skipped: dict[str, int], threshold: float,
) -> Report:  # fmt: skip
    """Return the figures of given probabilities (n, 7) against true labels (n,)."""
    guess = probabilities.argmax(1)
    sure = probabilities.max(1) >= threshold
    confusion = np.zeros((len(EXPRESSIONS), len(EXPRESSIONS)), int)
    np.add.at(confusion, (truth, guess), 1)
    accuracy, macro_f1 = accuracy_and_f1(truth, probabilities)
    rows = []
    for label, word in enumerate(EXPRESSIONS):
        hit, real, said = confusion[label, label], confusion[label].sum(), confusion[:, label].sum()
        recall, precision = hit / real if real else np.nan, hit / said if said else np.nan
        f1 = 2 * hit / (real + said) if real else np.nan
        rows.append((word, int(real), float(precision), float(recall), float(f1)))
    figures = {
        "set": name,
        "pictures": len(truth),
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "accuracy_network_alone": float(np.mean(alone.argmax(1) == truth)),
        "mesh_found": float(found.mean()),
        "sure": float(sure.mean()),
        "accuracy_where_sure": float(np.mean((guess == truth)[sure])) if sure.any() else float("nan"),
        "calibration_error": calibration_error(truth, probabilities),
        "skipped": skipped,
        "classes": {row[0]: dict(zip(("pictures", "precision", "recall", "f1"), row[1:], strict=True)) for row in rows},
        "confusion": confusion.tolist(),
    }
    return Report("Expression labels", figures, ("label", "pictures", "precision", "recall", "F1"), rows)


def accuracy_and_f1(truth: npt.NDArray, probabilities: npt.NDArray) -> tuple[float, float]:
    """Return accuracy, and the mean F1 of the classes that are there, of scores (n, k)."""
    guess = probabilities.argmax(1)
    f1 = []
    for label in np.unique(truth):
        hit = np.sum((guess == label) & (truth == label))
        f1.append(2 * hit / (np.sum(guess == label) + np.sum(truth == label)))
    return float(np.mean(guess == truth)), float(np.mean(f1))


def calibration_error(truth: npt.NDArray, probabilities: npt.NDArray, bins: int = 15) -> float:
    """Return the expected calibration error: mean gap between said and true accuracy over equal bins."""
    top, right = probabilities.max(1), probabilities.argmax(1) == truth
    place = np.minimum((top * bins).astype(int), bins - 1)
    return float(sum(abs(np.sum(top[place == b]) - np.sum(right[place == b])) for b in range(bins)) / len(truth))


@dataclasses.dataclass(frozen=True)
class LabelledFace:
    """True points of one face.

    Attributes
    ----------
    picture : Path
        Its real place.
    points : ndarray of float32, shape (68, 2)
        In px; fewer where not all are known.
    size : tuple of float
        Width and height of the picture when it was labelled; none where that is not known.
    """

    picture: Path
    points: npt.NDArray[np.float32]
    size: tuple[float, ...] = ()


class _Label(NamedTuple):
    """What a label file says of one face; `complete` where it has all 68 points."""

    file: Path
    picture: Path | None
    points: npt.NDArray[np.float32]
    complete: bool
    size: tuple[float, ...] = ()


def load_landmarks(
    path: str | os.PathLike[str],
) -> tuple[list[LabelledFace], dict[str, int], list[LabelledFace], list[str]]:
    """Read the faces of one iBUG ``.xml``, or of all ``.xml`` and ``.pts`` in a folder, those in it and linked.

    Returns
    -------
    faces : list of LabelledFace
    skipped : dict of str to int
        How many labelled faces, and label files, were passed over, by the reason. What is labelled
        twice, as in the ``.pts`` of a picture that an ``.xml`` has, or a box of the same face, is
        none of them.
    passed : list of LabelledFace
        Those of them that show where their face is, with the points or corners that are known.
    unreadable : list of str
        What is wrong with each label file that was passed over, and what is missing or no face's in others.

    Raises
    ------
    MienError
        ``set-not-found``, or ``set-unreadable`` where no face is left.
    """
    from .landmarks68 import overlap, window_of

    whole = Path(path)
    if not whole.exists():
        raise MienError(
            "set-not-found", f"There is no folder {whole}.", "Give the folder of the pictures, or an .xml in it."
        )
    labelled, unreadable = _read_labels(whole)
    faces, passed, skipped, seen = [], [], collections.Counter(), set()
    windows: dict[Path, list[npt.NDArray]] = collections.defaultdict(list)
    if unreadable:
        skipped["whose label file cannot be read"] = len(unreadable)
    # Those with all of their points come first, so that a box of the same face is known to be one.
    for file, picture, points, complete, size in sorted(labelled, key=lambda label: not label.complete):
        if picture is None or not os.path.isfile(picture):
            skipped["without a picture"] += 1
            unreadable.append(
                f"{file.name}: {picture} is missing" if picture else f"{file.name} has no picture of its name beside it"
            )
            continue
        picture = picture.resolve()  # one picture may be reached in many ways
        if complete and _plausible(points):
            # dlib's set has all faces in one .xml, and once more in those for training and testing; others round.
            window = window_of(points)
            if not any(overlap(window, other) > _SAME for other in windows[picture]):
                faces.append(LabelledFace(picture, points, size))
                windows[picture].append(window)
            continue
        place = (picture, points.tobytes())
        if place in seen:
            continue
        seen.add(place)
        # A corner of a box may be that of the picture.
        known = points[~_unseen(points) if complete else np.isfinite(points).all(1) & (points >= 0).any(1)]
        if len(known) > 1:
            low, high = known.min(0), known.max(0)
            middles = [window[:2] + window[2:] / 2 for window in windows[picture]]
            if any((low <= middle).all() and (middle <= high).all() for middle in middles):
                continue
            passed.append(LabelledFace(picture, known))
        skipped["whose points are no face's" if complete else "without 68 points"] += 1
        if complete:
            unreadable.append(f"{file.name} has points that are no face's in {picture.name}")
        elif file.suffix.lower() == ".pts":
            unreadable.append(f"{file.name} has {len(points)} points, not 68")
    unreadable = list(dict.fromkeys(unreadable))  # a picture may have many faces
    if not faces:
        raise _no_faces(
            whole,
            skipped,
            unreadable,
            "Put .xml or .pts beside them: a .pts holds 68 lines `x y` between braces, an iBUG .xml boxes of 68 parts.",
        )
    return faces, dict(skipped), passed, unreadable


def _read_labels(whole: Path) -> tuple[list[_Label], list[str]]:
    """Return what a label file, or those of a folder, say, and what is wrong with those that cannot be read."""
    entries = _files_in(whole) if whole.is_dir() else [whole]
    beside = entries if whole.is_dir() else sorted(whole.parent.iterdir())
    by_name = {entry.with_suffix(""): entry for entry in beside if entry.suffix.lower() in EXTENSIONS}
    labelled: list[_Label] = []
    unreadable: list[str] = []
    # The .xml first: where a face is in a .pts as well, its points come from there.
    for file in sorted(entries, key=lambda entry: entry.suffix.lower() == ".pts"):
        try:
            if file.suffix.lower() == ".pts":
                points = _read_pts(file)
                labelled.append(_Label(file, by_name.get(file.with_suffix("")), points, len(points) == 68))
            elif file.suffix.lower() == ".xml":
                labelled += _read_xml(file)
        except OSError as error:
            unreadable.append(f"{file.name} cannot be read: {error.strerror or error}")
        except ValueError as error:
            unreadable.append(f"{file.name} {error}")
    return labelled, unreadable


def _no_faces(path: Path, skipped: dict[str, int], unreadable: list[str], hint: str) -> MienError:
    """Return the refusal of a set of which no face is left."""
    reasons = "; ".join([*(f"{count} {reason}" for reason, count in skipped.items()), *unreadable[:3]])
    why = f" ({reasons})" if reasons else ""
    return MienError("set-unreadable", f"{path.name} holds no pictures with 68 points{why}.", hint)


def _files_in(folder: Path) -> list[Path]:
    """Return the files in a folder, those in it and linked, without what macOS puts beside files (``._name``)."""
    found, known = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # Links may lead back to where they are.
        real = os.path.realpath(place)
        folders[:] = [] if real in known else sorted(folders)
        found += [] if real in known else [Path(place, name) for name in names if not name.startswith(".")]
        known.add(real)
    return sorted(path for path in found if path.is_file())


def _read_pts(path: Path) -> npt.NDArray[np.float32]:
    """Return the points of a ``.pts`` (n, 2); raises OSError, or ValueError with what is wrong."""
    # What stands before the points may be in any encoding.
    text = path.read_text("utf-8", errors="replace")
    numbers = text.partition("{")[2].partition("}")[0].replace(",", " ").split()
    try:
        points = np.array(numbers, np.float32).reshape(-1, 2)
    except ValueError:
        points = np.empty((0, 2), np.float32)
    if not len(points):
        raise ValueError("holds no pairs of numbers between braces")
    return points - 1  # they count pixels from 1


def _read_xml(path: Path) -> list[_Label]:
    """Return what each box of an ``.xml`` says; raises as `_read_pts`."""
    try:
        images = list(ElementTree.parse(path).iter("image"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that is none
        raise ValueError("is no .xml, or damaged") from error
    found = []
    for image in images:
        if "file" not in image.attrib:  # other programs' .xml have images, too
            continue
        # imglab writes the separators of the system that it runs on.
        name = image.attrib["file"].replace("\\", "/")
        if not os.path.isfile(path.parent / name):
            # It declares ISO-8859-1, and copies names as they are.
            with contextlib.suppress(UnicodeError):
                name = name.encode("latin-1").decode("utf-8")
        size = _numbers(image, "width", "height")
        for box in image.iter("box"):
            try:
                parts = {int(p.get("name")): (float(p.get("x")), float(p.get("y"))) for p in box.iter("part")}
            except (TypeError, ValueError):  # names instead of numbers
                parts = {}
            complete = sorted(parts) == list(range(68))
            points = [parts[i] for i in range(68)] if complete else [*parts.values(), *_corners(box)]
            points = np.float32(points).reshape(-1, 2)
            found.append(_Label(path, path.parent / name, points, complete, size))
    return found


def _corners(box: ElementTree.Element) -> list[tuple[float, float]]:
    """Return two corners of a box of an ``.xml``; none where it does not say."""
    sides = _numbers(box, "left", "top", "width", "height")
    return [sides[:2], (sides[0] + sides[2], sides[1] + sides[3])] if sides else []


def _numbers(element: ElementTree.Element, *names: str) -> tuple[float, ...]:
    """Return attributes as numbers; none where one of them is not there, or no number."""
    try:
        return tuple(float(element.get(name)) for name in names)
    except (TypeError, ValueError):
        return ()


def _unseen(points: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Return which points (n, 2) are no numbers or marked as not seen: -1 -1, 0 0 and the like, also less 1."""
    return ~np.isfinite(points).all(1) | ((points[:, 0] == points[:, 1]) & (points[:, 0] <= 0))


def _plausible(points: npt.NDArray) -> bool:
    """Whether points can be a face's: the outer eye corners apart, none missing."""
    return not _unseen(points).any() and bool(np.linalg.norm(points[36] - points[45]) >= 1)


def _misfit(face: LabelledFace, width: int, height: int) -> str | None:
    """Return why a face's points cannot be those of its picture of that size, or None if they can."""
    it_is = f"{face.picture.name} is {width} x {height}"
    if all(face.size) and face.size not in ((), (width, height)):
        return f"{it_is}, where it was labelled {face.size[0]:g} x {face.size[1]:g}"
    low, high = face.points.min(0), face.points.max(0)
    places = np.vstack([face.points, (low + high) / 2])
    inside = ((places >= -0.5) & (places < (width - 0.5, height - 0.5))).all(1)
    if inside[-1] and inside.mean() > 0.5:
        return None
    return f"{it_is}, its points go from {low[0]:.0f}, {low[1]:.0f} to {high[0]:.0f}, {high[1]:.0f}"


def landmarks(path: str | os.PathLike[str], progress: Progress | None = None) -> Report:
    """Score the 68 points of the mesh and of the histogram model, in px and NME; see `load_landmarks` for the set.

    The mesh is found in the part of the picture around each face, twice as wide as its
    points. The histogram detector searches the whole picture; its points are scored on the
    faces that it finds, as are the mesh's for comparison, and once more from windows placed by
    the truth. What it finds where a face without all of its points is labelled counts as
    neither found nor wrong.
    NME is the mean error over the distance of the outer eye corners.
    """
    from .landmarks68 import HogLandmarker, overlap, window_of

    faces, skipped, passed, unreadable = load_landmarks(path)
    hog = HogLandmarker()
    columns = ("mesh", "histograms", "histograms, window given")
    errors: dict[str, list[float]] = {name: [] for name in (*columns, "mesh where histograms")}
    nme: dict[str, list[float]] = {name: [] for name in errors}
    found_faces, false_alarms, rows = 0, 0, []
    detections: dict[Path, list] = {}
    taken: dict[Path, set[int]] = {}
    with Landmarker(landmark_model()) as landmarker:
        stills = StillLandmarker(landmarker)
        for number, face in enumerate(faces):
            if progress:
                progress(number, len(faces))
            try:
                image = read_picture(face.picture)
            except MienError as error:
                # Thousands of pictures take an hour: one that is damaged does not end it.
                skipped[_NO_PICTURE] = skipped.get(_NO_PICTURE, 0) + 1
                unreadable.append(error.message.rstrip("."))
                continue
            height, width = image.shape[:2]
            misfit = _misfit(face, width, height)
            if misfit:
                skipped[_NO_FIT] = skipped.get(_NO_FIT, 0) + 1
                unreadable.append(misfit)
                # It may be anywhere.
                passed.append(LabelledFace(face.picture, np.float32([[0, 0], [width, height]])))
                continue
            window = window_of(face.points)
            guesses = {"mesh": _mesh_around(stills, image, window)}
            if face.picture not in detections:
                detections[face.picture] = hog.detect(image)
                taken[face.picture] = set()
            hits = [i for i, d in enumerate(detections[face.picture]) if overlap(d.box, window) > 0.4]
            found_faces += bool(hits)
            taken[face.picture].update(hits)
            guesses["histograms"] = detections[face.picture][hits[0]].points if hits else None
            guesses["histograms, window given"] = hog.fit(image, window)
            guesses["mesh where histograms"] = guesses["mesh"] if hits else None
            eyes = float(np.linalg.norm(face.points[36] - face.points[45]))
            line = [f"{face.picture.name} {number}", eyes]
            for name, points in guesses.items():
                error = float("nan") if points is None else float(np.linalg.norm(points - face.points, axis=1).mean())
                if points is not None:
                    errors[name].append(error)
                    nme[name].append(error / eyes)
                if name in columns:
                    line.append(error)
            rows.append(tuple(line))
    unreadable = list(dict.fromkeys(unreadable))
    if not rows:
        raise _no_faces(Path(path), skipped, unreadable, "Give the pictures as they were when they were labelled.")
    if progress:
        progress(len(faces), len(faces))
    for picture, found in detections.items():
        others = [(face.points.min(0), face.points.max(0)) for face in passed if face.picture == picture]
        for i, detection in enumerate(found):
            middle = detection.box[:2] + detection.box[2:] / 2
            known = any((low <= middle).all() and (middle <= high).all() for low, high in others)
            false_alarms += i not in taken[picture] and not known
    figures: dict[str, Any] = {
        "faces": len(rows),
        "pictures": len(detections),
        "detector_recall": found_faces / len(rows),
        "detector_false_alarms": false_alarms,
        "skipped": skipped,
        "unreadable": unreadable,
    }
    for name in errors:
        key = name.replace(", ", "_").replace(" ", "_")
        figures[f"{key}_faces"] = len(errors[name])
        figures[f"{key}_px"] = float(np.mean(errors[name])) if errors[name] else float("nan")
        figures[f"{key}_nme"] = float(np.mean(nme[name])) if errors[name] else float("nan")
    figures["each"] = [dict(zip(("face", "eye_distance_px", *columns), row, strict=True)) for row in rows]
    return Report("68 landmarks", figures, ("face", "eye distance px", *(f"{name} px" for name in columns)), rows)


def _mesh_around(stills: StillLandmarker, image: npt.NDArray[np.uint8], window: npt.NDArray) -> npt.NDArray | None:
    """Return the mesh's 68 points of the face in a window, not of its neighbour."""
    from .landmarks68 import overlap, window_of
    from .opencv import cv2

    x, y, side, _ = window
    for room in (0.5, 0.25, 1.0):
        low = np.maximum(np.floor([x - room * side, y - room * side]).astype(int), 0)
        high = np.maximum(np.ceil([x + (1 + room) * side, y + (1 + room) * side]).astype(int), 0)
        part = image[low[1] : high[1], low[0] : high[0]]
        if not part.size:  # the labels lie beyond the picture
            continue
        zoom = max(384 / max(part.shape), 1.0)
        part = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) if zoom > 1 else part
        face = stills.find(np.ascontiguousarray(part))
        if face is not None:
            # As in `find_in_grey`.
            points = (face.landmarks[POINTS68, :2] + 0.5) / np.float32(zoom) - 0.5 + low
            if overlap(window_of(points), window) > 0.4:
                return points
    return None


def load_weights(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Return a performance's ARKit weights, shape (frames, 52), of the frames in which its face was seen.

    Raises
    ------
    MienError
        As `livelink_csv.load`.
    """
    return np.array([sample.arkit for sample in livelink_csv.load(path).samples if sample.found])


def load_identities(path: str | os.PathLike[str], model) -> list[npt.NDArray[np.float32]]:
    """Return neutral heads (26719, 3) from a set of identities.

    The ``.npz`` has an array ``identity`` or ``identities``, or one of another name alone: weights
    (n, up to 80), or offsets from the mean face or whole heads (n, 26719, 3), in the base's unit; without n
    for one person. A head that stands elsewhere is brought to the base's place.

    Raises
    ------
    MienError
        ``set-not-found`` or ``set-unreadable``.
    """
    path = Path(path)
    need_file(path, "Give an .npz of identities.")
    try:
        arrays = read_arrays(path, ("identities", "identity")) or read_arrays(path)
        if len(arrays) != 1:
            raise ValueError(f"it holds {', '.join(arrays) or 'nothing'}")
        (values,) = arrays.values()
        if values.dtype.kind not in "biuf":
            raise ValueError(f"its values are {values.dtype}, not numbers")
        values = values.astype(np.float32)
    except (ValueError, OSError) as error:
        raise MienError("set-unreadable", f"{path.name} is not a set of identities: {error}.", _IDENTITIES) from error
    if values.ndim == 1 or values.shape == model.neutral.shape:
        values = values[None]
    if not values.size or not np.isfinite(values).all():
        raise MienError(
            "set-unreadable", f"{path.name} holds no identities, or some that are not numbers.", _IDENTITIES
        )
    if values.ndim == 2 and values.shape[1] <= len(model.identity):
        heads = [model.head(weights) for weights in values]
    elif values.ndim == 3 and values.shape[1:] == model.neutral.shape:
        whole = np.array([_is_whole(value, model.neutral) for value in values])
        largest = max((float(np.linalg.norm(value, axis=1).max()) for value in values[~whole]), default=0.0)
        if 0 < largest < _LEAST_OFFSET:
            raise MienError(
                "set-unreadable",
                f"The offsets of {path.name} move no vertex by more than {largest:.2g}, and so are all the mean face.",
                f"Give them in the base's unit, in which a head is about {np.ptp(model.neutral[:, 1]):.0f} high.",
            )
        heads = [value if alone else model.neutral + value for alone, value in zip(whole, values, strict=True)]
    else:
        raise MienError("set-unreadable", f"{path.name} has identities of shape {values.shape}.", _IDENTITIES)
    return [_in_place(head, model.neutral, f"Identity {i} of {path.name}") for i, head in enumerate(heads)]


def _in_place(head: npt.NDArray, neutral: npt.NDArray, named: str) -> npt.NDArray[np.float32]:
    """Return a head at the base's place; raises MienError where it is none of this base's."""
    aside = head.mean(0, dtype=np.float64) - neutral.mean(0)
    if np.linalg.norm(aside) > _ASIDE:
        head = (head - aside).astype(np.float32)
    its, size = np.ptp(head, axis=0), np.ptp(neutral, axis=0)
    if not ((its >= _SIZES[0] * size) & (its <= _SIZES[1] * size)).all():
        measured, base = (" x ".join(f"{side:.3g}" for side in sides) for sides in (its, size))
        raise MienError(
            "set-unreadable",
            f"{named} is no head of this base: it measures {measured}, the base {base}.",
            f"Give whole heads and offsets in the base's unit, in which a head is about {size[1]:.0f} high, y up"
            " and z out of the face, and weights of about unit variance.",
        )
    # Of people it is above 0.98, of mirrored and reversed heads below 0.6.
    product = _product(head, neutral)
    if np.trace(product) < 0.8 * np.linalg.norm(product, "nuc"):
        raise MienError(
            "set-unreadable",
            f"{named} is mirrored, or turned.",
            "Give heads with x to the actor's left, y up and z out of the face.",
        )
    return head


def _product(value: npt.NDArray, neutral: npt.NDArray) -> npt.NDArray[np.float64]:
    """Return the product (3, 3) of vertices about their middles, of which Procrustes finds the best turn."""
    a, b = (points - points.mean(0, dtype=np.float64) for points in (value, neutral))
    return a.T @ b / np.linalg.norm(b)


def _is_whole(value: npt.NDArray, neutral: npt.NDArray) -> bool:
    """Whether vertices (26719, 3) are a head, in whatever unit, and not offsets from one."""
    if np.ptp(value, axis=0).max() > np.ptp(neutral, axis=0).max() / 2:
        return True
    # Metres make a head as small as offsets are, but it stays the head, however it is turned: their best fit as
    # of Procrustes is above 0.98 for heads, at most 0.97 for the offsets that make a face larger, for others 0.9.
    spread = np.linalg.norm(value - value.mean(0, dtype=np.float64))
    return bool(np.linalg.norm(_product(value, neutral), "nuc") > 0.98 * spread)


def units(
    path: str | os.PathLike[str],
    base: str | os.PathLike[str],
    take: npt.NDArray[np.float32] | None = None,
    pictures: int = 12,
    seed: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Render people with known expressions and score action units and units on them.

    Parameters
    ----------
    path : path
        Identities, see `load_identities`.
    base : path
        ``ict_facekit.npz``.
    take : ndarray, shape (frames, 52), optional
        ARKit weights of a real performance, from which a sixth of the pictures take theirs.
    pictures : int
        Per identity: rest, single movements, pairs, and frames of the take.
    seed : int
    progress : callable, optional

    Returns
    -------
    Report
        PCC and mean absolute error per channel, on the same pictures, for Mien's model, for the
        landmark model's blendshapes, and for both combined as the product reads a face unless told
        otherwise; the first two also with the person's rest known from one more picture, under
        other light and from another side, where a face was found in that.
    """
    from .action_unit_model import LearnedEstimator
    from .estimators import HybridEstimator
    from .ict_face import IctFace, drill_expression, random_look, random_scene, render

    model = IctFace(base)
    heads = load_identities(path, model)
    learned, plain = LearnedEstimator(), BlendshapeEstimator()
    combined = HybridEstimator()
    names = ("mien", "mien_rest", "combined", "blendshapes", "blendshapes_rest")
    guesses: dict[str, list] = {name: [] for name in names}
    truth, found, calm_found = [], 0, 0
    nothing = np.full(len(ACTION_UNITS), np.nan)
    with Landmarker(landmark_model()) as landmarker:
        stills = StillLandmarker(landmarker)

        def look_at(head, weights, look, rng):
            picture = render(model, model.express(head, weights), look, random_scene(rng), rng)
            return stills.find(picture), picture

        for person, head in enumerate(heads):
            look = random_look(model, np.random.default_rng([seed, person]))
            calm = np.zeros(len(model.names), np.float32)
            rest, picture = look_at(head, calm, look, np.random.default_rng([seed, person, pictures]))
            known = None if rest is None else learned.describe(rest, picture)
            calm_found += rest is not None
            for number in range(pictures):
                rng = np.random.default_rng([seed, person, number])
                weights = drill_expression(model, rng, number, take)
                face, picture = look_at(head, weights, look, rng)
                if progress:
                    progress(person * pictures + number + 1, len(heads) * pictures)
                if face is None:
                    continue
                found += 1
                truth.append(model.meaning.action_units(weights))
                description = learned.describe(face, picture)
                learned.rest = None
                said = {
                    "mien": learned.read(description)[0],
                    "combined": combined.estimate(face, picture),
                    "blendshapes": plain.estimate(face),
                }
                if rest is not None:
                    learned.rest = known
                    said["mien_rest"] = learned.read(description)[0]
                    said["blendshapes_rest"] = beside_rest(face, said["blendshapes"], rest, plain.estimate(rest))
                for name in names:
                    guesses[name].append(said.get(name, nothing))
    if not found:
        raise MienError(
            "set-unreadable",
            f"{Path(path).name}: no face was found in any picture of its people.",
            "Check that the identities belong to this base.",
        )
    report = units_report(np.array(truth), {name: np.array(values) for name, values in guesses.items()})
    report.figures.update(
        {
            "identities": len(heads),
            "pictures": len(heads) * pictures,
            "face_found": found / (len(heads) * pictures),
            "rest_found": calm_found / len(heads),
        }
    )
    return report


def beside_rest(face: Face, said: npt.NDArray, rest: Face, said_rest: npt.NDArray) -> npt.NDArray[np.float64]:
    """Return action units of blendshapes as a performance has them whose neutral face is known."""
    (turned, _), (level, _) = head_pose(face), head_pose(rest)
    measured, calm = (
        relative.measure(f.landmarks[None, relative.POINTS], rotation[None])
        for f, rotation in ((face, turned), (rest, level))
    )
    turn = relative.turn(turned, level)
    calm_units = np.minimum(said_rest, MAX_REST)
    above = np.clip((said - calm_units) / (1 - calm_units), 0, 1)
    return relative.refine(above[None], face.blendshapes[None], measured, calm[0], np.array([turn]))[0][0]


def units_report(truth: npt.NDArray, guesses: dict[str, npt.NDArray]) -> Report:
    """Return PCC and mean absolute error per unit and action unit, for each estimator where it is not NaN."""
    rows, channels = [], {}
    for kind, names in (("unit", UNITS), ("action unit", ACTION_UNITS)):
        real = fuse(truth) if kind == "unit" else truth
        said = {g: fuse(v) if kind == "unit" else v for g, v in guesses.items()}
        for column, name in enumerate(names):
            if real[:, column].std() < 1e-6:
                continue
            channels[name] = {"kind": kind}
            for guess, values in said.items():
                known = np.isfinite(values[:, column])
                a, b = real[known, column], values[known, column]
                channels[name][f"{guess}_pcc"] = float(correlation(a, b)) if len(a) else float("nan")
                channels[name][f"{guess}_mae"] = float(np.abs(a - b).mean()) if len(a) else float("nan")
            rows.append((name, *(v for v in channels[name].values() if v != kind)))
    figures: dict[str, Any] = {}
    for estimator in guesses:
        for kind, key in (("unit", "units"), ("action unit", "action_units")):
            chosen = [c for c in channels.values() if c["kind"] == kind]
            for measure in ("pcc", "mae"):
                values = [c[f"{estimator}_{measure}"] for c in chosen]
                known = [value for value in values if not np.isnan(value)]
                figures[f"{estimator}_{key}_{measure}"] = float(np.mean(known)) if known else float("nan")
    figures["channels"] = channels
    columns = ("channel", *(f"{name} {measure}" for name in guesses for measure in ("PCC", "MAE")))
    return Report("Action units and units", figures, columns, rows)


def correlation(a: npt.NDArray, b: npt.NDArray) -> npt.NDArray:
    """Return Pearson's correlation along the first axis; what never moves has none with anything: 0."""
    a, b = a - a.mean(0), b - b.mean(0)
    spreads = np.sqrt((a * a).mean(0)), np.sqrt((b * b).mean(0))
    moves = np.minimum(*spreads) > 1e-6
    return np.where(moves, (a * b).mean(0) / np.where(moves, spreads[0] * spreads[1], 1), 0.0)
