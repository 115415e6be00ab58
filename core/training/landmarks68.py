"""Train the face detector and the 68-point model on histograms.

    python -m mien.core.training.landmarks68

Needs `synthesis` and `faces` to have run. Points of photos are those of the landmark
model's mesh, points of renders are exact. The labelled photos are the test.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from sklearn.datasets import load_sample_images
from sklearn.svm import LinearSVC

from ..features import hog
from ..files import write_arrays
from ..landmarks import POINTS68
from ..landmarks68 import (
    FRAME,
    MOST,
    PATCHES,
    REACH,
    WINDOW,
    HogLandmarker,
    crop,
    crop_matrix,
    overlap,
    patches,
    sliding_window,
    upright,
    window_of,
)
from .faces import labelled_faces
from .paths import HELD_OUT_BLOCKS, MODELS, work_folder
from .synthesis import GREY, load

MODES = 30

SIDES = (26, 110)
"""Sides of the windows, px, that the faces of training are brought down to: far away, they have no detail."""

_SCENERY = ("stereo_motorcycle", "brick", "grass", "coins", "hubble_deep_field", "horse", "moon", "text")
"""Pictures of scikit-image without faces."""

_BACKGROUNDS = ("chelsea", "rocket", "clock", "page", "gravel", "coffee")
"""Pictures of scikit-image that the scenes for the thresholds are made from, seen by no training."""

_MIRROR = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *range(27, 31),
        *range(35, 30, -1),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
        *(64, 63, 62, 61, 60, 67, 66, 65),
    ]
)


def _upright_photos(key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pictures of a set, the rows whose face is known and free for training, and all 68 points."""
    photo_set, found = labelled_faces(key)
    usable = found["found"] & ~(np.isin(photo_set.blocks, HELD_OUT_BLOCKS) if key == "mux" else False)
    return photo_set.images, np.flatnonzero(usable), found["landmarks"][:, POINTS68, :2]


