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
    PATCHES,
    REACH,
    WINDOW,
    HogLandmarker,
    crop,
    crop_matrix,
    overlap,
    patches,
    upright,
    window_of,
)
from .faces import labelled_faces
from .paths import HELD_OUT_BLOCKS, MODELS, work_folder
from .synthesis import GREY, load

MODES = 30

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


def faces(photos: int, renders: int, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Return grey pictures and their 68 points, mirrored ones among them."""
    photo_set, found = labelled_faces("mux")
    usable = np.flatnonzero(found["found"] & ~np.isin(photo_set.blocks, HELD_OUT_BLOCKS))
    images, points = [], []
    for i in rng.permutation(usable)[:photos]:
        images.append(photo_set.images[i])
        points.append(found["landmarks"][i][POINTS68, :2])
    synthetic = load(work_folder() / "synthesis", "grey", "points68", "size")
    for i in rng.permutation(len(synthetic["grey"]))[:renders]:
        images.append(synthetic["grey"][i])
        points.append((synthetic["points68"][i]) * (GREY / synthetic["size"][i]) - 0.5)
    for i in range(len(images)):
        if i % 2:
            images[i] = np.ascontiguousarray(images[i][:, ::-1])
            points[i] = (points[i] * [-1, 1] + [images[i].shape[1] - 1, 0])[_MIRROR]
    return images, np.array(points, np.float32)


def shaken(window: np.ndarray, rng: np.random.Generator, shift: float, zoom: float) -> np.ndarray:
    """Return a window moved and resized at random."""
    x, y, side, _ = window
    new = side * np.exp(rng.uniform(-zoom, zoom))
    centre = np.array([x + side / 2, y + side / 2]) + rng.uniform(-shift, shift, 2) * side
    return np.float32([*(centre - new / 2), new, new])


def _describe(image, window):
    return hog.describe(crop(image, crop_matrix(window, WINDOW), WINDOW))


def scenery() -> list[np.ndarray]:
    """Return grey pictures without faces: scikit-learn's two photos, turned and scaled."""
    result = []
    for photo in load_sample_images().images:
        for turns in range(4):
            for scale in (0.35, 0.7, 1.4):
                picture = np.rot90(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), turns)
                result.append(
                    cv2.resize(np.ascontiguousarray(picture), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                )
    return result


def _machine(weights):
    machine = cv2.HOGDescriptor((WINDOW, WINDOW), (16, 16), (8, 8), (8, 8), 9, 1, hog.SIGMA, 0, 0.2, False)
    machine.setSVMDetector(weights)
    return machine


def train_detector(images, points, rng, rounds: int = 3):
    """Return weights with the bias last, and the windows that it took for faces wrongly."""
    windows = [window_of(p) for p in points]
    positives = []
    for image, window in zip(images, windows, strict=True):
        for _ in range(2):
            seen = shaken(window, rng, 0.04, 0.08)
            # Faces far away have no detail: half are brought down to 28 px and more first.
            side = int(rng.integers(28, WINDOW)) if rng.random() < 0.5 else WINDOW
            small = crop(image, crop_matrix(seen, side), side)
            positives.append(hog.describe(cv2.resize(small, (WINDOW, WINDOW), interpolation=cv2.INTER_LINEAR)))
    wrong: list[tuple[np.ndarray, np.ndarray]] = []
    for image, window in zip(images, windows, strict=True):
        for _ in range(3):
            side = rng.uniform(24, 130)
            other = np.float32([*rng.uniform(-0.2 * side, image.shape[0] - 0.8 * side, 2), side, side])
            if overlap(other, window) < 0.2:
                wrong.append((image, other))
    views = scenery()
    for image in views:
        for _ in range(60):
            side = rng.uniform(40, min(image.shape) * 0.8)
            wrong.append(
                (image, np.float32([*(rng.uniform(0, 1, 2) * (np.array(image.shape[::-1]) - side)), side, side]))
            )
    negatives = [_describe(*item) for item in wrong]
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
        machine = _machine(weights)
        mined = []
        for image in views:
            boxes, _ = machine.detectMultiScale(
                image, hitThreshold=-0.3, winStride=(8, 8), scale=1.15, groupThreshold=0
            )
            mined += [(image, box) for box in np.float32(boxes).reshape(-1, 4)[:60]]
        for row in range(number, len(images), 6):
            large = cv2.resize(images[row], (320, 320))
            boxes, _ = machine.detectMultiScale(large, hitThreshold=0.0, winStride=(8, 8), scale=1.2, groupThreshold=0)
            factor = images[row].shape[0] / 320
            boxes = [b for b in np.float32(boxes).reshape(-1, 4) * factor if overlap(b, windows[row]) < 0.2]
            mined += [(images[row], box) for box in boxes[:4]]
        wrong += mined
        negatives += [_describe(*item) for item in mined]
    return weights, wrong[-6000:]


def train_verifier(images, points, wrong, arrays, rng) -> np.ndarray:
    """Return the weights of the SVM that looks at faces brought upright by their fitted shape."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "landmarks68.npz", verifier=np.zeros(2), thresholds=np.zeros(2), **arrays)
        landmarker = HogLandmarker(folder)
    faces, others = [], []
    for image, target in zip(images, points, strict=True):
        fitted = landmarker.fit(image, shaken(window_of(target), rng, 0.06, 0.12))
        faces.append(upright(image, fitted, landmarker.mean))
    for image, window in wrong:
        others.append(upright(image, landmarker.fit(image, window), landmarker.mean))
    x = np.concatenate([faces, others])
    y = np.concatenate([np.ones(len(faces)), -np.ones(len(others))])
    kept = np.arange(len(y)) % 8 != 7
    fitted = LinearSVC(C=0.01, max_iter=3000).fit(x[kept], y[kept])
    guess = fitted.decision_function(x[~kept])
    truth = y[~kept]
    sys.stderr.write(
        f"verifier, every eighth held out: recall {np.mean(guess[truth > 0] > 0):.3f}, "
        f"false {np.mean(guess[truth < 0] > 0):.3f}\n"
    )
    return np.append(fitted.coef_[0], fitted.intercept_[0]).astype(np.float32)


def scenes(count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Return pictures 480 x 360 of three faces each and their points, to choose thresholds on.

    The faces are photos of muxspace's held-out blocks, in windows of 36 to 110 px.
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
            for detection in landmarker.detect(picture, smallest=40):
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
    parser.add_argument("--photos", type=int, default=2500)
    parser.add_argument("--renders", type=int, default=500)
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
        images, points = faces(options.photos, options.renders, rng)
        weights, wrong = train_detector(images, points, rng)
        arrays = {"detector": weights, **train_shape(images, points, rng, options.starts)}
        arrays["verifier"] = train_verifier(images, points, wrong, arrays, rng)
    thresholds = choose_thresholds(arrays, np.random.default_rng(options.seed), options.scenes)
    write_arrays(target, thresholds=thresholds, **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