def faces(counts: dict[str, int], rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return grey pictures and their 68 points, mirrored ones and small ones among them.

    Parameters
    ----------
    counts : dict of str to int
        How many photos of each set, and ``renders``.
    """
    images, points = [], []
    for key in ("mux", "fer"):
        pictures, usable, found = _upright_photos(key)
        chosen = rng.permutation(usable)[: counts[key]]
        images += [pictures[i] for i in chosen]
        points += list(found[chosen])
    synthetic = load(work_folder() / "synthesis", "grey", "points68", "size")
    for i in rng.permutation(len(synthetic["grey"]))[: counts["renders"]]:
        images.append(synthetic["grey"][i])
        points.append((synthetic["points68"][i]) * (GREY / synthetic["size"][i]) - 0.5)
    for i in range(len(images)):
        if i % 2:
            images[i] = np.ascontiguousarray(images[i][:, ::-1])
            points[i] = (points[i] * [-1, 1] + [images[i].shape[1] - 1, 0])[_MIRROR]
        images[i], points[i] = brought_down(images[i], np.float32(points[i]), rng)
    return images, points


def brought_down(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a face and its points as seen from further away, in a third of all pictures dark, or through JPEG."""
    factor = np.exp(rng.uniform(*np.log(SIDES))) / window_of(points)[2]
    if factor < 1:
        image = _scaled(image, factor)
        points = (points + 0.5) * np.float32(factor) - 0.5
    if rng.random() < 1 / 3:
        image = (image * np.exp(rng.uniform(np.log(0.1), 0))).astype(np.uint8)
    if rng.random() < 1 / 3:
        image = _compressed(image, rng)
    return image, points


def _compressed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def shaken(window: np.ndarray, rng: np.random.Generator, shift: float, zoom: float) -> np.ndarray:
    """Return a window moved and resized at random."""
    x, y, side, _ = window
    new = side * np.exp(rng.uniform(-zoom, zoom))
    centre = np.array([x + side / 2, y + side / 2]) + rng.uniform(-shift, shift, 2) * side
    return np.float32([*(centre - new / 2), new, new])


def _describe(image, window):
    return hog.describe(crop(image, crop_matrix(window, WINDOW), WINDOW))


def scenery(turned: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return grey pictures without upright faces, each turned four ways and scaled.

    scikit-learn's two photos, pictures of scikit-image, and `turned` photos of faces that lie on
    their side or stand on their head: skin, hair and clothes in all lights, and no face that is to be found.
    """
    pictures = [*load_sample_images().images, *(getattr(skimage.data, name)() for name in _SCENERY)]
    result = []
    for picture in pictures:
        picture = picture[0] if isinstance(picture, tuple) else picture
        picture = (picture * np.uint8(255) if picture.dtype == bool else picture).astype(np.uint8)
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
        for turns in range(4):
            for scale in (0.35, 0.7, 1.4):
                result.append(_scaled(np.rot90(picture, turns), scale))
    pictures, usable, _ = _upright_photos("mux")
    for i in rng.permutation(usable)[:turned]:
        result.append(_scaled(np.rot90(pictures[i], rng.integers(1, 4)), np.exp(rng.uniform(np.log(0.5), np.log(2)))))
    return [picture for picture in result if min(picture.shape) >= WINDOW]


def _scaled(picture, factor):
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(picture), None, fx=factor, fy=factor, interpolation=way)


def beside(window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a window that holds a part of the face, or the face as a part: what detectors most often take for one."""
    x, y, side, _ = window
    new = side * np.exp(rng.uniform(-1, 0.7))
    centre = np.array([x, y]) + side / 2 + rng.uniform(-0.7, 0.7, 2) * side
    return np.float32([*(centre - new / 2), new, new])


def covered(image: np.ndarray, points: np.ndarray, views: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return a picture whose face is hidden from the nose down, by one grey or by a part of another picture."""
    image = image.copy()
    left, right = points[:, 0].min(), points[:, 0].max()
    top, bottom = points[rng.integers(28, 31), 1], points[:, 1].max() + 0.1 * (right - left)
    low = np.clip(np.round([left, top]), 0, image.shape[1::-1]).astype(int)
    high = np.clip(np.round([right + 1, bottom + 1]), 0, image.shape[1::-1]).astype(int)
    width, height = (int(side) for side in np.maximum(high - low, 0))
    if width and height:
        cover = np.full((height, width), rng.integers(256), np.uint8)
        if rng.random() < 0.7:
            view = views[rng.integers(len(views))]
            x, y = (int(rng.integers(0, side - WINDOW // 2)) for side in view.shape[::-1])
            cover = cv2.resize(view[y : y + WINDOW // 2, x : x + WINDOW // 2], (width, height))
        image[low[1] : high[1], low[0] : high[0]] = cover
    return image


def train_detector(images, points, views, rng, rounds: int = 3) -> np.ndarray:
    """Return weights with the bias last."""
    windows = [window_of(p) for p in points]
    pairs = list(zip(images, windows, strict=True))
    positives = [_describe(image, shaken(window, rng, 0.04, 0.08)) for image, window in pairs for _ in range(2)]
    others = [(image, beside(window, rng), window) for image, window in pairs for _ in range(2)]
    negatives = [_describe(image, other) for image, other, window in others if overlap(other, window) < 0.2]
    for image in views:
        for _ in range(10):
            side = rng.uniform(40, min(image.shape) * 0.8) if min(image.shape) > 50 else WINDOW
            corner = rng.uniform(0, 1, 2) * (np.array(image.shape[::-1]) - side)
            negatives.append(_describe(image, np.float32([*corner, side, side])))
    for number in range(rounds + 1):
        x = np.concatenate([positives, negatives])
        y = np.concatenate([np.ones(len(positives)), -np.ones(len(negatives))])
        fitted = LinearSVC(C=0.01, max_iter=3000).fit(x, y)
        weights = np.append(fitted.coef_[0], fitted.intercept_[0]).astype(np.float32)
        margins = np.array(positives) @ weights[:-1] + weights[-1]
        sys.stderr.write(
            f"detector round {number}: {len(positives)} faces, {len(negatives)} others, "
            f"recall {np.mean(margins > 0):.3f}\n"
        )
        if number == rounds:
            break
        machine = sliding_window(weights)
        for image in views:
            boxes, _ = machine.detectMultiScale(
                image, hitThreshold=-0.3, winStride=(8, 8), scale=1.15, groupThreshold=0
            )
            negatives += [_describe(image, box) for box in np.float32(boxes).reshape(-1, 4)[:40]]
        for image, window in pairs[number::6]:
            factor = 320 / max(image.shape)
            boxes, _ = machine.detectMultiScale(
                _scaled(image, factor), hitThreshold=0.0, winStride=(8, 8), scale=1.2, groupThreshold=0
            )
            boxes = np.float32(boxes).reshape(-1, 4) / factor
            negatives += [_describe(image, box) for box in [b for b in boxes if overlap(b, window) < 0.2][:4]]
    return weights


def train_verifiers(images, points, views, arrays, rng) -> dict[str, np.ndarray]:
    """Return the weights of the SVMs that look at faces brought upright.

    ``verifier`` tells faces by their fitted shape from what is none; ``check`` also from faces that are covered.
    """
    with tempfile.TemporaryDirectory() as folder:
        nothing = {"verifier": np.zeros(2), "thresholds": np.float32([-0.6, 0])}
        np.savez(Path(folder) / "landmarks68.npz", **nothing, **arrays)
        landmarker = HogLandmarker(folder)
    faces, others, hidden = [], [], []
    for image, target in zip(images, points, strict=True):
        window = window_of(target)
        fitted = landmarker.fit(image, shaken(window, rng, 0.06, 0.12))
        # Where the fit went wrong it is no example of a face, nor of none.
        if np.linalg.norm(fitted - target, axis=1).mean() < 0.08 * window[2]:
            faces.append(upright(image, fitted, landmarker.mean))
        for _ in range(2):
            fitted = landmarker.fit(image, beside(window, rng))
            if overlap(window_of(fitted), window) < 0.4:
                others.append(upright(image, fitted, landmarker.mean))
        if rng.random() < 1 / 2:
            # The landmark model draws a whole face there: see `FaceCheck`.
            hidden.append(upright(covered(image, target, views, rng), target, landmarker.mean))
    for image in views:
        for window in landmarker.propose(image, 40)[:MOST]:
            others.append(upright(image, landmarker.fit(image, window), landmarker.mean))
    return {
        name: _fit(name, np.array(faces), np.array(wrong))
        for name, wrong in (("verifier", others), ("check", others + hidden))
    }


def _fit(name: str, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return the weights, the bias last, of the SVM that tells right from wrong."""
    x = np.concatenate([right, wrong])
    y = np.concatenate([np.ones(len(right)), -np.ones(len(wrong))])
    kept = np.arange(len(y)) % 8 != 7
    fitted = LinearSVC(C=0.01, max_iter=3000).fit(x[kept], y[kept])
    guess, truth = fitted.decision_function(x[~kept]), y[~kept]
    sys.stderr.write(
        f"{name}, {len(right)} faces, {len(wrong)} others, every eighth held out: "
        f"recall {np.mean(guess[truth > 0] > 0):.3f}, false {np.mean(guess[truth < 0] > 0):.3f}\n"
    )
    return np.append(fitted.coef_[0], fitted.intercept_[0]).astype(np.float32)


def scenes(count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Return pictures 480 x 360 of three faces each and their points, to choose thresholds on.

    The faces are photos of muxspace's held-out blocks, in windows of 36 to 110 px; half of the pictures
    are darker or lighter and were JPEGs.
    """
    photos, seen = labelled_faces("mux")
    landmarks = seen["landmarks"]
    usable = np.flatnonzero(seen["found"] & np.isin(photos.blocks, HELD_OUT_BLOCKS))
    result = []
    for number in range(count):
        picture = getattr(skimage.data, _BACKGROUNDS[number % len(_BACKGROUNDS)])()
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
        picture = cv2.resize(picture, (480, 360), interpolation=cv2.INTER_AREA)
        picture = np.ascontiguousarray(picture[:, :: 1 if rng.random() < 0.5 else -1])
        truth = []
        for place, i in enumerate(rng.choice(usable, 3, replace=False)):
            points = landmarks[i][POINTS68, :2]
            zoom = np.exp(rng.uniform(np.log(36), np.log(110))) / window_of(points)[2]
            photo = cv2.resize(photos.images[i], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
            photo = photo[:360, :160]
            left = place * 160 + rng.integers(0, 161 - photo.shape[1])
            top = rng.integers(0, 361 - photo.shape[0])
            picture[top : top + photo.shape[0], left : left + photo.shape[1]] = photo
            truth.append(points * zoom + [left, top])
        if number % 2:
            curve = 255 * (np.arange(256) / 255) ** np.exp(rng.uniform(-0.7, 0.7))
            picture = _compressed(cv2.LUT(picture, curve.astype(np.uint8)), rng)
        result.append((picture, truth))
    return result


def choose_thresholds(arrays: dict[str, np.ndarray], rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the thresholds of the sliding window and the verifier with the best F1 on `scenes`."""
    pictures = scenes(count, rng)
    total = sum(len(truth) for _, truth in pictures)
    best, chosen = -1.0, None
    for propose in (-0.7, -0.5, -0.3):
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder) / "landmarks68.npz", **arrays, thresholds=np.float32([propose, -2]))
            landmarker = HogLandmarker(folder)
        right, wrong = [], []
        for picture, truth in pictures:
            windows = np.array([window_of(points) for points in truth])
            for detection in landmarker.detect(picture):
                hit = overlap(windows, detection.box) > 0.4
                (right if hit.any() else wrong).append(detection.score)
        for accept in np.arange(-0.5, 0.55, 0.05):
            hits, false = np.sum(np.array(right) > accept), np.sum(np.array(wrong) > accept)
            f1 = 2 * hits / (total + hits + false)
            if f1 > best:
                best, chosen = f1, np.float32([propose, accept])
                said = f"recall {hits / total:.3f}, {false} false alarms"
    sys.stderr.write(f"thresholds {chosen} on {count} scenes of {total} faces: {said}, F1 {best:.3f}\n")
    return chosen


def train_shape(images, points, rng, starts: int) -> dict[str, np.ndarray]:
    """Return mean, modes and the steps of the cascade."""
    crops, truths = [], []
    for image, target in zip(images, points, strict=True):
        window = window_of(target)
        for _ in range(starts):
            matrix = crop_matrix(shaken(window, rng, 0.06, 0.12), FRAME, REACH)
            crops.append(crop(image, matrix, FRAME))
            truths.append(target @ matrix[:, :2].T + matrix[:, 2])
    truths = np.array(truths, np.float32)
    mean = truths.mean(0)
    _, _, modes = np.linalg.svd((truths - mean).reshape(len(truths), -1)[::3], full_matrices=False)
    modes = modes[:MODES]
    shapes = np.repeat(mean[None], len(truths), 0)
    held = np.arange(len(truths)) // starts % 10 == 9
    result = {"mean": mean, "modes": modes.astype(np.float16)}
    for number, side in enumerate(PATCHES):
        began = time.monotonic()
        x = np.stack([patches(c, s, side) for c, s in zip(crops, shapes, strict=True)])
        y = (truths - shapes).reshape(len(truths), -1) @ modes.T
        fit = x[~held]
        gram = (fit.T @ fit).astype(np.float64) + np.eye(x.shape[1]) * (0.002 * len(fit))
        step = np.linalg.solve(gram, fit.T @ y[~held]).astype(np.float16)
        result[f"step{number}"] = step
        shapes = shapes + (x @ step.astype(np.float32) @ modes).reshape(-1, 68, 2)
        error = np.linalg.norm(shapes - truths, axis=2)[held].mean()
        eyes = np.linalg.norm(truths[held, 36] - truths[held, 45], axis=1).mean()
        sys.stderr.write(
            f"step {number}: {error:.2f} px, {error / eyes:.2%} of eye distance, {time.monotonic() - began:.0f} s\n"
        )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Train both and write models/landmarks68.npz."""
    parser = argparse.ArgumentParser(description="Train the detector and the 68-point model.")
    parser.add_argument("--photos", type=int, default=7000, help="muxspace's")
    parser.add_argument("--small", type=int, default=3000, help="FER2013's")
    parser.add_argument("--renders", type=int, default=500)
    parser.add_argument(
        "--turned", type=int, default=600, help="photos that are turned, to look for faces where none are"
    )
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=48, help="pictures to choose the thresholds on")
    parser.add_argument("--thresholds-only", action="store_true", help="keep the weights, choose the thresholds anew")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    target = MODELS / "landmarks68.npz"
    if options.thresholds_only:
        with np.load(target, allow_pickle=False) as archive:
            arrays = {name: values for name, values in archive.items() if name != "thresholds"}
    else:
        rng = np.random.default_rng(options.seed)
        images, points = faces({"mux": options.photos, "fer": options.small, "renders": options.renders}, rng)
        views = scenery(options.turned, rng)
        weights = train_detector(images, points, views, rng)
        arrays = {"detector": weights, **train_shape(images, points, rng, options.starts)}
        arrays |= train_verifiers(images, points, views, arrays, rng)
    thresholds = choose_thresholds(arrays, np.random.default_rng(options.seed), options.scenes)
    write_arrays(target, thresholds=thresholds, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
